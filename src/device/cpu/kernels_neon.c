/* device/cpu/kernels_neon.c - the table for NEON, which every 64-bit Arm processor has. May include: device, os,
 * base. */
#include "device/cpu/table_body.h"

static bool available(const spi_cpu_features *features) {
    return features->neon;
}

const spi_cpu_kernels spi_cpu_kernels_neon = {.name = "neon", .available = available, KERNELS_OF_THIS_WIDTH};
