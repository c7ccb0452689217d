/* tests/unit/test_pool.c - the CPU's threads: every item is done once, phases come one behind the other, jobs repeat;
 * also with many more threads than cores. Worth most under the thread sanitizer. */
#include "device/cpu/pool.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "os/clock.h"
#include "support/support.h"

#define PHASES     60u
#define CELLS      997u
#define ITEMS_MOST 7u

static const uint32_t thread_counts[] = {1, 2, 3, 5, 17};

typedef struct relay {
    uint32_t cells[2][CELLS]; /* plain memory: only the order of phases protects it */
    uint32_t alone;           /* moved on by phases of one item */
    atomic_uint busy[64];     /* by thread */
    atomic_uint clashes, items;
    atomic_uint wrong_waits;
} relay;

/* Every third phase is one item, every seventh none; the others are uneven, and some owners have nothing. */
static uint32_t relay_items(void *env, uint32_t phase, uint32_t owner, uint32_t owner_count) {
    (void)env;
    if (phase % 3 == 2) {
        return owner == phase % owner_count;
    }
    return phase % 7 == 6 ? 0 : 1 + (phase + 3 * owner) % ITEMS_MOST;
}

/* In each phase cells are filled from cells that other threads wrote in the phase before. */
static void relay_work(void *env, uint32_t phase, uint32_t owner, uint32_t owner_count, uint32_t item,
                       uint32_t thread) {
    relay *race = env;
    atomic_fetch_add(&race->clashes, atomic_exchange(&race->busy[thread], 1));
    atomic_fetch_add(&race->items, 1);
    if (phase % 3 == 2) {
        race->alone++;
        memcpy(race->cells[(phase + 1) % 2], race->cells[phase % 2], sizeof race->cells[0]);
    } else {
        uint64_t first, end, own_first, own_end;
        spi_pool_share(CELLS, 1, owner, owner_count, &own_first, &own_end);
        spi_pool_share(own_end - own_first, 1, item, relay_items(env, phase, owner, owner_count), &first, &end);
        for (uint64_t i = own_first + first; i < own_first + end; i++) {
            race->cells[(phase + 1) % 2][i] = race->cells[phase % 2][CELLS - 1 - i] + 1;
        }
    }
    atomic_store(&race->busy[thread], 0);
}

#define WAIT_TURNS 3u

/* What threads may do while they wait comes while they do no item, and ends when it says so. */
static bool relay_wait(void *env, uint32_t phase, uint32_t owner, uint32_t owner_count, uint32_t turn) {
    relay *race = env;
    bool wrong = phase >= PHASES || owner >= owner_count || turn > WAIT_TURNS;
    atomic_fetch_add(&race->wrong_waits, wrong || atomic_load(&race->busy[owner]));
    return turn < WAIT_TURNS;
}

/* What one thread makes of it, phase by phase. A phase without items leaves the cells of two phases before in place. */
static void relay_alone(relay *race, uint32_t jobs) {
    for (uint32_t phase = 0; phase < jobs * PHASES; phase++) {
        uint32_t of = phase % PHASES, count = relay_items(race, of, 0, 1);
        for (uint32_t item = 0; item < count; item++) {
            relay_work(race, of, 0, 1, item, 0);
        }
    }
}

static void test_phases(void **state) {
    (void)state;
    static relay expected;
    relay_alone(&expected, 20);
    for (uint32_t c = 0; c < sizeof thread_counts / sizeof thread_counts[0]; c++) {
        sp_error error = {0};
        spi_pool *pool;
        static relay race;
        memset(&race, 0, sizeof race);
        TEST_OK(spi_pool_create(thread_counts[c], &pool, &error), error);
        assert_int_equal(spi_pool_thread_count(pool), thread_counts[c]);
        uint32_t items = 0;
        for (uint32_t phase = 0; phase < PHASES; phase++) {
            for (uint32_t owner = 0; owner < thread_counts[c]; owner++) {
                items += relay_items(NULL, phase, owner, thread_counts[c]);
            }
        }
        spi_pool_job job = {
            .env = &race, .phase_count = PHASES, .items = relay_items, .work = relay_work, .wait = relay_wait};
        for (uint32_t i = 0; i < 20; i++) {
            job.wait = i % 2 ? NULL : relay_wait;
            spi_pool_run(pool, &job);
        }
        assert_int_equal(race.wrong_waits, 0);
        assert_memory_equal(race.cells, expected.cells, sizeof race.cells);
        assert_int_equal(race.alone, expected.alone);
        assert_int_equal(race.items, items * 20);
        assert_int_equal(race.clashes, 0);
        spi_pool_destroy(pool);
    }
}

#define PATIENCE_NS 20000000000

typedef struct vigil {
    atomic_uint turns;
    bool in_vain;
} vigil;

static uint32_t vigil_items(void *env, uint32_t phase, uint32_t owner, uint32_t owner_count) {
    (void)env;
    (void)phase;
    (void)owner_count;
    return owner < 2;
}

/* Of two items one lasts until a thread that has nothing left to do is seen waiting. */
static void vigil_work(void *env, uint32_t phase, uint32_t owner, uint32_t owner_count, uint32_t item,
                       uint32_t thread) {
    (void)phase;
    (void)owner_count;
    (void)item;
    (void)thread;
    vigil *of = env;
    int64_t end_ns = spi_clock_ns() + PATIENCE_NS;
    while (owner == 0 && !of->in_vain && !atomic_load(&of->turns)) {
        of->in_vain = spi_clock_ns() > end_ns;
    }
}

static bool vigil_wait(void *env, uint32_t phase, uint32_t owner, uint32_t owner_count, uint32_t turn) {
    (void)phase;
    (void)owner;
    (void)owner_count;
    (void)turn;
    atomic_fetch_add(&((vigil *)env)->turns, 1);
    return false;
}

static void test_waiting(void **state) {
    (void)state;
    sp_error error = {0};
    spi_pool *pool;
    TEST_OK(spi_pool_create(3, &pool, &error), error);
    for (uint32_t i = 0; i < 50; i++) {
        vigil of = {0};
        spi_pool_run(pool,
                     &(spi_pool_job){
                         .env = &of, .phase_count = 1, .items = vigil_items, .work = vigil_work, .wait = vigil_wait});
        assert_false(of.in_vain);
    }
    spi_pool_destroy(pool);
}

static void count_up(void *env, uint32_t part, uint32_t part_count) {
    (void)part_count;
    ((uint32_t *)env)[part * 16]++;
}

/* Short jobs back to back: the next may start while a worker is still on its way to wait. */
static void test_many_short_jobs(void **state) {
    (void)state;
    for (uint32_t c = 0; c < sizeof thread_counts / sizeof thread_counts[0]; c++) {
        sp_error error = {0};
        spi_pool *pool;
        uint32_t counts[32 * 16] = {0};
        TEST_OK(spi_pool_create(thread_counts[c], &pool, &error), error);
        for (uint32_t job = 0; job < 1000; job++) {
            spi_pool_run_parts(pool, count_up, counts);
        }
        for (uint32_t part = 0; part < thread_counts[c]; part++) {
            assert_int_equal(counts[part * 16], 1000);
        }
        assert_int_equal(spi_pool_meetings(pool), thread_counts[c] > 1 ? 1000 : 0);
        spi_pool_destroy(pool);
    }
}

/* A thread that is stopped in the middle of an item holds up nothing but that item: the others do all the rest of the
 * phase. */
typedef struct hold {
    atomic_uint done;
    bool gave_up;
} hold;

static uint32_t hold_items(void *env, uint32_t phase, uint32_t owner, uint32_t owner_count) {
    (void)env;
    (void)phase;
    (void)owner;
    (void)owner_count;
    return 50;
}

static void hold_work(void *env, uint32_t phase, uint32_t owner, uint32_t owner_count, uint32_t item, uint32_t thread) {
    (void)phase;
    (void)thread;
    hold *held = env;
    if (owner == 0 && item == 0) {
        uint32_t rest = 50 * owner_count - 1;
        int64_t end_ns = spi_clock_ns() + (int64_t)300 * 1000000000;
        while (atomic_load(&held->done) < rest && !held->gave_up) {
            held->gave_up = spi_clock_ns() > end_ns;
        }
    }
    atomic_fetch_add(&held->done, 1);
}

static void test_others_go_on(void **state) {
    (void)state;
    for (uint32_t threads = 2; threads < 6; threads++) {
        sp_error error = {0};
        spi_pool *pool;
        hold held = {0};
        TEST_OK(spi_pool_create(threads, &pool, &error), error);
        spi_pool_run(pool, &(spi_pool_job){.env = &held, .phase_count = 1, .items = hold_items, .work = hold_work});
        assert_false(held.gave_up);
        assert_int_equal(held.done, 50 * threads);
        spi_pool_destroy(pool);
    }
}

static void test_shares_cover(void **state) {
    (void)state;
    static const uint64_t counts[] = {0, 1, 7, 8, 9, 64, 1000, 128256};
    static const uint32_t units[] = {1, 4, 8, 16};
    for (uint32_t c = 0; c < 8; c++) {
        for (uint32_t u = 0; u < 4; u++) {
            for (uint32_t threads = 1; threads < 20; threads++) {
                uint64_t next = 0;
                for (uint32_t thread = 0; thread < threads; thread++) {
                    uint64_t first, end;
                    spi_pool_share(counts[c], units[u], thread, threads, &first, &end);
                    assert_int_equal(first, next);
                    assert_true(end >= first && (end % units[u] == 0 || end == counts[c]));
                    next = end;
                }
                assert_int_equal(next, counts[c]);
            }
        }
    }
}

static void test_failures(void **state) {
    (void)state;
    sp_error error = {0};
    spi_pool *pool = (spi_pool *)(void *)&error;
    assert_int_equal(spi_pool_create(SPI_POOL_THREADS_MAX + 1, &pool, &error), SP_LIMIT);
    assert_null(pool);
    /* Two allocations are the pool's own, then one for each thread it starts. */
    for (long allocation = 0; allocation < 5; allocation++) {
        spi_memory_fail_after(allocation);
        sp_status status = spi_pool_create(4, &pool, &error);
        spi_memory_fail_after(-1);
        assert_int_equal(status, SP_NO_MEMORY);
        assert_null(pool);
    }
    spi_pool_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_phases),          cmocka_unit_test(test_waiting),
        cmocka_unit_test(test_many_short_jobs), cmocka_unit_test(test_others_go_on),
        cmocka_unit_test(test_shares_cover),    cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
