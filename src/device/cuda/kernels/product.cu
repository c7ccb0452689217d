/* device/cuda/kernels/product.cu - weights times rows, plainly: a warp takes one row of the weight and up to eight rows
 * of activations, and sums in f32. The reference of the faster kernels, and what serves where they do not. */
#include "device/cuda/kernels/common.cuh"
#include "device/cuda/kernels/types.cuh"

#define WARPS 8

__device__ __forceinline__ float capped(float value, float scale, float cap) {
    value *= scale;
    return cap != 0 ? cap * tanhf(value / cap) : value;
}

template <int type, int tokens> __device__ void multiply(const spi_cu_product &args) {
    const spi_cu_matrix &weight = args.weight;
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    uint32_t out = blockIdx.x * WARPS + warp, first = blockIdx.y * tokens;
    if (out >= weight.rows) {
        return;
    }
    const uint8_t *row = (const uint8_t *)weight.data + (uint64_t)out * weight.stride;
    float sums[tokens];
#pragma unroll
    for (int t = 0; t < tokens; t++) {
        sums[t] = 0;
    }
    for (uint32_t group = lane; group < weight.groups; group += 32) {
        float w[32];
        weights<type>::load32(row, weight, group, w);
#pragma unroll
        for (int t = 0; t < tokens; t++) {
            if (first + t < args.row_count) {
                const float4 *x = (const float4 *)(args.x + (uint64_t)(first + t) * args.x_stride) + group * 8;
                float sum = 0;
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    float4 u = x[i];
                    sum += w[4 * i] * u.x + w[4 * i + 1] * u.y + w[4 * i + 2] * u.z + w[4 * i + 3] * u.w;
                }
                sums[t] += sum;
            }
        }
    }
#pragma unroll
    for (int t = 0; t < tokens; t++) {
        float sum = warp_sum(sums[t]);
        uint32_t token = first + t;
        if (lane == 0 && token < args.row_count) {
            sum += args.bias ? args.bias[out] : 0;
            if (args.y) {
                float *y = args.y + (uint64_t)token * args.y_stride + out;
                *y = args.accumulate ? *y + sum : sum;
            } else {
                ((float *)args.outs[token].logits)[out] = capped(sum, args.scale, args.softcap);
            }
        }
    }
}

#define PRODUCT(type)                                                                                                  \
    KERNEL product1_##type(spi_cu_product args) {                                                                      \
        multiply<type, 1>(args);                                                                                       \
    }                                                                                                                  \
    KERNEL product8_##type(spi_cu_product args) {                                                                      \
        multiply<type, 8>(args);                                                                                       \
    }
SPI_CU_ALL_TYPES(PRODUCT)
