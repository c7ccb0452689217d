/* device/cpu/attention_quad_body.h - what four queries of a KV head take of a block's keys and values, for the vectors
 * of vector.h: scores, weights and sums of V.
 *
 * Keys and values are F16 or Q8_0 (device/kv.h), which is widened in registers: kv_load is all that knows the
 * difference, and kernels are compiled for a constant type. K and V are read and widened once for four queries. Softmax
 * is the online one (Milakov and Gimelshein, arXiv:1805.02867), block by block of 64 tokens. Included by
 * attention_body.h. May include: device, os, base.
 */
#ifndef SPI_DEVICE_CPU_ATTENTION_QUAD_BODY_H
#define SPI_DEVICE_CPU_ATTENTION_QUAD_BODY_H

#include <float.h>
#include <math.h>

#include "device/cpu/kernels.h"
#include "device/cpu/vector.h"

#define QUAD SPI_ATTENTION_QUERIES
/* Columns of V and tokens of K at a time: as many sums as there are registers for. Eight sums are no more than the
 * latency of a processor's two multiply-adds asks for, and loads of queries for two tokens more than it loads in that
 * time: with AVX2 three take 0.84 of the time of two. */
#if V_WIDTH == 16
#define VALUE_VECTORS 4u
#define SCORE_TOKENS  4u /* their scores fill a vector */
#elif defined(__aarch64__)
#define VALUE_VECTORS 2u
#define SCORE_TOKENS  2u
#else
#define VALUE_VECTORS 3u
#define SCORE_TOKENS  3u
#endif

/* What is known of a query's attention to some tokens: sums of V weighted by e^(score - largest), and of the weights
 * alone. Rows of floats: largest, total, from RECORD_SUMS on the sums. */
enum { RECORD_LARGEST, RECORD_TOTAL, RECORD_SUMS = SPI_ATTENTION_RECORD_FLOATS };

typedef struct attention_quad {
    float scores[SPI_BLOCK_TOKENS * QUAD]; /* [token][query]; then weights */
    float largest[QUAD], factor[QUAD];
    float totals[V_WIDTH];            /* of weights: of query i the lanes i, i + QUAD, ... together */
    uint32_t first[QUAD], end[QUAD];  /* the positions that each query sees; those of padding are a real one's */
    uint32_t from, until;             /* what any of them sees */
    uint32_t inner_from, inner_until; /* what all of them see */
    uint32_t head;                    /* of the item's KV heads */
    float *q;                         /* [QUAD][head_dim] */
    float *sums;                      /* [QUAD][record] */
    float *scales;                    /* Q8_0: of the block's rows of K or V, one for each 32 columns; all quads' */
    float *rows;                      /* Q8_0: those rows in f32, where there are several quads */
    uint32_t record;                  /* floats from one query's record to the next */
} attention_quad;

/* What a kernel's rows are: those of the block, or of Q8_0 what kv_expand has made of them. */
typedef enum kv_rows { KV_ROWS_F16, KV_ROWS_Q8, KV_ROWS_F32 } kv_rows;

/* Columns of K or V in f32: from d on in the row whose first number is number `row` of the head's. */
SPI_INLINE vf kv_load(const void *rows, const float *scales, size_t row, uint32_t d, const kv_rows type) {
    return type == KV_ROWS_F32  ? v_load((const float *)rows + row + d)
           : type == KV_ROWS_Q8 ? v_mul(v_load_i8((const int8_t *)rows + row + d),
                                        v_set(scales[row / SPI_KV_SCALE_COLUMNS + d / SPI_KV_SCALE_COLUMNS]))
                                : v_load_f16((const uint16_t *)rows + row + d);
}

/* Asks for what is read next, as many bytes as are read now: blocks of a head are too short, and too far apart, for the
 * processor to see a stream in them. Of F16 the block's V while its K is read, and the next one's K while V is, into
 * the first level, where they wait for one piece of 8 KiB or so to be read: measured on Zen 5, four sessions take 1.15
 * to 1.17 times what the bytes take, against 1.26 to 1.29 with the next block's K and V into the second level, and 2.5
 * without asking; half as far, or one and a half times, was slower. Of Q8_0 a piece is half as long, which is too near
 * (0.8 of the speed): a block ahead, into the second level. */
SPI_INLINE void kv_ahead(const void *rows, size_t row, uint32_t d, const kv_rows type) {
    if (type == KV_ROWS_F16 && d % 32 == 0) {
        v_fetch((const uint16_t *)rows + row + d);
    }
    if (type == KV_ROWS_Q8 && d % 64 == 0) {
        v_fetch_second((const uint8_t *)rows + row + d);
    }
}

/* The scales of a block's 64 rows, in f32; what lies `ahead` bytes further is asked for. */
static void kv_scales(const uint8_t *from, int64_t ahead, uint32_t head_dim, float *scales) {
    for (uint32_t i = 0; i < SPI_BLOCK_TOKENS * (head_dim / SPI_KV_SCALE_COLUMNS); i += V_WIDTH) {
        v_store(scales + i, v_load_f16((const uint16_t *)(const void *)from + i));
        v_fetch_second(from + ahead + i * sizeof(uint16_t));
    }
}

/* A block's rows of Q8_0 in f32, once for all quads of an item. */
static void kv_expand(const void *rows, const float *scales, const void *ahead, uint32_t head_dim, float *out) {
    for (uint32_t token = 0; token < SPI_BLOCK_TOKENS; token++) {
        size_t row = (size_t)token * head_dim;
        for (uint32_t d = 0; d < head_dim; d += V_WIDTH) {
            v_store(out + row + d, kv_load(rows, scales, row, d, KV_ROWS_Q8));
            kv_ahead(ahead, row, d, KV_ROWS_Q8);
        }
    }
}

#if V_WIDTH == 16
/* The sums of sixteen vectors, in their order. */
SPI_INLINE vf attention_sums(const vf x[16]) {
    vf pairs[8], fours[4], halves[2];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        vf a = x[2 * i], b = x[2 * i + 1];
        pairs[i] = v_add(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512d a = _mm512_castps_pd(pairs[2 * i]), b = _mm512_castps_pd(pairs[2 * i + 1]);
        fours[i] = v_add(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    for (int i = 0; i < 2; i++) {
        vf a = fours[2 * i], b = fours[2 * i + 1];
        halves[i] = v_add(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    }
    return v_add(_mm512_shuffle_f32x4(halves[0], halves[1], 0x88), _mm512_shuffle_f32x4(halves[0], halves[1], 0xdd));
}
#endif

/* Products of some tokens' keys with four queries, still in lanes: of token t and query i in sums[t * QUAD + i]. */
SPI_INLINE void attention_products(const attention_quad *quad, const void *k, const void *ahead, uint32_t token,
                                   const uint32_t head_dim, const kv_rows type, const uint32_t tokens, vf *sums) {
    const float *queries = quad->q;
#pragma GCC unroll 16
    for (uint32_t i = 0; i < tokens * QUAD; i++) {
        sums[i] = v_zero();
    }
#pragma GCC unroll 16
    for (uint32_t d = 0; d < head_dim; d += V_WIDTH) {
        vf keys[SCORE_TOKENS];
#pragma GCC unroll 4
        for (uint32_t t = 0; t < tokens; t++) {
            size_t row = (size_t)(token + t) * head_dim;
            keys[t] = kv_load(k, quad->scales, row, d, type);
            kv_ahead(ahead, row, d, type);
        }
#pragma GCC unroll 4
        for (uint32_t i = 0; i < QUAD; i++) {
            vf q = v_load(queries + i * head_dim + d);
#pragma GCC unroll 4
            for (uint32_t t = 0; t < tokens; t++) {
                sums[t * QUAD + i] = v_fma(keys[t], q, sums[t * QUAD + i]);
            }
        }
    }
}

#if V_WIDTH == 16
/* Scores of tokens [first, end) of a block; a few more may be computed, their bytes are of the block too. */
SPI_INLINE void attention_scores(attention_quad *quad, const void *k, const void *ahead, uint32_t first, uint32_t end,
                                 const uint32_t head_dim, const kv_rows type) {
    for (uint32_t token = first & ~(SCORE_TOKENS - 1); token < end; token += SCORE_TOKENS) {
        vf sums[SCORE_TOKENS * QUAD];
        attention_products(quad, k, ahead, token, head_dim, type, SCORE_TOKENS, sums);
        v_store(quad->scores + token * QUAD, attention_sums(sums));
    }
}
#else
SPI_INLINE void attention_some_scores(attention_quad *quad, const void *k, const void *ahead, uint32_t token,
                                      const uint32_t head_dim, const kv_rows type, const uint32_t tokens) {
    vf sums[SCORE_TOKENS * QUAD];
    attention_products(quad, k, ahead, token, head_dim, type, tokens, sums);
#pragma GCC unroll 4
    for (uint32_t t = 0; t < tokens; t++) {
        v_store_sums_four(quad->scores + (token + t) * QUAD, sums + t * QUAD);
    }
}

/* Scores of tokens [first, end) of a block. */
SPI_INLINE void attention_scores(attention_quad *quad, const void *k, const void *ahead, uint32_t first, uint32_t end,
                                 const uint32_t head_dim, const kv_rows type) {
    uint32_t token = first;
    for (; token + SCORE_TOKENS <= end; token += SCORE_TOKENS) {
        attention_some_scores(quad, k, ahead, token, head_dim, type, SCORE_TOKENS);
    }
    for (; token < end; token++) {
        attention_some_scores(quad, k, ahead, token, head_dim, type, 1);
    }
}
#endif

static void attention_cap(attention_quad *quad, float softcap) {
    for (uint32_t i = 0; i < SPI_BLOCK_TOKENS * QUAD; i += V_WIDTH) {
        vf x = v_div(v_load(quad->scores + i), v_set(softcap));
        v_store(quad->scores + i, v_mul(v_tanh(x), v_set(softcap)));
    }
}

/* Scores that a query must not see become minus infinity. `base` is the position of the block's first token. */
static void attention_mask(attention_quad *quad, uint32_t base) {
    for (uint32_t i = 0; i < QUAD; i++) {
        for (uint32_t token = 0; token < SPI_BLOCK_TOKENS; token++) {
            if (base + token < quad->first[i] || base + token >= quad->end[i]) {
                quad->scores[token * QUAD + i] = -INFINITY;
            }
        }
    }
}

/* Turns scores into weights relative to the largest score so far, and says by how much earlier sums shrink. */
static void attention_softmax(attention_quad *quad) {
    const uint32_t step = V_WIDTH / QUAD;
    vf block_largest = v_set(-INFINITY);
    for (uint32_t token = 0; token < SPI_BLOCK_TOKENS; token += step) {
        block_largest = v_max(block_largest, v_load(quad->scores + token * QUAD));
    }
    float block[QUAD];
    v_store_max_four(block, block_largest);
    vf before = v_load_four(quad->largest), largest = v_max(v_load_four(block), before);
    vf shifts = v_max(largest, v_set(-FLT_MAX)); /* nothing seen yet: all weights, and the factor, are 0 */
    vf factor = v_weight(v_sub(before, shifts)), totals = v_mul(v_load(quad->totals), factor);
    v_store_max_four(quad->largest, largest);
    v_store_max_four(quad->factor, factor);
    for (uint32_t token = 0; token < SPI_BLOCK_TOKENS; token += step) {
        vf weight = v_weight(v_sub(v_load(quad->scores + token * QUAD), shifts));
        v_store(quad->scores + token * QUAD, weight);
        totals = v_add(totals, weight);
    }
    v_store(quad->totals, totals);
}

/* Adds tokens [first, end) of V, weighted, for `vectors` vectors of columns from d on. */
SPI_INLINE void attention_values(attention_quad *quad, const void *v, const void *ahead, uint32_t first, uint32_t end,
                                 const uint32_t head_dim, const kv_rows type, uint32_t d, const uint32_t vectors) {
    const float *weights = quad->scores;
    vf sums[QUAD][VALUE_VECTORS];
#pragma GCC unroll 4
    for (uint32_t i = 0; i < QUAD; i++) {
#pragma GCC unroll 4
        for (uint32_t u = 0; u < vectors; u++) {
            float *at = quad->sums + i * quad->record + RECORD_SUMS + d + u * V_WIDTH;
            sums[i][u] = v_mul(v_load(at), v_set(quad->factor[i]));
        }
    }
    for (uint32_t token = first; token < end; token++) {
        size_t row = (size_t)token * head_dim;
        vf values[VALUE_VECTORS];
#pragma GCC unroll 4
        for (uint32_t u = 0; u < vectors; u++) {
            values[u] = kv_load(v, quad->scales, row, d + u * V_WIDTH, type);
            kv_ahead(ahead, row, d + u * V_WIDTH, type);
        }
#pragma GCC unroll 4
        for (uint32_t i = 0; i < QUAD; i++) {
            vf weight = v_set(weights[token * QUAD + i]);
#pragma GCC unroll 4
            for (uint32_t u = 0; u < vectors; u++) {
                sums[i][u] = v_fma(values[u], weight, sums[i][u]);
            }
        }
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < QUAD; i++) {
#pragma GCC unroll 4
        for (uint32_t u = 0; u < vectors; u++) {
            v_store(quad->sums + i * quad->record + RECORD_SUMS + d + u * V_WIDTH, sums[i][u]);
        }
    }
}

/* Adds tokens [first, end) of V, weighted: all columns, and no vector alone where two and two do. */
SPI_INLINE void attention_all_values(attention_quad *quad, const void *v, const void *ahead, uint32_t first,
                                     uint32_t end, const uint32_t head_dim, const kv_rows type) {
    for (uint32_t d = 0, vectors; d < head_dim; d += vectors * V_WIDTH) {
        uint32_t left = (head_dim - d) / V_WIDTH;
        vectors = left == VALUE_VECTORS + 1 ? left / 2 : left < VALUE_VECTORS ? left : VALUE_VECTORS;
        switch (vectors) {
        case 1: attention_values(quad, v, ahead, first, end, head_dim, type, d, 1); break;
        case 2: attention_values(quad, v, ahead, first, end, head_dim, type, d, 2); break;
#if VALUE_VECTORS > 3
        case 3: attention_values(quad, v, ahead, first, end, head_dim, type, d, 3); break;
#endif
#if VALUE_VECTORS > 2
        default: attention_values(quad, v, ahead, first, end, head_dim, type, d, VALUE_VECTORS); break;
#endif
        }
    }
}

/* Which tokens of a block the quad reads; false: none. */
SPI_INLINE bool attention_reads(const attention_quad *quad, uint32_t base, uint32_t *first, uint32_t *end) {
    if (quad->until <= base || quad->from >= base + SPI_BLOCK_TOKENS) {
        return false;
    }
    *first = quad->from > base ? quad->from - base : 0;
    *end = quad->until - base < SPI_BLOCK_TOKENS ? quad->until - base : SPI_BLOCK_TOKENS;
    return true;
}

/* A block's K for four queries, to weights; ahead: the rows to ask for. Tokens outside of what the four see may hold
 * anything: their weights are set, not computed, and their values are not read. */
SPI_INLINE void attention_weigh(const spi_cpu_attention *args, attention_quad *quad, uint32_t base, const void *k,
                                const void *ahead, const uint32_t head_dim, const kv_rows type) {
    uint32_t first, end;
    if (!attention_reads(quad, base, &first, &end)) {
        return;
    }
    attention_scores(quad, k, ahead, first, end, head_dim, type);
    if (args->softcap != 0) {
        attention_cap(quad, args->softcap);
    }
    if (quad->inner_from > base || quad->inner_until < base + SPI_BLOCK_TOKENS) {
        attention_mask(quad, base);
    }
    attention_softmax(quad);
}

/* The block's V for the same queries. */
SPI_INLINE void attention_add(const spi_cpu_attention *args, attention_quad *quad, uint32_t base, const void *v,
                              const void *ahead, const uint32_t head_dim, const kv_rows type) {
    uint32_t first, end;
    (void)args;
    if (attention_reads(quad, base, &first, &end)) {
        attention_all_values(quad, v, ahead, first, end, head_dim, type);
    }
}

/* Compiled for both types and the widths that models have, and for all others. */
typedef void attention_kernel(const spi_cpu_attention *args, attention_quad *quad, uint32_t base, const void *rows,
                              const void *ahead);
#define KERNEL(work, name, head_dim, type)                                                                             \
    static void work##_##name(const spi_cpu_attention *args, attention_quad *quad, uint32_t base, const void *rows,    \
                              const void *ahead) {                                                                     \
        work(args, quad, base, rows, ahead, head_dim, type);                                                           \
    }
#define KERNELS(name, head_dim, type)                                                                                  \
    KERNEL(attention_weigh, name, head_dim, type)                                                                      \
    KERNEL(attention_add, name, head_dim, type)
KERNELS(f16_64, 64, KV_ROWS_F16)
KERNELS(f16_128, 128, KV_ROWS_F16)
KERNELS(f16_any, args->kv->head_dim, KV_ROWS_F16)
KERNELS(q8_64, 64, KV_ROWS_Q8)
KERNELS(q8_128, 128, KV_ROWS_Q8)
KERNELS(q8_any, args->kv->head_dim, KV_ROWS_Q8)
KERNELS(f32_64, 64, KV_ROWS_F32)
KERNELS(f32_128, 128, KV_ROWS_F32)
KERNELS(f32_any, args->kv->head_dim, KV_ROWS_F32)
#undef KERNELS
#undef KERNEL

/* For K (which = 0) or V (1). */
static attention_kernel *attention_pick(uint32_t which, uint32_t head_dim, kv_rows type) {
    static attention_kernel *const kernels[2][3][3] = {
        {{attention_weigh_f16_64, attention_weigh_f16_128, attention_weigh_f16_any},
         {attention_weigh_q8_64, attention_weigh_q8_128, attention_weigh_q8_any},
         {attention_weigh_f32_64, attention_weigh_f32_128, attention_weigh_f32_any}},
        {{attention_add_f16_64, attention_add_f16_128, attention_add_f16_any},
         {attention_add_q8_64, attention_add_q8_128, attention_add_q8_any},
         {attention_add_f32_64, attention_add_f32_128, attention_add_f32_any}}};
    return kernels[which][type][head_dim == 64 ? 0 : head_dim == 128 ? 1 : 2];
}

#endif
