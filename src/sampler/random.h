/* sampler/random.h - xoshiro256++ seeded by SplitMix64 (Blackman and Vigna, prng.di.unimi.it): the same numbers on
 * every machine for the same seed. May include: nothing.
 */
#ifndef SPI_SAMPLER_RANDOM_H
#define SPI_SAMPLER_RANDOM_H

#include <stdint.h>

typedef struct spi_random {
    uint64_t state[4];
} spi_random;

static inline spi_random spi_random_seed(uint64_t seed) {
    spi_random random;
    for (int i = 0; i < 4; i++) {
        uint64_t word = seed += 0x9e3779b97f4a7c15u;
        word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9u;
        word = (word ^ word >> 27) * 0x94d049bb133111ebu;
        random.state[i] = word ^ word >> 31;
    }
    return random;
}

static inline uint64_t spi_random_rotate(uint64_t word, int bits) {
    return word << bits | word >> (64 - bits);
}

static inline uint64_t spi_random_next(spi_random *random) {
    uint64_t *s = random->state, result = spi_random_rotate(s[0] + s[3], 23) + s[0], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = spi_random_rotate(s[3], 45);
    return result;
}

/* Uniform in [0, 1), 53 bits. */
static inline double spi_random_unit(spi_random *random) {
    return (double)(spi_random_next(random) >> 11) * 0x1p-53;
}

#endif
