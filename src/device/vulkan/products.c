/* device/vulkan/products.c - the dispatches of MATMUL and HEAD for few rows: which kernel for how many, and what is fused
 * to it. May include: device/vulkan/products.h. */
#include "device/vulkan/products.h"

#define PRODUCT_ACCUMULATE 1u
#define PRODUCT_BIAS       2u
#define PRODUCT_HEAD       4u
#define PRODUCT_GELU       8u

#define GEMV_ROWS        8u     /* of the weight, in a work group */
#define BYTES_WIDTH_MAX  16384u /* of x as bytes: gemvq's shared memory */
#define BYTES_GROUPS_MAX 512u   /* each rounds x for itself: as many as large devices run at once */
#define BYTES_SLICES     8192u  /* in all: what keeps a large device busy */
#define BYTES_SLICES_MIN 4u

static uint32_t rows_at_once(uint32_t rows) {
    return rows == 1 ? 1 : rows <= 4 ? 4 : 8;
}

bool spi_vk_is_covered(const spi_vk_recorder *r, const spi_vk_packing *packing) {
    return spi_vk_is_fast(r->vk) && packing->tile_rows == SPI_VK_TILE_ROWS && packing->type < SPI_VK_AFFINE2;
}

static sp_status record_plain(const spi_vk_recorder *r, const spi_op *op, const spi_vk_piece *piece,
                              const spi_vk_target *t) {
    const spi_vk_tensor *tensor = &r->program->store->tensors[op->weight];
    spi_vk_binding parameters = spi_vk_bind(&r->program->parameters);
    uint32_t at_once = rows_at_once(t->row_count);
    spi_vk_shader family = at_once == 1   ? SPI_VK_matmul_1_f32
                           : at_once == 4 ? SPI_VK_matmul_4_f32
                                          : SPI_VK_matmul_8_f32;
    spi_vk_dispatch dispatch = {.shader = spi_vk_typed(family, tensor),
                                .groups_x = spi_vk_ceil_div(piece->row_count, SPI_VK_TILE_ROWS),
                                .groups_y = spi_vk_ceil_div(t->row_count, at_once),
                                .push = {piece->row_first, piece->row_count, tensor->packing.steps,
                                         tensor->packing.tile_rows, spi_vk_buffer_stride(r, op->src) / 4, t->stride,
                                         t->row_first, t->row_first + t->row_count, t->flags, r->program->outs_word,
                                         spi_vk_float_word(op->scale), spi_vk_float_word(op->softcap),
                                         tensor->packing.step_words, tensor->packing.affine},
                                .bindings = {[1] = parameters,
                                             [2] = piece->units,
                                             [3] = piece->scales,
                                             [4] = spi_vk_bind(&r->program->buffers[op->src]),
                                             [5] = op->bias == SPI_NONE ? parameters : spi_vk_vector(r, op->bias),
                                             [6] = t->to}};
    return spi_vk_dispatch_record(r, &dispatch);
}

/* Bytes: quantised types, whose x ends with a block. */
static bool takes_bytes(const spi_vk_recorder *r, const spi_vk_tensor *tensor, uint32_t rows) {
    const spi_vk_format *format = &spi_vk_formats[tensor->packing.type];
    return r->vk->limits.bytes && rows == 1 && format->read &&
           tensor->packing.steps * format->step_elements <= BYTES_WIDTH_MAX;
}

/* So many that each invocation has two units or more. */
static uint32_t choose_slices(uint32_t units) {
    return units >= 64 ? 32 : units >= 32 ? 16 : 8;
}

static sp_status record_gemv(const spi_vk_recorder *r, const spi_vk_product_ops *ops, uint32_t piece_index,
                             const spi_vk_target *t) {
    const spi_op *op = ops->op;
    const spi_vk_tensor *tensor = &r->program->store->tensors[op->weight];
    const spi_vk_piece *piece = &tensor->pieces[piece_index];
    spi_vk_binding parameters = spi_vk_bind(&r->program->parameters);
    uint32_t src = ops->norm ? ops->norm->src : op->src, at_once = rows_at_once(t->row_count);
    bool bytes = takes_bytes(r, tensor, t->row_count);
    uint32_t groups = spi_vk_ceil_div(piece->row_count, GEMV_ROWS);
    uint32_t slices = choose_slices(tensor->packing.units);
    while (bytes && slices > BYTES_SLICES_MIN && groups * slices > BYTES_SLICES) {
        slices /= 2;
    }
    uint32_t work_groups = spi_vk_ceil_div(groups, 32 / slices);
    spi_vk_shader family = bytes          ? (ops->second ? SPI_VK_gemvq_gated_f32 : SPI_VK_gemvq_f32)
                           : ops->second  ? SPI_VK_gemv_gated_f32
                           : at_once == 1 ? SPI_VK_gemv_1_f32
                           : at_once == 4 ? SPI_VK_gemv_4_f32
                                          : SPI_VK_gemv_8_f32;
    spi_vk_dispatch dispatch = {
        .shader = spi_vk_typed(family, tensor),
        .variant = {.slices = slices, .norm = ops->norm != NULL},
        .groups_x = bytes ? (work_groups < BYTES_GROUPS_MAX ? work_groups : BYTES_GROUPS_MAX) : groups,
        .groups_y = spi_vk_ceil_div(t->row_count, at_once),
        .push = {piece->row_first, piece->row_count, tensor->packing.units, r->program->tape->buffers[src].width,
                 spi_vk_buffer_stride(r, src) / 4, t->stride, t->row_first, t->row_first + t->row_count, t->flags,
                 r->program->outs_word, spi_vk_float_word(op->scale), spi_vk_float_word(op->softcap),
                 spi_vk_float_word(ops->norm ? ops->norm->eps : 0)},
        .bindings = {[1] = parameters,
                     [2] = piece->units,
                     [3] = piece->scales.range ? piece->scales : piece->units,
                     [4] = spi_vk_bind(&r->program->buffers[src]),
                     [5] = op->bias == SPI_NONE ? parameters : spi_vk_vector(r, op->bias),
                     [6] = t->to,
                     [7] = ops->norm ? spi_vk_vector(r, ops->norm->weight) : parameters}};
    if (ops->second) {
        const spi_vk_piece *other = &r->program->store->tensors[ops->second->weight].pieces[piece_index];
        dispatch.bindings[8] = other->units;
        dispatch.bindings[9] = other->scales.range ? other->scales : other->units;
    }
    return spi_vk_dispatch_record(r, &dispatch);
}

/* All pieces of a weight. */
static sp_status record_pieces(const spi_vk_recorder *r, const spi_vk_product_ops *ops, const spi_vk_target *t,
                               const void *of) {
    (void)of;
    const spi_vk_tensor *tensor = &r->program->store->tensors[ops->op->weight];
    bool fast = spi_vk_is_covered(r, &tensor->packing);
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < tensor->piece_count && !status; i++) {
        status = fast ? record_gemv(r, ops, i, t) : record_plain(r, ops->op, &tensor->pieces[i], t);
    }
    return status;
}

sp_status spi_vk_targets_record(const spi_vk_recorder *r, const spi_vk_product_ops *ops, spi_vk_target_record each,
                                const void *of) {
    const spi_op *op = ops->op;
    uint32_t flags = (op->accumulate ? PRODUCT_ACCUMULATE : 0) | (op->bias == SPI_NONE ? 0 : PRODUCT_BIAS);
    if (op->kind == SPI_OP_MATMUL) {
        uint32_t dst = ops->gate ? ops->gate->dst : op->dst;
        flags |= ops->gate && ops->gate->act == SPI_ACT_GELU_TANH ? PRODUCT_GELU : 0;
        spi_vk_target t = {spi_vk_bind(&r->program->buffers[dst]), spi_vk_buffer_stride(r, dst), 0, r->rows, flags};
        return each(r, ops, &t, of);
    }
    sp_status status = SP_OK;
    for (size_t i = 0; i < r->plan->out_span_count && !status; i++) {
        const spi_vk_span *span = &r->plan->outs[i];
        spi_vk_target t = {span->binding, 0, span->first, span->count, flags | PRODUCT_HEAD};
        status = each(r, ops, &t, of);
    }
    return status;
}

sp_status spi_vk_products_record(spi_vk_recorder *r, const spi_vk_product_ops *ops) {
    return spi_vk_targets_record(r, ops, record_pieces, NULL);
}
