/* device/cuda/kernels/wide_rows.cu - what the wide kernels read: norms and heads of many rows as 16-bit numbers. */
#include <cuda_fp16.h>

#include "device/cuda/kernels/packed.cuh"
#include "device/cuda/kernels/place.cuh"

#define THREADS 256

/* Block (row). The row's padding becomes zero. */
KERNEL norm_pack(const __grid_constant__ spi_cu_pack args) {
    behind_the_last();
    __shared__ float room[THREADS / 32];
    uint32_t fours = args.stride / 4;
    const float4 *from = (const float4 *)args.from + (uint64_t)blockIdx.x * fours,
                 *weight = (const float4 *)args.weight;
    uint16_t *to = (uint16_t *)args.to + (uint64_t)blockIdx.x * args.stride;
    float factor = 1;
    if (weight) {
        float squares = 0;
        for (uint32_t i = threadIdx.x; i < fours; i += THREADS) {
            float4 x = from[i];
            squares += x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w;
        }
        squares = block_reduce<THREADS, false>(squares, room);
        factor = rsqrtf(squares * args.squares.inverse_cols + args.eps);
        if (threadIdx.x == 0) {
            float *record = (float *)args.squares.records + (uint64_t)blockIdx.x * args.squares.pitch;
            record[0] = factor, record[1] = squares;
        }
    }
    for (uint32_t i = threadIdx.x; i < fours; i += THREADS) {
        float4 x = from[i], w = make_float4(1, 1, 1, 1);
        if (weight) {
            w = 4 * i < args.columns ? weight[i] : make_float4(0, 0, 0, 0);
        }
        put_packed(to, 4 * i,
                   make_float4(x.x * factor * w.x, x.y * factor * w.y, x.z * factor * w.z, x.w * factor * w.w),
                   args.form);
    }
}

/* Block (eight heads of q, k and v; row). flash.cu has the time to write new rows to the guest's memory, too. */
template <bool q8> __device__ __forceinline__ void place_eight(const spi_cu_heads &args) {
    behind_the_last();
    __shared__ float room[THREADS / 32][256];
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, head = blockIdx.x * (THREADS / 32) + warp,
             row = blockIdx.y, dim = args.kv.head_dim;
    if (head < args.heads) {
        uint32_t *to = (uint32_t *)args.packed + ((uint64_t)row * args.heads + head) * dim / 2;
        place_query(args, row, head, room[warp], lane, to);
        return;
    }
    head -= args.heads;
    if (head < 2 * args.kv.kv_heads) {
        const spi_cu_row place = ((const spi_cu_row *)args.rows)[row];
        place_new<q8>(args, row, {head / args.kv.kv_heads, head % args.kv.kv_heads, place.position, place.kv, 0},
                      room[warp], lane);
    }
}

KERNEL place_heads(const __grid_constant__ spi_cu_heads args) {
    place_eight<false>(args);
}

KERNEL place_heads_q8(const __grid_constant__ spi_cu_heads args) {
    place_eight<true>(args);
}
