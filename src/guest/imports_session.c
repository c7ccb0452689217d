/* guest/imports_session.c - the imports about sessions. Their blocks and logits lie in the guest's own memory; their
 * tokens, lengths and places are kept by the host and are never read from there. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "guest/imports.h"
#include "guest/imports_abi.h"
#include "sampler/state.h"

#define CONTEXT_DEFAULT_MAX 8192u

/* What was asked for, with 0 as the usual. */
static sp_status plan(sp_guest *guest, const char *import, const sp_model *model, sp_session_options *options,
                      sp_session_layout *layout) {
    sp_model_info info;
    sp_model_get_info(model, &info);
    if (!options->context_max) {
        options->context_max = info.context_max < CONTEXT_DEFAULT_MAX ? info.context_max : CONTEXT_DEFAULT_MAX;
    }
    if (!options->logits_rows_max) {
        options->logits_rows_max = 1;
    }
    if (!options->kv_type) {
        options->kv_type = spi_guest_kv_type(guest);
    }
    sp_error *error = spi_host_error(guest);
    sp_status status =
        sp_session_plan(model, options->context_max, options->logits_rows_max, options->kv_type, layout, error);
    return status ? spi_fail_within(error, "%s", import) : SP_OK;
}

static int32_t create(sp_guest *guest, const char *import, int32_t model, sp_session_options options) {
    spi_slot *slot = spi_handle_find(guest, import, SPI_HANDLE_MODEL, model);
    if (!slot) {
        return SP_BAD_HANDLE;
    }
    sp_error *error = spi_host_error(guest);
    sp_model *of = slot->model;
    if (!spi_guest_device(guest)) {
        return spi_fail(error, SP_NO_DEVICE, "%s: this guest was given no device", import);
    }
    options.region = sp_guest_region(guest);
    sp_session_layout layout;
    sp_status status = plan(guest, import, of, &options, &layout);
    int32_t handle;
    status = status ? status : spi_handle_open(guest, SPI_HANDLE_SESSION, &slot, &handle);
    if (status) {
        return status;
    }
    status = spi_guest_reserve(guest, layout.total_bytes, layout.align_bytes, &options.region_offset, error);
    if (status) {
        spi_fail_within(error, "%s: %u tokens of context need %llu MiB of the guest's memory", import,
                        options.context_max, (unsigned long long)(layout.total_bytes >> 20));
        spi_handle_close(guest, slot);
        return status;
    }
    spi_guest_device_may_revive(guest, false);
    status = sp_session_create(of, spi_guest_device(guest), &options, &slot->session, error);
    spi_guest_device_may_revive(guest, true);
    if (!status && (status = spi_guest_session_opened(guest, slot->session, error))) {
        sp_session_destroy(slot->session);
    }
    if (status) {
        spi_guest_release(guest, options.region_offset, layout.total_bytes);
        spi_handle_close(guest, slot);
        return spi_fail_within(error, "%s", import);
    }
    slot->offset = options.region_offset;
    slot->bytes = layout.total_bytes;
    return handle;
}

int32_t spi_host_session_create(sp_guest *guest, int32_t model, uint32_t context_max, uint32_t logits_rows_max) {
    return create(guest, "session_create", model,
                  (sp_session_options){.context_max = context_max, .logits_rows_max = logits_rows_max});
}

int32_t spi_host_session_create_as(sp_guest *guest, int32_t model, uint32_t context_max, uint32_t logits_rows_max,
                                   uint32_t kv_type) {
    if (kv_type > SP_KV_Q8_0) {
        return spi_fail(spi_host_error(guest), SP_INVALID,
                        "session_create_as: %u is not a type for keys and values: 0 the usual, 1 F16, 2 Q8_0", kv_type);
    }
    sp_session_options options = {
        .context_max = context_max, .logits_rows_max = logits_rows_max, .kv_type = (sp_kv_type)kv_type};
    return create(guest, "session_create_as", model, options);
}

/* Copies the tokens, then checks the copies: the job has them. */
static sp_status take_tokens(sp_guest *guest, const char *import, const sp_session *session, spi_input tokens,
                             spi_job *job) {
    sp_error *error = spi_host_error(guest);
    sp_session_view view;
    sp_session_get_view(session, &view);
    uint32_t length = sp_session_token_count(session);
    if (tokens.count > view.context_max - length) {
        return spi_fail(error, SP_CONTEXT_FULL, "%s: %u tokens do not fit: the context of %u tokens holds %u already",
                        import, tokens.count, view.context_max, length);
    }
    void *copy;
    sp_status status = spi_input_copy(guest, import, tokens, sizeof(int32_t), view.context_max - length, &copy);
    if (status) {
        return status;
    }
    const int32_t *checked = copy;
    for (uint32_t i = 0; i < tokens.count; i++) {
        if (checked[i] < 0 || (uint32_t)checked[i] >= view.vocab) {
            status = spi_fail(error, SP_INVALID, "%s: token %d at place %u is not in 0..%u", import, checked[i], i,
                              view.vocab - 1);
            spi_free(copy);
            return status;
        }
    }
    job->tokens = copy;
    job->token_count = tokens.count;
    return SP_OK;
}

int32_t spi_host_session_append(sp_guest *guest, int32_t session, spi_input tokens, int32_t which, spi_job *job) {
    spi_slot *slot = spi_handle_find(guest, "session_append", SPI_HANDLE_SESSION, session);
    if (!slot) {
        return SP_BAD_HANDLE;
    }
    sp_error *error = spi_host_error(guest);
    if (which != SP_LOGITS_LAST && which != SP_LOGITS_ALL && which != SP_LOGITS_NONE) {
        return spi_fail(error, SP_INVALID, "session_append: %d is not a choice of logits: 0 last, 1 all, 2 none",
                        which);
    }
    sp_session_view view;
    sp_session_get_view(slot->session, &view);
    if (which == SP_LOGITS_ALL && tokens.count > view.logits_rows_max) {
        return spi_fail(error, SP_LIMIT,
                        "session_append: logits of all %u tokens were asked for, and the session was created for %u",
                        tokens.count, view.logits_rows_max);
    }
    *job = (spi_job){.kind = SPI_JOB_APPEND, .session = slot->session, .logits = (sp_logits)which};
    return take_tokens(guest, "session_append", slot->session, tokens, job);
}

int32_t spi_host_session_pick(sp_guest *guest, int32_t session, int32_t sampler, spi_input tokens, spi_job *job) {
    spi_slot *of = spi_handle_find(guest, "session_pick", SPI_HANDLE_SESSION, session);
    spi_slot *with = of ? spi_handle_find(guest, "session_pick", SPI_HANDLE_SAMPLER, sampler) : NULL;
    if (!with) {
        return SP_BAD_HANDLE;
    }
    if (!tokens.count) {
        return spi_fail(spi_host_error(guest), SP_INVALID, "session_pick: there is no token to pick one behind");
    }
    *job =
        (spi_job){.kind = SPI_JOB_APPEND, .session = of->session, .logits = SP_LOGITS_NONE, .sampler = with->sampler};
    return take_tokens(guest, "session_pick", of->session, tokens, job);
}

int32_t spi_host_session_decode(sp_guest *guest, int32_t session, int32_t sampler, int32_t token) {
    spi_slot *of = spi_handle_find(guest, "session_decode", SPI_HANDLE_SESSION, session);
    spi_slot *with = of ? spi_handle_find(guest, "session_decode", SPI_HANDLE_SAMPLER, sampler) : NULL;
    if (!with) {
        return SP_BAD_HANDLE;
    }
    sp_error *error = spi_host_error(guest);
    /* The likeliest is the same whoever picks it, and a device has every logit at hand once. Other picks are made from
     * the sampler's random state, as session_sample makes them. */
    sp_sampler *greedy = spi_sampler_is_greedy(with->sampler) ? with->sampler : NULL;
    int32_t next = 0;
    sp_status status = spi_guest_append_now(guest, of->session, token, greedy, &next, error);
    if (status == SP_BUSY) {
        return spi_fail(error, SP_BUSY, "session_decode: others wait for their turn: use session_append");
    }
    if (status) {
        return spi_fail_within(error, "session_decode");
    }
    status = greedy ? SP_OK : sp_session_sample(of->session, with->sampler, &next, error);
    return status ? (int32_t)status : next;
}

int32_t spi_host_session_truncate(sp_guest *guest, int32_t session, uint32_t length) {
    spi_slot *slot = spi_handle_find(guest, "session_truncate", SPI_HANDLE_SESSION, session);
    return slot ? (int32_t)sp_session_truncate(slot->session, length, spi_host_error(guest)) : (int32_t)SP_BAD_HANDLE;
}

int32_t spi_host_session_lookup(sp_guest *guest, int32_t session, int32_t token, spi_output draft) {
    spi_slot *slot = spi_handle_find(guest, "session_lookup", SPI_HANDLE_SESSION, session);
    if (!slot) {
        return SP_BAD_HANDLE;
    }
    int32_t proposed[SP_LOOKUP_MAX];
    sp_session_view view;
    sp_session_get_view(slot->session, &view);
    if (token < 0 || (uint32_t)token >= view.vocab) {
        return spi_fail(spi_host_error(guest), SP_INVALID, "session_lookup: token %d is not in 0..%u", token,
                        view.vocab - 1);
    }
    uint32_t most = draft.count < SP_LOOKUP_MAX ? draft.count : SP_LOOKUP_MAX;
    uint32_t count = sp_session_lookup(slot->session, token, most, proposed);
    if (count) {
        memcpy(draft.bytes, proposed, count * sizeof *proposed);
    }
    return (int32_t)count;
}

int32_t spi_host_session_length(sp_guest *guest, int32_t session) {
    spi_slot *slot = spi_handle_find(guest, "session_length", SPI_HANDLE_SESSION, session);
    return slot ? (int32_t)sp_session_token_count(slot->session) : (int32_t)SP_BAD_HANDLE;
}

int32_t spi_host_session_tokens(sp_guest *guest, int32_t session, spi_output tokens) {
    spi_slot *slot = spi_handle_find(guest, "session_tokens", SPI_HANDLE_SESSION, session);
    if (!slot) {
        return SP_BAD_HANDLE;
    }
    uint32_t count = sp_session_token_count(slot->session);
    uint32_t copied = count < tokens.count ? count : tokens.count;
    if (copied) {
        memcpy(tokens.bytes, sp_session_tokens(slot->session), copied * sizeof(int32_t));
    }
    return (int32_t)count;
}

int32_t spi_host_session_info(sp_guest *guest, int32_t session, spi_output info) {
    spi_slot *slot = spi_handle_find(guest, "session_info", SPI_HANDLE_SESSION, session);
    if (!slot) {
        return SP_BAD_HANDLE;
    }
    /* The region is the guest's linear memory from its first byte on, so that offsets are addresses. */
    sp_session_view view;
    sp_session_get_view(slot->session, &view);
    spi_abi_session_info abi = {
        .kv = view.kv_offset,
        .kv_bytes = view.kv_bytes,
        .block_bytes = view.block_bytes,
        .logits = view.logits_offset,
        .block_tokens = view.block_tokens,
        .context_max = view.context_max,
        .logits_rows_max = view.logits_rows_max,
        .logits_rows = sp_session_logits_rows(slot->session),
        .vocab = view.vocab,
        .length = sp_session_token_count(slot->session),
        .kv_type = (uint32_t)view.kv_type,
    };
    spi_output_struct(info, &abi, sizeof abi);
    return SP_OK;
}

int32_t spi_host_session_edited(sp_guest *guest, int32_t session, uint32_t offset, uint32_t bytes, spi_job *job) {
    spi_slot *slot = spi_handle_find(guest, "session_edited", SPI_HANDLE_SESSION, session);
    if (!slot) {
        return SP_BAD_HANDLE;
    }
    sp_session_view view;
    sp_session_get_view(slot->session, &view);
    if (offset > view.kv_bytes || bytes > view.kv_bytes - offset) {
        return spi_fail(spi_host_error(guest), SP_BAD_POINTER,
                        "session_edited: %u bytes at %u are not inside of the session's keys and values", bytes,
                        offset);
    }
    *job = (spi_job){.kind = SPI_JOB_EDITED, .session = slot->session, .edited_offset = offset, .edited_bytes = bytes};
    return SP_OK;
}

int32_t spi_host_session_destroy(sp_guest *guest, int32_t session) {
    spi_slot *slot = spi_handle_find(guest, "session_destroy", SPI_HANDLE_SESSION, session);
    if (!slot) {
        return SP_BAD_HANDLE;
    }
    sp_session_destroy(slot->session);
    spi_guest_release(guest, slot->offset, slot->bytes);
    spi_handle_close(guest, slot);
    return SP_OK;
}
