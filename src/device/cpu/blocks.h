/* device/cpu/blocks.h - the block formats of quantised weights, as files hold them.
 *
 * Both are GGUF's (github.com/ggml-org/ggml, docs/gguf.md and the type's own definition there): 32 neighbouring values
 * of a row share an f16 scale d. Little-endian, no padding. May include: base.
 */
#ifndef SPI_DEVICE_CPU_BLOCKS_H
#define SPI_DEVICE_CPU_BLOCKS_H

#include <stdint.h>

#define SPI_QUANT_BLOCK 32u

/* value j = d * q[j] */
typedef struct spi_q8_0 {
    uint16_t d;
    int8_t q[32];
} spi_q8_0;

/* value j = d * ((q[j] & 15) - 8) for j < 16, and d * ((q[j - 16] >> 4) - 8) for the others */
typedef struct spi_q4_0 {
    uint16_t d;
    uint8_t q[16];
} spi_q4_0;

_Static_assert(sizeof(spi_q8_0) == 34 && sizeof(spi_q4_0) == 18, "blocks lie in files without padding");

#endif
