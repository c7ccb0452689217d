/* os/dirty_ways.h - the inside of dirty.h: what a way of recording is. May include: base. */
#ifndef SPI_OS_DIRTY_WAYS_H
#define SPI_OS_DIRTY_WAYS_H

#include "os/dirty.h"

typedef struct spi_dirty_ways {
    void (*destroy)(spi_dirty *dirty);
    sp_status (*watch)(spi_dirty *dirty, void *address, size_t bytes);
    sp_status (*take)(spi_dirty *dirty, void *address, size_t bytes,
                      void (*written)(void *env, uint8_t *from, size_t bytes), void *env);
} spi_dirty_ways;

/* What every way's own structure begins with. */
struct spi_dirty {
    const spi_dirty_ways *ways;
};

sp_status spi_dirty_kernel_create(spi_dirty **dirty);
sp_status spi_dirty_protect_create(spi_dirty **dirty);

#endif
