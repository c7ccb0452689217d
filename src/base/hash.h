/* base/hash.h - one content hash for names and checksums: XXH3, 128 bits (xxhash, cyan4973.github.io/xxHash). Not a
 * cryptographic hash: it finds damage and names content among friends. May include: nothing. */
#ifndef SPI_BASE_HASH_H
#define SPI_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct spi_hash {
    uint64_t low, high;
} spi_hash;

spi_hash spi_hash_bytes(const void *bytes, size_t count, uint64_t seed);
uint64_t spi_hash64(const void *bytes, size_t count);

/* The same of bytes that come in parts, with seed 0. The state is large, and wants its alignment. */
typedef struct spi_hasher {
    _Alignas(64) uint8_t state[576];
} spi_hasher;
void spi_hash_begin(spi_hasher *hasher);
void spi_hash_add(spi_hasher *hasher, const void *bytes, size_t count);
spi_hash spi_hash_end(const spi_hasher *hasher);

/* 32 lower-case hexadecimal digits and a zero byte. */
void spi_hash_text(spi_hash hash, char out[33]);

#endif
