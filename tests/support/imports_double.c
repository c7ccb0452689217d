/* tests/support/imports_double.c - see imports_double.h. */
#include "support/imports_double.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "sampler/state.h"

struct sp_session {
    sp_session_options options;
    sp_session_layout layout;
    int32_t *tokens;
    uint32_t count, rows;
};

struct sp_sampler {
    sp_sampler_options options;
    int32_t accepted;
};

uint32_t double_session_count, double_sampler_count;
sp_status double_session_failure;

static sp_model toy = {.has_tokenizer = true, .context_max = 1024};
static sp_device device = {.info = {.name = "double", .link = SP_LINK_MAPPED}};

/* ---- the guest ---- */

sp_guest *double_guest_create(uint64_t memory_bytes) {
    sp_guest *guest = calloc(1, sizeof *guest);
    sp_region_options options = {
        .reserve_bytes = (size_t)1 << 30, .size_bytes = memory_bytes, .guard_bytes = (size_t)1 << 20};
    if (!guest || sp_region_create(&options, &guest->region, NULL)) {
        abort();
    }
    guest->device = &device;
    guest->model = &toy;
    guest->handle_count_max = 64;
    if (spi_host_create(guest, &guest->host, NULL)) {
        abort();
    }
    return guest;
}

void double_guest_destroy(sp_guest *guest) {
    spi_host_destroy(guest->host);
    sp_region_destroy(guest->region);
    free(guest);
}

sp_device *spi_guest_device(sp_guest *guest) {
    return guest->device;
}

void spi_guest_device_may_revive(sp_guest *guest, bool may) {
    (void)guest;
    (void)may;
}

sp_model *spi_guest_model(sp_guest *guest, const char *name, uint32_t name_bytes) {
    return !name_bytes || (name_bytes == 3 && !memcmp(name, "toy", 3)) ? guest->model : NULL;
}

const char *spi_guest_model_name(sp_guest *guest, uint32_t index) {
    return guest->model && index == 0 ? "toy" : NULL;
}

uint32_t spi_guest_handle_count_max(const sp_guest *guest) {
    return guest->handle_count_max;
}

const sp_guest_mail *spi_guest_mail(sp_guest *guest, void **env) {
    *env = guest->mail_env;
    return guest->mail;
}

bool spi_guest_take_interrupt(sp_guest *guest) {
    bool was = guest->interrupted;
    guest->interrupted = false;
    return was;
}

sp_region *sp_guest_region(const sp_guest *guest) {
    return guest->region;
}

sp_status spi_guest_session_opened(sp_guest *guest, sp_session *session, sp_error *error) {
    (void)guest, (void)session, (void)error;
    return SP_OK;
}

struct spi_host *spi_guest_host(sp_guest *guest) {
    return guest->host;
}

void sp_guest_get_counters(const sp_guest *guest, sp_guest_counters *counters) {
    *counters = guest->counters;
}

/* Always fresh memory, up to 256 MiB in all. */
sp_status spi_guest_reserve(sp_guest *guest, uint64_t bytes, uint64_t align_bytes, uint64_t *offset, sp_error *error) {
    uint64_t start = sp_region_size_bytes(guest->region);
    start = (start + align_bytes - 1) / align_bytes * align_bytes;
    double_range *range = guest->ranges;
    while (range < guest->ranges + 16 && range->bytes) {
        range++;
    }
    if (range == guest->ranges + 16 || bytes > (256u << 20) || start + bytes > (256u << 20)) {
        return spi_fail(error, SP_NO_MEMORY, "the guest's memory cannot grow so far");
    }
    sp_status status = sp_region_grow(guest->region, start + bytes, error);
    if (!status) {
        *range = (double_range){start, bytes};
        guest->range_count++;
        *offset = start;
    }
    return status;
}

void spi_guest_release(sp_guest *guest, uint64_t offset, uint64_t bytes) {
    for (uint32_t i = 0; i < 16; i++) {
        if (guest->ranges[i].offset == offset && guest->ranges[i].bytes == bytes) {
            guest->ranges[i].bytes = 0;
            guest->range_count--;
            return;
        }
    }
    abort(); /* released what was not reserved */
}

void sp_device_get_info(const sp_device *of, sp_device_info *info) {
    *info = of->info;
}

/* ---- the model: a token for each byte; with special tokens parsed, '#' is token 0, which ends a text ---- */

void sp_model_get_info(const sp_model *model, sp_model_info *info) {
    *info = (sp_model_info){.architecture = "toy",
                            .name = "Toy",
                            .type = "F32",
                            .layers = 2,
                            .vocab = DOUBLE_VOCAB,
                            .context_max = model->context_max,
                            .block_tokens = 64,
                            .block_bytes = 65536};
}

const sp_tokenizer *sp_model_tokenizer(const sp_model *model, sp_error *error) {
    if (!model->has_tokenizer) {
        spi_fail(error, SP_UNSUPPORTED, "no tokenizer in this toy");
        return NULL;
    }
    return (const sp_tokenizer *)model;
}

sp_status sp_model_metadata(const sp_model *model, const char *key, char *text, size_t capacity, size_t *bytes,
                            sp_error *error) {
    (void)model;
    if (strcmp(key, "color")) {
        return spi_fail(error, SP_NOT_FOUND, "no key %s", key);
    }
    *bytes = 4;
    if (capacity < 4) {
        return spi_fail(error, SP_BUFFER_TOO_SMALL, "4 bytes");
    }
    memcpy(text, "blue", 4);
    return SP_OK;
}

sp_status sp_tokenizer_encode(const sp_tokenizer *tokenizer, const char *text, size_t text_bytes, uint32_t flags,
                              int32_t *tokens, size_t capacity, size_t *count, sp_error *error) {
    (void)tokenizer;
    *count = text_bytes;
    if (text_bytes > capacity) {
        return spi_fail(error, SP_BUFFER_TOO_SMALL, "too small");
    }
    for (size_t i = 0; i < text_bytes; i++) {
        tokens[i] = text[i] == '#' && flags & SP_ENCODE_PARSE_SPECIAL ? 0 : (unsigned char)text[i];
    }
    return SP_OK;
}

sp_status sp_tokenizer_decode(const sp_tokenizer *tokenizer, const int32_t *tokens, size_t count, uint32_t flags,
                              char *text, size_t capacity, size_t *bytes, sp_error *error) {
    (void)tokenizer;
    (void)flags;
    *bytes = count;
    for (size_t i = 0; i < count; i++) {
        if (tokens[i] < 0 || tokens[i] > 255) {
            return spi_fail(error, SP_INVALID, "token %d", tokens[i]);
        }
    }
    if (count > capacity) {
        return spi_fail(error, SP_BUFFER_TOO_SMALL, "too small");
    }
    for (size_t i = 0; i < count; i++) {
        text[i] = (char)tokens[i];
    }
    return SP_OK;
}

int32_t sp_tokenizer_bos(const sp_tokenizer *tokenizer) {
    (void)tokenizer;
    return -1;
}

int32_t sp_tokenizer_eos(const sp_tokenizer *tokenizer) {
    (void)tokenizer;
    return 0;
}

bool sp_tokenizer_is_end(const sp_tokenizer *tokenizer, int32_t token) {
    (void)tokenizer;
    return token == 0;
}

int32_t sp_tokenizer_find(const sp_tokenizer *tokenizer, const char *text, size_t text_bytes) {
    (void)tokenizer;
    return text_bytes == 1 ? (unsigned char)*text : -1;
}

/* ---- sessions ---- */

sp_kv_type spi_guest_kv_type(const sp_guest *guest) {
    (void)guest;
    return SP_KV_Q8_0;
}

sp_status sp_session_plan(const sp_model *model, uint32_t context_max, uint32_t logits_rows_max, sp_kv_type kv_type,
                          sp_session_layout *layout, sp_error *error) {
    (void)model;
    if (context_max > 1u << 20) {
        return spi_fail(error, SP_INVALID, "a context of %u tokens is not in 1..1048576", context_max);
    }
    uint64_t kv = ((uint64_t)context_max + 63) / 64 * (kv_type == SP_KV_F16 ? 131072 : 65536),
             logits = (uint64_t)logits_rows_max * DOUBLE_VOCAB * 4;
    if (logits > (uint64_t)1 << 32) {
        return spi_fail(error, SP_LIMIT, "too many rows");
    }
    *layout = (sp_session_layout){
        .total_bytes = kv + logits, .align_bytes = 65536, .kv_bytes = kv, .logits_offset = kv, .logits_bytes = logits};
    return SP_OK;
}

sp_status sp_session_create(sp_model *model, sp_device *on, const sp_session_options *options, sp_session **session,
                            sp_error *error) {
    (void)on;
    *session = NULL;
    if (double_session_failure) {
        sp_status status = double_session_failure;
        double_session_failure = SP_OK;
        return spi_fail(error, status, "made to fail");
    }
    sp_session *made = spi_alloc(1, sizeof *made);
    if (!made || !(made->tokens = spi_alloc(options->context_max, sizeof *made->tokens))) {
        spi_free(made);
        return spi_fail(error, SP_NO_MEMORY, "no memory for a session");
    }
    made->options = *options;
    sp_session_plan(model, options->context_max, options->logits_rows_max, options->kv_type, &made->layout, NULL);
    double_session_count++;
    *session = made;
    return SP_OK;
}

void sp_session_destroy(sp_session *session) {
    double_session_count--;
    spi_free(session->tokens);
    spi_free(session);
}

void double_finish(spi_job *job) {
    sp_session *session = job->session;
    memcpy(session->tokens + session->count, job->tokens, job->token_count * sizeof *job->tokens);
    session->count += job->token_count;
    session->rows = job->logits == SP_LOGITS_NONE ? 0 : job->logits == SP_LOGITS_ALL ? job->token_count : 1;
    spi_free(job->tokens);
    job->tokens = NULL;
}

sp_status spi_guest_append_now(sp_guest *guest, sp_session *session, int32_t token, sp_sampler *sampler, int32_t *next,
                               sp_error *error) {
    if (!guest->is_alone) {
        return SP_BUSY;
    }
    if (token < 0 || token >= (int32_t)DOUBLE_VOCAB) {
        return spi_fail(error, SP_INVALID, "token %d", token);
    }
    session->tokens[session->count++] = token;
    session->rows = 1;
    guest->pick_count += sampler != NULL;
    return sampler ? sp_session_sample(session, sampler, next, error) : SP_OK;
}

sp_status sp_session_truncate(sp_session *session, uint32_t token_count, sp_error *error) {
    if (token_count > session->count) {
        return spi_fail(error, SP_INVALID, "cannot truncate %u tokens to %u", session->count, token_count);
    }
    session->count = token_count;
    session->rows = 0;
    return SP_OK;
}

uint32_t sp_session_token_count(const sp_session *session) {
    return session->count;
}

const int32_t *sp_session_tokens(const sp_session *session) {
    return session->tokens;
}

uint32_t sp_session_lookup(const sp_session *session, int32_t token, uint32_t draft_max, int32_t *draft) {
    for (uint32_t i = 0; i < draft_max && i < session->count; i++) {
        draft[i] = token + (int32_t)i + 1;
    }
    return draft_max < session->count ? draft_max : session->count;
}

uint32_t sp_session_logits_rows(const sp_session *session) {
    return session->rows;
}

void sp_session_get_view(const sp_session *session, sp_session_view *view) {
    *view = (sp_session_view){.kv_offset = session->options.region_offset,
                              .kv_bytes = session->layout.kv_bytes,
                              .block_bytes = session->options.kv_type == SP_KV_F16 ? 131072 : 65536,
                              .logits_offset = session->options.region_offset + session->layout.logits_offset,
                              .block_tokens = 64,
                              .context_max = session->options.context_max,
                              .logits_rows_max = session->options.logits_rows_max,
                              .vocab = DOUBLE_VOCAB,
                              .kv_type = session->options.kv_type};
}

sp_status sp_session_sample(sp_session *session, sp_sampler *sampler, int32_t *token, sp_error *error) {
    if (!session->rows) {
        return spi_fail(error, SP_INVALID, "there are no logits");
    }
    sp_session_view view;
    sp_session_get_view(session, &view);
    const uint8_t *base = sp_region_base(session->options.region);
    const float *logits = (const float *)(const void *)(base + view.logits_offset);
    *token = sp_sampler_pick(sampler, logits + (size_t)(session->rows - 1) * DOUBLE_VOCAB, DOUBLE_VOCAB);
    return SP_OK;
}

/* ---- samplers ---- */

sp_status sp_sampler_create(const sp_sampler_options *options, sp_sampler **sampler, sp_error *error) {
    *sampler = NULL;
    if (!(options->temperature >= 0)) {
        return spi_fail(error, SP_INVALID, "temperature");
    }
    *sampler = spi_alloc(1, sizeof **sampler);
    if (!*sampler) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a sampler");
    }
    (*sampler)->options = *options;
    double_sampler_count++;
    return SP_OK;
}

void sp_sampler_destroy(sp_sampler *sampler) {
    double_sampler_count--;
    spi_free(sampler);
}

bool spi_sampler_is_greedy(const sp_sampler *sampler) {
    return sampler->options.temperature == 0;
}

void sp_sampler_accept(sp_sampler *sampler, int32_t token) {
    sampler->accepted = token;
}

int32_t sp_sampler_pick(sp_sampler *sampler, const float *logits, uint32_t vocab) {
    (void)sampler;
    uint32_t best = 0;
    for (uint32_t i = 1; i < vocab; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return (int32_t)best;
}
