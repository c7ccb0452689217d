/* device/cpu/quant_affine_avx2.c - products with MLX's affine types, for AVX2. May include: device, dtype, os, base. */
#include "device/cpu/quant_body.h"

#define X(type, name)                                                                                                  \
    void spi_product_##name##_avx2(const spi_cpu_product *args) {                                                      \
        quant_product(type, args);                                                                                     \
    }
SPI_AFFINE_QUANTS(X)
