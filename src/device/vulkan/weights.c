/* device/vulkan/weights.c - a model's tensors in the device's own memory.
 *
 * Mappings of files are never imported: one driver refuses them, on another the call does not return. So weights are
 * repacked into slabs of device memory, straight where the host can write there, through a staging window otherwise.
 */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/vulkan/vulkan.h"

#define SLAB_BYTES    ((uint64_t)256 << 20)
#define STAGING_BYTES ((uint64_t)16 << 20)
#define PIECE_ALIGN   256u /* no driver asks for more at a binding's start */

typedef struct loader {
    spi_vk *vk;
    spi_store *store;
    spi_vk_buffer staging;
    uint64_t *slab_bytes; /* while they are being laid out: bindings hold a slab's number + 1 as their buffer */
    size_t slab_count, slab_capacity;
    spi_progress progress;
    void *progress_env;
    uint64_t done_bytes, total_bytes;
    sp_error *error;
} loader;

static uint64_t round_up(uint64_t bytes) {
    return (bytes + PIECE_ALIGN - 1) / PIECE_ALIGN * PIECE_ALIGN;
}

static uint64_t piece_bytes_max(const spi_vk *vk) {
    uint64_t most = vk->limits.window_bytes_max < SLAB_BYTES ? vk->limits.window_bytes_max : SLAB_BYTES;
    return most < vk->limits.allocation_bytes_max ? most : vk->limits.allocation_bytes_max;
}

/* Finds room in the last slab or starts one. */
static bool place(loader *load, uint64_t bytes, uint32_t *slab, uint64_t *offset) {
    uint64_t most =
        load->vk->limits.allocation_bytes_max < SLAB_BYTES ? load->vk->limits.allocation_bytes_max : SLAB_BYTES;
    if (!load->slab_count || load->slab_bytes[load->slab_count - 1] + bytes > most) {
        if (!SPI_RESERVE(load->slab_bytes, load->slab_count, load->slab_capacity)) {
            return false;
        }
        load->slab_bytes[load->slab_count++] = 0;
    }
    *slab = (uint32_t)load->slab_count - 1;
    *offset = load->slab_bytes[*slab];
    load->slab_bytes[*slab] = round_up(*offset + bytes);
    return true;
}

/* The numbers of slabs become buffers once these exist. */
static bool place_piece(loader *load, const spi_vk_packing *packing, uint32_t tiles, spi_vk_piece *piece,
                        uint32_t slabs[2]) {
    piece->units.range = packing->tile_bytes * tiles;
    piece->scales.range = packing->tile_scale_bytes * tiles;
    slabs[1] = 0;
    return place(load, piece->units.range, &slabs[0], &piece->units.offset) &&
           (!piece->scales.range || place(load, piece->scales.range, &slabs[1], &piece->scales.offset));
}

typedef struct placed { /* slabs of a piece's units and scales */
    uint32_t slabs[2];
} placed;

static sp_status lay_out_tensor(loader *load, uint32_t index, placed **places, size_t *place_count,
                                size_t *place_capacity) {
    const spi_tensor *source = &load->store->sources[index];
    spi_vk_tensor *tensor = &load->store->tensors[index];
    if (!spi_vk_packing_of(source, &tensor->packing)) {
        const char *name = sp_dtype_name(source->type);
        return spi_fail(load->error, SP_UNSUPPORTED, "vulkan has no kernels for tensor %s of type %s", source->name,
                        name ? name : "unknown");
    }
    const spi_vk_packing *packing = &tensor->packing;
    uint64_t most = piece_bytes_max(load->vk) / packing->tile_bytes;
    uint32_t tiles = source->rows / packing->tile_rows + (source->rows % packing->tile_rows != 0);
    if (!most) {
        return spi_fail(load->error, SP_UNSUPPORTED,
                        "vulkan: %u columns of tensor %s are more than this device reaches at once (%llu bytes)",
                        source->cols, source->name, (unsigned long long)piece_bytes_max(load->vk));
    }
    most = most < load->vk->limits.piece_tiles_max ? most : load->vk->limits.piece_tiles_max;
    uint32_t step = most < tiles ? (uint32_t)most : tiles;
    tensor->piece_count = tiles / step + (tiles % step != 0);
    tensor->pieces = spi_alloc(tensor->piece_count, sizeof *tensor->pieces);
    for (uint32_t i = 0; tensor->pieces && i < tensor->piece_count; i++) {
        spi_vk_piece *piece = &tensor->pieces[i];
        uint32_t tile = i * step, count = tiles - tile < step ? tiles - tile : step;
        piece->row_first = tile * packing->tile_rows;
        uint32_t rows = source->rows - piece->row_first;
        piece->row_count = rows < count * packing->tile_rows ? rows : count * packing->tile_rows;
        if (!SPI_RESERVE(*places, *place_count, *place_capacity) ||
            !place_piece(load, packing, count, piece, (*places)[*place_count].slabs)) {
            return spi_fail(load->error, SP_NO_MEMORY, "vulkan: no memory to lay out a model");
        }
        (*place_count)++;
        load->total_bytes += piece->units.range + piece->scales.range;
    }
    return tensor->pieces ? SP_OK : spi_fail(load->error, SP_NO_MEMORY, "vulkan: no memory to lay out a model");
}

static sp_status create_slabs(loader *load, const placed *places) {
    spi_store *store = load->store;
    store->slabs = spi_alloc(load->slab_count, sizeof *store->slabs);
    if (!store->slabs) {
        return spi_fail(load->error, SP_NO_MEMORY, "vulkan: no memory to load a model");
    }
    for (size_t i = 0; i < load->slab_count; i++) {
        sp_status status = spi_vk_buffer_create(load->vk, load->slab_bytes[i], SPI_VK_LOCAL, "memory for weights",
                                                &store->slabs[i], load->error);
        if (status) {
            return spi_fail_within(load->error, "loading %llu MiB of weights",
                                   (unsigned long long)(load->total_bytes >> 20));
        }
        store->slab_count++;
    }
    for (uint32_t i = 0; i < store->weights.count; i++) {
        for (uint32_t k = 0; k < store->tensors[i].piece_count; k++, places++) {
            spi_vk_piece *piece = &store->tensors[i].pieces[k];
            piece->units.buffer = store->slabs[places->slabs[0]].handle;
            if (piece->scales.range) {
                piece->scales.buffer = store->slabs[places->slabs[1]].handle;
            }
        }
    }
    return SP_OK;
}

static const spi_vk_buffer *find_slab(const spi_store *store, VkBuffer handle) {
    for (uint32_t i = 0; i < store->slab_count; i++) {
        if (store->slabs[i].handle == handle) {
            return &store->slabs[i];
        }
    }
    return NULL;
}

static sp_status fill_straight(loader *load, uint32_t index, const spi_vk_piece *piece) {
    const spi_vk_packing *packing = &load->store->tensors[index].packing;
    const spi_vk_buffer *units = find_slab(load->store, piece->units.buffer);
    const spi_vk_buffer *scales = piece->scales.range ? find_slab(load->store, piece->scales.buffer) : units;
    uint64_t tiles = piece->units.range / packing->tile_bytes;
    for (uint64_t i = 0; i < tiles; i++) {
        spi_vk_repack(packing, &load->store->sources[index], piece->row_first / packing->tile_rows + (uint32_t)i,
                      (uint8_t *)units->mapped + piece->units.offset + i * packing->tile_bytes,
                      (uint8_t *)scales->mapped + piece->scales.offset + i * packing->tile_scale_bytes);
    }
    return SP_OK;
}

/* As many tiles as the window holds at a time; their units stand before their scales in it. */
static sp_status fill_staged(loader *load, uint32_t index, const spi_vk_piece *piece) {
    const spi_vk_packing *packing = &load->store->tensors[index].packing;
    uint64_t tiles = piece->units.range / packing->tile_bytes;
    uint64_t step = load->staging.bytes / (packing->tile_bytes + packing->tile_scale_bytes);
    sp_status status = SP_OK;
    for (uint64_t i = 0; i < tiles && !status; i += step) {
        uint64_t count = tiles - i < step ? tiles - i : step, scales_at = count * packing->tile_bytes;
        for (uint64_t k = 0; k < count; k++) {
            uint8_t *window = load->staging.mapped;
            spi_vk_repack(packing, &load->store->sources[index],
                          piece->row_first / packing->tile_rows + (uint32_t)(i + k), window + k * packing->tile_bytes,
                          window + scales_at + k * packing->tile_scale_bytes);
        }
        VkBufferCopy units = {0, piece->units.offset + i * packing->tile_bytes, scales_at};
        status = spi_vk_copy(load->vk, load->staging.handle, piece->units.buffer, &units, 1, load->error);
        if (!status && piece->scales.range) {
            VkBufferCopy scales = {scales_at, piece->scales.offset + i * packing->tile_scale_bytes,
                                   count * packing->tile_scale_bytes};
            status = spi_vk_copy(load->vk, load->staging.handle, piece->scales.buffer, &scales, 1, load->error);
        }
    }
    return status;
}

static sp_status fill(loader *load) {
    spi_store *store = load->store;
    bool straight = store->slab_count && store->slabs[0].mapped;
    uint64_t most = load->vk->limits.allocation_bytes_max;
    uint64_t window = most < STAGING_BYTES ? most : STAGING_BYTES;
    for (uint32_t i = 0; i < store->weights.count; i++) {
        const spi_vk_packing *packing = &store->tensors[i].packing;
        uint64_t tile = packing->tile_bytes + packing->tile_scale_bytes;
        window = window < tile ? tile : window;
    }
    sp_status status = straight ? SP_OK
                                : spi_vk_buffer_create(load->vk, window, SPI_VK_STAGING, "a window for weights",
                                                       &load->staging, load->error);
    for (uint32_t i = 0; i < store->weights.count && !status; i++) {
        for (uint32_t k = 0; k < store->tensors[i].piece_count && !status; k++) {
            const spi_vk_piece *piece = &store->tensors[i].pieces[k];
            status = straight ? fill_straight(load, i, piece) : fill_staged(load, i, piece);
            load->done_bytes += piece->units.range + piece->scales.range;
            if (load->progress && !status) {
                load->progress(load->progress_env, load->done_bytes, load->total_bytes);
            }
        }
    }
    spi_vk_buffer_destroy(load->vk, &load->staging);
    return status;
}

static sp_status load_tensors(loader *load) {
    placed *places = NULL;
    size_t place_count = 0, place_capacity = 0;
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < load->store->weights.count && !status; i++) {
        status = lay_out_tensor(load, i, &places, &place_count, &place_capacity);
    }
    status = status ? status : create_slabs(load, places);
    spi_free(places);
    spi_free(load->slab_bytes);
    return status ? status : fill(load);
}

sp_status spi_vk_load(void *context, const spi_weights *weights, spi_progress progress, void *progress_env,
                      spi_store **out, sp_error *error) {
    *out = NULL;
    spi_store *store = spi_alloc(1, sizeof *store);
    if (!store) {
        return spi_fail(error, SP_NO_MEMORY, "vulkan: no memory to load a model");
    }
    store->sources = spi_alloc(weights->count, sizeof *store->sources);
    store->tensors = spi_alloc(weights->count, sizeof *store->tensors);
    sp_status status =
        store->sources && store->tensors ? SP_OK : spi_fail(error, SP_NO_MEMORY, "vulkan: no memory to load a model");
    if (!status) {
        memcpy(store->sources, weights->tensors, weights->count * sizeof *store->sources);
        store->weights = (spi_weights){.tensors = store->sources, .count = weights->count};
        loader load = {
            .vk = context, .store = store, .progress = progress, .progress_env = progress_env, .error = error};
        status = load_tensors(&load);
    }
    if (status) {
        spi_vk_unload(context, store);
        return status;
    }
    *out = store;
    return SP_OK;
}

void spi_vk_unload(void *context, spi_store *store) {
    for (uint32_t i = 0; i < store->slab_count; i++) {
        spi_vk_buffer_destroy(context, &store->slabs[i]);
    }
    for (uint32_t i = 0; i < store->weights.count; i++) {
        spi_free(store->tensors[i].pieces);
    }
    spi_free(store->slabs);
    spi_free(store->tensors);
    spi_free(store->sources);
    spi_free(store);
}
