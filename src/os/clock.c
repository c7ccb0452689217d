/* os/clock.c - see clock.h. */
#include "os/clock.h"

#include <errno.h>
#include <time.h>

int64_t spi_clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void spi_sleep_ns(int64_t ns) {
    struct timespec rest = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    while (nanosleep(&rest, &rest) && errno == EINTR) {}
}
