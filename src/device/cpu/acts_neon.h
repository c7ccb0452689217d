/* device/cpu/acts_neon.h - rounding activations on Arm. Included by acts_body.h. */
#ifndef SPI_DEVICE_CPU_ACTS_NEON_H
#define SPI_DEVICE_CPU_ACTS_NEON_H

/* The scale that fits best to x, now that it is rounded to q: <x, q> / <q, q>. It takes the part of the rounding error
 * that lies along q away. */
SPI_INLINE float acts_fit(const vf x[4], const vi q[4]) {
    vf xq = v_zero(), qq = v_zero();
    for (uint32_t i = 0; i < 4; i++) {
        vf value = vi_to_f32(q[i]);
        xq = v_fma(x[i], value, xq);
        qq = v_fma(value, value, qq);
    }
    return v_sum(xq) / v_sum(qq);
}

/* Eight integers that fit, as bytes. */
SPI_INLINE int8x8_t acts_bytes(vi x) {
    return vqmovn_s16(vcombine_s16(vqmovn_s32(x.a), vqmovn_s32(x.b)));
}

SPI_INLINE void acts_put(uint8_t *tile, uint32_t tokens, uint32_t token, const vi i[4], float scale) {
    int8x16_t first = vcombine_s8(acts_bytes(i[0]), acts_bytes(i[1]));
    int8x16_t last = vcombine_s8(acts_bytes(i[2]), acts_bytes(i[3]));
    uint8_t bytes[SPI_I8_COLUMNS];
    vst1q_u8(bytes, vreinterpretq_u8_s8(first));
    vst1q_u8(bytes + 16, vreinterpretq_u8_s8(last));
    for (uint32_t step = 0; step < SPI_I8_COLUMNS / 4; step++) {
        memcpy(tile + (step * tokens + token) * 4, bytes + step * 4, 4);
    }
    int32_t last_sum = vaddlvq_s8(last), sum = vaddlvq_s8(first) + last_sum;
    float sums[3] = {scale, scale * (float)sum, scale * (float)last_sum};
    int32_t biases[2] = {-8 * sum, -8 * last_sum};
    uint8_t *parts = tile + SPI_I8_COLUMNS * tokens + 4 * token;
    for (uint32_t k = 0; k < 3; k++, parts += 4 * tokens) {
        memcpy(parts, &sums[k], 4);
    }
    for (uint32_t k = 0; k < 2; k++, parts += 4 * tokens) {
        memcpy(parts, &biases[k], 4);
    }
}

SPI_INLINE float acts_largest(const vf x[4]) {
    float32x4_t most = vdupq_n_f32(0);
    for (uint32_t k = 0; k < 4; k++) {
        most = vmaxq_f32(most, vmaxq_f32(vabsq_f32(x[k].a), vabsq_f32(x[k].b)));
    }
    return vmaxvq_f32(most);
}

SPI_INLINE void acts_quantise(uint8_t *tile, uint32_t tokens, uint32_t token, const float *src, uint32_t block_count) {
    for (uint32_t b = 0; b < block_count; b++, src += SPI_I8_COLUMNS, tile += SPI_I8_TOKEN_BYTES * tokens) {
        const vf x[4] = {v_load(src), v_load(src + 8), v_load(src + 16), v_load(src + 24)};
        float largest = acts_largest(x);
        /* A block of numbers so small that the inverse overflows is a block of zeros. */
        bool zero = !(largest > 0x1p-120f);
        vf inverse = v_set(zero ? 0 : 127 / largest);
        vi i[4];
        for (uint32_t k = 0; k < 4; k++) {
            vf scaled = v_mul(x[k], inverse);
            i[k] = (vi){vcvtnq_s32_f32(scaled.a), vcvtnq_s32_f32(scaled.b)};
        }
        acts_put(tile, tokens, token, i, zero ? 0 : acts_fit(x, i));
    }
}

#endif
