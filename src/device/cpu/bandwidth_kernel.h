/* device/cpu/bandwidth_kernel.h - reading memory as fast as one core can. May include: nothing. */
#ifndef SPI_DEVICE_CPU_BANDWIDTH_KERNEL_H
#define SPI_DEVICE_CPU_BANDWIDTH_KERNEL_H

#include <stddef.h>
#include <stdint.h>

/* Reads bytes (a multiple of 256, aligned to 32) and returns their sum as 64-bit words. */
uint64_t spi_bandwidth_read_avx2(const uint8_t *from, size_t bytes);

#endif
