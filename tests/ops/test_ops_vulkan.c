/* tests/ops/test_ops_vulkan.c - every op on each Vulkan device, against double: with the device's own limits, and with
 * limits so small that weights are cut into pieces and sessions into spans, and what a discrete card does otherwise:
 * sums in slices, memory that the host does not reach. Skipped only where there is no device. */
#include <stdio.h>

#include "device/vulkan/vulkan.h"
#include "ops/ops_suite.h"
#include "support/support.h"

/* Barely more than the largest KV block of a case, and what a tile of its widest weight takes in F32. */
#define SMALL_WINDOW_BYTES ((uint64_t)544 << 10)

static void run_suite(const spi_vk_limits *limits, const char *what) {
    for (uint32_t i = 0; i < OPS_CARDS_MAX; i++) {
        spi_vk_test_limits(limits);
        ops_device on = {.device = ops_open_card("vulkan", i)};
        spi_vk_test_limits(NULL);
        if (!on.device) {
            if (!i) {
                skip();
            }
            return;
        }
        sp_device_info info;
        sp_device_get_info(on.device, &info);
        void *context;
        spi_device_backend(on.device, &context);
        const spi_vk *vk = context;
        on.q8_columns = SPI_VK_Q8_COLUMNS;
        on.exact_acts = !vk->limits.bytes;
        on.matrix_units = vk->limits.kernels == SPI_VK_KERNELS_FAST;
        char label[64];
        snprintf(label, sizeof label, "%s/%s", info.name, what);
        print_message("%s: %s\n", label, info.description);
        ops_suite(label, &on, 1);
        ops_suite_matmul(label, on.device);
        sp_device_close(on.device);
    }
}

static void test_own_limits(void **state) {
    (void)state;
    run_suite(NULL, "own");
}

static void test_small_limits(void **state) {
    (void)state;
    spi_vk_limits limits = {
        .window_bytes_max = SMALL_WINDOW_BYTES, .piece_tiles_max = 1, .slices = 4, .unmapped = true};
    run_suite(&limits, "small");
}

/* What hardware runs: kernels for subgroups. A device without them runs plain ones once more. */
static void test_fast_kernels(void **state) {
    (void)state;
    spi_vk_limits limits = {.kernels = SPI_VK_KERNELS_FAST, .few_rows_max = 16, .matrix_rows_min = 9, .unmapped = true};
    run_suite(&limits, "fast");
}

/* And without what newer hardware has. */
static void test_without_instructions(void **state) {
    (void)state;
    spi_vk_limits limits = {.kernels = SPI_VK_KERNELS_FAST,
                            .expanded_bytes_max = 1,
                            .matrix_rows_min = 9,
                            .share_steps_min = 1,
                            .no_bytes = true,
                            .no_cooperative = true};
    run_suite(&limits, "exact");
}

/* With a test's name: that one alone, so that all four can run beside each other. */
int main(int count, char **words) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_own_limits), cmocka_unit_test(test_small_limits),
                                       cmocka_unit_test(test_fast_kernels),
                                       cmocka_unit_test(test_without_instructions)};
    cmocka_set_test_filter(count > 1 ? words[1] : NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
