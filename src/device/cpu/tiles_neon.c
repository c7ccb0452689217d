/* device/cpu/tiles_neon.c - tile kernels of all classes, and activations for them, for NEON.
 * May include: device, os, base. */
#include "device/cpu/products.h"

#define TILE_TOKENS SPI_ISA_TILE_TOKENS
#include "device/cpu/tiles_body.h"

void spi_tile_neon(spi_tile_class class, const spi_tile *tile) {
    tile_of_class(class, tile);
}

void spi_quantise_neon(uint8_t *tile, uint32_t tile_tokens, uint32_t token, const float *src, uint32_t block_count) {
    acts_quantise(tile, tile_tokens, token, src, block_count);
}
