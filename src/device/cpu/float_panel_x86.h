/* device/cpu/float_panel_x86.h - products of many tokens with weights of floats, for AVX2: rows are lanes.
 *
 * A slice of 16 rows is widened and turned round once for all tokens, [column][16 rows], so that sums need no folding: of 16
 * registers, 12 hold those of 6 tokens. Included by float_body.h.
 */
#ifndef SPI_DEVICE_CPU_FLOAT_PANEL_X86_H
#define SPI_DEVICE_CPU_FLOAT_PANEL_X86_H

#define PANEL_ROWS   (2 * V_WIDTH)
#define PANEL_TOKENS 6u
#define PANEL_SLICE  256u
_Static_assert(sizeof(float[PANEL_SLICE][PANEL_ROWS]) <= SPI_FLOAT_SCRATCH_BYTES, "see products.h");

/* A slice of a product's rows. */
typedef struct float_panel {
    const uint8_t *from, *next; /* its first column, and that of the slice that comes next, or NULL */
    size_t row_bytes;
    uint32_t rows, cols, bytes; /* bytes: of a weight */
    bool first;                 /* sums are set, not added to */
} float_panel;

SPI_INLINE void panel_turn(const vf rows[8], float *to) {
    vf pairs[8], fours[8];
#pragma GCC unroll 4
    for (uint32_t i = 0; i < 8; i += 2) {
        pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 2
    for (uint32_t i = 0; i < 8; i += 4) {
        fours[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
        fours[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
        fours[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
        fours[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < 4; i++) {
        v_store(to + i * PANEL_ROWS, _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20));
        v_store(to + (i + 4) * PANEL_ROWS, _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31));
    }
}

/* Rows that are missing are zeros. */
SPI_INLINE void panel_take(sp_dtype type, const float_panel *panel, float *to) {
    for (uint32_t half = 0; half < PANEL_ROWS; half += V_WIDTH) {
        uint32_t k = 0;
        for (; k + V_WIDTH <= panel->cols; k += V_WIDTH) {
            vf rows[V_WIDTH];
#pragma GCC unroll 8
            for (uint32_t r = 0; r < V_WIDTH; r++) {
                const uint8_t *row = panel->from + (half + r) * panel->row_bytes;
                rows[r] = half + r < panel->rows ? float_weights(type, row, k) : v_zero();
            }
            panel_turn(rows, to + (size_t)k * PANEL_ROWS + half);
        }
        for (; k < panel->cols; k++) {
            for (uint32_t r = 0; r < V_WIDTH; r++) {
                const uint8_t *row = panel->from + (half + r) * panel->row_bytes;
                to[(size_t)k * PANEL_ROWS + half + r] = half + r < panel->rows ? float_weight(type, row, k) : 0;
            }
        }
    }
}

SPI_INLINE void panel_sums(const float *panel, uint32_t cols, const float *x, size_t x_stride, float *out,
                           size_t out_stride, const uint32_t tokens, bool first) {
    vf sums[PANEL_TOKENS][2];
#pragma GCC unroll 6
    for (uint32_t t = 0; t < tokens; t++) {
        sums[t][0] = first ? v_zero() : v_load(out + t * out_stride);
        sums[t][1] = first ? v_zero() : v_load(out + t * out_stride + V_WIDTH);
    }
    for (uint32_t k = 0; k < cols; k++, panel += PANEL_ROWS) {
        vf w0 = v_load(panel), w1 = v_load(panel + V_WIDTH);
#pragma GCC unroll 6
        for (uint32_t t = 0; t < tokens; t++) {
            vf value = v_set(x[t * x_stride + k]);
            sums[t][0] = v_fma(value, w0, sums[t][0]);
            sums[t][1] = v_fma(value, w1, sums[t][1]);
        }
    }
#pragma GCC unroll 6
    for (uint32_t t = 0; t < tokens; t++) {
        v_store(out + t * out_stride, sums[t][0]);
        v_store(out + t * out_stride + V_WIDTH, sums[t][1]);
    }
}

/* Stands alone, so that compilers have no other use for its registers. */
static __attribute__((noinline)) void panel_six(const float *panel, uint32_t cols, const float *x, size_t x_stride,
                                                float *out, size_t out_stride, bool first) {
    panel_sums(panel, cols, x, x_stride, out, out_stride, PANEL_TOKENS, first);
}

static void panel_few(const float *panel, uint32_t cols, const float *x, size_t x_stride, float *out, size_t out_stride,
                      uint32_t tokens, bool first) {
    switch (tokens) {
    case 6: panel_six(panel, cols, x, x_stride, out, out_stride, first); break;
    case 5: panel_sums(panel, cols, x, x_stride, out, out_stride, 5, first); break;
    case 4: panel_sums(panel, cols, x, x_stride, out, out_stride, 4, first); break;
    case 3: panel_sums(panel, cols, x, x_stride, out, out_stride, 3, first); break;
    case 2: panel_sums(panel, cols, x, x_stride, out, out_stride, 2, first); break;
    default: panel_sums(panel, cols, x, x_stride, out, out_stride, 1, first); break;
    }
}

/* Of the next slice, the part that belongs to tile `part` of `parts`. */
SPI_INLINE void panel_ask(const float_panel *panel, uint32_t part, uint32_t parts) {
    size_t row_lines = PANEL_SLICE * panel->bytes / 64, lines = PANEL_ROWS * row_lines;
    for (size_t line = lines * part / parts, end = lines * (part + 1) / parts; line < end && panel->next; line++) {
        v_fetch(panel->next + line / row_lines * panel->row_bytes + line % row_lines * 64);
    }
}

/* A slice with all tokens. Where rows are missing, their sums are not `out`'s. */
static void panel_tokens(const spi_cpu_product *args, const float_panel *panel, uint32_t row, uint32_t col) {
    const uint32_t tiles = (args->token_count - 1) / PANEL_TOKENS + 1;
    for (uint32_t i = 0; i < tiles; i++) {
        uint32_t t = i * PANEL_TOKENS, left = args->token_count - t, tokens = left < PANEL_TOKENS ? left : PANEL_TOKENS;
        const float *x = (const float *)args->acts + t * args->act_stride + col;
        float *out = args->out + t * args->out_stride + row, own[PANEL_TOKENS * PANEL_ROWS] = {0};
        panel_ask(panel, i, tiles);
        if (panel->rows == PANEL_ROWS) {
            panel_few(args->scratch, panel->cols, x, args->act_stride, out, args->out_stride, tokens, panel->first);
            continue;
        }
        for (uint32_t k = 0; k < tokens && !panel->first; k++) {
            memcpy(own + k * PANEL_ROWS, out + k * args->out_stride, panel->rows * sizeof *own);
        }
        panel_few(args->scratch, panel->cols, x, args->act_stride, own, PANEL_ROWS, tokens, panel->first);
        for (uint32_t k = 0; k < tokens; k++) {
            memcpy(out + k * args->out_stride, own + k * PANEL_ROWS, panel->rows * sizeof *own);
        }
    }
}

SPI_INLINE void float_wide_product(sp_dtype type, const spi_cpu_product *args) {
    const uint32_t bytes = type == SP_F32 ? 4 : 2;
    const size_t row_bytes = (size_t)args->cols * bytes;
    const uint8_t *from = (const uint8_t *)args->weights + args->row_first * row_bytes;
    for (uint32_t row = 0; row < args->row_count; row += PANEL_ROWS, from += PANEL_ROWS * row_bytes) {
        const uint32_t left = args->row_count - row;
        for (uint32_t col = 0; col < args->cols; col += PANEL_SLICE) {
            const uint32_t cols_left = args->cols - col;
            float_panel panel = {.from = from + (size_t)col * bytes,
                                 .row_bytes = row_bytes,
                                 .rows = left < PANEL_ROWS ? left : PANEL_ROWS,
                                 .cols = cols_left < PANEL_SLICE ? cols_left : PANEL_SLICE,
                                 .bytes = bytes,
                                 .first = col == 0};
            bool last = cols_left <= PANEL_SLICE, full = left >= (last ? 2 : 1) * PANEL_ROWS;
            panel.next = !full ? NULL : last ? from + PANEL_ROWS * row_bytes : panel.from + (size_t)PANEL_SLICE * bytes;
            panel_take(type, &panel, args->scratch);
            panel_tokens(args, &panel, row, col);
        }
    }
}

#endif
