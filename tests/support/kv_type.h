/* tests/support/kv_type.h - SAMEPAGE_TEST_KV: what sessions keep keys and values in, for tests that run once for each
 * type. */
#ifndef SPI_TESTS_KV_TYPE_H
#define SPI_TESTS_KV_TYPE_H

#include "samepage/dtype.h"

sp_kv_type test_kv_type(void);

#endif
