/* device/cpu/cpu.c - the CPU as a device: opening it, linking (there is nothing to do: the bytes are the same), and the
 * guests' matrix product. See cpu.h for the other files. May include: device, region, os, base.
 */
#include "device/cpu/cpu.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/backends.h"
#include "os/cpu.h"
#include "os/vm.h"

static void describe(const spi_cpu_kernels *kernels, uint32_t thread_count, sp_device_info *info) {
    *info = (sp_device_info){.link = SP_LINK_SHARED, .thread_count = thread_count};
    snprintf(info->name, sizeof info->name, "cpu");
    snprintf(info->isa, sizeof info->isa, "%s", kernels->name);
    spi_cpu_name(info->description, sizeof info->description);
}

static sp_status enumerate(sp_device_info *infos, size_t capacity, size_t *count, sp_error *error) {
    const spi_cpu_kernels *kernels;
    *count = 0;
    sp_status status = spi_cpu_pick_kernels(NULL, &kernels, error);
    if (!status) {
        *count = 1;
        if (capacity) {
            describe(kernels, spi_cpu_thread_count(), infos);
        }
    }
    return status;
}

static void cpu_close(void *context) {
    spi_cpu *cpu = context;
    spi_pool_destroy(cpu->pool);
    spi_free(cpu);
}

static sp_status cpu_open(uint32_t index, const sp_device_options *options, void **context, sp_error *error) {
    *context = NULL;
    if (index) {
        return spi_fail(error, SP_NO_DEVICE, "there is one cpu device: \"cpu\"");
    }
    const spi_cpu_kernels *kernels;
    sp_status status = spi_cpu_pick_kernels(options->isa, &kernels, error);
    if (status) {
        return status;
    }
    spi_cpu *cpu = spi_alloc(1, sizeof *cpu);
    if (!cpu) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to open the cpu device");
    }
    cpu->kernels = kernels;
    status = spi_pool_create(options->thread_count ? options->thread_count : spi_cpu_thread_count(), &cpu->pool, error);
    if (status) {
        spi_free(cpu);
        return status;
    }
    *context = cpu;
    return SP_OK;
}

static void cpu_info(void *context, sp_device_info *info) {
    const spi_cpu *cpu = context;
    describe(cpu->kernels, spi_pool_thread_count(cpu->pool), info);
}

static void cpu_rules(void *context, spi_link_rules *rules) {
    (void)context;
    *rules = (spi_link_rules){.align_bytes = spi_vm_page_bytes(),
                              .backings = 1u << SP_BACKING_ANONYMOUS | 1u << SP_BACKING_SHAREABLE,
                              .best = SP_LINK_SHARED};
}

static sp_status cpu_link(void *context, sp_region *region, spi_link **link, sp_error *error) {
    (void)context;
    *link = spi_alloc(1, sizeof **link);
    if (!*link) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to link a region");
    }
    **link = (spi_link){.region = region, .kind = SP_LINK_SHARED, .linked_bytes = sp_region_committed_bytes(region)};
    return SP_OK;
}

static sp_status cpu_extend(void *context, spi_link *link, sp_error *error) {
    (void)context;
    (void)error;
    link->linked_bytes = sp_region_committed_bytes(link->region);
    return SP_OK;
}

static void cpu_unlink(void *context, spi_link *link) {
    (void)context;
    spi_free(link);
}

typedef struct matmul_job {
    const spi_cpu_kernels *kernels;
    spi_cpu_gemm whole;
    uint32_t m;
    uint64_t columns, items; /* blocks of c: in a row of them, and in all */
    atomic_uint_least64_t next;
    uint8_t *scratch;
    size_t scratch_bytes;
} matmul_job;

static void matmul_share(void *env, uint32_t thread, uint32_t thread_count) {
    (void)thread_count;
    matmul_job *job = env;
    uint32_t rows = job->kernels->gemm_rows, cols = job->kernels->gemm_cols;
    uint64_t item;
    while ((item = atomic_fetch_add(&job->next, 1)) < job->items) {
        spi_cpu_gemm part = job->whole;
        part.row_first = (uint32_t)(item / job->columns) * rows;
        part.col_first = (uint32_t)(item % job->columns) * cols;
        part.row_count = job->m - part.row_first < rows ? job->m - part.row_first : rows;
        part.col_count = part.n - part.col_first < cols ? part.n - part.col_first : cols;
        part.scratch = job->scratch + thread * job->scratch_bytes;
        job->kernels->gemm(&part);
    }
}

static sp_status cpu_matmul(void *context, spi_link *link, const sp_matmul *args, sp_error *error) {
    spi_cpu *cpu = context;
    const spi_cpu_kernels *kernels = cpu->kernels;
    uint8_t *base = sp_region_base(link->region);
    assert(args->a_offset % 16 == 0 && args->b_offset % 16 == 0 && args->c_offset % 16 == 0);
    assert(args->c_offset + (uint64_t)args->m * args->n * sizeof(float) <= sp_region_size_bytes(link->region));
    if (!args->m || !args->n) {
        return SP_OK;
    }
    matmul_job job = {.kernels = kernels,
                      .whole = {.a = base + args->a_offset,
                                .b = base + args->b_offset,
                                .c = (float *)(void *)(base + args->c_offset),
                                .half = args->type == SP_F16,
                                .n = args->n,
                                .k = args->k},
                      .m = args->m,
                      .columns = (args->n - 1) / kernels->gemm_cols + 1};
    job.items = job.columns * ((args->m - 1) / kernels->gemm_rows + 1);
    job.scratch_bytes = kernels->gemm_scratch_bytes;
    job.scratch = spi_alloc_aligned(job.scratch_bytes * spi_pool_thread_count(cpu->pool), SPI_CPU_CACHE_LINE_BYTES);
    if (!job.scratch) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for the scratch of a matrix product");
    }
    spi_pool_run_parts(cpu->pool, matmul_share, &job);
    spi_free_aligned(job.scratch);
    cpu->runs++;
    return SP_OK;
}

static void cpu_counters(void *context, sp_device_counters *counters) {
    const spi_cpu *cpu = context;
    counters->runs += cpu->runs;
}

const spi_backend spi_backend_cpu = {
    .name = "cpu",
    .runs_on_fibers = true,
    .has_q8_kv = true,
    .enumerate = enumerate,
    .open = cpu_open,
    .close = cpu_close,
    .info = cpu_info,
    .rules = cpu_rules,
    .link = cpu_link,
    .extend = cpu_extend,
    .unlink = cpu_unlink,
    .load = spi_cpu_load,
    .unload = spi_cpu_unload,
    .prepare = spi_cpu_prepare,
    .discard = spi_cpu_discard,
    .run = spi_cpu_run,
    .matmul = cpu_matmul,
    .write_buffer = spi_cpu_write_buffer,
    .read_buffer = spi_cpu_read_buffer,
    .counters = cpu_counters,
};
