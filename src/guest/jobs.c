/* guest/jobs.c - what guests wait for: computing, done together where it can be.
 *
 * All appends to sessions of one model on one device are one batch. A long one is cut short between its chunks when a
 * guest in it has all that it wanted and can go on, must end, was interrupted, or when others have waited long enough
 * for their turn; whoever is not meant goes on with the rest in the next run. What was asked of all rows of logits
 * cannot be pieced together: only who must end or was interrupted ends that, and others start again.
 *
 * May include: session, device, os, base.
 */
#include <stdio.h>

#include "base/error.h"
#include "base/memory.h"
#include "guest/guest.h"
#include "guest/state.h"
#include "os/clock.h"
#include "session/session.h"

#define PAUSE_NS 20000000 /* how long computing may keep guests from their turn, give or take a chunk */

typedef struct batch {
    sp_engine *engine;
    sp_guest **guests;
    sp_append *parts;
    uint32_t *counts_before; /* tokens of each part's session */
    uint32_t count;
    int64_t pause_ns, until_ns;
} batch;

void spi_jobs_begin(sp_guest *guest, int64_t now_ns) {
    const spi_job *job = &guest->job;
    guest->wait = SPI_WAIT_JOB;
    atomic_store(&guest->is_computing, true);
    guest->job_begin_ns = now_ns;
    guest->job_done_count = 0;
    guest->job_is_interrupted = false;
    guest->job_start_count = job->kind == SPI_JOB_APPEND ? sp_session_token_count(job->session) : 0;
}

void spi_jobs_drop(sp_guest *guest) {
    spi_free(guest->job.tokens);
    guest->job = (spi_job){0};
    atomic_store(&guest->is_computing, false);
}

static void count(sp_guest *guest, int64_t now_ns) {
    sp_guest_counters *counters = &guest->counters;
    uint64_t ns = (uint64_t)(now_ns - guest->job_begin_ns);
    counters->compute_ns += ns;
    if (guest->job.kind == SPI_JOB_APPEND && guest->job.token_count >= 2) {
        counters->prompt_tokens += guest->job.token_count;
        counters->prompt_ns += ns;
    } else if (guest->job.kind == SPI_JOB_APPEND) {
        counters->generated_tokens += guest->job.token_count;
        counters->generated_ns += ns;
    }
}

/* result: of the guest's call, if status is SP_OK. */
static void finish(sp_guest *guest, sp_status status, int32_t result, const sp_error *error) {
    sp_error told = {.status = status};
    if (!status) {
        count(guest, spi_clock_ns());
    } else if (error && error->status == status) {
        told = *error;
    } else {
        spi_fail(&told, status, "%s", sp_status_text(status)); /* the message is of another part of the batch */
    }
    spi_jobs_drop(guest);
    spi_host_job_done(guest, status, &told);
    spi_call_resume(guest, status ? (int32_t)status : result);
}

/* True if a part is whole, whose guest would wait for nothing but the others' rest, or if others have waited for their
 * turn, unless somebody would have to start again. */
static bool is_pause_due(const batch *all, int64_t now_ns) {
    const sp_engine *engine = all->engine;
    bool is_any_whole = false;
    for (uint32_t i = 0; i < all->count; i++) {
        const sp_append *part = &all->parts[i];
        bool is_whole = sp_session_token_count(part->session) - all->counts_before[i] >= part->token_count;
        is_any_whole = is_any_whole || is_whole || part->status;
        if (!is_whole && part->logits == SP_LOGITS_ALL) {
            return false;
        }
    }
    bool others_wait =
        engine->ready.count || engine->waiting.count > all->count || spi_scheduler_next_wake_ns(engine) <= now_ns;
    return is_any_whole || (others_wait && now_ns >= all->pause_ns) || now_ns >= all->until_ns;
}

/* Asked between chunks. */
static int is_cut_short(void *env) {
    batch *all = env;
    int64_t now_ns = spi_clock_ns();
    int stop = is_pause_due(all, now_ns);
    for (uint32_t i = 0; i < all->count; i++) {
        sp_guest *guest = all->guests[i];
        unsigned fresh = SPI_INTERRUPT_NEW;
        if (atomic_compare_exchange_strong(&guest->interrupt, &fresh, SPI_INTERRUPT_USED)) {
            guest->job_is_interrupted = true;
            stop = 1;
        }
        stop |= spi_call_should_stop(guest, now_ns);
    }
    return stop;
}

/* Settles one part: done, failed, or to be gone on with. */
static void settle(sp_guest *guest, const sp_append *part, uint32_t count_before, const sp_error *error) {
    spi_job *job = &guest->job;
    bool is_meant = guest->job_is_interrupted || spi_call_should_stop(guest, spi_clock_ns());
    if (part->status != SP_CANCELLED || is_meant) {
        if (part->status && part->status != SP_CANCELLED && guest->job_done_count) { /* nothing was appended then */
            (void)sp_session_truncate(job->session, guest->job_start_count, NULL);
        }
        finish(guest, part->status, job->sampler ? part->token : SP_OK, error);
        return;
    }
    guest->job_done_count += sp_session_token_count(job->session) - count_before;
    if (job->logits == SP_LOGITS_ALL) {
        sp_error why = {0};
        sp_status status = sp_session_truncate(job->session, guest->job_start_count, &why);
        guest->job_done_count = 0;
        if (status) {
            finish(guest, status, SP_OK, &why);
        }
    }
}

static void run_parts(batch *all) {
    sp_error error = {0};
    for (uint32_t i = 0; i < all->count; i++) {
        sp_guest *guest = all->guests[i];
        const spi_job *job = &guest->job;
        all->counts_before[i] = sp_session_token_count(job->session);
        all->parts[i] = (sp_append){.session = job->session,
                                    .tokens = job->tokens + guest->job_done_count,
                                    .token_count = job->token_count - guest->job_done_count,
                                    .logits = job->logits,
                                    .sampler = job->sampler};
    }
    int64_t begin_ns = spi_clock_ns();
    (void)all->engine->hooks.append(all->parts, all->count, is_cut_short, all, &error);
    uint64_t run_ns = (uint64_t)(spi_clock_ns() - begin_ns);
    for (uint32_t i = 0; i < all->count; i++) {
        all->guests[i]->counters.run_ns += run_ns;
        settle(all->guests[i], &all->parts[i], all->counts_before[i], &error);
    }
}

static bool fits(const sp_guest *guest, const sp_guest *first) {
    return guest->job.kind == SPI_JOB_APPEND && guest->job.session->model == first->job.session->model &&
           guest->job.session->device == first->job.session->device;
}

static void run_batch(sp_engine *engine, sp_guest *first, int64_t until_ns) {
    uint32_t capacity = engine->waiting.count;
    batch all = {.engine = engine, .until_ns = until_ns};
    all.counts_before = spi_alloc(capacity, sizeof *all.counts_before);
    all.guests = spi_alloc(capacity, sizeof(sp_guest *));
    all.parts = spi_alloc(capacity, sizeof *all.parts);
    all.pause_ns = spi_clock_ns() + PAUSE_NS;
    if (!all.guests || !all.parts || !all.counts_before) {
        sp_error error;
        spi_fail(&error, SP_NO_MEMORY, "no memory for a batch of %u sessions", capacity);
        finish(first, SP_NO_MEMORY, SP_OK, &error);
    } else {
        for (spi_link_node *node = engine->waiting.first; node; node = node->next) {
            sp_guest *guest = SPI_LIST_ITEM(node, sp_guest, queue);
            if (!guest->job_is_tried && fits(guest, first)) {
                guest->job_is_tried = true;
                all.guests[all.count++] = guest;
            }
        }
        run_parts(&all);
    }
    spi_free(all.parts);
    spi_free(all.guests);
    spi_free(all.counts_before);
}

static void run_matmul(sp_guest *guest) {
    sp_error error = {0};
    int64_t begin_ns = spi_clock_ns();
    const spi_engine_hooks *hooks = &guest->engine->hooks;
    sp_status status = hooks->matmul(guest->device, guest->region, &guest->job.matmul, &error);
    if (status == SP_DEVICE_LOST && !spi_device_revive(guest->device, &error)) {
        status = hooks->matmul(guest->device, guest->region, &guest->job.matmul, &error);
    }
    guest->counters.run_ns += (uint64_t)(spi_clock_ns() - begin_ns);
    spi_state_note_written(guest, guest->job.matmul.c_offset,
                           (uint64_t)guest->job.matmul.m * guest->job.matmul.n * sizeof(float));
    finish(guest, status, SP_OK, &error);
}

/* A driver copies, which takes more stack than a fiber has: so this is a job. */
static void run_edited(sp_guest *guest) {
    const spi_job *job = &guest->job;
    sp_error error = {0};
    sp_status status = sp_session_edited(job->session, job->edited_offset, job->edited_bytes, &error);
    finish(guest, status, SP_OK, &error);
}

/* The way of decoding when there is nobody to share the pass over the weights with: on the guest's own fiber, without
 * suspending it and walking the scheduler, whose code and data the weights have driven out of the caches meanwhile. One
 * token is one chunk, so that nothing can cut it short. A cache writes files, and some drivers do what they like: they
 * need more stack than a fiber has for sure. */
sp_status spi_guest_append_now(sp_guest *guest, sp_session *session, int32_t token, sp_sampler *sampler, int32_t *next,
                               sp_error *error) {
    sp_engine *engine = guest->engine;
    void *context;
    int64_t begin_ns = spi_clock_ns();
    if (!spi_scheduler_is_alone(guest, begin_ns) || session->cache ||
        !spi_device_backend(session->device, &context)->runs_on_fibers) {
        return SP_BUSY;
    }
    sp_append part = {
        .session = session, .tokens = &token, .token_count = 1, .logits = SP_LOGITS_LAST, .sampler = sampler};
    uint64_t begin_ticks = spi_clock_ticks();
    atomic_store(&guest->is_computing, true);
    spi_device_may_revive(session->device, false); /* opening one takes more stack than a fiber has */
    sp_status status = engine->hooks.append(&part, 1, NULL, NULL, error);
    spi_device_may_revive(session->device, true);
    status = status == SP_DEVICE_LOST ? SP_BUSY : status; /* that can be done where it is asked for again */
    atomic_store(&guest->is_computing, false);
    *next = part.token;
    guest->host_ticks -= spi_clock_ticks() - begin_ticks; /* the import around it counts this as its own */
    int64_t end_ns = spi_clock_ns();
    if (!status) {
        guest->counters.run_ns += (uint64_t)(end_ns - begin_ns);
        guest->counters.compute_ns += (uint64_t)(end_ns - begin_ns);
        guest->counters.generated_ns += (uint64_t)(end_ns - begin_ns);
        guest->counters.generated_tokens++;
    }
    /* A slice may have ended meanwhile. While nobody waits for one, the guest goes on with the next. */
    unsigned slice_count = atomic_load(&engine->ticks.count);
    if (slice_count != guest->slice_count && spi_scheduler_is_alone(guest, end_ns)) {
        guest->slice_count = slice_count;
        wasmtime_context_set_epoch_deadline(guest->context, 1);
    }
    return status;
}

void spi_jobs_run(sp_engine *engine, int64_t until_ns) {
    spi_link_node *node;
    for (node = engine->waiting.first; node; node = node->next) {
        SPI_LIST_ITEM(node, sp_guest, queue)->job_is_tried = false;
    }
    while ((node = engine->waiting.first)) {
        while (node && SPI_LIST_ITEM(node, sp_guest, queue)->job_is_tried) {
            node = node->next;
        }
        if (!node) {
            return;
        }
        sp_guest *guest = SPI_LIST_ITEM(node, sp_guest, queue);
        if (guest->job.kind == SPI_JOB_MATMUL) {
            run_matmul(guest);
        } else if (guest->job.kind == SPI_JOB_EDITED) {
            run_edited(guest);
        } else {
            run_batch(engine, guest, until_ns);
        }
    }
}
