/* Links of the Vulkan backend: import, growth while linked, coherence through the original pointer, unlinking, limits,
 * and failing allocations. Runs on whatever adapter there is; without one it says so and skips. */
#include "support/support.h"

#include <stdio.h>
#include <string.h>

#include "base/half.h"
#include "base/memory.h"
#include "device/vulkan/vulkan.h"
#include "os/vm.h"
#include "samepage/device.h"
#include "samepage/dtype.h"

#define MIB ((size_t)1 << 20)

static bool has_vulkan(void) {
    sp_device_info infos[16];
    size_t count;
    sp_error error = {0};
    TEST_OK(sp_device_list(infos, 16, &count, &error), error);
    for (size_t i = 0; i < count; i++) {
        if (!strncmp(infos[i].name, "vulkan", 6)) {
            return true;
        }
    }
    return false;
}

#define NEED_VULKAN()                                                                                                  \
    if (!has_vulkan()) {                                                                                               \
        print_message("there is no Vulkan device here: skipped\n");                                                    \
        skip();                                                                                                        \
    }

static sp_device *open_device(void) {
    sp_device *device;
    sp_error error = {0};
    TEST_OK(sp_device_open("vulkan", NULL, &device, &error), error);
    return device;
}

static sp_region *make_region(size_t bytes, sp_backing backing) {
    sp_region *region;
    sp_error error = {0};
    sp_region_options options = {.reserve_bytes = 1024 * MIB, .size_bytes = bytes, .backing = backing};
    TEST_OK(sp_region_create(&options, &region, &error), error);
    return region;
}

/* Small whole numbers: every order of summation gives the same f32. */
static float number(uint32_t i, uint32_t j) {
    return (float)((int)((i * 7 + j * 13) % 11) - 5);
}

static void put(uint8_t *base, uint64_t offset, int32_t type, uint32_t index, float value) {
    if (type == SP_F32) {
        memcpy(base + offset + (uint64_t)index * 4, &value, 4);
    } else {
        uint16_t half = spi_f32_to_f16(value);
        memcpy(base + offset + (uint64_t)index * 2, &half, 2);
    }
}

/* Multiplies through the region's own pointer and counts elements that differ from the exact product. */
static uint32_t multiply(sp_device *device, sp_region *region, const sp_matmul *args) {
    uint8_t *base = sp_region_base(region);
    for (uint32_t i = 0; i < args->m * args->k; i++) {
        put(base, args->a_offset, args->type, i, number(i / args->k, i % args->k));
    }
    for (uint32_t i = 0; i < args->k * args->n; i++) {
        put(base, args->b_offset, args->type, i, number(i % args->n + 3, i / args->n));
    }
    memset(base + args->c_offset, 0xff, (size_t)args->m * args->n * 4);
    sp_error error = {0};
    TEST_OK(sp_device_matmul(device, region, args, &error), error);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < args->m; i++) {
        for (uint32_t j = 0; j < args->n; j++) {
            float sum = 0, got;
            for (uint32_t k = 0; k < args->k; k++) {
                sum += number(i, k) * number(j + 3, k);
            }
            memcpy(&got, base + args->c_offset + ((uint64_t)i * args->n + j) * 4, 4);
            wrong += got != sum;
        }
    }
    return wrong;
}

static sp_matmul arguments(uint64_t at, uint32_t m, uint32_t n, uint32_t k, int32_t type) {
    uint64_t element = type == SP_F32 ? 4 : 2;
    uint64_t b = (at + m * k * element + 15) / 16 * 16, c = (b + k * n * element + 15) / 16 * 16;
    return (sp_matmul){.m = m, .n = n, .k = k, .type = type, .a_offset = at, .b_offset = b, .c_offset = c};
}

static void test_in_place(void **state) {
    (void)state;
    NEED_VULKAN();
    sp_device *device = open_device();
    sp_error error = {0};
    static const sp_backing backings[] = {SP_BACKING_ANONYMOUS, SP_BACKING_SHAREABLE};
    for (size_t i = 0; i < 2; i++) {
        sp_region *region = make_region(4 * MIB, backings[i]);
        sp_status status = sp_device_link(device, region, &error);
        if (status == SP_LINK_REFUSED && backings[i] == SP_BACKING_SHAREABLE) {
            sp_region_destroy(region);
            continue; /* a card that takes only anonymous memory said so */
        }
        TEST_OK(status, error);
        static const uint32_t sizes[][3] = {{1, 1, 1}, {8, 64, 16}, {9, 65, 17}, {128, 128, 128}, {33, 7, 5}};
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            for (int half = 0; half < 2; half++) {
                sp_matmul args = arguments(1040 * s, sizes[s][0], sizes[s][1], sizes[s][2], half ? SP_F16 : SP_F32);
                assert_int_equal(multiply(device, region, &args), 0);
            }
        }
        sp_device_counters counters;
        sp_device_get_counters(device, &counters);
        assert_int_equal(counters.copied_bytes, 0);
        assert_int_equal(counters.linked_bytes, sp_region_committed_bytes(region));
        sp_device_unlink(device, region);
        sp_region_destroy(region);
    }
    sp_device_close(device);
}

static void test_growth(void **state) {
    (void)state;
    NEED_VULKAN();
    sp_device *device = open_device();
    sp_region *region = make_region(65536, SP_BACKING_ANONYMOUS);
    sp_error error = {0};
    TEST_OK(sp_device_link(device, region, &error), error);
    for (size_t size = 65536; size < 40 * MIB; size += size / 2 + 65536) {
        TEST_OK(sp_region_grow(region, size, &error), error);
        uint64_t end = sp_region_size_bytes(region);
        sp_matmul args = arguments(end - 32768, 32, 16, 24, SP_F32);
        assert_int_equal(multiply(device, region, &args), 0);
        args = arguments(0, 16, 16, 16, SP_F16);
        assert_int_equal(multiply(device, region, &args), 0);
    }
    sp_device_unlink(device, region);
    sp_region_destroy(region);
    sp_device_close(device);
}

static void test_cycles(void **state) {
    (void)state;
    NEED_VULKAN();
    sp_device *device = open_device();
    sp_region *region = make_region(8 * MIB, SP_BACKING_ANONYMOUS);
    memset(sp_region_base(region), 1, 8 * MIB);
    sp_error error = {0};
    sp_matmul args = arguments(0, 8, 8, 8, SP_F32);
    size_t before = 0;
    for (int i = 0; i < 600; i++) {
        TEST_OK(sp_device_link(device, region, &error), error);
        assert_int_equal(multiply(device, region, &args), 0);
        sp_device_unlink(device, region);
        if (i == 99) {
            before = spi_vm_resident_bytes();
        }
    }
    size_t after = spi_vm_resident_bytes();
#if !defined(__SANITIZE_ADDRESS__) /* its quarantine grows */
    assert_in_range(after, 0, before + 2 * MIB);
#else
    (void)before, (void)after;
#endif
    sp_region_destroy(region);
    sp_device_close(device);
}

static void test_refused(void **state) {
    (void)state;
    NEED_VULKAN();
    sp_device *device = open_device();
    sp_error error = {0};
    sp_region *empty = make_region(0, SP_BACKING_ANONYMOUS);
    assert_int_equal(sp_device_link(device, empty, &error), SP_LINK_REFUSED);
    sp_region_destroy(empty);
    sp_region *region = make_region(MIB, SP_BACKING_ANONYMOUS);
    sp_matmul args = arguments(0, 8, 8, 8, SP_F32);
    assert_int_equal(sp_device_matmul(device, region, &args, &error), SP_INVALID);
    sp_region_destroy(region);
    sp_device_close(device);
    assert_int_equal(sp_device_open("vulkan:15", NULL, &device, &error), SP_NO_DEVICE);
    assert_null(device);
}

/* With limits so small that every path which cuts things into parts is taken. */
static void test_small_limits(void **state) {
    (void)state;
    NEED_VULKAN();
    spi_vk_limits limits = {.allocation_bytes_max = 4 * MIB, .window_bytes_max = 65536};
    spi_vk_test_limits(&limits);
    sp_device *device = open_device();
    spi_vk_test_limits(NULL);
    sp_region *region = make_region(3 * MIB, SP_BACKING_ANONYMOUS);
    sp_error error = {0};
    TEST_OK(sp_device_link(device, region, &error), error);
    TEST_OK(sp_region_grow(region, 9 * MIB, &error), error);
    /* Each matrix is larger than a binding and starts before the end of a chunk of 4 MiB; 128-byte rows, aligned to
     * themselves, do not lie across it. */
    sp_matmul args = {.m = 700, .n = 32, .k = 600, .type = SP_F32};
    args.a_offset = 4 * MIB - 300 * 2400 - 2400 % 4096;
    args.b_offset = 1 * MIB;
    args.c_offset = 8 * MIB - 128 * 350;
    args.a_offset = 4 * MIB - 2400 * 300;
    assert_int_equal(multiply(device, region, &args), 0);
    args.type = SP_F16;
    args.a_offset = 4 * MIB - 1200 * 300;
    assert_int_equal(multiply(device, region, &args), 0);
    /* A row across the seam, and a row that no binding holds. */
    sp_matmul across = arguments(4 * MIB - 1200 - 608, 2, 16, 600, SP_F32);
    across.b_offset = 0;
    assert_int_equal(sp_device_matmul(device, region, &across, &error), SP_LINK_REFUSED);
    sp_matmul wide = arguments(0, 1, 1, 20000, SP_F32);
    assert_int_equal(sp_device_matmul(device, region, &wide, &error), SP_UNSUPPORTED);
    sp_matmul good = arguments(64, 9, 9, 9, SP_F32);
    assert_int_equal(multiply(device, region, &good), 0);
    sp_device_unlink(device, region);
    sp_region_destroy(region);
    sp_device_close(device);
}

/* Whatever allocation fails, the call says so and the next one works. */
static void test_no_memory(void **state) {
    (void)state;
    NEED_VULKAN();
    sp_region *region = make_region(2 * MIB, SP_BACKING_ANONYMOUS);
    sp_matmul args = arguments(0, 8, 8, 8, SP_F32);
    int refused = 0;
    for (long n = 0;; n++) {
        sp_device *device = NULL;
        sp_error error = {0};
        spi_memory_fail_after(n);
        sp_status status = sp_device_open("vulkan", NULL, &device, &error);
        status = status ? status : sp_device_link(device, region, &error);
        if (!status) {
            status = sp_device_matmul(device, region, &args, &error);
            spi_memory_fail_after(-1);
            assert_int_equal(multiply(device, region, &args), 0);
            sp_device_unlink(device, region);
        }
        spi_memory_fail_after(-1);
        sp_device_close(device);
        if (!status) {
            break;
        }
        assert_int_equal(status, SP_NO_MEMORY);
        refused++;
    }
    assert_true(refused >= 4);
    sp_region_destroy(region);
}

/* A growth that cannot be linked leaves the region and its link as they were. */
static void test_growth_refused(void **state) {
    (void)state;
    NEED_VULKAN();
    sp_device *device = open_device();
    sp_region *region = make_region(2 * MIB, SP_BACKING_ANONYMOUS);
    sp_error error = {0};
    TEST_OK(sp_device_link(device, region, &error), error);
    spi_memory_fail_after(0);
    assert_int_equal(sp_region_grow(region, 6 * MIB, &error), SP_NO_MEMORY);
    spi_memory_fail_after(-1);
    assert_int_equal(sp_region_size_bytes(region), 2 * MIB);
    sp_matmul args = arguments(MIB, 16, 16, 16, SP_F32);
    assert_int_equal(multiply(device, region, &args), 0);
    TEST_OK(sp_region_grow(region, 12 * MIB, &error), error);
    args = arguments(11 * MIB, 16, 16, 16, SP_F32);
    assert_int_equal(multiply(device, region, &args), 0);
    sp_device_unlink(device, region);
    sp_region_destroy(region);
    sp_device_close(device);
}

/* A region's next user finds nothing of the last in the device's memory, and the link as it was. */
static void test_forgetting(void **state) {
    (void)state;
    NEED_VULKAN();
    sp_error error = {0};
    const spi_vk_limits limits = {.unmapped = true};
    spi_vk_test_limits(&limits);
    sp_device *device = open_device();
    spi_vk_test_limits(NULL);
    sp_region *region = make_region(4 * MIB, SP_BACKING_ANONYMOUS);
    TEST_OK(sp_device_link(device, region, &error), error);
    void *context;
    const spi_backend *backend = spi_device_backend(device, &context);
    spi_vk_link *link = (spi_vk_link *)spi_device_find_link(device, region);
    for (int round = 0; round < 2; round++) {
        sp_device_counters before, now;
        sp_device_get_counters(device, &before);
        TEST_OK(spi_device_host_wrote(device, region, 3 * MIB, MIB, &error), error);
        TEST_OK(spi_vk_mirror_cover(context, &link->base, 0, 2 * MIB, 2 * MIB, &error), error);
        sp_device_get_counters(device, &now);
        assert_int_equal(now.copied_bytes - before.copied_bytes, 2 * MIB);
        assert_non_null(link->mirrors);
        TEST_OK(backend->forget(context, &link->base, &error), error);
        assert_null(link->mirrors);
        assert_int_equal(link->valid.count + link->written.count, 0);
    }
    sp_matmul args = arguments(1040, 8, 64, 16, SP_F32);
    assert_int_equal(multiply(device, region, &args), 0);
    sp_device_unlink(device, region);
    sp_region_destroy(region);
    sp_device_close(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_place),       cmocka_unit_test(test_growth),       cmocka_unit_test(test_cycles),
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_small_limits), cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_growth_refused), cmocka_unit_test(test_forgetting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
