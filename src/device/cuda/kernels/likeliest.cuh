/* device/cuda/kernels/likeliest.cuh - the token that a greedy sampler picks. May include: args.h. */
#ifndef SPI_DEVICE_CUDA_KERNELS_LIKELIEST_CUH
#define SPI_DEVICE_CUDA_KERNELS_LIKELIEST_CUH

#include <cfloat>
#include <stdint.h>

#include "device/cuda/kernels/args.h"

/* The sampler's rules: no NaN, nothing infinite above; of equals the first. */
__device__ __forceinline__ float cleaned(float logit) {
    logit = logit > FLT_MAX ? FLT_MAX : logit;
    return logit >= -FLT_MAX ? logit : -INFINITY;
}

struct likeliest {
    float logit;
    uint32_t token;

    __device__ __forceinline__ void consider(float other, uint32_t other_token) {
        bool better = other > logit || (other == logit && other_token < token);
        logit = better ? other : logit;
        token = better ? other_token : token;
    }

    /* As another kernel has left it. */
    __device__ __forceinline__ void consider_noted(const spi_cu_best *other) {
        float2 both = __ldcg((const float2 *)other);
        consider(both.x, __float_as_uint(both.y));
    }

    __device__ __forceinline__ void over_warp() {
#pragma unroll
        for (int offset = 16; offset; offset >>= 1) {
            float other = __shfl_xor_sync(0xffffffffu, logit, offset);
            consider(other, __shfl_xor_sync(0xffffffffu, token, offset));
        }
    }
};

#endif
