/* os/dirty.h - which pages were written since somebody looked last.
 *
 *     SPI_DIRTY_KERNEL   the kernel's own record: write protection by userfaultfd in its asynchronous form, read with
 *                        PAGEMAP_SCAN (Linux 6.7; Documentation/admin-guide/mm/pagemap.rst). dirty_kernel.c
 *     SPI_DIRTY_PROTECT  pages are made read-only, and a signal handler notes the first write to each and lets it happen:
 *                        any POSIX system. dirty_protect.c
 *
 * Both are exact for what processors write, and blind to what devices write. What differs: under SPI_DIRTY_PROTECT a
 * system call that is to write to a page fails with EFAULT, because no signal is raised for it, and a driver cannot pin
 * the page. So who watches must know that neither happens, or put spi_dirty_open and spi_dirty_close around it. The
 * handler passes on what is not its own to the handler that was there before it: on macOS that works where Wasmtime
 * handles signals, and not where it has the faults of a thread through its Mach port.
 *
 * Owns: records of pages, the handler. May include: base.
 */
#ifndef SPI_OS_DIRTY_H
#define SPI_OS_DIRTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samepage/status.h"

typedef struct spi_dirty spi_dirty;

typedef enum spi_dirty_way { SPI_DIRTY_KERNEL, SPI_DIRTY_PROTECT } spi_dirty_way;

/* SP_UNSUPPORTED: the system has no such way, or forbids it. */
sp_status spi_dirty_create(spi_dirty_way way, spi_dirty **dirty);
void spi_dirty_destroy(spi_dirty *dirty); /* ranges are as ever then; they must still be mapped. NULL is allowed */

/* From now on writes to the range are recorded. Whole pages of memory that is mapped privately, by whatever, and can be
 * written. No part of it may be watched already. */
sp_status spi_dirty_watch(spi_dirty *dirty, void *address, size_t bytes);

/* Tells of every run of pages of a watched range that was written since it was watched or taken last, and records anew.
 * Nobody may write to it meanwhile. */
sp_status spi_dirty_take(spi_dirty *dirty, void *address, size_t bytes,
                         void (*written)(void *env, uint8_t *from, size_t bytes), void *env);

/* Around what must be able to write to pages without a fault, a driver that pins them: makes all watched pages of the
 * range writable, whoever watches them, without a record; then as they were. Nobody may write in between but who
 * opened it. Nothing needs to be done, and nothing is, where the kernel keeps the record. */
void spi_dirty_open(const void *address, size_t bytes);
void spi_dirty_close(const void *address, size_t bytes);

#endif
