/* session/session.c - a session's life and what it knows. Computing is in batch.c. */
#include "session/session.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "model/model.h"
#include "os/vm.h"
#include "region/region.h"

#define CONTEXT_DEFAULT_MAX 8192u
#define CONTEXT_LIMIT       (1u << 20)
#define LAYOUT_BYTES_MAX    ((uint64_t)1 << 40)
#define SMALL_ALIGN_BYTES   ((uint64_t)64 << 10)

static uint64_t round_up(uint64_t bytes, uint64_t step) {
    return (bytes + step - 1) / step * step;
}

static sp_status check_kv_type(const sp_model *model, sp_kv_type type, sp_error *error) {
    if (!sp_kv_type_name(type)) {
        return spi_fail(error, SP_INVALID, "%d is not a type for keys and values", (int)type);
    }
    const spi_kv_shape *kv = spi_model_kv(model, type);
    if (spi_kv_is_q8(kv) && kv->head_dim % SPI_KV_SCALE_COLUMNS) {
        return spi_fail(
            error, SP_UNSUPPORTED,
            "keys and values of %u numbers a head cannot be kept in q8_0, which takes %u at a time: ask for "
            "f16",
            kv->head_dim, SPI_KV_SCALE_COLUMNS);
    }
    return SP_OK;
}

sp_status sp_session_plan(const sp_model *model, uint32_t context_max, uint32_t logits_rows_max, sp_kv_type kv_type,
                          sp_session_layout *layout, sp_error *error) {
    *layout = (sp_session_layout){0};
    if (!context_max || context_max > CONTEXT_LIMIT) {
        return spi_fail(error, SP_INVALID, "a context of %u tokens is not in 1..%u", context_max, CONTEXT_LIMIT);
    }
    if (!logits_rows_max || logits_rows_max > context_max) {
        return spi_fail(error, SP_INVALID, "%u rows of logits do not fit a context of %u tokens: ask for 1..%u",
                        logits_rows_max, context_max, context_max);
    }
    sp_status status = check_kv_type(model, kv_type, error);
    if (status) {
        return status;
    }
    const spi_kv_shape *shape = spi_model_kv(model, kv_type);
    uint64_t blocks = ((uint64_t)context_max + SPI_BLOCK_TOKENS - 1) / SPI_BLOCK_TOKENS;
    uint64_t logits = (uint64_t)logits_rows_max * spi_model_tape(model)->vocab * sizeof(float);
    uint64_t kv, total;
    if (__builtin_mul_overflow(blocks, shape->block_bytes, &kv) || __builtin_add_overflow(kv, logits, &total) ||
        total > LAYOUT_BYTES_MAX) {
        return spi_fail(error, SP_LIMIT,
                        "a context of %u tokens with %u rows of logits is larger than a session can be", context_max,
                        logits_rows_max);
    }
    layout->align_bytes = shape->block_bytes % SP_REGION_ALIGN_BYTES ? SMALL_ALIGN_BYTES : SP_REGION_ALIGN_BYTES;
    layout->kv_offset = 0;
    layout->kv_bytes = kv;
    layout->logits_offset = kv;
    layout->logits_bytes = round_up(logits, 64);
    layout->total_bytes = round_up(kv + layout->logits_bytes, SMALL_ALIGN_BYTES);
    return SP_OK;
}

/* The caller's region, with room at the offset, or one of its own. */
static sp_status place(sp_session *session, const sp_session_options *options, sp_error *error) {
    const sp_session_layout *layout = &session->layout;
    if (!options->region) {
        sp_region_options own = {.reserve_bytes = layout->total_bytes, .size_bytes = layout->total_bytes};
        session->owns_region = true;
        return sp_region_create(&own, &session->region, error);
    }
    uint64_t size = sp_region_size_bytes(options->region);
    if (options->region_offset % layout->align_bytes || options->region_offset > size ||
        layout->total_bytes > size - options->region_offset) {
        return spi_fail(error, SP_INVALID, "a session of %llu bytes does not lie inside of the region at offset %llu",
                        (unsigned long long)layout->total_bytes, (unsigned long long)options->region_offset);
    }
    session->region = options->region;
    session->offset = options->region_offset;
    return SP_OK;
}

sp_status sp_session_create(sp_model *model, sp_device *device, const sp_session_options *options, sp_session **out,
                            sp_error *error) {
    *out = NULL;
    static const sp_session_options defaults;
    options = options ? options : &defaults;
    if (spi_device_is_lost(device) && spi_device_revive(device, error)) {
        return SP_DEVICE_LOST;
    }
    if (!spi_model_program(model, device, 0, SP_KV_F16)) {
        return spi_fail(error, SP_INVALID, "the model is not loaded on this device: call sp_model_load first");
    }
    sp_session *session = spi_alloc(1, sizeof *session);
    if (!session) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a session");
    }
    sp_model_info info;
    sp_model_get_info(model, &info);
    uint32_t standard = info.context_max < CONTEXT_DEFAULT_MAX ? info.context_max : CONTEXT_DEFAULT_MAX;
    session->model = model;
    session->device = device;
    session->vocab = info.vocab;
    session->context_max = options->context_max ? options->context_max : standard;
    session->logits_rows_max = options->logits_rows_max ? options->logits_rows_max : 1;
    session->kv = spi_model_kv(model, options->kv_type);
    sp_status status = sp_session_plan(model, session->context_max, session->logits_rows_max, options->kv_type,
                                       &session->layout, error);
    status = status ? status : spi_model_prepare(model, device, session->context_max, session->kv->type, error);
    status = status ? status : place(session, options, error);
    if (!status && !(session->tokens = spi_alloc(session->context_max, sizeof *session->tokens))) {
        status = spi_fail(error, SP_NO_MEMORY, "no memory for the tokens of a session");
    }
    if (!status) {
        status = sp_device_link(device, session->region, error);
        session->linked = !status;
    }
    if (status) {
        sp_session_destroy(session);
        return status;
    }
    spi_model_retain(model, device);
    session->retained = true;
    *out = session;
    return SP_OK;
}

static uint64_t block_bytes(const sp_session *session) {
    return session->kv->block_bytes;
}

void sp_session_destroy(sp_session *session) {
    if (!session) {
        return;
    }
    if (session->cache) {
        session->cache->gone(session->cache->env, session);
    }
    if (session->is_mapped && !session->owns_region) {
        /* What others share must not stay in a guest's memory when the session has ended, and its pages not with it. A
         * system that has no memory for that leaves them to the next session, which writes to copies. */
        (void)spi_session_map(session, 0, session->layout.total_bytes, -1, 0, NULL);
    }
    if (session->retained) {
        spi_model_release(session->model, session->device);
    }
    if (session->linked) {
        sp_device_unlink(session->device, session->region);
    }
    if (session->owns_region) {
        sp_region_destroy(session->region);
    }
    spi_free(session->tokens);
    spi_free(session);
}

sp_status sp_session_truncate(sp_session *session, uint32_t token_count, sp_error *error) {
    if (token_count > session->token_count) {
        return spi_fail(error, SP_INVALID, "cannot truncate %u tokens to %u", session->token_count, token_count);
    }
    if (token_count < session->token_count) {
        session->token_count = token_count;
        session->logits_rows = 0;
    }
    return SP_OK;
}

uint32_t sp_session_token_count(const sp_session *session) {
    return session->token_count;
}

const int32_t *sp_session_tokens(const sp_session *session) {
    return session->tokens;
}

uint32_t sp_session_logits_rows(const sp_session *session) {
    return session->logits_rows;
}

float *sp_session_logits(const sp_session *session, uint32_t row) {
    if (row >= session->logits_rows) {
        return NULL;
    }
    uint8_t *first = sp_region_base(session->region) + session->offset + session->layout.logits_offset;
    return (float *)(void *)first + (size_t)row * session->vocab;
}

sp_region *sp_session_region(const sp_session *session) {
    return session->region;
}

void sp_session_get_view(const sp_session *session, sp_session_view *view) {
    *view = (sp_session_view){
        .kv_offset = session->offset + session->layout.kv_offset,
        .kv_bytes = session->layout.kv_bytes,
        .block_bytes = session->kv->block_bytes,
        .logits_offset = session->offset + session->layout.logits_offset,
        .block_tokens = SPI_BLOCK_TOKENS,
        .context_max = session->context_max,
        .logits_rows_max = session->logits_rows_max,
        .vocab = session->vocab,
        .kv_type = session->kv->type,
    };
}

sp_status sp_session_sample(sp_session *session, sp_sampler *sampler, int32_t *token, sp_error *error) {
    const float *logits = session->logits_rows ? sp_session_logits(session, session->logits_rows - 1) : NULL;
    if (!logits) {
        return spi_fail(error, SP_INVALID, "there are no logits to sample from: append tokens first");
    }
    *token = sp_sampler_pick(sampler, logits, session->vocab);
    sp_sampler_accept(sampler, *token);
    return SP_OK;
}

sp_status spi_session_put(sp_session *session, const int32_t *tokens, uint32_t token_count, uint32_t logits_rows,
                          sp_error *error) {
    if (token_count > session->context_max) {
        return spi_fail(error, SP_CONTEXT_FULL, "%u tokens do not fit into a context of %u", token_count,
                        session->context_max);
    }
    if (logits_rows > session->logits_rows_max || logits_rows > token_count) {
        return spi_fail(error, SP_LIMIT, "%u rows of logits are more than the session has room for", logits_rows);
    }
    for (uint32_t i = 0; i < token_count; i++) {
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= session->vocab) {
            return spi_fail(error, SP_INVALID, "token %u is %d, not in 0..%u", i, tokens[i], session->vocab - 1);
        }
    }
    if (token_count) {
        memmove(session->tokens, tokens, token_count * sizeof *tokens);
    }
    session->token_count = token_count;
    session->logits_rows = logits_rows;
    return SP_OK;
}

bool spi_session_can_map(const sp_session *session) {
    return spi_device_shares_files(session->device) && block_bytes(session) % spi_vm_page_bytes() == 0;
}

sp_status spi_session_map_all(sp_session *session, spi_region_piece *pieces, uint32_t count, sp_error *error) {
    for (uint32_t i = 0; i < count; i++) {
        session->is_mapped = session->is_mapped || pieces[i].file >= 0;
        pieces[i].offset += session->offset;
    }
    return spi_region_remap(session->region, pieces, count, error);
}

sp_status spi_session_map(sp_session *session, uint64_t offset, uint64_t bytes, int file, uint64_t file_offset,
                          sp_error *error) {
    spi_region_piece piece = {.offset = offset, .bytes = bytes, .file = file, .file_offset = file_offset};
    return spi_session_map_all(session, &piece, 1, error);
}

sp_status spi_session_host_wrote(sp_session *session, uint64_t offset, uint64_t bytes, sp_error *error) {
    return spi_device_host_wrote(session->device, session->region, session->offset + offset, bytes, error);
}

void spi_session_ahead(sp_session *session, uint32_t first, uint32_t count) {
    spi_device_ahead(session->device, session->region,
                     session->offset + session->layout.kv_offset + first * block_bytes(session),
                     count * block_bytes(session));
}

uint8_t *spi_session_block(const sp_session *session, uint32_t block) {
    return sp_region_base(session->region) + session->offset + session->layout.kv_offset + block * block_bytes(session);
}

sp_status sp_session_edited(sp_session *session, uint64_t offset, uint64_t bytes, sp_error *error) {
    uint64_t room = session->layout.kv_bytes;
    if (offset > room || bytes > room - offset) {
        return spi_fail(error, SP_BAD_POINTER,
                        "%llu bytes at %llu are not inside of the session's %llu bytes of keys and values",
                        (unsigned long long)bytes, (unsigned long long)offset, (unsigned long long)room);
    }
    session->is_foreign = true;
    sp_error why = {0};
    sp_status status = spi_session_host_wrote(session, session->layout.kv_offset + offset, bytes, &why);
    if (status == SP_DEVICE_LOST && !spi_device_revive(session->device, &why)) {
        return SP_OK; /* it has no copy now of anything */
    }
    if (status && error) {
        *error = why;
    }
    return status;
}
