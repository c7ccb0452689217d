/* device/vulkan/products.c - the dispatches of MATMUL and HEAD: which kernel for how many rows, and what is fused to it. */
#include "device/vulkan/vulkan.h"

#define PRODUCT_ACCUMULATE 1u
#define PRODUCT_BIAS       2u
#define PRODUCT_HEAD       4u
#define PRODUCT_GELU       8u

#define GEMV_ROWS        8u     /* of the weight, in a work group */
#define BYTES_WIDTH_MAX  16384u /* of x as bytes: gemvq's shared memory */
#define BYTES_GROUPS_MAX 512u   /* each rounds x for itself: as many as large devices run at once */
#define BYTES_SLICES     8192u  /* in all: what keeps a large device busy */
#define BYTES_SLICES_MIN 4u
#define MATRIX_GROUPS    96u /* large tiles only where there are at least so many of them */

/* Where a product's rows go. */
typedef struct target {
    spi_vk_binding to;
    uint32_t stride, row_first, row_count, flags;
} target;

static uint32_t ceil_div(uint32_t count, uint32_t size) {
    return count / size + (count % size != 0);
}

static uint32_t rows_at_once(uint32_t rows) {
    return rows == 1 ? 1 : rows <= 4 ? 4 : 8;
}

static spi_vk_binding vector(const spi_vk_recorder *r, uint32_t tensor) {
    return r->program->store->tensors[tensor].pieces[0].units;
}

static uint32_t stride(const spi_vk_recorder *r, uint32_t buffer) {
    return spi_vk_stride(r->program->tape->buffers[buffer].width);
}

/* The fast kernels have all types but MLX's. */
static bool is_covered(const spi_vk_recorder *r, const spi_vk_packing *packing) {
    return spi_vk_is_fast(r->vk) && packing->tile_rows == SPI_VK_TILE_ROWS && packing->type < SPI_VK_AFFINE2;
}

/* A kernel of a family for a weight's type. */
static spi_vk_shader typed(spi_vk_shader family, const spi_vk_tensor *tensor) {
    return (spi_vk_shader)((int)family + (int)tensor->packing.type);
}

static sp_status record_plain(const spi_vk_recorder *r, const spi_op *op, const spi_vk_piece *piece, const target *t) {
    const spi_vk_tensor *tensor = &r->program->store->tensors[op->weight];
    spi_vk_binding parameters = spi_vk_bind(&r->program->parameters);
    uint32_t at_once = rows_at_once(t->row_count);
    spi_vk_shader family = at_once == 1   ? SPI_VK_matmul_1_f32
                           : at_once == 4 ? SPI_VK_matmul_4_f32
                                          : SPI_VK_matmul_8_f32;
    spi_vk_dispatch dispatch = {.shader = typed(family, tensor),
                                .groups_x = ceil_div(piece->row_count, SPI_VK_TILE_ROWS),
                                .groups_y = ceil_div(t->row_count, at_once),
                                .push = {piece->row_first, piece->row_count, tensor->packing.steps,
                                         tensor->packing.tile_rows, stride(r, op->src) / 4, t->stride, t->row_first,
                                         t->row_first + t->row_count, t->flags, r->program->outs_word,
                                         spi_vk_float_word(op->scale), spi_vk_float_word(op->softcap),
                                         tensor->packing.step_words, tensor->packing.affine},
                                .bindings = {[1] = parameters,
                                             [2] = piece->units,
                                             [3] = piece->scales,
                                             [4] = spi_vk_bind(&r->program->buffers[op->src]),
                                             [5] = op->bias == SPI_NONE ? parameters : vector(r, op->bias),
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
                             const target *t) {
    const spi_op *op = ops->op;
    const spi_vk_tensor *tensor = &r->program->store->tensors[op->weight];
    const spi_vk_piece *piece = &tensor->pieces[piece_index];
    spi_vk_binding parameters = spi_vk_bind(&r->program->parameters);
    uint32_t src = ops->norm ? ops->norm->src : op->src, at_once = rows_at_once(t->row_count);
    bool bytes = takes_bytes(r, tensor, t->row_count);
    uint32_t groups = ceil_div(piece->row_count, GEMV_ROWS);
    uint32_t slices = choose_slices(tensor->packing.units);
    while (bytes && slices > BYTES_SLICES_MIN && groups * slices > BYTES_SLICES) {
        slices /= 2;
    }
    uint32_t work_groups = ceil_div(groups, 32 / slices);
    spi_vk_shader family = bytes          ? (ops->second ? SPI_VK_gemvq_gated_f32 : SPI_VK_gemvq_f32)
                           : ops->second  ? SPI_VK_gemv_gated_f32
                           : at_once == 1 ? SPI_VK_gemv_1_f32
                           : at_once == 4 ? SPI_VK_gemv_4_f32
                                          : SPI_VK_gemv_8_f32;
    spi_vk_dispatch dispatch = {
        .shader = typed(family, tensor),
        .variant = {.slices = slices, .norm = ops->norm != NULL},
        .groups_x = bytes ? (work_groups < BYTES_GROUPS_MAX ? work_groups : BYTES_GROUPS_MAX) : groups,
        .groups_y = ceil_div(t->row_count, at_once),
        .push = {piece->row_first, piece->row_count, tensor->packing.units, r->program->tape->buffers[src].width,
                 stride(r, src) / 4, t->stride, t->row_first, t->row_first + t->row_count, t->flags,
                 r->program->outs_word, spi_vk_float_word(op->scale), spi_vk_float_word(op->softcap),
                 spi_vk_float_word(ops->norm ? ops->norm->eps : 0)},
        .bindings = {[1] = parameters,
                     [2] = piece->units,
                     [3] = piece->scales.range ? piece->scales : piece->units,
                     [4] = spi_vk_bind(&r->program->buffers[src]),
                     [5] = op->bias == SPI_NONE ? parameters : vector(r, op->bias),
                     [6] = t->to,
                     [7] = ops->norm ? vector(r, ops->norm->weight) : parameters}};
    if (ops->second) {
        const spi_vk_piece *other = &r->program->store->tensors[ops->second->weight].pieces[piece_index];
        dispatch.bindings[8] = other->units;
        dispatch.bindings[9] = other->scales.range ? other->scales : other->units;
    }
    return spi_vk_dispatch_record(r, &dispatch);
}

/* All pieces of a weight. */
static sp_status record_pieces(const spi_vk_recorder *r, const spi_vk_product_ops *ops, const target *t) {
    const spi_vk_tensor *tensor = &r->program->store->tensors[ops->op->weight];
    bool fast = is_covered(r, &tensor->packing);
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < tensor->piece_count && !status; i++) {
        status = fast ? record_gemv(r, ops, i, t) : record_plain(r, ops->op, &tensor->pieces[i], t);
    }
    return status;
}

/* Dispatches for each target of an op: its buffer, or logits rows. */
typedef sp_status (*target_record)(const spi_vk_recorder *r, const spi_vk_product_ops *ops, const target *t);

static sp_status record_targets(const spi_vk_recorder *r, const spi_vk_product_ops *ops, target_record each) {
    const spi_op *op = ops->op;
    uint32_t flags = (op->accumulate ? PRODUCT_ACCUMULATE : 0) | (op->bias == SPI_NONE ? 0 : PRODUCT_BIAS);
    if (op->kind == SPI_OP_MATMUL) {
        uint32_t dst = ops->gate ? ops->gate->dst : op->dst;
        flags |= ops->gate && ops->gate->act == SPI_ACT_GELU_TANH ? PRODUCT_GELU : 0;
        target t = {spi_vk_bind(&r->program->buffers[dst]), stride(r, dst), 0, r->rows, flags};
        return each(r, ops, &t);
    }
    sp_status status = SP_OK;
    for (size_t i = 0; i < r->plan->out_span_count && !status; i++) {
        const spi_vk_span *span = &r->plan->outs[i];
        target t = {span->binding, 0, span->first, span->count, flags | PRODUCT_HEAD};
        status = each(r, ops, &t);
    }
    return status;
}

sp_status spi_vk_products_record(spi_vk_recorder *r, const spi_vk_product_ops *ops) {
    return record_targets(r, ops, record_pieces);
}

bool spi_vk_takes_halves(const spi_vk_recorder *r, const spi_op *product) {
    const spi_vk_packing *packing = &r->program->store->tensors[product->weight].packing;
    return is_covered(r, packing) && r->rows >= r->vk->limits.matrix_rows_min && packing->type != SPI_VK_F32;
}

sp_status spi_vk_halves_record(spi_vk_recorder *r, uint32_t src, const spi_op *by) {
    const spi_program *program = r->program;
    bool norm = by && by->kind == SPI_OP_NORM, gate = by && !norm;
    uint32_t mode = norm ? 1 : !gate ? 0 : by->act == SPI_ACT_GELU_TANH ? 3 : 2;
    spi_vk_binding x = spi_vk_bind(&program->buffers[src]);
    spi_vk_order(r, (spi_vk_access){spi_vk_bit(src) | (gate ? spi_vk_bit(by->src1) : 0), SPI_VK_HALVES_BIT});
    spi_vk_dispatch dispatch = {.shader = SPI_VK_halves,
                                .groups_x = r->rows,
                                .groups_y = 1,
                                .push = {stride(r, src) / 4, program->tape->buffers[src].width, stride(r, src) / 4,
                                         mode, spi_vk_float_word(norm ? by->eps : 0)},
                                .bindings = {[4] = x,
                                             [5] = norm   ? vector(r, by->weight)
                                                   : gate ? spi_vk_bind(&program->buffers[by->src1])
                                                          : x,
                                             [6] = spi_vk_bind(&program->halves),
                                             [7] = spi_vk_bind(&program->factors)}};
    return spi_vk_dispatch_record(r, &dispatch);
}

static sp_status record_matrix(const spi_vk_recorder *r, const spi_vk_product_ops *ops, const target *t) {
    const spi_program *program = r->program;
    const spi_op *op = ops->op;
    const spi_vk_tensor *tensor = &program->store->tensors[op->weight];
    spi_vk_binding parameters = spi_vk_bind(&program->parameters);
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < tensor->piece_count && !status; i++) {
        const spi_vk_piece *piece = &tensor->pieces[i];
        uint64_t large = (uint64_t)ceil_div(piece->row_count, 128) * ceil_div(t->row_count, 128);
        bool cooperative = r->vk->limits.cooperative;
        uint32_t tile = cooperative && large >= MATRIX_GROUPS ? 128 : 64;
        spi_vk_dispatch dispatch = {.shader = typed(tile == 128   ? SPI_VK_matrix_c128_f32
                                                    : cooperative ? SPI_VK_matrix_c64_f32
                                                                  : SPI_VK_matrix_64_f32,
                                                    tensor),
                                    .groups_x = ceil_div(piece->row_count, tile),
                                    .groups_y = ceil_div(t->row_count, tile),
                                    .push = {piece->row_first, piece->row_count, tensor->packing.units,
                                             stride(r, op->src) / 8, t->stride, t->row_first,
                                             t->row_first + t->row_count, t->flags, program->outs_word,
                                             spi_vk_float_word(op->scale), spi_vk_float_word(op->softcap)},
                                    .bindings = {[1] = parameters,
                                                 [2] = piece->units,
                                                 [3] = piece->scales.range ? piece->scales : piece->units,
                                                 [4] = spi_vk_bind(&program->halves),
                                                 [5] = op->bias == SPI_NONE ? parameters : vector(r, op->bias),
                                                 [6] = t->to,
                                                 [7] = spi_vk_bind(&program->factors)}};
        status = spi_vk_dispatch_record(r, &dispatch);
    }
    return status;
}

sp_status spi_vk_matrix_record(spi_vk_recorder *r, const spi_op *product, uint32_t src) {
    spi_vk_access access = spi_vk_op_access(product);
    access.reads = (access.reads & ~spi_vk_bit(src)) | SPI_VK_HALVES_BIT;
    access.reads |= product->accumulate ? spi_vk_bit(product->dst) : 0;
    spi_vk_order(r, access);
    return record_targets(r, &(spi_vk_product_ops){.op = product}, record_matrix);
}
