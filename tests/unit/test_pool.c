/* tests/unit/test_pool.c - the CPU's threads: every share is done once, barriers hold, jobs repeat; also with many more
 * threads than cores. Worth most under the thread sanitizer. */
#include "device/cpu/pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "os/cpu.h"
#include "support/support.h"

#define PHASES 50u
#define CELLS  997u

static const uint32_t thread_counts[] = {1, 2, 3, 5, 17};

typedef struct relay {
    spi_pool *pool;
    uint32_t cells[2][CELLS]; /* plain memory: only the barriers order it */
    uint32_t started[64];
} relay;

/* In each phase a thread fills its share from cells that other threads wrote in the phase before. */
static void run_relay(void *env, uint32_t thread, uint32_t thread_count) {
    relay *race = env;
    race->started[thread]++;
    for (uint32_t phase = 0; phase < PHASES; phase++) {
        uint64_t first, end;
        spi_pool_share(CELLS, 1, thread, thread_count, &first, &end);
        const uint32_t *from = race->cells[phase % 2];
        uint32_t *to = race->cells[(phase + 1) % 2];
        for (uint64_t i = first; i < end; i++) {
            to[i] = from[CELLS - 1 - i] + 1;
        }
        spi_pool_barrier(race->pool);
    }
}

static void test_jobs_and_barriers(void **state) {
    (void)state;
    for (uint32_t c = 0; c < sizeof thread_counts / sizeof thread_counts[0]; c++) {
        sp_error error = {0};
        relay race;
        memset(&race, 0, sizeof race);
        TEST_OK(spi_pool_create(thread_counts[c], &race.pool, &error), error);
        assert_int_equal(spi_pool_thread_count(race.pool), thread_counts[c]);
        uint32_t jobs = 20;
        for (uint32_t job = 0; job < jobs; job++) {
            spi_pool_run(race.pool, run_relay, &race);
        }
        for (uint32_t i = 0; i < CELLS; i++) {
            assert_int_equal(race.cells[PHASES * jobs % 2][i], PHASES * jobs);
        }
        for (uint32_t thread = 0; thread < thread_counts[c]; thread++) {
            assert_int_equal(race.started[thread], jobs);
        }
        spi_pool_destroy(race.pool);
    }
}

static void count_up(void *env, uint32_t thread, uint32_t thread_count) {
    (void)thread_count;
    ((uint32_t *)env)[thread * 16]++;
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
            spi_pool_run(pool, count_up, counts);
        }
        for (uint32_t thread = 0; thread < thread_counts[c]; thread++) {
            assert_int_equal(counts[thread * 16], 1000);
        }
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
    /* Two allocations are the pool's own, then one for each thread. */
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
        cmocka_unit_test(test_jobs_and_barriers),
        cmocka_unit_test(test_many_short_jobs),
        cmocka_unit_test(test_shares_cover),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
