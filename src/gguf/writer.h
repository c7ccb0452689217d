/* gguf/writer.h - writes a GGUF file (version 3, little-endian) from values and tensors that are known beforehand.
 *
 * Format: github.com/ggml-org/ggml, docs/gguf.md. The head is written at once; then each tensor's data, in their order
 * and in as many pieces as the caller likes, with the padding between them. The file appears under its name when it is
 * whole (spi_file_writer of os/file.h).
 *
 * Owns: the open file. May include: base, os.
 */
#ifndef SPI_GGUF_WRITER_H
#define SPI_GGUF_WRITER_H

#include "gguf/gguf.h"

typedef struct spi_gguf_writer spi_gguf_writer;

/* A value of another file as it is there, or a number in its place. */
typedef struct spi_gguf_entry {
    const spi_value *copy; /* NULL: the next two */
    const char *key;
    uint32_t number; /* of type SPI_VALUE_U32 */
} spi_gguf_entry;

/* name, type, dimensions and bytes of each are used; where data lie is decided here. alignment is what the values say
 * as general.alignment, or 32. */
sp_status spi_gguf_writer_open(const char *path, const spi_gguf_entry *entries, uint64_t entry_count,
                               const spi_source_tensor *tensors, uint64_t tensor_count, uint32_t alignment,
                               spi_gguf_writer **writer, sp_error *error);

/* The next bytes of the tensor that is being written. More than all tensors have is a programmer's error. */
sp_status spi_gguf_writer_put(spi_gguf_writer *writer, const void *data, size_t bytes, sp_error *error);

/* Syncs and gives the file its name; every tensor must be whole. Both free the writer. */
sp_status spi_gguf_writer_commit(spi_gguf_writer *writer, sp_error *error);
void spi_gguf_writer_abort(spi_gguf_writer *writer); /* NULL is allowed */

/* The bytes of a value in its file, behind its type. */
size_t spi_gguf_value_bytes(const spi_value *value);

#endif
