/* device/tape.h - a forward pass as a list of ops over named buffers.
 *
 * A tape is recorded once per model by src/model and executed by every backend. It holds no positions, lengths or
 * addresses: these come with each run (spi_run), so a recording stays valid. All numbers in both were checked by who
 * made them; backends trust them, and read nothing that a guest can write except the bytes that they compute on.
 *
 * A run is a matrix of rows: row r is one token of one session. Consecutive rows of one session form a segment, so a
 * run can prefill one session, decode one token of many, or both at once, and every weight is read once for all rows.
 *
 * Owns: nothing but its arrays. May include: dtype, base. Included by: the backends and src/model.
 */
#ifndef SPI_DEVICE_TAPE_H
#define SPI_DEVICE_TAPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/draw.h"
#include "device/kv.h"
#include "dtype/affine.h"
#include "samepage/dtype.h"
#include "samepage/status.h"

/* A weight: [rows][cols], row-major as GGUF stores it (cols is GGUF's ne[0]); a vector has rows == 1. data points into
 * the mapped model file, read-only, and lives as long as the weights. A tensor may be some rows of a larger one in the
 * file (q, k and v out of one matrix): then it begins where its first row does, and no alignment is to be counted on
 * but that of its elements or of a block's scales; else it is aligned to 32 bytes. */
typedef struct spi_tensor {
    const char *name;
    sp_dtype type;
    uint32_t rows, cols;
    const void *data;
    uint64_t bytes;
    bool rows_only;    /* no product reads it: a backend need not pack it */
    bool copied;       /* data lies in no file's mapping, whatever spi_weights.droppable says of the others */
    spi_affine affine; /* of an affine type: what lies beside the codes, from the tensor's first row on */
} spi_tensor;

/* Elements [first, first + count) of a row in f32, both multiples of the type's block: see dtype/dequant.h. tensor.c */
void spi_tensor_values(const spi_tensor *tensor, uint32_t row, uint32_t first, uint32_t count, float *out);

/* Rows of an affine type as blocks of 32 elements that have all of their own: the codes, then scale and bias in f32.
 * For backends that lay weights out anew. tensor.c */
#define SPI_AFFINE_BLOCK_BYTES(bits) (4 * (bits) + 8)
void spi_tensor_affine_blocks(const spi_tensor *tensor, uint32_t row, uint32_t block_first, uint32_t block_count,
                              uint8_t *out);

typedef struct spi_weights {
    const spi_tensor *tensors;
    uint32_t count;
    bool droppable; /* data lies in a read-only mapping of a file: pages given back to the system read the same again */
} spi_weights;

#define SPI_NONE UINT32_MAX

typedef enum spi_op_kind {
    SPI_OP_EMBED,     /* dst[r][:] = weight[token of r][:] * scale */
    SPI_OP_NORM,      /* dst[r] = src * weight / sqrt(mean(src^2) + eps), over each `group` columns by themselves;
                         weight has `group` elements, f32 */
    SPI_OP_MATMUL,    /* dst[r][o] = (accumulate ? dst[r][o] : 0) + bias[o] + sum_k weight[o][k] * src[r][k] */
    SPI_OP_ROPE,      /* in place on dst: rotates the first rope_dims of each head by the row's position, times scale */
    SPI_OP_KV_STORE,  /* rows of src (k) and src1 (v) to the session's blocks, layer `layer`, at the row's position, in
                        the type of the tape's kv shape */
    SPI_OP_ATTENTION, /* dst[r] = softmax(scale * q k^T) v over positions 0..position of r; q = src */
    SPI_OP_GATE,      /* dst[r][i] = act(src[r][i]) * src1[r][i] */
    SPI_OP_ADD,       /* dst[r][i] += scale * src[r][i] */
    SPI_OP_GATHER,    /* dst[i] = src[row of the i-th wanted output]: after it, rows are outputs,
                         and no op may follow that needs their tokens or positions (EMBED, ROPE, KV_STORE, ATTENTION) */
    SPI_OP_HEAD,      /* a MATMUL whose output rows go to the segments' logits in their regions, times scale */
    SPI_OP_KIND_COUNT
} spi_op_kind;

typedef enum spi_act { SPI_ACT_SILU, SPI_ACT_GELU_TANH } spi_act;

/* Which columns of a head rotate together (arXiv:2104.09864): ADJACENT pairs (2i, 2i+1), as GGUF's llama stores q and
 * k, HALVES pairs (i, i + dims/2). The angle of pair i is position * freq_scale * base^(-2i/dims) / factor[i], where
 * factor is the f32 tensor `weight` of dims/2 elements, or 1. */
typedef enum spi_rope_pairs { SPI_ROPE_ADJACENT, SPI_ROPE_HALVES } spi_rope_pairs;

typedef struct spi_op {
    spi_op_kind kind;
    uint32_t dst, src, src1; /* buffers, or SPI_NONE */
    uint32_t weight, bias;   /* tensors, or SPI_NONE */
    bool accumulate;         /* MATMUL */
    uint32_t layer;          /* KV_STORE, ATTENTION */
    uint32_t heads;          /* ROPE: heads in a row of dst; ATTENTION: query heads (KV heads: the tape's kv shape) */
    uint32_t group;          /* NORM: columns normalised together; the buffer's width for a whole row */
    uint32_t window;         /* ATTENTION: only the last `window` positions; 0 means all */
    spi_act act;             /* GATE */
    uint32_t rope_dims;
    spi_rope_pairs rope_pairs;
    float rope_base, rope_freq_scale;
    float eps;     /* NORM */
    float scale;   /* EMBED, ROPE, ATTENTION, ADD, HEAD; 1 where nothing is to be scaled, never 0 */
    float softcap; /* ATTENTION, HEAD: x = cap * tanh(x / cap) before softmax, or on the logits; 0 means none*/
} spi_op;

/* A scratch buffer: f32 [rows_max][width], private to the backend. */
typedef struct spi_buffer {
    const char *name;
    uint32_t width;
} spi_buffer;

typedef struct spi_tape {
    const spi_op *ops;
    uint32_t op_count;
    const spi_buffer *buffers;
    uint32_t buffer_count;
    spi_kv_shape kv;
    uint32_t rows_max; /* of a run */
    uint32_t vocab;    /* width of a logits row */
} spi_tape;

typedef struct spi_link spi_link; /* a region as a device reaches it: device/backend.h */

/* One session's rows in a run. Blocks and logits lie in the linked region: kv_offset is a multiple of 64, logits_offset
 * only of 4, since a run may go on behind rows of an earlier one. The KV range covers at least position_first +
 * row_count tokens, rounded up to blocks; the logits range out_count rows. */
typedef struct spi_segment {
    spi_link *link;
    uint64_t kv_offset;     /* bytes from the region's base to the session's first block */
    uint64_t logits_offset; /* bytes from the region's base to the first logits row, f32 [out_count][vocab] */
    uint32_t row_first, row_count;
    uint32_t position_first;       /* of row_first; the rows that follow have the positions that follow */
    uint32_t out_first, out_count; /* outputs out_first .. of the run are the segment's last out_count rows */
} spi_segment;

/* How the token behind an output is picked. */
typedef struct spi_pick {
    spi_draw draw; /* without noise: of the largest logits the first, as sp_sampler_pick does it without options */
    bool alone;    /* nobody reads the logits: they may be left out where the device picks */
} spi_pick;

typedef struct spi_picks {
    const spi_pick *each; /* [out_count]; NULL: the likeliest of each, and logits are read */
    int32_t *tokens;      /* [count_max] */
    uint32_t count_max;   /* out_count, or more for a run of one row: each pick but the last is the next row's token */
    const int32_t *stops; /* [stop_count] a pick of these is the last */
    uint32_t stop_count;
    uint32_t count; /* set by a backend that picks, at least out_count; else left at 0, and the caller has the logits */
} spi_picks;

typedef struct spi_run {
    const int32_t *tokens; /* [row_count], each in [0, vocab) */
    uint32_t row_count;    /* 1..rows_max */
    const spi_segment *segments;
    uint32_t segment_count; /* they cover the rows in order, without gaps; and likewise the outputs */
    uint32_t out_count;     /* 0: GATHER and everything behind it is skipped */
    spi_picks *picks;       /* NULL: not wanted. Logits are those of the last row computed */
} spi_run;

const char *spi_op_name(spi_op_kind kind); /* "embed", "norm", ... */

/* Checks that a tape is well formed: every index in range, widths and shapes agree with what each op says above, types
 * known. Backends call it first in prepare and then trust the tape. SP_INVALID names op and field. */
sp_status spi_tape_check(const spi_tape *tape, const spi_weights *weights, sp_error *error);

#endif
