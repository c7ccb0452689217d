/* device/cpu/amx_vectors.h - numbers into the order in which AMX's tiles take them. May include: device, base. */
#ifndef SPI_DEVICE_CPU_AMX_VECTORS_H
#define SPI_DEVICE_CPU_AMX_VECTORS_H

#include "device/cpu/integers.h"

/* To the nearest bf16, as f32. */
SPI_INLINE __m512 amx_round(__m512 x) {
    __m512i bits = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
    return _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32((int32_t)0xffff0000)));
}

/* The upper halves of two numbers, next to each other in each lane: of what has no lower ones. */
SPI_INLINE __m512i amx_pair_cut(__m512 first, __m512 second) {
    __m512i low = _mm512_srli_epi32(_mm512_castps_si512(first), 16);
    return _mm512_mask_blend_epi16(0xaaaaaaaau, low, _mm512_castps_si512(second));
}

/* The same, rounded to nearest. */
SPI_INLINE __m512i amx_pair(__m512 first, __m512 second) {
    const __m512i half = _mm512_set1_epi32(0x8000);
    __m512i low = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(first), half), 16);
    __m512i high = _mm512_add_epi32(_mm512_castps_si512(second), half);
    return _mm512_mask_blend_epi16(0xaaaaaaaau, low, high);
}

/* Sixteen rows of as many 32-bit lanes, the other way round. */
SPI_INLINE void amx_transpose(const __m512i rows[16], uint8_t *tile) {
    __m512i q[16];
#pragma GCC unroll 4
    for (uint32_t i = 0; i < 16; i += 4) {
        __m512i a = _mm512_unpacklo_epi32(rows[i], rows[i + 1]), b = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
        __m512i c = _mm512_unpacklo_epi32(rows[i + 2], rows[i + 3]);
        __m512i d = _mm512_unpackhi_epi32(rows[i + 2], rows[i + 3]);
        q[i] = _mm512_unpacklo_epi64(a, c);
        q[i + 1] = _mm512_unpackhi_epi64(a, c);
        q[i + 2] = _mm512_unpacklo_epi64(b, d);
        q[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    /* Quarter l of q[4i + j] is lane 4l + j of rows 4i .. 4i+3. */
#pragma GCC unroll 4
    for (uint32_t j = 0; j < 4; j++) {
        __m512i even0 = _mm512_shuffle_i32x4(q[j], q[4 + j], 0x88), odd0 = _mm512_shuffle_i32x4(q[j], q[4 + j], 0xdd);
        __m512i even1 = _mm512_shuffle_i32x4(q[8 + j], q[12 + j], 0x88);
        __m512i odd1 = _mm512_shuffle_i32x4(q[8 + j], q[12 + j], 0xdd);
        vi_store(tile + j * AMX_ROW_BYTES, _mm512_shuffle_i32x4(even0, even1, 0x88));
        vi_store(tile + (4 + j) * AMX_ROW_BYTES, _mm512_shuffle_i32x4(odd0, odd1, 0x88));
        vi_store(tile + (8 + j) * AMX_ROW_BYTES, _mm512_shuffle_i32x4(even0, even1, 0xdd));
        vi_store(tile + (12 + j) * AMX_ROW_BYTES, _mm512_shuffle_i32x4(odd0, odd1, 0xdd));
    }
}

#endif
