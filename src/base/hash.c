/* base/hash.c - XXH3 behind our own names. */
#include "base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#define XXH_STATIC_LINKING_ONLY /* for the size of its state */
#include <xxhash.h>

_Static_assert(sizeof(XXH3_state_t) <= sizeof(spi_hasher), "the library's state fits");
_Static_assert(_Alignof(XXH3_state_t) <= _Alignof(spi_hasher), "the library's state is aligned");

spi_hash spi_hash_bytes(const void *bytes, size_t count, uint64_t seed) {
    XXH128_hash_t hash = XXH3_128bits_withSeed(bytes, count, seed);
    return (spi_hash){.low = hash.low64, .high = hash.high64};
}

void spi_hash_begin(spi_hasher *hasher) {
    XXH3_128bits_reset((XXH3_state_t *)(void *)hasher);
}

void spi_hash_add(spi_hasher *hasher, const void *bytes, size_t count) {
    XXH3_128bits_update((XXH3_state_t *)(void *)hasher, bytes, count);
}

spi_hash spi_hash_end(const spi_hasher *hasher) {
    XXH128_hash_t hash = XXH3_128bits_digest((const XXH3_state_t *)(const void *)hasher);
    return (spi_hash){.low = hash.low64, .high = hash.high64};
}

uint64_t spi_hash64(const void *bytes, size_t count) {
    return XXH3_64bits(bytes, count);
}

void spi_hash_text(spi_hash hash, char out[33]) {
    snprintf(out, 33, "%016" PRIx64 "%016" PRIx64, hash.high, hash.low);
}
