/* device/cuda/kernels/wide_rows.cu - what the wide kernels read: norms and heads of many rows as 16-bit numbers. */
#include <cuda_fp16.h>

#include "device/cuda/kernels/heads.cuh"
#include "device/cuda/kernels/matrix.cuh"
#include "device/cuda/kernels/wide_args.h"

#define THREADS 256

/* Block (row). The row's padding becomes zero. */
KERNEL norm_pack(uint2 *to, const float4 *from, const float4 *weight, uint32_t columns, uint32_t stride, float eps,
                 uint32_t brain) {
    behind_the_last();
    __shared__ float room[THREADS / 32];
    uint64_t at = (uint64_t)blockIdx.x * stride / 4;
    float squares = 0;
    for (uint32_t i = threadIdx.x; i < stride / 4; i += THREADS) {
        float4 x = from[at + i];
        squares += x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w;
    }
    float factor = rsqrtf(block_reduce<THREADS, false>(squares, room) / columns + eps);
    for (uint32_t i = threadIdx.x; i < stride / 4; i += THREADS) {
        float4 x = from[at + i], w = 4 * i < columns ? weight[i] : make_float4(0, 0, 0, 0);
        x = make_float4(x.x * factor * w.x, x.y * factor * w.y, x.z * factor * w.z, x.w * factor * w.w);
        to[at + i] = brain ? make_uint2(brain_pair(x.x, x.y), brain_pair(x.z, x.w))
                           : make_uint2(clamped_pair(x.x, x.y), clamped_pair(x.z, x.w));
    }
}

/* Block (eight heads of q, k and v; row). */
KERNEL place_heads(const __grid_constant__ spi_cu_heads args) {
    behind_the_last();
    __shared__ float room[THREADS / 32][256];
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, head = blockIdx.x * (THREADS / 32) + warp,
             row = blockIdx.y;
    uint32_t dim = args.kv.head_dim, kv_heads = args.kv.kv_heads;
    float *x = room[warp];
    const float2 *turns = (const float2 *)args.table + (uint64_t)row * args.pairs;
    if (head < args.heads) {
        prepare_head<false>(args.pairs, args.halves, turns,
                            (const float *)args.q + (uint64_t)row * args.q_stride + head * dim,
                            (const float *)args.q_norm, args.eps, dim, args.scale, x, lane);
        __syncwarp();
        for (uint32_t i = lane; i < dim / 2; i += 32) {
            ((uint32_t *)args.packed)[((uint64_t)row * args.heads + head) * dim / 2 + i] =
                clamped_pair(x[2 * i], x[2 * i + 1]);
        }
        return;
    }
    head -= args.heads;
    if (head >= 2 * kv_heads) {
        return;
    }
    uint32_t which = head / kv_heads;
    head %= kv_heads;
    const float *from = (const float *)(which ? args.v : args.k) + (uint64_t)row * args.k_stride + head * dim;
    if (!which) {
        prepare_head<false>(args.pairs, args.halves, turns, from, (const float *)args.k_norm, args.k_eps, dim, 1, x,
                            lane);
        __syncwarp();
        from = x;
    }
    const spi_cu_row place = ((const spi_cu_row *)args.rows)[row];
    uint64_t at = place.position / 64 * args.kv.block_bytes + args.kv.layer_bytes +
                  (which * kv_heads + head) * (uint64_t)64 * dim * 2 + place.position % 64 * dim * 2;
    for (uint32_t i = lane; i < dim / 2; i += 32) {
        uint32_t pair = half_pair(from[2 * i], from[2 * i + 1]);
        ((uint32_t *)(place.kv + at))[i] = pair; /* flash.cu has the time to write it to the guest's memory, too */
    }
}
