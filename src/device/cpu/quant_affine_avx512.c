/* device/cpu/quant_affine_avx512.c - products with MLX's affine types, for AVX-512 with VNNI. May include: device,
 * dtype, os, base. */
#include "device/cpu/quant_body.h"

#define X(type, name)                                                                                                  \
    void spi_product_##name##_avx512(const spi_cpu_product *args) {                                                    \
        quant_product(type, args);                                                                                     \
    }
SPI_AFFINE_QUANTS(X)
