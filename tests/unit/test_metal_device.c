/* tests/unit/test_metal_device.c - the Metal backend over the stand-in for Apple's libraries (tests/emulation): which
 * devices it refuses, regions that grow, weights in place, kept pipelines, and that every object that Metal makes and
 * every allocation may fail without a crash, a leak or a broken rule. */
#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "bench_shape.h"
#include "support/device_life.h"
#include "support/guests.h"
#include "support/metal_rig.h"

#define MIB  ((size_t)1 << 20)
#define PAGE ((size_t)SPI_MT_PAGE_BYTES)

static char folder[64];

static int begin_group(void **state) {
    if (metal_find(state)) {
        return 1;
    }
    test_folder_create(folder);
    return setenv("XDG_CACHE_HOME", folder, 1);
}

static int end_group(void **state) {
    (void)state;
    test_folder_remove(folder);
    return 0;
}

static int begin(void **state) {
    (void)state;
    metal_reset();
    return 0;
}

static sp_device *open_device(void) {
    sp_device *device;
    sp_error error = {0};
    TEST_OK(sp_device_open("metal", NULL, &device, &error), error);
    return device;
}

static size_t listed(void) {
    sp_device_info infos[16];
    size_t count, found = 0;
    sp_error error = {0};
    TEST_OK(sp_device_list(infos, 16, &count, &error), error);
    for (size_t i = 0; i < count && i < 16; i++) {
        found += !strcmp(infos[i].name, "metal");
    }
    return found;
}

static void expect_refusal(sp_status expected, const char *part) {
    sp_device *device;
    sp_error error = {0};
    assert_int_equal(sp_device_open("metal", NULL, &device, &error), expected);
    assert_null(device);
    if (!strstr(error.message, part)) {
        fail_msg("\"%s\" does not say \"%s\"", error.message, part);
    }
    assert_int_equal(listed(), 0);
    metal_check();
}

static void what_it_is(void **state) {
    (void)state;
    sp_device_info info;
    assert_int_equal(listed(), 1);
    sp_device *device = open_device();
    sp_device_get_info(device, &info);
    assert_string_equal(info.name, "metal");
    assert_string_equal(info.description, "metal-emulated, family Apple9, Metal 3, working set up to 8.0 GiB");
    assert_int_equal(info.link, SP_LINK_SHARED);
    assert_true(info.is_software); /* so that "auto" never picks it */
    sp_device_close(device);
    sp_error error = {0};
    assert_int_equal(sp_device_open("metal:1", NULL, &device, &error), SP_NO_DEVICE);
    metal_check();
}

static void refused_devices(void **state) {
    (void)state;
    metal.settings()->no_device = true;
    expect_refusal(SP_NO_DEVICE, "there is no device");
    metal_reset();
    metal.settings()->no_unified = true;
    expect_refusal(SP_UNSUPPORTED, "its memory is not the processor's");
    metal_reset();
    metal.settings()->family = 1005;
    expect_refusal(SP_UNSUPPORTED, "older than the family Apple7");
}

static const bench_shape small = {
    .layers = 2, .width = 64, .heads = 4, .kv_heads = 2, .head_dim = 64, .inner = 96, .vocab = 100, .type = SP_Q8_0};

static sp_status live(sp_error *error) {
    static const uint32_t runs[] = {16, 1, 9};
    return test_device_life("metal", &small, 16, runs, sizeof runs / sizeof runs[0], error);
}

static void a_life(void **state) {
    (void)state;
    sp_error error = {0};
    TEST_OK(live(&error), error);
    metal_check();
    assert_int_equal(metal.counts()->command_buffers, 5);
    assert_int_equal(metal.counts()->residents, 0); /* all that came went */
    assert_true(metal.counts()->barriers > 0);
    metal_reset();
    metal.settings()->old_system = true; /* macOS 14 has no residency sets */
    TEST_OK(live(&error), error);
    metal_check();
}

/* Between two barriers dispatches may run in any order: if one is missing, another order gives other bits. */
static void orders_agree(void **state) {
    (void)state;
    spi_hash first = {0};
    for (int order = 0; order < EMU_ORDER_COUNT; order++) {
        sp_error error = {0};
        bench_model model;
        metal.settings()->order = (emu_order)order;
        sp_device *device = open_device();
        TEST_OK(bench_model_open(device, &small, 16, 300, &model, &error), error);
        static const uint32_t rows[] = {16, 1, 9, 1};
        uint32_t position = 0;
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            assert_true(bench_model_run(&model, rows[i], position, true, &error) >= 0);
            position += rows[i];
        }
        spi_hash hash = spi_hash_bytes(sp_region_base(model.region), sp_region_size_bytes(model.region), 0);
        first = order ? first : hash;
        assert_memory_equal(&hash, &first, sizeof hash);
        bench_model_close(&model);
        sp_device_close(device);
        metal_check();
    }
}

static void every_object_fails(void **state) {
    (void)state;
    long failures = 0, n = 0;
    do {
        metal_reset();
        metal.settings()->fail_after = n++;
        sp_error error = {0};
        sp_status status = live(&error);
        failures = metal.counts()->failures;
        assert_true(status == SP_OK || status == SP_NO_MEMORY || status == SP_NO_DEVICE || status == SP_UNSUPPORTED ||
                    status == SP_LINK_REFUSED);
        if (status && !error.message[0]) {
            fail_msg("object %ld failed without a message", n - 1);
        }
        metal_check();
    } while (failures);
    assert_true(n > 60);
}

static void every_allocation_fails(void **state) {
    (void)state;
    test_every_allocation_of_life_fails(live, metal_reset, metal_check);
}

/* A run that the device does not finish is an error of that run; a device that is gone stays lost. */
static void runs_fail(void **state) {
    (void)state;
    static const struct {
        int64_t code;
        sp_status status;
        bool is_lost;
    } cases[] = {
        {SPI_MT_ERROR_OUT_OF_MEMORY, SP_NO_MEMORY, false}, {2, SP_DEVICE_LOST, false}, {11, SP_DEVICE_LOST, true}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sp_error error = {0};
        bench_model model;
        sp_device *device = open_device();
        TEST_OK(bench_model_open(device, &small, 16, 300, &model, &error), error);
        metal.settings()->fail_run = cases[i].code;
        assert_true(bench_model_run(&model, 1, 0, true, &error) < 0);
        assert_int_equal(error.status, cases[i].status);
        assert_non_null(strstr(error.message, "injected failure"));
        bool works = bench_model_run(&model, 1, 0, true, &error) >= 0;
        assert_int_equal(works, !cases[i].is_lost);
        if (cases[i].is_lost) {
            assert_non_null(strstr(error.message, "open it again"));
        }
        bench_model_close(&model);
        sp_device_close(device);
        metal_check();
    }
}

/* A run that takes longer than one wait is waited for again. */
static void runs_take_their_time(void **state) {
    (void)state;
    sp_error error = {0};
    bench_model model;
    sp_device *device = open_device();
    TEST_OK(bench_model_open(device, &small, 16, 300, &model, &error), error);
    metal.settings()->slow_waits = 3;
    assert_true(bench_model_run(&model, 1, 0, true, &error) >= 0);
    assert_int_equal(metal.settings()->slow_waits, 0);
    assert_int_equal(metal.counts()->command_buffers, 1);
    assert_true(metal.counts()->dispatches > 0); /* they are done when the run returns */
    bench_model_close(&model);
    sp_device_close(device);
    metal_check();
}

static void kernels_that_do_not_fit(void **state) {
    (void)state;
    sp_error error = {0};
    bench_model model;
    sp_device *device = open_device();
    metal.settings()->fail_compiler = true;
    assert_int_equal(bench_model_open(device, &small, 16, 300, &model, &error), SP_UNSUPPORTED);
    assert_non_null(strstr(error.message, "compiling a kernel: metal: file_embed: program_source"));
    bench_model_close(&model);
    metal.settings()->fail_compiler = false;
    metal.settings()->simd_width = 64;
    assert_int_equal(bench_model_open(device, &small, 16, 300, &model, &error), SP_UNSUPPORTED);
    assert_non_null(strstr(error.message, "SIMD groups of 32"));
    bench_model_close(&model);
    metal_reset();
    metal.settings()->threadgroup_bytes_max = 128; /* the norm has 256 */
    assert_int_equal(bench_model_open(device, &small, 16, 300, &model, &error), SP_UNSUPPORTED);
    assert_non_null(strstr(error.message, "making a kernel: metal: norm: threadgroup memory"));
    bench_model_close(&model);
    sp_device_close(device);
    metal_check();
}

/* Small whole numbers: every order of summation gives the same f32. */
static uint32_t multiply(sp_device *device, sp_region *region, uint64_t at) {
    enum { M = 9, N = 70, K = 6 };
    sp_matmul args = {
        .m = M, .n = N, .k = K, .type = SP_F32, .a_offset = at, .b_offset = at + 1024, .c_offset = at + 8192};
    float *a = (float *)(sp_region_base(region) + at), *b = a + 256, *c = a + 2048;
    for (int i = 0; i < K * N; i++) {
        a[i % (M * K)] = (float)(i % 7 - 3);
        b[i] = (float)(i % 11 - 5);
    }
    memset(c, 0xff, sizeof(float) * M * N);
    sp_error error = {0};
    TEST_OK(sp_device_matmul(device, region, &args, &error), error);
    uint32_t wrong = 0;
    for (int i = 0; i < M; i++) {
        for (int j = 0; j < N; j++) {
            float sum = 0;
            for (int k = 0; k < K; k++) {
                sum += a[i * K + k] * b[k * N + j];
            }
            wrong += !(c[i * N + j] == sum);
        }
    }
    return wrong;
}

static void regions_grow(void **state) {
    (void)state;
    const spi_mt_limits limits[] = {{0}, {.buffer_bytes_max = 4 * MIB}}; /* one buffer, and several that overlap */
    for (int i = 0; i < 2; i++) {
        spi_mt_test_limits(&limits[i]);
        sp_device *device = open_device();
        spi_mt_test_limits(NULL);
        sp_region *region;
        sp_error error = {0};
        sp_region_options options = {.reserve_bytes = 256 * MIB, .size_bytes = 65536};
        TEST_OK(sp_region_create(&options, &region, &error), error);
        TEST_OK(sp_device_link(device, region, &error), error);
        for (size_t size = 65536; size < 40 * MIB; size += size / 2 + 65536) {
            TEST_OK(sp_region_grow(region, size, &error), error);
            assert_int_equal(multiply(device, region, sp_region_size_bytes(region) - 65536), 0);
            assert_int_equal(multiply(device, region, size / 2 / 16 * 16), 0);
        }
        /* A growth that is refused leaves the link as it was. */
        size_t size = sp_region_size_bytes(region);
        metal.settings()->fail_after = 0;
        assert_int_equal(sp_region_grow(region, 120 * MIB, &error), SP_LINK_REFUSED);
        assert_int_equal(sp_region_size_bytes(region), size);
        assert_int_equal(multiply(device, region, size - 65536), 0);
        sp_device_counters counters;
        sp_device_get_counters(device, &counters);
        assert_int_equal(counters.copied_bytes, 0);
        sp_device_unlink(device, region);
        sp_region_destroy(region);
        sp_device_close(device);
        metal_check();
    }
}

static void files_behind_memory_are_refused(void **state) {
    (void)state;
    sp_device *device = open_device();
    sp_region *region;
    sp_error error = {0};
    sp_region_options options = {.reserve_bytes = 4 * MIB, .size_bytes = MIB, .backing = SP_BACKING_SHAREABLE};
    TEST_OK(sp_region_create(&options, &region, &error), error);
    assert_int_equal(sp_device_link(device, region, &error), SP_LINK_REFUSED);
    sp_region_destroy(region);
    sp_device_close(device);
    metal_check();
}

/* Loads one tensor that lies at `at` of a mapping of whole pages, and says how much of it is used there. */
static void load_at(uint8_t *base, size_t at, size_t bytes, bool droppable, uint64_t *in_place, uint64_t *own) {
    sp_error error = {0};
    void *context;
    spi_store *store;
    sp_device_counters counters;
    sp_device *device = open_device();
    const spi_backend *backend = spi_device_backend(device, &context);
    spi_tensor tensor = {
        .name = "t", .type = SP_F32, .rows = (uint32_t)(bytes / 4096), .cols = 1024, .data = base + at, .bytes = bytes};
    const spi_weights weights = {&tensor, 1, droppable};
    TEST_OK(backend->load(context, &weights, NULL, NULL, &store, &error), error);
    sp_device_get_counters(device, &counters);
    *in_place = counters.weights_in_place_bytes;
    *own = counters.weights_own_bytes;
    backend->unload(context, store);
    sp_device_get_counters(device, &counters);
    assert_int_equal(counters.weights_in_place_bytes + counters.weights_own_bytes, 0);
    sp_device_close(device);
    metal_check();
}

static void weights_in_place(void **state) {
    (void)state;
    uint64_t in_place, own;
    uint8_t *memory = mmap(NULL, 12 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    uint8_t *base = (uint8_t *)(((uintptr_t)memory + PAGE - 1) / PAGE * PAGE);
    assert_int_equal(mprotect(memory, 12 * PAGE, PROT_READ), 0); /* as a model file's */
    load_at(base, 0, 4 * PAGE, true, &in_place, &own);
    assert_int_equal(in_place, 4 * PAGE);
    assert_int_equal(own, 0);
    /* Its first page is not wholly the tensor's, and nobody says whose the rest is. */
    load_at(base, 4096 + 36, 4 * PAGE, true, &in_place, &own);
    assert_int_equal(in_place, 0);
    assert_int_equal(own, 4 * PAGE);
    load_at(base, 0, 4 * PAGE, false, &in_place, &own); /* no file's */
    assert_int_equal(in_place, 0);
    assert_int_equal(own, 4 * PAGE);
    munmap(memory, 12 * PAGE);
}

static void pipelines_are_kept(void **state) {
    (void)state;
    sp_error error = {0};
    char path[200], command[300];
    snprintf(command, sizeof command, "rm -rf %s/samepage", folder);
    assert_int_equal(system(command), 0);
    TEST_OK(live(&error), error);
    assert_int_equal(metal.counts()->archive_hits, 0);
    metal_reset();
    TEST_OK(live(&error), error);
    long hits = metal.counts()->archive_hits;
    assert_true(hits > 5);
    snprintf(command, sizeof command, "ls %s/samepage/metal-*.archive", folder);
    FILE *list = popen(command, "r");
    assert_non_null(list);
    assert_non_null(fgets(path, sizeof path, list));
    assert_int_equal(pclose(list), 0);
    path[strcspn(path, "\n")] = 0;
    FILE *file = fopen(path, "w"); /* what is no archive is made anew */
    assert_non_null(file);
    fputs("nonsense", file);
    fclose(file);
    metal_reset();
    TEST_OK(live(&error), error);
    assert_int_equal(metal.counts()->archive_hits, 0);
    metal_reset();
    TEST_OK(live(&error), error);
    assert_int_equal(metal.counts()->archive_hits, hits);
    /* What another user could have written is not run. */
    snprintf(path, sizeof path, "%s/samepage", folder);
    assert_int_equal(chmod(path, 0777), 0);
    metal_reset();
    TEST_OK(live(&error), error);
    assert_int_equal(metal.counts()->archive_hits, 0);
    assert_int_equal(chmod(path, 0700), 0);
    metal_check();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_it_is, begin),
        cmocka_unit_test_setup(refused_devices, begin),
        cmocka_unit_test_setup(a_life, begin),
        cmocka_unit_test_setup(orders_agree, begin),
        cmocka_unit_test_setup(every_object_fails, begin),
        cmocka_unit_test_setup(every_allocation_fails, begin),
        cmocka_unit_test_setup(runs_fail, begin),
        cmocka_unit_test_setup(runs_take_their_time, begin),
        cmocka_unit_test_setup(kernels_that_do_not_fit, begin),
        cmocka_unit_test_setup(regions_grow, begin),
        cmocka_unit_test_setup(files_behind_memory_are_refused, begin),
        cmocka_unit_test_setup(weights_in_place, begin),
        cmocka_unit_test_setup(pipelines_are_kept, begin),
    };
    return cmocka_run_group_tests(tests, begin_group, end_group);
}
