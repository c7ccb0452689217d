/* device/vulkan/shares.c - products with so few tiles that several groups share each: every group has some of the
 * columns, and their sums are added up when all are done, always in the same order: by a kernel of their own, or by the
 * norm behind the product on its way to f16.
 *
 * May include: device/vulkan/products.h.
 */
#include "device/vulkan/products.h"

#define SUMS_OUTPUTS 512u /* of a group of sums */
#define STEP_EIGHTS  8u   /* of a tile's columns, that it takes at once */
#define SHARES_MAX   8u

spi_vk_tile spi_vk_shared_tile(const spi_vk *vk) {
    return vk->limits.cooperative ? SPI_VK_TILE_128 : SPI_VK_TILE_64;
}

static uint64_t tile_floats(const spi_vk *vk) {
    spi_vk_tile tile = spi_vk_shared_tile(vk);
    return (uint64_t)spi_vk_tile_weights(tile) * spi_vk_tile_rows_of(tile);
}

/* That leave sums side by side: as many as a large device has room for, if they can lie in one buffer. */
static uint64_t groups_at_once(const spi_vk *vk) {
    uint64_t tile_bytes = tile_floats(vk) * sizeof(float), most = vk->limits.allocation_bytes_max;
    most = most < vk->limits.range_bytes_max ? most : vk->limits.range_bytes_max;
    return most / tile_bytes < SPI_VK_GROUPS_AT_ONCE ? most / tile_bytes : SPI_VK_GROUPS_AT_ONCE;
}

uint64_t spi_vk_shares_bytes(const spi_vk *vk) {
    return groups_at_once(vk) * tile_floats(vk) * sizeof(float);
}

uint32_t spi_vk_share_eights(uint32_t stride, uint32_t shares) {
    return spi_vk_ceil_div(stride, shares * STEP_EIGHTS) * STEP_EIGHTS;
}

static uint64_t count_tiles(const spi_vk_recorder *r, const spi_vk_part *parts, uint32_t count) {
    uint64_t tiles = 0;
    for (uint32_t i = 0; i < count; i++) {
        tiles += spi_vk_tile_count(spi_vk_shared_tile(r->vk), parts[i].row_count, r->rows);
    }
    return tiles;
}

uint32_t spi_vk_choose_shares(const spi_vk_recorder *r, const spi_vk_part *parts, uint32_t count) {
    uint64_t tiles = count_tiles(r, parts, count), groups = groups_at_once(r->vk);
    uint32_t steps = spi_vk_ceil_div(spi_vk_buffer_stride(r, parts[0].op->src), 8 * STEP_EIGHTS);
    uint32_t shares = steps / r->vk->limits.share_steps_min;
    for (uint32_t i = 0; i < count; i++) {
        shares = parts[i].op->kind == SPI_OP_MATMUL ? shares : 1; /* a head's sums are capped when they are whole */
    }
    shares = shares < SHARES_MAX ? shares : SHARES_MAX;
    shares = tiles * shares > groups ? (uint32_t)(groups / tiles) : shares;
    return shares > 1 ? spi_vk_ceil_div(steps, spi_vk_ceil_div(steps, shares)) : 1; /* none is empty */
}

uint32_t spi_vk_shares_first(const spi_vk_recorder *r, const spi_vk_part *parts, uint32_t index, uint32_t shares) {
    return (uint32_t)(count_tiles(r, parts, index) * shares * tile_floats(r->vk));
}

/* The norm behind a product adds its sums up if it makes f16 of what they are added to. */
static bool is_left_to_norm(const spi_vk_recorder *r, const spi_vk_part *part) {
    const spi_tape *tape = r->program->tape;
    const spi_op *op = part->op, *next = op + 1;
    const spi_tensor *weight = &r->program->store->sources[op->weight];
    uint32_t width = tape->buffers[op->dst].width, index = (uint32_t)(next - tape->ops);
    return op->accumulate && op->bias == SPI_NONE && part->row_count == weight->rows && width == weight->rows &&
           width % 4 == 0 && spi_shader_stride(width) <= SPI_VK_HALVES_SHORT && spi_vk_norm_makes_halves(r, index) &&
           next->src == op->dst;
}

/* Of one part. */
typedef struct sums_of {
    const spi_vk_part *part;
    uint32_t shares, shares_first, factors_first;
} sums_of;

static sp_status record_sums(const spi_vk_recorder *r, const spi_vk_product_ops *ops, const spi_vk_target *t,
                             const void *of) {
    const sums_of *what = of;
    const spi_vk_part *part = what->part;
    spi_vk_tile tile = spi_vk_shared_tile(r->vk);
    uint32_t weights = spi_vk_tile_weights(tile), rows = spi_vk_tile_rows_of(tile);
    spi_vk_dispatch dispatch = {.shader = SPI_VK_sums,
                                .groups_x = spi_vk_ceil_div(part->row_count, SUMS_OUTPUTS),
                                .groups_y = t->row_count,
                                .push = {part->piece->row_first + part->row_first, part->row_count, t->stride,
                                         t->row_first, what->factors_first, t->flags, what->shares_first,
                                         spi_vk_ceil_div(part->row_count, weights) * weights,
                                         spi_vk_ceil_div(t->row_count, rows) * rows, what->shares},
                                .bindings = {[4] = spi_vk_bind(&r->program->parts),
                                             [5] = ops->op->bias == SPI_NONE ? spi_vk_bind(&r->program->parameters)
                                                                             : spi_vk_vector(r, ops->op->bias),
                                             [6] = t->to,
                                             [7] = spi_vk_bind(&r->program->factors)}};
    return spi_vk_dispatch_record(r, &dispatch);
}

sp_status spi_vk_sums_record(spi_vk_recorder *r, const spi_vk_part *parts, uint32_t count, uint32_t shares,
                             bool is_gated) {
    spi_vk_tile tile = spi_vk_shared_tile(r->vk);
    uint32_t factors_first = is_gated ? r->program->tape->rows_max : 0;
    sp_status status = SP_OK;
    if (count == 1 && is_left_to_norm(r, &parts[0])) {
        uint32_t weights = spi_vk_tile_weights(tile), rows = spi_vk_tile_rows_of(tile);
        r->shared =
            (spi_vk_shared){parts[0].op, shares, factors_first, spi_vk_ceil_div(parts[0].row_count, weights) * weights,
                            spi_vk_ceil_div(r->rows, rows) * rows};
        return SP_OK;
    }
    for (uint32_t i = 0; i < count && !status; i++) {
        const spi_op *op = parts[i].op;
        if (!i || op != parts[i - 1].op) { /* parts of one product have different columns */
            spi_vk_order(r, (spi_vk_access){SPI_VK_PARTS_BIT | spi_vk_bit(op->dst), spi_vk_bit(op->dst)});
        }
        sums_of what = {&parts[i], shares, spi_vk_shares_first(r, parts, i, shares), factors_first};
        status = spi_vk_targets_record(r, &(spi_vk_product_ops){.op = op}, record_sums, &what);
    }
    return status;
}
