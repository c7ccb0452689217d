/* device/cuda/kernels/token_attention.cuh - a phase of attention, for the kernel that computes a token in one launch.
 *
 * The context is shared out in runs of blocks of 64 tokens. A block of the grid attends over one run with the query heads
 * of one KV head; those that attend for a KV head then put the runs together, each of them some columns.
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

/* The token's own K and V, rounded as blocks hold them, to the card's block and the guest's. */
__device__ __forceinline__ void store_kv(const spi_cu_token &token, const token_step &step, const spi_cu_phase &phase,
                                         uint32_t head, float *k, float *v) {
    uint32_t dim = token.kv.head_dim;
    for (uint32_t i = threadIdx.x; i < 2 * dim; i += THREADS) {
        uint32_t which = i / dim, column = i % dim;
        float *from = which ? v + column : k + column;
        __half value = __float2half_rn(*from);
        *from = __half2float(value);
        uint64_t at = step.position / 64 * token.kv.block_bytes + phase.layer_bytes +
                      (which * token.kv.kv_heads + head) * (uint64_t)64 * dim * 2 +
                      (step.position % 64 * dim + column) * 2;
        *(__half *)(token.blocks + at) = value;
        if (token.host_blocks) {
            *(__half *)(token.host_blocks + at) = value;
        }
    }
}

/* Query heads of a KV head: exact, they are few. */
__device__ __forceinline__ uint32_t group_of(const spi_cu_token &token, const spi_cu_phase &phase) {
    return (uint32_t)(__fdividef((float)phase.heads, (float)token.kv.kv_heads) + 0.5f);
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

/* Puts the runs of a KV head's context together: each of its blocks does some columns, four by eight lanes, of which each
 * has the runs `lane` and `lane` + 8. */
__device__ __forceinline__ void join_runs(const spi_cu_token &token, const token_step &step, const spi_cu_phase &phase,
                                          uint32_t head, uint32_t split) {
    uint32_t shift = token.dim_shift, dim = 1u << shift, pitch = dim + 4, group = group_of(token, phase);
    uint32_t tag = step.tag_of(phase.run_tag), splits = step.splits, first = threadIdx.x % 8;
    for (uint32_t i = split + threadIdx.x / 8 * splits; i < group << (shift - 2); i += THREADS / 8 * splits) {
        uint32_t h = head * group + (4 * i >> shift), column = 4 * i & (dim - 1);
        uint64_t run_floats = (uint64_t)phase.heads * pitch;
        const float *at = token.attended + h * pitch;
        const float *runs[2] = {at + min(first, splits - 1) * run_floats, at + min(first + 8, splits - 1) * run_floats};
        float4 part[2];
        float2 seen[2]; /* a run's largest score, and its sum of weights */
        uint32_t missing;
        do {
            missing = 0;
#pragma unroll
            for (int k = 0; k < 2; k++) {
                seen[k] = ask2(runs[k] + dim);
                part[k] = ask4(runs[k] + column);
            }
#pragma unroll
            for (int k = 0; k < 2; k++) {
                missing |= wrong(seen[k].x, tag) | wrong(seen[k].y, tag) | wrong4(part[k], tag);
            }
        } while (missing);
        uint32_t lanes = 0xffu << (threadIdx.x % 32 / 8 * 8);
        float mine = first < splits ? cleared(seen[0].x) : -INFINITY,
              other = first + 8 < splits ? cleared(seen[1].x) : -INFINITY, largest = fmaxf(mine, other);
#pragma unroll
        for (int offset = 1; offset < 8; offset <<= 1) {
            largest = fmaxf(largest, __shfl_xor_sync(lanes, largest, offset));
        }
        float c = growth(mine, largest), d = growth(other, largest);
        float sums[5] = {
            c * cleared(part[0].x) + d * cleared(part[1].x), c * cleared(part[0].y) + d * cleared(part[1].y),
            c * cleared(part[0].z) + d * cleared(part[1].z), c * cleared(part[0].w) + d * cleared(part[1].w),
            c * cleared(seen[0].y) + d * cleared(seen[1].y)};
#pragma unroll
        for (int offset = 1; offset < 8; offset <<= 1) {
#pragma unroll
            for (int k = 0; k < 5; k++) {
                sums[k] += __shfl_xor_sync(lanes, sums[k], offset);
            }
        }
        if (first == 0) {
            float inverse = 1 / sums[4];
            publish4((float *)phase.out + h * dim + column,
                     make_float4(sums[0] * inverse, sums[1] * inverse, sums[2] * inverse, sums[3] * inverse),
                     step.tag_of(phase.out_tag));
        }
    }
}

/* Every use of a buffer must leave its tag everywhere: also in a run's place when there are fewer runs. */
__device__ __forceinline__ void mark_unused(const spi_cu_token &token, const token_step &step,
                                            const spi_cu_phase &phase, uint32_t head, uint32_t split) {
    uint32_t pitch = token.kv.head_dim + 4, group = group_of(token, phase), tag = step.tag_of(phase.run_tag);
    float *to = token.attended + ((uint64_t)split * phase.heads + head * group) * pitch;
    for (uint32_t i = threadIdx.x; split < SPI_CU_SPLITS_MAX && i < group * pitch; i += THREADS) {
        publish(to + i, 0, tag);
    }
}

/* A block attends with the query heads of one KV head over one run of blocks, whose rows come through the ring. Lanes in
 * bunches of dim / 8 hold a position; each warp has one query head. */
template <int dim>
__device__ __forceinline__ void attend(const spi_cu_token &token, const token_step &step, const spi_cu_phase &phase,
                                       const float2 *turns, ring_state &stages, const uint8_t *bytes, uint8_t *room) {
    constexpr uint32_t bunch = dim / 8, at_once = 32 / bunch, unroll = 2;
    uint32_t group = group_of(token, phase), head = step.head, split = step.split;
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (split >= step.splits) {
        mark_unused(token, step, phase, head, split);
        return;
    }
    const kv_run run(token, step, phase);
    float *q = (float *)room, *k = q + group * dim, *v = k + dim, *parts = v + dim;
    bool last = split + 1 == step.splits;
    for (uint32_t i = warp; i < group + 2; i += WARPS) {
        if (i < group) {
            prepare_head<true>(phase.pairs, phase.halves, turns, (const float *)phase.src + (head * group + i) * dim,
                               (const float *)phase.q_norm, phase.eps, dim, phase.scale, q + i * dim, lane,
                               step.tag_of(phase.src_tag));
        } else if (i == group) {
            prepare_head<true>(phase.pairs, phase.halves, turns, (const float *)phase.k + head * dim,
                               (const float *)phase.k_norm, phase.k_eps, dim, 1, k, lane, step.tag_of(phase.k_tag));
        } else {
            uint32_t tag = step.tag_of(phase.v_tag), missing;
            float x[dim / 32];
            do {
                missing = 0;
#pragma unroll
                for (int j = 0; j < dim / 32; j++) {
                    x[j] = ask((const float *)phase.v + head * dim + j * 32 + lane);
                    missing |= wrong(x[j], tag);
                }
            } while (missing);
#pragma unroll
            for (int j = 0; j < dim / 32; j++) {
                v[j * 32 + lane] = cleared(x[j]);
            }
        }
    }
    all_sync();
    if (last) {
        store_kv(token, step, phase, head, k, v);
        all_sync();
    }
    uint32_t together_log2 = 32 - __clz(group - 1), warps_a_head = WARPS >> together_log2;
    uint32_t bunch_index = lane / bunch, column = lane % bunch * 8, pitch = dim + 4;
    uint32_t h = warp / warps_a_head, part = warp % warps_a_head, pace = warps_a_head * at_once;
    ring_reader ring(stages, bytes, token);
    attended_part mine;
    mine.clear();
    float query[8];
#pragma unroll
    for (int j = 0; j < 8; j++) {
        query[j] = h < group ? q[h * dim + column + j] : 0;
    }
#pragma unroll 1
    for (uint32_t first = run.first; first < run.end; first += token.kv_stage) {
        const uint8_t *keys = ring.open() + column * 2, *values = keys + token.kv_stage * dim * 2;
        uint32_t count = min(token.kv_stage, run.end - first);
#pragma unroll 1
        for (uint32_t base = part * at_once; base < count; base += pace * unroll) {
            float scores[unroll], now = mine.largest;
#pragma unroll
            for (int i = 0; i < unroll; i++) {
                uint32_t at = base + i * pace + bunch_index;
                scores[i] = -INFINITY;
                if (base + i * pace < count) {
                    uint4 key = *(const uint4 *)(keys + min(at, count - 1) * dim * 2);
                    const __half2 *pairs = (const __half2 *)&key;
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
                    scores[i] = at < count && first + at >= run.begin ? sum : -INFINITY;
                    now = fmaxf(now, scores[i]);
                }
            }
            if (now != -INFINITY) {
                mine.rescale(now);
#pragma unroll
                for (int i = 0; i < unroll; i++) {
                    if (base + i * pace < count) {
                        uint32_t at = base + i * pace + bunch_index;
                        uint4 value = *(const uint4 *)(values + min(at, count - 1) * dim * 2);
                        const __half2 *pairs = (const __half2 *)&value;
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
        }
        ring.close();
    }
    ring.leave();
    if (last && part == 0 && h < group) { /* the token itself, out of shared memory */
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
    if (run.first < run.end) { /* else only the first bunch has anything */
#pragma unroll
        for (int offset = bunch; offset < 32; offset <<= 1) {
            mine.merge_lane(offset);
        }
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
    all_sync();
    uint32_t run_tag = step.tag_of(phase.run_tag), out_tag = step.tag_of(phase.out_tag);
    for (uint32_t i = threadIdx.x; i < group * dim; i += THREADS) {
        uint32_t local = i / dim, c = i % dim;
        const float *from = parts + local * warps_a_head * pitch;
        float largest = -INFINITY, total = 0, sum = 0;
        for (uint32_t w = 0; w < warps_a_head; w++) {
            largest = fmaxf(largest, from[w * pitch + dim]);
        }
        largest = cleared(largest); /* as it will be read: any number near the largest does */
        for (uint32_t w = 0; w < warps_a_head; w++) {
            float weight = growth(from[w * pitch + dim], largest);
            total += weight * from[w * pitch + dim + 1];
            sum += weight * from[w * pitch + c];
        }
        uint32_t of = head * group + local;
        if (step.splits == 1) {
            publish((float *)phase.out + of * dim + c, sum / total, out_tag);
        } else {
            float *to = token.attended + ((uint64_t)split * phase.heads + of) * pitch;
            publish(to + c, sum, run_tag);
            if (c == 0) {
                publish(to + dim, largest, run_tag);
                publish(to + dim + 1, total, run_tag);
            }
        }
    }
    if (step.splits > 1) {
        join_runs(token, step, phase, head, split);
    } else {
        mark_unused(token, step, phase, head, split);
    }
}
#endif

#endif
