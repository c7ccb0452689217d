/* tests/support/gguf_writer.c - see gguf_writer.h. */
#include "support/gguf_writer.h"

#include <stdlib.h>
#include <string.h>

void test_gguf_free(test_gguf *file) {
    free(file->bytes);
    *file = (test_gguf){0};
}

void test_gguf_bytes(test_gguf *file, const void *bytes, size_t count) {
    if (file->count + count > file->capacity) {
        file->capacity = (file->count + count) * 2;
        file->bytes = realloc(file->bytes, file->capacity);
        if (!file->bytes) {
            abort();
        }
    }
    if (count) {
        memcpy(file->bytes + file->count, bytes, count);
    }
    file->count += count;
}

void test_gguf_u32(test_gguf *file, uint32_t value) {
    unsigned char bytes[4];
    for (int i = 0; i < 4; i++) {
        bytes[i] = (unsigned char)(value >> (8 * i));
    }
    test_gguf_bytes(file, bytes, 4);
}

void test_gguf_u64(test_gguf *file, uint64_t value) {
    test_gguf_u32(file, (uint32_t)value);
    test_gguf_u32(file, (uint32_t)(value >> 32));
}

void test_gguf_string(test_gguf *file, const char *text) {
    test_gguf_u64(file, strlen(text));
    test_gguf_bytes(file, text, strlen(text));
}

void test_gguf_pad(test_gguf *file, size_t alignment) {
    while (file->count % alignment) {
        test_gguf_bytes(file, "", 1);
    }
}

void test_gguf_header(test_gguf *file, uint32_t version, uint64_t tensor_count, uint64_t value_count) {
    test_gguf_bytes(file, "GGUF", 4);
    test_gguf_u32(file, version);
    test_gguf_u64(file, tensor_count);
    test_gguf_u64(file, value_count);
}

void test_gguf_key(test_gguf *file, const char *key, spi_value_type type) {
    test_gguf_string(file, key);
    test_gguf_u32(file, (uint32_t)type);
}

void test_gguf_key_u32(test_gguf *file, const char *key, uint32_t value) {
    test_gguf_key(file, key, SPI_VALUE_U32);
    test_gguf_u32(file, value);
}

void test_gguf_key_bool(test_gguf *file, const char *key, int value) {
    unsigned char byte = (unsigned char)value;
    test_gguf_key(file, key, SPI_VALUE_BOOL);
    test_gguf_bytes(file, &byte, 1);
}

void test_gguf_key_string(test_gguf *file, const char *key, const char *text) {
    test_gguf_key(file, key, SPI_VALUE_STRING);
    test_gguf_string(file, text);
}

void test_gguf_key_strings(test_gguf *file, const char *key, const char *const *texts, uint64_t count) {
    test_gguf_key(file, key, SPI_VALUE_ARRAY);
    test_gguf_u32(file, SPI_VALUE_STRING);
    test_gguf_u64(file, count);
    for (uint64_t i = 0; i < count; i++) {
        test_gguf_string(file, texts[i]);
    }
}

void test_gguf_key_numbers(test_gguf *file, const char *key, spi_value_type type, const void *numbers, uint64_t count) {
    static const size_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    test_gguf_key(file, key, SPI_VALUE_ARRAY);
    test_gguf_u32(file, (uint32_t)type);
    test_gguf_u64(file, count);
    test_gguf_bytes(file, numbers, (size_t)count * sizes[type]);
}

void test_gguf_tensor(test_gguf *file, const char *name, uint32_t dimension_count, const uint64_t *dimensions,
                      uint32_t type, uint64_t offset) {
    test_gguf_string(file, name);
    test_gguf_u32(file, dimension_count);
    for (uint32_t i = 0; i < dimension_count; i++) {
        test_gguf_u64(file, dimensions[i]);
    }
    test_gguf_u32(file, type);
    test_gguf_u64(file, offset);
}
