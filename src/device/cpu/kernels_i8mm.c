/* device/cpu/kernels_i8mm.c - the table for Arm with products of matrices of bytes (FEAT_I8MM). Reached only after a
 * check at run time. May include: device, os, base. */
#define SPI_ARM_DOTPROD
#define SPI_ARM_I8MM
#include "device/cpu/table_body.h"

static bool available(const spi_cpu_features *features) {
    return features->dotprod && features->i8mm;
}

const spi_cpu_kernels spi_cpu_kernels_i8mm = {.name = "i8mm", .available = available, KERNELS_OF_THIS_WIDTH};
