/* session/generate.c - tokens one behind the other, each picked from the logits of the one before. A device that picks
 * goes on with them by itself, without waiting for the host, where the sampler takes the likeliest. */
#include "session/session.h"

#include "base/error.h"
#include "model/model.h"
#include "os/clock.h"
#include "sampler/state.h"

/* How many tokens the device may go on with: as many as there is room for, if it may at all. */
static uint32_t room(const sp_session *session, const sp_sampler *sampler, uint32_t count_max) {
    uint32_t left = session->context_max - session->token_count;
    if (!left || !spi_sampler_is_greedy(sampler)) {
        return left ? 1 : 0;
    }
    return count_max < left ? count_max : left;
}

static sp_status check(const sp_session *session, int32_t token, uint32_t count_max, sp_error *error) {
    if (token < 0 || (uint32_t)token >= session->vocab) {
        return spi_fail(error, SP_INVALID, "token 0 is %d, not in 0..%u", token, session->vocab - 1);
    }
    if (!count_max) {
        return spi_fail(error, SP_INVALID, "there is no room for a token to be picked");
    }
    if (session->token_count == session->context_max) {
        return spi_fail(error, SP_CONTEXT_FULL, "the context of %u tokens is full", session->context_max);
    }
    return SP_OK;
}

/* The run of one row: rows behind the session's own are nobody's until it has the tokens. */
static sp_status run(sp_session *session, const int32_t *token, spi_picks *picks, sp_error *error) {
    spi_segment segment = {.link = spi_device_find_link(session->device, session->region),
                           .kv_offset = session->offset + session->layout.kv_offset,
                           .logits_offset = session->offset + session->layout.logits_offset,
                           .row_count = 1,
                           .position_first = session->token_count,
                           .out_count = 1};
    if (!segment.link) {
        return spi_fail(error, SP_DEVICE_LOST, "the device has lost its link to a session's memory");
    }
    spi_run run = {
        .tokens = token, .row_count = 1, .segments = &segment, .segment_count = 1, .out_count = 1, .picks = picks};
    void *context;
    const spi_backend *backend = spi_device_backend(session->device, &context);
    spi_program *program = spi_model_program(session->model, session->device, session->context_max, session->kv->type);
    return backend->run(context, program, &run, error);
}

sp_status sp_session_generate(sp_session *session, sp_sampler *sampler, int32_t token, const int32_t *stops,
                              uint32_t stop_count, int32_t *tokens, uint32_t count_max, uint32_t *count,
                              sp_error *error) {
    *count = 0;
    sp_status status = check(session, token, count_max, error);
    if (status) {
        return status;
    }
    spi_picks picks = {
        .tokens = tokens, .count_max = room(session, sampler, count_max), .stops = stops, .stop_count = stop_count};
    int64_t begin_ns = spi_clock_ns();
    spi_picks *picked = spi_sampler_is_greedy(sampler) ? &picks : NULL;
    sp_error local = {0};
    error = error ? error : &local;
    status = run(session, &token, picked, error);
    if (status == SP_DEVICE_LOST && !spi_device_revive(session->device, error)) {
        picks.count = 0;
        status = run(session, &token, picked, error);
    }
    if (status) {
        return status;
    }
    uint32_t start = session->token_count, appended = picks.count ? picks.count : 1;
    for (uint32_t i = 0; i < appended; i++) {
        session->tokens[start + i] = i ? tokens[i - 1] : token;
    }
    session->token_count += appended;
    session->logits_rows = 1;
    if (session->cache) {
        session->cache->grown(session->cache->env, session, start, appended, spi_clock_ns() - begin_ns);
    }
    *count = appended;
    return picks.count ? SP_OK : sp_session_sample(session, sampler, tokens, error);
}
