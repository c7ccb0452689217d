/* device/cpu/tiles_avx2.c - tile kernels of all classes, and activations for them, for AVX2.
 * May include: device, os, base. */
#include "device/cpu/products.h"

#define TILE_TOKENS SPI_TILE_TOKENS_AVX2
#include "device/cpu/tiles_body.h"

void spi_tile_avx2(spi_tile_class class, const spi_tile *tile) {
    tile_of_class(class, tile);
}

void spi_quantise_avx2(uint8_t *tile, uint32_t tile_tokens, uint32_t token, const float *src, uint32_t block_count) {
    acts_quantise(tile, tile_tokens, token, src, block_count);
}
