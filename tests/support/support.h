/* tests/support/support.h - what several tests need: cmocka in the right order, random numbers, paths. */
#ifndef SPI_TESTS_SUPPORT_H
#define SPI_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "samepage/status.h"

/* A small generator (xorshift64*), so that a failing case can be run again from the seed that the test prints. */
typedef struct test_random {
    uint64_t state;
} test_random;
test_random test_random_seed(uint64_t seed);
uint64_t test_random_next(test_random *random);
uint32_t test_random_below(test_random *random, uint32_t limit);
float test_random_float(test_random *random); /* in [-1, 1) */

/* SAMEPAGE_TEST_SEED if it is set, else a fixed number. */
uint64_t test_seed(void);

/* How far to go from one drawn case to the next: SAMEPAGE_TEST_STRIDE; if that is not set (make test-long sets 1) as
 * usual, but at least 5 under sanitizers, which are ten to fifty times slower, and 10 under the one for threads. 5,
 * because cases differ by their number's last bits. What stands in a list of its own is never left out. */
#define TEST_STRIDE_SLOW 5u
uint32_t test_stride(uint32_t usual);

/* A path below the source tree; the result lives until the next call but 7. */
const char *test_source_path(const char *relative);
const char *test_build_path(const char *relative);

/* Asserts SP_OK and shows the message otherwise. */
void test_ok(sp_status status, const sp_error *error, const char *file, int line);
#define TEST_OK(call, error) test_ok((call), &(error), __FILE__, __LINE__)

#endif
