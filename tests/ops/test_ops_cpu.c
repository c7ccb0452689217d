/* tests/ops/test_ops_cpu.c - every op on the CPU device: each instruction set that runs here, against double; and with
 * one, two and five threads, whose results must be the same bits. */
#include <stdio.h>
#include <string.h>

#include "ops/ops_suite.h"
#include "os/cpu.h"
#include "support/support.h"

static const char *const all_isas[] = {"reference", "avx2", "avx512", "amx"};

/* NULL: not on this machine, and the refusal says what there is. */
static sp_device *open_cpu(const char *isa, uint32_t thread_count) {
    sp_device_options options = {.thread_count = thread_count, .isa = isa};
    sp_error error = {0};
    sp_device *device = NULL;
    sp_status status = sp_device_open("cpu", &options, &device, &error);
    if (status == SP_UNSUPPORTED) {
        assert_non_null(strstr(error.message, "reference"));
        return NULL;
    }
    TEST_OK(status, error);
    sp_device_info info;
    sp_device_get_info(device, &info);
    assert_string_equal(info.isa, isa);
    assert_int_equal(info.thread_count, thread_count);
    return device;
}

static void run_isa(const char *isa) {
    ops_device devices[3] = {0};
    uint32_t threads[] = {1, 2, 5};
    for (uint32_t i = 0; i < 3; i++) {
        devices[i].device = open_cpu(isa, threads[i]);
        devices[i].exact_acts = !strcmp(isa, "reference");
        devices[i].bf16 = !strcmp(isa, "amx");
        if (!devices[i].device) {
            print_message("no %s here\n", isa);
            skip();
        }
    }
    char label[32];
    snprintf(label, sizeof label, "cpu/%s", isa);
    ops_suite(label, devices, 3);
    for (uint32_t i = 0; i < 3; i++) {
        sp_device_close(devices[i].device);
    }
}

static void test_reference(void **state) {
    (void)state;
    run_isa(all_isas[0]);
}

static void test_avx2(void **state) {
    (void)state;
    run_isa(all_isas[1]);
}

static void test_avx512(void **state) {
    (void)state;
    run_isa(all_isas[2]);
}

static void test_amx(void **state) {
    (void)state;
    run_isa(all_isas[3]);
}

static void test_matmul(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        sp_device *device = open_cpu(all_isas[i], 2);
        if (device) {
            char label[32];
            snprintf(label, sizeof label, "cpu/%s", all_isas[i]);
            ops_suite_matmul(label, device);
            sp_device_close(device);
        }
    }
}

static void test_unknown_isa(void **state) {
    (void)state;
    sp_device_options options = {.isa = "sse9"};
    sp_error error = {0};
    sp_device *device;
    assert_int_equal(sp_device_open("cpu", &options, &device, &error), SP_UNSUPPORTED);
    assert_null(device);
    assert_non_null(strstr(error.message, "sse9"));
    assert_non_null(strstr(error.message, "reference"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference), cmocka_unit_test(test_avx2),   cmocka_unit_test(test_avx512),
        cmocka_unit_test(test_amx),       cmocka_unit_test(test_matmul), cmocka_unit_test(test_unknown_isa),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
