/* device/cpu/pool.c - see pool.h.
 *
 * `serial` counts phases, of all jobs, and is what threads wait for. Items are taken by moving on a word of their
 * owner, which holds the serial it was last used in beside the next item. A thread that was stopped since an earlier
 * phase can take nothing by mistake: it finds that phase's items taken, or the word changed since it looked. `left`
 * counts the items of the phase that are not done; who brings it to zero begins the next one.
 *
 * Workers enter a job through `gate` and are counted in it; the caller closes it behind the last phase and waits until
 * all are out, so that none looks at a job that is gone. A worker that goes to sleep leaves first: nobody waits for
 * sleepers.
 *
 * Who changes a word wakes sleepers only if there are any; sleepers announce themselves in `sleepers` before they look
 * at the word a last time. Both orders are sequentially consistent, so either the sleeper sees the change or the
 * changer sees the sleeper.
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
 * program has the core. A thread whose sleep is long, so that it waited in vain, halves its own, down to the least; one
 * whose sleep is short, so that going to sleep was most of it (some 20 to 40 us for both sides, measured), doubles
 * it. */
#define SPIN_NS_MAX    50000
#define SPIN_NS_LEAST  1500
#define SHORT_SLEEP_NS 100000
/* The clock is read once in so many looks at the word. */
#define SPINS_BETWEEN_CLOCKS 16
#define GATE_CLOSED          (1u << 31)

typedef struct pool_word {
    _Alignas(CACHE_LINE_BYTES) atomic_uint value;
    atomic_uint sleepers;
} pool_word;

typedef struct worker {
    _Alignas(CACHE_LINE_BYTES) atomic_uint_least64_t claims; /* serial << 32 | next item of this owner */
    spi_pool *pool;
    uint32_t thread;
    int64_t spin_ns; /* 0: never */
    spi_thread handle;
} worker;

struct spi_pool {
    pool_word serial, gate;
    _Alignas(CACHE_LINE_BYTES) atomic_uint_least64_t left;
    spi_pool_job job;
    uint32_t base; /* the serial of the job's phase 0 */
    bool stopping;
    uint64_t meetings;
    uint32_t thread_count, started;
    worker *workers; /* [thread_count]; 0 is the caller's */
};

/* Spins until the word is no longer `old`; false: for long enough. */
static bool spin(worker *self, pool_word *word, unsigned old) {
    int64_t end_ns = 0;
    for (unsigned turn = 1;; turn++) {
        if (atomic_load_explicit(&word->value, memory_order_acquire) != old) {
            self->spin_ns += self->spin_ns < SPIN_NS_MAX ? self->spin_ns / 16 + 1 : 0;
            return true;
        }
        if (!self->spin_ns) {
            return false;
        }
        spi_pause();
        if (turn % SPINS_BETWEEN_CLOCKS == 0) {
            int64_t now_ns = spi_clock_ns();
            if (!end_ns) {
                end_ns = now_ns + self->spin_ns;
            } else if (now_ns >= end_ns) {
                return false;
            }
        }
    }
}

static void sleep_until_changed(worker *self, pool_word *word, unsigned old) {
    int64_t start_ns = spi_clock_ns(), spin_ns = self->spin_ns;
    atomic_fetch_add(&word->sleepers, 1);
    while (atomic_load(&word->value) == old) {
        spi_wait_word(&word->value, old, -1);
    }
    atomic_fetch_sub(&word->sleepers, 1);
    if (spi_clock_ns() - start_ns < SHORT_SLEEP_NS) {
        self->spin_ns = spin_ns < SPIN_NS_MAX / 2 ? spin_ns * 2 : spin_ns;
    } else if (spin_ns) {
        self->spin_ns = spin_ns / 2 > SPIN_NS_LEAST ? spin_ns / 2 : SPIN_NS_LEAST;
    }
}

static void wake_sleepers(pool_word *word) {
    if (atomic_load(&word->sleepers)) {
        spi_wake_word(&word->value, INT_MAX);
    }
}

/* ---- items ---- */

/* Takes one item of the owner in the phase; false: there is none left, or the phase is over. */
static bool claim(spi_pool *pool, uint32_t serial, uint32_t owner, uint32_t *item) {
    atomic_uint_least64_t *claims = &pool->workers[owner].claims;
    uint32_t count = pool->job.items(pool->job.env, serial - pool->base, owner, pool->thread_count);
    uint64_t seen = atomic_load_explicit(claims, memory_order_relaxed);
    for (;;) {
        bool used = (uint32_t)(seen >> 32) == serial;
        if (!used && atomic_load_explicit(&pool->serial.value, memory_order_relaxed) != serial) {
            return false;
        }
        uint32_t next = used ? (uint32_t)seen : 0;
        if (next >= count) {
            return false;
        }
        if (atomic_compare_exchange_weak_explicit(claims, &seen, (uint64_t)serial << 32 | (next + 1),
                                                  memory_order_relaxed, memory_order_relaxed)) {
            *item = next;
            return true;
        }
    }
}

/* Takes what is left of the owner's items; returns how many there were. */
static uint64_t work_for(spi_pool *pool, uint32_t serial, uint32_t owner, uint32_t thread) {
    uint64_t done = 0;
    uint32_t item;
    while (claim(pool, serial, owner, &item)) {
        pool->job.work(pool->job.env, serial - pool->base, owner, pool->thread_count, item, thread);
        done++;
    }
    return done;
}

/* Takes items of the others. */
static uint64_t help(spi_pool *pool, uint32_t serial, uint32_t thread) {
    uint64_t done = 0;
    for (uint32_t i = 1, owner = thread; i < pool->thread_count; i++) {
        owner = owner + 1 < pool->thread_count ? owner + 1 : 0;
        if (atomic_load_explicit(&pool->serial.value, memory_order_relaxed) != serial) {
            break;
        }
        done += work_for(pool, serial, owner, thread);
    }
    return done;
}

static uint64_t count_items(const spi_pool *pool, uint32_t phase, uint32_t *last_owner) {
    uint64_t count = 0;
    for (uint32_t owner = 0; owner < pool->thread_count; owner++) {
        uint32_t own = pool->job.items(pool->job.env, phase, owner, pool->thread_count);
        *last_owner = own ? owner : *last_owner;
        count += own;
    }
    return count;
}

/* Begins the first phase from `phase` on that needs more than one thread, computing those before it; the job is over
 * behind the last. */
static void advance(spi_pool *pool, uint32_t phase, uint32_t thread) {
    for (; phase < pool->job.phase_count; phase++) {
        uint32_t owner = 0;
        uint64_t count = count_items(pool, phase, &owner);
        if (count > 1) {
            atomic_store_explicit(&pool->left, count, memory_order_relaxed);
            pool->meetings++;
            break;
        }
        if (count) {
            pool->job.work(pool->job.env, phase, owner, pool->thread_count, 0, thread);
        }
    }
    atomic_store(&pool->serial.value, pool->base + phase);
    wake_sleepers(&pool->serial);
}

/* Counts items as done; who counts the phase's last one begins the next phase. */
static bool ends_phase(spi_pool *pool, uint32_t serial, uint32_t thread, uint64_t done) {
    if (!done || atomic_fetch_sub_explicit(&pool->left, done, memory_order_acq_rel) != done) {
        return false;
    }
    advance(pool, serial - pool->base + 1, thread);
    return true;
}

static bool wait_for_others(spi_pool *pool, worker *self, uint32_t serial) {
    uint32_t turn = 0;
    while (pool->job.wait && atomic_load_explicit(&pool->serial.value, memory_order_relaxed) == serial &&
           pool->job.wait(pool->job.env, serial - pool->base, self->thread, pool->thread_count, turn)) {
        turn++;
    }
    return spin(self, &pool->serial, serial);
}

/* Works on phases until the job is over or the wait for others has lasted too long. Returns the last serial seen. A
 * thread's own items are counted before it looks for others': that takes as long as reading a line of each thread. */
static uint32_t take_part(spi_pool *pool, worker *self) {
    for (;;) {
        uint32_t serial = atomic_load_explicit(&pool->serial.value, memory_order_acquire), thread = self->thread;
        if (serial - pool->base >= pool->job.phase_count) {
            return serial;
        }
        if (!ends_phase(pool, serial, thread, work_for(pool, serial, thread, thread)) &&
            !ends_phase(pool, serial, thread, help(pool, serial, thread)) && !wait_for_others(pool, self, serial)) {
            return serial;
        }
    }
}

/* ---- workers ---- */

static void leave(spi_pool *pool) {
    if (atomic_fetch_sub(&pool->gate.value, 1) == (GATE_CLOSED | 1)) {
        wake_sleepers(&pool->gate);
    }
}

static void work(void *env) {
    worker *self = env;
    spi_pool *pool = self->pool;
    for (unsigned seen = 0;;) {
        if (!spin(self, &pool->serial, seen)) {
            sleep_until_changed(self, &pool->serial, seen);
        }
        seen = atomic_load(&pool->serial.value);
        if (!(atomic_fetch_add(&pool->gate.value, 1) & GATE_CLOSED)) {
            if (pool->stopping) {
                leave(pool);
                return;
            }
            seen = take_part(pool, self);
        }
        leave(pool);
    }
}

static void open_gate(spi_pool *pool) {
    atomic_fetch_and(&pool->gate.value, ~GATE_CLOSED);
}

static void close_gate(spi_pool *pool) {
    unsigned inside = atomic_fetch_or(&pool->gate.value, GATE_CLOSED) | GATE_CLOSED;
    while (inside != GATE_CLOSED) {
        if (!spin(&pool->workers[0], &pool->gate, inside)) {
            sleep_until_changed(&pool->workers[0], &pool->gate, inside);
        }
        inside = atomic_load(&pool->gate.value);
    }
}

uint32_t spi_pool_thread_count(const spi_pool *pool) {
    return pool->thread_count;
}

uint64_t spi_pool_meetings(const spi_pool *pool) {
    return pool->meetings;
}

static void run_alone(const spi_pool_job *job) {
    for (uint32_t phase = 0; phase < job->phase_count; phase++) {
        uint32_t count = job->items(job->env, phase, 0, 1);
        for (uint32_t item = 0; item < count; item++) {
            job->work(job->env, phase, 0, 1, item, 0);
        }
    }
}

void spi_pool_run(spi_pool *pool, const spi_pool_job *job) {
    if (pool->thread_count == 1) {
        run_alone(job);
        return;
    }
    pool->job = *job;
    pool->base = atomic_load(&pool->serial.value) + 1;
    open_gate(pool);
    advance(pool, 0, 0);
    for (;;) {
        uint32_t serial = take_part(pool, &pool->workers[0]);
        if (serial - pool->base >= job->phase_count) {
            break;
        }
        sleep_until_changed(&pool->workers[0], &pool->serial, serial);
    }
    close_gate(pool);
}

typedef struct parts {
    spi_pool_part part;
    void *env;
} parts;

static uint32_t one_item(void *env, uint32_t phase, uint32_t owner, uint32_t owner_count) {
    (void)env;
    (void)phase;
    (void)owner;
    (void)owner_count;
    return 1;
}

static void work_part(void *env, uint32_t phase, uint32_t owner, uint32_t owner_count, uint32_t item, uint32_t thread) {
    (void)phase;
    (void)item;
    (void)thread;
    const parts *all = env;
    all->part(all->env, owner, owner_count);
}

void spi_pool_run_parts(spi_pool *pool, spi_pool_part part, void *env) {
    parts all = {part, env};
    spi_pool_run(pool, &(spi_pool_job){.env = &all, .phase_count = 1, .items = one_item, .work = work_part});
}

/* ---- life ---- */

void spi_pool_destroy(spi_pool *pool) {
    if (!pool) {
        return;
    }
    pool->stopping = true;
    open_gate(pool);
    atomic_fetch_add(&pool->serial.value, 1);
    wake_sleepers(&pool->serial);
    for (uint32_t i = 0; i < pool->started; i++) {
        spi_thread_join(&pool->workers[i + 1].handle);
    }
    spi_free_aligned(pool->workers);
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
    worker *workers = spi_alloc_aligned(thread_count * sizeof *workers, CACHE_LINE_BYTES);
    if (!pool || !workers) {
        spi_free_aligned(pool);
        spi_free_aligned(workers);
        return spi_fail(error, SP_NO_MEMORY, "no memory for %u threads", thread_count);
    }
    pool->workers = workers;
    pool->thread_count = thread_count;
    atomic_store(&pool->gate.value, GATE_CLOSED);
    /* A thread that spins while another waits for its core only delays what it waits for. */
    int64_t spin_ns = thread_count <= spi_cpu_thread_count() ? SPIN_NS_MAX : 0;
    for (uint32_t i = 0; i < thread_count; i++) {
        workers[i].pool = pool;
        workers[i].thread = i;
        workers[i].spin_ns = spin_ns;
    }
    for (uint32_t i = 1; i < thread_count; i++) {
        char name[16];
        snprintf(name, sizeof name, "samepage-%u", i);
        if (spi_thread_start(&workers[i].handle, name, work, &workers[i])) {
            spi_pool_destroy(pool);
            return spi_fail(error, SP_NO_MEMORY, "the system starts no more than %u of %u threads", i, thread_count);
        }
        pool->started++;
    }
    *out = pool;
    return SP_OK;
}
