/* tests/unit/test_metal_snapshot.c - a conversation of the demo model that begins on Metal (the stand-in of
 * tests/emulation), is saved there, and goes on elsewhere: on cpu, on Vulkan where there is one, and on Metal again,
 * with the same greedy tokens as where it began. */
#include "support/support.h"

#include <stdio.h>

#include "support/durable_rig.h"
#include "support/metal_rig.h"
#include "support/session_rig.h"

#define TOKENS 8

static void it_goes_on_elsewhere(void **state) {
    (void)state;
    durable_rig rig;
    sp_error error = {0};
    sp_device *there;
    metal_reset();
    test_durable_open(&rig, true);
    TEST_OK(sp_device_open("metal", NULL, &there, &error), error);
    TEST_OK(sp_model_load(rig.model, there, NULL, NULL, &error), error);
    sp_device *vulkan = test_rig_vulkan(rig.model);
    sp_guest_options on_metal = rig.options, on_vulkan = rig.options;
    on_metal.device = there;
    on_vulkan.device = vulkan;
    sp_guest *guest = NULL;
    TEST_OK(sp_guest_create(rig.module, &on_metal, &guest, &error), error);
    assert_int_equal(test_durable_call(guest, "begin", 512, 0, 2), 0);
    assert_true(test_durable_call(guest, "ask", 0, 0, 0) > 0);
    sp_snapshot *snapshot = test_durable_capture(guest, NULL);
    const sp_guest_options *others[] = {&rig.options, &on_metal, vulkan ? &on_vulkan : NULL};
    int64_t expected[TOKENS];
    for (int i = 0; i < TOKENS; i++) {
        expected[i] = test_durable_call(guest, "next", 0, 0, 0);
        assert_true(expected[i] >= 0);
    }
    for (size_t k = 0; k < sizeof others / sizeof others[0]; k++) {
        if (!others[k]) {
            print_message("no Vulkan device: not restored there\n");
            continue;
        }
        sp_guest *moved = NULL;
        sp_restore_report report;
        const sp_restore_options options = {.report = &report};
        TEST_OK(sp_guest_restore(snapshot, rig.module, others[k], &options, &moved, &error), error);
        assert_int_equal(report.computed_tokens, 0);
        for (int i = 0; i < TOKENS; i++) {
            assert_int_equal(test_durable_call(moved, "next", 0, 0, 0), expected[i]);
        }
        assert_int_equal(test_durable_call(moved, "sum", 0, 0, 0), test_durable_call(guest, "sum", 0, 0, 0));
        sp_guest_destroy(moved);
    }
    sp_device_counters counters;
    sp_device_get_counters(there, &counters);
    print_message("weights: %llu bytes in place in the mapped file, %llu copied\n",
                  (unsigned long long)counters.weights_in_place_bytes, (unsigned long long)counters.weights_own_bytes);
    assert_true(counters.weights_in_place_bytes > 9 * counters.weights_own_bytes);
    sp_snapshot_close(snapshot);
    sp_guest_destroy(guest);
    if (vulkan) {
        sp_model_unload(rig.model, vulkan);
        sp_device_close(vulkan);
    }
    sp_model_unload(rig.model, there);
    sp_device_close(there);
    test_durable_close(&rig);
    metal_check();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(it_goes_on_elsewhere)};
    return cmocka_run_group_tests(tests, metal_find, NULL);
}
