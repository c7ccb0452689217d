/* device/cuda/kernels/attention.cu - one query and head a block, plainly: scores of a chunk of positions, one a thread,
 * then the sum of values, with the running maximum of arXiv:2112.05682. Any head width, window and cap. */
#include <cuda_fp16.h>

#include "device/cuda/kernels/args.h"
#include "device/cuda/kernels/common.cuh"

#define THREADS       128
#define HEAD_DIM_MAX  256
#define DIMS_A_THREAD (HEAD_DIM_MAX / THREADS)

__device__ __forceinline__ const __half *kv_row(const spi_cu_attention &args, const spi_cu_row &row, uint32_t which,
                                                uint32_t head, uint32_t position) {
    uint64_t head_bytes = (uint64_t)64 * args.kv.head_dim * 2;
    return (const __half *)(row.kv + position / 64 * args.kv.block_bytes + args.kv.layer_bytes +
                            (which * args.kv.kv_heads + head) * head_bytes + position % 64 * args.kv.head_dim * 2);
}

__device__ __forceinline__ float score(const spi_cu_attention &args, const spi_cu_row &row, uint32_t head,
                                       uint32_t position, const float *q) {
    const __half2 *k = (const __half2 *)kv_row(args, row, 0, head, position);
    float sum = 0;
    for (uint32_t i = 0; i < args.kv.head_dim / 2; i++) {
        float2 pair = __half22float2(k[i]);
        sum += q[2 * i] * pair.x + q[2 * i + 1] * pair.y;
    }
    sum *= args.scale;
    return args.softcap != 0 ? args.softcap * tanhf(sum / args.softcap) : sum;
}

/* Block (query head, row). */
KERNEL attention(spi_cu_attention args) {
    __shared__ float q[HEAD_DIM_MAX], weights[THREADS], room[THREADS / 32];
    const spi_cu_row row = args.rows[blockIdx.y];
    uint32_t dim = args.kv.head_dim, head = blockIdx.x / (args.heads / args.kv.kv_heads);
    uint64_t at = (uint64_t)blockIdx.y * args.stride + blockIdx.x * dim;
    for (uint32_t i = threadIdx.x; i < dim; i += THREADS) {
        q[i] = args.q[at + i];
    }
    __syncthreads();
    uint32_t end = row.position + 1, first = args.window && end > args.window ? end - args.window : 0;
    float largest = -INFINITY, total = 0, sums[DIMS_A_THREAD] = {0};
    for (uint32_t chunk = first; chunk < end; chunk += THREADS) {
        uint32_t position = chunk + threadIdx.x, count = min(end - chunk, (uint32_t)THREADS);
        float value = position < end ? score(args, row, head, position, q) : -INFINITY;
        float now = fmaxf(largest, block_reduce<THREADS, true>(value, room));
        float rescale = expf(largest - now), weight = position < end ? expf(value - now) : 0;
        weights[threadIdx.x] = weight;
        total = total * rescale + block_reduce<THREADS, false>(weight, room);
#pragma unroll
        for (int i = 0; i < DIMS_A_THREAD; i++) {
            uint32_t column = threadIdx.x + i * THREADS;
            if (column < dim) {
                float sum = 0;
                for (uint32_t p = 0; p < count; p++) {
                    sum += weights[p] * __half2float(kv_row(args, row, 1, head, chunk + p)[column]);
                }
                sums[i] = sums[i] * rescale + sum;
            }
        }
        largest = now;
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < DIMS_A_THREAD; i++) {
        uint32_t column = threadIdx.x + i * THREADS;
        if (column < dim) {
            args.out[at + column] = sums[i] / total;
        }
    }
}
