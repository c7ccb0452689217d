/* guest/ranges.h - free ranges of linear memory: what the host reserved for a guest and gave back.
 *
 * Owns: an array of ranges, sorted by offset, none touching another. May include: base.
 */
#ifndef SPI_GUEST_RANGES_H
#define SPI_GUEST_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct spi_range {
    uint64_t offset, bytes;
} spi_range;

typedef struct spi_ranges {
    spi_range *items;
    size_t count, capacity;
} spi_ranges;

/* Adds a range, joining it with its neighbours. It must not overlap one that is free already. If there is no memory for
 * the list the range is forgotten: it is lost to the guest, and nothing else is. */
void spi_ranges_add(spi_ranges *ranges, uint64_t offset, uint64_t bytes);

/* Takes the first range that is large enough, at the first aligned place in it. False: there is none. */
bool spi_ranges_take(spi_ranges *ranges, uint64_t bytes, uint64_t align_bytes, uint64_t *offset);

/* Where a range that ends at `end` begins, or `end` if there is none: growth can continue it. */
uint64_t spi_ranges_tail(const spi_ranges *ranges, uint64_t end);

void spi_ranges_free(spi_ranges *ranges);

#endif
