/* tests/unit/test_hostile.c - tests/guests/hostile.c through the real engine, on the cpu device with a real, tiny
 * model: a guest that tries everything can spoil its own results and nothing else. A second guest beside it must
 * compute the very same bits before and after. */
#include "support/guests.h"

#include <string.h>

#include "samepage/device.h"
#include "support/tiny_model.h"

typedef struct stage {
    sp_engine *engine;
    sp_device *device;
    sp_model *model;
    sp_module *module;
    sp_guest *victim;
} stage;

static sp_guest *make(stage *s, uint64_t memory_bytes_max) {
    sp_guest_model models[] = {{.name = "tiny", .model = s->model}};
    sp_guest_options options = {.device = s->device,
                                .models = models,
                                .model_count = 1,
                                .memory_bytes_max = memory_bytes_max,
                                .handle_count_max = 40};
    sp_guest *guest = NULL;
    sp_error error = {0};
    TEST_OK(sp_guest_create(s->module, &options, &guest, &error), error);
    return guest;
}

static int setup(void **state) {
    static stage s;
    sp_error error = {0};
    s.engine = test_engine(NULL);
    TEST_OK(sp_device_open("cpu", NULL, &s.device, &error), error);
    s.model = test_tiny_model(s.device);
    TEST_OK(sp_module_open(s.engine, test_build_path("guests/test_hostile.wasm"), &s.module, &error), error);
    s.victim = make(&s, 0);
    *state = &s;
    return 0;
}

static int teardown(void **state) {
    stage *s = *state;
    sp_guest_destroy(s->victim);
    sp_module_close(s->module);
    sp_engine_destroy(s->engine);
    sp_model_close(s->model);
    sp_device_close(s->device);
    return 0;
}

/* Traps are signals, and cmocka has just put its own handlers there. */
static stage *start(void **state) {
    test_guest_signals();
    return *state;
}

static int64_t call(sp_guest *guest, const char *function, int64_t a, int64_t b, uint32_t count) {
    int64_t arguments[2] = {a, b};
    sp_guest_state state = test_call(guest, function, arguments, count);
    if (state != SP_GUEST_IDLE) {
        print_error("%s: %s\n", function, sp_guest_error(guest)->message);
    }
    assert_int_equal(state, SP_GUEST_IDLE);
    return sp_guest_result(guest);
}

static void test_storm(void **state) {
    stage *s = start(state);
    int64_t before = call(s->victim, "honest", 0, 0, 0);
    assert_int_not_equal(before, 0);
    for (int i = 0; i < 4; i++) {
        uint64_t seed = test_seed() + (uint64_t)i;
        sp_guest *guest = make(s, 64u << 20);
        int64_t succeeded = call(guest, "storm", (int32_t)seed, 20000, 2);
        print_message("seed %llu: %d of 20000 calls succeeded\n", (unsigned long long)seed, (int)succeeded);
        assert_true(succeeded > 1000);
        sp_guest_destroy(guest);
        assert_int_equal(call(s->victim, "honest", 0, 0, 0), before);
    }
}

static void test_spoil(void **state) {
    stage *s = start(state);
    int64_t before = call(s->victim, "honest", 0, 0, 0);
    sp_guest *guest = make(s, 0);
    assert_int_equal(call(guest, "spoil", 3, 0, 1), 0);
    /* It was its own memory only, and the pages are as good as new for whoever writes them first. */
    assert_int_equal(call(guest, "honest", 0, 0, 0), before);
    assert_int_equal(call(s->victim, "honest", 0, 0, 0), before);
    sp_guest_destroy(guest);
}

static void test_exhaust(void **state) {
    stage *s = start(state);
    sp_guest *guest = make(s, 96u << 20);
    assert_int_equal(call(guest, "exhaust", 0, 0, 0), 0);
    sp_guest_destroy(guest);
    guest = make(s, 0); /* handles run out before memory does */
    assert_int_equal(call(guest, "exhaust", 0, 0, 0), 0);
    sp_guest_destroy(guest);
}

static void test_foreign_handle(void **state) {
    stage *s = start(state);
    sp_guest *guest = make(s, 0);
    int32_t theirs = (int32_t)call(s->victim, "made", 0, 0, 0);
    assert_true(theirs > 0);
    assert_int_equal(call(s->victim, "use", theirs, 0, 1), 0);
    assert_int_equal(call(guest, "use", theirs, 0, 1), SP_BAD_HANDLE);
    sp_guest_destroy(guest);
}

static void test_wild(void **state) {
    stage *s = start(state);
    int64_t before = call(s->victim, "honest", 0, 0, 0);
    for (int64_t kind = 0; kind < 4; kind++) {
        sp_guest *guest = make(s, 0);
        assert_int_equal(test_call(guest, "wild", &kind, 1), SP_GUEST_FAILED);
        assert_int_equal(sp_guest_error(guest)->status, SP_TRAPPED);
        sp_guest_destroy(guest);
    }
    assert_int_equal(call(s->victim, "honest", 0, 0, 0), before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_storm, setup, teardown),
        cmocka_unit_test_setup_teardown(test_spoil, setup, teardown),
        cmocka_unit_test_setup_teardown(test_exhaust, setup, teardown),
        cmocka_unit_test_setup_teardown(test_foreign_handle, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wild, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
