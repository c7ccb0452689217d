/* snapshot/state_out.c - the section of a snapshot that is the state but for bulk data: written. state_in.c reads it,
 * and docs/snapshot-format.md has it field by field. */
#include <string.h>

#include "base/memory.h"
#include "samepage/version.h"
#include "snapshot/snapshot.h"

static void put(spi_writer *to, const void *bytes, size_t count) {
    if (to->no_memory || !spi_reserve((void **)&to->data, &to->capacity, to->count + count, 1)) {
        to->no_memory = true;
        return;
    }
    if (count) {
        memcpy(to->data + to->count, bytes, count);
    }
    to->count += count;
}

static void put_u32(spi_writer *to, uint32_t value) {
    put(to, &value, sizeof value);
}

static void put_u64(spi_writer *to, uint64_t value) {
    put(to, &value, sizeof value);
}

/* Arrays are read in place. */
static void align(spi_writer *to) {
    static const uint8_t zeros[8];
    put(to, zeros, (8 - to->count % 8) % 8);
}

/* Length, bytes and a zero byte. */
static void put_text(spi_writer *to, const char *text) {
    size_t length = strlen(text);
    put_u32(to, (uint32_t)length);
    put(to, text, length + 1);
}

static void put_texts(spi_writer *to, const char *const *texts, uint32_t count) {
    put_u32(to, count);
    for (uint32_t i = 0; i < count; i++) {
        put_text(to, texts[i]);
    }
}

static void put_instance(spi_writer *to, const spi_state *state) {
    put_u64(to, state->memory_bytes);
    put_u32(to, (uint32_t)state->is_initialized | (uint32_t)state->has_fuel << 1);
    put_u64(to, state->fuel);
    put_u32(to, (uint32_t)state->error.status);
    put_text(to, state->error.status ? state->error.message : "");
    put_u32(to, state->global_count);
    for (uint32_t i = 0; i < state->global_count; i++) {
        put_u32(to, state->globals[i].kind);
        put_u32(to, state->globals[i].function);
        put(to, state->globals[i].bits, sizeof state->globals[i].bits);
    }
    put_u32(to, state->table_count);
    for (uint32_t i = 0; i < state->table_count; i++) {
        put_u64(to, state->tables[i].count);
        align(to);
        put(to, state->tables[i].functions, state->tables[i].count * sizeof(uint32_t));
    }
    put_u32(to, state->range_count);
    align(to);
    put(to, state->ranges, state->range_count * sizeof(spi_range));
}

static void put_models(spi_writer *to, const spi_saving *saving) {
    put_u32(to, saving->state->model_count);
    for (uint32_t i = 0; i < saving->state->model_count; i++) {
        put_text(to, saving->state->models[i].name);
        put(to, saving->models[i].fingerprint.weights, 16);
        put(to, saving->models[i].fingerprint.family, 16);
        put_u64(to, saving->models[i].kv_formats[0]);
        put_u64(to, saving->models[i].kv_formats[1]);
    }
}

static void put_session(spi_writer *to, const spi_state_slot *slot, const spi_saved_session *session) {
    put_u32(to, slot->model);
    put_u64(to, slot->offset);
    put_u64(to, slot->bytes);
    put_u32(to, slot->context_max);
    put_u32(to, slot->logits_rows_max);
    put_u32(to, slot->logits_rows);
    put_u32(to, slot->token_count);
    put_u32(to, session->token_first);
    put_u32(to, session->is_foreign);
    put_u32(to, (uint32_t)slot->kv_type);
}

static void put_sampler(spi_writer *to, const spi_state_slot *slot) {
    put(to, &slot->sampler.options, sizeof slot->sampler.options);
    put(to, slot->sampler.random, sizeof slot->sampler.random);
    put_u32(to, slot->sampler.window_count);
    align(to);
    put(to, slot->window, slot->sampler.window_count * sizeof(int32_t));
}

static void put_slots(spi_writer *to, const spi_saving *saving) {
    const spi_saved_session *session = saving->sessions;
    put_u32(to, saving->state->slot_count);
    for (uint32_t i = 0; i < saving->state->slot_count; i++) {
        const spi_state_slot *slot = &saving->state->slots[i];
        put_u32(to, slot->kind);
        put_u32(to, slot->generation);
        if (slot->kind == SPI_SLOT_MODEL) {
            put_u32(to, slot->model);
        } else if (slot->kind == SPI_SLOT_SESSION) {
            put_session(to, slot, session++);
        } else if (slot->kind == SPI_SLOT_SAMPLER) {
            put_sampler(to, slot);
        }
    }
}

void spi_state_write(const spi_saving *saving, spi_writer *to) {
    put_text(to, sp_version());
    put_text(to, saving->module_name);
    put(to, saving->module_hash, SP_MODULE_HASH_BYTES);
    put_instance(to, saving->state);
    put_models(to, saving);
    put_slots(to, saving);
    put_texts(to, saving->state->arguments, saving->state->argument_count);
    put_texts(to, saving->state->environment, saving->state->environment_count);
}
