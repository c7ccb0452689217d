/* device/cpu/attention_amx_body.h - a chunk of attention of many queries on AMX's tiles, to what f32 gives.
 *
 * Tiles multiply bf16. A number is taken as the sum of two of them: of f16, which keys and values are, nothing is lost
 * then, of queries and weights what lies beyond 16 bits. Three products of four make the result: low times low is left
 * out. Sixteen queries are the lanes of a vector, so largest scores and sums of weights need no folding. Included by
 * attention_body.h.
 *
 * Numbers of a tile may be summed in any order, if both factors have the same: pair i of 32 columns is i and i + 16,
 * which vectors make without moving lanes. May include: device, os, base.
 */
#ifndef SPI_DEVICE_CPU_ATTENTION_AMX_BODY_H
#define SPI_DEVICE_CPU_ATTENTION_AMX_BODY_H

#include "device/cpu/amx_tiles.h"
#include "device/cpu/amx_vectors.h"

#define AMX_QUERIES     16u /* of a tile, and lanes of a vector */
#define AMX_QUERIES_MIN 8u  /* with fewer, most of a tile would be idle */
#define AMX_HEAD_STEP   64u /* head_dim is a multiple of it */

/* Sixteen queries. Tiles as in amx_take_tile: [step of 32 columns][high, low]. */
typedef struct amx_queries {
    _Alignas(64) float largest[AMX_QUERIES], total[AMX_QUERIES], factor[AMX_QUERIES];
    int32_t first[AMX_QUERIES], end[AMX_QUERIES];
    uint32_t from, until, inner_from, inner_until; /* what any of them sees, what all of them see */
    uint8_t *tiles;
    float *sums; /* [query][head_dim] */
} amx_queries;

/* What is made of a block's keys and values, and of sixteen queries' scores. */
typedef struct amx_room {
    _Alignas(64) float scores[SPI_BLOCK_TOKENS * AMX_QUERIES]; /* [token][query]; then weights */
    uint8_t weights[4 * AMX_TILE_BYTES];                       /* [half of the block][high, low], rows: queries */
    uint8_t *keys;   /* [step of 32 columns][16 tokens][high, low] tiles, rows: tokens */
    uint8_t *values; /* [16 columns][half of the block][high, low] tiles, rows: pairs of tokens */
    amx_queries *queries;
    uint32_t count; /* of sixteens */
} amx_room;

static size_t amx_attention_bytes(uint32_t row_count, uint32_t group, uint32_t head_dim) {
    size_t sixteens = (row_count * group + AMX_QUERIES - 1) / AMX_QUERIES;
    size_t block = (size_t)SPI_BLOCK_TOKENS * head_dim * 2 * sizeof(uint16_t);
    return sizeof(amx_room) + 2 * block + sixteens * (sizeof(amx_queries) + 2 * AMX_QUERIES * head_dim * sizeof(float));
}

/* Sixteen numbers of f16 and the sixteen behind them, pair by pair: high and low halves, which are exact. */
SPI_INLINE void amx_split_halves(__m512 a, __m512 b, uint8_t *high, uint8_t *low) {
    const __m512i mask = _mm512_set1_epi32((int32_t)0xffff0000);
    __m512 a_high = _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), mask));
    __m512 b_high = _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(b), mask));
    vi_store(high, amx_pair_cut(a, b));
    vi_store(low, amx_pair_cut(v_sub(a, a_high), v_sub(b, b_high)));
}

/* The same of numbers that two halves do not hold: rounded. */
SPI_INLINE void amx_split(__m512 a, __m512 b, __m512i *high, __m512i *low) {
    __m512 a_high = amx_round(a), b_high = amx_round(b);
    *high = amx_pair_cut(a_high, b_high);
    *low = amx_pair(v_sub(a, a_high), v_sub(b, b_high));
}

/* Tokens [first, end) of a block of keys and of one of values; of others values are zero, and keys whatever is
 * there. */
static void amx_take_block(const amx_room *room, const uint16_t *k, const uint16_t *v, uint32_t first, uint32_t end,
                           uint32_t head_dim) {
    for (uint32_t token = 0; token < SPI_BLOCK_TOKENS; token++) {
        uint8_t *to = room->keys + (size_t)token / 16 * 2 * AMX_TILE_BYTES + token % 16 * AMX_ROW_BYTES;
        const uint16_t *row = k + (size_t)token * head_dim;
        for (uint32_t d = 0; d < head_dim; d += 32, to += SPI_BLOCK_TOKENS / 16 * 2 * AMX_TILE_BYTES) {
            amx_split_halves(v_load_f16(row + d), v_load_f16(row + d + 16), to, to + AMX_TILE_BYTES);
        }
    }
    for (uint32_t pair = 0; pair < SPI_BLOCK_TOKENS / 2; pair++) {
        const uint32_t a = pair / 16 * 32 + pair % 16, b = a + 16;
        uint8_t *to = room->values + (size_t)pair / 16 * 2 * AMX_TILE_BYTES + pair % 16 * AMX_ROW_BYTES;
        for (uint32_t d = 0; d < head_dim; d += 16, to += 4 * AMX_TILE_BYTES) {
            vf x = a >= first && a < end ? v_load_f16(v + (size_t)a * head_dim + d) : v_zero();
            vf y = b >= first && b < end ? v_load_f16(v + (size_t)b * head_dim + d) : v_zero();
            amx_split_halves(x, y, to, to + AMX_TILE_BYTES);
        }
    }
}

/* Scores of 64 tokens: rows of tiles are tokens, columns queries. */
static void amx_scores(amx_room *room, const amx_queries *queries, uint32_t head_dim) {
    const uint8_t *q = queries->tiles, *k = room->keys;
    amx_zero(0);
    amx_zero(1);
    amx_zero(2);
    amx_zero(3);
    for (uint32_t d = 0; d < head_dim; d += 32, q += 2 * AMX_TILE_BYTES, k += 8 * AMX_TILE_BYTES) {
        amx_load(6, q, AMX_ROW_BYTES);
        amx_load(7, q + AMX_TILE_BYTES, AMX_ROW_BYTES);
#define TOKENS(tile)                                                                                                   \
    amx_load(4, k + 2 * (tile)*AMX_TILE_BYTES, AMX_ROW_BYTES);                                                         \
    amx_load(5, k + (2 * (tile) + 1) * AMX_TILE_BYTES, AMX_ROW_BYTES);                                                 \
    amx_multiply(tile, 4, 6);                                                                                          \
    amx_multiply(tile, 4, 7);                                                                                          \
    amx_multiply(tile, 5, 6)
        TOKENS(0);
        TOKENS(1);
        TOKENS(2);
        TOKENS(3);
#undef TOKENS
    }
    amx_store(0, room->scores, AMX_ROW_BYTES);
    amx_store(1, room->scores + 16 * AMX_QUERIES, AMX_ROW_BYTES);
    amx_store(2, room->scores + 32 * AMX_QUERIES, AMX_ROW_BYTES);
    amx_store(3, room->scores + 48 * AMX_QUERIES, AMX_ROW_BYTES);
}

static void amx_cap_and_mask(amx_room *room, const amx_queries *queries, uint32_t base, float softcap, bool whole) {
    const __m512i first = _mm512_load_si512(queries->first), end = _mm512_load_si512(queries->end);
    for (uint32_t token = 0; token < SPI_BLOCK_TOKENS; token++) {
        float *at = room->scores + token * AMX_QUERIES;
        vf x = v_load(at);
        if (softcap != 0) {
            x = v_mul(v_tanh(v_div(x, v_set(softcap))), v_set(softcap));
        }
        if (!whole) {
            const __m512i position = _mm512_set1_epi32((int32_t)(base + token));
            __mmask16 seen = _mm512_cmple_epi32_mask(first, position) & _mm512_cmplt_epi32_mask(position, end);
            x = _mm512_mask_blend_ps(seen, v_set(-INFINITY), x);
        }
        v_store(at, x);
    }
}

/* e^x, or 0 where that changes no sum of f32 that 1 is in. Masked scores are there: e to their power is no normal
 * number, and Intel's processors take a hundred cycles and more for each vector in which there is such a one. */
SPI_INLINE vf amx_weight(vf x) {
    const vf least = v_set(-60);
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, least, _CMP_GE_OQ), v_exp(v_max(x, least)));
}

/* See attention_softmax. False: sums of earlier blocks stay as they are. */
static bool amx_softmax(amx_room *room, amx_queries *queries) {
    vf largest[4] = {v_set(-INFINITY), v_set(-INFINITY), v_set(-INFINITY), v_set(-INFINITY)};
    for (uint32_t token = 0; token < SPI_BLOCK_TOKENS; token += 4) {
        for (uint32_t i = 0; i < 4; i++) {
            largest[i] = v_max(largest[i], v_load(room->scores + (token + i) * AMX_QUERIES));
        }
    }
    const vf nothing = v_set(-INFINITY), old = v_load(queries->largest);
    vf now = v_max(old, v_max(v_max(largest[0], largest[1]), v_max(largest[2], largest[3])));
    vf shift = _mm512_mask_blend_ps(_mm512_cmpeq_ps_mask(now, nothing), now, v_zero());
    vf factor = _mm512_maskz_mov_ps(_mm512_cmpneq_ps_mask(old, nothing), amx_weight(v_sub(old, shift)));
    vf sums[2] = {v_zero(), v_zero()};
    for (uint32_t token = 0; token < SPI_BLOCK_TOKENS; token += 2) {
        for (uint32_t i = 0; i < 2; i++) {
            float *at = room->scores + (token + i) * AMX_QUERIES;
            vf weight = amx_weight(v_sub(v_load(at), shift));
            sums[i] = v_add(sums[i], weight);
            v_store(at, weight);
        }
    }
    v_store(queries->largest, now);
    v_store(queries->factor, factor);
    v_store(queries->total, v_fma(v_load(queries->total), factor, v_add(sums[0], sums[1])));
    return _mm512_cmpneq_ps_mask(factor, v_set(1)) != 0;
}

/* Weights as tiles whose rows are queries. */
static void amx_take_weights(amx_room *room) {
    for (uint32_t half = 0; half < 2; half++) {
        const float *from = room->scores + (size_t)half * 32 * AMX_QUERIES;
        __m512i high[16], low[16];
        for (uint32_t i = 0; i < 16; i++) {
            amx_split(v_load(from + i * AMX_QUERIES), v_load(from + (i + 16) * AMX_QUERIES), &high[i], &low[i]);
        }
        amx_transpose(high, room->weights + 2 * half * AMX_TILE_BYTES);
        amx_transpose(low, room->weights + (2 * half + 1) * AMX_TILE_BYTES);
    }
}

/* 64 columns of the sums. */
static void amx_add_values(const amx_room *room, float *sums, const uint8_t *values, size_t stride) {
    amx_load(0, sums, stride);
    amx_load(1, sums + 16, stride);
    amx_load(2, sums + 32, stride);
    amx_load(3, sums + 48, stride);
    for (uint32_t half = 0; half < 2; half++, values += 2 * AMX_TILE_BYTES) {
        amx_load(4, room->weights + 2 * half * AMX_TILE_BYTES, AMX_ROW_BYTES);
        amx_load(5, room->weights + (2 * half + 1) * AMX_TILE_BYTES, AMX_ROW_BYTES);
#define COLUMNS(tile)                                                                                                  \
    amx_load(6, values + 4 * (tile)*AMX_TILE_BYTES, AMX_ROW_BYTES);                                                    \
    amx_load(7, values + (4 * (tile) + 1) * AMX_TILE_BYTES, AMX_ROW_BYTES);                                            \
    amx_multiply(tile, 4, 6);                                                                                          \
    amx_multiply(tile, 5, 6);                                                                                          \
    amx_multiply(tile, 4, 7)
        COLUMNS(0);
        COLUMNS(1);
        COLUMNS(2);
        COLUMNS(3);
#undef COLUMNS
    }
    amx_store(0, sums, stride);
    amx_store(1, sums + 16, stride);
    amx_store(2, sums + 32, stride);
    amx_store(3, sums + 48, stride);
}

static void amx_attend(const spi_cpu_attention *args, amx_room *room, amx_queries *queries, uint32_t base) {
    const uint32_t head_dim = args->kv->head_dim;
    bool whole = queries->inner_from <= base && queries->inner_until >= base + SPI_BLOCK_TOKENS;
    if (queries->until <= base || queries->from >= base + SPI_BLOCK_TOKENS) {
        return;
    }
    amx_scores(room, queries, head_dim);
    if (!whole || args->softcap != 0) {
        amx_cap_and_mask(room, queries, base, args->softcap, whole);
    }
    if (amx_softmax(room, queries)) {
        for (uint32_t i = 0; i < AMX_QUERIES; i++) {
            float *sums = queries->sums + (size_t)i * head_dim;
            for (uint32_t d = 0; d < head_dim; d += V_WIDTH) {
                v_store(sums + d, v_mul(v_load(sums + d), v_set(queries->factor[i])));
            }
        }
    }
    amx_take_weights(room);
    for (uint32_t d = 0; d < head_dim; d += AMX_HEAD_STEP) {
        amx_add_values(room, queries->sums + d, room->values + (size_t)d / 16 * 4 * AMX_TILE_BYTES,
                       head_dim * sizeof(float));
    }
}

/* Queries 16 index .. of the quads, in tiles; the last one takes the place of what is missing. */
static void amx_take_queries(const attention_quad *quads, uint32_t index, uint32_t count, uint32_t head_dim,
                             amx_queries *to) {
    const float *q[AMX_QUERIES];
    *to = (amx_queries){.from = UINT32_MAX, .inner_until = UINT32_MAX, .tiles = to->tiles, .sums = to->sums};
    for (uint32_t i = 0; i < AMX_QUERIES; i++) {
        uint32_t at = index * AMX_QUERIES + i < count ? index * AMX_QUERIES + i : count - 1;
        const attention_quad *quad = &quads[at / QUAD];
        uint32_t first = quad->first[at % QUAD], end = quad->end[at % QUAD];
        to->largest[i] = -INFINITY;
        to->first[i] = (int32_t)first;
        to->end[i] = (int32_t)end;
        to->from = first < to->from ? first : to->from;
        to->until = end > to->until ? end : to->until;
        to->inner_from = first > to->inner_from ? first : to->inner_from;
        to->inner_until = end < to->inner_until ? end : to->inner_until;
        q[i] = quad->q + (size_t)(at % QUAD) * head_dim;
    }
    for (uint32_t d = 0; d < head_dim; d += 32) {
        __m512i high[AMX_QUERIES], low[AMX_QUERIES];
        for (uint32_t i = 0; i < AMX_QUERIES; i++) {
            amx_split(v_load(q[i] + d), v_load(q[i] + d + 16), &high[i], &low[i]);
        }
        amx_transpose(high, to->tiles + (size_t)d / 32 * 2 * AMX_TILE_BYTES);
        amx_transpose(low, to->tiles + ((size_t)d / 32 * 2 + 1) * AMX_TILE_BYTES);
    }
    memset(to->sums, 0, AMX_QUERIES * head_dim * sizeof *to->sums);
}

static amx_room *amx_open_room(const spi_cpu_attention *args, const attention_quad *quads, uint8_t *at) {
    const uint32_t head_dim = args->kv->head_dim, count = args->row_count * args->group;
    const size_t tiles_bytes = (size_t)AMX_QUERIES * head_dim * sizeof(float);
    amx_room *room = (amx_room *)(void *)at;
    room->count = (count + AMX_QUERIES - 1) / AMX_QUERIES;
    room->keys = at + sizeof *room;
    room->values = room->keys + (size_t)SPI_BLOCK_TOKENS * head_dim * 2 * sizeof(uint16_t);
    room->queries = (amx_queries *)(void *)(room->values + (room->values - room->keys));
    at = (uint8_t *)(room->queries + room->count);
    for (uint32_t i = 0; i < room->count; i++, at += 2 * tiles_bytes) {
        room->queries[i].tiles = at;
        room->queries[i].sums = (float *)(void *)(at + tiles_bytes);
        amx_take_queries(quads, i, count, head_dim, &room->queries[i]);
    }
    return room;
}

/* Keys and values in Q8_0 are left to vectors. */
static bool amx_takes(const spi_cpu_attention *args) {
    return !spi_kv_is_q8(args->kv) && args->row_count > 1 && args->row_count * args->group >= AMX_QUERIES_MIN &&
           args->kv->head_dim % AMX_HEAD_STEP == 0 && !args->alone;
}

/* See attention_chunk; `at` has room for amx_attention_bytes. */
static void amx_attention_chunk(const spi_cpu_attention *args, const attention_quad *quads, uint32_t base, uint32_t end,
                                float *records, uint8_t *at) {
    const uint32_t head_dim = args->kv->head_dim, record = head_dim + RECORD_SUMS;
    const uint32_t first = quads->first[0], count = args->row_count * args->group;
    amx_room *room = amx_open_room(args, quads, at);
    amx_begin();
    for (; base < end; base += SPI_BLOCK_TOKENS) {
        uint32_t left = end - base < SPI_BLOCK_TOKENS ? end - base : SPI_BLOCK_TOKENS;
        const void *k = args->blocks + spi_kv_row_offset(args->kv, args->layer, 0, args->kv_head, base);
        const void *v = args->blocks + spi_kv_row_offset(args->kv, args->layer, 1, args->kv_head, base);
        amx_take_block(room, k, v, first > base ? first - base : 0, left, head_dim);
        for (uint32_t i = 0; i < room->count; i++) {
            amx_attend(args, room, &room->queries[i], base);
        }
    }
    amx_end();
    for (uint32_t i = 0; i < count; i++) {
        const amx_queries *queries = &room->queries[i / AMX_QUERIES];
        float *to = records + (size_t)i * record;
        to[RECORD_LARGEST] = queries->largest[i % AMX_QUERIES];
        to[RECORD_TOTAL] = queries->total[i % AMX_QUERIES];
        memcpy(to + RECORD_SUMS, queries->sums + (size_t)(i % AMX_QUERIES) * head_dim, head_dim * sizeof *to);
    }
}

#endif
