/* gguf/gguf.h - reads GGUF files, versions 2 and 3, little-endian.
 *
 * Format: github.com/ggml-org/ggml, docs/gguf.md. The file is mapped read-only and treated as hostile: every count,
 * offset, length, alignment, type and overlap is checked against the file's size before it is used, and a bad one is
 * SP_BAD_FILE with the name of the field and its place. Strings in the file have no zero byte at the end and may hold
 * any bytes. Nothing is copied but the index.
 *
 * Owns: the mapping (spi_file_map of os/file.h) and an index of keys and tensors. May include: base, os.
 */
#ifndef SPI_GGUF_GGUF_H
#define SPI_GGUF_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samepage/status.h"

typedef struct spi_gguf spi_gguf;

typedef enum spi_gguf_type {
    SPI_GGUF_U8 = 0,
    SPI_GGUF_I8,
    SPI_GGUF_U16,
    SPI_GGUF_I16,
    SPI_GGUF_U32,
    SPI_GGUF_I32,
    SPI_GGUF_F32,
    SPI_GGUF_BOOL,
    SPI_GGUF_STRING,
    SPI_GGUF_ARRAY,
    SPI_GGUF_U64,
    SPI_GGUF_I64,
    SPI_GGUF_F64
} spi_gguf_type;

typedef struct spi_gguf_string {
    const char *text; /* into the mapping; no zero byte at the end */
    size_t bytes;
} spi_gguf_string;

/* A value of one key. Arrays of arrays are SP_BAD_FILE. */
typedef struct spi_gguf_value {
    spi_gguf_string key;
    spi_gguf_type type;         /* SPI_GGUF_ARRAY: see element_type */
    spi_gguf_type element_type; /* of an array */
    uint64_t count;             /* of an array; 1 otherwise */
    const void *data;           /* the first element in the file, unaligned; use the accessors below */
} spi_gguf_value;

typedef struct spi_gguf_tensor {
    spi_gguf_string name;
    uint32_t type;            /* ggml_type as the file has it; its size was checked where sp_dtype knows it */
    uint32_t dimension_count; /* 1..4 */
    uint64_t dimensions[4];   /* ne[0] is the innermost; missing ones are 1; the product fits into 63 bits */
    const void *data;         /* into the mapping, aligned to the file's alignment; NULL if type is not an sp_dtype */
    uint64_t bytes;           /* 0 if type is not an sp_dtype */
} spi_gguf_tensor;

/* path is named in messages. spi_gguf_parse takes bytes that the caller keeps (for tests and fuzzing); tensor data are
 * then aligned as far as the bytes are. Versions other than 2 and 3 are SP_UNSUPPORTED. */
sp_status spi_gguf_open(const char *path, spi_gguf **gguf, sp_error *error);
sp_status spi_gguf_parse(const void *bytes, size_t size, const char *name, spi_gguf **gguf, sp_error *error);
void spi_gguf_close(spi_gguf *gguf);

uint32_t spi_gguf_version(const spi_gguf *gguf);
size_t spi_gguf_file_bytes(const spi_gguf *gguf);
const void *spi_gguf_bytes(const spi_gguf *gguf, size_t *bytes); /* the whole file */
uint64_t spi_gguf_value_count(const spi_gguf *gguf);
const spi_gguf_value *spi_gguf_value_at(const spi_gguf *gguf, uint64_t index);
uint64_t spi_gguf_tensor_count(const spi_gguf *gguf);
const spi_gguf_tensor *spi_gguf_tensor_at(const spi_gguf *gguf, uint64_t index);

/* NULL where there is none. Lookup is by bisection, which no choice of keys can make slow; keys and tensor
 * names are unique in a file that opens. */
const spi_gguf_value *spi_gguf_find(const spi_gguf *gguf, const char *key);
const spi_gguf_tensor *spi_gguf_find_tensor(const spi_gguf *gguf, const char *name);

/* The integer, float, bool or string in a value; false if its type is another (any integer type converts to any that
 * holds it; F32 and F64 to double). */
bool spi_gguf_as_u64(const spi_gguf_value *value, uint64_t *out);
bool spi_gguf_as_i64(const spi_gguf_value *value, int64_t *out);
bool spi_gguf_as_f64(const spi_gguf_value *value, double *out);
bool spi_gguf_as_bool(const spi_gguf_value *value, bool *out);
bool spi_gguf_as_string(const spi_gguf_value *value, spi_gguf_string *out);

/* Element i of an array of strings takes time: walk one with the iterator. Numbers are read by index. */
typedef struct spi_gguf_iterator {
    const unsigned char *next;
    uint64_t left;
} spi_gguf_iterator;
bool spi_gguf_strings(const spi_gguf_value *value, spi_gguf_iterator *iterator); /* false: not an array of strings */
bool spi_gguf_next(spi_gguf_iterator *iterator, spi_gguf_string *out);           /* false: at the end */
bool spi_gguf_array_i64(const spi_gguf_value *value, uint64_t index, int64_t *out);
bool spi_gguf_array_f64(const spi_gguf_value *value, uint64_t index, double *out);

/* Prints a key, or "(none)" - for messages: copies at most capacity - 1 bytes, control bytes as '?'. */
void spi_gguf_printable(spi_gguf_string string, char *out, size_t capacity);

#endif
