/* device/cpu/integers_x86.h - integers.h's names for AVX2 and AVX-512. Included by it. */
#ifndef SPI_DEVICE_CPU_INTEGERS_X86_H
#define SPI_DEVICE_CPU_INTEGERS_X86_H

#include "device/cpu/vector.h"

#if defined(__AVX512F__)

typedef __m512i vi;
#define VI_REGISTER "+v"

SPI_INLINE vi vi_load(const uint8_t *p) {
    return _mm512_load_si512(p);
}
SPI_INLINE void vi_store(uint8_t *p, vi x) {
    _mm512_store_si512(p, x);
}
SPI_INLINE vi vi_set8(int8_t x) {
    return _mm512_set1_epi8(x);
}
SPI_INLINE vi vi_set32(int32_t x) {
    return _mm512_set1_epi32(x);
}
SPI_INLINE vi vi_and(vi a, vi b) {
    return _mm512_and_si512(a, b);
}
SPI_INLINE vi vi_or(vi a, vi b) {
    return _mm512_or_si512(a, b);
}
SPI_INLINE vi vi_add8(vi a, vi b) {
    return _mm512_add_epi8(a, b);
}
SPI_INLINE vi vi_add32(vi a, vi b) {
    return _mm512_add_epi32(a, b);
}
SPI_INLINE vi vi_max32(vi a, vi b) {
    return _mm512_max_epi32(a, b);
}
SPI_INLINE vi vi_right16(vi x, uint32_t count) {
    return _mm512_srli_epi16(x, count);
}
SPI_INLINE vi vi_left16(vi x, uint32_t count) {
    return _mm512_slli_epi16(x, count);
}
SPI_INLINE vi vi_right32(vi x, uint32_t count) {
    return _mm512_srli_epi32(x, count);
}
SPI_INLINE vi vi_left32(vi x, uint32_t count) {
    return _mm512_slli_epi32(x, count);
}
SPI_INLINE vi vi_right32_signed(vi x, uint32_t count) {
    return _mm512_srai_epi32(x, count);
}
/* table[code] for codes below 16. */
SPI_INLINE vi vi_look_up(const int8_t table[16], vi codes) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)table)), codes);
}
SPI_INLINE vi vi_load_u16(const uint16_t *p) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
SPI_INLINE vf vi_to_f32(vi x) {
    return _mm512_cvtepi32_ps(x);
}
SPI_INLINE vf vi_as_f32(vi x) {
    return _mm512_castsi512_ps(x);
}

#else

typedef __m256i vi;
#define VI_REGISTER "+x"

SPI_INLINE vi vi_load(const uint8_t *p) {
    return _mm256_load_si256((const __m256i *)(const void *)p);
}
SPI_INLINE void vi_store(uint8_t *p, vi x) {
    _mm256_store_si256((__m256i *)(void *)p, x);
}
SPI_INLINE vi vi_set8(int8_t x) {
    return _mm256_set1_epi8(x);
}
SPI_INLINE vi vi_set32(int32_t x) {
    return _mm256_set1_epi32(x);
}
SPI_INLINE vi vi_and(vi a, vi b) {
    return _mm256_and_si256(a, b);
}
SPI_INLINE vi vi_or(vi a, vi b) {
    return _mm256_or_si256(a, b);
}
SPI_INLINE vi vi_add8(vi a, vi b) {
    return _mm256_add_epi8(a, b);
}
SPI_INLINE vi vi_add32(vi a, vi b) {
    return _mm256_add_epi32(a, b);
}
SPI_INLINE vi vi_max32(vi a, vi b) {
    return _mm256_max_epi32(a, b);
}
SPI_INLINE vi vi_right16(vi x, uint32_t count) {
    return _mm256_srli_epi16(x, (int)count);
}
SPI_INLINE vi vi_left16(vi x, uint32_t count) {
    return _mm256_slli_epi16(x, (int)count);
}
SPI_INLINE vi vi_right32(vi x, uint32_t count) {
    return _mm256_srli_epi32(x, (int)count);
}
SPI_INLINE vi vi_left32(vi x, uint32_t count) {
    return _mm256_slli_epi32(x, (int)count);
}
SPI_INLINE vi vi_right32_signed(vi x, uint32_t count) {
    return _mm256_srai_epi32(x, (int)count);
}
SPI_INLINE vi vi_look_up(const int8_t table[16], vi codes) {
    __m128i values = _mm_loadu_si128((const __m128i *)(const void *)table);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), codes);
}
SPI_INLINE vi vi_load_u16(const uint16_t *p) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}
SPI_INLINE vf vi_to_f32(vi x) {
    return _mm256_cvtepi32_ps(x);
}
SPI_INLINE vf vi_as_f32(vi x) {
    return _mm256_castsi256_ps(x);
}

#endif

#endif
