/* source/compose.c - see compose.h. */
#include "source/compose.h"

#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

void spi_compose_free(spi_compose *compose) {
    spi_free(compose->bytes);
    spi_free(compose->values);
    *compose = (spi_compose){0};
}

static void put(spi_compose *compose, const void *bytes, size_t count) {
    if (compose->failed || !spi_reserve((void **)&compose->bytes, &compose->capacity, compose->count + count, 1)) {
        compose->failed = true;
        return;
    }
    if (count) {
        memcpy(compose->bytes + compose->count, bytes, count);
    }
    compose->count += count;
}

static void put_string(spi_compose *compose, spi_string value) {
    uint64_t length = value.bytes;
    put(compose, &length, sizeof length); /* little-endian, as all machines that this runs on */
    put(compose, value.text, value.bytes);
}

static void begin(spi_compose *compose, const char *key, spi_value_type type, spi_value_type element, uint64_t count) {
    spi_compose_value value = {
        .key = compose->count, .key_bytes = strlen(key), .type = type, .element_type = element, .count = count};
    put(compose, key, value.key_bytes);
    value.data = compose->count;
    if (compose->failed || !SPI_RESERVE(compose->values, compose->value_count, compose->value_capacity)) {
        compose->failed = true;
        return;
    }
    compose->values[compose->value_count++] = value;
}

void spi_compose_u32(spi_compose *compose, const char *key, uint32_t value) {
    begin(compose, key, SPI_VALUE_U32, SPI_VALUE_U32, 1);
    put(compose, &value, sizeof value);
}

void spi_compose_f64(spi_compose *compose, const char *key, double value) {
    begin(compose, key, SPI_VALUE_F64, SPI_VALUE_F64, 1);
    put(compose, &value, sizeof value);
}

void spi_compose_bool(spi_compose *compose, const char *key, bool value) {
    uint8_t byte = value;
    begin(compose, key, SPI_VALUE_BOOL, SPI_VALUE_BOOL, 1);
    put(compose, &byte, 1);
}

void spi_compose_string(spi_compose *compose, const char *key, spi_string value) {
    begin(compose, key, SPI_VALUE_STRING, SPI_VALUE_STRING, 1);
    put_string(compose, value);
}

void spi_compose_numbers(spi_compose *compose, const char *key, spi_value_type type, const void *numbers,
                         uint64_t count) {
    begin(compose, key, SPI_VALUE_ARRAY, type, count);
    put(compose, numbers, (size_t)count * spi_value_number_bytes(type));
}

void spi_compose_strings(spi_compose *compose, const char *key) {
    begin(compose, key, SPI_VALUE_ARRAY, SPI_VALUE_STRING, 0);
}

void spi_compose_add(spi_compose *compose, spi_string value) {
    put_string(compose, value);
    if (!compose->failed) {
        compose->values[compose->value_count - 1].count++;
    }
}

sp_status spi_compose_finish(spi_compose *compose, spi_source *source, sp_error *error) {
    source->values = spi_alloc(compose->value_count, sizeof *source->values);
    source->values_sorted = spi_alloc(compose->value_count, sizeof *source->values_sorted);
    if (compose->failed || !source->values || !source->values_sorted) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a model's metadata");
    }
    source->value_count = compose->value_count;
    for (size_t i = 0; i < compose->value_count; i++) {
        const spi_compose_value *from = &compose->values[i];
        source->values[i] = (spi_value){.key = {(const char *)compose->bytes + from->key, from->key_bytes},
                                        .type = from->type,
                                        .element_type = from->element_type,
                                        .count = from->count,
                                        .data = compose->bytes + from->data};
    }
    const spi_value *twice;
    spi_source_sort_values(source, &twice);
    assert(!twice && "each key is composed once");
    return SP_OK;
}
