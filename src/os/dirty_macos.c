/* os/dirty_macos.c - see dirty.h: by faults, for want of a kernel's record. */
#include "os/dirty.h"
#include "os/faults.h"

void spi_dirty_set_faults(bool by_faults) {
    (void)by_faults; /* there is no other way */
}

sp_status spi_dirty_create(spi_dirty **dirty) {
    spi_faults *faults;
    sp_status status = spi_faults_create(&faults);
    *dirty = (spi_dirty *)faults;
    return status;
}

void spi_dirty_destroy(spi_dirty *dirty) {
    spi_faults_destroy((spi_faults *)dirty);
}

sp_status spi_dirty_watch(spi_dirty *dirty, void *address, size_t bytes) {
    return spi_faults_watch((spi_faults *)dirty, address, bytes);
}

sp_status spi_dirty_take(spi_dirty *dirty, void *address, size_t bytes,
                         void (*written)(void *env, uint8_t *from, size_t bytes), void *env) {
    return spi_faults_take((spi_faults *)dirty, address, bytes, written, env);
}
