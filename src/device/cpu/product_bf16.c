/* device/cpu/product_bf16.c - products of many tokens with BF16 weights by Arm's products of matrices of bf16: two rows
 * x four columns times four columns of two tokens. Activations are rounded to bf16; sums are f32, added in pairs that
 * the instruction rounds in its own way. May include: device, os, base. */
#include <arm_neon.h>
#include <string.h>

#include "device/cpu/products.h"

#define TILE_ROWS   8u
#define TILE_TOKENS 8u
#define STEP        8u /* columns */
_Static_assert(SPI_FLOAT_ROWS % TILE_ROWS == 0 && SPI_BF16_UNIT % TILE_TOKENS == 0, "out has room for whole tiles");

typedef struct tile {
    const uint16_t *rows, *acts; /* at the first of 32 columns */
    size_t row_stride;
    float32x4_t sums[TILE_ROWS / 2][TILE_TOKENS / 2]; /* [row 0 token 0, row 0 token 1, row 1 token 0, row 1 token 1] */
} tile;

/* Columns first .. first + 7 of two rows: the first four of both, then the others. */
static inline void take_pair(const uint16_t *first, const uint16_t *second, bfloat16x8_t out[2]) {
    uint64x2_t a = vreinterpretq_u64_u16(vld1q_u16(first)), b = vreinterpretq_u64_u16(vld1q_u16(second));
    out[0] = vreinterpretq_bf16_u64(vzip1q_u64(a, b));
    out[1] = vreinterpretq_bf16_u64(vzip2q_u64(a, b));
}

static inline void add_block(tile *to) {
    for (uint32_t k = 0; k < SPI_BF16_UNIT; k += STEP) {
        bfloat16x8_t x[TILE_TOKENS / 2][2];
#pragma GCC unroll 4
        for (uint32_t t = 0; t < TILE_TOKENS / 2; t++) {
            const uint16_t *at = to->acts + 2 * t * SPI_BF16_UNIT + k;
            take_pair(at, at + SPI_BF16_UNIT, x[t]);
        }
#pragma GCC unroll 4
        for (uint32_t r = 0; r < TILE_ROWS / 2; r++) {
            bfloat16x8_t w[2];
            take_pair(to->rows + 2 * r * to->row_stride + k, to->rows + (2 * r + 1) * to->row_stride + k, w);
#pragma GCC unroll 4
            for (uint32_t t = 0; t < TILE_TOKENS / 2; t++) {
                to->sums[r][t] = vbfmmlaq_f32(to->sums[r][t], w[0], x[t][0]);
                to->sums[r][t] = vbfmmlaq_f32(to->sums[r][t], w[1], x[t][1]);
            }
        }
    }
}

static void put(const tile *from, float *out, size_t out_stride, uint32_t tokens) {
    for (uint32_t r = 0; r < TILE_ROWS / 2; r++) {
        for (uint32_t t = 0; t < tokens; t++) {
            float four[4];
            vst1q_f32(four, from->sums[r][t / 2]);
            out[t * out_stride + 2 * r] = four[t % 2];
            out[t * out_stride + 2 * r + 1] = four[2 + t % 2];
        }
    }
}

/* Rows as whole blocks of columns: where a row or the matrix ends, a copy with zeros behind them. */
static const uint16_t *rows_of_block(const spi_cpu_product *args, uint32_t row, uint32_t col, uint16_t *room,
                                     size_t *stride) {
    const uint16_t *weights = (const uint16_t *)args->weights + (size_t)(args->row_first + row) * args->cols + col;
    uint32_t cols = args->cols - col < SPI_BF16_UNIT ? args->cols - col : SPI_BF16_UNIT;
    uint32_t rows = args->row_count - row < TILE_ROWS ? args->row_count - row : TILE_ROWS;
    *stride = args->cols;
    if (cols == SPI_BF16_UNIT && rows == TILE_ROWS) {
        return weights;
    }
    *stride = SPI_BF16_UNIT;
    memset(room, 0, sizeof(uint16_t) * TILE_ROWS * SPI_BF16_UNIT);
    for (uint32_t r = 0; r < rows; r++) {
        memcpy(room + r * SPI_BF16_UNIT, weights + (size_t)r * args->cols, cols * sizeof *room);
    }
    return room;
}

/* TILE_ROWS rows x TILE_TOKENS tokens. */
static void product_tile(const spi_cpu_product *args, uint32_t row, uint32_t token) {
    uint16_t room[TILE_ROWS * SPI_BF16_UNIT];
    uint32_t square = token / SPI_BF16_UNIT * SPI_BF16_UNIT, tokens = args->token_count - token;
    tile sums = {.acts = (const uint16_t *)args->acts + square * args->act_stride + (token - square) * SPI_BF16_UNIT};
    for (uint32_t col = 0; col < args->cols; col += SPI_BF16_UNIT) {
        sums.rows = rows_of_block(args, row, col, room, &sums.row_stride);
        add_block(&sums);
        sums.acts += SPI_BF16_UNIT * SPI_BF16_UNIT;
    }
    put(&sums, args->out + token * args->out_stride + row, args->out_stride,
        tokens < TILE_TOKENS ? tokens : TILE_TOKENS);
}

void spi_product_bf16_bfmmla(const spi_cpu_product *args) {
    for (uint32_t row = 0; row < args->row_count; row += TILE_ROWS) {
        for (uint32_t token = 0; token < args->token_count; token += TILE_TOKENS) {
            product_tile(args, row, token);
        }
    }
}

void spi_to_bf16_bfmmla(uint16_t dst[SPI_BF16_UNIT], const float src[SPI_BF16_UNIT]) {
    for (uint32_t i = 0; i < SPI_BF16_UNIT; i += 8) {
        bfloat16x8_t half = vcvtq_low_bf16_f32(vld1q_f32(src + i));
        half = vcvtq_high_bf16_f32(half, vld1q_f32(src + i + 4));
        vst1q_u16(dst + i, vreinterpretq_u16_bf16(half));
    }
}
