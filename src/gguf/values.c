/* gguf/values.c - the metadata section: keys with values of every type. May include: base. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "gguf/reader.h"

/* The least that one key and its value take: a length, one byte of key, a type, one byte of value. */
#define VALUE_BYTES_MIN 14

static sp_status check_bools(spi_reader *reader, const char *key, const spi_gguf_value *value) {
    const unsigned char *bytes = value->data;
    for (uint64_t i = 0; i < value->count; i++) {
        if (bytes[i] > 1) {
            return spi_fail(reader->error, SP_BAD_FILE, "%s: key \"%s\" at byte %zu: a bool is %u, not 0 or 1",
                            reader->name, key, (size_t)(bytes - reader->bytes) + (size_t)i, bytes[i]);
        }
    }
    return SP_OK;
}

/* Walks over value->count elements of one type. */
static sp_status skip_elements(spi_reader *reader, const char *key, const char *what, uint32_t type,
                               spi_gguf_value *value) {
    size_t at = reader->at, size = spi_gguf_number_bytes(type);
    value->data = reader->bytes + at;
    if (type == SPI_GGUF_STRING) {
        for (uint64_t i = 0; i < value->count; i++) {
            spi_gguf_string ignored;
            sp_status status = spi_read_string(reader, what, UINT64_MAX, &ignored);
            if (status) {
                return status;
            }
        }
        return SP_OK;
    }
    if (size == 0) {
        return spi_fail(reader->error, SP_BAD_FILE,
                        "%s: key \"%s\": the type before byte %zu is %" PRIu32 ", which is %s", reader->name, key, at,
                        type, type == SPI_GGUF_ARRAY ? "an array inside of an array" : "none that GGUF has");
    }
    uint64_t left = reader->size - at;
    if (value->count > left / size) {
        return spi_fail(reader->error, SP_BAD_FILE,
                        "%s: key \"%s\" at byte %zu: the file ends within its %" PRIu64 " elements of %zu bytes",
                        reader->name, key, at, value->count, size);
    }
    reader->at += (size_t)value->count * size;
    return type == SPI_GGUF_BOOL ? check_bools(reader, key, value) : SP_OK;
}

static sp_status read_value(spi_reader *reader, spi_gguf_value *value) {
    char key[80], what[112];
    size_t at = reader->at;
    uint32_t type = 0;
    sp_status status = spi_read_string(reader, "a metadata key", SPI_GGUF_KEY_BYTES_MAX, &value->key);
    if (status) {
        return status;
    }
    if (value->key.bytes == 0) {
        return spi_fail(reader->error, SP_BAD_FILE, "%s: the metadata key at byte %zu is empty", reader->name, at);
    }
    spi_gguf_printable(value->key, key, sizeof key);
    snprintf(what, sizeof what, "the value of key \"%s\"", key);
    status = spi_read_u32(reader, what, &type);
    if (status) {
        return status;
    }
    value->type = (spi_gguf_type)type;
    value->count = 1;
    if (type == SPI_GGUF_ARRAY) {
        status = spi_read_u32(reader, what, &type);
        if (!status) {
            status = spi_read_u64(reader, what, &value->count);
        }
        if (status) {
            return status;
        }
    }
    value->element_type = (spi_gguf_type)type;
    return skip_elements(reader, key, what, type, value);
}

static int by_key(const void *a, const void *b) {
    const spi_gguf_value *const *left = a, *const *right = b;
    return spi_gguf_compare((*left)->key, (*right)->key);
}

sp_status spi_gguf_read_values(spi_gguf *gguf, spi_reader *reader) {
    uint64_t count = gguf->value_count;
    if (count > SPI_GGUF_COUNT_MAX || count > (reader->size - reader->at) / VALUE_BYTES_MIN) {
        return spi_fail(reader->error, SP_BAD_FILE, "%s: the metadata count at byte 16 is %" PRIu64 ", more than fit",
                        reader->name, count);
    }
    gguf->values = spi_alloc((size_t)count, sizeof *gguf->values);
    gguf->values_sorted = spi_alloc((size_t)count, sizeof *gguf->values_sorted);
    if (!gguf->values || !gguf->values_sorted) {
        return spi_fail(reader->error, SP_NO_MEMORY, "%s: no memory for %" PRIu64 " metadata keys", reader->name,
                        count);
    }
    for (uint64_t i = 0; i < count; i++) {
        sp_status status = read_value(reader, &gguf->values[i]);
        if (status) {
            return status;
        }
        gguf->values_sorted[i] = &gguf->values[i];
    }
    qsort(gguf->values_sorted, (size_t)count, sizeof *gguf->values_sorted, by_key);
    for (uint64_t i = 1; i < count; i++) {
        spi_gguf_string one = gguf->values_sorted[i - 1]->key, other = gguf->values_sorted[i]->key;
        if (spi_gguf_compare(one, other) == 0) {
            char key[80];
            const char *later = one.text > other.text ? one.text : other.text;
            spi_gguf_printable(one, key, sizeof key);
            return spi_fail(reader->error, SP_BAD_FILE, "%s: the key \"%s\" is there twice, again at byte %zu",
                            reader->name, key, (size_t)((const unsigned char *)later - reader->bytes));
        }
    }
    return SP_OK;
}
