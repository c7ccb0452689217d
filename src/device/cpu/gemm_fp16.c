/* device/cpu/gemm_fp16.c - the guests' matrix product of f16 with Arm's products of f16 that are added in f32
 * (FEAT_FHM): factors need no widening, products of two f16 are exact, and sums are rounded as by gemm_body.h, so the
 * bits are the same. (Sums in f16 would have eleven bits; FEAT_FP16's other arithmetic has no use here.) May include:
 * device, os, base. */
#include <arm_neon.h>
#include <string.h>

#include "device/cpu/products.h"

#define ROWS      48u
#define COLS      256u
#define TILE_ROWS 6u
#define PANEL     16u
#define SLICE     256u

typedef struct scratch {
    float16_t a[ROWS * SLICE];  /* [tile][k][TILE_ROWS] */
    float16_t b[SLICE * PANEL]; /* [k][PANEL] */
    float sums[ROWS * COLS];
} scratch;

static void take_a(const spi_cpu_gemm *args, scratch *to, uint32_t k_first, uint32_t k_count) {
    memset(to->a, 0, sizeof to->a);
    for (uint32_t i = 0; i < args->row_count; i++) {
        const float16_t *from = (const float16_t *)args->a + (size_t)(args->row_first + i) * args->k + k_first;
        float16_t *at = to->a + (size_t)(i / TILE_ROWS) * SLICE * TILE_ROWS + i % TILE_ROWS;
        for (uint32_t k = 0; k < k_count; k++) {
            at[(size_t)k * TILE_ROWS] = from[k];
        }
    }
}

static void take_b(const spi_cpu_gemm *args, scratch *to, uint32_t k_first, uint32_t k_count, uint32_t col,
                   uint32_t col_count) {
    memset(to->b, 0, sizeof to->b);
    for (uint32_t k = 0; k < k_count; k++) {
        const float16_t *from = (const float16_t *)args->b + (size_t)(k_first + k) * args->n + col;
        memcpy(to->b + (size_t)k * PANEL, from, col_count * sizeof *from);
    }
}

static void add_tile(const float16_t *a, const float16_t *b, float *sums, uint32_t k_count) {
    float32x4_t c[TILE_ROWS][4];
#pragma GCC unroll 6
    for (uint32_t i = 0; i < TILE_ROWS; i++) {
#pragma GCC unroll 4
        for (uint32_t u = 0; u < 4; u++) {
            c[i][u] = vld1q_f32(sums + (size_t)i * COLS + 4 * u);
        }
    }
    for (uint32_t k = 0; k < k_count; k++, a += TILE_ROWS, b += PANEL) {
        float16x8_t b0 = vld1q_f16(b), b1 = vld1q_f16(b + 8);
#pragma GCC unroll 6
        for (uint32_t i = 0; i < TILE_ROWS; i++) {
            float16x8_t x = vld1q_dup_f16(a + i);
            c[i][0] = vfmlalq_low_f16(c[i][0], b0, x);
            c[i][1] = vfmlalq_high_f16(c[i][1], b0, x);
            c[i][2] = vfmlalq_low_f16(c[i][2], b1, x);
            c[i][3] = vfmlalq_high_f16(c[i][3], b1, x);
        }
    }
#pragma GCC unroll 6
    for (uint32_t i = 0; i < TILE_ROWS; i++) {
#pragma GCC unroll 4
        for (uint32_t u = 0; u < 4; u++) {
            vst1q_f32(sums + (size_t)i * COLS + 4 * u, c[i][u]);
        }
    }
}

void spi_gemm_fp16(const spi_cpu_gemm *args) {
    scratch *all = args->scratch;
    memset(all->sums, 0, sizeof all->sums);
    for (uint32_t k = 0; k < args->k; k += SLICE) {
        uint32_t k_count = args->k - k < SLICE ? args->k - k : SLICE;
        take_a(args, all, k, k_count);
        for (uint32_t col = 0; col < args->col_count; col += PANEL) {
            uint32_t left = args->col_count - col;
            take_b(args, all, k, k_count, args->col_first + col, left < PANEL ? left : PANEL);
            for (uint32_t i = 0; i < args->row_count; i += TILE_ROWS) {
                add_tile(all->a + (size_t)i * SLICE, all->b, all->sums + (size_t)i * COLS + col, k_count);
            }
        }
    }
    for (uint32_t i = 0; i < args->row_count; i++) {
        float *to = args->c + (size_t)(args->row_first + i) * args->n + args->col_first;
        memcpy(to, all->sums + (size_t)i * COLS, args->col_count * sizeof *to);
    }
}
