/* device/cpu/amx_body.h - products of many tokens on AMX's tiles, in bf16: an instance for each type.
 *
 * A panel, 32 rows x a slice of columns, is expanded to bf16, in the order in which tiles take weights, and multiplied with
 * all tokens, 32 x 32 sums at a time. Vectors expand the next panel, tile by tile, between the steps of tiles: neither waits
 * for the other. Scales of 32 columns would need the tiles of integer sums emptied after every step, so 8-bit tiles, twice as
 * fast, would wait for vectors; and bf16 is as exact as activations of 8 bits are, or better. Rounding is to nearest; sums
 * are f32.
 *
 * Few tokens stay in the second-level cache with all their columns: then a group's slices follow each other, as they lie in
 * memory. Of many a slice alone fits: then all groups take their turn with it before the next one comes, and sums wait in
 * `out`. May include: device, dtype, os, base.
 */
#ifndef SPI_DEVICE_CPU_AMX_BODY_H
#define SPI_DEVICE_CPU_AMX_BODY_H

#include "device/cpu/amx_tiles.h"
#include "device/cpu/amx_vectors.h"
#include "device/cpu/codes_body.h"
#include "device/cpu/products.h"

#define AMX_GROUP_ROWS   SPI_AMX_ROWS
#define AMX_STEP         32u /* columns of a tile */
#define AMX_SLICE_STEPS  64u /* of many tokens: of most matrices all columns, so that sums stay in tiles */
#define AMX_FEW_STEPS    16u /* of few, who use a panel once or twice: it stays near */
#define AMX_FEW_TOKENS   64u
#define AMX_BLOCK_TOKENS 32u
#define AMX_PANEL_BYTES  ((size_t)AMX_SLICE_STEPS * 2 * AMX_TILE_BYTES)
#define AMX_ACTS_BYTES   ((size_t)1 << 20) /* that stay in the second-level cache beside weights and sums */
_Static_assert(2 * AMX_PANEL_BYTES <= SPI_AMX_SCRATCH_BYTES, "see products.h");

/* A panel and how much of it is expanded. */
typedef struct amx_panel {
    uint32_t row, col, steps; /* of the product's rows */
    const uint8_t *from;      /* its first unit; BF16: its first row, at its first column */
    ptrdiff_t ahead;          /* from a byte of it to the same one of the panel behind it */
    uint32_t done, pieces;    /* a piece is a tile, of one set of rows */
    uint8_t *tiles;           /* [steps][2 sets] */
} amx_panel;

/* ---- types with codes ---- */

/* Types of 4 bits: what a code stands for, before it is scaled. */
SPI_INLINE bool amx_has_table(sp_dtype type) {
    return spi_packed_low_bits(type) == 4 && spi_packed_high_bits(type) == 0;
}

SPI_INLINE __m512 amx_table(sp_dtype type) {
    __m512i codes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const int8_t *values = type == SP_MXFP4 ? codes_mxfp4 : codes_iq4;
    if (type == SP_MXFP4 || type == SP_IQ4_NL || type == SP_IQ4_XS) {
        codes = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)values));
    }
    codes = _mm512_sub_epi32(codes, _mm512_set1_epi32(8 * (int32_t)codes_offset(type)));
    return _mm512_cvtepi32_ps(codes);
}

SPI_INLINE __m512 amx_scaled(const bool has_min, __m512 value, __m512 scale, __m512 min) {
    return has_min ? v_fma(value, scale, min) : v_mul(value, scale);
}

/* 32 columns of nibbles: a table says what each stands for. */
SPI_INLINE void amx_expand_nibbles(sp_dtype type, const uint8_t *block, const codes_scales *scales, uint8_t *tile) {
    const __m512 table = amx_table(type);
    const bool has_min = codes_has_min(type);
#pragma GCC unroll 4
    for (uint32_t v = 0; v < 4; v++) {
        const __m512i codes = vi_load(block + v * VI_BYTES);
        __m512 values[8]; /* columns 4v .. 4v + 3 and 16 more than those, in turns */
#pragma GCC unroll 8
        for (uint32_t n = 0; n < 8; n++) {
            __m512 value = _mm512_permutexvar_ps(n ? _mm512_srli_epi32(codes, 4 * n) : codes, table);
            values[n] = amx_scaled(has_min, value, scales->scale[0], scales->min[0]);
        }
#pragma GCC unroll 2
        for (uint32_t i = 0; i < 2; i++) {
            uint8_t *to = tile + 2 * (v + 4 * i) * AMX_ROW_BYTES;
            vi_store(to, amx_pair(values[i], values[2 + i]));
            vi_store(to + AMX_ROW_BYTES, amx_pair(values[4 + i], values[6 + i]));
        }
    }
}

SPI_INLINE void amx_expand_codes(sp_dtype type, const uint8_t *block, const codes_scales *scales, uint8_t *tile) {
    const float offset = 8.0f * (float)codes_offset(type);
#pragma GCC unroll 8
    for (uint32_t i = 0; i < SPI_PACKED_STEPS; i++) {
        const uint32_t h = codes_has_halves(type) ? i / 4 : 0;
        const vi codes = codes_step(type, block, i);
        /* What the offset adds is taken away without rounding: it is a power of two times the scale. */
        vf add = v_mul(scales->scale[h], v_set(-offset));
        if (codes_has_min(type)) {
            add = v_add(add, scales->min[h]);
        }
        vf values[4];
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++) {
            values[j] = v_fma(vi_to_f32(vi_byte(codes, j)), scales->scale[h], add);
        }
        vi_store(tile + 2 * i * AMX_ROW_BYTES, amx_pair(values[0], values[1]));
        vi_store(tile + (2 * i + 1) * AMX_ROW_BYTES, amx_pair(values[2], values[3]));
    }
}

/* A block of 32 columns of sixteen rows, into a tile. */
SPI_INLINE void amx_expand_block(sp_dtype type, const uint8_t *unit, const uint32_t b, const spi_affine *affine,
                                 uint8_t *tile) {
    const codes_unit open = codes_open(type, unit, affine);
    const codes_scales scales = codes_block_scales(type, &open, unit, b, affine);
    const uint8_t *block =
        unit + spi_packed_blocks_offset(type, V_WIDTH, affine) + b * spi_packed_block_bytes(type, V_WIDTH);
    if (amx_has_table(type)) {
        amx_expand_nibbles(type, block, &scales, tile);
    } else {
        amx_expand_codes(type, block, &scales, tile);
    }
}

/* Asks for a block of the panel behind this one, with what its unit begins with. */
SPI_INLINE void amx_ask(sp_dtype type, const uint8_t *unit, uint32_t b, const spi_affine *affine) {
    const size_t begin = spi_packed_blocks_offset(type, V_WIDTH, affine);
    const size_t bytes = spi_packed_block_bytes(type, V_WIDTH);
    for (size_t at = 0; b == 0 && at < begin; at += 64) {
        v_fetch_second(unit + at);
    }
    for (size_t at = begin + b * bytes; at < begin + (b + 1) * bytes; at += 64) {
        v_fetch_second(unit + at);
    }
}

/* Tile `index` of a panel, in the order in which weights lie in memory. */
SPI_INLINE void amx_expand_tile(sp_dtype type, const spi_affine *affine, const amx_panel *panel, uint32_t index) {
    const uint32_t unit_blocks = spi_packed_unit_blocks(type), b = index % unit_blocks, of = index / unit_blocks;
    const uint32_t set = of % SPI_PACKED_SETS, step = of / SPI_PACKED_SETS * unit_blocks + b;
    const uint8_t *unit = panel->from + of * spi_packed_unit_bytes(type, V_WIDTH, affine);
    uint8_t *tile = panel->tiles + (step * SPI_PACKED_SETS + set) * AMX_TILE_BYTES;
    if (step >= panel->steps) { /* a unit that the matrix's columns do not fill */
        return;
    }
    amx_ask(type, unit + panel->ahead, b, affine);
#define BLOCK(n)                                                                                                       \
    case n:                                                                                                            \
        if (n < unit_blocks) {                                                                                         \
            amx_expand_block(type, unit, n, affine, tile);                                                             \
        }                                                                                                              \
        break
    switch (b) {
        BLOCK(0);
        BLOCK(1);
        BLOCK(2);
        BLOCK(3);
        BLOCK(4);
        BLOCK(5);
        BLOCK(6);
        BLOCK(7);
    }
#undef BLOCK
}

/* ---- rows of bf16 ---- */

/* Sixteen rows of bf16 as the file has them, turned round; what is missing is zero. */
SPI_INLINE void amx_take_tile(const spi_cpu_product *args, const amx_panel *panel, uint32_t index) {
    const uint32_t step = index / SPI_PACKED_SETS, first = index % SPI_PACKED_SETS * AMX_ROWS;
    const uint32_t rows = args->row_count - panel->row, left = args->cols - panel->col - step * AMX_STEP;
    const __mmask32 mask = left < AMX_STEP ? (1u << left) - 1 : 0xffffffffu;
    const uint8_t *from = panel->from + ((size_t)first * args->cols + step * AMX_STEP) * sizeof(uint16_t);
    __m512i lanes[AMX_ROWS];
#pragma GCC unroll 16
    for (uint32_t r = 0; r < AMX_ROWS; r++, from += args->cols * sizeof(uint16_t)) {
        lanes[r] = first + r < rows ? _mm512_maskz_loadu_epi16(mask, from) : _mm512_setzero_si512();
        v_fetch_second(from + panel->ahead);
    }
    amx_transpose(lanes, panel->tiles + index * AMX_TILE_BYTES);
}

/* ---- panels ---- */

/* Expands the panel's tiles up to `end`. */
SPI_INLINE void amx_expand(sp_dtype type, const spi_cpu_product *args, amx_panel *panel, uint32_t end) {
    for (; panel->done < end; panel->done++) {
        if (type == SP_BF16) {
            amx_take_tile(args, panel, panel->done);
        } else {
            amx_expand_tile(type, &args->tensor->affine, panel, panel->done);
        }
    }
}

static uint32_t amx_slice(const spi_cpu_product *args) {
    return AMX_STEP * (args->token_count <= AMX_FEW_TOKENS ? AMX_FEW_STEPS : AMX_SLICE_STEPS);
}

/* All columns of a group before the next group, not all groups before the next slice. */
static bool amx_groups_first(const spi_cpu_product *args) {
    return args->token_count * args->act_stride * sizeof(uint16_t) <= AMX_ACTS_BYTES;
}

/* False: there is no panel behind this place. */
static bool amx_move_on(const spi_cpu_product *args, uint32_t *row, uint32_t *col) {
    if (amx_groups_first(args)) {
        *col += amx_slice(args);
        if (*col >= args->cols) {
            *col = 0;
            *row += AMX_GROUP_ROWS;
        }
        return *row < args->row_count;
    }
    *row += AMX_GROUP_ROWS;
    if (*row >= args->row_count) {
        *row = 0;
        *col += amx_slice(args);
    }
    return *col < args->cols;
}

SPI_INLINE const uint8_t *amx_place(sp_dtype type, const spi_cpu_product *args, uint32_t row, uint32_t col) {
    const uint8_t *weights = args->weights;
    if (type == SP_BF16) {
        return weights + ((size_t)(args->row_first + row) * args->cols + col) * sizeof(uint16_t);
    }
    const size_t set_bytes = SPI_PACKED_SETS * spi_packed_unit_bytes(type, V_WIDTH, &args->tensor->affine);
    size_t units = (args->row_first + row) / AMX_GROUP_ROWS * spi_packed_units(type, args->cols);
    return weights + (units + col / (SPI_PACKED_COLUMNS * spi_packed_unit_blocks(type))) * set_bytes;
}

SPI_INLINE amx_panel amx_open(sp_dtype type, const spi_cpu_product *args, uint32_t row, uint32_t col, uint8_t *tiles) {
    const uint32_t left = args->cols - col, unit_blocks = type == SP_BF16 ? 1 : spi_packed_unit_blocks(type);
    amx_panel panel = {.row = row, .col = col, .from = amx_place(type, args, row, col), .tiles = tiles};
    panel.steps = ((left < amx_slice(args) ? left : amx_slice(args)) + AMX_STEP - 1) / AMX_STEP;
    panel.pieces = (panel.steps + unit_blocks - 1) / unit_blocks * unit_blocks * SPI_PACKED_SETS;
    panel.ahead = amx_move_on(args, &row, &col) ? amx_place(type, args, row, col) - panel.from : 0;
    return panel;
}

/* 32 tokens (or, with `half`, 16) x a panel's 32 rows. Of `next`, the tiles up to `end` are expanded meanwhile. */
SPI_INLINE void amx_block(sp_dtype type, const spi_cpu_product *args, uint32_t token, const bool half,
                          const amx_panel *panel, amx_panel *next, uint32_t end) {
    const size_t out_bytes = args->out_stride * sizeof(float);
    float *out = args->out + token * args->out_stride + panel->row, *below = out + 16 * args->out_stride;
    const uint8_t *tiles = panel->tiles, *acts = (const uint8_t *)args->acts;
    acts += (token * args->act_stride + (size_t)panel->col * AMX_BLOCK_TOKENS) * sizeof(uint16_t);
    if (panel->col == 0) {
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
    const uint32_t begun = next->done, pieces = end - begun;
    for (uint32_t step = 0; step < panel->steps; step++, tiles += 2 * AMX_TILE_BYTES, acts += 2 * AMX_TILE_BYTES) {
        amx_load(4, acts, AMX_ROW_BYTES);
        amx_load(6, tiles, AMX_ROW_BYTES);
        amx_load(7, tiles + AMX_TILE_BYTES, AMX_ROW_BYTES);
        amx_multiply(0, 4, 6);
        amx_multiply(1, 4, 7);
        if (!half) {
            amx_load(5, acts + AMX_TILE_BYTES, AMX_ROW_BYTES);
            amx_multiply(2, 5, 6);
            amx_multiply(3, 5, 7);
        }
        amx_expand(type, args, next, begun + pieces * (step + 1) / panel->steps);
    }
    amx_store(0, out, out_bytes);
    amx_store(1, out + 16, out_bytes);
    if (!half) {
        amx_store(2, below, out_bytes);
        amx_store(3, below + 16, out_bytes);
    }
}

/* A panel with all tokens, and all of the next. */
SPI_INLINE void amx_all_tokens(sp_dtype type, const spi_cpu_product *args, const amx_panel *panel, amx_panel *next) {
    const uint32_t blocks = (args->token_count + AMX_BLOCK_TOKENS - 1) / AMX_BLOCK_TOKENS;
    for (uint32_t i = 0; i < blocks; i++) {
        const uint32_t token = i * AMX_BLOCK_TOKENS, end = next->pieces * (i + 1) / blocks;
        if (args->token_count - token <= AMX_BLOCK_TOKENS / 2) {
            amx_block(type, args, token, true, panel, next, end);
        } else {
            amx_block(type, args, token, false, panel, next, end);
        }
    }
}

SPI_INLINE void amx_product(sp_dtype type, const spi_cpu_product *args) {
    uint8_t *tiles = args->scratch;
    uint32_t row = 0, col = 0;
    amx_panel panel = amx_open(type, args, row, col, tiles);
    amx_expand(type, args, &panel, panel.pieces);
    amx_begin();
    for (bool more = true; more;) {
        amx_panel next = {0};
        more = amx_move_on(args, &row, &col);
        tiles = tiles == args->scratch ? tiles + AMX_PANEL_BYTES : args->scratch;
        if (more) {
            next = amx_open(type, args, row, col, tiles);
        }
        amx_all_tokens(type, args, &panel, &next);
        panel = next;
    }
    amx_end();
}

#endif
