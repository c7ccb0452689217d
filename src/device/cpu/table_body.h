/* device/cpu/table_body.h - what the tables of the vector instruction sets have in common: all but a name and a check.
 *
 * A weight type is one row here for every width. Included by kernels_avx2.c and kernels_avx512.c, behind their pack_q8_0,
 * the only packing that depends on the instructions.
 */
#ifndef SPI_DEVICE_CPU_TABLE_BODY_H
#define SPI_DEVICE_CPU_TABLE_BODY_H

#include "device/cpu/attention_body.h"
#include "device/cpu/float_body.h"
#include "device/cpu/gemm_body.h"
#include "device/cpu/kernels.h"
#include "device/cpu/quant_tile_body.h"
#include "device/cpu/rows_body.h"

static const spi_cpu_type types[] = {
    {.type = SP_F32, .form = SPI_FORM_F32, .group_rows = FLOAT_ROWS, .product = float_product_f32},
    {.type = SP_F16, .form = SPI_FORM_F32, .group_rows = FLOAT_ROWS, .product = float_product_f16},
    {.type = SP_BF16, .form = SPI_FORM_F32, .group_rows = FLOAT_ROWS, .product = float_product_bf16},
    {.type = SP_Q8_0,
     .form = SPI_FORM_I8,
     .group_rows = QUANT_ROWS,
     .packed_bytes = quant_bytes_q8_0,
     .pack = pack_q8_0,
     .product = quant_product_q8_0},
    {.type = SP_Q4_0,
     .form = SPI_FORM_I8,
     .group_rows = QUANT_ROWS,
     .packed_bytes = quant_bytes_q4_0,
     .pack = quant_pack_q4_0,
     .product = quant_product_q4_0},
};

#define KERNELS_OF_THIS_WIDTH                                                                                          \
    .types = types, .type_count = sizeof types / sizeof types[0], .token_tile_max = QUANT_TOKENS,                      \
    .quantise = quantise, .norm = rows_norm, .rotate = rows_rotate, .gate = rows_gate, .add = rows_add,                \
    .add_scaled = rows_add_scaled, .cap = rows_cap, .to_f16 = rows_to_f16, .attention_rows = 16,                       \
    .attention_scratch_bytes = attention_scratch_bytes, .attention = attention, .attention_part = attention_part,      \
    .attention_combine = attention_combine, .attention_columns = V_WIDTH, .gemm_rows = GEMM_ROWS,                      \
    .gemm_cols = GEMM_COLS, .gemm_scratch_bytes = sizeof(gemm_scratch), .gemm = gemm

#endif
