/* device/cpu/kernels_avx2.c - the table for AVX2 with FMA and F16C (x86-64-v3). Reached only after a check at run time.
 * May include: device, os, base. */
#include "device/cpu/table_body.h"

static bool available(const spi_cpu_features *features) {
    return features->avx2_fma_f16c;
}

const spi_cpu_kernels spi_cpu_kernels_avx2 = {.name = "avx2", .available = available, KERNELS_OF_THIS_WIDTH};
