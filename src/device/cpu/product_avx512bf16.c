/* device/cpu/product_avx512bf16.c - products of many tokens with BF16 weights by AVX-512's products of bf16: vdpbf16ps adds two
 * columns of 16 rows to f32, in pairs that the instruction rounds in its own way. Activations are rounded to bf16.
 *
 * A slice of 32 rows is turned round once for all tokens, as AMX's tiles would have it, so that rows are lanes; sums of 12
 * tokens stay in registers. What a token's sums are does not depend on the tokens beside it.
 * May include: device, os, base. */
#include <string.h>

#include "device/cpu/amx_tiles.h"
#include "device/cpu/amx_vectors.h"
#include "device/cpu/products.h"

#define GROUP_ROWS  SPI_AMX_ROWS
#define STEP        SPI_BF16_UNIT /* columns */
#define SLICE_STEPS 8u
#define SLICE       (SLICE_STEPS * STEP)
#define TOKENS      12u
_Static_assert((size_t)SLICE_STEPS * 2 * AMX_TILE_BYTES <= SPI_FLOAT_SCRATCH_BYTES, "see products.h");

/* Rows from `row` on, columns from `col` on, into [step][2 sets][16 pairs][16 rows][2]; what is missing is zero. Each line
 * read asks for the one `ahead` bytes behind it, in the slice that comes next. */
static void take_slice(const spi_cpu_product *args, uint32_t row, uint32_t col, uint32_t steps, size_t ahead) {
    const uint16_t *weights = (const uint16_t *)args->weights + (size_t)(args->row_first + row) * args->cols + col;
    const uint32_t rows = args->row_count - row;
    uint8_t *tile = args->scratch;
    for (uint32_t step = 0; step < steps; step++, weights += STEP) {
        const uint32_t left = args->cols - col - step * STEP;
        const __mmask32 mask = left < STEP ? (1u << left) - 1 : 0xffffffffu;
        for (uint32_t first = 0; first < GROUP_ROWS; first += AMX_ROWS, tile += AMX_TILE_BYTES) {
            __m512i lanes[AMX_ROWS];
#pragma GCC unroll 16
            for (uint32_t r = 0; r < AMX_ROWS; r++) {
                const uint16_t *from = weights + (size_t)(first + r) * args->cols;
                lanes[r] = first + r < rows ? _mm512_maskz_loadu_epi16(mask, from) : _mm512_setzero_si512();
                v_fetch_second((const uint8_t *)from + ahead);
            }
            amx_transpose(lanes, tile);
        }
    }
}

/* A slice with `tokens` tokens of one square. */
SPI_INLINE void add_slice(const uint8_t *tiles, const uint16_t *acts, uint32_t steps, float *out, size_t out_stride,
                          const uint32_t tokens, bool first) {
    vf sums[TOKENS][2];
#pragma GCC unroll 12
    for (uint32_t t = 0; t < tokens; t++) {
        sums[t][0] = first ? v_zero() : v_load(out + t * out_stride);
        sums[t][1] = first ? v_zero() : v_load(out + t * out_stride + V_WIDTH);
    }
    for (uint32_t step = 0; step < steps; step++, acts += STEP * STEP, tiles += 2 * AMX_TILE_BYTES) {
#pragma GCC unroll 2
        for (uint32_t pair = 0; pair < STEP / 2; pair++) {
            const __m512bh w0 = (__m512bh)vi_load(tiles + pair * AMX_ROW_BYTES);
            const __m512bh w1 = (__m512bh)vi_load(tiles + AMX_TILE_BYTES + pair * AMX_ROW_BYTES);
#pragma GCC unroll 12
            for (uint32_t t = 0; t < tokens; t++) {
                const __m512bh x = (__m512bh)vi_four((const uint8_t *)(acts + t * STEP + 2 * pair));
                sums[t][0] = _mm512_dpbf16_ps(sums[t][0], w0, x);
                sums[t][1] = _mm512_dpbf16_ps(sums[t][1], w1, x);
            }
        }
    }
#pragma GCC unroll 12
    for (uint32_t t = 0; t < tokens; t++) {
        v_store(out + t * out_stride, sums[t][0]);
        v_store(out + t * out_stride + V_WIDTH, sums[t][1]);
    }
}

/* The instance that prefill is made of stands alone: around it, compilers have other uses for its registers. */
static __attribute__((noinline)) void add_slice_twelve(const uint8_t *tiles, const uint16_t *acts, uint32_t steps,
                                                       float *out, size_t out_stride, bool first) {
    add_slice(tiles, acts, steps, out, out_stride, TOKENS, first);
}

/* A slice with all tokens: of a square 12, 12 and 8, or so many that all there are are among them. */
static void all_tokens(const spi_cpu_product *args, uint32_t row, uint32_t col, uint32_t steps) {
    for (uint32_t square = 0; square < args->token_count; square += SPI_BF16_UNIT) {
        const uint16_t *acts = (const uint16_t *)args->acts + square * args->act_stride + (size_t)col * SPI_BF16_UNIT;
        uint32_t left = args->token_count - square, count = left < SPI_BF16_UNIT ? left : SPI_BF16_UNIT, taken;
        for (uint32_t t = 0; t < count; t += taken) {
            float *out = args->out + (square + t) * args->out_stride + row;
            taken = count - t > 8 ? TOKENS : count - t > 4 ? 8 : 4;
            switch (taken) {
            case 4: add_slice(args->scratch, acts + t * STEP, steps, out, args->out_stride, 4, col == 0); break;
            case 8: add_slice(args->scratch, acts + t * STEP, steps, out, args->out_stride, 8, col == 0); break;
            default: add_slice_twelve(args->scratch, acts + t * STEP, steps, out, args->out_stride, col == 0); break;
            }
        }
    }
}

void spi_product_bf16_avx512bf16(const spi_cpu_product *args) {
    for (uint32_t row = 0; row < args->row_count; row += GROUP_ROWS) {
        for (uint32_t col = 0; col < args->cols; col += SLICE) {
            const uint32_t left = args->cols - col, steps = left < SLICE ? (left + STEP - 1) / STEP : SLICE_STEPS;
            size_t ahead = left > SLICE ? SLICE : (size_t)GROUP_ROWS * args->cols - col;
            take_slice(args, row, col, steps, ahead * sizeof(uint16_t));
            all_tokens(args, row, col, steps);
        }
    }
}
