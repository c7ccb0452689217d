/* device/cpu/tiles_body.h - the classes of tile kernels: see tile.h. Included by tiles_*.c, behind
 * TILE_TOKENS, the largest tile, and the name of what it defines. */
#ifndef SPI_DEVICE_CPU_TILES_BODY_H
#define SPI_DEVICE_CPU_TILES_BODY_H

#include "device/cpu/dot_body.h"
#include "device/cpu/tile.h"

typedef struct tile_sums {
    vf of[TILE_TOKENS][SPI_PACKED_SETS];
} tile_sums;

SPI_INLINE void tile_block(const spi_tile_class class, const uint8_t *block, const uint8_t *act, const uint32_t tokens,
                           const uint32_t offset, tile_sums *sums) {
    const bool halves = class == SPI_TILE_HALVES || class == SPI_TILE_HALVES_MIN;
    const bool are_signed = class == SPI_TILE_SIGNED || class == SPI_TILE_SIGNED_MIN;
    const bool mins = class == SPI_TILE_MIN || class == SPI_TILE_HALVES_MIN || class == SPI_TILE_SIGNED_MIN;
    const float *scale = (const float *)(const void *)(block + SPI_PACKED_STEPS * SPI_PACKED_SETS * VI_BYTES);
    const float *min = scale + (halves ? 2 : 1) * SPI_PACKED_SETS * V_WIDTH;
    dot_sum s[TILE_TOKENS][SPI_PACKED_SETS];
    vi start[TILE_TOKENS];
#pragma GCC unroll 8
    for (uint32_t i = 0; i < SPI_PACKED_STEPS; i++) {
        const uint32_t h = halves ? i / 4 : 0;
        if (i == 0 || (halves && i == 4)) {
#pragma GCC unroll 8
            for (uint32_t t = 0; t < tokens; t++) {
                start[t] = are_signed ? vi_set32(0) : dot_begin(act, tokens, t, halves, h, offset);
                s[t][0] = s[t][1] = dot_first(start[t]);
            }
        }
        vi w0 = vi_load(block + 2 * i * VI_BYTES), w1 = vi_load(block + (2 * i + 1) * VI_BYTES);
#pragma GCC unroll 8
        for (uint32_t t = 0; t < tokens; t++) {
            vi x = vi_four(acts_step(act, tokens, i, t));
            s[t][0] = dot_step(are_signed, s[t][0], w0, x);
            s[t][1] = dot_step(are_signed, s[t][1], w1, x);
        }
#pragma GCC unroll 8
        for (uint32_t t = 0; t < tokens; t++) {
            DOT_KEEP_BOTH(s[t]);
        }
        if (i == SPI_PACKED_STEPS - 1 || (halves && i == 3)) {
            const float *at = scale + h * SPI_PACKED_SETS * V_WIDTH;
            vf scale0 = v_load(at), scale1 = v_load(at + V_WIDTH);
#pragma GCC unroll 8
            for (uint32_t t = 0; t < tokens; t++) {
                sums->of[t][0] = dot_end(are_signed, s[t][0], start[t], scale0, act, tokens, t, sums->of[t][0]);
                sums->of[t][1] = dot_end(are_signed, s[t][1], start[t], scale1, act, tokens, t, sums->of[t][1]);
            }
        }
    }
    for (uint32_t h = 0; mins && h < (halves ? 2 : 1); h++) {
        vf min0 = v_load(min + 2 * h * V_WIDTH), min1 = v_load(min + (2 * h + 1) * V_WIDTH);
#pragma GCC unroll 8
        for (uint32_t t = 0; t < tokens; t++) {
            sums->of[t][0] = dot_add_min(min0, act, tokens, t, halves, h, sums->of[t][0]);
            sums->of[t][1] = dot_add_min(min1, act, tokens, t, halves, h, sums->of[t][1]);
        }
    }
}

SPI_INLINE void tile_blocks(const spi_tile_class class, const spi_tile *tile, const uint32_t tokens) {
    const size_t block_bytes = spi_tile_block_bytes(class, V_WIDTH);
    tile_sums sums;
#pragma GCC unroll 8
    for (uint32_t t = 0; t < tokens; t++) {
        float *out = tile->out + t * tile->out_stride;
        sums.of[t][0] = tile->first ? v_zero() : v_load(out);
        sums.of[t][1] = tile->first ? v_zero() : v_load(out + V_WIDTH);
    }
    const uint8_t *weights = tile->weights, *act = tile->acts;
    for (uint32_t b = 0; b < tile->blocks; b++) {
        tile_block(class, weights, act, tokens, tile->offset, &sums);
        weights += block_bytes;
        act += (size_t)SPI_I8_TOKEN_BYTES * tokens;
    }
#pragma GCC unroll 8
    for (uint32_t t = 0; t < tokens; t++) {
        float *out = tile->out + t * tile->out_stride;
        v_store(out, sums.of[t][0]);
        v_store(out + V_WIDTH, sums.of[t][1]);
    }
}

SPI_INLINE void tile_any(const spi_tile_class class, const spi_tile *tile) {
    switch (tile->tokens) {
#if TILE_TOKENS > 2
    case 4: tile_blocks(class, tile, 4); break;
#endif
    case 2: tile_blocks(class, tile, 2); break;
    default: tile_blocks(class, tile, 1); break;
    }
}

SPI_INLINE void tile_of_class(spi_tile_class class, const spi_tile *tile) {
    switch (class) {
    case SPI_TILE_PLAIN: tile_any(SPI_TILE_PLAIN, tile); break;
    case SPI_TILE_MIN: tile_any(SPI_TILE_MIN, tile); break;
    case SPI_TILE_HALVES: tile_any(SPI_TILE_HALVES, tile); break;
    case SPI_TILE_HALVES_MIN: tile_any(SPI_TILE_HALVES_MIN, tile); break;
    case SPI_TILE_SIGNED: tile_any(SPI_TILE_SIGNED, tile); break;
    case SPI_TILE_SIGNED_MIN: tile_any(SPI_TILE_SIGNED_MIN, tile); break;
    }
}

#endif
