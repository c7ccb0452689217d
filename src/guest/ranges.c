/* guest/ranges.c - see ranges.h. */
#include "guest/ranges.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"

/* The first range that ends at or behind offset. */
static size_t find(const spi_ranges *ranges, uint64_t offset) {
    size_t low = 0, high = ranges->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ranges->items[middle].offset + ranges->items[middle].bytes < offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void remove_at(spi_ranges *ranges, size_t place) {
    size_t behind = ranges->count - place - 1;
    memmove(&ranges->items[place], &ranges->items[place + 1], behind * sizeof *ranges->items);
    ranges->count--;
}

static bool insert_at(spi_ranges *ranges, size_t place, spi_range range) {
    if (!SPI_RESERVE(ranges->items, ranges->count, ranges->capacity)) {
        return false;
    }
    size_t behind = ranges->count - place;
    memmove(&ranges->items[place + 1], &ranges->items[place], behind * sizeof *ranges->items);
    ranges->items[place] = range;
    ranges->count++;
    return true;
}

void spi_ranges_add(spi_ranges *ranges, uint64_t offset, uint64_t bytes) {
    if (!bytes) {
        return;
    }
    size_t place = find(ranges, offset);
    spi_range *item = place < ranges->count ? &ranges->items[place] : NULL;
    if (item && item->offset + item->bytes == offset) {
        item->bytes += bytes;
        spi_range *next = place + 1 < ranges->count ? item + 1 : NULL;
        assert((!next || item->offset + item->bytes <= next->offset) && "released twice");
        if (next && item->offset + item->bytes == next->offset) {
            item->bytes += next->bytes;
            remove_at(ranges, place + 1);
        }
        return;
    }
    assert((!item || offset + bytes <= item->offset) && "released twice");
    if (item && offset + bytes == item->offset) {
        *item = (spi_range){.offset = offset, .bytes = item->bytes + bytes};
        return;
    }
    (void)insert_at(ranges, place, (spi_range){.offset = offset, .bytes = bytes});
}

bool spi_ranges_take(spi_ranges *ranges, uint64_t bytes, uint64_t align_bytes, uint64_t *offset) {
    for (size_t i = 0; i < ranges->count; i++) {
        spi_range *item = &ranges->items[i];
        uint64_t start = (item->offset + align_bytes - 1) / align_bytes * align_bytes;
        uint64_t end = item->offset + item->bytes;
        if (start < item->offset || start > end || bytes > end - start) {
            continue;
        }
        uint64_t before = start - item->offset, after = end - start - bytes;
        if (!before && !after) {
            remove_at(ranges, i);
        } else if (!before) {
            *item = (spi_range){.offset = start + bytes, .bytes = after};
        } else {
            item->bytes = before;
            if (after) {
                (void)insert_at(ranges, i + 1, (spi_range){.offset = start + bytes, .bytes = after});
            }
        }
        *offset = start;
        return true;
    }
    return false;
}

uint64_t spi_ranges_tail(const spi_ranges *ranges, uint64_t end) {
    if (!ranges->count) {
        return end;
    }
    const spi_range *last = &ranges->items[ranges->count - 1];
    return last->offset + last->bytes == end ? last->offset : end;
}

void spi_ranges_free(spi_ranges *ranges) {
    spi_free(ranges->items);
    *ranges = (spi_ranges){0};
}
