/* tests/unit/test_store_tail.c - what lies behind full blocks, found again in a store's folder. The oracle is the guest
 * that went on without having been saved. */
#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "os/file.h"
#include "snapshot/store.h"
#include "support/durable_rig.h"

static char notices[1024], folder[64];
static const uint8_t key[SP_STORE_KEY_BYTES] = {7};

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

static void note(void *env, const char *text) {
    (void)env;
    snprintf(notices + strlen(notices), sizeof notices - strlen(notices), "%s\n", text);
}

static sp_store *open_store(const uint8_t *with, uint64_t bytes_max) {
    const sp_store_options options = {.folder = folder, .key = with, .notice = note, .bytes_max = bytes_max};
    sp_store *store = NULL;
    sp_error error = {0};
    notices[0] = 0;
    TEST_OK(sp_store_open(&options, &store, &error), error);
    return store;
}

/* How many tails there are, and the path of the last of them. */
static int tails(char *path, size_t capacity) {
    char name[96];
    int count = 0;
    snprintf(name, sizeof name, "%s/tails", folder);
    DIR *dir = opendir(name);
    assert_non_null(dir);
    for (const struct dirent *item; (item = readdir(dir));) {
        if (item->d_name[0] != '.') {
            snprintf(path, capacity, "%s/%s", name, item->d_name);
            count++;
        }
    }
    closedir(dir);
    return count;
}

static sp_snapshot *capture(sp_guest *guest, sp_store *store) {
    const sp_capture_options options = {.store = store, .without_cache = true};
    sp_snapshot *snapshot = NULL;
    sp_error error = {0};
    TEST_OK(sp_guest_capture(guest, &options, &snapshot, &error), error);
    TEST_OK(sp_store_take_tails(store, guest, &error), error);
    return snapshot;
}

static sp_guest *restore(durable_rig *rig, const sp_snapshot *snapshot, sp_store *store, sp_restore_report *report) {
    const sp_restore_options options = {.store = store, .report = report};
    return test_durable_restore(rig, snapshot, &options);
}

static void nothing_is_computed_again(void **state) {
    durable_rig *rig = *state;
    static const int lengths[] = {5, 63, 64, 70, 190};
    for (int encrypted = 0; encrypted < 2; encrypted++) {
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            char path[400];
            struct stat info;
            sp_restore_report report;
            test_folder_create(folder);
            sp_store *store = open_store(encrypted ? key : NULL, 0);
            sp_error error = {0};
            sp_guest *guest = test_durable_guest(rig, 512, true);
            TEST_OK(sp_store_attach_guest(store, guest, &error), error);
            test_durable_call(guest, "tell", 3, lengths[i], 2);
            sp_snapshot *snapshot = capture(guest, store);
            assert_int_equal(tails(path, sizeof path), 1);
            assert_int_equal(stat(path, &info), 0);
            assert_int_equal(info.st_mode & 0777, 0600);
            sp_store *later = open_store(encrypted ? key : NULL, 0); /* another process would see the same */
            sp_guest *other = restore(rig, snapshot, later, &report);
            assert_int_equal(report.computed_tokens, 0);
            assert_int_equal(report.mapped_tokens + report.copied_tokens, lengths[i]);
            assert_true(report.logits_are_restored);
            assert_string_equal(notices, "");
            test_durable_same(guest, other, 20);
            sp_guest_destroy(other);
            sp_guest_destroy(guest);
            sp_snapshot_close(snapshot);
            sp_store_close(later);
            sp_store_close(store);
            test_folder_remove(folder);
        }
    }
}

static void damage_is_found_and_computed_again(void **state) {
    durable_rig *rig = *state;
    char path[400];
    for (int encrypted = 0; encrypted < 2; encrypted++) {
        void *good;
        size_t bytes;
        sp_error error = {0};
        test_folder_create(folder);
        sp_store *store = open_store(encrypted ? key : NULL, 0);
        sp_guest *guest = test_durable_guest(rig, 512, false);
        TEST_OK(sp_store_attach_guest(store, guest, &error), error);
        test_durable_call(guest, "tell", 3, 70, 2);
        sp_snapshot *snapshot = capture(guest, store);
        assert_int_equal(tails(path, sizeof path), 1);
        TEST_OK(spi_file_read(path, SIZE_MAX, &good, &bytes, &error), error);
        /* Each field of the header, the first and last of what is behind it; then cut short in several places. */
        const size_t places[] = {0,   8,   12,  16,  20,   24,        32, 40, 48,  60,  80,  100,      104,
                                 119, 120, 135, 136, 5000, bytes - 1, 0,  1,  135, 136, 137, bytes - 1};
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            bool is_cut = i >= 19;
            sp_restore_report report;
            uint8_t *bad = spi_alloc(bytes, 1);
            memcpy(bad, good, bytes);
            bad[places[i]] ^= is_cut ? 0 : 4;
            TEST_OK(spi_file_write(path, bad, is_cut ? places[i] : bytes, false, &error), error);
            spi_free(bad);
            notices[0] = 0;
            sp_guest *other = restore(rig, snapshot, store, &report);
            assert_int_equal(report.computed_tokens, 6);
            assert_non_null(strstr(notices, "damaged"));
            assert_int_equal(tails(path, sizeof path), 0); /* or the next would find it, too */
            sp_guest_destroy(other);
        }
        for (int is_bad = 1; is_bad >= 0; is_bad--) { /* looked at by itself, too */
            uint64_t damaged;
            ((uint8_t *)good)[bytes - 3] ^= (uint8_t)is_bad;
            TEST_OK(spi_file_write(path, good, bytes, false, &error), error);
            ((uint8_t *)good)[bytes - 3] ^= (uint8_t)is_bad;
            TEST_OK(sp_store_verify(store, &damaged, &error), error);
            assert_int_equal(damaged, is_bad);
            assert_int_equal(tails(path, sizeof path), !is_bad);
        }
        sp_restore_report report;
        sp_guest *other = restore(rig, snapshot, store, &report);
        assert_int_equal(report.computed_tokens, 0);
        test_durable_same(guest, other, 10);
        sp_guest_destroy(other);
        spi_free(good);
        sp_guest_destroy(guest);
        sp_snapshot_close(snapshot);
        sp_store_close(store);
        test_folder_remove(folder);
    }
}

/* As many logits as there can be, in a file that has a few: no memory is made for what is not there. */
/* A process that is killed while it writes a tail leaves a part of it, under the name that whoever gets there again
 * uses. */
static void a_torn_one_is_written_again(void **state) {
    durable_rig *rig = *state;
    char path[400];
    sp_restore_report report;
    sp_error error = {0};
    test_folder_create(folder);
    for (int again = 0; again < 2; again++) {
        sp_store *store = open_store(NULL, 0), *later = open_store(NULL, 0);
        sp_guest *guest = test_durable_guest(rig, 512, true);
        TEST_OK(sp_store_attach_guest(store, guest, &error), error);
        test_durable_call(guest, "tell", 3, 70, 2);
        sp_snapshot *snapshot = capture(guest, store);
        assert_int_equal(tails(path, sizeof path), 1);
        if (again) {
            sp_guest *other = restore(rig, snapshot, later, &report);
            assert_int_equal(report.computed_tokens, 0);
            assert_string_equal(notices, "");
            sp_guest_destroy(other);
        } else {
            assert_int_equal(truncate(path, 100), 0);
        }
        sp_guest_destroy(guest);
        sp_snapshot_close(snapshot);
        sp_store_close(later);
        sp_store_close(store);
    }
    test_folder_remove(folder);
}

static void a_header_asks_for_much(void **state) {
    durable_rig *rig = *state;
    char path[400];
    uint8_t *bytes;
    size_t count;
    uint64_t damaged, vocab = 1u << 24;
    sp_error error = {0};
    test_folder_create(folder);
    sp_store *store = open_store(NULL, 0);
    sp_guest *guest = test_durable_guest(rig, 512, false);
    TEST_OK(sp_store_attach_guest(store, guest, &error), error);
    test_durable_call(guest, "tell", 3, 70, 2);
    sp_snapshot_close(capture(guest, store));
    sp_guest_destroy(guest);
    sp_store_close(store);
    store = open_store(NULL, 0); /* which has no memory for one yet */
    assert_int_equal(tails(path, sizeof path), 1);
    TEST_OK(spi_file_read(path, SIZE_MAX, (void **)&bytes, &count, &error), error);
    bytes[20] = 4; /* rows of logits; the fields are docs/store-format.md's */
    memcpy(bytes + 32, &vocab, sizeof vocab);
    spi_hash hash = spi_hash_bytes(bytes, 120, 0x7461696c);
    memcpy(bytes + 120, &hash, sizeof hash);
    TEST_OK(spi_file_write(path, bytes, count, false, &error), error);
    spi_free(bytes);
    TEST_OK(sp_store_verify(store, &damaged, &error), error);
    assert_int_equal(damaged, 1);
    assert_true(store->scratch_bytes < 1u << 20);
    sp_store_close(store);
    test_folder_remove(folder);
}

static void the_latest_stays_and_what_is_wanted(void **state) {
    durable_rig *rig = *state;
    char path[400];
    sp_error error = {0};
    test_folder_create(folder);
    sp_store *store = open_store(NULL, 0);
    sp_guest *guest = test_durable_guest(rig, 512, false);
    TEST_OK(sp_store_attach_guest(store, guest, &error), error);
    for (int turn = 0; turn < 6; turn++) {
        test_durable_call(guest, "tell", turn, 1, 2);
        sp_snapshot_close(capture(guest, store));
        sp_snapshot_close(capture(guest, store)); /* nothing has changed: it is the same */
        assert_int_equal(tails(path, sizeof path), turn ? 2 + (turn > 3) : 1);
        sp_store_settle_tails(store, guest, turn == 3);
        sp_store_settle_tails(store, guest, false);
        assert_int_equal(tails(path, sizeof path), turn < 3 ? 1 : 2);
    }
    sp_store_stats stats;
    sp_store_get_stats(store, &stats);
    uint64_t bytes = stats.tail_bytes;
    assert_true(bytes > 0);
    sp_store *other = open_store(NULL, 0);
    sp_store_get_stats(other, &stats);
    assert_int_equal(stats.tail_bytes, bytes);
    sp_store_close(other);
    TEST_OK(sp_store_gc(store, 8, NULL, &error), error);
    assert_int_equal(tails(path, sizeof path), 0);
    sp_guest_destroy(guest);
    sp_store_close(store);
    /* A small store keeps what fits into its share. */
    store = open_store(NULL, bytes * 16);
    guest = test_durable_guest(rig, 512, false);
    TEST_OK(sp_store_attach_guest(store, guest, &error), error);
    for (int turn = 0; turn < 20; turn++) {
        test_durable_call(guest, "tell", turn, 1, 2);
        sp_snapshot_close(capture(guest, store));
        sp_store_settle_tails(store, guest, true);
        sp_store_get_stats(store, &stats);
        assert_true(stats.tail_bytes <= bytes * 2);
    }
    sp_guest_destroy(guest);
    sp_store_close(store);
    test_folder_remove(folder);
}

static atomic_int fault_countdown; /* of whatever thread */

static int fault(spi_file_op op) {
    return (op == SPI_FILE_WRITE || op == SPI_FILE_READ) && atomic_fetch_sub(&fault_countdown, 1) == 0 ? EIO : 0;
}

static void a_bad_disk_costs_time_only(void **state) {
    durable_rig *rig = *state;
    sp_error error = {0};
    for (int after = 0; after < 4; after++) {
        sp_restore_report report;
        test_folder_create(folder);
        sp_store *store = open_store(NULL, 0);
        sp_guest *guest = test_durable_guest(rig, 512, false);
        TEST_OK(sp_store_attach_guest(store, guest, &error), error);
        test_durable_call(guest, "tell", 3, 10, 2);
        const sp_capture_options options = {.store = store, .without_cache = true};
        sp_snapshot *snapshot = NULL;
        TEST_OK(sp_guest_capture(guest, &options, &snapshot, &error), error);
        fault_countdown = after;
        spi_file_set_fault(fault);
        assert_int_equal(sp_store_take_tails(store, guest, &error), after < 2 ? SP_IO : SP_OK);
        sp_guest *other = restore(rig, snapshot, store, &report);
        spi_file_set_fault(NULL);
        assert_int_equal(report.computed_tokens, 10);
        test_durable_same(guest, other, 5);
        sp_guest_destroy(other);
        sp_guest_destroy(guest);
        sp_snapshot_close(snapshot);
        sp_store_close(store);
        test_folder_remove(folder);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_computed_again),           cmocka_unit_test(damage_is_found_and_computed_again),
        cmocka_unit_test(a_torn_one_is_written_again),         cmocka_unit_test(a_header_asks_for_much),
        cmocka_unit_test(the_latest_stays_and_what_is_wanted), cmocka_unit_test(a_bad_disk_costs_time_only),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
