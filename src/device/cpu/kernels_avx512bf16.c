/* device/cpu/kernels_avx512bf16.c - the table for AVX-512 with VNNI and products of bf16: AVX-512's, but for many
 * tokens with BF16 weights. Reached only after a check at run time. May include: device, os, base. */
#define TABLE_DPBF16
#include "device/cpu/table_body.h"

static bool available(const spi_cpu_features *features) {
    return features->avx512_vnni && features->avx512_bf16;
}

const spi_cpu_kernels spi_cpu_kernels_avx512bf16 = {
    .name = "avx512bf16", .available = available, .to_bf16 = spi_to_bf16_amx, KERNELS_OF_THIS_WIDTH};
