/* tests/support/cuda_stand_in.h - the CUDA backend over the stand-in for its driver (fake_cuda.h): how tests load it
 * and see whether it was misused, a small model on it, and a life of a device in which every call fails in turn. May
 * include: support.h, device, base. */
#ifndef TEST_CUDA_STAND_IN_H
#define TEST_CUDA_STAND_IN_H

#include "support/support.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_shape.h"
#include "device/cuda/cuda.h"
#include "support/fake_cuda.h"

#define FAKE(result, name, parameters) static result(*name##_) parameters
FAKE(void, fake_cuda_reset, (void));
FAKE(void, fake_cuda_fail, (const char *, long, int));
FAKE(void, fake_cuda_fail_every, (const char *, int));
FAKE(long, fake_cuda_failed, (void));
FAKE(void, fake_cuda_set_version, (int));
FAKE(void, fake_cuda_set_major, (int));
FAKE(void, fake_cuda_set_devices, (int));
FAKE(long, fake_cuda_live, (void));
FAKE(const char *, fake_cuda_violation, (void));
FAKE(long, fake_cuda_calls, (const char *));
FAKE(long, fake_cuda_launches, (const char *));

static inline int test_stand_in_open(void **state) {
    (void)state;
    const char *folder = getenv("SAMEPAGE_BUILD_DIR");
    static char path[1024];
    snprintf(path, sizeof path, "%s/tests/libfake_cuda.so", folder ? folder : "build");
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        print_error("%s\n", dlerror());
        return 1;
    }
#define FIND(name)                                                                                                     \
    {                                                                                                                  \
        void *found = dlsym(library, #name);                                                                           \
        memcpy(&name##_, &found, sizeof found);                                                                        \
        if (!found) {                                                                                                  \
            return 1;                                                                                                  \
        }                                                                                                              \
    }
    FIND(fake_cuda_reset)
    FIND(fake_cuda_fail)
    FIND(fake_cuda_fail_every)
    FIND(fake_cuda_failed)
    FIND(fake_cuda_set_version)
    FIND(fake_cuda_set_major)
    FIND(fake_cuda_set_devices)
    FIND(fake_cuda_live)
    FIND(fake_cuda_violation)
    FIND(fake_cuda_calls)
    FIND(fake_cuda_launches)
    spi_cu_test_library(path);
    return 0;
}

static inline int test_stand_in_reset(void **state) {
    (void)state;
    fake_cuda_reset_();
    return 0;
}

/* Nothing is left, and no rule was broken. */
static inline void test_stand_in_clean(void) {
    const char *violation = fake_cuda_violation_();
    if (violation) {
        print_error("the driver was misused: %s\n", violation);
    }
    assert_null(violation);
    assert_int_equal(fake_cuda_live_(), 0);
}

static const bench_shape test_small_shape = {
    .layers = 2, .width = 192, .heads = 4, .kv_heads = 2, .head_dim = 64, .inner = 192, .vocab = 100, .type = SP_Q8_0};

static inline void test_small_open(sp_device **device, bench_model *model) {
    sp_error error = {0};
    TEST_OK(sp_device_open("cuda", NULL, device, &error), error);
    TEST_OK(bench_model_open(*device, &test_small_shape, 16, 300, model, &error), error);
}

static inline void test_small_close(sp_device *device, bench_model *model) {
    bench_model_close(model);
    sp_device_close(device);
    test_stand_in_clean();
}

/* Every call fails in turn, as if the card was lost, and as if its memory was full. */
static inline void test_stand_in_every_call_fails(sp_status (*life)(sp_error *error)) {
    static const int results[] = {719, SPI_CU_OUT_OF_MEMORY, SPI_CU_NOT_SUPPORTED};
    for (size_t r = 0; r < sizeof results / sizeof results[0]; r++) {
        long failures = 0, n = 0;
        do {
            fake_cuda_reset_();
            fake_cuda_fail_(NULL, n++, results[r]);
            sp_error error = {0};
            sp_status status = life(&error);
            failures = fake_cuda_failed_();
            if (status && !error.message[0]) {
                print_error("call %ld failed without a message\n", n - 1);
                fail();
            }
            test_stand_in_clean();
        } while (failures);
        assert_true(n > 150);
    }
}

#endif
