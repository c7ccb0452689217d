/* tests/unit/test_park.c - sleeping on a word with locks and conditions, which macOS's threads do. */
#include "os/clock.h"
#include "os/park.h"
#include "os/thread.h"
#include "support/support.h"

#define TURNS   20000u
#define THREADS 4u

/* A number that is handed round: each thread adds one when it is its turn, and sleeps until then. */
static atomic_uint shared;

static void hand_round(void *env) {
    const uint32_t me = *(const uint32_t *)env;
    for (uint32_t turn = 0; turn < TURNS / THREADS; turn++) {
        unsigned now;
        while ((now = atomic_load(&shared)) % THREADS != me) {
            spi_park_wait(&shared, now, -1);
        }
        atomic_store(&shared, now + 1);
        spi_park_wake(&shared);
    }
}

static void no_wake_is_lost(void **state) {
    (void)state;
    spi_thread threads[THREADS];
    uint32_t numbers[THREADS];
    atomic_store(&shared, 0);
    for (uint32_t i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(spi_thread_start(&threads[i], "ring", hand_round, &numbers[i]), SP_OK);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        spi_thread_join(&threads[i]);
    }
    assert_int_equal(atomic_load(&shared), TURNS);
}

static void a_wait_ends_in_time(void **state) {
    (void)state;
    atomic_uint word = 5;
    int64_t begun_ns = spi_clock_ns();
    spi_park_wait(&word, 4, -1); /* it is not that any more */
    spi_park_wait(&word, 5, 0);
    int64_t between_ns = spi_clock_ns();
    while (spi_clock_ns() - between_ns < 30000000) {
        spi_park_wait(&word, 5, 30000000 - (spi_clock_ns() - between_ns));
    }
    assert_true(spi_clock_ns() - begun_ns >= 30000000);
    spi_park_wake(&word); /* nobody waits */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_wake_is_lost),
        cmocka_unit_test(a_wait_ends_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
