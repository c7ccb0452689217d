/* guest/ticks.c - the thread that ends time slices: it moves Wasmtime's epoch on, which makes the code of guests yield.
 *
 * It sleeps on a word while no guest runs. May include: os.
 */
#include "base/error.h"
#include "guest/guest.h"
#include "os/clock.h"

enum { TICKS_ASLEEP, TICKS_RUNNING, TICKS_STOP };

static void run(void *env) {
    spi_ticks *ticks = env;
    for (;;) {
        unsigned state = atomic_load(&ticks->state);
        if (state == TICKS_STOP) {
            return;
        }
        if (state == TICKS_ASLEEP) {
            spi_wait_word(&ticks->state, TICKS_ASLEEP, -1);
            continue;
        }
        spi_sleep_ns(ticks->slice_ns);
        /* The count first: a guest that yields must find that a slice has ended (call.c). */
        atomic_fetch_add(&ticks->count, 1);
        for (int i = 0; i < SPI_VARIANT_COUNT; i++) {
            wasm_engine_t *engine = atomic_load(&ticks->engines[i]);
            if (engine) {
                wasmtime_engine_increment_epoch(engine);
            }
        }
    }
}

sp_status spi_ticks_start(spi_ticks *ticks, int64_t slice_ns, sp_error *error) {
    ticks->slice_ns = slice_ns;
    if (spi_thread_start(&ticks->thread, "samepage-ticks", run, ticks)) {
        return spi_fail(error, SP_NO_MEMORY, "cannot start the thread that ends time slices");
    }
    ticks->started = true;
    return SP_OK;
}

void spi_ticks_run(spi_ticks *ticks, bool on) {
    atomic_store(&ticks->state, on ? TICKS_RUNNING : TICKS_ASLEEP);
    if (on) {
        spi_wake_word(&ticks->state, 1);
    }
}

void spi_ticks_stop(spi_ticks *ticks) {
    if (!ticks->started) {
        return;
    }
    atomic_store(&ticks->state, TICKS_STOP);
    spi_wake_word(&ticks->state, 1);
    spi_thread_join(&ticks->thread);
    ticks->started = false;
}
