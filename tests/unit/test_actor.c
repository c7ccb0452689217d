/* tests/unit/test_actor.c - actors in one process: order, replies, timers, rollback, dead letters, sleep and wake,
 * forks, files, hostile manifests, and memory that runs out. tests/fault/ has what happens when the process ends. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "actor/house.h"
#include "actor/manifest.h"
#include "base/memory.h"
#include "device/device.h"
#include "os/file.h"
#include "samepage/actor.h"
#include "support/guests.h"
#include "support/tiny_model.h"

typedef struct rig {
    char folder[64], cache[80], data[80];
    void *wasm;
    size_t wasm_bytes;
    sp_actors *actors;
    sp_actors_options options;
    sp_engine_options engine;
    int woken, slept, undone, dead, done, held;
    sp_actor_woken last_woken;
    sp_actor_commit last_commit;
    char pieces[4096], told[1024];
} rig;

static void on_event(void *env, const sp_actor_event *event) {
    rig *r = env;
    size_t used = strlen(r->pieces);
    switch (event->kind) {
    case SP_ACTOR_EVENT_WOKEN:
        r->woken++;
        r->last_woken = *event->woken;
        break;
    case SP_ACTOR_EVENT_PIECE:
        snprintf(r->pieces + used, sizeof r->pieces - used, "%.*s", (int)event->text_bytes, event->text);
        break;
    case SP_ACTOR_EVENT_UNDONE: r->undone++; break;
    case SP_ACTOR_EVENT_DEAD: r->dead++; break;
    case SP_ACTOR_EVENT_HELD: r->held++; break;
    case SP_ACTOR_EVENT_DONE:
        r->done++;
        r->last_commit = *event->commit;
        break;
    case SP_ACTOR_EVENT_SLEPT: r->slept++; break;
    default: break;
    }
    if (event->text_bytes && event->kind != SP_ACTOR_EVENT_PIECE) {
        snprintf(r->told, sizeof r->told, "%.*s", (int)event->text_bytes, event->text);
    }
}

static void open_actors(rig *r) {
    sp_error error = {0};
    TEST_OK(sp_actors_open(&r->options, &r->actors, &error), error);
    test_guest_signals();
}

static int setup(void **state) {
    rig *r = calloc(1, sizeof *r);
    sp_error error = {0};
    static char cache[64]; /* compiled once for all tests */
    if (!*cache) {
        test_folder_create(cache);
    }
    test_folder_create(r->folder);
    snprintf(r->data, sizeof r->data, "%s/data", r->folder);
    r->engine = (sp_engine_options){.cache_folder = cache, .compiler = ""};
    r->options = (sp_actors_options){.folder = r->data,
                                     .without_sync = true,
                                     .without_store = true,
                                     .engine = &r->engine,
                                     .listener = on_event,
                                     .listener_env = r};
    TEST_OK(spi_file_read(test_build_path("guests/test_actor.wasm"), (size_t)1 << 24, &r->wasm, &r->wasm_bytes, &error),
            error);
    open_actors(r);
    *state = r;
    return 0;
}

static int teardown(void **state) {
    rig *r = *state;
    sp_actors_close(r->actors);
    test_folder_remove(r->folder);
    spi_free(r->wasm);
    free(r);
    return 0;
}

static sp_status try_create(rig *r, const char *name, sp_error *error) {
    const sp_actor_spec spec = {
        .wasm = r->wasm, .wasm_bytes = r->wasm_bytes, .module_name = "actor", .device = "none", .deadline_ms = 500};
    return sp_actor_create(r->actors, name, &spec, error);
}

static void create(rig *r, const char *name) {
    sp_error error = {0};
    TEST_OK(try_create(r, name, &error), error);
}

static uint64_t post(rig *r, const char *name, const char *text) {
    sp_error error = {0};
    uint64_t id;
    TEST_OK(sp_actor_send(r->actors, name, text, (uint32_t)strlen(text), NULL, &id, &error), error);
    return id;
}

static void settle(rig *r) {
    uint32_t next_ms;
    test_guest_signals(); /* cmocka has put its own over them */
    while (sp_actors_step(r->actors, 10, &next_ms) == SP_OK) {}
}

/* The committed reply to a message. */
static const char *reply_to(rig *r, const char *name, uint64_t id) {
    sp_letter letter;
    bool found;
    sp_error error = {0};
    TEST_OK(sp_actor_log(r->actors, name, id - 1, 0, &letter, &found, &error), error);
    assert_true(found && letter.id == id);
    return letter.reply;
}

static const char *ask(rig *r, const char *name, const char *text) {
    uint64_t id = post(r, name, text);
    settle(r);
    return reply_to(r, name, id);
}

static sp_actor_info info_of(rig *r, const char *name) {
    sp_actor_info info;
    sp_error error = {0};
    TEST_OK(sp_actor_get_info(r->actors, name, &info, &error), error);
    return info;
}

/* ---- the mailbox ---- */

static void a_mailbox_is_in_order(void **state) {
    rig *r = *state;
    uint64_t ids[50];
    create(r, "a");
    create(r, "b");
    for (int i = 0; i < 50; i++) {
        ids[i] = post(r, i % 2 ? "a" : "b", "count");
        assert_true(!i || ids[i] > ids[i - 1]);
    }
    settle(r);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(atoi(reply_to(r, i % 2 ? "a" : "b", ids[i])), i / 2 + 1);
    }
    assert_int_equal(info_of(r, "a").commits, 25);
}

static void a_key_sends_once(void **state) {
    rig *r = *state;
    uint64_t first, second;
    create(r, "a");
    assert_int_equal(sp_actor_send(r->actors, "a", "count", 5, "k", &first, NULL), SP_OK);
    settle(r);
    assert_int_equal(sp_actor_send(r->actors, "a", "count", 5, "k", &second, NULL), SP_OK);
    settle(r);
    assert_int_equal(first, second);
    assert_string_equal(ask(r, "a", "count"), "2");
}

static void actors_send_and_reply(void **state) {
    rig *r = *state;
    create(r, "a");
    create(r, "b");
    assert_string_equal(r->pieces, "");
    ask(r, "a", "send b echo hello you");
    assert_string_equal(ask(r, "a", "heard"), "b:hello you;");
    ask(r, "a", "send a count"); /* to itself */
    assert_string_equal(ask(r, "a", "heard"), "a:1;");
    ask(r, "a", "send nobody count");
    assert_int_equal(strtol(ask(r, "a", "send nobody count"), NULL, 10), SP_NOT_FOUND);
    ask(r, "a", "send b trap"); /* is told that it failed */
    assert_non_null(strstr(ask(r, "a", "heard"), "b:actor trapped"));
    assert_int_equal(r->dead, 1);
}

static void removing_returns_mail(void **state) {
    rig *r = *state;
    sp_error error = {0};
    create(r, "a");
    create(r, "b");
    post(r, "a", "send b loop");
    uint32_t next_ms;
    while (!info_of(r, "b").queued) {
        (void)sp_actors_step(r->actors, 1, &next_ms);
    }
    TEST_OK(sp_actor_remove(r->actors, "b", &error), error);
    settle(r);
    assert_string_equal(ask(r, "a", "heard"), "b:the actor was removed;");
    assert_int_equal(sp_actor_get_info(r->actors, "b", &(sp_actor_info){0}, &error), SP_NOT_FOUND);
}

static void timers_ring_once(void **state) {
    rig *r = *state;
    create(r, "a");
    ask(r, "a", "timer 30 tea");
    ask(r, "a", "timer 40 never");
    ask(r, "a", "timer 0 never");
    assert_int_equal(info_of(r, "a").timers, 1);
    sp_actors_close(r->actors); /* it need not be in memory, nor held */
    usleep(60000);
    open_actors(r);
    settle(r);
    assert_string_equal(ask(r, "a", "heard"), "timer:tea;");
    assert_int_equal(info_of(r, "a").timers, 0);
    ask(r, "a", "timer 20 later");
    uint32_t next_ms;
    assert_int_equal(sp_actors_step(r->actors, 1, &next_ms), SP_TIMEOUT);
    assert_in_range(next_ms, 0, 20);
}

/* ---- failing ---- */

static void failures_are_undone(void **state) {
    rig *r = *state;
    static const char *const ways[] = {"trap", "exit", "fail", "loop"};
    char sum[64];
    create(r, "a");
    ask(r, "a", "fill 5000");
    ask(r, "a", "count");
    snprintf(sum, sizeof sum, "%s", ask(r, "a", "sum"));
    for (int i = 0; i < 4; i++) {
        r->undone = r->dead = 0;
        ask(r, "a", ways[i]);
        assert_int_equal(r->undone, 2);
        assert_int_equal(r->dead, 1);
        assert_string_equal(ask(r, "a", "sum"), sum);
        sp_actor_info info = info_of(r, "a");
        assert_int_equal(info.timers, 0);
        assert_int_equal(info.queued, 0);
        assert_int_equal(info.dead, i + 1);
    }
    assert_string_equal(ask(r, "a", "count"), "2");
}

static void a_flaky_message_gets_through(void **state) {
    rig *r = *state;
    create(r, "a");
    assert_string_equal(ask(r, "a", "flaky 3"), "1"); /* what the first two tries counted is undone */
    assert_int_equal(r->undone, 2);
    assert_int_equal(r->dead, 0);
    ask(r, "a", "flaky 4");
    assert_int_equal(r->dead, 1);
}

static bool is_ill(void *context) {
    (void)context;
    return true;
}

/* A message that failed on a card that is gone is not the guest's failure: it waits. */
static void messages_wait_for_a_lost_device(void **state) {
    rig *r = *state;
    sp_error error = {0};
    sp_device *device;
    const sp_actor_spec spec = {
        .wasm = r->wasm, .wasm_bytes = r->wasm_bytes, .module_name = "actor", .device = "cpu", .deadline_ms = 500};
    TEST_OK(sp_actor_create(r->actors, "a", &spec, &error), error);
    assert_string_equal(ask(r, "a", "count"), "1");
    TEST_OK(spi_supplies_device(r->actors, "cpu", &device, &error), error);
    const spi_backend *well = device->backend;
    spi_backend ill = *well;
    ill.is_lost = is_ill;
    device->backend = &ill;
    post(r, "a", "fail");
    settle(r);
    device->backend = well;
    assert_int_equal(r->held, 1);
    assert_int_equal(r->undone + r->dead, 0);
    assert_int_equal(info_of(r, "a").queued, 1);
    assert_string_equal(ask(r, "a", "count"), "2"); /* behind the other, which is looked at again first */
    assert_int_equal(r->undone, 2);
    assert_int_equal(r->dead, 1);
}

static void limits_hold(void **state) {
    rig *r = *state;
    sp_error error = {0};
    uint64_t id;
    create(r, "a");
    char *large = calloc(1, SP_ACTOR_TEXT_BYTES_MAX + 1);
    assert_int_equal(sp_actor_send(r->actors, "a", large, SP_ACTOR_TEXT_BYTES_MAX + 1, NULL, &id, &error), SP_LIMIT);
    free(large);
    assert_int_equal(strlen(ask(r, "a", "big 1048576")), 1048576);
    ask(r, "a", "big 1048577");
    assert_int_equal(r->dead, 1);
    assert_int_equal(try_create(r, "a", &error), SP_BUSY);
    assert_int_equal(try_create(r, "a/b", &error), SP_INVALID);
    assert_int_equal(try_create(r, "", &error), SP_INVALID);
    assert_int_equal(sp_actor_send(r->actors, "nobody", "x", 1, NULL, &id, &error), SP_NOT_FOUND);
    assert_int_equal(id, 0);
}

/* Whoever sends: an actor that sends to itself and others could fill the disk. */
static void mailboxes_are_not_endless(void **state) {
    rig *r = *state;
    sp_error error = {0};
    uint64_t id, usual = spi_queue_max;
    create(r, "a");
    spi_queue_max = 3;
    uint64_t first = post(r, "a", "send a count"), second = post(r, "a", "send a count");
    post(r, "a", "count");
    assert_int_equal(sp_actor_send(r->actors, "a", "count", 5, NULL, &id, &error), SP_LIMIT);
    settle(r);
    assert_int_equal(strtol(reply_to(r, "a", first), NULL, 10), SP_LIMIT); /* three wait, the one that it handles too */
    assert_true(strtol(reply_to(r, "a", second), NULL, 10) > 0);
    spi_queue_max = (uint32_t)usual;
    assert_int_equal(info_of(r, "a").queued, 0);
}

/* ---- sleep, fork, files ---- */

static void they_sleep_and_wake(void **state) {
    rig *r = *state;
    char names[8][8], sum[8][64];
    r->options.resident_max = 2;
    sp_actors_close(r->actors);
    open_actors(r);
    for (int i = 0; i < 8; i++) {
        char text[32];
        snprintf(names[i], sizeof names[i], "a%d", i);
        snprintf(text, sizeof text, "fill %d", 1000 + i * 700);
        create(r, names[i]);
        ask(r, names[i], text);
        snprintf(sum[i], sizeof sum[i], "%s", ask(r, names[i], "sum"));
    }
    assert_true(r->slept >= 6);
    for (int i = 0; i < 8; i++) {
        assert_string_equal(ask(r, names[i], "sum"), sum[i]);
    }
    sp_error error = {0};
    TEST_OK(sp_actor_sleep(r->actors, "a7", &error), error);
    assert_false(info_of(r, "a7").is_resident);
    r->woken = 0;
    assert_string_equal(ask(r, "a7", "sum"), sum[7]);
    assert_int_equal(r->woken, 1);
    assert_false(r->last_woken.is_fresh);
}

/* Which models there are, and how many, is up to whoever makes actors: those that nobody has do not stay for ever. */
static void idle_models_are_closed(void **state) {
    rig *r = *state;
    enum { MODELS = 2 * SPI_MODELS_IDLE_MAX };
    test_gguf file = {0};
    char path[100], name[8];
    sp_error error = {0};
    r->options.thread_count = 1;
    r->options.resident_max = 2;
    r->options.without_store = false;
    sp_actors_close(r->actors);
    open_actors(r);
    test_tiny_model_file(&file);
    for (int round = 0; round < 2; round++) { /* in the second one they are opened again */
        for (int i = 0; i < MODELS; i++) {
            snprintf(path, sizeof path, "%s/%d.gguf", r->folder, i);
            snprintf(name, sizeof name, "a%d", i);
            TEST_OK(spi_file_write(path, file.bytes, file.count, false, &error), error);
            const sp_actor_model model = {.name = "", .path = path};
            const sp_actor_spec spec = {.wasm = r->wasm,
                                        .wasm_bytes = r->wasm_bytes,
                                        .module_name = "actor",
                                        .models = &model,
                                        .model_count = 1,
                                        .device = "cpu"};
            if (!round) {
                TEST_OK(sp_actor_create(r->actors, name, &spec, &error), error);
            }
            assert_true(strchr(ask(r, name, "think 2 ab"), ' ')); /* in a session that it keeps */
            assert_int_equal(strtol(ask(r, name, "count"), NULL, 10), round + 1);
            assert_in_range(r->actors->model_count, 1, SPI_MODELS_IDLE_MAX + r->options.resident_max);
        }
        assert_int_equal(r->actors->model_count, SPI_MODELS_IDLE_MAX + r->options.resident_max);
    }
    for (int i = 0; i < 2; i++) { /* the last ones are there, awake or not */
        snprintf(name, sizeof name, "a%d", MODELS - 1 - i);
        TEST_OK(sp_actor_sleep(r->actors, name, &error), error);
    }
    settle(r);
    assert_int_equal(r->actors->model_count, SPI_MODELS_IDLE_MAX);
    for (size_t i = 0; i < r->actors->model_count; i++) {
        const char *slash = strrchr(r->actors->models[i].path, '/');
        assert_in_range(strtol(slash + 1, NULL, 10), MODELS - SPI_MODELS_IDLE_MAX, MODELS - 1);
    }
    test_gguf_free(&file);
}

/* A device that has many names is not opened by each of them. */
static void devices_have_one_name(void **state) {
    rig *r = *state;
    sp_error error;
    sp_device *device;
    TEST_OK(spi_supplies_device(r->actors, "cpu", &device, &error), error);
    assert_int_equal(spi_supplies_device(r->actors, "cpu:00", &device, &error), SP_NO_DEVICE);
    assert_int_equal(spi_supplies_device(r->actors, "cpu:000000000", &device, &error), SP_NO_DEVICE);
    assert_int_equal(r->actors->device_count, 1);
}

static void many_commits_are_folded(void **state) {
    rig *r = *state;
    char sum[64];
    sp_error error = {0};
    create(r, "a");
    for (int i = 0; i < 150; i++) {
        post(r, "a", "fill 100");
    }
    settle(r);
    snprintf(sum, sizeof sum, "%s", ask(r, "a", "sum"));
    assert_true(info_of(r, "a").deltas > 100);
    TEST_OK(sp_actor_fold(r->actors, "a", &error), error);
    assert_int_equal(info_of(r, "a").deltas, 0);
    assert_string_equal(ask(r, "a", "sum"), sum);
    sp_actors_close(r->actors);
    open_actors(r);
    assert_string_equal(ask(r, "a", "sum"), sum);
    TEST_OK(sp_actor_fold(r->actors, "a", &error), error);
    TEST_OK(sp_actor_remove(r->actors, "a", &error), error);
    char path[128];
    snprintf(path, sizeof path, "%s/states", r->data);
    assert_int_equal(rmdir(path), 0); /* nothing is left in it */
}

static void large_states_are_files(void **state) {
    rig *r = *state;
    sp_error error = {0};
    char path[128];
    create(r, "a");
    assert_string_equal(ask(r, "a", "grow 12"), "0");
    snprintf(path, sizeof path, "%s/states", r->data);
    assert_int_not_equal(rmdir(path), 0);
    sp_actors_close(r->actors);
    open_actors(r);
    uint64_t total = 0;
    for (uint32_t i = 0; i < 12u << 18; i++) {
        total += i * 2654435761u;
    }
    assert_true(strtoull(ask(r, "a", "grow 1"), NULL, 10) == total);
    TEST_OK(sp_actor_remove(r->actors, "a", &error), error);
    assert_int_equal(rmdir(path), 0);
}

static void forks_go_their_own_way(void **state) {
    rig *r = *state;
    sp_error error = {0};
    create(r, "a");
    ask(r, "a", "fill 3000");
    ask(r, "a", "count");
    TEST_OK(sp_actor_fork(r->actors, "a", "b", &error), error);
    TEST_OK(sp_actor_fork(r->actors, "b", "c", &error), error);
    assert_int_equal(sp_actor_fork(r->actors, "a", "b", &error), SP_BUSY);
    ask(r, "a", "count");
    assert_string_equal(ask(r, "b", "count"), "2");
    assert_string_equal(ask(r, "a", "count"), "3");
    TEST_OK(sp_actor_remove(r->actors, "a", &error), error);
    TEST_OK(sp_actor_sleep(r->actors, "b", &error), error);
    assert_string_equal(ask(r, "b", "count"), "3");
    assert_string_equal(ask(r, "c", "count"), "2");
    assert_string_equal(info_of(r, "c").origin, "fork of b");
}

static void a_file_carries_mail_and_timers(void **state) {
    rig *r = *state;
    sp_error error = {0};
    char path[128], sum[64];
    snprintf(path, sizeof path, "%s/a.snap", r->folder);
    create(r, "a");
    ask(r, "a", "fill 3000");
    ask(r, "a", "timer 50 tea");
    snprintf(sum, sizeof sum, "%s", ask(r, "a", "sum"));
    post(r, "a", "count");
    TEST_OK(sp_actor_export(r->actors, "a", path, &error), error);
    TEST_OK(sp_actor_import(r->actors, "b", path, NULL, &error), error);
    assert_int_equal(info_of(r, "b").queued, 1);
    assert_int_equal(info_of(r, "b").timers, 1);
    settle(r);
    usleep(70000);
    settle(r);
    assert_string_equal(ask(r, "b", "heard"), "timer:tea;");
    assert_string_equal(ask(r, "b", "count"), "2");
    assert_int_equal(sp_actor_import(r->actors, "b", path, NULL, &error), SP_BUSY);
    assert_int_equal(sp_actor_import(r->actors, "c", r->options.folder, NULL, &error), SP_IO);
}

static void one_process_holds_it(void **state) {
    rig *r = *state;
    sp_error error = {0};
    sp_actors *second;
    assert_int_equal(sp_actors_open(&r->options, &second, &error), SP_BUSY);
    assert_null(second);
    assert_non_null(strstr(error.message, "process"));
}

/* What the folder's files may grow to; 0: as much as they like. */
static void limit_files(rlim_t bytes) {
    static struct rlimit usual;
    if (!usual.rlim_max) {
        getrlimit(RLIMIT_FSIZE, &usual);
        signal(SIGXFSZ, SIG_IGN);
    }
    struct rlimit limit = {bytes ? bytes : usual.rlim_cur, usual.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* A disk that is full when a transaction ends: the module's row is not there, and the next module gets its number. */
static void a_failed_commit_keeps_no_module(void **state) {
    rig *r = *state;
    static const uint8_t more[] = {0, 5, 4, 'm', 'o', 'r', 'e'}; /* a section that means nothing */
    sp_error error = {0};
    char path[160];
    sp_snapshot *snapshot;
    uint8_t *other = malloc(r->wasm_bytes + sizeof more);
    assert_non_null(other);
    memcpy(other, r->wasm, r->wasm_bytes);
    memcpy(other + r->wasm_bytes, more, sizeof more);
    const sp_actor_spec spec = {
        .wasm = other, .wasm_bytes = r->wasm_bytes + sizeof more, .module_name = "other", .device = "none"};
    limit_files(4096);
    sp_status status = sp_actor_create(r->actors, "full", &spec, &error);
    limit_files(0);
    assert_int_equal(status, SP_IO);
    create(r, "ada");
    post(r, "ada", "x");
    settle(r);
    snprintf(path, sizeof path, "%s/ada.snap", r->folder);
    TEST_OK(sp_actor_export(r->actors, "ada", path, &error), error);
    TEST_OK(sp_snapshot_open(path, NULL, &snapshot, &error), error);
    size_t bytes;
    const void *wasm = sp_snapshot_module(snapshot, &bytes);
    assert_int_equal(bytes, r->wasm_bytes);
    assert_memory_equal(wasm, r->wasm, bytes);
    sp_snapshot_close(snapshot);
    free(other);
}

static void a_key_is_needed(void **state) {
    rig *r = *state;
    static const uint8_t key[SP_STORE_KEY_BYTES] = {1, 2, 3}, wrong[SP_STORE_KEY_BYTES] = {1, 2, 4};
    sp_error error = {0};
    sp_actors *second;
    char data[96];
    sp_actors_close(r->actors);
    snprintf(data, sizeof data, "%s/sealed", r->folder);
    r->options.folder = data;
    r->options.key = key;
    open_actors(r);
    create(r, "a");
    assert_string_equal(ask(r, "a", "echo secret"), "secret");
    sp_actors_close(r->actors);
    r->options.key = wrong;
    assert_int_equal(sp_actors_open(&r->options, &second, &error), SP_INVALID);
    r->options.key = NULL;
    assert_int_equal(sp_actors_open(&r->options, &second, &error), SP_INVALID);
    r->options.key = key;
    open_actors(r);
    assert_string_equal(ask(r, "a", "count"), "1");
}

/* ---- memory, and hostile manifests ---- */

/* The n-th allocation fails, for every n: what comes of it is told, and nothing is lost. */
static void no_memory(void **state) {
    rig *r = *state;
    create(r, "a");
    assert_string_equal(ask(r, "a", "count"), "1");
    uint64_t count = 1;
    for (long n = 0; n < 120; n++) {
        sp_error error = {0};
        uint64_t id = 0;
        uint32_t next_ms;
        spi_memory_fail_after(n);
        sp_status status = sp_actor_send(r->actors, "a", "count", 5, NULL, &id, &error);
        while (!status && sp_actors_step(r->actors, 10, &next_ms) == SP_OK) {}
        spi_memory_fail_after(-1);
        if (status) {
            assert_int_equal(status, SP_NO_MEMORY);
            continue;
        }
        if (n % 2) {
            (void)sp_actor_sleep(r->actors, "a", NULL);
        }
        char expected[32];
        snprintf(expected, sizeof expected, "%llu", (unsigned long long)(count += 2));
        if (strcmp(ask(r, "a", "count"), expected) != 0) { /* it was set aside, after three failures */
            assert_true(r->dead > 0);
            count--;
        }
    }
}

static spi_manifest sample_manifest(void) {
    static spi_mail mail;
    static spi_manifest_timer timer = {.note = (char *)(uintptr_t) "tea", .note_bytes = 3, .due_ms = 77};
    mail =
        (spi_mail){.kind = 1, .text = (char *)(uintptr_t) "hello", .text_bytes = 5, .sent_ms = 5, .sender_name = "bob"};
    spi_manifest m = {.mail = &mail, .mail_count = 1, .timers = &timer, .timer_count = 1};
    m.record = (spi_record){.name = "ada",
                            .device = (char *)(uintptr_t) "cpu",
                            .environment = (char *)(uintptr_t) "A=1",
                            .environment_bytes = 4,
                            .deadline_ms = 9,
                            .models = {{(char *)(uintptr_t) "demo", (char *)(uintptr_t) "/m.gguf"}},
                            .model_count = 1};
    return m;
}

/* What would not be read again is not written, nor brought into memory before. */
static void a_file_carries_no_more_than_is_read(void **state) {
    rig *r = *state;
    sp_error error = {0};
    uint64_t id;
    char path[128];
    snprintf(path, sizeof path, "%s/a.snap", r->folder);
    create(r, "a");
    char *large = calloc(1, SP_ACTOR_TEXT_BYTES_MAX);
    for (int i = 0; i < 17; i++) {
        TEST_OK(sp_actor_send(r->actors, "a", large, SP_ACTOR_TEXT_BYTES_MAX, NULL, &id, &error), error);
    }
    free(large);
    assert_int_equal(sp_actor_export(r->actors, "a", path, &error), SP_LIMIT);
    assert_non_null(strstr(error.message, "unread mail"));
    spi_manifest m = sample_manifest(), back;
    void *bytes;
    size_t count, timers = SPI_MANIFEST_TIMERS_MAX + 1;
    m.timers = spi_alloc(timers, sizeof *m.timers);
    m.timer_count = timers;
    assert_int_equal(spi_manifest_write(&m, &bytes, &count, &error), SP_LIMIT);
    m.timer_count--;
    TEST_OK(spi_manifest_write(&m, &bytes, &count, &error), error);
    TEST_OK(spi_manifest_read(bytes, count, &back, &error), error);
    assert_int_equal(back.timer_count, m.timer_count);
    spi_manifest_free(&back);
    spi_free(bytes);
    spi_free(m.timers);
}

static void manifests_survive_and_are_checked(void **state) {
    (void)state;
    spi_manifest m = sample_manifest(), back;
    void *bytes;
    size_t count;
    sp_error error = {0};
    TEST_OK(spi_manifest_write(&m, &bytes, &count, &error), error);
    TEST_OK(spi_manifest_read(bytes, count, &back, &error), error);
    assert_string_equal(back.record.name, "ada");
    assert_string_equal(back.record.models[0].path, "/m.gguf");
    assert_string_equal(back.mail[0].text, "hello");
    assert_string_equal(back.mail[0].sender_name, "bob");
    assert_int_equal(back.timers[0].due_ms, 77);
    spi_manifest_free(&back);
    test_random random = test_random_seed(test_seed());
    uint8_t *copy = malloc(count);
    for (int i = 0; i < 20000; i++) { /* any bytes: read or refused, under the sanitizers */
        memcpy(copy, bytes, count);
        for (uint32_t k = test_random_below(&random, 4) + 1; k; k--) {
            copy[8 + test_random_below(&random, (uint32_t)count - 8)] = (uint8_t)test_random_next(&random);
        }
        if (!spi_manifest_read(copy, i % 3 ? count : test_random_below(&random, (uint32_t)count), &back, &error)) {
            spi_manifest_free(&back);
        }
    }
    for (long n = 0; n < 20; n++) {
        spi_memory_fail_after(n);
        sp_status status = spi_manifest_read(bytes, count, &back, &error);
        spi_memory_fail_after(-1);
        assert_true(status == SP_OK || status == SP_NO_MEMORY);
        spi_manifest_free(&back);
    }
    free(copy);
    spi_free(bytes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_mailbox_is_in_order),
        TEST(a_key_sends_once),
        TEST(actors_send_and_reply),
        TEST(removing_returns_mail),
        TEST(timers_ring_once),
        TEST(failures_are_undone),
        TEST(a_flaky_message_gets_through),
        TEST(messages_wait_for_a_lost_device),
        TEST(limits_hold),
        TEST(mailboxes_are_not_endless),
        TEST(a_file_carries_no_more_than_is_read),
        TEST(they_sleep_and_wake),
        TEST(idle_models_are_closed),
        TEST(devices_have_one_name),
        TEST(many_commits_are_folded),
        TEST(large_states_are_files),
        TEST(forks_go_their_own_way),
        TEST(a_file_carries_mail_and_timers),
        TEST(one_process_holds_it),
        TEST(a_key_is_needed),
        TEST(no_memory),
        TEST(a_failed_commit_keeps_no_module),
        cmocka_unit_test(manifests_survive_and_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
