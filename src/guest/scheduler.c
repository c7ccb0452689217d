/* guest/scheduler.c - whose turn it is.
 *
 * Time goes by in rounds. In a round every guest that is ready gets one slice, in the order in which they became ready;
 * then everything that guests wait for is computed, together. So that what is asked for in one round is in one batch, a
 * guest that loops for ever delays a batch by its slice and no more, and a long computation is cut into pieces while
 * others are ready (jobs.c).
 *
 * May include: os, base.
 */
#include <assert.h>

#include "base/error.h"
#include "guest/guest.h"
#include "os/clock.h"

void spi_scheduler_wake_sleepers(sp_engine *engine, int64_t now_ns) {
    spi_link_node *next;
    for (spi_link_node *node = engine->sleeping.first; node; node = next) {
        sp_guest *guest = SPI_LIST_ITEM(node, sp_guest, queue);
        next = node->next;
        unsigned fresh = SPI_INTERRUPT_NEW;
        guest->sleep.is_interrupted = atomic_compare_exchange_strong(&guest->interrupt, &fresh, SPI_INTERRUPT_USED);
        if (guest->sleep.is_interrupted || guest->sleep.until_ns <= now_ns) {
            spi_wasi_sleep_done(guest);
        }
    }
}

int64_t spi_scheduler_next_wake_ns(const sp_engine *engine) {
    int64_t earliest_ns = INT64_MAX;
    for (spi_link_node *node = engine->sleeping.first; node; node = node->next) {
        const sp_guest *guest = SPI_LIST_ITEM(node, sp_guest, queue);
        int64_t until_ns = guest->sleep.until_ns;
        if (guest->call.deadline_ns && guest->call.deadline_ns < until_ns) {
            until_ns = guest->call.deadline_ns;
        }
        earliest_ns = until_ns < earliest_ns ? until_ns : earliest_ns;
    }
    return earliest_ns;
}

bool spi_scheduler_is_alone(const sp_guest *guest, int64_t now_ns) {
    const sp_engine *engine = guest->engine;
    return engine->in_run && !engine->ready.count && !engine->waiting.count && now_ns < engine->run_until_ns &&
           (!engine->sleeping.count || now_ns < spi_scheduler_next_wake_ns(engine)) &&
           !spi_call_should_stop(guest, now_ns);
}

/* Ends those that were terminated or are out of time while they wait. */
static void stop_due(spi_list *list, int64_t now_ns) {
    spi_link_node *next;
    for (spi_link_node *node = list->first; node; node = next) {
        next = node->next;
        (void)spi_call_stop_if_due(SPI_LIST_ITEM(node, sp_guest, queue), now_ns);
    }
}

static bool is_wanted(const sp_engine *engine, const sp_guest *until) {
    return until ? until->state == SP_GUEST_RUNNING : engine->running_count > 0;
}

/* Nothing can be done before somebody wakes up. */
static void rest(sp_engine *engine, unsigned wake, int64_t deadline_ns) {
    int64_t until_ns = spi_scheduler_next_wake_ns(engine), now_ns = spi_clock_ns();
    until_ns = until_ns < deadline_ns ? until_ns : deadline_ns;
    if (until_ns > now_ns) {
        spi_ticks_run(&engine->ticks, false);
        spi_wait_word(&engine->wake, wake, until_ns == INT64_MAX ? -1 : until_ns - now_ns);
        spi_ticks_run(&engine->ticks, true);
    }
}

static void run_round(sp_engine *engine, const sp_guest *until, int64_t deadline_ns) {
    unsigned wake = atomic_load(&engine->wake); /* before looking at what it wakes for */
    int64_t now_ns = spi_clock_ns();
    stop_due(&engine->waiting, now_ns);
    stop_due(&engine->sleeping, now_ns);
    spi_scheduler_wake_sleepers(engine, now_ns);
    for (uint32_t turns = engine->ready.count; turns && engine->ready.first; turns--) {
        sp_guest *guest = SPI_LIST_ITEM(engine->ready.first, sp_guest, queue);
        spi_list_remove(&guest->queue);
        spi_call_slice(guest);
        if (!is_wanted(engine, until) || spi_clock_ns() >= deadline_ns) {
            return;
        }
    }
    if (engine->waiting.count) {
        spi_jobs_run(engine, deadline_ns);
    } else if (!engine->ready.count && engine->sleeping.count) {
        rest(engine, wake, deadline_ns);
    }
}

sp_status sp_engine_run(sp_engine *engine, const sp_guest *until, int64_t timeout_ms) {
    int64_t deadline_ns = INT64_MAX;
    sp_status status = SP_OK;
    if (timeout_ms >= 0 && timeout_ms < INT64_MAX / 2000000) {
        deadline_ns = spi_clock_ns() + timeout_ms * 1000000;
    }
    assert(!engine->in_run && "sp_engine_run is called by something that it runs");
    if (!is_wanted(engine, until)) {
        return SP_OK;
    }
    engine->in_run = true;
    engine->run_until_ns = deadline_ns;
    spi_ticks_run(&engine->ticks, true);
    while (is_wanted(engine, until)) {
        if (status) {
            break;
        }
        run_round(engine, until, deadline_ns);
        status = spi_clock_ns() >= deadline_ns ? SP_TIMEOUT : SP_OK;
    }
    spi_ticks_run(&engine->ticks, false);
    engine->in_run = false;
    return is_wanted(engine, until) ? status : SP_OK;
}
