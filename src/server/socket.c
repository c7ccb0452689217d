/* server/socket.c - requests over a Unix socket in the data folder. One request at a time on a connection. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "os/clock.h"
#include "os/local.h"
#include "server/server.h"

#define CONNECTIONS_MAX 256u
#define READ_BYTES      (64u << 10)
#define UNSENT_MAX      SPI_FRAME_BYTES_MAX /* who does not read its answers is dropped */
#define REST_MS         100                 /* after a connection that there was no file for */

typedef struct connection {
    spi_socket *socket;
    int file;
    spi_buffer in, out;
    spi_call *call; /* in progress */
    bool is_broken, has_request;
} connection;

struct spi_socket {
    spi_server *server;
    int folder, listener;
    connection *connections[CONNECTIONS_MAX];
    uint32_t count;
    int64_t rest_until_ns; /* nobody is let in before */
};

sp_status spi_socket_open(const char *folder, spi_server *server, spi_socket **out, sp_error *error) {
    *out = NULL;
    spi_socket *sock = spi_alloc(1, sizeof *sock);
    if (!sock) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a socket");
    }
    sock->server = server;
    sock->folder = spi_local_open_folder(folder);
    /* A socket that somebody left is of no use: whoever it was does not hold the folder any more. */
    sock->listener = sock->folder < 0 ? -1 : spi_local_listen(sock->folder);
    if (sock->listener < 0) {
        sp_status status = spi_fail(error, SP_IO, "cannot listen on %s/socket: %s", folder, strerror(errno));
        spi_socket_close(sock);
        return status;
    }
    *out = sock;
    return SP_OK;
}

sp_status spi_socket_connect(const char *folder, int *file, sp_error *error) {
    int at = spi_local_open_folder(folder);
    *file = at < 0 ? -1 : spi_local_connect(at);
    sp_status status = SP_OK;
    if (*file < 0) {
        status = errno == ENOENT || errno == ECONNREFUSED ? SP_NOT_FOUND : SP_IO;
        spi_fail(error, status, "cannot reach the process that holds %s: %s", folder, strerror(errno));
    }
    if (at >= 0) {
        close(at);
    }
    return status;
}

/* ---- connections ---- */

static void drop(spi_socket *sock, uint32_t index) {
    connection *c = sock->connections[index];
    spi_call_cancel(c->call);
    close(c->file);
    spi_buffer_free(&c->in);
    spi_buffer_free(&c->out);
    spi_free(c);
    sock->connections[index] = sock->connections[--sock->count];
}

void spi_socket_close(spi_socket *sock) {
    if (!sock) {
        return;
    }
    while (sock->count) {
        drop(sock, sock->count - 1);
    }
    if (sock->folder >= 0) {
        (void)unlinkat(sock->folder, "socket", 0);
        close(sock->folder);
    }
    if (sock->listener >= 0) {
        close(sock->listener);
    }
    spi_free(sock);
}

static void accept_all(spi_socket *sock) {
    while (sock->count < CONNECTIONS_MAX) {
        uid_t who;
        int file = spi_local_accept(sock->listener, &who);
        if (file < 0) {
            bool is_full = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
            sock->rest_until_ns = is_full ? spi_clock_ns() + (int64_t)REST_MS * 1000000 : sock->rest_until_ns;
            return;
        }
        bool is_ours = who == geteuid() || who == 0;
        connection *c = is_ours ? spi_alloc(1, sizeof *c) : NULL;
        if (!c) {
            close(file);
            continue;
        }
        *c = (connection){.socket = sock, .file = file};
        sock->connections[sock->count++] = c;
    }
}

static void send_some(connection *c) {
    while (c->out.start < c->out.end) {
        ssize_t sent = spi_local_send(c->file, c->out.bytes + c->out.start, c->out.end - c->out.start);
        if (sent < 0) {
            c->is_broken |= errno != EAGAIN && errno != EINTR;
            return;
        }
        spi_buffer_take(&c->out, (size_t)sent);
    }
}

static void on_answer(void *env, const cJSON *head, const void *body, size_t body_bytes, bool is_end) {
    connection *c = env;
    c->is_broken = c->is_broken || spi_frame_write(&c->out, head, body, body_bytes, NULL) ||
                   c->out.end - c->out.start > UNSENT_MAX;
    if (is_end) {
        c->call = NULL;
        c->has_request = false;
    }
    send_some(c);
}

static void receive_some(connection *c) {
    static uint8_t bytes[READ_BYTES];
    for (int i = 0; i < 64; i++) {
        ssize_t got = recv(c->file, bytes, sizeof bytes, 0);
        if (got <= 0) {
            c->is_broken |= got == 0 || (errno != EAGAIN && errno != EINTR);
            return;
        }
        if (spi_buffer_add(&c->in, bytes, (size_t)got)) {
            c->is_broken = true;
            return;
        }
    }
}

static void handle(connection *c) {
    bool found = true;
    while (found && !c->is_broken && !c->has_request) {
        spi_frame frame;
        spi_call *call;
        if (spi_frame_read(&c->in, &frame, &found, NULL)) {
            c->is_broken = true;
            return;
        }
        if (found) {
            c->has_request = true;
            spi_server_request(c->socket->server, frame.head, frame.body, frame.body_bytes, on_answer, c, &call);
            c->call = c->has_request ? call : NULL;
            cJSON_Delete(frame.head);
            spi_buffer_take(&c->in, frame.bytes);
        }
    }
}

static void drop_broken(spi_socket *sock) {
    for (uint32_t i = sock->count; i-- > 0;) {
        if (sock->connections[i]->is_broken) {
            drop(sock, i);
        }
    }
}

/* What there is to do without anything having come: the next piece of an answer whose last one is under way, and a
 * request that came whole before the one before it was through. True: there is still more. */
static bool go_on(connection *c) {
    bool is_sent = c->out.start == c->out.end;
    if (!c->is_broken && c->call && is_sent && spi_call_has_more(c->call)) {
        spi_call_go_on(c->call);
    }
    handle(c);
    return !c->is_broken && c->call && c->out.start == c->out.end && spi_call_has_more(c->call);
}

void spi_socket_poll(spi_socket *sock, int timeout_ms, int wake) {
    struct pollfd files[CONNECTIONS_MAX + 2];
    for (uint32_t i = 0; i < sock->count; i++) {
        timeout_ms = go_on(sock->connections[i]) ? 0 : timeout_ms;
    }
    drop_broken(sock); /* by an answer meanwhile: nothing need come from there any more */
    uint32_t count = sock->count;
    for (uint32_t i = 0; i < count; i++) {
        connection *c = sock->connections[i];
        bool wants_out = c->out.start < c->out.end;
        /* Who has sent a whole request while the one before is answered sends the rest when that is over. */
        bool wants_in = c->in.end - c->in.start < SPI_FRAME_BYTES_MAX;
        files[i] =
            (struct pollfd){.fd = c->file, .events = (short)((wants_in ? POLLIN : 0) | (wants_out ? POLLOUT : 0))};
    }
    /* Who comes when there is no room, or no file, waits, and must not keep this process awake meanwhile. */
    bool rests = spi_clock_ns() < sock->rest_until_ns;
    timeout_ms = rests && (timeout_ms < 0 || timeout_ms > REST_MS) ? REST_MS : timeout_ms;
    files[count] = (struct pollfd){.fd = count < CONNECTIONS_MAX && !rests ? sock->listener : -1, .events = POLLIN};
    files[count + 1] = (struct pollfd){.fd = wake, .events = POLLIN};
    if (poll(files, count + 2, timeout_ms) <= 0) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (files[i].revents & ~POLLOUT) {
            receive_some(sock->connections[i]);
        }
        if (files[i].revents) {
            send_some(sock->connections[i]);
            handle(sock->connections[i]);
        }
    }
    drop_broken(sock);
    if (files[count].revents) {
        accept_all(sock);
    }
}
