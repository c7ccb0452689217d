/* device/cpu/tiles_avx512.c - tile kernels of all classes, and activations for them, for AVX-512 with VNNI.
 * May include: device, os, base. */
#include "device/cpu/products.h"

#define TILE_TOKENS SPI_TILE_TOKENS_AVX512
#include "device/cpu/tiles_body.h"

void spi_tile_avx512(spi_tile_class class, const spi_tile *tile) {
    tile_of_class(class, tile);
}

void spi_quantise_avx512(uint8_t *tile, uint32_t tile_tokens, uint32_t token, const float *src, uint32_t block_count) {
    acts_quantise(tile, tile_tokens, token, src, block_count);
}
