/* device/vulkan/products.h - what products of few rows (products.c) and of many (matrices.c) share.
 *
 * May include: device/vulkan/vulkan.h.
 */
#ifndef SPI_DEVICE_VULKAN_PRODUCTS_H
#define SPI_DEVICE_VULKAN_PRODUCTS_H

#include "device/vulkan/vulkan.h"

/* Where a product's rows go. */
typedef struct spi_vk_target {
    spi_vk_binding to;
    uint32_t stride, row_first, row_count, flags;
} spi_vk_target;

/* Dispatches for one target of an op: its buffer, or logits rows. */
typedef sp_status (*spi_vk_target_record)(const spi_vk_recorder *r, const spi_vk_product_ops *ops,
                                          const spi_vk_target *target, const void *of);
sp_status spi_vk_targets_record(const spi_vk_recorder *r, const spi_vk_product_ops *ops, spi_vk_target_record each,
                                const void *of);

/* Rows of a weight, and where they are expanded to. */
typedef struct spi_vk_part {
    const spi_op *op;
    const spi_vk_piece *piece;
    uint32_t row_first, row_count; /* in the piece */
    uint32_t to;                   /* in eights */
    bool lies;                     /* it is not expanded */
} spi_vk_part;

/* A part has whole tiles of the widest kernel; what stands behind its last row is never stored. */
#define SPI_VK_PART_ROWS 256u

/* matrices.c: the dispatches before those of the products. side_by_side: rows, as few.comp wants them; 0: one behind
 * the other. gated: the first of the gate's two products, or SPI_NONE. */
sp_status spi_vk_expansion_record(spi_vk_recorder *r, const spi_vk_part *part);
sp_status spi_vk_halves_record(spi_vk_recorder *r, const spi_vk_x *x, uint32_t side_by_side, uint32_t gated);

#define SPI_VK_HALVES_SHORT 2048u /* columns that the smaller kernels of it keep in registers */

/* Of a product's tiles, by size; matrix.comp's c64, c128 and c256, without cooperative matrices the first alone. */
typedef enum spi_vk_tile { SPI_VK_TILE_64, SPI_VK_TILE_128, SPI_VK_TILE_256, SPI_VK_TILES } spi_vk_tile;
static inline uint32_t spi_vk_tile_weights(spi_vk_tile tile) { /* rows of the weight */
    return 64u << tile;
}
static inline uint32_t spi_vk_tile_rows_of(spi_vk_tile tile) { /* rows of x */
    return tile == SPI_VK_TILE_64 ? 64 : 128;
}
static inline uint64_t spi_vk_tile_count(spi_vk_tile tile, uint32_t weight_rows, uint32_t rows) {
    uint64_t across = weight_rows / spi_vk_tile_weights(tile) + (weight_rows % spi_vk_tile_weights(tile) != 0);
    return across * (rows / spi_vk_tile_rows_of(tile) + (rows % spi_vk_tile_rows_of(tile) != 0));
}
/* For a product; beside: tiles of 128 of all that run side by side with it, and its own. */
spi_vk_tile spi_vk_choose_tile(const spi_vk *vk, uint32_t weight_rows, uint32_t rows, uint64_t beside);

/* shares.c: among how many groups each tile of some products is shared, as many as a large device has room for if each
 * has steps enough; the tile that is; eights of a share of a row of x; where sums of a part's shares begin, in floats;
 * and adding them up. */
#define SPI_VK_GROUPS_AT_ONCE 128u /* of large tiles, on a large device */
uint32_t spi_vk_choose_shares(const spi_vk_recorder *r, const spi_vk_part *parts, uint32_t count);
spi_vk_tile spi_vk_shared_tile(const spi_vk *vk);
uint32_t spi_vk_share_eights(uint32_t stride, uint32_t shares);
uint32_t spi_vk_shares_first(const spi_vk_recorder *r, const spi_vk_part *parts, uint32_t index, uint32_t shares);
sp_status spi_vk_sums_record(spi_vk_recorder *r, const spi_vk_part *parts, uint32_t count, uint32_t shares,
                             bool is_gated);

static inline bool spi_vk_lies(const spi_vk_packing *packing) { /* as products of many rows want it */
    return packing->type == SPI_VK_F16 || packing->type == SPI_VK_BF16;
}

/* Which of a matrix kernel's two variants reads a part: of f16 or of bf16; and eights of its rows. */
static inline bool spi_vk_is_bf16(const spi_vk_part *part, const spi_vk_packing *packing) {
    return part->lies && packing->type == SPI_VK_BF16;
}
static inline uint32_t spi_vk_part_units(const spi_vk_part *part, const spi_vk_packing *packing, uint32_t stride) {
    return part->lies ? packing->units : stride;
}

/* The fast kernels have all types but MLX's. */
bool spi_vk_is_covered(const spi_vk_recorder *r, const spi_vk_packing *packing);

/* Bytes: quantised types. */
static inline bool spi_vk_takes_bytes(const spi_vk *vk, const spi_vk_packing *packing) {
    return vk->limits.bytes && spi_vk_formats[packing->type].read;
}

/* A kernel of a family for a weight's type. */
static inline spi_vk_shader spi_vk_typed(spi_vk_shader family, const spi_vk_tensor *tensor) {
    return (spi_vk_shader)((int)family + (int)tensor->packing.type);
}

static inline spi_vk_binding spi_vk_vector(const spi_vk_recorder *r, uint32_t tensor) {
    return r->program->store->tensors[tensor].pieces[0].units;
}

static inline uint32_t spi_vk_buffer_stride(const spi_vk_recorder *r, uint32_t buffer) {
    return spi_shader_stride(r->program->tape->buffers[buffer].width);
}

static inline uint32_t spi_vk_ceil_div(uint32_t count, uint32_t size) {
    return count / size + (count % size != 0);
}

#endif
