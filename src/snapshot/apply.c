/* snapshot/apply.c - a base and what changed since, as one snapshot. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "snapshot/snapshot.h"

#define PAGE SPI_SECTION_PAGE_ALIGN

/* Where each page of the result comes from. */
typedef struct merged {
    spi_runs runs;
    const uint8_t **from; /* [pages of runs] */
    size_t count, capacity;
    int32_t **tokens; /* [sessions of the delta] */
    bool no_memory;
} merged;

/* A walk over the pages of a snapshot. */
typedef struct walk {
    const sp_snapshot *snapshot;
    uint32_t run;
    uint64_t in_run, done; /* bytes */
} walk;

static bool page_at(const walk *at, uint64_t *offset, const uint8_t **bytes) {
    if (at->run >= at->snapshot->run_count) {
        *offset = UINT64_MAX;
        return false;
    }
    *offset = at->snapshot->runs[at->run].offset + at->in_run;
    *bytes = at->snapshot->pages + at->done;
    return true;
}

static void step(walk *at) {
    at->in_run += PAGE;
    at->done += PAGE;
    if (at->in_run >= at->snapshot->runs[at->run].bytes) {
        at->run++;
        at->in_run = 0;
    }
}

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

static void merge_pages(merged *to, const sp_snapshot *base, const sp_snapshot *delta) {
    walk a = {.snapshot = base}, b = {.snapshot = delta};
    uint64_t a_offset, b_offset;
    const uint8_t *a_bytes = NULL, *b_bytes = NULL;
    for (;;) {
        bool has_a = page_at(&a, &a_offset, &a_bytes), has_b = page_at(&b, &b_offset, &b_bytes);
        if (!has_a && !has_b) {
            return;
        }
        bool newer = b_offset <= a_offset;
        add_page(to, newer ? b_offset : a_offset, newer ? b_bytes : a_bytes);
        if (a_offset <= b_offset) {
            step(&a);
        }
        if (newer) {
            step(&b);
        }
    }
}

static spi_part page_part(const void *env, uint32_t i) {
    const merged *all = env;
    return (spi_part){all->from[i], PAGE};
}

static const spi_saved_session *find_session(const sp_snapshot *base, uint32_t slot, uint32_t generation) {
    for (uint32_t i = 0; i < base->session_count; i++) {
        if (base->sessions[i].slot == slot && base->state.slots[slot].generation == generation) {
            return &base->sessions[i];
        }
    }
    return NULL;
}

/* The sessions as they are now: tokens kept from before and the new ones, and what of blocks and logits still holds. */
static sp_status merge_sessions(merged *to, const sp_snapshot *base, const sp_snapshot *delta,
                                spi_saved_session *sessions, sp_error *error) {
    for (uint32_t i = 0; i < delta->session_count; i++) {
        const spi_saved_session *now = &delta->sessions[i];
        const spi_state_slot *slot = &delta->state.slots[now->slot];
        const spi_saved_session *before = find_session(base, now->slot, slot->generation);
        uint32_t had = before ? base->state.slots[now->slot].token_count : 0;
        if (now->token_first > had) {
            return spi_fail(error, SP_INVALID, "the delta builds on tokens that its base does not have");
        }
        to->tokens[i] = spi_alloc(slot->token_count, sizeof(int32_t));
        if (!to->tokens[i]) {
            return spi_fail(error, SP_NO_MEMORY, "no memory to apply a delta");
        }
        if (now->token_first) {
            memcpy(to->tokens[i], before->tokens, now->token_first * sizeof(int32_t));
        }
        if (now->token_count) {
            memcpy(to->tokens[i] + now->token_first, now->tokens, now->token_count * sizeof(int32_t));
        }
        bool unchanged = before && !now->token_count && now->token_first == had;
        uint32_t kept = now->token_first / SPI_BLOCK_TOKENS, full = had / SPI_BLOCK_TOKENS;
        sessions[i] = (spi_saved_session){.slot = now->slot,
                                          .is_foreign = now->is_foreign,
                                          .tokens = to->tokens[i],
                                          .token_count = slot->token_count};
        if (before && before->blocks && full) {
            sessions[i].blocks = before->blocks;
            sessions[i].blocks_bytes = before->blocks_bytes / full * (kept < full ? kept : full);
        }
        if (unchanged && before->tail) {
            sessions[i].tail = before->tail;
            sessions[i].tail_bytes = before->tail_bytes;
        }
        if (unchanged && before->logits) {
            sessions[i].logits = before->logits;
            sessions[i].logits_bytes = before->logits_bytes;
        }
    }
    return SP_OK;
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

static sp_status build(merged *all, const sp_snapshot *base, const sp_snapshot *delta,
                       const spi_saved_session *sessions, sp_snapshot **result, sp_error *error) {
    spi_builder builder = {0};
    spi_writer writer = {0};
    spi_saving saving = {.state = &delta->state,
                         .models = delta->models,
                         .sessions = sessions,
                         .session_count = delta->session_count,
                         .module_hash = delta->module_hash,
                         .module_name = delta->module_name};
    size_t wasm_bytes, extra_bytes;
    const void *wasm = sp_snapshot_module(base, &wasm_bytes), *extra = sp_snapshot_extra(delta, &extra_bytes);
    spi_state_write(&saving, &writer);
    builder.no_memory = writer.no_memory || all->no_memory;
    spi_build_add(&builder, SPI_SECTION_STATE, 0, writer.data, writer.count);
    spi_build_add(&builder, SPI_SECTION_PAGE_INDEX, 0, all->runs.items, all->runs.count * sizeof(spi_page_run));
    spi_build_parts(&builder, SPI_SECTION_PAGES, 0, page_part, all, all->runs.bytes);
    add_sessions(&builder, sessions, delta->session_count);
    if (wasm) {
        spi_build_add(&builder, SPI_SECTION_MODULE, 0, wasm, wasm_bytes);
    }
    if (extra) {
        spi_build_add(&builder, SPI_SECTION_EXTRA, 0, extra, extra_bytes);
    }
    sp_status status = spi_build_finish(&builder, NULL, delta->header->id, result, error);
    spi_free(writer.data);
    return status;
}

sp_status sp_snapshot_apply(const sp_snapshot *base, const sp_snapshot *delta, sp_snapshot **result, sp_error *error) {
    merged all = {0};
    *result = NULL;
    if (!(delta->header->flags & SPI_SNAPSHOT_DELTA) || base->header->flags & SPI_SNAPSHOT_DELTA) {
        return spi_fail(error, SP_INVALID, "a delta is applied to a whole snapshot");
    }
    if (memcmp(delta->header->parent, base->header->id, sizeof base->header->id) != 0 ||
        memcmp(delta->module_hash, base->module_hash, sizeof base->module_hash) != 0) {
        return spi_fail(error, SP_INVALID, "the delta was made on another snapshot");
    }
    spi_saved_session *sessions = spi_alloc(delta->session_count, sizeof *sessions);
    all.tokens = spi_alloc(delta->session_count, sizeof *all.tokens);
    sp_status status = sessions && all.tokens ? SP_OK : spi_fail(error, SP_NO_MEMORY, "no memory to apply a delta");
    if (!status) {
        merge_pages(&all, base, delta);
        status = merge_sessions(&all, base, delta, sessions, error);
    }
    status = status ? status : build(&all, base, delta, sessions, result, error);
    for (uint32_t i = 0; all.tokens && i < delta->session_count; i++) {
        spi_free(all.tokens[i]);
    }
    if (*result) {
        (*result)->is_own = base->is_own && delta->is_own;
    }
    spi_free(all.tokens);
    spi_free(sessions);
    spi_runs_free(&all.runs);
    spi_free(all.from);
    return status;
}
