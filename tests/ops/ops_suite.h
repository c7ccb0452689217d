/* tests/ops/ops_suite.h - the op cases as a cmocka test of any device. */
#ifndef SPI_TESTS_OPS_SUITE_H
#define SPI_TESTS_OPS_SUITE_H

#include "ops/ops_cases.h"

#define OPS_CARDS_MAX 8u

/* Card `index` of a backend, with limits that a test has set; NULL: there is none, and of the first one it is told
 * why. */
sp_device *ops_open_card(const char *backend, uint32_t index);

/* Runs all cases on devices[0] and compares them with double; then on the others, whose values must be the same bits.
 * Prints the largest error of each op and type. SAMEPAGE_TEST_SEED draws other cases. */
void ops_suite(const char *label, const ops_device *devices, uint32_t device_count);

/* sp_device_matmul over a linked region: odd shapes, both types, bytes around the product untouched. */
void ops_suite_matmul(const char *label, sp_device *device);

#endif
