/* device/cuda/kernels/attention.cu - one query and head a block, plainly: scores of a chunk of positions, one a thread,
 * then the sum of values, with the running maximum of arXiv:2112.05682. Any head width, window and cap, keys and values
 * in f16 and in Q8_0. */
#include <cuda_fp16.h>

#include "device/cuda/kernels/kv.cuh"

#define THREADS       128
#define HEAD_DIM_MAX  256
#define DIMS_A_THREAD (HEAD_DIM_MAX / THREADS)

/* A row of K (which = 0) or V (1) as it lies in a block (device/kv.h), two columns at a time or one. */
template <bool q8> struct kv_row;

template <> struct kv_row<false> {
    const __half *numbers;
    __device__ __forceinline__ kv_row(const spi_cu_attention &args, const spi_cu_row &row, uint32_t which,
                                      uint32_t head, uint32_t position)
        : numbers((const __half *)kv_head(args.kv, row.kv, which, head, position, (uint64_t)128 * args.kv.head_dim) +
                  position % 64 * args.kv.head_dim) {
    }
    __device__ __forceinline__ float2 pair(uint32_t column) const {
        return __half22float2(((const __half2 *)numbers)[column / 2]);
    }
    __device__ __forceinline__ float at(uint32_t column) const {
        return __half2float(numbers[column]);
    }
};

template <> struct kv_row<true> {
    const int8_t *codes;
    const __half *scales;
    __device__ __forceinline__ kv_row(const spi_cu_attention &args, const spi_cu_row &row, uint32_t which,
                                      uint32_t head, uint32_t position) {
        uint32_t dim = args.kv.head_dim;
        const uint8_t *first = kv_head(args.kv, row.kv, which, head, position, q8_head_bytes(dim));
        codes = (const int8_t *)first + position % 64 * dim;
        scales = (const __half *)(first + 64 * dim) + position % 64 * (dim / 32);
    }
    __device__ __forceinline__ float2 pair(uint32_t column) const {
        char2 two = ((const char2 *)codes)[column / 2];
        float scale = __half2float(scales[column / 32]);
        return make_float2(scale * two.x, scale * two.y);
    }
    __device__ __forceinline__ float at(uint32_t column) const {
        return __half2float(scales[column / 32]) * codes[column];
    }
};

template <bool q8>
__device__ __forceinline__ float score(const spi_cu_attention &args, const spi_cu_row &row, uint32_t head,
                                       uint32_t position, const float *q) {
    const kv_row<q8> k(args, row, 0, head, position);
    float sum = 0;
    for (uint32_t i = 0; i < args.kv.head_dim; i += 2) {
        float2 pair = k.pair(i);
        sum += q[i] * pair.x + q[i + 1] * pair.y;
    }
    sum *= args.scale;
    return args.softcap != 0 ? args.softcap * tanhf(sum / args.softcap) : sum;
}

/* Block (query head, row). */
template <bool q8> __device__ void attend_one(const spi_cu_attention &args) {
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
        float value = position < end ? score<q8>(args, row, head, position, q) : -INFINITY;
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
                    sum += weights[p] * kv_row<q8>(args, row, 1, head, chunk + p).at(column);
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

KERNEL attention(spi_cu_attention args) {
    attend_one<false>(args);
}

KERNEL attention_q8(spi_cu_attention args) {
    attend_one<true>(args);
}

/* Several rows and all query heads of a KV head a block: each key and value that is read serves up to 16 queries.
 * Scores of 128 positions at a time, one position a thread; then a warp makes weights of each query's scores; then a
 * thread sums values of its columns. Sums are in f32 throughout. */
#define QUERIES 16
#define PITCH   (THREADS + 4)

struct shared_queries {
    float q[QUERIES][HEAD_DIM_MAX];
    float weights[QUERIES][PITCH];
    float largest[QUERIES], total[QUERIES], rescale[QUERIES];
};

/* Scores of one position with all queries. */
template <bool q8>
__device__ __forceinline__ void score_position(const spi_cu_attention &args, const spi_cu_row &row, uint32_t head,
                                               uint32_t position, const shared_queries &shared, float *scores) {
    const kv_row<q8> k(args, row, 0, head, position);
#pragma unroll
    for (int i = 0; i < QUERIES; i++) {
        scores[i] = 0;
    }
    for (uint32_t d = 0; d < args.kv.head_dim / 2; d++) {
        float2 pair = k.pair(2 * d);
#pragma unroll
        for (int i = 0; i < QUERIES; i++) {
            float2 q = ((const float2 *)shared.q[i])[d];
            scores[i] += q.x * pair.x + q.y * pair.y;
        }
    }
}

/* Queries first_query.. of rows [first, first + count), which are one session's. */
template <bool q8>
__device__ void attend_rows(const spi_cu_attention &args, uint32_t first, uint32_t count, shared_queries &shared) {
    uint32_t group = args.heads / args.kv.kv_heads, head = blockIdx.x, dim = args.kv.head_dim, queries = count * group;
    const spi_cu_row row = args.rows[first];
    for (uint32_t i = threadIdx.x; i < QUERIES * dim; i += THREADS) {
        uint32_t query = i / dim, column = i % dim;
        shared.q[query][column] = query < queries ? args.q[(uint64_t)(first + query / group) * args.stride +
                                                           (head * group + query % group) * dim + column]
                                                  : 0;
    }
    if (threadIdx.x < QUERIES) {
        shared.largest[threadIdx.x] = -INFINITY;
        shared.total[threadIdx.x] = 0;
    }
    __syncthreads();
    uint32_t end = row.position + count,
             begin = args.window && row.position + 1 > args.window ? row.position + 1 - args.window : 0;
    uint32_t sets = dim >= THREADS ? 1 : min(THREADS / dim, (uint32_t)QUERIES), set = threadIdx.x / dim;
    uint32_t set_queries = (QUERIES + sets - 1) / sets, column = sets == 1 ? threadIdx.x : threadIdx.x % dim;
    float sums[DIMS_A_THREAD][QUERIES] = {};
    for (uint32_t chunk = begin; chunk < end; chunk += THREADS) {
        uint32_t position = chunk + threadIdx.x;
        float scores[QUERIES];
        score_position<q8>(args, row, head, min(position, end - 1), shared, scores);
#pragma unroll
        for (int i = 0; i < QUERIES; i++) {
            uint32_t own = row.position + i / group;
            bool seen = position <= own && position < end && (!args.window || position + args.window > own);
            float value = scores[i] * args.scale;
            value = args.softcap != 0 ? args.softcap * tanhf(value / args.softcap) : value;
            shared.weights[i][threadIdx.x] = seen ? value : -INFINITY;
        }
        __syncthreads();
        for (uint32_t i = threadIdx.x / 32; i < QUERIES; i += THREADS / 32) {
            float values[THREADS / 32], now = shared.largest[i], sum = 0;
#pragma unroll
            for (int k = 0; k < THREADS / 32; k++) {
                values[k] = shared.weights[i][threadIdx.x % 32 + k * 32];
                now = fmaxf(now, values[k]);
            }
            now = warp_max(now);
#pragma unroll
            for (int k = 0; k < THREADS / 32; k++) {
                float weight = values[k] == -INFINITY ? 0 : expf(values[k] - now);
                shared.weights[i][threadIdx.x % 32 + k * 32] = weight;
                sum += weight;
            }
            sum = warp_sum(sum);
            if (threadIdx.x % 32 == 0) {
                float old = shared.largest[i] == -INFINITY ? 0 : expf(shared.largest[i] - now);
                shared.rescale[i] = old;
                shared.total[i] = shared.total[i] * old + sum;
                shared.largest[i] = now;
            }
        }
        __syncthreads();
        uint32_t count_here = min(end - chunk, (uint32_t)THREADS);
#pragma unroll
        for (int part = 0; part < DIMS_A_THREAD; part++) {
            uint32_t c = column + part * THREADS;
            if (c < dim && set < sets) {
#pragma unroll
                for (int i = 0; i < QUERIES; i++) {
                    if (i < set_queries && set * set_queries + i < QUERIES) {
                        sums[part][i] *= shared.rescale[set * set_queries + i];
                    }
                }
                for (uint32_t p = 0; p < count_here; p += 4) {
                    float v[4];
#pragma unroll
                    for (int k = 0; k < 4;
                         k++) { /* behind the last position, weights are 0 and values may be anything */
                        v[k] = kv_row<q8>(args, row, 1, head, chunk + min(p + k, count_here - 1)).at(c);
                    }
#pragma unroll
                    for (int i = 0; i < QUERIES; i++) {
                        if (i < set_queries && set * set_queries + i < QUERIES) {
                            float4 w = *(const float4 *)&shared.weights[set * set_queries + i][p];
                            sums[part][i] += w.x * v[0] + w.y * v[1] + w.z * v[2] + w.w * v[3];
                        }
                    }
                }
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int part = 0; part < DIMS_A_THREAD; part++) {
        uint32_t c = column + part * THREADS;
#pragma unroll
        for (int i = 0; i < QUERIES; i++) {
            uint32_t query = set * set_queries + i;
            if (c < dim && set < sets && i < set_queries && query < queries) {
                args.out[(uint64_t)(first + query / group) * args.stride + (head * group + query % group) * dim + c] =
                    sums[part][i] / shared.total[query];
            }
        }
    }
    __syncthreads();
}

/* Block (KV head, bunch of rows). */
template <bool q8> __device__ void attend_bunch(const spi_cu_attention &args, uint32_t row_count) {
    __shared__ shared_queries shared;
    uint32_t bunch = QUERIES / (args.heads / args.kv.kv_heads), begin = blockIdx.y * bunch;
    uint32_t end = min(begin + bunch, row_count);
    while (begin < end) {
        uint32_t count = 1;
        while (begin + count < end && args.rows[begin + count].kv == args.rows[begin].kv) {
            count++;
        }
        attend_rows<q8>(args, begin, count, shared);
        begin += count;
    }
}

KERNEL attention_rows(spi_cu_attention args, uint32_t row_count) {
    attend_bunch<false>(args, row_count);
}

KERNEL attention_rows_q8(spi_cu_attention args, uint32_t row_count) {
    attend_bunch<true>(args, row_count);
}
