/* device/vulkan/ops.c - the dispatches of each op. What the push words mean stands in shaders/NAME.comp; products are
 * in products.c. */
#include "base/error.h"
#include "device/vulkan/vulkan.h"

#define LANES        64u /* of a work group in most plain kernels */
#define LANES_TURNED 256u
#define LANES_FOURS  128u
/* Of kv_copy: stores that wait for the bus hold up what else runs there. */
#define COPY_GROUPS 8u

static uint32_t groups(uint64_t count, uint32_t size) {
    uint64_t result = (count + size - 1) / size;
    return result < UINT32_MAX ? (uint32_t)result : UINT32_MAX; /* encode refuses it */
}

static uint32_t heads_at_once(uint32_t heads_per_kv) {
    return heads_per_kv == 1 ? 1 : 4;
}

sp_status spi_vk_dispatch_record(const spi_vk_recorder *r, const spi_vk_dispatch *dispatch) {
    spi_vk_dispatch ordered = *dispatch;
    spi_vk_relay_dispatch(r, &ordered);
    if (r->dry) {
        VkPipeline pipeline;
        return spi_vk_pipeline_need(r->vk, dispatch->shader, dispatch->variant, &pipeline, r->error);
    }
    return spi_vk_encode(r->vk, r->commands, r->sets, &ordered, r->error);
}

static spi_vk_binding scratch(const spi_vk_recorder *r, uint32_t buffer) {
    return spi_vk_bind(&r->program->buffers[buffer]);
}

static uint32_t width(const spi_vk_recorder *r, uint32_t buffer) {
    return r->program->tape->buffers[buffer].width;
}

static uint32_t stride(const spi_vk_recorder *r, uint32_t buffer) {
    return spi_shader_stride(width(r, buffer));
}

static spi_vk_binding vector(const spi_vk_recorder *r, uint32_t tensor) {
    return r->program->store->tensors[tensor].pieces[0].units;
}

static sp_status record_embed(const spi_vk_recorder *r, const spi_op *op) {
    const spi_vk_tensor *tensor = &r->program->store->tensors[op->weight];
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < tensor->piece_count && !status; i++) {
        const spi_vk_piece *piece = &tensor->pieces[i];
        spi_vk_dispatch dispatch = {.shader = (spi_vk_shader)(SPI_VK_embed_f32 + (int)tensor->packing.type),
                                    .groups_x = groups(tensor->packing.units, LANES),
                                    .groups_y = r->rows,
                                    .push = {piece->row_first, piece->row_count, tensor->packing.units,
                                             tensor->packing.tile_rows, stride(r, op->dst), r->program->rows_word,
                                             spi_vk_float_word(op->scale), tensor->packing.step_words,
                                             tensor->packing.affine},
                                    .bindings = {[1] = spi_vk_bind(&r->program->parameters),
                                                 [2] = piece->units,
                                                 [3] = piece->scales,
                                                 [6] = scratch(r, op->dst)}};
        status = spi_vk_dispatch_record(r, &dispatch);
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
    return spi_vk_dispatch_record(r, &dispatch);
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
    return spi_vk_dispatch_record(r, &dispatch);
}

static uint32_t layer_word(const spi_vk_recorder *r, uint32_t layer) {
    return (uint32_t)(spi_kv_row_offset(&r->program->tape->kv, layer, 0, 0, 0) / sizeof(uint32_t));
}

/* Rows of k and v whose way over the bus takes longer than their attention has to wait: see kv_copy.comp. */
static bool is_copied_later(const spi_vk_recorder *r, const spi_op *store) {
    const spi_tape *tape = r->program->tape;
    bool attends = store + 1 < tape->ops + tape->op_count && store[1].kind == SPI_OP_ATTENTION;
    return spi_vk_is_fast(r->vk) && attends && r->rows >= r->vk->limits.copied_rows_min && !spi_kv_is_q8(&tape->kv) &&
           tape->kv.head_dim % 8 == 0;
}

/* The gate's products, which take longer than the copies of a layer's rows. Attention is held up by them: of 2,048 rows
 * it takes 169 us on an H200, and 103 without. */
static bool is_gate_ahead(const spi_vk_recorder *r, const spi_op *attend) {
    const spi_tape *tape = r->program->tape;
    for (uint32_t i = (uint32_t)(attend - tape->ops) + 1; i < tape->op_count; i++) {
        if (tape->ops[i].kind == SPI_OP_KV_STORE) {
            return false;
        }
        if (spi_vk_is_gated(r->program, i)) {
            return spi_vk_takes_gated(r, i);
        }
    }
    return false;
}

sp_status spi_vk_copies_record(spi_vk_recorder *r) {
    const spi_op *store = r->stored;
    const spi_kv_shape *kv = &r->program->tape->kv;
    sp_status status = SP_OK;
    if (!store) {
        return SP_OK;
    }
    r->stored = NULL;
    spi_vk_order(r, (spi_vk_access){SPI_VK_KV_BIT, 0});
    for (size_t i = 0; i < r->plan->kv_count && !status; i++) {
        const spi_vk_span *span = &r->plan->kv[i];
        spi_vk_dispatch dispatch = {.shader = SPI_VK_kv_copy,
                                    .groups_x = COPY_GROUPS,
                                    .groups_y = 1,
                                    .push = {span->first, span->count, kv->kv_heads, kv->head_dim,
                                             r->program->rows_word, (uint32_t)(kv->block_bytes / sizeof(uint32_t)),
                                             layer_word(r, store->layer), span->block_first, span->block_end,
                                             span->base_word},
                                    .bindings = {[1] = spi_vk_bind(&r->program->parameters),
                                                 [2] = span->binding,
                                                 [3] = {span->host, span->binding.offset, span->binding.range}}};
        status = span->host ? spi_vk_dispatch_record(r, &dispatch) : SP_OK;
    }
    return status;
}

static sp_status record_kv_store(const spi_vk_recorder *r, const spi_op *op) {
    const spi_kv_shape *kv = &r->program->tape->kv;
    /* Pairs of k, and of v; in Q8_0 pieces of 64 columns. */
    uint64_t invocations = (uint64_t)kv->kv_heads * kv->head_dim / (spi_kv_is_q8(kv) ? SPI_VK_Q8_COLUMNS / 2 : 1);
    spi_vk_shader shaders[2] = {spi_kv_is_q8(kv) ? SPI_VK_kv_store_q8 : SPI_VK_kv_store,
                                spi_kv_is_q8(kv) ? SPI_VK_kv_store_q8_mirrored : SPI_VK_kv_store_mirrored};
    bool later = is_copied_later(r, op);
    sp_status status = SP_OK;
    for (size_t i = 0; i < r->plan->kv_count && !status; i++) {
        const spi_vk_span *span = &r->plan->kv[i];
        spi_vk_dispatch dispatch = {.shader = shaders[span->host != VK_NULL_HANDLE && !later],
                                    .groups_x = groups(invocations, LANES),
                                    .groups_y = span->count,
                                    .push = {span->first, stride(r, op->src), kv->kv_heads, kv->head_dim,
                                             r->program->rows_word, (uint32_t)(kv->block_bytes / sizeof(uint32_t)),
                                             layer_word(r, op->layer), span->block_first, span->block_end,
                                             span->base_word},
                                    .bindings = {[1] = spi_vk_bind(&r->program->parameters),
                                                 [2] = span->binding,
                                                 [3] = {span->host ? span->host : span->binding.buffer,
                                                        span->binding.offset, span->binding.range},
                                                 [4] = scratch(r, op->src),
                                                 [5] = scratch(r, op->src1)}};
        status = spi_vk_dispatch_record(r, &dispatch);
    }
    return status;
}

bool spi_vk_turns(const spi_vk_recorder *r, uint32_t index) {
    const spi_op *store = &r->program->tape->ops[index + 2];
    bool later = is_copied_later(r, store), fits = !spi_kv_is_q8(&r->program->tape->kv);
    for (size_t i = 0; i < r->plan->kv_count; i++) {
        fits = fits && (later || !r->plan->kv[i].host);
    }
    return fits;
}

/* Heads that are rotated whole, four pairs at a time: turn_store.comp. */
static bool takes_fours(const spi_kv_shape *kv, const spi_rotation *const turns[2]) {
    bool fits = kv->head_dim % 8 == 0;
    for (uint32_t i = 0; i < 2; i++) {
        fits = fits && 2 * turns[i]->pairs == kv->head_dim && turns[i]->place % 4 == 0;
    }
    return fits;
}

sp_status spi_vk_turned_record(const spi_vk_recorder *r, uint32_t index) {
    const spi_op *q = &r->program->tape->ops[index], *store = q + 2;
    const spi_kv_shape *kv = &r->program->tape->kv;
    const spi_rotations *rotations = &r->program->rotations;
    const spi_rotation *turns[2] = {&rotations->items[rotations->of_op[index]],
                                    &rotations->items[rotations->of_op[index + 1]]};
    bool fours = takes_fours(kv, turns);
    sp_status status = SP_OK;
    for (size_t i = 0; i < r->plan->kv_count && !status; i++) {
        const spi_vk_span *span = &r->plan->kv[i];
        uint32_t heads = span->flags & SPI_SHADER_SPAN_FIRST ? q->heads : 0; /* once, of rows with several spans */
        uint64_t single = (uint64_t)kv->kv_heads * kv->head_dim + (uint64_t)heads * turns[0]->pairs;
        uint64_t eights = ((uint64_t)heads + 2 * (uint64_t)kv->kv_heads) * (kv->head_dim / 8);
        spi_vk_dispatch dispatch = {
            .shader = fours ? SPI_VK_turn_store : SPI_VK_kv_store_turned,
            .groups_x = fours ? groups(eights, LANES_FOURS) : groups(single, LANES_TURNED),
            .groups_y = span->count,
            .push = {span->first, stride(r, store->src), kv->kv_heads, kv->head_dim, r->program->rows_word,
                     (uint32_t)(kv->block_bytes / sizeof(uint32_t)), layer_word(r, store->layer), span->block_first,
                     span->block_end, span->base_word, stride(r, q->dst), heads, (uint32_t)turns[0]->place,
                     (uint32_t)turns[1]->place, turns[0]->pairs, q->rope_pairs == SPI_ROPE_HALVES},
            .bindings = {[1] = spi_vk_bind(&r->program->parameters),
                         [2] = span->binding,
                         [4] = scratch(r, store->src),
                         [5] = scratch(r, store->src1),
                         [6] = scratch(r, q->dst),
                         [7] = spi_vk_bind(&r->program->parameters)}};
        status = spi_vk_dispatch_record(r, &dispatch);
    }
    return status;
}

/* Of a work group of attention_tile and attention_matrix. */
static uint32_t tile_queries(const spi_vk *vk, const spi_kv_shape *kv) {
    return vk->limits.cooperative && kv->head_dim == 64 ? 128 : 64;
}

/* Tiles of rows, where there are kernels for the heads. */
uint32_t spi_vk_tile_rows(const spi_vk *vk, const spi_tape *tape) {
    uint32_t heads = 0;
    for (uint32_t i = 0; i < tape->op_count; i++) {
        if (tape->ops[i].kind == SPI_OP_ATTENTION) {
            heads = !heads || heads == tape->ops[i].heads ? tape->ops[i].heads : UINT32_MAX;
        }
    }
    bool fits = (tape->kv.head_dim == 64 || tape->kv.head_dim == 128) && !spi_kv_is_q8(&tape->kv);
    if (!spi_vk_is_fast(vk) || !heads || heads == UINT32_MAX || !fits) {
        return 0;
    }
    uint32_t share = heads / tape->kv.kv_heads;
    return tile_queries(vk, &tape->kv) / (share == 1 ? 1 : share <= 4 ? 4 : 8);
}

/* For a tile with so many heads at once. */
static spi_vk_shader tile_shader(const spi_vk_recorder *r, uint32_t at_once) {
    static const spi_vk_shader shaders[2][2][3] = {
        {{SPI_VK_attention_tile_64_1, SPI_VK_attention_tile_64_4, SPI_VK_attention_tile_64_8},
         {SPI_VK_attention_tile_128_1, SPI_VK_attention_tile_128_4, SPI_VK_attention_tile_128_8}},
        {{SPI_VK_attention_matrix_64_1, SPI_VK_attention_matrix_64_4, SPI_VK_attention_matrix_64_8},
         {SPI_VK_attention_matrix_128_1, SPI_VK_attention_matrix_128_4, SPI_VK_attention_matrix_128_8}}};
    return shaders[r->vk->limits.cooperative][r->program->tape->kv.head_dim == 128][at_once == 1   ? 0
                                                                                    : at_once == 4 ? 1
                                                                                                   : 2];
}

static sp_status record_tiles(const spi_vk_recorder *r, const spi_op *op, const spi_vk_span *span, bool to_halves) {
    const spi_kv_shape *kv = &r->program->tape->kv;
    uint32_t at_once = tile_queries(r->vk, kv) / r->program->tile_rows;
    spi_vk_dispatch dispatch = {.shader = tile_shader(r, at_once),
                                .groups_x = kv->kv_heads * groups(op->heads / kv->kv_heads, at_once),
                                .groups_y = span->tile_count,
                                .push = {span->tile_first, span->tile_count, r->program->tiles_word, stride(r, op->src),
                                         op->heads, kv->kv_heads, r->program->rows_word,
                                         (uint32_t)(kv->block_bytes / sizeof(uint32_t)), layer_word(r, op->layer),
                                         op->window, spi_vk_float_word(op->scale), spi_vk_float_word(op->softcap),
                                         to_halves ? spi_vk_panel_rows(r->program) : 0},
                                .bindings = {[1] = spi_vk_bind(&r->program->parameters),
                                             [2] = span->binding,
                                             [4] = scratch(r, op->src),
                                             [6] = scratch(r, op->dst)}};
    if (r->vk->limits.cooperative) {
        dispatch.bindings[7] = to_halves ? spi_vk_bind(&r->program->factors) : dispatch.bindings[6];
        dispatch.bindings[8] = to_halves ? spi_vk_bind(&r->program->halves) : dispatch.bindings[6];
    }
    return spi_vk_dispatch_record(r, &dispatch);
}

/* Those for any head and span; for Q8_0 there are no others. */
static spi_vk_shader plain_shader(const spi_kv_shape *kv, uint32_t at_once) {
    if (spi_kv_is_q8(kv)) {
        return at_once == 1 ? SPI_VK_attention_q8_1 : SPI_VK_attention_q8_4;
    }
    return at_once == 1 ? SPI_VK_attention_1 : SPI_VK_attention_4;
}

bool spi_vk_attends_to_halves(const spi_vk_recorder *r) {
    bool tiles = r->vk->limits.cooperative && r->program->tile_rows && r->plan->row_count > 1;
    for (size_t i = 0; i < r->plan->kv_count; i++) {
        tiles = tiles && r->plan->kv[i].tile_count;
    }
    return tiles;
}

sp_status spi_vk_attention_record(spi_vk_recorder *r, const spi_op *op, bool to_halves) {
    const spi_kv_shape *kv = &r->program->tape->kv;
    uint32_t share = op->heads / kv->kv_heads;
    sp_status status = SP_OK;
    if (op > r->program->tape->ops && op[-1].kind == SPI_OP_KV_STORE && is_copied_later(r, op - 1)) {
        r->stored = op - 1;
        status = is_gate_ahead(r, op) ? SP_OK : spi_vk_copies_record(r);
    }
    for (size_t i = 0; i < r->plan->kv_count && !status; i++) {
        const spi_vk_span *span = &r->plan->kv[i];
        if (r->program->tile_rows && span->tile_count && r->plan->row_count > 1) {
            status = record_tiles(r, op, span, to_halves);
            continue;
        }
        if (!(span->flags & SPI_SHADER_SPAN_FIRST)) {
            spi_vk_order(r,
                         (spi_vk_access){SPI_VK_STATE_BIT,
                                         SPI_VK_STATE_BIT |
                                             spi_vk_bit(op->dst)}); /* it goes on from the state of the span before */
        }
        spi_vk_dispatch dispatch = {.shader = plain_shader(kv, heads_at_once(share)),
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
        status = spi_vk_dispatch_record(r, &dispatch);
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
    return spi_vk_dispatch_record(r, &dispatch);
}

static sp_status record_add(const spi_vk_recorder *r, const spi_op *op) {
    spi_vk_dispatch dispatch = {.shader = SPI_VK_add,
                                .groups_x = groups(width(r, op->dst), LANES),
                                .groups_y = r->rows,
                                .push = {stride(r, op->dst), width(r, op->dst), spi_vk_float_word(op->scale)},
                                .bindings = {[4] = scratch(r, op->src), [6] = scratch(r, op->dst)}};
    return spi_vk_dispatch_record(r, &dispatch);
}

static sp_status record_gather(spi_vk_recorder *r, const spi_op *op) {
    r->rows = r->plan->out_count;
    bool fast = spi_vk_is_fast(r->vk);
    spi_vk_dispatch dispatch = {
        .shader = fast ? SPI_VK_gather_relay : SPI_VK_gather,
        .groups_x = groups(width(r, op->dst), LANES),
        .groups_y = r->rows,
        .signals = fast ? groups(width(r, op->dst), LANES) * r->rows : 0,
        .push = {stride(r, op->dst), width(r, op->dst), r->program->outs_word},
        .bindings = {[1] = spi_vk_bind(&r->program->parameters), [4] = scratch(r, op->src), [6] = scratch(r, op->dst)}};
    return spi_vk_dispatch_record(r, &dispatch);
}

spi_vk_access spi_vk_op_access(const spi_op *op) {
    spi_vk_access found = {.reads = spi_vk_bit(op->src), .writes = spi_vk_bit(op->dst)};
    switch (op->kind) {
    case SPI_OP_EMBED: found.reads = 0; break;
    case SPI_OP_ROPE:
    case SPI_OP_ADD: found.reads = spi_vk_bit(op->src) | spi_vk_bit(op->dst); break;
    case SPI_OP_MATMUL: found.reads |= op->accumulate ? spi_vk_bit(op->dst) : 0; break;
    case SPI_OP_KV_STORE: found = (spi_vk_access){spi_vk_bit(op->src) | spi_vk_bit(op->src1), SPI_VK_KV_BIT}; break;
    case SPI_OP_ATTENTION:
        found.reads |= SPI_VK_KV_BIT;
        found.writes |= SPI_VK_STATE_BIT;
        break;
    case SPI_OP_GATE: found.reads |= spi_vk_bit(op->src1); break;
    case SPI_OP_HEAD: found.writes = SPI_VK_LOGITS_BIT; break;
    default: break;
    }
    return found;
}

sp_status spi_vk_op_record(spi_vk_recorder *recorder, uint32_t op_index) {
    const spi_op *op = &recorder->program->tape->ops[op_index];
    switch (op->kind) {
    case SPI_OP_EMBED: return record_embed(recorder, op);
    case SPI_OP_NORM: return record_norm(recorder, op);
    case SPI_OP_MATMUL:
    case SPI_OP_HEAD: return spi_vk_products_record(recorder, &(spi_vk_product_ops){.op = op});
    case SPI_OP_ROPE: return record_rope(recorder, op);
    case SPI_OP_KV_STORE: return record_kv_store(recorder, op);
    case SPI_OP_ATTENTION: return spi_vk_attention_record(recorder, op, false);
    case SPI_OP_GATE: return record_gate(recorder, op);
    case SPI_OP_ADD: return record_add(recorder, op);
    case SPI_OP_GATHER: return record_gather(recorder, op);
    case SPI_OP_KIND_COUNT: break;
    }
    return spi_fail(recorder->error, SP_UNSUPPORTED, "vulkan has no op %s", spi_op_name(op->kind));
}
