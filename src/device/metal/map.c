/* device/metal/map.c - memory that is mapped already as buffers, without a copy (newBufferWithBytesNoCopy).
 *
 * Apple asks for whole pages: the address and the length are multiples of 16 KiB. Who calls has checked that, and it is
 * checked here once more, because Metal answers with nothing but NULL. One buffer is at most maxBufferLength long;
 * longer memory gets several that overlap by half. Several buffers over the same bytes are allowed: kernels of
 * different dispatches are ordered by barriers over all buffers, never by Metal's own tracking of each.
 */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/metal/metal.h"

static sp_status add_buffer(spi_mt *mt, spi_mt_map *map, uint64_t at, sp_error *error) {
    uint64_t left = map->bytes - at, bytes = left < map->buffer_bytes ? left : map->buffer_bytes;
    spi_mt_id buffer =
        spi_mt_new_buffer_over(&mt->objc, mt->device, map->base + at, bytes, SPI_MT_STORAGE_SHARED, NULL);
    if (!buffer) {
        return spi_fail(error, SP_LINK_REFUSED, "metal: the device takes no buffer over %llu bytes at %p",
                        (unsigned long long)bytes, (void *)(map->base + at));
    }
    map->buffers[map->buffer_count++] = buffer;
    spi_mt_residency_add(mt, buffer);
    return SP_OK;
}

sp_status spi_mt_map_open(spi_mt *mt, void *base, uint64_t bytes, spi_mt_map *map, sp_error *error) {
    uint64_t most = mt->limits.buffer_bytes_max;
    *map = (spi_mt_map){.base = base, .bytes = bytes, .buffer_bytes = bytes, .step_bytes = bytes};
    if ((uintptr_t)base % SPI_MT_PAGE_BYTES || bytes % SPI_MT_PAGE_BYTES || !bytes) {
        return spi_fail(error, SP_LINK_REFUSED, "metal: %llu bytes at %p are not whole pages of 16 KiB",
                        (unsigned long long)bytes, base);
    }
    uint64_t count = 1;
    if (bytes > most) {
        map->buffer_bytes = most;
        map->step_bytes = most / 2;
        count = 1 + (bytes - most + map->step_bytes - 1) / map->step_bytes;
    }
    map->buffers = spi_alloc(count, sizeof *map->buffers);
    sp_status status =
        map->buffers ? SP_OK : spi_fail(error, SP_NO_MEMORY, "metal: no memory to make buffers over a region");
    void *pool = mt->objc.push_pool();
    for (uint64_t i = 0; i < count && !status; i++) {
        status = add_buffer(mt, map, i * map->step_bytes, error);
    }
    mt->objc.pop_pool(pool);
    if (status) {
        spi_mt_map_close(mt, map);
    }
    return status;
}

void spi_mt_map_close(spi_mt *mt, spi_mt_map *map) {
    for (uint32_t i = 0; i < map->buffer_count; i++) {
        spi_mt_buffer_release(mt, map->buffers[i]);
    }
    spi_free(map->buffers);
    memset(map, 0, sizeof *map);
}

uint64_t spi_mt_map_find(const spi_mt_map *map, uint64_t offset, spi_mt_binding *binding) {
    *binding = (spi_mt_binding){0};
    if (offset >= map->bytes) {
        return 0;
    }
    uint64_t index = offset / map->step_bytes;
    index = index < map->buffer_count ? index : map->buffer_count - 1;
    uint64_t start = index * map->step_bytes, left = map->bytes - start;
    *binding = (spi_mt_binding){map->buffers[index], offset - start};
    return (left < map->buffer_bytes ? left : map->buffer_bytes) - binding->offset;
}

bool spi_mt_map_holds(const spi_mt_map *map, uint64_t offset, uint64_t bytes, spi_mt_binding *binding) {
    return spi_mt_map_find(map, offset, binding) >= bytes;
}
