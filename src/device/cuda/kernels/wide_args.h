/* device/cuda/kernels/wide_args.h - what the host hands to the kernels that compute phases of many rows (wide.c).
 * May include: args.h. */
#ifndef SPI_DEVICE_CUDA_KERNELS_WIDE_ARGS_H
#define SPI_DEVICE_CUDA_KERNELS_WIDE_ARGS_H

#include "device/cuda/kernels/decode_args.h"

#define SPI_CU_WIDE_OUTS    128u /* rows of the weight in a tile */
#define SPI_CU_WIDE_THREADS 288u /* two groups of four warps that multiply, and one that fetches */
#define SPI_CU_WIDE_BOX     64u  /* rows of a plain weight that are fetched at once: half a tile */
#define SPI_CU_WIDE_STEP    64u  /* columns */

/* Tiles of rows that there are kernels for: X(rows). */
#define SPI_CU_WIDE_TILES(X, type) X(16, type) X(64, type) X(256, type)

typedef struct spi_cu_wide_part {
    spi_cu_address data, bias, dst; /* bias may be 0 */
    uint32_t rows, dst_stride;
} spi_cu_wide_part;

/* CUtensorMap: a matrix of 16-bit numbers as the card fetches boxes of it. */
typedef struct spi_cu_map {
    unsigned long long opaque[16];
} __attribute__((aligned(64))) spi_cu_map;

/* Products of rows with the matrices of a phase, which share their input. */
typedef struct spi_cu_wide {
    spi_cu_map x;                         /* 16-bit numbers [row_count][columns], boxes of a tile's rows */
    spi_cu_map weights[SPI_CU_PARTS_MAX]; /* of plain types only */
    spi_cu_wide_part parts[SPI_CU_PARTS_MAX];
    uint32_t part_count, output; /* spi_cu_output */
    uint32_t unit_count;         /* rows of all parts; of one, where output is GATE */
    uint32_t cols, stride, plane_bytes[SPI_CU_PLANES];
    uint32_t row_count;
    spi_cu_address outs; /* LOGITS: spi_cu_out for each row */
    float scale, softcap;
    uint32_t silu, brain_out; /* GATE: what dst's 16-bit numbers are */
} spi_cu_wide;

/* Norms and rotations of heads; q to 16-bit numbers, k and v to the blocks. */
typedef struct spi_cu_heads {
    spi_cu_address q, k, v, q_norm, k_norm; /* f32 rows; norms may be 0 */
    spi_cu_address packed;                  /* f16 [row][heads][head_dim], times scale */
    spi_cu_address table;                   /* (cos, sin) [row][pairs] */
    spi_cu_address rows;                    /* spi_cu_row */
    spi_cu_kv kv;
    uint32_t q_stride, k_stride, heads, pairs, halves;
    float eps, k_eps, scale;
} spi_cu_heads;

/* Attention of runs of rows of one session: blocks of the grid are (tile, KV head). */
typedef struct spi_cu_span {
    uint32_t first, count; /* rows, of one session, that one block attends for */
} spi_cu_span;

typedef struct spi_cu_flash {
    spi_cu_address q;     /* f16 [row][heads][head_dim] */
    spi_cu_address out;   /* 16-bit [row][out_stride] */
    spi_cu_address rows;  /* spi_cu_row */
    spi_cu_address spans; /* spi_cu_span */
    spi_cu_kv kv;
    uint32_t heads, window, out_stride, brain_out;
    float softcap;
} spi_cu_flash;

#endif
