/* os/dirty.c - choosing between the ways of dirty.h. */
#include "os/dirty.h"

#include "os/dirty_ways.h"

sp_status spi_dirty_create(spi_dirty_way way, spi_dirty **dirty) {
    return way == SPI_DIRTY_KERNEL ? spi_dirty_kernel_create(dirty) : spi_dirty_protect_create(dirty);
}

void spi_dirty_destroy(spi_dirty *dirty) {
    if (dirty) {
        dirty->ways->destroy(dirty);
    }
}

sp_status spi_dirty_watch(spi_dirty *dirty, void *address, size_t bytes) {
    return dirty->ways->watch(dirty, address, bytes);
}

sp_status spi_dirty_take(spi_dirty *dirty, void *address, size_t bytes,
                         void (*written)(void *env, uint8_t *from, size_t bytes), void *env) {
    return dirty->ways->take(dirty, address, bytes, written, env);
}
