/* device/vulkan/ops.c - the dispatches of each op. What the push words mean stands in shaders/NAME.comp. */
#include "base/error.h"
#include "device/vulkan/vulkan.h"

#define LANES 64u /* of a work group in all kernels but matmul's */

#define MATMUL_ACCUMULATE 1u
#define MATMUL_BIAS       2u
#define MATMUL_HEAD       4u

static uint32_t groups(uint64_t count, uint32_t size) {
    uint64_t result = (count + size - 1) / size;
    return result < UINT32_MAX ? (uint32_t)result : UINT32_MAX; /* encode refuses it */
}

static uint32_t rows_at_once(uint32_t rows) {
    return rows == 1 ? 1 : rows <= 4 ? 4 : 8;
}

static uint32_t heads_at_once(uint32_t heads_per_kv) {
    return heads_per_kv == 1 ? 1 : 4;
}

spi_vk_shader spi_vk_op_shader(const spi_program *program, const spi_op *op, uint32_t rows) {
    static const spi_vk_shader others[SPI_OP_KIND_COUNT] = {
        [SPI_OP_NORM] = SPI_VK_norm, [SPI_OP_ROPE] = SPI_VK_rope, [SPI_OP_KV_STORE] = SPI_VK_kv_store,
        [SPI_OP_GATE] = SPI_VK_gate, [SPI_OP_ADD] = SPI_VK_add,   [SPI_OP_GATHER] = SPI_VK_gather};
    switch (op->kind) {
    case SPI_OP_EMBED: return (spi_vk_shader)(SPI_VK_embed_f32 + (int)program->store->tensors[op->weight].packing.type);
    case SPI_OP_MATMUL:
    case SPI_OP_HEAD: {
        uint32_t at_once = rows_at_once(rows);
        spi_vk_shader family = at_once == 1   ? SPI_VK_matmul_1_f32
                               : at_once == 4 ? SPI_VK_matmul_4_f32
                                              : SPI_VK_matmul_8_f32;
        return (spi_vk_shader)(family + (int)program->store->tensors[op->weight].packing.type);
    }
    case SPI_OP_ATTENTION:
        return heads_at_once(op->heads / program->tape->kv.kv_heads) == 1 ? SPI_VK_attention_1 : SPI_VK_attention_4;
    default: return others[op->kind];
    }
}

static sp_status encode(const spi_vk_recorder *r, const spi_vk_dispatch *dispatch) {
    return spi_vk_encode(r->vk, r->program->commands, &r->program->sets, dispatch, r->error);
}

static spi_vk_binding scratch(const spi_vk_recorder *r, uint32_t buffer) {
    return spi_vk_bind(&r->program->buffers[buffer]);
}

static uint32_t width(const spi_vk_recorder *r, uint32_t buffer) {
    return r->program->tape->buffers[buffer].width;
}

static uint32_t stride(const spi_vk_recorder *r, uint32_t buffer) {
    return spi_vk_stride(width(r, buffer));
}

static spi_vk_binding vector(const spi_vk_recorder *r, uint32_t tensor) {
    return r->program->store->tensors[tensor].pieces[0].units;
}

static sp_status record_embed(const spi_vk_recorder *r, const spi_op *op) {
    const spi_vk_tensor *tensor = &r->program->store->tensors[op->weight];
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < tensor->piece_count && !status; i++) {
        const spi_vk_piece *piece = &tensor->pieces[i];
        spi_vk_dispatch dispatch = {.shader = spi_vk_op_shader(r->program, op, r->rows),
                                    .groups_x = groups(tensor->packing.units, LANES),
                                    .groups_y = r->rows,
                                    .push = {piece->row_first, piece->row_count, tensor->packing.units,
                                             tensor->packing.tile_rows, stride(r, op->dst), r->program->rows_word,
                                             spi_vk_float_word(op->scale)},
                                    .bindings = {[1] = spi_vk_bind(&r->program->parameters),
                                                 [2] = piece->units,
                                                 [3] = piece->scales,
                                                 [6] = scratch(r, op->dst)}};
        status = encode(r, &dispatch);
    }
    return status;
}

static sp_status record_norm(const spi_vk_recorder *r, const spi_op *op) {
    spi_vk_dispatch dispatch = {
        .shader = SPI_VK_norm,
        .groups_x = width(r, op->dst) / op->group,
        .groups_y = r->rows,
        .push = {stride(r, op->src), op->group, spi_vk_float_word(op->eps)},
        .bindings = {[4] = scratch(r, op->src), [5] = vector(r, op->weight), [6] = scratch(r, op->dst)}};
    return encode(r, &dispatch);
}

/* All pieces of a product for the rows first .. first + count of src. */
static sp_status record_product(const spi_vk_recorder *r, const spi_op *op, uint32_t first, uint32_t count,
                                const spi_vk_binding *to, uint32_t to_stride, uint32_t flags) {
    const spi_vk_tensor *tensor = &r->program->store->tensors[op->weight];
    spi_vk_binding parameters = spi_vk_bind(&r->program->parameters);
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < tensor->piece_count && !status; i++) {
        const spi_vk_piece *piece = &tensor->pieces[i];
        spi_vk_dispatch dispatch = {.shader = spi_vk_op_shader(r->program, op, count),
                                    .groups_x = groups(piece->row_count, SPI_VK_TILE_ROWS),
                                    .groups_y = groups(count, rows_at_once(count)),
                                    .push = {piece->row_first, piece->row_count, tensor->packing.steps,
                                             tensor->packing.tile_rows, stride(r, op->src) / 4, to_stride, first,
                                             first + count, flags, r->program->outs_word, spi_vk_float_word(op->scale),
                                             spi_vk_float_word(op->softcap)},
                                    .bindings = {[1] = parameters,
                                                 [2] = piece->units,
                                                 [3] = piece->scales,
                                                 [4] = scratch(r, op->src),
                                                 [5] = op->bias == SPI_NONE ? parameters : vector(r, op->bias),
                                                 [6] = *to}};
        status = encode(r, &dispatch);
    }
    return status;
}

static sp_status record_matmul(const spi_vk_recorder *r, const spi_op *op) {
    spi_vk_binding to = scratch(r, op->dst);
    uint32_t flags = (op->accumulate ? MATMUL_ACCUMULATE : 0) | (op->bias == SPI_NONE ? 0 : MATMUL_BIAS);
    return record_product(r, op, 0, r->rows, &to, stride(r, op->dst), flags);
}

static sp_status record_head(const spi_vk_recorder *r, const spi_op *op) {
    uint32_t flags = MATMUL_HEAD | (op->bias == SPI_NONE ? 0 : MATMUL_BIAS);
    sp_status status = SP_OK;
    for (size_t i = 0; i < r->plan->out_span_count && !status; i++) {
        const spi_vk_span *span = &r->plan->outs[i];
        status = record_product(r, op, span->first, span->count, &span->binding, 0, flags);
    }
    return status;
}

static sp_status record_rope(const spi_vk_recorder *r, const spi_op *op) {
    const spi_rotations *rotations = &r->program->rotations;
    const spi_rotation *rotation = &rotations->items[rotations->of_op[op - r->program->tape->ops]];
    spi_vk_dispatch dispatch = {.shader = SPI_VK_rope,
                                .groups_x = groups((uint64_t)op->heads * rotation->pairs, LANES),
                                .groups_y = r->rows,
                                .push = {stride(r, op->dst), op->heads, width(r, op->dst) / op->heads, rotation->pairs,
                                         op->rope_pairs == SPI_ROPE_HALVES, (uint32_t)rotation->place},
                                .bindings = {[1] = spi_vk_bind(&r->program->parameters), [6] = scratch(r, op->dst)}};
    return encode(r, &dispatch);
}

static uint32_t layer_word(const spi_vk_recorder *r, uint32_t layer) {
    return (uint32_t)(spi_kv_row_offset(&r->program->tape->kv, layer, 0, 0, 0) / sizeof(uint32_t));
}

static sp_status record_kv_store(const spi_vk_recorder *r, const spi_op *op) {
    const spi_kv_shape *kv = &r->program->tape->kv;
    sp_status status = SP_OK;
    for (size_t i = 0; i < r->plan->kv_count && !status; i++) {
        const spi_vk_span *span = &r->plan->kv[i];
        spi_vk_dispatch dispatch = {
            .shader = SPI_VK_kv_store,
            .groups_x = groups((uint64_t)kv->kv_heads * kv->head_dim, LANES), /* pairs of k, and of v */
            .groups_y = span->count,
            .push = {span->first, stride(r, op->src), kv->kv_heads, kv->head_dim, r->program->rows_word,
                     (uint32_t)(kv->block_bytes / sizeof(uint32_t)), layer_word(r, op->layer), span->block_first,
                     span->block_end, span->base_word},
            .bindings = {[1] = spi_vk_bind(&r->program->parameters),
                         [2] = span->binding,
                         [4] = scratch(r, op->src),
                         [5] = scratch(r, op->src1)}};
        status = encode(r, &dispatch);
    }
    return status;
}

static sp_status record_attention(const spi_vk_recorder *r, const spi_op *op) {
    const spi_kv_shape *kv = &r->program->tape->kv;
    uint32_t share = op->heads / kv->kv_heads;
    sp_status status = SP_OK;
    for (size_t i = 0; i < r->plan->kv_count && !status; i++) {
        const spi_vk_span *span = &r->plan->kv[i];
        if (!(span->flags & SPI_VK_SPAN_FIRST)) {
            spi_vk_encode_barrier(r->vk, r->program->commands); /* it goes on from the state of the span before */
        }
        spi_vk_dispatch dispatch = {.shader = spi_vk_op_shader(r->program, op, r->rows),
                                    .groups_x = kv->kv_heads * groups(share, heads_at_once(share)),
                                    .groups_y = span->count,
                                    .push = {span->first, stride(r, op->src), op->heads, kv->kv_heads, kv->head_dim,
                                             r->program->rows_word, (uint32_t)(kv->block_bytes / sizeof(uint32_t)),
                                             layer_word(r, op->layer), span->block_first, span->block_end,
                                             span->base_word, op->window, span->flags, spi_vk_float_word(op->scale),
                                             spi_vk_float_word(op->softcap)},
                                    .bindings = {[1] = spi_vk_bind(&r->program->parameters),
                                                 [2] = span->binding,
                                                 [4] = scratch(r, op->src),
                                                 [5] = spi_vk_bind(&r->program->state),
                                                 [6] = scratch(r, op->dst)}};
        status = encode(r, &dispatch);
    }
    return status;
}

static sp_status record_gate(const spi_vk_recorder *r, const spi_op *op) {
    spi_vk_dispatch dispatch = {
        .shader = SPI_VK_gate,
        .groups_x = groups(width(r, op->dst), LANES),
        .groups_y = r->rows,
        .push = {stride(r, op->dst), width(r, op->dst), op->act == SPI_ACT_GELU_TANH},
        .bindings = {[4] = scratch(r, op->src), [5] = scratch(r, op->src1), [6] = scratch(r, op->dst)}};
    return encode(r, &dispatch);
}

static sp_status record_add(const spi_vk_recorder *r, const spi_op *op) {
    spi_vk_dispatch dispatch = {.shader = SPI_VK_add,
                                .groups_x = groups(width(r, op->dst), LANES),
                                .groups_y = r->rows,
                                .push = {stride(r, op->dst), width(r, op->dst), spi_vk_float_word(op->scale)},
                                .bindings = {[4] = scratch(r, op->src), [6] = scratch(r, op->dst)}};
    return encode(r, &dispatch);
}

static sp_status record_gather(spi_vk_recorder *r, const spi_op *op) {
    r->rows = r->plan->out_count;
    spi_vk_dispatch dispatch = {
        .shader = SPI_VK_gather,
        .groups_x = groups(width(r, op->dst), LANES),
        .groups_y = r->rows,
        .push = {stride(r, op->dst), width(r, op->dst), r->program->outs_word},
        .bindings = {[1] = spi_vk_bind(&r->program->parameters), [4] = scratch(r, op->src), [6] = scratch(r, op->dst)}};
    return encode(r, &dispatch);
}

sp_status spi_vk_op_record(spi_vk_recorder *recorder, uint32_t op_index) {
    const spi_op *op = &recorder->program->tape->ops[op_index];
    switch (op->kind) {
    case SPI_OP_EMBED: return record_embed(recorder, op);
    case SPI_OP_NORM: return record_norm(recorder, op);
    case SPI_OP_MATMUL: return record_matmul(recorder, op);
    case SPI_OP_ROPE: return record_rope(recorder, op);
    case SPI_OP_KV_STORE: return record_kv_store(recorder, op);
    case SPI_OP_ATTENTION: return record_attention(recorder, op);
    case SPI_OP_GATE: return record_gate(recorder, op);
    case SPI_OP_ADD: return record_add(recorder, op);
    case SPI_OP_GATHER: return record_gather(recorder, op);
    case SPI_OP_HEAD: return record_head(recorder, op);
    case SPI_OP_KIND_COUNT: break;
    }
    return spi_fail(recorder->error, SP_UNSUPPORTED, "vulkan has no op %s", spi_op_name(op->kind));
}
