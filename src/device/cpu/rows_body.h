/* device/cpu/rows_body.h - ops of one row, for the vectors of vector.h. Included by kernels_*.c. */
#ifndef SPI_DEVICE_CPU_ROWS_BODY_H
#define SPI_DEVICE_CPU_ROWS_BODY_H

#include <math.h>

#include "base/half.h"
#include "device/cpu/kernels.h"
#include "device/cpu/vector.h"

static void rows_norm(float *dst, const float *src, const float *weight, uint32_t count, float eps) {
    vf sums[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    uint32_t i = 0;
    for (; i + 4 * V_WIDTH <= count; i += 4 * V_WIDTH) {
        for (uint32_t u = 0; u < 4; u++) {
            vf x = v_load(src + i + u * V_WIDTH);
            sums[u] = v_fma(x, x, sums[u]);
        }
    }
    for (; i + V_WIDTH <= count; i += V_WIDTH) {
        vf x = v_load(src + i);
        sums[0] = v_fma(x, x, sums[0]);
    }
    if (i < count) {
        vf x = v_load_part(src + i, count - i);
        sums[1] = v_fma(x, x, sums[1]);
    }
    float squares = v_sum(v_add(v_add(sums[0], sums[1]), v_add(sums[2], sums[3])));
    vf factor = v_set((float)(1 / sqrt((double)squares / count + (double)eps)));
    for (i = 0; i + V_WIDTH <= count; i += V_WIDTH) {
        v_store(dst + i, v_mul(v_mul(v_load(src + i), factor), v_load(weight + i)));
    }
    if (i < count) {
        vf x = v_mul(v_load_part(src + i, count - i), factor);
        v_store_part(dst + i, v_mul(x, v_load_part(weight + i, count - i)), count - i);
    }
}

static void rows_rotate(float *head, const float *cosines, const float *sines, uint32_t pair_count,
                        spi_rope_pairs pairs) {
    uint32_t i = 0;
    if (pairs == SPI_ROPE_ADJACENT) {
        for (; i + V_WIDTH / 2 <= pair_count; i += V_WIDTH / 2) {
            vf x = v_load(head + 2 * i);
            vf turned = v_mul(v_swap_pairs(x), v_load_twice(sines + i));
            v_store(head + 2 * i, v_fma_alternate(x, v_load_twice(cosines + i), turned));
        }
    } else {
        for (; i + V_WIDTH <= pair_count; i += V_WIDTH) {
            vf x = v_load(head + i), y = v_load(head + pair_count + i);
            vf c = v_load(cosines + i), s = v_load(sines + i);
            v_store(head + i, v_sub(v_mul(x, c), v_mul(y, s)));
            v_store(head + pair_count + i, v_fma(y, c, v_mul(x, s)));
        }
    }
    for (; i < pair_count; i++) {
        float *first = pairs == SPI_ROPE_HALVES ? head + i : head + 2 * i;
        float *second = pairs == SPI_ROPE_HALVES ? head + i + pair_count : head + 2 * i + 1;
        float x = *first, y = *second;
        *first = x * cosines[i] - y * sines[i];
        *second = x * sines[i] + y * cosines[i];
    }
}

/* See reference.c for the formulas. */
SPI_INLINE vf rows_gated(vf x, vf y, spi_act act) {
    vf u = x;
    if (act == SPI_ACT_GELU_TANH) {
        vf inner = v_fma(v_mul(v_mul(x, x), x), v_set(0.044715f), x);
        u = v_mul(inner, v_set(1.5957691216057308f));
    }
    vf below = v_add(v_set(1), v_exp(v_sub(v_zero(), u)));
    return v_mul(v_div(x, below), y);
}

static void rows_gate(float *dst, const float *src, const float *src1, uint32_t count, spi_act act) {
    uint32_t i = 0;
    for (; i + V_WIDTH <= count; i += V_WIDTH) {
        v_store(dst + i, rows_gated(v_load(src + i), v_load(src1 + i), act));
    }
    if (i < count) {
        vf x = v_load_part(src + i, count - i), y = v_load_part(src1 + i, count - i);
        v_store_part(dst + i, rows_gated(x, y, act), count - i);
    }
}

static void rows_add(float *dst, const float *src, uint32_t count) {
    uint32_t i = 0;
    for (; i + V_WIDTH <= count; i += V_WIDTH) {
        v_store(dst + i, v_add(v_load(dst + i), v_load(src + i)));
    }
    for (; i < count; i++) {
        dst[i] += src[i];
    }
}

static void rows_add_scaled(float *dst, const float *src, uint32_t count, float scale) {
    uint32_t i = 0;
    vf factor = v_set(scale);
    for (; i + V_WIDTH <= count; i += V_WIDTH) {
        v_store(dst + i, v_fma(v_load(src + i), factor, v_load(dst + i)));
    }
    for (; i < count; i++) {
        dst[i] = fmaf(src[i], scale, dst[i]);
    }
}

SPI_INLINE vf rows_capped(vf x, vf scale, float softcap) {
    x = v_mul(x, scale);
    return softcap != 0 ? v_mul(v_tanh(v_div(x, v_set(softcap))), v_set(softcap)) : x;
}

static void rows_cap(float *x, uint32_t count, float scale, float softcap) {
    uint32_t i = 0;
    vf factor = v_set(scale);
    for (; i + V_WIDTH <= count; i += V_WIDTH) {
        v_store(x + i, rows_capped(v_load(x + i), factor, softcap));
    }
    if (i < count) {
        v_store_part(x + i, rows_capped(v_load_part(x + i, count - i), factor, softcap), count - i);
    }
}

static void rows_to_f16(uint16_t *dst, const float *src, uint32_t count) {
    uint32_t i = 0;
    for (; i + V_WIDTH <= count; i += V_WIDTH) {
        v_store_f16(dst + i, v_load(src + i));
    }
    for (; i < count; i++) {
        dst[i] = spi_f32_to_f16(src[i]);
    }
}

#endif
