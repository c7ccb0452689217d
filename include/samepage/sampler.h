/* samepage/sampler.h - picks the next token from a row of logits.
 *
 * The order is llama.cpp's: penalties, top-k, top-p, min-p, temperature, then a draw. temperature == 0 is greedy: the
 * lowest id among the largest logits, after penalties. A sampler is its options, its random state and the window of
 * tokens that penalties look at; all of it is plain data so that a snapshot can carry it.
 *
 * Threads: a sampler is used by one thread at a time.
 */
#ifndef SAMEPAGE_SAMPLER_H
#define SAMEPAGE_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

#include "samepage/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sp_sampler sp_sampler;

/* Zero everywhere is greedy without penalties. This struct is a part of the guests' binary interface: 48 bytes, no
 * pointers, fields as they are. */
typedef struct sp_sampler_options {
    float temperature;       /* 0: greedy */
    int32_t top_k;           /* keep the k likeliest; 0: all */
    float top_p;             /* keep the smallest set whose probability reaches p; 0 or 1: all */
    float min_p;             /* keep those at least min_p times as likely as the likeliest; 0: all */
    float repeat_penalty;    /* > 1 divides positive and multiplies negative logits of tokens seen; 0 or 1: none */
    float frequency_penalty; /* subtracted once for each time a token was seen */
    float presence_penalty;  /* subtracted once if a token was seen */
    int32_t penalty_last;    /* how many of the latest tokens penalties look at; 0: 64; at most 4096 */
    uint64_t seed;           /* of xoshiro256++: the same seed and logits give the same tokens on every machine */
    uint64_t reserved;       /* 0 */
} sp_sampler_options;

/* options NULL means greedy. SP_INVALID names the field that is not finite or out of range. */
SP_EXPORT sp_status sp_sampler_create(const sp_sampler_options *options, sp_sampler **sampler, sp_error *error);
SP_EXPORT void sp_sampler_destroy(sp_sampler *sampler);

/* Tells the sampler of a token that was taken (its own choice or the prompt's): penalties count it. */
SP_EXPORT void sp_sampler_accept(sp_sampler *sampler, int32_t token);

/* Picks from logits[0..vocab), which it reads and does not write: they may lie in a guest's memory and change while it
 * reads, so the result is only ever some id in [0, vocab). NaN counts as -infinity. vocab > 0. Does not accept the
 * token. Never fails: where there is no memory for what it needs (8 bytes for each of top_k, else of all tokens, kept
 * for the next time) it picks greedily. */
SP_EXPORT int32_t sp_sampler_pick(sp_sampler *sampler, const float *logits, uint32_t vocab);

#ifdef __cplusplus
}
#endif
#endif
