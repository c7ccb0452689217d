/* device/cpu/attention_body.h - attention over KV blocks: which queries meet which blocks, in which order.
 *
 * The queries of an item (some rows x the heads of a group) go four at a time through one pass over the blocks
 * (attention_quad_body.h), which stay in the first-level cache for the others. An item may have several KV heads: of a
 * block K of all of them is read first and then their V, which is the order in memory, since pieces of 8 KiB far from
 * each other are not read at memory's pace. Softmax goes on inside of a chunk; the sums of chunks are then merged in
 * their order. Blocks and chunks are those of positions, so a row's result is the same bits whoever computes which
 * chunk, and whatever rows are computed beside it. Included by kernels_*.c. May include: device, os, base.
 */
#ifndef SPI_DEVICE_CPU_ATTENTION_BODY_H
#define SPI_DEVICE_CPU_ATTENTION_BODY_H

#include <math.h>
#include <string.h>

#include "device/cpu/attention_quad_body.h"

/* From so many quads on rows of Q8_0 are widened once for all of them. With vectors of eight it does not pay: rows in
 * f32 come from the second level of the cache, at twice as many loads (0.81 of F16's speed at a prompt behind 8k
 * tokens, against 0.86; with sixteen 1.03 against 0.84). */
#if V_WIDTH == 16
#define EXPAND_QUADS 2u
#else
#define EXPAND_QUADS UINT32_MAX
#endif

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
