/* device/cpu/codes_body.h - reading packed.h's units with vectors: codes of a step, and scales of a block, as f32.
 *
 * Every function is for a constant type, so that an instance has no decision left in it. Codes are unsigned bytes to
 * which codes_offset was added; AVX2 and NEON without dot products take those of 8-bit types as signed, apart from the
 * others, because their products do not add up in 16 bits. May include: device, dtype, os, base.
 */
#ifndef SPI_DEVICE_CPU_CODES_BODY_H
#define SPI_DEVICE_CPU_CODES_BODY_H

#include "device/cpu/integers.h"
#include "device/cpu/packed.h"
#include "dtype/blocks.h"

SPI_INLINE bool codes_is_wide(sp_dtype type) {
    return type == SP_Q8_0 || type == SP_IQ4_NL || type == SP_IQ4_XS;
}

#if defined(__AVX512F__)
#define CODES_FLIP           128u
#define CODES_SIGNED         false
#define CODES_AFFINE6_HALVES false
#elif defined(SPI_ARM_DOTPROD)
#define CODES_FLIP           0u /* dot products take all codes as signed, which those of fewer bits may as well be */
#define CODES_SIGNED         false
#define CODES_AFFINE6_HALVES false
#elif defined(__aarch64__) /* MLX's 6 bits as those of 8: to add up as dot products do, to the bit */
#define CODES_FLIP           0u
#define CODES_SIGNED         true
#define CODES_AFFINE6_HALVES false
#else
#define CODES_FLIP           0u
#define CODES_SIGNED         true
#define CODES_AFFINE6_HALVES true /* where sums are of 16 bits, they would not hold otherwise */
#endif
SPI_INLINE bool codes_are_signed(sp_dtype type) {
    return CODES_SIGNED && (codes_is_wide(type) || type == SP_AFFINE8 || (type == SP_AFFINE6 && !CODES_AFFINE6_HALVES));
}

/* In units of 8: what a value has more as a code. The 5-bit types with a minimum have it so that 16-bit sums hold. */
SPI_INLINE uint32_t codes_offset(sp_dtype type) {
    switch (type) {
    case SP_Q4_0:
    case SP_Q3_K: return 1;
    case SP_Q5_0:
    case SP_Q5_1:
    case SP_Q5_K:
    case SP_AFFINE5:
    case SP_MXFP4: return 2;
    case SP_Q6_K: return 4;
    case SP_AFFINE6: return CODES_AFFINE6_HALVES ? 4 : 0;
    default: return codes_is_wide(type) ? CODES_FLIP / 8 : 0;
    }
}

/* Two scales in a block of 32 columns. */
SPI_INLINE bool codes_has_halves(sp_dtype type) {
    return type == SP_Q6_K || type == SP_Q3_K || type == SP_Q2_K || (type == SP_AFFINE6 && CODES_AFFINE6_HALVES);
}

SPI_INLINE bool codes_has_min(sp_dtype type) {
    return type == SP_Q4_1 || type == SP_Q5_1 || type == SP_Q4_K || type == SP_Q5_K || type == SP_Q2_K ||
           spi_affine_bits(type);
}

/* What the minimum gets for the offset: as many scales. */
SPI_INLINE float codes_min_offset(sp_dtype type) {
    return type == SP_AFFINE8 && !CODES_FLIP ? 128 : 8.0f * (float)codes_offset(type);
}

/* Values with the offset added. */
static const int8_t codes_iq4[16] = {
#if defined(__AVX512F__) /* 128 more, as bytes */
    1, 24, 45, 63, 79, 93, 106, 118, -127, -115, -103, -90, -75, -59, -39, -15,
#else
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
#endif
};
static const int8_t codes_mxfp4[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

/* Shifts bits from one place in their bytes to another. */
SPI_INLINE vi codes_move(vi x, uint32_t from, uint32_t to) {
    return from > to ? vi_right16(x, from - to) : from < to ? vi_left16(x, to - from) : x;
}

/* Columns 4 step .. of a block. */
SPI_INLINE vi codes_step(sp_dtype type, const uint8_t *block, const uint32_t step) {
    const uint32_t low_bits = spi_packed_low_bits(type), high_bits = spi_packed_high_bits(type);
    const uint8_t *high = block + low_bits * VI_BYTES;
    vi code;
    if (low_bits == 8) {
        return vi_load(block + step * VI_BYTES);
    }
    if (low_bits == 4) {
        code = vi_and(codes_move(vi_load(block + step % 4 * VI_BYTES), step / 4 * 4, 0), vi_set8(15));
    } else {
        code = vi_and(codes_move(vi_load(block + step / 4 * VI_BYTES), step % 4 * 2, 0), vi_set8(3));
    }
    if (high_bits == 1) {
        code = vi_or(code, vi_and(codes_move(vi_load(high), step, low_bits), vi_set8((int8_t)(1 << low_bits))));
    } else if (high_bits == 2) {
        vi bits = codes_move(vi_load(high + step / 4 * VI_BYTES), step % 4 * 2, low_bits);
        code = vi_or(code, vi_and(bits, vi_set8((int8_t)(3 << low_bits))));
    }
    switch (type) {
    case SP_IQ4_NL:
    case SP_IQ4_XS: return vi_look_up(codes_iq4, code);
    case SP_MXFP4: return vi_look_up(codes_mxfp4, code);
    case SP_Q3_K: return vi_add8(code, vi_set8(4)); /* 4 less in the format, 8 more here */
    default: return code;
    }
}

/* What the blocks of a unit have in common. */
typedef struct codes_unit {
    vi words[4];
    vf d, min;
} codes_unit;

SPI_INLINE codes_unit codes_open(sp_dtype type, const uint8_t *unit, const spi_affine *affine) {
    codes_unit open = {0};
    const uint16_t *halves = (const uint16_t *)(const void *)unit;
    const uint8_t *words = unit + spi_packed_words_offset(type, V_WIDTH, affine);
    const vi low4 = vi_set8(15), high2 = vi_set8(0x30);
    for (uint32_t i = 0; i < spi_packed_words(type); i++) {
        open.words[i] = vi_load(words + i * VI_BYTES);
    }
    if (spi_packed_unit_blocks(type) == 8) {
        open.d = v_load_f16(halves);
    }
    const vi a = open.words[0], b = open.words[1], c = open.words[2];
    switch (type) {
    case SP_Q4_K:
    case SP_Q5_K: /* scales of blocks 0-3 and 4-7, then minima: see spi_q4_k_scale */
        open.min = v_sub(v_zero(), v_load_f16(halves + V_WIDTH));
        open.words[0] = vi_and(a, vi_set8(63));
        open.words[1] = vi_or(vi_and(c, low4), vi_and(vi_right16(a, 2), high2));
        open.words[2] = vi_and(b, vi_set8(63));
        open.words[3] = vi_or(vi_and(vi_right16(c, 4), low4), vi_and(vi_right16(b, 2), high2));
        break;
    case SP_Q3_K: /* scales of sub-blocks 0-3, 4-7, ...: see spi_q3_k_scale */
        open.words[0] = vi_or(vi_and(a, low4), vi_and(vi_left16(c, 4), high2));
        open.words[1] = vi_or(vi_and(b, low4), vi_and(vi_left16(c, 2), high2));
        open.words[2] = vi_or(vi_and(vi_right16(a, 4), low4), vi_and(c, high2));
        open.words[3] = vi_or(vi_and(vi_right16(b, 4), low4), vi_and(vi_right16(c, 2), high2));
        break;
    case SP_Q2_K: open.min = v_sub(v_zero(), v_load_f16(halves + V_WIDTH)); break;
    case SP_IQ4_XS: open.words[1] = vi_load_u16(halves + V_WIDTH); break;
    default: break;
    }
    return open;
}

/* A block's scales and what is added for each activation, of its halves or of all of it in the first. */
typedef struct codes_scales {
    vf scale[2], min[2];
} codes_scales;

SPI_INLINE void codes_small_scales(sp_dtype type, const codes_unit *open, const uint32_t b, codes_scales *scales) {
    const vi offset = vi_set32(-32);
    for (uint32_t h = 0; h < 2; h++) {
        const uint32_t s = 2 * b + h; /* sub-block of 16 */
        if (type == SP_Q6_K) {
            scales->scale[h] = v_mul(open->d, vi_to_f32(vi_byte_signed(open->words[s / 4], s % 4)));
        } else if (type == SP_Q3_K) {
            vi scale = vi_add32(vi_byte(open->words[s / 4], s % 4), offset);
            scales->scale[h] = v_mul(open->d, vi_to_f32(scale));
        } else {
            scales->scale[h] = v_mul(open->d, vi_nibble(open->words[s / 4], 2 * (s % 4)));
            scales->min[h] = v_mul(open->min, vi_nibble(open->words[s / 4], 2 * (s % 4) + 1));
        }
    }
}

SPI_INLINE vf codes_affine_number(const spi_affine *affine, const uint8_t *unit, uint32_t index) {
    return affine->type == SP_F32   ? v_load((const float *)(const void *)unit + index * V_WIDTH)
           : affine->type == SP_F16 ? v_load_f16((const uint16_t *)(const void *)unit + index * V_WIDTH)
                                    : v_load_bf16((const uint16_t *)(const void *)unit + index * V_WIDTH);
}

SPI_INLINE codes_scales codes_block_scales(sp_dtype type, const codes_unit *open, const uint8_t *unit, const uint32_t b,
                                           const spi_affine *affine) {
    codes_scales scales = {0};
    const uint16_t *halves = (const uint16_t *)(const void *)unit;
    switch (type) {
    case SP_Q2_K:
    case SP_Q3_K:
    case SP_Q6_K: codes_small_scales(type, open, b, &scales); break;
    case SP_Q4_K:
    case SP_Q5_K:
        scales.scale[0] = v_mul(open->d, vi_to_f32(vi_byte(open->words[b / 4], b % 4)));
        scales.min[0] = v_mul(open->min, vi_to_f32(vi_byte(open->words[2 + b / 4], b % 4)));
        break;
    case SP_IQ4_XS: {
        vi low = vi_and(vi_right32(open->words[0], 4 * b), vi_set32(15));
        vi high = vi_and(vi_left32(vi_right32(open->words[1], 2 * b), 4), vi_set32(0x30));
        scales.scale[0] = v_mul(open->d, vi_to_f32(vi_add32(vi_or(low, high), vi_set32(-32))));
        break;
    }
    case SP_MXFP4: {
        /* 2^(e - 128): e - 1 as an exponent, but subnormal for e of 0 and 1. See spi_mxfp4_scale. */
        vi e = vi_byte(open->words[0], b);
        vi normal = vi_left32(vi_add32(e, vi_set32(-1)), 23);
        scales.scale[0] = vi_as_f32(vi_max32(normal, vi_left32(vi_add32(e, vi_set32(1)), 21)));
        break;
    }
    case SP_AFFINE2:
    case SP_AFFINE3:
    case SP_AFFINE4:
    case SP_AFFINE5:
    case SP_AFFINE6:
    case SP_AFFINE8: {
        const uint32_t group = b >> spi_packed_group_shift(affine);
        scales.scale[0] = codes_affine_number(affine, unit, group);
        scales.min[0] = codes_affine_number(affine, unit, spi_packed_groups(affine) + group);
        break;
    }
    default:
        scales.scale[0] = v_load_f16(halves + b * V_WIDTH);
        if (codes_has_min(type)) {
            scales.min[0] = v_load_f16(halves + (4 + b) * V_WIDTH);
        }
        break;
    }
    if (codes_has_min(type) && codes_min_offset(type) != 0) {
        scales.min[0] = v_fma(scales.scale[0], v_set(codes_min_offset(type)), scales.min[0]);
    }
    if (spi_affine_bits(type) && codes_has_halves(type)) {
        scales.scale[1] = scales.scale[0];
        scales.min[1] = scales.min[0];
    }
    return scales;
}

#endif
