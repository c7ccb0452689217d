/* device/vulkan/link.c - regions as buffers, by importing their memory (VK_EXT_external_memory_host).
 *
 * What holds for every backend was checked above (device/link.c). Here stand Vulkan's own rules. Drivers refuse an
 * import that overlaps a live one, so growing means to drop the old import and to make a larger one; regions grow
 * geometrically, which keeps the price of pinning again small. A region larger than the driver imports at once becomes
 * several chunks; what a kernel needs at once (a KV block, a row of logits, a row of a matrix) must lie inside of one.
 */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/vulkan/vulkan.h"

#define CHUNK_BYTES_MAX ((uint64_t)1 << 30)

/* All in one if the driver lets us, else chunks whose size is a power of two. */
static uint64_t choose_chunk(const spi_vk *vk, uint64_t bytes) {
    uint64_t most = vk->limits.allocation_bytes_max;
    if (bytes <= most) {
        return bytes;
    }
    uint64_t chunk = CHUNK_BYTES_MAX;
    while (chunk > most && chunk > SP_REGION_ALIGN_BYTES) {
        chunk /= 2;
    }
    return chunk;
}

static void drop(spi_vk *vk, spi_vk_link *link) {
    vk->generation++;
    spi_vk_mirror_drop(vk, link);
    for (uint32_t i = 0; i < link->chunk_count; i++) {
        spi_vk_buffer_destroy(vk, &link->chunks[i]);
    }
    spi_free(link->chunks);
    link->chunks = NULL;
    link->chunk_count = 0;
    link->bytes = 0;
}

/* Imports the first `bytes` of the region; the link holds nothing before. */
static sp_status import(spi_vk *vk, spi_vk_link *link, uint64_t bytes, sp_error *error) {
    uint64_t chunk = choose_chunk(vk, bytes), count = (bytes + chunk - 1) / chunk;
    link->chunks = spi_alloc(count, sizeof *link->chunks);
    if (!link->chunks) {
        return spi_fail(error, SP_NO_MEMORY, "vulkan: no memory to link a region");
    }
    link->chunk_bytes = chunk;
    vk->generation++;
    for (uint64_t at = 0; at < bytes; at += chunk) {
        uint64_t part = bytes - at < chunk ? bytes - at : chunk;
        sp_status status = spi_vk_buffer_import(vk, sp_region_base(link->base.region) + at, part,
                                                &link->chunks[link->chunk_count], error);
        if (status) {
            drop(vk, link);
            return spi_fail_within(error, "linking bytes %llu to %llu of a region", (unsigned long long)at,
                                   (unsigned long long)(at + part));
        }
        link->chunk_count++;
    }
    link->bytes = bytes;
    return SP_OK;
}

sp_status spi_vk_link_region(void *context, sp_region *region, spi_link **out, sp_error *error) {
    spi_vk *vk = context;
    *out = NULL;
    spi_vk_link *link = spi_alloc(1, sizeof *link);
    if (!link) {
        return spi_fail(error, SP_NO_MEMORY, "vulkan: no memory to link a region");
    }
    link->base.region = region;
    link->base.kind = vk->info.link;
    sp_status status = import(vk, link, sp_region_committed_bytes(region), error);
    if (status) {
        spi_free(link);
        return status;
    }
    *out = &link->base;
    return SP_OK;
}

sp_status spi_vk_link_extend(void *context, spi_link *base, sp_error *error) {
    spi_vk *vk = context;
    spi_vk_link *link = (spi_vk_link *)base;
    uint64_t before = link->bytes;
    drop(vk, link);
    sp_status status = import(vk, link, sp_region_committed_bytes(base->region), error);
    if (status && before) {
        /* The growth is refused; what was linked before has to work as it did. If even that fails now, runs on this
         * link say so until it is extended or linked anew. */
        sp_error ignored;
        import(vk, link, before, &ignored);
    }
    return status;
}

/* Runs and copies were waited for when they were sent. A mirror is made anew: what lies in it was another's. */
sp_status spi_vk_link_forget(void *context, spi_link *base, sp_error *error) {
    spi_vk *vk = context;
    spi_vk_link *link = (spi_vk_link *)base;
    if (vk->lost || !link->chunk_count) {
        return spi_fail(error, SP_DEVICE_LOST, "vulkan: the link is lost");
    }
    vk->generation++;
    spi_vk_mirror_drop(vk, link);
    link->written.count = 0;
    return SP_OK;
}

void spi_vk_link_remove(void *context, spi_link *base) {
    spi_vk_link *link = (spi_vk_link *)base;
    drop(context, link);
    spi_free(link->written.ranges);
    spi_free(link);
}

bool spi_vk_link_window(const spi_vk *vk, const spi_link *base, uint64_t offset, uint64_t bytes, spi_vk_window *window,
                        uint64_t *bytes_held) {
    const spi_vk_link *link = (const spi_vk_link *)base;
    *bytes_held = 0;
    if (offset >= link->bytes) {
        return false;
    }
    const spi_vk_buffer *chunk = &link->chunks[offset / link->chunk_bytes];
    uint64_t chunk_first = offset / link->chunk_bytes * link->chunk_bytes, inside = offset - chunk_first;
    uint64_t start = inside - inside % vk->limits.offset_align_bytes;
    uint64_t range = chunk->bytes - start;
    range = range < vk->limits.window_bytes_max ? range : vk->limits.window_bytes_max;
    window->binding = (spi_vk_binding){chunk->handle, start, range};
    window->mirror = link->mirrors ? link->mirrors[offset / link->chunk_bytes].handle : VK_NULL_HANDLE;
    window->first_byte = chunk_first + start;
    if (inside - start < range) {
        *bytes_held = range - (inside - start);
    }
    return *bytes_held >= bytes;
}
