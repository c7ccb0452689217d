/* source/compose.h - making a source's values one by one, for readers of formats that do not hold them as GGUF does.
 *
 * Owns: one growing piece of memory that the finished values point into. A failure (no memory) is kept and comes out of
 * the finish. May include: base.
 */
#ifndef SPI_SOURCE_COMPOSE_H
#define SPI_SOURCE_COMPOSE_H

#include "source/source.h"

typedef struct spi_compose_value {
    size_t key, key_bytes, data; /* places in bytes */
    spi_value_type type, element_type;
    uint64_t count;
} spi_compose_value;

typedef struct spi_compose {
    uint8_t *bytes;
    size_t count, capacity;
    spi_compose_value *values;
    size_t value_count, value_capacity;
    bool failed;
} spi_compose;

void spi_compose_free(spi_compose *compose);

/* Keys end in a zero byte. */
void spi_compose_u32(spi_compose *compose, const char *key, uint32_t value);
void spi_compose_f64(spi_compose *compose, const char *key, double value);
void spi_compose_bool(spi_compose *compose, const char *key, bool value);
void spi_compose_string(spi_compose *compose, const char *key, spi_string value);
void spi_compose_numbers(spi_compose *compose, const char *key, spi_value_type type, const void *numbers,
                         uint64_t count);

/* An array of strings: begin, then add each before anything else is composed. */
void spi_compose_strings(spi_compose *compose, const char *key);
void spi_compose_add(spi_compose *compose, spi_string value);

/* Fills values of the source, which must not have any, and their sorted list. The memory stays compose's, which has to
 * live as long as the source. A key that is there twice is the caller's mistake. */
sp_status spi_compose_finish(spi_compose *compose, spi_source *source, sp_error *error);

#endif
