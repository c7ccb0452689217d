/* device/cpu/quant_affine_neon.c - products with MLX's affine types, for NEON. May include: device, dtype, os, base. */
#include "device/cpu/quant_body.h"

#define X(type, name)                                                                                                  \
    void spi_product_##name##_neon(const spi_cpu_product *args) {                                                      \
        quant_product(type, args);                                                                                     \
    }
SPI_AFFINE_QUANTS(X)
