/* device/cpu/kernels_dotprod.c - the table for Arm with dot products of bytes (Armv8.2 with FEAT_DotProd). Reached only
 * after a check at run time. May include: device, os, base. */
#define SPI_ARM_DOTPROD
#include "device/cpu/table_body.h"

static bool available(const spi_cpu_features *features) {
    return features->dotprod;
}

const spi_cpu_kernels spi_cpu_kernels_dotprod = {.name = "dotprod", .available = available, KERNELS_OF_THIS_WIDTH};
