/* device/cpu/amx_tiles.h - the tile instructions that kernels use: AMX's, or the same in C.
 *
 * Tiles 0-3 are sums (16 x 16 f32), 4 and 5 rows of activations (16 x 32 bf16), 6 and 7 pairs of weights' columns
 * (16 pairs x 16 rows x 2 bf16): Intel's Architecture Instruction Set Extensions Programming Reference, chapter AMX.
 * With SPI_AMX_EMULATED they are arrays, so that what kernels make of them can be tested on any machine.
 * May include: base.
 */
#ifndef SPI_DEVICE_CPU_AMX_TILES_H
#define SPI_DEVICE_CPU_AMX_TILES_H

#include <stddef.h>
#include <stdint.h>

#define AMX_ROWS       16u
#define AMX_ROW_BYTES  64u
#define AMX_TILE_BYTES (AMX_ROWS * AMX_ROW_BYTES)

#if defined(SPI_AMX_EMULATED)
#include <string.h>

static _Thread_local uint8_t amx_tiles[8][AMX_ROWS][AMX_ROW_BYTES];

static inline void amx_begin(void) {
    memset(amx_tiles, 0xa5, sizeof amx_tiles);
}
static inline void amx_end(void) {
}
static inline void amx_space(void) {
}
static inline void amx_zero(uint32_t tile) {
    memset(amx_tiles[tile], 0, AMX_TILE_BYTES);
}
static inline void amx_load(uint32_t tile, const void *from, size_t stride) {
    for (uint32_t r = 0; r < AMX_ROWS; r++) {
        memcpy(amx_tiles[tile][r], (const uint8_t *)from + r * stride, AMX_ROW_BYTES);
    }
}
static inline void amx_store(uint32_t tile, void *to, size_t stride) {
    for (uint32_t r = 0; r < AMX_ROWS; r++) {
        memcpy((uint8_t *)to + r * stride, amx_tiles[tile][r], AMX_ROW_BYTES);
    }
}
static inline void amx_widen(float *to, const uint8_t *row, uint32_t parity) {
    for (uint32_t i = 0; i < 16; i++) {
        uint16_t half;
        memcpy(&half, row + 4 * i + 2 * parity, 2);
        uint32_t bits = (uint32_t)half << 16;
        memcpy(to + i, &bits, 4);
    }
}
static inline void amx_multiply(uint32_t sums, uint32_t a, uint32_t b) {
    float columns[2][AMX_ROWS][16];
    for (uint32_t p = 0; p < AMX_ROWS; p++) {
        amx_widen(columns[0][p], amx_tiles[b][p], 0);
        amx_widen(columns[1][p], amx_tiles[b][p], 1);
    }
    for (uint32_t r = 0; r < AMX_ROWS; r++) {
        float row[16], x[2][16];
        memcpy(row, amx_tiles[sums][r], sizeof row);
        amx_widen(x[0], amx_tiles[a][r], 0);
        amx_widen(x[1], amx_tiles[a][r], 1);
        for (uint32_t k = 0; k < 32; k++) {
            for (uint32_t c = 0; c < 16; c++) {
                row[c] += x[k % 2][k / 2] * columns[k % 2][k / 2][c];
            }
        }
        memcpy(amx_tiles[sums][r], row, sizeof row);
    }
}

#else

typedef struct amx_shape {
    uint8_t palette, start_row, zero[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} amx_shape;

/* All eight tiles are 16 rows of 64 bytes. Tile registers are given up after each product: the system need not save
 * them then. */
static inline void amx_begin(void) {
    static const amx_shape shape = {
        .palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    __asm__ volatile("ldtilecfg %0" : : "m"(shape));
}
static inline void amx_end(void) {
    __asm__ volatile("tilerelease");
}
/* Nothing, for some cycles, between two products: while one waits for the tiles' unit, its loads would fill the queues
 * that the other thread of the core needs, too. */
#define amx_space()    __asm__ volatile(".rept 10\n\tnop\n\t.endr")
#define amx_zero(tile) __asm__ volatile("tilezero %%tmm" #tile : :)
#define amx_load(tile, from, stride)                                                                                   \
    __asm__ volatile("tileloadd (%0, %1, 1), %%tmm" #tile : : "r"(from), "r"((size_t)(stride)) : "memory")
#define amx_store(tile, to, stride)                                                                                    \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0, %1, 1)" : : "r"(to), "r"((size_t)(stride)) : "memory")
#define amx_multiply(sums, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #sums : :)

#endif

#endif
