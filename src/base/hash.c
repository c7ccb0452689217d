/* base/hash.c - XXH3 behind our own names. */
#include "base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

spi_hash spi_hash_bytes(const void *bytes, size_t count, uint64_t seed) {
    XXH128_hash_t hash = XXH3_128bits_withSeed(bytes, count, seed);
    return (spi_hash){.low = hash.low64, .high = hash.high64};
}

uint64_t spi_hash64(const void *bytes, size_t count) {
    return XXH3_64bits(bytes, count);
}

void spi_hash_text(spi_hash hash, char out[33]) {
    snprintf(out, 33, "%016" PRIx64 "%016" PRIx64, hash.high, hash.low);
}
