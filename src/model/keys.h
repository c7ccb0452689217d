/* model/keys.h - a model's own keys (ARCHITECTURE.name in its file), each marked when it is read.
 *
 * What a file says and nobody read would be silently left out of the computation: spi_keys_finish refuses it by name.
 * Keys: github.com/ggml-org/ggml, docs/gguf.md. Owns: the marks. May include: source, base.
 */
#ifndef SPI_MODEL_KEYS_H
#define SPI_MODEL_KEYS_H

#include "source/source.h"

typedef struct spi_keys {
    const spi_source *source;
    const char *architecture;
    bool *read; /* [values of the file] */
    sp_error *error;
} spi_keys;

#define SPI_KEY_BYTES_MAX 128

sp_status spi_keys_open(spi_keys *keys, const spi_source *source, const char *architecture, sp_error *error);
void spi_keys_close(spi_keys *keys);

/* The value of ARCHITECTURE.suffix, whose whole name goes into key, for messages; NULL if there is none. */
const spi_value *spi_keys_find(const spi_keys *keys, const char *suffix, char key[SPI_KEY_BYTES_MAX]);

/* A count in [1, max]; fallback 0 means that the key must be there. */
sp_status spi_keys_count(const spi_keys *keys, const char *suffix, uint32_t fallback, uint32_t max, uint32_t *out);

/* A positive finite number; fallback 0 means that the key must be there. */
sp_status spi_keys_number(const spi_keys *keys, const char *suffix, double fallback, float *out);

/* SP_UNSUPPORTED for the first key that was not read, unless it says 0, false or nothing, or is known to change no
 * result. */
sp_status spi_keys_finish(const spi_keys *keys);

#endif
