/* device/cpu/pool.h - threads that work on one job together; the calling thread is one of them.
 *
 * A whole tape is one job with barriers inside, so decoding a token wakes nobody between ops. Who waits spins for a
 * bounded time first and then sleeps on a futex: measured, spinning is cheaper by far while every thread has a core of
 * its own, and ruinous without a bound when it does not.
 *
 * Owns: its threads. May include: os, base.
 */
#ifndef SPI_DEVICE_CPU_POOL_H
#define SPI_DEVICE_CPU_POOL_H

#include <stdint.h>

#include "samepage/status.h"

typedef struct spi_pool spi_pool;

/* Called by each thread once per job; thread 0 is the one that called spi_pool_run. */
typedef void (*spi_pool_job)(void *env, uint32_t thread, uint32_t thread_count);

/* thread_count counts the caller; at least 1, at most SPI_POOL_THREADS_MAX. SP_NO_MEMORY, SP_LIMIT. */
#define SPI_POOL_THREADS_MAX 1024u
sp_status spi_pool_create(uint32_t thread_count, spi_pool **pool, sp_error *error);

/* No job may be running. NULL is allowed. */
void spi_pool_destroy(spi_pool *pool);

uint32_t spi_pool_thread_count(const spi_pool *pool);

/* Returns when every thread has returned from job; what they wrote is visible to the caller. One caller at a time. */
void spi_pool_run(spi_pool *pool, spi_pool_job job, void *env);

/* Inside of a job: returns when every thread of it has called. What they wrote before is visible to all after. */
void spi_pool_barrier(spi_pool *pool);

/* The thread's share [*first, *end) of count things, in units of `unit`, as even as can be. */
static inline void spi_pool_share(uint64_t count, uint32_t unit, uint32_t thread, uint32_t thread_count,
                                  uint64_t *first, uint64_t *end) {
    uint64_t units = (count + unit - 1) / unit;
    uint64_t from = units * thread / thread_count * unit, to = units * (thread + 1) / thread_count * unit;
    *first = from < count ? from : count;
    *end = to < count ? to : count;
}

#endif
