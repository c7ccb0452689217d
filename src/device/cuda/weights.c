/* device/cuda/weights.c - uploading weights: through a window of pinned memory (a file's mapping is never registered:
 * one kind of it hangs the driver) to a window on the card, from which a kernel lays out their planes. The window has
 * two halves, so that the host fills one while the card empties the other. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/cuda/cuda.h"

#define WINDOW_BYTES ((uint64_t)32 << 20)
#define ALIGN_BYTES  256u
#define THREADS      256u
#define GRID_MAX     8192u

typedef struct loader {
    spi_cu *cu;
    spi_store *store;
    spi_progress progress;
    void *progress_env;
    uint64_t done_bytes, total_bytes, half_bytes;
    spi_cu_pinned_memory window;
    spi_cu_buffer arrived;
    spi_cu_event events[2]; /* the card is done with a half */
    uint32_t half;
    sp_error *error;
} loader;

/* A row as it is sent: that of the file, or blocks that hold their scales. */
static uint64_t sent_row_bytes(const spi_tensor *tensor) {
    uint32_t bits = spi_affine_bits(tensor->type);
    return bits ? (uint64_t)tensor->cols / SPI_AFFINE_BLOCK * SPI_AFFINE_BLOCK_BYTES(bits)
                : tensor->bytes / tensor->rows;
}

static void take_rows(const spi_tensor *tensor, uint32_t first, uint32_t count, uint8_t *to) {
    uint64_t row_bytes = sent_row_bytes(tensor);
    if (!spi_affine_bits(tensor->type)) {
        memcpy(to, (const uint8_t *)tensor->data + first * row_bytes, count * row_bytes);
        return;
    }
    for (uint32_t row = 0; row < count; row++) {
        spi_tensor_affine_blocks(tensor, first + row, 0, tensor->cols / SPI_AFFINE_BLOCK, to + row * row_bytes);
    }
}

static sp_status lay_out(loader *load) {
    spi_store *store = load->store;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < store->weights.count; i++) {
        const spi_tensor *tensor = &store->sources[i];
        const spi_cu_format *format = spi_cu_format_of(tensor->type);
        if (!format) {
            const char *name = sp_dtype_name(tensor->type);
            return spi_fail(load->error, SP_UNSUPPORTED, "cuda: there are no kernels for tensor %s, which is %s",
                            tensor->name, name ? name : "of an unknown type");
        }
        spi_cu_matrix_lay_out(format, tensor, &store->matrices[i]);
        store->matrices[i].data = bytes;
        bytes += ((uint64_t)tensor->rows * store->matrices[i].stride + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
        uint64_t row_bytes = sent_row_bytes(tensor);
        load->total_bytes += row_bytes * tensor->rows;
        load->half_bytes = row_bytes > load->half_bytes ? row_bytes : load->half_bytes;
    }
    sp_status status =
        spi_cu_buffer_create(load->cu, bytes ? bytes : ALIGN_BYTES, "a model's weights", &store->slab, load->error);
    for (uint32_t i = 0; i < store->weights.count; i++) {
        store->matrices[i].data += store->slab.address;
    }
    return status;
}

static sp_status open_window(loader *load) {
    spi_cu *cu = load->cu;
    uint64_t half = (cu->choices.window_bytes ? cu->choices.window_bytes : WINDOW_BYTES) / 2;
    load->half_bytes = (load->half_bytes > half ? load->half_bytes : half) + 15;
    load->half_bytes -= load->half_bytes % 16;
    sp_status status =
        spi_cu_pinned_create(cu, load->half_bytes * 2, "a window for weights", &load->window, load->error);
    status = status
                 ? status
                 : spi_cu_buffer_create(cu, load->half_bytes * 2, "a window for weights", &load->arrived, load->error);
    for (uint32_t i = 0; i < 2 && !status; i++) {
        spi_cu_result result = cu->call->EventCreate(&load->events[i], SPI_CU_EVENT_NO_TIMING);
        if (result) {
            load->events[i] = NULL;
            status = spi_cu_check(cu, result, "creating an event", load->error);
        }
    }
    return status;
}

static void close_window(loader *load) {
    spi_cu *cu = load->cu;
    cu->call->StreamSynchronize(cu->stream);
    for (uint32_t i = 0; i < 2; i++) {
        if (load->events[i]) {
            cu->call->EventDestroy(load->events[i]);
        }
    }
    spi_cu_buffer_destroy(cu, &load->arrived);
    spi_cu_pinned_destroy(cu, &load->window);
}

/* Rows [first, first + count) of a tensor. */
static sp_status send(loader *load, uint32_t index, uint32_t first, uint32_t count) {
    spi_cu *cu = load->cu;
    const spi_tensor *tensor = &load->store->sources[index];
    const spi_cu_matrix *matrix = &load->store->matrices[index];
    uint64_t row_bytes = sent_row_bytes(tensor), at = load->half * load->half_bytes;
    spi_cu_event event = load->events[load->half];
    /* An event that was never recorded is done. */
    sp_status status = spi_cu_check(cu, cu->call->EventSynchronize(event), "uploading weights", load->error);
    if (status) {
        return status;
    }
    uint8_t *window = (uint8_t *)load->window.address + at;
    take_rows(tensor, first, count, window);
    spi_cu_pointer from = load->arrived.address + at, to = matrix->data + (uint64_t)first * matrix->stride;
    spi_cu_result result = cu->call->MemcpyHtoDAsync(from, window, count * row_bytes, cu->stream);
    status = spi_cu_check(cu, result, "uploading weights", load->error);
    if (status) {
        return status;
    }
    spi_cu_format format = *spi_cu_format_of(tensor->type);
    spi_cu_matrix layout = *matrix;
    uint64_t work = (uint64_t)count * (matrix->stride / 4);
    uint32_t grid = spi_cu_ceil(work, THREADS);
    void *arguments[] = {&to, &from, &format, &layout, &count};
    status = spi_cu_launch(cu, SPI_CU_repack, grid < GRID_MAX ? grid : GRID_MAX, 1, THREADS, arguments, load->error);
    status =
        status ? status : spi_cu_check(cu, cu->call->EventRecord(event, cu->stream), "uploading weights", load->error);
    load->half ^= 1;
    return status;
}

static sp_status fill(loader *load) {
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < load->store->weights.count && !status; i++) {
        const spi_tensor *tensor = &load->store->sources[i];
        uint64_t row_bytes = sent_row_bytes(tensor), step = load->half_bytes / row_bytes;
        for (uint64_t row = 0; row < tensor->rows && !status; row += step) {
            uint64_t left = tensor->rows - row, count = left < step ? left : step;
            status = send(load, i, (uint32_t)row, (uint32_t)count);
            load->done_bytes += count * row_bytes;
            if (load->progress && !status) {
                load->progress(load->progress_env, load->done_bytes, load->total_bytes);
            }
        }
    }
    return status ? status : spi_cu_wait(load->cu, "uploading weights", load->error);
}

sp_status spi_cu_load(void *context, const spi_weights *weights, spi_progress progress, void *progress_env,
                      spi_store **out, sp_error *error) {
    spi_cu *cu = context;
    *out = NULL;
    sp_status status = spi_cu_enter(cu, error);
    if (status) {
        return status;
    }
    spi_store *store = spi_alloc(1, sizeof *store);
    if (!store) {
        return spi_fail(error, SP_NO_MEMORY, "cuda: no memory to load a model");
    }
    store->sources = spi_alloc(weights->count, sizeof *store->sources);
    store->matrices = spi_alloc(weights->count, sizeof *store->matrices);
    if (store->sources && store->matrices) {
        memcpy(store->sources, weights->tensors, weights->count * sizeof *store->sources);
        store->weights = (spi_weights){.tensors = store->sources, .count = weights->count};
        loader load = {.cu = cu, .store = store, .progress = progress, .progress_env = progress_env, .error = error};
        status = lay_out(&load);
        status = status ? status : open_window(&load);
        status = status ? status : fill(&load);
        close_window(&load);
    } else {
        status = spi_fail(error, SP_NO_MEMORY, "cuda: no memory to load a model");
    }
    if (status) {
        spi_cu_unload(cu, store);
        return status;
    }
    *out = store;
    return SP_OK;
}

void spi_cu_unload(void *context, spi_store *store) {
    spi_cu *cu = context;
    cu->call->CtxSetCurrent(cu->context);
    spi_cu_buffer_destroy(cu, &store->slab);
    spi_free(store->matrices);
    spi_free(store->sources);
    spi_free(store);
}
