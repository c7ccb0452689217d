/* dtype/affine.h - MLX's affine quantisation: codes with the scales and biases that lie beside them.
 *
 * Format: github.com/ml-explore/mlx, mlx/ops.cpp (quantize, dequantize) and docs of mx.quantize. A row's codes are a
 * stream of bits, element i at bit i * bits, the first byte's lowest bit first; rows begin at a byte. Element (r, c) is
 * code * scales[r][c / group] + biases[r][c / group], in f32: the product is rounded, then the sum. May include: base.
 */
#ifndef SPI_DTYPE_AFFINE_H
#define SPI_DTYPE_AFFINE_H

#include <stdbool.h>
#include <stdint.h>

#include "samepage/dtype.h"

/* The planes beside the codes: [rows][cols / group] each, aligned to their elements. */
typedef struct spi_affine {
    const void *scales, *biases;
    sp_dtype type;  /* of both: F32, F16 or BF16 */
    uint32_t group; /* 32, 64 or 128 */
} spi_affine;

#define SPI_AFFINE_BLOCK 32u

/* Bits of a code; 0: the type is no affine one. */
static inline uint32_t spi_affine_bits(sp_dtype type) {
    return type >= SP_AFFINE2 && type <= SP_AFFINE8 ? (uint32_t)type - 1000u : 0;
}

/* The type with codes of so many bits; false: there is none. */
bool spi_affine_type(uint32_t bits, sp_dtype *type);

/* Scale (or bias) `index` of a plane. */
float spi_affine_number(sp_dtype type, const void *plane, uint64_t index);

/* The codes of a block: element j's at bit j * bits of 4 * bits bytes. */
void spi_affine_codes(uint32_t bits, const uint8_t *bytes, uint8_t codes[SPI_AFFINE_BLOCK]);

/* Elements [first, first + count) of row `row`, whose codes begin at `codes`; both are multiples of 32. */
void spi_affine_values(sp_dtype type, const spi_affine *affine, const void *codes, uint64_t row, uint32_t cols,
                       uint32_t first, uint32_t count, float *out);

#endif
