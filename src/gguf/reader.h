/* gguf/reader.h - a cursor over the bytes of a file that never leaves them. Private to this folder.
 *
 * May include: base.
 */
#ifndef SPI_GGUF_READER_H
#define SPI_GGUF_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gguf/gguf.h"

/* 2^20 of each is far above any model and keeps the index of a hostile file small. */
#define SPI_GGUF_COUNT_MAX       1048576u
#define SPI_GGUF_KEY_BYTES_MAX   65535u /* docs/gguf.md: "at most 2^16-1 bytes long" */
#define SPI_GGUF_NAME_BYTES_MAX  64u    /* docs/gguf.md: "at most 64 bytes long" */
#define SPI_GGUF_ALIGNMENT       32u    /* where general.alignment is not given */
#define SPI_GGUF_DIMENSION_COUNT 4u

struct spi_gguf {
    const unsigned char *bytes;
    size_t size;
    void *mapping; /* of spi_gguf_open: the spi_file_map, else NULL */
    uint32_t version;
    spi_gguf_value *values; /* [value_count], as in the file */
    uint64_t value_count;
    const spi_gguf_value **values_sorted; /* [value_count], by key: a file cannot make lookups slow */
    spi_gguf_tensor *tensors;
    uint64_t tensor_count;
    const spi_gguf_tensor **tensors_sorted; /* [tensor_count], by name */
};

typedef struct spi_reader {
    const unsigned char *bytes;
    size_t size, at;
    const char *name; /* of the file, for messages */
    sp_error *error;
} spi_reader;

/* Each takes the next value or fails with SP_BAD_FILE, which names what and where. */
sp_status spi_read_bytes(spi_reader *reader, uint64_t count, const char *what, const unsigned char **bytes);
sp_status spi_read_u32(spi_reader *reader, const char *what, uint32_t *value);
sp_status spi_read_u64(spi_reader *reader, const char *what, uint64_t *value);
sp_status spi_read_string(spi_reader *reader, const char *what, uint64_t bytes_max, spi_gguf_string *string);

/* Bytes of one number of this type; 0 for strings, arrays and what is no type. */
size_t spi_gguf_number_bytes(uint32_t type);

/* Little-endian numbers at any address. */
uint32_t spi_load_u32(const void *bytes);
uint64_t spi_load_u64(const void *bytes);

int spi_gguf_compare(spi_gguf_string a, spi_gguf_string b);

/* Fill gguf from the file; what they allocated is freed by spi_gguf_close. */
sp_status spi_gguf_read_values(spi_gguf *gguf, spi_reader *reader);
sp_status spi_gguf_read_tensors(spi_gguf *gguf, spi_reader *reader);

#endif
