/* device/cpu/vector.h - vectors of f32 as wide as the instruction set has them, under one set of names.
 *
 * Kernels that differ only in width are written once in *_body.h files and compiled for each instruction set. Fused
 * multiply-adds are named: the compiler makes none of its own. Arm's vectors have four f32; two of them stand for one here, so
 * that a vector is at least eight wide everywhere. May include: base.
 */
#ifndef SPI_DEVICE_CPU_VECTOR_H
#define SPI_DEVICE_CPU_VECTOR_H

#include <stdint.h>

#define SPI_INLINE static inline __attribute__((always_inline, unused))

#if defined(__aarch64__)
#include "device/cpu/vector_neon.h"
#else
#include "device/cpu/vector_x86.h"
#endif

/* e^x within 2 units of the last place: x = n ln 2 + r with |r| <= ln 2 / 2, and the series of e^r to r^7, whose rest is
 * below 2^-27. ln 2 in two parts, so that r is exact enough; beyond the limits the result is 0 or infinite anyway. NaN
 * stays NaN. */
SPI_INLINE vf v_exp(vf x) {
    x = v_min(v_set(105), v_max(v_set(-105), x));
    vf n = v_round(v_mul(x, v_set(0x1.715476p0f)));
    vf r = v_fma(n, v_set(-0x1.62e4p-1f), x);
    r = v_fma(n, v_set(-0x1.7f7d1cp-20f), r);
    vf sum = v_set(1.0f / 5040);
    sum = v_fma(sum, r, v_set(1.0f / 720));
    sum = v_fma(sum, r, v_set(1.0f / 120));
    sum = v_fma(sum, r, v_set(1.0f / 24));
    sum = v_fma(sum, r, v_set(1.0f / 6));
    sum = v_fma(sum, r, v_set(0.5f));
    sum = v_fma(sum, r, v_set(1));
    sum = v_fma(sum, r, v_set(1));
    return v_scale(sum, n);
}

SPI_INLINE vf v_tanh(vf x) {
    vf one = v_set(1);
    return v_sub(one, v_div(v_set(2), v_add(one, v_exp(v_add(x, x)))));
}

#endif
