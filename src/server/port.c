/* server/port.c - a way to the actors of a folder. If nobody holds it, this process does, and answers others
 * meanwhile. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "os/clock.h"
#include "os/local.h"
#include "server/server.h"

#define STEP_MS  20u
#define REACH_MS 10000 /* how long a holder that is just coming or going is waited for */
#define RETRY_NS 20000000

struct spi_port {
    spi_port_options options;
    char folder[4096];
    spi_server *server; /* this process holds the folder */
    spi_socket *sock;
    int file; /* else: to whoever does */
    spi_buffer in;
    uint64_t holder;
};

/* ---- reaching ---- */

static sp_status hold(spi_port *port, sp_error *error) {
    sp_status status = spi_server_create(&port->options.actors, &port->server, error);
    if (status) {
        return status;
    }
    status = spi_socket_open(port->folder, port->server, &port->sock, error);
    if (status) {
        spi_server_destroy(port->server);
        port->server = NULL;
    }
    return status;
}

static void let_go(spi_port *port) {
    spi_socket_close(port->sock);
    spi_server_destroy(port->server);
    port->sock = NULL;
    port->server = NULL;
    if (port->file >= 0) {
        close(port->file);
        port->file = -1;
    }
    spi_buffer_free(&port->in);
}

static sp_status reach(spi_port *port, sp_error *error) {
    int64_t until_ns = spi_clock_ns() + (int64_t)REACH_MS * 1000000;
    for (;;) {
        sp_error busy = {0}, unreachable = {0};
        sp_status status = hold(port, &busy);
        if (status != SP_BUSY || port->options.must_hold) {
            return status ? spi_fail(error, status, "%s", busy.message) : SP_OK;
        }
        status = spi_socket_connect(port->folder, &port->file, &unreachable);
        if (!status) {
            return SP_OK;
        }
        if (spi_clock_ns() > until_ns) {
            return spi_fail(error, SP_BUSY, "%s, and does not answer: %s", busy.message, unreachable.message);
        }
        spi_sleep_ns(RETRY_NS);
    }
}

sp_status spi_port_open(const spi_port_options *options, spi_port **out, sp_error *error) {
    *out = NULL;
    spi_port *port = spi_alloc(1, sizeof *port);
    if (!port) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to reach actors");
    }
    port->options = *options;
    port->file = -1;
    sp_status status = SP_OK;
    if (!options->actors.folder) {
        status = sp_actors_folder(port->folder, sizeof port->folder, error);
    } else if (snprintf(port->folder, sizeof port->folder, "%s", options->actors.folder) >= (int)sizeof port->folder) {
        status = spi_fail(error, SP_LIMIT, "the data folder's path is too long");
    }
    port->options.actors.folder = port->folder;
    status = status ? status : reach(port, error);
    if (status) {
        spi_port_close(port);
        return status;
    }
    *out = port;
    return SP_OK;
}

void spi_port_close(spi_port *port) {
    if (port) {
        let_go(port);
        spi_free(port);
    }
}

/* ---- asking ---- */

typedef struct asked {
    spi_port *port;
    spi_port_event event;
    void *env;
    cJSON *end;
    bool is_over;
} asked;

static void on_answer(void *env, const cJSON *head, const void *body, size_t body_bytes, bool is_end) {
    asked *a = env;
    if (is_end) {
        a->is_over = true;
        a->end = cJSON_Duplicate(head, true);
        if (a->end && a->event && cJSON_HasObjectItem(head, "event")) {
            a->event(a->env, head, NULL, 0);
        }
    } else if (a->event) {
        a->event(a->env, head, body, body_bytes);
    }
}

/* One turn of everything: what there is to do, and what comes over the socket. That is waited for, if there was nothing
 * to do, unless *is_over says that what this process asked for is answered. */
static void turn(spi_port *port, int wake, const bool *is_over) {
    uint32_t next_ms;
    sp_status status = sp_actors_step(spi_server_actors(port->server), STEP_MS, &next_ms);
    bool waits = status == SP_TIMEOUT && !(is_over && *is_over);
    spi_socket_poll(port->sock, waits ? (int)next_ms : 0, wake);
}

static sp_status ask_here(spi_port *port, const cJSON *request, const void *body, size_t body_bytes, asked *a) {
    spi_call *call;
    spi_server_request(port->server, request, body, body_bytes, on_answer, a, &call);
    while (!a->is_over) {
        if (spi_call_has_more(call)) {
            spi_call_go_on(call);
        } else {
            turn(port, -1, &a->is_over);
        }
    }
    return SP_OK;
}

static sp_status lost(sp_error *error) {
    return spi_fail(error, SP_IO, "the process that holds the actors ended in the middle of a request");
}

static sp_status send_all(spi_port *port, const cJSON *request, const void *body, size_t body_bytes, sp_error *error) {
    spi_buffer out = {0};
    sp_status status = spi_frame_write(&out, request, body, body_bytes, error);
    while (!status && out.start < out.end) {
        ssize_t sent = spi_local_send(port->file, out.bytes + out.start, out.end - out.start);
        if (sent >= 0) {
            spi_buffer_take(&out, (size_t)sent);
        } else if (errno != EINTR) {
            status = lost(error);
        }
    }
    spi_buffer_free(&out);
    return status;
}

static sp_status ask_there(spi_port *port, const cJSON *request, const void *body, size_t body_bytes, asked *a,
                           sp_error *error) {
    static uint8_t bytes[64 << 10];
    sp_status status = send_all(port, request, body, body_bytes, error);
    while (!status && !a->is_over) {
        spi_frame frame;
        bool found;
        status = spi_frame_read(&port->in, &frame, &found, error);
        if (!status && found) {
            on_answer(a, frame.head, frame.body, frame.body_bytes, cJSON_HasObjectItem(frame.head, "end"));
            cJSON_Delete(frame.head);
            spi_buffer_take(&port->in, frame.bytes);
        } else if (!status) {
            ssize_t got = read(port->file, bytes, sizeof bytes);
            if (got > 0) {
                status = spi_buffer_add(&port->in, bytes, (size_t)got);
            } else if (got == 0 || errno != EINTR) {
                status = lost(error);
            }
        }
    }
    return status;
}

sp_status spi_port_call(spi_port *port, const cJSON *request, const void *body, size_t body_bytes, bool is_repeatable,
                        spi_port_event event, void *event_env, cJSON **end, sp_error *error) {
    asked a = {.port = port, .event = event, .env = event_env};
    sp_status status;
    if (end) {
        *end = NULL;
    }
    for (;;) {
        status = port->server ? ask_here(port, request, body, body_bytes, &a)
                              : ask_there(port, request, body, body_bytes, &a, error);
        if (status != SP_IO || a.is_over || !is_repeatable) {
            break;
        }
        let_go(port); /* the holder is gone: whoever holds the folder next goes on, perhaps this process */
        if ((status = reach(port, error))) {
            break;
        }
    }
    if (!status && !a.end) {
        status = spi_fail(error, SP_NO_MEMORY, "no memory for an answer");
    } else if (!status) {
        int code = (int)cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(a.end, "end"));
        status = code < 0 ? (sp_status)code : SP_OK;
        if (status) {
            spi_fail(error, status, "%s", spi_head_text(a.end, "error", sp_status_text(status)));
        }
    }
    if (end) {
        *end = a.end;
    } else {
        cJSON_Delete(a.end);
    }
    return status;
}

sp_status spi_port_serve(spi_port *port, int wake, sp_error *error) {
    struct pollfd file = {.fd = wake, .events = POLLIN};
    if (!port->server) {
        return spi_fail(error, SP_BUSY, "another process holds the actors");
    }
    while (poll(&file, 1, 0) <= 0) {
        turn(port, wake, NULL);
    }
    return SP_OK;
}

static void note_holder(void *env, const cJSON *head, const void *body, size_t body_bytes) {
    (void)body;
    (void)body_bytes;
    *(uint64_t *)env = spi_head_number(head, "pid");
}

uint64_t spi_port_holder(spi_port *port) {
    cJSON *request = cJSON_CreateObject();
    uint64_t pid = 0;
    cJSON_AddStringToObject(request, "op", "hello");
    if (!port->server) {
        (void)spi_port_call(port, request, NULL, 0, true, note_holder, &pid, NULL, NULL);
    }
    cJSON_Delete(request);
    return pid;
}
