/* device/cuda/kernels/heads.cuh - the norm and the rotation of a head. May include: common.cuh. */
#ifndef SPI_DEVICE_CUDA_KERNELS_HEADS_CUH
#define SPI_DEVICE_CUDA_KERNELS_HEADS_CUH

#include "device/cuda/kernels/common.cuh"

/* A head's columns, one warp: normalised where the model does that, rotated, scaled. */
__device__ __forceinline__ void prepare_head(uint32_t pairs, bool halves, const float2 *turns, const float *from,
                                             const float *norm, float eps, uint32_t dim, float scale, float *to,
                                             uint32_t lane) {
    float squares = 0;
    for (uint32_t i = lane; i < dim; i += 32) {
        float x = __ldcg(from + i);
        squares += x * x;
        to[i] = norm ? x * __ldg(norm + i) : x;
    }
    float factor = norm ? rsqrtf(warp_sum(squares) / dim + eps) : 1;
    __syncwarp();
    for (uint32_t i = lane; i < pairs; i += 32) {
        uint32_t a = halves ? i : 2 * i, b = halves ? i + pairs : 2 * i + 1;
        float2 turn = turns[i];
        float x = to[a] * factor, y = to[b] * factor;
        to[a] = (x * turn.x - y * turn.y) * scale;
        to[b] = (x * turn.y + y * turn.x) * scale;
    }
    for (uint32_t i = 2 * pairs + lane; i < dim; i += 32) {
        to[i] *= factor * scale;
    }
}

#endif
