/* base/draw.h - picking a token by noise: the one whose logit / temperature + noise is largest, where each token's
 * noise is -ln(-ln(u)) of its own uniform u, is a draw from the softmax (Gumbel's trick; arXiv:1411.0030, section 2).
 * The noise is a function of a key and the token's id (SplitMix64's finalizer; Steele, Lea and Flood, OOPSLA 2014), so
 * that nothing has to be carried from pick to pick, and all tokens can be looked at at once.
 *
 * In C and in CUDA C++ alike, with the same bits: every step is one rounding, none is contracted with the next, and the
 * logarithm is made of such steps. May include: nothing.
 */
#ifndef SPI_BASE_DRAW_H
#define SPI_BASE_DRAW_H

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define SPI_DRAW static __device__ __forceinline__
#else
#define SPI_DRAW static inline /* C is compiled with -ffp-contract=off */
#endif

typedef struct spi_draw {
    uint64_t key;
    float inverse; /* 1 / temperature; 0: the likeliest, of equals the first, without noise */
    float least;   /* at most 0: what is so far below the largest logit is out */
} spi_draw;

/* No two tokens' noise is further apart: who is further below the largest than that cannot be picked. */
#define SPI_DRAW_SPAN 26.0f

SPI_DRAW uint64_t spi_draw_mix(uint64_t word) {
    word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9u;
    word = (word ^ word >> 27) * 0x94d049bb133111ebu;
    return word ^ word >> 31;
}

/* For the token at a position, of whoever has this seed. */
SPI_DRAW uint64_t spi_draw_key(uint64_t seed, uint32_t position) {
    return spi_draw_mix(spi_draw_mix(seed + 0x9e3779b97f4a7c15u) + position * 0xd1342543de82ef95u);
}

#ifdef __CUDACC__
SPI_DRAW float spi_draw_add(float a, float b) {
    return __fadd_rn(a, b);
}
SPI_DRAW float spi_draw_times(float a, float b) {
    return __fmul_rn(a, b);
}
SPI_DRAW float spi_draw_over(float a, float b) {
    return __fdiv_rn(a, b);
}
SPI_DRAW uint32_t spi_draw_bits(float x) {
    return __float_as_uint(x);
}
SPI_DRAW float spi_draw_float(uint32_t bits) {
    return __uint_as_float(bits);
}
#else
SPI_DRAW float spi_draw_add(float a, float b) {
    return a + b;
}
SPI_DRAW float spi_draw_times(float a, float b) {
    return a * b;
}
SPI_DRAW float spi_draw_over(float a, float b) {
    return a / b;
}
SPI_DRAW uint32_t spi_draw_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
SPI_DRAW float spi_draw_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
#endif

/* ln x for normal x > 0, within 2e-7 of it or of its size: ln m = 2 atanh((m - 1) / (m + 1)), m around 1. */
SPI_DRAW float spi_draw_log(float x) {
    uint32_t bits = spi_draw_bits(x), offset = bits - 0x3f3504f3u; /* sqrt(1/2) */
    int32_t exponent = (int32_t)offset >> 23;
    float m = spi_draw_float(bits - ((uint32_t)exponent << 23));
    float s = spi_draw_over(spi_draw_add(m, -1), spi_draw_add(m, 1)), z = spi_draw_times(s, s);
    float sum = spi_draw_add(spi_draw_times(z, 0.111111111f), 0.142857143f);
    sum = spi_draw_add(spi_draw_times(z, sum), 0.2f);
    sum = spi_draw_add(spi_draw_times(z, sum), 0.333333333f);
    sum = spi_draw_add(spi_draw_times(z, sum), 1);
    return spi_draw_add(spi_draw_times((float)exponent, 0.693147181f), spi_draw_times(spi_draw_times(2, s), sum));
}

SPI_DRAW uint32_t spi_draw_word(uint64_t key, uint32_t token) {
    return (uint32_t)(spi_draw_mix(key + token * 0x9e3779b97f4a7c15u) >> 32);
}

SPI_DRAW float spi_draw_noise(uint64_t key, uint32_t token) {
    uint32_t word = spi_draw_word(key, token);
    float v = spi_draw_times(spi_draw_add((float)word, 0.5f), 0x1p-32f); /* 1 - u: small ones have all their digits */
    float rest = spi_draw_add(1, -v);
    rest = rest < 0x1p-25f ? 0x1p-25f : rest;
    float series = spi_draw_add(spi_draw_times(v, 0.333333333f), 0.5f); /* -ln(1 - v) = v + v^2 / 2 + v^3 / 3 + ... */
    series = spi_draw_times(v, spi_draw_add(spi_draw_times(v, series), 1));
    return -spi_draw_log(v < 0x1p-8f ? series : -spi_draw_log(rest));
}

/* A token is out that is not at least this likely; largest is that of all logits, and finite. */
SPI_DRAW int spi_draw_may(const spi_draw *draw, float logit, float largest) {
    return logit >= spi_draw_add(largest, draw->least) &&
           spi_draw_times(spi_draw_add(largest, -logit), draw->inverse) <= SPI_DRAW_SPAN;
}

/* What is largest for the token that is picked. The noise of a word with so many leading zeros is at most one more
 * times ln 2: v is at least 2^-(zeros + 1), and -ln(-ln(1 - v)) at most -ln v. */
SPI_DRAW float spi_draw_score(const spi_draw *draw, uint32_t token, float logit, float largest) {
    return spi_draw_add(spi_draw_times(spi_draw_add(logit, -largest), draw->inverse), spi_draw_noise(draw->key, token));
}

#endif
