/* device/cpu/attention_body.h - attention over KV blocks, for the vectors of vector.h.
 *
 * The queries of an item (some rows x the heads of a group) go four at a time through one pass over the blocks: K and V
 * are read and widened once for four queries, and stay in the first-level cache for the others. Softmax is the online
 * one (Milakov and Gimelshein, arXiv:1805.02867), block by block of 64 tokens, so the order of sums depends on positions
 * alone. Included by kernels_avx2.c and kernels_avx512.c.
 */
#ifndef SPI_DEVICE_CPU_ATTENTION_BODY_H
#define SPI_DEVICE_CPU_ATTENTION_BODY_H

#include <math.h>

#include "device/cpu/kernels.h"
#include "device/cpu/vector.h"

#define QUAD 4u

typedef struct attention_quad {
    float scores[SPI_BLOCK_TOKENS * QUAD]; /* [token][query]; then weights */
    float largest[QUAD], total[QUAD], factor[QUAD];
    uint32_t first[QUAD], end[QUAD]; /* the positions that each query sees; none for padding */
    float *q, *sums;                 /* [QUAD][head_dim] */
} attention_quad;

static size_t attention_scratch_bytes(uint32_t row_count, uint32_t group, uint32_t head_dim) {
    size_t quads = ((size_t)row_count * group + QUAD - 1) / QUAD;
    size_t fast = quads * (sizeof(attention_quad) + 2 * QUAD * (size_t)head_dim * sizeof(float) + 64);
    size_t slow = spi_cpu_attention_scratch_reference(row_count, group, head_dim);
    return fast > slow ? fast : slow;
}

/* Scores of tokens [first, end) of a block; one more may be computed, its bytes are of the block too. */
SPI_INLINE void attention_scores(attention_quad *quad, const uint16_t *k, uint32_t first, uint32_t end,
                                 uint32_t head_dim) {
    for (uint32_t token = first & ~1u; token < end; token += 2) {
        vf sums[8];
#pragma GCC unroll 8
        for (uint32_t i = 0; i < 8; i++) {
            sums[i] = v_zero();
        }
        const uint16_t *row = k + (size_t)token * head_dim;
        for (uint32_t d = 0; d < head_dim; d += V_WIDTH) {
            vf k0 = v_load_f16(row + d), k1 = v_load_f16(row + head_dim + d);
#pragma GCC unroll 4
            for (uint32_t i = 0; i < QUAD; i++) {
                vf q = v_load(quad->q + i * head_dim + d);
                sums[i] = v_fma(k0, q, sums[i]);
                sums[4 + i] = v_fma(k1, q, sums[4 + i]);
            }
        }
        _mm256_storeu_ps(quad->scores + token * QUAD, v_sums(sums));
    }
}

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
    float block[QUAD], shift[QUAD];
    _mm_storeu_ps(block, v_fold_max_four(block_largest));
    for (uint32_t i = 0; i < QUAD; i++) {
        float largest = block[i] > quad->largest[i] ? block[i] : quad->largest[i];
        shift[i] = largest == -INFINITY ? 0 : largest; /* nothing seen yet: all weights are 0 */
        quad->factor[i] = quad->largest[i] == -INFINITY ? 0 : expf(quad->largest[i] - largest);
        quad->largest[i] = largest;
    }
    vf shifts = v_load_four(shift);
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
SPI_INLINE void attention_values(attention_quad *quad, const uint16_t *v, uint32_t first, uint32_t end,
                                 uint32_t head_dim, uint32_t d, const uint32_t vectors) {
    vf sums[QUAD][2];
#pragma GCC unroll 4
    for (uint32_t i = 0; i < QUAD; i++) {
#pragma GCC unroll 2
        for (uint32_t u = 0; u < vectors; u++) {
            float *at = quad->sums + i * head_dim + d + u * V_WIDTH;
            sums[i][u] = v_mul(v_load(at), v_set(quad->factor[i]));
        }
    }
    for (uint32_t token = first; token < end; token++) {
        const uint16_t *row = v + (size_t)token * head_dim + d;
        vf values[2];
#pragma GCC unroll 2
        for (uint32_t u = 0; u < vectors; u++) {
            values[u] = v_load_f16(row + u * V_WIDTH);
        }
#pragma GCC unroll 4
        for (uint32_t i = 0; i < QUAD; i++) {
            vf weight = v_set(quad->scores[token * QUAD + i]);
#pragma GCC unroll 2
            for (uint32_t u = 0; u < vectors; u++) {
                sums[i][u] = v_fma(values[u], weight, sums[i][u]);
            }
        }
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < QUAD; i++) {
#pragma GCC unroll 2
        for (uint32_t u = 0; u < vectors; u++) {
            v_store(quad->sums + i * head_dim + d + u * V_WIDTH, sums[i][u]);
        }
    }
}

/* One block for four queries. Tokens outside of what the four see may hold anything: their weights are set, not
 * computed, and their values are not read. */
static void attention_block(const spi_cpu_attention *args, attention_quad *quad, uint32_t base) {
    uint32_t first = UINT32_MAX, end = 0, inner_first = 0, inner_end = UINT32_MAX, head_dim = args->kv->head_dim;
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
    uint64_t k = spi_kv_row_offset(args->kv, args->layer, 0, args->kv_head, base);
    uint64_t v = spi_kv_row_offset(args->kv, args->layer, 1, args->kv_head, base);
    attention_scores(quad, (const uint16_t *)(const void *)(args->blocks + k), first, end, head_dim);
    if (args->softcap != 0) {
        attention_cap(quad, args->softcap);
    }
    if (!whole) {
        attention_mask(quad, base);
    }
    attention_softmax(quad);
    const uint16_t *values = (const uint16_t *)(const void *)(args->blocks + v);
    uint32_t d = 0;
    for (; d + 2 * V_WIDTH <= head_dim; d += 2 * V_WIDTH) {
        attention_values(quad, values, first, end, head_dim, d, 2);
    }
    if (d < head_dim) {
        attention_values(quad, values, first, end, head_dim, d, 1);
    }
}

/* Query `index` of the item: row index / group, head index % group. */
static size_t attention_offset(const spi_cpu_attention *args, uint32_t index) {
    return index / args->group * args->row_stride + (size_t)(index % args->group) * args->kv->head_dim;
}

static void attention_fill(const spi_cpu_attention *args, attention_quad *quad, uint32_t index, uint32_t count) {
    uint32_t head_dim = args->kv->head_dim;
    for (uint32_t i = 0; i < QUAD; i++) {
        float *q = quad->q + i * head_dim, *sums = quad->sums + i * head_dim;
        bool padding = index + i >= count;
        uint32_t from = padding ? count - 1 : index + i; /* padding repeats the last query; nobody reads its result */
        uint32_t position = args->position_first + from / args->group;
        quad->first[i] = args->window && position + 1 > args->window ? position + 1 - args->window : 0;
        quad->end[i] = position + 1;
        quad->largest[i] = -INFINITY;
        quad->total[i] = 0;
        for (uint32_t d = 0; d < head_dim; d++) {
            q[d] = args->q[attention_offset(args, from) + d] * args->scale;
            sums[d] = 0;
        }
    }
}

static void attention(const spi_cpu_attention *args) {
    uint32_t head_dim = args->kv->head_dim, count = args->row_count * args->group, quads = (count + QUAD - 1) / QUAD;
    if (head_dim % V_WIDTH) {
        spi_cpu_attention_reference(args);
        return;
    }
    attention_quad *all = args->scratch;
    float *room = (float *)(void *)(all + quads);
    uint32_t first = UINT32_MAX, end = args->position_first + args->row_count;
    for (uint32_t i = 0; i < quads; i++) {
        all[i].q = room + (size_t)2 * i * QUAD * head_dim;
        all[i].sums = all[i].q + (size_t)QUAD * head_dim;
        attention_fill(args, &all[i], i * QUAD, count);
        first = all[i].first[0] < first ? all[i].first[0] : first;
    }
    for (uint32_t base = first / SPI_BLOCK_TOKENS * SPI_BLOCK_TOKENS; base < end; base += SPI_BLOCK_TOKENS) {
        for (uint32_t i = 0; i < quads; i++) {
            attention_block(args, &all[i], base);
        }
    }
    for (uint32_t index = 0; index < count; index++) {
        const attention_quad *quad = &all[index / QUAD];
        const float *sums = quad->sums + (size_t)(index % QUAD) * head_dim;
        float *dst = args->dst + attention_offset(args, index), factor = 1 / quad->total[index % QUAD];
        for (uint32_t d = 0; d < head_dim; d++) {
            dst[d] = sums[d] * factor;
        }
    }
}

#endif
