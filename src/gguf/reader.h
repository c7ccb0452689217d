/* gguf/reader.h - a cursor over the bytes of a file that never leaves them. Private to this folder.
 *
 * May include: source, base.
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
sp_status spi_read_string(spi_reader *reader, const char *what, uint64_t bytes_max, spi_string *string);

/* Fill the source from the file; what they allocated is freed by spi_source_close. The counts are in it. */
sp_status spi_gguf_read_values(spi_source *source, spi_reader *reader);
sp_status spi_gguf_read_tensors(spi_source *source, spi_reader *reader);

#endif
