/* device/cpu/tiles_i8mm.c - tile kernels for Arm's products of matrices of bytes: two rows x eight columns times eight
 * columns of two tokens are four sums. The sums are those of dot products to the bit, and go on in the same steps. May
 * include: device, os, base. */
#define SPI_ARM_DOTPROD
#define SPI_ARM_I8MM
#include "device/cpu/products.h"

#include "device/cpu/dot_body.h"
#include "device/cpu/tile.h"

#define TILE_TOKENS     SPI_ISA_TILE_TOKENS
#define TILE_PAIRS      (TILE_TOKENS / 2)
#define TILE_ROW_PAIRS  4u /* of a set */
#define TILE_PAIR_STEPS (SPI_PACKED_STEPS / 2)

typedef struct tile_sums {
    vf of[TILE_TOKENS][SPI_PACKED_SETS];
} tile_sums;

/* Sums of a pair of tokens and the rows of a set: [row 0 token 0, row 0 token 1, row 1 token 0, row 1 token 1] and so
 * on. */
typedef struct tile_pair {
    int32x4_t of[TILE_ROW_PAIRS];
} tile_pair;

/* Steps 2i and 2i + 1 of pairs of tokens: eight columns of one token, then of the other. One alone comes twice. */
SPI_INLINE void tile_acts(const uint8_t *act, const uint32_t tokens, const uint32_t i, int8x16_t x[TILE_PAIRS]) {
    const int32_t *at = (const int32_t *)(const void *)acts_step(act, tokens, 2 * i, 0);
    if (tokens == 4) {
        int32x4_t first = vld1q_s32(at), second = vld1q_s32(at + 4);
        x[0] = vi_bytes(vzip1q_s32(first, second));
        x[1] = vi_bytes(vzip2q_s32(first, second));
    } else if (tokens == 2) {
        int32x4_t both = vld1q_s32(at);
        x[0] = vi_bytes(vzip1q_s32(both, vextq_s32(both, both, 2)));
    } else {
        int32x2_t one = vld1_s32(at);
        x[0] = vi_bytes(vcombine_s32(one, one));
    }
}

/* One token's sums for the eight rows of a set. */
SPI_INLINE vi tile_of_token(const tile_pair *pair, const uint32_t token) {
    const int32x4_t *s = pair->of;
    return token % 2 ? (vi){vuzp2q_s32(s[0], s[1]), vuzp2q_s32(s[2], s[3])}
                     : (vi){vuzp1q_s32(s[0], s[1]), vuzp1q_s32(s[2], s[3])};
}

/* Part h of a block, of steps_count pairs of steps, or all of it. */
SPI_INLINE void tile_part(const uint8_t *block, const float *scale, const uint8_t *act, const uint32_t tokens,
                          const bool halves, const uint32_t h, const uint32_t offset, tile_sums *sums) {
    const uint32_t pairs = (tokens + 1) / 2, first = halves ? h * TILE_PAIR_STEPS / 2 : 0;
    const uint32_t end = halves ? first + TILE_PAIR_STEPS / 2 : TILE_PAIR_STEPS;
    tile_pair s[TILE_PAIRS][SPI_PACKED_SETS];
    for (uint32_t i = 0; i < pairs * SPI_PACKED_SETS * TILE_ROW_PAIRS; i++) {
        s[i / 8][i / 4 % 2].of[i % 4] = vdupq_n_s32(0);
    }
#pragma GCC unroll 4
    for (uint32_t i = first; i < end; i++) {
        int8x16_t x[TILE_PAIRS];
        tile_acts(act, tokens, i, x);
#pragma GCC unroll 8
        for (uint32_t r = 0; r < SPI_PACKED_SETS * TILE_ROW_PAIRS; r++) {
            const int8x16_t w = vreinterpretq_s8_u8(vld1q_u8(block + 2 * i * SPI_PACKED_SETS * VI_BYTES + 16 * r));
#pragma GCC unroll 2
            for (uint32_t p = 0; p < pairs; p++) {
                int32x4_t *sum = &s[p][r / TILE_ROW_PAIRS].of[r % TILE_ROW_PAIRS];
                *sum = vmmlaq_s32(*sum, w, x[p]);
            }
        }
    }
#pragma GCC unroll 4
    for (uint32_t t = 0; t < tokens; t++) {
        const vi start = dot_begin(act, tokens, t, halves, h, offset);
#pragma GCC unroll 2
        for (uint32_t set = 0; set < SPI_PACKED_SETS; set++) {
            const vi sum = vi_add32(tile_of_token(&s[t / 2][set], t), start);
            const vf scales = v_load(scale + (h * SPI_PACKED_SETS + set) * V_WIDTH);
            sums->of[t][set] = dot_end(false, sum, start, scales, act, tokens, t, sums->of[t][set]);
        }
    }
}

SPI_INLINE void tile_block(const spi_tile_class class, const uint8_t *block, const uint8_t *act, const uint32_t tokens,
                           const uint32_t offset, tile_sums *sums) {
    const bool halves = class == SPI_TILE_HALVES || class == SPI_TILE_HALVES_MIN;
    const bool mins = class == SPI_TILE_MIN || class == SPI_TILE_HALVES_MIN;
    const float *scale = (const float *)(const void *)(block + SPI_PACKED_STEPS * SPI_PACKED_SETS * VI_BYTES);
    const float *min = scale + (halves ? 2 : 1) * SPI_PACKED_SETS * V_WIDTH;
    for (uint32_t h = 0; h < (halves ? 2 : 1); h++) {
        tile_part(block, scale, act, tokens, halves, h, offset, sums);
    }
    for (uint32_t h = 0; mins && h < (halves ? 2 : 1); h++) {
#pragma GCC unroll 8
        for (uint32_t i = 0; i < tokens * SPI_PACKED_SETS; i++) {
            const uint32_t t = i / SPI_PACKED_SETS, set = i % SPI_PACKED_SETS;
            const vf mins_of_set = v_load(min + (2 * h + set) * V_WIDTH);
            sums->of[t][set] = dot_add_min(mins_of_set, act, tokens, t, halves, h, sums->of[t][set]);
        }
    }
}

SPI_INLINE void tile_blocks(const spi_tile_class class, const spi_tile *tile, const uint32_t tokens) {
    tile_sums sums;
#pragma GCC unroll 8
    for (uint32_t i = 0; i < tokens * SPI_PACKED_SETS; i++) {
        const float *out = tile->out + i / 2 * tile->out_stride + i % 2 * V_WIDTH;
        sums.of[i / 2][i % 2] = tile->first ? v_zero() : v_load(out);
    }
    const uint8_t *weights = tile->weights, *act = tile->acts;
    for (uint32_t b = 0; b < tile->blocks; b++) {
        tile_block(class, weights, act, tokens, tile->offset, &sums);
        weights += spi_tile_block_bytes(class, V_WIDTH);
        act += (size_t)SPI_I8_TOKEN_BYTES * tokens;
    }
#pragma GCC unroll 8
    for (uint32_t i = 0; i < tokens * SPI_PACKED_SETS; i++) {
        v_store(tile->out + i / 2 * tile->out_stride + i % 2 * V_WIDTH, sums.of[i / 2][i % 2]);
    }
}

SPI_INLINE void tile_any(const spi_tile_class class, const spi_tile *tile) {
    switch (tile->tokens) {
    case 4: tile_blocks(class, tile, 4); break;
    case 2: tile_blocks(class, tile, 2); break;
    default: tile_blocks(class, tile, 1); break;
    }
}

void spi_tile_i8mm(spi_tile_class class, const spi_tile *tile) {
    switch (class) {
    case SPI_TILE_SIGNED: /* classes of instruction sets without dot products of signed bytes */
    case SPI_TILE_PLAIN: tile_any(SPI_TILE_PLAIN, tile); break;
    case SPI_TILE_SIGNED_MIN:
    case SPI_TILE_MIN: tile_any(SPI_TILE_MIN, tile); break;
    case SPI_TILE_HALVES: tile_any(SPI_TILE_HALVES, tile); break;
    case SPI_TILE_HALVES_MIN: tile_any(SPI_TILE_HALVES_MIN, tile); break;
    }
}
