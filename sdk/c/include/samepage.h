/* samepage.h - the guest's side of samepage in C: inference in the memory that the guest already owns.
 *
 * Everything is a thin inline function over one import (samepage_imports.h, docs/imports.md); nothing allocates.
 * Results that are negative are statuses, and sp_error_text has the sentence that goes with the latest one:
 *
 *     sp_handle model = sp_model_open("");
 *     sp_handle session = sp_session_create(model, 4096, 1);
 *     if (session < 0) {
 *         char text[SP_ERROR_TEXT_BYTES];
 *         fprintf(stderr, "%s\n", sp_error_text(text, sizeof text));
 *     }
 */
#ifndef SAMEPAGE_H
#define SAMEPAGE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "samepage_imports.h"

#define SP_ABI_VERSION      1
#define SP_ERROR_TEXT_BYTES 512

/* Flags of sp_tokenize and sp_detokenize. */
#define SP_ENCODE_SPECIAL       1u
#define SP_ENCODE_PARSE_SPECIAL 2u
#define SP_DECODE_SPECIAL       1u

/* Which logits sp_session_append leaves. */
#define SP_LOGITS_LAST 0
#define SP_LOGITS_ALL  1
#define SP_LOGITS_NONE 2

/* What sp_device_link answers, and number formats of sp_matmul. */
#define SP_LINK_SHARED   0
#define SP_LINK_MAPPED   1
#define SP_LINK_MIRRORED 2
#define SP_LINK_COPIED   3
#define SP_F32           0
#define SP_F16           1

/* ---- the interface itself ---- */

static inline int32_t sp_abi_version(void) {
    return sp_import_abi_version();
}

/* The message of the latest failure as a string in buffer, cut if it must be. */
static inline const char *sp_error_text(char *buffer, uint32_t capacity) {
    if (!capacity) {
        return "";
    }
    int32_t length = sp_import_error_message(buffer, capacity - 1);
    length = length < 0 ? 0 : length < (int32_t)(capacity - 1) ? length : (int32_t)(capacity - 1);
    buffer[length] = 0;
    return buffer;
}

static inline int64_t sp_clock_ns(void) {
    return sp_import_clock_ns();
}

static inline int32_t sp_get_counters(sp_counters *counters) {
    memset(counters, 0, sizeof *counters);
    return sp_import_counters(counters, sizeof *counters);
}

static inline int32_t sp_interrupted(void) {
    return sp_import_interrupted();
}

/* ---- the device ---- */

static inline int32_t sp_device_name(char *text, uint32_t capacity) {
    return sp_import_device_name(text, capacity);
}

static inline int32_t sp_device_link(void) {
    return sp_import_device_link();
}

/* ---- models ---- */

static inline int32_t sp_model_count(void) {
    return sp_import_model_count();
}

static inline int32_t sp_model_name(uint32_t index, char *text, uint32_t capacity) {
    return sp_import_model_name(index, text, capacity);
}

/* "" opens the first model. */
static inline sp_handle sp_model_open(const char *name) {
    return sp_import_model_open(name, (uint32_t)strlen(name));
}

static inline int32_t sp_model_close(sp_handle model) {
    return sp_import_model_close(model);
}

static inline int32_t sp_get_model_info(sp_handle model, sp_model_info *info) {
    memset(info, 0, sizeof *info);
    return sp_import_model_info(model, info, sizeof *info);
}

/* The value as a string in text; returns its length, or a status. Too long is SP_BUFFER_TOO_SMALL here. */
static inline int32_t sp_model_metadata(sp_handle model, const char *key, char *text, uint32_t capacity) {
    if (!capacity) {
        return SP_BUFFER_TOO_SMALL;
    }
    int32_t length = sp_import_model_metadata(model, key, (uint32_t)strlen(key), text, capacity - 1);
    text[length < 0 || (uint32_t)length >= capacity ? 0 : length] = 0;
    return length >= 0 && (uint32_t)length >= capacity ? SP_BUFFER_TOO_SMALL : length;
}

/* ---- text ---- */

/* Returns the number of tokens. SP_BUFFER_TOO_SMALL if they are more than capacity. */
static inline int32_t sp_tokenize(sp_handle model, const char *text, uint32_t text_bytes, uint32_t flags,
                                  int32_t *tokens, uint32_t capacity) {
    int32_t count = sp_import_tokenize(model, text, text_bytes, flags, tokens, capacity);
    return count >= 0 && (uint32_t)count > capacity ? SP_BUFFER_TOO_SMALL : count;
}

/* Returns the number of bytes, which do not end in a zero byte. SP_BUFFER_TOO_SMALL if they are more than capacity. */
static inline int32_t sp_detokenize(sp_handle model, const int32_t *tokens, uint32_t count, uint32_t flags, char *text,
                                    uint32_t capacity) {
    int32_t bytes = sp_import_detokenize(model, tokens, count, flags, text, capacity);
    return bytes >= 0 && (uint32_t)bytes > capacity ? SP_BUFFER_TOO_SMALL : bytes;
}

static inline int32_t sp_token_is_end(sp_handle model, int32_t token) {
    return sp_import_token_is_end(model, token);
}

static inline int32_t sp_token_find(sp_handle model, const char *text) {
    return sp_import_token_find(model, text, (uint32_t)strlen(text));
}

static inline int32_t sp_token_bos(sp_handle model) {
    return sp_import_token_bos(model);
}

static inline int32_t sp_token_eos(sp_handle model) {
    return sp_import_token_eos(model);
}

/* ---- sessions ----
 *
 * The host grows linear memory for a session. wasi-libc's first malloc claims all memory that it finds, so in a guest
 * without main (a reactor) call malloc once before the first session; main's arguments are allocated before it. */

/* What a session keeps keys and values in. */
enum { SP_KV_DEFAULT, SP_KV_F16, SP_KV_Q8_0 };

static inline sp_handle sp_session_create_as(sp_handle model, uint32_t context_max, uint32_t logits_rows_max,
                                             uint32_t kv_type) {
    return sp_import_session_create_as(model, context_max, logits_rows_max, kv_type);
}

static inline sp_handle sp_session_create(sp_handle model, uint32_t context_max, uint32_t logits_rows_max) {
    return sp_import_session_create(model, context_max, logits_rows_max);
}

/* Computes; other guests run meanwhile. which: SP_LOGITS_LAST, ALL or NONE. */
static inline int32_t sp_session_append(sp_handle session, const int32_t *tokens, uint32_t count, int32_t which) {
    return sp_import_session_append(session, tokens, count, which);
}

static inline int32_t sp_session_truncate(sp_handle session, uint32_t length) {
    return sp_import_session_truncate(session, length);
}

/* After keys or values were written: so many bytes from an offset on, counted from sp_session_info's kv. */
static inline int32_t sp_session_edited(sp_handle session, uint32_t offset, uint32_t bytes) {
    return sp_import_session_edited(session, offset, bytes);
}

/* What followed the session's latest tokens and `token` before; see sp_session_append_lookup. */
static inline int32_t sp_session_lookup(sp_handle session, int32_t token, int32_t *draft, uint32_t capacity) {
    return sp_import_session_lookup(session, token, draft, capacity);
}

static inline int32_t sp_session_length(sp_handle session) {
    return sp_import_session_length(session);
}

static inline int32_t sp_session_tokens(sp_handle session, int32_t *tokens, uint32_t capacity) {
    return sp_import_session_tokens(session, tokens, capacity);
}

static inline int32_t sp_get_session_info(sp_handle session, sp_session_info *info) {
    memset(info, 0, sizeof *info);
    return sp_import_session_info(session, info, sizeof *info);
}

/* A row of logits of the latest append, f32[vocab], in this guest's own memory; NULL if there is no such row. The
 * address stays the same for as long as the session lives. */
static inline float *sp_session_logits(sp_handle session, uint32_t row) {
    sp_session_info info;
    if (sp_get_session_info(session, &info) < 0 || row >= info.logits_rows) {
        return NULL;
    }
    return (float *)(uintptr_t)(info.logits + (uint64_t)row * info.vocab * sizeof(float));
}

static inline int32_t sp_session_destroy(sp_handle session) {
    return sp_import_session_destroy(session);
}

/* ---- sampling ---- */

/* NULL is greedy. */
static inline sp_handle sp_sampler_create(const sp_sampler_options *options) {
    return sp_import_sampler_create(options, options ? (uint32_t)sizeof *options : 0);
}

static inline int32_t sp_sampler_accept(sp_handle sampler, int32_t token) {
    return sp_import_sampler_accept(sampler, token);
}

static inline int32_t sp_sampler_pick(sp_handle sampler, const float *logits, uint32_t vocab) {
    return sp_import_sampler_pick(sampler, logits, vocab);
}

/* The next token of a session, accepted but not appended. */
static inline int32_t sp_session_sample(sp_handle session, sp_handle sampler) {
    return sp_import_session_sample(session, sampler);
}

/* Appends tokens and returns the one behind them, accepted but not appended, and leaves no logits: for guests that only
 * want the token. The device picks where it can, other guests run meanwhile, and their tokens are computed in the same
 * pass. */
static inline int32_t sp_session_pick(sp_handle session, sp_handle sampler, const int32_t *tokens, uint32_t count) {
    return sp_import_session_pick(session, sampler, tokens, count);
}

/* Appends a token and returns the next one, accepted but not appended: append and sample in one import where it can
 * be. */
static inline int32_t sp_session_decode(sp_handle session, sp_handle sampler, int32_t token) {
    int32_t next = sp_import_session_decode(session, sampler, token);
    if (next != SP_BUSY) {
        return next;
    }
    int32_t status = sp_session_append(session, &token, 1, SP_LOGITS_LAST);
    return status < 0 ? status : sp_session_sample(session, sampler);
}

/* Prompt lookup: the picks of one pass over the weights. */
#define SP_LOOKUP_MAX 32u
typedef struct sp_lookup {
    int32_t tokens[SP_LOOKUP_MAX + 1]; /* one behind the other */
    uint32_t count;                    /* of them, at least 1; all but the last are appended */
    uint32_t proposed, accepted;
} sp_lookup;

/* Appends a token that was picked, and with it at most draft_max others that followed the same words in the session
 * before; picks behind each for as long as they are what was proposed, and forgets the rest. For every sampler the
 * tokens are those that appending one at a time gives. draft_max is at most SP_LOOKUP_MAX and less than the session's
 * logits_rows_max. A failure leaves the session as it was. */
static inline int32_t sp_session_append_lookup(sp_handle session, sp_handle sampler, int32_t token, uint32_t draft_max,
                                               sp_lookup *lookup) {
    int32_t run[SP_LOOKUP_MAX + 1], before = sp_session_length(session);
    sp_session_info info;
    lookup->count = lookup->proposed = lookup->accepted = 0;
    int32_t count =
        sp_import_session_lookup(session, token, run + 1, draft_max < SP_LOOKUP_MAX ? draft_max : SP_LOOKUP_MAX);
    if (count < 0) {
        return count;
    }
    run[0] = token;
    int32_t status = sp_session_append(session, run, (uint32_t)count + 1, SP_LOGITS_ALL);
    if (status < 0) {
        sp_session_truncate(session, (uint32_t)before);
        return status;
    }
    sp_get_session_info(session, &info);
    do {
        const float *row =
            (const float *)(uintptr_t)(info.logits + (uint64_t)lookup->count * info.vocab * sizeof(float));
        int32_t picked = sp_sampler_pick(sampler, row, info.vocab);
        if (picked < 0 || (status = sp_sampler_accept(sampler, picked)) < 0) {
            return picked < 0 ? picked : status;
        }
        lookup->tokens[lookup->count++] = picked;
    } while (lookup->count <= (uint32_t)count && lookup->tokens[lookup->count - 1] == run[lookup->count]);
    lookup->proposed = (uint32_t)count;
    lookup->accepted = lookup->count - 1;
    return sp_session_truncate(session, (uint32_t)before + lookup->count);
}

static inline int32_t sp_sampler_destroy(sp_handle sampler) {
    return sp_import_sampler_destroy(sampler);
}

/* ---- computing ---- */

/* c[m][n] = a[m][k] * b[k][n] on the device, in place; each aligned to 16 bytes. type: SP_F32 or SP_F16, of a and b. */
static inline int32_t sp_matmul(const void *a, const void *b, float *c, uint32_t m, uint32_t n, uint32_t k,
                                int32_t type) {
    return sp_import_matmul(a, b, c, m, n, k, type);
}

#endif
