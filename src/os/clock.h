/* os/clock.h - monotonic time in nanoseconds, and sleep. May include: nothing. */
#ifndef SPI_OS_CLOCK_H
#define SPI_OS_CLOCK_H

#include <stdint.h>

int64_t spi_clock_ns(void);
void spi_sleep_ns(int64_t ns);

#endif
