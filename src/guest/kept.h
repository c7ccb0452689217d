/* guest/kept.h - what a layer above keeps of a guest as it is. May include: nothing of this layer. */
#ifndef SPI_GUEST_KEPT_H
#define SPI_GUEST_KEPT_H

#include "samepage/guest.h"

/* Dropped when the guest begins to run, and with it. */
typedef struct spi_kept {
    void *item; /* may be NULL */
    void (*drop)(void *item);
} spi_kept;
spi_kept *spi_guest_kept(sp_guest *guest);
void spi_guest_drop_kept(sp_guest *guest);

#endif
