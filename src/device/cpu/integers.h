/* device/cpu/integers.h - vectors of bytes and integers as wide as the instruction set has them, for quantised
 * products.
 *
 * What vector.h is for f32. A step of a product takes four neighbouring columns of as many rows as there are 32-bit
 * lanes: unsigned codes times the signed activations of these columns, which all lanes share.
 * May include: base.
 */
#ifndef SPI_DEVICE_CPU_INTEGERS_H
#define SPI_DEVICE_CPU_INTEGERS_H

#include <stdbool.h>
#include <string.h>

#include "device/cpu/vector.h"

#define VI_BYTES (V_WIDTH * 4)

#if defined(__aarch64__)
#include "device/cpu/integers_neon.h"
#else
#include "device/cpu/integers_x86.h"
#endif

/* Byte k of each 32-bit lane. */
SPI_INLINE vi vi_byte(vi x, uint32_t k) {
    return k == 3 ? vi_right32(x, 24) : vi_and(vi_right32(x, 8 * k), vi_set32(255));
}
SPI_INLINE vi vi_byte_signed(vi x, uint32_t k) {
    return vi_right32_signed(vi_left32(x, 24 - 8 * k), 24);
}

/* Four bits of each lane from bit 4 k on, as f32. With AVX-512 a table of sixteen numbers needs no mask and no
 * conversion. */
SPI_INLINE vf vi_nibble(vi x, uint32_t k) {
#if defined(__AVX512F__)
    const vf numbers = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_permutexvar_ps(vi_right32(x, 4 * k), numbers);
#else
    return vi_to_f32(vi_and(vi_right32(x, 4 * k), vi_set32(15)));
#endif
}

/* Four bytes in every lane. */
SPI_INLINE vi vi_four(const uint8_t *bytes) {
    int32_t four;
    memcpy(&four, bytes, 4);
    return vi_set32(four);
}

#endif
