/* device/cpu/quant_body.h - products with packed weights: an instance for each type and width.
 *
 * One token, or a few: weights are used as they come, since memory is what it waits for. More: a piece of weights is
 * expanded once and multiplied with all tiles of tokens (tile.h), while what comes next is asked for. May include:
 * device, dtype, os, base.
 */
#ifndef SPI_DEVICE_CPU_QUANT_BODY_H
#define SPI_DEVICE_CPU_QUANT_BODY_H

#include "device/cpu/asks.h"
#include "device/cpu/codes_body.h"
#include "device/cpu/dot_body.h"
#include "device/cpu/products.h"
#include "device/cpu/tile.h"

#define QUANT_ROWS        (SPI_PACKED_SETS * V_WIDTH) /* of a group */
#define QUANT_TILE        SPI_ISA(spi_tile)
#define QUANT_TILE_TOKENS SPI_ISA_TILE_TOKENS
#define QUANT_FEW_TOKENS  QUANT_TILE_TOKENS

/* Totals of a few tokens. */
typedef struct quant_totals {
    vf of[QUANT_FEW_TOKENS];
} quant_totals;

SPI_INLINE void quant_block(sp_dtype type, const codes_unit *open, const uint8_t *unit, const uint32_t b,
                            const uint8_t *act, const uint32_t tokens, const spi_affine *affine, quant_totals *totals) {
    const bool halves = codes_has_halves(type), are_signed = codes_are_signed(type);
    const size_t block_bytes = spi_packed_block_bytes(type, V_WIDTH);
    const uint8_t *block = unit + spi_packed_blocks_offset(type, V_WIDTH, affine) + b * block_bytes;
    const codes_scales scales = codes_block_scales(type, open, unit, b, affine);
    for (uint32_t h = 0; h < (halves ? 2 : 1); h++) {
        const uint32_t first = h * 4, end = halves ? first + 4 : SPI_PACKED_STEPS;
        dot_sum s[QUANT_FEW_TOKENS];
        vi start[QUANT_FEW_TOKENS];
        for (uint32_t t = 0; t < tokens; t++) {
            start[t] = codes_offset(type) ? dot_begin(act, tokens, t, halves, h, codes_offset(type)) : vi_set32(0);
            s[t] = dot_first(start[t]);
        }
#pragma GCC unroll 8
        for (uint32_t i = first; i < end; i++) {
            const vi codes = codes_step(type, block, i);
#pragma GCC unroll 4
            for (uint32_t t = 0; t < tokens; t++) {
                s[t] = dot_step(are_signed, s[t], codes, vi_four(acts_step(act, tokens, i, t)));
                if (tokens > 1) {
                    DOT_KEEP(s[t]);
                }
            }
        }
        for (uint32_t t = 0; t < tokens; t++) {
            totals->of[t] = dot_end(are_signed, s[t], start[t], scales.scale[h], act, tokens, t, totals->of[t]);
        }
    }
    for (uint32_t h = 0; codes_has_min(type) && h < (halves ? 2 : 1); h++) {
        for (uint32_t t = 0; t < tokens; t++) {
            totals->of[t] = dot_add_min(scales.min[h], act, tokens, t, halves, h, totals->of[t]);
        }
    }
}

/* How far ahead. Through types that take the fewest instructions for a line the processor looks far ahead by itself:
 * half as far is enough, and better (Zen 5, of reading: Q8_0 0.88 to 0.95, Q4_0 0.89 to 0.90; AVX2's Q4_0 0.87 to
 * 0.84). */
SPI_INLINE size_t quant_ahead(sp_dtype type, const spi_asks asks, const spi_cpu_product *args) {
    const uint32_t low_bits = spi_packed_low_bits(type);
    const bool plain = spi_packed_unit_blocks(type) == 4 && !spi_packed_high_bits(type);
    const bool quick = plain && (low_bits == 8 || (V_WIDTH == 16 && low_bits == 4));
    return asks == SPI_ASKS_FIRST && quick ? args->ahead_bytes / 2 : args->ahead_bytes;
}

/* Whether a single token's blocks are a loop, so that few instructions load all of a unit. Where each block has its
 * own, the processor's prefetch takes them for as many streams with a unit's stride (Zen 5, products alone over 250 to
 * 300 MB, of reading 50 GB/s: IQ4_XS 0.85 to 0.97, Q4_K 0.87 to 0.95, Q5_K 0.93 to 0.97). Q3_K's scales take longer in
 * a loop; Intel's processors, which ask into the second level, are left as they were measured. */
SPI_INLINE bool quant_rolls(sp_dtype type, const spi_asks asks) {
    return asks == SPI_ASKS_FIRST && type != SP_Q3_K;
}

/* The first `blocks` blocks of a unit, or all; as many bytes as are read are asked for at `ask`. */
SPI_INLINE void quant_unit(sp_dtype type, const uint8_t *unit, uint32_t blocks, const uint8_t *act,
                           const uint32_t tokens, const spi_asks asks, const uint8_t *ask, const spi_affine *affine,
                           quant_totals *totals) {
    const size_t head_bytes = spi_packed_blocks_offset(type, V_WIDTH, affine);
    const size_t block_bytes = spi_packed_block_bytes(type, V_WIDTH);
    const codes_unit open = codes_open(type, unit, affine);
    spi_ask(asks, ask, head_bytes);
    if (quant_rolls(type, asks)) {
        const uint32_t end = blocks < spi_packed_unit_blocks(type) ? blocks : spi_packed_unit_blocks(type);
#pragma GCC unroll 1
        for (uint32_t b = 0; b < end; b++) {
            spi_ask(asks, ask + head_bytes + b * block_bytes, block_bytes);
            quant_block(type, &open, unit, b, act + b * SPI_I8_TOKEN_BYTES * tokens, tokens, affine, totals);
        }
        return;
    }
#pragma GCC unroll 8
    for (uint32_t b = 0; b < spi_packed_unit_blocks(type); b++) {
        if (b == blocks) {
            break;
        }
        spi_ask(asks, ask + head_bytes + b * block_bytes, block_bytes);
        quant_block(type, &open, unit, b, act + b * SPI_I8_TOKEN_BYTES * tokens, tokens, affine, totals);
    }
}

/* One tile of a few tokens, with weights as they come. */
SPI_INLINE void quant_few_tokens(sp_dtype type, const spi_cpu_product *args, const uint32_t tokens,
                                 const spi_asks asks) {
    const spi_affine *affine = &args->tensor->affine;
    const uint32_t blocks = args->cols / SPI_PACKED_COLUMNS, unit_blocks = spi_packed_unit_blocks(type);
    const size_t unit_bytes = spi_packed_unit_bytes(type, V_WIDTH, affine);
    const size_t group_bytes = spi_packed_units(type, args->cols) * SPI_PACKED_SETS * unit_bytes;
    const uint8_t *unit = (const uint8_t *)args->weights + args->row_first / QUANT_ROWS * group_bytes;
    for (uint32_t r = 0; r < args->row_count; r += QUANT_ROWS) {
        quant_totals totals[SPI_PACKED_SETS];
        for (uint32_t t = 0; t < tokens; t++) {
            totals[0].of[t] = totals[1].of[t] = v_zero();
        }
        const uint8_t *act = args->acts;
        for (uint32_t b = 0; b < blocks; b += unit_blocks, act += unit_blocks * SPI_I8_TOKEN_BYTES * tokens) {
            for (uint32_t set = 0; set < SPI_PACKED_SETS; set++, unit += unit_bytes) {
                const uint8_t *ask = unit + quant_ahead(type, asks, args);
                quant_unit(type, unit, blocks - b, act, tokens, asks, ask, affine, &totals[set]);
            }
        }
        for (uint32_t t = 0; t < tokens; t++) {
            float *out = args->out + t * args->out_stride + r;
            v_store(out, totals[0].of[t]);
            v_store(out + V_WIDTH, totals[1].of[t]);
        }
    }
}

SPI_INLINE spi_tile_class quant_class(sp_dtype type) {
    return codes_are_signed(type)   ? (codes_has_min(type) ? SPI_TILE_SIGNED_MIN : SPI_TILE_SIGNED)
           : codes_has_halves(type) ? (codes_has_min(type) ? SPI_TILE_HALVES_MIN : SPI_TILE_HALVES)
                                    : (codes_has_min(type) ? SPI_TILE_MIN : SPI_TILE_PLAIN);
}

#if defined(SPI_ARM_I8MM)
SPI_INLINE void quant_expand_codes(sp_dtype type, const uint8_t *block, uint32_t set, uint8_t *to) {
#pragma GCC unroll 4
    for (uint32_t i = 0; i < SPI_PACKED_STEPS; i += 2) {
        const vi first = codes_step(type, block, i), second = codes_step(type, block, i + 1);
        uint8_t *pairs = to + (i * SPI_PACKED_SETS + set * 2) * VI_BYTES;
        vi_store(pairs, (vi){vzip1q_s32(first.a, second.a), vzip2q_s32(first.a, second.a)});
        vi_store(pairs + VI_BYTES, (vi){vzip1q_s32(first.b, second.b), vzip2q_s32(first.b, second.b)});
    }
}
#else
SPI_INLINE void quant_expand_codes(sp_dtype type, const uint8_t *block, uint32_t set, uint8_t *to) {
#pragma GCC unroll 8
    for (uint32_t i = 0; i < SPI_PACKED_STEPS; i++) {
        vi_store(to + (i * SPI_PACKED_SETS + set) * VI_BYTES, codes_step(type, block, i));
    }
}
#endif

/* One set of rows of a unit, into its places in expanded blocks. */
SPI_INLINE void quant_expand_unit(sp_dtype type, const uint8_t *unit, uint32_t set, uint32_t blocks,
                                  const spi_affine *affine, uint8_t *to) {
    const uint32_t halves = codes_has_halves(type) ? 2 : 1;
    const codes_unit open = codes_open(type, unit, affine);
    const uint8_t *block = unit + spi_packed_blocks_offset(type, V_WIDTH, affine);
#pragma GCC unroll 8
    for (uint32_t b = 0; b < spi_packed_unit_blocks(type); b++) {
        if (b == blocks) {
            break;
        }
        quant_expand_codes(type, block, set, to);
        const codes_scales scales = codes_block_scales(type, &open, unit, b, affine);
        float *scale = (float *)(void *)(to + SPI_PACKED_STEPS * SPI_PACKED_SETS * VI_BYTES) + set * V_WIDTH;
        float *min = scale + halves * SPI_PACKED_SETS * V_WIDTH;
        for (uint32_t h = 0; h < halves; h++) {
            v_store(scale + h * SPI_PACKED_SETS * V_WIDTH, scales.scale[h]);
            if (codes_has_min(type)) {
                v_store(min + h * SPI_PACKED_SETS * V_WIDTH, scales.min[h]);
            }
        }
        block += spi_packed_block_bytes(type, V_WIDTH);
        to += spi_tile_block_bytes(quant_class(type), V_WIDTH);
    }
}

/* TILE_BLOCKS blocks, or what is left of them; returns what lies behind. */
SPI_INLINE const uint8_t *quant_expand(sp_dtype type, const uint8_t *unit, uint32_t blocks, const spi_affine *affine,
                                       uint8_t *to) {
    const uint32_t unit_blocks = spi_packed_unit_blocks(type);
    for (uint32_t b = 0; b < TILE_BLOCKS && b < blocks; b += unit_blocks) {
        for (uint32_t set = 0; set < SPI_PACKED_SETS; set++, unit += spi_packed_unit_bytes(type, V_WIDTH, affine)) {
            quant_expand_unit(type, unit, set, blocks - b, affine,
                              to + b * spi_tile_block_bytes(quant_class(type), V_WIDTH));
        }
    }
    return unit;
}

typedef struct quant_piece {
    uint32_t row;          /* of args->out */
    uint32_t first, count; /* blocks of columns */
    const uint8_t *next;   /* weights that the next piece will read */
    size_t next_bytes;
} quant_piece;

/* A piece's expanded weights with all tokens. Memory works on the next piece meanwhile. */
static void quant_all_tiles(spi_tile_class class, uint32_t offset, const spi_cpu_product *args,
                            const quant_piece *piece) {
    const uint32_t blocks = args->cols / SPI_PACKED_COLUMNS;
    const uint32_t tiles = (args->token_count - 1) / QUANT_TILE_TOKENS + 1;
    const size_t ask_bytes = (piece->next_bytes / 64 / tiles + 1) * 64;
    const uint8_t *act = args->acts, *next = piece->next, *next_end = piece->next + piece->next_bytes;
    spi_tile tile = {.weights = args->scratch,
                     .blocks = piece->count,
                     .offset = offset,
                     .first = piece->first == 0,
                     .out = args->out + piece->row,
                     .out_stride = args->out_stride};
    for (uint32_t t = 0; t < args->token_count; t += tile.tokens) {
        for (const uint8_t *end = next + ask_bytes; next < end && next < next_end; next += 64) {
            v_fetch(next);
        }
        tile.tokens = spi_i8_tile_tokens(args->token_count - t, QUANT_TILE_TOKENS);
        tile.acts = act + (size_t)piece->first * SPI_I8_TOKEN_BYTES * tile.tokens;
        QUANT_TILE(class, &tile);
        act += (size_t)SPI_I8_TOKEN_BYTES * tile.tokens * blocks;
        tile.out += tile.tokens * args->out_stride;
    }
}

SPI_INLINE bool quant_is_few(const spi_cpu_product *args) {
    return args->token_count <= QUANT_FEW_TOKENS && args->token_count != 3;
}

/* False: too many tokens for weights as they come. */
SPI_INLINE bool quant_few(sp_dtype type, const spi_cpu_product *args) {
#if defined(V_ASKS)
    if (args->token_count == 1 && args->ahead_bytes) {
        if (args->ahead_second) {
            quant_few_tokens(type, args, 1, SPI_ASKS_SECOND);
        } else {
            quant_few_tokens(type, args, 1, SPI_ASKS_FIRST);
        }
        return true;
    }
#endif
    switch (args->token_count) {
    case 1: quant_few_tokens(type, args, 1, SPI_ASKS_NOT); return true;
    case 2: quant_few_tokens(type, args, 2, SPI_ASKS_NOT); return true;
#if QUANT_TILE_TOKENS > 2
    case 4: quant_few_tokens(type, args, 4, SPI_ASKS_NOT); return true;
#endif
    default: return false;
    }
}

SPI_INLINE void quant_many(sp_dtype type, const spi_cpu_product *args) {
    const spi_affine *affine = &args->tensor->affine;
    const uint32_t blocks = args->cols / SPI_PACKED_COLUMNS, unit_blocks = spi_packed_unit_blocks(type);
    const size_t unit_bytes = spi_packed_unit_bytes(type, V_WIDTH, affine);
    const size_t group_bytes = spi_packed_units(type, args->cols) * SPI_PACKED_SETS * unit_bytes;
    const uint8_t *unit = (const uint8_t *)args->weights + args->row_first / QUANT_ROWS * group_bytes;
    const uint8_t *end = unit + (args->row_count + QUANT_ROWS - 1) / QUANT_ROWS * group_bytes;
    for (uint32_t r = 0; r < args->row_count; r += QUANT_ROWS) {
        for (uint32_t b = 0; b < blocks; b += TILE_BLOCKS) {
            unit = quant_expand(type, unit, blocks - b, affine, args->scratch);
            size_t next_bytes = TILE_BLOCKS / unit_blocks * SPI_PACKED_SETS * unit_bytes;
            quant_piece piece = {.row = r,
                                 .first = b,
                                 .count = blocks - b < TILE_BLOCKS ? blocks - b : TILE_BLOCKS,
                                 .next = unit,
                                 .next_bytes = (size_t)(end - unit) < next_bytes ? (size_t)(end - unit) : next_bytes};
            quant_all_tiles(quant_class(type), codes_offset(type), args, &piece);
        }
    }
}

SPI_INLINE void quant_product(sp_dtype type, const spi_cpu_product *args) {
    if (!quant_few(type, args)) {
        quant_many(type, args);
    }
}

#endif
