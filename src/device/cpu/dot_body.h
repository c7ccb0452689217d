/* device/cpu/dot_body.h - one step of a product of quantised weights, and what begins and ends a block of 32 columns.
 *
 * AVX-512 (VNNI): vpdpbusd multiplies unsigned codes with signed activations and adds four products to 32 bits, without
 * saturation. AVX2: vpmaddubsw adds pairs of products to 16 bits, which are summed there: of codes from which the
 * offset is taken away, the largest sum is that of the 6-bit type over half a block, 8 * 32 * 127, or of 5 bits over a
 * block, 16 * 16 * 127: both fit; and sums on the way may wrap. 4-bit codes without an offset make 16 * 15 * 127 at
 * most. Signed codes: |w| is unsigned and x takes w's sign: pairs of products are at most 2 * 128 * 127, even for the
 * weight -128, and are added up in 32 bits. For Arm see dot_neon.h.
 *
 * A sum begins as dot_first(start), and ends with dot_total, which gets the start once more: it is in the sum, or added
 * then. Sums stay in registers from one step to the next because of DOT_KEEP: without being told so, compilers reorder
 * all loads of a block before its sums and spill (measured with AVX-512: 150 in place of 360 GOP/s). May include:
 * device, os, base.
 */
#ifndef SPI_DEVICE_CPU_DOT_BODY_H
#define SPI_DEVICE_CPU_DOT_BODY_H

#include "device/cpu/acts_body.h"

#if defined(__aarch64__)
#include "device/cpu/dot_neon.h"
#else
#include "device/cpu/dot_x86.h"
#endif

/* What the sums of a block, or of its half h, start from. */
SPI_INLINE vi dot_begin(const uint8_t *act, const uint32_t tokens, const uint32_t token, const bool halves,
                        const uint32_t h, const uint32_t offset) {
    if (!halves) {
        return dot_start(vi_four(acts_part(act, tokens, ACTS_BIAS, token)), offset);
    }
    vi last = vi_four(acts_part(act, tokens, ACTS_LAST_BIAS, token));
    if (h) {
        return dot_start(last, offset);
    }
    return dot_start(dot_bias_difference(vi_four(acts_part(act, tokens, ACTS_BIAS, token)), last), offset);
}

/* All kernels add a block, or its halves, to a token's sums in these steps: so a token's result is the same bits
 * whatever tile it is in, and alone. */
SPI_INLINE vf dot_end(const bool are_signed, dot_sum sum, vi start, vf scale, const uint8_t *act, const uint32_t tokens,
                      const uint32_t token, vf total) {
    vf both = v_mul(scale, v_set(acts_f32(act, tokens, ACTS_SCALE, token)));
    return v_fma(dot_total(are_signed, sum, start), both, total);
}

SPI_INLINE vf dot_add_min(vf min, const uint8_t *act, const uint32_t tokens, const uint32_t token, const bool halves,
                          const uint32_t h, vf total) {
    float sum = acts_f32(act, tokens, halves && h ? ACTS_LAST_SUM : ACTS_SUM, token);
    if (halves && !h) {
        sum -= acts_f32(act, tokens, ACTS_LAST_SUM, token);
    }
    return v_fma(min, v_set(sum), total);
}

#endif
