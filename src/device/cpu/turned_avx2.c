/* device/cpu/turned_avx2.c - products with F32, F16 and BF16 weights that were turned round, for AVX2. May include:
 * device, os, base. */
#include "device/cpu/turned_body.h"

#define X(type, name)                                                                                                  \
    void spi_product_turned_##name##_avx2(const spi_cpu_product *args) {                                               \
        turned_product(type, args);                                                                                    \
    }
SPI_FLOATS(X)
