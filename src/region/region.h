/* region/region.h - what devices need of a region beyond the public header: to hear of its growth.
 *
 * Owns: addresses, pages, the list of watchers. May include: os, base.
 */
#ifndef SPI_REGION_REGION_H
#define SPI_REGION_REGION_H

#include <stdbool.h>

#include "samepage/region.h"

/* Told after more was committed and while all of it is accessible, so that a driver can pin it. A refusal undoes the
 * growth: watchers that were told before it see a region whose commitment is larger than its size, which is allowed. */
typedef struct spi_region_watcher {
    sp_status (*committed)(void *env, sp_region *region, sp_error *error);
    void *env;
    struct spi_region_watcher *next;
} spi_region_watcher;

void spi_region_watch(sp_region *region, spi_region_watcher *watcher);
void spi_region_unwatch(sp_region *region, spi_region_watcher *watcher);
bool spi_region_is_watched(const sp_region *region);

/* Gives or withholds the CPU's access to what is committed behind size, around linking: drivers pin accessible pages
 * only. */
sp_status spi_region_open_tail(sp_region *region);
sp_status spi_region_close_tail(sp_region *region);

#endif
