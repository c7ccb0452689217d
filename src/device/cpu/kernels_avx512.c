/* device/cpu/kernels_avx512.c - the table for AVX-512 with VNNI. Reached only after a check at run time.
 * May include: device, os, base. */
#include "device/cpu/table_body.h"

static bool available(const spi_cpu_features *features) {
    return features->avx512_vnni;
}

const spi_cpu_kernels spi_cpu_kernels_avx512 = {.name = "avx512", .available = available, KERNELS_OF_THIS_WIDTH};
