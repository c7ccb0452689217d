/* device/cpu/amx_few_body.h - products of some sixteen tokens with quantised weights on AMX's tiles.
 *
 * Scaling and rounding each weight, as products of many tokens do (amx_body.h), would take longer than what is done
 * with it. Here codes alone are taken as bf16, which holds them exactly: a look-up of words makes two of them. The sums
 * of a block of 32 columns leave the tiles, and vectors scale them, 16 rows of a token at a time: less work than
 * expanding, and sums are exact but for the rounding of activations. Types of which that is true, and faster, are in
 * products.h.
 *
 * Work is a stream of items, four blocks of sixteen rows, in the order in which they lie. While tiles multiply one,
 * vectors expand the next and scale the one before the last: nobody waits for what has just been made. Included by
 * products_amx.c. May include: device, dtype, os, base.
 */
#ifndef SPI_DEVICE_CPU_AMX_FEW_BODY_H
#define SPI_DEVICE_CPU_AMX_FEW_BODY_H

#include "device/cpu/amx_body.h"

#define FEW_BLOCKS      4u /* of an item */
#define FEW_RING        4u /* items whose scales are kept */
#define FEW_AHEAD_BYTES 8192u

/* A block's lines have the same places in their pages everywhere, and only every fourth block has the same ones: loads
 * whose addresses have the last 12 bits of a store's that is on its way wait for it. */
typedef struct few_room {
    uint8_t tiles[FEW_BLOCKS][AMX_TILE_BYTES];
    float sums[FEW_BLOCKS][AMX_ROWS * AMX_ROWS]; /* [token][row] */
    uint8_t acts[SPI_AMX_FEW_COLS / AMX_STEP][AMX_TILE_BYTES];
    float scales[FEW_RING][FEW_BLOCKS][2][AMX_ROWS];       /* scale, min */
    float totals[SPI_PACKED_SETS][AMX_ROWS * AMX_ROWS];    /* [token][row] */
    float act_sums[SPI_AMX_FEW_COLS / AMX_STEP][AMX_ROWS]; /* of a block's activations, for minima */
} few_room;
_Static_assert(sizeof(few_room) <= SPI_AMX_SCRATCH_BYTES, "see products.h");

/* An item's place. */
typedef struct few_place {
    const uint8_t *unit;
    uint32_t part, set, block, row; /* four blocks of the unit; the unit's first block of the row; the product's row */
} few_place;

SPI_INLINE uint32_t few_parts(sp_dtype type) {
    return spi_packed_unit_blocks(type) / FEW_BLOCKS;
}

/* The item behind this one, where it lies. */
SPI_INLINE void few_move_on(sp_dtype type, const spi_cpu_product *args, few_place *place) {
    if (++place->part < few_parts(type)) {
        return;
    }
    place->part = 0;
    place->unit += spi_packed_unit_bytes(type, V_WIDTH, &args->tensor->affine);
    if (++place->set < SPI_PACKED_SETS) {
        return;
    }
    place->set = 0;
    place->block += spi_packed_unit_blocks(type);
    if (place->block * AMX_STEP >= args->cols) {
        place->block = 0;
        place->row += AMX_GROUP_ROWS;
    }
}

/* Whether the columns have this block of the item: a row's last unit may not be full. */
SPI_INLINE bool few_has(const spi_cpu_product *args, const few_place *place, uint32_t b) {
    return (place->block + place->part * FEW_BLOCKS + b) * AMX_STEP < args->cols;
}

/* ---- codes as bf16 ---- */

/* By a code of up to five bits; of one of four bits, the fifth is any. */
SPI_INLINE __m512i few_table(sp_dtype type) {
    uint16_t words[32];
    const uint32_t bits = spi_packed_low_bits(type) + spi_packed_high_bits(type);
    for (uint32_t i = 0; i < 32; i++) {
        const uint32_t code = i % (1u << bits);
        int32_t value = (int32_t)code;
        if (type == SP_IQ4_NL || type == SP_IQ4_XS) {
            value = (uint8_t)codes_iq4[code];
        } else if (type == SP_MXFP4) {
            value = codes_mxfp4[code];
        }
        const float number = (float)(value - 8 * (int32_t)codes_offset(type));
        uint32_t all;
        memcpy(&all, &number, sizeof all);
        words[i] = (uint16_t)(all >> 16);
    }
    return _mm512_loadu_si512(words);
}

/* Bytes 0 and 2 of a lane next to each other, and 1 and 3: a shift by 8 then brings the second pair of columns to where
 * the first was. */
SPI_INLINE __m512i few_order(__m512i codes) {
    return _mm512_shuffle_epi8(codes, _mm512_set4_epi32(0x0f0d0e0c, 0x0b090a08, 0x07050604, 0x03010200));
}

/* Two lines, of four columns, from bytes in few_order. */
SPI_INLINE void few_words(__m512i codes, __m512i table, uint8_t *to) {
    vi_store(to, _mm512_permutexvar_epi16(codes, table));
    vi_store(to + AMX_ROW_BYTES, _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 8), table));
}

/* A block of sixteen rows. */
SPI_INLINE void few_expand_block(sp_dtype type, const uint8_t *block, __m512i table, uint8_t *tile) {
    const bool nibbles = spi_packed_low_bits(type) == 4 && spi_packed_high_bits(type) == 0;
    if (nibbles) {
#pragma GCC unroll 4
        for (uint32_t v = 0; v < 4; v++) {
            const __m512i codes = few_order(vi_load(block + v * VI_BYTES));
            few_words(codes, table, tile + 2 * v * AMX_ROW_BYTES);
            few_words(_mm512_srli_epi16(codes, 4), table, tile + (8 + 2 * v) * AMX_ROW_BYTES);
        }
        return;
    }
#pragma GCC unroll 8
    for (uint32_t i = 0; i < SPI_PACKED_STEPS; i++) {
        few_words(few_order(codes_step(type, block, i)), table, tile + 2 * i * AMX_ROW_BYTES);
    }
}

/* Scales of a unit's block, and what is added for each activation. */
SPI_INLINE void few_keep_scales(sp_dtype type, const codes_unit *open, const uint8_t *unit, const uint32_t b,
                                const spi_affine *affine, float to[2][AMX_ROWS]) {
    const codes_scales scales = codes_block_scales(type, open, unit, b, affine);
    v_store(to[0], scales.scale[0]);
    if (codes_has_min(type)) {
        v_store(to[1], scales.min[0]);
    }
}

/* ---- the stream ---- */

typedef struct few_work {
    const spi_cpu_product *args;
    few_room *room;
    const uint8_t *acts;               /* sixteen tokens' first tile: every second one is theirs */
    few_place expand, multiply, scale; /* the items that come next */
    uint32_t tokens, items;
} few_work;

/* Block `b` of the item that is expanded, number `item`, and its lines of one that lies further on. */
SPI_INLINE void few_expand(sp_dtype type, few_work *work, const codes_unit *open, __m512i table, uint32_t item,
                           const uint32_t b) {
    const spi_affine *affine = &work->args->tensor->affine;
    const uint8_t *unit = work->expand.unit;
    const size_t head = spi_packed_blocks_offset(type, V_WIDTH, affine), bytes = spi_packed_block_bytes(type, V_WIDTH);
    const uint8_t *block = unit + head + (work->expand.part * FEW_BLOCKS + b) * bytes;
    for (size_t at = 0; at < bytes; at += 64) {
        v_fetch_second(block + FEW_AHEAD_BYTES + at);
    }
    if (work->expand.set == 0) { /* of both sets */
        const uint8_t *acts = work->room->acts[work->expand.block + work->expand.part * FEW_BLOCKS + b];
#pragma GCC unroll 16
        for (uint32_t t = 0; t < AMX_ROWS; t++) {
            v_fetch(acts + t * AMX_ROW_BYTES);
        }
    }
    float(*scales)[AMX_ROWS] = work->room->scales[item % FEW_RING][b];
    if (few_parts(type) == 1 || work->expand.part == 0) {
        few_keep_scales(type, open, unit, b, affine, scales);
    } else {
        few_keep_scales(type, open, unit, b + FEW_BLOCKS, affine, scales);
    }
    few_expand_block(type, block, table, work->room->tiles[b]);
}

/* Adds the sums of block `b` of the item that is scaled, number `item`. */
SPI_INLINE void few_scale(sp_dtype type, const few_work *work, uint32_t item, const uint32_t b, vf totals[AMX_ROWS]) {
    const few_place *place = &work->scale;
    if (!few_has(work->args, place, b)) {
        return;
    }
    const float *sums = work->room->sums[b];
    const float *act_sums = work->room->act_sums[place->block + place->part * FEW_BLOCKS + b];
    const vf scale = v_load(work->room->scales[item % FEW_RING][b][0]);
    const vf min = v_load(work->room->scales[item % FEW_RING][b][1]);
#pragma GCC unroll 16
    for (uint32_t t = 0; t < AMX_ROWS; t++) {
        totals[t] = v_fma(v_load(sums + t * AMX_ROWS), scale, totals[t]);
        if (codes_has_min(type)) {
            totals[t] = v_fma(min, v_set(act_sums[t]), totals[t]);
        }
    }
}

/* Totals of a set of rows before its first item, and behind its last one. */
SPI_INLINE void few_begin(const few_work *work, const bool scales, vf totals[AMX_ROWS]) {
    const bool first = !scales || (work->scale.block == 0 && work->scale.part == 0);
#pragma GCC unroll 16
    for (uint32_t t = 0; t < AMX_ROWS; t++) {
        totals[t] = first ? v_zero() : v_load(work->room->totals[work->scale.set] + t * AMX_ROWS);
    }
}

SPI_INLINE void few_end(sp_dtype type, const few_work *work, const vf totals[AMX_ROWS]) {
    const few_place *place = &work->scale;
    float *kept = work->room->totals[place->set];
#pragma GCC unroll 16
    for (uint32_t t = 0; t < AMX_ROWS; t++) {
        v_store(kept + t * AMX_ROWS, totals[t]);
    }
    if (place->part + 1 < few_parts(type) ||
        (place->block + spi_packed_unit_blocks(type)) * AMX_STEP < work->args->cols) {
        return;
    }
    float *out = work->args->out + place->row + place->set * AMX_ROWS;
    for (uint32_t t = 0; t < work->tokens; t++) {
        v_store(out + t * work->args->out_stride, v_load(kept + t * AMX_ROWS));
    }
}

/* Step `n` of the stream, block by block: the item of two steps ago is scaled, what tiles made of the one before is
 * stored in its place, they multiply item n, and the one behind is expanded over it. At the stream's ends (`edge`) some
 * of them are not there. */
SPI_INLINE void few_step(sp_dtype type, few_work *work, __m512i table, uint32_t n, const bool edge) {
    const bool multiplies = !edge || n < work->items, stores = !edge || (n >= 1 && n <= work->items);
    const bool expands = !edge || n + 1 < work->items, scales = !edge || n >= 2;
    few_room *room = work->room;
    uint8_t(*acts)[AMX_TILE_BYTES] = room->acts + work->multiply.block + work->multiply.part * FEW_BLOCKS;
    codes_unit open = {0};
    vf totals[AMX_ROWS];
    if (expands) {
        open = codes_open(type, work->expand.unit, &work->args->tensor->affine);
    }
    few_begin(work, scales, totals);
#define BLOCK(b)                                                                                                       \
    if (scales) {                                                                                                      \
        few_scale(type, work, n - 2, b, totals);                                                                       \
    }                                                                                                                  \
    if (stores) {                                                                                                      \
        amx_store(b, room->sums[b], AMX_ROW_BYTES);                                                                    \
    }                                                                                                                  \
    if (multiplies && few_has(work->args, &work->multiply, b)) {                                                       \
        amx_load(4, acts[b], AMX_ROW_BYTES);                                                                           \
        amx_load(6, room->tiles[b], AMX_ROW_BYTES);                                                                    \
        amx_zero(b);                                                                                                   \
        amx_multiply(b, 4, 6);                                                                                         \
    }                                                                                                                  \
    if (expands) {                                                                                                     \
        few_expand(type, work, &open, table, n + 1, b);                                                                \
    }
    BLOCK(0)
    BLOCK(1)
    BLOCK(2)
    BLOCK(3)
#undef BLOCK
    if (multiplies) {
        few_move_on(type, work->args, &work->multiply);
    }
    if (expands) {
        few_move_on(type, work->args, &work->expand);
    }
    if (scales) {
        few_end(type, work, totals);
        few_move_on(type, work->args, &work->scale);
    }
}

/* Sixteen tokens out of their squares of 32. */
static void few_copy_acts(const few_work *work) {
    for (uint32_t block = 0; block * AMX_STEP < work->args->cols; block++) {
        for (uint32_t at = 0; at < AMX_TILE_BYTES; at += AMX_ROW_BYTES) {
            vi_store(work->room->acts[block] + at, vi_load(work->acts + 2 * block * AMX_TILE_BYTES + at));
        }
    }
}

/* Sums of the tokens' activations in each block of columns, by a tile of ones. */
static void few_sum_acts(const few_work *work) {
    few_room *room = work->room;
    for (uint32_t line = 0; line < AMX_ROWS; line++) {
        vi_store(room->tiles[0] + line * AMX_ROW_BYTES, _mm512_set1_epi16(0x3f80)); /* 1 */
    }
    amx_load(7, room->tiles[0], AMX_ROW_BYTES);
    for (uint32_t block = 0; block * AMX_STEP < work->args->cols; block++) {
        amx_zero(0);
        amx_load(4, room->acts[block], AMX_ROW_BYTES);
        amx_multiply(0, 4, 7);
        amx_store(0, room->sums[0], AMX_ROW_BYTES);
        for (uint32_t t = 0; t < AMX_ROWS; t++) {
            room->act_sums[block][t] = room->sums[0][t * AMX_ROWS];
        }
    }
}

SPI_INLINE void few_sixteen(sp_dtype type, few_work *work) {
    const __m512i table = few_table(type);
    amx_begin();
    few_copy_acts(work);
    if (codes_has_min(type)) {
        few_sum_acts(work);
    }
    codes_unit open = codes_open(type, work->expand.unit, &work->args->tensor->affine);
#pragma GCC unroll 4
    for (uint32_t b = 0; b < FEW_BLOCKS; b++) {
        few_expand(type, work, &open, table, 0, b);
    }
    few_move_on(type, work->args, &work->expand);
    for (uint32_t n = 0; n < work->items + 2; n++) {
        if (n >= 2 && n + 1 < work->items) {
            few_step(type, work, table, n, false);
        } else {
            few_step(type, work, table, n, true);
        }
    }
    amx_end();
}

SPI_INLINE bool few_takes(sp_dtype type, const spi_cpu_product *args) {
    return SPI_AMX_IS_FEW(type) && args->token_count <= SPI_AMX_FEW_TOKENS && args->cols <= SPI_AMX_FEW_COLS;
}

SPI_INLINE void few_product(sp_dtype type, const spi_cpu_product *args) {
    const size_t units = spi_packed_units(type, args->cols) * SPI_PACKED_SETS;
    const uint32_t groups = (args->row_count + AMX_GROUP_ROWS - 1) / AMX_GROUP_ROWS;
    const few_place first = {.unit = amx_place(type, args, 0, 0)};
    for (uint32_t token = 0; token < args->token_count; token += AMX_ROWS) {
        const uint32_t left = args->token_count - token;
        spi_cpu_product of = *args;
        of.out += token * args->out_stride;
        few_work work = {.args = &of,
                         .room = args->scratch,
                         .acts = (const uint8_t *)args->acts + token * AMX_ROW_BYTES,
                         .expand = first,
                         .multiply = first,
                         .scale = first,
                         .tokens = left < AMX_ROWS ? left : AMX_ROWS,
                         .items = (uint32_t)units * few_parts(type) * groups};
        few_sixteen(type, &work);
    }
}

#endif
