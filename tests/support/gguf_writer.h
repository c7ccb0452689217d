/* tests/support/gguf_writer.h - writes GGUF bytes piece by piece, right or wrong as the test wants them. */
#ifndef SPI_TESTS_GGUF_WRITER_H
#define SPI_TESTS_GGUF_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "gguf/gguf.h"

typedef struct test_gguf {
    unsigned char *bytes; /* from malloc */
    size_t count, capacity;
} test_gguf;

void test_gguf_free(test_gguf *file);

void test_gguf_bytes(test_gguf *file, const void *bytes, size_t count);
void test_gguf_u32(test_gguf *file, uint32_t value);
void test_gguf_u64(test_gguf *file, uint64_t value);
void test_gguf_string(test_gguf *file, const char *text);
void test_gguf_pad(test_gguf *file, size_t alignment);

void test_gguf_header(test_gguf *file, uint32_t version, uint64_t tensor_count, uint64_t value_count);
void test_gguf_key(test_gguf *file, const char *key, spi_value_type type); /* the value's bytes come next */
void test_gguf_key_u32(test_gguf *file, const char *key, uint32_t value);
void test_gguf_key_bool(test_gguf *file, const char *key, int value);
void test_gguf_key_string(test_gguf *file, const char *key, const char *text);
void test_gguf_key_strings(test_gguf *file, const char *key, const char *const *texts, uint64_t count);
void test_gguf_key_numbers(test_gguf *file, const char *key, spi_value_type type, const void *numbers, uint64_t count);
void test_gguf_tensor(test_gguf *file, const char *name, uint32_t dimension_count, const uint64_t *dimensions,
                      uint32_t type, uint64_t offset);

#endif
