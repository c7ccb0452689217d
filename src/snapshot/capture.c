/* snapshot/capture.c - a guest between two calls into an image. What is common to captures and deltas is here;
 * tracker.c decides what of it a delta has. */
#include "snapshot/capture.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"

#define EXTRA_BYTES_MAX ((size_t)16 << 20)

static spi_part page_part(const void *env, uint32_t i) {
    const spi_capture *capture = env;
    const spi_page_run *run = &capture->runs.items[i];
    return (spi_part){capture->memory + run->offset, run->bytes};
}

static sp_status no_memory(sp_error *error) {
    return spi_fail(error, SP_NO_MEMORY, "no memory to capture a guest");
}

static sp_status list_sessions(spi_capture *capture, sp_error *error) {
    const spi_state *state = &capture->state;
    capture->models = spi_alloc(state->model_count, sizeof *capture->models);
    capture->sessions = spi_alloc(state->slot_count, sizeof *capture->sessions);
    if (!capture->models || !capture->sessions) {
        return no_memory(error);
    }
    for (uint32_t i = 0; i < state->model_count; i++) {
        sp_model_get_fingerprint(state->models[i].model, &capture->models[i].fingerprint);
        capture->models[i].kv_formats[0] = spi_kv_format(state->models[i].model, SP_KV_F16);
        capture->models[i].kv_formats[1] = spi_kv_format(state->models[i].model, SP_KV_Q8_0);
    }
    for (uint32_t i = 0; i < state->slot_count; i++) {
        const spi_state_slot *slot = &state->slots[i];
        if (slot->kind == SPI_SLOT_SESSION) {
            capture->sessions[capture->session_count++] = (spi_saved_session){
                .slot = i,
                .is_foreign = slot->session->is_foreign,
                .tokens = slot->tokens,
                .token_count = slot->token_count,
            };
        }
    }
    return SP_OK;
}

sp_status spi_capture_begin(spi_capture *capture, sp_guest *guest, const sp_capture_options *options, sp_error *error) {
    static const sp_capture_options defaults;
    *capture = (spi_capture){.guest = guest, .options = options ? options : &defaults};
    if (capture->options->extra_bytes > EXTRA_BYTES_MAX) {
        return spi_fail(error, SP_LIMIT, "%zu bytes of extra are more than the %zu allowed",
                        capture->options->extra_bytes, EXTRA_BYTES_MAX);
    }
    sp_status status = spi_state_save(guest, &capture->state, error);
    if (!status) {
        capture->memory = sp_region_base(sp_guest_region(guest));
        status = list_sessions(capture, error);
        status = status ? status : spi_pages_heap(&capture->state, &capture->heap, error);
    }
    if (status) {
        spi_capture_end(capture);
    }
    return status;
}

void spi_capture_end(spi_capture *capture) {
    spi_state_free(&capture->state);
    spi_free(capture->models);
    spi_free(capture->sessions);
    spi_runs_free(&capture->heap);
    spi_runs_free(&capture->runs);
    spi_free(capture->written.data);
}

static const sp_session *session_at(const spi_capture *capture, uint32_t index) {
    return capture->state.slots[capture->sessions[index].slot].session;
}

/* Sections come ordered by kind and slot. */
static void add_state(spi_capture *capture, spi_builder *builder) {
    sp_module *module = spi_guest_module(capture->guest);
    uint8_t hash[SP_MODULE_HASH_BYTES];
    sp_module_get_hash(module, hash);
    spi_saving saving = {.state = &capture->state,
                         .models = capture->models,
                         .sessions = capture->sessions,
                         .session_count = capture->session_count,
                         .module_hash = hash,
                         .module_name = spi_module_name(module)};
    spi_state_write(&saving, &capture->written);
    builder->no_memory = builder->no_memory || capture->written.no_memory;
    spi_build_add(builder, SPI_SECTION_STATE, 0, capture->written.data, capture->written.count);
    spi_build_add(builder, SPI_SECTION_PAGE_INDEX, 0, capture->runs.items, capture->runs.count * sizeof(spi_page_run));
    spi_build_parts(builder, SPI_SECTION_PAGES, 0, page_part, capture, capture->runs.bytes);
    for (uint32_t i = 0; i < capture->session_count; i++) {
        const spi_saved_session *session = &capture->sessions[i];
        if (session->token_count) {
            spi_build_add(builder, SPI_SECTION_TOKENS, session->slot, session->tokens,
                          session->token_count * sizeof(int32_t));
        }
    }
}

static void add_cache(const spi_capture *capture, spi_builder *builder, spi_tail *tails) {
    for (uint32_t i = 0; i < capture->session_count; i++) {
        const spi_saved_session *session = &capture->sessions[i];
        if (session->names && session->block_count) {
            spi_build_add(builder, SPI_SECTION_BLOCK_NAMES, session->slot, session->names,
                          session->block_count * sizeof(spi_digest));
        }
    }
    for (uint32_t i = 0; i < capture->session_count; i++) {
        const sp_session *session = session_at(capture, i);
        uint32_t full = session->token_count / SPI_BLOCK_TOKENS;
        if (full && !(capture->sessions[i].block_count == full && !capture->options->inside)) {
            spi_build_add(builder, SPI_SECTION_BLOCKS, capture->sessions[i].slot, spi_session_block(session, 0),
                          full * spi_kv_block_bytes_of(session));
        }
    }
    for (uint32_t i = 0; i < capture->session_count && !capture->is_bare; i++) {
        const sp_session *session = session_at(capture, i);
        uint32_t rows = session->token_count % SPI_BLOCK_TOKENS;
        if (rows) {
            tails[i] = (spi_tail){.session = session, .block = session->token_count / SPI_BLOCK_TOKENS, .rows = rows};
            spi_build_parts(builder, SPI_SECTION_TAIL, capture->sessions[i].slot, spi_kv_tail_part, &tails[i],
                            spi_kv_block_bytes_of(session));
        }
    }
    for (uint32_t i = 0; i < capture->session_count && !capture->is_bare; i++) {
        const sp_session *session = session_at(capture, i);
        if (session->logits_rows) {
            spi_build_add(builder, SPI_SECTION_LOGITS, capture->sessions[i].slot, sp_session_logits(session, 0),
                          (uint64_t)session->logits_rows * session->vocab * sizeof(float));
        }
    }
}

static void add_sections(spi_capture *capture, const uint8_t *parent, spi_builder *builder, spi_tail *tails) {
    const sp_capture_options *options = capture->options;
    add_state(capture, builder);
    if (!parent && !options->without_cache) {
        add_cache(capture, builder, tails);
    }
    if (!parent && !options->without_module) {
        size_t bytes;
        const void *wasm = spi_module_wasm(spi_guest_module(capture->guest), &bytes);
        spi_build_add(builder, SPI_SECTION_MODULE, 0, wasm, bytes);
    }
    if (options->extra_bytes) {
        spi_build_add(builder, SPI_SECTION_EXTRA, 0, options->extra, options->extra_bytes);
    }
}

static sp_status build(spi_capture *capture, const uint8_t *parent, sp_snapshot *kept, sp_snapshot **snapshot,
                       sp_error *error) {
    spi_builder builder = {.unhashed = capture->is_private, .is_plain = capture->is_bare};
    spi_tail *tails = spi_alloc(capture->session_count, sizeof *tails);
    sp_status status = SP_OK;
    *snapshot = NULL;
    if (!tails) {
        return no_memory(error);
    }
    add_sections(capture, parent, &builder, tails);
    if (kept && spi_build_is(&builder, kept)) {
        spi_build_drop(&builder);
        *snapshot = kept;
    } else {
        status = spi_build_finish(&builder, parent, NULL, snapshot, error);
    }
    spi_free(tails);
    return status;
}

sp_status spi_capture_build(spi_capture *capture, const uint8_t *parent, sp_snapshot **snapshot, sp_error *error) {
    return build(capture, parent, NULL, snapshot, error);
}

static sp_status capture_whole(spi_capture *capture, sp_snapshot *kept, sp_snapshot **snapshot, sp_error *error) {
    sp_status status = spi_capture_take_blocks(capture, error);
    status = status ? status : spi_pages_not_zero(capture->memory, &capture->heap, &capture->runs, error);
    status = status ? status : build(capture, NULL, kept, snapshot, error);
    spi_capture_end(capture);
    return status;
}

sp_status sp_guest_capture(sp_guest *guest, const sp_capture_options *options, sp_snapshot **snapshot,
                           sp_error *error) {
    spi_capture capture;
    *snapshot = NULL;
    sp_status status = spi_capture_begin(&capture, guest, options, error);
    return status ? status : capture_whole(&capture, NULL, snapshot, error);
}

sp_status spi_capture_private(sp_guest *guest, const sp_capture_options *options, bool is_bare, sp_snapshot *kept,
                              sp_snapshot **snapshot, sp_error *error) {
    spi_capture capture;
    *snapshot = NULL;
    sp_status status = spi_capture_begin(&capture, guest, options, error);
    capture.is_private = true;
    capture.is_bare = is_bare;
    return status ? status : capture_whole(&capture, kept, snapshot, error);
}
