/* device/cpu/vector.h - vectors of f32 as wide as the instruction set has them, under one set of names.
 *
 * Kernels that differ only in width are written once in *_body.h files and compiled for each instruction set. Fused
 * multiply-adds are named: the compiler makes none of its own. Arm's vectors have four f32; two of them stand for one
 * here, so that a vector is at least eight wide everywhere. May include: base.
 */
#ifndef SPI_DEVICE_CPU_VECTOR_H
#define SPI_DEVICE_CPU_VECTOR_H

#include <stdint.h>

#define SPI_INLINE static inline __attribute__((always_inline, unused))

/* 2^r for r in [0, 1) and in [-1/2, 1/2] as polynomials that are 1 at 0, by powers of r from 1 on: the largest relative
 * error is least, and below 2^-23 (Remez's exchange, in double). */
#define V_POWER_FLOOR 0x1.62e4bap-1f, 0x1.ebdb56p-3f, 0x1.c91ce6p-5f, 0x1.277852p-7f, 0x1.e97502p-10f
#define V_POWER_ROUND 0x1.62e42ap-1f, 0x1.ebf9bcp-3f, 0x1.c6b752p-5f, 0x1.3cea88p-7f, 0x1.5bba14p-10f

#if defined(__aarch64__)
#include "device/cpu/vector_neon.h"
#else
#include "device/cpu/vector_x86.h"
#endif

/* e^x within 2 units of the last place: x = n ln 2 + r with |r| <= ln 2 / 2, and the series of e^r to r^7, whose rest
 * is below 2^-27. ln 2 in two parts, so that r is exact enough; beyond the limits the result is 0 or infinite anyway.
 * NaN stays NaN. */
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

/* e^x for x <= 0, which is what softmax weighs by: 2 and x of e's units of the last place off, and 0 where e^x is no
 * normal number or x is minus infinity. Half the work of v_exp. */
SPI_INLINE vf v_weight(vf x) {
    return v_power(v_mul(x, v_set(0x1.715476p0f)));
}

SPI_INLINE vf v_tanh(vf x) {
    vf one = v_set(1);
    return v_sub(one, v_div(v_set(2), v_add(one, v_exp(v_add(x, x)))));
}

#endif
