/* device/cpu/kernels.h - one table of kernels per instruction set: all that program.c and run.c know of arithmetic.
 *
 * A new instruction set is a table (and a line in kernels.c); a new weight type is an entry in each table's `types`, or
 * only in the reference one, from which every table borrows what it lacks. Kernels are pure: they get pointers and
 * checked counts, keep nothing, and give the same bits however the work is shared out among threads.
 *
 * May include: device/tape.h, os, base.
 */
#ifndef SPI_DEVICE_CPU_KERNELS_H
#define SPI_DEVICE_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "device/tape.h"
#include "os/cpu.h"

/* What a type's product kernel takes as activations. */
typedef enum spi_cpu_form {
    SPI_FORM_F32,  /* rows of f32, as the tape's buffers hold them */
    SPI_FORM_I8,   /* tiles of tokens with an int8 for each value and a scale for each 32 of them: see below */
    SPI_FORM_BF16, /* squares of 32 tokens x 32 columns in bf16: see below */
    SPI_FORM_COUNT
} spi_cpu_form;

/* SPI_FORM_I8. Tokens stand in tiles of a table's token_tile_max, then of the powers of two below it (so 7 tokens with
 * a tile of 4 are 4 + 2 + 1). A tile is [columns / 32] blocks, each
 *     int8 q[8][tokens][4], f32 scale[tokens], sum[tokens], last_sum[tokens], int32 bias[tokens], last_bias[tokens]
 * where q[i][t] holds columns 4i .. 4i+3 of token t, and the sums are the scale times those of all 32 values and of the
 * last 16. The meaning of the biases is the table's own affair. A block takes 52 bytes a token, so the tile that starts
 * at token t lies at t * (columns / 32) * 52 bytes. */
#define SPI_I8_COLUMNS     32u
#define SPI_I8_TOKEN_BYTES 52u

static inline uint32_t spi_i8_tile_tokens(uint32_t tokens_left, uint32_t tile_max) {
    uint32_t tile = tile_max;
    while (tile > tokens_left) {
        tile /= 2;
    }
    return tile;
}

/* SPI_FORM_BF16. [tokens / 32][columns / 32][32 tokens][32 columns], so that a tile's rows follow each other in memory.
 * Both are rounded up: behind the last column are zeros, behind the last token whatever was there. Tokens from t on, a
 * multiple of 32, lie at t * spi_bf16_stride values. */
#define SPI_BF16_UNIT 32u
static inline size_t spi_bf16_stride(uint32_t cols) {
    return ((size_t)cols + SPI_BF16_UNIT - 1) / SPI_BF16_UNIT * SPI_BF16_UNIT;
}

/* out[t][r] = sum over k of weight[row_first + r][k] * activation[t][k]. */
typedef struct spi_cpu_product {
    const void *weights;      /* the whole matrix: as pack left it, or where the file has it */
    const spi_tensor *tensor; /* as the file has it */
    uint32_t rows, cols;
    uint32_t row_first, row_count; /* row_first is a multiple of group_rows, and row_count is, but at the end */
    const void *acts;              /* of the first token, in the type's form; for I8 it is the first of a tile */
    size_t act_stride;             /* F32: floats from one token to the next; BF16: spi_bf16_stride */
    uint32_t token_count;
    uint32_t ahead_bytes; /* how far ahead weights of a single token are asked for; 0: they are not */
    bool ahead_second;    /* into the second level of the cache in place of the first */
    float *out;           /* with room for row_count rounded up to group_rows; aligned to 64 bytes */
    size_t out_stride;
    void *scratch; /* spi_cpu_kernels.product_scratch_bytes, aligned to 64 bytes */
} spi_cpu_product;

typedef struct spi_cpu_type {
    sp_dtype type;
    spi_cpu_form form;
    uint32_t group_rows; /* rows that one call computes together; a thread's share is a multiple of it */
    /* NULL: the weights are used in place. Packing computes groups group_first .. of group_rows rows each; the last
     * one may be short. */
    size_t (*packed_bytes)(const spi_tensor *tensor);
    void (*pack)(void *packed, const spi_tensor *tensor, uint32_t group_first, uint32_t group_count);
    bool as_is; /* packing copies rows as they are: what is a copy already needs none */
    void (*product)(const spi_cpu_product *args);
    bool one_order; /* of SPI_FORM_F32: a token's sums are the same bits, alone and beside others */
    /* NULL, or what takes SPI_FORM_BF16 in place of `form` from many_tokens tokens on; out then has room for a multiple
     * of SPI_BF16_UNIT of them. */
    void (*product_many)(const spi_cpu_product *args);
    uint32_t many_tokens;
    uint32_t many_out_floats;                  /* 0, or how large an `out` product_many does best with */
    uint32_t many_part_rows, many_part_tokens; /* 0, or parts of a share that it does best with */
} spi_cpu_type;

/* Attention of neighbouring rows of one session, for the query heads that share one KV head, or of one row for several.
 * Its tokens are taken in chunks, always the same ones, so that several threads can share a long context: a part
 * computes a record for each query from one chunk, and the records of all chunks are merged in their order. Attention
 * to all of them at once does the same. */
#define SPI_ATTENTION_CHUNK         512u /* tokens; a multiple of a block's */
#define SPI_ATTENTION_QUERIES       4u   /* a chunk has records for a multiple of so many queries */
#define SPI_ATTENTION_RECORD_FLOATS 16u  /* of a record, beside head_dim */

typedef struct spi_cpu_attention {
    const spi_kv_shape *kv;
    const uint8_t *blocks; /* the session's first block; whatever these bytes are, no address depends on them */
    uint32_t layer, kv_head, group; /* group: query heads of a KV head, adjacent in q and dst */
    uint32_t heads;                 /* KV heads from kv_head on; 1 but for single rows in parts of attention_columns */
    uint32_t row_count, position_first, window;
    bool alone; /* to the bits of a single row */
    float scale, softcap;
    const float *q; /* row 0, first head of the group */
    float *dst;
    size_t row_stride;                 /* floats, of q and dst */
    uint32_t chunk_first, chunk_count; /* all that any row sees; for a part, the one that it computes */
    float *records;                    /* a part's, or those of all parts, one chunk behind the other; else NULL */
    size_t head_records;               /* floats from a KV head's records to the next one's */
    void *scratch;                     /* spi_cpu_kernels.attention_scratch_bytes */
} spi_cpu_attention;

/* A block of the guests' c = a * b: rows row_first .. and columns col_first .. of c. */
typedef struct spi_cpu_gemm {
    const void *a, *b;
    float *c;
    bool half; /* a and b are f16 */
    uint32_t n, k;
    uint32_t row_first, row_count, col_first, col_count;
    void *scratch; /* spi_cpu_kernels.gemm_scratch_bytes */
} spi_cpu_gemm;

typedef struct spi_cpu_kernels {
    const char *name;
    bool (*available)(const spi_cpu_features *features);

    const spi_cpu_type *types;
    uint32_t type_count;
    uint32_t token_tile_max; /* a power of two */
    size_t product_scratch_bytes;
    /* Writes blocks [0, block_count) of one token into its place in a tile. NULL if no type has this form. */
    /* 32 columns of a token; NULL if no type has a product_many. */
    void (*to_bf16)(uint16_t dst[SPI_BF16_UNIT], const float src[SPI_BF16_UNIT]);
    void (*quantise)(uint8_t *tile, uint32_t tile_tokens, uint32_t token, const float *src, uint32_t block_count);

    /* Ops of one row, or of a part of it. dst may be src. */
    void (*norm)(float *dst, const float *src, const float *weight, uint32_t count, float eps);
    void (*rotate)(float *head, const float *cosines, const float *sines, uint32_t pair_count, spi_rope_pairs pairs);
    void (*gate)(float *dst, const float *src, const float *src1, uint32_t count, spi_act act);
    void (*add)(float *dst, const float *src, uint32_t count);
    void (*add_scaled)(float *dst, const float *src, uint32_t count, float scale); /* rounded at most twice */
    void (*cap)(float *x, uint32_t count, float scale, float softcap);             /* softcap 0: only the scale */
    void (*to_f16)(uint16_t *dst, const float *src, uint32_t count);

    uint32_t attention_rows; /* of one item of work, when `group` is 1; fewer with more heads, at least 1 */
    size_t (*attention_scratch_bytes)(uint32_t row_count, uint32_t group, uint32_t heads, uint32_t head_dim);
    void (*attention)(const spi_cpu_attention *args);
    /* In parts, for a head_dim that is a multiple of attention_columns; NULL and 0 where there are none. */
    void (*attention_part)(const spi_cpu_attention *args);
    void (*attention_combine)(const spi_cpu_attention *args);
    uint32_t attention_columns;

    uint32_t gemm_rows, gemm_cols; /* of one item of work */
    size_t gemm_scratch_bytes;
    void (*gemm)(const spi_cpu_gemm *args);
} spi_cpu_kernels;

extern const spi_cpu_kernels spi_cpu_kernels_reference;
#if defined(__x86_64__)
extern const spi_cpu_kernels spi_cpu_kernels_avx2;
extern const spi_cpu_kernels spi_cpu_kernels_avx512;
extern const spi_cpu_kernels spi_cpu_kernels_avx512bf16;
extern const spi_cpu_kernels spi_cpu_kernels_amx;
#elif defined(__aarch64__)
extern const spi_cpu_kernels spi_cpu_kernels_neon;
extern const spi_cpu_kernels spi_cpu_kernels_dotprod;
extern const spi_cpu_kernels spi_cpu_kernels_i8mm;
extern const spi_cpu_kernels spi_cpu_kernels_bf16;
#endif

/* isa NULL: the best that this processor has. SP_UNSUPPORTED names what it has. */
sp_status spi_cpu_pick_kernels(const char *isa, const spi_cpu_kernels **kernels, sp_error *error);

/* The table's own entry for the type, or the reference's; never NULL for a type in samepage/dtype.h. */
const spi_cpu_type *spi_cpu_find_type(const spi_cpu_kernels *kernels, sp_dtype type);

/* The reference's, for shapes that a fast kernel does not take. reference_attention.c */
void spi_cpu_attention_reference(const spi_cpu_attention *args);
size_t spi_cpu_attention_scratch_reference(uint32_t row_count, uint32_t group, uint32_t heads, uint32_t head_dim);

#endif
