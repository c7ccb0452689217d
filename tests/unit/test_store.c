/* tests/unit/test_store.c - blocks found again, shared, damaged, evicted. The oracle of every result is a session
 * without a store. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"
#include "device/backend.h"
#include "os/file.h"
#include "session/session.h"
#include "snapshot/store.h"
#include "support/durable_rig.h"
#include "support/session_rig.h"

static char notices[1024];

static void note(void *env, const char *text) {
    (void)env;
    snprintf(notices + strlen(notices), sizeof notices - strlen(notices), "%s\n", text);
}

static sp_store *open_store(const char *folder, const uint8_t *key, uint64_t bytes_max) {
    const sp_store_options options = {.folder = folder, .key = key, .bytes_max = bytes_max, .notice = note};
    sp_store *store = NULL;
    sp_error error = {0};
    notices[0] = 0;
    TEST_OK(sp_store_open(&options, &store, &error), error);
    return store;
}

static sp_store_stats stats_of(sp_store *store) {
    sp_store_stats stats;
    sp_store_get_stats(store, &stats);
    return stats;
}

static sp_session *attached(sp_store *store, sp_model *model, sp_device *device) {
    sp_session *session = test_session_create(model, device, 1024, 1);
    sp_error error = {0};
    TEST_OK(sp_store_attach(store, session, &error), error);
    return session;
}

/* Appends through a session of the store; its logits must be those of one without. */
static void check_same(sp_store *store, uint64_t seed, uint32_t count) {
    int32_t tokens[1024];
    test_tokens(test_rig.demo, seed, tokens, count);
    sp_session *plain = test_session_create(test_rig.demo, test_rig.cpu, 1024, 1),
               *session = attached(store, test_rig.demo, test_rig.cpu);
    test_session_append(plain, tokens, count, SP_LOGITS_LAST);
    test_session_append(session, tokens, count, SP_LOGITS_LAST);
    assert_int_equal(sp_session_token_count(session), count);
    double distance =
        test_distance(sp_session_logits(plain, 0), sp_session_logits(session, 0), test_model_vocab(test_rig.demo));
    double size = test_rms(sp_session_logits(plain, 0), test_model_vocab(test_rig.demo));
    if (distance > size * 1e-2) {
        fail_msg("logits differ by %g of %g", distance, size);
    }
    sp_session_destroy(session);
    sp_session_destroy(plain);
}

static void a_prefix_is_found_again(void **state) {
    (void)state;
    sp_store *store = open_store(NULL, NULL, 0);
    check_same(store, 1, 300);
    assert_int_equal(stats_of(store).blocks, 4);
    assert_int_equal(stats_of(store).hits, 0);
    check_same(store, 1, 300);
    assert_int_equal(stats_of(store).hits, 4);
    assert_int_equal(stats_of(store).mapped_blocks, 4);
    assert_int_equal(stats_of(store).blocks, 4);
    check_same(store, 1, 256); /* the last token is computed for its logits: three blocks serve */
    assert_int_equal(stats_of(store).hits, 7);
    check_same(store, 2, 300);
    assert_int_equal(stats_of(store).blocks, 8);
    sp_store_close(store);
}

/* A session that goes back and on has other names for what comes then. */
static void truncating_forgets_names(void **state) {
    (void)state;
    int32_t tokens[512];
    sp_error error = {0};
    sp_store *store = open_store(NULL, NULL, 0);
    test_tokens(test_rig.tiny, 3, tokens, 512);
    sp_session *session = attached(store, test_rig.tiny, test_rig.cpu),
               *plain = test_session_create(test_rig.tiny, test_rig.cpu, 1024, 1);
    test_session_append(session, tokens, 200, SP_LOGITS_LAST);
    TEST_OK(sp_session_truncate(session, 100, &error), error);
    test_session_append(session, tokens + 300, 150, SP_LOGITS_LAST);
    test_session_append(plain, tokens, 100, SP_LOGITS_NONE);
    test_session_append(plain, tokens + 300, 150, SP_LOGITS_LAST);
    assert_int_equal(stats_of(store).blocks, 5); /* 0, 1 and 2 of the first, 1 and 2 of the second: the first is one */
    sp_session *again = attached(store, test_rig.tiny, test_rig.cpu);
    test_session_append(again, tokens, 100, SP_LOGITS_NONE);
    test_session_append(again, tokens + 300, 150, SP_LOGITS_LAST);
    assert_true(test_distance(sp_session_logits(plain, 0), sp_session_logits(again, 0),
                              test_model_vocab(test_rig.tiny)) < 1e-3);
    sp_session_destroy(again);
    sp_session_destroy(plain);
    sp_session_destroy(session);
    sp_store_close(store);
}

static void writing_does_not_reach_others(void **state) {
    (void)state;
    sp_store *store = open_store(NULL, NULL, 0);
    int32_t tokens[130];
    test_tokens(test_rig.demo, 4, tokens, 130);
    sp_session *a = attached(store, test_rig.demo, test_rig.cpu), *b = attached(store, test_rig.demo, test_rig.cpu);
    test_session_append(a, tokens, 130, SP_LOGITS_LAST);
    test_session_append(b, tokens, 130, SP_LOGITS_LAST);
    assert_true(b->is_mapped);
    uint64_t bytes = 4096;
    uint8_t *kept = spi_alloc(bytes, 1);
    sp_session *c = attached(store, test_rig.demo, test_rig.cpu);
    test_session_append(c, tokens, 130, SP_LOGITS_LAST);
    memcpy(kept, spi_session_block(c, 0), bytes);
    memset(spi_session_block(b, 0), 0x5a, bytes);
    assert_memory_equal(spi_session_block(c, 0), kept, bytes);
    check_same(store, 4, 130);
    spi_free(kept);
    sp_session_destroy(c);
    sp_session_destroy(b);
    sp_session_destroy(a);
    sp_store_close(store);
}

static void a_folder_keeps_them(void **state) {
    (void)state;
    const uint8_t key[SP_STORE_KEY_BYTES] = {9}, other[SP_STORE_KEY_BYTES] = {8};
    for (int encrypted = 0; encrypted < 2; encrypted++) {
        char folder[64];
        sp_error error = {0};
        test_folder_create(folder);
        sp_store *store = open_store(folder, encrypted ? key : NULL, 0);
        check_same(store, 5, 400);
        TEST_OK(sp_store_sync(store, &error), error);
        sp_store_close(store);
        store = open_store(folder, encrypted ? key : NULL, 0);
        assert_int_equal(stats_of(store).blocks, 6);
        check_same(store, 5, 400);
        assert_int_equal(stats_of(store).hits, 6);
        assert_int_equal(stats_of(store).mapped_blocks, 6);
        uint64_t damaged = 1;
        TEST_OK(sp_store_verify(store, &damaged, &error), error);
        assert_int_equal(damaged, 0);
        sp_store_close(store);
        /* The other way round, and with another key, it is not opened. */
        const sp_store_options wrong[] = {{.folder = folder, .key = encrypted ? NULL : key},
                                          {.folder = folder, .key = other}};
        for (int i = 0; i < 2; i++) {
            assert_int_equal(sp_store_open(&wrong[i], &store, &error), SP_INVALID);
            assert_null(store);
        }
        test_folder_remove(folder);
    }
}

/* What is written into *error is about a failure, and there was none: also where the folder is new and where it is
 * not. */
static void opening_says_nothing(void **state) {
    (void)state;
    char folder[64];
    test_folder_create(folder);
    for (int i = 0; i < 2; i++) {
        const sp_store_options options = {.folder = folder};
        sp_store *store = NULL;
        sp_error error = {0};
        TEST_OK(sp_store_open(&options, &store, &error), error);
        assert_int_equal(error.status, SP_OK);
        assert_string_equal(error.message, "");
        sp_store_close(store);
    }
    test_folder_remove(folder);
}

/* Blocks in a folder whose reading is known to take longer than computing them are computed, and that is told. Both
 * costs are those that were measured, but for a disk that became slower. */
static void what_is_slower_is_not_read(void **state) {
    (void)state;
    char folder[64];
    test_folder_create(folder);
    sp_store *store = open_store(folder, NULL, 0);
    check_same(store, 6, 400);
    sp_store_close(store);
    for (int is_slow = 0; is_slow < 2; is_slow++) {
        store = open_store(folder, NULL, 0);
        check_same(store, 7 + (uint64_t)is_slow, 100);       /* teaches what a token costs */
        check_same(store, 6, 100);                           /* and what a byte does */
        double compute_ns = store->costs[0].ns_per_token[2]; /* of runs of 64 to 127 tokens */
        assert_true(compute_ns > 0 && store->read_ns_per_byte > 0);
        uint64_t hits = stats_of(store).hits;
        assert_int_equal(hits, 1);
        if (is_slow) {
            store->read_ns_per_byte = compute_ns; /* a block has many bytes for each of its tokens */
        }
        check_same(store, 6, 400);
        assert_int_equal(stats_of(store).hits - hits, is_slow ? 0 : 6);
        assert_true((strstr(notices, "computed again") != NULL) == is_slow);
        assert_int_equal(stats_of(store).damaged_blocks, 0);
        assert_int_equal(stats_of(store).blocks, 7 + is_slow);
        sp_store_close(store);
    }
    test_folder_remove(folder);
}

/* What computing so many tokens takes is bounded by what shorter and longer runs took. */
static void costs_are_known_by_size(void **state) {
    (void)state;
    sp_store *store = open_store(NULL, NULL, 0);
    sp_session *session = attached(store, test_rig.demo, test_rig.cpu);
    assert_true(spi_store_guess_compute(store, session, 512) == 0);
    spi_store_learn_compute(store, session, 24, 24000); /* 1,000 ns each */
    assert_true(spi_store_guess_compute(store, session, 20) == 20000);
    assert_true(spi_store_guess_compute(store, session, 512) == 512000);
    spi_store_learn_compute(store, session, 2048, 204800); /* 100 ns each */
    assert_true(spi_store_guess_compute(store, session, 3000) == 300000);
    assert_true(spi_store_guess_compute(store, session, 512) == 204800);
    assert_true(spi_store_guess_compute(store, session, 128) == 128000);
    assert_true(spi_store_guess_compute(store, session, 100000) == 10000000);
    spi_store_learn_compute(store, session, 2048, 409600); /* slower now: a quarter counts */
    assert_true(spi_store_guess_compute(store, session, 2048) == 256000);
    sp_session_destroy(session);
    sp_store_close(store);
}

/* Finds the one pack of a folder. */
static void pack_path(const char *folder, char *path, size_t capacity) {
    DIR *dir = opendir(folder);
    path[0] = 0;
    for (const struct dirent *item; (item = readdir(dir));) {
        if (strstr(item->d_name, ".kv")) {
            snprintf(path, capacity, "%s/%s", folder, item->d_name);
        }
    }
    closedir(dir);
    assert_true(path[0]);
}

static void damage_costs_time_only(void **state) {
    (void)state;
    char folder[64], path[400];
    test_folder_create(folder);
    sp_store *store = open_store(folder, NULL, 0);
    check_same(store, 6, 300);
    sp_store_close(store);
    pack_path(folder, path, sizeof path);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    void *good;
    size_t bytes;
    sp_error error = {0};
    TEST_OK(spi_file_read(path, SIZE_MAX, &good, &bytes, &error), error);
    size_t block = (size_t)test_kv_shape(test_rig.demo)->block_bytes, data = bytes - 4 * block;
    /* The header, the first and third record, the first and third block, the end. */
    const size_t places[] = {3, 20, 100, 4096 + 20, 4096 + 2 * 128 + 60, data + 77, data + 2 * block + 5, bytes - 1};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        uint8_t *bad = spi_alloc(bytes, 1);
        memcpy(bad, good, bytes);
        bad[places[i]] ^= 0x10;
        TEST_OK(spi_file_write(path, bad, bytes, false, &error), error);
        spi_free(bad);
        store = open_store(folder, NULL, 0);
        check_same(store, 6, 300);
        assert_true(stats_of(store).hits < 4);
        sp_store_close(store);
        /* It computed what was missing and kept it in packs of its own: away with them. */
        test_folder_remove(folder);
        assert_int_equal(mkdir(folder, 0700), 0);
        TEST_OK(spi_file_write(path, good, bytes, false, &error), error);
        store = open_store(folder, NULL, 0);
        uint64_t damaged = 9;
        TEST_OK(sp_store_verify(store, &damaged, &error), error);
        assert_int_equal(damaged, 0);
        sp_store_close(store);
    }
    for (size_t cut = 0; cut < bytes; cut += bytes / 7 + 1) {
        TEST_OK(spi_file_write(path, good, cut, false, &error), error);
        store = open_store(folder, NULL, 0);
        check_same(store, 6, 300);
        sp_store_close(store);
        test_folder_remove(folder);
        assert_int_equal(mkdir(folder, 0700), 0);
    }
    spi_free(good);
    test_folder_remove(folder);
}

static void a_limit_is_kept_and_pins_too(void **state) {
    (void)state;
    char folder[64];
    sp_error error = {0};
    sp_model_info model;
    sp_model_get_info(test_rig.demo, &model);
    for (int on_disk = 0; on_disk < 2; on_disk++) {
        test_folder_create(folder);
        sp_store *store = open_store(on_disk ? folder : NULL, NULL, 9 * model.block_bytes);
        sp_session *pinned = attached(store, test_rig.demo, test_rig.cpu);
        int32_t tokens[192];
        test_tokens(test_rig.demo, 100, tokens, 192);
        test_session_append(pinned, tokens, 192, SP_LOGITS_LAST);
        TEST_OK(sp_store_pin(store, pinned, true, &error), error);
        assert_int_equal(stats_of(store).pinned_packs, 1);
        for (uint64_t seed = 200; seed < 206; seed++) {
            check_same(store, seed, 200);
            assert_true(stats_of(store).bytes <= 9 * model.block_bytes);
        }
        assert_true(stats_of(store).evicted_blocks >= 9);
        uint64_t hits = stats_of(store).hits;
        check_same(store, 100, 192);
        assert_int_equal(stats_of(store).hits, hits + 2);
        TEST_OK(sp_store_pin(store, pinned, false, &error), error);
        uint64_t evicted;
        TEST_OK(sp_store_gc(store, 1, &evicted, &error), error);
        assert_int_equal(stats_of(store).blocks, 0);
        test_session_append(pinned, tokens, 5, SP_LOGITS_LAST); /* what was mapped stays valid */
        sp_session_destroy(pinned);
        sp_store_close(store);
        test_folder_remove(folder);
    }
}

static void another_process_finds_them(void **state) {
    (void)state;
    char folder[64];
    int status;
    test_folder_create(folder);
    sp_store *store = open_store(folder, NULL, 0);
    int32_t tokens[200];
    test_tokens(test_rig.tiny, 7, tokens, 200);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) { /* the tiny model on the device of one thread: a fork has no others */
        sp_store *own = open_store(folder, NULL, 0);
        sp_session *session = attached(own, test_rig.tiny, test_rig.reference);
        test_session_append(session, tokens, 200, SP_LOGITS_LAST);
        _exit(stats_of(own).blocks == 3 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    usleep(30000);
    sp_session *session = attached(store, test_rig.tiny, test_rig.cpu);
    test_session_append(session, tokens, 200, SP_LOGITS_LAST);
    assert_int_equal(stats_of(store).hits, 3);
    sp_session_destroy(session);
    sp_store_close(store);
    test_folder_remove(folder);
}

static uint32_t count_packs(const char *folder) {
    DIR *dir = opendir(folder);
    uint32_t count = 0;
    for (const struct dirent *item; (item = readdir(dir));) {
        count += strstr(item->d_name, ".kv") != NULL;
    }
    closedir(dir);
    return count;
}

/* A session of 960 tokens, 15 blocks, computed without a store. */
static sp_session *long_session(uint64_t seed, int32_t *tokens) {
    sp_session *session = test_session_create(test_rig.tiny, test_rig.cpu, 1024, 1);
    test_tokens(test_rig.tiny, seed, tokens, 960);
    test_session_append(session, tokens, 960, SP_LOGITS_LAST);
    return session;
}

static sp_status take_striped(sp_store *store, sp_session *session, uint32_t *held, sp_error *error) {
    sp_status status = sp_store_attach(store, session, error);
    return status ? status : spi_store_take_blocks(store, session->cache_data, session, SPI_STRIPES_MAX, held, error);
}

static void check_found(const char *folder, const uint8_t *key, const int32_t *tokens, sp_session *plain) {
    sp_store *store = open_store(folder, key, 0);
    sp_session *again = attached(store, test_rig.tiny, test_rig.cpu);
    uint64_t damaged = 9;
    sp_error error = {0};
    test_session_append(again, tokens, 960, SP_LOGITS_LAST);
    assert_int_equal(stats_of(store).hits, 14); /* the last block's last token has to be computed */
    assert_true(test_distance(sp_session_logits(plain, 0), sp_session_logits(again, 0),
                              test_model_vocab(test_rig.tiny)) < 1e-3);
    TEST_OK(sp_store_verify(store, &damaged, &error), error);
    assert_int_equal(damaged, 0);
    sp_session_destroy(again);
    sp_store_close(store);
}

/* A long run goes into several packs at a time; more than may be open at a time share them. */
static void a_long_run_has_stripes(void **state) {
    (void)state;
    const uint8_t key[SP_STORE_KEY_BYTES] = {5};
    for (int sealed = 0; sealed < 2; sealed++) {
        char folder[64];
        int32_t tokens[960];
        uint32_t held;
        sp_error error = {0};
        test_folder_create(folder);
        sp_store *store = open_store(folder, sealed ? key : NULL, 0);
        for (uint32_t i = 0; i < 18; i++) {
            sp_session *session = long_session(40 + i, tokens);
            TEST_OK(take_striped(store, session, &held, &error), error);
            assert_int_equal(held, 15);
            TEST_OK(take_striped(store, session, &held, &error), error); /* all known now */
            assert_int_equal(stats_of(store).taken_blocks, 15 * (i + 1));
            assert_true(count_packs(folder) == (i < 16 ? SPI_STRIPES_MAX * (i + 1) : SPI_STRIPES_MAX * 16));
            if (i == 0 || i == 17) {
                check_found(folder, sealed ? key : NULL, tokens, session);
            }
            sp_session_destroy(session);
        }
        sp_store_close(store);
        test_folder_remove(folder);
    }
}

static atomic_int stripe_countdown;

static int stripe_fault(spi_file_op op) {
    (void)op;
    return atomic_fetch_sub(&stripe_countdown, 1) == 0 ? ENOSPC : 0;
}

/* A stripe that fails leaves what lies before it, and what the others wrote; the next try takes the rest. */
static void stripes_may_fail(void **state) {
    (void)state;
    const uint8_t key[SP_STORE_KEY_BYTES] = {6};
    for (int i = 0; i < 48; i++) {
        char folder[64];
        int32_t tokens[960];
        uint32_t held = 99;
        sp_session *session = long_session(70, tokens);
        sp_error error = {0};
        test_folder_create(folder);
        sp_store *store = open_store(folder, key, 0);
        TEST_OK(sp_store_attach(store, session, &error), error);
        atomic_store(&stripe_countdown, i);
        spi_file_set_fault(i < 36 ? stripe_fault : NULL);
        spi_memory_fail_after(i < 36 ? -1 : i - 36);
        sp_status status = take_striped(store, session, &held, &error);
        spi_memory_fail_after(-1);
        spi_file_set_fault(NULL);
        assert_true(status == SP_OK || status == SP_IO || status == SP_NO_MEMORY);
        assert_true(status ? held < 15 && error.message[0] : held == 15);
        TEST_OK(take_striped(store, session, &held, &error), error);
        assert_int_equal(held, 15);
        assert_true(stats_of(store).taken_blocks == 15);
        check_found(folder, key, tokens, session);
        sp_session_destroy(session);
        sp_store_close(store);
        test_folder_remove(folder);
    }
}

static atomic_int fault_countdown, fault_errno; /* packs are written by several threads */

static int fault(spi_file_op op) {
    (void)op;
    return atomic_fetch_sub(&fault_countdown, 1) == 0 ? fault_errno : 0;
}

static void a_full_disk_is_survived(void **state) {
    (void)state;
    const int errors[] = {ENOSPC, EIO, -ENOSPC};
    for (int kind = 0; kind < 3; kind++) {
        for (int after = 0; after < 14; after++) {
            char folder[64];
            test_folder_create(folder);
            sp_store *store = open_store(folder, NULL, 0);
            fault_errno = errors[kind];
            fault_countdown = after;
            spi_file_set_fault(fault);
            int32_t tokens[200];
            test_tokens(test_rig.tiny, 8, tokens, 200);
            sp_session *session = attached(store, test_rig.tiny, test_rig.cpu),
                       *again = attached(store, test_rig.tiny, test_rig.cpu);
            test_session_append(session, tokens, 200, SP_LOGITS_LAST);
            test_session_append(again, tokens, 200, SP_LOGITS_LAST);
            spi_file_set_fault(NULL);
            double distance = test_distance(sp_session_logits(session, 0), sp_session_logits(again, 0),
                                            test_model_vocab(test_rig.tiny));
            assert_true(distance < 1e-3);
            sp_session_destroy(again);
            sp_session_destroy(session);
            sp_store_close(store);
            test_folder_remove(folder);
        }
    }
}

static void any_allocation_may_fail(void **state) {
    (void)state;
    int32_t tokens[200];
    test_tokens(test_rig.tiny, 9, tokens, 200);
    bool done = false;
    for (long i = 0; !done; i++) {
        char folder[64];
        test_folder_create(folder);
        const sp_store_options options = {.folder = folder};
        sp_store *store = NULL;
        sp_session *a = test_session_create(test_rig.tiny, test_rig.cpu, 256, 1),
                   *b = test_session_create(test_rig.tiny, test_rig.cpu, 256, 1);
        sp_error error = {0};
        assert_true(i < 500);
        spi_memory_fail_after(i);
        sp_status status = sp_store_open(&options, &store, &error);
        status = status ? status : sp_store_attach(store, a, &error);
        status = status ? status : sp_store_attach(store, b, &error);
        status = status ? status : sp_session_append(a, tokens, 200, SP_LOGITS_LAST, &error);
        status = status ? status : sp_session_append(b, tokens, 200, SP_LOGITS_LAST, &error);
        spi_memory_fail_after(-1);
        assert_true(status == SP_OK || status == SP_NO_MEMORY || status == SP_DEVICE_LOST);
        if (!status) {
            assert_true(test_distance(sp_session_logits(a, 0), sp_session_logits(b, 0),
                                      test_model_vocab(test_rig.tiny)) < 1e-3);
            done = stats_of(store).hits == 3;
        }
        sp_session_destroy(a);
        sp_session_destroy(b);
        sp_store_close(store);
        test_folder_remove(folder);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prefix_is_found_again),       cmocka_unit_test(truncating_forgets_names),
        cmocka_unit_test(writing_does_not_reach_others), cmocka_unit_test(a_folder_keeps_them),
        cmocka_unit_test(opening_says_nothing),          cmocka_unit_test(what_is_slower_is_not_read),
        cmocka_unit_test(costs_are_known_by_size),       cmocka_unit_test(damage_costs_time_only),
        cmocka_unit_test(a_limit_is_kept_and_pins_too),  cmocka_unit_test(another_process_finds_them),
        cmocka_unit_test(a_full_disk_is_survived),       cmocka_unit_test(any_allocation_may_fail),
        cmocka_unit_test(a_long_run_has_stripes),        cmocka_unit_test(stripes_may_fail),
    };
    return cmocka_run_group_tests(tests, test_rig_open, test_rig_close);
}
