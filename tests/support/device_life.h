/* tests/support/device_life.h - a life of a device, for tests in which anything in it may fail, and one in which every
 * allocation does. Uses bench_shape.c. May include: support.h, device, base. */
#ifndef TEST_DEVICE_LIFE_H
#define TEST_DEVICE_LIFE_H

#include "support/support.h"

#include "base/memory.h"
#include "bench_shape.h"
#include "device/backend.h"

#define TEST_LIFE_CONTEXT 300u

/* A region that is linked and grows, a model that is a tape of runs of at most rows_max rows, runs one behind the
 * other, blocks that the host wrote, and a guest's product. The first failure ends it; everything that was made is
 * given back in any case. */
static inline sp_status test_device_life(const char *name, const bench_shape *shape, uint32_t rows_max,
                                         const uint32_t *runs, size_t run_count, sp_error *error) {
    const size_t mib = (size_t)1 << 20;
    sp_device *device;
    sp_region *region = NULL;
    bench_model model = {0};
    bool linked = false;
    sp_status status = sp_device_open(name, NULL, &device, error);
    if (status) {
        return status;
    }
    sp_region_options options = {.reserve_bytes = 64 * mib, .size_bytes = 100};
    status = sp_region_create(&options, &region, error);
    if (!status) {
        status = sp_device_link(device, region, error);
        linked = !status;
    }
    status = status ? status : sp_region_grow(region, 5 * mib, error);
    status = status ? status : sp_region_grow(region, 20 * mib, error);
    bool opened = !status;
    status = status ? status : bench_model_open(device, shape, rows_max, TEST_LIFE_CONTEXT, &model, error);
    uint32_t position = 0;
    for (size_t i = 0; i < run_count && !status; i++) {
        status = bench_model_run(&model, runs[i], position, i % 2, error) < 0 ? error->status : SP_OK;
        position += runs[i];
    }
    status = status ? status : spi_device_host_wrote(device, model.region, 0, model.tape.kv.block_bytes * 3, error);
    if (!status) {
        status = bench_model_run(&model, 1, 200, true, error) < 0 ? error->status : SP_OK;
    }
    sp_matmul product = {.m = 3, .n = 40, .k = 5, .type = SP_F32, .a_offset = 0, .b_offset = 1024, .c_offset = 4096};
    status = status ? status : sp_device_matmul(device, region, &product, error);
    if (opened) {
        bench_model_close(&model);
    }
    if (linked) {
        sp_device_unlink(device, region);
    }
    sp_region_destroy(region);
    sp_device_close(device);
    return status;
}

/* Every allocation of a life fails in turn, until one passes. Between two of them the stand-in for the driver begins
 * anew, and says that nothing was left. */
static inline void test_every_allocation_of_life_fails(sp_status (*life)(sp_error *error), void (*reset)(void),
                                                       void (*check)(void)) {
    sp_status status;
    long n = 0;
    do {
        reset();
        spi_memory_fail_after(n++);
        sp_error error = {0};
        status = life(&error);
        spi_memory_fail_after(-1);
        assert_true(status == SP_OK || status == SP_NO_MEMORY || status == SP_NO_DEVICE);
        check();
    } while (status && n < 2000);
    assert_int_equal(status, SP_OK);
}

#endif
