/* device/cpu/quant_small_avx512.c - products with types of blocks of 32, for AVX-512 with VNNI. May include: device,
 * dtype, os, base. */
#include "device/cpu/quant_body.h"

#define X(type, name)                                                                                                  \
    void spi_product_##name##_avx512(const spi_cpu_product *args) {                                                    \
        quant_product(type, args);                                                                                     \
    }
SPI_SMALL_QUANTS(X)
