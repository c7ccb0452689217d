/* device/cpu/tiles_dotprod.c - tile kernels of all classes, for Arm with dot products.
 * May include: device, os, base. */
#define SPI_ARM_DOTPROD
#include "device/cpu/products.h"

#define TILE_TOKENS SPI_ISA_TILE_TOKENS
#include "device/cpu/tiles_body.h"

void spi_tile_dotprod(spi_tile_class class, const spi_tile *tile) {
    tile_of_class(class, tile);
}
