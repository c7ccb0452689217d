/* device/cuda/submit.c - handing work to the card and waiting for it. */
#include "base/error.h"
#include "device/cuda/cuda.h"
#include "os/clock.h"

/* A token takes less than this; what takes longer is not worth a busy processor. */
#define SPIN_NS 3000000

uint32_t spi_cu_ceil(uint64_t count, uint32_t unit) {
    return (uint32_t)((count + unit - 1) / unit);
}

sp_status spi_cu_check(spi_cu *cu, spi_cu_result result, const char *what, sp_error *error) {
    if (!result) {
        return SP_OK;
    }
    sp_status status = spi_cu_fail(error, result, what);
    cu->lost = cu->lost || status == SP_DEVICE_LOST;
    return status;
}

sp_status spi_cu_enter(spi_cu *cu, sp_error *error) {
    if (cu->lost) {
        return spi_fail(error, SP_DEVICE_LOST, "cuda: %s was lost: close it and open it again", cu->info.name);
    }
    return spi_cu_check(cu, cu->call->CtxSetCurrent(cu->context), "making the card current", error);
}

/* On cards that can, a kernel starts before the last one has ended and waits for that by itself
 * (kernels/common.cuh). */
static sp_status launch(spi_cu *cu, spi_cu_kernel kernel, const spi_cu_launch_config *wanted, uint32_t cluster,
                        void **arguments, sp_error *error) {
    spi_cu_launch_attribute attributes[2];
    spi_cu_launch_config config = *wanted;
    config.attributes = attributes;
    if (cluster > 1) {
        attributes[config.attribute_count++] =
            (spi_cu_launch_attribute){.id = SPI_CU_LAUNCH_CLUSTER, .value = {1, 1, cluster}};
    }
    if (cu->overlaps) {
        attributes[config.attribute_count++] = (spi_cu_launch_attribute){.id = SPI_CU_LAUNCH_OVERLAP, .value = {1}};
    }
    spi_cu_result result = cu->call->LaunchKernelEx(&config, cu->kernels[kernel], arguments, NULL);
    return spi_cu_check(cu, result, "starting a kernel", error);
}

sp_status spi_cu_launch(spi_cu *cu, spi_cu_kernel kernel, uint32_t grid_x, uint32_t grid_y, uint32_t threads,
                        void **arguments, sp_error *error) {
    const spi_cu_launch_config config = {.grid = {grid_x, grid_y, 1}, .block = {threads, 1, 1}, .stream = cu->stream};
    return launch(cu, kernel, &config, 1, arguments, error);
}

sp_status spi_cu_launch_cluster(spi_cu *cu, spi_cu_kernel kernel, uint32_t grid_x, uint32_t grid_y, uint32_t cluster,
                                uint32_t threads, uint32_t shared_bytes, void **arguments, sp_error *error) {
    const spi_cu_launch_config config = {.grid = {grid_x, grid_y, cluster},
                                         .block = {threads, 1, 1},
                                         .shared_bytes = shared_bytes,
                                         .stream = cu->stream};
    return launch(cu, kernel, &config, cluster, arguments, error);
}

/* All blocks run at the same time, so that they can wait for each other. */
sp_status spi_cu_launch_together(spi_cu *cu, spi_cu_kernel kernel, uint32_t blocks, uint32_t threads,
                                 uint32_t shared_bytes, void **arguments, sp_error *error) {
    spi_cu_result result = cu->choices.apart
                               ? cu->call->LaunchKernel(cu->kernels[kernel], blocks, 1, 1, threads, 1, 1, shared_bytes,
                                                        cu->stream, arguments, NULL)
                               : cu->call->LaunchCooperativeKernel(cu->kernels[kernel], blocks, 1, 1, threads, 1, 1,
                                                                   shared_bytes, cu->stream, arguments);
    return spi_cu_check(cu, result, "starting a kernel", error);
}

sp_status spi_cu_wait(spi_cu *cu, const char *what, sp_error *error) {
    spi_cu_result result = cu->call->EventRecord(cu->done, cu->stream);
    if (!result) {
        int64_t end_ns = spi_clock_ns() + SPIN_NS;
        do {
            result = cu->call->EventQuery(cu->done);
        } while (result == SPI_CU_NOT_READY && spi_clock_ns() < end_ns);
    }
    if (result == SPI_CU_NOT_READY) {
        result = cu->call->EventSynchronize(cu->done);
    }
    return spi_cu_check(cu, result, what, error);
}

sp_status spi_cu_wait_for(spi_cu *cu, const void *place, uint32_t number, const char *what, sp_error *error) {
    const volatile uint32_t *at = place;
    int64_t end_ns = spi_clock_ns() + SPIN_NS;
    bool late = !number;
    while (!late) {
        for (int i = 0; i < 256; i++) {
            if (*at == number) {
                __atomic_thread_fence(__ATOMIC_ACQUIRE);
                return SP_OK;
            }
        }
        late = spi_clock_ns() > end_ns;
    }
    return spi_cu_wait(cu, what, error);
}
