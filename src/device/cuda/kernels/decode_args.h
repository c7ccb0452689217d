/* device/cuda/kernels/decode_args.h - what the host hands to the kernel that computes a token in one launch.
 *
 * A token is a list of phases, made once from the tape (decode.c): products over one input vector, or attention. Between
 * phases whose results the next one reads stands a barrier over the whole card. May include: args.h.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_DECODE_ARGS_H
#define SPI_DEVICE_CUDA_KERNELS_DECODE_ARGS_H

#include "device/cuda/kernels/args.h"

#define SPI_CU_PARTS_MAX     3u   /* matrices that share an input and a type: q, k and v; gate and up */
#define SPI_CU_SPLITS_MAX    16u  /* runs of blocks that a session's context is shared out in */
#define SPI_CU_DECODE_WARPS  16u  /* that multiply, in groups of four; one more streams weights */
#define SPI_CU_TILE_ROWS_MAX 16u  /* rows of weights in a stage of the ring */
#define SPI_CU_PAIRS_MAX     128u /* of a rotation */
#define SPI_CU_TURNS_MAX     2u   /* rotations of a tape */

typedef enum spi_cu_phase_kind {
    SPI_CU_PHASE_PRODUCT,
    SPI_CU_PHASE_ATTENTION,
} spi_cu_phase_kind;

/* How a phase's input vector comes about. */
typedef enum spi_cu_input {
    SPI_CU_INPUT_NORM,     /* src, normalised; before the first layer src is the token's row of the embedding */
    SPI_CU_INPUT_PLAIN,    /* src */
    SPI_CU_INPUT_ATTENDED, /* the runs of attention, put together */
    SPI_CU_INPUT_SAME,     /* that of the phase before */
} spi_cu_input;

/* What becomes of a row's sum. */
typedef enum spi_cu_output {
    SPI_CU_OUTPUT_STORE,
    SPI_CU_OUTPUT_ADD,    /* to what stands there */
    SPI_CU_OUTPUT_GATE,   /* act(part 0) * part 1 */
    SPI_CU_OUTPUT_LOGITS, /* to the guest's memory */
} spi_cu_output;

typedef struct spi_cu_part {
    spi_cu_address data, bias, dst; /* bias may be 0 */
    uint32_t rows;
    uint32_t reserved;
} spi_cu_part;

typedef struct spi_cu_phase {
    uint32_t kind, input, output, barrier; /* barrier: behind the phase */

    /* Products. Rows are dealt out to blocks in units: a row, or one of gate and one of up. */
    uint32_t type, cols, groups, stride, plane_bytes[SPI_CU_PLANES];
    uint32_t part_count, unit_count, unit_rows;
    uint32_t tile_units;   /* in a stage, at most */
    uint32_t normed;       /* the input was normalised, here or in the phase before: sums still want its factor */
    uint32_t column_split; /* 1, 2 or 4 warps of a group share a row's columns, and the others take other rows */
    spi_cu_part parts[SPI_CU_PARTS_MAX];
    spi_cu_address src, norm_weight;
    float eps, scale, softcap;
    uint32_t silu;

    /* Attention. src is q; k and v as they come out of their products; norms of heads may be 0. */
    spi_cu_address k, v, q_norm, k_norm;
    uint32_t turn, heads, window, halves, pairs;
    uint64_t layer_bytes;
    float k_eps;
} __attribute__((aligned(16))) spi_cu_phase; /* copied 16 bytes at a time */

typedef struct spi_cu_token {
    const spi_cu_phase *phases;
    uint32_t phase_count, token, position, splits, split_blocks; /* blocks of 64 tokens in a split */
    spi_cu_matrix embedding;
    float embedding_scale;
    float *x;          /* the residual stream, f32 [cols] */
    float *attended;   /* [splits][heads][head_dim + 4]: sums, largest score, sum of weights */
    uint32_t *barrier; /* counts arrivals for ever; barrier_start is what it stands at */
    uint32_t barrier_start;
    uint32_t dim_shift; /* a head has 1 << dim_shift columns */
    spi_cu_kv kv;
    spi_cu_address blocks, host_blocks; /* the session's first block on the card, and the guest's (or 0) */
    spi_cu_address logits;
    long long *clocks; /* NULL; or for three marks of each phase: its start, its input there, its end */
    uint32_t stage_bytes, stage_count, stages_ahead; /* of the ring; how many may be on their way at once */
    uint32_t vector_bytes;                           /* shared memory for the input vector, before the ring */
    float turns[SPI_CU_TURNS_MAX][SPI_CU_PAIRS_MAX][2];
} spi_cu_token;

#endif
