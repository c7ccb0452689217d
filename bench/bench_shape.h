/* bench/bench_shape.h - a model of a known shape with random weights, as a tape: for timing whole tokens without a
 * file. */
#ifndef SPI_BENCH_SHAPE_H
#define SPI_BENCH_SHAPE_H

#include "device/backend.h"

typedef struct bench_shape {
    uint32_t layers, width, heads, kv_heads, head_dim, inner, vocab;
    sp_dtype type;   /* of all matrices; norms are F32; the head is tied to the embedding */
    uint32_t window; /* of attention, and what caps its scores: 0 for none */
    float softcap;
    sp_kv_type kv_type; /* SP_KV_DEFAULT: F16 */
} bench_shape;

/* Whether rows of all its matrices are whole blocks of its type. */
bool bench_shape_fits(const bench_shape *shape);

extern const bench_shape bench_llama_1b; /* Llama 3.2 1B: huggingface.co/meta-llama/Llama-3.2-1B, config.json */

typedef struct bench_model {
    bench_shape shape;
    spi_tensor *tensors;
    uint32_t tensor_count;
    spi_op *ops;
    uint32_t op_count;
    spi_buffer buffers[8];
    spi_tape tape;
    uint64_t matrix_bytes; /* read for each token: all matrices, the head's once */
    double matrix_flop;    /* of one token without the head */
    sp_device *device;
    spi_store *store;
    spi_program *program;
    sp_region *region;
    uint32_t context_max;
} bench_model;

sp_status bench_model_open(sp_device *device, const bench_shape *shape, uint32_t rows_max, uint32_t context_max,
                           bench_model *model, sp_error *error);
void bench_model_close(bench_model *model);
uint64_t bench_model_logits_offset(const bench_model *model); /* in its region, behind the blocks */

/* rows tokens at `position`, with the logits of the last if `out`; seconds. Negative: error says what failed. */
double bench_model_run(bench_model *model, uint32_t rows, uint32_t position, bool out, sp_error *error);

#endif
