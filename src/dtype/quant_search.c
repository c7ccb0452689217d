/* dtype/quant_search.c - see quant_search.h. Every expression is evaluated from left to right in f32. */
#include "dtype/quant_search.h"

#include <math.h>
#include <string.h>

#include "base/half.h"

static inline int nearest(float value) {
    /* Adding 1.5 * 2^23 leaves the whole number in the low bits. */
    uint32_t bits = spi_f32_to_bits(value + 12582912.0f);
    return (int)(bits & 0x007fffffu) - 0x00400000;
}

int spi_nearest(float value) {
    return nearest(value);
}

static float farthest(const float x[SPI_GROUP], float *largest) {
    float value = *largest = 0;
    for (uint32_t i = 0; i < SPI_GROUP; i++) {
        if (fabsf(x[i]) > *largest) {
            *largest = fabsf(x[i]);
            value = x[i];
        }
    }
    return value;
}

typedef struct sums {
    float lx, l2; /* of w * x * level and w * level^2 */
} sums;

/* The sums for a scale's inverse. The terms are found side by side, and then added in their order. */
static sums sums_at(const float x[SPI_GROUP], int half, float inverse) {
    float lx[SPI_GROUP], l2[SPI_GROUP];
    for (uint32_t i = 0; i < SPI_GROUP; i++) {
        float weight = x[i] * x[i], l = (float)spi_clamp(nearest(inverse * x[i]), -half, half - 1);
        lx[i] = weight * x[i] * l;
        l2[i] = weight * l * l;
    }
    sums of = {0};
    for (uint32_t i = 0; i < SPI_GROUP; i++) {
        of.lx += lx[i];
        of.l2 += l2[i];
    }
    return of;
}

static void symmetric_levels(const float x[SPI_GROUP], int half, float inverse, uint8_t levels[SPI_GROUP]) {
    for (uint32_t i = 0; i < SPI_GROUP; i++) {
        levels[i] = (uint8_t)(spi_clamp(nearest(inverse * x[i]), -half, half - 1) + half);
    }
}

float spi_search_symmetric(const float x[SPI_GROUP], int half, uint8_t levels[SPI_GROUP]) {
    float largest, max = farthest(x, &largest);
    if (largest < SPI_GROUP_LEAST) {
        memset(levels, 0, SPI_GROUP);
        return 0;
    }
    float found = (float)-half / max;
    sums of = sums_at(x, half, found);
    float scale = of.l2 != 0 ? of.lx / of.l2 : 0, best = scale * of.lx;
    for (int i = -9; i <= 9; i++) {
        float inverse = -((float)half + 0.1f * (float)i) / max;
        of = i ? sums_at(x, half, inverse) : (sums){0};
        if (of.l2 > 0 && of.lx * of.lx > best * of.l2) {
            found = inverse;
            scale = of.lx / of.l2;
            best = scale * of.lx;
        }
    }
    symmetric_levels(x, half, found, levels);
    return scale;
}

/* Moves value i to the level that suits the others; true if that is better. */
static bool improve(float x, int half, int8_t *level, sums *of) {
    float weight = x * x, l = (float)*level;
    sums other = {.lx = of->lx - weight * x * l};
    if (!(other.lx > 0)) {
        return false;
    }
    other.l2 = of->l2 - weight * l * l;
    int moved = spi_clamp(nearest(x * other.l2 / other.lx), -half, half - 1);
    if (moved == *level) {
        return false;
    }
    other.lx += weight * x * (float)moved;
    other.l2 += weight * (float)moved * (float)moved;
    if (!(other.l2 > 0 && other.lx * other.lx * of->l2 > of->lx * of->lx * other.l2)) {
        return false;
    }
    *level = (int8_t)moved;
    *of = other;
    return true;
}

float spi_search_one_by_one(const float x[SPI_GROUP], int half, uint8_t levels[SPI_GROUP]) {
    float largest, max = farthest(x, &largest);
    if (largest < SPI_GROUP_LEAST) {
        memset(levels, 0, SPI_GROUP);
        return 0;
    }
    sums of = sums_at(x, half, (float)-half / max);
    symmetric_levels(x, half, (float)-half / max, levels);
    bool changed = true;
    for (int round = 0; round < 5 && changed; round++) {
        changed = false;
        for (uint32_t i = 0; i < SPI_GROUP; i++) {
            int8_t level = (int8_t)(levels[i] - half);
            if (improve(x[i], half, &level, &of)) {
                levels[i] = (uint8_t)(level + half);
                changed = true;
            }
        }
    }
    return of.lx / of.l2;
}

typedef struct line { /* x ~ scale * level + min */
    float scale, min;
} line;

/* The values of a sub-block; `count` is a constant wherever these functions are expanded, so that their loops run in
 * vectors. Sums are added in the order of the values. */
typedef struct group {
    const float *x, *weights;
    float sum_w, sum_x; /* of weights, and of weights * x */
} group;

#define SPECIAL static inline __attribute__((always_inline))

SPECIAL float error_of(const group *of, const uint32_t count, const float levels[32], line fit, bool absolute) {
    float terms[32], error = 0;
    for (uint32_t i = 0; i < count; i++) {
        float difference = fit.scale * levels[i] + fit.min - of->x[i];
        terms[i] = of->weights[i] * (absolute ? fabsf(difference) : difference * difference);
    }
    for (uint32_t i = 0; i < count; i++) {
        error += terms[i];
    }
    return error;
}

SPECIAL void levels_at(const group *of, const uint32_t count, float inverse, float min, int most, float levels[32]) {
    for (uint32_t i = 0; i < count; i++) {
        levels[i] = (float)spi_clamp(nearest(inverse * (of->x[i] - min)), 0, most);
    }
}

/* The weighted least squares of x over levels, with a minimum that is not above zero; false: there is none. */
SPECIAL bool fit_line(const group *of, const uint32_t count, const float levels[32], line *fit) {
    float l[32], l2[32], xl[32], sum_l = 0, sum_l2 = 0, sum_xl = 0;
    for (uint32_t i = 0; i < count; i++) {
        l[i] = of->weights[i] * levels[i];
        l2[i] = l[i] * levels[i];
        xl[i] = l[i] * of->x[i];
    }
    for (uint32_t i = 0; i < count; i++) {
        sum_l += l[i];
        sum_l2 += l2[i];
        sum_xl += xl[i];
    }
    float determinant = of->sum_w * sum_l2 - sum_l * sum_l;
    if (!(determinant > 0)) {
        return false;
    }
    fit->scale = (of->sum_w * sum_xl - of->sum_x * sum_l) / determinant;
    fit->min = (sum_l2 * of->sum_x - sum_l * sum_xl) / determinant;
    if (fit->min > 0) {
        fit->min = 0;
        fit->scale = sum_xl / sum_l2;
    }
    return true;
}

SPECIAL float search_offset(const spi_search *how, const uint32_t count, const float *x, const float *weights,
                            uint8_t *levels, float *minimum) {
    group of = {.x = x, .weights = weights, .sum_w = weights[0], .sum_x = weights[0] * x[0]};
    float min = x[0], max = x[0], found[32];
    for (uint32_t i = 1; i < count; i++) {
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
        of.sum_w += weights[i];
        of.sum_x += weights[i] * x[i];
    }
    min = min > 0 ? 0 : min;
    if (max == min) {
        memset(levels, 0, count);
        *minimum = -min;
        return 0;
    }
    float inverse = (float)how->most / (max - min);
    line best = {.scale = 1 / inverse, .min = min};
    levels_at(&of, count, inverse, min, how->most, found);
    float best_error = error_of(&of, count, found, best, how->absolute);
    for (int i = 0; i <= how->steps; i++) {
        float tried[32];
        line fit;
        /* What is tried depends on the best minimum so far. */
        inverse = (how->first + how->step * (float)i + (float)how->most) / (max - best.min);
        levels_at(&of, count, inverse, best.min, how->most, tried);
        if (!fit_line(&of, count, tried, &fit)) {
            continue;
        }
        float error = error_of(&of, count, tried, fit, how->absolute);
        if (error < best_error) {
            memcpy(found, tried, count * sizeof *found);
            best_error = error;
            best = fit;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        levels[i] = (uint8_t)found[i];
    }
    *minimum = -best.min;
    return best.scale;
}

float spi_search_offset(const spi_search *how, const float *x, const float *weights, uint8_t *levels, float *minimum) {
    return how->count == 32 ? search_offset(how, 32, x, weights, levels, minimum)
                            : search_offset(how, 16, x, weights, levels, minimum);
}
