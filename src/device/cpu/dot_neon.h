/* device/cpu/dot_neon.h - steps of products for Arm: see dot_body.h. Included by it.
 *
 * With dot products (SPI_ARM_DOTPROD) four products of signed bytes are added to 32 bits in one instruction: codes are
 * below 128, or signed. Without: products are added up in 16 bits, a place for each of the four columns, so that a
 * block of 32 columns puts at most 8 * 31 * 127 into one, and half a block of 6-bit codes 4 * 63 * 127, which fits;
 * products of 8-bit codes do not, and are taken to 32 bits at every step.
 */
#ifndef SPI_DEVICE_CPU_DOT_NEON_H
#define SPI_DEVICE_CPU_DOT_NEON_H

#if defined(SPI_ARM_DOTPROD)

typedef vi dot_sum;
#define DOT_KEEP(s) __asm__ volatile("" : "+w"((s).a), "+w"((s).b) : : "memory")
#define DOT_KEEP_BOTH(s)                                                                                               \
    __asm__ volatile("" : "+w"((s)[0].a), "+w"((s)[0].b), "+w"((s)[1].a), "+w"((s)[1].b) : : "memory")

SPI_INLINE dot_sum dot_first(vi start) {
    return start;
}

SPI_INLINE dot_sum dot_step(const bool are_signed, dot_sum sum, vi codes, vi x) {
    (void)are_signed;
    return (vi){vdotq_s32(sum.a, vi_bytes(codes.a), vi_bytes(x.a)), vdotq_s32(sum.b, vi_bytes(codes.b), vi_bytes(x.b))};
}

SPI_INLINE vf dot_total(const bool are_signed, dot_sum sum, vi start) {
    (void)are_signed;
    (void)start;
    return vi_to_f32(sum);
}

#else

/* Of four quarters of a vector's bytes. */
typedef struct dot_sum {
    int16x8_t narrow[4];
    int32x4_t wide[4]; /* of signed codes, two columns in a place */
} dot_sum;
#define DOT_KEEP(s)      __asm__ volatile("" : : : "memory")
#define DOT_KEEP_BOTH(s) __asm__ volatile("" : : : "memory")

SPI_INLINE dot_sum dot_first(vi start) {
    dot_sum sum;
    (void)start;
    for (int i = 0; i < 4; i++) {
        sum.narrow[i] = vdupq_n_s16(0);
        sum.wide[i] = vdupq_n_s32(0);
    }
    return sum;
}

SPI_INLINE dot_sum dot_step(const bool are_signed, dot_sum sum, vi codes, vi x) {
    int8x16_t first = vi_bytes(codes.a), second = vi_bytes(codes.b), act = vi_bytes(x.a);
    if (are_signed) {
        sum.wide[0] = vpadalq_s16(sum.wide[0], vmull_s8(vget_low_s8(first), vget_low_s8(act)));
        sum.wide[1] = vpadalq_s16(sum.wide[1], vmull_high_s8(first, act));
        sum.wide[2] = vpadalq_s16(sum.wide[2], vmull_s8(vget_low_s8(second), vget_low_s8(act)));
        sum.wide[3] = vpadalq_s16(sum.wide[3], vmull_high_s8(second, act));
    } else {
        sum.narrow[0] = vmlal_s8(sum.narrow[0], vget_low_s8(first), vget_low_s8(act));
        sum.narrow[1] = vmlal_high_s8(sum.narrow[1], first, act);
        sum.narrow[2] = vmlal_s8(sum.narrow[2], vget_low_s8(second), vget_low_s8(act));
        sum.narrow[3] = vmlal_high_s8(sum.narrow[3], second, act);
    }
    return sum;
}

SPI_INLINE vf dot_total(const bool are_signed, dot_sum sum, vi start) {
    int32x4_t wide[4];
    for (int i = 0; i < 4; i++) {
        wide[i] = are_signed ? sum.wide[i] : vpaddlq_s16(sum.narrow[i]);
    }
    vi all = {vpaddq_s32(wide[0], wide[1]), vpaddq_s32(wide[2], wide[3])};
    return vi_to_f32(vi_add32(all, start));
}

#endif

/* -offset * 8 * the activations' sum. */
SPI_INLINE vi dot_start(vi bias, uint32_t offset) {
    return (vi){vmulq_n_s32(bias.a, (int32_t)offset), vmulq_n_s32(bias.b, (int32_t)offset)};
}

SPI_INLINE vi dot_bias_difference(vi a, vi b) {
    return (vi){vsubq_s32(a.a, b.a), vsubq_s32(a.b, b.b)};
}

#endif
