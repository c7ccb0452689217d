/* device/cpu/vector_x86.h - vector.h's names for AVX2 and AVX-512. Included by it. */
#ifndef SPI_DEVICE_CPU_VECTOR_X86_H
#define SPI_DEVICE_CPU_VECTOR_X86_H

#include <immintrin.h>
#include <stdint.h>

/* Eight f32, whatever the width. */
typedef __m256 v_eight;

SPI_INLINE void v_store_eight(float *p, v_eight x) {
    _mm256_storeu_ps(p, x);
}

/* Products with a single token are compiled with asking for weights, too (spi_cpu_product.ahead_bytes): nobody has
 * measured it on Arm. */
#define V_ASKS
/* Asks for a line, into the first level of the cache or the second. */
SPI_INLINE void v_fetch(const void *p) {
    _mm_prefetch((const char *)p, _MM_HINT_T0);
}
SPI_INLINE void v_fetch_second(const void *p) {
    _mm_prefetch((const char *)p, _MM_HINT_T1);
}
SPI_INLINE float v_half(uint16_t half) {
    return _cvtsh_ss(half);
}

#if defined(__AVX512F__)

#define V_WIDTH 16u
typedef __m512 vf;

SPI_INLINE vf v_zero(void) {
    return _mm512_setzero_ps();
}
SPI_INLINE vf v_set(float x) {
    return _mm512_set1_ps(x);
}
SPI_INLINE vf v_load(const float *p) {
    return _mm512_loadu_ps(p);
}
SPI_INLINE void v_store(float *p, vf x) {
    _mm512_storeu_ps(p, x);
}
/* The first count elements, 0 < count < V_WIDTH; the others are 0. */
SPI_INLINE vf v_load_part(const float *p, uint32_t count) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
}
SPI_INLINE void v_store_part(float *p, vf x, uint32_t count) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), x);
}
SPI_INLINE vf v_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
SPI_INLINE vf v_load_i8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
SPI_INLINE vf v_load_bf16(const uint16_t *p) {
    __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
/* 2 * V_WIDTH elements: the even ones and the odd ones. */
SPI_INLINE void v_load_pairs_bf16(const uint16_t *p, vf *even, vf *odd) {
    __m512i both = _mm512_loadu_si512(p);
    *even = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
    *odd = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32((int32_t)0xffff0000)));
}
SPI_INLINE void v_store_f16(uint16_t *p, vf x) {
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
SPI_INLINE vf v_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
SPI_INLINE vf v_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
SPI_INLINE vf v_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
SPI_INLINE vf v_div(vf a, vf b) {
    return _mm512_div_ps(a, b);
}
SPI_INLINE vf v_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
SPI_INLINE vf v_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
/* a * b + c */
SPI_INLINE vf v_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
/* Even lanes a * b - c, odd lanes a * b + c. */
SPI_INLINE vf v_fma_alternate(vf a, vf b, vf c) {
    return _mm512_fmaddsub_ps(a, b, c);
}
SPI_INLINE vf v_swap_pairs(vf x) {
    return _mm512_permute_ps(x, 0xb1);
}
/* V_WIDTH / 2 elements, each twice. */
SPI_INLINE vf v_load_twice(const float *p) {
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
}
/* Four elements, over and over. */
SPI_INLINE vf v_load_four(const float *p) {
    return _mm512_broadcast_f32x4(_mm_loadu_ps(p));
}
SPI_INLINE v_eight v_fold(vf x) {
    return _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
}
/* The largest of lanes i, i + 4, ... in place i. */
SPI_INLINE void v_store_max_four(float *p, vf x) {
    __m256 y = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    _mm_storeu_ps(p, _mm_max_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1)));
}
/* x * 2^n with n an integer, overflow and underflow as they should be. */
SPI_INLINE vf v_scale(vf x, vf n) {
    return _mm512_scalef_ps(x, n);
}
SPI_INLINE vf v_round(vf x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* 2^x for x <= 0; 0 for minus infinity. What v_reduce leaves and v_scalef takes are the two parts of x. */
SPI_INLINE vf v_power(vf x) {
    static const float of[] = {V_POWER_FLOOR};
    vf r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC), sum = v_set(of[4]);
    for (int i = 3; i >= 0; i--) {
        sum = v_fma(sum, r, v_set(of[i]));
    }
    return _mm512_scalef_ps(v_fma(sum, r, v_set(1)), x);
}

#else

#define V_WIDTH 8u
typedef __m256 vf;

SPI_INLINE vf v_zero(void) {
    return _mm256_setzero_ps();
}
SPI_INLINE vf v_set(float x) {
    return _mm256_set1_ps(x);
}
SPI_INLINE vf v_load(const float *p) {
    return _mm256_loadu_ps(p);
}
SPI_INLINE void v_store(float *p, vf x) {
    _mm256_storeu_ps(p, x);
}
SPI_INLINE __m256i v_first(uint32_t count) {
    static const int32_t mask[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
    return _mm256_loadu_si256((const __m256i *)(const void *)(mask + 8 - count));
}
/* The first count elements, 0 < count < V_WIDTH; the others are 0. */
SPI_INLINE vf v_load_part(const float *p, uint32_t count) {
    return _mm256_maskload_ps(p, v_first(count));
}
SPI_INLINE void v_store_part(float *p, vf x, uint32_t count) {
    _mm256_maskstore_ps(p, v_first(count), x);
}
SPI_INLINE vf v_load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
SPI_INLINE vf v_load_i8(const int8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}
/* One shuffle, since a shift would take one of the two units that multiply, on Intel's processors. */
SPI_INLINE vf v_load_bf16(const uint16_t *p) {
    const __m256i places =
        _mm256_setr_epi8(-1, -1, 0, 1, -1, -1, 2, 3, -1, -1, 4, 5, -1, -1, 6, 7, /* of the lower four */
                         -1, -1, 8, 9, -1, -1, 10, 11, -1, -1, 12, 13, -1, -1, 14, 15);
    __m256i twice = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm256_castsi256_ps(_mm256_shuffle_epi8(twice, places));
}
SPI_INLINE void v_store_f16(uint16_t *p, vf x) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
SPI_INLINE vf v_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
SPI_INLINE vf v_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
SPI_INLINE vf v_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
SPI_INLINE vf v_div(vf a, vf b) {
    return _mm256_div_ps(a, b);
}
SPI_INLINE vf v_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
SPI_INLINE vf v_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
/* a * b + c */
SPI_INLINE vf v_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
/* Even lanes a * b - c, odd lanes a * b + c. */
SPI_INLINE vf v_fma_alternate(vf a, vf b, vf c) {
    return _mm256_fmaddsub_ps(a, b, c);
}
SPI_INLINE vf v_swap_pairs(vf x) {
    return _mm256_permute_ps(x, 0xb1);
}
/* V_WIDTH / 2 elements, each twice. */
SPI_INLINE vf v_load_twice(const float *p) {
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), twice);
}
/* Four elements, over and over. */
SPI_INLINE vf v_load_four(const float *p) {
    return _mm256_broadcast_ps((const __m128 *)(const void *)p);
}
SPI_INLINE v_eight v_fold(vf x) {
    return x;
}
/* The largest of lanes i, i + 4, ... in place i. */
SPI_INLINE void v_store_max_four(float *p, vf x) {
    _mm_storeu_ps(p, _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)));
}
/* x * 2^n with n an integer, overflow and underflow as they should be: in two steps, either of which is a normal
 * number. */
SPI_INLINE vf v_scale(vf x, vf n) {
    const __m256i bias = _mm256_set1_epi32(127);
    __m256i all = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(all, 1), rest = _mm256_sub_epi32(all, half);
    vf first = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    vf second = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(x, first), second);
}
SPI_INLINE vf v_round(vf x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* 2^x for x <= 0; 0 below -126 and for minus infinity. The sum with 1.5 * 2^23 ends in the nearest integer's bits. */
SPI_INLINE vf v_power(vf x) {
    static const float of[] = {V_POWER_ROUND};
    const vf magic = v_set(0x1.8p23f);
    vf moved = v_add(x, magic), r = v_sub(x, v_sub(moved, magic)), sum = v_set(of[4]);
    for (int i = 3; i >= 0; i--) {
        sum = v_fma(sum, r, v_set(of[i]));
    }
    __m256i bits = _mm256_castps_si256(v_fma(sum, r, v_set(1)));
    vf power = _mm256_castsi256_ps(_mm256_add_epi32(bits, _mm256_slli_epi32(_mm256_castps_si256(moved), 23)));
    return _mm256_and_ps(power, _mm256_cmp_ps(x, v_set(-126), _CMP_GE_OQ));
}

#endif

/* The sum of eight lanes, always in this order. */
SPI_INLINE float v_sum_eight(v_eight x) {
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}

SPI_INLINE float v_sum(vf x) {
    return v_sum_eight(v_fold(x));
}

/* The sums of eight vectors, in their order. */
SPI_INLINE v_eight v_sums(const vf x[8]) {
    __m256 a = _mm256_hadd_ps(v_fold(x[0]), v_fold(x[1])), b = _mm256_hadd_ps(v_fold(x[2]), v_fold(x[3]));
    __m256 c = _mm256_hadd_ps(v_fold(x[4]), v_fold(x[5])), d = _mm256_hadd_ps(v_fold(x[6]), v_fold(x[7]));
    a = _mm256_hadd_ps(a, b);
    c = _mm256_hadd_ps(c, d);
    return _mm256_add_ps(_mm256_permute2f128_ps(a, c, 0x20), _mm256_permute2f128_ps(a, c, 0x31));
}

#if !defined(__AVX512F__)
/* The sums of four vectors, as v_sums has them. */
SPI_INLINE void v_store_sums_four(float *p, const vf x[4]) {
    __m256 y = _mm256_hadd_ps(_mm256_hadd_ps(x[0], x[1]), _mm256_hadd_ps(x[2], x[3]));
    _mm_storeu_ps(p, _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1)));
}
#endif

#endif
