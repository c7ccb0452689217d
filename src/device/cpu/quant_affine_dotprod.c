/* device/cpu/quant_affine_dotprod.c - products with MLX's affine types, for Arm with dot products.
 * May include: device, dtype, os, base. */
#define SPI_ARM_DOTPROD
#include "device/cpu/quant_body.h"

#define X(type, name)                                                                                                  \
    void spi_product_##name##_dotprod(const spi_cpu_product *args) {                                                   \
        quant_product(type, args);                                                                                     \
    }
SPI_AFFINE_QUANTS(X)
