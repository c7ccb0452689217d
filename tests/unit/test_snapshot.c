/* tests/unit/test_snapshot.c - a guest captured, written, read and restored goes on as if nothing had happened. The
 * oracle is the guest that was never disturbed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "os/file.h"
#include "os/process.h"
#include "samepage/quantise.h"
#include "snapshot/snapshot.h"
#include "support/durable_rig.h"
#include "support/session_rig.h"
#include "support/tiny_model.h"

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

static sp_store *open_store(const char *folder) {
    const sp_store_options options = {.folder = folder};
    sp_store *store = NULL;
    sp_error error = {0};
    TEST_OK(sp_store_open(&options, &store, &error), error);
    return store;
}

/* Both go on by themselves, and neither sees what the other does. */
static void a_fork_is_another(void **state) {
    durable_rig *rig = *state;
    sp_error error = {0};
    sp_store *store = open_store(NULL);
    for (int length = 100; length <= 192; length += 92) { /* with a block that is not full, and without */
        sp_guest *guest = test_durable_guest(rig, 512, true), *twin = test_durable_guest(rig, 512, true), *fork = NULL;
        test_durable_call(guest, "tell", 5, length, 2);
        test_durable_call(twin, "tell", 5, length, 2);
        TEST_OK(sp_guest_fork(guest, store, NULL, &fork, &error), error);
        test_durable_call(fork, "touch", 9, 77, 2);
        test_durable_call(fork, "tell", 99, 80, 2);
        test_durable_call(fork, "next", 0, 0, 0);
        assert_int_equal(test_durable_call(guest, "peek", 9, 0, 1), 0);
        assert_int_equal(test_durable_call(fork, "peek", 9, 0, 1), 77);
        test_durable_same(guest, twin, 20);
        sp_guest_destroy(guest);
        test_durable_call(fork, "next", 0, 0, 0);
        sp_guest_destroy(fork);
        sp_guest_destroy(twin);
    }
    sp_store_close(store);
}

/* The first fork is a copy, the second makes an image, the third is of that: unless something differs by then. */
static void forks_are_of_the_guest_as_it_is(void **state) {
    durable_rig *rig = *state;
    sp_error error = {0};
    for (int with_store = 0; with_store < 2; with_store++) {
        sp_store *store = with_store ? open_store(NULL) : NULL;
        sp_guest *guest = test_durable_guest(rig, 512, true), *forks[5] = {0};
        test_durable_call(guest, "tell", 5, 100, 2);
        test_durable_call(guest, "touch", 9, 1, 2);
        uint8_t *memory = sp_region_base(sp_guest_region(guest));
        for (int i = 0; i < 5; i++) {
            TEST_OK(sp_guest_fork(guest, store, NULL, &forks[i], &error), error);
            memory[64] = i == 2 ? 77 : memory[64]; /* by the host, without a call of the guest: the end of its stack */
        }
        sp_snapshot *images[5];
        for (int i = 0; i < 5; i++) {
            images[i] = test_durable_capture(forks[i], NULL);
        }
        bool same;
        for (int i = 1; i < 5; i++) {
            TEST_OK(sp_snapshot_diff(images[0], images[i], NULL, NULL, &same, &error), error);
            assert_int_equal(same, i < 3);
        }
        for (int i = 0; i < 5; i++) {
            sp_snapshot_close(images[i]);
        }
        test_durable_same(forks[0], forks[1], 10);
        test_durable_same(forks[3], forks[4], 10);
        sp_guest_destroy(guest); /* and its image */
        test_durable_call(forks[2], "next", 0, 0, 0);
        for (int i = 0; i < 5; i++) {
            sp_guest_destroy(forks[i]);
        }
        sp_store_close(store);
    }
}

static void in_memory_once(void **state) {
    durable_rig *rig = *state;
    sp_store *store = open_store(NULL);
    sp_guest *guest = test_durable_guest(rig, 2048, false), *forks[50];
    test_durable_call(guest, "tell", 5, 1600, 2);
    sp_snapshot *snapshot = test_durable_capture(guest, store);
    const sp_restore_options options = {.store = store};
    for (int i = 0; i < 50; i++) {
        forks[i] = test_durable_restore(rig, snapshot, &options);
    }
    sp_store_stats stats;
    sp_store_get_stats(store, &stats);
    assert_int_equal(stats.blocks, 25);
    assert_int_equal(stats.mapped_blocks, 50 * 25);
    assert_int_equal(stats.copied_blocks, 0);
    sp_snapshot_close(snapshot);
    test_durable_same(forks[0], guest, 3);
    for (int i = 0; i < 50; i++) {
        sp_guest_destroy(forks[i]);
    }
    sp_guest_destroy(guest);
    sp_store_close(store);
}

/* A store that lost its blocks costs time. */
static void missing_blocks_are_computed(void **state) {
    durable_rig *rig = *state;
    char folder[64];
    sp_error error = {0};
    test_folder_create(folder);
    sp_store *store = open_store(folder), *empty = open_store(NULL);
    sp_guest *guest = test_durable_guest(rig, 512, true);
    test_durable_call(guest, "tell", 5, 250, 2);
    sp_snapshot *snapshot = test_durable_capture(guest, store);
    sp_restore_report report;
    const sp_restore_options options[] = {
        {.store = store, .report = &report}, {.store = empty, .report = &report}, {.report = &report}};
    for (int i = 0; i < 3; i++) {
        sp_guest *restored = test_durable_restore(rig, snapshot, &options[i]);
        assert_int_equal(report.computed_tokens, i ? 250 : 0);
        assert_int_equal(report.logits_are_restored, !i);
        sp_guest *other = test_durable_restore(rig, snapshot, &options[0]);
        test_durable_same(other, restored, 10);
        sp_guest_destroy(other);
        sp_guest_destroy(restored);
    }
    uint64_t evicted;
    TEST_OK(sp_store_gc(store, 1, &evicted, &error), error);
    assert_int_equal(evicted, 4); /* the guests that went on filled one more */
    sp_guest *restored = test_durable_restore(rig, snapshot, &options[0]);
    assert_int_equal(report.computed_tokens, 250);
    sp_guest_destroy(restored);
    sp_snapshot_close(snapshot);
    sp_guest_destroy(guest);
    sp_store_close(empty);
    sp_store_close(store);
    test_folder_remove(folder);
}

/* What is inside of a stranger's snapshot serves the guest and reaches nobody else. */
static void foreign_blocks_stay_out_of_stores(void **state) {
    durable_rig *rig = *state;
    char folder[64], path[200];
    sp_error error = {0};
    test_folder_create(folder);
    snprintf(path, sizeof path, "%s/s", folder);
    sp_guest *guest = test_durable_guest(rig, 512, false);
    test_durable_call(guest, "tell", 5, 250, 2);
    sp_snapshot *snapshot = test_durable_capture(guest, NULL), *read = NULL;
    TEST_OK(sp_snapshot_write(snapshot, path, NULL, &error), error);
    TEST_OK(sp_snapshot_open(path, NULL, &read, &error), error);
    for (int foreign = 0; foreign < 2; foreign++) {
        sp_store *store = open_store(NULL);
        const sp_restore_options options = {.store = store, .foreign = foreign};
        sp_guest *restored = test_durable_restore(rig, read, &options);
        test_durable_call(restored, "tell", 6, 100, 2);
        sp_snapshot *later = test_durable_capture(restored, store);
        sp_store_stats stats;
        sp_store_get_stats(store, &stats);
        assert_int_equal(stats.taken_blocks, foreign ? 0 : 5);
        sp_snapshot_info info;
        sp_snapshot_get_info(later, &info);
        assert_int_equal(info.has_blocks, foreign); /* they travel inside instead */
        sp_guest *again = test_durable_restore(rig, later, NULL);
        if (foreign) {
            sp_snapshot *last = test_durable_capture(again, store); /* and that is remembered */
            sp_store_get_stats(store, &stats);
            assert_int_equal(stats.taken_blocks, 0);
            sp_snapshot_close(last);
        }
        test_durable_same(again, restored, 5);
        sp_guest_destroy(again);
        sp_snapshot_close(later);
        sp_guest_destroy(restored);
        sp_store_close(store);
    }
    sp_snapshot_close(read);
    sp_snapshot_close(snapshot);
    sp_guest_destroy(guest);
    test_folder_remove(folder);
}

/* The largest difference of the first session's last logits. */
static double logits_distance(const sp_snapshot *a, const sp_snapshot *b, uint32_t vocab) {
    return test_distance(a->sessions[0].logits, b->sessions[0].logits, vocab);
}

/* A device that the conversation moves to, and a guest that had it there from its beginning. */
typedef struct station {
    const char *name;
    sp_device *device;
    sp_guest_options options;
    sp_guest *native;
} station;

static void station_open(durable_rig *rig, station *stop) {
    sp_error error = {0};
    stop->options = rig->options;
    stop->options.device = stop->device ? stop->device : rig->options.device;
    TEST_OK(sp_guest_create(rig->module, &stop->options, &stop->native, &error), error);
    test_durable_call(stop->native, "begin", 512, 0, 2);
    test_durable_call(stop->native, "ask", 0, 0, 0);
}

static void station_close(durable_rig *rig, station *stop) {
    sp_guest_destroy(stop->native);
    if (stop->device) {
        sp_model_unload(rig->model, stop->device);
        sp_device_close(stop->device);
    }
}

/* Twelve tokens on: how far the last logits of `native` are from those of `stayed`. */
static double native_distance(durable_rig *rig, const station *stop, const sp_snapshot *stayed) {
    sp_snapshot *always = test_durable_capture(stop->native, NULL);
    double distance = logits_distance(always, stayed, test_model_vocab(rig->model));
    sp_snapshot_close(always);
    return distance;
}

/* cpu -> cuda -> vulkan -> cpu and once more, of those that are there: the same greedy tokens as if it had stayed.
 * Logits drift as far as two devices differ that compute the same conversation from its beginning, and moving adds
 * nothing to that. What is generated is an answer that the model is sure of: behind random tokens the best two can be
 * so close that the rounding of a device decides. */
static void it_moves_between_devices(void **state) {
    durable_rig *rig = *state;
    sp_error error = {0};
    sp_device *cuda = test_rig_device(rig->model, "cuda"), *vulkan = test_rig_vulkan(rig->model);
    station stops[3];
    int count = 0;
    if (cuda) {
        stops[count++] = (station){.name = "cuda", .device = cuda};
    }
    if (vulkan) {
        stops[count++] = (station){.name = "vulkan", .device = vulkan};
    }
    if (!count) {
        skip();
    }
    stops[count++] = (station){.name = "cpu"};
    for (int i = 0; i < count; i++) {
        station_open(rig, &stops[i]);
    }
    sp_guest *guest = test_durable_guest(rig, 512, false);
    assert_true(test_durable_call(guest, "ask", 0, 0, 0) > 0);
    sp_snapshot *snapshot = test_durable_capture(guest, NULL);
    double devices = 0;
    for (int hop = 0; hop <= count; hop++) {
        const station *to = &stops[hop % count];
        sp_guest *moved = NULL;
        TEST_OK(sp_guest_restore(snapshot, rig->module, &to->options, NULL, &moved, &error), error);
        sp_snapshot_close(snapshot);
        for (int i = 0; i < 12; i++) {
            int64_t token = test_durable_call(guest, "next", 0, 0, 0);
            assert_int_equal(test_durable_call(moved, "next", 0, 0, 0), token);
            for (int k = 0; k < count; k++) {
                assert_int_equal(test_durable_call(stops[k].native, "next", 0, 0, 0), token);
            }
        }
        assert_int_equal(test_durable_call(moved, "sum", 0, 0, 0), test_durable_call(guest, "sum", 0, 0, 0));
        snapshot = test_durable_capture(moved, NULL);
        sp_snapshot *stayed = test_durable_capture(guest, NULL);
        uint32_t vocab = test_model_vocab(rig->model);
        double drift = logits_distance(snapshot, stayed, vocab), size = test_rms(stayed->sessions[0].logits, vocab);
        for (int k = 0; k < count; k++) {
            double native = native_distance(rig, &stops[k], stayed);
            devices = native > devices ? native : devices;
        }
        print_message("on %s, 12 tokens on: logits differ from staying by %.2g of %.2g, and the devices by %.2g\n",
                      to->name, drift, size, devices);
        assert_true(drift <= 1.5 * devices);
        sp_snapshot_close(stayed);
        sp_guest_destroy(moved);
    }
    sp_snapshot_close(snapshot);
    sp_guest_destroy(guest);
    for (int i = 0; i < count; i++) {
        station_close(rig, &stops[i]);
    }
}

static void count_lines(void *env, const char *text) {
    (void)text;
    ++*(int *)env;
}

/* The tokens go on with another model only if that is asked for, and with another quantisation with a notice. */
static void models_are_told_apart(void **state) {
    durable_rig *rig = *state;
    sp_error error = {0};
    sp_model *tiny = test_tiny_model(rig->device);
    sp_fingerprint a, b;
    sp_model_get_fingerprint(rig->model, &a);
    sp_model_get_fingerprint(tiny, &b);
    assert_memory_not_equal(a.weights, b.weights, 16);
    assert_memory_not_equal(a.family, b.family, 16);
    const sp_guest_model tinies[] = {{.name = "m", .model = tiny}};
    sp_guest_options options = rig->options, with_tiny = rig->options;
    with_tiny.models = tinies;
    sp_guest *guest = NULL, *made = NULL;
    TEST_OK(sp_guest_create(rig->module, &with_tiny, &guest, &error), error);
    test_durable_call(guest, "begin", 64, 0, 2);
    test_durable_call(guest, "tell", 5, 20, 2);
    sp_snapshot *snapshot = test_durable_capture(guest, NULL);
    assert_int_equal(sp_guest_restore(snapshot, rig->module, &options, NULL, &made, &error), SP_UNSUPPORTED);
    assert_non_null(strstr(error.message, "another"));
    int lines = 0;
    const sp_restore_options anyway = {.recompute = true, .notice = count_lines, .notice_env = &lines};
    /* The larger model's blocks do not fit into what the guest's memory has for the smaller's. */
    assert_int_equal(sp_guest_restore(snapshot, rig->module, &options, &anyway, &made, &error), SP_UNSUPPORTED);
    assert_int_equal(lines, 1);
    sp_snapshot_close(snapshot);
    sp_guest_destroy(guest);
    /* The other way round they do, and only tokens that the smaller one has can go on. */
    guest = test_durable_guest(rig, 64, false);
    snapshot = test_durable_capture(guest, NULL);
    TEST_OK(sp_guest_restore(snapshot, rig->module, &with_tiny, &anyway, &made, &error), error);
    sp_guest_destroy(made);
    sp_snapshot_close(snapshot);
    test_durable_call(guest, "tell", 5, 20, 2);
    snapshot = test_durable_capture(guest, NULL);
    assert_int_equal(sp_guest_restore(snapshot, rig->module, &with_tiny, &anyway, &made, &error), SP_UNSUPPORTED);
    assert_non_null(strstr(error.message, "tokens"));
    sp_snapshot_close(snapshot);
    sp_guest_destroy(guest);
    sp_model_close(tiny);
}

static void keep_line(void *env, const char *text) {
    snprintf((char *)env + strlen(env), 400 - strlen(env), "%s\n", text);
}

/* The demo model in 4 bits has the same vocabulary and other weights: the guest goes on unasked, is told so, and what
 * its session then knows is what the other model makes of the tokens. */
static void another_quantisation_is_computed_again(void **state) {
    durable_rig *rig = *state;
    char folder[64], path[200], notices[400] = "";
    sp_error error = {0};
    sp_model *four = NULL;
    test_folder_create(folder);
    snprintf(path, sizeof path, "%s/q4_0.gguf", folder);
    const sp_quantise_options quantise = {.type = "Q4_0", .requantise = true};
    TEST_OK(sp_quantise_file(test_source_path("models/samepage-demo-q8_0.gguf"), path, &quantise, NULL, &error), error);
    TEST_OK(sp_model_open(path, &four, &error), error);
    TEST_OK(sp_model_load(four, rig->device, NULL, NULL, &error), error);
    sp_fingerprint eight_is, four_is;
    sp_model_get_fingerprint(rig->model, &eight_is);
    sp_model_get_fingerprint(four, &four_is);
    assert_memory_equal(eight_is.family, four_is.family, sizeof four_is.family);
    assert_memory_not_equal(eight_is.weights, four_is.weights, sizeof four_is.weights);

    const sp_guest_model fours[] = {{.name = "m", .model = four}};
    sp_guest_options with_four = rig->options;
    with_four.models = fours;
    sp_guest *guest = test_durable_guest(rig, 512, false), *native = NULL, *restored = NULL;
    TEST_OK(sp_guest_create(rig->module, &with_four, &native, &error), error);
    assert_int_equal(test_durable_call(native, "begin", 512, 0, 2), 0);
    test_durable_call(guest, "tell", 5, 250, 2);
    test_durable_call(native, "tell", 5, 250, 2);
    sp_store *store = open_store(folder);
    sp_snapshot *snapshot = test_durable_capture(guest, store), *expected = test_durable_capture(native, NULL);
    sp_restore_report report;
    const sp_restore_options options = {.store = store, .report = &report, .notice = keep_line, .notice_env = notices};
    TEST_OK(sp_guest_restore(snapshot, rig->module, &with_four, &options, &restored, &error), error);
    assert_int_equal(report.computed_tokens, 250);
    assert_false(report.logits_are_restored);
    assert_non_null(strstr(notices, "other weights"));
    assert_non_null(strstr(notices, "250 of 250 tokens were computed again"));
    sp_snapshot *got = test_durable_capture(restored, NULL);
    uint32_t vocab = test_model_vocab(four);
    double size = test_rms(expected->sessions[0].logits, vocab);
    assert_true(logits_distance(got, expected, vocab) < size * 1e-2);
    assert_true(logits_distance(snapshot, expected, vocab) > size * 1e-2); /* the weights do make a difference */
    test_durable_same(native, restored, 10);
    sp_snapshot_close(got);
    sp_snapshot_close(expected);
    sp_snapshot_close(snapshot);
    sp_guest_destroy(restored);
    sp_guest_destroy(native);
    sp_guest_destroy(guest);
    sp_store_close(store);
    sp_model_close(four);
    test_folder_remove(folder);
}

/* One flipped bit anywhere changes the full fingerprint; the quick one sees what its samples see. */
static void fingerprints_find_changes(void **state) {
    (void)state;
    char path[] = "/tmp/samepage-test-model-XXXXXX";
    sp_error error = {0};
    void *bytes;
    size_t count;
    TEST_OK(spi_file_read(test_source_path("models/samepage-demo-q8_0.gguf"), SIZE_MAX, &bytes, &count, &error), error);
    assert_true(mkstemp(path) >= 0);
    uint8_t full[16], before[16];
    test_random random = test_random_seed(test_seed());
    uint32_t quick_found = 0;
    sp_fingerprint quick, quick_before;
    for (int i = -1; i < 24; i++) {
        uint8_t *data = bytes;
        size_t at = count - 1 - test_random_below(&random, (uint32_t)(count / 2)); /* among the weights */
        data[at] ^= i < 0 ? 0 : 1;
        TEST_OK(spi_file_write(path, data, count, false, &error), error);
        sp_model *model = NULL;
        TEST_OK(sp_model_open(path, &model, &error), error);
        sp_model_get_full_fingerprint(model, full);
        sp_model_get_fingerprint(model, &quick);
        if (i < 0) {
            memcpy(before, full, sizeof before);
            quick_before = quick;
        } else {
            assert_memory_not_equal(full, before, sizeof full);
            quick_found += memcmp(&quick, &quick_before, sizeof quick) != 0;
            assert_memory_equal(quick.family, quick_before.family, sizeof quick.family);
        }
        sp_model_close(model);
        data[at] ^= i < 0 ? 0 : 1;
    }
    print_message("the quick fingerprint found %u of 24 single flipped bits\n", quick_found);
    unlink(path);
    spi_free(bytes);
}

static void print_line(void *env, const char *text) {
    (void)env;
    print_error("differs: %s\n", text);
}

static void arguments_and_fuel_come_along(void **state) {
    durable_rig *rig = *state;
    sp_error error = {0};
    const char *const arguments[] = {"name", "-x"}, *const environment[] = {"A=b"};
    sp_guest_options options = rig->options;
    options.arguments = arguments;
    options.argument_count = 2;
    options.environment = environment;
    options.environment_count = 1;
    options.fuel = 100000000;
    sp_guest *guest = NULL, *restored = NULL;
    TEST_OK(sp_guest_create(rig->module, &options, &guest, &error), error);
    test_durable_call(guest, "begin", 64, 0, 2);
    sp_snapshot *snapshot = test_durable_capture(guest, NULL);
    TEST_OK(sp_guest_restore(snapshot, rig->module, &rig->options, NULL, &restored, &error), error);
    assert_int_equal(restored->argument_count, 2);
    assert_string_equal(restored->arguments[1], "-x");
    assert_string_equal(restored->environment[0], "A=b");
    sp_snapshot *again = test_durable_capture(restored, NULL);
    bool same;
    TEST_OK(sp_snapshot_diff(snapshot, again, print_line, NULL, &same, &error), error);
    assert_true(same); /* the fuel, too */
    sp_snapshot_close(again);
    sp_snapshot_close(snapshot);
    sp_guest_destroy(restored);
    sp_guest_destroy(guest);
}

/* A process that never saw the guest: the file and the module are all that it has. */
static int answer_of_file(const char *path) {
    durable_rig rig;
    sp_error error = {0};
    sp_snapshot *snapshot;
    test_durable_open(&rig, true);
    TEST_OK(sp_snapshot_open(path, NULL, &snapshot, &error), error);
    size_t count;
    const void *wasm = sp_snapshot_module(snapshot, &count);
    sp_module *module;
    TEST_OK(sp_module_open_bytes(rig.engine, "carried", wasm, count, &module, &error), error);
    sp_module_close(rig.module);
    rig.module = module;
    sp_guest *guest = test_durable_restore(&rig, snapshot, NULL);
    sp_snapshot_close(snapshot);
    for (int i = 0; i < 10; i++) {
        printf("%lld ", (long long)test_durable_call(guest, "next", 0, 0, 0));
    }
    printf("%lld\n", (long long)test_durable_call(guest, "sum", 0, 0, 0));
    sp_guest_destroy(guest);
    test_durable_close(&rig);
    return 0;
}

static void another_process_goes_on(void **state) {
    durable_rig *rig = *state;
    char folder[64], path[200], self[1024], command[1400], wanted[300] = "", got[300] = "";
    sp_error error = {0};
    test_folder_create(folder);
    snprintf(path, sizeof path, "%s/s", folder);
    sp_guest *guest = test_durable_guest(rig, 512, true);
    test_durable_call(guest, "tell", 5, 130, 2);
    sp_snapshot *snapshot = test_durable_capture(guest, NULL);
    TEST_OK(sp_snapshot_write(snapshot, path, NULL, &error), error);
    sp_snapshot_close(snapshot);
    for (int i = 0; i < 10; i++) {
        snprintf(wanted + strlen(wanted), 20, "%lld ", (long long)test_durable_call(guest, "next", 0, 0, 0));
    }
    snprintf(wanted + strlen(wanted), 20, "%lld\n", (long long)test_durable_call(guest, "sum", 0, 0, 0));
    assert_int_equal(spi_process_self(self, sizeof self), SP_OK);
    snprintf(command, sizeof command, "'%s' '%s'", self, path);
    FILE *child = popen(command, "r");
    assert_non_null(child);
    assert_non_null(fgets(got, sizeof got, child));
    assert_int_equal(pclose(child), 0);
    assert_string_equal(got, wanted);
    sp_guest_destroy(guest);
    test_folder_remove(folder);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        return answer_of_file(argv[1]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_goes_on_as_it_would),
        cmocka_unit_test(a_file_carries_it),
        cmocka_unit_test(another_process_goes_on),
        cmocka_unit_test(a_fork_is_another),
        cmocka_unit_test(forks_are_of_the_guest_as_it_is),
        cmocka_unit_test(in_memory_once),
        cmocka_unit_test(missing_blocks_are_computed),
        cmocka_unit_test(foreign_blocks_stay_out_of_stores),
        cmocka_unit_test(it_moves_between_devices),
        cmocka_unit_test(models_are_told_apart),
        cmocka_unit_test(another_quantisation_is_computed_again),
        cmocka_unit_test(fingerprints_find_changes),
        cmocka_unit_test(arguments_and_fuel_come_along),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
