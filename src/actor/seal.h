/* actor/seal.h - encryption at rest of what people and guests wrote: XChaCha20-Poly1305 (libsodium), a fresh random
 * nonce for each piece in front of it. Without a key, bytes are kept as they are. May include: base. */
#ifndef SPI_ACTOR_SEAL_H
#define SPI_ACTOR_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samepage/status.h"

#define SPI_SEAL_KEY_BYTES 32

typedef struct spi_seal {
    bool is_on;
    uint8_t key[SPI_SEAL_KEY_BYTES];
} spi_seal;

/* key may be NULL. SP_INTERNAL: libsodium does not start. */
sp_status spi_seal_init(spi_seal *seal, const uint8_t *key, sp_error *error);
void spi_seal_forget(spi_seal *seal);

/* *out is from spi_alloc, or the input itself where nothing is sealed: free it with spi_seal_free. */
sp_status spi_seal_close(const spi_seal *seal, const void *bytes, size_t count, const void **out, size_t *out_count,
                         sp_error *error);
void spi_seal_free(const void *bytes, const void *out);

/* A copy of what was sealed, with a zero byte behind it. SP_BAD_FILE: it was changed, or sealed with another key. */
sp_status spi_seal_open(const spi_seal *seal, const void *bytes, size_t count, void **out, size_t *out_count,
                        sp_error *error);

#endif
