/* device/cpu/table_body.h - what the tables of the vector instruction sets have in common: all but a name and a check.
 * Included by kernels_*.c. */
#ifndef SPI_DEVICE_CPU_TABLE_BODY_H
#define SPI_DEVICE_CPU_TABLE_BODY_H

#include "device/cpu/attention_body.h"
#include "device/cpu/gemm_body.h"
#include "device/cpu/products.h"
#include "device/cpu/rows_body.h"
#include "device/cpu/tile.h"

#if defined(__AVX512F__)
#define TABLE_FLIP 128
#else
#define TABLE_FLIP 0
#endif
#if defined(__aarch64__) /* no level beyond the first has anything for floats and for rounding activations */
#define TABLE_QUANTISE spi_quantise_neon
#else
#define TABLE_QUANTISE SPI_ISA(spi_quantise)
#endif

#if defined(TABLE_DPBF16)
#define TABLE_MANY_BF16 .product_many = spi_product_bf16_avx512bf16, .many_tokens = SPI_DPBF16_TOKENS
#elif defined(TABLE_BFMMLA)
#define TABLE_MANY_BF16 .product_many = spi_product_bf16_bfmmla, .many_tokens = SPI_BFMMLA_TOKENS
#else
#define TABLE_MANY_BF16 TABLE_MANY(bf16, SPI_AMX_BF16_TOKENS)
#endif
#if defined(TABLE_AMX)
#define TABLE_ATTENTION_ROWS 64
#define TABLE_SCRATCH_BYTES  SPI_AMX_SCRATCH_BYTES
#define TABLE_MANY(name, from)                                                                                         \
    .product_many = spi_product_##name##_amx, .many_tokens = (from), .many_out_floats = SPI_AMX_OUT_FLOATS,            \
    .many_part_rows = SPI_AMX_PART_ROWS, .many_part_tokens = SPI_AMX_PART_TOKENS
#else
#define TABLE_ATTENTION_ROWS   16
#define TABLE_SCRATCH_BYTES    SPI_FLOAT_SCRATCH_BYTES
#define TABLE_MANY(name, from) .product_many = NULL
#endif

static size_t table_packed_bytes(const spi_tensor *tensor) {
    return spi_packed_bytes(tensor, V_WIDTH);
}

static void table_pack(void *packed, const spi_tensor *tensor, uint32_t group_first, uint32_t group_count) {
    spi_pack(V_WIDTH, TABLE_FLIP, packed, tensor, group_first, group_count);
}

#if defined(__aarch64__)
/* On Linux rows of floats are copied as they are, into huge pages: reading them takes 3 to 17 % less time than from the
 * small pages of a file. macOS has none. */
#if defined(__linux__)
static size_t table_copied_bytes(const spi_tensor *tensor) {
    return tensor->bytes;
}

static void table_copy(void *copy, const spi_tensor *tensor, uint32_t group_first, uint32_t group_count) {
    size_t group_bytes = tensor->bytes / tensor->rows * SPI_FLOAT_ROWS, first = group_first * group_bytes;
    size_t bytes = group_count * group_bytes, left = tensor->bytes - first;
    memcpy((uint8_t *)copy + first, (const uint8_t *)tensor->data + first, bytes < left ? bytes : left);
}
#define TABLE_COPY .packed_bytes = table_copied_bytes, .pack = table_copy, .as_is = true
#else
#define TABLE_COPY .packed_bytes = NULL
#endif
#endif

static const spi_cpu_type types[] = {
#if defined(__aarch64__)
#define FLOAT(dtype, name)                                                                                             \
    .type = dtype, .form = SPI_FORM_F32, .group_rows = SPI_FLOAT_ROWS, .product = spi_product_##name##_neon, TABLE_COPY
    {FLOAT(SP_F32, f32)},
    {FLOAT(SP_F16, f16)},
    {FLOAT(SP_BF16, bf16), TABLE_MANY_BF16},
#undef FLOAT
#else
#define TURNED(dtype, name)                                                                                            \
    .type = dtype, .form = SPI_FORM_F32, .group_rows = SPI_TURNED_ROWS, .packed_bytes = spi_turned_bytes,              \
    .pack = spi_turn, .product = SPI_ISA(spi_product_turned_##name), .one_order = true
    {TURNED(SP_F32, f32)},
    {TURNED(SP_F16, f16)},
#if defined(TABLE_AMX)
    {.type = SP_BF16,
     .form = SPI_FORM_F32,
     .group_rows = SPI_AMX_ROWS,
     .packed_bytes = spi_amx_bf16_bytes,
     .pack = spi_amx_bf16_pack,
     .product = spi_product_bf16_few_amx,
     .one_order = true,
     TABLE_MANY_BF16},
#else
    {TURNED(SP_BF16, bf16), TABLE_MANY_BF16},
#endif
#undef TURNED
#endif
#define X(dtype, name)                                                                                                 \
    {.type = dtype,                                                                                                    \
     .form = SPI_FORM_I8,                                                                                              \
     .group_rows = SPI_PACKED_SETS * V_WIDTH,                                                                          \
     .packed_bytes = table_packed_bytes,                                                                               \
     .pack = table_pack,                                                                                               \
     .product = SPI_ISA(spi_product_##name),                                                                           \
     TABLE_MANY(name, SPI_AMX_IS_FEW(dtype) ? SPI_AMX_FEW_LEAST(dtype) : SPI_AMX_QUANT_TOKENS)},
    SPI_SMALL_QUANTS(X) SPI_SUPER_QUANTS(X) SPI_AFFINE_QUANTS(X)
#undef X
};

_Static_assert(SPI_TILE_SCRATCH_BYTES(V_WIDTH) <= TABLE_SCRATCH_BYTES, "one scratch serves all types");

/* Processors with dot products mostly have products of f16, too. */
#if defined(SPI_ARM_DOTPROD)
static void table_gemm(const spi_cpu_gemm *args) {
    if (args->half && spi_cpu_get_features()->fp16) {
        spi_gemm_fp16(args);
    } else {
        gemm(args);
    }
}
#else
#define table_gemm gemm
#endif

#define KERNELS_OF_THIS_WIDTH                                                                                          \
    .types = types, .type_count = sizeof types / sizeof types[0], .token_tile_max = SPI_ISA_TILE_TOKENS,               \
    .product_scratch_bytes = TABLE_SCRATCH_BYTES, .quantise = TABLE_QUANTISE, .norm = rows_norm,                       \
    .rotate = rows_rotate, .gate = rows_gate, .add = rows_add, .add_scaled = rows_add_scaled, .cap = rows_cap,         \
    .to_f16 = rows_to_f16, .attention_rows = TABLE_ATTENTION_ROWS, .attention_scratch_bytes = attention_scratch_bytes, \
    .attention = attention, .attention_part = attention_part, .attention_combine = attention_combine,                  \
    .attention_columns = V_WIDTH, .gemm_rows = GEMM_ROWS, .gemm_cols = GEMM_COLS,                                      \
    .gemm_scratch_bytes = sizeof(gemm_scratch), .gemm = table_gemm

#endif
