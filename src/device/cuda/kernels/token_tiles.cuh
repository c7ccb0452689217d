/* device/cuda/kernels/token_tiles.cuh - what a warp sees of a context in tiles of 16 positions, for token_attention.cuh.
 *
 * Scores and sums are products of tensor cores, which take 16-bit numbers: keys and values are such numbers, and of a query
 * or a weight the nearest one and what that leaves of it are two rows of the same tile, whose sums one thread adds up. So
 * they are off by some 2^-22, as if they had been computed in f32.
 * May include: heads.cuh.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_TOKEN_TILES_CUH
#define SPI_DEVICE_CUDA_KERNELS_TOKEN_TILES_CUH

#include "device/cuda/kernels/heads.cuh"

#if __CUDA_ARCH__ >= 900

/* A warp takes tiles of 16 positions, of which it sums up some columns of V: */
#define TILE_HEADS 8u  /* query heads */
#define TILE_COLS  32u /* with 64 of them the products would lack registers */
#define PARTS_MAX  8   /* warps that have different tiles, at most: of heads of 64 columns */

/* sums[16][8] += a[16][16] * b[16][8]: of the sums a thread has row lane / 4 and, in the last two, the row 8 further on,
 * columns lane % 4 * 2 and the next. */
__device__ __forceinline__ void multiply_tile(float *sums, const uint4 &a, uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
        "%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

__device__ __forceinline__ uint4 shared_four(uint32_t address) {
    uint4 x;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
                 : "r"(address)
                 : "memory");
    return x;
}

__device__ __forceinline__ uint2 shared_two(uint32_t address) {
    uint2 x;
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(x.x), "=r"(x.y) : "r"(address) : "memory");
    return x;
}

__device__ __forceinline__ uint32_t shared_one(uint32_t address) {
    uint32_t x;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(x) : "r"(address) : "memory");
    return x;
}

__device__ __forceinline__ float shared_half(uint32_t address) {
    unsigned short x;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(x) : "r"(address) : "memory");
    return __half2float(__ushort_as_half(x));
}

/* Of a tile's 16 positions those of columns 2 `pair` and, if `second`, the next, in the stage: two behind are those of columns
 * 8 further on. Each pair of columns is of two groups that lie half a row of banks apart, and so are neighbouring pairs: but
 * rows of 64 bytes are that already. */
__device__ __forceinline__ uint32_t place_of(uint32_t pair, uint32_t second, uint32_t row_bytes, uint32_t group_log2,
                                             uint32_t tile) {
    return ((pair ^ (row_bytes == 64 ? 0 : second * 2)) << group_log2) + tile * 4 + second;
}

/* Bytes with a sign become f16 numbers, those of a and b: 0x64 in front of one that has none is 1,024 more than it. */
__device__ __forceinline__ uint32_t half_pair(uint32_t bytes, uint32_t which) {
    const uint32_t offset = __byte_perm(bytes, 0x64646464u, which);
    const __half2 less = __hsub2(*(const __half2 *)&offset, __floats2half2_rn(1152, 1152));
    return *(const uint32_t *)&less;
}

#define BYTES_01 0x4140u
#define BYTES_23 0x4342u

/* Eight neighbouring columns of a key, as factors of two tiles. */
template <bool q8> __device__ __forceinline__ uint4 shared_key(uint32_t address) {
    if (!q8) {
        return shared_four(address);
    }
    uint2 codes = shared_two(address);
    codes.x ^= 0x80808080u, codes.y ^= 0x80808080u;
    return make_uint4(half_pair(codes.x, BYTES_01), half_pair(codes.x, BYTES_23), half_pair(codes.y, BYTES_01),
                      half_pair(codes.y, BYTES_23));
}

/* Addresses in shared memory of positions' rows, values' from the columns on that are summed up, and of scales. */
struct kv_place {
    uint32_t keys, values, key_scales, value_scales;
};

/* Weights of values in Q8_0 get their scale and so many times it, so that small ones are f16 numbers. */
#define VALUE_SCALE 64.0f

/* Two numbers as f16, and what that leaves of them as f16, too: together they have 22 bits. */
__device__ __forceinline__ void split_pair(float x, float y, uint32_t &high, uint32_t &low) {
    __half2 near = __floats2half2_rn(x, y);
    float2 back = __half22float2(near);
    __half2 rest = __floats2half2_rn(x - back.x, y - back.y);
    high = *(uint32_t *)&near;
    low = *(uint32_t *)&rest;
}

/* A query head among the factors of tiles: rows 0 to 7 of a tile have heads' high halves, rows 8 to 15 the low ones. Columns
 * are in such an order that a thread's part of a key for two tiles lies side by side. One warp. */
__device__ __forceinline__ void place_query(const float *q, uint32_t head, uint32_t dim, uint32_t *tiles,
                                            uint32_t lane) {
    tiles += head / TILE_HEADS * dim * 8;
    for (uint32_t column = 2 * lane; column < dim; column += 64) {
        uint32_t step = column / 32 * 2 + column / 4 % 2, thread = head % TILE_HEADS * 4 + column / 8 % 4;
        uint2 pair;
        split_pair(q[column], q[column + 1], pair.x, pair.y);
        *(uint2 *)(tiles + (step * 32 + thread) * 4 + column / 2 % 2 * 2) = pair;
    }
}

/* What a warp has seen of the context: sums of 32 columns, of head lane / 4 those of columns lane % 4 * 8 + j and + 4. */
struct attended_part {
    float sums[4][4], largest, total;

    __device__ __forceinline__ void clear() {
        largest = -INFINITY;
        total = 0;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            sums[j][0] = sums[j][1] = sums[j][2] = sums[j][3] = 0;
        }
    }

    /* Weights of the thread's four positions, of their scores. */
    __device__ __forceinline__ void weigh(float *scores) {
        float now = fmaxf(fmaxf(fmaxf(scores[0], scores[1]), fmaxf(scores[2], scores[3])), largest);
        now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 1));
        now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 2));
        const float from = now == -INFINITY ? 0 : now, old = growth(largest, from);
        if (__any_sync(0xffffffffu, largest != now)) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                sums[j][0] *= old, sums[j][1] *= old, sums[j][2] *= old, sums[j][3] *= old;
            }
        }
        largest = now;
        total *= old;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            scores[i] = e_to(scores[i] - from);
            total += scores[i];
        }
    }

    /* The tile's positions from `low` to `count`, of a stage: queries' address is the thread's. A tile has four positions of
     * each of the stage's four groups, which lie so (ring.cuh) that threads which read at the same time do not meet in a bank.
     * What is behind the last position is not read: it may be no number. */
    template <bool q8>
    __device__ __forceinline__ void see(uint32_t queries, const kv_place &from, uint32_t dim, uint32_t group_log2,
                                        uint32_t tile, uint32_t count, uint32_t low, float softcap) {
        const uint32_t lane = threadIdx.x % 32, row = lane / 4, column = lane % 4;
        const uint32_t row_bytes = kv_row_bytes<q8>(dim), bytes = q8 ? 1 : 2; /* of a number */
        float s[2][4] = {}, scores[4];
        const uint32_t place = place_of(row / 2, row % 2, row_bytes, group_log2, tile);
        uint32_t own = from.keys + column * 8 * bytes + kv_byte(min(place, count - 1), row_bytes, group_log2),
                 other = from.keys + column * 8 * bytes + kv_byte(min(place + 2, count - 1), row_bytes, group_log2);
#pragma unroll 1
        for (uint32_t c = 0; c < dim; c += 64) {
#pragma unroll
            for (uint32_t i = 0; i < 64; i += 32) {
                uint4 a = shared_four(queries + (c + i) * 32), b = shared_four(queries + (c + i) * 32 + 512);
                float part[2][4] = {}, (*t)[4] = q8 ? part : s;
                uint4 key = shared_key<q8>(own + (c + i) * bytes);
                multiply_tile(t[0], a, key.x, key.y);
                multiply_tile(t[0], b, key.z, key.w);
                key = shared_key<q8>(other + (c + i) * bytes);
                multiply_tile(t[1], a, key.x, key.y);
                multiply_tile(t[1], b, key.z, key.w);
#pragma unroll
                for (int j = 0; j < 4 && q8; j++) {
                    uint32_t at = place_of(column, j % 2, row_bytes, group_log2, tile) + j / 2 * 2;
                    float scale = shared_half(from.key_scales + kv_scale_bytes(dim, min(at, count - 1)) + (c + i) / 16);
                    s[j / 2][j % 2] += scale * part[j / 2][j % 2];
                    s[j / 2][j % 2 + 2] += scale * part[j / 2][j % 2 + 2];
                }
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t at = place_of(column, i % 2, row_bytes, group_log2, tile) + i / 2 * 2;
            scores[i] = s[i / 2][i % 2] + s[i / 2][i % 2 + 2];
            if (softcap != 0) { /* good to a few millionths of the cap */
                scores[i] = softcap - __fdividef(2 * softcap, 1 + e_to(scores[i] * (2 / softcap)));
            }
            scores[i] = at < count && at >= low ? scores[i] : -INFINITY;
        }
        uint2 v[4]; /* four columns, in Q8_0 codes and their scale */
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t at = min(place_of(column, i % 2, row_bytes, group_log2, tile) + i / 2 * 2, count - 1);
            uint32_t address = from.values + row * 4 * bytes + kv_byte(at, row_bytes, group_log2);
            if (q8) {
                v[i].x = shared_one(address);
                v[i].y = __float_as_uint(shared_half(from.value_scales + kv_scale_bytes(dim, at)));
            } else {
                v[i] = shared_two(address);
            }
        }
        weigh(scores);
        if (q8) {
            weigh_codes(scores, v);
            return;
        }
        uint4 weights;
        split_pair(scores[0], scores[1], weights.x, weights.y);
        split_pair(scores[2], scores[3], weights.z, weights.w);
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const uint32_t words[4] = {j ? v[0].y : v[0].x, j ? v[1].y : v[1].x, j ? v[2].y : v[2].x,
                                       j ? v[3].y : v[3].x};
            multiply_tile(sums[2 * j], weights, __byte_perm(words[0], words[1], 0x5410),
                          __byte_perm(words[2], words[3], 0x5410));
            multiply_tile(sums[2 * j + 1], weights, __byte_perm(words[0], words[1], 0x7632),
                          __byte_perm(words[2], words[3], 0x7632));
        }
    }

    /* Values of Q8_0: four columns' codes, and the scale. */
    __device__ __forceinline__ void weigh_codes(const float *scores, const uint2 *v) {
        uint32_t pairs[2][2]; /* of both pairs of positions: their codes of the first two columns, and of the others */
        uint4 weights;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float x = scores[2 * i] * (VALUE_SCALE * __uint_as_float(v[2 * i].y)),
                  y = scores[2 * i + 1] * (VALUE_SCALE * __uint_as_float(v[2 * i + 1].y));
            split_pair(x, y, i ? weights.z : weights.x, i ? weights.w : weights.y);
            pairs[i][0] = __byte_perm(v[2 * i].x, v[2 * i + 1].x, 0x5140) ^ 0x80808080u;
            pairs[i][1] = __byte_perm(v[2 * i].x, v[2 * i + 1].x, 0x7362) ^ 0x80808080u;
        }
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const uint32_t which = j % 2 ? BYTES_23 : BYTES_01;
            multiply_tile(sums[j], weights, half_pair(pairs[0][j / 2], which), half_pair(pairs[1][j / 2], which));
        }
    }

    /* By whole warps: the sum of weights of all positions that the head has seen. */
    __device__ __forceinline__ void add_totals() {
        total += __shfl_xor_sync(0xffffffffu, total, 1);
        total += __shfl_xor_sync(0xffffffffu, total, 2);
    }

    /* To `to`, where the head's columns begin that were summed up. */
    template <bool q8> __device__ __forceinline__ void leave(float *to) const {
        const float all = q8 ? 1 / VALUE_SCALE : 1;
        to += threadIdx.x % 4 * 8;
        *(float4 *)to = make_float4((sums[0][0] + sums[0][2]) * all, (sums[1][0] + sums[1][2]) * all,
                                    (sums[2][0] + sums[2][2]) * all, (sums[3][0] + sums[3][2]) * all);
        *(float4 *)(to + 4) = make_float4((sums[0][1] + sums[0][3]) * all, (sums[1][1] + sums[1][3]) * all,
                                          (sums[2][1] + sums[2][3]) * all, (sums[3][1] + sums[3][3]) * all);
    }
};

#endif

#endif
