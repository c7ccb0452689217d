/* device/cpu/float_avx512.c - products with BF16 weights as rows, for AVX-512 with VNNI. May include: device, os, base. */
#include "device/cpu/float_body.h"

void spi_product_bf16_avx512(const spi_cpu_product *args) {
    float_product(SP_BF16, args);
}
