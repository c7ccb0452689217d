/* device/cpu/amx_bf16_body.h - BF16 weights packed as AMX's tiles take them, so that products of many tokens read them
 * where they lie; and products of few tokens with them, in f32.
 *
 * A group is 32 rows: [step of 32 columns][2 sets of 16 rows], each a tile of [16 pairs of columns][16 rows][2]. What a
 * matrix does not fill is zeros. For few tokens rows are lanes, so sums need no folding; a row's even columns are one
 * sum and its odd ones another, whatever tokens are beside it. Included by products_amx.c. May include: device, os,
 * base.
 */
#ifndef SPI_DEVICE_CPU_AMX_BF16_BODY_H
#define SPI_DEVICE_CPU_AMX_BF16_BODY_H

#include <string.h>

#include "device/cpu/amx_body.h"

#define FEW_TOKENS  7u /* whose sums stay in registers */
#define FEW_EACH(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
_Static_assert(FEW_TOKENS + 1 >= SPI_AMX_BF16_TOKENS, "more are products of tiles");

size_t spi_amx_bf16_bytes(const spi_tensor *tensor) {
    size_t groups = (tensor->rows + AMX_GROUP_ROWS - 1) / AMX_GROUP_ROWS;
    return groups * amx_bf16_steps(tensor->cols) * 2 * AMX_TILE_BYTES;
}

/* `rows` of sixteen rows of the file, turned round. */
static void pack_tile(const uint16_t *from, uint32_t rows, uint32_t stride, uint32_t cols, uint8_t *tile) {
    const __mmask32 mask = cols < AMX_STEP ? (1u << cols) - 1 : 0xffffffffu;
    __m512i lanes[AMX_ROWS];
    for (uint32_t r = 0; r < AMX_ROWS; r++) {
        lanes[r] = r < rows ? _mm512_maskz_loadu_epi16(mask, from + (size_t)r * stride) : _mm512_setzero_si512();
    }
    amx_transpose(lanes, tile);
}

void spi_amx_bf16_pack(void *packed, const spi_tensor *tensor, uint32_t group_first, uint32_t group_count) {
    const uint32_t steps = amx_bf16_steps(tensor->cols), cols = tensor->cols;
    const uint16_t *weights = tensor->data;
    uint8_t *tile = (uint8_t *)packed + (size_t)group_first * steps * 2 * AMX_TILE_BYTES;
    for (uint32_t group = group_first; group < group_first + group_count; group++) {
        for (uint32_t col = 0; col < cols; col += AMX_STEP) {
            for (uint32_t set = 0; set < 2; set++, tile += AMX_TILE_BYTES) {
                const uint32_t row = group * AMX_GROUP_ROWS + set * AMX_ROWS;
                const uint32_t rows = row < tensor->rows ? tensor->rows - row : 0;
                pack_tile(rows ? weights + (size_t)row * cols + col : weights, rows, cols, cols - col, tile);
            }
        }
    }
}

/* A step of a group with some tokens' columns: lines in the order in which they lie, and those behind them asked for,
 * into the second level: processors with tiles do best so (product.c). */
SPI_INLINE void few_columns(const uint8_t *tiles, const float *x, size_t stride, const uint32_t tokens, size_t ahead,
                            vf sums[FEW_TOKENS][2][2]) {
#pragma GCC unroll 2
    for (uint32_t set = 0; set < 2; set++) {
#pragma GCC unroll 16
        for (uint32_t pair = 0; pair < AMX_ROWS; pair++, tiles += AMX_ROW_BYTES) {
            vf even, odd; /* columns of sixteen rows */
            v_load_pairs_bf16((const uint16_t *)(const void *)tiles, &even, &odd);
            v_fetch_second(tiles + ahead);
#pragma GCC unroll 7
            for (uint32_t t = 0; t < tokens; t++) {
                sums[t][set][0] = v_fma(even, v_set(x[t * stride + 2 * pair]), sums[t][set][0]);
                sums[t][set][1] = v_fma(odd, v_set(x[t * stride + 2 * pair + 1]), sums[t][set][1]);
            }
        }
    }
}

/* A group with `tokens` tokens. */
SPI_INLINE void few_rows(const spi_cpu_product *args, const uint8_t *tiles, const float *x, float *out,
                         const uint32_t tokens) {
    const uint32_t whole = args->cols / AMX_STEP, left = args->cols % AMX_STEP;
    vf sums[FEW_TOKENS][2][2];
#pragma GCC unroll 7
    for (uint32_t t = 0; t < tokens; t++) {
        sums[t][0][0] = sums[t][0][1] = sums[t][1][0] = sums[t][1][1] = v_zero();
    }
    for (uint32_t step = 0; step < whole; step++, tiles += 2 * AMX_TILE_BYTES) {
        few_columns(tiles, x + step * AMX_STEP, args->act_stride, tokens, args->ahead_bytes, sums);
    }
    if (left) {
        float rest[FEW_TOKENS][AMX_STEP] = {{0}};
        for (uint32_t t = 0; t < tokens; t++) {
            memcpy(rest[t], x + t * args->act_stride + whole * AMX_STEP, left * sizeof(float));
        }
        few_columns(tiles, rest[0], AMX_STEP, tokens, args->ahead_bytes, sums);
    }
#pragma GCC unroll 7
    for (uint32_t t = 0; t < tokens; t++) {
        v_store(out + t * args->out_stride, v_add(sums[t][0][0], sums[t][0][1]));
        v_store(out + t * args->out_stride + AMX_ROWS, v_add(sums[t][1][0], sums[t][1][1]));
    }
}

/* Each number of tokens stands alone, so that compilers have no other use for its registers. */
typedef void few_kernel(const spi_cpu_product *args, const uint8_t *tiles, const float *x, float *out);
#define X(tokens)                                                                                                      \
    static __attribute__((noinline)) void few_group_##tokens(const spi_cpu_product *args, const uint8_t *tiles,        \
                                                             const float *x, float *out) {                             \
        few_rows(args, tiles, x, out, tokens);                                                                         \
    }
FEW_EACH(X)
#undef X

/* By the tokens less one. */
static few_kernel *const few_kernels[FEW_TOKENS] = {
#define X(tokens) few_group_##tokens,
    FEW_EACH(X)
#undef X
};

void spi_product_bf16_few_amx(const spi_cpu_product *args) {
    for (uint32_t row = 0; row < args->row_count; row += AMX_GROUP_ROWS) {
        const uint8_t *tiles = amx_place(SP_BF16, args, row, 0);
        for (uint32_t token = 0; token < args->token_count; token += FEW_TOKENS) {
            const uint32_t left = args->token_count - token, tokens = left < FEW_TOKENS ? left : FEW_TOKENS;
            few_kernels[tokens - 1](args, tiles, (const float *)args->acts + token * args->act_stride,
                                    args->out + token * args->out_stride + row);
        }
    }
}

#endif
