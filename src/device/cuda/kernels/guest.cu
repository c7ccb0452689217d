/* device/cuda/kernels/guest.cu - c = a * b of a guest, in its own memory: each element of a and b crosses the bus once
 * a tile, so tiles pass through shared memory. */
#include <cuda_fp16.h>

#include "device/cuda/kernels/common.cuh"

#define TILE 32
#define ROWS 8 /* of threads */

__device__ __forceinline__ float number(float value) {
    return value;
}

__device__ __forceinline__ float number(__half value) {
    return __half2float(value);
}

template <class element>
__device__ void multiply(const element *a, const element *b, float *c, uint32_t m, uint32_t n, uint32_t k) {
    __shared__ float tile_a[TILE][TILE + 1], tile_b[TILE][TILE + 1];
    uint32_t x = threadIdx.x % TILE, y = threadIdx.x / TILE, column = blockIdx.x * TILE + x;
    for (uint32_t row_first = blockIdx.y * TILE; row_first < m; row_first += gridDim.y * TILE) {
        float sums[TILE / ROWS] = {0};
        for (uint32_t first = 0; first < k; first += TILE) {
            for (uint32_t i = y; i < TILE; i += ROWS) {
                bool in_a = row_first + i < m && first + x < k, in_b = first + i < k && column < n;
                tile_a[i][x] = in_a ? number(a[(uint64_t)(row_first + i) * k + first + x]) : 0;
                tile_b[i][x] = in_b ? number(b[(uint64_t)(first + i) * n + column]) : 0;
            }
            __syncthreads();
            for (uint32_t j = 0; j < TILE; j++) {
#pragma unroll
                for (int i = 0; i < TILE / ROWS; i++) {
                    sums[i] += tile_a[y + i * ROWS][j] * tile_b[j][x];
                }
            }
            __syncthreads();
        }
        for (uint32_t i = 0; i < TILE / ROWS; i++) {
            uint32_t row = row_first + y + i * ROWS;
            if (row < m && column < n) {
                c[(uint64_t)row * n + column] = sums[i];
            }
        }
    }
}

KERNEL guest_f32(const float *a, const float *b, float *c, uint32_t m, uint32_t n, uint32_t k) {
    multiply(a, b, c, m, n, k);
}

KERNEL guest_f16(const __half *a, const __half *b, float *c, uint32_t m, uint32_t n, uint32_t k) {
    multiply(a, b, c, m, n, k);
}
