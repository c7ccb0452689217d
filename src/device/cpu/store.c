/* device/cpu/store.c - weights made ready: packed for the chosen kernels, or copied as they are, into huge pages; what
 * only EMBED reads is used where the file has it.
 *
 * Packing is done by all threads, each the groups of rows that it will later compute, so that on a machine with several
 * memory nodes pages lie near their user. Pages of the file that were packed are given back to the system where the
 * caller says that they can be read again (spi_weights.droppable): memory does not hold weights twice for longer than
 * it takes. May include: device, os, base.
 */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/cpu/cpu.h"
#include "os/vm.h"

#define HUGE_PAGE_BYTES ((size_t)2 << 20)
/* Progress is told, and file pages given back, each time that so much of a tensor is packed: that much of it is in
 * memory twice. */
#define PACK_STEP_BYTES ((uint64_t)4 << 20)

typedef struct pack_job {
    const spi_tensor *tensor;
    const spi_cpu_type *type;
    void *packed;
    uint32_t group_first, group_end;
} pack_job;

static void pack_share(void *env, uint32_t thread, uint32_t thread_count) {
    const pack_job *job = env;
    uint64_t first, end;
    spi_pool_share(job->group_end - job->group_first, 1, thread, thread_count, &first, &end);
    if (first < end) {
        job->type->pack(job->packed, job->tensor, job->group_first + (uint32_t)first, (uint32_t)(end - first));
    }
}

typedef struct packing {
    spi_cpu *cpu;
    bool droppable;
    spi_progress progress;
    void *progress_env;
    uint64_t done_bytes, total_bytes;
} packing;

static void pack_tensor(packing *state, const spi_tensor *tensor, const spi_cpu_type *type, void *packed) {
    uint32_t groups = (tensor->rows - 1) / type->group_rows + 1;
    uint64_t group_bytes = tensor->bytes / groups + 1, step = PACK_STEP_BYTES / group_bytes + 1;
    for (uint64_t first = 0; first < groups; first += step) {
        uint64_t end = first + step < groups ? first + step : groups;
        pack_job job = {tensor, type, packed, (uint32_t)first, (uint32_t)end};
        spi_pool_run_parts(state->cpu->pool, pack_share, &job);
        uint64_t from = tensor->bytes * first / groups, to = tensor->bytes * end / groups;
        if (state->droppable && !tensor->copied) {
            spi_vm_drop((const uint8_t *)tensor->data + from, (size_t)(to - from));
        }
        state->done_bytes += to - from;
        if (state->progress) {
            state->progress(state->progress_env, state->done_bytes, state->total_bytes);
        }
    }
}

/* Floats that are a copy in memory already are used there. */
static bool is_packed(const spi_store *store, uint32_t index) {
    const spi_cpu_type *type = store->matrices[index].type;
    const spi_tensor *tensor = &store->tensors[index];
    return type->packed_bytes && !tensor->rows_only && !(tensor->copied && type->as_is);
}

static size_t packed_bytes(const spi_store *store, uint32_t index) {
    const spi_tensor *tensor = &store->tensors[index];
    size_t bytes = store->matrices[index].type->packed_bytes(tensor);
    return (bytes + SPI_CPU_CACHE_LINE_BYTES - 1) / SPI_CPU_CACHE_LINE_BYTES * SPI_CPU_CACHE_LINE_BYTES;
}

static sp_status pack_all(spi_store *store, packing *state, sp_error *error) {
    size_t arena_bytes = 0;
    for (uint32_t i = 0; i < store->count; i++) {
        if (is_packed(store, i)) {
            arena_bytes += packed_bytes(store, i);
            state->total_bytes += store->tensors[i].bytes;
        }
    }
    if (!arena_bytes) {
        return SP_OK;
    }
    arena_bytes = (arena_bytes + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    void *base;
    sp_status status =
        spi_vm_reserve(arena_bytes, HUGE_PAGE_BYTES, &base, &store->arena_mapping, &store->arena_mapping_bytes);
    if (!status) {
        status = spi_vm_commit(base, arena_bytes, true);
    }
    if (status) {
        return spi_fail(error, status, "no memory for %zu MB of packed weights: use a smaller or more quantised model",
                        arena_bytes >> 20);
    }
    uint8_t *at = base;
    for (uint32_t i = 0; i < store->count; i++) {
        if (is_packed(store, i)) {
            pack_tensor(state, &store->tensors[i], store->matrices[i].type, at);
            store->matrices[i].data = at;
            at += packed_bytes(store, i);
        }
    }
    return SP_OK;
}

void spi_cpu_unload(void *context, spi_store *store) {
    (void)context;
    if (!store) {
        return;
    }
    if (store->arena_mapping) {
        spi_vm_release(store->arena_mapping, store->arena_mapping_bytes);
    }
    spi_free(store->tensors);
    spi_free(store->matrices);
    spi_free(store);
}

static sp_status check_tensor(const spi_tensor *tensor, sp_error *error) {
    uint32_t block = sp_dtype_block_elements(tensor->type);
    if (!block) {
        return spi_fail(error, SP_UNSUPPORTED, "tensor %s has type %d, which the cpu device lacks", tensor->name,
                        (int)tensor->type);
    }
    if (!tensor->rows || !tensor->cols || tensor->cols % block) {
        return spi_fail(error, SP_UNSUPPORTED, "tensor %s is [%u][%u], and rows of %s are multiples of %u",
                        tensor->name, tensor->rows, tensor->cols, sp_dtype_name(tensor->type), block);
    }
    return SP_OK;
}

sp_status spi_cpu_load(void *context, const spi_weights *weights, spi_progress progress, void *progress_env,
                       spi_store **out, sp_error *error) {
    spi_cpu *cpu = context;
    *out = NULL;
    for (uint32_t i = 0; i < weights->count; i++) {
        sp_status status = check_tensor(&weights->tensors[i], error);
        if (status) {
            return status;
        }
    }
    spi_store *store = spi_alloc(1, sizeof *store);
    if (!store) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a list of weights");
    }
    store->count = weights->count;
    store->tensors = spi_alloc(weights->count, sizeof *store->tensors);
    store->matrices = spi_alloc(weights->count, sizeof *store->matrices);
    if (!store->tensors || !store->matrices) {
        spi_cpu_unload(cpu, store);
        return spi_fail(error, SP_NO_MEMORY, "no memory for a list of %u weights", weights->count);
    }
    for (uint32_t i = 0; i < weights->count; i++) {
        store->tensors[i] = weights->tensors[i];
        store->matrices[i].type = spi_cpu_find_type(cpu->kernels, weights->tensors[i].type);
        store->matrices[i].data = weights->tensors[i].data;
    }
    packing state = {.cpu = cpu, .droppable = weights->droppable, .progress = progress, .progress_env = progress_env};
    sp_status status = pack_all(store, &state, error);
    if (status) {
        spi_cpu_unload(cpu, store);
        return status;
    }
    *out = store;
    return SP_OK;
}
