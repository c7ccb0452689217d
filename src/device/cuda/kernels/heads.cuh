/* device/cuda/kernels/heads.cuh - the norm and the rotation of a head. May include: tagged.cuh. */
#ifndef SPI_DEVICE_CUDA_KERNELS_HEADS_CUH
#define SPI_DEVICE_CUDA_KERNELS_HEADS_CUH

#include "device/cuda/kernels/tagged.cuh"

/* A head's columns, one warp: normalised where the model does that, rotated, scaled. */
template <bool is_tagged>
__device__ __forceinline__ void prepare_head(uint32_t pairs, bool halves, const float2 *turns, const float *from,
                                             const float *norm, float eps, uint32_t dim, float scale, float *to,
                                             uint32_t lane, uint32_t tag = 0) {
    float squares = 0;
    float x[8]; /* of at most 256 columns: all are on their way at once */
    uint32_t missing;
    do {
        missing = 0;
#pragma unroll
        for (uint32_t i = 0; i < 8; i++) {
            if (i * 32 < dim) {
                x[i] = is_tagged ? ask(from + i * 32 + lane) : __ldcg(from + i * 32 + lane);
                missing |= is_tagged ? wrong(x[i], tag) : 0;
            }
        }
    } while (is_tagged && warp_misses(missing));
#pragma unroll
    for (uint32_t i = 0; i < 8; i++) {
        if (i * 32 < dim) {
            uint32_t column = i * 32 + lane;
            float value = is_tagged ? cleared(x[i]) : x[i];
            squares += value * value;
            to[column] = norm ? value * __ldg(norm + column) : value;
        }
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
