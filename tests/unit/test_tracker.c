/* tests/unit/test_tracker.c - deltas on a base are the guest: the oracle is a full capture of it at the same time. */
#include <string.h>

#include "base/memory.h"
#include "guest/state.h"
#include "os/vm.h"
#include "support/durable_rig.h"

static int setup(void **state) {
    static durable_rig rig;
    test_durable_open(&rig, false);
    *state = &rig;
    return 0;
}

static int teardown(void **state) {
    test_durable_close(*state);
    return 0;
}

static void print_line(void *env, const char *text) {
    (void)env;
    print_error("differs: %s\n", text);
}

static void same(const sp_snapshot *a, const sp_snapshot *b) {
    bool is_same = false;
    sp_error error = {0};
    TEST_OK(sp_snapshot_diff(a, b, print_line, NULL, &is_same, &error), error);
    assert_true(is_same);
}

static sp_tracker *track(sp_guest *guest, const sp_snapshot *base, sp_tracking tracking) {
    const sp_tracker_options options = {.tracking = tracking};
    sp_tracker *tracker = NULL;
    sp_error error = {0};
    sp_status status = sp_tracker_create(guest, base, &options, &tracker, &error);
    if (status == SP_UNSUPPORTED && tracking == SP_TRACK_FAULTS) {
        print_message("%s\n", error.message);
        return NULL;
    }
    TEST_OK(status, error);
    return tracker;
}

static void deltas_make_the_guest(void **state) {
    durable_rig *rig = *state;
    sp_error error = {0};
    for (int way = SP_TRACK_FAULTS; way <= SP_TRACK_PROTECTION; way++) {
        test_random random = test_random_seed(test_seed());
        sp_guest *guest = test_durable_guest(rig, 256, true);
        test_durable_call(guest, "tell", 5, 40, 2);
        sp_snapshot *base = test_durable_capture(guest, NULL);
        sp_tracker *tracker = track(guest, base, (sp_tracking)way);
        for (int turn = 0; tracker && turn < 12; turn++) {
            uint32_t touched = test_random_below(&random, 40);
            for (uint32_t i = 0; i < touched; i++) {
                test_durable_call(guest, "touch", test_random_below(&random, 512), test_random_below(&random, 3), 2);
            }
            if (turn == 5) { /* its memory grows, and is linked again, while it is watched */
                test_durable_call(guest, "begin", 300, true, 2);
                test_durable_call(guest, "tell", 9, 70, 2);
            }
            test_durable_call(guest, "next", 0, 0, 0);
            sp_snapshot *delta = NULL, *result = NULL;
            TEST_OK(sp_tracker_delta(tracker, NULL, &delta, &error), error);
            TEST_OK(sp_snapshot_apply(base, delta, &result, &error), error);
            sp_snapshot *full = test_durable_capture(guest, NULL);
            same(result, full);
            sp_snapshot_close(full);
            if (turn % 3 == 2) { /* one in three is lost: the next has its changes, too */
                sp_snapshot_close(result);
            } else {
                sp_tracker_accept(tracker);
                sp_snapshot_close(base);
                base = result;
            }
            sp_snapshot_close(delta);
        }
        sp_tracker_destroy(tracker);
        sp_snapshot_close(base);
        sp_guest_destroy(guest);
    }
}

/* Nothing but the note says that a device wrote there. */
static void what_devices_wrote_is_in_a_delta(void **state) {
    durable_rig *rig = *state;
    sp_error error = {0};
    for (int way = SP_TRACK_FAULTS; way <= SP_TRACK_PROTECTION; way++) {
        sp_guest *guest = test_durable_guest(rig, 256, false);
        sp_snapshot *base = test_durable_capture(guest, NULL), *delta = NULL;
        sp_tracker *tracker = track(guest, base, (sp_tracking)way);
        if (tracker) {
            sp_snapshot_info info;
            spi_state_note_written(guest, 3 * 4096 + 100, 2 * 4096);
            TEST_OK(sp_tracker_delta(tracker, NULL, &delta, &error), error);
            sp_snapshot_get_info(delta, &info);
            assert_int_equal(info.page_bytes, 3 * 4096);
            sp_tracker_accept(tracker);
            sp_snapshot_close(delta);
            TEST_OK(sp_tracker_delta(tracker, NULL, &delta, &error), error);
            sp_snapshot_get_info(delta, &info);
            assert_int_equal(info.page_bytes, 0);
            sp_snapshot_close(delta);
        }
        sp_tracker_destroy(tracker);
        sp_snapshot_close(base);
        sp_guest_destroy(guest);
    }
}

static void pages_that_the_system_fills_are_not_protected(void **state) {
    durable_rig *rig = *state;
    sp_error error = {0};
    sp_module *module = test_module(rig->engine, "(module (import \"wasi_snapshot_preview1\" \"fd_read\" "
                                                 "(func (param i32 i32 i32 i32) (result i32)))"
                                                 "(memory (export \"memory\") 1))");
    const sp_tracker_options protect = {.tracking = SP_TRACK_PROTECTION};
    sp_guest *guest = NULL;
    sp_snapshot *base = NULL;
    sp_tracker *tracker = NULL;
    TEST_OK(sp_guest_create(module, NULL, &guest, &error), error);
    TEST_OK(sp_guest_capture(guest, NULL, &base, &error), error);
    assert_int_equal(sp_tracker_create(guest, base, &protect, &tracker, &error), SP_UNSUPPORTED);
    assert_null(tracker);
    TEST_OK(sp_tracker_create(guest, base, NULL, &tracker, &error), error);
    assert_int_not_equal(sp_tracker_get_tracking(tracker), SP_TRACK_PROTECTION);
    sp_tracker_destroy(tracker);
    sp_snapshot_close(base);
    sp_guest_destroy(guest);
    sp_module_close(module);
}

static void a_delta_is_as_large_as_what_changed(void **state) {
    durable_rig *rig = *state;
    sp_error error = {0};
    sp_guest *guest = test_durable_guest(rig, 1024, false);
    test_durable_call(guest, "tell", 5, 500, 2);
    sp_snapshot *base = test_durable_capture(guest, NULL), *delta = NULL;
    sp_tracker *tracker = track(guest, base, SP_TRACK_AUTO);
    for (int i = 0; i < 100; i++) {
        test_durable_call(guest, "touch", i * 3, i + 1, 2);
    }
    test_durable_call(guest, "tell", 6, 50, 2);
    TEST_OK(sp_tracker_delta(tracker, NULL, &delta, &error), error);
    sp_snapshot_info info;
    sp_snapshot_get_info(delta, &info);
    sp_snapshot_session session;
    assert_true(sp_snapshot_get_session(delta, 0, &session));
    assert_int_equal(session.token_first, 500);
    assert_int_equal(session.token_count, 50);
    /* Every third of 4 KiB, or all pages that are larger; and what malloc and the stack touch. */
    size_t page = spi_vm_page_bytes(), touched = page > 4096 ? 300 * 4096 / page : 100;
    assert_true(info.page_bytes >= touched * page && info.page_bytes <= (touched + 15) * page);
    assert_true((double)info.byte_count <= 1.2 * (double)(info.page_bytes + 50 * sizeof(int32_t)));
    sp_snapshot_close(delta);
    sp_tracker_destroy(tracker);
    sp_snapshot_close(base);
    sp_guest_destroy(guest);
}

/* What changed since the base becomes part of it. */
static void fold_delta(sp_tracker *tracker, sp_snapshot **base) {
    sp_error error = {0};
    sp_snapshot *delta = NULL, *result = NULL;
    TEST_OK(sp_tracker_delta(tracker, NULL, &delta, &error), error);
    sp_tracker_accept(tracker);
    TEST_OK(sp_snapshot_apply(*base, delta, &result, &error), error);
    sp_snapshot_close(delta);
    sp_snapshot_close(*base);
    *base = result;
}

static void a_guest_restored_from_deltas_goes_on(void **state) {
    durable_rig *rig = *state;
    sp_guest *guest = test_durable_guest(rig, 512, true);
    sp_snapshot *base = test_durable_capture(guest, NULL);
    sp_guest *other = test_durable_restore(rig, base, NULL);
    sp_tracker *tracker = track(other, base, SP_TRACK_AUTO);
    for (int turn = 0; turn < 3; turn++) {
        test_durable_call(guest, "tell", turn, 70, 2);
        test_durable_call(other, "tell", turn, 70, 2);
        fold_delta(tracker, &base);
    }
    sp_tracker_destroy(tracker);
    sp_guest_destroy(other);
    sp_restore_report report;
    const sp_restore_options options = {.report = &report};
    other = test_durable_restore(rig, base, &options);
    assert_int_equal(report.computed_tokens, 210); /* no store: tokens are the truth */
    sp_snapshot_close(base);
    test_durable_same(guest, other, 30);
    sp_guest_destroy(other);
    sp_guest_destroy(guest);
}

/* A session grows by deltas, which have no blocks: those of the base stay whole, and are of use. */
static void blocks_of_the_base_outlast_deltas(void **state) {
    durable_rig *rig = *state;
    sp_guest *guest = test_durable_guest(rig, 1024, true);
    test_durable_call(guest, "tell", 3, 650, 2);
    sp_snapshot *base = test_durable_capture(guest, NULL); /* without a store: with ten blocks inside */
    sp_tracker *tracker = track(guest, base, SP_TRACK_AUTO);
    for (int turn = 0; turn < 3; turn++) {
        test_durable_call(guest, "tell", turn, 70, 2);
        fold_delta(tracker, &base);
    }
    sp_restore_report report;
    const sp_restore_options options = {.report = &report};
    sp_guest *other = test_durable_restore(rig, base, &options);
    assert_int_equal(report.computed_tokens, 650 + 3 * 70 - 640);
    test_durable_same(guest, other, 30);
    sp_guest_destroy(other);
    sp_tracker_destroy(tracker);
    sp_snapshot_close(base);
    sp_guest_destroy(guest);
}

static void foreign_deltas_are_refused(void **state) {
    durable_rig *rig = *state;
    sp_error error = {0};
    sp_guest *guest = test_durable_guest(rig, 256, false);
    sp_snapshot *first = test_durable_capture(guest, NULL), *delta = NULL, *result = NULL;
    sp_tracker *tracker = track(guest, first, SP_TRACK_AUTO);
    test_durable_call(guest, "tell", 1, 10, 2);
    sp_snapshot *second = test_durable_capture(guest, NULL);
    TEST_OK(sp_tracker_delta(tracker, NULL, &delta, &error), error);
    assert_int_equal(sp_snapshot_apply(second, delta, &result, &error), SP_INVALID);
    assert_int_equal(sp_snapshot_apply(first, second, &result, &error), SP_INVALID);
    assert_int_equal(sp_snapshot_apply(delta, delta, &result, &error), SP_INVALID);
    assert_null(result);
    sp_guest *restored = NULL;
    assert_int_equal(sp_guest_restore(delta, rig->module, &rig->options, NULL, &restored, &error), SP_INVALID);
    assert_non_null(strstr(error.message, "delta"));
    assert_null(restored);
    bool same = true; /* it has the new tokens alone: there is nothing to compare those of before with */
    assert_int_equal(sp_snapshot_diff(second, delta, print_line, NULL, &same, &error), SP_INVALID);
    assert_int_equal(sp_snapshot_diff(delta, second, print_line, NULL, &same, &error), SP_INVALID);
    assert_false(same);
    sp_snapshot_close(delta);
    sp_snapshot_close(second);
    sp_snapshot_close(first);
    sp_tracker_destroy(tracker);
    sp_guest_destroy(guest);
}

static void any_allocation_may_fail(void **state) {
    durable_rig *rig = *state;
    sp_guest *guest = test_durable_guest(rig, 256, true);
    test_durable_call(guest, "tell", 5, 40, 2);
    sp_snapshot *base = test_durable_capture(guest, NULL);
    bool done = false;
    for (long i = 0; !done; i++) {
        sp_tracker *tracker = NULL;
        sp_snapshot *delta = NULL, *result = NULL;
        sp_error error = {0};
        assert_true(i < 2000);
        spi_memory_fail_after(i);
        sp_status status = sp_tracker_create(guest, base, NULL, &tracker, &error);
        status = status ? status : sp_tracker_delta(tracker, NULL, &delta, &error);
        status = status ? status : sp_snapshot_apply(base, delta, &result, &error);
        spi_memory_fail_after(-1);
        assert_true(status == SP_OK || status == SP_NO_MEMORY);
        done = status == SP_OK;
        if (done) {
            same(result, base);
        }
        sp_snapshot_close(result);
        sp_snapshot_close(delta);
        sp_tracker_destroy(tracker);
    }
    sp_snapshot_close(base);
    sp_guest_destroy(guest);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deltas_make_the_guest),
        cmocka_unit_test(what_devices_wrote_is_in_a_delta),
        cmocka_unit_test(pages_that_the_system_fills_are_not_protected),
        cmocka_unit_test(a_delta_is_as_large_as_what_changed),
        cmocka_unit_test(a_guest_restored_from_deltas_goes_on),
        cmocka_unit_test(blocks_of_the_base_outlast_deltas),
        cmocka_unit_test(foreign_deltas_are_refused),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
