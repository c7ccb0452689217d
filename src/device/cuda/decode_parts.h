/* device/cuda/decode_parts.h - what decode.c is made of: decode_shape.c and decode_tags.c. May include: device,
 * base. */
#ifndef SPI_DEVICE_CUDA_DECODE_PARTS_H
#define SPI_DEVICE_CUDA_DECODE_PARTS_H

#include "device/cuda/cuda.h"

#define SPI_CU_DECODE_STATIC_BYTES 10240u /* of shared memory: of the kernel itself, and the system's own */

/* Vectors that blocks hand to each other: how many bytes of the decoder's memory they take, and where in them two
 * lie. */
typedef struct spi_cu_vectors {
    uint64_t bytes, attended_at, x_at;
} spi_cu_vectors;

static inline uint64_t spi_cu_decode_round_up(uint64_t bytes) {
    return (bytes + 255) / 256 * 256;
}

/* Gives every block of each phase its share, and shares shared memory out. False: it does not fit. */
bool spi_cu_decode_shape(const spi_cu *cu, const spi_program *program, spi_cu_decode *decode);

/* Gives the phases' vectors their places, as offsets, and tags, after their shape. False: there are too many. */
bool spi_cu_decode_tag(const spi_program *program, spi_cu_decode *decode, spi_cu_vectors *vectors);

/* Makes addresses of the offsets. */
void spi_cu_decode_move_vectors(spi_cu_phases *phases, spi_cu_pointer base);

#endif
