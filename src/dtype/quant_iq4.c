/* dtype/quant_iq4.c - encoding IQ4_NL and IQ4_XS, whose levels are not evenly spaced: see dtype/quant.h for where the
 * algorithm is from. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "dtype/blocks.h"
#include "dtype/quant.h"
#include "dtype/quant_search.h"

#define TRIES 7

/* The nearest of the sixteen values; in the middle of two, the larger. */
static uint8_t nearest_value(float x) {
    if (x <= (float)spi_iq4_values[0]) {
        return 0;
    }
    if (x >= (float)spi_iq4_values[15]) {
        return 15;
    }
    uint8_t low = 0, high = 15;
    while (high - low > 1) {
        uint8_t middle = (uint8_t)((low + high) / 2);
        if (x < (float)spi_iq4_values[middle]) {
            high = middle;
        } else {
            low = middle;
        }
    }
    return x - (float)spi_iq4_values[high - 1] < (float)spi_iq4_values[high] - x ? (uint8_t)(high - 1) : high;
}

typedef struct sums {
    float qx, q2;
} sums;

static sums sums_at(const float *x, float inverse) {
    sums of = {0};
    for (uint32_t i = 0; i < 32; i++) {
        float weight = x[i] * x[i], value = (float)spi_iq4_values[nearest_value(inverse * x[i])];
        of.qx += weight * value * x[i];
        of.q2 += weight * value * value;
    }
    return of;
}

/* The scale of 32 values. */
static float search_scale(const float *x) {
    float largest = 0, max = 0;
    for (uint32_t i = 0; i < 32; i++) {
        if (fabsf(x[i]) > largest) {
            largest = fabsf(x[i]);
            max = x[i];
        }
    }
    if (largest < SPI_GROUP_LEAST) {
        return 0;
    }
    sums of = sums_at(x, 1 / (-max / (float)spi_iq4_values[0]));
    float d = of.q2 > 0 ? of.qx / of.q2 : 0, best = d * of.qx;
    for (int i = -TRIES; i <= TRIES; i++) {
        of = sums_at(x, (float)(i + spi_iq4_values[0]) / max);
        if (of.q2 > 0 && of.qx * of.qx > best * of.q2) {
            d = of.qx / of.q2;
            best = d * of.qx;
        }
    }
    return d;
}

static void put_values(const float *x, float inverse, uint8_t q[16]) {
    for (uint32_t j = 0; j < 16; j++) {
        q[j] = (uint8_t)(nearest_value(inverse * x[j]) | nearest_value(inverse * x[j + 16]) << 4);
    }
}

void spi_encode_iq4_nl(const float *x, void *to) {
    spi_iq4_nl *block = to;
    float d = search_scale(x);
    block->d = spi_f32_to_f16(d);
    put_values(x, d != 0 ? 1 / d : 0, block->q);
}

void spi_encode_iq4_xs(const float *x, void *to) {
    spi_iq4_xs *block = to;
    float scales[8], largest = 0, scale = 0;
    for (uint32_t s = 0; s < 8; s++) {
        scales[s] = search_scale(x + 32 * s);
        if (fabsf(scales[s]) > largest) {
            largest = fabsf(scales[s]);
            scale = scales[s];
        }
    }
    float d = -scale / 32, inverse = d != 0 ? 1 / d : 0;
    block->d = spi_f32_to_f16(d);
    block->scales_high = 0;
    memset(block->scales_low, 0, sizeof block->scales_low);
    for (uint32_t s = 0; s < 8; s++) {
        int level = spi_clamp(spi_nearest(inverse * scales[s]), -32, 31);
        float step = d * (float)level;
        put_values(x + 32 * s, step != 0 ? 1 / step : 0, block->q + 16 * s);
        uint32_t code = (uint32_t)(level + 32);
        block->scales_low[s / 2] |= (uint8_t)((code & 15) << (s % 2 * 4));
        block->scales_high = (uint16_t)(block->scales_high | code >> 4 << (2 * s));
    }
}
