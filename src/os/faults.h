/* os/faults.h - which pages were written, for systems whose kernel keeps no record: pages are protected, and a handler of
 * faults takes note of a page and opens it. What dirty.h says of ranges goes for these as well. A write costs a fault and a
 * system call a page. Compiled and tested everywhere; macOS has nothing better.
 *
 * The handler is put before those that are there (Wasmtime's), which get every fault that is not of a watched page: whoever
 * installs one later must do the same. A system call that writes into a watched page fails with EFAULT, since the kernel does
 * not fault: hosts copy into guests' memory by themselves. May include: base.
 */
#ifndef SPI_OS_FAULTS_H
#define SPI_OS_FAULTS_H

#include <stddef.h>
#include <stdint.h>

#include "samepage/status.h"

typedef struct spi_faults spi_faults;

sp_status spi_faults_create(spi_faults **faults);
void spi_faults_destroy(spi_faults *faults);

/* For who put a handler of his own over ours: ours comes before it again. Nothing if nothing was ever watched. */
void spi_faults_renew(void);

/* SP_UNSUPPORTED: a page is watched by another one. */
sp_status spi_faults_watch(spi_faults *faults, void *address, size_t bytes);
sp_status spi_faults_take(spi_faults *faults, void *address, size_t bytes,
                          void (*written)(void *env, uint8_t *from, size_t bytes), void *env);

#endif
