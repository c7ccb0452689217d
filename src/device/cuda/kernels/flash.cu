/* device/cuda/kernels/flash.cu - attention of many rows on tensor cores (arXiv:2307.08691).
 *
 * A block has up to 128 queries: some rows of one session times the query heads that share a KV head, a warp 16 of
 * them. It goes through the context a KV block of 64 tokens at a time: keys and values in shared memory, two stages of
 * them, their pieces of 16 bytes xored with the row's number; scores and sums in registers, in f32.
 */
#include <cuda_fp16.h>

#include "device/cuda/kernels/packed.cuh"
#include "device/cuda/kernels/tiles.cuh"

#define THREADS 256
#define KEYS    64
#define LOG2_E  1.4426950408889634f

/* Keys and values of a block; rows from `end` on become zero. */
template <int dim, bool q8>
__device__ __forceinline__ void fetch_block(const spi_cu_flash &args, uint64_t session, uint32_t head, uint32_t first,
                                            uint32_t end, uint32_t to) {
    uint64_t head_bytes = q8 ? q8_head_bytes(dim) : (uint64_t)KEYS * dim * 2;
    const uint8_t *keys = kv_head(args.kv, session, 0, head, first, head_bytes);
    const uint8_t *values = keys + args.kv.kv_heads * head_bytes;
#pragma unroll
    for (uint32_t i = threadIdx.x; i < KEYS * dim / 8; i += THREADS) {
        uint32_t row = i / (dim / 8), piece = i % (dim / 8);
        bool real = first + row < end;
        fetch_piece<dim, q8>(keys, row, piece, real, to + place_of<dim>(row, piece));
        fetch_piece<dim, q8>(values, row, piece, real, to + KEYS * dim * 2 + place_of<dim>(row, piece));
    }
}

/* The span's new rows, written through to the guest's memory while the block computes: numbers, and in Q8_0 scales. */
template <int dim, bool q8>
__device__ __forceinline__ void mirror(const spi_cu_flash &args, const spi_cu_span &span, uint32_t head) {
    constexpr uint32_t row_bytes = q8 ? dim : dim * 2, pieces = row_bytes / 16; /* of a row, 16 bytes each */
    uint64_t head_bytes = q8 ? q8_head_bytes(dim) : (uint64_t)KEYS * row_bytes;
    for (uint32_t i = threadIdx.x; i < span.count * 2 * pieces; i += THREADS) {
        const spi_cu_row row = ((const spi_cu_row *)args.rows)[span.first + i / (2 * pieces)];
        uint32_t which = i / pieces % 2, at = row.position % KEYS * row_bytes + i % pieces * 16;
        if (row.host) {
            *(uint4 *)(kv_head(args.kv, row.host, which, head, row.position, head_bytes) + at) =
                *(const uint4 *)(kv_head(args.kv, row.kv, which, head, row.position, head_bytes) + at);
        }
    }
    for (uint32_t i = threadIdx.x; q8 && i < span.count * 2 * (dim / 64); i += THREADS) { /* two scales each */
        const spi_cu_row row = ((const spi_cu_row *)args.rows)[span.first + i / (2 * (dim / 64))];
        uint32_t which = i / (dim / 64) % 2, at = KEYS * dim + (row.position % KEYS * (dim / 64) + i % (dim / 64)) * 4;
        if (row.host) {
            *(uint32_t *)(kv_head(args.kv, row.host, which, head, row.position, head_bytes) + at) =
                *(const uint32_t *)(kv_head(args.kv, row.kv, which, head, row.position, head_bytes) + at);
        }
    }
}

template <int dim, bool q8> __device__ __forceinline__ void attend_span(const spi_cu_flash &args) {
    constexpr int steps = dim / 16;
    constexpr uint32_t stage_bytes = 2 * KEYS * dim * 2;
    extern __shared__ __align__(128) uint8_t memory[];
    behind_the_last();
    const spi_cu_span span = ((const spi_cu_span *)args.spans)[blockIdx.x];
    const spi_cu_row row = ((const spi_cu_row *)args.rows)[span.first];
    mirror<dim, q8>(args, span, blockIdx.y);
    uint32_t head = blockIdx.y, group = args.heads / args.kv.kv_heads, queries = span.count * group;
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, base = shared_address(memory);
    uint32_t end = row.position + span.count;
    uint32_t begin = args.window && row.position + 1 > args.window ? (row.position + 1 - args.window) / KEYS * KEYS : 0;
    uint32_t mine[2] = {warp * 16 + lane / 4, warp * 16 + lane / 4 + 8}, own[2];
    uint64_t at[2]; /* of this thread's two queries */
    uint32_t q[steps][4];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t query = min(mine[i], queries - 1);
        own[i] = row.position + query / group;
        at[i] = (uint64_t)(span.first + query / group) * args.heads + head * group + query % group;
        const uint32_t *from = (const uint32_t *)args.q + at[i] * (dim / 2) + lane % 4;
#pragma unroll
        for (int k = 0; k < steps; k++) {
            q[k][i] = from[k * 8], q[k][i + 2] = from[k * 8 + 4];
        }
    }
    float out[dim / 8][4] = {}, largest[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
    bool busy = warp * 16 < queries;
    fetch_block<dim, q8>(args, row.kv, head, begin, end, base);
    asm volatile("cp.async.commit_group;" ::: "memory");
    for (uint32_t first = begin, stage = 0; first < end; first += KEYS, stage ^= 1) {
        if (first + KEYS < end) {
            fetch_block<dim, q8>(args, row.kv, head, first + KEYS, end, base + (stage ^ 1) * stage_bytes);
        }
        asm volatile("cp.async.commit_group;\ncp.async.wait_group 1;" ::: "memory");
        __syncthreads();
        if (busy) {
            uint32_t keys = base + stage * stage_bytes, values = keys + KEYS * dim * 2;
            float s[KEYS / 8][4] = {};
#pragma unroll
            for (int k = 0; k < steps; k++) {
#pragma unroll
                for (int j = 0; j < KEYS / 16; j++) {
                    uint32_t b[4];
                    load_four(b, keys + place_of<dim>(j * 16 + lane % 8 + lane / 16 * 8, k * 2 + lane / 8 % 2));
                    multiply_add<false>(s[2 * j], q[k], b[0], b[1]);
                    multiply_add<false>(s[2 * j + 1], q[k], b[2], b[3]);
                }
            }
            if (args.softcap != 0) {
#pragma unroll
                for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        s[j][i] = args.softcap * LOG2_E * tanhf(s[j][i] / args.softcap);
                    }
                }
            }
            if (first + KEYS > row.position + 1 || args.window) {
#pragma unroll
                for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        uint32_t key = first + j * 8 + lane % 4 * 2 + i % 2, position = own[i / 2];
                        bool seen = key <= position && (!args.window || key + args.window > position);
                        s[j][i] = seen ? s[j][i] : -INFINITY;
                    }
                }
            }
            float now[2] = {largest[0], largest[1]};
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++) {
                now[0] = fmaxf(now[0], fmaxf(s[j][0], s[j][1]));
                now[1] = fmaxf(now[1], fmaxf(s[j][2], s[j][3]));
            }
#pragma unroll
            for (int i = 0; i < 2; i++) {
                now[i] = fmaxf(now[i], __shfl_xor_sync(0xffffffffu, now[i], 1));
                now[i] = fmaxf(now[i], __shfl_xor_sync(0xffffffffu, now[i], 2));
                float old = largest[i] == -INFINITY ? 0 : exp2f(largest[i] - now[i]);
                largest[i] = now[i];
                total[i] *= old;
                now[i] = now[i] == -INFINITY ? 0 : now[i]; /* nothing seen yet: all weights are 0 */
#pragma unroll
                for (int j = 0; j < dim / 8; j++) {
                    out[j][2 * i] *= old, out[j][2 * i + 1] *= old;
                }
            }
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    s[j][i] = exp2f(s[j][i] - now[i / 2]);
                    total[i / 2] += s[j][i];
                }
            }
#pragma unroll
            for (int k = 0; k < KEYS / 16; k++) {
                uint32_t weights[4] = {half_pair(s[2 * k][0], s[2 * k][1]), half_pair(s[2 * k][2], s[2 * k][3]),
                                       half_pair(s[2 * k + 1][0], s[2 * k + 1][1]),
                                       half_pair(s[2 * k + 1][2], s[2 * k + 1][3])};
#pragma unroll
                for (int j = 0; j < dim / 16; j++) {
                    uint32_t b[4];
                    load_four_turned(b, values + place_of<dim>(k * 16 + lane % 16, j * 2 + lane / 16));
                    multiply_add<false>(out[2 * j], weights, b[0], b[1]);
                    multiply_add<false>(out[2 * j + 1], weights, b[2], b[3]);
                }
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        total[i] += __shfl_xor_sync(0xffffffffu, total[i], 1);
        total[i] += __shfl_xor_sync(0xffffffffu, total[i], 2);
        if (mine[i] >= queries) {
            continue;
        }
        float inverse = 1 / total[i];
        uint64_t r = at[i] / args.heads, column = at[i] % args.heads * dim;
        uint32_t *to = (uint32_t *)args.out + r * args.out_stride / 2;
#pragma unroll
        for (int j = 0; j < dim / 8; j++) {
            to[pair_place(column + j * 8 + lane % 4 * 2, args.form_out)] =
                pack_pair(out[j][2 * i] * inverse, out[j][2 * i + 1] * inverse, args.form_out);
        }
    }
    clear_rest(args, span, THREADS);
}

#define FLASH(dim, name, q8)                                                                                           \
    KERNEL __launch_bounds__(THREADS) name(const __grid_constant__ spi_cu_flash args) {                                \
        attend_span<dim, q8>(args);                                                                                    \
    }
FLASH(64, flash64, false)
FLASH(128, flash128, false)
FLASH(256, flash256, false)
FLASH(64, flash64_q8, true)
FLASH(128, flash128_q8, true)
FLASH(256, flash256_q8, true)
