/* snapshot/state_in.c - the section of a snapshot that is the state but for bulk data: read, as hostile. See
 * state_out.c. */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "snapshot/snapshot.h"

#define GLOBAL_COUNT_MAX 100000u
#define TABLE_COUNT_MAX  4u
#define TABLE_ITEMS_MAX  (1u << 20) /* what a guest's table may have */
#define TEXT_COUNT_MAX   65536u

typedef struct reader {
    uint32_t version;
    bool is_delta;
    const uint8_t *bytes;
    size_t count, at;
    sp_status status;
    sp_error *error;
} reader;

static bool fail(reader *from, sp_status status, const char *what) {
    if (!from->status) {
        from->status = status == SP_NO_MEMORY
                           ? spi_fail(from->error, status, "no memory for a snapshot's %s", what)
                           : spi_fail(from->error, status, "the state's %s cannot be so (at %zu)", what, from->at);
    }
    return false;
}

static const uint8_t *take(reader *from, uint64_t count, const char *what) {
    if (from->status || count > from->count - from->at) {
        fail(from, SP_BAD_FILE, what);
        return NULL;
    }
    const uint8_t *at = from->bytes + from->at;
    from->at += (size_t)count;
    return at;
}

static void take_into(reader *from, void *to, size_t count, const char *what) {
    const uint8_t *at = take(from, count, what);
    if (at) {
        memcpy(to, at, count);
    } else {
        memset(to, 0, count);
    }
}

static uint32_t take_u32(reader *from, const char *what) {
    uint32_t value;
    take_into(from, &value, sizeof value, what);
    return value;
}

static uint64_t take_u64(reader *from, const char *what) {
    uint64_t value;
    take_into(from, &value, sizeof value, what);
    return value;
}

/* A number of things of which each takes at least `least` bytes. */
static uint32_t take_count(reader *from, uint32_t most, size_t least, const char *what) {
    uint32_t count = take_u32(from, what);
    if (count > most || (uint64_t)count * least > from->count - from->at) {
        fail(from, SP_BAD_FILE, what);
    }
    return from->status ? 0 : count;
}

static const void *take_array(reader *from, uint64_t count, size_t size, const char *what) {
    const uint8_t *zeros = take(from, (8 - from->at % 8) % 8, what);
    for (const uint8_t *at = zeros; at && at < from->bytes + from->at; at++) {
        if (*at) {
            fail(from, SP_BAD_FILE, what);
        }
    }
    return count > UINT32_MAX ? (fail(from, SP_BAD_FILE, what), NULL) : take(from, count * size, what);
}

static const char *take_text(reader *from, const char *what) {
    uint32_t length = take_u32(from, what);
    const uint8_t *text = take(from, (uint64_t)length + 1, what);
    if (text && (text[length] || memchr(text, 0, length))) {
        fail(from, SP_BAD_FILE, what);
    }
    return from->status ? "" : (const char *)text;
}

static void copy_text(reader *from, char *to, size_t capacity, const char *what) {
    const char *text = take_text(from, what);
    size_t length = strlen(text);
    if (length >= capacity) {
        fail(from, SP_BAD_FILE, what);
        length = 0;
    }
    memcpy(to, text, length);
    to[length] = 0;
    for (char *at = to; *at; at++) {
        *at = (unsigned char)*at < ' ' ? '?' : *at; /* shown to people */
    }
}

static void *make(reader *from, size_t count, size_t size, const char *what) {
    void *array = from->status ? NULL : spi_alloc(count, size);
    if (!array) {
        fail(from, SP_NO_MEMORY, what);
    }
    return array;
}

static const char **take_texts(reader *from, uint32_t *count_out, const char *what) {
    uint32_t count = take_count(from, TEXT_COUNT_MAX, 5, what);
    const char **texts = make(from, count, sizeof *texts, what);
    for (uint32_t i = 0; texts && i < count; i++) {
        texts[i] = take_text(from, what);
    }
    *count_out = texts ? count : 0;
    return texts;
}

static void take_globals(reader *from, spi_state *state) {
    uint32_t count = take_count(from, GLOBAL_COUNT_MAX, 24, "globals");
    state->globals = make(from, count, sizeof *state->globals, "globals");
    for (uint32_t i = 0; state->globals && i < count; i++) {
        spi_state_global *to = &state->globals[i];
        to->kind = take_u32(from, "globals");
        to->function = take_u32(from, "globals");
        take_into(from, to->bits, sizeof to->bits, "globals");
    }
    state->global_count = state->globals ? count : 0;
}

static void take_tables(reader *from, spi_state *state) {
    uint32_t count = take_count(from, TABLE_COUNT_MAX, 8, "tables");
    state->tables = make(from, count, sizeof *state->tables, "tables");
    for (uint32_t i = 0; state->tables && i < count; i++) {
        uint64_t items = take_u64(from, "tables");
        if (items > TABLE_ITEMS_MAX) {
            fail(from, SP_BAD_FILE, "tables");
        }
        state->tables[i].functions = take_array(from, items, sizeof(uint32_t), "tables");
        state->tables[i].count = from->status ? 0 : items;
    }
    state->table_count = state->tables ? count : 0;
}

static void take_instance(reader *from, spi_state *state) {
    state->memory_bytes = take_u64(from, "memory");
    uint32_t flags = take_u32(from, "flags");
    if (flags > 3) {
        fail(from, SP_BAD_FILE, "flags");
    }
    state->is_initialized = flags & 1;
    state->has_fuel = flags >> 1 & 1;
    state->fuel = take_u64(from, "fuel");
    state->error.status = (sp_status)(int32_t)take_u32(from, "error");
    copy_text(from, state->error.message, sizeof state->error.message, "error");
    take_globals(from, state);
    take_tables(from, state);
    state->range_count = take_count(from, UINT32_MAX, sizeof(spi_range), "free ranges");
    state->ranges = take_array(from, state->range_count, sizeof(spi_range), "free ranges");
}

static void take_models(reader *from, sp_snapshot *snapshot) {
    spi_state *state = &snapshot->state;
    uint32_t count = take_count(from, TEXT_COUNT_MAX, 45, "models");
    state->models = make(from, count, sizeof *state->models, "models");
    snapshot->models = make(from, count, sizeof *snapshot->models, "models");
    for (uint32_t i = 0; snapshot->models && i < count; i++) {
        state->models[i].name = take_text(from, "models");
        take_into(from, snapshot->models[i].fingerprint.weights, 16, "models");
        take_into(from, snapshot->models[i].fingerprint.family, 16, "models");
        snapshot->models[i].kv_formats[0] = take_u64(from, "models");
        snapshot->models[i].kv_formats[1] = from->version >= 2 ? take_u64(from, "models") : 0;
    }
    state->model_count = snapshot->models ? count : 0;
}

static void take_session(reader *from, spi_state_slot *slot, spi_saved_session *session) {
    slot->model = take_u32(from, "sessions");
    slot->offset = take_u64(from, "sessions");
    slot->bytes = take_u64(from, "sessions");
    slot->context_max = take_u32(from, "sessions");
    slot->logits_rows_max = take_u32(from, "sessions");
    slot->logits_rows = take_u32(from, "sessions");
    slot->token_count = take_u32(from, "sessions");
    session->token_first = take_u32(from, "sessions");
    uint32_t foreign = take_u32(from, "sessions");
    uint32_t kv_type = from->version >= 2 ? take_u32(from, "sessions") : (uint32_t)SP_KV_F16;
    session->is_foreign = foreign == 1;
    slot->kv_type = kv_type == SP_KV_Q8_0 ? SP_KV_Q8_0 : SP_KV_F16;
    uint32_t first_max = from->is_delta ? slot->token_count : 0; /* a whole snapshot has all tokens */
    if (foreign > 1 || kv_type != (uint32_t)slot->kv_type || session->token_first > first_max) {
        fail(from, SP_BAD_FILE, "sessions");
    }
    session->token_count = slot->token_count - session->token_first;
}

static void take_sampler(reader *from, spi_state_slot *slot) {
    take_into(from, &slot->sampler.options, sizeof slot->sampler.options, "samplers");
    take_into(from, slot->sampler.random, sizeof slot->sampler.random, "samplers");
    slot->sampler.window_count = take_u32(from, "samplers");
    slot->window = take_array(from, slot->sampler.window_count, sizeof(int32_t), "samplers");
}

static void take_slots(reader *from, sp_snapshot *snapshot) {
    spi_state *state = &snapshot->state;
    uint32_t count = take_count(from, TEXT_COUNT_MAX, 8, "handles");
    state->slots = make(from, count, sizeof *state->slots, "handles");
    snapshot->sessions = make(from, count, sizeof *snapshot->sessions, "handles");
    for (uint32_t i = 0; snapshot->sessions && i < count && !from->status; i++) {
        spi_state_slot *slot = &state->slots[i];
        slot->kind = take_u32(from, "handles");
        slot->generation = take_u32(from, "handles");
        if (slot->kind == SPI_SLOT_MODEL) {
            slot->model = take_u32(from, "handles");
        } else if (slot->kind == SPI_SLOT_SESSION) {
            snapshot->sessions[snapshot->session_count].slot = i;
            take_session(from, slot, &snapshot->sessions[snapshot->session_count++]);
        } else if (slot->kind == SPI_SLOT_SAMPLER) {
            take_sampler(from, slot);
        } else if (slot->kind != SPI_SLOT_FREE) {
            fail(from, SP_BAD_FILE, "handles");
        }
    }
    state->slot_count = snapshot->sessions ? count : 0;
}

/* The sections of one session; which of them there are is the writer's choice, how long they must be is not. */
static void find_sections(reader *from, sp_snapshot *snapshot, spi_saved_session *session) {
    uint32_t slot = session->slot;
    const spi_snapshot_section *tokens = spi_snapshot_find(snapshot, SPI_SECTION_TOKENS, slot);
    const spi_snapshot_section *names = spi_snapshot_find(snapshot, SPI_SECTION_BLOCK_NAMES, slot);
    const spi_snapshot_section *blocks = spi_snapshot_find(snapshot, SPI_SECTION_BLOCKS, slot);
    const spi_snapshot_section *tail = spi_snapshot_find(snapshot, SPI_SECTION_TAIL, slot);
    const spi_snapshot_section *logits = spi_snapshot_find(snapshot, SPI_SECTION_LOGITS, slot);
    if ((tokens ? tokens->bytes : 0) != session->token_count * sizeof(int32_t)) {
        fail(from, SP_BAD_FILE, "tokens");
        return;
    }
    uint32_t full = snapshot->state.slots[slot].token_count / SPI_BLOCK_TOKENS;
    session->tokens = tokens ? (const int32_t *)(const void *)(snapshot->data + tokens->offset) : NULL;
    if (names && names->bytes != full * sizeof(spi_digest)) {
        fail(from, SP_BAD_FILE, "block names");
        return;
    }
    session->names = names ? (const spi_digest *)(const void *)(snapshot->data + names->offset) : NULL;
    session->block_count = names ? full : 0;
    if (blocks) {
        session->blocks = snapshot->data + blocks->offset;
        session->blocks_offset = blocks->offset;
        session->blocks_bytes = blocks->bytes;
        session->inside_count = full;
    }
    if (tail) {
        session->tail = snapshot->data + tail->offset;
        session->tail_offset = tail->offset;
        session->tail_bytes = tail->bytes;
    }
    if (logits) {
        session->logits = (const float *)(const void *)(snapshot->data + logits->offset);
        session->logits_offset = logits->offset;
        session->logits_bytes = logits->bytes;
    }
}

sp_status spi_state_read(sp_snapshot *snapshot, const uint8_t *bytes, size_t count, sp_error *error) {
    reader from = {.version = snapshot->header->version,
                   .is_delta = snapshot->header->flags & SPI_SNAPSHOT_DELTA,
                   .bytes = bytes,
                   .count = count,
                   .error = error};
    copy_text(&from, snapshot->made_by, sizeof snapshot->made_by, "version");
    copy_text(&from, snapshot->module_name, sizeof snapshot->module_name, "module");
    take_into(&from, snapshot->module_hash, sizeof snapshot->module_hash, "module");
    take_instance(&from, &snapshot->state);
    take_models(&from, snapshot);
    take_slots(&from, snapshot);
    snapshot->state.arguments = take_texts(&from, &snapshot->state.argument_count, "arguments");
    snapshot->state.environment = take_texts(&from, &snapshot->state.environment_count, "environment");
    if (!from.status && from.at != count) {
        fail(&from, SP_BAD_FILE, "end");
    }
    for (uint32_t i = 0; i < snapshot->session_count && !from.status; i++) {
        find_sections(&from, snapshot, &snapshot->sessions[i]);
        spi_state_slot *slot = &snapshot->state.slots[snapshot->sessions[i].slot];
        slot->tokens = snapshot->sessions[i].tokens;
    }
    return from.status ? from.status : spi_state_check(&snapshot->state, error);
}
