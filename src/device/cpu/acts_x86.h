/* device/cpu/acts_x86.h - rounding activations with AVX2, which both widths use. Included by acts_body.h. */
#ifndef SPI_DEVICE_CPU_ACTS_X86_H
#define SPI_DEVICE_CPU_ACTS_X86_H

SPI_INLINE __m256 acts_abs(__m256 x) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

/* The scale that fits best to x, now that it is rounded to q: <x, q> / <q, q>. It takes the part of the rounding error
 * that lies along q away, 1.5 % of all on average, for a tenth of a product's cost with the smallest of matrices. */
SPI_INLINE float acts_fit(const __m256 x[4], const __m256i q[4]) {
    __m256 xq = _mm256_setzero_ps(), qq = _mm256_setzero_ps();
    for (uint32_t i = 0; i < 4; i++) {
        __m256 value = _mm256_cvtepi32_ps(q[i]);
        xq = _mm256_fmadd_ps(x[i], value, xq);
        qq = _mm256_fmadd_ps(value, value, qq);
    }
    __m256 both = _mm256_hadd_ps(xq, qq);
    both = _mm256_hadd_ps(both, both);
    __m128 sums = _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
    return _mm_cvtss_f32(_mm_div_ss(sums, _mm_movehdup_ps(sums)));
}

/* The sum of 16 values in two parts: columns 0, 1 of each four in the low half, 2 and 3 in the high half. */
SPI_INLINE uint32_t acts_pair_sums(__m128i pairs) {
    pairs = _mm_add_epi16(pairs, _mm_shuffle_epi32(pairs, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_add_epi16(pairs, _mm_shuffle_epi32(pairs, 0xb1)));
}

SPI_INLINE int32_t acts_total(uint32_t pair_sums) {
    return (int16_t)pair_sums + (int16_t)(pair_sums >> 16);
}

SPI_INLINE int32_t acts_bias(uint32_t pair_sums) {
#if defined(__AVX512F__)
    return -8 * acts_total(pair_sums);
#else
    uint32_t low = (uint32_t)(-8 * (int16_t)pair_sums) & 0xffffu, high = (uint32_t)(-8 * (int16_t)(pair_sums >> 16));
    return (int32_t)(low | high << 16);
#endif
}

SPI_INLINE void acts_put(uint8_t *tile, uint32_t tokens, uint32_t token, __m256i q, float scale) {
    if (tokens == 1) {
        _mm256_storeu_si256((__m256i *)(void *)tile, q);
    } else {
        uint8_t bytes[SPI_I8_COLUMNS];
        _mm256_storeu_si256((__m256i *)(void *)bytes, q);
        for (uint32_t step = 0; step < SPI_I8_COLUMNS / 4; step++) {
            memcpy(tile + (step * tokens + token) * 4, bytes + step * 4, 4);
        }
    }
    __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
    uint32_t last = acts_pair_sums(_mm256_extracti128_si256(pairs, 1));
    uint32_t all = acts_pair_sums(_mm_add_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1)));
    float sums[3] = {scale, scale * (float)acts_total(all), scale * (float)acts_total(last)};
    int32_t biases[2] = {acts_bias(all), acts_bias(last)};
    uint8_t *parts = tile + SPI_I8_COLUMNS * tokens + 4 * token;
    for (uint32_t i = 0; i < 3; i++, parts += 4 * tokens) {
        memcpy(parts, &sums[i], 4);
    }
    for (uint32_t i = 0; i < 2; i++, parts += 4 * tokens) {
        memcpy(parts, &biases[i], 4);
    }
}

SPI_INLINE void acts_quantise(uint8_t *tile, uint32_t tokens, uint32_t token, const float *src, uint32_t block_count) {
    for (uint32_t b = 0; b < block_count; b++, src += SPI_I8_COLUMNS, tile += SPI_I8_TOKEN_BYTES * tokens) {
        const __m256 x[4] = {_mm256_loadu_ps(src), _mm256_loadu_ps(src + 8), _mm256_loadu_ps(src + 16),
                             _mm256_loadu_ps(src + 24)};
        __m256 most =
            _mm256_max_ps(_mm256_max_ps(acts_abs(x[0]), acts_abs(x[1])), _mm256_max_ps(acts_abs(x[2]), acts_abs(x[3])));
        __m128 four = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
        four = _mm_max_ps(four, _mm_movehl_ps(four, four));
        float largest = _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
        /* A block of numbers so small that the inverse overflows is a block of zeros. */
        bool zero = !(largest > 0x1p-120f);
        __m256 inverse = _mm256_set1_ps(zero ? 0 : 127 / largest);
        __m256i i[4];
        for (uint32_t k = 0; k < 4; k++) {
            i[k] = _mm256_cvtps_epi32(_mm256_mul_ps(x[k], inverse));
        }
        float scale = zero ? 0 : acts_fit(x, i);
        __m256i q = _mm256_packs_epi16(_mm256_packs_epi32(i[0], i[1]), _mm256_packs_epi32(i[2], i[3]));
        q = _mm256_permutevar8x32_epi32(q, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        acts_put(tile, tokens, token, q, scale);
    }
}

#endif
