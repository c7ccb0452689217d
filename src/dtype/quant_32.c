/* dtype/quant_32.c - encoding blocks of 32 values with one scale: see dtype/quant.h for where the algorithms are
 * from. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "dtype/blocks.h"
#include "dtype/quant.h"

/* What a conversion to int does on x86-64, where C leaves it undefined: a scale below the normal numbers has an
 * infinite inverse. */
static int truncated(float value) {
    return fabsf(value) < 0x1p31f ? (int)value : 0;
}

static int at_most(int value, int most) {
    return value < most ? value : most;
}

static float inverse(float d) {
    return d != 0 ? 1 / d : 0;
}

/* The value that is farthest from zero, the first of them. */
static float farthest(const float *x) {
    float largest = 0, value = 0;
    for (uint32_t j = 0; j < SPI_QUANT_BLOCK; j++) {
        if (largest < fabsf(x[j])) {
            largest = fabsf(x[j]);
            value = x[j];
        }
    }
    return value;
}

static void range_of(const float *x, float *min, float *max) {
    *min = *max = x[0];
    for (uint32_t j = 1; j < SPI_QUANT_BLOCK; j++) {
        *min = x[j] < *min ? x[j] : *min;
        *max = x[j] > *max ? x[j] : *max;
    }
}

static void put_nibbles(uint8_t q[16], const uint8_t levels[SPI_QUANT_BLOCK]) {
    for (uint32_t j = 0; j < 16; j++) {
        q[j] = (uint8_t)((levels[j] & 15) | levels[j + 16] << 4);
    }
}

static void put_fifths(uint8_t high[4], const uint8_t levels[SPI_QUANT_BLOCK]) {
    memset(high, 0, 4);
    for (uint32_t j = 0; j < SPI_QUANT_BLOCK; j++) {
        high[j / 8] |= (uint8_t)((levels[j] >> 4 & 1) << j % 8);
    }
}

/* Levels 0..most around the middle one, from a scale that puts the farthest value on the lowest level. */
static uint16_t symmetric(const float *x, int most, uint8_t levels[SPI_QUANT_BLOCK]) {
    int half = (most + 1) / 2;
    float d = farthest(x) / (float)-half, id = inverse(d);
    for (uint32_t j = 0; j < SPI_QUANT_BLOCK; j++) {
        levels[j] = (uint8_t)at_most((int8_t)truncated(x[j] * id + ((float)half + 0.5f)), most);
    }
    return spi_f32_to_f16(d);
}

/* Levels 0..most from the smallest value to the largest. */
static uint16_t with_minimum(const float *x, int most, uint8_t levels[SPI_QUANT_BLOCK], uint16_t *minimum) {
    float min, max;
    range_of(x, &min, &max);
    float d = (max - min) / (float)most, id = inverse(d);
    for (uint32_t j = 0; j < SPI_QUANT_BLOCK; j++) {
        levels[j] = (uint8_t)at_most((int8_t)truncated((x[j] - min) * id + 0.5f), most);
    }
    *minimum = spi_f32_to_f16(min);
    return spi_f32_to_f16(d);
}

void spi_encode_q8_0(const float *x, void *to) {
    spi_q8_0 *block = to;
    float d = fabsf(farthest(x)) / 127, id = inverse(d);
    block->d = spi_f32_to_f16(d);
    for (uint32_t j = 0; j < SPI_QUANT_BLOCK; j++) {
        block->q[j] = (int8_t)truncated(roundf(x[j] * id));
    }
}

void spi_encode_q4_0(const float *x, void *to) {
    spi_q4_0 *block = to;
    uint8_t levels[SPI_QUANT_BLOCK];
    block->d = symmetric(x, 15, levels);
    put_nibbles(block->q, levels);
}

void spi_encode_q5_0(const float *x, void *to) {
    spi_q5_0 *block = to;
    uint8_t levels[SPI_QUANT_BLOCK];
    block->d = symmetric(x, 31, levels);
    put_nibbles(block->q, levels);
    put_fifths(block->high, levels);
}

void spi_encode_q4_1(const float *x, void *to) {
    spi_q4_1 *block = to;
    uint8_t levels[SPI_QUANT_BLOCK];
    block->d = with_minimum(x, 15, levels, &block->min);
    put_nibbles(block->q, levels);
}

void spi_encode_q5_1(const float *x, void *to) {
    spi_q5_1 *block = to;
    uint8_t levels[SPI_QUANT_BLOCK];
    block->d = with_minimum(x, 31, levels, &block->min);
    put_nibbles(block->q, levels);
    put_fifths(block->high, levels);
}
