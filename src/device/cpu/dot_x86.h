/* device/cpu/dot_x86.h - steps of products for AVX2 and AVX-512: see dot_body.h. Included by it. */
#ifndef SPI_DEVICE_CPU_DOT_X86_H
#define SPI_DEVICE_CPU_DOT_X86_H

typedef vi dot_sum;
#define DOT_KEEP(s)      __asm__ volatile("" : VI_REGISTER(s) : : "memory")
#define DOT_KEEP_BOTH(s) __asm__ volatile("" : VI_REGISTER((s)[0]), VI_REGISTER((s)[1]) : : "memory")

SPI_INLINE dot_sum dot_first(vi start) {
    return start;
}

#if defined(__AVX512F__)

SPI_INLINE vi dot_step(const bool are_signed, vi sum, vi codes, vi x) {
    (void)are_signed;
    return _mm512_dpbusd_epi32(sum, codes, x);
}

SPI_INLINE vf dot_total(const bool are_signed, dot_sum sum, vi start) {
    (void)start;
    (void)are_signed;
    return vi_to_f32(sum);
}

/* -offset * 8 * the activations' sum: of a bias, the lower 16 bits are all of it. */
SPI_INLINE vi dot_start(vi bias, uint32_t offset) {
    return _mm512_madd_epi16(bias, _mm512_set1_epi32((int32_t)offset));
}

SPI_INLINE vi dot_bias_difference(vi a, vi b) {
    return _mm512_sub_epi32(a, b);
}

#else

SPI_INLINE vi dot_step(const bool are_signed, vi sum, vi codes, vi x) {
    if (are_signed) {
        vi pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes));
        return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, x));
}

SPI_INLINE vf dot_total(const bool are_signed, dot_sum sum, vi start) {
    (void)start;
    return vi_to_f32(are_signed ? sum : _mm256_madd_epi16(sum, _mm256_set1_epi16(1)));
}

SPI_INLINE vi dot_start(vi bias, uint32_t offset) {
    return _mm256_mullo_epi16(bias, _mm256_set1_epi16((int16_t)offset));
}

SPI_INLINE vi dot_bias_difference(vi a, vi b) {
    return _mm256_sub_epi16(a, b);
}

#endif

#endif
