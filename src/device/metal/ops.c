/* device/metal/ops.c - the dispatches of each op. What the push words mean stands in the shader that a kernel is made
 * of: shaders/NAME.comp, or shaders/metal/NAME.comp for those that read weights. */
#include "base/error.h"
#include "device/metal/metal.h"

#define LANES      64u /* of a threadgroup in kernels that go by columns */
#define GROUP_COLS 32u /* columns that embed's invocations take */

/* How products go over rows: so many of x and of weights a threadgroup, up to so many of x. */
typedef struct way {
    spi_mt_kernel kernel;
    uint32_t rows_max, x_rows, weight_rows;
} way;
static const way ways[] = {{SPI_MT_KERNEL_file_matmul_1, 1, 1, 4},
                           {SPI_MT_KERNEL_file_matmul_4, 8, 4, 4},
                           {SPI_MT_KERNEL_file_tile, UINT32_MAX, 32, 32}};

static const way *find_way(uint32_t rows) {
    const way *found = ways;
    while (found->rows_max < rows) {
        found++;
    }
    return found;
}

#define MATMUL_ACCUMULATE 1u
#define MATMUL_BIAS       2u
#define MATMUL_HEAD       4u

static uint32_t groups(uint64_t count, uint32_t size) {
    return (uint32_t)((count + size - 1) / size);
}

static bool is_one_by_one(const spi_program *program, const spi_op *op) {
    return op->heads == program->tape->kv.kv_heads;
}

spi_mt_kernel spi_mt_op_kernel(const spi_program *program, const spi_op *op, uint32_t rows) {
    switch (op->kind) {
    case SPI_OP_EMBED: return SPI_MT_KERNEL_file_embed;
    case SPI_OP_NORM: return SPI_MT_KERNEL_norm;
    case SPI_OP_MATMUL:
    case SPI_OP_HEAD: return find_way(rows)->kernel;
    case SPI_OP_ROPE: return SPI_MT_KERNEL_rope;
    case SPI_OP_KV_STORE: return SPI_MT_KERNEL_kv_store;
    case SPI_OP_ATTENTION: return is_one_by_one(program, op) ? SPI_MT_KERNEL_attention_1 : SPI_MT_KERNEL_attention_4;
    case SPI_OP_GATE: return SPI_MT_KERNEL_gate;
    case SPI_OP_ADD: return SPI_MT_KERNEL_add;
    case SPI_OP_GATHER:
    case SPI_OP_KIND_COUNT: break;
    }
    return SPI_MT_KERNEL_gather;
}

sp_dtype spi_mt_op_type(const spi_program *program, const spi_op *op) {
    bool has_type = op->kind == SPI_OP_EMBED || op->kind == SPI_OP_MATMUL || op->kind == SPI_OP_HEAD;
    return has_type ? program->store->sources[op->weight].type : SP_F32;
}

static spi_mt_binding scratch(const spi_mt_recorder *r, uint32_t buffer) {
    return spi_mt_bind(&r->program->buffers[buffer]);
}

static spi_mt_binding parameters(const spi_mt_recorder *r) {
    return spi_mt_bind(&r->program->parameters);
}

static uint32_t width(const spi_mt_recorder *r, uint32_t buffer) {
    return r->program->tape->buffers[buffer].width;
}

static uint32_t stride(const spi_mt_recorder *r, uint32_t buffer) {
    return spi_shader_stride(width(r, buffer));
}

/* An f32 vector, from its first element on. */
static spi_mt_binding vector(const spi_mt_recorder *r, uint32_t tensor) {
    const spi_mt_piece *piece = &r->program->store->tensors[tensor].pieces[0];
    return (spi_mt_binding){piece->blocks.binding.buffer, piece->blocks.binding.offset + piece->blocks.byte_first};
}

/* Scales or biases; a type without has to have something bound there. */
static spi_mt_binding plane(const spi_mt_piece *piece, const spi_mt_part *part) {
    return part->binding.buffer ? part->binding : piece->blocks.binding;
}

static sp_status record_embed(const spi_mt_recorder *r, const spi_op *op) {
    const spi_mt_tensor *tensor = &r->program->store->tensors[op->weight];
    uint32_t columns = width(r, op->dst);
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < tensor->piece_count && !status; i++) {
        const spi_mt_piece *piece = &tensor->pieces[i];
        spi_mt_dispatch dispatch = {.kernel = SPI_MT_KERNEL_file_embed,
                                    .type = spi_mt_op_type(r->program, op),
                                    .groups_x = groups(columns, GROUP_COLS * LANES),
                                    .groups_y = r->rows,
                                    .push = {piece->row_first, piece->row_count, columns, tensor->row_bytes,
                                             piece->blocks.byte_first, stride(r, op->dst) / 4, r->program->rows_word,
                                             spi_mt_float_word(op->scale), tensor->affine, piece->scales.byte_first,
                                             piece->biases.byte_first},
                                    .bindings = {[1] = parameters(r),
                                                 [2] = piece->blocks.binding,
                                                 [3] = plane(piece, &piece->scales),
                                                 [6] = scratch(r, op->dst),
                                                 [7] = plane(piece, &piece->biases)}};
        status = spi_mt_encode(r->work, &dispatch);
    }
    return status;
}

static sp_status record_norm(const spi_mt_recorder *r, const spi_op *op) {
    spi_mt_dispatch dispatch = {
        .kernel = SPI_MT_KERNEL_norm,
        .groups_x = width(r, op->dst) / op->group,
        .groups_y = r->rows,
        .push = {stride(r, op->src), op->group, spi_mt_float_word(op->eps)},
        .bindings = {[4] = scratch(r, op->src), [5] = vector(r, op->weight), [6] = scratch(r, op->dst)}};
    return spi_mt_encode(r->work, &dispatch);
}

/* All pieces of a product for the rows first .. first + count of src. */
static sp_status record_product(const spi_mt_recorder *r, const spi_op *op, uint32_t first, uint32_t count,
                                spi_mt_binding to, uint32_t to_stride, uint32_t flags) {
    const spi_mt_tensor *tensor = &r->program->store->tensors[op->weight];
    const way *chosen = find_way(count);
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < tensor->piece_count && !status; i++) {
        const spi_mt_piece *piece = &tensor->pieces[i];
        spi_mt_dispatch dispatch = {.kernel = chosen->kernel,
                                    .type = spi_mt_op_type(r->program, op),
                                    .groups_x = groups(piece->row_count, chosen->weight_rows),
                                    .groups_y = groups(count, chosen->x_rows),
                                    .push = {piece->row_first, piece->row_count, width(r, op->src), tensor->row_bytes,
                                             piece->blocks.byte_first, stride(r, op->src) / 4, to_stride, first,
                                             first + count, flags, r->program->outs_word, spi_mt_float_word(op->scale),
                                             spi_mt_float_word(op->softcap), tensor->affine, piece->scales.byte_first,
                                             piece->biases.byte_first},
                                    .bindings = {[1] = parameters(r),
                                                 [2] = piece->blocks.binding,
                                                 [3] = plane(piece, &piece->scales),
                                                 [4] = scratch(r, op->src),
                                                 [5] = op->bias == SPI_NONE ? parameters(r) : vector(r, op->bias),
                                                 [6] = to,
                                                 [7] = plane(piece, &piece->biases)}};
        status = spi_mt_encode(r->work, &dispatch);
    }
    return status;
}

static sp_status record_matmul(const spi_mt_recorder *r, const spi_op *op) {
    uint32_t flags = (op->accumulate ? MATMUL_ACCUMULATE : 0) | (op->bias == SPI_NONE ? 0 : MATMUL_BIAS);
    return record_product(r, op, 0, r->rows, scratch(r, op->dst), stride(r, op->dst), flags);
}

static sp_status record_head(const spi_mt_recorder *r, const spi_op *op) {
    uint32_t flags = MATMUL_HEAD | (op->bias == SPI_NONE ? 0 : MATMUL_BIAS);
    sp_status status = SP_OK;
    for (size_t i = 0; i < r->program->plan.out_span_count && !status; i++) {
        const spi_mt_span *span = &r->program->plan.outs[i];
        status = record_product(r, op, span->first, span->count, span->binding, 0, flags);
    }
    return status;
}

static sp_status record_rope(const spi_mt_recorder *r, const spi_op *op) {
    const spi_rotations *rotations = &r->program->rotations;
    const spi_rotation *rotation = &rotations->items[rotations->of_op[op - r->program->tape->ops]];
    spi_mt_dispatch dispatch = {.kernel = SPI_MT_KERNEL_rope,
                                .groups_x = groups((uint64_t)op->heads * rotation->pairs, LANES),
                                .groups_y = r->rows,
                                .push = {stride(r, op->dst), op->heads, width(r, op->dst) / op->heads, rotation->pairs,
                                         op->rope_pairs == SPI_ROPE_HALVES, (uint32_t)rotation->place},
                                .bindings = {[1] = parameters(r), [6] = scratch(r, op->dst)}};
    return spi_mt_encode(r->work, &dispatch);
}

static uint32_t layer_word(const spi_mt_recorder *r, uint32_t layer) {
    return (uint32_t)(spi_kv_row_offset(&r->program->tape->kv, layer, 0, 0, 0) / sizeof(uint32_t));
}

static uint32_t block_words(const spi_mt_recorder *r) {
    return (uint32_t)(r->program->tape->kv.block_bytes / sizeof(uint32_t));
}

static sp_status record_kv_store(const spi_mt_recorder *r, const spi_op *op) {
    const spi_kv_shape *kv = &r->program->tape->kv;
    sp_status status = SP_OK;
    for (size_t i = 0; i < r->program->plan.kv_count && !status; i++) {
        const spi_mt_span *span = &r->program->plan.kv[i];
        spi_mt_dispatch dispatch = {
            .kernel = SPI_MT_KERNEL_kv_store,
            .groups_x = groups((uint64_t)kv->kv_heads * kv->head_dim, LANES), /* pairs of k, and of v */
            .groups_y = span->count,
            .push = {span->first, stride(r, op->src), kv->kv_heads, kv->head_dim, r->program->rows_word, block_words(r),
                     layer_word(r, op->layer), span->block_first, span->block_end, span->base_word},
            .bindings = {[1] = parameters(r),
                         [2] = span->binding,
                         [3] = span->binding, /* a mirror, for devices with blocks of their own: here the same */
                         [4] = scratch(r, op->src),
                         [5] = scratch(r, op->src1)}};
        status = spi_mt_encode(r->work, &dispatch);
    }
    return status;
}

static sp_status record_attention(const spi_mt_recorder *r, const spi_op *op) {
    const spi_kv_shape *kv = &r->program->tape->kv;
    uint32_t share = op->heads / kv->kv_heads, at_once = is_one_by_one(r->program, op) ? 1 : 4;
    sp_status status = SP_OK;
    for (size_t i = 0; i < r->program->plan.kv_count && !status; i++) {
        const spi_mt_span *span = &r->program->plan.kv[i];
        if (!(span->flags & SPI_SHADER_SPAN_FIRST)) {
            spi_mt_encode_barrier(r->work); /* it goes on from the state of the span before */
        }
        spi_mt_dispatch dispatch = {.kernel = spi_mt_op_kernel(r->program, op, r->rows),
                                    .groups_x = kv->kv_heads * groups(share, at_once),
                                    .groups_y = span->count,
                                    .push = {span->first, stride(r, op->src), op->heads, kv->kv_heads, kv->head_dim,
                                             r->program->rows_word, block_words(r), layer_word(r, op->layer),
                                             span->block_first, span->block_end, span->base_word, op->window,
                                             span->flags, spi_mt_float_word(op->scale), spi_mt_float_word(op->softcap)},
                                    .bindings = {[1] = parameters(r),
                                                 [2] = span->binding,
                                                 [4] = scratch(r, op->src),
                                                 [5] = spi_mt_bind(&r->program->state),
                                                 [6] = scratch(r, op->dst)}};
        status = spi_mt_encode(r->work, &dispatch);
    }
    return status;
}

/* GATE and ADD. */
static sp_status record_columns(const spi_mt_recorder *r, const spi_op *op, spi_mt_kernel kernel, uint32_t word,
                                spi_mt_binding src1) {
    spi_mt_dispatch dispatch = {.kernel = kernel,
                                .groups_x = groups(width(r, op->dst), LANES),
                                .groups_y = r->rows,
                                .push = {stride(r, op->dst), width(r, op->dst), word},
                                .bindings = {[4] = scratch(r, op->src), [5] = src1, [6] = scratch(r, op->dst)}};
    return spi_mt_encode(r->work, &dispatch);
}

static sp_status record_gather(spi_mt_recorder *r, const spi_op *op) {
    r->rows = r->program->plan.out_count;
    spi_mt_dispatch dispatch = {
        .kernel = SPI_MT_KERNEL_gather,
        .groups_x = groups(width(r, op->dst), LANES),
        .groups_y = r->rows,
        .push = {stride(r, op->dst), width(r, op->dst), r->program->outs_word},
        .bindings = {[1] = parameters(r), [4] = scratch(r, op->src), [6] = scratch(r, op->dst)}};
    return spi_mt_encode(r->work, &dispatch);
}

sp_status spi_mt_op_record(spi_mt_recorder *recorder, uint32_t op_index) {
    const spi_op *op = &recorder->program->tape->ops[op_index];
    switch (op->kind) {
    case SPI_OP_EMBED: return record_embed(recorder, op);
    case SPI_OP_NORM: return record_norm(recorder, op);
    case SPI_OP_MATMUL: return record_matmul(recorder, op);
    case SPI_OP_ROPE: return record_rope(recorder, op);
    case SPI_OP_KV_STORE: return record_kv_store(recorder, op);
    case SPI_OP_ATTENTION: return record_attention(recorder, op);
    case SPI_OP_GATE:
        return record_columns(recorder, op, SPI_MT_KERNEL_gate, op->act == SPI_ACT_GELU_TANH,
                              scratch(recorder, op->src1));
    case SPI_OP_ADD:
        return record_columns(recorder, op, SPI_MT_KERNEL_add, spi_mt_float_word(op->scale), (spi_mt_binding){0});
    case SPI_OP_GATHER: return record_gather(recorder, op);
    case SPI_OP_HEAD: return record_head(recorder, op);
    case SPI_OP_KIND_COUNT: break;
    }
    return spi_fail(recorder->work->error, SP_UNSUPPORTED, "metal has no op %s", spi_op_name(op->kind));
}
