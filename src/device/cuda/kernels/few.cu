/* device/cuda/kernels/few.cu - attention of few rows, such as the next tokens of some sessions, from what products left
 * to what the next product reads.
 *
 * A block has up to 16 queries: rows of one session times the query heads that share a KV head. Its warps first
 * normalise and rotate them and put new keys and values where they belong; those of rows before the block's own are put
 * there by several blocks, all with the same numbers. Then each warp goes through every eighth run of 16 keys by
 * itself, and what they have is merged in the warps' order. Scores and sums are kept in registers, in f32
 * (arXiv:2307.08691). Long contexts of few sessions are shared out among the blocks of a cluster, whose warps count as
 * if they were one block's. Blocks of four warps are for so many sessions that blocks of eight would not all be on the
 * card at once. A prompt's rows have kernels of their own, which ask for several heads before they wait for the first.
 */
#include <cstddef>
#include <cuda_fp16.h>

#include "device/cuda/kernels/place.cuh"
#include "device/cuda/kernels/tiles.cuh"

#define KEYS    16 /* of a warp at a time */
#define QUERIES SPI_CU_FEW_QUERIES
#define LOG2_E  1.4426950408889634f

template <int dim, int warps> struct few_memory {
    uint8_t queries[QUERIES][dim * 2 + 16]; /* so that ldmatrix meets no bank twice */
    float heads[warps][dim];
    float largest[warps][QUERIES], total[warps][QUERIES];
    uint8_t ring[1]; /* each warp's stages of keys and values; after them sums */
};

/* What a warp has of its queries: two of them, and of each sum two columns of eight, are a thread's. */
template <int dim> struct few_sums {
    float out[dim / 8][4], largest[2], total[2];

    /* Weights of the scores, which replace them; what was summed with a smaller largest score is made smaller. */
    __device__ __forceinline__ void weigh(float (*s)[4]) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float now =
                fmaxf(largest[i], fmaxf(fmaxf(s[0][2 * i], s[0][2 * i + 1]), fmaxf(s[1][2 * i], s[1][2 * i + 1])));
            now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 1));
            now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 2));
            float old = largest[i] == -INFINITY ? 0 : exp2f(largest[i] - now);
            largest[i] = now;
            now = now == -INFINITY ? 0 : now; /* nothing seen yet: all weights are 0 */
            total[i] *= old;
#pragma unroll
            for (int j = 0; j < dim / 8; j++) {
                out[j][2 * i] *= old, out[j][2 * i + 1] *= old;
            }
#pragma unroll
            for (int j = 0; j < 2; j++) {
                s[j][2 * i] = exp2f(s[j][2 * i] - now), s[j][2 * i + 1] = exp2f(s[j][2 * i + 1] - now);
                total[i] += s[j][2 * i] + s[j][2 * i + 1];
            }
        }
    }
};

/* 16 keys and their values; rows from `end` on become zero. Those in Q8_0 are not on their way, but there. */
template <int dim, bool q8>
__device__ __forceinline__ void fetch_keys(const spi_cu_flash &args, uint64_t session, uint32_t first, uint32_t end,
                                           uint32_t to) {
    uint64_t head_bytes = q8 ? q8_head_bytes(dim) : (uint64_t)64 * dim * 2;
    const uint8_t *keys = kv_head(args.kv, session, 0, blockIdx.y, first, head_bytes);
    const uint8_t *values = keys + args.kv.kv_heads * head_bytes;
#pragma unroll
    for (uint32_t i = threadIdx.x % 32; i < KEYS * dim / 8; i += 32) {
        uint32_t row = i / (dim / 8), piece = i % (dim / 8);
        fetch_piece<dim, q8>(keys, first % 64 + row, piece, first + row < end, to + place_of<dim>(row, piece));
        fetch_piece<dim, q8>(values, first % 64 + row, piece, first + row < end,
                             to + KEYS * dim * 2 + place_of<dim>(row, piece));
    }
}

template <int dim>
__device__ __forceinline__ void see_keys(const spi_cu_flash &args, few_sums<dim> &sums, const uint32_t (*q)[4],
                                         const uint32_t *own, uint32_t first, uint32_t keys) {
    uint32_t lane = threadIdx.x % 32, values = keys + KEYS * dim * 2;
    float s[2][4] = {};
#pragma unroll
    for (int k = 0; k < dim / 16; k++) {
        uint32_t b[4];
        load_four(b, keys + place_of<dim>(lane % 8 + lane / 16 * 8, k * 2 + lane / 8 % 2));
        multiply_add<false>(s[0], q[k], b[0], b[1]);
        multiply_add<false>(s[1], q[k], b[2], b[3]);
    }
#pragma unroll
    for (int j = 0; j < 2; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t key = first + j * 8 + lane % 4 * 2 + i % 2, position = own[i / 2];
            bool seen = key <= position && (!args.window || key + args.window > position);
            float score = args.softcap != 0 ? args.softcap * LOG2_E * tanhf(s[j][i] / args.softcap) : s[j][i];
            s[j][i] = seen ? score : -INFINITY;
        }
    }
    sums.weigh(s);
    uint32_t weights[4] = {half_pair(s[0][0], s[0][1]), half_pair(s[0][2], s[0][3]), half_pair(s[1][0], s[1][1]),
                           half_pair(s[1][2], s[1][3])};
#pragma unroll
    for (int j = 0; j < dim / 16; j++) {
        uint32_t b[4];
        load_four_turned(b, values + place_of<dim>(lane % 16, j * 2 + lane / 16));
        multiply_add<false>(sums.out[2 * j], weights, b[0], b[1]);
        multiply_add<false>(sums.out[2 * j + 1], weights, b[2], b[3]);
    }
}

/* A head of which a warp has asked for the numbers and its row's angles. */
template <int dim> struct asked_head {
    float x[dim / 32];
    float2 turns[dim / 64];

    __device__ __forceinline__ void ask(const spi_cu_heads &args, const float *from, uint32_t row) {
        uint32_t lane = threadIdx.x % 32;
#pragma unroll
        for (uint32_t i = 0; i < dim / 32; i++) {
            x[i] = __ldcg(from + i * 32 + lane);
        }
#pragma unroll
        for (uint32_t i = 0; i < dim / 64; i++) {
            uint32_t pair = i * 32 + lane;
            turns[i] = pair < args.pairs ? turns_of(args, row)[pair] : make_float2(1, 0);
        }
    }

    __device__ __forceinline__ void put(float *to) const {
#pragma unroll
        for (uint32_t i = 0; i < dim / 32; i++) {
            to[i * 32 + threadIdx.x % 32] = x[i];
        }
        __syncwarp();
    }

    /* As prepare_head(). */
    __device__ __forceinline__ void prepare(const spi_cu_heads &args, const float *norm, float eps, float scale,
                                            float *to) const {
        uint32_t lane = threadIdx.x % 32;
        float squares = 0;
#pragma unroll
        for (uint32_t i = 0; i < dim / 32; i++) {
            squares += x[i] * x[i];
            to[i * 32 + lane] = norm ? x[i] * __ldg(norm + i * 32 + lane) : x[i];
        }
        float factor = norm ? rsqrtf(warp_sum(squares) / dim + eps) : 1;
        __syncwarp();
#pragma unroll
        for (uint32_t i = 0; i < dim / 64; i++) {
            uint32_t pair = i * 32 + lane, a = args.halves ? pair : 2 * pair;
            uint32_t b = args.halves ? pair + args.pairs : 2 * pair + 1;
            if (pair < args.pairs) {
                float x = to[a] * factor, y = to[b] * factor;
                to[a] = (x * turns[i].x - y * turns[i].y) * scale;
                to[b] = (x * turns[i].y + y * turns[i].x) * scale;
            }
        }
        for (uint32_t i = 2 * args.pairs + lane; i < dim; i += 32) {
            to[i] *= factor * scale;
        }
        __syncwarp();
    }
};

/* The block's queries, and behind them keys and values of the session's new rows up to the block's last: item by item,
 * each to where it belongs. */
template <int dim, int warps, bool q8> struct few_items {
    const spi_cu_heads &heads;
    const spi_cu_span &span;
    few_memory<dim, warps> &memory;
    uint32_t group, queries, count;

    __device__ __forceinline__ few_items(const spi_cu_heads &args, const spi_cu_span &rows,
                                         few_memory<dim, warps> &shared)
        : heads(args), span(rows), memory(shared), group(args.heads / args.kv.kv_heads), queries(span.count * group),
          count(queries + 2 * (span.first + span.count - span.run_first)) {
    }

    __device__ __forceinline__ uint32_t row_of(uint32_t item) const {
        return item < queries ? span.first + item / group : span.run_first + (item - queries) / 2;
    }

    __device__ __forceinline__ new_place place_of_new(uint32_t item) const {
        uint32_t row = row_of(item);
        return {(item - queries) % 2, blockIdx.y, span.position + row - span.first, span.kv,
                row >= span.first && !blockIdx.z ? span.host : 0};
    }

    __device__ __forceinline__ void ask(uint32_t item, asked_head<dim> &asked) const {
        uint64_t row = row_of(item);
        if (item < queries) {
            asked.ask(heads, (const float *)heads.q + row * heads.q_stride + (blockIdx.y * group + item % group) * dim,
                      row);
        } else {
            const float *from = (const float *)((item - queries) % 2 ? heads.v : heads.k);
            asked.ask(heads, from + row * heads.k_stride + blockIdx.y * dim, row);
        }
    }

    __device__ __forceinline__ void place(uint32_t item, const asked_head<dim> &asked, float *room) const {
        uint32_t lane = threadIdx.x % 32;
        if (item < queries) {
            asked.prepare(heads, (const float *)heads.q_norm, heads.eps, heads.scale, room);
            put_query(room, dim, lane, (uint32_t *)memory.queries[item]);
            return;
        }
        new_place to = place_of_new(item);
        if (to.which) {
            asked.put(room);
        } else {
            asked.prepare(heads, (const float *)heads.k_norm, heads.k_eps, 1, room);
        }
        put_new<q8>(heads.kv, to, room, lane);
    }
};

/* By all warps, each so many items at a time, which are asked for before the first is waited for. */
template <int dim, int warps, bool q8, uint32_t together>
__device__ __forceinline__ void place_all(const spi_cu_few &args, const spi_cu_span &span,
                                          few_memory<dim, warps> &memory) {
    const few_items<dim, warps, q8> items(args.heads, span, memory);
    uint32_t warp = threadIdx.x / 32;
    float *room = memory.heads[warp];
    for (uint32_t i = threadIdx.x; i < (QUERIES - items.queries) * dim / 2; i += warps * 32) {
        ((uint32_t *)memory.queries[items.queries + i / (dim / 2)])[i % (dim / 2)] = 0;
    }
    for (uint32_t first = warp; first < items.count; first += warps * together) {
        asked_head<dim> asked[together];
#pragma unroll
        for (uint32_t k = 0; k < together; k++) {
            items.ask(min(first + k * warps, items.count - 1), asked[k]);
        }
#pragma unroll
        for (uint32_t k = 0; k < together; k++) {
            if (first + k * warps < items.count) {
                items.place(first + k * warps, asked[k], room);
            }
        }
    }
    __syncthreads();
}

/* Where a query's column is among its sums, so that a warp's neighbouring queries meet no bank twice. */
__device__ __forceinline__ uint32_t sums_place(uint32_t column, uint32_t query) {
    return column ^ query % 4 * 8;
}

/* What the warps of one of the cluster's blocks have of a query's four columns, as if its largest score were
 * `largest`. */
template <int dim, int warps> struct few_part {
    float4 sum;
    float largest, total;

    __device__ __forceinline__ few_part(const few_memory<dim, warps> &memory, uint32_t block, uint32_t query,
                                        uint32_t column) {
        const float *parts = (const float *)memory.ring + query * dim + sums_place(column, query);
        float scores[warps], totals[warps];
        float4 sums[warps];
#pragma unroll
        for (int w = 0; w < warps; w++) {
            scores[w] = __uint_as_float(word_of_block(&memory.largest[w][query], block));
            totals[w] = __uint_as_float(word_of_block(&memory.total[w][query], block));
            sums[w] = four_of_block(parts + w * QUERIES * dim, block);
        }
        largest = scores[0];
#pragma unroll
        for (int w = 1; w < warps; w++) {
            largest = fmaxf(largest, scores[w]);
        }
        sum = make_float4(0, 0, 0, 0), total = 0;
#pragma unroll
        for (int w = 0; w < warps; w++) {
            float factor = scores[w] == -INFINITY ? 0 : exp2f(scores[w] - largest);
            total += factor * totals[w];
            sum.x += factor * sums[w].x, sum.y += factor * sums[w].y;
            sum.z += factor * sums[w].z, sum.w += factor * sums[w].w;
        }
    }

    /* With those of neighbouring lanes, as many as the cluster has blocks. */
    __device__ __forceinline__ void join(uint32_t lanes) {
        float all = largest;
        for (uint32_t offset = 1; offset < lanes; offset <<= 1) {
            all = fmaxf(all, __shfl_xor_sync(0xffffffffu, all, offset));
        }
        float factor = largest == -INFINITY ? 0 : exp2f(largest - all);
        total *= factor, sum.x *= factor, sum.y *= factor, sum.z *= factor, sum.w *= factor;
        for (uint32_t offset = 1; offset < lanes; offset <<= 1) {
            total += __shfl_xor_sync(0xffffffffu, total, offset);
            sum.x += __shfl_xor_sync(0xffffffffu, sum.x, offset);
            sum.y += __shfl_xor_sync(0xffffffffu, sum.y, offset);
            sum.z += __shfl_xor_sync(0xffffffffu, sum.z, offset);
            sum.w += __shfl_xor_sync(0xffffffffu, sum.w, offset);
        }
    }
};

/* A warp's sums to where all find them. */
template <int dim, int warps>
__device__ __forceinline__ void leave_sums(few_memory<dim, warps> &memory, const few_sums<dim> &sums,
                                           uint32_t queries) {
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float *parts = (float *)memory.ring;
    __syncthreads(); /* they lie where keys were */
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t query = lane / 4 + 8 * i;
        if (8 * i >= queries) {
            break;
        }
        float total = sums.total[i];
        total += __shfl_xor_sync(0xffffffffu, total, 1);
        total += __shfl_xor_sync(0xffffffffu, total, 2);
        if (lane % 4 == 0) {
            memory.largest[warp][query] = sums.largest[i], memory.total[warp][query] = total;
        }
        float *to = parts + (warp * QUERIES + query) * dim + lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < dim / 8; j++) {
            *(float2 *)(to + sums_place(j * 8, query)) = make_float2(sums.out[j][2 * i], sums.out[j][2 * i + 1]);
        }
    }
}

/* What all warps have, together: each of the cluster's blocks does some columns. */
template <int dim, int warps>
__device__ __forceinline__ void merge(const spi_cu_flash &args, const spi_cu_span &span, few_memory<dim, warps> &memory,
                                      const few_sums<dim> &sums) {
    uint32_t group = args.heads / args.kv.kv_heads, blocks = gridDim.z, items = span.count * group * (dim / 4);
    leave_sums(memory, sums, span.count * group);
    blocks_sync();
    for (uint32_t first = blockIdx.z * (warps * 32 / blocks); first < items; first += warps * 32) {
        uint32_t i = first + threadIdx.x / blocks, from = min(i, items - 1); /* whole warps join */
        uint32_t query = from / (dim / 4), column = from % (dim / 4) * 4;
        few_part<dim, warps> part(memory, threadIdx.x % blocks, query, column);
        part.join(blocks);
        float inverse = 1 / part.total;
        if (i < items && threadIdx.x % blocks == 0) {
            put_packed(
                (uint16_t *)args.out + (uint64_t)(span.first + query / group) * args.out_stride,
                (blockIdx.y * group + query % group) * dim + column,
                make_float4(part.sum.x * inverse, part.sum.y * inverse, part.sum.z * inverse, part.sum.w * inverse),
                args.form_out);
        }
    }
    if (blocks > 1) {
        blocks_sync(); /* nobody leaves while others read */
    }
}

__device__ __forceinline__ spi_cu_span span_at(const spi_cu_flash &args, uint32_t index) {
    const uint4 *from = (const uint4 *)args.spans + 2 * index;
    uint4 halves[2] = {__ldcg(from), __ldcg(from + 1)};
    static_assert(sizeof(spi_cu_span) == sizeof halves, "in two loads");
    return *(const spi_cu_span *)halves;
}

/* The session's older keys are there before the kernel that precedes this one has ended: those of the first turn are on
 * their way by then. */
template <int dim, int warps, bool q8, uint32_t together>
__device__ __forceinline__ void attend_few(const spi_cu_few &all) {
    using few_room = few_memory<dim, warps>;
    static_assert(offsetof(few_room, ring) == SPI_CU_FEW_BYTES(dim, 0, warps), "what the host asks for");
    extern __shared__ __align__(128) uint8_t bytes[];
    few_room &memory = *(few_room *)bytes;
    const spi_cu_flash &args = all.flash;
    start_the_next();
    mark(threadIdx.x ? 0 : all.clocks, 0);
    const spi_cu_span span = span_at(args, blockIdx.x);
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = args.heads / args.kv.kv_heads;
    uint32_t end = span.position + span.count, own[2], q[dim / 16][4];
    uint32_t begin = args.window && span.position + 1 > args.window ? span.position + 1 - args.window : 0;
    uint32_t first = begin / KEYS * KEYS + (blockIdx.z * warps + warp) * KEYS, pace = gridDim.z * warps * KEYS,
             stages = args.stages;
    uint32_t ring = shared_address(memory.ring) + warp * stages * 4 * KEYS * dim, asked = 0;
    /* The next turn's keys, if there are some, of which all are before `limit`. */
    auto fetch = [&](uint32_t limit) {
        uint32_t key = first + asked * pace;
        if (key < end && min(key + KEYS, end) <= limit) {
            fetch_keys<dim, q8>(args, span.kv, key, end, ring + asked % stages * 4 * KEYS * dim);
            asked++;
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    };
    fetch(span.position - (span.first - span.run_first));
    if (lane * 2 < min(all.heads.pairs, 32u) &&
        warp < span.count + span.first - span.run_first) { /* angles of some rows */
        asm volatile("prefetch.global.L2 [%0];" ::"l"(turns_of(all.heads, span.run_first + warp) + lane * 2));
    }
    wait_for_the_last();
    mark(threadIdx.x ? 0 : all.clocks, 1);
    place_all<dim, warps, q8, together>(all, span, memory);
    mark(threadIdx.x ? 0 : all.clocks, 2);
#pragma unroll
    for (int k = 0; k < dim / 16; k++) {
        load_four(q[k], shared_address(memory.queries[lane % 16]) + k * 32 + lane / 16 * 16);
    }
#pragma unroll
    for (uint32_t i = 0; i < 2; i++) {
        own[i] = span.position + min(lane / 4 + 8 * i, span.count * group - 1) / group;
    }
    few_sums<dim> sums = {{}, {-INFINITY, -INFINITY}, {0, 0}};
    for (uint32_t turn = 0; first + turn * pace < end; turn++) {
        while (asked <= turn) {
            fetch(end);
        }
        if (stages > 1) {
            fetch(asked == turn + 1 ? end : 0);
            asm volatile("cp.async.wait_group 1;" ::: "memory");
        } else {
            asm volatile("cp.async.wait_group 0;" ::: "memory");
        }
        __syncwarp();
        see_keys<dim>(args, sums, q, own, first + turn * pace, ring + turn % stages * 4 * KEYS * dim);
        __syncwarp();
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
    mark(threadIdx.x ? 0 : all.clocks, 3);
    merge<dim, warps>(args, span, memory, sums);
    if (blockIdx.z == 0) {
        clear_rest(args, span, warps * 32);
    }
    mark(threadIdx.x ? 0 : all.clocks, 4);
}

#define FEW_FORM(dim, warps, name, q8, together)                                                                       \
    KERNEL __launch_bounds__(warps * 32) name(const __grid_constant__ spi_cu_few args) {                               \
        attend_few<dim, warps, q8, together>(args);                                                                    \
    }
#define FEW(dim)                                                                                                       \
    FEW_FORM(dim, 8, few##dim, false, 1)                                                                               \
    FEW_FORM(dim, 8, few##dim##_q8, true, 1)                                                                           \
    FEW_FORM(dim, 4, many##dim, false, 1)                                                                              \
    FEW_FORM(dim, 4, many##dim##_q8, true, 1)
#define START(dim, together)                                                                                           \
    FEW_FORM(dim, 8, start##dim, false, together)                                                                      \
    FEW_FORM(dim, 8, start##dim##_q8, true, together)
FEW(64)
FEW(128)
FEW(256)
START(64, 4)
START(128, 2)
