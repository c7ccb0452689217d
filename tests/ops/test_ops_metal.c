/* tests/ops/test_ops_metal.c - every op on Metal, against double. Elsewhere than on a Mac the device is the stand-in of
 * tests/emulation: the cases then run in three orders of threads and of dispatches, which must give the same bits, and
 * with buffers so short that weights are cut into pieces and sessions into spans. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/ops_suite.h"
#include "support/metal_rig.h"
#include "support/support.h"

/* On a Mac it is the real device, if there is one; elsewhere nothing but the stand-in. */
static int find(void **state) {
#if defined(__APPLE__)
    (void)state;
    return 0;
#else
    return metal_find(state);
#endif
}

static sp_device *open_metal(void) {
    sp_error error = {0};
    sp_device *device = NULL;
    sp_status status = sp_device_open("metal", NULL, &device, &error);
    if (status == SP_NO_DEVICE) {
        print_message("no Metal device: %s\n", error.message);
        skip();
    }
    TEST_OK(status, error);
    return device;
}

/* The same device in so many orders; on a Mac there is one, the device's own. */
static void run_suite(const spi_mt_limits *limits, const char *what, uint32_t orders, bool mapped) {
    ops_device devices[EMU_ORDER_COUNT];
    uint32_t count = metal.settings ? orders : 1;
    spi_mt_test_limits(limits);
    for (uint32_t i = 0; i < count; i++) {
        if (metal.settings) {
            metal.settings()->order = (emu_order)i;
        }
        devices[i] = (ops_device){.device = open_metal(), .exact_acts = true, .mapped_weights = mapped};
        devices[i].slow = metal.settings != NULL; /* lanes are fibers there: make test-long runs all cases */
        devices[i].columns_max = limits ? (uint32_t)(limits->piece_bytes_max / sizeof(float)) : 0;
    }
    spi_mt_test_limits(NULL);
    sp_device_info info;
    sp_device_get_info(devices[0].device, &info);
    print_message("metal/%s: %s\n", what, info.description);
    char label[64];
    snprintf(label, sizeof label, "metal/%s", what);
    ops_suite(label, devices, count);
    for (uint32_t i = 0; i < count; i++) {
        ops_suite_matmul(label, devices[i].device);
        sp_device_close(devices[i].device);
    }
    if (metal.settings) {
        metal_check();
    }
}

static void test_own_limits(void **state) {
    (void)state;
    run_suite(NULL, "own", EMU_ORDER_COUNT, false);
}

/* Barely more than twice the largest KV block of a case: sessions are cut into spans. */
static void test_small_limits(void **state) {
    (void)state;
    spi_mt_limits limits = {.buffer_bytes_max = (uint64_t)768 << 10, .piece_bytes_max = 4096, .slab_bytes = 16384};
    run_suite(&limits, "small", EMU_ORDER_COUNT, false);
}

/* Weights that are not copied, in bindings that begin where they may. */
static void test_in_place(void **state) {
    (void)state;
    run_suite(NULL, "in place", 1, true);
}

/* A wrong number has often a rule that was broken behind it. */
static int tell_broken(void **state) {
    (void)state;
    const char *broken = metal.settings ? metal.violation() : NULL;
    if (broken) {
        print_message("a rule of Metal's was broken: %s\n", broken);
        metal_reset();
    }
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(test_own_limits, tell_broken),
                                       cmocka_unit_test_teardown(test_small_limits, tell_broken),
                                       cmocka_unit_test_teardown(test_in_place, tell_broken)};
    return cmocka_run_group_tests(tests, find, NULL);
}
