/* os/clock.h - monotonic time in nanoseconds, and sleep. May include: nothing. */
#ifndef SPI_OS_CLOCK_H
#define SPI_OS_CLOCK_H

#include <stdint.h>

int64_t spi_clock_ns(void);
void spi_sleep_ns(int64_t ns);

/* The processor's own counter: a few nanoseconds to read, where spi_clock_ns takes tens; at what rate it counts is
 * found by reading both twice. */
static inline uint64_t spi_clock_ticks(void) {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return (uint64_t)spi_clock_ns();
#endif
}

#endif
