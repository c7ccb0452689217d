/* session/batch.c - appending tokens to many sessions in as few passes over the weights as possible.
 *
 * Every pass is a run of at most rows_max rows, shared out among the parts that still have tokens: those with the
 * fewest come first, so that a conversation that wants one token does not wait behind a long prompt. Nor does it wait
 * long beside one: a run in which somebody has few tokens left has no more of the others' than is computed in a
 * moment.
 */
#include "session/session.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "model/model.h"
#include "os/clock.h"
#include "sampler/draw.h"

/* A run with somebody in it who has few tokens left takes some STEP_NS, or FEW_ROWS rows of others where these take
 * longer: fewer are not much faster, since the weights have to be read for them, too. */
#define STEP_NS  50000000
#define FEW_ROWS 64u

typedef struct work {
    sp_append *part;
    uint32_t start;  /* tokens before this batch */
    uint32_t done;   /* of the part's tokens, computed or found */
    uint32_t found;  /* of them, without computing */
    uint32_t in_run; /* of them, in the run being made */
    spi_pick pick;   /* with a sampler: how it picks, */
    bool is_chain;   /* unless it needs its state; */
    uint32_t out;    /* the output behind which, in the run being made; */
    bool is_picked;  /* and whether the device did */
} work;

typedef struct batch {
    sp_model *model;
    sp_device *device;
    work *works;
    uint32_t count;
    sp_error *error; /* of the first failure */
    sp_status status;
    int32_t *tokens;       /* [row_max] of one run */
    int32_t *picked;       /* [row_max], */
    spi_pick *each;        /* [row_max]; NULL: no part has a sampler */
    spi_segment *segments; /* [part count, at most row_max] */
    uint32_t row_max;
    struct {
        work work;
        int32_t token, picked;
        spi_pick each;
        spi_segment segment;
    } one; /* the room of a batch of one token */
} batch;

static void refuse(batch *all, sp_append *part, sp_status status, const sp_error *why) {
    part->status = status;
    if (!all->status) {
        all->status = status;
        *all->error = *why;
    }
}

/* Copies the tokens to behind the session's own, where a caller's other threads or a guest cannot change them any more,
 * and checks the copies. They may be the session's own, of before it was truncated, and overlap the copies. */
static sp_status take_tokens(const sp_append *part, sp_error *error) {
    sp_session *session = part->session;
    int32_t *copy = session->tokens + session->token_count;
    uint32_t room = session->context_max - session->token_count;
    if (part->token_count > room) {
        return spi_fail(error, SP_CONTEXT_FULL,
                        "the context of %u tokens is full: %u are in use and %u more do not fit", session->context_max,
                        session->token_count, part->token_count);
    }
    if (part->logits == SP_LOGITS_ALL && part->token_count > session->logits_rows_max) {
        return spi_fail(error, SP_LIMIT, "%u rows of logits were asked for and the session has room for %u",
                        part->token_count, session->logits_rows_max);
    }
    if (part->logits != SP_LOGITS_ALL && part->logits != SP_LOGITS_LAST && part->logits != SP_LOGITS_NONE) {
        return spi_fail(error, SP_INVALID, "%d is not a choice of logits", (int)part->logits);
    }
    if (part->token_count) {
        memmove(copy, part->tokens, part->token_count * sizeof *copy);
    }
    for (uint32_t i = 0; i < part->token_count; i++) {
        if (copy[i] < 0 || (uint32_t)copy[i] >= session->vocab) {
            return spi_fail(error, SP_INVALID, "token %u is %d, not in 0..%u", i, copy[i], session->vocab - 1);
        }
    }
    return SP_OK;
}

static sp_status admit(const batch *all, const sp_append *part, sp_error *error) {
    for (uint32_t i = 0; i < all->count; i++) {
        if (all->works[i].part->session == part->session) {
            return spi_fail(error, SP_INVALID, "the same session is twice in one batch");
        }
    }
    if (part->session->model != all->model || part->session->device != all->device) {
        return spi_fail(error, SP_INVALID, "a batch is of one model on one device");
    }
    return take_tokens(part, error);
}

/* Few tokens first; parts are few, so insertion is good enough. */
static void sort_in(batch *all, sp_append *part) {
    uint32_t place = all->count++;
    while (place && all->works[place - 1].part->token_count > part->token_count) {
        all->works[place] = all->works[place - 1];
        place--;
    }
    work item = {.part = part, .start = part->session->token_count};
    if (part->sampler) {
        item.is_chain = !spi_sampler_draw(part->sampler, item.start + part->token_count, &item.pick.draw);
        item.pick.alone = !item.is_chain && part->logits == SP_LOGITS_NONE;
        item.pick.draw = item.is_chain ? (spi_draw){0} : item.pick.draw;
    }
    all->works[place] = item;
}

static uint32_t left_of(const work *item) {
    return item->part->token_count - item->done;
}

/* How many rows of the next run may be those of parts that have many tokens left. */
static uint32_t long_rows_max(const batch *all) {
    bool has_few = false;
    for (uint32_t i = 0; i < all->count; i++) {
        uint32_t left = left_of(&all->works[i]);
        has_few = has_few || (left && left <= FEW_ROWS);
    }
    if (!has_few) {
        return all->row_max;
    }
    int64_t row_ns = spi_model_row_ns(all->model, all->device);
    uint64_t rows = row_ns > 0 ? STEP_NS / (uint64_t)row_ns : 0;
    rows = rows < FEW_ROWS ? FEW_ROWS : rows - rows % FEW_ROWS;
    return rows < all->row_max ? (uint32_t)rows : all->row_max;
}

/* Adds the next tokens of a part to a run, at most so many. */
static void add_segment(batch *all, spi_run *run, work *item, uint32_t rows_max) {
    sp_session *session = item->part->session;
    uint32_t left = left_of(item), rows = left < rows_max ? left : rows_max;
    uint32_t wanted = 0, first_wanted = 0;
    if (item->part->logits == SP_LOGITS_ALL) {
        wanted = rows;
        first_wanted = item->done;
    } else if ((item->part->logits == SP_LOGITS_LAST || item->part->sampler) && rows == left) {
        wanted = 1;
    }
    for (uint32_t i = 0; i < wanted && all->each; i++) {
        all->each[run->out_count + i] = item->pick;
    }
    item->out = run->out_count + wanted - 1;
    uint64_t row_bytes = (uint64_t)session->vocab * sizeof(float);
    all->segments[run->segment_count++] = (spi_segment){
        .link = spi_device_find_link(session->device, session->region),
        .kv_offset = session->offset + session->layout.kv_offset,
        .logits_offset = session->offset + session->layout.logits_offset + first_wanted * row_bytes,
        .row_first = run->row_count,
        .row_count = rows,
        .position_first = item->start + item->done,
        .out_first = run->out_count,
        .out_count = wanted,
    };
    memcpy(all->tokens + run->row_count, session->tokens + item->start + item->done, rows * sizeof *all->tokens);
    run->row_count += rows;
    run->out_count += wanted;
    item->in_run = rows;
}

/* Fills a run with the next tokens of the parts that have some left, and the same program as the first of them. */
static spi_program *fill_run(batch *all, spi_run *run) {
    spi_program *program = NULL;
    uint32_t long_rows = long_rows_max(all);
    for (uint32_t i = 0; i < all->count && run->row_count < all->row_max; i++) {
        work *item = &all->works[i];
        const sp_session *session = item->part->session;
        bool is_long = left_of(item) > FEW_ROWS;
        uint32_t before = run->row_count, room = all->row_max - before;
        room = is_long && long_rows < room ? long_rows : room;
        spi_program *own = spi_model_program(all->model, all->device, session->context_max, session->kv->type);
        if (left_of(item) && room && (!program || own == program)) {
            program = own;
            add_segment(all, run, item, room);
            long_rows -= is_long ? run->row_count - before : 0;
        }
    }
    return program;
}

static void make_run(batch *all) {
    spi_picks picks = {.each = all->each, .tokens = all->picked, .count_max = all->row_max};
    spi_run run = {.tokens = all->tokens, .segments = all->segments};
    spi_program *program = fill_run(all, &run);
    void *context;
    const spi_backend *backend = spi_device_backend(all->device, &context);
    for (uint32_t i = 0; i < run.segment_count; i++) {
        if (!run.segments[i].link) {
            all->status = spi_fail(all->error, SP_DEVICE_LOST, "the device has lost its link to a session's memory");
            return;
        }
    }
    if (all->each && run.out_count) {
        picks.count_max = run.out_count;
        run.picks = &picks;
    }
    int64_t begin_ns = run.row_count >= FEW_ROWS ? spi_clock_ns() : 0;
    all->status = backend->run(context, program, &run, all->error);
    if (run.row_count >= FEW_ROWS && !all->status) {
        spi_model_note_run(all->model, all->device, run.row_count, spi_clock_ns() - begin_ns);
    }
    for (uint32_t i = 0; i < all->count && !all->status; i++) {
        work *item = &all->works[i];
        item->done += item->in_run;
        if (item->part->sampler && item->in_run && item->done == item->part->token_count && picks.count) {
            item->is_picked = !item->is_chain;
            item->part->token = all->picked[item->out];
        }
        item->part->session->token_count += item->in_run;
        item->in_run = 0;
    }
}

/* Once more if the device was lost and could be opened anew: what is in sessions' regions is all that a run needs. */
static void run_once(batch *all) {
    sp_error before = *all->error;
    make_run(all);
    if (all->status == SP_DEVICE_LOST && !spi_device_revive(all->device, all->error)) {
        *all->error = before;
        make_run(all);
    }
}

static bool is_done(const batch *all) {
    for (uint32_t i = 0; i < all->count; i++) {
        if (all->works[i].done < all->works[i].part->token_count) {
            return false;
        }
    }
    return true;
}

static void set_logits_rows(const work *item) {
    const sp_append *part = item->part;
    bool whole = item->done == part->token_count;
    if (!part->token_count) {
        return; /* nothing was appended: the logits of before are still those of the last token */
    }
    uint32_t rows = part->logits == SP_LOGITS_ALL ? part->token_count : part->logits == SP_LOGITS_LAST;
    part->session->logits_rows = whole ? rows : 0;
}

/* The token behind a part's last, if the device has not picked it: from the logits that it has left then. */
static void pick(const work *item) {
    sp_append *part = item->part;
    const sp_session *session = part->session;
    const uint8_t *first = sp_region_base(session->region) + session->offset + session->layout.logits_offset;
    const float *logits = (const float *)(const void *)first +
                          (size_t)(part->logits == SP_LOGITS_ALL ? part->token_count - 1 : 0) * session->vocab;
    if (!item->is_picked) { /* the likeliest is the same by either, and the sampler is faster */
        bool draws = !item->is_chain && item->pick.draw.inverse != 0;
        part->token = draws ? spi_draw_pick(&item->pick.draw, logits, session->vocab)
                            : sp_sampler_pick(part->sampler, logits, session->vocab);
    }
    sp_sampler_accept(part->sampler, part->token);
}

/* Settles every part after the last pass. A device's failure undoes all of them; a cancellation keeps what was computed
 * and fails those that are not whole. */
static void settle(batch *all, sp_status failure) {
    bool undo = failure && failure != SP_CANCELLED;
    for (uint32_t i = 0; i < all->count; i++) {
        work *item = &all->works[i];
        if (undo) {
            item->part->session->token_count = item->start;
            item->done = item->found = 0;
        }
        bool whole = item->done == item->part->token_count && !undo;
        item->part->status = whole ? SP_OK : failure;
        set_logits_rows(item);
        if (whole && item->part->sampler && item->part->token_count) {
            pick(item);
        }
    }
}

/* Blocks that somebody has computed before need not be computed again. Whoever asks for logits gets its last token
 * computed, since no block has them; who asks for those of all tokens gets all computed. */
static void find_blocks(batch *all) {
    for (uint32_t i = 0; i < all->count && !all->status; i++) {
        work *item = &all->works[i];
        sp_session *session = item->part->session;
        uint32_t count = item->part->token_count, found = item->start;
        if (!session->cache || !count || item->part->logits == SP_LOGITS_ALL) {
            continue;
        }
        bool computes = item->part->logits == SP_LOGITS_LAST || item->part->sampler;
        uint32_t limit = item->start + count - computes;
        all->status = session->cache->find(session->cache->env, session, limit, &found, all->error);
        if (!all->status && found > item->start) {
            item->done = found - item->start;
            item->found = item->done;
            session->token_count = found;
        }
    }
}

static void tell_caches(const batch *all, int64_t ns) {
    uint64_t computed = 0;
    for (uint32_t i = 0; i < all->count; i++) {
        computed += all->works[i].done - all->works[i].found;
    }
    for (uint32_t i = 0; i < all->count; i++) {
        const work *item = &all->works[i];
        sp_session *session = item->part->session;
        if (session->cache && item->done > item->found) {
            uint32_t own = item->done - item->found;
            session->cache->grown(session->cache->env, session, item->start, own,
                                  (int64_t)((double)ns * own / (double)computed));
        }
    }
}

static void run_all(batch *all, sp_cancelled cancelled, void *cancelled_env) {
    sp_status refused = all->status; /* of parts that were not let in: the others still run */
    sp_error why = *all->error;
    all->status = SP_OK;
    find_blocks(all);
    int64_t begin_ns = spi_clock_ns();
    for (bool first = true; !all->status && !is_done(all); first = false) {
        if (!first && cancelled && cancelled(cancelled_env)) {
            all->status = spi_fail(all->error, SP_CANCELLED, "the computation was cancelled");
        } else {
            run_once(all);
        }
    }
    settle(all, all->status);
    tell_caches(all, spi_clock_ns() - begin_ns);
    if (!all->status && refused) {
        all->status = refused;
        *all->error = why;
    }
}

static sp_status no_memory(sp_append *parts, uint32_t part_count, sp_error *error) {
    for (uint32_t i = 0; i < part_count; i++) {
        parts[i].status = SP_NO_MEMORY;
    }
    return spi_fail(error, SP_NO_MEMORY, "no memory for a batch of %u sessions", part_count);
}

/* Decoding one token is the common case and must not pay for a run of hundreds of rows, nor for an allocation. */
static bool make_room(batch *all, const sp_append *parts, uint32_t part_count) {
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < part_count; i++) {
        tokens += parts[i].token_count;
    }
    uint32_t rows_max = spi_model_rows_max(all->device);
    all->row_max = tokens < rows_max ? (uint32_t)tokens : rows_max;
    bool picks = false;
    for (uint32_t i = 0; i < part_count; i++) {
        picks = picks || parts[i].sampler;
    }
    if (part_count == 1 && all->row_max == 1) {
        all->works = &all->one.work;
        all->tokens = &all->one.token;
        all->picked = &all->one.picked;
        all->each = picks ? &all->one.each : NULL;
        all->segments = &all->one.segment;
        return true;
    }
    if (picks) {
        all->picked = spi_alloc(all->row_max, sizeof *all->picked);
        all->each = spi_alloc(all->row_max, sizeof *all->each);
    }
    all->works = spi_alloc(part_count, sizeof *all->works);
    all->tokens = spi_alloc(all->row_max, sizeof *all->tokens);
    all->segments = spi_alloc(part_count < all->row_max ? part_count : all->row_max, sizeof *all->segments);
    return all->works && all->tokens && all->segments && (!picks || (all->picked && all->each));
}

static void free_room(batch *all) {
    if (all->works == &all->one.work) {
        return;
    }
    spi_free(all->segments);
    spi_free(all->each);
    spi_free(all->picked);
    spi_free(all->tokens);
    spi_free(all->works);
}

sp_status sp_session_append_batch(sp_append *parts, uint32_t part_count, sp_cancelled cancelled, void *cancelled_env,
                                  sp_error *error) {
    sp_error local = {0};
    if (!part_count) {
        return SP_OK;
    }
    batch all = {.model = parts[0].session->model, .device = parts[0].session->device, .error = error ? error : &local};
    if (!make_room(&all, parts, part_count)) {
        free_room(&all);
        return no_memory(parts, part_count, error);
    }
    for (uint32_t i = 0; i < part_count; i++) {
        sp_error why = {0};
        sp_status status = admit(&all, &parts[i], &why);
        if (status) {
            refuse(&all, &parts[i], status, &why);
        } else {
            sort_in(&all, &parts[i]);
        }
    }
    run_all(&all, cancelled, cancelled_env);
    free_room(&all);
    return all.status;
}

sp_status sp_session_append(sp_session *session, const int32_t *tokens, uint32_t token_count, sp_logits logits,
                            sp_error *error) {
    sp_append part = {.session = session, .tokens = tokens, .token_count = token_count, .logits = logits};
    return sp_session_append_batch(&part, 1, NULL, NULL, error);
}
