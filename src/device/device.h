/* device/device.h - what device.c, link.c and spare.c share. May include: region, os, base. */
#ifndef SPI_DEVICE_DEVICE_H
#define SPI_DEVICE_DEVICE_H

#include "device/backend.h"
#include "device/spare.h"
#include "region/region.h"

/* One linked region: the backend's view, who hears of its growth, and how often it was asked for. */
typedef struct spi_linked {
    spi_link *link; /* NULL: let go of while pages change, or for good if the device would not take them again */
    sp_region *region;
    sp_device *device;
    spi_region_watcher watcher;
    uint32_t references;
    bool is_spare; /* nobody's at present: spare.c */
    struct spi_linked *next;
} spi_linked;

struct sp_device {
    const spi_backend *backend;
    uint32_t index;
    void *context;            /* NULL: it was lost, and could not be opened anew */
    sp_device_info lost_info; /* of before */
    bool stays_lost;
    uint64_t revived_count;
    spi_device_user *users;
    char passed_over[sizeof((sp_device_info *)0)->passed_over]; /* of the info */
    spi_linked *links;
    spi_spares spares;
};

/* Links what was let go of. link.c */
sp_status spi_linked_take_again(spi_linked *linked, sp_error *error);
void spi_linked_let_go(spi_linked *linked);

/* link.c: a linked region becomes a spare one, if it can: the backend forgets what it held, and it is one that can
 * change hands; and somebody's again. */
bool spi_linked_offer(sp_device *device, const sp_region *region);
void spi_linked_claim(sp_device *device, const sp_region *region);

#endif
