/* device/cpu/acts_body.h - activations rounded to 8 bits, SPI_FORM_I8 of kernels.h, for both vector widths.
 *
 * Rounding is to nearest with the scale max / 127, so nothing can leave int8; then the scale is fitted anew. The biases
 * are -8 times sums of values, of all 32 and of the last 16: products take codes as unsigned, and start from the bias
 * times what was added to the codes, over 8. AVX2 sums in 16 bits, so there the low half is that of columns 0, 1 of
 * each four and the high half that of columns 2, 3; modulo 2^16, which is exact since the sums in the end are in range.
 * May include: device, os, base.
 */
#ifndef SPI_DEVICE_CPU_ACTS_BODY_H
#define SPI_DEVICE_CPU_ACTS_BODY_H

#include "device/cpu/integers.h"
#include "device/cpu/kernels.h"

/* The parts of a block of a tile, behind the values: one of each for each token. */
enum acts_part { ACTS_SCALE, ACTS_SUM, ACTS_LAST_SUM, ACTS_BIAS, ACTS_LAST_BIAS, ACTS_PARTS };
_Static_assert(SPI_I8_COLUMNS + 4 * ACTS_PARTS == SPI_I8_TOKEN_BYTES, "see SPI_FORM_I8");

SPI_INLINE const uint8_t *acts_step(const uint8_t *block, uint32_t tokens, uint32_t step, uint32_t token) {
    return block + (step * tokens + token) * 4;
}
SPI_INLINE const uint8_t *acts_part(const uint8_t *block, uint32_t tokens, enum acts_part part, uint32_t token) {
    return block + (SPI_I8_COLUMNS + part * 4) * tokens + 4 * token;
}
SPI_INLINE float acts_f32(const uint8_t *block, uint32_t tokens, enum acts_part part, uint32_t token) {
    float value;
    memcpy(&value, acts_part(block, tokens, part, token), 4);
    return value;
}

#if defined(__aarch64__)
#include "device/cpu/acts_neon.h"
#else
#include "device/cpu/acts_x86.h"
#endif

#endif
