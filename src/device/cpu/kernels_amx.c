/* device/cpu/kernels_amx.c - the table for AMX: AVX-512's, but products of many tokens are made of tiles.
 * Reached only after a check at run time. May include: device, os, base. */
#define TABLE_AMX
#include "device/cpu/table_body.h"

static bool available(const spi_cpu_features *features) {
#if defined(SPI_AMX_EMULATED)
    return features->avx512_vnni;
#else
    return features->avx512_vnni && features->amx_bf16;
#endif
}

const spi_cpu_kernels spi_cpu_kernels_amx = {
    .name = "amx", .available = available, .to_bf16 = spi_to_bf16_amx, KERNELS_OF_THIS_WIDTH};
