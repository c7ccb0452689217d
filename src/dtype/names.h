/* dtype/names.h - what to call a weight type in messages, the types that are not supported as well. May include:
 * base. */
#ifndef SPI_DTYPE_NAMES_H
#define SPI_DTYPE_NAMES_H

#include <stdint.h>

/* The name of a file's ggml_type, "unknown" for a number that was never one. */
const char *spi_dtype_text(uint32_t type);

/* The names of samepage/dtype.h, a space before each. */
extern const char spi_dtype_supported[];

#endif
