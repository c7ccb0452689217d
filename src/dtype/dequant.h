/* dtype/dequant.h - values of weights of any type in f32, in plain C: what every faster way is held against.
 *
 * The order of operations is that of the `gguf` Python package's dequantize, each rounded to f32, so that results are
 * the same bits (but for the payload of a NaN). May include: base.
 */
#ifndef SPI_DTYPE_DEQUANT_H
#define SPI_DTYPE_DEQUANT_H

#include <stdint.h>

#include "samepage/dtype.h"

/* Elements [first, first + count) of a row; both are multiples of the type's block. The row is aligned to 4 bytes for
 * F32, to 2 for the others but MXFP4. */
void spi_dequantise(sp_dtype type, const void *row, uint32_t first, uint32_t count, float *out);

/* For spi_dequantise: blocks of one type. dequant_32.c, dequant_256.c */
typedef void spi_decode(const void *blocks, uint32_t block_count, float *out);
spi_decode spi_decode_q4_0, spi_decode_q4_1, spi_decode_q5_0, spi_decode_q5_1, spi_decode_q8_0, spi_decode_iq4_nl,
    spi_decode_mxfp4;
spi_decode spi_decode_q2_k, spi_decode_q3_k, spi_decode_q4_k, spi_decode_q5_k, spi_decode_q6_k, spi_decode_iq4_xs;

#endif
