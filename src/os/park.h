/* os/park.h - sleeping on a word with POSIX's means, for systems whose own ones are not public: macOS before 14.4.
 *
 * Words share a few locks by their address, so a wake may wake those who wait for another word; they look and sleep on.
 * Compiled and tested everywhere. May include: base.
 */
#ifndef SPI_OS_PARK_H
#define SPI_OS_PARK_H

#include <stdatomic.h>
#include <stdint.h>

/* As spi_wait_word and spi_wake_word of thread.h; wakes all. */
void spi_park_wait(atomic_uint *word, unsigned expected, int64_t timeout_ns);
void spi_park_wake(atomic_uint *word);

#endif
