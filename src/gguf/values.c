/* gguf/values.c - the metadata section: keys with values of every type. May include: base. */
#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "base/memory.h"
#include "gguf/reader.h"

/* The least that one key and its value take: a length, one byte of key, a type, one byte of value. */
#define VALUE_BYTES_MIN 14

static sp_status check_bools(spi_reader *reader, const char *key, const spi_value *value) {
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
static sp_status skip_elements(spi_reader *reader, const char *key, const char *what, uint32_t type, spi_value *value) {
    size_t at = reader->at, size = spi_value_number_bytes(type);
    value->data = reader->bytes + at;
    if (type == SPI_VALUE_STRING) {
        for (uint64_t i = 0; i < value->count; i++) {
            spi_string ignored;
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
                        type, type == SPI_VALUE_ARRAY ? "an array inside of an array" : "none that GGUF has");
    }
    uint64_t left = reader->size - at;
    if (value->count > left / size) {
        return spi_fail(reader->error, SP_BAD_FILE,
                        "%s: key \"%s\" at byte %zu: the file ends within its %" PRIu64 " elements of %zu bytes",
                        reader->name, key, at, value->count, size);
    }
    reader->at += (size_t)value->count * size;
    return type == SPI_VALUE_BOOL ? check_bools(reader, key, value) : SP_OK;
}

static sp_status read_value(spi_reader *reader, spi_value *value) {
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
    spi_string_printable(value->key, key, sizeof key);
    snprintf(what, sizeof what, "the value of key \"%s\"", key);
    status = spi_read_u32(reader, what, &type);
    if (status) {
        return status;
    }
    value->type = (spi_value_type)type;
    value->count = 1;
    if (type == SPI_VALUE_ARRAY) {
        status = spi_read_u32(reader, what, &type);
        if (!status) {
            status = spi_read_u64(reader, what, &value->count);
        }
        if (status) {
            return status;
        }
    }
    value->element_type = (spi_value_type)type;
    return skip_elements(reader, key, what, type, value);
}

sp_status spi_gguf_read_values(spi_source *source, spi_reader *reader) {
    uint64_t count = source->value_count;
    if (count > SPI_GGUF_COUNT_MAX || count > (reader->size - reader->at) / VALUE_BYTES_MIN) {
        return spi_fail(reader->error, SP_BAD_FILE, "%s: the metadata count at byte 16 is %" PRIu64 ", more than fit",
                        reader->name, count);
    }
    source->values = spi_alloc((size_t)count, sizeof *source->values);
    source->values_sorted = spi_alloc((size_t)count, sizeof *source->values_sorted);
    if (!source->values || !source->values_sorted) {
        return spi_fail(reader->error, SP_NO_MEMORY, "%s: no memory for %" PRIu64 " metadata keys", reader->name,
                        count);
    }
    for (uint64_t i = 0; i < count; i++) {
        sp_status status = read_value(reader, &source->values[i]);
        if (status) {
            return status;
        }
    }
    const spi_value *twice;
    spi_source_sort_values(source, &twice);
    if (twice) {
        char key[80];
        spi_string_printable(twice->key, key, sizeof key);
        return spi_fail(reader->error, SP_BAD_FILE, "%s: the key \"%s\" is there twice, again at byte %zu",
                        reader->name, key, (size_t)((const unsigned char *)twice->key.text - reader->bytes));
    }
    return SP_OK;
}
