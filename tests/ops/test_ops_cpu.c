/* tests/ops/test_ops_cpu.c - every op on the CPU device: each instruction set that runs here, against double; and with
 * one, two and five threads, whose results must be the same bits. */
#include <stdio.h>
#include <string.h>

#include "ops/ops_suite.h"
#include "os/cpu.h"
#include "support/support.h"

static const char *const isas[] = {
    "reference",
#if defined(__x86_64__)
    "avx2",      "avx512", "avx512bf16", "amx",
#elif defined(__aarch64__)
    "neon",      "dotprod", "i8mm", "bf16",
#endif
};
#define ISA_COUNT   (sizeof isas / sizeof isas[0])
#define DEVICES_MAX 6

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

static void test_isa(void **state) {
    const char *isa = *state;
    ops_device devices[DEVICES_MAX] = {0};
    uint32_t threads[] = {1, 2, 5}, count = 0;
    while (count < 3 && (devices[count].device = open_cpu(isa, threads[count]))) {
        devices[count].exact_acts = !strcmp(isa, "reference");
        devices[count].bf16 = !strcmp(isa, "amx") || strstr(isa, "bf16");
        count++;
    }
    if (!count) {
        print_message("no %s here\n", isa);
        skip();
    }
    /* Arm's levels add up in the same order, whatever they multiply with. */
    static const char *const same[] = {"dotprod", "i8mm"};
    for (uint32_t i = 0; !strcmp(isa, "neon") && i < 2; i++) {
        count += (devices[count].device = open_cpu(same[i], 2)) != NULL;
    }
    char label[32];
    snprintf(label, sizeof label, "cpu/%s", isa);
    ops_suite(label, devices, count);
    for (uint32_t i = 0; i < count; i++) {
        sp_device_close(devices[i].device);
    }
}

static void test_matmul(void **state) {
    (void)state;
    for (uint32_t i = 0; i < ISA_COUNT; i++) {
        sp_device *device = open_cpu(isas[i], 2);
        if (device) {
            char label[32];
            snprintf(label, sizeof label, "cpu/%s", isas[i]);
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

/* Arguments: instruction sets, in place of all of them. */
int main(int argc, char **argv) {
    struct CMUnitTest all[ISA_COUNT + 2] = {cmocka_unit_test(test_matmul), cmocka_unit_test(test_unknown_isa)};
    size_t count = 2;
    for (size_t i = 0; i < ISA_COUNT; i++) {
        bool wanted = argc < 2;
        for (int k = 1; k < argc; k++) {
            wanted |= !strcmp(argv[k], isas[i]);
        }
        if (wanted) {
            all[count++] = (struct CMUnitTest){isas[i], test_isa, NULL, NULL, (void *)(uintptr_t)isas[i]};
        }
    }
    return _cmocka_run_group_tests("ops on the cpu device", all, count, NULL, NULL);
}
