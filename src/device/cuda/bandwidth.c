/* device/cuda/bandwidth.c - how fast the card reads its own memory: the ceiling of decoding, measured in the same run
 * as the decoding that is compared with it. */
#include "base/error.h"
#include "device/cuda/cuda.h"
#include "os/clock.h"

#define BYTES  ((uint64_t)4 << 30) /* many times the cache */
#define PASSES 10u
#define BLOCKS 8u /* on a multiprocessor */

sp_status spi_cu_read_bandwidth(spi_cu *cu, double *gb_per_s, sp_error *error) {
    spi_cu_buffer buffer;
    *gb_per_s = 0;
    sp_status status = spi_cu_enter(cu, error);
    status = status ? status : spi_cu_buffer_create(cu, BYTES, "measuring", &buffer, error);
    if (status) {
        return status;
    }
    status = spi_cu_buffer_zero(cu, &buffer, error);
    uint64_t count = BYTES / 16;
    void *arguments[] = {&buffer.address, &count};
    int64_t best_ns = INT64_MAX;
    for (uint32_t i = 0; i < PASSES && !status; i++) {
        int64_t start_ns = spi_clock_ns();
        status =
            spi_cu_launch(cu, SPI_CU_read_all, BLOCKS * (uint32_t)cu->card.multiprocessors, 1, 512, arguments, error);
        status = status ? status : spi_cu_wait(cu, "measuring", error);
        int64_t taken_ns = spi_clock_ns() - start_ns;
        best_ns = taken_ns < best_ns ? taken_ns : best_ns;
    }
    spi_cu_buffer_destroy(cu, &buffer);
    *gb_per_s = status ? 0 : (double)BYTES / (double)best_ns;
    return status;
}
