/* device/metal/weights.c - a model's tensors in place over the mapped file, or copied where that cannot be.
 *
 * Kernels read the file's own blocks, so a mapping of the file is all that is needed, in whole pages of 16 KiB. What
 * lies on a page that is not wholly the file's (a smaller page of another system at an end), and weights that lie in no
 * file, are copied once, byte for byte; in_place_bytes and own_bytes say how much of which.
 */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/metal/metal.h"
#include "os/vm.h"

#define OFFSET_ALIGN 16u /* bindings begin there: more than any element of a kernel's buffers asks for */

typedef struct loader {
    spi_mt *mt;
    spi_store *store;
    uint64_t slab_used; /* of the last slab */
    spi_progress progress;
    void *progress_env;
    uint64_t done_bytes, total_bytes;
    sp_error *error;
} loader;

static sp_status no_memory(const loader *load) {
    return spi_fail(load->error, SP_NO_MEMORY, "metal: no memory to load a model");
}

static uintptr_t round_to(uintptr_t address, uintptr_t page, bool up) {
    return (address + (up ? page - 1 : 0)) / page * page;
}

/* The pages of 16 KiB that belong to the mapping of a run of tensors, of which the system's own pages are mapped
 * whole. */
static sp_status map_run(const loader *load, uintptr_t first, uintptr_t end) {
    spi_store *store = load->store;
    uintptr_t page = spi_vm_page_bytes();
    uintptr_t low = round_to(round_to(first, page, false), SPI_MT_PAGE_BYTES, true);
    uintptr_t high = round_to(round_to(end, page, true), SPI_MT_PAGE_BYTES, false);
    if (low >= high) {
        return SP_OK;
    }
    if (!SPI_RESERVE(store->maps, store->map_count, store->map_capacity)) {
        return no_memory(load);
    }
    sp_error why = {0};
    sp_status status = spi_mt_map_open(load->mt, (void *)low, high - low, &store->maps[store->map_count], &why);
    if (status == SP_NO_MEMORY) {
        *load->error = why;
        return status;
    }
    store->map_count += !status; /* else Metal refuses this mapping: its tensors are copied */
    return SP_OK;
}

/* Bytes of the file that kernels read: a tensor's blocks, and of affine types its scales and biases. */
typedef struct extent {
    uintptr_t from;
    uint64_t bytes;
} extent;

static uint64_t plane_bytes(const spi_tensor *tensor, uint32_t rows) {
    const spi_affine *affine = &tensor->affine;
    return (uint64_t)rows * (tensor->cols / affine->group) * sp_dtype_block_bytes(affine->type);
}

/* Sorted by where they lie: by insertion, since files list tensors nearly in order. */
static size_t list_extents(const spi_store *store, extent *list) {
    size_t count = 0;
    for (uint32_t i = 0; i < store->weights.count; i++) {
        const spi_tensor *tensor = &store->sources[i];
        bool is_affine = spi_affine_bits(tensor->type) != 0;
        const void *starts[] = {tensor->data, tensor->affine.scales, tensor->affine.biases};
        for (int part = 0; part < (is_affine ? 3 : 1); part++) {
            extent one = {(uintptr_t)starts[part], part ? plane_bytes(tensor, tensor->rows) : tensor->bytes};
            size_t k = count++;
            for (; k && list[k - 1].from > one.from; k--) {
                list[k] = list[k - 1];
            }
            list[k] = one;
        }
    }
    return count;
}

/* Extents whose pages touch make a run; a gap between them may be another mapping's. */
static sp_status map_file(const loader *load) {
    extent *list = spi_alloc((size_t)load->store->weights.count * 3, sizeof *list);
    if (!list) {
        return no_memory(load);
    }
    size_t count = list_extents(load->store, list);
    sp_status status = SP_OK;
    uintptr_t first = 0, end = 0, page = spi_vm_page_bytes();
    for (size_t i = 0; i <= count && !status; i++) {
        uintptr_t from = i < count ? list[i].from : UINTPTR_MAX;
        if (i && (i == count || round_to(from, page, false) > round_to(end, page, true))) {
            status = map_run(load, first, end);
            end = 0;
        }
        if (i < count) {
            first = end ? first : from;
            end = from + list[i].bytes > end ? from + list[i].bytes : end;
        }
    }
    spi_free(list);
    return status;
}

static const spi_mt_map *find_map(const spi_store *store, const void *data, uint64_t bytes, uint64_t *offset) {
    for (size_t i = 0; i < store->map_count; i++) {
        const spi_mt_map *map = &store->maps[i];
        uintptr_t from = (uintptr_t)data, base = (uintptr_t)map->base;
        if (from >= base && from - base <= map->bytes && bytes <= map->bytes - (from - base)) {
            *offset = from - base;
            return map;
        }
    }
    return NULL;
}

/* The start is taken back to where a binding may begin: the part knows by how much. */
static void set_binding(spi_mt_part *part, spi_mt_binding binding) {
    part->byte_first = (uint32_t)(binding.offset % OFFSET_ALIGN);
    part->binding = (spi_mt_binding){binding.buffer, binding.offset - part->byte_first};
}

/* Room for bytes in the last slab or a new one. */
static sp_status place(loader *load, uint64_t bytes, spi_mt_buffer **slab, uint64_t *offset) {
    spi_store *store = load->store;
    uint64_t rounded = (bytes + OFFSET_ALIGN - 1) / OFFSET_ALIGN * OFFSET_ALIGN;
    if (!store->slab_count || store->slabs[store->slab_count - 1].bytes - load->slab_used < rounded) {
        uint64_t left = load->total_bytes - load->done_bytes + (uint64_t)store->weights.count * 3 * OFFSET_ALIGN;
        uint64_t size = left < load->mt->limits.slab_bytes ? left : load->mt->limits.slab_bytes;
        size = size < rounded ? rounded : size;
        if (!SPI_RESERVE(store->slabs, store->slab_count, store->slab_capacity)) {
            return no_memory(load);
        }
        sp_status status = spi_mt_buffer_create(load->mt, (size + OFFSET_ALIGN - 1) / OFFSET_ALIGN * OFFSET_ALIGN,
                                                "weights", &store->slabs[store->slab_count], load->error);
        if (status) {
            return status;
        }
        store->slab_count++;
        load->slab_used = 0;
    }
    *slab = &store->slabs[store->slab_count - 1];
    *offset = load->slab_used;
    load->slab_used += rounded;
    return SP_OK;
}

/* In place where a mapped buffer holds all of it, else copied. */
static sp_status take_bytes(loader *load, const void *data, uint64_t bytes, spi_mt_part *part) {
    spi_store *store = load->store;
    uint64_t offset = 0;
    const spi_mt_map *map = find_map(store, data, bytes, &offset);
    spi_mt_binding binding;
    sp_status status = SP_OK;
    if (map && spi_mt_map_holds(map, offset, bytes, &binding)) {
        set_binding(part, binding);
        store->in_place_bytes += bytes;
    } else {
        spi_mt_buffer *slab = NULL;
        status = place(load, bytes, &slab, &offset);
        if (!status) {
            memcpy((uint8_t *)slab->contents + offset, data, (size_t)bytes);
            set_binding(part, (spi_mt_binding){slab->handle, offset});
        }
        store->own_bytes += bytes;
    }
    load->done_bytes += bytes;
    if (load->progress && !status) {
        load->progress(load->progress_env, load->done_bytes, load->total_bytes);
    }
    return status;
}

static sp_status take_piece(loader *load, const spi_tensor *source, spi_mt_piece *piece) {
    uint64_t row_bytes = source->bytes / source->rows;
    sp_status status = take_bytes(load, (const uint8_t *)source->data + piece->row_first * row_bytes,
                                  piece->row_count * row_bytes, &piece->blocks);
    if (spi_affine_bits(source->type)) {
        const spi_affine *affine = &source->affine;
        uint64_t before = plane_bytes(source, piece->row_first), bytes = plane_bytes(source, piece->row_count);
        status = status ? status : take_bytes(load, (const uint8_t *)affine->scales + before, bytes, &piece->scales);
        status = status ? status : take_bytes(load, (const uint8_t *)affine->biases + before, bytes, &piece->biases);
    }
    return status;
}

/* For kernels: the type of scales and biases, and the group as a power of two. */
static uint32_t affine_word(const spi_affine *affine) {
    uint32_t shift = affine->group == 32 ? 5 : affine->group == 64 ? 6 : 7;
    return (affine->type == SP_F16 ? 0 : affine->type == SP_BF16 ? 1 : 2) | shift << 4;
}

static sp_status load_tensor(loader *load, uint32_t index) {
    const spi_tensor *source = &load->store->sources[index];
    spi_mt_tensor *tensor = &load->store->tensors[index];
    if (!sp_dtype_name(source->type)) {
        return spi_fail(load->error, SP_UNSUPPORTED, "metal has no kernels for tensor %s of type %d", source->name,
                        (int)source->type);
    }
    const spi_mt_limits *limits = &load->mt->limits;
    uint64_t offset = 0, row_bytes = source->bytes / source->rows, most = limits->slab_bytes;
    const spi_mt_map *map = find_map(load->store, source->data, source->bytes, &offset);
    most = map ? map->step_bytes : most;
    most = limits->piece_bytes_max < most ? limits->piece_bytes_max : most;
    if (row_bytes > most) {
        return spi_fail(load->error, SP_UNSUPPORTED,
                        "metal: rows of %llu bytes of tensor %s are more than a buffer of this device holds",
                        (unsigned long long)row_bytes, source->name);
    }
    uint32_t step = most / row_bytes < source->rows ? (uint32_t)(most / row_bytes) : source->rows;
    tensor->row_bytes = (uint32_t)row_bytes;
    tensor->affine = spi_affine_bits(source->type) ? affine_word(&source->affine) : 0;
    tensor->piece_count = source->rows / step + (source->rows % step != 0);
    tensor->pieces = spi_alloc(tensor->piece_count, sizeof *tensor->pieces);
    sp_status status = tensor->pieces ? SP_OK : no_memory(load);
    for (uint32_t i = 0; i < tensor->piece_count && !status; i++) {
        spi_mt_piece *piece = &tensor->pieces[i];
        piece->row_first = i * step;
        piece->row_count = source->rows - piece->row_first < step ? source->rows - piece->row_first : step;
        status = take_piece(load, source, piece);
    }
    return status;
}

static sp_status load_all(loader *load) {
    spi_store *store = load->store;
    for (uint32_t i = 0; i < store->weights.count; i++) {
        const spi_tensor *source = &store->sources[i];
        load->total_bytes += source->bytes;
        load->total_bytes += spi_affine_bits(source->type) ? 2 * plane_bytes(source, source->rows) : 0;
    }
    sp_status status = store->weights.droppable ? map_file(load) : SP_OK;
    for (uint32_t i = 0; i < store->weights.count && !status; i++) {
        status = load_tensor(load, i);
    }
    load->mt->in_place_bytes += store->in_place_bytes;
    load->mt->own_bytes += store->own_bytes;
    return status;
}

sp_status spi_mt_load(void *context, const spi_weights *weights, spi_progress progress, void *progress_env,
                      spi_store **out, sp_error *error) {
    spi_mt *mt = context;
    *out = NULL;
    spi_store *store = spi_alloc(1, sizeof *store);
    if (!store) {
        return spi_fail(error, SP_NO_MEMORY, "metal: no memory to load a model");
    }
    store->sources = spi_alloc(weights->count, sizeof *store->sources);
    store->tensors = spi_alloc(weights->count, sizeof *store->tensors);
    sp_status status = SP_OK;
    if (!store->sources || !store->tensors) {
        status = spi_fail(error, SP_NO_MEMORY, "metal: no memory to load a model");
    } else {
        memcpy(store->sources, weights->tensors, weights->count * sizeof *store->sources);
        store->weights = (spi_weights){store->sources, weights->count, weights->droppable};
        loader load = {.mt = mt, .store = store, .progress = progress, .progress_env = progress_env, .error = error};
        status = load_all(&load);
    }
    if (status) {
        spi_mt_unload(context, store);
        return status;
    }
    *out = store;
    return SP_OK;
}

void spi_mt_unload(void *context, spi_store *store) {
    spi_mt *mt = context;
    mt->in_place_bytes -= store->in_place_bytes;
    mt->own_bytes -= store->own_bytes;
    for (size_t i = 0; i < store->map_count; i++) {
        spi_mt_map_close(mt, &store->maps[i]);
    }
    for (size_t i = 0; i < store->slab_count; i++) {
        spi_mt_buffer_destroy(mt, &store->slabs[i]);
    }
    for (uint32_t i = 0; i < store->weights.count; i++) {
        spi_free(store->tensors[i].pieces);
    }
    spi_free(store->maps);
    spi_free(store->slabs);
    spi_free(store->tensors);
    spi_free(store->sources);
    spi_free(store);
}
