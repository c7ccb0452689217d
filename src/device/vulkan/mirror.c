/* device/vulkan/mirror.c - KV blocks in the memory of a device that has its own.
 *
 * Reading over the bus is many times slower than from the device's memory, so blocks are read from a mirror, a buffer as
 * large as what is linked, at the same offsets. Kernels write each row to both, so that the region has the same bytes and
 * the mirror can be dropped at any time: what the host has and the mirror has not is copied before a run that reads it.
 *
 * Owns: mirrors and valid of a link. May include: device/vulkan/vulkan.h, base.
 */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/vulkan/vulkan.h"

void spi_vk_mirror_drop(spi_vk *vk, spi_vk_link *link) {
    for (uint32_t i = 0; link->mirrors && i < link->chunk_count; i++) {
        spi_vk_buffer_destroy(vk, &link->mirrors[i]);
    }
    spi_free(link->mirrors);
    spi_free(link->valid);
    link->mirrors = NULL;
    link->valid = NULL;
    link->valid_count = link->valid_capacity = 0;
}

static sp_status make(spi_vk *vk, spi_vk_link *link, sp_error *error) {
    link->mirrors = spi_alloc(link->chunk_count, sizeof *link->mirrors);
    sp_status status =
        link->mirrors ? SP_OK : spi_fail(error, SP_NO_MEMORY, "vulkan: no memory to mirror a region's blocks");
    for (uint32_t i = 0; i < link->chunk_count && !status; i++) {
        status = spi_vk_buffer_create(vk, link->chunks[i].bytes, SPI_VK_LOCAL, "a mirror of KV blocks",
                                      &link->mirrors[i], error);
    }
    if (status) {
        spi_vk_mirror_drop(vk, link);
    }
    return status;
}

/* Where [first, end) is or belongs: the valid ranges that it touches are [*low, *high). */
static void find(const spi_vk_link *link, uint64_t first, uint64_t end, size_t *low, size_t *high) {
    for (*low = 0; *low < link->valid_count && link->valid[*low].end < first; ++*low) {}
    for (*high = *low; *high < link->valid_count && link->valid[*high].first <= end; ++*high) {}
}

/* Replaces ranges [low, high) by `count` others; false: no memory. */
static bool replace(spi_vk_link *link, size_t low, size_t high, const spi_vk_range *with, size_t count) {
    if (!SPI_RESERVE(link->valid, link->valid_count + 1, link->valid_capacity)) {
        return false;
    }
    memmove(link->valid + low + count, link->valid + high, (link->valid_count - high) * sizeof *link->valid);
    memcpy(link->valid + low, with, count * sizeof *with);
    link->valid_count = link->valid_count - (high - low) + count;
    return true;
}

static bool add(spi_vk_link *link, uint64_t first, uint64_t end) {
    size_t low, high;
    find(link, first, end, &low, &high);
    spi_vk_range joined = {first, end};
    if (low < high) {
        joined.first = link->valid[low].first < first ? link->valid[low].first : first;
        joined.end = link->valid[high - 1].end > end ? link->valid[high - 1].end : end;
    }
    return replace(link, low, high, &joined, 1);
}

static bool take_away(spi_vk_link *link, uint64_t first, uint64_t end) {
    size_t low, high, count = 0;
    find(link, first, end, &low, &high);
    if (low == high) {
        return true;
    }
    spi_vk_range left = {link->valid[low].first, first}, right = {end, link->valid[high - 1].end}, rest[2];
    if (left.first < left.end) {
        rest[count++] = left;
    }
    if (right.first < right.end) {
        rest[count++] = right;
    }
    return replace(link, low, high, rest, count);
}

/* Copies [first, end), cut where imports end. */
static sp_status copy(spi_vk *vk, const spi_vk_link *link, uint64_t first, uint64_t end, sp_error *error) {
    sp_status status = SP_OK;
    while (first < end && !status) {
        uint64_t chunk = first / link->chunk_bytes, inside = first - chunk * link->chunk_bytes;
        uint64_t bytes = link->chunks[chunk].bytes - inside;
        bytes = bytes < end - first ? bytes : end - first;
        VkBufferCopy part = {inside, inside, bytes};
        status = spi_vk_copy(vk, link->chunks[chunk].handle, link->mirrors[chunk].handle, &part, 1, error);
        vk->copied_bytes += bytes;
        first += bytes;
    }
    return status;
}

sp_status spi_vk_mirror_cover(spi_vk *vk, spi_link *base, uint64_t first, uint64_t valid_end, uint64_t end,
                              sp_error *error) {
    spi_vk_link *link = (spi_vk_link *)base;
    end = end < link->bytes ? end : link->bytes; /* planning refuses what lies behind */
    valid_end = valid_end < end ? valid_end : end;
    if (!vk->limits.unmapped || !link->chunk_count || first >= end) {
        return SP_OK;
    }
    sp_status status = link->mirrors ? SP_OK : make(vk, link, error);
    size_t low, high;
    find(link, first, end, &low, &high);
    uint64_t at = first;
    for (size_t i = low; i < high && !status && at < valid_end; i++) {
        const spi_vk_range *held = &link->valid[i];
        if (held->first > at) {
            status = copy(vk, link, at, held->first < valid_end ? held->first : valid_end, error);
        }
        at = held->end > at ? held->end : at;
    }
    if (!status && at < valid_end) {
        status = copy(vk, link, at, valid_end, error);
    }
    if (!status && !add(link, first, end)) {
        status = spi_fail(error, SP_NO_MEMORY, "vulkan: no memory to mirror a region's blocks");
    }
    return status;
}

sp_status spi_vk_mirror_host_wrote(void *context, spi_link *base, uint64_t offset, uint64_t bytes, sp_error *error) {
    (void)context;
    return take_away((spi_vk_link *)base, offset, offset + bytes)
               ? SP_OK
               : spi_fail(error, SP_NO_MEMORY, "vulkan: no memory to mirror a region's blocks");
}
