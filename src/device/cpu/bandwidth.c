/* device/cpu/bandwidth.c - see device/bandwidth.h. May include: device, os, base. */
#include "device/bandwidth.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/cpu/bandwidth_kernel.h"
#include "device/cpu/pool.h"
#include "os/clock.h"
#include "os/cpu.h"
#include "os/vm.h"

#define ALIGN_BYTES ((size_t)2 << 20)
#define PASSES      7

struct spi_bandwidth {
    spi_pool *pool;
    uint8_t *buffer;
    void *mapping;
    size_t mapping_bytes;
    uint64_t *sums; /* of each thread, a cache line apart: so that the reads have a use */
};

static uint64_t read_plain(const uint8_t *from, size_t bytes) {
    uint64_t sum = 0, word;
    for (size_t i = 0; i < bytes; i += sizeof word) {
        memcpy(&word, from + i, sizeof word);
        sum += word;
    }
    return sum;
}

static void part(uint32_t thread, uint32_t thread_count, size_t *first, size_t *bytes) {
    uint64_t from, end;
    spi_pool_share(SPI_BANDWIDTH_BYTES, 4096, thread, thread_count, &from, &end);
    *first = (size_t)from;
    *bytes = (size_t)(end - from);
}

static void fill_share(void *env, uint32_t thread, uint32_t thread_count) {
    spi_bandwidth *bandwidth = env;
    size_t first, bytes;
    part(thread, thread_count, &first, &bytes);
    memset(bandwidth->buffer + first, 1, bytes);
}

static void read_share(void *env, uint32_t thread, uint32_t thread_count) {
    spi_bandwidth *bandwidth = env;
    size_t first, bytes;
    part(thread, thread_count, &first, &bytes);
    const uint8_t *from = bandwidth->buffer + first;
#if defined(__x86_64__)
    if (spi_cpu_get_features()->avx2_fma_f16c) {
        bandwidth->sums[thread * 8] += spi_bandwidth_read_avx2(from, bytes);
        return;
    }
#endif
    bandwidth->sums[thread * 8] += read_plain(from, bytes);
}

double spi_bandwidth_measure(spi_bandwidth *bandwidth) {
    int64_t start_ns = spi_clock_ns();
    spi_pool_run_parts(bandwidth->pool, read_share, bandwidth);
    return (double)SPI_BANDWIDTH_BYTES / (double)(spi_clock_ns() - start_ns);
}

void spi_bandwidth_destroy(spi_bandwidth *bandwidth) {
    if (!bandwidth) {
        return;
    }
    spi_pool_destroy(bandwidth->pool);
    if (bandwidth->mapping) {
        spi_vm_release(bandwidth->mapping, bandwidth->mapping_bytes);
    }
    spi_free_aligned(bandwidth->sums);
    spi_free(bandwidth);
}

sp_status spi_bandwidth_create(uint32_t thread_count, spi_bandwidth **out, sp_error *error) {
    *out = NULL;
    spi_bandwidth *bandwidth = spi_alloc(1, sizeof *bandwidth);
    if (!bandwidth) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to measure bandwidth");
    }
    uint32_t threads = thread_count ? thread_count : spi_cpu_thread_count();
    void *base = NULL;
    sp_status status = spi_pool_create(threads, &bandwidth->pool, error);
    if (!status) {
        bandwidth->sums = spi_alloc_aligned((size_t)threads * 64, 64);
        status = bandwidth->sums ? SP_OK : SP_NO_MEMORY;
    }
    if (!status) {
        status =
            spi_vm_reserve(SPI_BANDWIDTH_BYTES, ALIGN_BYTES, &base, &bandwidth->mapping, &bandwidth->mapping_bytes);
    }
    if (!status) {
        status = spi_vm_commit(base, SPI_BANDWIDTH_BYTES, true);
    }
    if (status) {
        spi_bandwidth_destroy(bandwidth);
        return spi_fail(error, status, "no memory to measure bandwidth: %zu MB are needed", SPI_BANDWIDTH_BYTES >> 20);
    }
    bandwidth->buffer = base;
    spi_pool_run_parts(bandwidth->pool, fill_share, bandwidth);
    *out = bandwidth;
    return SP_OK;
}

double spi_cpu_read_bandwidth(uint32_t thread_count) {
    spi_bandwidth *bandwidth;
    double best = 0;
    if (spi_bandwidth_create(thread_count, &bandwidth, NULL)) {
        return 0;
    }
    for (int i = 0; i < PASSES; i++) {
        double now = spi_bandwidth_measure(bandwidth);
        best = now > best ? now : best;
    }
    spi_bandwidth_destroy(bandwidth);
    return best;
}
