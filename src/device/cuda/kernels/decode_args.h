/* device/cuda/kernels/decode_args.h - what the host hands to the kernel that computes a token in one launch.
 *
 * A token is a list of phases, made once from the tape (phases.c): products over one input vector, or attention. May
 * include: args.h.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_DECODE_ARGS_H
#define SPI_DEVICE_CUDA_KERNELS_DECODE_ARGS_H

#include "device/cuda/kernels/args.h"

#define SPI_CU_PARTS_MAX    3u   /* matrices that share an input and a type: q, k and v; gate and up */
#define SPI_CU_SPLITS_MAX   16u  /* runs of blocks that a session's context is shared out in */
#define SPI_CU_JOINED_MAX   4u   /* of them that whoever reads what was attended to puts together */
#define SPI_CU_JOINED_RUN   5u   /* blocks of 64 tokens in one of those, at most */
#define SPI_CU_DECODE_WARPS 16u  /* that multiply; one more streams weights */
#define SPI_CU_STAGES_MAX   32u  /* of the ring that weights go through */
#define SPI_CU_PAIRS_MAX    128u /* of a rotation */
#define SPI_CU_TURNS_MAX    2u   /* rotations of a tape */
#define SPI_CU_STOPS_MAX    8u   /* tokens that end a launch of several */
#define SPI_CU_STEPS_MAX    32u  /* tokens of a launch */

/* What sums up is left as f16 numbers of a sixteenth of it, which reach as far as 2^20. */
#define SPI_CU_NARROWED 16.0f

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

/* The same for keys and values in Q8_0, of the types that are used most. */
#define SPI_CU_Q8_DECODERS(X)                                                                                          \
    X(any, -1, -1)                                                                                                     \
    X(F16, SP_F16, SP_F16)                                                                                             \
    X(BF16, SP_BF16, SP_BF16)                                                                                          \
    X(Q8_0, SP_Q8_0, SP_Q8_0)                                                                                          \
    X(Q4_0, SP_Q4_0, SP_Q4_0)                                                                                          \
    X(Q4_K_Q6_K, SP_Q4_K, SP_Q6_K)

/* Elements of a row that a warp takes, at most; it holds the input for them in registers. */
#define SPI_CU_SLICE_ELEMENTS(type) ((type) == SP_F16 || (type) == SP_BF16 ? 1024u : 2048u)

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

/* Blocks hand vectors to each other without a barrier: the last two bits of each number are a tag that says in which of
 * the buffer's uses it was written, counted on from token to token. Readers ask again until the tag is the one they
 * wait for, and take the number with these bits cleared. A phase's tag is 4 * buffer + uses before in the token. */
#define SPI_CU_TAGGED_MAX 32u /* buffers */

typedef struct spi_cu_part {
    spi_cu_address data, bias, dst; /* bias may be 0 */
    uint32_t rows;
    uint32_t dst_stride; /* from row to row of a run with several */
    uint32_t tag;        /* of what goes to dst: see spi_cu_token */
    uint32_t reserved;
} spi_cu_part;

typedef struct spi_cu_phase {
    uint32_t kind, input, output, reserved;

    /* Products. Rows are dealt out to blocks in units: a row, or one of gate and one of up. */
    uint32_t type, cols, groups, stride, plane_bytes[SPI_CU_PLANES];
    uint32_t part_count, unit_count, unit_rows;
    uint32_t units_each, units_extra,
        shift;            /* of a block; the first `extra` blocks behind number `shift` have one more */
    uint32_t stage_units; /* in a stage of the ring, at most */
    uint32_t slices_log2; /* how many warps share a row */
    uint32_t normed;      /* the input was normalised, here or in the phase before: sums still want its factor */
    spi_cu_part parts[SPI_CU_PARTS_MAX];
    spi_cu_address src, norm_weight, residual; /* residual: what the sums are added to */
    float eps, inverse_cols, scale, softcap;
    uint32_t silu, src_tag;
    uint32_t deal_log2; /* units are dealt out to blocks so many (log2) at a time */
    uint32_t packs; /* a gate's outputs are left as the next phase, `unpacks`, wants them: rounded, in packed_block's */
    uint32_t unpacks;
    uint32_t narrow; /* outputs are f16 numbers, for who multiplies by quantised weights */
    uint32_t narrow_in;
    spi_cu_address left_narrow; /* sums as such, a SPI_CU_NARROWED-th of them; as they are, without tags, at dst */
    uint32_t joins, joins_tag;  /* src comes out of attention, and few runs of it are put together here */

    /* Attention. src is q; k and v as they come out of their products; norms of heads may be 0. */
    spi_cu_address k, v, q_norm, k_norm, out;
    uint32_t turn, heads, group, window, halves, pairs; /* group: query heads of a KV head */
    uint32_t k_tag, v_tag, run_tag, out_tag;
    uint64_t layer_bytes;
    float k_eps;
} __attribute__((aligned(16))) spi_cu_phase; /* copied 16 bytes at a time */

typedef struct spi_cu_token {
    const spi_cu_phase *phases;
    uint32_t phase_count, token, position;
    uint32_t runs;       /* that a KV head's context is shared out in, at most */
    uint32_t joined;     /* so few that whoever reads what was attended to puts them together; 0: never */
    uint32_t run_blocks; /* of 64 tokens in a run, at least */
    spi_cu_matrix embedding;
    float embedding_scale;
    float *x; /* the token's row of the embedding, f32 [cols] */
    uint32_t x_tag;
    float *attended;    /* [runs][heads][head_dim + 4]: sums, largest score, sum of weights */
    uint32_t *finished; /* blocks that are; begins and ends every launch at 0 */
    uint32_t *done;     /* in the host's memory: gets `sequence` when all is written */
    uint32_t sequence;
    uint64_t tags, uses; /* two bits for each buffer: the tag of what was written last before, and what a token adds */
    uint32_t dim_shift;  /* a head has 1 << dim_shift columns */
    spi_cu_kv kv;
    spi_cu_address blocks, host_blocks; /* the session's first block on the card, and the guest's (or 0) */
    spi_cu_address logits;              /* of the last token, in the guest's memory */

    /* Going on with the likeliest token, where picks is not NULL. */
    uint32_t steps; /* tokens to compute, at most */
    uint32_t stop_count;
    int32_t stops[SPI_CU_STOPS_MAX]; /* a pick that ends the launch */
    int32_t *picks;    /* in the host's memory, [steps]: the likeliest behind each token that was computed */
    float *row;        /* logits of a token that may not be the last, f32 [vocab] */
    uint64_t *best;    /* each block's likeliest: the logit above, the token and two bits of tag below */
    uint32_t best_tag; /* of what was written last before */
    const float *later_turns[SPI_CU_TURNS_MAX]; /* in the host's memory: (cos, sin) [steps][pairs], as `turns` */

    long long
        *clocks; /* NULL; or for three marks of each phase: its start, its input there, its end; and times in ns of
                          all blocks: the start of phase `marked`, and its end; and of the first block: clocks that it waited for room in
                          the ring and for weights to land, and when it began and ended */
    uint32_t marked;
    uint32_t vector_bytes;             /* shared memory for the input vector, before the ring */
    uint32_t sums_byte;                /* in it, where rows' sums are left, behind the vector */
    uint32_t stage_bytes, stage_count; /* of the ring */
    uint32_t kv_stage;                 /* positions whose K and V are in a stage: a power of two, at least 16 */
    uint32_t kv_group_log2;            /* of them in each of four groups: ring.cuh */
    uint32_t kv_flight;                /* stages of keys and values that may be on their way at once */
    uint32_t flight, flight_most;      /* stages that may be on their way at once; with most of the ring empty */
    uint32_t turn_pairs[SPI_CU_TURNS_MAX];
    float turns[SPI_CU_TURNS_MAX][SPI_CU_PAIRS_MAX][2];
} spi_cu_token;

#endif
