/* tests/support/fake_cuda.h - a stand-in for NVIDIA's driver library: it checks what it is called with and computes
 * nothing, so that tests on machines without a card see every sequence of calls, and failures at each of them. It says
 * nothing about numbers: those are compared on a card. Tests load it by path (spi_cu_test_library) and reach these
 * through dlsym. */
#ifndef SPI_TESTS_FAKE_CUDA_H
#define SPI_TESTS_FAKE_CUDA_H

#include <stdint.h>

/* Everything as at the start: nothing live, no failures, a card of capability 9.0 and a driver of CUDA 13.0. */
void fake_cuda_reset(void);

/* The call that comes after `count` more of the function (NULL: of any but those that free) returns `result`, once.
 * A negative count turns it off. fake_cuda_failed says how many did. */
void fake_cuda_fail(const char *function, long count, int result);
void fake_cuda_fail_every(const char *function, int result); /* not only once */
long fake_cuda_failed(void);

void fake_cuda_set_version(int version);
void fake_cuda_set_major(int major);
void fake_cuda_set_devices(int count);

/* Objects and memory that were made and not given back: 0 after everything is closed. */
long fake_cuda_live(void);

/* The first rule that was broken, or NULL. */
const char *fake_cuda_violation(void);

long fake_cuda_calls(const char *function);
long fake_cuda_launches(const char *kernel);

#endif
