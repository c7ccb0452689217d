/* gguf/tensors.c - the list of tensors, and where their data lie. May include: base. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "gguf/reader.h"

/* The least that one entry takes: a name's length and one byte of it, a count, one dimension, a type, an offset. */
#define TENSOR_BYTES_MIN 33

/* Where a tensor's bytes are, from the start of the data section. */
typedef struct spi_extent {
    uint64_t offset, bytes;
    const spi_source_tensor *tensor;
} spi_extent;

/* Everything but the offset, which needs the data section. */
static sp_status read_tensor(spi_reader *reader, spi_source_tensor *tensor, uint64_t *offset) {
    char name[80];
    size_t at = reader->at;
    sp_status status = spi_read_string(reader, "a tensor's name", SPI_GGUF_NAME_BYTES_MAX, &tensor->name);
    if (status) {
        return status;
    }
    if (tensor->name.bytes == 0) {
        return spi_fail(reader->error, SP_BAD_FILE, "%s: the tensor name at byte %zu is empty", reader->name, at);
    }
    spi_string_printable(tensor->name, name, sizeof name);
    status = spi_read_u32(reader, "a tensor's number of dimensions", &tensor->dimension_count);
    if (status) {
        return status;
    }
    if (tensor->dimension_count < 1 || tensor->dimension_count > SPI_GGUF_DIMENSION_COUNT) {
        return spi_fail(reader->error, SP_BAD_FILE,
                        "%s: tensor \"%s\" at byte %zu has %" PRIu32 " dimensions, not 1..4", reader->name, name, at,
                        tensor->dimension_count);
    }
    uint64_t elements = 1;
    for (uint32_t i = 0; i < SPI_GGUF_DIMENSION_COUNT; i++) {
        tensor->dimensions[i] = 1;
        if (i < tensor->dimension_count) {
            status = spi_read_u64(reader, "a tensor's dimension", &tensor->dimensions[i]);
            if (status) {
                return status;
            }
        }
        if (tensor->dimensions[i] == 0 || __builtin_mul_overflow(elements, tensor->dimensions[i], &elements) ||
            elements > INT64_MAX) {
            return spi_fail(reader->error, SP_BAD_FILE,
                            "%s: tensor \"%s\" at byte %zu: dimension %" PRIu32 " is %" PRIu64 ", %s", reader->name,
                            name, at, i, tensor->dimensions[i],
                            tensor->dimensions[i] ? "and the product does not fit into 63 bits" : "but cannot be");
        }
    }
    status = spi_read_u32(reader, "a tensor's type", &tensor->type);
    return status ? status : spi_read_u64(reader, "a tensor's offset", offset);
}

/* The bytes of a tensor whose type is known; rows are whole blocks. */
static sp_status measure(const spi_reader *reader, const char *name, spi_source_tensor *tensor) {
    if (!spi_gguf_has_type(tensor->type)) {
        return SP_OK;
    }
    uint64_t block_elements = sp_dtype_block_elements((sp_dtype)tensor->type);
    uint64_t blocks = tensor->dimensions[0] / block_elements;
    if (tensor->dimensions[0] % block_elements) {
        return spi_fail(reader->error, SP_BAD_FILE,
                        "%s: tensor \"%s\": rows of %" PRIu64 " elements are no whole blocks of %s", reader->name, name,
                        tensor->dimensions[0], sp_dtype_name((sp_dtype)tensor->type));
    }
    for (uint32_t i = 1; i < SPI_GGUF_DIMENSION_COUNT; i++) {
        blocks *= tensor->dimensions[i]; /* not more than the product of all, which was checked */
    }
    if (__builtin_mul_overflow(blocks, sp_dtype_block_bytes((sp_dtype)tensor->type), &tensor->bytes)) {
        return spi_fail(reader->error, SP_BAD_FILE, "%s: tensor \"%s\" is larger than 2^64 bytes", reader->name, name);
    }
    return SP_OK;
}

static sp_status place(const spi_reader *reader, uint64_t alignment, uint64_t data_start, spi_extent *extent,
                       spi_source_tensor *tensor) {
    char name[80];
    spi_string_printable(tensor->name, name, sizeof name);
    sp_status status = measure(reader, name, tensor);
    if (status) {
        return status;
    }
    if (extent->offset % alignment) {
        return spi_fail(reader->error, SP_BAD_FILE,
                        "%s: tensor \"%s\": its offset %" PRIu64 " is no multiple of the alignment %" PRIu64,
                        reader->name, name, extent->offset, alignment);
    }
    /* A tensor of a type that we cannot measure has at least one byte. */
    extent->bytes = tensor->bytes ? tensor->bytes : 1;
    extent->tensor = tensor;
    uint64_t room = data_start < reader->size ? reader->size - data_start : 0;
    if (extent->offset > room || extent->bytes > room - extent->offset) {
        return spi_fail(reader->error, SP_BAD_FILE,
                        "%s: tensor \"%s\": the file ends before it does: %" PRIu64 " bytes at offset %" PRIu64
                        " of a data section of %" PRIu64 " bytes at byte %" PRIu64 "; is the download complete?",
                        reader->name, name, extent->bytes, extent->offset, room, data_start);
    }
    tensor->data = tensor->bytes ? reader->bytes + data_start + extent->offset : NULL;
    return SP_OK;
}

static sp_status find_alignment(const spi_source *source, const spi_reader *reader, uint64_t *alignment) {
    const spi_value *value = spi_source_find(source, "general.alignment");
    *alignment = value ? 0 : SPI_GGUF_ALIGNMENT;
    if (!value) {
        return SP_OK;
    }
    if (!spi_value_as_u64(value, alignment) || *alignment < 8 || *alignment > UINT32_MAX ||
        (*alignment & (*alignment - 1))) {
        return spi_fail(reader->error, SP_BAD_FILE,
                        "%s: general.alignment at byte %zu is no power of two from 8 on (it reads as %" PRIu64 ")",
                        reader->name, (size_t)((const unsigned char *)value->data - reader->bytes), *alignment);
    }
    return SP_OK;
}

static int by_offset(const void *a, const void *b) {
    const spi_extent *left = a, *right = b;
    return (left->offset > right->offset) - (left->offset < right->offset);
}

static sp_status check_names(spi_source *source, const spi_reader *reader) {
    const spi_source_tensor *twice;
    spi_source_sort_tensors(source, &twice);
    if (twice) {
        char name[80];
        spi_string_printable(twice->name, name, sizeof name);
        return spi_fail(reader->error, SP_BAD_FILE, "%s: tensor \"%s\" is there twice, again at byte %zu", reader->name,
                        name, (size_t)((const unsigned char *)twice->name.text - reader->bytes));
    }
    return SP_OK;
}

static sp_status check_overlaps(const spi_reader *reader, spi_extent *extents, uint64_t count) {
    qsort(extents, (size_t)count, sizeof *extents, by_offset);
    for (uint64_t i = 1; i < count; i++) {
        if (extents[i].offset - extents[i - 1].offset < extents[i - 1].bytes) {
            char one[80], other[80];
            spi_string_printable(extents[i - 1].tensor->name, one, sizeof one);
            spi_string_printable(extents[i].tensor->name, other, sizeof other);
            return spi_fail(reader->error, SP_BAD_FILE,
                            "%s: tensors \"%s\" and \"%s\" overlap at offset %" PRIu64 " of the data section",
                            reader->name, one, other, extents[i].offset);
        }
    }
    return SP_OK;
}

sp_status spi_gguf_read_tensors(spi_source *source, spi_reader *reader) {
    uint64_t count = source->tensor_count, alignment;
    sp_status status = find_alignment(source, reader, &alignment);
    if (status) {
        return status;
    }
    if (count > SPI_GGUF_COUNT_MAX || count > (reader->size - reader->at) / TENSOR_BYTES_MIN) {
        return spi_fail(reader->error, SP_BAD_FILE, "%s: the tensor count at byte 8 is %" PRIu64 ", more than fit",
                        reader->name, count);
    }
    spi_extent *extents = spi_alloc((size_t)count, sizeof *extents);
    source->tensors = spi_alloc((size_t)count, sizeof *source->tensors);
    source->tensors_sorted = spi_alloc((size_t)count, sizeof *source->tensors_sorted);
    if (!extents || !source->tensors || !source->tensors_sorted) {
        status = spi_fail(reader->error, SP_NO_MEMORY, "%s: no memory for %" PRIu64 " tensors", reader->name, count);
        goto done;
    }
    for (uint64_t i = 0; i < count && !status; i++) {
        status = read_tensor(reader, &source->tensors[i], &extents[i].offset);
    }
    if (!status) {
        status = check_names(source, reader);
    }
    uint64_t data_start = (reader->at + (alignment - 1)) & ~(alignment - 1);
    for (uint64_t i = 0; i < count && !status; i++) {
        status = place(reader, alignment, data_start, &extents[i], &source->tensors[i]);
    }
    if (!status) {
        status = check_overlaps(reader, extents, count);
    }
done:
    spi_free(extents);
    return status;
}
