/* tests/ops/test_ops_amx.c - every op with the table for AMX, whose tiles are emulated here (device/cpu/amx_tiles.h),
 * on any machine with AVX-512. On one with AMX, test_ops_cpu.c runs the same over real tiles. */
#include "ops/ops_suite.h"
#include "support/support.h"

static void test_emulated(void **state) {
    (void)state;
    ops_device devices[2] = {{.bf16 = true}, {.bf16 = true}};
    for (uint32_t i = 0; i < 2; i++) {
        sp_device_options options = {.thread_count = 1 + 2 * i, .isa = "amx"};
        sp_error error = {0};
        sp_status status = sp_device_open("cpu", &options, &devices[i].device, &error);
        if (status == SP_UNSUPPORTED) {
            print_message("no AVX-512 here\n");
            skip();
        }
        TEST_OK(status, error);
    }
    ops_suite("cpu/amx emulated", devices, 2);
    sp_device_close(devices[0].device);
    sp_device_close(devices[1].device);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_emulated)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
