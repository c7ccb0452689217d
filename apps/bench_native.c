/* apps/bench_native.c - the bench's loops in C, on sessions of the host. */
#include "apps/bench.h"
#include "base/error.h"
#include "base/memory.h"
#include "os/clock.h"

/* The same tokens as in apps/guests/bench.c. */
static int32_t *make_tokens(uint32_t count, uint32_t vocab) {
    int32_t *tokens = spi_alloc(count, sizeof *tokens);
    for (uint32_t i = 0; tokens && i < count; i++) {
        tokens[i] = (int32_t)(((uint64_t)i * 7919 + 1) % vocab);
    }
    return tokens;
}

/* What one repetition tells. */
typedef struct timing {
    double seconds;        /* of what the test is about */
    double device_seconds; /* of it, appending and picking */
    double *token_seconds; /* [generated] */
} timing;

/* One repetition: the prompt, then the tokens one at a time. */
static sp_status repeat(sp_session *session, sp_sampler *sampler, const spi_bench_test *test, const int32_t *tokens,
                        timing *told, sp_error *error) {
    uint32_t prompt = test->prompt ? test->prompt : 1;
    sp_status status = sp_session_truncate(session, 0, error);
    int64_t begun_ns = spi_clock_ns(), device_ns = 0;
    status = status ? status : sp_session_append(session, tokens, prompt, SP_LOGITS_LAST, error);
    if (!test->generated) {
        told->seconds = (double)(spi_clock_ns() - begun_ns) * 1e-9;
        return status;
    }
    begun_ns = spi_clock_ns();
    int64_t last_ns = begun_ns, now_ns = begun_ns;
    int32_t token = 0;
    status = status ? status : sp_session_sample(session, sampler, &token, error);
    for (uint32_t i = 0; i < test->generated && !status; i++) {
        sp_append part = {
            .session = session, .tokens = &token, .token_count = 1, .logits = SP_LOGITS_LAST, .sampler = sampler};
        int64_t append_ns = spi_clock_ns();
        status = sp_session_append_batch(&part, 1, NULL, NULL, error);
        now_ns = spi_clock_ns();
        token = part.token;
        device_ns += now_ns - append_ns;
        told->token_seconds[i] = (double)(now_ns - last_ns) * 1e-9;
        last_ns = now_ns;
    }
    told->seconds = (double)(now_ns - begun_ns) * 1e-9;
    told->device_seconds = (double)device_ns * 1e-9;
    return status;
}

/* One repetition more than asked for, first. seconds is [repetitions]; told is the last one. */
static sp_status run_loop(const spi_opened *opened, const spi_bench_test *test, uint32_t repetitions, double *seconds,
                          timing *told, sp_error *error) {
    sp_model_info info;
    sp_session *session = NULL;
    sp_sampler *sampler = NULL;
    sp_model_get_info(opened->model, &info);
    sp_session_options options = {.context_max = test->prompt + test->generated + 1, .kv_type = opened->kv_type};
    int32_t *tokens = make_tokens(test->prompt + 1, info.vocab);
    sp_status status = tokens ? sp_session_create(opened->model, opened->device, &options, &session, error)
                              : spi_fail(error, SP_NO_MEMORY, "not enough memory for the prompt");
    status = status ? status : sp_sampler_create(NULL, &sampler, error);
    for (uint32_t i = 0; i <= repetitions && !status; i++) {
        status = repeat(session, sampler, test, tokens, told, error);
        if (i) {
            seconds[i - 1] = told->seconds;
        }
    }
    sp_sampler_destroy(sampler);
    sp_session_destroy(session);
    spi_free(tokens);
    return status;
}

sp_status spi_bench_native(const spi_opened *opened, const spi_bench_test *test, uint32_t repetitions, double *seconds,
                           sp_error *error) {
    timing told = {.token_seconds = spi_alloc(test->generated, sizeof *told.token_seconds)};
    sp_status status = told.token_seconds ? run_loop(opened, test, repetitions, seconds, &told, error)
                                          : spi_fail(error, SP_NO_MEMORY, "not enough memory for the results");
    spi_free(told.token_seconds);
    return status;
}

sp_status spi_bench_native_token(const spi_opened *opened, uint32_t generated, spi_bench_token *token,
                                 sp_error *error) {
    spi_bench_test test = {.generated = generated, .sequences = 1};
    timing told = {.token_seconds = spi_alloc(generated, sizeof *told.token_seconds)};
    double seconds;
    sp_status status = told.token_seconds ? run_loop(opened, &test, 1, &seconds, &told, error)
                                          : spi_fail(error, SP_NO_MEMORY, "not enough memory for the results");
    if (!status) {
        token->us = spi_median(told.token_seconds, generated) * 1e6;
        token->outside_us = (told.seconds - told.device_seconds) * 1e6 / generated;
    }
    spi_free(told.token_seconds);
    return status;
}

/* ---- many sequences ---- */

typedef struct batch {
    sp_session **sessions;
    sp_append *parts;
    int32_t *tokens; /* [sequences]: the next one of each */
} batch;

/* Each sequence begins with a token of its own, and takes its own likeliest tokens from there, picked where they are
 * computed. */
static sp_status repeat_batch(const batch *all, sp_sampler *sampler, const spi_bench_test *test, uint32_t vocab,
                              double *seconds, sp_error *error) {
    sp_status status = SP_OK;
    for (uint32_t s = 0; s < test->sequences && !status; s++) {
        all->tokens[s] = (int32_t)(((uint64_t)s * 104729 + 1) % vocab);
        all->parts[s] = (sp_append){.session = all->sessions[s],
                                    .tokens = &all->tokens[s],
                                    .token_count = 1,
                                    .logits = SP_LOGITS_NONE,
                                    .sampler = sampler};
        status = sp_session_truncate(all->sessions[s], 0, error);
    }
    status = status ? status : sp_session_append_batch(all->parts, test->sequences, NULL, NULL, error);
    int64_t begun_ns = spi_clock_ns();
    for (uint32_t i = 0; i < test->generated && !status; i++) {
        for (uint32_t s = 0; s < test->sequences; s++) {
            all->tokens[s] = all->parts[s].token;
        }
        status = status ? status : sp_session_append_batch(all->parts, test->sequences, NULL, NULL, error);
    }
    *seconds = (double)(spi_clock_ns() - begun_ns) * 1e-9;
    return status;
}

sp_status spi_bench_batch(const spi_opened *opened, const spi_bench_test *test, uint32_t repetitions, double *seconds,
                          sp_error *error) {
    sp_model_info info;
    sp_sampler *sampler = NULL;
    double warm_up;
    sp_model_get_info(opened->model, &info);
    batch all = {.sessions = spi_alloc(test->sequences, sizeof *all.sessions),
                 .parts = spi_alloc(test->sequences, sizeof *all.parts),
                 .tokens = spi_alloc(test->sequences, sizeof *all.tokens)};
    sp_status status = all.sessions && all.parts && all.tokens
                           ? sp_sampler_create(NULL, &sampler, error)
                           : spi_fail(error, SP_NO_MEMORY, "not enough memory for %u sequences", test->sequences);
    sp_session_options options = {.context_max = test->generated + 1, .kv_type = opened->kv_type};
    for (uint32_t s = 0; s < test->sequences && !status; s++) {
        status = sp_session_create(opened->model, opened->device, &options, &all.sessions[s], error);
    }
    for (uint32_t i = 0; i <= repetitions && !status; i++) {
        status = repeat_batch(&all, sampler, test, info.vocab, i ? &seconds[i - 1] : &warm_up, error);
    }
    for (uint32_t s = 0; s < test->sequences && all.sessions; s++) {
        sp_session_destroy(all.sessions[s]);
    }
    sp_sampler_destroy(sampler);
    spi_free(all.sessions);
    spi_free(all.parts);
    spi_free(all.tokens);
    return status;
}
