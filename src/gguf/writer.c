/* gguf/writer.c - see writer.h. May include: base, os. */
#include "gguf/writer.h"

#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "gguf/reader.h"
#include "os/file.h"

#define BUFFER_BYTES ((size_t)1 << 20)

struct spi_gguf_writer {
    spi_file_writer *file;
    const spi_source_tensor *tensors;             /* the caller's */
    uint64_t tensor_count, current, current_left; /* the tensor that is being written, and its bytes to come */
    uint32_t alignment;
    unsigned char *buffer;
    size_t used;
};

static sp_status flush(spi_gguf_writer *writer, sp_error *error) {
    sp_status status = spi_file_writer_put(writer->file, writer->buffer, writer->used, error);
    writer->used = 0;
    return status;
}

static sp_status put(spi_gguf_writer *writer, const void *data, size_t bytes, sp_error *error) {
    if (writer->used + bytes > BUFFER_BYTES) {
        sp_status status = flush(writer, error);
        if (status) {
            return status;
        }
    }
    if (bytes > BUFFER_BYTES) {
        return spi_file_writer_put(writer->file, data, bytes, error);
    }
    memcpy(writer->buffer + writer->used, data, bytes);
    writer->used += bytes;
    return SP_OK;
}

/* Little-endian numbers, as the machines that this runs on have them. */
static sp_status put_u32(spi_gguf_writer *writer, uint32_t value, sp_error *error) {
    return put(writer, &value, sizeof value, error);
}

static sp_status put_u64(spi_gguf_writer *writer, uint64_t value, sp_error *error) {
    return put(writer, &value, sizeof value, error);
}

static sp_status put_string(spi_gguf_writer *writer, const char *text, size_t bytes, sp_error *error) {
    sp_status status = put_u64(writer, bytes, error);
    return status ? status : put(writer, text, bytes, error);
}

size_t spi_gguf_value_bytes(const spi_value *value) {
    const unsigned char *begin = value->data, *end = begin;
    if (value->element_type != SPI_VALUE_STRING) {
        return (size_t)value->count * spi_value_number_bytes((uint32_t)value->element_type);
    }
    for (uint64_t i = 0; i < value->count; i++) { /* lengths were checked when the file was opened */
        end += sizeof(uint64_t) + (size_t)spi_load_u64(end);
    }
    return (size_t)(end - begin);
}

static sp_status put_entry(spi_gguf_writer *writer, const spi_gguf_entry *entry, sp_error *error) {
    const spi_value *value = entry->copy;
    if (!value) {
        sp_status status = put_string(writer, entry->key, strlen(entry->key), error);
        status = status ? status : put_u32(writer, SPI_VALUE_U32, error);
        return status ? status : put_u32(writer, entry->number, error);
    }
    sp_status status = put_string(writer, value->key.text, value->key.bytes, error);
    status = status ? status : put_u32(writer, (uint32_t)value->type, error);
    if (!status && value->type == SPI_VALUE_ARRAY) {
        status = put_u32(writer, (uint32_t)value->element_type, error);
        status = status ? status : put_u64(writer, value->count, error);
    }
    return status ? status : put(writer, value->data, spi_gguf_value_bytes(value), error);
}

static uint64_t padded(uint64_t bytes, uint32_t alignment) {
    return (bytes + alignment - 1) / alignment * alignment;
}

static sp_status put_padding(spi_gguf_writer *writer, uint64_t bytes, sp_error *error) {
    static const unsigned char zeros[64];
    sp_status status = SP_OK;
    for (uint64_t left = padded(bytes, writer->alignment) - bytes; left && !status;) {
        size_t step = left < sizeof zeros ? (size_t)left : sizeof zeros;
        status = put(writer, zeros, step, error);
        left -= step;
    }
    return status;
}

static sp_status put_tensors(spi_gguf_writer *writer, uint64_t *head_bytes, sp_error *error) {
    sp_status status = SP_OK;
    uint64_t offset = 0;
    for (uint64_t i = 0; i < writer->tensor_count && !status; i++) {
        const spi_source_tensor *tensor = &writer->tensors[i];
        status = put_string(writer, tensor->name.text, tensor->name.bytes, error);
        status = status ? status : put_u32(writer, tensor->dimension_count, error);
        for (uint32_t k = 0; k < tensor->dimension_count && !status; k++) {
            status = put_u64(writer, tensor->dimensions[k], error);
        }
        status = status ? status : put_u32(writer, tensor->type, error);
        status = status ? status : put_u64(writer, offset, error);
        offset += padded(tensor->bytes, writer->alignment);
        *head_bytes += 8 + tensor->name.bytes + 4 + 8 * (uint64_t)tensor->dimension_count + 4 + 8;
    }
    return status;
}

static sp_status put_head(spi_gguf_writer *writer, const spi_gguf_entry *entries, uint64_t entry_count,
                          sp_error *error) {
    uint64_t head_bytes = 24;
    sp_status status = put(writer, "GGUF", 4, error);
    status = status ? status : put_u32(writer, 3, error);
    status = status ? status : put_u64(writer, writer->tensor_count, error);
    status = status ? status : put_u64(writer, entry_count, error);
    for (uint64_t i = 0; i < entry_count && !status; i++) {
        const spi_value *value = entries[i].copy;
        status = put_entry(writer, &entries[i], error);
        head_bytes +=
            value ? 8 + value->key.bytes + 4 + (value->type == SPI_VALUE_ARRAY ? 12u : 0u) + spi_gguf_value_bytes(value)
                  : 8 + strlen(entries[i].key) + 8;
    }
    status = status ? status : put_tensors(writer, &head_bytes, error);
    return status ? status : put_padding(writer, head_bytes, error);
}

/* Goes on to the next tensor that has bytes. */
static void begin_tensor(spi_gguf_writer *writer) {
    writer->current_left = writer->current < writer->tensor_count ? writer->tensors[writer->current].bytes : 0;
}

sp_status spi_gguf_writer_open(const char *path, const spi_gguf_entry *entries, uint64_t entry_count,
                               const spi_source_tensor *tensors, uint64_t tensor_count, uint32_t alignment,
                               spi_gguf_writer **out, sp_error *error) {
    *out = NULL;
    spi_gguf_writer *writer = spi_alloc(1, sizeof *writer);
    if (!writer || !(writer->buffer = spi_alloc(BUFFER_BYTES, 1))) {
        spi_free(writer);
        return spi_fail(error, SP_NO_MEMORY, "no memory to write %s", path);
    }
    writer->tensors = tensors;
    writer->tensor_count = tensor_count;
    writer->alignment = alignment;
    sp_status status = spi_file_writer_open(path, false, &writer->file, error);
    status = status ? status : put_head(writer, entries, entry_count, error);
    if (status) {
        spi_gguf_writer_abort(writer);
        return status;
    }
    begin_tensor(writer);
    *out = writer;
    return SP_OK;
}

sp_status spi_gguf_writer_put(spi_gguf_writer *writer, const void *data, size_t bytes, sp_error *error) {
    assert(bytes <= writer->current_left);
    sp_status status = put(writer, data, bytes, error);
    writer->current_left -= bytes;
    if (!status && !writer->current_left && writer->current < writer->tensor_count) {
        status = put_padding(writer, writer->tensors[writer->current].bytes, error);
        writer->current++;
        begin_tensor(writer);
    }
    return status;
}

sp_status spi_gguf_writer_commit(spi_gguf_writer *writer, sp_error *error) {
    assert(writer->current == writer->tensor_count);
    sp_status status = flush(writer, error);
    if (status) {
        spi_gguf_writer_abort(writer);
        return status;
    }
    status = spi_file_writer_commit(writer->file, true, error);
    spi_free(writer->buffer);
    spi_free(writer);
    return status;
}

void spi_gguf_writer_abort(spi_gguf_writer *writer) {
    if (writer) {
        spi_file_writer_abort(writer->file);
        spi_free(writer->buffer);
        spi_free(writer);
    }
}
