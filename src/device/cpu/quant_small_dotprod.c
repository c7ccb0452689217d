/* device/cpu/quant_small_dotprod.c - products with types of blocks of 32, for Arm with dot products. May include:
 * device, dtype, os, base. */
#define SPI_ARM_DOTPROD
#include "device/cpu/quant_body.h"

#define X(type, name)                                                                                                  \
    void spi_product_##name##_dotprod(const spi_cpu_product *args) {                                                   \
        quant_product(type, args);                                                                                     \
    }
SPI_SMALL_QUANTS(X)
