/* device/cuda/kernels/decode_args.h - what the host hands to the kernel that computes a token in one launch.
 *
 * A token is a list of phases, made once from the tape (decode.c): products over one input vector, or attention. Between
 * phases whose results the next one reads stands a barrier over the whole card. May include: args.h.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_DECODE_ARGS_H
#define SPI_DEVICE_CUDA_KERNELS_DECODE_ARGS_H

#include "device/cuda/kernels/args.h"

#define SPI_CU_PARTS_MAX    3u   /* matrices that share an input and a type: q, k and v; gate and up */
#define SPI_CU_SPLITS_MAX   16u  /* runs of blocks that a session's context is shared out in */
#define SPI_CU_DECODE_WARPS 16u  /* that multiply; one more streams weights */
#define SPI_CU_ROWS_AT_ONCE 4u   /* rows of weights that a warp multiplies at once */
#define SPI_CU_PAIRS_MAX    128u /* of a rotation */
#define SPI_CU_TURNS_MAX    2u   /* rotations of a tape */

/* The kernels, each for products of two types: X(NAME, first, second). The first is for all types. */
#define SPI_CU_DECODERS(X)                                                                                             \
    X(any, -1, -1)                                                                                                     \
    X(F16, SP_F16, SP_F16)                                                                                             \
    X(BF16, SP_BF16, SP_BF16)                                                                                          \
    X(Q8_0, SP_Q8_0, SP_Q8_0)                                                                                          \
    X(Q4_0, SP_Q4_0, SP_Q4_0)                                                                                          \
    X(Q4_1, SP_Q4_1, SP_Q4_1)                                                                                          \
    X(Q5_0, SP_Q5_0, SP_Q5_0)                                                                                          \
    X(Q5_1, SP_Q5_1, SP_Q5_1)                                                                                          \
    X(Q6_K, SP_Q6_K, SP_Q6_K)                                                                                          \
    X(IQ4_NL, SP_IQ4_NL, SP_IQ4_NL)                                                                                    \
    X(MXFP4, SP_MXFP4, SP_MXFP4)                                                                                       \
    X(Q4_0_Q6_K, SP_Q4_0, SP_Q6_K)                                                                                     \
    X(Q2_K_Q6_K, SP_Q2_K, SP_Q6_K)                                                                                     \
    X(Q3_K_Q6_K, SP_Q3_K, SP_Q6_K)                                                                                     \
    X(Q4_K_Q6_K, SP_Q4_K, SP_Q6_K)                                                                                     \
    X(Q5_K_Q6_K, SP_Q5_K, SP_Q6_K)                                                                                     \
    X(IQ4_XS_Q6_K, SP_IQ4_XS, SP_Q6_K)

typedef enum spi_cu_phase_kind {
    SPI_CU_PHASE_PRODUCT,
    SPI_CU_PHASE_ATTENTION,
    SPI_CU_PHASE_GATHER, /* of the rows that logits are wanted of: not for a single row */
} spi_cu_phase_kind;

/* How a phase's input vector comes about. */
typedef enum spi_cu_input {
    SPI_CU_INPUT_NORM,  /* src, normalised; before the first layer src is the token's row of the embedding */
    SPI_CU_INPUT_PLAIN, /* src */
    SPI_CU_INPUT_SAME,  /* that of the phase before */
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
    uint32_t dst_stride; /* from row to row of a run with several */
} spi_cu_part;

typedef struct spi_cu_phase {
    uint32_t kind, input, output, barrier; /* barrier: behind the phase */

    /* Products. Rows are dealt out to blocks in units: a row, or one of gate and one of up. */
    uint32_t type, cols, groups, stride, plane_bytes[SPI_CU_PLANES];
    uint32_t part_count, unit_count, unit_rows;
    uint32_t tile_units; /* in a tile, at most */
    uint32_t normed;     /* the input was normalised, here or in the phase before: sums still want its factor */
    spi_cu_part parts[SPI_CU_PARTS_MAX];
    spi_cu_address src, norm_weight;
    float eps, scale, softcap;
    uint32_t silu;

    /* Attention. src is q; k and v as they come out of their products; norms of heads may be 0. */
    spi_cu_address k, v, q_norm, k_norm, out;
    uint32_t turn, heads, window, halves, pairs;
    uint64_t layer_bytes;
    float k_eps;
} __attribute__((aligned(16))) spi_cu_phase; /* copied 16 bytes at a time */

typedef struct spi_cu_token {
    const spi_cu_phase *phases;
    uint32_t phase_count, token, position, splits, split_blocks; /* blocks of 64 tokens in a split */
    spi_cu_matrix embedding;
    float embedding_scale;
    float *x;           /* the residual stream, f32 [cols] */
    float *attended;    /* [splits][heads][head_dim + 4]: sums, largest score, sum of weights */
    uint32_t *finished; /* blocks that are; begins and ends every token at 0 */
    uint32_t *done;     /* in the host's memory: gets `sequence` when all is written */
    uint32_t sequence;
    uint32_t *arrivals; /* per KV head: blocks that have attended; begins and ends every phase at 0 */
    uint32_t *barrier;  /* counts arrivals for ever; barrier_start is what it stands at */
    uint32_t barrier_start;
    uint32_t dim_shift; /* a head has 1 << dim_shift columns */
    spi_cu_kv kv;
    spi_cu_address blocks, host_blocks; /* the session's first block on the card, and the guest's (or 0) */
    spi_cu_address logits;
    long long
        *clocks; /* NULL; or for three marks of each phase: its start, its input there, its end; and times in ns of
                          all blocks: the start of phase `marked`, and its end; and of the first block: clocks that it waited for room in
                          the ring and for weights to land, and when it began and ended */
    uint32_t marked;
    uint32_t vector_bytes;             /* shared memory for the input vector, before the ring */
    uint32_t ring_bytes, flight_bytes; /* how many of it may be on their way at once */
    float turns[SPI_CU_TURNS_MAX][SPI_CU_PAIRS_MAX][2];
} spi_cu_token;

#endif
