/* device/cuda/kernels/types.cuh - the weight formats as kernels see them: 32 neighbouring elements of a row at a time.
 *
 * A quantised type is unpacked to bytes with a scale and a minimum for each half of the 32: w = scale * code - minimum.
 * src/dtype/blocks.h defines the formats. A new type is an `unpack` here, its planes in formats.c and its name in
 * args.h. May include: args.h.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_TYPES_CUH
#define SPI_DEVICE_CUDA_KERNELS_TYPES_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "device/cuda/kernels/args.h"

__device__ __forceinline__ float half_at(const uint8_t *address) {
    return __half2float(*(const __half *)address);
}

__device__ __forceinline__ float bf16_low(uint32_t word) {
    return __uint_as_float(word << 16);
}

__device__ __forceinline__ float bf16_high(uint32_t word) {
    return __uint_as_float(word & 0xffff0000u);
}

/* A byte of a word, as a signed number. */
__device__ __forceinline__ float signed_byte(uint32_t word, int index) {
    return (float)((int)(word << (24 - 8 * index)) >> 24);
}

__host__ __device__ constexpr bool is_quantised(uint32_t type) {
    return type != SP_F32 && type != SP_F16 && type != SP_BF16;
}

struct codes32 {
    uint32_t codes[8]; /* signed bytes, in the order of the elements */
    float scale[2], minimum[2];

    __device__ __forceinline__ void set(float all, float less) {
        scale[0] = scale[1] = all;
        minimum[0] = minimum[1] = less;
    }

    /* Nibbles of 16 bytes: the low halves first, as types with blocks of 32 have them. */
    __device__ __forceinline__ void nibbles(uint4 u) {
        const uint32_t words[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            codes[i] = words[i] & 0x0f0f0f0fu;
            codes[i + 4] = words[i] >> 4 & 0x0f0f0f0fu;
        }
    }

    /* Some bits of each of 32 bytes, put where `up` says. */
    __device__ __forceinline__ void take_bits(const uint8_t *from, uint32_t down, uint32_t mask, uint32_t up,
                                              bool add) {
        uint4 u = ((const uint4 *)from)[0], v = ((const uint4 *)from)[1];
        const uint32_t words[8] = {u.x, u.y, u.z, u.w, v.x, v.y, v.z, v.w};
#pragma unroll
        for (int i = 0; i < 8; i++) {
            uint32_t bits = (words[i] >> down & mask) << up;
            codes[i] = add ? codes[i] | bits : bits;
        }
    }

    /* The fifth bit of each element out of 32. */
    __device__ __forceinline__ void fifth_bits(uint32_t high) {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            codes[i] |= ((high >> (4 * i) & 15u) * 0x00204081u & 0x01010101u) << 4;
        }
    }

    /* Codes become the entries of a table of 16 signed bytes. */
    __device__ __forceinline__ void look_up(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            uint32_t pairs = (codes[i] | codes[i] >> 4) & 0x00ff00ffu, select = (pairs | pairs >> 8) & 0x7777u;
            uint32_t upper = (codes[i] >> 3 & 0x01010101u) * 255u;
            codes[i] = (__byte_perm(a, b, select) & ~upper) | (__byte_perm(c, d, select) & upper);
        }
    }
};

template <int type> struct unpacked; /* at(row, planes, group) */

template <> struct unpacked<SP_Q8_0> {
    static __device__ __forceinline__ codes32 at(const uint8_t *row, const uint32_t *planes, uint32_t group) {
        codes32 c;
        c.take_bits(row + group * 32, 0, ~0u, 0, false);
        c.set(half_at(row + planes[1] + group * 2), 0);
        return c;
    }
};

template <> struct unpacked<SP_Q4_0> {
    static __device__ __forceinline__ codes32 at(const uint8_t *row, const uint32_t *planes, uint32_t group) {
        codes32 c;
        c.nibbles(((const uint4 *)row)[group]);
        float d = half_at(row + planes[1] + group * 2);
        c.set(d, 8 * d);
        return c;
    }
};

template <> struct unpacked<SP_Q4_1> {
    static __device__ __forceinline__ codes32 at(const uint8_t *row, const uint32_t *planes, uint32_t group) {
        codes32 c;
        c.nibbles(((const uint4 *)row)[group]);
        const uint8_t *head = row + planes[1] + group * 4;
        c.set(half_at(head), -half_at(head + 2));
        return c;
    }
};

template <> struct unpacked<SP_Q5_0> {
    static __device__ __forceinline__ codes32 at(const uint8_t *row, const uint32_t *planes, uint32_t group) {
        codes32 c;
        c.nibbles(((const uint4 *)row)[group]);
        c.fifth_bits(((const uint32_t *)(row + planes[1]))[group]);
        float d = half_at(row + planes[2] + group * 2);
        c.set(d, 16 * d);
        return c;
    }
};

template <> struct unpacked<SP_Q5_1> {
    static __device__ __forceinline__ codes32 at(const uint8_t *row, const uint32_t *planes, uint32_t group) {
        codes32 c;
        c.nibbles(((const uint4 *)row)[group]);
        c.fifth_bits(((const uint32_t *)(row + planes[1]))[group]);
        const uint8_t *head = row + planes[2] + group * 4;
        c.set(half_at(head), -half_at(head + 2));
        return c;
    }
};

template <> struct unpacked<SP_IQ4_NL> {
    static __device__ __forceinline__ codes32 at(const uint8_t *row, const uint32_t *planes, uint32_t group) {
        codes32 c;
        c.nibbles(((const uint4 *)row)[group]);
        c.look_up(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);
        c.set(half_at(row + planes[1] + group * 2), 0);
        return c;
    }
};

template <> struct unpacked<SP_MXFP4> {
    static __device__ __forceinline__ codes32 at(const uint8_t *row, const uint32_t *planes, uint32_t group) {
        codes32 c;
        c.nibbles(((const uint4 *)row)[group]);
        c.look_up(0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu);
        uint32_t exponent = row[planes[1] + group];
        c.set(__uint_as_float(exponent < 2 ? 0x00200000u << exponent : (exponent - 1) << 23), 0);
        return c;
    }
};

template <> struct unpacked<SP_Q2_K> {
    static __device__ __forceinline__ codes32 at(const uint8_t *row, const uint32_t *planes, uint32_t group) {
        codes32 c;
        uint32_t block = group / 8, sub = group % 8;
        c.take_bits(row + block * 64 + sub / 4 * 32, sub % 4 * 2, 0x03030303u, 0, false);
        const uint8_t *scales = row + planes[1] + block * 16 + sub * 2, *head = row + planes[2] + block * 4;
        float d = half_at(head), minimum = half_at(head + 2);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            c.scale[i] = d * (float)(scales[i] & 15);
            c.minimum[i] = minimum * (float)(scales[i] >> 4);
        }
        return c;
    }
};

template <> struct unpacked<SP_Q3_K> {
    static __device__ __forceinline__ codes32 at(const uint8_t *row, const uint32_t *planes, uint32_t group) {
        codes32 c;
        uint32_t block = group / 8, sub = group % 8;
        c.take_bits(row + block * 64 + sub / 4 * 32, sub % 4 * 2, 0x03030303u, 0, false);
        c.take_bits(row + planes[1] + block * 32, sub, 0x01010101u, 2, true);
        const uint8_t *scales = row + planes[2] + block * 14;
        float d = half_at(scales + 12);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint32_t s = sub * 2 + i, low = scales[s % 8] >> (s / 8 * 4) & 15u,
                     high = scales[8 + s % 4] >> (s / 4 * 2) & 3u;
            c.scale[i] = d * (float)((int)(low | high << 4) - 32);
            c.minimum[i] = 4 * c.scale[i];
        }
        return c;
    }
};

/* d, min and the 6-bit scales of Q4_K and Q5_K. */
__device__ __forceinline__ void scale_4_k(codes32 &c, const uint8_t *head, uint32_t sub) {
    uint4 words = *(const uint4 *)head;
    const __half2 both = *(const __half2 *)&words.x;
    uint32_t shift = sub % 4 * 8, a = words.y >> shift & 255u, b = words.z >> shift & 255u, e = words.w >> shift & 255u;
    uint32_t scale = sub < 4 ? a & 63u : (e & 15u) | (a >> 6) << 4;
    uint32_t minimum = sub < 4 ? b & 63u : e >> 4 | (b >> 6) << 4;
    c.set(__low2float(both) * (float)scale, __high2float(both) * (float)minimum);
}

template <> struct unpacked<SP_Q4_K> {
    static __device__ __forceinline__ codes32 at(const uint8_t *row, const uint32_t *planes, uint32_t group) {
        codes32 c;
        uint32_t block = group / 8, sub = group % 8;
        c.take_bits(row + block * 128 + sub / 2 * 32, sub % 2 * 4, 0x0f0f0f0fu, 0, false);
        scale_4_k(c, row + planes[1] + block * 16, sub);
        return c;
    }
};

template <> struct unpacked<SP_Q5_K> {
    static __device__ __forceinline__ codes32 at(const uint8_t *row, const uint32_t *planes, uint32_t group) {
        codes32 c;
        uint32_t block = group / 8, sub = group % 8;
        c.take_bits(row + block * 128 + sub / 2 * 32, sub % 2 * 4, 0x0f0f0f0fu, 0, false);
        c.take_bits(row + planes[1] + block * 32, sub, 0x01010101u, 4, true);
        scale_4_k(c, row + planes[2] + block * 16, sub);
        return c;
    }
};

template <> struct unpacked<SP_Q6_K> {
    static __device__ __forceinline__ codes32 at(const uint8_t *row, const uint32_t *planes, uint32_t group) {
        codes32 c;
        uint32_t block = group / 8, sub = group % 8;
        c.take_bits(row + block * 128 + sub / 4 * 64 + sub % 2 * 32, sub % 4 / 2 * 4, 0x0f0f0f0fu, 0, false);
        c.take_bits(row + planes[1] + block * 64 + sub / 4 * 32, sub % 4 * 2, 0x03030303u, 4, true);
        const uint8_t *scales = row + planes[2] + block * 18;
        float d = half_at(scales + 16);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            c.scale[i] = d * (float)(int8_t)scales[sub * 2 + i];
            c.minimum[i] = 32 * c.scale[i];
        }
        return c;
    }
};

template <> struct unpacked<SP_IQ4_XS> {
    static __device__ __forceinline__ codes32 at(const uint8_t *row, const uint32_t *planes, uint32_t group) {
        codes32 c;
        uint32_t block = group / 8, sub = group % 8;
        c.nibbles(((const uint4 *)row)[group]);
        c.look_up(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);
        const uint8_t *head = row + planes[1] + block * 8;
        uint32_t low = ((const uint32_t *)head)[1] >> (4 * sub) & 15u;
        uint32_t high = ((const uint16_t *)head)[1] >> (2 * sub) & 3u;
        c.set(half_at(head) * (float)((int)(low | high << 4) - 32), 0);
        return c;
    }
};

/* MLX's: a stream of bits, and a scale and a bias in f32. Codes of 8 bits have 128 taken away to be signed ones. */
template <int bits> struct affine_codes {
    static __device__ __forceinline__ codes32 at(const uint8_t *row, const uint32_t *planes, uint32_t group) {
        codes32 c;
        const uint32_t *from = (const uint32_t *)(row + group * (4 * bits));
        uint32_t words[bits + 1];
#pragma unroll
        for (int i = 0; i < bits; i++) {
            words[i] = from[i];
        }
        words[bits] = 0;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int first = 4 * i * bits;
            uint32_t four = __funnelshift_r(words[first / 32], words[first / 32 + 1], first % 32);
            uint32_t mask = (1u << bits) - 1;
            c.codes[i] = (four & mask) | (four >> bits & mask) << 8 | (four >> 2 * bits & mask) << 16 |
                         (four >> 3 * bits & mask) << 24;
            c.codes[i] ^= bits == 8 ? 0x80808080u : 0;
        }
        float2 pair = *(const float2 *)(row + planes[1] + group * 8);
        c.set(pair.x, bits == 8 ? -fmaf(128, pair.x, pair.y) : -pair.y);
        return c;
    }
};
template <> struct unpacked<SP_AFFINE2> : affine_codes<2> {};
template <> struct unpacked<SP_AFFINE3> : affine_codes<3> {};
template <> struct unpacked<SP_AFFINE4> : affine_codes<4> {};
template <> struct unpacked<SP_AFFINE5> : affine_codes<5> {};
template <> struct unpacked<SP_AFFINE6> : affine_codes<6> {};
template <> struct unpacked<SP_AFFINE8> : affine_codes<8> {};

/* As 32 numbers. */
template <int type> struct weights {
    static __device__ __forceinline__ void load32(const uint8_t *row, const spi_cu_matrix &m, uint32_t group,
                                                  float *w) {
        codes32 c = unpacked<type>::at(row, m.plane_bytes, group);
#pragma unroll
        for (int j = 0; j < 32; j++) {
            w[j] = c.scale[j / 16] * signed_byte(c.codes[j / 4], j % 4) - c.minimum[j / 16];
        }
    }
};

/* Without the 128, which would cost small codes their last bits. */
template <> struct weights<SP_AFFINE8> {
    static __device__ __forceinline__ void load32(const uint8_t *row, const spi_cu_matrix &m, uint32_t group,
                                                  float *w) {
        const uint32_t *from = (const uint32_t *)(row + group * 32);
        float2 pair = *(const float2 *)(row + m.plane_bytes[1] + group * 8);
#pragma unroll
        for (int j = 0; j < 32; j++) {
            w[j] = pair.x * (float)(from[j / 4] >> (8 * (j % 4)) & 255u) + pair.y;
        }
    }
};

template <> struct weights<SP_F32> {
    static __device__ void load32(const uint8_t *row, const spi_cu_matrix &, uint32_t group, float *w) {
        const float4 *from = (const float4 *)row + group * 8;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float4 u = from[i];
            w[4 * i] = u.x, w[4 * i + 1] = u.y, w[4 * i + 2] = u.z, w[4 * i + 3] = u.w;
        }
    }
};

template <> struct weights<SP_F16> {
    static __device__ void load32(const uint8_t *row, const spi_cu_matrix &, uint32_t group, float *w) {
        const uint4 *from = (const uint4 *)row + group * 4;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint4 u = from[i];
            const __half2 *pairs = (const __half2 *)&u;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float2 pair = __half22float2(pairs[j]);
                w[8 * i + 2 * j] = pair.x, w[8 * i + 2 * j + 1] = pair.y;
            }
        }
    }
};

template <> struct weights<SP_BF16> {
    static __device__ void load32(const uint8_t *row, const spi_cu_matrix &, uint32_t group, float *w) {
        const uint4 *from = (const uint4 *)row + group * 4;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint4 u = from[i];
            const uint32_t words[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
            for (int j = 0; j < 4; j++) {
                w[8 * i + 2 * j] = bf16_low(words[j]), w[8 * i + 2 * j + 1] = bf16_high(words[j]);
            }
        }
    }
};

#endif
