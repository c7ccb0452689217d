/* source/source.h - what a model's files say, whatever their format: values by name, tensors by name.
 *
 * Names are those of GGUF (github.com/ggml-org/ggml, docs/gguf.md): a reader of another format translates. What is in a
 * source was checked by its reader: every pointer, length and shape holds, names are unique. Strings have no zero byte
 * at the end and may hold any bytes.
 *
 * Owns: the index of values and tensors, and by its release what the reader has mapped or made. May include: dtype,
 * base.
 */
#ifndef SPI_SOURCE_SOURCE_H
#define SPI_SOURCE_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dtype/affine.h"
#include "samepage/dtype.h"
#include "samepage/status.h"

/* As GGUF numbers them. */
typedef enum spi_value_type {
    SPI_VALUE_U8 = 0,
    SPI_VALUE_I8,
    SPI_VALUE_U16,
    SPI_VALUE_I16,
    SPI_VALUE_U32,
    SPI_VALUE_I32,
    SPI_VALUE_F32,
    SPI_VALUE_BOOL,
    SPI_VALUE_STRING,
    SPI_VALUE_ARRAY,
    SPI_VALUE_U64,
    SPI_VALUE_I64,
    SPI_VALUE_F64
} spi_value_type;

typedef struct spi_string {
    const char *text; /* no zero byte at the end */
    size_t bytes;
} spi_string;

/* A value of one key, as a GGUF file holds it. There are no arrays of arrays. */
typedef struct spi_value {
    spi_string key;
    spi_value_type type;         /* SPI_VALUE_ARRAY: see element_type */
    spi_value_type element_type; /* of an array */
    uint64_t count;              /* of an array; 1 otherwise */
    const void *data;            /* the first element, unaligned; use the accessors below */
} spi_value;

typedef struct spi_source_tensor {
    spi_string name;
    uint32_t type;            /* sp_dtype, or a number of the file's format that is none */
    uint32_t dimension_count; /* 1..4 */
    uint64_t dimensions[4];   /* the first is the innermost; missing ones are 1; the product fits into 63 bits */
    const void *data;  /* aligned to its elements, in GGUF to the file's alignment; NULL if type is not an sp_dtype */
    uint64_t bytes;    /* 0 if type is not an sp_dtype */
    spi_affine affine; /* of an affine type: the planes beside the codes; of any alignment, as the codes are */
    bool plus_one;     /* the weights are these numbers plus one */
    bool copied;       /* data is a copy in memory, not in the mapped file */
} spi_source_tensor;

/* A file that the source was made of. */
typedef struct spi_source_file {
    const uint8_t *bytes;
    size_t size;
    size_t header_bytes; /* all but the weights */
} spi_source_file;

#define SPI_SOURCE_FILES_MAX 1024u

/* Which columns of a head rotate together: as the family's GGUF files have it, or pairs (i, i + dims/2), or (2i,
 * 2i+1). */
typedef enum spi_source_rope {
    SPI_SOURCE_ROPE_FAMILY,
    SPI_SOURCE_ROPE_HALVES,
    SPI_SOURCE_ROPE_ADJACENT
} spi_source_rope;

typedef struct spi_source {
    uint32_t version;  /* of the format; 0 where it has none */
    spi_value *values; /* [value_count], in the reader's order */
    uint64_t value_count;
    const spi_value **values_sorted; /* [value_count], by key: a file cannot make lookups slow */
    spi_source_tensor *tensors;
    uint64_t tensor_count;
    const spi_source_tensor **tensors_sorted; /* [tensor_count], by name */
    spi_source_file *files;
    size_t file_count;
    spi_source_rope rope_pairs;
    sp_error tokenizer_error; /* with a status: the files' tokenizer cannot be used, and why */
    void *owned;              /* what the data lie in; given to release, which may be NULL */
    void (*release)(void *owned);
} spi_source;

/* NULL is allowed. */
void spi_source_close(spi_source *source);

/* Sorts the index by name: the first of two values or tensors with the same name, by place, is in *twice, or NULL. Both
 * lists and the room for their sorted ones were allocated. */
void spi_source_sort_values(spi_source *source, const spi_value **twice);
void spi_source_sort_tensors(spi_source *source, const spi_source_tensor **twice);

uint64_t spi_source_bytes(const spi_source *source); /* of all files */

static inline uint64_t spi_source_value_count(const spi_source *source) {
    return source->value_count;
}
static inline uint64_t spi_source_tensor_count(const spi_source *source) {
    return source->tensor_count;
}
/* NULL from the end on. */
const spi_value *spi_source_value_at(const spi_source *source, uint64_t index);
const spi_source_tensor *spi_source_tensor_at(const spi_source *source, uint64_t index);

/* NULL where there is none. Lookup is by bisection, which no choice of keys can make slow. */
const spi_value *spi_source_find(const spi_source *source, const char *key);
const spi_source_tensor *spi_source_find_tensor(const spi_source *source, const char *name);

/* The integer, float, bool or string in a value; false if its type is another (any integer type converts to any that
 * holds it; F32 and F64 to double) or value is NULL. */
bool spi_value_as_u64(const spi_value *value, uint64_t *out);
bool spi_value_as_i64(const spi_value *value, int64_t *out);
bool spi_value_as_f64(const spi_value *value, double *out);
bool spi_value_as_bool(const spi_value *value, bool *out);
bool spi_value_as_string(const spi_value *value, spi_string *out);

/* Element i of an array of strings takes time: walk one with the iterator. Numbers are read by index. */
typedef struct spi_value_iterator {
    const unsigned char *next;
    uint64_t left;
} spi_value_iterator;
bool spi_value_strings(const spi_value *value, spi_value_iterator *iterator); /* false: not an array of strings */
bool spi_value_next(spi_value_iterator *iterator, spi_string *out);           /* false: at the end */
bool spi_value_array_i64(const spi_value *value, uint64_t index, int64_t *out);
bool spi_value_array_f64(const spi_value *value, uint64_t index, double *out);

/* Bytes of one number of this type; 0 for strings, arrays and what is no type. */
size_t spi_value_number_bytes(uint32_t type);

/* Little-endian numbers at any address. */
uint32_t spi_load_u32(const void *bytes);
uint64_t spi_load_u64(const void *bytes);

int spi_string_compare(spi_string a, spi_string b);

/* Prints a string, or "(none)" - for messages: copies at most capacity - 1 bytes, control bytes as '?'. */
void spi_string_printable(spi_string string, char *out, size_t capacity);

#endif
