/* device/cuda/kernels/args.h - what the host hands to kernels, in C and in CUDA C++ alike. May include: dtype.h. */
#ifndef SPI_DEVICE_CUDA_KERNELS_ARGS_H
#define SPI_DEVICE_CUDA_KERNELS_ARGS_H

#include <stdint.h>

#include "base/draw.h"
#include "samepage/dtype.h"

/* The types that there are kernels for. Of MLX's affine ones there are none that take a whole token in one launch. */
#define SPI_CU_ALL_TYPES(X) SPI_CU_TYPES(X) SPI_CU_AFFINE(X)
#define SPI_CU_AFFINE(X)    X(SP_AFFINE2) X(SP_AFFINE3) X(SP_AFFINE4) X(SP_AFFINE5) X(SP_AFFINE6) X(SP_AFFINE8)
#define SPI_CU_TYPES(X)     X(SP_F32) X(SP_F16) X(SP_BF16) SPI_CU_QUANTISED(X)
#define SPI_CU_QUANTISED(X)                                                                                            \
    X(SP_Q8_0)                                                                                                         \
    X(SP_Q4_0)                                                                                                         \
    X(SP_Q4_1)                                                                                                         \
    X(SP_Q5_0)                                                                                                         \
    X(SP_Q5_1) X(SP_Q2_K) X(SP_Q3_K) X(SP_Q4_K) X(SP_Q5_K) X(SP_Q6_K) X(SP_IQ4_NL) X(SP_IQ4_XS) X(SP_MXFP4)

typedef unsigned long long spi_cu_address; /* in the device's address space, which holds the host's registered memory */

/* How a weight lies in a file: blocks of so many elements and bytes. A block has up to three fields; on the card a row
 * is all blocks' first fields, then all second and all third ones (planes), each from a multiple of 16 bytes on, so
 * that neighbouring threads read neighbouring bytes and 16 at once, whatever the block's length is. */
#define SPI_CU_PLANES 3u
typedef struct spi_cu_format {
    uint32_t block_elements, block_bytes, plane_count;
    struct {
        uint32_t first_byte, bytes; /* in a block */
    } planes[SPI_CU_PLANES];
} spi_cu_format;

/* A weight on the card. Rows are padded with zeros to a multiple of SPI_CU_ROW_ELEMENTS. */
#define SPI_CU_ROW_ELEMENTS 256u
typedef struct spi_cu_matrix {
    spi_cu_address data;
    uint32_t type; /* sp_dtype */
    uint32_t rows, cols;
    uint32_t groups;                     /* of 32 elements, the padding's too */
    uint32_t stride;                     /* bytes of a row, a multiple of 16 */
    uint32_t plane_bytes[SPI_CU_PLANES]; /* from a row's first byte */
} spi_cu_matrix;

/* Parameters of a run: a record for each row and each output, and for each way of rotating a table [row][pair] of
 * (cos, sin). The host computes the tables: in f32 an angle at position 100,000 is off by 0.004. */
typedef struct spi_cu_row {
    spi_cu_address kv;   /* the session's first block on the card */
    spi_cu_address host; /* and in the guest's memory, to which rows are written through; 0 where it is the same */
    uint32_t token, position;
} spi_cu_row;

typedef struct spi_cu_out {
    spi_cu_address logits; /* in the guest's memory, or the card's; 0: nobody reads them */
    uint32_t row, reserved;
    spi_draw draw; /* how the card picks, where it does */
} spi_cu_out;

#define SPI_CU_BEST_TOKENS 128u
typedef struct spi_cu_best { /* the likeliest of so many tokens */
    float logit;
    uint32_t token;
} spi_cu_best;

/* Pieces of the parameters, in units of 16 bytes from their first. */
#define SPI_CU_PIECES_MAX 8u
typedef struct spi_cu_pieces {
    uint32_t first[SPI_CU_PIECES_MAX], count[SPI_CU_PIECES_MAX];
} spi_cu_pieces;

typedef struct spi_cu_kv {
    uint64_t block_bytes, layer_bytes; /* of a block: where the layer's K begins */
    uint32_t kv_heads, head_dim;
} spi_cu_kv;

typedef struct spi_cu_product {
    spi_cu_matrix weight;
    const float *x, *bias; /* bias may be NULL */
    const void *packed;    /* x as 16-bit numbers, for tensor cores */
    float *y;              /* NULL: logits, to where the outs say */
    const spi_cu_out *outs;
    uint32_t x_stride, y_stride, row_count, accumulate;
    float scale, softcap; /* of logits */
} spi_cu_product;

typedef struct spi_cu_attention {
    const float *q;
    float *out;
    const spi_cu_row *rows;
    spi_cu_kv kv;
    uint32_t stride, heads, window;
    float scale, softcap;
} spi_cu_attention;

#endif
