/* device/cpu/turned_body.h - products with F32, F16 and BF16 weights that were turned round when they were loaded.
 *
 * A group of 32 rows lies as [column][32 rows], in the file's own type: rows are lanes, and sums need no folding. With
 * AVX-512 24 of 32 registers hold the sums of 12 tokens, with AVX2 12 of 16 those of 6 with half of a group. Weights
 * are widened each time that they are read, in units that multiplying leaves idle. A sum is one chain along its row,
 * whatever is beside it, so its bits depend neither on how many tokens there are nor on which. Included by turned_*.c.
 */
#ifndef SPI_DEVICE_CPU_TURNED_BODY_H
#define SPI_DEVICE_CPU_TURNED_BODY_H

#include "device/cpu/asks.h"
#include "device/cpu/products.h"

#define TURNED_ROWS SPI_TURNED_ROWS
#if defined(__AVX512F__)
#define TURNED_TOKENS  12
#define TURNED_EACH(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#else
#define TURNED_TOKENS  6
#define TURNED_EACH(X) X(1) X(2) X(3) X(4) X(5) X(6)
#endif
#define TURNED_VECTORS 2u   /* of rows, that a tile takes at once */
#define TURNED_SLICE   128u /* columns: with the activations of a tile they stay in the first-level cache */

SPI_INLINE size_t turned_bytes(sp_dtype type) {
    return type == SP_F32 ? sizeof(float) : sizeof(uint16_t);
}

SPI_INLINE vf turned_load(sp_dtype type, const void *weights, size_t at) {
    return type == SP_F32   ? v_load((const float *)weights + at)
           : type == SP_F16 ? v_load_f16((const uint16_t *)weights + at)
                            : v_load_bf16((const uint16_t *)weights + at);
}

/* A token with whole groups: a sum for each vector of rows, and the next lines on their way. */
SPI_INLINE void turned_single(sp_dtype type, const uint8_t *group, uint32_t cols, const float *x, float *out,
                              const spi_asks asks, size_t ahead_bytes) {
    vf sums[TURNED_ROWS / V_WIDTH];
#pragma GCC unroll 4
    for (uint32_t i = 0; i < TURNED_ROWS / V_WIDTH; i++) {
        sums[i] = v_zero();
    }
#pragma GCC unroll 2
    for (uint32_t k = 0; k < cols; k++) {
        spi_ask(asks, group + ahead_bytes, TURNED_ROWS * turned_bytes(type));
        vf value = v_set(x[k]);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < TURNED_ROWS / V_WIDTH; i++) {
            sums[i] = v_fma(value, turned_load(type, group, i * V_WIDTH), sums[i]);
        }
        group += TURNED_ROWS * turned_bytes(type);
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < TURNED_ROWS / V_WIDTH; i++) {
        v_store(out + i * V_WIDTH, sums[i]);
    }
}

/* Two vectors of a group's rows. */
SPI_INLINE void turned_sums(sp_dtype type, const uint8_t *weights, uint32_t cols, const float *x, size_t x_stride,
                            float *out, size_t out_stride, const uint32_t tokens, bool first, size_t ahead_bytes) {
    vf sums[TURNED_TOKENS][TURNED_VECTORS];
#pragma GCC unroll 12
    for (uint32_t t = 0; t < tokens; t++) {
        sums[t][0] = first ? v_zero() : v_load(out + t * out_stride);
        sums[t][1] = first ? v_zero() : v_load(out + t * out_stride + V_WIDTH);
    }
    for (uint32_t k = 0; k < cols; k++, weights += TURNED_ROWS * turned_bytes(type)) {
        vf w0 = turned_load(type, weights, 0), w1 = turned_load(type, weights, V_WIDTH);
        for (size_t line = 0; ahead_bytes && line < TURNED_ROWS * turned_bytes(type); line += 64) {
            v_fetch(weights + line + ahead_bytes);
        }
#pragma GCC unroll 12
        for (uint32_t t = 0; t < tokens; t++) {
            vf value = v_set(x[t * x_stride + k]);
            sums[t][0] = v_fma(value, w0, sums[t][0]);
            sums[t][1] = v_fma(value, w1, sums[t][1]);
        }
    }
#pragma GCC unroll 12
    for (uint32_t t = 0; t < tokens; t++) {
        v_store(out + t * out_stride, sums[t][0]);
        v_store(out + t * out_stride + V_WIDTH, sums[t][1]);
    }
}

/* Each number of tokens stands alone, so that compilers have no other use for its registers. */
typedef void turned_kernel(const uint8_t *weights, uint32_t cols, const float *x, size_t x_stride, float *out,
                           size_t out_stride, bool first, size_t ahead_bytes);
#define TURNED_KERNEL(type, name, tokens)                                                                              \
    static __attribute__((noinline)) void turned_##name##_##tokens(                                                    \
        const uint8_t *weights, uint32_t cols, const float *x, size_t x_stride, float *out, size_t out_stride,         \
        bool first, size_t ahead_bytes) {                                                                              \
        turned_sums(type, weights, cols, x, x_stride, out, out_stride, tokens, first, ahead_bytes);                    \
    }
#define X(tokens)                                                                                                      \
    TURNED_KERNEL(SP_F32, f32, tokens) TURNED_KERNEL(SP_F16, f16, tokens) TURNED_KERNEL(SP_BF16, bf16, tokens)
TURNED_EACH(X)
#undef X

/* By the tokens less one. */
static turned_kernel *const turned_f32[] = {
#define X(tokens) turned_f32_##tokens,
    TURNED_EACH(X)
#undef X
};
static turned_kernel *const turned_f16[] = {
#define X(tokens) turned_f16_##tokens,
    TURNED_EACH(X)
#undef X
};
static turned_kernel *const turned_bf16[] = {
#define X(tokens) turned_bf16_##tokens,
    TURNED_EACH(X)
#undef X
};

/* A slice of a group with all tokens, in tiles as even as can be. The first one asks for the next slice. */
SPI_INLINE void turned_slice(sp_dtype type, const uint8_t *weights, uint32_t cols, const spi_cpu_product *args,
                             uint32_t row, uint32_t col) {
    turned_kernel *const *kernels = type == SP_F32 ? turned_f32 : type == SP_F16 ? turned_f16 : turned_bf16;
    const uint32_t tiles = (args->token_count - 1) / TURNED_TOKENS + 1;
    for (uint32_t i = 0, t = 0, tokens; i < tiles; i++, t += tokens) {
        tokens = (args->token_count - t - 1) / (tiles - i) + 1;
        const float *x = (const float *)args->acts + t * args->act_stride + col;
        float *out = args->out + t * args->out_stride + row;
        for (uint32_t part = 0; part < TURNED_ROWS; part += TURNED_VECTORS * V_WIDTH) {
            kernels[tokens - 1](weights + part * turned_bytes(type), cols, x, args->act_stride, out + part,
                                args->out_stride, col == 0,
                                i || part ? 0 : TURNED_SLICE * TURNED_ROWS * turned_bytes(type));
        }
    }
}

/* A single token. */
SPI_INLINE void turned_one(sp_dtype type, const spi_cpu_product *args, const uint8_t *group, float *out) {
    if (!args->ahead_bytes) {
        turned_single(type, group, args->cols, args->acts, out, SPI_ASKS_NOT, 0);
    } else if (args->ahead_second) {
        turned_single(type, group, args->cols, args->acts, out, SPI_ASKS_SECOND, args->ahead_bytes);
    } else {
        turned_single(type, group, args->cols, args->acts, out, SPI_ASKS_FIRST, args->ahead_bytes);
    }
}

/* The last group has all of its rows, too, in the weights and in `out`. */
SPI_INLINE void turned_product(sp_dtype type, const spi_cpu_product *args) {
    const size_t column_bytes = TURNED_ROWS * turned_bytes(type);
    const uint8_t *group = (const uint8_t *)args->weights + args->row_first * turned_bytes(type) * args->cols;
    for (uint32_t row = 0; row < args->row_count; row += TURNED_ROWS, group += args->cols * column_bytes) {
        if (args->token_count == 1) {
            turned_one(type, args, group, args->out + row);
            continue;
        }
        for (uint32_t col = 0; col < args->cols; col += TURNED_SLICE) {
            const uint32_t left = args->cols - col, cols = left < TURNED_SLICE ? left : TURNED_SLICE;
            turned_slice(type, group + col * column_bytes, cols, args, row, col);
        }
    }
}

#endif
