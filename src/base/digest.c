/* base/digest.c - BLAKE2b behind our own names. None of its functions fails for arguments like these. */
#include "base/digest.h"

#include <stdio.h>
#include <string.h>

void spi_digest_begin(spi_digester *digester) {
    crypto_generichash_blake2b_init(&digester->state, NULL, 0, SPI_DIGEST_BYTES);
}

void spi_digest_add(spi_digester *digester, const void *bytes, size_t count) {
    if (count) {
        crypto_generichash_blake2b_update(&digester->state, bytes, count);
    }
}

spi_digest spi_digest_end(spi_digester *digester) {
    spi_digest digest;
    crypto_generichash_blake2b_final(&digester->state, digest.bytes, SPI_DIGEST_BYTES);
    return digest;
}

spi_digest spi_digest_bytes(const void *bytes, size_t count) {
    spi_digester digester;
    spi_digest_begin(&digester);
    spi_digest_add(&digester, bytes, count);
    return spi_digest_end(&digester);
}

bool spi_digest_equal(const spi_digest *a, const spi_digest *b) {
    return memcmp(a->bytes, b->bytes, SPI_DIGEST_BYTES) == 0;
}

void spi_digest_text(const spi_digest *digest, char out[65]) {
    for (int i = 0; i < SPI_DIGEST_BYTES; i++) {
        snprintf(out + (ptrdiff_t)i * 2, 3, "%02x", digest->bytes[i]);
    }
}
