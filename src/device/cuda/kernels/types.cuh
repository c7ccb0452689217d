/* device/cuda/kernels/types.cuh - the weight formats as kernels see them: 32 neighbouring elements of a row at a time.
 *
 * A new type is a `load32` here, its planes in formats.c and its name in args.h. May include: args.h.
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

template <int type> struct weights;

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

template <> struct weights<SP_Q8_0> {
    static __device__ void load32(const uint8_t *row, const spi_cu_matrix &m, uint32_t group, float *w) {
        const uint4 *from = (const uint4 *)row + group * 2;
        float scale = half_at(row + m.plane_bytes[1] + group * 2);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint4 u = from[i];
            const uint32_t words[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
            for (int j = 0; j < 16; j++) {
                w[16 * i + j] = scale * signed_byte(words[j / 4], j % 4);
            }
        }
    }
};

/* Element j of a block is in the low and j + 16 in the high half of byte j. */
template <> struct weights<SP_Q4_0> {
    static __device__ void load32(const uint8_t *row, const spi_cu_matrix &m, uint32_t group, float *w) {
        uint4 u = ((const uint4 *)row)[group];
        float scale = half_at(row + m.plane_bytes[1] + group * 2);
        const uint32_t words[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
        for (int j = 0; j < 16; j++) {
            uint32_t byte = words[j / 4] >> (8 * (j % 4)) & 255u;
            w[j] = scale * (float)((int)(byte & 15u) - 8);
            w[j + 16] = scale * (float)((int)(byte >> 4) - 8);
        }
    }
};

#endif
