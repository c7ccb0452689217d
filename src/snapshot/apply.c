/* snapshot/apply.c - a base and what changed since, as one snapshot. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "snapshot/series.h"
#include "snapshot/snapshot.h"

#define PAGE SPI_SECTION_PAGE_ALIGN

static sp_status no_memory(sp_error *error) {
    return spi_fail(error, SP_NO_MEMORY, "no memory to apply a delta");
}

/* ---- pages ---- */

typedef struct page {
    uint64_t offset;
    uint32_t age; /* of the delta that has it: 0 for the latest */
    const uint8_t *bytes;
} page;

/* Where each page of the result comes from. */
typedef struct merged {
    spi_runs runs;
    const uint8_t **from; /* [pages of runs] */
    size_t count, capacity;
    page *changed; /* of all deltas: ascending, the latest of a page first */
    size_t changed_count, changed_capacity;
    bool no_memory;
} merged;

static void add_page(merged *to, uint64_t offset, const uint8_t *bytes) {
    if (spi_page_is_zero(bytes)) {
        return;
    }
    if (to->no_memory || !SPI_RESERVE(to->from, to->count, to->capacity) || !spi_runs_add(&to->runs, offset, PAGE)) {
        to->no_memory = true;
        return;
    }
    to->from[to->count++] = bytes;
}

static int by_offset(const void *a, const void *b) {
    const page *x = a, *y = b;
    return x->offset != y->offset ? (x->offset > y->offset) - (x->offset < y->offset)
                                  : (x->age > y->age) - (x->age < y->age);
}

static void list_changed(merged *to, sp_snapshot *const *deltas, uint32_t delta_count) {
    for (uint32_t age = 0; age < delta_count && !to->no_memory; age++) {
        const uint8_t *bytes = deltas[age]->pages;
        for (uint32_t i = 0; i < deltas[age]->run_count && !to->no_memory; i++) {
            const spi_page_run *run = &deltas[age]->runs[i];
            for (uint64_t at = 0; at < run->bytes; at += PAGE, bytes += PAGE) {
                if (!SPI_RESERVE(to->changed, to->changed_count, to->changed_capacity)) {
                    to->no_memory = true;
                    break;
                }
                to->changed[to->changed_count++] = (page){run->offset + at, age, bytes};
            }
        }
    }
    if (to->changed_count) {
        qsort(to->changed, to->changed_count, sizeof *to->changed, by_offset);
    }
}

/* Adds what changed below `end`; older versions of a page are passed over. */
static void add_changed(merged *to, size_t *next, uint64_t end) {
    while (*next < to->changed_count && to->changed[*next].offset < end) {
        const page *item = &to->changed[*next];
        add_page(to, item->offset, item->bytes);
        while (*next < to->changed_count && to->changed[*next].offset == item->offset) {
            ++*next;
        }
    }
}

static void merge_pages(merged *to, const sp_snapshot *base) {
    const uint8_t *bytes = base->pages;
    size_t next = 0;
    for (uint32_t i = 0; i < base->run_count; i++) {
        const spi_page_run *run = &base->runs[i];
        for (uint64_t at = run->offset; at < run->offset + run->bytes; at += PAGE, bytes += PAGE) {
            add_changed(to, &next, at);
            if (next < to->changed_count && to->changed[next].offset == at) {
                add_changed(to, &next, at + PAGE);
            } else {
                add_page(to, at, bytes);
            }
        }
    }
    add_changed(to, &next, UINT64_MAX);
}

static spi_part page_part(const void *env, uint32_t i) {
    const merged *all = env;
    return (spi_part){all->from[i], PAGE};
}

/* ---- sessions ---- */

/* The sessions at some point of the series. */
typedef struct level {
    const spi_state *state;
    spi_saved_session *sessions;
    uint32_t count;
    bool is_own; /* the list and its tokens are not a snapshot's */
} level;

static void free_level(level *at) {
    for (uint32_t i = 0; at->is_own && at->sessions && i < at->count; i++) {
        spi_free((void *)(uintptr_t)at->sessions[i].tokens);
    }
    if (at->is_own) {
        spi_free(at->sessions);
    }
    *at = (level){0};
}

static const spi_saved_session *find_session(const level *before, uint32_t slot, uint32_t generation) {
    for (uint32_t i = 0; i < before->count; i++) {
        if (before->sessions[i].slot == slot && before->state->slots[slot].generation == generation) {
            return &before->sessions[i];
        }
    }
    return NULL;
}

/* A session as it is now: tokens kept from before and the new ones, and what of blocks and logits still holds. */
static sp_status merge_session(const level *before_all, const sp_snapshot *delta, const spi_saved_session *now,
                               spi_saved_session *result, sp_error *error) {
    const spi_state_slot *slot = &delta->state.slots[now->slot];
    const spi_saved_session *before = find_session(before_all, now->slot, slot->generation);
    uint32_t had = before ? before_all->state->slots[now->slot].token_count : 0;
    if (now->token_first > had) {
        return spi_fail(error, SP_INVALID, "the delta builds on tokens that its base does not have");
    }
    int32_t *tokens = spi_alloc(slot->token_count, sizeof *tokens);
    if (!tokens) {
        return no_memory(error);
    }
    if (now->token_first) {
        memcpy(tokens, before->tokens, now->token_first * sizeof *tokens);
    }
    if (now->token_count) {
        memcpy(tokens + now->token_first, now->tokens, now->token_count * sizeof *tokens);
    }
    bool unchanged = before && !now->token_count && now->token_first == had;
    uint32_t kept = now->token_first / SPI_BLOCK_TOKENS, inside = before ? before->inside_count : 0;
    *result = (spi_saved_session){
        .slot = now->slot, .is_foreign = now->is_foreign, .tokens = tokens, .token_count = slot->token_count};
    if (before && before->blocks && inside) { /* what came behind them has no blocks here, whatever is kept of it */
        result->blocks = before->blocks;
        result->blocks_bytes = kept < inside ? before->blocks_bytes / inside * kept : before->blocks_bytes;
        result->inside_count = kept < inside ? kept : inside;
    }
    if (unchanged && before->tail) {
        result->tail = before->tail;
        result->tail_bytes = before->tail_bytes;
    }
    if (unchanged && before->logits) {
        result->logits = before->logits;
        result->logits_bytes = before->logits_bytes;
    }
    return SP_OK;
}

/* One delta further. */
static sp_status advance(level *at, const sp_snapshot *delta, sp_error *error) {
    level next = {.state = &delta->state, .count = delta->session_count, .is_own = true};
    next.sessions = spi_alloc(delta->session_count, sizeof *next.sessions);
    sp_status status = next.sessions ? SP_OK : no_memory(error);
    for (uint32_t i = 0; i < delta->session_count && !status; i++) {
        status = merge_session(at, delta, &delta->sessions[i], &next.sessions[i], error);
    }
    free_level(at);
    *at = next;
    return status;
}

static void add_sessions(spi_builder *builder, const spi_saved_session *sessions, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (sessions[i].token_count) {
            spi_build_add(builder, SPI_SECTION_TOKENS, sessions[i].slot, sessions[i].tokens,
                          sessions[i].token_count * sizeof(int32_t));
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        if (sessions[i].blocks && sessions[i].blocks_bytes) {
            spi_build_add(builder, SPI_SECTION_BLOCKS, sessions[i].slot, sessions[i].blocks, sessions[i].blocks_bytes);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        if (sessions[i].tail) {
            spi_build_add(builder, SPI_SECTION_TAIL, sessions[i].slot, sessions[i].tail, sessions[i].tail_bytes);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        if (sessions[i].logits) {
            spi_build_add(builder, SPI_SECTION_LOGITS, sessions[i].slot, sessions[i].logits, sessions[i].logits_bytes);
        }
    }
}

/* ---- the result ---- */

static sp_status build(merged *all, const sp_snapshot *base, const sp_snapshot *latest, const level *sessions,
                       sp_snapshot **result, sp_error *error) {
    spi_builder builder = {0};
    spi_writer writer = {0};
    spi_saving saving = {.state = &latest->state,
                         .models = latest->models,
                         .sessions = sessions->sessions,
                         .session_count = sessions->count,
                         .module_hash = latest->module_hash,
                         .module_name = latest->module_name};
    size_t wasm_bytes, extra_bytes;
    const void *wasm = sp_snapshot_module(base, &wasm_bytes), *extra = sp_snapshot_extra(latest, &extra_bytes);
    spi_state_write(&saving, &writer);
    builder.no_memory = writer.no_memory || all->no_memory;
    spi_build_add(&builder, SPI_SECTION_STATE, 0, writer.data, writer.count);
    spi_build_add(&builder, SPI_SECTION_PAGE_INDEX, 0, all->runs.items, all->runs.count * sizeof(spi_page_run));
    spi_build_parts(&builder, SPI_SECTION_PAGES, 0, page_part, all, all->runs.bytes);
    add_sessions(&builder, sessions->sessions, sessions->count);
    if (wasm) {
        spi_build_add(&builder, SPI_SECTION_MODULE, 0, wasm, wasm_bytes);
    }
    if (extra) {
        spi_build_add(&builder, SPI_SECTION_EXTRA, 0, extra, extra_bytes);
    }
    sp_status status = spi_build_finish(&builder, NULL, latest->header->id, result, error);
    spi_free(writer.data);
    return status;
}

/* Each was made on the one before it. */
static sp_status check_series(const sp_snapshot *base, sp_snapshot *const *deltas, uint32_t count, sp_error *error) {
    const sp_snapshot *before = base;
    if (base->header->flags & SPI_SNAPSHOT_DELTA) {
        return spi_fail(error, SP_INVALID, "a delta is applied to a whole snapshot");
    }
    for (uint32_t i = count; i-- > 0; before = deltas[i]) {
        if (!(deltas[i]->header->flags & SPI_SNAPSHOT_DELTA)) {
            return spi_fail(error, SP_INVALID, "a delta is applied to a whole snapshot");
        }
        if (memcmp(deltas[i]->header->parent, before->header->id, sizeof before->header->id) != 0 ||
            memcmp(deltas[i]->module_hash, base->module_hash, sizeof base->module_hash) != 0) {
            return spi_fail(error, SP_INVALID, "the delta was made on another snapshot");
        }
    }
    return SP_OK;
}

sp_status spi_snapshot_apply_all(const sp_snapshot *base, sp_snapshot *const *deltas, uint32_t count,
                                 sp_snapshot **result, sp_error *error) {
    merged all = {0};
    level sessions = {.state = &base->state, .sessions = base->sessions, .count = base->session_count};
    *result = NULL;
    sp_status status = check_series(base, deltas, count, error);
    if (status) {
        return status;
    }
    list_changed(&all, deltas, count);
    merge_pages(&all, base);
    for (uint32_t i = count; i-- > 0 && !status;) {
        status = advance(&sessions, deltas[i], error);
    }
    status = status ? status : build(&all, base, deltas[0], &sessions, result, error);
    free_level(&sessions);
    if (*result) {
        (*result)->is_own = base->is_own;
        for (uint32_t i = 0; i < count; i++) {
            (*result)->is_own = (*result)->is_own && deltas[i]->is_own;
        }
    }
    spi_runs_free(&all.runs);
    spi_free(all.from);
    spi_free(all.changed);
    return status;
}

sp_status sp_snapshot_apply(const sp_snapshot *base, const sp_snapshot *delta, sp_snapshot **result, sp_error *error) {
    sp_snapshot *deltas[] = {(sp_snapshot *)(uintptr_t)delta};
    return spi_snapshot_apply_all(base, deltas, 1, result, error);
}
