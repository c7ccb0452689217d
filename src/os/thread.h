/* os/thread.h - threads, and sleeping on a word until it changes.
 *
 * Only what the pool and the tick thread need; C11 atomics do the rest. May include: base.
 */
#ifndef SPI_OS_THREAD_H
#define SPI_OS_THREAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "samepage/status.h"

typedef struct spi_thread {
    pthread_t id;
} spi_thread;

/* The name shows in debuggers and top; at most 15 characters. Signals but faults are blocked in the new thread. */
sp_status spi_thread_start(spi_thread *thread, const char *name, void (*run)(void *env), void *env);
void spi_thread_join(spi_thread *thread);
void spi_thread_introduce(const char *name); /* what a new thread tells the system of itself */

/* Sleeps while *word == expected, until woken or timeout_ns passed (negative: no limit). May return early: check again.
 * A futex on Linux, park.h on macOS. */
void spi_wait_word(atomic_uint *word, unsigned expected, int64_t timeout_ns);
void spi_wake_word(atomic_uint *word, int waiter_count_max);

/* The processor's hint for a spin loop. */
static inline void spi_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
