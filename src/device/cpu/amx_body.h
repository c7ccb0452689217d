/* device/cpu/amx_body.h - products of many tokens on AMX's tiles, in bf16: an instance for each type.
 *
 * A panel, 32 rows x a slice of columns, is expanded to bf16, in the order in which tiles take weights, and multiplied
 * with all tokens, 32 x 32 sums at a time. Vectors expand the next panel, a quarter of a tile at a time, between the
 * products of tiles: neither waits for the other. BF16 weights are tiles where they lie (amx_bf16_body.h). Scales of 32
 * columns would need the tiles of integer sums emptied after every step, so 8-bit tiles, twice as fast, would wait for
 * vectors; and bf16 is as exact as activations of 8 bits are, or better. Rounding is to nearest; sums are f32.
 *
 * Few tokens stay in the second-level cache with all their columns: then a group's slices follow each other, as they
 * lie in memory. Of many a slice alone fits: then all groups take their turn with it before the next one comes, and
 * sums wait in `out`. May include: device, dtype, os, base.
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
#define AMX_ASK_STEPS    2u /* what is asked for lies so far ahead */
#define AMX_PIECES       4u /* of a tile */
#define AMX_PANEL_BYTES  ((size_t)AMX_SLICE_STEPS * 2 * AMX_TILE_BYTES)
#define AMX_ACTS_BYTES   ((size_t)1 << 20) /* that stay in the second-level cache beside weights and sums */
_Static_assert(2 * AMX_PANEL_BYTES <= SPI_AMX_SCRATCH_BYTES, "see products.h");

/* A panel and how much of it is expanded, in pieces, each a quarter of a tile: so little that it fits between two
 * products. */
typedef struct amx_panel {
    uint32_t row, col, steps; /* of the product's rows */
    const uint8_t *from;      /* its first unit; BF16: its first tile */
    ptrdiff_t ahead;          /* from a byte of it to the same one of the panel behind it */
    uint32_t done, pieces;
    uint8_t *room;        /* for tiles, if they are made here */
    const uint8_t *tiles; /* [steps][2 sets] */
    /* Of the tile that is being made: */
    codes_scales scales;
    const uint8_t *block;
    uint8_t *tile;
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

/* Vector `v` of a block of nibbles, two times four columns: a table says what each stands for. */
SPI_INLINE void amx_expand_nibbles(sp_dtype type, const uint32_t v, const amx_panel *panel) {
    const __m512 table = amx_table(type), scale = panel->scales.scale[0], min = panel->scales.min[0];
    const bool has_min = codes_has_min(type);
    const __m512i codes = vi_load(panel->block + v * VI_BYTES);
    __m512 values[8]; /* columns 4v .. 4v + 3 and 16 more than those, in turns */
#pragma GCC unroll 8
    for (uint32_t n = 0; n < 8; n++) {
        __m512 value = _mm512_permutexvar_ps(n ? _mm512_srli_epi32(codes, 4 * n) : codes, table);
        values[n] = amx_scaled(has_min, value, scale, min);
    }
#pragma GCC unroll 2
    for (uint32_t i = 0; i < 2; i++) {
        uint8_t *to = panel->tile + 2 * (v + 4 * i) * AMX_ROW_BYTES;
        vi_store(to, amx_pair(values[i], values[2 + i]));
        vi_store(to + AMX_ROW_BYTES, amx_pair(values[4 + i], values[6 + i]));
    }
}

/* Eight columns, two steps, of any other block. */
SPI_INLINE void amx_expand_codes(sp_dtype type, const uint32_t v, const amx_panel *panel) {
    const float offset = 8.0f * (float)codes_offset(type);
#pragma GCC unroll 2
    for (uint32_t i = 2 * v; i < 2 * v + 2; i++) {
        const uint32_t h = codes_has_halves(type) ? i / 4 : 0;
        const vi codes = codes_step(type, panel->block, i);
        const vf scale = panel->scales.scale[h];
        /* What the offset adds is taken away without rounding: it is a power of two times the scale. */
        vf add = v_mul(scale, v_set(-offset));
        if (codes_has_min(type)) {
            add = v_add(add, panel->scales.min[h]);
        }
        vf values[4];
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++) {
            values[j] = v_fma(vi_to_f32(vi_byte(codes, j)), scale, add);
        }
        vi_store(panel->tile + 2 * i * AMX_ROW_BYTES, amx_pair(values[0], values[1]));
        vi_store(panel->tile + (2 * i + 1) * AMX_ROW_BYTES, amx_pair(values[2], values[3]));
    }
}

SPI_INLINE void amx_expand_quarter(sp_dtype type, const uint32_t v, const amx_panel *panel) {
    if (amx_has_table(type)) {
        amx_expand_nibbles(type, v, panel);
    } else {
        amx_expand_codes(type, v, panel);
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

/* Opens tile `index` of a panel, in the order in which weights lie in memory. */
SPI_INLINE void amx_open_tile(sp_dtype type, const spi_affine *affine, amx_panel *panel, uint32_t index) {
    const uint32_t unit_blocks = spi_packed_unit_blocks(type), b = index % unit_blocks, of = index / unit_blocks;
    const uint32_t set = of % SPI_PACKED_SETS, step = of / SPI_PACKED_SETS * unit_blocks + b;
    const uint8_t *unit = panel->from + of * spi_packed_unit_bytes(type, V_WIDTH, affine);
    panel->block = unit + spi_packed_blocks_offset(type, V_WIDTH, affine) + b * spi_packed_block_bytes(type, V_WIDTH);
    panel->tile = panel->room + (step * SPI_PACKED_SETS + set) * AMX_TILE_BYTES;
    const codes_unit open = codes_open(type, unit, affine);
    amx_ask(type, unit + panel->ahead, b, affine);
#define BLOCK(n)                                                                                                       \
    case n:                                                                                                            \
        if (n < unit_blocks) {                                                                                         \
            panel->scales = codes_block_scales(type, &open, unit, n, affine);                                          \
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

/* Tiles of units that the matrix's columns do not fill are not used, but there is room for them. */
SPI_INLINE void amx_expand_piece(sp_dtype type, const spi_affine *affine, amx_panel *panel) {
    const uint32_t piece = panel->done++;
    switch (piece % AMX_PIECES) {
    case 0:
        amx_open_tile(type, affine, panel, piece / AMX_PIECES);
        amx_expand_quarter(type, 0, panel);
        break;
    case 1: amx_expand_quarter(type, 1, panel); break;
    case 2: amx_expand_quarter(type, 2, panel); break;
    default: amx_expand_quarter(type, 3, panel); break;
    }
}

/* ---- panels ---- */

static uint32_t amx_bf16_steps(uint32_t cols) {
    return (cols + AMX_STEP - 1) / AMX_STEP;
}

/* The next piece of a panel. BF16 weights are tiles where they lie: they are only asked for. */
SPI_INLINE void amx_make_piece(sp_dtype type, const spi_affine *affine, amx_panel *panel) {
    if (type == SP_BF16) {
        const uint8_t *lines = panel->tiles + (size_t)panel->done++ * (AMX_TILE_BYTES / AMX_PIECES);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < AMX_ROWS / AMX_PIECES; r++) {
            v_fetch_second(lines + r * AMX_ROW_BYTES);
        }
    } else {
        amx_expand_piece(type, affine, panel);
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
    const size_t group = (args->row_first + row) / AMX_GROUP_ROWS;
    if (type == SP_BF16) {
        return weights + (group * amx_bf16_steps(args->cols) + col / AMX_STEP) * 2 * AMX_TILE_BYTES;
    }
    const size_t set_bytes = SPI_PACKED_SETS * spi_packed_unit_bytes(type, V_WIDTH, &args->tensor->affine);
    const size_t units = group * spi_packed_units(type, args->cols);
    return weights + (units + col / (SPI_PACKED_COLUMNS * spi_packed_unit_blocks(type))) * set_bytes;
}

SPI_INLINE amx_panel amx_open(sp_dtype type, const spi_cpu_product *args, uint32_t row, uint32_t col, uint8_t *room) {
    const uint32_t left = args->cols - col, unit_blocks = type == SP_BF16 ? 1 : spi_packed_unit_blocks(type);
    amx_panel panel = {.row = row, .col = col, .from = amx_place(type, args, row, col), .room = room};
    panel.tiles = type == SP_BF16 ? panel.from : room;
    panel.steps = ((left < amx_slice(args) ? left : amx_slice(args)) + AMX_STEP - 1) / AMX_STEP;
    panel.pieces = (panel.steps + unit_blocks - 1) / unit_blocks * unit_blocks * SPI_PACKED_SETS * AMX_PIECES;
    panel.ahead = amx_move_on(args, &row, &col) ? amx_place(type, args, row, col) - panel.from : 0;
    return panel;
}

/* ---- products ---- */

/* What is done between products: pieces of `next`, `rate` of them behind each, in 65536ths. */
typedef struct amx_meanwhile {
    void (*make_piece)(const spi_affine *affine, amx_panel *next);
    const spi_affine *affine;
    amx_panel *next;
    uint32_t rate, due;
} amx_meanwhile;

/* Before product `q` of a step's `products`, behind the loads of its tiles: what the step after the next one loads is
 * asked for, and a piece is made, if it is time. Tiles that wait for the second level of the cache, and two threads of
 * a core that only load and multiply tiles, stand in each other's way: this keeps them apart, and a product is not
 * begun before its tiles have come. */
SPI_INLINE void amx_between(amx_meanwhile *meanwhile, const uint32_t q, const uint32_t products, const uint8_t *acts,
                            const uint8_t *tiles) {
    const uint32_t lines = 2 * AMX_ROWS / products;
#pragma GCC unroll 16
    for (uint32_t r = q * lines; r < (q + 1) * lines; r++) {
        if (products == 4 || r < AMX_ROWS) {
            v_fetch(acts + AMX_ASK_STEPS * 2 * AMX_TILE_BYTES + r * AMX_ROW_BYTES);
        }
        v_fetch(tiles + AMX_ASK_STEPS * 2 * AMX_TILE_BYTES + r * AMX_ROW_BYTES);
    }
    meanwhile->due += meanwhile->rate;
    if (meanwhile->due < 65536) {
        amx_space();
    }
    for (; meanwhile->due >= 65536; meanwhile->due -= 65536) {
        meanwhile->make_piece(meanwhile->affine, meanwhile->next);
    }
}

/* 32 tokens (or, with `half`, 16) x a panel's 32 rows. */
SPI_INLINE void amx_block(const spi_cpu_product *args, uint32_t token, const bool half, const amx_panel *panel,
                          amx_meanwhile *meanwhile) {
    const size_t out_bytes = args->out_stride * sizeof(float);
    float *out = args->out + token * args->out_stride + panel->row, *below = out + 16 * args->out_stride;
    const uint8_t *tiles = panel->tiles, *acts = (const uint8_t *)args->acts;
    const uint32_t products = half ? 2 : 4;
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
    for (uint32_t step = 0; step < panel->steps; step++, tiles += 2 * AMX_TILE_BYTES, acts += 2 * AMX_TILE_BYTES) {
        amx_load(4, acts, AMX_ROW_BYTES);
        amx_load(6, tiles, AMX_ROW_BYTES);
        amx_between(meanwhile, 0, products, acts, tiles);
        amx_multiply(0, 4, 6);
        if (!half) {
            amx_load(5, acts + AMX_TILE_BYTES, AMX_ROW_BYTES);
            amx_between(meanwhile, 2, products, acts, tiles);
            amx_multiply(2, 5, 6);
        }
        amx_load(7, tiles + AMX_TILE_BYTES, AMX_ROW_BYTES);
        amx_between(meanwhile, 1, products, acts, tiles);
        if (!half) {
            amx_multiply(3, 5, 7);
            amx_between(meanwhile, 3, products, acts, tiles);
        }
        amx_multiply(1, 4, 7);
    }
    amx_store(0, out, out_bytes);
    amx_store(1, out + 16, out_bytes);
    if (!half) {
        amx_store(2, below, out_bytes);
        amx_store(3, below + 16, out_bytes);
    }
}

/* A panel with all tokens, and all of the next. */
SPI_INLINE void amx_all_tokens(const spi_cpu_product *args, const amx_panel *panel, amx_meanwhile *meanwhile) {
    amx_panel *next = meanwhile->next;
    const uint32_t sixteens = (args->token_count + AMX_ROWS - 1) / AMX_ROWS;
    meanwhile->rate = (uint32_t)(((uint64_t)next->pieces << 16) / (2 * sixteens * panel->steps));
    meanwhile->due = 0;
    for (uint32_t i = 0; i < sixteens; i += 2) {
        if (i + 1 == sixteens) {
            amx_block(args, i * AMX_ROWS, true, panel, meanwhile);
        } else {
            amx_block(args, i * AMX_ROWS, false, panel, meanwhile);
        }
    }
    while (next->done < next->pieces) {
        meanwhile->make_piece(meanwhile->affine, next);
    }
}

SPI_INLINE void amx_product(sp_dtype type, void (*make_piece)(const spi_affine *affine, amx_panel *next),
                            const spi_cpu_product *args) {
    uint8_t *room = args->scratch;
    uint32_t row = 0, col = 0;
    amx_panel panel = amx_open(type, args, row, col, room), next;
    amx_meanwhile meanwhile = {.make_piece = make_piece, .affine = &args->tensor->affine, .next = &next};
    while (panel.done < panel.pieces) {
        make_piece(meanwhile.affine, &panel);
    }
    amx_begin();
    for (bool more = true; more; panel = next) {
        more = amx_move_on(args, &row, &col);
        room = room == args->scratch ? room + AMX_PANEL_BYTES : args->scratch;
        next.pieces = next.done = 0;
        if (more) {
            next = amx_open(type, args, row, col, room);
        }
        amx_all_tokens(args, &panel, &meanwhile);
    }
    amx_end();
}

#endif
