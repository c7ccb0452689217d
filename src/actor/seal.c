/* actor/seal.c - see seal.h. */
#include "actor/seal.h"

#include <sodium.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

#define NONCE_BYTES crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_BYTES   crypto_aead_xchacha20poly1305_ietf_ABYTES

_Static_assert(SPI_SEAL_KEY_BYTES == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "the key's length is the cipher's");

sp_status spi_seal_init(spi_seal *seal, const uint8_t *key, sp_error *error) {
    *seal = (spi_seal){.is_on = key != NULL};
    if (!key) {
        return SP_OK;
    }
    if (sodium_init() < 0) {
        return spi_fail(error, SP_INTERNAL, "libsodium finds no source of random numbers");
    }
    memcpy(seal->key, key, sizeof seal->key);
    return SP_OK;
}

void spi_seal_forget(spi_seal *seal) {
    sodium_memzero(seal, sizeof *seal);
}

sp_status spi_seal_close(const spi_seal *seal, const void *bytes, size_t count, const void **out, size_t *out_count,
                         sp_error *error) {
    *out = bytes;
    *out_count = count;
    if (!seal->is_on) {
        return SP_OK;
    }
    uint8_t *sealed = spi_alloc(count + NONCE_BYTES + TAG_BYTES, 1);
    if (!sealed) {
        *out = NULL;
        return spi_fail(error, SP_NO_MEMORY, "no memory to encrypt %zu bytes", count);
    }
    randombytes_buf(sealed, NONCE_BYTES);
    crypto_aead_xchacha20poly1305_ietf_encrypt(sealed + NONCE_BYTES, NULL, bytes, count, NULL, 0, NULL, sealed,
                                               seal->key);
    *out = sealed;
    *out_count = count + NONCE_BYTES + TAG_BYTES;
    return SP_OK;
}

void spi_seal_free(const void *bytes, const void *out) {
    if (out != bytes) {
        spi_free((void *)(uintptr_t)out);
    }
}

sp_status spi_seal_open(const spi_seal *seal, const void *bytes, size_t count, void **out, size_t *out_count,
                        sp_error *error) {
    size_t around = seal->is_on ? NONCE_BYTES + TAG_BYTES : 0;
    *out = NULL;
    *out_count = 0;
    if (count < around) {
        return spi_fail(error, SP_BAD_FILE, "an encrypted piece of %zu bytes is too short to be one", count);
    }
    uint8_t *copy = spi_alloc(count - around + 1, 1);
    if (!copy) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for %zu bytes", count);
    }
    if (!seal->is_on) {
        if (count) {
            memcpy(copy, bytes, count);
        }
    } else if (crypto_aead_xchacha20poly1305_ietf_decrypt(copy, NULL, NULL, (const uint8_t *)bytes + NONCE_BYTES,
                                                          count - NONCE_BYTES, NULL, 0, bytes, seal->key)) {
        spi_free(copy);
        return spi_fail(error, SP_BAD_FILE, "an encrypted piece was changed, or encrypted with another key");
    }
    *out = copy;
    *out_count = count - around;
    return SP_OK;
}
