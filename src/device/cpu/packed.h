/* device/cpu/packed.h - how quantised weights lie in memory for the vector kernels, for any type and vector width.
 *
 * `lanes` rows stand side by side: 32-bit lane r of a vector holds four neighbouring columns of row r, so that a
 * broadcast of four activations meets as many rows at once and sums need no folding. A unit is 4 blocks of 32 columns,
 * or the 8 of a block of 256, of one such set of rows:
 *     u16   halves[count][lanes]        scales as the file has them, in f16; padded to a whole vector
 *     u8    words[count][lanes][4]      small scales; MXFP4: the exponents of the four blocks
 *     then for each block of 32 columns
 *     u8    low[low_bits][lanes * 4]    the codes' lower 8, 4 or 2 bits
 *     u8    high[high_bits][lanes * 4]  the others, 0, 1 or 2
 * A step i of 8 is the columns 4i .. 4i+3. With 4 bits, vector i holds step i in its low nibbles and step i + 4 in the
 * high ones; with 2 bits, vector k holds steps 4k .. 4k+3, from the lowest bits up; with 1 bit, bit i is step i's.
 * Affine types have no halves: their scales stand there in the width that the file has them in, one vector for each
 * group of a unit's 128 columns, and behind them as many of biases. Two sets of rows take turns, unit by unit: a group
 * is SPI_PACKED_SETS * lanes rows, and a thread reads one stream. Measured against row-wise kernels: 0.88-0.90 of the
 * memory's bandwidth in place of 0.3-0.77.
 *
 * With 8 lanes, Q6_K and Q3_K take 1 and 2 % more than in the file (one f16 of a row does not fill a vector); the
 * others take the same. May include: device/tape.h, dtype.
 */
#ifndef SPI_DEVICE_CPU_PACKED_H
#define SPI_DEVICE_CPU_PACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "device/tape.h"

#define SPI_PACKED_COLUMNS 32u
#define SPI_PACKED_STEPS   8u
#define SPI_PACKED_SETS    2u

/* What follows is a table by type, as functions that compilers fold: kernels are instances for a constant type. */

static inline uint32_t spi_packed_unit_blocks(sp_dtype type) {
    switch (type) {
    case SP_Q2_K:
    case SP_Q3_K:
    case SP_Q4_K:
    case SP_Q5_K:
    case SP_Q6_K:
    case SP_IQ4_XS: return 8;
    default: return 4;
    }
}

static inline uint32_t spi_packed_halves(sp_dtype type) {
    switch (type) {
    case SP_MXFP4:
    case SP_AFFINE2:
    case SP_AFFINE3:
    case SP_AFFINE4:
    case SP_AFFINE5:
    case SP_AFFINE6:
    case SP_AFFINE8: return 0;
    case SP_Q4_1:
    case SP_Q5_1: return 8; /* d of four blocks, then min */
    case SP_Q2_K:
    case SP_Q4_K:
    case SP_Q5_K: return 2;   /* d, min */
    case SP_IQ4_XS: return 2; /* d, and the scales' high bits */
    case SP_Q3_K:
    case SP_Q6_K: return 1;
    default: return 4;
    }
}

static inline uint32_t spi_packed_words(sp_dtype type) {
    switch (type) {
    case SP_MXFP4:
    case SP_IQ4_XS: return 1;
    case SP_Q3_K:
    case SP_Q4_K:
    case SP_Q5_K: return 3;
    case SP_Q2_K:
    case SP_Q6_K: return 4;
    default: return 0;
    }
}

static inline uint32_t spi_packed_low_bits(sp_dtype type) {
    switch (type) {
    case SP_Q8_0:
    case SP_AFFINE8: return 8;
    case SP_Q2_K:
    case SP_Q3_K:
    case SP_AFFINE2:
    case SP_AFFINE3: return 2;
    default: return 4;
    }
}

static inline uint32_t spi_packed_high_bits(sp_dtype type) {
    switch (type) {
    case SP_Q3_K:
    case SP_Q5_0:
    case SP_Q5_1:
    case SP_Q5_K:
    case SP_AFFINE3:
    case SP_AFFINE5: return 1;
    case SP_Q6_K:
    case SP_AFFINE6: return 2;
    default: return 0;
    }
}

/* A unit's groups of an affine type, as a power of two blocks each, and the bytes of a scale. */
static inline uint32_t spi_packed_group_shift(const spi_affine *affine) {
    return affine->group == 32 ? 0 : affine->group == 64 ? 1 : 2;
}
static inline uint32_t spi_packed_groups(const spi_affine *affine) {
    return 4u >> spi_packed_group_shift(affine);
}
static inline uint32_t spi_packed_scale_bytes(const spi_affine *affine) {
    return affine->type == SP_F32 ? 4 : 2;
}

/* `affine` is looked at for affine types only. */
static inline size_t spi_packed_words_offset(sp_dtype type, uint32_t lanes, const spi_affine *affine) {
    size_t vector = (size_t)lanes * 4, bytes = (size_t)spi_packed_halves(type) * lanes * sizeof(uint16_t);
    if (spi_affine_bits(type)) {
        bytes = (size_t)2 * spi_packed_groups(affine) * lanes * spi_packed_scale_bytes(affine);
    }
    return (bytes + vector - 1) / vector * vector;
}

static inline size_t spi_packed_block_bytes(sp_dtype type, uint32_t lanes) {
    return (size_t)(spi_packed_low_bits(type) + spi_packed_high_bits(type)) * lanes * 4;
}

static inline size_t spi_packed_blocks_offset(sp_dtype type, uint32_t lanes, const spi_affine *affine) {
    return spi_packed_words_offset(type, lanes, affine) + (size_t)spi_packed_words(type) * lanes * 4;
}

static inline size_t spi_packed_unit_bytes(sp_dtype type, uint32_t lanes, const spi_affine *affine) {
    return spi_packed_blocks_offset(type, lanes, affine) +
           spi_packed_unit_blocks(type) * spi_packed_block_bytes(type, lanes);
}

static inline size_t spi_packed_units(sp_dtype type, uint32_t cols) {
    uint32_t blocks = spi_packed_unit_blocks(type);
    return (cols / SPI_PACKED_COLUMNS + blocks - 1) / blocks;
}

/* Whole groups: what is missing in the last one is there, and means nothing. */
size_t spi_packed_bytes(const spi_tensor *tensor, uint32_t lanes);

/* Groups group_first .. of a matrix in the file's format. `flip` is added to codes of Q8_0, modulo 256: 128 makes them
 * unsigned. To those of AFFINE8, which are unsigned, 128 is added where it is not to Q8_0's. */
void spi_pack(uint32_t lanes, uint8_t flip, void *packed, const spi_tensor *tensor, uint32_t group_first,
              uint32_t group_count);

#endif
