/* tests/unit/test_snapshot.c - a guest captured, written, read and restored goes on as if nothing had happened. The oracle
 * is the guest that was never disturbed. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "os/file.h"
#include "support/durable_rig.h"

static int setup(void **state) {
    static durable_rig rig;
    test_durable_open(&rig, true);
    *state = &rig;
    return 0;
}

static int teardown(void **state) {
    test_durable_close(*state);
    return 0;
}

static void it_goes_on_as_it_would(void **state) {
    durable_rig *rig = *state;
    for (int sampled = 0; sampled < 2; sampled++) {
        sp_guest *guest = test_durable_guest(rig, 512, sampled);
        test_durable_call(guest, "tell", 5, 100, 2);
        for (int i = 0; i < 7; i++) {
            test_durable_call(guest, "next", 0, 0, 0);
        }
        sp_snapshot *snapshot = test_durable_capture(guest, NULL);
        sp_restore_report report;
        const sp_restore_options options = {.report = &report};
        sp_guest *restored = test_durable_restore(rig, snapshot, &options);
        sp_snapshot_close(snapshot);
        assert_int_equal(report.sessions, 1);
        assert_int_equal(report.computed_tokens, 0);
        assert_int_equal(report.mapped_tokens + report.copied_tokens, 107);
        assert_true(report.logits_are_restored);
        test_durable_same(guest, restored, 30);
        sp_guest_destroy(restored);
        sp_guest_destroy(guest);
    }
}

static void a_file_carries_it(void **state) {
    durable_rig *rig = *state;
    char folder[64], path[200];
    sp_error error = {0};
    struct stat info;
    const uint8_t key[SP_STORE_KEY_BYTES] = {1, 2, 3};
    test_folder_create(folder);
    snprintf(path, sizeof path, "%s/a.snap", folder);
    sp_guest *guest = test_durable_guest(rig, 512, true);
    test_durable_call(guest, "tell", 6, 200, 2);
    test_durable_call(guest, "next", 0, 0, 0);
    sp_snapshot *snapshot = test_durable_capture(guest, NULL), *read = NULL;
    for (int encrypted = 0; encrypted < 2; encrypted++) {
        const sp_write_options options = {.sync = true, .key = encrypted ? key : NULL};
        TEST_OK(sp_snapshot_write(snapshot, path, &options, &error), error);
        assert_int_equal(stat(path, &info), 0);
        assert_int_equal(info.st_mode & 0777, 0600);
        TEST_OK(sp_snapshot_open(path, options.key, &read, &error), error);
        sp_snapshot_info a, b;
        sp_snapshot_get_info(snapshot, &a);
        sp_snapshot_get_info(read, &b);
        assert_memory_equal(&a, &b, sizeof a);
        assert_true(a.has_blocks && a.has_module && !a.is_delta);
        sp_guest *restored = test_durable_restore(rig, read, NULL);
        sp_snapshot_close(read);
        sp_guest *other = test_durable_restore(rig, snapshot, NULL);
        test_durable_same(other, restored, 20);
        sp_guest_destroy(other);
        sp_guest_destroy(restored);
    }
    sp_snapshot_close(snapshot);
    sp_guest_destroy(guest);
    test_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_goes_on_as_it_would),
        cmocka_unit_test(a_file_carries_it),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
