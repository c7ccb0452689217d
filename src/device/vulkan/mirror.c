/* device/vulkan/mirror.c - KV blocks in the memory of a device that has its own.
 *
 * Reading over the bus is many times slower than from the device's memory, so blocks are read from a mirror, a buffer
 * as large as what is linked, at the same offsets. Kernels write each row to both, so that the region has the same
 * bytes and the mirror can be dropped at any time: what the host has and the mirror has not is copied before a run that
 * reads it.
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
    spi_free(link->valid.ranges);
    link->mirrors = NULL;
    link->valid = (spi_vk_range_set){0};
}

static sp_status no_memory(sp_error *error) {
    return spi_fail(error, SP_NO_MEMORY, "vulkan: no memory to mirror a region's blocks");
}

static sp_status make(spi_vk *vk, spi_vk_link *link, sp_error *error) {
    link->mirrors = spi_alloc(link->chunk_count, sizeof *link->mirrors);
    sp_status status = link->mirrors ? SP_OK : no_memory(error);
    for (uint32_t i = 0; i < link->chunk_count && !status; i++) {
        status = spi_vk_buffer_create(vk, link->chunks[i].bytes, SPI_VK_LOCAL, "a mirror of KV blocks",
                                      &link->mirrors[i], error);
    }
    if (status) {
        spi_vk_mirror_drop(vk, link);
    }
    return status;
}

/* Where [first, end) is or belongs: the ranges of the set that it touches are [*low, *high). */
static void find(const spi_vk_range_set *set, uint64_t first, uint64_t end, size_t *low, size_t *high) {
    for (*low = 0; *low < set->count && set->ranges[*low].end < first; ++*low) {}
    for (*high = *low; *high < set->count && set->ranges[*high].first <= end; ++*high) {}
}

/* Replaces ranges [low, high) by `count` others, at most one more than they were; false: no memory. */
static bool replace(spi_vk_range_set *set, size_t low, size_t high, const spi_vk_range *with, size_t count) {
    if (!SPI_RESERVE(set->ranges, set->count, set->capacity)) {
        return false;
    }
    memmove(set->ranges + low + count, set->ranges + high, (set->count - high) * sizeof *set->ranges);
    memcpy(set->ranges + low, with, count * sizeof *with);
    set->count = set->count - (high - low) + count;
    return true;
}

static bool add(spi_vk_range_set *set, uint64_t first, uint64_t end) {
    size_t low, high;
    find(set, first, end, &low, &high);
    spi_vk_range joined = {first, end};
    if (low < high) {
        joined.first = set->ranges[low].first < first ? set->ranges[low].first : first;
        joined.end = set->ranges[high - 1].end > end ? set->ranges[high - 1].end : end;
    }
    return replace(set, low, high, &joined, 1);
}

static bool take_away(spi_vk_range_set *set, uint64_t first, uint64_t end) {
    size_t low, high, count = 0;
    find(set, first, end, &low, &high);
    if (low == high) {
        return true;
    }
    spi_vk_range left = {set->ranges[low].first, first}, right = {end, set->ranges[high - 1].end}, rest[2];
    if (left.first < left.end) {
        rest[count++] = left;
    }
    if (right.first < right.end) {
        rest[count++] = right;
    }
    return replace(set, low, high, rest, count);
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

/* What the mirrors lack of [first, end): all below valid_end, and what the host wrote. */
static sp_status fetch(spi_vk *vk, const spi_vk_link *link, uint64_t first, uint64_t valid_end, uint64_t end,
                       sp_error *error) {
    uint64_t filled = valid_end < end ? valid_end : end;
    sp_status status = first < filled ? copy(vk, link, first, filled, error) : SP_OK;
    first = first > filled ? first : filled;
    for (size_t i = 0; i < link->written.count && !status; i++) {
        const spi_vk_range *range = &link->written.ranges[i];
        uint64_t low = range->first > first ? range->first : first, high = range->end < end ? range->end : end;
        status = low < high ? copy(vk, link, low, high, error) : SP_OK;
    }
    return status;
}

sp_status spi_vk_mirror_cover(spi_vk *vk, spi_link *base, uint64_t first, uint64_t valid_end, uint64_t end,
                              sp_error *error) {
    spi_vk_link *link = (spi_vk_link *)base;
    end = end < link->bytes ? end : link->bytes; /* planning refuses what lies behind */
    if (!vk->limits.unmapped || !link->chunk_count || first >= end) {
        return SP_OK;
    }
    sp_status status = link->mirrors ? SP_OK : make(vk, link, error);
    size_t low, high;
    find(&link->valid, first, end, &low, &high);
    uint64_t at = first;
    for (size_t i = low; i < high && !status; i++) {
        const spi_vk_range *held = &link->valid.ranges[i];
        if (held->first > at) {
            status = fetch(vk, link, at, valid_end, held->first, error);
        }
        at = held->end > at ? held->end : at;
    }
    if (!status && at < end) {
        status = fetch(vk, link, at, valid_end, end, error);
    }
    if (!status && (!add(&link->valid, first, end) || !take_away(&link->written, first, end))) {
        status = no_memory(error);
    }
    return status;
}

sp_status spi_vk_mirror_host_wrote(void *context, spi_link *base, uint64_t offset, uint64_t bytes, sp_error *error) {
    const spi_vk *vk = context;
    spi_vk_link *link = (spi_vk_link *)base;
    return !vk->limits.unmapped ||
                   (take_away(&link->valid, offset, offset + bytes) && add(&link->written, offset, offset + bytes))
               ? SP_OK
               : no_memory(error);
}
