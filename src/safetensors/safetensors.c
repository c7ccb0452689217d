/* safetensors/safetensors.c - see safetensors.h. */
#include "safetensors/safetensors.h"

#include <cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

#define WHOLE_MAX 9007199254740992.0 /* 2^53: whole numbers in JSON are exact up to it */

typedef struct reader {
    const char *name;
    uint64_t data_bytes;
    sp_error *error;
} reader;

static sp_status bad(const reader *read, const cJSON *entry, const char *what) {
    char tensor[80];
    spi_string_printable((spi_string){entry->string, strlen(entry->string)}, tensor, sizeof tensor);
    return spi_fail(read->error, SP_BAD_FILE, "%s: tensor \"%s\": %s", read->name, tensor, what);
}

static bool whole(const cJSON *item, uint64_t *out) {
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) || item->valuedouble > WHOLE_MAX ||
        item->valuedouble != floor(item->valuedouble)) {
        return false;
    }
    *out = (uint64_t)item->valuedouble;
    return true;
}

static sp_status read_dtype(const reader *read, const cJSON *entry, spi_safetensor *tensor) {
    static const struct {
        const char *name;
        uint32_t bytes;
    } known[] = {{"F32", 4}, {"F16", 2}, {"BF16", 2}, {"U32", 4},     {"I32", 4},
                 {"U8", 1},  {"I8", 1},  {"BOOL", 1}, {"U16", 2},     {"I16", 2},
                 {"U64", 8}, {"I64", 8}, {"F64", 8},  {"F8_E4M3", 1}, {"F8_E5M2", 1}};
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(entry, "dtype");
    if (!cJSON_IsString(dtype)) {
        return bad(read, entry, "dtype is missing or no string");
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (!strcmp(known[i].name, dtype->valuestring)) {
            tensor->dtype = known[i].name;
            tensor->element_bytes = known[i].bytes;
            return SP_OK;
        }
    }
    char name[80], shown[32];
    spi_string_printable(tensor->name, name, sizeof name);
    spi_string_printable((spi_string){dtype->valuestring, strlen(dtype->valuestring)}, shown, sizeof shown);
    return spi_fail(read->error, SP_UNSUPPORTED, "%s: tensor \"%s\": dtype is \"%s\", which is not supported",
                    read->name, name, shown);
}

static sp_status read_shape(const reader *read, const cJSON *entry, spi_safetensor *tensor) {
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(entry, "shape"), *item;
    uint64_t elements = 1;
    if (!cJSON_IsArray(shape)) {
        return bad(read, entry, "shape is missing or no array");
    }
    cJSON_ArrayForEach(item, shape) {
        uint64_t length;
        if (tensor->dimension_count == SPI_SAFETENSORS_DIMENSIONS_MAX) {
            return bad(read, entry, "shape has more than 8 dimensions");
        }
        if (!whole(item, &length) || !length) {
            return bad(read, entry, "shape holds something that is no positive whole number");
        }
        if (__builtin_mul_overflow(elements, length, &elements) || elements > INT64_MAX / 8) {
            return bad(read, entry, "shape: the product does not fit into 60 bits");
        }
        tensor->dimensions[tensor->dimension_count++] = length;
    }
    tensor->bytes = elements * tensor->element_bytes;
    return SP_OK;
}

static sp_status read_place(const reader *read, const cJSON *entry, const uint8_t *data, spi_safetensor *tensor) {
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(entry, "data_offsets");
    uint64_t first, end;
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 || !whole(offsets->child, &first) ||
        !whole(offsets->child->next, &end)) {
        return bad(read, entry, "data_offsets is missing or not two whole numbers");
    }
    if (first > end || end > read->data_bytes) {
        char name[80];
        spi_string_printable(tensor->name, name, sizeof name);
        return spi_fail(read->error, SP_BAD_FILE,
                        "%s: tensor \"%s\": data_offsets %" PRIu64 "..%" PRIu64 " are outside of the %" PRIu64
                        " bytes of data; is the download complete?",
                        read->name, name, first, end, read->data_bytes);
    }
    if (end - first != tensor->bytes) {
        char name[80];
        spi_string_printable(tensor->name, name, sizeof name);
        return spi_fail(read->error, SP_BAD_FILE,
                        "%s: tensor \"%s\": data_offsets give it %" PRIu64
                        " bytes, but its shape and dtype need %" PRIu64,
                        read->name, name, end - first, tensor->bytes);
    }
    tensor->data = data + first;
    return SP_OK;
}

static int by_place(const void *a, const void *b) {
    const spi_safetensor *const *left = a, *const *right = b;
    return ((*left)->data > (*right)->data) - ((*left)->data < (*right)->data);
}

static int by_name(const void *a, const void *b) {
    const spi_safetensor *const *left = a, *const *right = b;
    return spi_string_compare((*left)->name, (*right)->name);
}

static sp_status check_all(const reader *read, const spi_safetensors *file) {
    const spi_safetensor **sorted = spi_alloc((size_t)file->count, sizeof *sorted);
    if (!sorted) {
        return spi_fail(read->error, SP_NO_MEMORY, "%s: no memory for %" PRIu64 " tensors", read->name, file->count);
    }
    sp_status status = SP_OK;
    char one[80], other[80];
    for (uint64_t i = 0; i < file->count; i++) {
        sorted[i] = &file->tensors[i];
    }
    qsort(sorted, (size_t)file->count, sizeof *sorted, by_place);
    for (uint64_t i = 1; i < file->count && !status; i++) {
        if ((uint64_t)(sorted[i]->data - sorted[i - 1]->data) < sorted[i - 1]->bytes) {
            spi_string_printable(sorted[i - 1]->name, one, sizeof one);
            spi_string_printable(sorted[i]->name, other, sizeof other);
            status = spi_fail(read->error, SP_BAD_FILE, "%s: data_offsets of the tensors \"%s\" and \"%s\" overlap",
                              read->name, one, other);
        }
    }
    qsort(sorted, (size_t)file->count, sizeof *sorted, by_name);
    for (uint64_t i = 1; i < file->count && !status; i++) {
        if (!spi_string_compare(sorted[i]->name, sorted[i - 1]->name)) {
            spi_string_printable(sorted[i]->name, one, sizeof one);
            status = spi_fail(read->error, SP_BAD_FILE, "%s: tensor \"%s\" is there twice", read->name, one);
        }
    }
    spi_free(sorted);
    return status;
}

static sp_status read_tensors(const reader *read, const uint8_t *data, spi_safetensors *file) {
    const cJSON *root = file->json, *entry;
    size_t entries = 0; /* cJSON counts in int */
    cJSON_ArrayForEach(entry, root) {
        entries++;
    }
    file->tensors = spi_alloc(entries, sizeof *file->tensors);
    if (!file->tensors) {
        return spi_fail(read->error, SP_NO_MEMORY, "%s: no memory for %zu tensors", read->name, entries);
    }
    cJSON_ArrayForEach(entry, root) {
        if (!strcmp(entry->string, "__metadata__")) {
            continue;
        }
        spi_safetensor *tensor = &file->tensors[file->count++];
        tensor->name = (spi_string){entry->string, strlen(entry->string)};
        sp_status status = cJSON_IsObject(entry) ? SP_OK : bad(read, entry, "its entry is no object");
        status = status ? status : read_dtype(read, entry, tensor);
        status = status ? status : read_shape(read, entry, tensor);
        status = status ? status : read_place(read, entry, data, tensor);
        if (status) {
            return status;
        }
    }
    return check_all(read, file);
}

sp_status spi_safetensors_parse(const void *bytes, size_t size, const char *name, spi_safetensors *out,
                                sp_error *error) {
    *out = (spi_safetensors){0};
    if (size < 8) {
        return spi_fail(error, SP_BAD_FILE, "%s: not a safetensors file: it has %zu bytes", name, size);
    }
    uint64_t length = spi_load_u64(bytes);
    if (length > size - 8) {
        return spi_fail(error, SP_BAD_FILE,
                        "%s: the header length at byte 0 is %" PRIu64 ", but only %zu bytes follow; is the download "
                        "complete?",
                        name, length, size - 8);
    }
    if (length > SPI_SAFETENSORS_HEADER_MAX) {
        return spi_fail(error, SP_LIMIT, "%s: the header length at byte 0 is %" PRIu64 ", more than the %zu allowed",
                        name, length, SPI_SAFETENSORS_HEADER_MAX);
    }
    const char *header = (const char *)bytes + 8, *end = NULL;
    out->json = cJSON_ParseWithLengthOpts(header, (size_t)length, &end, 0);
    if (!cJSON_IsObject((const cJSON *)out->json)) {
        spi_safetensors_free(out);
        return spi_fail(error, SP_BAD_FILE, "%s: the header is no JSON object: see byte %zu", name,
                        end ? (size_t)(end - header) + 8 : (size_t)8);
    }
    out->header_bytes = (size_t)length + 8;
    reader read = {.name = name, .data_bytes = size - out->header_bytes, .error = error};
    sp_status status = read_tensors(&read, (const uint8_t *)bytes + out->header_bytes, out);
    if (status) {
        spi_safetensors_free(out);
    }
    return status;
}

void spi_safetensors_free(spi_safetensors *file) {
    spi_free(file->tensors);
    cJSON_Delete(file->json);
    *file = (spi_safetensors){0};
}
