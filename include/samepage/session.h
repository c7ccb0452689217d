/* samepage/session.h - one mutable timeline of tokens with its KV blocks.
 *
 * A session's state is memory that its owner can see: KV blocks of 64 tokens, contiguous, and rows of logits, all
 * inside of one region. For a guest that region is its own linear memory; for a host program it is one that the session
 * makes.
 *
 *     region:  ... | block 0 | block 1 | ... | logits row 0 | row 1 | ...
 *
 * Tokens are the truth and are kept by the session itself; blocks are a cache of them and can be rebuilt.
 *
 * Threads: a session, and all sessions in one batch, are used by one thread at a time.
 */
#ifndef SAMEPAGE_SESSION_H
#define SAMEPAGE_SESSION_H

#include <stddef.h>
#include <stdint.h>

#include "samepage/device.h"
#include "samepage/dtype.h"
#include "samepage/model.h"
#include "samepage/region.h"
#include "samepage/sampler.h"
#include "samepage/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sp_session sp_session;

/* What a session needs of a region. Everything is in bytes, and a multiple of 64. */
typedef struct sp_session_layout {
    uint64_t total_bytes;
    uint64_t align_bytes; /* of the offset at which it may be put: 64 KiB, or 2 MiB where blocks are that large */
    uint64_t kv_offset;   /* from the session's own start */
    uint64_t kv_bytes;    /* whole blocks */
    uint64_t logits_offset;
    uint64_t logits_bytes;
} sp_session_layout;

/* context_max: tokens it will ever hold (1 .. 2^20; larger than the model was made for is allowed and warned of by who
 * shows it; a model with LongRoPE turns positions into angles in one way up to its original context, in another
 * beyond). logits_rows_max: rows that one append may ask for (at least 1). SP_INVALID, SP_LIMIT (does not fit into 2^40
 * bytes), SP_UNSUPPORTED (the model's heads are no multiple of 32 wide, for Q8_0). */
SP_EXPORT sp_status sp_session_plan(const sp_model *model, uint32_t context_max, uint32_t logits_rows_max,
                                    sp_kv_type kv_type, sp_session_layout *layout, sp_error *error);

typedef struct sp_session_options {
    uint32_t context_max;     /* 0: the model's own, at most 8,192 */
    uint32_t logits_rows_max; /* 0: 1 */
    sp_region *region;        /* NULL: the session makes and owns one */
    sp_kv_type kv_type;       /* for its whole life */
    uint64_t region_offset;   /* where its layout starts, aligned as planned; the bytes must be inside of the size */
} sp_session_options;

/* The model must be loaded on the device; model, device and region must outlive the session. The bytes are not touched:
 * a fresh session reads no block before it has written it. SP_UNSUPPORTED: the device does not have this kv_type. */
SP_EXPORT sp_status sp_session_create(sp_model *model, sp_device *device, const sp_session_options *options,
                                      sp_session **session, sp_error *error);
SP_EXPORT void sp_session_destroy(sp_session *session);

typedef enum sp_logits {
    SP_LOGITS_LAST = 0, /* one row: of the last token appended */
    SP_LOGITS_ALL,      /* a row for each token appended: at most logits_rows_max */
    SP_LOGITS_NONE,
} sp_logits;

/* One session's part in a batch. tokens are copied before they are checked and used. */
typedef struct sp_append {
    sp_session *session;
    const int32_t *tokens;
    uint32_t token_count; /* 0 does nothing */
    sp_logits logits;
    sp_sampler *sampler; /* NULL, or picks the token behind the last, whatever `logits` says, and accepts it */
    sp_status status;    /* out: of this part */
    int32_t token;       /* out: the pick, where status is SP_OK and something was appended */
} sp_append;

/* Called between the chunks of a long computation; nonzero stops it: SP_CANCELLED, and each session keeps the tokens
 * that were computed. */
typedef int (*sp_cancelled)(void *env);

/* Appends tokens to many sessions of one model on one device in as few passes over the weights as possible.
 *
 * A part's sampler takes nothing from its random state: where it has neither penalties nor top_k nor top_p, the token
 * is a function of the logits, the sampler's temperature, min_p and seed, and the position, by src/base/draw.h. So a
 * device can pick, and with SP_LOGITS_NONE no logits leave it. Where it does not, the host makes the same pick. With
 * other options the pick is that of sp_sampler_pick; the host makes it, from logits that it then finds in the session's
 * memory. A greedy pick is the same by either.
 *
 * Parts that
 * are wrong (SP_INVALID: a token out of range; SP_CONTEXT_FULL; SP_LIMIT: more logits rows than planned) are refused
 * one by one, with nothing done, and the rest goes on. Returns SP_OK if every part is SP_OK, else the first failure,
 * which is also what error tells. A device's failure fails all parts, and their sessions stay as they were. */
SP_EXPORT sp_status sp_session_append_batch(sp_append *parts, uint32_t part_count, sp_cancelled cancelled,
                                            void *cancelled_env, sp_error *error);

/* The same for one. */
SP_EXPORT sp_status sp_session_append(sp_session *session, const int32_t *tokens, uint32_t token_count,
                                      sp_logits logits, sp_error *error);

/* Forgets everything from position token_count on. SP_INVALID if there are fewer. Logits are then of no token. */
SP_EXPORT sp_status sp_session_truncate(sp_session *session, uint32_t token_count, sp_error *error);

SP_EXPORT uint32_t sp_session_token_count(const sp_session *session);
SP_EXPORT const int32_t *sp_session_tokens(const sp_session *session); /* borrowed until the next append */

/* Logits f32 [row][vocab], in the region; row 0 is the first that the last append asked for. NULL if there is no such
 * row. In a guest's memory they are the guest's to change: do not trust them twice. */
SP_EXPORT float *sp_session_logits(const sp_session *session, uint32_t row);
SP_EXPORT uint32_t sp_session_logits_rows(const sp_session *session);

/* Where things are: offsets from the region's base. */
typedef struct sp_session_view {
    uint64_t kv_offset, kv_bytes, block_bytes, logits_offset;
    uint32_t block_tokens, context_max, logits_rows_max, vocab;
    sp_kv_type kv_type; /* never SP_KV_DEFAULT */
} sp_session_view;
SP_EXPORT void sp_session_get_view(const sp_session *session, sp_session_view *view);
SP_EXPORT sp_region *sp_session_region(const sp_session *session);

/* To be told after keys or values were written by somebody else than the session's device, at an offset from the view's
 * kv_offset on: a device that keeps a copy takes them over before it computes again. What was edited is this session's
 * alone: from then on no store takes its blocks in, and where a state is restored they may be computed from the tokens
 * again. SP_BAD_POINTER: not inside of kv_bytes. SP_DEVICE_LOST, SP_NO_MEMORY. */
SP_EXPORT sp_status sp_session_edited(sp_session *session, uint64_t offset, uint64_t bytes, sp_error *error);

/* Picks from the last row of logits, accepts the token, does not append it. SP_INVALID if there are no logits. */
SP_EXPORT sp_status sp_session_sample(sp_session *session, sp_sampler *sampler, int32_t *token, sp_error *error);

/* Appends `token`, picks the next one and accepts it, as sp_session_append and sp_session_sample would; where the
 * sampler is greedy and the device can go on with its picks by itself, more of them one behind the other: at most
 * `count_max`, which is at least 1, none behind one of the `stop_count` stops, and none that the context has no room
 * for. tokens[0..*count) are the picks, at least one; all but the last are appended, and the logits are those behind
 * the last that is. On failure nothing was appended and nothing picked: as sp_session_append, and SP_INVALID for a
 * count_max of 0. */
SP_EXPORT sp_status sp_session_generate(sp_session *session, sp_sampler *sampler, int32_t token, const int32_t *stops,
                                        uint32_t stop_count, int32_t *tokens, uint32_t count_max, uint32_t *count,
                                        sp_error *error);

/* Prompt lookup: what followed the session's latest tokens and `token`, which is not appended yet, when they last stood
 * in the session before. Writes at most draft_max tokens, none that the context has no room for, and returns how many;
 * 0 if at least two tokens never stood there before. Never one that ends a text, nor what stood behind it. */
SP_EXPORT uint32_t sp_session_lookup(const sp_session *session, int32_t token, uint32_t draft_max, int32_t *draft);

#define SP_LOOKUP_MAX 32u
typedef struct sp_lookup {
    int32_t tokens[SP_LOOKUP_MAX + 1]; /* picked, one behind the other */
    uint32_t count;                    /* of them, at least 1; all but the last are appended */
    uint32_t proposed, accepted;
} sp_lookup;

/* Appends `token` and what lookup proposes behind it in one pass over the weights, picks behind each as
 * sp_session_sample would had they been appended one by one, and keeps those proposals that were picked. For every
 * sampler the picks are those that single appends give, and one that ends the text is the last of them. draft_max: at
 * most SP_LOOKUP_MAX, and less than the session's logits_rows_max, else SP_LIMIT. Otherwise as sp_session_append: on
 * failure nothing was appended and nothing picked. */
SP_EXPORT sp_status sp_session_append_lookup(sp_session *session, sp_sampler *sampler, int32_t token,
                                             uint32_t draft_max, sp_lookup *lookup, sp_error *error);

#ifdef __cplusplus
}
#endif
#endif
