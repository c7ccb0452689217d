/* dtype/quant.h - rounding f32 values to the blocks of a weight type.
 *
 * The algorithms and the order of their operations are those of ggml's reference quantisers (the quantize_row_*_ref
 * functions of github.com/ggml-org/ggml, src/ggml-quants.c, without an importance matrix), so that files are the same
 * bits as theirs: a search for a scale compares sums that differ in their last bits. May include: base.
 */
#ifndef SPI_DTYPE_QUANT_H
#define SPI_DTYPE_QUANT_H

#include <stdbool.h>
#include <stdint.h>

#include "samepage/dtype.h"

/* All but MXFP4. */
bool spi_quantise_has(sp_dtype type);

/* count is a multiple of the type's block; the values are finite. False: they are too large for the type's f16 scales,
 * and what was written is of no use. Blocks are aligned as spi_dequantise wants them. */
bool spi_quantise(sp_dtype type, const float *values, uint32_t count, void *blocks);

/* For spi_quantise: one block. quant_32.c, quant_256.c, quant_iq4.c */
typedef void spi_encode_block(const float *values, void *block);
spi_encode_block spi_encode_q4_0, spi_encode_q4_1, spi_encode_q5_0, spi_encode_q5_1, spi_encode_q8_0, spi_encode_iq4_nl;
spi_encode_block spi_encode_q2_k, spi_encode_q3_k, spi_encode_q4_k, spi_encode_q5_k, spi_encode_q6_k, spi_encode_iq4_xs;

#endif
