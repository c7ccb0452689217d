/* device/cpu/pool.h - threads that work on one job together; the calling thread is one of them.
 *
 * A job is a number of phases, a phase a number of items. Items of one phase may be computed in any order and by any
 * thread; a phase begins when every item of the one before is done. Each item has an owner: a thread takes its own
 * first, always the same ones, and then those that others have not come to. So nobody waits for a thread that the
 * system is not running, unless it was stopped in the middle of an item: with more programs than processors a job goes
 * on with the threads that it has, where a barrier for all would cost a time slice of the system each.
 *
 * Who waits spins for a bounded time first and then sleeps on a futex: measured, spinning is cheaper by far while every
 * thread has a core of its own, and ruinous without a bound when it does not.
 *
 * Owns: its threads. May include: os, base.
 */
#ifndef SPI_DEVICE_CPU_POOL_H
#define SPI_DEVICE_CPU_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "samepage/status.h"

typedef struct spi_pool spi_pool;

typedef struct spi_pool_job {
    void *env;
    uint32_t phase_count;
    /* Items of a phase that owner has, at most SPI_POOL_ITEMS_MAX. Called often and by several threads at once: cheap,
     * and the same answer each time. */
    uint32_t (*items)(void *env, uint32_t phase, uint32_t owner, uint32_t owner_count);
    /* Computes an item, once. No two calls at a time have the same `thread`: it names a place for scratch. A phase of a
     * single item is computed by whichever thread ended the one before, and costs no meeting of threads. */
    void (*work)(void *env, uint32_t phase, uint32_t owner, uint32_t owner_count, uint32_t item, uint32_t thread);
    /* NULL, or what a thread does while it waits for the others at the end of a phase, turn 0, 1, ..., until that
     * returns false or the wait is over: a microsecond at a time, and nothing that anybody relies on. */
    bool (*wait)(void *env, uint32_t phase, uint32_t owner, uint32_t owner_count, uint32_t turn);
} spi_pool_job;

#define SPI_POOL_ITEMS_MAX   ((uint32_t)INT32_MAX)
#define SPI_POOL_THREADS_MAX 1024u

/* thread_count counts the caller; at least 1, at most SPI_POOL_THREADS_MAX. SP_NO_MEMORY, SP_LIMIT. */
sp_status spi_pool_create(uint32_t thread_count, spi_pool **pool, sp_error *error);

/* No job may be running. NULL is allowed. */
void spi_pool_destroy(spi_pool *pool);

uint32_t spi_pool_thread_count(const spi_pool *pool);

/* Returns when every phase is done; what was written is visible to the caller. One caller at a time. */
void spi_pool_run(spi_pool *pool, const spi_pool_job *job);

/* A job of one phase in which each thread has one item: its share of something. */
typedef void (*spi_pool_part)(void *env, uint32_t part, uint32_t part_count);
void spi_pool_run_parts(spi_pool *pool, spi_pool_part part, void *env);

/* Meetings of threads since the pool was made: phases that were not computed by one thread alone. */
uint64_t spi_pool_meetings(const spi_pool *pool);

/* The part [*first, *end) of count things, in units of `unit`, as even as can be. */
static inline void spi_pool_share(uint64_t count, uint32_t unit, uint32_t part, uint32_t part_count, uint64_t *first,
                                  uint64_t *end) {
    uint64_t units = (count + unit - 1) / unit;
    uint64_t from = units * part / part_count * unit, to = units * (part + 1) / part_count * unit;
    *first = from < count ? from : count;
    *end = to < count ? to : count;
}

#endif
