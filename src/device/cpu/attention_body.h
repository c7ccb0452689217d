/* device/cpu/attention_body.h - attention over KV blocks, for the vectors of vector.h.
 *
 * Keys and values are F16 or Q8_0 (device/kv.h), which is widened in registers: kv_load is all that knows the
 * difference, and kernels are compiled for a constant type. The queries of an item (some rows x the heads of a group) go
 * four at a time through one pass over the blocks: K and V are read and widened once for four queries, and stay in the
 * first-level cache for the others. Softmax is the online one (Milakov and Gimelshein, arXiv:1805.02867), block by block
 * of 64 tokens inside of a chunk; the sums of chunks are then merged in their order. Blocks and chunks are those of
 * positions, so a row's result is the same bits whoever computes which chunk, and whatever rows are computed beside it.
 * Included by kernels_*.c.
 */
#ifndef SPI_DEVICE_CPU_ATTENTION_BODY_H
#define SPI_DEVICE_CPU_ATTENTION_BODY_H

#include <float.h>
#include <math.h>
#include <string.h>

#include "device/cpu/kernels.h"
#include "device/cpu/vector.h"

#define QUAD SPI_ATTENTION_QUERIES
/* From so many quads on rows of Q8_0 are widened once for all of them. With vectors of eight it does not pay: rows in f32
 * come from the second level of the cache, at twice as many loads (0.81 of F16's speed at a prompt behind 8k tokens, against
 * 0.86; with sixteen 1.03 against 0.84). */
#if V_WIDTH == 16
#define EXPAND_QUADS 2u
#else
#define EXPAND_QUADS UINT32_MAX
#endif
/* Columns of V and tokens of K at a time: as many sums as there are registers for. Eight sums are no more than the latency
 * of a processor's two multiply-adds asks for, and loads of queries for two tokens more than it loads in that time: with
 * AVX2 three take 0.84 of the time of two. */
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
    float largest[QUAD], total[QUAD], factor[QUAD];
    uint32_t first[QUAD], end[QUAD]; /* the positions that each query sees; those of padding are a real one's */
    float *q;                        /* [QUAD][head_dim] */
    float *sums;                     /* [QUAD][record] */
    float *scales[2];                /* Q8_0: of the block's K and V rows, one for each 32 columns; all quads' */
    float *rows[2];                  /* Q8_0: those rows in f32, where there are several quads */
    uint32_t record;                 /* floats from one query's record to the next */
} attention_quad;

static uint32_t attention_quads(uint32_t row_count, uint32_t group) {
    return (row_count * group + QUAD - 1) / QUAD;
}

/* Scales and rows of Q8_0, K's and V's. */
static size_t kv_scratch_floats(uint32_t head_dim) {
    return 2 * SPI_BLOCK_TOKENS * ((size_t)head_dim / SPI_KV_SCALE_COLUMNS + head_dim);
}

/* Quads, their queries, and two records for each query. */
static size_t attention_quads_bytes(uint32_t row_count, uint32_t group, uint32_t head_dim) {
    size_t quads = attention_quads(row_count, group), floats = (size_t)3 * head_dim + 2 * RECORD_SUMS;
    size_t bytes =
        quads * (sizeof(attention_quad) + QUAD * floats * sizeof(float)) + kv_scratch_floats(head_dim) * sizeof(float);
    return (bytes + 64 + 63) / 64 * 64;
}

#if defined(TABLE_AMX)
#include "device/cpu/attention_amx_body.h"
#else
#define amx_attention_bytes(row_count, group, head_dim) 0
#endif

static size_t attention_scratch_bytes(uint32_t row_count, uint32_t group, uint32_t head_dim) {
    size_t fast = attention_quads_bytes(row_count, group, head_dim) + amx_attention_bytes(row_count, group, head_dim);
    size_t slow = spi_cpu_attention_scratch_reference(row_count, group, head_dim);
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
 * processor to see a stream in them. Of F16 the block's V while its K is read, and the next one's K while V is, into the
 * first level, where they wait for one piece of 8 KiB or so to be read: measured on Zen 5, four sessions take 1.15 to 1.17
 * times what the bytes take, against 1.26 to 1.29 with the next block's K and V into the second level, and 2.5 without
 * asking; half as far, or one and a half times, was slower. Of Q8_0 a piece is half as long, which is too near (0.8 of the
 * speed): a block ahead, into the second level. */
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
            keys[t] = kv_load(k, quad->scales[0], row, d, type);
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
    vf block_largest = v_set(-INFINITY), sums = v_zero();
    for (uint32_t token = 0; token < SPI_BLOCK_TOKENS; token += step) {
        block_largest = v_max(block_largest, v_load(quad->scores + token * QUAD));
    }
    float block[QUAD];
    v_store_max_four(block, block_largest);
    vf before = v_load_four(quad->largest), largest = v_max(v_load_four(block), before);
    vf shifts = v_max(largest, v_set(-FLT_MAX)); /* nothing seen yet: all weights, and the factor, are 0 */
    v_store_max_four(quad->largest, largest);
    v_store_max_four(quad->factor, v_exp(v_sub(before, shifts)));
    for (uint32_t token = 0; token < SPI_BLOCK_TOKENS; token += step) {
        vf weight = v_exp(v_sub(v_load(quad->scores + token * QUAD), shifts));
        v_store(quad->scores + token * QUAD, weight);
        sums = v_add(sums, weight);
    }
    float parts[V_WIDTH];
    v_store(parts, sums);
    for (uint32_t i = 0; i < QUAD; i++) {
        float sum = 0;
        for (uint32_t j = i; j < V_WIDTH; j += QUAD) {
            sum += parts[j];
        }
        quad->total[i] = quad->total[i] * quad->factor[i] + sum;
    }
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
            values[u] = kv_load(v, quad->scales[1], row, d + u * V_WIDTH, type);
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

/* One block for four queries; next: the base of the block to ask for. Tokens outside of what the four see may hold
 * anything: their weights are set, not computed, and their values are not read. */
SPI_INLINE void attention_block(const spi_cpu_attention *args, attention_quad *quad, uint32_t base, uint32_t next,
                                const uint32_t head_dim, const kv_rows type) {
    uint32_t first = UINT32_MAX, end = 0, inner_first = 0, inner_end = UINT32_MAX;
    for (uint32_t i = 0; i < QUAD; i++) {
        first = quad->first[i] < first ? quad->first[i] : first;
        end = quad->end[i] > end ? quad->end[i] : end;
        inner_first = quad->first[i] > inner_first ? quad->first[i] : inner_first;
        inner_end = quad->end[i] < inner_end ? quad->end[i] : inner_end;
    }
    if (end <= base || first >= base + SPI_BLOCK_TOKENS) {
        return;
    }
    bool whole = inner_first <= base && inner_end >= base + SPI_BLOCK_TOKENS;
    first = first > base ? first - base : 0;
    end = end - base < SPI_BLOCK_TOKENS ? end - base : SPI_BLOCK_TOKENS;
    const void *k = args->blocks + spi_kv_row_offset(args->kv, args->layer, 0, args->kv_head, base);
    const void *v = args->blocks + spi_kv_row_offset(args->kv, args->layer, 1, args->kv_head, base);
    const void *k_next = args->blocks + spi_kv_row_offset(args->kv, args->layer, 0, args->kv_head, next);
    const void *v_next = args->blocks + spi_kv_row_offset(args->kv, args->layer, 1, args->kv_head, next);
    const void *behind_k = type == KV_ROWS_F16 ? v : k_next, *behind_v = type == KV_ROWS_F16 ? k_next : v_next;
    if (type == KV_ROWS_F32) {
        k = quad->rows[0];
        v = quad->rows[1];
    }
    attention_scores(quad, k, behind_k, first, end, head_dim, type);
    if (args->softcap != 0) {
        attention_cap(quad, args->softcap);
    }
    if (!whole) {
        attention_mask(quad, base);
    }
    attention_softmax(quad);
    attention_all_values(quad, v, behind_v, first, end, head_dim, type);
}

/* Compiled for both types and the widths that models have, and for all others. */
typedef void attention_kernel(const spi_cpu_attention *args, attention_quad *quad, uint32_t base, uint32_t next);
#define KERNEL(name, head_dim, type)                                                                                   \
    static void name(const spi_cpu_attention *args, attention_quad *quad, uint32_t base, uint32_t next) {              \
        attention_block(args, quad, base, next, head_dim, type);                                                       \
    }
KERNEL(attention_f16_64, 64, KV_ROWS_F16)
KERNEL(attention_f16_128, 128, KV_ROWS_F16)
KERNEL(attention_f16_any, args->kv->head_dim, KV_ROWS_F16)
KERNEL(attention_q8_64, 64, KV_ROWS_Q8)
KERNEL(attention_q8_128, 128, KV_ROWS_Q8)
KERNEL(attention_q8_any, args->kv->head_dim, KV_ROWS_Q8)
KERNEL(attention_f32_64, 64, KV_ROWS_F32)
KERNEL(attention_f32_128, 128, KV_ROWS_F32)
KERNEL(attention_f32_any, args->kv->head_dim, KV_ROWS_F32)
#undef KERNEL

static attention_kernel *attention_pick(uint32_t head_dim, kv_rows type) {
    static attention_kernel *const kernels[3][3] = {{attention_f16_64, attention_f16_128, attention_f16_any},
                                                    {attention_q8_64, attention_q8_128, attention_q8_any},
                                                    {attention_f32_64, attention_f32_128, attention_f32_any}};
    return kernels[type][head_dim == 64 ? 0 : head_dim == 128 ? 1 : 2];
}

/* Query `index` of the item: row index / group, head index % group. */
static size_t attention_offset(const spi_cpu_attention *args, uint32_t index) {
    return index / args->group * args->row_stride + (size_t)(index % args->group) * args->kv->head_dim;
}

static void attention_fill(const spi_cpu_attention *args, attention_quad *quad, uint32_t index, uint32_t count) {
    uint32_t head_dim = args->kv->head_dim;
    for (uint32_t i = 0; i < QUAD; i++) {
        bool padding = index + i >= count;
        uint32_t from = padding ? count - 1 : index + i; /* padding repeats the last query; nobody reads its result */
        uint32_t position = args->position_first + from / args->group;
        quad->first[i] = args->window && position + 1 > args->window ? position + 1 - args->window : 0;
        quad->end[i] = position + 1;
        const float *q = args->q + attention_offset(args, from);
        for (uint32_t d = 0; d < head_dim; d += V_WIDTH) {
            v_store(quad->q + i * head_dim + d, v_mul(v_load(q + d), v_set(args->scale)));
        }
    }
}

/* The item's quads, in its scratch; returns the room behind them. */
static float *attention_begin(const spi_cpu_attention *args, uint32_t quads) {
    attention_quad *all = args->scratch;
    float *room = (float *)(void *)(((uintptr_t)(all + quads) + 63) & ~(uintptr_t)63), *scales = room;
    uint32_t scale_count = SPI_BLOCK_TOKENS * (args->kv->head_dim / SPI_KV_SCALE_COLUMNS);
    float *rows = scales + 2 * (size_t)scale_count;
    room += spi_kv_is_q8(args->kv) ? kv_scratch_floats(args->kv->head_dim) : 0;
    for (uint32_t i = 0; i < quads; i++) {
        all[i].q = room + (size_t)i * QUAD * args->kv->head_dim;
        all[i].record = args->kv->head_dim + RECORD_SUMS;
        all[i].scales[0] = scales;
        all[i].scales[1] = scales + scale_count;
        all[i].rows[0] = rows;
        all[i].rows[1] = rows + (size_t)SPI_BLOCK_TOKENS * args->kv->head_dim;
        attention_fill(args, &all[i], i * QUAD, args->row_count * args->group);
    }
    return room + (size_t)quads * QUAD * args->kv->head_dim;
}

/* What all quads take of a block of Q8_0: its scales, and where there are several its rows. Both ways give the same
 * numbers, since a code times its scale is no more than f32 holds. */
static void attention_prepare(const spi_cpu_attention *args, attention_quad *all, uint32_t base, uint32_t next,
                              kv_rows type) {
    const spi_kv_shape *kv = args->kv;
    const uint8_t *blocks = args->blocks;
    for (uint32_t which = 0; which < 2; which++) {
        uint64_t at = spi_kv_scale_offset(kv, args->layer, which, args->kv_head, base);
        uint64_t then = spi_kv_scale_offset(kv, args->layer, which, args->kv_head, next);
        kv_scales(blocks + at, (int64_t)(then - at), kv->head_dim, all->scales[which]);
    }
    for (uint32_t which = 0; which < 2 && type == KV_ROWS_F32; which++) {
        uint64_t at = spi_kv_row_offset(kv, args->layer, which, args->kv_head, base);
        uint64_t then = spi_kv_row_offset(kv, args->layer, which, args->kv_head, next);
        kv_expand(blocks + at, all->scales[which], blocks + then, kv->head_dim, all->rows[which]);
    }
}

/* The records of all queries for one chunk. */
static void attention_chunk(const spi_cpu_attention *args, uint32_t quads, uint32_t chunk, float *records) {
    attention_quad *all = args->scratch;
    uint32_t base = chunk * SPI_ATTENTION_CHUNK, end = base + SPI_ATTENTION_CHUNK, record = all->record;
    uint32_t last = args->position_first + args->row_count - 1, first = all->first[0];
    kv_rows type = !spi_kv_is_q8(args->kv) ? KV_ROWS_F16 : quads < EXPAND_QUADS ? KV_ROWS_Q8 : KV_ROWS_F32;
    attention_kernel *block = attention_pick(args->kv->head_dim, type);
    end = end > last + 1 ? last + 1 : end;
    base = first > base ? first / SPI_BLOCK_TOKENS * SPI_BLOCK_TOKENS : base;
#if defined(TABLE_AMX)
    if (amx_takes(args)) {
        size_t used = attention_quads_bytes(args->row_count, args->group, args->kv->head_dim);
        amx_attention_chunk(args, all, base, end, records, (uint8_t *)args->scratch + used);
        return;
    }
#endif
    for (uint32_t i = 0; i < quads; i++) {
        all[i].sums = records + (size_t)i * QUAD * record;
        memset(all[i].sums, 0, QUAD * record * sizeof(float));
        for (uint32_t k = 0; k < QUAD; k++) {
            all[i].largest[k] = -INFINITY;
            all[i].total[k] = 0;
        }
    }
    for (; base < end; base += SPI_BLOCK_TOKENS) {
        uint32_t next = base + SPI_BLOCK_TOKENS <= last ? base + SPI_BLOCK_TOKENS : base;
        if (type != KV_ROWS_F16) {
            attention_prepare(args, all, base, next, type);
        }
        for (uint32_t i = 0; i < quads; i++) {
            block(args, &all[i], base, next);
        }
    }
    for (uint32_t i = 0; i < quads * QUAD; i++) {
        records[(size_t)i * record + RECORD_LARGEST] = all[i / QUAD].largest[i % QUAD];
        records[(size_t)i * record + RECORD_TOTAL] = all[i / QUAD].total[i % QUAD];
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

static void attention_finish(const spi_cpu_attention *args, const float *records) {
    uint32_t head_dim = args->kv->head_dim;
    for (uint32_t index = 0; index < args->row_count * args->group; index++) {
        const float *record = records + (size_t)index * (head_dim + RECORD_SUMS);
        float *dst = args->dst + attention_offset(args, index), factor = 1 / record[RECORD_TOTAL];
        for (uint32_t d = 0; d < head_dim; d++) {
            dst[d] = record[RECORD_SUMS + d] * factor;
        }
    }
}

static void attention_part(const spi_cpu_attention *args) {
    uint32_t quads = attention_quads(args->row_count, args->group);
    attention_begin(args, quads);
    attention_chunk(args, quads, args->chunk_first, args->records);
}

static void attention_combine(const spi_cpu_attention *args) {
    uint32_t head_dim = args->kv->head_dim, record = head_dim + RECORD_SUMS, count = args->row_count * args->group;
    size_t chunk_floats = (size_t)attention_quads(args->row_count, args->group) * QUAD * record;
    float *merged = args->scratch;
    attention_clear(merged, count, record);
    for (uint32_t chunk = 0; chunk < args->chunk_count; chunk++) {
        for (uint32_t i = 0; i < count; i++) {
            attention_merge(merged + (size_t)i * record, args->records + chunk * chunk_floats + (size_t)i * record,
                            head_dim);
        }
    }
    attention_finish(args, merged);
}

static void attention(const spi_cpu_attention *args) {
    uint32_t head_dim = args->kv->head_dim, record = head_dim + RECORD_SUMS, count = args->row_count * args->group;
    if (head_dim % V_WIDTH) {
        spi_cpu_attention_reference(args);
        return;
    }
    uint32_t quads = attention_quads(args->row_count, args->group);
    float *records = attention_begin(args, quads), *merged = records + (size_t)quads * QUAD * record;
    attention_clear(merged, count, record);
    for (uint32_t chunk = 0; chunk < args->chunk_count; chunk++) {
        attention_chunk(args, quads, args->chunk_first + chunk, records);
        for (uint32_t i = 0; i < count; i++) {
            attention_merge(merged + (size_t)i * record, records + (size_t)i * record, head_dim);
        }
    }
    attention_finish(args, merged);
}

#endif
