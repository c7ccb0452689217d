/* dtype/quant_256.c - encoding blocks of 256 values with scaled sub-blocks: see dtype/quant.h for where the algorithms
 * are from. Each finds the sub-blocks' scales, rounds these to a few bits, and then rounds the values once more with
 * the scales as they will be read. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "dtype/blocks.h"
#include "dtype/quant.h"
#include "dtype/quant_search.h"

/* Two bits of each value from bit `shift` on, where spi_q2_k has them. */
static void put_two_bits(uint8_t q[64], const uint8_t levels[SPI_SUPER_BLOCK], uint32_t shift) {
    memset(q, 0, 64);
    for (uint32_t j = 0; j < SPI_SUPER_BLOCK; j++) {
        q[j / 128 * 32 + j % 32] |= (uint8_t)((levels[j] >> shift & 3) << (j % 128 / 32 * 2));
    }
}

/* One bit of each value. */
static void put_bit(uint8_t high[32], const uint8_t levels[SPI_SUPER_BLOCK], uint32_t shift) {
    memset(high, 0, 32);
    for (uint32_t j = 0; j < SPI_SUPER_BLOCK; j++) {
        high[j % 32] |= (uint8_t)((levels[j] >> shift & 1) << (j / 32));
    }
}

/* Four bits of each value, where spi_q4_k has them. */
static void put_four_bits(uint8_t q[128], const uint8_t levels[SPI_SUPER_BLOCK]) {
    for (uint32_t j = 0; j < 128; j++) {
        const uint8_t *pair = levels + j / 32 * 64 + j % 32;
        q[j] = (uint8_t)((pair[0] & 15) | pair[32] << 4);
    }
}

static float largest_of(const float *values, uint32_t count) {
    float largest = 0;
    for (uint32_t i = 0; i < count; i++) {
        largest = values[i] > largest ? values[i] : largest;
    }
    return largest;
}

/* The values of a sub-block in levels of `step` from -offset on. */
static void round_again(const float *x, uint32_t count, float step, float offset, int least, int most,
                        uint8_t *levels) {
    if (step == 0) {
        return; /* what the search found stays */
    }
    for (uint32_t i = 0; i < count; i++) {
        levels[i] = (uint8_t)(spi_clamp(spi_nearest((x[i] + offset) / step), least, most) - least);
    }
}

void spi_encode_q2_k(const float *x, void *to) {
    static const spi_search how = {.count = 16, .most = 3, .first = -0.5f, .step = 0.1f, .steps = 15, .absolute = true};
    spi_q2_k *block = to;
    uint8_t levels[SPI_SUPER_BLOCK];
    float scales[16], minima[16], weights[16];
    for (uint32_t s = 0; s < 16; s++) {
        for (uint32_t i = 0; i < 16; i++) {
            weights[i] = fabsf(x[16 * s + i]);
        }
        scales[s] = spi_search_offset(&how, x + 16 * s, weights, levels + 16 * s, &minima[s]);
    }
    float scale = largest_of(scales, 16), minimum = largest_of(minima, 16);
    for (uint32_t s = 0; s < 16; s++) {
        int low = scale > 0 ? spi_nearest(15.0f / scale * scales[s]) : 0;
        int high = minimum > 0 ? spi_nearest(15.0f / minimum * minima[s]) : 0;
        block->scales[s] = (uint8_t)((uint32_t)low | (uint32_t)high << 4);
    }
    block->d = spi_f32_to_f16(scale > 0 ? scale / 15.0f : 0);
    block->min = spi_f32_to_f16(minimum > 0 ? minimum / 15.0f : 0);
    float d = spi_f16_to_f32(block->d), min = spi_f16_to_f32(block->min);
    for (uint32_t s = 0; s < 16; s++) {
        round_again(x + 16 * s, 16, d * (float)(block->scales[s] & 15), min * (float)(block->scales[s] >> 4), 0, 3,
                    levels + 16 * s);
    }
    put_two_bits(block->q, levels, 0);
}

/* The scale that is farthest from zero. */
static float farthest(const float scales[16]) {
    float largest = 0, value = 0;
    for (uint32_t s = 0; s < 16; s++) {
        if (fabsf(scales[s]) > largest) {
            largest = fabsf(scales[s]);
            value = scales[s];
        }
    }
    return value;
}

void spi_encode_q3_k(const float *x, void *to) {
    spi_q3_k *block = to;
    uint8_t levels[SPI_SUPER_BLOCK];
    float scales[16];
    for (uint32_t s = 0; s < 16; s++) {
        scales[s] = spi_search_one_by_one(x + 16 * s, 4, levels + 16 * s);
    }
    float scale = farthest(scales), inverse = scale != 0 ? -32.0f / scale : 0;
    memset(block->scales, 0, sizeof block->scales);
    block->d = spi_f32_to_f16(scale != 0 ? 1 / inverse : 0);
    for (uint32_t s = 0; s < 16 && scale != 0; s++) {
        uint32_t code = (uint32_t)(spi_clamp((int8_t)spi_nearest(inverse * scales[s]), -32, 31) + 32);
        block->scales[s % 8] |= (uint8_t)((code & 15) << (s / 8 * 4));
        block->scales[8 + s % 4] |= (uint8_t)(code >> 4 << (s / 4 * 2));
    }
    float d = spi_f16_to_f32(block->d);
    for (uint32_t s = 0; s < 16; s++) {
        round_again(x + 16 * s, 16, d * (float)spi_q3_k_scale(block->scales, s), 0, -4, 3, levels + 16 * s);
    }
    put_two_bits(block->q, levels, 0);
    put_bit(block->high, levels, 2);
}

/* Six bits each, as spi_q4_k_scale reads them. */
static void put_scale(uint8_t scales[12], uint32_t s, uint8_t scale, uint8_t minimum) {
    if (s < 4) {
        scales[s] = scale;
        scales[s + 4] = minimum;
    } else {
        scales[s + 4] = (uint8_t)((scale & 15) | (minimum & 15) << 4);
        scales[s - 4] |= (uint8_t)(scale >> 4 << 6);
        scales[s] |= (uint8_t)(minimum >> 4 << 6);
    }
}

static uint8_t six_bits(float value) {
    uint8_t code = (uint8_t)spi_nearest(value);
    return code < 63 ? code : 63;
}

/* What Q4_K and Q5_K have in common: all but where the bits of a value go. */
static void encode_with_minima(const float *x, const spi_search *how, uint16_t *d, uint16_t *min, uint8_t packed[12],
                               uint8_t levels[SPI_SUPER_BLOCK]) {
    float scales[8], minima[8], weights[32];
    for (uint32_t s = 0; s < 8; s++) {
        const float *sub = x + 32 * s;
        float squares = 0;
        for (uint32_t i = 0; i < 32; i++) {
            squares += sub[i] * sub[i];
        }
        float mean = sqrtf(squares / 32);
        for (uint32_t i = 0; i < 32; i++) {
            weights[i] = mean + fabsf(sub[i]);
        }
        scales[s] = spi_search_offset(how, sub, weights, levels + 32 * s, &minima[s]);
    }
    float scale = largest_of(scales, 8), minimum = largest_of(minima, 8);
    float inverse_scale = scale > 0 ? 63.0f / scale : 0, inverse_minimum = minimum > 0 ? 63.0f / minimum : 0;
    for (uint32_t s = 0; s < 8; s++) {
        put_scale(packed, s, six_bits(inverse_scale * scales[s]), six_bits(inverse_minimum * minima[s]));
    }
    *d = spi_f32_to_f16(scale / 63.0f);
    *min = spi_f32_to_f16(minimum / 63.0f);
    for (uint32_t s = 0; s < 8; s++) {
        uint8_t code, low;
        spi_q4_k_scale(packed, s, &code, &low);
        round_again(x + 32 * s, 32, spi_f16_to_f32(*d) * (float)code, spi_f16_to_f32(*min) * (float)low, 0, how->most,
                    levels + 32 * s);
    }
}

void spi_encode_q4_k(const float *x, void *to) {
    static const spi_search how = {.count = 32, .most = 15, .first = -1.0f, .step = 0.1f, .steps = 20};
    spi_q4_k *block = to;
    uint8_t levels[SPI_SUPER_BLOCK];
    encode_with_minima(x, &how, &block->d, &block->min, block->scales, levels);
    put_four_bits(block->q, levels);
}

void spi_encode_q5_k(const float *x, void *to) {
    static const spi_search how = {.count = 32, .most = 31, .first = -0.5f, .step = 0.1f, .steps = 15};
    spi_q5_k *block = to;
    uint8_t levels[SPI_SUPER_BLOCK];
    encode_with_minima(x, &how, &block->d, &block->min, block->scales, levels);
    put_four_bits(block->q, levels);
    put_bit(block->high, levels, 4);
}

void spi_encode_q6_k(const float *x, void *to) {
    spi_q6_k *block = to;
    uint8_t levels[SPI_SUPER_BLOCK];
    float scales[16];
    for (uint32_t s = 0; s < 16; s++) {
        scales[s] = spi_search_symmetric(x + 16 * s, 32, levels + 16 * s);
    }
    float scale = farthest(scales);
    if (fabsf(scale) < SPI_GROUP_LEAST) {
        memset(block, 0, sizeof *block);
        return;
    }
    float inverse = -128.0f / scale;
    block->d = spi_f32_to_f16(1 / inverse);
    for (uint32_t s = 0; s < 16; s++) {
        int code = spi_nearest(inverse * scales[s]);
        block->scales[s] = (int8_t)(code < 127 ? code : 127);
    }
    float d = spi_f16_to_f32(block->d);
    for (uint32_t s = 0; s < 16; s++) {
        round_again(x + 16 * s, 16, d * (float)block->scales[s], 0, -32, 31, levels + 16 * s);
    }
    for (uint32_t j = 0; j < 128; j++) {
        const uint8_t *pair = levels + j / 64 * 128 + j % 64;
        block->low[j] = (uint8_t)((pair[0] & 15) | pair[64] << 4);
    }
    put_two_bits(block->high, levels, 4);
}
