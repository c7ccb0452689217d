/* safetensors/safetensors.h - reads safetensors files: a list of tensors, and where their bytes are.
 *
 * Format: github.com/huggingface/safetensors, README.md: eight bytes with the length N of a JSON object, the object
 * {"name": {"dtype", "shape", "data_offsets": [begin, end]}, ..., "__metadata__": {...}}, and behind it the data, to
 * which the offsets count. The file is hostile: length, JSON, dtypes, shapes, offsets and overlaps are checked, and
 * what is wrong is SP_BAD_FILE with the tensor and the field. Data have any alignment.
 *
 * Owns: the parsed header, whose strings the index points to. May include: source, base; cJSON.
 */
#ifndef SPI_SAFETENSORS_SAFETENSORS_H
#define SPI_SAFETENSORS_SAFETENSORS_H

#include "source/source.h"

/* More than a model of ten thousand tensors needs; the parsed form takes some 20 times as much memory. */
#define SPI_SAFETENSORS_HEADER_MAX     ((size_t)16 << 20)
#define SPI_SAFETENSORS_DIMENSIONS_MAX 8u

typedef struct spi_safetensor {
    spi_string name;
    const char *dtype; /* "F32", "BF16", "U32", ...: one that the format has */
    uint32_t element_bytes;
    uint32_t dimension_count;                            /* 0 is a single number */
    uint64_t dimensions[SPI_SAFETENSORS_DIMENSIONS_MAX]; /* the last is the innermost; none is 0 */
    const uint8_t *data;
    uint64_t bytes;
} spi_safetensor;

typedef struct spi_safetensors {
    spi_safetensor *tensors; /* in the header's order */
    uint64_t count;
    size_t header_bytes; /* where data begin */
    void *json;
} spi_safetensors;

/* bytes stay the caller's and must outlive the result; name is the file's, for messages. A dtype that the format does
 * not have is SP_UNSUPPORTED. */
sp_status spi_safetensors_parse(const void *bytes, size_t size, const char *name, spi_safetensors *out,
                                sp_error *error);
void spi_safetensors_free(spi_safetensors *file); /* a zeroed one is allowed */

#endif
