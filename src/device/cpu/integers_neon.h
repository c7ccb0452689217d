/* device/cpu/integers_neon.h - integers.h's names for Arm: two vectors of sixteen bytes stand for one of 32. Included
 * by it. Shifts are the compilers' own, since the instructions' functions want their distance as a literal. */
#ifndef SPI_DEVICE_CPU_INTEGERS_NEON_H
#define SPI_DEVICE_CPU_INTEGERS_NEON_H

#include "device/cpu/vector.h"

typedef struct vi {
    int32x4_t a, b;
} vi;

SPI_INLINE int8x16_t vi_bytes(int32x4_t x) {
    return vreinterpretq_s8_s32(x);
}
SPI_INLINE int32x4_t vi_words(int8x16_t x) {
    return vreinterpretq_s32_s8(x);
}

SPI_INLINE vi vi_load(const uint8_t *p) {
    return (vi){vreinterpretq_s32_u8(vld1q_u8(p)), vreinterpretq_s32_u8(vld1q_u8(p + 16))};
}
SPI_INLINE void vi_store(uint8_t *p, vi x) {
    vst1q_u8(p, vreinterpretq_u8_s32(x.a));
    vst1q_u8(p + 16, vreinterpretq_u8_s32(x.b));
}
SPI_INLINE vi vi_set8(int8_t x) {
    return (vi){vi_words(vdupq_n_s8(x)), vi_words(vdupq_n_s8(x))};
}
SPI_INLINE vi vi_set32(int32_t x) {
    return (vi){vdupq_n_s32(x), vdupq_n_s32(x)};
}
SPI_INLINE vi vi_and(vi a, vi b) {
    return (vi){vandq_s32(a.a, b.a), vandq_s32(a.b, b.b)};
}
SPI_INLINE vi vi_or(vi a, vi b) {
    return (vi){vorrq_s32(a.a, b.a), vorrq_s32(a.b, b.b)};
}
SPI_INLINE vi vi_add8(vi a, vi b) {
    return (vi){vi_words(vaddq_s8(vi_bytes(a.a), vi_bytes(b.a))), vi_words(vaddq_s8(vi_bytes(a.b), vi_bytes(b.b)))};
}
SPI_INLINE vi vi_add32(vi a, vi b) {
    return (vi){vaddq_s32(a.a, b.a), vaddq_s32(a.b, b.b)};
}
SPI_INLINE vi vi_max32(vi a, vi b) {
    return (vi){vmaxq_s32(a.a, b.a), vmaxq_s32(a.b, b.b)};
}
SPI_INLINE vi vi_right16(vi x, uint32_t count) {
    return (vi){vreinterpretq_s32_u16(vreinterpretq_u16_s32(x.a) >> (uint16_t)count),
                vreinterpretq_s32_u16(vreinterpretq_u16_s32(x.b) >> (uint16_t)count)};
}
SPI_INLINE vi vi_left16(vi x, uint32_t count) {
    return (vi){vreinterpretq_s32_u16(vreinterpretq_u16_s32(x.a) << (uint16_t)count),
                vreinterpretq_s32_u16(vreinterpretq_u16_s32(x.b) << (uint16_t)count)};
}
SPI_INLINE vi vi_right32(vi x, uint32_t count) {
    return (vi){vreinterpretq_s32_u32(vreinterpretq_u32_s32(x.a) >> count),
                vreinterpretq_s32_u32(vreinterpretq_u32_s32(x.b) >> count)};
}
SPI_INLINE vi vi_left32(vi x, uint32_t count) {
    return (vi){vreinterpretq_s32_u32(vreinterpretq_u32_s32(x.a) << count),
                vreinterpretq_s32_u32(vreinterpretq_u32_s32(x.b) << count)};
}
SPI_INLINE vi vi_right32_signed(vi x, uint32_t count) {
    return (vi){x.a >> (int32_t)count, x.b >> (int32_t)count};
}
/* table[code] for codes below 16. */
SPI_INLINE vi vi_look_up(const int8_t table[16], vi codes) {
    int8x16_t values = vld1q_s8(table);
    return (vi){vi_words(vqtbl1q_s8(values, vreinterpretq_u8_s32(codes.a))),
                vi_words(vqtbl1q_s8(values, vreinterpretq_u8_s32(codes.b)))};
}
SPI_INLINE vi vi_load_u16(const uint16_t *p) {
    uint16x8_t half = vld1q_u16(p);
    return (vi){vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(half))),
                vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(half)))};
}
SPI_INLINE vf vi_to_f32(vi x) {
    return (vf){vcvtq_f32_s32(x.a), vcvtq_f32_s32(x.b)};
}
SPI_INLINE vf vi_as_f32(vi x) {
    return (vf){vreinterpretq_f32_s32(x.a), vreinterpretq_f32_s32(x.b)};
}

#endif
