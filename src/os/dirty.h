/* os/dirty.h - which pages were written. On Linux by the kernel's own record: write-protection by userfaultfd in its
 * asynchronous form, read with PAGEMAP_SCAN (6.7; Documentation/admin-guide/mm/pagemap.rst). A write costs one fault a page,
 * which the kernel settles by itself. On macOS by faults.h. Exact for what processors write, and blind to what devices write.
 * May include: base.
 */
#ifndef SPI_OS_DIRTY_H
#define SPI_OS_DIRTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samepage/status.h"

typedef struct spi_dirty spi_dirty;

/* Test hook: by faults.h in place of the system's own way. */
void spi_dirty_set_faults(bool by_faults);

/* SP_UNSUPPORTED: the kernel is too old, or forbids it. */
sp_status spi_dirty_create(spi_dirty **dirty);
void spi_dirty_destroy(spi_dirty *dirty); /* ranges are as ever then */

/* From now on writes to the range are recorded. Whole pages of memory that is mapped privately, by whatever. */
sp_status spi_dirty_watch(spi_dirty *dirty, void *address, size_t bytes);

/* Tells of every run of pages of a watched range that was written since it was watched or taken last, and records anew. */
sp_status spi_dirty_take(spi_dirty *dirty, void *address, size_t bytes,
                         void (*written)(void *env, uint8_t *from, size_t bytes), void *env);

#endif
