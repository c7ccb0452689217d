/* guest/state_check.c - whether a state that came from a file can be one. What needs the module or the models is
 * checked where they are at hand: spi_state_create_guest and what opens sessions and samplers. */
#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "guest/guest.h"
#include "guest/imports.h"
#include "guest/state.h"

/* A range of linear memory that belongs to one thing only. */
typedef struct place {
    uint64_t offset, bytes;
} place;

static int by_offset(const void *a, const void *b) {
    const place *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static bool is_inside(uint64_t offset, uint64_t bytes, uint64_t size) {
    return bytes && offset <= size && bytes <= size - offset;
}

/* Free ranges and sessions lie in the memory and none in another. */
static sp_status check_places(const spi_state *state, sp_error *error) {
    place *places = spi_alloc((size_t)state->range_count + state->slot_count, sizeof *places);
    size_t count = 0;
    if (!places) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to check a state");
    }
    for (uint32_t i = 0; i < state->range_count; i++) {
        places[count++] = (place){state->ranges[i].offset, state->ranges[i].bytes};
    }
    for (uint32_t i = 0; i < state->slot_count; i++) {
        if (state->slots[i].kind == SPI_HANDLE_SESSION) {
            places[count++] = (place){state->slots[i].offset, state->slots[i].bytes};
        }
    }
    qsort(places, count, sizeof *places, by_offset);
    bool is_good = true;
    for (size_t i = 0; i < count && is_good; i++) {
        is_good = is_inside(places[i].offset, places[i].bytes, state->memory_bytes) &&
                  (!i || places[i - 1].offset + places[i - 1].bytes <= places[i].offset);
    }
    spi_free(places);
    return is_good ? SP_OK
                   : spi_fail(error, SP_BAD_FILE, "sessions or free ranges do not lie apart inside of the memory");
}

static sp_status check_slot(const spi_state *state, uint32_t index, sp_error *error) {
    const spi_state_slot *slot = &state->slots[index];
    bool needs_model = slot->kind == SPI_HANDLE_MODEL || slot->kind == SPI_HANDLE_SESSION;
    if (slot->kind > SPI_HANDLE_SAMPLER || slot->generation > UINT16_MAX ||
        (needs_model && slot->model >= state->model_count)) {
        return spi_fail(error, SP_BAD_FILE, "handle %u is of no kind or model that there is", index);
    }
    if (slot->kind == SPI_HANDLE_SESSION &&
        (slot->token_count > slot->context_max || slot->logits_rows > slot->logits_rows_max ||
         slot->logits_rows > slot->token_count)) {
        return spi_fail(error, SP_BAD_FILE, "the session of handle %u has more tokens or logits than it can", index);
    }
    return SP_OK;
}

sp_status spi_state_check(const spi_state *state, sp_error *error) {
    if (state->memory_bytes > SPI_MEMORY_RESERVE_BYTES || state->memory_bytes % SPI_WASM_PAGE_BYTES ||
        !state->memory_bytes) {
        return spi_fail(error, SP_BAD_FILE, "a guest cannot have a memory of %llu bytes",
                        (unsigned long long)state->memory_bytes);
    }
    if (state->slot_count > SPI_HANDLE_COUNT_MAX) {
        return spi_fail(error, SP_BAD_FILE, "%u handles are more than a guest can have", state->slot_count);
    }
    for (uint32_t i = 0; i < state->global_count; i++) {
        if (state->globals[i].kind > WASMTIME_FUNCREF) {
            return spi_fail(error, SP_BAD_FILE, "global %u is of no type that there is", i);
        }
    }
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < state->slot_count && !status; i++) {
        status = check_slot(state, i, error);
    }
    return status ? status : check_places(state, error);
}
