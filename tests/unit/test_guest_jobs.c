/* Guests that wait for computing and for time: batches, cancelling, pausing, sleeping. Computing is played here. */
#include "support/guests.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "os/clock.h"
#include "session/session.h"

enum { GUESTS = 100, CHUNK_TOKENS = 10, LOG_MAX = 4096 };

/* A session for each guest; a guest's i32 at 100 says which is its own. */
static sp_session sessions[GUESTS];
static struct {
    uint32_t parts[LOG_MAX];
    uint32_t count, matmul_count;
    int64_t chunk_ns; /* how long a chunk takes */
    sp_status failure;
    uint32_t failure_from;           /* calls before it go well */
    sp_guest *interrupt, *terminate; /* while the first chunk is computed */
} played;

static void reset(void) {
    memset(&played, 0, sizeof played);
    memset(sessions, 0, sizeof sessions);
}

/* Appends chunk by chunk, as a device would. */
static sp_status play_append(sp_append *parts, uint32_t part_count, sp_cancelled cancelled, void *cancelled_env,
                             sp_error *error) {
    uint32_t done[GUESTS] = {0}, left = part_count;
    played.parts[played.count++ % LOG_MAX] = part_count;
    bool fails = played.failure && played.count > played.failure_from;
    for (uint32_t i = 0; i < part_count; i++) {
        parts[i].status = fails ? played.failure : SP_OK;
    }
    if (fails) {
        return spi_fail(error, played.failure, "played failure");
    }
    while (left) {
        left = 0;
        for (uint32_t i = 0; i < part_count; i++) {
            uint32_t rest = parts[i].token_count - done[i], take = rest < CHUNK_TOKENS ? rest : CHUNK_TOKENS;
            done[i] += take;
            parts[i].session->token_count += take;
            left += done[i] < parts[i].token_count;
        }
        spi_sleep_ns(played.chunk_ns);
        if (played.interrupt) {
            sp_guest_interrupt(played.interrupt);
            played.interrupt = NULL;
        }
        if (played.terminate) {
            sp_guest_terminate(played.terminate);
            played.terminate = NULL;
        }
        if (left && cancelled(cancelled_env)) {
            for (uint32_t i = 0; i < part_count; i++) {
                parts[i].status = done[i] < parts[i].token_count ? SP_CANCELLED : SP_OK;
            }
            return spi_fail(error, SP_CANCELLED, "cut short");
        }
    }
    return SP_OK;
}

static sp_status play_matmul(sp_device *device, sp_region *region, const sp_matmul *args, sp_error *error) {
    (void)device;
    (void)error;
    played.matmul_count++;
    sp_region_base(region)[args->c_offset] = (uint8_t)args->m;
    return SP_OK;
}

static int32_t begin_append(sp_guest *guest, const int64_t *words, spi_job *job) {
    uint32_t which;
    if (words[0] < 0) {
        return SP_INVALID; /* at once, nothing is suspended */
    }
    memcpy(&which, sp_region_base(sp_guest_region(guest)) + 100, sizeof which);
    job->kind = SPI_JOB_APPEND;
    job->session = &sessions[which];
    job->token_count = (uint32_t)words[0];
    job->tokens = spi_alloc(job->token_count, sizeof *job->tokens);
    job->logits = words[1] ? SP_LOGITS_ALL : SP_LOGITS_LAST;
    return SP_OK;
}

static int32_t begin_matmul(sp_guest *guest, const int64_t *words, spi_job *job) {
    (void)guest;
    job->kind = SPI_JOB_MATMUL;
    job->matmul = (sp_matmul){.m = (uint32_t)words[0], .c_offset = 50};
    return SP_OK;
}

/* One token at once, or SP_BUSY. */
static void call_decode(sp_guest *guest, int64_t *words) {
    uint32_t which;
    sp_error error = {0};
    memcpy(&which, sp_region_base(sp_guest_region(guest)) + 100, sizeof which);
    int32_t next;
    words[0] = spi_guest_append_now(guest, &sessions[which], (int32_t)words[0], NULL, &next, &error);
}

static void call_interrupted(sp_guest *guest, int64_t *words) {
    words[0] = spi_guest_take_interrupt(guest);
}

static void call_sum(sp_guest *guest, int64_t *words) {
    (void)guest;
    words[0] = words[0] + words[1] * 1000;
}

static const spi_import imports[] = {
    {.name = "append", .parameters = "ii", .results = "i", .is_async = true, .begin = begin_append},
    {.name = "matmul", .parameters = "i", .results = "i", .is_async = true, .begin = begin_matmul},
    {.name = "interrupted", .parameters = "", .results = "i", .call = call_interrupted},
    {.name = "sum", .parameters = "iI", .results = "I", .call = call_sum},
    {.name = "decode", .parameters = "i", .results = "i", .call = call_decode},
};
static const spi_engine_hooks hooks = {
    .imports = imports, .import_count = 5, .append = play_append, .matmul = play_matmul};

static const char program[] =
    "(module"
    " (import \"samepage\" \"append\" (func $append (param i32 i32) (result i32)))"
    " (import \"samepage\" \"matmul\" (func $matmul (param i32) (result i32)))"
    " (import \"samepage\" \"interrupted\" (func $interrupted (result i32)))"
    " (import \"samepage\" \"sum\" (func $sum (param i32 i64) (result i64)))"
    " (import \"samepage\" \"decode\" (func $decode (param i32) (result i32)))"
    " (memory (export \"memory\") 1)"
    " (func (export \"own\") (param i32) (i32.store (i32.const 100) (local.get 0)))"
    " (func (export \"append\") (param i32) (result i32) (call $append (local.get 0) (i32.const 0)))"
    " (func (export \"append_all\") (param i32) (result i32) (call $append (local.get 0) (i32.const 1)))"
    " (func (export \"matmul\") (param i32) (result i32) (call $matmul (local.get 0)))"
    " (func (export \"interrupted\") (result i32) (call $interrupted))"
    " (func (export \"sum\") (param i32 i64) (result i64) (call $sum (local.get 0) (local.get 1)))"
    " (func (export \"spin\") (loop $l (br $l)))"
    " (func (export \"decodes\") (param $n i32) (result i32) (local $refused i32)"
    "   (loop $l (local.set $refused (i32.add (local.get $refused) (i32.ne (call $decode (i32.const 1)) (i32.const "
    "0))))"
    "     (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))) (local.get $refused))"
    " (func (export \"steps\") (param $n i32) (result i32) (local $s i32)"
    "   (loop $l (local.set $s (i32.add (local.get $s) (call $append (i32.const 1) (i32.const 0))))"
    "     (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))) (local.get $s)))";

static void arguments_arrive(void **state) {
    sp_engine *engine = test_engine(&hooks);
    sp_guest *guest = test_guest(engine, program, NULL);
    sp_guest_counters counters;
    (void)state;
    reset();
    assert_int_equal(test_call(guest, "sum", (int64_t[]){-3, INT64_C(1) << 50}, 2), SP_GUEST_IDLE);
    assert_int_equal(sp_guest_result(guest), -3 + (INT64_C(1) << 50) * 1000);
    assert_int_equal(test_result(guest, "append", 25, 1), SP_OK);
    assert_int_equal(sessions[0].token_count, 25);
    assert_int_equal(test_result(guest, "append", -1, 1), SP_INVALID);
    assert_int_equal(test_result(guest, "matmul", 77, 1), SP_OK);
    assert_int_equal(sp_region_base(sp_guest_region(guest))[50], 77);
    assert_int_equal(test_result(guest, "append", 1, 1), SP_OK);
    sp_guest_get_counters(guest, &counters);
    assert_int_equal(counters.host_calls, 5);
    assert_int_equal(counters.prompt_tokens, 25);
    assert_int_equal(counters.generated_tokens, 1);
    assert_true(counters.compute_ns >= counters.prompt_ns + counters.generated_ns);
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

/* A hundred guests on one thread, twenty steps each, always together. */
static void many_are_computed_together(void **state) {
    enum { STEPS = 20 };
    sp_engine *engine = test_engine_with(&hooks, 1000); /* no slice ends, or somebody would miss a batch */
    sp_guest *guests[GUESTS];
    sp_error error = {0};
    (void)state;
    reset();
    for (int64_t i = 0; i < GUESTS; i++) {
        guests[i] = test_guest(engine, program, NULL);
        assert_int_equal(test_call(guests[i], "own", &i, 1), SP_GUEST_IDLE);
    }
    for (int i = 0; i < GUESTS; i++) {
        TEST_OK(sp_guest_start(guests[i], "steps", &(int64_t){STEPS}, 1, &error), error);
    }
    assert_int_equal(sp_engine_run(engine, NULL, 20000), SP_OK);
    for (int i = 0; i < GUESTS; i++) {
        assert_int_equal(sp_guest_get_state(guests[i]), SP_GUEST_IDLE);
        assert_int_equal(sp_guest_result(guests[i]), 0);
        assert_int_equal(sessions[i].token_count, STEPS);
        test_guest_end(guests[i]);
    }
    assert_int_equal(played.count, STEPS);
    for (uint32_t i = 0; i < played.count; i++) {
        assert_int_equal(played.parts[i], GUESTS);
    }
    sp_engine_destroy(engine);
}

static void models_are_not_mixed(void **state) {
    sp_engine *engine = test_engine(&hooks);
    sp_guest *guests[4];
    sp_error error = {0};
    (void)state;
    reset();
    sessions[1].model = sessions[3].model = (sp_model *)(void *)&played; /* only compared */
    for (int64_t i = 0; i < 4; i++) {
        guests[i] = test_guest(engine, program, NULL);
        assert_int_equal(test_call(guests[i], "own", &i, 1), SP_GUEST_IDLE);
        TEST_OK(sp_guest_start(guests[i], "append", &(int64_t){2}, 1, &error), error);
    }
    assert_int_equal(sp_engine_run(engine, NULL, 20000), SP_OK);
    assert_int_equal(played.count, 2);
    assert_int_equal(played.parts[0], 2);
    assert_int_equal(played.parts[1], 2);
    for (int i = 0; i < 4; i++) {
        test_guest_end(guests[i]);
    }
    sp_engine_destroy(engine);
}

static void a_failure_is_the_result(void **state) {
    sp_engine *engine = test_engine(&hooks);
    sp_guest *guest = test_guest(engine, program, NULL);
    (void)state;
    reset();
    played.failure = SP_DEVICE_LOST;
    assert_int_equal(test_result(guest, "append", 3, 1), SP_DEVICE_LOST);
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

static void an_interrupt_stops_a_long_prompt(void **state) {
    sp_engine *engine = test_engine(&hooks);
    sp_guest *guest = test_guest(engine, program, NULL);
    (void)state;
    reset();
    played.interrupt = guest;
    assert_int_equal(test_result(guest, "append", 1000, 1), SP_CANCELLED);
    assert_int_equal(sessions[0].token_count, CHUNK_TOKENS);
    /* One computation at most: the guest may compute on before it asks. */
    assert_int_equal(test_result(guest, "append", 1000, 1), SP_OK);
    assert_int_equal(test_result(guest, "interrupted", 0, 0), 1);
    assert_int_equal(test_result(guest, "interrupted", 0, 0), 0);
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

/* The guest that is meant stops, and the other's computation is whole all the same. */
static void terminating_one_of_a_batch(void **state) {
    sp_engine *engine = test_engine(&hooks);
    sp_guest *guests[2];
    sp_error error = {0};
    (void)state;
    for (int all = 0; all < 2; all++) {
        reset();
        for (int64_t i = 0; i < 2; i++) {
            guests[i] = test_guest(engine, program, NULL);
            assert_int_equal(test_call(guests[i], "own", &i, 1), SP_GUEST_IDLE);
            TEST_OK(sp_guest_start(guests[i], i && all ? "append_all" : "append", &(int64_t){500}, 1, &error), error);
        }
        sessions[1].token_count = 7;
        played.terminate = guests[0];
        assert_int_equal(sp_engine_run(engine, NULL, 20000), SP_OK);
        test_failed(guests[0], SP_CANCELLED, "terminated in append");
        assert_int_equal(sp_guest_get_state(guests[1]), SP_GUEST_IDLE);
        assert_int_equal(sp_guest_result(guests[1]), SP_OK);
        assert_int_equal(sessions[0].token_count, CHUNK_TOKENS);
        assert_int_equal(sessions[1].token_count, 507);
        assert_int_equal(played.count, 2);
        test_guest_end(guests[0]);
        test_guest_end(guests[1]);
    }
    sp_engine_destroy(engine);
}

static void a_deadline_counts_computing(void **state) {
    sp_engine *engine = test_engine(&hooks);
    sp_guest_options options = {.deadline_ms = 20};
    sp_guest *guest = test_guest(engine, program, &options);
    (void)state;
    reset();
    played.chunk_ns = 1000000;
    assert_int_equal(test_call(guest, "append", &(int64_t){100000}, 1), SP_GUEST_FAILED);
    test_failed(guest, SP_TIMEOUT, "in append for longer than its limit of 20 ms");
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

/* A long prompt lets others have their turn, and a spinner lets the prompt go on. */
static void computing_and_spinning_share(void **state) {
    sp_engine *engine = test_engine(&hooks);
    sp_guest *reader = test_guest(engine, program, NULL), *spinner = test_guest(engine, program, NULL);
    sp_guest_counters counters;
    sp_error error = {0};
    (void)state;
    reset();
    played.chunk_ns = 5000000;
    TEST_OK(sp_guest_start(spinner, "spin", NULL, 0, &error), error);
    assert_int_equal(test_call(reader, "append", &(int64_t){200}, 1), SP_GUEST_IDLE); /* 20 chunks: 100 ms */
    assert_int_equal(sp_guest_result(reader), SP_OK);
    assert_int_equal(sessions[0].token_count, 200);
    assert_true(played.count >= 2);
    sp_guest_get_counters(spinner, &counters);
    assert_true(counters.slices >= 2);
    test_guest_end(reader);
    test_guest_end(spinner);
    sp_engine_destroy(engine);
}

/* A conversation beside a long prompt: each of its tokens waits for one chunk, not for the prompt. */
static void a_conversation_goes_on_beside_a_prompt(void **state) {
    enum { STEPS = 20, PROMPT = 100000 };
    static const char *const prompts[] = {"append", "append_all"};
    sp_engine *engine = test_engine_with(&hooks, 1000);
    (void)state;
    for (int all = 0; all < 2; all++) {
        sp_guest *reader = test_guest(engine, program, NULL), *talker = test_guest(engine, program, NULL);
        sp_error error = {0};
        reset();
        assert_int_equal(test_call(talker, "own", &(int64_t){1}, 1), SP_GUEST_IDLE);
        /* Rows of all logits cannot be pieced together: few of them, beside one who wants more of the others. */
        TEST_OK(sp_guest_start(reader, prompts[all], &(int64_t){all ? CHUNK_TOKENS : PROMPT}, 1, &error), error);
        TEST_OK(sp_guest_start(talker, all ? "append" : "steps", &(int64_t){all ? PROMPT : STEPS}, 1, &error), error);
        assert_int_equal(sp_engine_run(engine, all ? reader : talker, 20000), SP_OK);
        uint32_t steps = all ? 1 : STEPS;
        assert_int_equal(sp_guest_result(all ? reader : talker), SP_OK);
        assert_in_range(sessions[all].token_count, steps * CHUNK_TOKENS, (steps + 1) * CHUNK_TOKENS);
        test_guest_end(reader);
        test_guest_end(talker);
    }
    sp_engine_destroy(engine);
}

/* The same with two models: computing for one takes turns with computing for the other. */
static void a_conversation_goes_on_beside_another_models_prompt(void **state) {
    enum { PROMPT = 100000 };
    sp_engine *engine = test_engine_with(&hooks, 1000);
    sp_guest *reader = test_guest(engine, program, NULL), *talker = test_guest(engine, program, NULL);
    sp_error error = {0};
    (void)state;
    reset();
    played.chunk_ns = 1000000;                       /* the prompt takes 10 s, and a turn of it some 20 ms */
    sessions[1].model = (sp_model *)(void *)&played; /* only compared */
    assert_int_equal(test_call(talker, "own", &(int64_t){1}, 1), SP_GUEST_IDLE);
    TEST_OK(sp_guest_start(reader, "append", &(int64_t){PROMPT}, 1, &error), error);
    TEST_OK(sp_guest_start(talker, "steps", &(int64_t){5}, 1, &error), error);
    assert_int_equal(sp_engine_run(engine, talker, 20000), SP_OK);
    assert_int_equal(sp_guest_result(talker), SP_OK);
    assert_true(sessions[0].token_count < PROMPT / 2);
    test_guest_end(reader);
    test_guest_end(talker);
    sp_engine_destroy(engine);
}

/* What was appended before others had their turn is taken back. */
static void a_failure_in_the_middle_appends_nothing(void **state) {
    sp_engine *engine = test_engine_with(&hooks, 1000);
    sp_guest *reader = test_guest(engine, program, NULL), *talker = test_guest(engine, program, NULL);
    sp_error error = {0};
    (void)state;
    reset();
    sessions[0].token_count = 7;
    played.failure = SP_DEVICE_LOST;
    played.failure_from = 3;
    assert_int_equal(test_call(talker, "own", &(int64_t){1}, 1), SP_GUEST_IDLE);
    TEST_OK(sp_guest_start(reader, "append", &(int64_t){1000}, 1, &error), error);
    TEST_OK(sp_guest_start(talker, "steps", &(int64_t){3}, 1, &error), error);
    assert_int_equal(sp_engine_run(engine, NULL, 20000), SP_OK);
    assert_int_equal(sp_guest_result(reader), SP_DEVICE_LOST);
    assert_int_equal(sp_guest_result(talker), SP_OK);
    assert_int_equal(sessions[0].token_count, 7);
    assert_int_equal(sessions[1].token_count, 3);
    test_guest_end(reader);
    test_guest_end(talker);
    sp_engine_destroy(engine);
}

/* What runs on the guest's own fiber needs a real device's leave. */
static sp_device *lend_device(void) {
    sp_device *device;
    sp_error error = {0};
    TEST_OK(sp_device_open("cpu", NULL, &device, &error), error);
    for (int i = 0; i < GUESTS; i++) {
        sessions[i].device = device;
    }
    return device;
}

static void decoding_alone_waits_for_nobody(void **state) {
    sp_engine *engine = test_engine(&hooks);
    sp_guest *guest = test_guest(engine, program, NULL);
    sp_guest_counters counters;
    (void)state;
    reset();
    sp_device *device = lend_device();
    played.chunk_ns = 200000;
    assert_int_equal(test_result(guest, "decodes", 500, 1), 0); /* many slices long, and nobody is there to yield to */
    assert_int_equal(sessions[0].token_count, 500);
    assert_int_equal(played.count, 500);
    sp_guest_get_counters(guest, &counters);
    assert_int_equal(counters.generated_tokens, 500);
    assert_true(counters.run_ns >= UINT64_C(500) * 200000 && counters.compute_ns >= counters.run_ns);
    assert_true(counters.host_ns < counters.run_ns / 2); /* computing is no cost of the import */
    assert_true(counters.slices <= 5);
    assert_false(sp_guest_is_computing(guest));
    played.failure = SP_DEVICE_LOST;
    assert_int_equal(test_result(guest, "decodes", 3, 1), 3);
    test_guest_end(guest);
    sp_engine_destroy(engine);
    sp_device_close(device);
}

static void decoding_beside_others_waits_its_turn(void **state) {
    sp_engine *engine = test_engine(&hooks);
    sp_guest *guest = test_guest(engine, program, NULL), *spinner = test_guest(engine, program, NULL);
    sp_error error = {0};
    (void)state;
    reset();
    sp_device *device = lend_device();
    TEST_OK(sp_guest_start(spinner, "spin", NULL, 0, &error), error);
    assert_int_equal(test_result(guest, "decodes", 100, 1), 100);
    assert_int_equal(played.count, 0);
    test_guest_end(guest);
    test_guest_end(spinner);
    sp_engine_destroy(engine);
    sp_device_close(device);
}

/* Nothing takes a guest that decodes alone off its fiber, and still it ends when it must, and runs end in time. */
static void decoding_alone_can_be_ended(void **state) {
    sp_engine *engine = test_engine(&hooks);
    sp_guest_options options = {.deadline_ms = 60};
    sp_guest *guest = test_guest(engine, program, NULL), *late = test_guest(engine, program, &options);
    sp_error error = {0};
    (void)state;
    reset();
    sp_device *device = lend_device();
    played.chunk_ns = 1000000;
    TEST_OK(sp_guest_start(guest, "decodes", &(int64_t){1000000}, 1, &error), error);
    int64_t begin_ns = spi_clock_ns();
    assert_int_equal(sp_engine_run(engine, guest, 30), SP_TIMEOUT);
    assert_in_range(played.count, 1, 35);
    played.terminate = guest;
    assert_int_equal(sp_engine_run(engine, guest, 60000), SP_OK);
    test_failed(guest, SP_CANCELLED, "terminated in decodes");
    assert_int_equal(test_call(late, "decodes", &(int64_t){1000000}, 1), SP_GUEST_FAILED);
    test_failed(late, SP_TIMEOUT, "in decodes for longer than its limit of 60 ms");
    assert_true(spi_clock_ns() - begin_ns < INT64_C(30000000000));
    test_guest_end(guest);
    test_guest_end(late);
    sp_engine_destroy(engine);
    sp_device_close(device);
}

static void a_run_ends_in_the_middle_of_computing(void **state) {
    sp_engine *engine = test_engine(&hooks);
    sp_guest *guest = test_guest(engine, program, NULL);
    sp_error error = {0};
    (void)state;
    reset();
    played.chunk_ns = 2000000;
    TEST_OK(sp_guest_start(guest, "append", &(int64_t){200}, 1, &error), error);
    assert_int_equal(sp_engine_run(engine, guest, 10), SP_TIMEOUT);
    assert_true(sessions[0].token_count > 0 && sessions[0].token_count < 200);
    assert_int_equal(sp_engine_run(engine, guest, -1), SP_OK);
    assert_int_equal(sessions[0].token_count, 200);
    /* Destroying a guest that waits frees what it waits for: the leak checker looks. */
    TEST_OK(sp_guest_start(guest, "append", &(int64_t){200}, 1, &error), error);
    assert_int_equal(sp_engine_run(engine, guest, 5), SP_TIMEOUT);
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

/* Sleeping with poll_oneoff: one clock subscription at 0, of the time in milliseconds. */
static const char sleeper[] =
    "(module"
    " (import \"wasi_snapshot_preview1\" \"poll_oneoff\" (func $poll (param i32 i32 i32 i32) (result i32)))"
    " (import \"wasi_snapshot_preview1\" \"clock_time_get\" (func $time (param i32 i64 i32) (result i32)))"
    " (memory (export \"memory\") 1)"
    " (func $now (result i64) (drop (call $time (i32.const 1) (i64.const 0) (i32.const 500)))"
    "   (i64.load (i32.const 500)))"
    " (func (export \"sleep\") (param i32) (result i32) (local $begin i64) (local $errno i32)"
    "   (local.set $begin (call $now))"
    "   (i64.store (i32.const 0) (i64.const 0x1234)) (i32.store (i32.const 16) (i32.const 1))"
    "   (i64.store (i32.const 24) (i64.mul (i64.extend_i32_u (local.get 0)) (i64.const 1000000)))"
    "   (local.set $errno (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200)))"
    "   (if (local.get $errno) (then (return (i32.sub (i32.const 0) (local.get $errno)))))"
    "   (if (i32.ne (i32.load (i32.const 200)) (i32.const 1)) (then (return (i32.const -1000))))"
    "   (if (i64.ne (i64.load (i32.const 100)) (i64.const 0x1234)) (then (return (i32.const -1001))))"
    "   (i32.wrap_i64 (i64.div_u (i64.sub (call $now) (local.get $begin)) (i64.const 1000000))))"
    " (func (export \"sleep_until\") (param i32) (result i32) (local $begin i64)"
    "   (local.set $begin (call $now)) (i32.store (i32.const 16) (i32.const 1))"
    "   (i64.store (i32.const 24) (i64.add (local.get $begin)"
    "     (i64.mul (i64.extend_i32_u (local.get 0)) (i64.const 1000000))))"
    "   (i32.store16 (i32.const 40) (i32.const 1))"
    "   (if (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200)) (then (return (i32.const -1))))"
    "   (if (i32.ne (i32.load (i32.const 200)) (i32.const 1)) (then (return (i32.const -1000))))"
    "   (i32.wrap_i64 (i64.div_u (i64.sub (call $now) (local.get $begin)) (i64.const 1000000))))"
    " (func (export \"raw\") (param i32 i32 i32 i32) (result i32)"
    "   (call $poll (local.get 0) (local.get 1) (local.get 2) (local.get 3)))"
    " (func (export \"time\") (param i32 i32) (result i32) (call $time (local.get 0) (i64.const 0) (local.get 1))))";

static void sleeping_takes_its_time_and_no_more_of_others(void **state) {
    enum { SLEEPERS = 20 };
    sp_engine *engine = test_engine(&hooks);
    sp_guest *guests[SLEEPERS];
    sp_error error = {0};
    (void)state;
    int64_t begin_ns = spi_clock_ns();
    for (int i = 0; i < SLEEPERS; i++) {
        guests[i] = test_guest(engine, sleeper, NULL);
        TEST_OK(sp_guest_start(guests[i], i % 2 ? "sleep" : "sleep_until", &(int64_t){400}, 1, &error), error);
    }
    assert_int_equal(sp_engine_run(engine, NULL, 20000), SP_OK);
    /* One after the other they would need 8 s. */
    assert_true(spi_clock_ns() - begin_ns < INT64_C(7000000000));
    for (int i = 0; i < SLEEPERS; i++) {
        assert_in_range(sp_guest_result(guests[i]), 399, 7000);
        test_guest_end(guests[i]);
    }
    sp_engine_destroy(engine);
}

static void interrupt_soon(void *env) {
    spi_sleep_ns(20000000);
    sp_guest_interrupt(env);
}

static void terminate_soon(void *env) {
    spi_sleep_ns(20000000);
    sp_guest_terminate(env);
}

static void wake_soon(void *env) {
    spi_sleep_ns(20000000);
    sp_engine_wake(env);
}

static void sleepers_can_be_woken(void **state) {
    sp_engine *engine = test_engine(&hooks);
    sp_guest *guest = test_guest(engine, sleeper, NULL);
    int64_t hour = 3600000;
    spi_thread thread;
    sp_error error = {0};
    (void)state;
    assert_int_equal(spi_thread_start(&thread, "interrupt", interrupt_soon, guest), SP_OK);
    assert_int_equal(test_result(guest, "sleep", hour, 1), -27); /* EINTR */
    spi_thread_join(&thread);
    assert_true(spi_guest_take_interrupt(guest));

    assert_int_equal(spi_thread_start(&thread, "wake", wake_soon, engine), SP_OK);
    TEST_OK(sp_guest_start(guest, "sleep", &hour, 1, &error), error);
    assert_int_equal(sp_engine_run(engine, guest, 200), SP_TIMEOUT); /* it looked again and slept on */
    spi_thread_join(&thread);

    assert_int_equal(spi_thread_start(&thread, "terminate", terminate_soon, guest), SP_OK);
    assert_int_equal(sp_engine_run(engine, guest, 20000), SP_OK);
    spi_thread_join(&thread);
    test_failed(guest, SP_CANCELLED, "terminated in sleep");
    test_guest_end(guest);

    sp_guest_options options = {.deadline_ms = 20};
    guest = test_guest(engine, sleeper, &options);
    assert_int_equal(test_call(guest, "sleep", &hour, 1), SP_GUEST_FAILED);
    test_failed(guest, SP_TIMEOUT, "20 ms");
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

static void odd_polls_are_refused(void **state) {
    static const struct {
        int64_t words[4];
        int64_t errno_expected;
    } cases[] = {
        {{0, 100, 0, 200}, 28},      {{0, 100, 1025, 200}, 28},
        {{65500, 100, 1, 200}, 21},  {{0, 65530, 1, 200}, 21},
        {{0, 100, 1, 65534}, 21},    {{0, 100, 0xffffffff, 200}, 28},
        {{0xfffffff0, 0, 1, 0}, 21}, {{1000, 100, 1, 200}, 28}, /* a clock that there is not */
        {{1100, 100, 1, 200}, 28},   /* a tag that there is not */ {{1200, 100, 1, 200}, 0}, /* a stream: ready */
    };
    sp_engine *engine = test_engine(&hooks);
    sp_guest *guest = test_guest(engine, sleeper, NULL);
    uint8_t *base = sp_region_base(sp_guest_region(guest));
    (void)state;
    base[1000 + 16] = 9;
    base[1100 + 8] = 3;
    base[1200 + 8] = 1;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(test_call(guest, "raw", cases[i].words, 4), SP_GUEST_IDLE);
        assert_int_equal(sp_guest_result(guest), cases[i].errno_expected);
    }
    assert_int_equal(base[200], 1);
    assert_int_equal(base[100 + 10], 1);
    assert_int_equal(test_call(guest, "time", (int64_t[]){9, 0}, 2), SP_GUEST_IDLE);
    assert_int_equal(sp_guest_result(guest), 28);
    assert_int_equal(test_call(guest, "time", (int64_t[]){0, 65529}, 2), SP_GUEST_IDLE);
    assert_int_equal(sp_guest_result(guest), 21);
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

/* A start function that computes and sleeps is carried through, engine running or not. */
static void start_functions_may_wait(void **state) {
    sp_engine *engine = test_engine(&hooks);
    (void)state;
    reset();
    sp_guest *guest = test_guest(
        engine,
        "(module (import \"samepage\" \"append\" (func $append (param i32 i32) (result i32)))"
        " (import \"wasi_snapshot_preview1\" \"poll_oneoff\" (func $poll (param i32 i32 i32 i32) (result i32)))"
        " (memory (export \"memory\") 1)"
        " (func $s (drop (call $append (i32.const 12) (i32.const 0)))"
        "   (i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const 5000000))"
        "   (drop (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200))))"
        " (start $s))",
        NULL);
    assert_int_equal(sessions[0].token_count, 12);
    assert_int_equal(sp_region_base(sp_guest_region(guest))[200], 1);
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_arrive),
        cmocka_unit_test(many_are_computed_together),
        cmocka_unit_test(models_are_not_mixed),
        cmocka_unit_test(a_failure_is_the_result),
        cmocka_unit_test(an_interrupt_stops_a_long_prompt),
        cmocka_unit_test(terminating_one_of_a_batch),
        cmocka_unit_test(a_deadline_counts_computing),
        cmocka_unit_test(computing_and_spinning_share),
        cmocka_unit_test(a_conversation_goes_on_beside_a_prompt),
        cmocka_unit_test(a_conversation_goes_on_beside_another_models_prompt),
        cmocka_unit_test(a_failure_in_the_middle_appends_nothing),
        cmocka_unit_test(decoding_alone_waits_for_nobody),
        cmocka_unit_test(decoding_beside_others_waits_its_turn),
        cmocka_unit_test(decoding_alone_can_be_ended),
        cmocka_unit_test(a_run_ends_in_the_middle_of_computing),
        cmocka_unit_test(sleeping_takes_its_time_and_no_more_of_others),
        cmocka_unit_test(sleepers_can_be_woken),
        cmocka_unit_test(odd_polls_are_refused),
        cmocka_unit_test(start_functions_may_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
