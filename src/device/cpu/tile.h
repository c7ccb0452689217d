/* device/cpu/tile.h - what products of several tokens with quantised weights work on: a piece of weights, expanded.
 *
 * A product expands a group of rows x TILE_BLOCKS blocks of columns into the first-level cache, in a form that all
 * types share, and multiplies it with one tile of tokens after the other. What types still differ in makes the few
 * classes of tile kernels, which therefore are compiled once for all types: tiles_*.c. An expanded block is
 *     u8  codes[8 steps][2 sets][lanes * 4]
 *     f32 scale[halves][2 sets][lanes], min[halves][2 sets][lanes]      min only if the class has it
 * May include: device/cpu/kernels.h.
 */
#ifndef SPI_DEVICE_CPU_TILE_H
#define SPI_DEVICE_CPU_TILE_H

#include "device/cpu/kernels.h"
#include "device/cpu/packed.h"

#define TILE_BLOCKS 8u

typedef enum spi_tile_class {
    SPI_TILE_PLAIN,      /* one scale for 32 columns */
    SPI_TILE_MIN,        /* and what is added for each activation */
    SPI_TILE_HALVES,     /* one scale for 16 columns */
    SPI_TILE_HALVES_MIN, /* both */
    SPI_TILE_SIGNED,     /* codes are signed bytes; one scale */
    SPI_TILE_SIGNED_MIN  /* and what is added */
} spi_tile_class;

typedef struct spi_tile {
    const uint8_t *weights; /* expanded */
    uint32_t blocks;
    const uint8_t *acts; /* the tile's block that belongs to the first of weights */
    uint32_t tokens;
    uint32_t offset; /* codes_offset of the type */
    bool first;      /* out is set, not added to */
    float *out;
    size_t out_stride;
} spi_tile;

static inline size_t spi_tile_block_bytes(spi_tile_class class, uint32_t lanes) {
    uint32_t halves = class == SPI_TILE_HALVES || class == SPI_TILE_HALVES_MIN ? 2 : 1;
    uint32_t mins = class == SPI_TILE_MIN || class == SPI_TILE_HALVES_MIN || class == SPI_TILE_SIGNED_MIN ? 2 : 1;
    return (size_t)(SPI_PACKED_STEPS + halves * mins) * SPI_PACKED_SETS * lanes * 4;
}

#define SPI_TILE_SCRATCH_BYTES(lanes) ((size_t)TILE_BLOCKS * (SPI_PACKED_STEPS + 4) * SPI_PACKED_SETS * (lanes)*4)

void spi_tile_avx2(spi_tile_class class, const spi_tile *tile);
void spi_tile_avx512(spi_tile_class class, const spi_tile *tile);
void spi_tile_neon(spi_tile_class class, const spi_tile *tile);
void spi_tile_dotprod(spi_tile_class class, const spi_tile *tile);
/* With two steps of a set side by side: [4 pairs of steps][2 sets][4 pairs of rows][2 rows][8 columns]. */
void spi_tile_i8mm(spi_tile_class class, const spi_tile *tile);

#endif
