/* snapshot/series.h - a base and many deltas, for whoever keeps them. May include: what snapshot.h may, and does not,
 * so that layers above can have names of their own. */
#ifndef SPI_SNAPSHOT_SERIES_H
#define SPI_SNAPSHOT_SERIES_H

#include "samepage/snapshot.h"

/* A series of deltas, the latest first, at least one, applied in one go. */
sp_status spi_snapshot_apply_all(const sp_snapshot *base, sp_snapshot *const *deltas, uint32_t count,
                                 sp_snapshot **result, sp_error *error);

/* As sp_snapshot_open_bytes of bytes from spi_alloc, which are taken over, whatever happens. */
sp_status spi_snapshot_open_taken(void *bytes, size_t byte_count, const char *name, sp_snapshot **snapshot,
                                  sp_error *error);

#endif
