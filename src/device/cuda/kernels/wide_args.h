/* device/cuda/kernels/wide_args.h - what the host hands to the kernels that compute phases of many rows (wide.c).
 * May include: args.h. */
#ifndef SPI_DEVICE_CUDA_KERNELS_WIDE_ARGS_H
#define SPI_DEVICE_CUDA_KERNELS_WIDE_ARGS_H

#include "device/cuda/kernels/decode_args.h"

#define SPI_CU_WIDE_OUTS        SPI_CU_BEST_TOKENS /* rows of the weight in a tile */
#define SPI_CU_WIDE_BOX         64u                /* rows of a weight that are fetched at once: half a tile */
#define SPI_CU_WIDE_STEP        64u                /* columns */
#define SPI_CU_WIDE_SLAB        256u /* columns of a quantised weight that are fetched at once: a block of the K types */
#define SPI_CU_WIDE_SLABS_MAX   8u   /* in shared memory */
#define SPI_CU_WIDE_STEPS_MAX   12u
#define SPI_CU_WIDE_CLUSTER_MAX 8u /* blocks that share a tile's columns */

/* Tiles of rows that there are kernels for: X(rows). */
#define SPI_CU_WIDE_TILES(X, type) X(16, type) X(32, type) X(64, type) X(256, type)

/* Two groups of four warps that multiply, and two warps that fetch; with the largest tile a group of which one fetches,
 * and that gives its registers. */
#define SPI_CU_WIDE_THREADS(rows) ((rows) == 256 ? 384u : 320u)

/* Steps of activations in shared memory, for a tile of so many rows; of plain weights with their steps, in the largest
 * tile: smaller ones have as many as there is room for (spi_cu_wide_room_for). */
#define SPI_CU_WIDE_STAGES(rows)       ((rows) == 16 ? 12 : (rows) == 32 ? 8 : (rows) == 64 ? 5 : 4)
#define SPI_CU_WIDE_PLAIN_STAGES_LARGE 4

/* Points of a kernel: its start, the end of the kernel before, its first step, its last, its end. */
#define SPI_CU_MARKS 5u

/* What 16-bit numbers are: bf16 (else f16), and turned as packed.cuh says. */
#define SPI_CU_FORM_BRAIN  1u
#define SPI_CU_FORM_TURNED 2u

typedef struct spi_cu_wide_part {
    spi_cu_address data, bias, dst; /* bias may be 0 */
    uint32_t rows, dst_stride;
} spi_cu_wide_part;

/* CUtensorMap: a matrix of 16-bit numbers as the card fetches boxes of it. */
typedef struct spi_cu_map {
    unsigned long long opaque[16];
} __attribute__((aligned(64))) spi_cu_map;

/* What becomes of rows' norms. A row's record is f32: what its packed numbers were multiplied by, and then its sum of
 * squares in so many pieces. */
typedef struct spi_cu_squares {
    spi_cu_address records; /* 0: there are none */
    uint32_t pitch, pieces;
    float inverse_cols, eps;
} spi_cu_squares;

/* Products of rows with the matrices of a phase, which share their input. */
typedef struct spi_cu_wide {
    spi_cu_map x; /* 16-bit numbers [row_count][columns], boxes of a tile's rows */
    spi_cu_map weights[SPI_CU_PARTS_MAX][SPI_CU_PLANES]; /* of plain types the first alone */
    spi_cu_wide_part parts[SPI_CU_PARTS_MAX];
    uint32_t part_count, output; /* spi_cu_output */
    uint32_t unit_count;         /* rows of all parts; of one, where output is GATE */
    uint32_t cols, row_count;
    uint32_t slots, row_slots; /* places in shared memory of steps or slabs of weights, and of steps of rows */
    uint32_t flight;           /* narrow.cuh: of the former, so many are on their way before the rows are */
    uint32_t received_at;      /* narrow.cuh: where sums of other blocks are sent to, in bytes */
    uint32_t plane_count;
    uint32_t plane_pitch[SPI_CU_PLANES]; /* bytes of a row's part of a slab in shared memory */
    uint32_t
        plane_step[SPI_CU_PLANES]; /* 16-bit numbers from slab to slab; a slab's box begins at the last 8 of them */
    spi_cu_address outs;           /* LOGITS: spi_cu_out for each row */
    spi_cu_address best;           /* and 0, or gets spi_cu_best [row][tile] */
    float scale, softcap;
    uint32_t silu, form_out;    /* GATE: what dst's 16-bit numbers are */
    spi_cu_squares norm;        /* of the input, whose factors the sums still want */
    spi_cu_squares known;       /* ADD, with `next`: of the rows before this */
    spi_cu_squares next;        /* ADD: gets the new rows' records, a piece a tile */
    spi_cu_address next_packed; /* and the rows times the next norm's weight and factors of `known`, in form_out */
    spi_cu_address next_weight;
    uint32_t next_stride;
    spi_cu_address
        clocks; /* 0, or gets for each of SPI_CU_MARKS points the first and the last block's time there, in ns */
} spi_cu_wide;

/* Rows to 16-bit numbers, normalised where there is a weight. */
typedef struct spi_cu_pack {
    spi_cu_address to, from, weight; /* f32 rows of so many columns */
    spi_cu_squares squares;          /* gets their records */
    uint32_t columns, stride, form;
    float eps;
} spi_cu_pack;

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
    uint32_t first, count;   /* rows, of one session, that one block attends for */
    uint32_t run_first;      /* of the session's rows in this run */
    uint32_t position;       /* of the row `first` */
    spi_cu_address kv, host; /* as spi_cu_row has them */
} spi_cu_span;

typedef struct spi_cu_flash {
    spi_cu_address q;     /* f16 [row][heads][head_dim] */
    spi_cu_address out;   /* 16-bit [row][out_stride] */
    spi_cu_address rows;  /* spi_cu_row */
    spi_cu_address spans; /* spi_cu_span */
    spi_cu_kv kv;
    uint32_t heads, window, out_stride, form_out;
    float softcap;
    uint32_t stages; /* few.cu: runs of keys that a warp has on their way, 1 or 2 */
} spi_cu_flash;

/* Both of a run of few rows: so many queries a block, so many blocks for a session and head, and so much shared memory
 * for a block of so many warps (few.cu). */
#define SPI_CU_FEW_QUERIES    16u
#define SPI_CU_FEW_SHARES_MAX 8u
#define SPI_CU_FEW_BYTES(dim, stages, warps)                                                                           \
    (SPI_CU_FEW_QUERIES * ((dim)*2 + 16) + (warps) * (dim)*4 + 2 * (warps)*SPI_CU_FEW_QUERIES * 4 +                    \
     (warps) * (stages)*2u * 16 * (dim)*2)

typedef struct spi_cu_few {
    spi_cu_heads heads;
    spi_cu_flash flash;
    spi_cu_address clocks; /* as spi_cu_wide has them */
} spi_cu_few;

#endif
