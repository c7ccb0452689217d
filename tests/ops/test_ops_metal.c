/* tests/ops/test_ops_metal.c - every op on Metal, against double. Elsewhere than on a Mac the device is the stand-in of
 * tests/emulation: the cases then run in three orders of threads and of dispatches, which must give the same bits, and
 * with buffers so short that weights are cut into pieces and sessions into spans. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "device/metal/metal.h"
#include "emulation/emulation.h"
#include "ops/ops_suite.h"
#include "support/support.h"

static emu_settings *(*settings)(void);
static const char *(*violation)(void);

static int find_emulation(void **state) {
    (void)state;
    void *library = dlopen("libsamepage_metal_emulation.so", RTLD_NOW | RTLD_LOCAL);
    void *found[] = {library ? dlsym(library, "emu_get_settings") : NULL,
                     library ? dlsym(library, "emu_violation") : NULL};
    memcpy(&settings, &found[0], sizeof settings);
    memcpy(&violation, &found[1], sizeof violation);
    return 0;
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

static void check_rules(void) {
    const char *broken = violation ? violation() : NULL;
    if (broken) {
        print_error("a rule of Metal's was broken: %s\n", broken);
    }
    assert_null(broken);
}

/* The same device in each of the orders; on a Mac there is one order, the device's own. */
static void run_suite(const spi_mt_limits *limits, const char *what) {
    ops_device devices[EMU_ORDER_COUNT];
    uint32_t count = settings ? EMU_ORDER_COUNT : 1;
    spi_mt_test_limits(limits);
    for (uint32_t i = 0; i < count; i++) {
        if (settings) {
            settings()->order = (emu_order)i;
        }
        devices[i] = (ops_device){.device = open_metal(), .exact_acts = true};
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
    check_rules();
}

static void test_own_limits(void **state) {
    (void)state;
    run_suite(NULL, "own");
}

/* Barely more than twice the largest KV block of a case: sessions are cut into spans. */
static void test_small_limits(void **state) {
    (void)state;
    spi_mt_limits limits = {.buffer_bytes_max = (uint64_t)768 << 10, .piece_bytes_max = 4096, .slab_bytes = 16384};
    run_suite(&limits, "small");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_own_limits), cmocka_unit_test(test_small_limits)};
    return cmocka_run_group_tests(tests, find_emulation, NULL);
}
