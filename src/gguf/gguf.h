/* gguf/gguf.h - reads GGUF files, versions 2 and 3, little-endian.
 *
 * Format: github.com/ggml-org/ggml, docs/gguf.md. The file is mapped read-only and treated as hostile: every count,
 * offset, length, alignment, type and overlap is checked against the file's size before it is used, and a bad one is
 * SP_BAD_FILE with the name of the field and its place. Nothing is copied but the index.
 *
 * Owns: the mapping (spi_file_map of os/file.h), through the source. May include: source, base, os.
 */
#ifndef SPI_GGUF_GGUF_H
#define SPI_GGUF_GGUF_H

#include "source/source.h"

/* path is named in messages. spi_gguf_parse takes bytes that the caller keeps (for tests and fuzzing); tensor data are
 * then aligned as far as the bytes are. Versions other than 2 and 3 are SP_UNSUPPORTED. */
sp_status spi_gguf_open(const char *path, spi_source **source, sp_error *error);
sp_status spi_gguf_parse(const void *bytes, size_t size, const char *name, spi_source **source, sp_error *error);

/* True for a weight type that GGUF has a number for and that is supported. */
bool spi_gguf_has_type(uint32_t type);

#endif
