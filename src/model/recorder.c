/* model/recorder.c - see recorder.h. */
#include "model/recorder.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "dtype/names.h"

#define NAME_BYTES_MAX 96

static void fail_no_memory(spi_recorder *recorder) {
    recorder->status = spi_fail(recorder->error, SP_NO_MEMORY, "no memory for the model's index");
}

static void layer_name(char name[NAME_BYTES_MAX], const char *format, uint32_t layer) {
    const char *place = strstr(format, "%u");
    if (place) {
        snprintf(name, NAME_BYTES_MAX, "%.*s%u%s", (int)(place - format), format, layer, place + 2);
    } else {
        snprintf(name, NAME_BYTES_MAX, "%s", format);
    }
}

/* Finds a tensor, checks its shape and marks it as used. NULL after a failure, or if it is optional and not there. */
static const spi_source_tensor *take(spi_recorder *recorder, const char *name, uint64_t rows, uint64_t cols,
                                     bool optional) {
    if (recorder->status) {
        return NULL;
    }
    const spi_source_tensor *tensor = spi_source_find_tensor(recorder->source, name);
    if (!tensor) {
        if (!optional) {
            recorder->status = spi_fail(recorder->error, SP_BAD_FILE, "the tensor %s is missing", name);
        }
        return NULL;
    }
    uint64_t height = tensor->dimensions[1] * tensor->dimensions[2] * tensor->dimensions[3];
    if (tensor->dimensions[0] != cols || height != rows) {
        recorder->status = spi_fail(recorder->error, SP_BAD_FILE, "the tensor %s is %llu x %llu, not %llu x %llu", name,
                                    (unsigned long long)height, (unsigned long long)tensor->dimensions[0],
                                    (unsigned long long)rows, (unsigned long long)cols);
        return NULL;
    }
    if (!tensor->data) {
        recorder->status = spi_fail(recorder->error, SP_UNSUPPORTED,
                                    "the tensor %s has the weight type %s (number %u), which is not supported "
                                    "(supported:%s)",
                                    name, spi_dtype_text(tensor->type), tensor->type, spi_dtype_supported);
        return NULL;
    }
    recorder->used[tensor - spi_source_tensor_at(recorder->source, 0)] = true;
    return tensor;
}

/* Tensor names in messages and ops must outlive the recorder's caller's buffers, and those in the file have no zero
 * byte at their end. */
static uint32_t add_tensor(spi_recorder *recorder, const char *name, const spi_tensor *tensor) {
    if (!SPI_RESERVE(recorder->tensors, recorder->tensor_count, recorder->tensor_capacity)) {
        fail_no_memory(recorder);
        return SPI_NONE;
    }
    spi_tensor *added = &recorder->tensors[recorder->tensor_count];
    *added = *tensor;
    added->name = spi_copy_string(name, strlen(name));
    if (!added->name) {
        fail_no_memory(recorder);
        return SPI_NONE;
    }
    return (uint32_t)recorder->tensor_count++;
}

bool spi_record_has(const spi_recorder *recorder, const char *format, uint32_t layer) {
    char name[NAME_BYTES_MAX];
    layer_name(name, format, layer);
    return spi_source_find_tensor(recorder->source, name);
}

/* Behind the name of a tensor that is a part of one. */
static void name_part(char name[NAME_BYTES_MAX], spi_slice part) {
    size_t used = strlen(name);
    snprintf(name + used, NAME_BYTES_MAX - used, " from %u", part.first);
}

uint32_t spi_record_matrix(spi_recorder *recorder, const char *format, uint32_t layer, uint32_t rows, uint32_t cols,
                           spi_slice part) {
    char name[NAME_BYTES_MAX];
    layer_name(name, format, layer);
    const spi_source_tensor *found = take(recorder, name, part.of ? part.of : rows, cols, false);
    if (!found) {
        return SPI_NONE;
    }
    spi_tensor tensor = {.type = (sp_dtype)found->type,
                         .rows = rows,
                         .cols = cols,
                         .data = found->data,
                         .bytes = found->bytes,
                         .copied = found->copied,
                         .affine = found->affine};
    if (part.of) {
        uint64_t row_bytes = found->bytes / part.of;
        tensor.data = (const uint8_t *)found->data + part.first * row_bytes;
        tensor.bytes = rows * row_bytes;
        if (spi_affine_bits(tensor.type)) {
            uint64_t skipped =
                (uint64_t)part.first * (cols / tensor.affine.group) * sp_dtype_block_bytes(tensor.affine.type);
            tensor.affine.scales = (const uint8_t *)tensor.affine.scales + skipped;
            tensor.affine.biases = (const uint8_t *)tensor.affine.biases + skipped;
        }
        name_part(name, part);
    }
    return add_tensor(recorder, name, &tensor);
}

/* NULL: no memory. */
static float *own_vector(spi_recorder *recorder, uint32_t elements) {
    float *vector = NULL;
    if (!SPI_RESERVE(recorder->vectors, recorder->vector_count, recorder->vector_capacity) ||
        !(vector = spi_alloc_aligned((size_t)elements * sizeof *vector, 64))) {
        fail_no_memory(recorder);
        return NULL;
    }
    recorder->vectors[recorder->vector_count++] = vector;
    return vector;
}

/* Vectors are few and small; kernels take them as f32, so another float type is converted once. */
static const float *as_floats(spi_recorder *recorder, const char *name, const spi_source_tensor *found,
                              uint32_t elements) {
    if (found->type == SP_F32 && !found->plus_one) {
        return found->data;
    }
    if (found->type != SP_F32 && found->type != SP_F16 && found->type != SP_BF16) {
        recorder->status = spi_fail(recorder->error, SP_UNSUPPORTED, "the vector %s has the type %s", name,
                                    sp_dtype_name((sp_dtype)found->type));
        return NULL;
    }
    float *copy = own_vector(recorder, elements);
    for (uint32_t i = 0; copy && i < elements; i++) {
        copy[i] = spi_affine_number((sp_dtype)found->type, found->data, i) + (found->plus_one ? 1.0f : 0.0f);
    }
    return copy;
}

static uint32_t add_vector(spi_recorder *recorder, const char *name, const float *data, uint32_t elements) {
    spi_tensor tensor = {.type = SP_F32,
                         .rows = 1,
                         .cols = elements,
                         .data = data,
                         .bytes = (uint64_t)elements * sizeof *data,
                         .rows_only = true,
                         .copied = true};
    return add_tensor(recorder, name, &tensor);
}

uint32_t spi_record_vector(spi_recorder *recorder, const char *format, uint32_t layer, uint32_t elements,
                           spi_slice part, bool optional) {
    char name[NAME_BYTES_MAX];
    layer_name(name, format, layer);
    uint32_t whole = part.of ? part.of : elements;
    const spi_source_tensor *found = take(recorder, name, 1, whole, optional);
    const float *data = found ? as_floats(recorder, name, found, whole) : NULL;
    if (!data) {
        return SPI_NONE;
    }
    if (part.of) {
        name_part(name, part);
    }
    return add_vector(recorder, name, data + part.first, elements);
}

uint32_t spi_record_values(spi_recorder *recorder, const char *name, const double *values, uint32_t elements) {
    float *copy = recorder->status ? NULL : own_vector(recorder, elements);
    if (!copy) {
        return SPI_NONE;
    }
    for (uint32_t i = 0; i < elements; i++) {
        copy[i] = (float)values[i];
    }
    return add_vector(recorder, name, copy, elements);
}

uint32_t spi_record_buffer(spi_recorder *recorder, const char *name, uint32_t width) {
    if (!SPI_RESERVE(recorder->buffers, recorder->buffer_count, recorder->buffer_capacity)) {
        fail_no_memory(recorder);
        return SPI_NONE;
    }
    recorder->buffers[recorder->buffer_count] = (spi_buffer){.name = name, .width = width};
    return (uint32_t)recorder->buffer_count++;
}

void spi_record_op(spi_recorder *recorder, spi_op op) {
    if (recorder->status) {
        return;
    }
    if (!SPI_RESERVE(recorder->ops, recorder->op_count, recorder->op_capacity)) {
        fail_no_memory(recorder);
        return;
    }
    recorder->ops[recorder->op_count++] = op;
}

static void find_vocab(spi_recorder *recorder) {
    const spi_source_tensor *embedding = spi_source_find_tensor(recorder->source, "token_embd.weight");
    if (!embedding) {
        recorder->status = spi_fail(recorder->error, SP_BAD_FILE, "the tensor token_embd.weight is missing");
    } else if (embedding->dimensions[1] < 1 || embedding->dimensions[1] > 1u << 24) {
        recorder->status = spi_fail(recorder->error, SP_BAD_FILE, "token_embd.weight has %llu rows",
                                    (unsigned long long)embedding->dimensions[1]);
    } else {
        recorder->hparams.vocab = (uint32_t)embedding->dimensions[1];
    }
}

static void refuse_unused(spi_recorder *recorder) {
    uint64_t count = spi_source_tensor_count(recorder->source);
    for (uint64_t i = 0; i < count && !recorder->status; i++) {
        if (!recorder->used[i]) {
            char name[64];
            spi_string_printable(spi_source_tensor_at(recorder->source, i)->name, name, sizeof name);
            recorder->status = spi_fail(recorder->error, SP_UNSUPPORTED,
                                        "the file has a tensor %s, which the architecture %s does not use here", name,
                                        recorder->hparams.family->architecture);
        }
    }
}

sp_status spi_recorder_run(spi_recorder *recorder, const spi_source *source, const spi_hparams *hparams,
                           sp_error *error) {
    *recorder = (spi_recorder){
        .source = source, .hparams = *hparams, .error = error, .factors_short = SPI_NONE, .factors_long = SPI_NONE};
    recorder->used = spi_alloc(spi_source_tensor_count(source), sizeof *recorder->used);
    if (!recorder->used) {
        fail_no_memory(recorder);
    } else {
        find_vocab(recorder);
        spi_record_pass(recorder);
        refuse_unused(recorder);
    }
    sp_status status = recorder->status;
    if (status) {
        spi_recorder_free(recorder);
    }
    return status;
}

void spi_recorder_free(spi_recorder *recorder) {
    for (size_t i = 0; i < recorder->tensor_count; i++) {
        spi_free((char *)(uintptr_t)recorder->tensors[i].name);
    }
    for (size_t i = 0; i < recorder->vector_count; i++) {
        spi_free_aligned(recorder->vectors[i]);
    }
    spi_free(recorder->tensors);
    spi_free(recorder->ops);
    spi_free(recorder->buffers);
    spi_free(recorder->vectors);
    spi_free(recorder->used);
    *recorder = (spi_recorder){0};
}
