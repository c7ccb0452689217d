/* device/vulkan/products.c - the dispatches of MATMUL and HEAD for few rows: which kernel for how many, and what is
 * fused to it. May include: device/vulkan/products.h. */
#include "device/vulkan/products.h"

#define PRODUCT_ACCUMULATE 1u
#define PRODUCT_BIAS       2u
#define PRODUCT_HEAD       4u
#define PRODUCT_GELU       8u

#define GEMV_ROWS    8u /* of the weight, in a work group */
#define GEMV_AT_ONCE 8u /* of x */

/* row.comp's shared memory: what it has beside x, sums, x as bytes, and subgroups of a work group. */
#define ROW_SHARED_BYTES  (11u << 10)
#define ROW_PARTIALS      2048u
#define ROW_PARTIALS_MANY 4096u /* beside x as bytes */
#define ROW_FOURS_BYTES   4096u
#define ROW_FOURS         2048u
#define ROW_FOURS_SMALL   1024u
#define ROW_SUBGROUPS_MAX 64u

/* Rows of a weight, and columns, from which on row.comp's groups are cut up otherwise. */
#define ROW_NARROW    1024u
#define ROW_WIDE      4096u
#define ROW_VERY_WIDE 32768u
#define ROW_LONG      4096u

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

/* How a product of one row is cut up: see row.comp. */
typedef struct row_cut {
    uint32_t rows, invocations, strips, subgroup_units, piece_units, fours, partials;
} row_cut;

/* Measured on a large card: a group with as many rows as a subgroup has lanes prepares x for all of them, but where
 * there are few rows more groups have more of the weight on its way. */
static row_cut cut_row(const spi_vk_recorder *r, const spi_vk_product_ops *ops, uint32_t rows, uint32_t batch,
                       bool bytes) {
    const spi_vk_packing *packing = &r->program->store->tensors[ops->op->weight].packing;
    uint32_t subgroup = r->vk->adapter.subgroup, sums = (ops->second ? 2 : 1) * batch; /* of a row of the weight */
    uint32_t elements = 128 / spi_vk_formats[packing->type].low;                       /* of a unit */
    bool small = r->vk->adapter.limits.maxComputeSharedMemorySize < ROW_FOURS * 16 + ROW_SHARED_BYTES;
    row_cut cut = {.rows = rows >= ROW_WIDE || (ops->norm && rows >= ROW_NARROW) ? 32 : 16,
                   .invocations = packing->units * elements >= ROW_LONG ? 1024 : 512,
                   .strips = rows >= ROW_VERY_WIDE ? (batch < 4 ? 4 / batch : 1) : 1,
                   .fours = bytes   ? ROW_FOURS_BYTES
                            : small ? ROW_FOURS_SMALL
                                    : ROW_FOURS,
                   .partials = bytes && batch > 2 && !small ? ROW_PARTIALS_MANY : ROW_PARTIALS};
    cut.rows = cut.rows < subgroup ? cut.rows : subgroup;
    uint32_t block = elements < 32 ? 32 / elements : 1; /* units that end with a block of x */
    while (cut.invocations / subgroup > ROW_SUBGROUPS_MAX || cut.invocations > spi_vk_group_max(r->vk) ||
           cut.invocations / subgroup * batch * block * elements > 4 * cut.fours) {
        cut.invocations /= 2;
    }
    while (cut.strips * sums * cut.rows * (cut.invocations / subgroup) > cut.partials) {
        uint32_t *most = cut.rows > 16 ? &cut.rows : &cut.invocations;
        *most /= 2;
    }
    uint32_t subgroups = cut.invocations / subgroup;
    cut.subgroup_units = spi_vk_ceil_div(packing->units, subgroups * block) * block;
    cut.piece_units = cut.fours / (subgroups * batch) * 4 / elements / block * block;
    return cut;
}

static spi_vk_shader row_shader(bool many, bool bytes, bool gated) {
    static const spi_vk_shader shaders[2][2][2] = {
        {{SPI_VK_row_f32, SPI_VK_row_gated_f32}, {SPI_VK_rowq_f32, SPI_VK_rowq_gated_f32}},
        {{SPI_VK_rows_f32, SPI_VK_rows_gated_f32}, {SPI_VK_rowsq_f32, SPI_VK_rowsq_gated_f32}}};
    return shaders[many][bytes][gated];
}

/* Of one row of x, or some that are taken at once. */
static sp_status record_row(const spi_vk_recorder *r, const spi_vk_product_ops *ops, uint32_t piece_index,
                            const spi_vk_target *t) {
    const spi_op *op = ops->op;
    const spi_vk_tensor *tensor = &r->program->store->tensors[op->weight];
    const spi_vk_piece *piece = &tensor->pieces[piece_index];
    spi_vk_binding parameters = spi_vk_bind(&r->program->parameters);
    uint32_t src = ops->norm ? ops->norm->src : op->src;
    bool bytes = spi_vk_takes_bytes(r->vk, &tensor->packing);
    row_cut cut = cut_row(r, ops, piece->row_count, t->row_count, bytes);
    spi_vk_dispatch dispatch = {
        .shader = spi_vk_typed(row_shader(t->row_count > 1, bytes, ops->second), tensor),
        .variant = {cut.rows, cut.invocations, ops->norm != NULL, cut.fours, t->row_count, cut.partials},
        .groups_x = spi_vk_ceil_div(piece->row_count, cut.rows * cut.strips),
        .groups_y = 1,
        .signals = piece->row_count * t->row_count,
        .push = {piece->row_first, piece->row_count, tensor->packing.units, r->program->tape->buffers[src].width,
                 spi_vk_buffer_stride(r, src) / 4, t->stride, t->row_first, t->row_first + t->row_count, t->flags,
                 r->program->outs_word, spi_vk_float_word(op->scale), spi_vk_float_word(op->softcap),
                 spi_vk_float_word(ops->norm ? ops->norm->eps : 0), cut.strips, cut.subgroup_units, cut.piece_units},
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

/* So many that each invocation has two units or more. */
static uint32_t choose_slices(uint32_t units) {
    return units >= 64 ? 32 : units >= 32 ? 16 : 8;
}

/* Of more, where there are no cooperative matrices. */
static sp_status record_gemv(const spi_vk_recorder *r, const spi_op *op, const spi_vk_piece *piece,
                             const spi_vk_target *t) {
    const spi_vk_tensor *tensor = &r->program->store->tensors[op->weight];
    spi_vk_binding parameters = spi_vk_bind(&r->program->parameters);
    uint32_t slices = choose_slices(tensor->packing.units);
    spi_vk_dispatch dispatch = {.shader = spi_vk_typed(SPI_VK_gemv_f32, tensor),
                                .variant = {.rows = slices, .invocations = GEMV_ROWS * slices},
                                .groups_x = spi_vk_ceil_div(piece->row_count, GEMV_ROWS),
                                .groups_y = spi_vk_ceil_div(t->row_count, GEMV_AT_ONCE),
                                .push = {piece->row_first, piece->row_count, tensor->packing.units,
                                         spi_vk_buffer_stride(r, op->src) / 4, t->stride, t->row_first,
                                         t->row_first + t->row_count, t->flags, r->program->outs_word,
                                         spi_vk_float_word(op->scale), spi_vk_float_word(op->softcap)},
                                .bindings = {[1] = parameters,
                                             [2] = piece->units,
                                             [3] = piece->scales.range ? piece->scales : piece->units,
                                             [4] = spi_vk_bind(&r->program->buffers[op->src]),
                                             [5] = op->bias == SPI_NONE ? parameters : spi_vk_vector(r, op->bias),
                                             [6] = t->to}};
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
        const spi_vk_piece *piece = &tensor->pieces[i];
        status = !fast                              ? record_plain(r, ops->op, piece, t)
                 : t->row_count <= SPI_VK_BATCH_MAX ? record_row(r, ops, i, t)
                                                    : record_gemv(r, ops->op, piece, t);
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
