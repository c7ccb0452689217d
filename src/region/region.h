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

/* ---- regions that change hands ----
 *
 * What a region's user has written is still there when the next one gets it, pages and links and all. Such bytes are
 * stale: they are cleared before they become usable, whether that is when the region is renewed or when it grows. */

/* The user has gone: nobody but spi_region_clear touches the region until it is renewed. All that is committed is
 * accessible meanwhile. SP_NO_MEMORY: the region can only be destroyed. */
sp_status spi_region_retire(sp_region *region);

/* Clears at most so many of a retired region's stale bytes, from the lowest on; how many are left. Any thread, one at a
 * time. */
size_t spi_region_clear(sp_region *region, size_t bytes_max);
size_t spi_region_stale_bytes(const sp_region *region);

typedef struct spi_region_range {
    uint64_t offset, bytes;
} spi_region_range;

/* A retired region begins anew, with size_bytes of what is committed usable (rounded up to the page). They are zeros,
 * but for ranges (ascending, apart from each other, within the size) that the caller writes all of before anybody reads
 * them, or clears; *left_bytes is how many bytes of those are not zeros now, as far as is known. SP_NO_MEMORY: the
 * region can only be destroyed. */
sp_status spi_region_renew(sp_region *region, size_t size_bytes, const spi_region_range *unwritten, uint32_t count,
                           uint64_t *left_bytes);

/* True of anonymous memory of huge pages only, all of which was announced. */
bool spi_region_can_change_hands(const sp_region *region);
bool spi_region_fits(const sp_region *region, const sp_region_options *options); /* one that can, for these options */

/* Gives or withholds the CPU's access to what is committed behind size, around linking: drivers pin accessible pages
 * only. Pages that are protected to see who writes to them (os/dirty.h) are opened and closed with it. */
sp_status spi_region_open_tail(sp_region *region);
sp_status spi_region_close_tail(sp_region *region);

#endif
