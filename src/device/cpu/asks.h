/* device/cpu/asks.h - asking for lines of weights before they are read: spi_cpu_product's ahead_bytes and ahead_second.
 *
 * Kernels are instances for a constant of `spi_asks`. May include: device/cpu/kernels.h, vector.h.
 */
#ifndef SPI_DEVICE_CPU_ASKS_H
#define SPI_DEVICE_CPU_ASKS_H

#include "device/cpu/kernels.h"
#include "device/cpu/vector.h"

/* Whether, and into which level of the cache. */
typedef enum spi_asks { SPI_ASKS_NOT, SPI_ASKS_FIRST, SPI_ASKS_SECOND } spi_asks;

SPI_INLINE void spi_ask(const spi_asks asks, const uint8_t *at, size_t bytes) {
#if defined(V_ASKS)
    for (size_t line = 0; asks && line < bytes; line += 64) {
        if (asks == SPI_ASKS_FIRST) {
            v_fetch(at + line);
        } else {
            v_fetch_second(at + line);
        }
    }
#else
    (void)asks;
    (void)at;
    (void)bytes;
#endif
}

#endif
