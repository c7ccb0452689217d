/* device/vulkan/matrices.c - products of many rows: x as f16 with a factor for each row, the weight as f16, and tiles
 * of their product.
 *
 * F16 and BF16 are read where they lie. Other weights are expanded, row after row, in parts, which alternate between
 * two buffers: expanding one waits for nothing but the product that read its buffer before, so it fills what the
 * kernels in between leave of the device.
 *
 * May include: device/vulkan/products.h.
 */
#include "device/vulkan/products.h"

#define PARTS_MAX        8u
#define EXPANDED_COLUMNS 256u /* of a group of expand */
#define MATRIX_GROUPS    96u  /* large tiles only where there are at least so many of them */
#define TALL_PERCENT     170u /* of the time of a tile of 128 x 128, that one of 256 x 128 takes */

typedef struct parts {
    spi_vk_recorder *recorder;
    const spi_vk_x *x;
    bool has_halves;
    bool expands;  /* some part does */
    uint64_t used; /* bytes of the buffer */
    uint32_t count;
    spi_vk_part items[PARTS_MAX];
} parts;

static uint64_t row_bytes(uint32_t columns) {
    return (uint64_t)spi_shader_stride(columns) * sizeof(uint16_t);
}

uint64_t spi_vk_expanded_bytes(const spi_vk *vk, uint32_t rows, uint32_t columns, uint32_t weights) {
    uint64_t least = weights * SPI_VK_PART_ROWS * row_bytes(columns);
    uint64_t all = spi_vk_ceil_div(rows, SPI_VK_PART_ROWS) * least, most = vk->limits.expanded_bytes_max;
    most = most > least ? most : least;
    return all < most ? all : most;
}

/* So few rows that the weight is read as it lies: see few.comp. */
bool spi_vk_takes_few(const spi_vk *vk, uint32_t rows) {
    return vk->limits.cooperative && rows >= vk->limits.few_rows_min && rows <= vk->limits.few_rows_max;
}

bool spi_vk_takes_halves(const spi_vk_recorder *r, const spi_op *product) {
    const spi_vk_packing *packing = &r->program->store->tensors[product->weight].packing;
    /* As many as are taken at once are done sooner so, if they are bytes. */
    bool at_once = r->rows <= SPI_VK_BATCH_MAX && spi_vk_takes_bytes(r->vk, packing);
    bool enough = r->rows >= r->vk->limits.matrix_rows_min || (spi_vk_takes_few(r->vk, r->rows) && !at_once);
    return spi_vk_is_covered(r, packing) && enough && packing->type != SPI_VK_F32;
}

sp_status spi_vk_halves_record(spi_vk_recorder *r, const spi_vk_x *of, uint32_t side_by_side, uint32_t gated) {
    const spi_program *program = r->program;
    const spi_op *by = of->by;
    bool norm = by && by->kind == SPI_OP_NORM, gate = by && !norm;
    uint32_t mode = norm ? 1 : !gate ? 0 : by->act == SPI_ACT_GELU_TANH ? 3 : 2, src = of->src;
    uint32_t stride = spi_vk_buffer_stride(r, src) / 4;
    spi_vk_binding x = spi_vk_bind(&program->buffers[src]);
    spi_vk_shared shared = r->shared; /* its sums are added to x on the way */
    uint64_t adds = shared.op ? SPI_VK_PARTS_BIT : 0, added = shared.op ? spi_vk_bit(src) : 0;
    r->shared = (spi_vk_shared){0};
    spi_vk_order(
        r, (spi_vk_access){spi_vk_bit(src) | (gate ? spi_vk_bit(by->src1) : 0) | adds, SPI_VK_HALVES_BIT | added});
    spi_vk_dispatch dispatch = {
        .shader = shared.op                           ? SPI_VK_halves_sums
                  : 4 * stride <= SPI_VK_HALVES_SHORT ? SPI_VK_halves_short
                                                      : SPI_VK_halves,
        .groups_x = r->rows,
        .groups_y = 1,
        .push = {stride, program->tape->buffers[src].width, stride, mode, spi_vk_float_word(norm ? by->eps : 0),
                 side_by_side, gated == SPI_NONE ? 0 : program->tape->rows_max, gated == SPI_NONE ? 0 : gated,
                 spi_vk_panel_rows(program), shared.factors_first, shared.stride, shared.rows, shared.shares},
        .bindings = {[2] = gated == SPI_NONE ? x : spi_vk_bind(&program->tops),
                     [3] = shared.op ? spi_vk_bind(&program->parts) : x,
                     [4] = x,
                     [5] = norm   ? spi_vk_vector(r, by->weight)
                           : gate ? spi_vk_bind(&program->buffers[by->src1])
                                  : x,
                     [6] = spi_vk_bind(&program->halves),
                     [7] = spi_vk_bind(&program->factors)}};
    return spi_vk_dispatch_record(r, &dispatch);
}

sp_status spi_vk_expansion_record(spi_vk_recorder *r, const spi_vk_part *item) {
    const spi_vk_tensor *tensor = &r->program->store->tensors[item->op->weight];
    uint32_t stride = spi_shader_stride(r->program->store->sources[item->op->weight].cols);
    spi_vk_order(r, (spi_vk_access){0, SPI_VK_EXPANDED_BIT << r->expanded});
    spi_vk_dispatch dispatch = {
        .shader = spi_vk_typed(SPI_VK_expand_f32, tensor),
        .groups_x = spi_vk_ceil_div(stride, EXPANDED_COLUMNS),
        .groups_y = spi_vk_ceil_div(item->row_count, SPI_VK_TILE_ROWS),
        .push = {tensor->packing.units, item->row_first / SPI_VK_TILE_ROWS, item->to, stride / 8},
        .bindings = {[2] = item->piece->units,
                     [3] = item->piece->scales.range ? item->piece->scales : item->piece->units,
                     [6] = spi_vk_bind(&r->program->expanded[r->expanded])}};
    return spi_vk_dispatch_record(r, &dispatch);
}

/* The taller tile reads less for each product, but a device that is left with a few of them waits longer for those. */
spi_vk_tile spi_vk_choose_tile(const spi_vk *vk, uint32_t weight_rows, uint32_t rows, uint64_t beside) {
    uint64_t low = spi_vk_tile_count(SPI_VK_TILE_128, weight_rows, rows);
    uint64_t tall = spi_vk_tile_count(SPI_VK_TILE_256, weight_rows, rows);
    if (!vk->limits.cooperative || beside < MATRIX_GROUPS) {
        return SPI_VK_TILE_64;
    }
    low = (low + SPI_VK_GROUPS_AT_ONCE - 1) / SPI_VK_GROUPS_AT_ONCE * 100;
    tall = (tall + SPI_VK_GROUPS_AT_ONCE - 1) / SPI_VK_GROUPS_AT_ONCE * TALL_PERCENT;
    return tall < low ? SPI_VK_TILE_256 : SPI_VK_TILE_128;
}

static spi_vk_shader choose_kernel(const spi_vk *vk, spi_vk_tile tile, bool bf16) {
    static const spi_vk_shader shaders[1 + SPI_VK_TILES][2] = {{SPI_VK_matrix_64, SPI_VK_matrix_64_bf16},
                                                               {SPI_VK_matrix_c64, SPI_VK_matrix_c64_bf16},
                                                               {SPI_VK_matrix_c128, SPI_VK_matrix_c128_bf16},
                                                               {SPI_VK_matrix_c256, SPI_VK_matrix_c256_bf16}};
    return shaders[!vk->limits.cooperative ? 0 : 1 + tile][bf16];
}

/* What a target's dispatch is told of: the part, where x is, and among how many groups its columns are shared. */
typedef struct matrix_of {
    const spi_vk_part *part;
    bool is_gated;
    spi_vk_tile tile;
    uint32_t shares, shares_first; /* in floats of what they leave */
} matrix_of;

static sp_status record_matrix(const spi_vk_recorder *r, const spi_vk_product_ops *ops, const spi_vk_target *t,
                               const void *of) {
    const spi_program *program = r->program;
    const matrix_of *what = of;
    const spi_vk_part *item = what->part;
    spi_vk_binding parameters = spi_vk_bind(&program->parameters);
    const spi_vk_packing *packing = &program->store->tensors[ops->op->weight].packing;
    uint32_t stride = spi_vk_buffer_stride(r, ops->op->src) / 8;
    spi_vk_dispatch dispatch = {
        .shader = choose_kernel(r->vk, what->tile, spi_vk_is_bf16(item, packing)),
        .groups_x = spi_vk_ceil_div(item->row_count, spi_vk_tile_weights(what->tile)),
        .groups_y = spi_vk_ceil_div(t->row_count, spi_vk_tile_rows_of(what->tile)),
        .groups_z = what->shares,
        .push = {item->piece->row_first + item->row_first,
                 item->row_count,
                 item->to,
                 stride,
                 t->stride,
                 t->row_first,
                 t->row_first + t->row_count,
                 t->flags,
                 program->outs_word,
                 spi_vk_float_word(ops->op->scale),
                 spi_vk_float_word(ops->op->softcap),
                 spi_vk_part_units(item, packing, stride),
                 0,
                 0,
                 what->is_gated ? program->tape->rows_max : 0,
                 0,
                 0,
                 what->shares_first,
                 spi_vk_panel_rows(program),
                 spi_vk_share_eights(stride, what->shares)},
        .bindings = {[1] = parameters,
                     [2] = item->lies ? item->piece->units : spi_vk_bind(&program->expanded[r->expanded]),
                     [4] = spi_vk_bind(what->is_gated ? &program->gated : &program->halves),
                     [5] = ops->op->bias == SPI_NONE ? parameters : spi_vk_vector(r, ops->op->bias),
                     [6] = t->to,
                     [7] = spi_vk_bind(&program->factors),
                     [8] = spi_vk_bind(&program->parts)}};
    return spi_vk_dispatch_record(r, &dispatch);
}

/* The products of all parts in the buffer, which then is the other one's turn. */
static sp_status flush(parts *all) {
    spi_vk_recorder *r = all->recorder;
    sp_status status = SP_OK;
    uint64_t beside = 0;
    uint32_t shares = all->count ? spi_vk_choose_shares(r, all->items, all->count) : 1;
    for (uint32_t i = 0; i < all->count; i++) {
        beside += spi_vk_tile_count(SPI_VK_TILE_128, all->items[i].row_count, r->rows);
    }
    for (uint32_t i = 0; i < all->count && !status; i++) {
        status = all->items[i].lies ? SP_OK : spi_vk_expansion_record(r, &all->items[i]);
    }
    if (!status && !all->has_halves) {
        all->has_halves = true;
        status = spi_vk_halves_record(r, all->x, 0, SPI_NONE);
    }
    for (uint32_t i = 0; i < all->count && !status; i++) {
        const spi_op *op = all->items[i].op;
        spi_vk_access access = spi_vk_op_access(op);
        access.reads &= ~spi_vk_bit(op->src);
        access.reads |= all->x->is_gated ? SPI_VK_GATED_BIT : SPI_VK_HALVES_BIT;
        access.reads |= all->items[i].lies ? 0 : SPI_VK_EXPANDED_BIT << r->expanded;
        access.reads |= op->accumulate ? spi_vk_bit(op->dst) : 0;
        access.writes |= !i && shares > 1 ? SPI_VK_PARTS_BIT : 0; /* each has a place of its own */
        /* Parts of one product write different columns. */
        if (!i || op != all->items[i - 1].op) {
            spi_vk_order(r, access);
        }
        spi_vk_tile tile = shares > 1 ? spi_vk_shared_tile(r->vk)
                                      : spi_vk_choose_tile(r->vk, all->items[i].row_count, r->rows, beside);
        matrix_of what = {&all->items[i], all->x->is_gated, tile, shares,
                          shares > 1 ? spi_vk_shares_first(r, all->items, i, shares) : 0};
        status = spi_vk_targets_record(r, &(spi_vk_product_ops){.op = op}, record_matrix, &what);
    }
    status = !status && shares > 1 ? spi_vk_sums_record(r, all->items, all->count, shares, all->x->is_gated) : status;
    r->expanded ^= all->expands;
    all->expands = false;
    all->count = 0;
    all->used = 0;
    return status;
}

/* Of a product of so many rows, in matrices of 16. */
static uint32_t few_tiles(uint32_t rows) {
    return rows <= 16 ? 1 : rows <= 32 ? 2 : 4;
}

static uint32_t rows_side_by_side(uint32_t rows) {
    uint32_t tile = 16 * few_tiles(rows);
    return spi_vk_ceil_div(rows, tile) * tile;
}

/* All pieces of a weight. */
static sp_status record_few(const spi_vk_recorder *r, const spi_vk_product_ops *ops, const spi_vk_target *t,
                            const void *of) {
    (void)of;
    const spi_program *program = r->program;
    const spi_vk_tensor *tensor = &program->store->tensors[ops->op->weight];
    uint32_t elements = 128 / spi_vk_formats[tensor->packing.type].low, step = elements < 32 ? 32 / elements : 1;
    uint32_t tiles = few_tiles(t->row_count), stride = spi_vk_buffer_stride(r, ops->op->src);
    spi_vk_shader family = tiles == 1 ? SPI_VK_few_16_f32 : tiles == 2 ? SPI_VK_few_32_f32 : SPI_VK_few_64_f32;
    spi_vk_binding parameters = spi_vk_bind(&program->parameters);
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < tensor->piece_count && !status; i++) {
        const spi_vk_piece *piece = &tensor->pieces[i];
        uint32_t invocations = tiles < 4 && elements <= 32 && spi_vk_group_max(r->vk) >= 512 ? 512 : 256;
        uint32_t units = tensor->packing.units, subgroups = invocations / 32;
        spi_vk_dispatch dispatch = {
            .shader = spi_vk_typed(family, tensor),
            .variant = {.invocations = invocations},
            .groups_x = spi_vk_ceil_div(piece->row_count, SPI_VK_TILE_ROWS),
            .groups_y = spi_vk_ceil_div(t->row_count, 16 * tiles),
            .push = {piece->row_first, piece->row_count, 0, stride / 8, t->stride, t->row_first,
                     t->row_first + t->row_count, t->flags, program->outs_word, spi_vk_float_word(ops->op->scale),
                     spi_vk_float_word(ops->op->softcap), units, spi_vk_ceil_div(units, subgroups * step) * step,
                     rows_side_by_side(r->rows)},
            .bindings = {[1] = parameters,
                         [2] = piece->units,
                         [3] = piece->scales.range ? piece->scales : piece->units,
                         [4] = spi_vk_bind(&program->halves),
                         [5] = ops->op->bias == SPI_NONE ? parameters : spi_vk_vector(r, ops->op->bias),
                         [6] = t->to,
                         [7] = spi_vk_bind(&program->factors)}};
        status = spi_vk_dispatch_record(r, &dispatch);
    }
    return status;
}

static sp_status record_all_few(parts *all, uint32_t begin, uint32_t end) {
    spi_vk_recorder *r = all->recorder;
    sp_status status = spi_vk_halves_record(r, all->x, rows_side_by_side(r->rows), SPI_NONE);
    for (uint32_t i = begin; i < end && !status; i++) {
        const spi_op *op = &r->program->tape->ops[i];
        spi_vk_access access = spi_vk_op_access(op);
        access.reads = (access.reads & ~spi_vk_bit(op->src)) | SPI_VK_HALVES_BIT;
        access.reads |= op->accumulate ? spi_vk_bit(op->dst) : 0;
        spi_vk_order(r, access);
        status = spi_vk_targets_record(r, &(spi_vk_product_ops){.op = op}, record_few, NULL);
    }
    return status;
}

static sp_status add_piece(parts *all, const spi_op *op, const spi_vk_piece *piece) {
    const spi_program *program = all->recorder->program;
    uint64_t bytes = row_bytes(program->store->sources[op->weight].cols);
    sp_status status = SP_OK;
    if (spi_vk_lies(&program->store->tensors[op->weight].packing)) {
        status = all->count == PARTS_MAX ? flush(all) : SP_OK;
        all->items[all->count++] = (spi_vk_part){op, piece, 0, piece->row_count, 0, true};
        return status;
    }
    for (uint32_t row = 0; row < piece->row_count && !status;) {
        uint64_t left = (program->expanded[0].bytes - all->used) / bytes / SPI_VK_PART_ROWS * SPI_VK_PART_ROWS;
        if (!left || all->count == PARTS_MAX) {
            status = flush(all);
            continue;
        }
        uint32_t rows = piece->row_count - row;
        rows = rows < left ? rows : (uint32_t)left;
        all->items[all->count++] = (spi_vk_part){op, piece, row, rows, (uint32_t)(all->used / 16), false};
        all->expands = true;
        all->used += spi_vk_ceil_div(rows, SPI_VK_PART_ROWS) * (SPI_VK_PART_ROWS * bytes);
        row += rows;
    }
    return status;
}

sp_status spi_vk_matrices_record(spi_vk_recorder *r, uint32_t begin, uint32_t end, const spi_vk_x *x) {
    parts all = {.recorder = r, .x = x, .has_halves = x->is_gated || x->is_halves};
    sp_status status = SP_OK;
    if (spi_vk_takes_few(r->vk, r->rows)) {
        return record_all_few(&all, begin, end);
    }
    for (uint32_t i = begin; i < end && !status; i++) {
        const spi_op *op = &r->program->tape->ops[i];
        const spi_vk_tensor *tensor = &r->program->store->tensors[op->weight];
        for (uint32_t k = 0; k < tensor->piece_count && !status; k++) {
            status = add_piece(&all, op, &tensor->pieces[k]);
        }
    }
    return status ? status : flush(&all);
}
