/* device/cpu/float_neon.c - products with F32, F16 and BF16 weights, for all of Arm. May include: device, os, base. */
#include "device/cpu/float_body.h"

#define X(type, name)                                                                                                  \
    void spi_product_##name##_neon(const spi_cpu_product *args) {                                                      \
        float_product(type, args);                                                                                     \
    }
SPI_FLOATS(X)
