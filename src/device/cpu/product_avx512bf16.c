/* device/cpu/product_avx512bf16.c - products of many tokens with BF16 weights by AVX-512's products of bf16: vdpbf16ps
 * adds two columns of 16 rows to f32, in pairs that the instruction rounds in its own way. Activations are rounded to
 * bf16.
 *
 * Weights were turned round when they were loaded (turn.c); of a slice of 32 rows neighbouring columns are paired once
 * for all tokens. Sums of 12 tokens stay in registers. What a token's sums are does not depend on the tokens beside it.
 * May include: device, os, base. */
#include "device/cpu/integers.h"
#include "device/cpu/products.h"

#define GROUP_ROWS  SPI_TURNED_ROWS
#define PAIR_BYTES  (2 * GROUP_ROWS * sizeof(uint16_t))
#define STEP        SPI_BF16_UNIT /* columns */
#define SLICE_STEPS 8u
#define SLICE       (SLICE_STEPS * STEP)
#define TOKENS      12u
_Static_assert(SLICE / 2 * PAIR_BYTES <= SPI_FLOAT_SCRATCH_BYTES, "see products.h");

/* A slice of a group: its weights, [column][32 rows], and the scratch in which its columns are paired, [pair][2
 * sets][16 rows][2]. What is missing is zero. */
typedef struct slice {
    const uint16_t *weights;
    uint8_t *pairs;
    uint32_t cols;
    bool first; /* of a row: sums are set, not added to */
} slice;

/* Pairs columns k and k + 1, and asks for those that the next slice has in their place. */
SPI_INLINE void pair_up(const slice *of, uint32_t k, uint8_t *pairs) {
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37,
                                         5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    const uint16_t *weights = of->weights + (size_t)k * GROUP_ROWS;
    __m512i even = k < of->cols ? _mm512_loadu_si512(weights) : _mm512_setzero_si512();
    __m512i odd = k + 1 < of->cols ? _mm512_loadu_si512(weights + GROUP_ROWS) : _mm512_setzero_si512();
    v_fetch_second(weights + SLICE * GROUP_ROWS);
    v_fetch_second(weights + (SLICE + 1) * GROUP_ROWS);
    vi_store(pairs, _mm512_permutex2var_epi16(even, low, odd));
    vi_store(pairs + PAIR_BYTES / 2, _mm512_permutex2var_epi16(even, high, odd));
}

/* A slice with `tokens` tokens of one square; the first ones of all pair its columns. */
SPI_INLINE void add_slice(const slice *of, const uint16_t *acts, float *out, size_t out_stride, const uint32_t tokens,
                          const bool pairing) {
    vf sums[TOKENS][2];
#pragma GCC unroll 12
    for (uint32_t t = 0; t < tokens; t++) {
        sums[t][0] = of->first ? v_zero() : v_load(out + t * out_stride);
        sums[t][1] = of->first ? v_zero() : v_load(out + t * out_stride + V_WIDTH);
    }
    uint8_t *pairs = of->pairs;
    for (uint32_t k = 0; k < of->cols; k += STEP, acts += STEP * STEP) {
#pragma GCC unroll 2
        for (uint32_t in = 0; in < STEP; in += 2, pairs += PAIR_BYTES) {
            if (pairing) {
                pair_up(of, k + in, pairs);
            }
            const __m512bh w0 = (__m512bh)vi_load(pairs), w1 = (__m512bh)vi_load(pairs + PAIR_BYTES / 2);
#pragma GCC unroll 12
            for (uint32_t t = 0; t < tokens; t++) {
                const __m512bh x = (__m512bh)vi_four((const uint8_t *)(acts + t * STEP + in));
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

/* Each instance stands alone: around it, compilers have other uses for its registers. */
#define ADD_SLICE(name, tokens, pairing)                                                                               \
    static __attribute__((noinline)) void name(const slice *of, const uint16_t *acts, float *out, size_t out_stride) { \
        add_slice(of, acts, out, out_stride, tokens, pairing);                                                         \
    }
ADD_SLICE(pair_four, 4, true)
ADD_SLICE(pair_eight, 8, true)
ADD_SLICE(pair_twelve, TOKENS, true)
ADD_SLICE(add_four, 4, false)
ADD_SLICE(add_eight, 8, false)
ADD_SLICE(add_twelve, TOKENS, false)

/* 12, or fewer where as many tiles take all that are left: sums of 4 tokens wait for each other. */
SPI_INLINE uint32_t tile_tokens(uint32_t left) {
    return left > 16 || (left > 8 && left <= TOKENS) ? TOKENS : left > 4 ? 8 : 4;
}

/* A slice with all tokens: of a square 12, 12 and 8, or so many that all there are are among them. */
static void all_tokens(const spi_cpu_product *args, const slice *of, uint32_t row, uint32_t col) {
    for (uint32_t square = 0; square < args->token_count; square += SPI_BF16_UNIT) {
        const uint16_t *acts = (const uint16_t *)args->acts + square * args->act_stride + (size_t)col * SPI_BF16_UNIT;
        uint32_t left = args->token_count - square, count = left < SPI_BF16_UNIT ? left : SPI_BF16_UNIT, taken;
        for (uint32_t t = 0; t < count; t += taken) {
            float *out = args->out + (square + t) * args->out_stride + row;
            const bool pairing = square + t == 0;
            taken = tile_tokens(count - t);
            switch (taken) {
            case 4: (pairing ? pair_four : add_four)(of, acts + t * STEP, out, args->out_stride); break;
            case 8: (pairing ? pair_eight : add_eight)(of, acts + t * STEP, out, args->out_stride); break;
            default: (pairing ? pair_twelve : add_twelve)(of, acts + t * STEP, out, args->out_stride); break;
            }
        }
    }
}

void spi_product_bf16_avx512bf16(const spi_cpu_product *args) {
    const uint16_t *group = (const uint16_t *)args->weights + (size_t)args->row_first * args->cols;
    for (uint32_t row = 0; row < args->row_count; row += GROUP_ROWS, group += (size_t)GROUP_ROWS * args->cols) {
        for (uint32_t col = 0; col < args->cols; col += SLICE) {
            const uint32_t left = args->cols - col;
            const slice of = {.weights = group + (size_t)col * GROUP_ROWS,
                              .pairs = args->scratch,
                              .cols = left < SLICE ? left : SLICE,
                              .first = col == 0};
            all_tokens(args, &of, row, col);
        }
    }
}
