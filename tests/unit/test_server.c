/* tests/unit/test_server.c - actors over their socket: more who come than there is room for, who reads slowly or not at
 * all, and who asks ahead. What is asked and answered is tests/e2e/test_actor.sh's. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/memory.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/local.h"
#include "server/server.h"
#include "support/guests.h"

#define ROOM 256

typedef struct rig {
    char folder[64], cache[80], data[80];
    spi_server *server;
    spi_socket *sock;
    sp_engine_options engine;
} rig;

static int setup(void **state) {
    rig *r = calloc(1, sizeof *r);
    sp_error error = {0};
    assert_non_null(r);
    test_folder_create(r->folder);
    snprintf(r->data, sizeof r->data, "%s/data", r->folder);
    snprintf(r->cache, sizeof r->cache, "%s/cache", r->folder);
    r->engine = (sp_engine_options){.cache_folder = r->cache, .compiler = ""};
    const sp_actors_options options = {
        .folder = r->data, .without_sync = true, .without_store = true, .engine = &r->engine};
    TEST_OK(spi_server_create(&options, &r->server, &error), error);
    TEST_OK(spi_socket_open(r->data, r->server, &r->sock, &error), error);
    *state = r;
    return 0;
}

static int teardown(void **state) {
    rig *r = *state;
    spi_socket_close(r->sock);
    spi_server_destroy(r->server);
    test_folder_remove(r->folder);
    free(r);
    return 0;
}

static int join(rig *r) {
    sp_error error = {0};
    int file;
    TEST_OK(spi_socket_connect(r->data, &file, &error), error);
    spi_socket_poll(r->sock, 0, -1);
    return file;
}

static void ask_of(int file, const char *op, const char *name, uint32_t message) {
    spi_buffer out = {0};
    sp_error error = {0};
    cJSON *head = cJSON_CreateObject();
    cJSON_AddNumberToObject(head, "message", message);
    cJSON_AddStringToObject(head, "op", op);
    cJSON_AddStringToObject(head, "name", name);
    cJSON_AddBoolToObject(head, "wait", true);
    TEST_OK(spi_frame_write(&out, head, NULL, 0, &error), error);
    assert_int_equal(spi_local_send(file, out.bytes, out.end), out.end);
    spi_buffer_free(&out);
    cJSON_Delete(head);
}

static void ask(int file, const char *op, const char *name) {
    ask_of(file, op, name, 0);
}

static bool has_answer(rig *r, int file) {
    struct pollfd wait = {.fd = file, .events = POLLIN};
    for (int i = 0; i < 50 && poll(&wait, 1, 0) == 0; i++) {
        spi_socket_poll(r->sock, 10, -1);
    }
    return wait.revents & POLLIN;
}

/* It waits without keeping this process awake, and is heard when somebody leaves. */
static void one_more_than_there_is_room_for(void **state) {
    rig *r = *state;
    int files[ROOM + 1];
    for (int i = 0; i < ROOM + 1; i++) {
        files[i] = join(r);
    }
    ask(files[ROOM - 1], "hello", "");
    assert_true(has_answer(r, files[ROOM - 1]));
    ask(files[ROOM], "hello", "");
    int64_t begun_ns = spi_clock_ns();
    spi_socket_poll(r->sock, 100, -1);
    assert_true(spi_clock_ns() - begun_ns > 50000000);
    close(files[0]);
    assert_true(has_answer(r, files[ROOM]));
    for (int i = 1; i < ROOM + 1; i++) {
        close(files[i]);
    }
}

/* So does one whom this process has no file for. */
static void one_more_than_there_are_files_for(void **state) {
    rig *r = *state;
    sp_error error = {0};
    int file, next;
    struct rlimit usual;
    TEST_OK(spi_socket_connect(r->data, &file, &error), error);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &usual), 0);
    assert_true((next = dup(file)) >= 0);
    close(next);
    const struct rlimit few = {.rlim_cur = (rlim_t)next, .rlim_max = usual.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    spi_socket_poll(r->sock, 0, -1);
    int64_t begun_ns = spi_clock_ns();
    spi_socket_poll(r->sock, 80, -1);
    int64_t waited_ns = spi_clock_ns() - begun_ns;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
    assert_true(waited_ns > 40000000);
    ask(file, "hello", "");
    assert_true(has_answer(r, file));
    close(file);
}

static void create_ada(rig *r) {
    sp_error error = {0};
    void *wasm;
    size_t wasm_bytes;
    TEST_OK(spi_file_read(test_build_path("guests/test_actor.wasm"), (size_t)1 << 24, &wasm, &wasm_bytes, &error),
            error);
    const sp_actor_spec spec = {.wasm = wasm, .wasm_bytes = wasm_bytes, .module_name = "actor", .device = "none"};
    TEST_OK(sp_actor_create(spi_server_actors(r->server), "ada", &spec, &error), error);
    spi_free(wasm);
}

/* More than answers may have that nobody reads. */
enum { LETTERS = 80 };

static void send_letters(rig *r) {
    sp_error error = {0};
    uint64_t id;
    create_ada(r);
    char *text = malloc(SP_ACTOR_TEXT_BYTES_MAX);
    assert_non_null(text);
    memset(text, 'x', SP_ACTOR_TEXT_BYTES_MAX);
    for (int i = 0; i < LETTERS; i++) {
        TEST_OK(sp_actor_send(spi_server_actors(r->server), "ada", text, SP_ACTOR_TEXT_BYTES_MAX, NULL, &id, &error),
                error);
    }
    assert_true((size_t)LETTERS * SP_ACTOR_TEXT_BYTES_MAX > SPI_FRAME_BYTES_MAX);
    free(text);
}

/* Its answers are kept up to a limit, and then it is dropped, though nothing ever comes from it. */
static void who_does_not_read_is_dropped(void **state) {
    rig *r = *state;
    send_letters(r);
    int file = join(r), other = join(r);
    for (uint32_t i = 1; i <= LETTERS; i++) {
        ask_of(file, "log", "ada", i);
    }
    for (int i = 0; i < 5; i++) {
        spi_socket_poll(r->sock, 10, -1);
    }
    struct pollfd wait = {.fd = file, .events = POLLIN};
    assert_int_equal(poll(&wait, 1, 0), 1);
    assert_true(wait.revents & POLLHUP);
    ask(other, "hello", "");
    assert_true(has_answer(r, other));
    close(file);
    close(other);
}

/* Takes what came, and counts the whole answers in it: those that are events of that name, and the last ones. */
typedef struct taken {
    spi_buffer in;
    uint32_t events, ends;
} taken;

static void take(taken *t, int file, const char *event) {
    static char bytes[1 << 16];
    sp_error error = {0};
    bool found = true;
    ssize_t got = read(file, bytes, sizeof bytes);
    if (got > 0) {
        assert_int_equal(spi_buffer_add(&t->in, bytes, (size_t)got), SP_OK);
    }
    while (found) {
        spi_frame frame;
        TEST_OK(spi_frame_read(&t->in, &frame, &found, &error), error);
        if (found) {
            t->events += !strcmp(spi_head_text(frame.head, "event", ""), event);
            t->ends += cJSON_HasObjectItem(frame.head, "end");
            cJSON_Delete(frame.head);
            spi_buffer_take(&t->in, frame.bytes);
        }
    }
}

/* A long log is told as fast as it is read, however slowly that is, and nobody else waits for it. */
static void who_reads_slowly_gets_all(void **state) {
    rig *r = *state;
    taken t = {0};
    send_letters(r);
    int file = join(r), other = join(r);
    ask(file, "log", "ada");
    for (int i = 0; i < 20; i++) {
        spi_socket_poll(r->sock, 1, -1);
    }
    ask(other, "hello", "");
    assert_true(has_answer(r, other));
    int64_t begun_ns = spi_clock_ns();
    spi_socket_poll(r->sock, 100, -1); /* who is waited for does not keep this process awake */
    assert_true(spi_clock_ns() - begun_ns > 50000000);
    assert_int_equal(fcntl(file, F_SETFL, O_NONBLOCK), 0);
    for (int i = 0; i < 20000 && !t.ends; i++) {
        take(&t, file, "letter");
        spi_socket_poll(r->sock, 0, -1);
    }
    assert_int_equal(t.events, LETTERS);
    assert_int_equal(t.ends, 1);
    spi_buffer_free(&t.in);
    close(file);
    close(other);
}

/* A request that came while the one before it waited for an actor is answered without anything more coming. */
static void who_asks_ahead_is_answered(void **state) {
    rig *r = *state;
    taken t = {0};
    create_ada(r);
    int file = join(r);
    assert_int_equal(fcntl(file, F_SETFL, O_NONBLOCK), 0);
    ask(file, "send", "ada");
    ask(file, "hello", "");
    for (int i = 0; i < 2000 && t.ends < 2; i++) {
        uint32_t next_ms;
        (void)sp_actors_step(spi_server_actors(r->server), 20, &next_ms);
        spi_socket_poll(r->sock, 1, -1);
        take(&t, file, "hello");
    }
    assert_int_equal(t.ends, 2);
    assert_int_equal(t.events, 1);
    spi_buffer_free(&t.in);
    close(file);
}

/* While an answer is waited for, no more is taken than one more request can be: the rest stays with who sends it. */
static void who_sends_without_end_is_not_read(void **state) {
    rig *r = *state;
    enum { CHUNK = 1 << 20 };
    create_ada(r);
    int file = join(r), other = join(r);
    ask(file, "send", "ada");
    spi_socket_poll(r->sock, 10, -1);
    char *chunk = calloc(CHUNK, 1); /* lengths of nothing: no frame, if somebody looked */
    assert_non_null(chunk);
    assert_int_equal(fcntl(file, F_SETFL, O_NONBLOCK), 0);
    size_t sent = 0;
    for (int refused = 0; sent < 3 * SPI_FRAME_BYTES_MAX && refused < 20;) {
        ssize_t put = spi_local_send(file, chunk, CHUNK);
        sent += put > 0 ? (size_t)put : 0;
        refused = put > 0 ? 0 : refused + 1;
        spi_socket_poll(r->sock, 1, -1);
    }
    assert_true(sent >= SPI_FRAME_BYTES_MAX && sent < SPI_FRAME_BYTES_MAX + 16 * (size_t)CHUNK);
    free(chunk);
    ask(other, "hello", "");
    assert_true(has_answer(r, other));
    int64_t begun_ns = spi_clock_ns();
    spi_socket_poll(r->sock, 100, -1); /* nor does it keep this process awake */
    assert_true(spi_clock_ns() - begun_ns > 50000000);
    close(file);
    for (int i = 0; i < 200; i++) {
        spi_socket_poll(r->sock, 1, -1);
    }
    ask(other, "hello", "");
    assert_true(has_answer(r, other));
    close(other);
}

static void numbers_do_not_wrap(void **state) {
    (void)state;
    cJSON *head = cJSON_CreateObject();
    cJSON_AddNumberToObject(head, "few", 7);
    cJSON_AddNumberToObject(head, "many", 4294967296.0); /* cut to 32 bits it would be 0: whatever is usual */
    cJSON_AddNumberToObject(head, "negative", -1);
    cJSON_AddStringToObject(head, "text", "7");
    assert_int_equal(spi_head_count(head, "few"), 7);
    assert_int_equal(spi_head_count(head, "many"), UINT32_MAX);
    assert_int_equal(spi_head_count(head, "negative"), 0);
    assert_int_equal(spi_head_count(head, "text"), 0);
    assert_int_equal(spi_head_count(head, "none"), 0);
    cJSON_Delete(head);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_more_than_there_is_room_for, setup, teardown),
        cmocka_unit_test_setup_teardown(one_more_than_there_are_files_for, setup, teardown),
        cmocka_unit_test_setup_teardown(who_does_not_read_is_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(who_reads_slowly_gets_all, setup, teardown),
        cmocka_unit_test_setup_teardown(who_asks_ahead_is_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(who_sends_without_end_is_not_read, setup, teardown),
        cmocka_unit_test(numbers_do_not_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
