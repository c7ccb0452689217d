/* device/cuda/kernels/kv.cuh - where heads lie in blocks (device/kv.h), in f16 and in Q8_0. May include: args.h,
 * common.cuh. */
#ifndef SPI_DEVICE_CUDA_KERNELS_KV_CUH
#define SPI_DEVICE_CUDA_KERNELS_KV_CUH

#include <cuda_fp16.h>

#include "device/cuda/kernels/args.h"
#include "device/cuda/kernels/common.cuh"

/* Of a head's 64 rows: codes, then a scale for each 32 columns of each row. */
__device__ __forceinline__ uint64_t q8_head_bytes(uint32_t dim) {
    return (uint64_t)64 * dim + 64 * (dim / 32) * 2;
}

/* Of a row's numbers, and of a head's 64 rows, of either type. */
template <bool q8> __device__ __forceinline__ uint32_t kv_row_bytes(uint32_t dim) {
    return q8 ? dim : 2 * dim;
}

template <bool q8> __device__ __forceinline__ uint64_t kv_head_bytes(uint32_t dim) {
    return q8 ? q8_head_bytes(dim) : (uint64_t)128 * dim;
}

/* The 64 rows of a K (which = 0) or V (1) head that a position is among, of a session whose first block is at
 * `blocks`. */
__device__ __forceinline__ uint8_t *kv_head(const spi_cu_kv &kv, spi_cu_address blocks, uint32_t which, uint32_t head,
                                            uint32_t position, uint64_t head_bytes) {
    return (uint8_t *)(blocks + position / 64 * kv.block_bytes + kv.layer_bytes +
                       (which * kv.kv_heads + head) * head_bytes);
}

/* One of 32 columns of a row, one a lane, as GGUF's quantiser rounds them, and what all of them are multiplied with. */
struct q8_code {
    uint8_t code;
    __half scale;

    __device__ __forceinline__ explicit q8_code(float x) {
        float all = __fdiv_rn(warp_max(fabsf(x)), 127), inverse = all != 0 ? __fdiv_rn(1, all) : 0;
        float rounded = roundf(__fmul_rn(x, inverse));
        code = (uint8_t)(fabsf(rounded) <= 127 ? (int)rounded : 0);
        scale = __float2half_rn(all);
    }

    /* To a row's numbers, and its scales. */
    __device__ __forceinline__ void put(uint8_t *numbers, __half *scales, uint32_t column) const {
        numbers[column] = code;
        if (column % 32 == 0) {
            scales[column / 32] = scale;
        }
    }
};

/* 32 columns of a row of a head's 64. */
__device__ __forceinline__ void put_q8(float x, uint8_t *head, uint32_t dim, uint32_t row, uint32_t column) {
    q8_code(x).put(head + row * dim, (__half *)(head + 64 * dim) + row * (dim / 32), column);
}

/* Eight columns of a row of a head's 64, from a multiple of eight on, as f16. */
__device__ __forceinline__ uint4 eight_of_q8(const uint8_t *head, uint32_t dim, uint32_t row, uint32_t column) {
    uint2 codes = *(const uint2 *)(head + row * dim + column);
    float scale = __half2float(((const __half *)(head + 64 * dim))[row * (dim / 32) + column / 32]);
    uint32_t pairs[4];
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t two = (i < 2 ? codes.x : codes.y) >> (i % 2 * 16);
        __half2 pair = __floats2half2_rn(scale * (int8_t)two, scale * (int8_t)(two >> 8));
        pairs[i] = *(const uint32_t *)&pair;
    }
    return make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}

#endif
