/* tests/support/pinning.h - a device that computes as the cpu does and links as one that pins memory: regions of ended
 * guests are kept for the next ones (device/spare.h), and the test sees what is asked of the backend. */
#ifndef SPI_TESTS_SUPPORT_PINNING_H
#define SPI_TESTS_SUPPORT_PINNING_H

#include <stdbool.h>

#include "device/device.h"

typedef struct test_pinning {
    int links, unlinks, forgotten;
    int refusals; /* so many of the next links and extensions are refused for want of memory */
    bool cannot_forget;
} test_pinning;
extern test_pinning test_pinned;

/* The device must be a cpu device. Its spare regions are cleared by a thread, or only by whoever takes them. */
void test_pin_device(sp_device *device, bool has_thread);
void test_unpin_device(sp_device *device); /* before it is closed */

#endif
