/* bench/bench_shape.c - see bench_shape.h. */
#include "bench_shape.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "dtype/quant.h"
#include "os/clock.h"

const bench_shape bench_llama_1b = {.layers = 16,
                                    .width = 2048,
                                    .heads = 32,
                                    .kv_heads = 8,
                                    .head_dim = 64,
                                    .inner = 8192,
                                    .vocab = 128256,
                                    .type = SP_Q8_0};

bool bench_shape_fits(const bench_shape *shape) {
    uint32_t block = sp_dtype_block_elements(shape->type);
    return !(shape->width % block || shape->inner % block || shape->heads * shape->head_dim % block);
}

enum { BUFFER_X, BUFFER_H, BUFFER_Q, BUFFER_K, BUFFER_V, BUFFER_A, BUFFER_G, BUFFER_U };

#define POOL_VALUES 65536u
#define RUN_VALUES  37u /* of types without blocks, drawn at once: one by one they take seconds */

/* Weights between -0.025 and 0.025. Quantised ones are picked out of a pool of blocks that the project's quantiser
 * made: speed must not depend on values, and nothing overflows on the way. */
static bool fill(uint8_t *bytes, const spi_tensor *tensor) {
    static float values[POOL_VALUES];
    uint32_t block_bytes = sp_dtype_block_bytes(tensor->type),
             blocks = POOL_VALUES / sp_dtype_block_elements(tensor->type);
    uint64_t state = 88172645463325252u + tensor->rows;
    for (uint32_t i = 0; i < POOL_VALUES; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        values[i] = tensor->rows == 1 ? 1 : (float)((double)(state >> 11) * 0x1p-53 - 0.5) * 0.05f;
    }
    uint8_t *pool = malloc((size_t)blocks * block_bytes);
    bool good = pool && (!spi_quantise_has(tensor->type) || spi_quantise(tensor->type, values, POOL_VALUES, pool));
    if (good && !spi_quantise_has(tensor->type)) { /* MXFP4: any nibbles, the largest of them 0.023 */
        for (uint32_t i = 0; i < blocks * block_bytes; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            pool[i] = i % block_bytes ? (uint8_t)(state >> 40) : 119;
        }
    }
    const uint64_t run = sp_dtype_block_elements(tensor->type) == 1 ? RUN_VALUES : 1;
    for (uint64_t at = 0, step; at < tensor->bytes && good; at += step) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint64_t first = (state >> 33) % blocks, count = blocks - first < run ? blocks - first : run;
        step = count * block_bytes < tensor->bytes - at ? count * block_bytes : tensor->bytes - at;
        memcpy(bytes + at, pool + (size_t)first * block_bytes, step);
    }
    free(pool);
    return good;
}

static uint32_t add_tensor(bench_model *model, sp_dtype type, uint32_t rows, uint32_t cols) {
    spi_tensor *tensor = &model->tensors[model->tensor_count];
    *tensor = (spi_tensor){.name = "random", .type = type, .rows = rows, .cols = cols};
    tensor->bytes = (uint64_t)rows * (cols / sp_dtype_block_elements(type)) * sp_dtype_block_bytes(type);
    uint8_t *bytes = aligned_alloc(64, (size_t)(tensor->bytes + 63) / 64 * 64);
    if (bytes && !fill(bytes, tensor)) {
        free(bytes);
        bytes = NULL;
    }
    tensor->data = bytes;
    if (rows > 1) {
        model->matrix_bytes += tensor->bytes;
        model->matrix_flop += rows == model->shape.vocab ? 0 : 2.0 * rows * cols;
    }
    return model->tensor_count++;
}

static spi_op *add_op(bench_model *model, spi_op_kind kind, uint32_t dst, uint32_t src, uint32_t weight) {
    spi_op *op = &model->ops[model->op_count++];
    *op = (spi_op){.kind = kind, .dst = dst, .src = src, .src1 = SPI_NONE, .weight = weight, .bias = SPI_NONE};
    op->scale = 1;
    op->eps = 1e-5f;
    op->group = model->shape.width;
    return op;
}

static void add_product(bench_model *model, uint32_t dst, uint32_t src, bool accumulate) {
    uint32_t rows = model->buffers[dst].width, cols = model->buffers[src].width;
    add_op(model, SPI_OP_MATMUL, dst, src, add_tensor(model, model->shape.type, rows, cols))->accumulate = accumulate;
}

static void add_norm(bench_model *model, uint32_t dst, uint32_t src) {
    add_op(model, SPI_OP_NORM, dst, src, add_tensor(model, SP_F32, 1, model->shape.width));
}

static void add_rope(bench_model *model, uint32_t dst, uint32_t heads) {
    spi_op *op = add_op(model, SPI_OP_ROPE, dst, SPI_NONE, SPI_NONE);
    op->heads = heads;
    op->rope_dims = model->shape.head_dim;
    op->rope_base = 500000;
    op->rope_freq_scale = 1;
}

static void add_layer(bench_model *model, uint32_t layer) {
    add_norm(model, BUFFER_H, BUFFER_X);
    add_product(model, BUFFER_Q, BUFFER_H, false);
    add_product(model, BUFFER_K, BUFFER_H, false);
    add_product(model, BUFFER_V, BUFFER_H, false);
    add_rope(model, BUFFER_Q, model->shape.heads);
    add_rope(model, BUFFER_K, model->shape.kv_heads);
    spi_op *store = add_op(model, SPI_OP_KV_STORE, SPI_NONE, BUFFER_K, SPI_NONE);
    store->src1 = BUFFER_V;
    store->layer = layer;
    spi_op *attention = add_op(model, SPI_OP_ATTENTION, BUFFER_A, BUFFER_Q, SPI_NONE);
    attention->layer = layer;
    attention->heads = model->shape.heads;
    attention->scale = 0.125f;
    attention->window = model->shape.window;
    attention->softcap = model->shape.softcap;
    add_product(model, BUFFER_X, BUFFER_A, true);
    add_norm(model, BUFFER_H, BUFFER_X);
    add_product(model, BUFFER_G, BUFFER_H, false);
    add_product(model, BUFFER_U, BUFFER_H, false);
    add_op(model, SPI_OP_GATE, BUFFER_G, BUFFER_G, SPI_NONE)->src1 = BUFFER_U;
    add_product(model, BUFFER_X, BUFFER_G, true);
}

static void record(bench_model *model, uint32_t rows_max) {
    const bench_shape *shape = &model->shape;
    uint32_t q = shape->heads * shape->head_dim, kv = shape->kv_heads * shape->head_dim;
    const spi_buffer buffers[] = {{"x", shape->width}, {"h", shape->width}, {"q", q}, {"k", kv}, {"v", kv}, {"a", q},
                                  {"g", shape->inner}, {"u", shape->inner}};
    memcpy(model->buffers, buffers, sizeof buffers);
    uint32_t embedding = add_tensor(model, shape->type, shape->vocab, shape->width);
    add_op(model, SPI_OP_EMBED, BUFFER_X, SPI_NONE, embedding);
    for (uint32_t layer = 0; layer < shape->layers; layer++) {
        add_layer(model, layer);
    }
    add_op(model, SPI_OP_GATHER, BUFFER_H, BUFFER_X, SPI_NONE);
    add_norm(model, BUFFER_H, BUFFER_H);
    add_op(model, SPI_OP_HEAD, SPI_NONE, BUFFER_H, embedding);
    model->tape = (spi_tape){.ops = model->ops,
                             .op_count = model->op_count,
                             .buffers = model->buffers,
                             .buffer_count = 8,
                             .kv = {.type = shape->kv_type,
                                    .layers = shape->layers,
                                    .kv_heads = shape->kv_heads,
                                    .head_dim = shape->head_dim},
                             .rows_max = rows_max,
                             .vocab = shape->vocab};
    model->tape.kv.block_bytes = spi_kv_block_bytes(shape->kv_type, shape->layers, shape->kv_heads, shape->head_dim);
}

static uint64_t kv_bytes(const bench_model *model) {
    return (model->context_max + SPI_BLOCK_TOKENS - 1) / SPI_BLOCK_TOKENS * model->tape.kv.block_bytes;
}

uint64_t bench_model_logits_offset(const bench_model *model) {
    return kv_bytes(model);
}

sp_status bench_model_open(sp_device *device, const bench_shape *shape, uint32_t rows_max, uint32_t context_max,
                           bench_model *model, sp_error *error) {
    *model = (bench_model){.shape = *shape, .device = device, .context_max = context_max};
    model->tensors = calloc(shape->layers * 9 + 2, sizeof *model->tensors);
    model->ops = calloc(shape->layers * 16 + 8, sizeof *model->ops);
    if (!model->tensors || !model->ops) {
        return spi_fail(error, SP_NO_MEMORY, "no memory");
    }
    record(model, rows_max);
    void *context;
    const spi_backend *backend = spi_device_backend(device, &context);
    spi_weights weights = {.tensors = model->tensors, .count = model->tensor_count};
    sp_region_options options = {.size_bytes = (size_t)kv_bytes(model) + shape->vocab * sizeof(float)};
    sp_status status = sp_region_create(&options, &model->region, error);
    if (!status) {
        status = sp_device_link(device, model->region, error);
        if (status) { /* closing unlinks what there is */
            sp_region_destroy(model->region);
            model->region = NULL;
        }
    }
    if (!status) {
        status = backend->load(context, &weights, NULL, NULL, &model->store, error);
    }
    if (!status) {
        status = backend->prepare(context, model->store, &model->tape, &model->program, error);
    }
    return status;
}

double bench_model_run(bench_model *model, uint32_t rows, uint32_t position, bool out, sp_error *error) {
    void *context;
    const spi_backend *backend = spi_device_backend(model->device, &context);
    int32_t *tokens = calloc(rows, sizeof *tokens);
    spi_segment segment = {.link = spi_device_find_link(model->device, model->region),
                           .kv_offset = 0,
                           .logits_offset = kv_bytes(model),
                           .row_count = rows,
                           .position_first = position,
                           .out_count = out};
    for (uint32_t i = 0; i < rows; i++) {
        tokens[i] = (int32_t)((position + i) * 7919u % model->shape.vocab);
    }
    spi_run run = {
        .tokens = tokens, .row_count = rows, .segments = &segment, .segment_count = 1, .out_count = segment.out_count};
    int64_t start_ns = spi_clock_ns();
    sp_status status = backend->run(context, model->program, &run, error);
    double seconds = (double)(spi_clock_ns() - start_ns) / 1e9;
    free(tokens);
    return status ? -1 : seconds;
}

void bench_model_close(bench_model *model) {
    void *context;
    const spi_backend *backend = spi_device_backend(model->device, &context);
    if (model->program) {
        backend->discard(context, model->program);
    }
    if (model->store) {
        backend->unload(context, model->store);
    }
    if (model->region) {
        sp_device_unlink(model->device, model->region);
        sp_region_destroy(model->region);
    }
    for (uint32_t i = 0; i < model->tensor_count; i++) {
        free((void *)(uintptr_t)model->tensors[i].data);
    }
    free(model->tensors);
    free(model->ops);
}
