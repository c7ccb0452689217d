/* device/kv.h - how keys and values lie in a session's blocks, the same on every device.
 *
 *     block:  [layer][K, V][kv head]{ 64 rows of numbers | Q8_0: 64 rows of scales }, padded to a multiple of 64 KiB
 *
 * F16: a row is head_dim f16. Q8_0: head_dim int8, and for each 32 of them an f16 that they are multiplied with, the
 * numbers of GGUF's Q8_0. Scales stand behind the codes of all 64 tokens and not among them: no row lies across lines
 * of the cache or words of a shader, and measured on AVX-512 scores stream from memory a tenth faster than out of
 * blocks of 34 bytes. May include: base. Included by: device/tape.h.
 */
#ifndef SPI_DEVICE_KV_H
#define SPI_DEVICE_KV_H

#include <stdbool.h>
#include <stdint.h>

#include "samepage/dtype.h"

/* The tokens of a KV block: the unit of growing, sharing, hashing and saving. */
#define SPI_BLOCK_TOKENS 64u

#define SPI_KV_SCALE_COLUMNS   32u /* of Q8_0: what has a scale of its own; head_dim is a multiple of it */
#define SPI_KV_BLOCK_PAD_BYTES ((uint64_t)64 << 10)

typedef struct spi_kv_shape {
    sp_kv_type type; /* SP_KV_DEFAULT is F16 */
    uint32_t layers, kv_heads, head_dim;
    uint64_t block_bytes;
} spi_kv_shape;

static inline bool spi_kv_is_q8(const spi_kv_shape *shape) {
    return shape->type == SP_KV_Q8_0;
}

/* Bytes of a row's numbers, and of its scales: 0 in F16. */
static inline uint64_t spi_kv_number_bytes(const spi_kv_shape *shape) {
    return (uint64_t)shape->head_dim * (spi_kv_is_q8(shape) ? 1 : 2);
}
static inline uint64_t spi_kv_scale_bytes(const spi_kv_shape *shape) {
    return spi_kv_is_q8(shape) ? (uint64_t)shape->head_dim / SPI_KV_SCALE_COLUMNS * 2 : 0;
}

/* Of the 64 rows of a head, K or V. */
static inline uint64_t spi_kv_head_bytes(const spi_kv_shape *shape) {
    return (spi_kv_number_bytes(shape) + spi_kv_scale_bytes(shape)) * SPI_BLOCK_TOKENS;
}

/* Where the 64 rows of a K (which = 0) or V (which = 1) head begin that a position is among, in bytes from the
 * session's first block. */
static inline uint64_t spi_kv_head_offset(const spi_kv_shape *shape, uint32_t layer, uint32_t which, uint32_t head,
                                          uint32_t position) {
    uint64_t in_block = (((uint64_t)layer * 2 + which) * shape->kv_heads + head) * spi_kv_head_bytes(shape);
    return (position / SPI_BLOCK_TOKENS) * shape->block_bytes + in_block;
}

/* Where a row's numbers lie; and its scales. */
static inline uint64_t spi_kv_row_offset(const spi_kv_shape *shape, uint32_t layer, uint32_t which, uint32_t head,
                                         uint32_t position) {
    return spi_kv_head_offset(shape, layer, which, head, position) +
           (position % SPI_BLOCK_TOKENS) * spi_kv_number_bytes(shape);
}
static inline uint64_t spi_kv_scale_offset(const spi_kv_shape *shape, uint32_t layer, uint32_t which, uint32_t head,
                                           uint32_t position) {
    return spi_kv_head_offset(shape, layer, which, head, position) + SPI_BLOCK_TOKENS * spi_kv_number_bytes(shape) +
           (position % SPI_BLOCK_TOKENS) * spi_kv_scale_bytes(shape);
}

/* Bytes of a block, padded to 64 KiB. */
uint64_t spi_kv_block_bytes(sp_kv_type type, uint32_t layers, uint32_t kv_heads, uint32_t head_dim);

/* A row in Q8_0, rounded as GGUF's quantiser does; count is a multiple of 32. And one number of a row, of either
 * type. */
void spi_kv_encode_q8(const float *row, uint32_t count, int8_t *codes, uint16_t *scales);
float spi_kv_value(const spi_kv_shape *shape, const uint8_t *blocks, uint32_t layer, uint32_t which, uint32_t head,
                   uint32_t position, uint32_t column);

#endif
