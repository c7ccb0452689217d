/* device/cpu/attention_body.h - attention over KV blocks, for the vectors of vector.h.
 *
 * Keys and values are F16 or Q8_0 (device/kv.h), which is widened in registers: kv_load is all that knows the
 * difference, and kernels are compiled for a constant type. The queries of an item (some rows x the heads of a group)
 * go four at a time through one pass over the blocks: K and V are read and widened once for four queries, and stay in
 * the first-level cache for the others. An item may have several KV heads: of a block K of all of them is read first
 * and then their V, which is the order in memory, since pieces of 8 KiB far from each other are not read at memory's
 * pace. Softmax is the online one (Milakov and Gimelshein, arXiv:1805.02867), block by block of 64 tokens inside of a
 * chunk; the sums of chunks are then merged in their order. Blocks and chunks are those of positions, so a row's result
 * is the same bits whoever computes which chunk, and whatever rows are computed beside it. Included by kernels_*.c.
 */
#ifndef SPI_DEVICE_CPU_ATTENTION_BODY_H
#define SPI_DEVICE_CPU_ATTENTION_BODY_H

#include <float.h>
#include <math.h>
#include <string.h>

#include "device/cpu/kernels.h"
#include "device/cpu/vector.h"

#define QUAD SPI_ATTENTION_QUERIES
/* From so many quads on rows of Q8_0 are widened once for all of them. With vectors of eight it does not pay: rows in
 * f32 come from the second level of the cache, at twice as many loads (0.81 of F16's speed at a prompt behind 8k
 * tokens, against 0.86; with sixteen 1.03 against 0.84). */
#if V_WIDTH == 16
#define EXPAND_QUADS 2u
#else
#define EXPAND_QUADS UINT32_MAX
#endif
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

static uint32_t attention_quads(uint32_t row_count, uint32_t group) {
    return (row_count * group + QUAD - 1) / QUAD;
}

/* Scales and rows of Q8_0, K's or V's. */
static size_t kv_scratch_floats(uint32_t head_dim) {
    return SPI_BLOCK_TOKENS * ((size_t)head_dim / SPI_KV_SCALE_COLUMNS + head_dim);
}

/* Quads, their queries, and two records for each query. */
static size_t attention_quads_bytes(uint32_t row_count, uint32_t group, uint32_t heads, uint32_t head_dim) {
    size_t quads = (size_t)heads * attention_quads(row_count, group), floats = (size_t)3 * head_dim + 2 * RECORD_SUMS;
    size_t bytes =
        quads * (sizeof(attention_quad) + QUAD * floats * sizeof(float)) + kv_scratch_floats(head_dim) * sizeof(float);
    return (bytes + 64 + 63) / 64 * 64;
}

#if defined(TABLE_AMX)
#include "device/cpu/attention_amx_body.h"
#else
#define amx_attention_bytes(row_count, group, head_dim) 0
#endif

static size_t attention_scratch_bytes(uint32_t row_count, uint32_t group, uint32_t heads, uint32_t head_dim) {
    size_t fast =
        attention_quads_bytes(row_count, group, heads, head_dim) + amx_attention_bytes(row_count, group, head_dim);
    size_t slow = spi_cpu_attention_scratch_reference(row_count, group, heads, head_dim);
    return fast > slow ? fast : slow;
}

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

/* Query `index` of the item's KV head `head`: row index / group, head index % group of those that share it. */
static size_t attention_offset(const spi_cpu_attention *args, uint32_t head, uint32_t index) {
    return index / args->group * args->row_stride +
           ((size_t)head * args->group + index % args->group) * args->kv->head_dim;
}

static void attention_fill(const spi_cpu_attention *args, attention_quad *quad, uint32_t index, uint32_t count) {
    uint32_t head_dim = args->kv->head_dim;
    quad->from = quad->inner_until = UINT32_MAX;
    quad->until = quad->inner_from = 0;
    for (uint32_t i = 0; i < QUAD; i++) {
        bool padding = index + i >= count;
        uint32_t from = padding ? count - 1 : index + i; /* padding repeats the last query; nobody reads its result */
        uint32_t position = args->position_first + from / args->group;
        quad->first[i] = args->window && position + 1 > args->window ? position + 1 - args->window : 0;
        quad->end[i] = position + 1;
        quad->from = quad->first[i] < quad->from ? quad->first[i] : quad->from;
        quad->until = quad->end[i] > quad->until ? quad->end[i] : quad->until;
        quad->inner_from = quad->first[i] > quad->inner_from ? quad->first[i] : quad->inner_from;
        quad->inner_until = quad->end[i] < quad->inner_until ? quad->end[i] : quad->inner_until;
        const float *q = args->q + attention_offset(args, quad->head, from);
        for (uint32_t d = 0; d < head_dim; d += V_WIDTH) {
            v_store(quad->q + i * head_dim + d, v_mul(v_load(q + d), v_set(args->scale)));
        }
    }
}

/* The item's quads, in its scratch, those of a KV head behind each other; returns the room behind them. */
static float *attention_begin(const spi_cpu_attention *args, uint32_t quads) {
    attention_quad *all = args->scratch;
    uint32_t head_dim = args->kv->head_dim, count = quads * args->heads;
    float *room = (float *)(void *)(((uintptr_t)(all + count) + 63) & ~(uintptr_t)63), *scales = room;
    room += spi_kv_is_q8(args->kv) ? kv_scratch_floats(head_dim) : 0;
    for (uint32_t i = 0; i < count; i++) {
        all[i].q = room + (size_t)i * QUAD * head_dim;
        all[i].record = head_dim + RECORD_SUMS;
        all[i].head = i / quads;
        all[i].scales = scales;
        all[i].rows = scales + (size_t)SPI_BLOCK_TOKENS * (head_dim / SPI_KV_SCALE_COLUMNS);
        attention_fill(args, &all[i], i % quads * QUAD, args->row_count * args->group);
    }
    return room + (size_t)count * QUAD * head_dim;
}

/* Pieces of memory that an item reads: of each block first K of its heads, then V. */
typedef struct attention_piece {
    uint32_t base, which, head;
} attention_piece;

/* The piece that is read `steps` later; at the end the last ones again. */
SPI_INLINE attention_piece attention_later(const spi_cpu_attention *args, attention_piece piece, uint32_t steps) {
    uint32_t index = piece.which * args->heads + piece.head + steps;
    if (index >= 2 * args->heads) {
        bool more = piece.base + SPI_BLOCK_TOKENS < args->position_first + args->row_count;
        piece.base += more ? SPI_BLOCK_TOKENS : 0;
        index = more ? index - 2 * args->heads : 2 * args->heads - 1;
    }
    return (attention_piece){piece.base, index / args->heads, index % args->heads};
}

SPI_INLINE const uint8_t *attention_rows_at(const spi_cpu_attention *args, attention_piece piece) {
    return args->blocks + spi_kv_row_offset(args->kv, args->layer, piece.which, args->kv_head + piece.head, piece.base);
}

/* What all quads of a head take of a piece of Q8_0: its scales, and where there are several its rows. Both ways give
 * the same numbers, since a code times its scale is no more than f32 holds. Returns the rows. */
static const void *attention_prepare(const spi_cpu_attention *args, const attention_quad *quad, attention_piece piece,
                                     const uint8_t *ahead, kv_rows type) {
    const spi_kv_shape *kv = args->kv;
    const uint8_t *rows = attention_rows_at(args, piece);
    if (type == KV_ROWS_F16) {
        return rows;
    }
    uint64_t scales = spi_kv_number_bytes(kv) * SPI_BLOCK_TOKENS;
    kv_scales(rows + scales, ahead - rows, kv->head_dim, quad->scales);
    if (type == KV_ROWS_Q8) {
        return rows;
    }
    kv_expand(rows, quad->scales, ahead, kv->head_dim, quad->rows);
    return quad->rows;
}

/* One piece for all quads of its head. */
static void attention_take(const spi_cpu_attention *args, uint32_t quads, attention_piece piece, kv_rows type) {
    attention_quad *all = (attention_quad *)args->scratch + (size_t)piece.head * quads;
    attention_kernel *kernel = attention_pick(piece.which, args->kv->head_dim, type);
    const uint8_t *ahead = attention_rows_at(args, attention_later(args, piece, type == KV_ROWS_F16 ? 1 : 2));
    const void *rows = attention_prepare(args, all, piece, ahead, type);
    for (uint32_t i = 0; i < quads; i++) {
        kernel(args, &all[i], piece.base, rows, ahead);
    }
}

/* The records of all queries for one chunk; those of a KV head lie `stride` floats behind those of the one before. */
static void attention_chunk(const spi_cpu_attention *args, uint32_t quads, uint32_t chunk, float *records,
                            size_t stride) {
    attention_quad *all = args->scratch;
    uint32_t base = chunk * SPI_ATTENTION_CHUNK, end = base + SPI_ATTENTION_CHUNK, record = all->record;
    uint32_t last = args->position_first + args->row_count - 1, first = all->first[0], count = quads * args->heads;
    kv_rows type = !spi_kv_is_q8(args->kv) ? KV_ROWS_F16 : quads < EXPAND_QUADS ? KV_ROWS_Q8 : KV_ROWS_F32;
    end = end > last + 1 ? last + 1 : end;
    base = first > base ? first / SPI_BLOCK_TOKENS * SPI_BLOCK_TOKENS : base;
#if defined(TABLE_AMX)
    if (amx_takes(args)) {
        size_t used = attention_quads_bytes(args->row_count, args->group, args->heads, args->kv->head_dim);
        amx_attention_chunk(args, all, base, end, records, (uint8_t *)args->scratch + used);
        return;
    }
#endif
    for (uint32_t i = 0; i < count; i++) {
        all[i].sums = records + all[i].head * stride + (size_t)(i % quads) * QUAD * record;
        memset(all[i].sums, 0, QUAD * record * sizeof(float));
        for (uint32_t k = 0; k < QUAD; k++) {
            all[i].largest[k] = -INFINITY;
        }
        v_store(all[i].totals, v_zero());
    }
    for (; base < end; base += SPI_BLOCK_TOKENS) {
        for (uint32_t i = 0; i < 2 * args->heads; i++) {
            attention_take(args, quads, (attention_piece){base, i / args->heads, i % args->heads}, type);
        }
    }
    for (uint32_t i = 0; i < count * QUAD; i++) {
        float *to = all[i / QUAD].sums + (size_t)(i % QUAD) * record;
        to[RECORD_LARGEST] = all[i / QUAD].largest[i % QUAD];
        to[RECORD_TOTAL] = 0;
        for (uint32_t lane = i % QUAD; lane < V_WIDTH; lane += QUAD) {
            to[RECORD_TOTAL] += all[i / QUAD].totals[lane];
        }
    }
}

/* Takes another chunk into a record. One that saw nothing changes no bit. */
static void attention_merge(float *to, const float *from, uint32_t head_dim) {
    float largest = to[RECORD_LARGEST] > from[RECORD_LARGEST] ? to[RECORD_LARGEST] : from[RECORD_LARGEST];
    float old = to[RECORD_LARGEST] == -INFINITY ? 0 : expf(to[RECORD_LARGEST] - largest);
    float add = from[RECORD_LARGEST] == -INFINITY ? 0 : expf(from[RECORD_LARGEST] - largest);
    to[RECORD_LARGEST] = largest;
    to[RECORD_TOTAL] = to[RECORD_TOTAL] * old + from[RECORD_TOTAL] * add;
    for (uint32_t d = RECORD_SUMS; d < RECORD_SUMS + head_dim; d += V_WIDTH) {
        v_store(to + d, v_fma(v_load(to + d), v_set(old), v_mul(v_load(from + d), v_set(add))));
    }
}

static void attention_clear(float *records, uint32_t count, uint32_t record) {
    memset(records, 0, (size_t)count * record * sizeof *records);
    for (uint32_t i = 0; i < count; i++) {
        records[(size_t)i * record + RECORD_LARGEST] = -INFINITY;
    }
}

/* Of one KV head of the item. */
static void attention_finish(const spi_cpu_attention *args, uint32_t head, const float *records) {
    uint32_t head_dim = args->kv->head_dim;
    for (uint32_t index = 0; index < args->row_count * args->group; index++) {
        const float *record = records + (size_t)index * (head_dim + RECORD_SUMS);
        float *dst = args->dst + attention_offset(args, head, index), factor = 1 / record[RECORD_TOTAL];
        for (uint32_t d = 0; d < head_dim; d++) {
            dst[d] = record[RECORD_SUMS + d] * factor;
        }
    }
}

static void attention_part(const spi_cpu_attention *args) {
    uint32_t quads = attention_quads(args->row_count, args->group);
    attention_begin(args, quads);
    attention_chunk(args, quads, args->chunk_first, args->records, args->head_records);
}

static void attention_combine(const spi_cpu_attention *args) {
    uint32_t head_dim = args->kv->head_dim, record = head_dim + RECORD_SUMS, count = args->row_count * args->group;
    size_t chunk_floats = (size_t)attention_quads(args->row_count, args->group) * QUAD * record;
    float *merged = args->scratch;
    for (uint32_t head = 0; head < args->heads; head++) {
        const float *records = args->records + head * args->head_records;
        attention_clear(merged, count, record);
        for (uint32_t chunk = 0; chunk < args->chunk_count; chunk++) {
            for (uint32_t i = 0; i < count; i++) {
                attention_merge(merged + (size_t)i * record, records + chunk * chunk_floats + (size_t)i * record,
                                head_dim);
            }
        }
        attention_finish(args, head, merged);
    }
}

static void attention(const spi_cpu_attention *args) {
    uint32_t head_dim = args->kv->head_dim, record = head_dim + RECORD_SUMS, count = args->row_count * args->group;
    if (head_dim % V_WIDTH) {
        spi_cpu_attention_reference(args);
        return;
    }
    uint32_t quads = attention_quads(args->row_count, args->group);
    size_t stride = (size_t)quads * QUAD * record, i;
    float *records = attention_begin(args, quads), *merged = records + args->heads * stride;
    for (uint32_t head = 0; head < args->heads; head++) {
        attention_clear(merged + head * stride, count, record);
    }
    for (uint32_t chunk = 0; chunk < args->chunk_count; chunk++) {
        attention_chunk(args, quads, args->chunk_first + chunk, records, stride);
        for (i = 0; i < (size_t)args->heads * count; i++) {
            size_t at = i / count * stride + i % count * record;
            attention_merge(merged + at, records + at, head_dim);
        }
    }
    for (uint32_t head = 0; head < args->heads; head++) {
        attention_finish(args, head, merged + head * stride);
    }
}

#endif
