/* device/spare.h - memory of guests that have ended, kept for the next ones.
 *
 * Where linking pins memory, a region costs its next user nothing but zeros: its pages are made, the driver holds them,
 * the device has its addresses and what stands behind them. So a device keeps regions that nobody uses any more, as
 * many as have room in its options' spare_bytes_max; those that were used longest ago go first. What the last user left
 * in one is cleared by a thread while nobody waits for it, and whatever is still stale before the next one can see it
 * (region/region.h); what the device itself keeps of it, the backend forgets. All of them are given back where memory
 * is short: when a region cannot be made, linked or grown, and when the device is closed.
 *
 * Owns: the spare regions and their links, the thread. May include: region, os, base.
 */
#ifndef SPI_DEVICE_SPARE_H
#define SPI_DEVICE_SPARE_H

#include <pthread.h>

#include "device/backend.h"
#include "os/thread.h"
#include "region/region.h"

typedef struct spi_spare {
    sp_region *region;
    struct spi_spare *next;
} spi_spare;

typedef struct spi_spares {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* any of what follows */
    bool is_held;           /* by the device's user: the thread leaves list and regions alone */
    bool is_clearing;       /* the thread writes to a region */
    bool is_ending;
    spi_spare *first; /* the one that was used last */
    uint64_t bytes, bytes_max;
    uint64_t taken_count;
    spi_thread thread;
    bool has_thread;
} spi_spares;

void spi_spares_begin(sp_device *device, uint64_t bytes_max); /* 0: the default, UINT64_MAX: none are kept */
void spi_spares_end(sp_device *device);
bool spi_spares_give_back(sp_device *device); /* all of them; false: there were none */

/* What is asked for: usable bytes, and how many it is likely to become. For ranges that need not be zeros see
 * spi_region_renew. */
typedef struct spi_spare_wish {
    sp_region_options options;
    size_t likely_bytes;
    const spi_region_range *unwritten;
    uint32_t unwritten_count;
} spi_spare_wish;

/* A region that is linked to the device, a spare one or new. *left_bytes is as of spi_region_renew. Errors are those of
 * sp_region_create and sp_device_link. */
sp_status spi_spare_take(sp_device *device, const spi_spare_wish *wish, sp_region **region, uint64_t *left_bytes,
                         sp_error *error);

/* Unlinks the region and destroys it, or keeps it. Only its own thread may still know it. */
void spi_spare_leave(sp_device *device, sp_region *region);

/* sp_region_grow, once more without spare regions if there is no room beside them. */
sp_status spi_spare_grow(sp_device *device, sp_region *region, size_t size_bytes, sp_error *error);

#endif
