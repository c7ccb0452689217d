/* base/digest.h - one cryptographic hash: BLAKE2b-256 (RFC 7693, by libsodium), for names that a stranger must not be
 * able to make two things fit. Where only damage is to be found base/hash.h is ten times as fast. May include: nothing.
 */
#ifndef SPI_BASE_DIGEST_H
#define SPI_BASE_DIGEST_H

#include <sodium/crypto_generichash_blake2b.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPI_DIGEST_BYTES 32

typedef struct spi_digest {
    uint8_t bytes[SPI_DIGEST_BYTES];
} spi_digest;

typedef struct spi_digester {
    crypto_generichash_blake2b_state state;
} spi_digester;

void spi_digest_begin(spi_digester *digester);
void spi_digest_add(spi_digester *digester, const void *bytes, size_t count);
spi_digest spi_digest_end(spi_digester *digester);

spi_digest spi_digest_bytes(const void *bytes, size_t count);
bool spi_digest_equal(const spi_digest *a, const spi_digest *b);

/* 64 lower-case hexadecimal digits and a zero byte. */
void spi_digest_text(const spi_digest *digest, char out[65]);

#endif
