/* tests/unit/test_guest_crowd.c - a hundred guests on one thread share one model: each talks in a session of its own,
 * in its own memory, and says what a host program's loop says. And what the devices leave in a session's blocks
 * agrees. */
#include "support/guests.h"

#include <math.h>
#include <string.h>

#include "base/half.h"
#include "samepage/session.h"
#include "support/tiny_model.h"

enum { GUESTS = 100, STEPS = 70 }; /* over the border of a block */

static const char TALK[] =
    "(module"
    " (import \"samepage\" \"model_open\" (func $open (param i32 i32) (result i32)))"
    " (import \"samepage\" \"session_create\" (func $create (param i32 i32 i32) (result i32)))"
    " (import \"samepage\" \"session_append\" (func $append (param i32 i32 i32 i32) (result i32)))"
    " (import \"samepage\" \"sampler_create\" (func $sampler (param i32 i32) (result i32)))"
    " (import \"samepage\" \"session_sample\" (func $sample (param i32 i32) (result i32)))"
    " (import \"samepage\" \"session_pick\" (func $pick (param i32 i32 i32 i32) (result i32)))"
    " (import \"samepage\" \"session_edited\" (func $edited (param i32 i32 i32) (result i32)))"
    " (memory (export \"memory\") 1)"
    " (func (export \"edit\") (param i32 i32) (result i64)"
    "  (i64.extend_i32_s (call $edited (call $create (call $open (i32.const 0) (i32.const 0)) (i32.const 128)"
    "   (i32.const 1)) (local.get 0) (local.get 1))))"
    " (func $talk (export \"talk\") (param $token i32) (param $steps i32) (result i64)"
    "  (local $session i32) (local $sampler i32) (local $hash i64) (local $status i32)"
    "  (local.set $session (call $create (call $open (i32.const 0) (i32.const 0)) (i32.const 128) (i32.const 1)))"
    "  (local.set $sampler (call $sampler (i32.const 0) (i32.const 0)))"
    "  (loop $again"
    "   (i32.store (i32.const 1024) (local.get $token))"
    "   (local.set $status (call $append (local.get $session) (i32.const 1024) (i32.const 1) (i32.const 0)))"
    "   (if (i32.lt_s (local.get $status) (i32.const 0)) (then (return (i64.extend_i32_s (local.get $status)))))"
    "   (local.set $token (call $sample (local.get $session) (local.get $sampler)))"
    "   (local.set $hash (i64.add (i64.mul (local.get $hash) (i64.const 31)) (i64.extend_i32_s (local.get $token))))"
    "   (br_if $again (local.tee $steps (i32.sub (local.get $steps) (i32.const 1)))))"
    "  (local.get $hash))"
    " (func (export \"trap\") (param i32 i32) (result i64)"
    "  (drop (call $talk (local.get 0) (local.get 1))) (unreachable))"
    /* A prompt of so many tokens, all the same, and the token behind it. */
    " (func (export \"read\") (param $token i32) (param $count i32) (result i64) (local $session i32) (local $i i32)"
    "  (local.set $session (call $create (call $open (i32.const 0) (i32.const 0)) (i32.const 128) (i32.const 1)))"
    "  (loop $again"
    "   (i32.store (i32.add (i32.const 1024) (i32.mul (local.get $i) (i32.const 4))) (local.get $token))"
    "   (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $count))))"
    "  (i64.extend_i32_s (call $pick (local.get $session) (call $sampler (i32.const 0) (i32.const 0)) (i32.const 1024)"
    "   (local.get $count))))"
    /* The same in one import, without logits. */
    " (func (export \"talk_by_picks\") (param $token i32) (param $steps i32) (result i64)"
    "  (local $session i32) (local $sampler i32) (local $hash i64)"
    "  (local.set $session (call $create (call $open (i32.const 0) (i32.const 0)) (i32.const 128) (i32.const 1)))"
    "  (local.set $sampler (call $sampler (i32.const 0) (i32.const 0)))"
    "  (loop $again"
    "   (i32.store (i32.const 1024) (local.get $token))"
    "   (local.set $token (call $pick (local.get $session) (local.get $sampler) (i32.const 1024) (i32.const 1)))"
    "   (if (i32.lt_s (local.get $token) (i32.const 0)) (then (return (i64.extend_i32_s (local.get $token)))))"
    "   (local.set $hash (i64.add (i64.mul (local.get $hash) (i64.const 31)) (i64.extend_i32_s (local.get $token))))"
    "   (br_if $again (local.tee $steps (i32.sub (local.get $steps) (i32.const 1)))))"
    "  (local.get $hash)))";

/* The same loop without a guest. */
static int64_t talk(sp_model *model, sp_device *device, int32_t token) {
    sp_error error = {0};
    sp_session *session;
    sp_sampler *sampler;
    sp_session_options options = {.context_max = 128};
    uint64_t hash = 0;
    TEST_OK(sp_session_create(model, device, &options, &session, &error), error);
    TEST_OK(sp_sampler_create(NULL, &sampler, &error), error);
    for (int i = 0; i < STEPS; i++) {
        TEST_OK(sp_session_append(session, &token, 1, SP_LOGITS_LAST, &error), error);
        TEST_OK(sp_session_sample(session, sampler, &token, &error), error);
        hash = hash * 31 + (uint64_t)token;
    }
    sp_sampler_destroy(sampler);
    sp_session_destroy(session);
    return (int64_t)hash;
}

/* Guests of one module, with one model, on the device. */
typedef struct crowd {
    sp_model *model;
    sp_engine *engine;
    sp_module *module;
    sp_guest_model known;
    sp_guest_options options;
} crowd;

static void open_crowd(sp_device *device, crowd *all) {
    all->model = test_tiny_model(device);
    all->engine = test_engine(NULL);
    all->module = test_module(all->engine, TALK);
    all->known = (sp_guest_model){.name = "tiny", .model = all->model};
    all->options = (sp_guest_options){.device = device, .models = &all->known, .model_count = 1};
}

static void close_crowd(crowd *all) {
    sp_module_close(all->module);
    sp_engine_destroy(all->engine);
    sp_model_close(all->model);
}

static void a_hundred_guests_share_a_model(void **state) {
    (void)state;
    sp_error error = {0};
    sp_device *device;
    sp_device_options alone = {.thread_count =
                                   1}; /* seven thousand small runs: threads would only wait for each other */
    TEST_OK(sp_device_open("cpu", &alone, &device, &error), error);
    crowd all;
    open_crowd(device, &all);
    sp_guest *guests[GUESTS];
    for (int i = 0; i < GUESTS; i++) {
        int64_t arguments[2] = {i, STEPS};
        TEST_OK(sp_guest_create(all.module, &all.options, &guests[i], &error), error);
        TEST_OK(sp_guest_start(guests[i], i % 2 ? "talk" : "talk_by_picks", arguments, 2, &error), error);
    }
    sp_device_counters before, after;
    sp_device_get_counters(device, &before);
    assert_int_equal(sp_engine_run(all.engine, NULL, 60000), SP_OK);
    sp_device_get_counters(device, &after);
    /* Computed together: far fewer passes over the weights than tokens. */
    assert_true(after.runs - before.runs < GUESTS * STEPS / 10);
    for (int i = 0; i < GUESTS; i++) {
        assert_int_equal(sp_guest_get_state(guests[i]), SP_GUEST_IDLE);
        assert_int_equal(sp_guest_result(guests[i]), talk(all.model, device, i));
        sp_guest_destroy(guests[i]);
    }
    close_crowd(&all);
    sp_device_close(device);
}

/* A guest may say that it wrote to its keys and values, wherever it computes. */
static void edits_are_taken(sp_module *module, const sp_guest_options *options) {
    static const struct { int64_t words[2], result; } cases[] = {{{0, 100}, SP_OK}, {{0xffffffff, 1}, SP_BAD_POINTER}};
    sp_error error = {0};
    sp_guest *guest;
    TEST_OK(sp_guest_create(module, options, &guest, &error), error);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(test_call(guest, "edit", cases[i].words, 2), SP_GUEST_IDLE);
        assert_int_equal(sp_guest_result(guest), cases[i].result);
    }
    sp_guest_destroy(guest);
}

/* Guests in one batch with some that trap, are ended, give up or leave in the middle of it, and with a prompt: nobody
 * else notices, on any device. */
static void a_crowd_survives(const char *name) {
    enum { TALKERS = 8, TRAPS = TALKERS, ENDED, LEAVES, READS, ALL };
    sp_error error = {0};
    sp_device *device;
    sp_device_info info;
    if (sp_device_open(name, NULL, &device, &error)) {
        print_message("skipped: %s\n", error.message);
        skip();
    }
    sp_device_get_info(device, &info);
    crowd all;
    open_crowd(device, &all);
    sp_guest *guests[ALL];
    for (int i = 0; i <= READS; i++) {
        int64_t arguments[2] = {i, i == TRAPS ? 5 : i == READS ? 120 : STEPS};
        TEST_OK(sp_guest_create(all.module, &all.options, &guests[i], &error), error);
        TEST_OK(sp_guest_start(guests[i],
                               i == TRAPS   ? "trap"
                               : i == READS ? "read"
                                            : "talk",
                               arguments, 2, &error),
                error);
    }
    sp_guest_counters counters = {0};
    while (counters.generated_tokens < 10) { /* all are in the middle of it */
        assert_int_equal(sp_engine_run(all.engine, NULL, 1), SP_TIMEOUT);
        sp_guest_get_counters(guests[ENDED], &counters);
    }
    assert_true(counters.generated_tokens < STEPS);
    sp_guest_terminate(guests[ENDED]);
    sp_guest_destroy(guests[LEAVES]);
    assert_int_equal(sp_engine_run(all.engine, NULL, 60000), SP_OK);
    test_failed(guests[TRAPS], SP_TRAPPED, "unreachable");
    test_failed(guests[ENDED], SP_CANCELLED, "terminated");
    assert_int_equal(sp_guest_get_state(guests[READS]), SP_GUEST_IDLE);
    assert_in_range(sp_guest_result(guests[READS]), 0, TINY_VOCAB - 1);
    for (int i = 0; i < TALKERS; i++) {
        assert_int_equal(sp_guest_get_state(guests[i]), SP_GUEST_IDLE);
        if (info.is_software || !info.memory_bytes) { /* hardware has other kernels for several rows */
            assert_int_equal(sp_guest_result(guests[i]), talk(all.model, device, i));
        }
    }
    edits_are_taken(all.module, &all.options);
    for (int i = 0; i <= READS; i++) {
        sp_guest_destroy(i == LEAVES ? NULL : guests[i]);
    }
    close_crowd(&all);
    sp_device_close(device);
}

static void a_crowd_survives_on_the_processor(void **state) {
    (void)state;
    a_crowd_survives("cpu");
}

static void a_crowd_survives_on_vulkan(void **state) {
    (void)state;
    a_crowd_survives("vulkan");
}

static void a_crowd_survives_on_cuda(void **state) {
    (void)state;
    a_crowd_survives("cuda");
}

/* The bytes of a session's blocks after the same tokens. */
static sp_session *blocks_of(sp_model *model, sp_device *device) {
    sp_error error = {0};
    sp_session *session;
    int32_t tokens[STEPS];
    for (int i = 0; i < STEPS; i++) {
        tokens[i] = (i * 37 + 11) % (int)TINY_VOCAB;
    }
    sp_session_options options = {.context_max = 128};
    TEST_OK(sp_session_create(model, device, &options, &session, &error), error);
    TEST_OK(sp_session_append(session, tokens, STEPS, SP_LOGITS_LAST, &error), error);
    return session;
}

/* f32 sums in another order differ in the last bits and may round to the other neighbour in f16: 2^-10 of the value,
 * and for values near zero of the largest one's own error. That is so of kernels that keep numbers in f32; those for
 * cards round them on the way to matrix units (test_vulkan_program has their bounds). */
static void devices_leave_the_same_blocks(void **state) {
    (void)state;
    sp_error error = {0};
    sp_device *cpu, *vulkan;
    sp_device_options plain = {.isa = "reference"};
    if (sp_device_open("vulkan", NULL, &vulkan, &error)) {
        print_message("skipped: %s\n", error.message);
        skip();
    }
    sp_device_info info;
    sp_device_get_info(vulkan, &info);
    if (!info.is_software) {
        print_message("skipped: %s rounds on the way\n", info.description);
        sp_device_close(vulkan);
        skip();
    }
    TEST_OK(sp_device_open("cpu", &plain, &cpu, &error), error);
    sp_model *model = test_tiny_model(cpu);
    TEST_OK(sp_model_load(model, vulkan, NULL, NULL, &error), error);
    sp_session *a = blocks_of(model, cpu), *b = blocks_of(model, vulkan);
    sp_session_view view;
    sp_session_get_view(a, &view);
    const uint16_t *x = (const void *)(sp_region_base(sp_session_region(a)) + view.kv_offset);
    const uint16_t *y = (const void *)(sp_region_base(sp_session_region(b)) + view.kv_offset);
    float largest = 0;
    for (uint64_t i = 0; i < view.kv_bytes / 2; i++) {
        largest = fmaxf(largest, fabsf(spi_f16_to_f32(x[i])));
    }
    assert_true(largest > 0);
    for (uint64_t i = 0; i < view.kv_bytes / 2; i++) {
        float p = spi_f16_to_f32(x[i]), q = spi_f16_to_f32(y[i]);
        assert_true(fabsf(p - q) <= 0x1p-10f * fabsf(p) + 0x1p-20f * largest);
    }
    sp_session_destroy(a);
    sp_session_destroy(b);
    sp_model_close(model);
    sp_device_close(cpu);
    sp_device_close(vulkan);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hundred_guests_share_a_model), cmocka_unit_test(a_crowd_survives_on_the_processor),
        cmocka_unit_test(a_crowd_survives_on_vulkan),     cmocka_unit_test(a_crowd_survives_on_cuda),
        cmocka_unit_test(devices_leave_the_same_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
