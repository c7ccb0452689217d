/* device/cpu/products.h - the products of the vector tables, by type: each file of kernels defines some of them.
 *
 * A new type is a line here, its place in packed.h and pack.c, and its codes and scales in codes_body.h.
 * May include: device/cpu/kernels.h.
 */
#ifndef SPI_DEVICE_CPU_PRODUCTS_H
#define SPI_DEVICE_CPU_PRODUCTS_H

#include "device/cpu/kernels.h"
#include "device/cpu/packed.h"

/* Blocks of 32, blocks of 256, codes with scales beside them: type, name in functions. */
#define SPI_SMALL_QUANTS(X)                                                                                            \
    X(SP_Q4_0, q4_0)                                                                                                   \
    X(SP_Q4_1, q4_1)                                                                                                   \
    X(SP_Q5_0, q5_0)                                                                                                   \
    X(SP_Q5_1, q5_1)                                                                                                   \
    X(SP_Q8_0, q8_0)                                                                                                   \
    X(SP_IQ4_NL, iq4_nl)                                                                                               \
    X(SP_MXFP4, mxfp4)
#define SPI_SUPER_QUANTS(X)                                                                                            \
    X(SP_Q2_K, q2_k)                                                                                                   \
    X(SP_Q3_K, q3_k)                                                                                                   \
    X(SP_Q4_K, q4_k)                                                                                                   \
    X(SP_Q5_K, q5_k)                                                                                                   \
    X(SP_Q6_K, q6_k)                                                                                                   \
    X(SP_IQ4_XS, iq4_xs)
#define SPI_AFFINE_QUANTS(X)                                                                                           \
    X(SP_AFFINE2, affine2)                                                                                             \
    X(SP_AFFINE3, affine3)                                                                                             \
    X(SP_AFFINE4, affine4)                                                                                             \
    X(SP_AFFINE5, affine5)                                                                                             \
    X(SP_AFFINE6, affine6)                                                                                             \
    X(SP_AFFINE8, affine8)
#define SPI_FLOATS(X)                                                                                                  \
    X(SP_F32, f32)                                                                                                     \
    X(SP_F16, f16)                                                                                                     \
    X(SP_BF16, bf16)

/* The instruction set that a file is compiled for: its name behind that of what it defines. Files for Arm say which it
 * is. */
#if defined(__AVX512F__)
#define SPI_ISA(name)       name##_avx512
#define SPI_ISA_TILE_TOKENS SPI_TILE_TOKENS_AVX512
#elif defined(__x86_64__)
#define SPI_ISA(name)       name##_avx2
#define SPI_ISA_TILE_TOKENS SPI_TILE_TOKENS_AVX2
#elif defined(SPI_ARM_I8MM)
#define SPI_ISA(name)       name##_i8mm
#define SPI_ISA_TILE_TOKENS SPI_TILE_TOKENS_DOTPROD
#elif defined(SPI_ARM_DOTPROD)
#define SPI_ISA(name)       name##_dotprod
#define SPI_ISA_TILE_TOKENS SPI_TILE_TOKENS_DOTPROD
#else
#define SPI_ISA(name)       name##_neon
#define SPI_ISA_TILE_TOKENS SPI_TILE_TOKENS_NEON
#endif

typedef void spi_cpu_product_kernel(const spi_cpu_product *args);
#define X(type, name)                                                                                                  \
    extern spi_cpu_product_kernel spi_product_##name##_avx2, spi_product_##name##_avx512, spi_product_##name##_neon,   \
        spi_product_##name##_dotprod, spi_product_##name##_i8mm;
SPI_SMALL_QUANTS(X)
SPI_SUPER_QUANTS(X)
SPI_AFFINE_QUANTS(X)
#undef X
/* Weights as the file has them. */
#define X(type, name) extern spi_cpu_product_kernel spi_product_##name##_neon;
SPI_FLOATS(X)
#undef X

/* Weights that were turned round, in groups of so many rows: turn.c, turned_body.h. */
#define X(type, name)                                                                                                  \
    extern spi_cpu_product_kernel spi_product_turned_##name##_avx2, spi_product_turned_##name##_avx512;
SPI_FLOATS(X)
#undef X
#define SPI_TURNED_ROWS 32u
size_t spi_turned_bytes(const spi_tensor *tensor);
void spi_turn(void *turned, const spi_tensor *tensor, uint32_t group_first, uint32_t group_count);

/* Of many tokens: spi_cpu_type.product_many. */
#define X(type, name) extern spi_cpu_product_kernel spi_product_##name##_amx;
SPI_SMALL_QUANTS(X)
SPI_SUPER_QUANTS(X)
SPI_AFFINE_QUANTS(X)
X(SP_BF16, bf16)
#undef X
/* BF16 weights as tiles, and products of few tokens with them: amx_bf16_body.h. */
extern spi_cpu_product_kernel spi_product_bf16_few_amx;
size_t spi_amx_bf16_bytes(const spi_tensor *tensor);
void spi_amx_bf16_pack(void *packed, const spi_tensor *tensor, uint32_t group_first, uint32_t group_count);
#define SPI_AMX_ROWS          32u
#define SPI_AMX_SCRATCH_BYTES ((size_t)320 << 10)
/* Codes that are multiplied as they are, in bf16 (amx_few_body.h): of types with up to five bits and one scale for 32
 * columns; from so many tokens on, where it is faster than products of bytes, to two times sixteen; as far as there is
 * room for what is known of columns. */
#define SPI_AMX_IS_FEW(type)                                                                                           \
    ((type) == SP_Q4_0 || (type) == SP_Q4_1 || (type) == SP_Q5_0 || (type) == SP_Q5_1 || (type) == SP_IQ4_NL ||        \
     (type) == SP_MXFP4 || (type) == SP_IQ4_XS || (type) == SP_Q4_K)
#define SPI_AMX_FEW_LEAST(type) ((type) == SP_Q4_K || (type) == SP_Q5_1 ? 16u : 12u)
#define SPI_AMX_FEW_TOKENS      32u
#define SPI_AMX_FEW_COLS        8192u
/* Expanding weights pays from so many tokens on; BF16 weights are tiles already. */
#define SPI_AMX_QUANT_TOKENS 24u
/* So many rows that the activations' way from the last cache is short beside what is done with them, so many tokens
 * that expanding is, and otherwise so small that no thread waits long for another one's last part. */
#define SPI_AMX_PART_ROWS   128u
#define SPI_AMX_PART_TOKENS 128u
#define SPI_AMX_OUT_FLOATS  ((uint32_t)64 << 10) /* in the second-level cache */
#define SPI_AMX_BF16_TOKENS 8u
void spi_to_bf16_amx(uint16_t dst[SPI_BF16_UNIT], const float src[SPI_BF16_UNIT]);

/* AVX-512's products of bf16: of many tokens with BF16 weights that were turned round. */
#define SPI_DPBF16_TOKENS 8u
extern spi_cpu_product_kernel spi_product_bf16_avx512bf16;

/* Arm's products of bf16: of many tokens with BF16 weights. */
#define SPI_BFMMLA_TOKENS 8u
extern spi_cpu_product_kernel spi_product_bf16_bfmmla;
void spi_to_bf16_bfmmla(uint16_t dst[SPI_BF16_UNIT], const float src[SPI_BF16_UNIT]);
/* A block of a matrix product of f16, for spi_cpu_kernels.gemm, to the bits of one in f32. */
void spi_gemm_fp16(const spi_cpu_gemm *args);

/* Tokens of the largest tile of SPI_FORM_I8: their sums are kept in registers. */
#define SPI_TILE_TOKENS_AVX2    4u
#define SPI_TILE_TOKENS_AVX512  4u
#define SPI_TILE_TOKENS_NEON    2u
#define SPI_TILE_TOKENS_DOTPROD 4u

/* Rows that float products take at once, and the scratch in which they widen a slice of them, or sort a token's
 * values. */
#define SPI_FLOAT_ROWS          8u
#define SPI_FLOAT_SCRATCH_BYTES ((size_t)64 << 10)

void spi_quantise_avx2(uint8_t *tile, uint32_t tile_tokens, uint32_t token, const float *src, uint32_t block_count);
void spi_quantise_avx512(uint8_t *tile, uint32_t tile_tokens, uint32_t token, const float *src, uint32_t block_count);
void spi_quantise_neon(uint8_t *tile, uint32_t tile_tokens, uint32_t token, const float *src, uint32_t block_count);

#endif
