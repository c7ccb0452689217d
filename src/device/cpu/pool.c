/* device/cpu/pool.c - see pool.h.
 *
 * Three words change and are waited for: `generation` starts a job, `barrier_turn` ends a barrier, `running` reaching
 * zero ends the job. Who changes a word wakes sleepers only if there are any; sleepers announce themselves in
 * `sleepers` before they look at the word a last time. Both orders are sequentially consistent, so either the sleeper
 * sees the change or the changer sees the sleeper.
 */
#include "device/cpu/pool.h"

#include <assert.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/error.h"
#include "base/memory.h"
#include "os/clock.h"
#include "os/cpu.h"
#include "os/thread.h"

#define CACHE_LINE_BYTES 64
/* Long enough for the uneven ends of a matrix and the gap between two tokens, short enough to lose little when another
 * program has the core. */
#define SPIN_NS 50000
/* The clock is read once in so many looks at the word. */
#define SPINS_BETWEEN_CLOCKS 32

typedef struct pool_word {
    _Alignas(CACHE_LINE_BYTES) atomic_uint value;
    atomic_uint sleepers;
} pool_word;

typedef struct worker {
    spi_pool *pool;
    uint32_t thread;
    spi_thread handle;
} worker;

struct spi_pool {
    pool_word generation, barrier_turn, running;
    _Alignas(CACHE_LINE_BYTES) atomic_uint barrier_arrived;
    spi_pool_job job;
    void *env;
    bool stopping;
    int64_t spin_ns;
    uint32_t thread_count, started;
    worker *workers;
};

/* Spins, then sleeps, until the word is no longer `old`. */
static void await_change(const spi_pool *pool, pool_word *word, unsigned old) {
    if (atomic_load_explicit(&word->value, memory_order_acquire) != old) {
        return;
    }
    if (pool->spin_ns) {
        int64_t end_ns = 0;
        for (unsigned turn = 1;; turn++) {
            if (atomic_load_explicit(&word->value, memory_order_acquire) != old) {
                return;
            }
            spi_pause();
            if (turn % SPINS_BETWEEN_CLOCKS == 0) {
                int64_t now_ns = spi_clock_ns();
                if (!end_ns) {
                    end_ns = now_ns + pool->spin_ns;
                } else if (now_ns >= end_ns) {
                    break;
                }
            }
        }
    }
    atomic_fetch_add(&word->sleepers, 1);
    while (atomic_load(&word->value) == old) {
        spi_wait_word(&word->value, old, -1);
    }
    atomic_fetch_sub(&word->sleepers, 1);
}

static void wake_sleepers(pool_word *word) {
    if (atomic_load(&word->sleepers)) {
        spi_wake_word(&word->value, INT_MAX);
    }
}

/* The last thread to leave a job tells the caller. */
static void leave(spi_pool *pool) {
    if (atomic_fetch_sub(&pool->running.value, 1) == 1) {
        wake_sleepers(&pool->running);
    }
}

static void work(void *env) {
    worker *self = env;
    spi_pool *pool = self->pool;
    for (unsigned generation = 0;;) {
        await_change(pool, &pool->generation, generation);
        generation++;
        if (pool->stopping) {
            return;
        }
        pool->job(pool->env, self->thread, pool->thread_count);
        leave(pool);
    }
}

uint32_t spi_pool_thread_count(const spi_pool *pool) {
    return pool->thread_count;
}

static void start_job(spi_pool *pool) {
    atomic_store(&pool->running.value, pool->thread_count - 1);
    atomic_fetch_add(&pool->generation.value, 1);
    wake_sleepers(&pool->generation);
}

void spi_pool_run(spi_pool *pool, spi_pool_job job, void *env) {
    if (pool->thread_count == 1) {
        job(env, 0, 1);
        return;
    }
    pool->job = job;
    pool->env = env;
    start_job(pool);
    job(env, 0, pool->thread_count);
    unsigned running;
    while ((running = atomic_load(&pool->running.value))) {
        await_change(pool, &pool->running, running);
    }
}

void spi_pool_barrier(spi_pool *pool) {
    if (pool->thread_count == 1) {
        return;
    }
    unsigned turn = atomic_load(&pool->barrier_turn.value);
    if (atomic_fetch_add(&pool->barrier_arrived, 1) + 1 == pool->thread_count) {
        atomic_store(&pool->barrier_arrived, 0);
        atomic_fetch_add(&pool->barrier_turn.value, 1);
        wake_sleepers(&pool->barrier_turn);
    } else {
        await_change(pool, &pool->barrier_turn, turn);
    }
}

void spi_pool_destroy(spi_pool *pool) {
    if (!pool) {
        return;
    }
    pool->stopping = true;
    atomic_fetch_add(&pool->generation.value, 1);
    wake_sleepers(&pool->generation);
    for (uint32_t i = 0; i < pool->started; i++) {
        spi_thread_join(&pool->workers[i].handle);
    }
    spi_free(pool->workers);
    spi_free_aligned(pool);
}

sp_status spi_pool_create(uint32_t thread_count, spi_pool **out, sp_error *error) {
    assert(thread_count);
    *out = NULL;
    if (thread_count > SPI_POOL_THREADS_MAX) {
        return spi_fail(error, SP_LIMIT, "%u threads are more than the %u that one device takes", thread_count,
                        SPI_POOL_THREADS_MAX);
    }
    spi_pool *pool = spi_alloc_aligned(sizeof *pool, CACHE_LINE_BYTES);
    worker *workers = spi_alloc(thread_count, sizeof *workers);
    if (!pool || !workers) {
        spi_free_aligned(pool);
        spi_free(workers);
        return spi_fail(error, SP_NO_MEMORY, "no memory for %u threads", thread_count);
    }
    pool->workers = workers;
    pool->thread_count = thread_count;
    /* A thread that spins while another waits for its core only delays what it waits for. */
    pool->spin_ns = thread_count <= spi_cpu_thread_count() ? SPIN_NS : 0;
    for (uint32_t i = 0; i + 1 < thread_count; i++) {
        char name[16];
        snprintf(name, sizeof name, "samepage-%u", i + 1);
        workers[i] = (worker){.pool = pool, .thread = i + 1};
        if (spi_thread_start(&workers[i].handle, name, work, &workers[i])) {
            spi_pool_destroy(pool);
            return spi_fail(error, SP_NO_MEMORY, "the system starts no more than %u of %u threads", i + 1,
                            thread_count);
        }
        pool->started++;
    }
    *out = pool;
    return SP_OK;
}
