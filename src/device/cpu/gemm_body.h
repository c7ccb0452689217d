/* device/cpu/gemm_body.h - the guests' matrix product, for the vectors of vector.h.
 *
 * A block of c is summed in scratch over slices of k: the slice of a is laid out by tiles of GEMM_TILE_ROWS rows, the
 * slice of b by panels of two vectors of columns, both as f32 and padded with zeros, so that the inner loop knows no
 * edges and no types. Included by kernels_*.c.
 */
#ifndef SPI_DEVICE_CPU_GEMM_BODY_H
#define SPI_DEVICE_CPU_GEMM_BODY_H

#include <string.h>

#include "base/half.h"
#include "device/cpu/kernels.h"
#include "device/cpu/vector.h"

#if defined(__AVX512F__)
#define GEMM_TILE_ROWS 12u
#else
#define GEMM_TILE_ROWS 6u
#endif
#define GEMM_ROWS  48u
#define GEMM_COLS  256u
#define GEMM_SLICE 256u
#define GEMM_PANEL (2 * V_WIDTH)

typedef struct gemm_scratch {
    float a[GEMM_ROWS * GEMM_SLICE];   /* [tile][k][GEMM_TILE_ROWS] */
    float b[GEMM_SLICE * GEMM_PANEL];  /* [k][GEMM_PANEL] */
    float sums[GEMM_ROWS * GEMM_COLS]; /* [GEMM_ROWS][GEMM_COLS] */
} gemm_scratch;

static void gemm_take_a(const spi_cpu_gemm *args, gemm_scratch *scratch, uint32_t k_first, uint32_t k_count) {
    for (uint32_t i = 0; i < GEMM_ROWS; i++) {
        float *to = scratch->a + (size_t)(i / GEMM_TILE_ROWS) * GEMM_SLICE * GEMM_TILE_ROWS + i % GEMM_TILE_ROWS;
        size_t from = (size_t)(args->row_first + i) * args->k + k_first;
        for (uint32_t k = 0; k < k_count; k++) {
            float value = 0;
            if (i < args->row_count) {
                value = args->half ? v_half(((const uint16_t *)args->a)[from + k]) : ((const float *)args->a)[from + k];
            }
            to[(size_t)k * GEMM_TILE_ROWS] = value;
        }
    }
}

static void gemm_take_b(const spi_cpu_gemm *args, gemm_scratch *scratch, uint32_t k_first, uint32_t k_count,
                        uint32_t col, uint32_t col_count) {
    for (uint32_t k = 0; k < k_count; k++) {
        size_t from = (size_t)(k_first + k) * args->n + col;
        float *to = scratch->b + (size_t)k * GEMM_PANEL;
        if (col_count == GEMM_PANEL) {
            for (uint32_t u = 0; u < GEMM_PANEL; u += V_WIDTH) {
                v_store(to + u, args->half ? v_load_f16((const uint16_t *)args->b + from + u)
                                           : v_load((const float *)args->b + from + u));
            }
            continue;
        }
        for (uint32_t j = 0; j < GEMM_PANEL; j++) {
            to[j] = j >= col_count ? 0
                    : args->half   ? v_half(((const uint16_t *)args->b)[from + j])
                                   : ((const float *)args->b)[from + j];
        }
    }
}

static void gemm_tile(const float *a, const float *b, float *sums, uint32_t k_count) {
    vf c[GEMM_TILE_ROWS][2];
#pragma GCC unroll 12
    for (uint32_t i = 0; i < GEMM_TILE_ROWS; i++) {
        c[i][0] = v_load(sums + (size_t)i * GEMM_COLS);
        c[i][1] = v_load(sums + (size_t)i * GEMM_COLS + V_WIDTH);
    }
    for (uint32_t k = 0; k < k_count; k++, a += GEMM_TILE_ROWS, b += GEMM_PANEL) {
        vf b0 = v_load(b), b1 = v_load(b + V_WIDTH);
#pragma GCC unroll 12
        for (uint32_t i = 0; i < GEMM_TILE_ROWS; i++) {
            vf x = v_set(a[i]);
            c[i][0] = v_fma(x, b0, c[i][0]);
            c[i][1] = v_fma(x, b1, c[i][1]);
        }
    }
#pragma GCC unroll 12
    for (uint32_t i = 0; i < GEMM_TILE_ROWS; i++) {
        v_store(sums + (size_t)i * GEMM_COLS, c[i][0]);
        v_store(sums + (size_t)i * GEMM_COLS + V_WIDTH, c[i][1]);
    }
}

static void gemm(const spi_cpu_gemm *args) {
    gemm_scratch *scratch = args->scratch;
    memset(scratch->sums, 0, sizeof scratch->sums);
    for (uint32_t k = 0; k < args->k; k += GEMM_SLICE) {
        uint32_t k_count = args->k - k < GEMM_SLICE ? args->k - k : GEMM_SLICE;
        gemm_take_a(args, scratch, k, k_count);
        for (uint32_t col = 0; col < args->col_count; col += GEMM_PANEL) {
            uint32_t left = args->col_count - col;
            gemm_take_b(args, scratch, k, k_count, args->col_first + col, left < GEMM_PANEL ? left : GEMM_PANEL);
            for (uint32_t i = 0; i < args->row_count; i += GEMM_TILE_ROWS) {
                gemm_tile(scratch->a + (size_t)i * GEMM_SLICE, scratch->b, scratch->sums + (size_t)i * GEMM_COLS + col,
                          k_count);
            }
        }
    }
    for (uint32_t i = 0; i < args->row_count; i++) {
        float *to = args->c + (size_t)(args->row_first + i) * args->n + args->col_first;
        memcpy(to, scratch->sums + (size_t)i * GEMM_COLS, args->col_count * sizeof *to);
    }
}

#endif
