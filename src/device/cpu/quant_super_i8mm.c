/* device/cpu/quant_super_i8mm.c - products with types of blocks of 256, for Arm with products of 8-bit matrices, which take
 * two tokens at least. One token, or what dot products take as it comes, is theirs. May include: device, dtype, os, base. */
#define SPI_ARM_DOTPROD
#define SPI_ARM_I8MM
#include "device/cpu/quant_body.h"

#define X(type, name)                                                                                                  \
    void spi_product_##name##_i8mm(const spi_cpu_product *args) {                                                      \
        if (quant_is_few(args)) {                                                                                      \
            spi_product_##name##_dotprod(args);                                                                        \
        } else {                                                                                                       \
            quant_many(type, args);                                                                                    \
        }                                                                                                              \
    }
SPI_SUPER_QUANTS(X)
