/* device/cpu/vector_neon.h - vector.h's names for Arm: two vectors of four f32 stand for one of eight. Included by
 * it. */
#ifndef SPI_DEVICE_CPU_VECTOR_NEON_H
#define SPI_DEVICE_CPU_VECTOR_NEON_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#define V_WIDTH 8u
typedef struct vf {
    float32x4_t a, b;
} vf;

typedef vf v_eight;

SPI_INLINE void v_fetch(const void *p) {
    __builtin_prefetch(p, 0, 3);
}
SPI_INLINE void v_fetch_second(const void *p) {
    __builtin_prefetch(p, 0, 2);
}

SPI_INLINE vf v_zero(void) {
    return (vf){vdupq_n_f32(0), vdupq_n_f32(0)};
}
SPI_INLINE vf v_set(float x) {
    return (vf){vdupq_n_f32(x), vdupq_n_f32(x)};
}
SPI_INLINE vf v_load(const float *p) {
    return (vf){vld1q_f32(p), vld1q_f32(p + 4)};
}
SPI_INLINE void v_store(float *p, vf x) {
    vst1q_f32(p, x.a);
    vst1q_f32(p + 4, x.b);
}
SPI_INLINE void v_store_eight(float *p, v_eight x) {
    v_store(p, x);
}
/* The first count elements, 0 < count < V_WIDTH; the others are 0. */
SPI_INLINE vf v_load_part(const float *p, uint32_t count) {
    float all[V_WIDTH] = {0};
    memcpy(all, p, count * sizeof *p);
    return v_load(all);
}
SPI_INLINE void v_store_part(float *p, vf x, uint32_t count) {
    float all[V_WIDTH];
    v_store(all, x);
    memcpy(p, all, count * sizeof *p);
}
SPI_INLINE vf v_load_f16(const uint16_t *p) {
    uint16x8_t half = vld1q_u16(p);
    return (vf){vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(half))),
                vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(half)))};
}
SPI_INLINE vf v_load_i8(const int8_t *p) {
    int16x8_t whole = vmovl_s8(vld1_s8(p));
    return (vf){vcvtq_f32_s32(vmovl_s16(vget_low_s16(whole))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(whole)))};
}
SPI_INLINE float v_half(uint16_t half) {
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half))), 0);
}
SPI_INLINE vf v_load_bf16(const uint16_t *p) {
    uint16x8_t half = vld1q_u16(p);
    return (vf){vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(half), 16)),
                vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(half), 16))};
}
SPI_INLINE void v_store_f16(uint16_t *p, vf x) {
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x.a)));
    vst1_u16(p + 4, vreinterpret_u16_f16(vcvt_f16_f32(x.b)));
}
SPI_INLINE vf v_add(vf a, vf b) {
    return (vf){vaddq_f32(a.a, b.a), vaddq_f32(a.b, b.b)};
}
SPI_INLINE vf v_sub(vf a, vf b) {
    return (vf){vsubq_f32(a.a, b.a), vsubq_f32(a.b, b.b)};
}
SPI_INLINE vf v_mul(vf a, vf b) {
    return (vf){vmulq_f32(a.a, b.a), vmulq_f32(a.b, b.b)};
}
SPI_INLINE vf v_div(vf a, vf b) {
    return (vf){vdivq_f32(a.a, b.a), vdivq_f32(a.b, b.b)};
}
SPI_INLINE vf v_max(vf a, vf b) {
    return (vf){vmaxq_f32(a.a, b.a), vmaxq_f32(a.b, b.b)};
}
SPI_INLINE vf v_min(vf a, vf b) {
    return (vf){vminq_f32(a.a, b.a), vminq_f32(a.b, b.b)};
}
/* a * b + c */
SPI_INLINE vf v_fma(vf a, vf b, vf c) {
    return (vf){vfmaq_f32(c.a, a.a, b.a), vfmaq_f32(c.b, a.b, b.b)};
}
SPI_INLINE float32x4_t v_negate_even(float32x4_t x) {
    const uint32x4_t signs = vreinterpretq_u32_u64(vdupq_n_u64(0x80000000u));
    return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(x), signs));
}
/* Even lanes a * b - c, odd lanes a * b + c. */
SPI_INLINE vf v_fma_alternate(vf a, vf b, vf c) {
    return (vf){vfmaq_f32(v_negate_even(c.a), a.a, b.a), vfmaq_f32(v_negate_even(c.b), a.b, b.b)};
}
SPI_INLINE vf v_swap_pairs(vf x) {
    return (vf){vrev64q_f32(x.a), vrev64q_f32(x.b)};
}
/* V_WIDTH / 2 elements, each twice. */
SPI_INLINE vf v_load_twice(const float *p) {
    float32x4_t x = vld1q_f32(p);
    return (vf){vzip1q_f32(x, x), vzip2q_f32(x, x)};
}
/* Four elements, over and over. */
SPI_INLINE vf v_load_four(const float *p) {
    float32x4_t x = vld1q_f32(p);
    return (vf){x, x};
}
/* The largest of lanes i, i + 4, ... in place i. */
SPI_INLINE void v_store_max_four(float *p, vf x) {
    vst1q_f32(p, vmaxq_f32(x.a, x.b));
}
SPI_INLINE float32x4_t v_scale_four(float32x4_t x, float32x4_t n) {
    const int32x4_t bias = vdupq_n_s32(127);
    int32x4_t all = vcvtnq_s32_f32(n), half = vshrq_n_s32(all, 1), rest = vsubq_s32(all, half);
    float32x4_t first = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23));
    float32x4_t second = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23));
    return vmulq_f32(vmulq_f32(x, first), second);
}
/* x * 2^n with n an integer, overflow and underflow as they should be: in two steps, either of which is a normal
 * number. */
SPI_INLINE vf v_scale(vf x, vf n) {
    return (vf){v_scale_four(x.a, n.a), v_scale_four(x.b, n.b)};
}
SPI_INLINE vf v_round(vf x) {
    return (vf){vrndnq_f32(x.a), vrndnq_f32(x.b)};
}
SPI_INLINE float32x4_t v_power_four(float32x4_t x) {
    static const float of[] = {V_POWER_ROUND};
    float32x4_t r = vsubq_f32(x, vrndnq_f32(x)), sum = vdupq_n_f32(of[4]);
    for (int i = 3; i >= 0; i--) {
        sum = vfmaq_f32(vdupq_n_f32(of[i]), sum, r);
    }
    int32x4_t bits = vreinterpretq_s32_f32(vfmaq_f32(vdupq_n_f32(1), sum, r));
    bits = vaddq_s32(bits, vshlq_n_s32(vcvtnq_s32_f32(x), 23));
    return vreinterpretq_f32_s32(vandq_s32(bits, vreinterpretq_s32_u32(vcgeq_f32(x, vdupq_n_f32(-126)))));
}
/* 2^x for x <= 0; 0 below -126 and for minus infinity. */
SPI_INLINE vf v_power(vf x) {
    return (vf){v_power_four(x.a), v_power_four(x.b)};
}

/* The sum of all lanes, always in this order. */
SPI_INLINE float v_sum(vf x) {
    float32x4_t four = vaddq_f32(x.a, x.b);
    return vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)));
}

/* The sums of eight vectors, in their order. */
SPI_INLINE v_eight v_sums(const vf x[8]) {
    float32x4_t four[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        four[i] = vaddq_f32(x[i].a, x[i].b);
    }
    return (vf){vpaddq_f32(vpaddq_f32(four[0], four[1]), vpaddq_f32(four[2], four[3])),
                vpaddq_f32(vpaddq_f32(four[4], four[5]), vpaddq_f32(four[6], four[7]))};
}

/* The sums of four vectors, as v_sums has them. */
SPI_INLINE void v_store_sums_four(float *p, const vf x[4]) {
    float32x4_t a = vaddq_f32(x[0].a, x[0].b), b = vaddq_f32(x[1].a, x[1].b);
    float32x4_t c = vaddq_f32(x[2].a, x[2].b), d = vaddq_f32(x[3].a, x[3].b);
    vst1q_f32(p, vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)));
}

#endif
