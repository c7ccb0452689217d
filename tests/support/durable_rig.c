/* tests/support/durable_rig.c - see durable_rig.h. */
#include "support/durable_rig.h"

#include <string.h>

#include "support/kv_type.h"
#include "support/tiny_model.h"

void test_durable_open(durable_rig *rig, bool demo) {
    sp_error error = {0};
    const sp_device_options two = {.thread_count = 2};
    *rig = (durable_rig){.engine = test_engine(NULL)};
    TEST_OK(sp_device_open("cpu", &two, &rig->device, &error), error);
    if (demo) {
        TEST_OK(sp_model_open(test_source_path("models/samepage-demo-q8_0.gguf"), &rig->model, &error), error);
        TEST_OK(sp_model_load(rig->model, rig->device, NULL, NULL, &error), error);
    } else {
        rig->model = test_tiny_model(rig->device);
    }
    TEST_OK(sp_module_open(rig->engine, test_build_path("guests/test_durable.wasm"), &rig->module, &error), error);
    rig->models[0] = (sp_guest_model){.name = "m", .model = rig->model};
    rig->options =
        (sp_guest_options){.device = rig->device, .kv_type = test_kv_type(), .models = rig->models, .model_count = 1};
}

void test_durable_close(durable_rig *rig) {
    sp_module_close(rig->module);
    sp_engine_destroy(rig->engine);
    sp_model_close(rig->model);
    sp_device_close(rig->device);
}

int64_t test_durable_call(sp_guest *guest, const char *function, int64_t a, int64_t b, uint32_t count) {
    const int64_t arguments[2] = {a, b};
    test_guest_signals();
    if (test_call(guest, function, arguments, count) != SP_GUEST_IDLE) {
        fail_msg("%s: %s", function, sp_guest_error(guest)->message);
    }
    return sp_guest_result(guest);
}

sp_guest *test_durable_guest(durable_rig *rig, uint32_t context, bool sampled) {
    sp_guest *guest = NULL;
    sp_error error = {0};
    TEST_OK(sp_guest_create(rig->module, &rig->options, &guest, &error), error);
    assert_int_equal(test_durable_call(guest, "begin", context, sampled, 2), 0);
    return guest;
}

sp_snapshot *test_durable_capture(sp_guest *guest, sp_store *store) {
    const sp_capture_options options = {.store = store};
    sp_snapshot *snapshot = NULL;
    sp_error error = {0};
    TEST_OK(sp_guest_capture(guest, &options, &snapshot, &error), error);
    return snapshot;
}

sp_guest *test_durable_restore(durable_rig *rig, const sp_snapshot *snapshot, const sp_restore_options *options) {
    sp_guest *guest = NULL;
    sp_error error = {0};
    TEST_OK(sp_guest_restore(snapshot, rig->module, &rig->options, options, &guest, &error), error);
    return guest;
}

void test_durable_same(sp_guest *a, sp_guest *b, int tokens) {
    for (int i = 0; i < tokens; i++) {
        int64_t token = test_durable_call(a, "next", 0, 0, 0);
        assert_true(token >= 0);
        assert_int_equal(test_durable_call(b, "next", 0, 0, 0), token);
    }
    assert_int_equal(test_durable_call(a, "sum", 0, 0, 0), test_durable_call(b, "sum", 0, 0, 0));
}
