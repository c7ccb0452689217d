/* tests/support/cuda_rig.h - what tests that compare on a CUDA card have in common: the card, opened in a way that is
 * chosen, how far rows may be apart, and how far they are. May include: support.h, device/cuda. */
#ifndef TEST_CUDA_RIG_H
#define TEST_CUDA_RIG_H

#include "support/support.h"

#include <math.h>

#include "device/cuda/cuda.h"

/* Of many rows activations are rounded to the weights' 16-bit numbers: 8 bits of bf16, 11 of f16. */
#define BRAIN_ERROR 2e-2
#define HALF_ERROR  4e-3

/* Numbers that are so far apart fall on two sides of where Q8_0's codes are rounded with that chance, and are a step
 * apart then: of 32 numbers the largest, some 2.5 times their root mean square, is 127 steps. */
static inline double step_error(double apart) {
    double step = 2.5 / 127;
    return apart + sqrt(step * apart);
}

/* NULL, and a message: there is no card that could be used. */
static inline sp_device *test_cuda_open(const spi_cu_choices *choices) {
    sp_device *device;
    sp_error error = {0};
    spi_cu_test_choices(choices);
    sp_status status = sp_device_open("cuda", NULL, &device, &error);
    spi_cu_test_choices(NULL);
    if (status == SP_NO_DEVICE || status == SP_UNSUPPORTED) {
        print_message("no usable CUDA device: %s\n", error.message);
        return NULL;
    }
    TEST_OK(status, error);
    return device;
}

/* Root mean square of the differences; b may be NULL: of a itself. */
static inline double test_rms(const float *a, const float *b, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double difference = (double)a[i] - (b ? (double)b[i] : 0);
        sum += difference * difference;
    }
    return sqrt(sum / (double)count);
}

#endif
