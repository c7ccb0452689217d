/* device/cpu/quant_i8mm_body.h - products for Arm with products of 8-bit matrices, which take two tokens at least. One
 * token, or what dot products take as it comes, is theirs. A file for each class of types, because each takes its time
 * to compile: it includes this and expands X over its class. May include: device, dtype, os, base. */
#ifndef SPI_DEVICE_CPU_QUANT_I8MM_BODY_H
#define SPI_DEVICE_CPU_QUANT_I8MM_BODY_H

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

#endif
