/* base/half.h - conversions between f32 and the 16-bit formats, exact and rounding to nearest even (IEEE 754-2019).
 *
 * Plain C, the same on every machine: the oracle's own. Fast paths use the processor's instructions and agree with
 * these bit for bit, except for the payload of NaN. May include: nothing.
 */
#ifndef SPI_BASE_HALF_H
#define SPI_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float spi_bits_to_f32(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t spi_f32_to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float spi_f16_to_f32(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 0x1fu, fraction = half & 0x3ffu;
    if (exponent == 0) { /* zero and subnormals: fraction * 2^-24 is exact in f32 */
        float magnitude = (float)fraction * 0x1p-24f;
        return spi_bits_to_f32(spi_f32_to_bits(magnitude) | sign);
    }
    if (exponent == 31) {
        return spi_bits_to_f32(sign | 0x7f800000u | fraction << 13);
    }
    return spi_bits_to_f32(sign | (exponent + 112) << 23 | fraction << 13);
}

static inline uint16_t spi_f32_to_f16(float value) {
    uint32_t bits = spi_f32_to_bits(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    }
    if (magnitude >= 0x477ff000u) { /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7c00u);
    }
    if (magnitude < 0x38800000u) { /* below 2^-14: subnormal; adding 0.5 lets the FPU round at bit 2^-24 */
        float rounded = spi_bits_to_f32(magnitude) + 0.5f;
        return (uint16_t)(sign | (spi_f32_to_bits(rounded) - 0x3f000000u));
    }
    uint32_t odd = magnitude >> 13 & 1u;
    return (uint16_t)(sign | (magnitude - 0x38000000u + 0xfffu + odd) >> 13);
}

static inline float spi_bf16_to_f32(uint16_t brain) {
    return spi_bits_to_f32((uint32_t)brain << 16);
}

static inline uint16_t spi_f32_to_bf16(float value) {
    uint32_t bits = spi_f32_to_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)(bits >> 16 | 64u);
    }
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

#endif
