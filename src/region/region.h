/* region/region.h - what devices need of a region beyond the public header: to hear of its growth.
 *
 * Owns: addresses, pages, the list of watchers. May include: os, base.
 */
#ifndef SPI_REGION_REGION_H
#define SPI_REGION_REGION_H

#include <stdbool.h>
#include <stdint.h>

#include "samepage/region.h"

/* Told after more was committed and while all of it is accessible, so that a driver can pin it. A refusal undoes the
 * growth: watchers that were told before it see a region whose commitment is larger than its size, which is allowed. */
typedef struct spi_region_watcher {
    sp_status (*committed)(void *env, sp_region *region, sp_error *error);

    /* Told before pages inside of the region become others: must let go of all of it, and is told `committed` after. */
    void (*changing)(void *env, sp_region *region);
    bool (*takes)(void *env, sp_backing backing);
    void *env;
    struct spi_region_watcher *next;
} spi_region_watcher;

void spi_region_watch(sp_region *region, spi_region_watcher *watcher);
void spi_region_unwatch(sp_region *region, spi_region_watcher *watcher);
bool spi_region_is_watched(const sp_region *region);

/* Bytes of a region that shall be a private copy-on-write view of a file, or fresh pages of zeros. Multiples of
 * pages. */
typedef struct spi_region_piece {
    uint64_t offset, bytes; /* inside of the size */
    int file;               /* < 0: fresh pages */
    uint64_t file_offset;
} spi_region_piece;

/* The one place where pages under a region are exchanged. Devices that are linked are quiet, let go, and link again: a
 * device that still had the old pages would see other bytes than the host, without a word. What was in the pieces is
 * gone. A region that has pages of files counts as shareable from then on. SP_LINK_REFUSED: a linked device does not
 * take such memory; nothing was done. SP_NO_MEMORY: the system has no room for more mappings; some pieces may be done.
 * SP_DEVICE_LOST and others of the device: it could not link again. */
sp_status spi_region_remap(sp_region *region, const spi_region_piece *pieces, uint32_t piece_count, sp_error *error);

/* Gives or withholds the CPU's access to what is committed behind size, around linking: drivers pin accessible pages
 * only. Pages that are protected to see who writes to them (os/dirty.h) are opened and closed with it. */
sp_status spi_region_open_tail(sp_region *region);
sp_status spi_region_close_tail(sp_region *region);

#endif
