/* snapshot/diff.c - what two snapshots differ in, in words. */
#include <string.h>

#include "base/error.h"
#include "snapshot/snapshot.h"

typedef struct telling {
    sp_notice line;
    void *env;
    bool same;
} telling;

#define TELL(all, ...)                                                                                                 \
    do {                                                                                                               \
        (all)->same = false;                                                                                           \
        spi_tell((all)->line, (all)->env, __VA_ARGS__);                                                                \
    } while (0)

static void compare_identity(telling *all, const sp_snapshot *a, const sp_snapshot *b) {
    if (memcmp(a->module_hash, b->module_hash, sizeof a->module_hash) != 0) {
        TELL(all, "the module is another: %s and %s", a->module_name, b->module_name);
    }
    if (a->state.memory_bytes != b->state.memory_bytes) {
        TELL(all, "memory: %llu and %llu bytes", (unsigned long long)a->state.memory_bytes,
             (unsigned long long)b->state.memory_bytes);
    }
    uint32_t models = a->state.model_count < b->state.model_count ? a->state.model_count : b->state.model_count;
    for (uint32_t i = 0; i < models; i++) {
        if (memcmp(&a->models[i].fingerprint, &b->models[i].fingerprint, sizeof(sp_fingerprint)) != 0) {
            TELL(all, "model %s: another fingerprint", a->state.models[i].name);
        }
    }
    if (a->state.model_count != b->state.model_count) {
        TELL(all, "models: %u and %u", a->state.model_count, b->state.model_count);
    }
}

static void compare_instance(telling *all, const spi_state *a, const spi_state *b) {
    uint32_t globals = a->global_count < b->global_count ? a->global_count : b->global_count;
    for (uint32_t i = 0; i < globals; i++) {
        if (memcmp(&a->globals[i], &b->globals[i], sizeof a->globals[i]) != 0) {
            int64_t x, y;
            memcpy(&x, a->globals[i].bits, sizeof x);
            memcpy(&y, b->globals[i].bits, sizeof y);
            TELL(all, "global %u: %lld and %lld", i, (long long)x, (long long)y);
        }
    }
    if (a->global_count != b->global_count || a->table_count != b->table_count) {
        TELL(all, "globals: %u and %u, tables: %u and %u", a->global_count, b->global_count, a->table_count,
             b->table_count);
    }
    for (uint32_t i = 0; i < a->table_count && i < b->table_count; i++) {
        if (a->tables[i].count != b->tables[i].count ||
            memcmp(a->tables[i].functions, b->tables[i].functions, a->tables[i].count * sizeof(uint32_t)) != 0) {
            TELL(all, "table %u holds other functions", i);
        }
    }
    if (a->is_initialized != b->is_initialized || a->has_fuel != b->has_fuel || a->fuel != b->fuel) {
        TELL(all, "fuel or initialisation differ");
    }
    if (a->range_count != b->range_count ||
        (a->range_count && memcmp(a->ranges, b->ranges, a->range_count * sizeof *a->ranges) != 0)) {
        TELL(all, "free ranges differ");
    }
}

static void compare_slots(telling *all, const sp_snapshot *a, const sp_snapshot *b) {
    uint32_t most = a->state.slot_count > b->state.slot_count ? a->state.slot_count : b->state.slot_count;
    static const spi_state_slot nothing;
    for (uint32_t i = 0; i < most; i++) {
        const spi_state_slot *x = i < a->state.slot_count ? &a->state.slots[i] : &nothing;
        const spi_state_slot *y = i < b->state.slot_count ? &b->state.slots[i] : &nothing;
        if (x->kind != y->kind || (x->kind && x->generation != y->generation)) {
            TELL(all, "handle %u is of another kind or generation", i);
        } else if (x->kind == SPI_SLOT_SESSION) {
            uint32_t least = x->token_count < y->token_count ? x->token_count : y->token_count, same = 0;
            while (same < least && x->tokens[same] == y->tokens[same]) {
                same++;
            }
            if (same != x->token_count || same != y->token_count) {
                TELL(all, "session %u: %u and %u tokens, the first %u the same", i, x->token_count, y->token_count,
                     same);
            }
            if (x->kv_type != y->kv_type) {
                TELL(all, "session %u: keys and values in %s and %s", i, sp_kv_type_name(x->kv_type),
                     sp_kv_type_name(y->kv_type));
            }
            if (x->logits_rows != y->logits_rows) {
                TELL(all, "session %u: %u and %u rows of logits", i, x->logits_rows, y->logits_rows);
            }
        } else if (x->kind == SPI_SLOT_SAMPLER &&
                   (memcmp(&x->sampler, &y->sampler, sizeof x->sampler) != 0 ||
                    (x->sampler.window_count &&
                     memcmp(x->window, y->window, x->sampler.window_count * sizeof(int32_t)) != 0))) {
            TELL(all, "sampler %u: options, random state or window differ", i);
        }
    }
}

/* Pages of a snapshot by ascending offset; those that it lacks are zero. */
static const uint8_t *page_of(const sp_snapshot *snapshot, uint64_t offset, uint32_t *run, uint64_t *before) {
    while (*run < snapshot->run_count && snapshot->runs[*run].offset + snapshot->runs[*run].bytes <= offset) {
        *before += snapshot->runs[(*run)++].bytes;
    }
    if (*run >= snapshot->run_count || snapshot->runs[*run].offset > offset) {
        return NULL;
    }
    return snapshot->pages + *before + (offset - snapshot->runs[*run].offset);
}

static void compare_pages(telling *all, const sp_snapshot *a, const sp_snapshot *b) {
    static const uint8_t zeros[SPI_SECTION_PAGE_ALIGN];
    uint64_t end = a->state.memory_bytes > b->state.memory_bytes ? a->state.memory_bytes : b->state.memory_bytes;
    uint64_t a_before = 0, b_before = 0, pages = 0, from = 0;
    uint32_t a_run = 0, b_run = 0, told = 0;
    for (uint64_t at = 0; at <= end; at += SPI_SECTION_PAGE_ALIGN) {
        const uint8_t *x = at < end ? page_of(a, at, &a_run, &a_before) : NULL;
        const uint8_t *y = at < end ? page_of(b, at, &b_run, &b_before) : NULL;
        bool differs = x != y && memcmp(x ? x : zeros, y ? y : zeros, sizeof zeros) != 0;
        if (differs) {
            from = pages ? from : at;
            pages++;
        } else if (pages) {
            if (told++ < 100) {
                TELL(all, "memory 0x%llx: %llu pages differ", (unsigned long long)from, (unsigned long long)pages);
            }
            all->same = false;
            pages = 0;
        }
    }
    if (told > 100) {
        TELL(all, "and %u more runs of pages", told - 100);
    }
}

sp_status sp_snapshot_diff(const sp_snapshot *a, const sp_snapshot *b, sp_notice line, void *env, bool *same,
                           sp_error *error) {
    telling all = {.line = line, .env = env, .same = true};
    *same = false;
    if ((a->header->flags | b->header->flags) & SPI_SNAPSHOT_DELTA) { /* has not what came before it */
        return spi_fail(error, SP_INVALID, "a delta cannot be compared: apply it to what it was made on");
    }
    compare_identity(&all, a, b);
    compare_instance(&all, &a->state, &b->state);
    compare_slots(&all, a, b);
    compare_pages(&all, a, b);
    size_t a_bytes, b_bytes;
    const void *a_extra = sp_snapshot_extra(a, &a_bytes), *b_extra = sp_snapshot_extra(b, &b_bytes);
    if (a_bytes != b_bytes || (a_bytes && memcmp(a_extra, b_extra, a_bytes) != 0)) {
        TELL(&all, "the extra bytes differ: %zu and %zu", a_bytes, b_bytes);
    }
    *same = all.same;
    return SP_OK;
}
