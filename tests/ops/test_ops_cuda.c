/* tests/ops/test_ops_cuda.c - every op on each CUDA card, against double: as the card would choose, and with the
 * plainest kernels, KV in place as on a card that shares the host's memory, and windows so small that weights cross
 * them in pieces. Skipped only where there is no card. */
#include <stdio.h>
#include <string.h>

#include "device/cuda/cuda.h"
#include "ops/ops_suite.h"
#include "support/support.h"

static void run_suite(const spi_cu_choices *choices, const char *what) {
    for (uint32_t i = 0; i < OPS_CARDS_MAX; i++) {
        spi_cu_test_choices(choices);
        ops_device on = {
            .device = ops_open_card("cuda", i), .exact_acts = true, .matrix_units = !choices || !choices->op_by_op};
        spi_cu_test_choices(NULL);
        if (!on.device) {
            if (!i) {
                skip();
            }
            return;
        }
        sp_device_info info;
        sp_device_get_info(on.device, &info);
        char label[64];
        snprintf(label, sizeof label, "%s/%s", info.name, what);
        print_message("%s: %s\n", label, info.description);
        ops_suite(label, &on, 1);
        ops_suite_matmul(label, on.device);
        sp_device_close(on.device);
    }
}

static void test_own_choices(void **state) {
    (void)state;
    run_suite(NULL, "own");
}

static void test_in_place(void **state) {
    (void)state;
    spi_cu_choices choices = {.in_place = true, .op_by_op = true, .window_bytes = 4096};
    run_suite(&choices, "in place");
}

/* "plain" is every op by a kernel of its own, and nothing else: for compute-sanitizer, with SAMEPAGE_TEST_STRIDE. */
int main(int count, char **words) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_in_place), cmocka_unit_test(test_own_choices)};
    bool is_plain = count > 1 && !strcmp(words[1], "plain");
    return is_plain ? cmocka_run_group_tests_name("plain", (const struct CMUnitTest[]){tests[0]}, NULL, NULL)
                    : cmocka_run_group_tests(tests, NULL, NULL);
}
