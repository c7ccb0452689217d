/* tests/unit/test_snapshot_refusals.c - what is damaged, of something else, or in the way is refused with the reason,
 * and nothing is left behind. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "os/file.h"
#include "snapshot/snapshot.h"
#include "support/durable_rig.h"
#include "support/tiny_model.h"

static durable_rig rig;
static sp_store *memory_store;

static int setup(void **state) {
    (void)state;
    sp_error error = {0};
    const sp_store_options options = {0};
    test_durable_open(&rig, false);
    TEST_OK(sp_store_open(&options, &memory_store, &error), error);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    sp_store_close(memory_store);
    test_durable_close(&rig);
    return 0;
}

/* A guest with every kind of section in its snapshot. */
static sp_snapshot *make_snapshot(sp_guest **guest) {
    sp_error error = {0};
    sp_snapshot *snapshot = NULL;
    const sp_capture_options options = {.store = memory_store, .inside = true, .extra = "mailbox 7", .extra_bytes = 9};
    *guest = test_durable_guest(&rig, 256, true);
    test_durable_call(*guest, "tell", 5, 100, 2);
    TEST_OK(sp_guest_capture(*guest, &options, &snapshot, &error), error);
    return snapshot;
}

static void refused(const uint8_t *bytes, size_t count, sp_status status, const char *part) {
    sp_snapshot *snapshot = NULL;
    sp_error error = {0};
    sp_status got = sp_snapshot_open_bytes(bytes, count, "the file", &snapshot, &error);
    if (got == SP_OK || (status && got != status) || (part && !strstr(error.message, part)) ||
        strchr(error.message, '\n')) {
        fail_msg("wanted \"%s\", got %s: %s", part ? part : "a refusal", sp_status_text(got), error.message);
    }
    assert_null(snapshot);
}

/* A bit in every section, in every field of the header and of the table, and between sections. */
static void every_flipped_bit_is_found(void **state) {
    (void)state;
    sp_guest *guest;
    sp_snapshot *snapshot = make_snapshot(&guest);
    size_t count;
    const void *bytes = sp_snapshot_bytes(snapshot, &count);
    uint8_t *bad = spi_alloc(count, 1);
    memcpy(bad, bytes, count);
    size_t head = sizeof(spi_snapshot_header) + snapshot->section_count * sizeof(spi_snapshot_section);
    assert_int_equal(snapshot->section_count, 10); /* one of each kind */
    for (size_t at = 0; at < head; at++) {
        bad[at] ^= (uint8_t)(1u << at % 8);
        refused(bad, count, SP_OK, NULL);
        bad[at] ^= (uint8_t)(1u << at % 8);
    }
    for (uint32_t i = 0; i < snapshot->section_count; i++) {
        const spi_snapshot_section *section = &snapshot->sections[i];
        const uint64_t places[] = {section->offset, section->offset + section->bytes / 2,
                                   section->offset + section->bytes - 1};
        for (int k = 0; k < 3; k++) {
            bad[places[k]] ^= 4;
            refused(bad, count, SP_BAD_FILE, spi_section_name(section->kind));
            bad[places[k]] ^= 4;
        }
        uint64_t end = i ? snapshot->sections[i - 1].offset + snapshot->sections[i - 1].bytes : head;
        if (end < section->offset) {
            bad[end] = 1;
            refused(bad, count, SP_BAD_FILE, "there is something before");
            bad[end] = 0;
        }
    }
    sp_snapshot *good = NULL;
    sp_error error = {0};
    TEST_OK(sp_snapshot_open_bytes(bad, count, "the file", &good, &error), error);
    sp_snapshot_close(good);
    for (size_t cut = 0; cut < count; cut += cut < head ? 7 : 4099) {
        refused(bad, cut, SP_BAD_FILE, NULL);
    }
    spi_free(bad);
    sp_snapshot_close(snapshot);
    sp_guest_destroy(guest);
}

/* A file whose checksums are right and whose contents are not: made by somebody who means it. */
static void reseal(uint8_t *bytes) {
    spi_snapshot_header header;
    memcpy(&header, bytes, sizeof header);
    spi_snapshot_section *table = (spi_snapshot_section *)(void *)(bytes + sizeof header);
    for (uint32_t i = 0; i < header.section_count; i++) {
        table[i].hash = spi_hash_bytes(bytes + table[i].offset, table[i].bytes, 0);
    }
    header.hash = spi_snapshot_header_hash(&header, table, header.section_count * sizeof *table);
    memcpy(bytes, &header, sizeof header);
}

static void forged_states_are_survived(void **state) {
    (void)state;
    sp_guest *guest;
    sp_snapshot *snapshot = make_snapshot(&guest);
    size_t count;
    const void *bytes = sp_snapshot_bytes(snapshot, &count);
    uint8_t *bad = spi_alloc(count, 1);
    test_random random = test_random_seed(test_seed());
    const spi_snapshot_section *section = spi_snapshot_find(snapshot, SPI_SECTION_STATE, 0);
    uint32_t opened = 0, restored = 0;
    for (int round = 0; round < 3000; round++) {
        memcpy(bad, bytes, count);
        uint32_t changes = 1 + test_random_below(&random, 3);
        for (uint32_t i = 0; i < changes; i++) {
            uint64_t at = section->offset + test_random_below(&random, (uint32_t)section->bytes);
            uint32_t word = test_random_below(&random, 4) ? (uint32_t)test_random_next(&random) : UINT32_MAX;
            memcpy(bad + at, &word, test_random_below(&random, 2) ? 1 : 4);
        }
        reseal(bad);
        sp_snapshot *read = NULL;
        sp_error error = {0};
        if (sp_snapshot_open_bytes(bad, count, "the file", &read, &error) == SP_OK) {
            sp_guest *made = NULL;
            const sp_restore_options options = {.recompute = true, .foreign = true};
            opened++;
            if (sp_guest_restore(read, rig.module, &rig.options, &options, &made, &error) == SP_OK) {
                restored++;
                const int64_t none[1] = {0};
                test_guest_signals();
                if (sp_guest_start(made, "next", none, 0, &error) == SP_OK) {
                    (void)sp_engine_run(rig.engine, made, 2000); /* it may trap: nothing else may happen */
                }
                sp_guest_destroy(made);
            } else {
                assert_null(made);
                assert_int_not_equal(error.message[0], 0);
            }
            sp_snapshot_close(read);
        }
    }
    print_message("of 3000 forged states %u were opened and %u restored\n", opened, restored);
    assert_true(opened > 0);
    test_durable_call(guest, "next", 0, 0, 0);
    spi_free(bad);
    sp_snapshot_close(snapshot);
    sp_guest_destroy(guest);
}

/* Only a delta may count on tokens from before: what was applied to such a base would read them where none are. */
static void a_whole_snapshot_has_all_tokens(void **state) {
    (void)state;
    sp_guest *guest;
    sp_snapshot *snapshot = make_snapshot(&guest);
    sp_snapshot_session session;
    size_t count, places = 0;
    const void *bytes = sp_snapshot_bytes(snapshot, &count);
    uint8_t *bad = spi_alloc(count, 1);
    memcpy(bad, bytes, count);
    assert_true(sp_snapshot_get_session(snapshot, 0, &session));
    /* As they stand behind each other: tokens at most, rows of logits at most and now, tokens, those from before. */
    const uint32_t is[5] = {session.context_max, 1, session.logits_rows, session.token_count, 0};
    const uint32_t becomes[5] = {session.context_max, 1, session.logits_rows, session.token_count + 1, 1};
    const spi_snapshot_section *section = spi_snapshot_find(snapshot, SPI_SECTION_STATE, 0);
    for (uint64_t at = section->offset; at + sizeof is <= section->offset + section->bytes; at++) {
        if (memcmp(bad + at, is, sizeof is) == 0) {
            memcpy(bad + at, becomes, sizeof becomes);
            places++;
        }
    }
    assert_int_equal(places, 1);
    reseal(bad);
    refused(bad, count, SP_BAD_FILE, "sessions");
    spi_free(bad);
    sp_snapshot_close(snapshot);
    sp_guest_destroy(guest);
}

static void a_newer_version_says_so(void **state) {
    (void)state;
    sp_guest *guest;
    sp_snapshot *snapshot = make_snapshot(&guest);
    size_t count;
    const void *bytes = sp_snapshot_bytes(snapshot, &count);
    uint8_t *bad = spi_alloc(count, 1);
    memcpy(bad, bytes, count);
    bad[8] = SPI_SNAPSHOT_VERSION + 1;
    reseal(bad);
    refused(bad, count, SP_UNSUPPORTED, "format version 3");
    memcpy(bad, bytes, count);
    bad[28] |= 4; /* a flag */
    reseal(bad);
    refused(bad, count, SP_UNSUPPORTED, "flags");
    memcpy(bad, bytes, count);
    bad[128] = 200; /* the kind of the first section */
    reseal(bad);
    refused(bad, count, SP_UNSUPPORTED, "kind");
    spi_free(bad);
    sp_snapshot_close(snapshot);
    sp_guest_destroy(guest);
}

static void encrypted_files_need_the_key(void **state) {
    (void)state;
    char folder[64], path[200];
    sp_guest *guest;
    sp_snapshot *snapshot = make_snapshot(&guest), *read = NULL;
    sp_error error = {0};
    const uint8_t key[SP_STORE_KEY_BYTES] = {1}, other[SP_STORE_KEY_BYTES] = {2};
    const sp_write_options options = {.key = key};
    test_folder_create(folder);
    snprintf(path, sizeof path, "%s/s", folder);
    TEST_OK(sp_snapshot_write(snapshot, path, &options, &error), error);
    assert_int_equal(sp_snapshot_open(path, NULL, &read, &error), SP_INVALID);
    assert_non_null(strstr(error.message, "give the key"));
    assert_int_equal(sp_snapshot_open(path, other, &read, &error), SP_INVALID);
    void *bytes;
    size_t count;
    TEST_OK(spi_file_read(path, SIZE_MAX, &bytes, &count, &error), error);
    uint8_t *bad = bytes;
    for (size_t at = 0; at < count; at += at < 64 ? 1 : count / 50) {
        bad[at] ^= 0x20;
        TEST_OK(spi_file_write(path, bad, count, false, &error), error);
        assert_int_not_equal(sp_snapshot_open(path, key, &read, &error), SP_OK);
        assert_null(read);
        bad[at] ^= 0x20;
    }
    for (size_t cut = 0; cut < count; cut += count / 20) {
        TEST_OK(spi_file_write(path, bad, cut, false, &error), error);
        assert_int_not_equal(sp_snapshot_open(path, key, &read, &error), SP_OK);
    }
    assert_int_equal(sp_snapshot_open("/nowhere/at/all", NULL, &read, &error), SP_NOT_FOUND);
    spi_free(bytes);
    sp_snapshot_close(snapshot);
    sp_guest_destroy(guest);
    test_folder_remove(folder);
}

static atomic_int fault_countdown, fault_errno; /* of whatever thread */

static int fault(spi_file_op op) {
    (void)op;
    return atomic_fetch_sub(&fault_countdown, 1) == 0 ? fault_errno : 0;
}

/* A write that fails anywhere leaves the file that was there, and nothing else. */
static void a_failed_write_changes_nothing(void **state) {
    (void)state;
    char folder[64], path[200], listing[256];
    sp_guest *guest;
    sp_snapshot *old = make_snapshot(&guest), *read = NULL;
    sp_error error = {0};
    const sp_write_options sync = {.sync = true};
    const int errors[] = {ENOSPC, EIO, -ENOSPC};
    test_folder_create(folder);
    snprintf(path, sizeof path, "%s/s", folder);
    TEST_OK(sp_snapshot_write(old, path, &sync, &error), error);
    test_durable_call(guest, "next", 0, 0, 0);
    sp_snapshot *fresh = test_durable_capture(guest, NULL);
    for (int kind = 0; kind < 3; kind++) {
        for (int after = 0;; after++) {
            fault_errno = errors[kind];
            fault_countdown = after;
            spi_file_set_fault(fault);
            sp_status status = sp_snapshot_write(fresh, path, &sync, &error);
            spi_file_set_fault(NULL);
            assert_true(status == SP_OK || status == SP_IO);
            sp_snapshot_info a, b, c;
            TEST_OK(sp_snapshot_open(path, NULL, &read, &error), error);
            sp_snapshot_get_info(read, &a);
            sp_snapshot_get_info(old, &b);
            sp_snapshot_get_info(fresh, &c);
            /* The old one, or the new one if only the folder's sync failed: never another. */
            bool is_new = memcmp(a.id, c.id, sizeof a.id) == 0;
            assert_true(is_new || memcmp(a.id, b.id, sizeof a.id) == 0);
            assert_true(is_new || status);
            sp_snapshot_close(read);
            TEST_OK(sp_snapshot_write(old, path, NULL, &error), error);
            snprintf(listing, sizeof listing, "test $(ls -A '%s' | wc -l) = 1", folder);
            assert_int_equal(system(listing), 0);
            if (!status) {
                assert_true(after >= 4);
                break;
            }
        }
    }
    sp_snapshot_close(fresh);
    sp_snapshot_close(old);
    sp_guest_destroy(guest);
    test_folder_remove(folder);
}

static void other_things_are_refused(void **state) {
    (void)state;
    sp_guest *guest, *made = NULL;
    sp_snapshot *snapshot = make_snapshot(&guest);
    sp_error error = {0};
    /* Another module. */
    sp_module *module = test_module(rig.engine, "(module (memory (export \"memory\") 1))");
    assert_int_equal(sp_guest_restore(snapshot, module, &rig.options, NULL, &made, &error), SP_INVALID);
    assert_non_null(strstr(error.message, "another module"));
    sp_module_close(module);
    /* No model, or under another name. */
    sp_guest_options options = rig.options;
    options.model_count = 0;
    assert_int_equal(sp_guest_restore(snapshot, rig.module, &options, NULL, &made, &error), SP_NOT_FOUND);
    const sp_guest_model renamed[] = {{.name = "other", .model = rig.model}};
    options.models = renamed;
    options.model_count = 1;
    assert_int_equal(sp_guest_restore(snapshot, rig.module, &options, NULL, &made, &error), SP_NOT_FOUND);
    assert_non_null(strstr(error.message, "under the name m"));
    /* No device. */
    options = rig.options;
    options.device = NULL;
    assert_int_equal(sp_guest_restore(snapshot, rig.module, &options, NULL, &made, &error), SP_NO_DEVICE);
    /* Too little memory. */
    options = rig.options;
    options.memory_bytes_max = 65536 * 4;
    assert_int_equal(sp_guest_restore(snapshot, rig.module, &options, NULL, &made, &error), SP_LIMIT);
    /* A guest that runs, has ended, or cannot be saved. */
    sp_snapshot *none = NULL;
    const int64_t arguments[2] = {0};
    TEST_OK(sp_guest_start(guest, "sum", arguments, 0, &error), error);
    assert_int_equal(sp_guest_capture(guest, NULL, &none, &error), SP_BUSY);
    test_guest_signals();
    (void)sp_engine_run(rig.engine, guest, -1);
    TEST_OK(sp_guest_start(guest, "_start", arguments, 0, &error), error);
    (void)sp_engine_run(rig.engine, guest, -1);
    assert_int_equal(sp_guest_capture(guest, NULL, &none, &error), SP_INVALID);
    assert_null(none);
    sp_guest *plain = test_guest(rig.engine, "(module (memory (export \"memory\") 1) (func $f) (elem func $f))", NULL);
    assert_int_equal(sp_guest_capture(plain, NULL, &none, &error), SP_UNSUPPORTED);
    assert_non_null(strstr(error.message, "passive"));
    test_guest_end(plain);
    sp_snapshot_close(snapshot);
    sp_guest_destroy(guest);
}

static void any_allocation_may_fail(void **state) {
    (void)state;
    sp_guest *guest = test_durable_guest(&rig, 256, true);
    test_durable_call(guest, "tell", 5, 100, 2);
    char folder[64], path[200];
    test_folder_create(folder);
    snprintf(path, sizeof path, "%s/s", folder);
    bool done = false;
    for (long i = 0; !done; i++) {
        const uint8_t key[SP_STORE_KEY_BYTES] = {1};
        const sp_store_options store_options = {0};
        const sp_write_options sealed = {.key = key};
        sp_store *store = NULL;
        sp_snapshot *snapshot = NULL, *read = NULL;
        sp_guest *restored = NULL, *fork = NULL;
        sp_error error = {0};
        assert_true(i < 3000);
        spi_memory_fail_after(i);
        sp_status status = sp_store_open(&store_options, &store, &error);
        const sp_capture_options capture = {.inside = true};
        status = status ? status : sp_guest_capture(guest, &capture, &snapshot, &error);
        status = status ? status : sp_snapshot_write(snapshot, path, &sealed, &error);
        status = status ? status : sp_snapshot_open(path, key, &read, &error);
        const sp_restore_options restore = {.store = store};
        status = status ? status : sp_guest_restore(read, rig.module, &rig.options, &restore, &restored, &error);
        status = status ? status : sp_guest_fork(restored, store, NULL, &fork, &error);
        spi_memory_fail_after(-1);
        if (status != SP_OK && status != SP_NO_MEMORY && status != SP_DEVICE_LOST) {
            fail_msg("%ld: %s: %s", i, sp_status_text(status), error.message);
        }
        done = status == SP_OK;
        if (done) {
            test_durable_same(restored, fork, 5);
        }
        sp_guest_destroy(fork);
        sp_guest_destroy(restored);
        sp_snapshot_close(read);
        sp_snapshot_close(snapshot);
        sp_store_close(store);
    }
    sp_guest_destroy(guest);
    test_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_flipped_bit_is_found),      cmocka_unit_test(forged_states_are_survived),
        cmocka_unit_test(a_whole_snapshot_has_all_tokens), cmocka_unit_test(a_newer_version_says_so),
        cmocka_unit_test(encrypted_files_need_the_key),    cmocka_unit_test(a_failed_write_changes_nothing),
        cmocka_unit_test(other_things_are_refused),        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
