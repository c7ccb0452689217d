/* dtype/quant_search.c - see quant_search.h. Every expression is evaluated from left to right in f32. */
#include "dtype/quant_search.h"

#include <math.h>
#include <string.h>

#include "base/half.h"

int spi_nearest(float value) {
    /* Adding 1.5 * 2^23 leaves the whole number in the low bits. */
    uint32_t bits = spi_f32_to_bits(value + 12582912.0f);
    return (int)(bits & 0x007fffffu) - 0x00400000;
}

static float farthest(const float *x, uint32_t count, float *largest) {
    float value = *largest = 0;
    for (uint32_t i = 0; i < count; i++) {
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

/* The sums for a scale's inverse; levels, if asked for, are stored with `half` added. */
static sums sums_at(const float *x, uint32_t count, int half, float inverse, uint8_t *levels) {
    sums of = {0};
    for (uint32_t i = 0; i < count; i++) {
        int level = spi_clamp(spi_nearest(inverse * x[i]), -half, half - 1);
        if (levels) {
            levels[i] = (uint8_t)(level + half);
        }
        float weight = x[i] * x[i], l = (float)level;
        of.lx += weight * x[i] * l;
        of.l2 += weight * l * l;
    }
    return of;
}

float spi_search_symmetric(const float *x, uint32_t count, int half, uint8_t *levels) {
    float largest, max = farthest(x, count, &largest);
    if (largest < SPI_GROUP_LEAST) {
        memset(levels, 0, count);
        return 0;
    }
    sums of = sums_at(x, count, half, (float)-half / max, levels);
    float scale = of.l2 != 0 ? of.lx / of.l2 : 0, best = scale * of.lx;
    for (int i = -9; i <= 9; i++) {
        float inverse = -((float)half + 0.1f * (float)i) / max;
        of = i ? sums_at(x, count, half, inverse, NULL) : (sums){0};
        if (of.l2 > 0 && of.lx * of.lx > best * of.l2) {
            sums_at(x, count, half, inverse, levels);
            scale = of.lx / of.l2;
            best = scale * of.lx;
        }
    }
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
    int moved = spi_clamp(spi_nearest(x * other.l2 / other.lx), -half, half - 1);
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

float spi_search_one_by_one(const float *x, uint32_t count, int half, uint8_t *levels) {
    float largest, max = farthest(x, count, &largest);
    if (largest < SPI_GROUP_LEAST) {
        memset(levels, 0, count);
        return 0;
    }
    sums of = sums_at(x, count, half, (float)-half / max, levels);
    bool changed = true;
    for (int round = 0; round < 5 && changed; round++) {
        changed = false;
        for (uint32_t i = 0; i < count; i++) {
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

static float error_of(const spi_search *how, const float *x, const float *weights, const uint8_t *levels, line fit) {
    float error = 0;
    for (uint32_t i = 0; i < how->count; i++) {
        float difference = fit.scale * (float)levels[i] + fit.min - x[i];
        difference = how->absolute ? fabsf(difference) : difference * difference;
        error += weights[i] * difference;
    }
    return error;
}

static void levels_at(const spi_search *how, const float *x, float inverse, float min, uint8_t *levels) {
    for (uint32_t i = 0; i < how->count; i++) {
        levels[i] = (uint8_t)spi_clamp(spi_nearest(inverse * (x[i] - min)), 0, how->most);
    }
}

/* The weighted least squares of x over levels, with a minimum that is not above zero; false: there is none. */
static bool fit_line(const spi_search *how, const float *x, const float *weights, const uint8_t *levels, float sum_w,
                     float sum_x, line *fit) {
    float sum_l = 0, sum_l2 = 0, sum_xl = 0;
    for (uint32_t i = 0; i < how->count; i++) {
        float w = weights[i], l = (float)levels[i];
        sum_l += w * l;
        sum_l2 += w * l * l;
        sum_xl += w * l * x[i];
    }
    float determinant = sum_w * sum_l2 - sum_l * sum_l;
    if (!(determinant > 0)) {
        return false;
    }
    fit->scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
    fit->min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
    if (fit->min > 0) {
        fit->min = 0;
        fit->scale = sum_xl / sum_l2;
    }
    return true;
}

float spi_search_offset(const spi_search *how, const float *x, const float *weights, uint8_t *levels, float *minimum) {
    float min = x[0], max = x[0], sum_w = weights[0], sum_x = sum_w * x[0];
    for (uint32_t i = 1; i < how->count; i++) {
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
        sum_w += weights[i];
        sum_x += weights[i] * x[i];
    }
    min = min > 0 ? 0 : min;
    if (max == min) {
        memset(levels, 0, how->count);
        *minimum = -min;
        return 0;
    }
    float inverse = (float)how->most / (max - min);
    line best = {.scale = 1 / inverse, .min = min};
    levels_at(how, x, inverse, min, levels);
    float best_error = error_of(how, x, weights, levels, best);
    for (int i = 0; i <= how->steps; i++) {
        uint8_t tried[32];
        line fit;
        /* The levels are those of the best minimum so far over the whole range. */
        inverse = (how->first + how->step * (float)i + (float)how->most) / (max - best.min);
        levels_at(how, x, inverse, best.min, tried);
        if (!fit_line(how, x, weights, tried, sum_w, sum_x, &fit)) {
            continue;
        }
        float error = error_of(how, x, weights, tried, fit);
        if (error < best_error) {
            memcpy(levels, tried, how->count);
            best_error = error;
            best = fit;
        }
    }
    *minimum = -best.min;
    return best.scale;
}
