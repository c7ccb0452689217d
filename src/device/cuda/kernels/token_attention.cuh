/* device/cuda/kernels/token_attention.cuh - a phase of attention, for the kernel that computes a token in one launch.
 *
 * The context is shared out in runs of blocks of 64 tokens. A block of the grid attends over one run with the query heads
 * of one KV head; of the blocks that attend for a KV head, the last one puts the runs together.
 * May include: token_product.cuh, heads.cuh.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_TOKEN_ATTENTION_CUH
#define SPI_DEVICE_CUDA_KERNELS_TOKEN_ATTENTION_CUH

#include "device/cuda/kernels/heads.cuh"
#include "device/cuda/kernels/token_product.cuh"

#if __CUDA_ARCH__ >= 900
/* e^(from - to) of running maxima, of which the first is -infinity where nothing was seen. */
__device__ __forceinline__ float growth(float from, float to) {
    return from == -INFINITY ? 0 : __expf(from - to);
}

__device__ __forceinline__ const uint8_t *kv_head(const spi_cu_token &token, const spi_cu_phase &phase, uint32_t which,
                                                  uint32_t head) {
    uint64_t head_bytes = (uint64_t)64 * token.kv.head_dim * 2;
    return (const uint8_t *)token.blocks + phase.layer_bytes + (which * token.kv.kv_heads + head) * head_bytes;
}

/* The token's own K and V, rounded as blocks hold them, to the card's block and the guest's. */
__device__ __forceinline__ void store_kv(const spi_cu_token &token, const spi_cu_phase &phase, uint32_t head, float *k,
                                         float *v) {
    uint32_t dim = token.kv.head_dim;
    for (uint32_t i = threadIdx.x; i < 2 * dim; i += THREADS) {
        uint32_t which = i / dim, column = i % dim;
        float *from = which ? v + column : k + column;
        __half value = __float2half_rn(*from);
        *from = __half2float(value);
        uint64_t at = token.position / 64 * token.kv.block_bytes + phase.layer_bytes +
                      (which * token.kv.kv_heads + head) * (uint64_t)64 * dim * 2 +
                      (token.position % 64 * dim + column) * 2;
        *(__half *)(token.blocks + at) = value;
        if (token.host_blocks) {
            *(__half *)(token.host_blocks + at) = value;
        }
    }
}

struct attended_part { /* eight columns of a head over some positions */
    float sums[8], largest, total;

    __device__ __forceinline__ void clear() {
        largest = -INFINITY;
        total = 0;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            sums[j] = 0;
        }
    }

    __device__ __forceinline__ void rescale(float now) {
        float old = growth(largest, now);
        total *= old;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            sums[j] *= old;
        }
        largest = now;
    }

    __device__ __forceinline__ void merge_lane(int offset) {
        float other_largest = __shfl_xor_sync(0xffffffffu, largest, offset);
        float other_total = __shfl_xor_sync(0xffffffffu, total, offset), now = fmaxf(largest, other_largest);
        float mine = growth(largest, now), others = growth(other_largest, now);
        total = total * mine + other_total * others;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            sums[j] = sums[j] * mine + __shfl_xor_sync(0xffffffffu, sums[j], offset) * others;
        }
        largest = now;
    }
};

/* True for the last of the blocks that attend for a KV head: it then sees what the others wrote. */
__device__ __forceinline__ bool is_last(const spi_cu_token &token, uint32_t head, uint32_t &flag) {
    all_sync();
    if (threadIdx.x == 0) {
        uint32_t old;
        asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
                     : "=r"(old)
                     : "l"(token.arrivals + head), "r"(token.splits - 1)
                     : "memory");
        flag = old == token.splits - 1;
    }
    all_sync();
    return flag;
}

/* Puts the runs of a KV head's context together. */
__device__ __forceinline__ void join_runs(const spi_cu_token &token, const spi_cu_phase &phase, uint32_t head) {
    uint32_t shift = token.dim_shift, dim = 1u << shift, pitch = dim + 4, group = phase.heads / token.kv.kv_heads;
    for (uint32_t i = threadIdx.x; i < group << (shift - 2); i += THREADS) {
        uint32_t h = head * group + (4 * i >> shift), column = 4 * i & (dim - 1);
        const float *at = token.attended + h * pitch;
        float largest = -INFINITY, total = 0;
        float4 sum = make_float4(0, 0, 0, 0);
        for (uint32_t first = 0; first < token.splits; first += 8) { /* all of eight are on their way at once */
            float4 part[8];
            float2 seen[8]; /* a run's largest score, and its sum of weights */
            float now = largest;
#pragma unroll
            for (int k = 0; k < 8; k++) {
                const float *run = at + (uint64_t)min(first + k, token.splits - 1) * phase.heads * pitch;
                seen[k] = __ldcg((const float2 *)(run + dim));
                part[k] = __ldcg((const float4 *)(run + column));
            }
#pragma unroll
            for (int k = 0; k < 8; k++) {
                seen[k].x = first + k < token.splits ? seen[k].x : -INFINITY;
                now = fmaxf(now, seen[k].x);
            }
            float old = growth(largest, now);
            total *= old, sum.x *= old, sum.y *= old, sum.z *= old, sum.w *= old;
#pragma unroll
            for (int k = 0; k < 8; k++) {
                float c = growth(seen[k].x, now);
                total += c * seen[k].y;
                sum.x += c * part[k].x, sum.y += c * part[k].y, sum.z += c * part[k].z, sum.w += c * part[k].w;
            }
            largest = now;
        }
        float inverse = 1 / total;
        *(float4 *)((float *)phase.out + h * dim + column) =
            make_float4(sum.x * inverse, sum.y * inverse, sum.z * inverse, sum.w * inverse);
    }
}

/* A block attends with the query heads of one KV head over one run of blocks. Lanes in bunches of dim / 8 hold a
 * position; each warp has one query head. */
template <int dim>
__device__ __forceinline__ void attend(const spi_cu_token &token, const spi_cu_phase &phase, const float2 *turns,
                                       uint32_t &flag, uint8_t *room) {
    constexpr uint32_t bunch = dim / 8, at_once = 32 / bunch, unroll = 4;
    uint32_t group = phase.heads / token.kv.kv_heads, head = blockIdx.x % token.kv.kv_heads;
    uint32_t split = blockIdx.x / token.kv.kv_heads, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (split >= token.splits) {
        return;
    }
    float *q = (float *)room, *k = q + group * dim, *v = k + dim, *parts = v + dim;
    uint32_t begin = split * token.split_blocks * 64, end = min(token.position, (split + 1) * token.split_blocks * 64);
    bool last = split + 1 == token.splits;
    if (phase.window && token.position + 1 > phase.window) {
        begin = max(begin, token.position + 1 - phase.window);
    }
    for (uint32_t i = warp; i < group + 2; i += WARPS) {
        if (i < group) {
            prepare_head(phase.pairs, phase.halves, turns, (const float *)phase.src + (head * group + i) * dim,
                         (const float *)phase.q_norm, phase.eps, dim, phase.scale, q + i * dim, lane);
        } else if (i == group) {
            prepare_head(phase.pairs, phase.halves, turns, (const float *)phase.k + head * dim,
                         (const float *)phase.k_norm, phase.k_eps, dim, 1, k, lane);
        } else {
            for (uint32_t c = lane; c < dim; c += 32) {
                v[c] = __ldcg((const float *)phase.v + head * dim + c);
            }
        }
    }
    all_sync();
    if (last) {
        store_kv(token, phase, head, k, v);
        all_sync();
    }
    const uint8_t *keys = kv_head(token, phase, 0, head), *values = kv_head(token, phase, 1, head);
    uint32_t together = group >= 4 ? 4 : group >= 2 ? 2 : 1, warps_a_head = WARPS / together;
    uint32_t bunch_index = lane / bunch, column = lane % bunch * 8, pitch = dim + 4;
    for (uint32_t first_head = 0; first_head < group; first_head += together) {
        uint32_t h = first_head + warp / warps_a_head, part = warp % warps_a_head;
        attended_part mine;
        mine.clear();
        if (h < group) {
            float query[8];
#pragma unroll
            for (int j = 0; j < 8; j++) {
                query[j] = q[h * dim + column + j];
            }
            uint32_t pace = warps_a_head * at_once;
            for (uint32_t base = begin + part * at_once; base < end; base += pace * unroll) {
                uint4 key[unroll], value[unroll];
#pragma unroll
                for (int i = 0; i < unroll; i++) {
                    uint32_t position = min(base + i * pace + bunch_index, end - 1);
                    uint64_t at = position / 64 * token.kv.block_bytes + (position % 64 * dim + column) * 2;
                    key[i] = __ldcg((const uint4 *)(keys + at));
                    value[i] = __ldcg((const uint4 *)(values + at));
                }
                float scores[unroll], now = mine.largest;
#pragma unroll
                for (int i = 0; i < unroll; i++) {
                    const __half2 *pairs = (const __half2 *)&key[i];
                    float sum = 0;
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        float2 pair = __half22float2(pairs[j]);
                        sum += query[2 * j] * pair.x + query[2 * j + 1] * pair.y;
                    }
#pragma unroll
                    for (int offset = 1; offset < bunch; offset <<= 1) {
                        sum += __shfl_xor_sync(0xffffffffu, sum, offset);
                    }
                    sum = phase.softcap != 0 ? phase.softcap * tanhf(sum / phase.softcap) : sum;
                    scores[i] = base + i * pace + bunch_index < end ? sum : -INFINITY;
                    now = fmaxf(now, scores[i]);
                }
                if (now != -INFINITY) {
                    mine.rescale(now);
#pragma unroll
                    for (int i = 0; i < unroll; i++) {
                        const __half2 *pairs = (const __half2 *)&value[i];
                        float weight = __expf(scores[i] - now);
                        mine.total += weight;
#pragma unroll
                        for (int j = 0; j < 4; j++) {
                            float2 pair = __half22float2(pairs[j]);
                            mine.sums[2 * j] += weight * pair.x;
                            mine.sums[2 * j + 1] += weight * pair.y;
                        }
                    }
                }
            }
            if (last && part == 0) { /* the token itself, out of shared memory */
                float sum = 0;
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    sum += query[j] * k[column + j];
                }
#pragma unroll
                for (int offset = 1; offset < bunch; offset <<= 1) {
                    sum += __shfl_xor_sync(0xffffffffu, sum, offset);
                }
                sum = phase.softcap != 0 ? phase.softcap * tanhf(sum / phase.softcap) : sum;
                if (bunch_index == 0) {
                    float now = fmaxf(mine.largest, sum);
                    mine.rescale(now);
                    float weight = __expf(sum - now);
                    mine.total += weight;
#pragma unroll
                    for (int j = 0; j < 8; j++) {
                        mine.sums[j] += weight * v[column + j];
                    }
                }
                __syncwarp();
            }
#pragma unroll
            for (int offset = bunch; offset < 32; offset <<= 1) {
                mine.merge_lane(offset);
            }
            if (bunch_index == 0) {
                float *to = parts + warp * pitch;
                *(float4 *)(to + column) = make_float4(mine.sums[0], mine.sums[1], mine.sums[2], mine.sums[3]);
                *(float4 *)(to + column + 4) = make_float4(mine.sums[4], mine.sums[5], mine.sums[6], mine.sums[7]);
                if (column == 0) {
                    to[dim] = mine.largest;
                    to[dim + 1] = mine.total;
                }
            }
        }
        all_sync();
        for (uint32_t i = threadIdx.x; i < together * dim; i += THREADS) {
            uint32_t local = i / dim, c = i % dim;
            if (first_head + local < group) {
                const float *from = parts + local * warps_a_head * pitch;
                float largest = -INFINITY, total = 0, sum = 0;
                for (uint32_t w = 0; w < warps_a_head; w++) {
                    largest = fmaxf(largest, from[w * pitch + dim]);
                }
                for (uint32_t w = 0; w < warps_a_head; w++) {
                    float weight = growth(from[w * pitch + dim], largest);
                    total += weight * from[w * pitch + dim + 1];
                    sum += weight * from[w * pitch + c];
                }
                uint32_t h = head * group + first_head + local;
                if (token.splits == 1) {
                    ((float *)phase.out)[h * dim + c] = sum / total;
                } else {
                    float *to = token.attended + ((uint64_t)split * phase.heads + h) * pitch;
                    to[c] = sum;
                    if (c == 0) {
                        to[dim] = largest;
                        to[dim + 1] = total;
                    }
                }
            }
        }
        if (first_head + together < group) {
            all_sync();
        }
    }
    if (token.splits > 1 && is_last(token, head, flag)) {
        join_runs(token, phase, head);
    }
}
#endif

#endif
