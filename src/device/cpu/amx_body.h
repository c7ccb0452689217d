/* device/cpu/amx_body.h - products of many tokens on AMX's tiles, in bf16: an instance for each type.
 *
 * A slice of a group of 32 rows is expanded to bf16, in the order in which tiles take weights, and multiplied with all
 * tokens, 32 x 32 sums at a time. Scales of 32 columns would need the tiles of integer sums emptied after every step, so
 * 8-bit tiles, twice as fast, would wait for vectors; and bf16 is as exact as activations of 8 bits are, or better.
 * Rounding is to nearest; sums are f32. May include: device, dtype, os, base.
 */
#ifndef SPI_DEVICE_CPU_AMX_BODY_H
#define SPI_DEVICE_CPU_AMX_BODY_H

#include "device/cpu/amx_tiles.h"
#include "device/cpu/codes_body.h"
#include "device/cpu/products.h"

#define AMX_GROUP_ROWS   SPI_AMX_ROWS
#define AMX_STEP         32u /* columns of a tile */
#define AMX_SLICE_STEPS  16u
#define AMX_SLICE        (AMX_SLICE_STEPS * AMX_STEP)
#define AMX_BLOCK_TOKENS 32u
_Static_assert(AMX_SLICE_STEPS * 2 * AMX_TILE_BYTES <= SPI_AMX_SCRATCH_BYTES, "see products.h");

/* Two columns of sixteen rows, next to each other in each lane. */
SPI_INLINE __m512i amx_pair(__m512 first, __m512 second) {
    const __m512i half = _mm512_set1_epi32(0x8000);
    __m512i low = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(first), half), 16);
    __m512i high = _mm512_add_epi32(_mm512_castps_si512(second), half);
    return _mm512_or_si512(low, _mm512_and_si512(high, _mm512_set1_epi32((int32_t)0xffff0000)));
}

/* A block of 32 columns of sixteen rows, into a tile. */
SPI_INLINE void amx_expand_block(sp_dtype type, const codes_unit *open, const uint8_t *unit, const uint32_t b,
                                 const spi_affine *affine, uint8_t *tile) {
    const uint8_t *block =
        unit + spi_packed_blocks_offset(type, V_WIDTH, affine) + b * spi_packed_block_bytes(type, V_WIDTH);
    for (uint32_t at = 0; at < spi_packed_block_bytes(type, V_WIDTH); at += 64) {
        v_ahead(block + at);
    }
    const codes_scales scales = codes_block_scales(type, open, unit, b, affine);
    const float offset = codes_min_offset(type);
#pragma GCC unroll 8
    for (uint32_t i = 0; i < SPI_PACKED_STEPS; i++) {
        const uint32_t h = codes_has_halves(type) ? i / 4 : 0;
        const vi codes = codes_step(type, block, i);
        /* What the offset adds is taken away without rounding: it is a power of two times the scale. */
        vf add = v_mul(scales.scale[h], v_set(-offset));
        if (codes_has_min(type)) {
            add = v_add(add, scales.min[h]);
        }
        vf values[4];
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++) {
            values[j] = v_fma(vi_to_f32(vi_byte(codes, j)), scales.scale[h], add);
        }
        vi_store(tile + 2 * i * AMX_ROW_BYTES, amx_pair(values[0], values[1]));
        vi_store(tile + (2 * i + 1) * AMX_ROW_BYTES, amx_pair(values[2], values[3]));
    }
}

/* Blocks [0, blocks) from `unit` on, at most a slice, of both sets of rows; returns what lies behind. */
SPI_INLINE const uint8_t *amx_expand(sp_dtype type, const uint8_t *unit, uint32_t blocks, const spi_affine *affine,
                                     uint8_t *panel) {
    const uint32_t unit_blocks = spi_packed_unit_blocks(type);
    for (uint32_t first = 0; first < blocks && first < AMX_SLICE_STEPS; first += unit_blocks) {
        for (uint32_t set = 0; set < SPI_PACKED_SETS; set++, unit += spi_packed_unit_bytes(type, V_WIDTH, affine)) {
            const codes_unit open = codes_open(type, unit, affine);
#pragma GCC unroll 8
            for (uint32_t b = 0; b < unit_blocks; b++) {
                if (first + b < blocks) {
                    amx_expand_block(type, &open, unit, b, affine,
                                     panel + ((first + b) * SPI_PACKED_SETS + set) * AMX_TILE_BYTES);
                }
            }
        }
    }
    return unit;
}

/* Sixteen rows of as many 32-bit lanes, the other way round. */
SPI_INLINE void amx_transpose(const __m512i rows[16], uint8_t *tile) {
    __m512i q[16];
#pragma GCC unroll 4
    for (uint32_t i = 0; i < 16; i += 4) {
        __m512i a = _mm512_unpacklo_epi32(rows[i], rows[i + 1]), b = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
        __m512i c = _mm512_unpacklo_epi32(rows[i + 2], rows[i + 3]);
        __m512i d = _mm512_unpackhi_epi32(rows[i + 2], rows[i + 3]);
        q[i] = _mm512_unpacklo_epi64(a, c);
        q[i + 1] = _mm512_unpackhi_epi64(a, c);
        q[i + 2] = _mm512_unpacklo_epi64(b, d);
        q[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    /* Quarter l of q[4i + j] is lane 4l + j of rows 4i .. 4i+3. */
#pragma GCC unroll 4
    for (uint32_t j = 0; j < 4; j++) {
        __m512i even0 = _mm512_shuffle_i32x4(q[j], q[4 + j], 0x88), odd0 = _mm512_shuffle_i32x4(q[j], q[4 + j], 0xdd);
        __m512i even1 = _mm512_shuffle_i32x4(q[8 + j], q[12 + j], 0x88);
        __m512i odd1 = _mm512_shuffle_i32x4(q[8 + j], q[12 + j], 0xdd);
        vi_store(tile + j * AMX_ROW_BYTES, _mm512_shuffle_i32x4(even0, even1, 0x88));
        vi_store(tile + (4 + j) * AMX_ROW_BYTES, _mm512_shuffle_i32x4(odd0, odd1, 0x88));
        vi_store(tile + (8 + j) * AMX_ROW_BYTES, _mm512_shuffle_i32x4(even0, even1, 0xdd));
        vi_store(tile + (12 + j) * AMX_ROW_BYTES, _mm512_shuffle_i32x4(odd0, odd1, 0xdd));
    }
}

/* Rows of bf16 as the file has them, from column `first` on; what is missing is zero. Each line read asks for the one that
 * lies `ahead` bytes behind it, in the slice that comes next: 32 rows are more streams than processors follow. */
SPI_INLINE void amx_take_rows(const spi_cpu_product *args, uint32_t row, uint32_t first, size_t ahead, uint8_t *panel) {
    const uint16_t *weights = (const uint16_t *)args->weights + (size_t)(args->row_first + row) * args->cols + first;
    uint32_t rows = args->row_count - row, cols = args->cols - first;
    for (uint32_t step = 0; step < AMX_SLICE_STEPS && step * AMX_STEP < cols; step++, weights += AMX_STEP) {
        uint32_t left = cols - step * AMX_STEP;
        __mmask32 mask = left < AMX_STEP ? (1u << left) - 1 : 0xffffffffu;
        for (uint32_t set = 0; set < SPI_PACKED_SETS; set++, panel += AMX_TILE_BYTES) {
            __m512i lanes[16];
#pragma GCC unroll 16
            for (uint32_t r = 0; r < 16; r++) {
                uint32_t at = set * 16 + r;
                const uint16_t *from = weights + (size_t)at * args->cols;
                lanes[r] = at < rows ? _mm512_maskz_loadu_epi16(mask, from) : _mm512_setzero_si512();
                _mm_prefetch((const char *)from + ahead, _MM_HINT_T1);
            }
            amx_transpose(lanes, panel);
        }
    }
}

/* 32 tokens (or, with `half`, 16) x 32 rows. */
SPI_INLINE void amx_block(const uint16_t *acts, const uint8_t *panel, uint32_t steps, bool first, const bool half,
                          float *out, size_t out_stride) {
    const size_t out_bytes = out_stride * sizeof *out;
    float *below = out + 16 * out_stride;
    const uint8_t *a = (const uint8_t *)acts;
    if (first) {
        amx_zero(0);
        amx_zero(1);
        amx_zero(2);
        amx_zero(3);
    } else {
        amx_load(0, out, out_bytes);
        amx_load(1, out + 16, out_bytes);
        if (!half) {
            amx_load(2, below, out_bytes);
            amx_load(3, below + 16, out_bytes);
        }
    }
    for (uint32_t step = 0; step < steps; step++, panel += 2 * AMX_TILE_BYTES, a += 2 * AMX_TILE_BYTES) {
        amx_load(4, a, AMX_ROW_BYTES);
        amx_load(6, panel, AMX_ROW_BYTES);
        amx_load(7, panel + AMX_TILE_BYTES, AMX_ROW_BYTES);
        amx_multiply(0, 4, 6);
        amx_multiply(1, 4, 7);
        if (!half) {
            amx_load(5, a + AMX_TILE_BYTES, AMX_ROW_BYTES);
            amx_multiply(2, 5, 6);
            amx_multiply(3, 5, 7);
        }
    }
    amx_store(0, out, out_bytes);
    amx_store(1, out + 16, out_bytes);
    if (!half) {
        amx_store(2, below, out_bytes);
        amx_store(3, below + 16, out_bytes);
    }
}

/* The expanded slice of columns from `col` on, with all tokens. */
static void amx_all_tokens(const spi_cpu_product *args, uint32_t row, uint32_t col) {
    uint32_t left = args->cols - col, steps = left < AMX_SLICE ? (left + AMX_STEP - 1) / AMX_STEP : AMX_SLICE_STEPS;
    for (uint32_t t = 0; t < args->token_count; t += AMX_BLOCK_TOKENS) {
        const uint16_t *acts = (const uint16_t *)args->acts + t * args->act_stride + (size_t)col * AMX_BLOCK_TOKENS;
        float *out = args->out + t * args->out_stride + row;
        if (args->token_count - t <= AMX_BLOCK_TOKENS / 2) {
            amx_block(acts, args->scratch, steps, col == 0, true, out, args->out_stride);
        } else {
            amx_block(acts, args->scratch, steps, col == 0, false, out, args->out_stride);
        }
    }
}

SPI_INLINE void amx_product(sp_dtype type, const spi_cpu_product *args) {
    const spi_affine *affine = &args->tensor->affine;
    const size_t group_bytes =
        spi_packed_units(type, args->cols) * SPI_PACKED_SETS * spi_packed_unit_bytes(type, V_WIDTH, affine);
    const uint8_t *unit = (const uint8_t *)args->weights + args->row_first / AMX_GROUP_ROWS * group_bytes;
    amx_begin();
    for (uint32_t row = 0; row < args->row_count; row += AMX_GROUP_ROWS) {
        for (uint32_t col = 0; col < args->cols; col += AMX_SLICE) {
            if (type == SP_BF16) {
                size_t bytes = sizeof(uint16_t);
                bool last = col + AMX_SLICE >= args->cols;
                size_t ahead = last ? ((size_t)AMX_GROUP_ROWS * args->cols - col) * bytes : AMX_SLICE * bytes;
                amx_take_rows(args, row, col, ahead, args->scratch);
            } else {
                unit = amx_expand(type, unit, (args->cols - col) / AMX_STEP, affine, args->scratch);
            }
            amx_all_tokens(args, row, col);
        }
    }
    amx_end();
}

#endif
