/* device/cpu/kernels_bf16.c - the table for Arm with products of matrices of bytes and of bf16 (FEAT_I8MM, FEAT_BF16):
 * i8mm's, but for many tokens with BF16 weights. Reached only after a check at run time. May include: device, os,
 * base. */
#define SPI_ARM_DOTPROD
#define SPI_ARM_I8MM
#define TABLE_BFMMLA
#include "device/cpu/table_body.h"

static bool available(const spi_cpu_features *features) {
    return features->dotprod && features->i8mm && features->bf16;
}

const spi_cpu_kernels spi_cpu_kernels_bf16 = {
    .name = "bf16", .available = available, .to_bf16 = spi_to_bf16_bfmmla, KERNELS_OF_THIS_WIDTH};
