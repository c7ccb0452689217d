/* device/bandwidth.h - how fast the CPU reads memory: the ceiling of decoding, measured in the same run as the decoding
 * that is compared with it, since one machine's figures vary by half between two hours.
 *
 * May include: base.
 */
#ifndef SPI_DEVICE_BANDWIDTH_H
#define SPI_DEVICE_BANDWIDTH_H

#include <stddef.h>
#include <stdint.h>

#include "samepage/status.h"

typedef struct spi_bandwidth spi_bandwidth;

/* 512 MiB in huge pages where the system grants them, written once, and threads to read it. */
sp_status spi_bandwidth_create(uint32_t thread_count, spi_bandwidth **bandwidth, sp_error *error);
void spi_bandwidth_destroy(spi_bandwidth *bandwidth); /* NULL is allowed */

#define SPI_BANDWIDTH_BYTES ((size_t)512 << 20)

/* One pass over all of it; bytes per second / 10^9. */
double spi_bandwidth_measure(spi_bandwidth *bandwidth);

/* The best of some passes, with thread_count threads (0: as many as the machine allows); 0 if there is no memory for
 * it. Takes a fraction of a second. */
double spi_cpu_read_bandwidth(uint32_t thread_count);

#endif
