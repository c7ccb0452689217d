/* device/cuda/kernels/token_tiles.cuh - what a warp sees of a context in tiles of 16 positions, for
 * token_attention.cuh.
 *
 * Scores and sums are products of tensor cores, which take 16-bit numbers: keys and values are such numbers, and of a
 * query or a weight the nearest one and what that leaves of it are two columns of the same tile, whose sums one thread
 * adds up. So they are off by some 2^-22, as if they had been computed in f32. Positions are a tile's rows, so that its
 * eight columns are full with four heads, and a thread's scores are of the head whose sums it has. May include:
 * heads.cuh.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_TOKEN_TILES_CUH
#define SPI_DEVICE_CUDA_KERNELS_TOKEN_TILES_CUH

#include "device/cuda/kernels/heads.cuh"

#if __CUDA_ARCH__ >= 900

/* A warp takes tiles of 16 positions, and sums up some columns of V: */
#define TILE_HEADS 4u /* query heads */
#define TILE_COLS  64u
#define PARTS_MAX  8 /* that are put together, each of one warp or two: of heads of 64 columns */

/* sums[16][8] += a[16][16] * b[16][8]: of the sums a thread has row lane / 4 and, in the last two, the row 8 further
 * on, columns lane % 4 * 2 and the next. */
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

/* Of a tile's 16 positions those of columns 2 `pair` and, if `second`, the next, in the stage: two behind are those of
 * columns 8 further on. Each pair of columns is of two groups that lie half a row of banks apart, and so are
 * neighbouring pairs: but rows of 64 bytes are that already. */
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

/* Where a thread's positions of a stage's first tile are in it, of K's rows and of V's two: in bytes, and those of the
 * next tiles are so much further on. */
struct tile_places {
    uint32_t key, values[2], step;

    __device__ __forceinline__ tile_places(uint32_t row_bytes, uint32_t group_log2) {
        const uint32_t row = threadIdx.x % 32 / 4, column = threadIdx.x % 4;
        key = kv_byte(place_of(row / 2, row % 2, row_bytes, group_log2, 0), row_bytes, group_log2);
        values[0] = kv_byte(place_of(column, 0, row_bytes, group_log2, 0), row_bytes, group_log2);
        values[1] = kv_byte(place_of(column, 1, row_bytes, group_log2, 0), row_bytes, group_log2);
        step = row_bytes;
    }

    /* Is computed by now. */
    __device__ __forceinline__ void settle() {
        asm volatile("" : "+r"(key), "+r"(values[0]), "+r"(values[1]));
    }
};

/* Addresses in shared memory of a stage's rows, values' from the columns on that are summed up, and of scales; the
 * first and the last row that counts, in bytes from the beginning, and which one the last is. */
struct kv_place {
    uint32_t keys, values, key_scales, value_scales, low, last, most;
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

/* A query head among the factors of tiles: of a tile's eight columns each head has two, of the high halves and of the
 * low ones. Rows are in such an order that a thread's part of a key for two tiles lies side by side. One warp. */
__device__ __forceinline__ void place_query(const float *q, uint32_t head, uint32_t dim, uint32_t *tiles,
                                            uint32_t lane) {
    tiles += head / TILE_HEADS * dim * 4 + head % TILE_HEADS * 32;
    for (uint32_t column = 2 * lane; column < dim; column += 64) {
        uint2 pair;
        split_pair(q[column], q[column + 1], pair.x, pair.y);
        uint32_t *to = tiles + column / 32 * 128 + column % 32 / 2;
        to[0] = pair.x, to[16] = pair.y;
    }
}

/* A head that the tile has room for and the group lacks: the lanes that would have it decide with the others when sums
 * are brought down, which must not depend on what was there. One warp. */
__device__ __forceinline__ void clear_query(uint32_t head, uint32_t dim, uint32_t *tiles, uint32_t lane) {
    tiles += head / TILE_HEADS * dim * 4 + head % TILE_HEADS * 32;
    for (uint32_t word = lane; word < dim; word += 32) {
        tiles[word / 32 * 128 + lane] = 0;
    }
}

/* Eight rows of eight 16-bit numbers each, a thread's two of row lane / 4, become columns. */
__device__ __forceinline__ uint32_t turned(uint32_t pair) {
    uint32_t other;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(other) : "r"(pair));
    return other;
}

/* How far a score may be above the largest before sums are brought down: weights stay 16-bit numbers. */
#define SCORE_ROOM 2.0f

/* What a warp has seen of the context, of the head lane % 4: sums of eight columns, each in two halves. */
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

    __device__ __forceinline__ void grow(float factor) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            sums[j][0] *= factor, sums[j][1] *= factor, sums[j][2] *= factor, sums[j][3] *= factor;
        }
        total *= factor;
    }

    /* Weights of two scores; largest is one for all lanes of a head. */
    __device__ __forceinline__ void weigh(float &first, float &second) {
        float now = fmaxf(first, second);
        if (__any_sync(0xffffffffu, now > largest + SCORE_ROOM)) {
#pragma unroll
            for (int offset = 4; offset < 32; offset <<= 1) {
                now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, offset));
            }
            now = fmaxf(now, largest);
            grow(now == -INFINITY ? 0 : growth(largest, now));
            largest = now;
        }
        const float from = largest == -INFINITY ? 0 : largest;
        first = e_to(first - from), second = e_to(second - from);
        total += first + second;
    }

    /* A tile of a stage: queries' address is the thread's. A tile has four positions of each of the stage's four
     * groups, which lie so (ring.cuh) that threads which read at the same time do not meet in a bank. What is behind
     * the last position is not read: it may be no number. */
    template <bool q8>
    __device__ __forceinline__ void see(uint32_t queries, const kv_place &from, const tile_places &places, uint32_t dim,
                                        uint32_t tile, uint32_t group_log2, float softcap) {
        const uint32_t lane = threadIdx.x % 32, bytes = q8 ? 1 : 2; /* of a number */
        const uint32_t further = tile * 4 * places.step, at = places.key + further, next = at + 2 * places.step;
        uint32_t own = from.keys + lane % 4 * 8 * bytes + min(at, from.last),
                 other = from.keys + lane % 4 * 8 * bytes + min(next, from.last);
        uint32_t scales[2] = {0, 0}; /* of the two positions */
        if (q8) {
            const uint32_t position = place_of(lane / 8, lane / 4 % 2, dim, group_log2, tile);
            scales[0] = kv_scale_bytes(dim, min(position, from.most)),
            scales[1] = kv_scale_bytes(dim, min(position + 2, from.most));
        }
        float s[2][4] = {};
#pragma unroll 1
        for (uint32_t c = 0; c < dim; c += 64) {
#pragma unroll
            for (uint32_t i = 0; i < 2; i++) {
                const uint4 q = shared_four(queries + c * 16 + i * 512), a = shared_key<q8>(own + i * 32 * bytes),
                            b = shared_key<q8>(other + i * 32 * bytes);
                if (!q8) {
                    multiply_tile(s[0], make_uint4(a.x, b.x, a.y, b.y), q.x, q.y);
                    multiply_tile(s[1], make_uint4(a.z, b.z, a.w, b.w), q.z, q.w);
                    continue;
                }
                float t[4] = {};
                multiply_tile(t, make_uint4(a.x, b.x, a.y, b.y), q.x, q.y);
                multiply_tile(t, make_uint4(a.z, b.z, a.w, b.w), q.z, q.w);
                const float scale = shared_half(from.key_scales + scales[0] + c / 16 + i * 2),
                            scale2 = shared_half(from.key_scales + scales[1] + c / 16 + i * 2);
                s[0][0] += scale * t[0], s[0][1] += scale * t[1], s[0][2] += scale2 * t[2], s[0][3] += scale2 * t[3];
            }
            own += 64 * bytes, other += 64 * bytes;
        }
        float scores[2] = {(s[0][0] + s[1][0]) + (s[0][1] + s[1][1]), (s[0][2] + s[1][2]) + (s[0][3] + s[1][3])};
        if (softcap != 0) { /* good to a few millionths of the cap */
            const float to = __fdividef(2, softcap);
            scores[0] = softcap - __fdividef(2 * softcap, 1 + e_to(scores[0] * to));
            scores[1] = softcap - __fdividef(2 * softcap, 1 + e_to(scores[1] * to));
        }
        scores[0] = at <= from.last && at >= from.low ? scores[0] : -INFINITY;
        scores[1] = next <= from.last && next >= from.low ? scores[1] : -INFINITY;
        const uint32_t value = places.values[0] + further, value2 = places.values[1] + further;
        const uint32_t rows[4] = {from.values + min(value, from.last), from.values + min(value2, from.last),
                                  from.values + min(value + 2 * places.step, from.last),
                                  from.values + min(value2 + 2 * places.step, from.last)};
        if constexpr (q8) {
            weigh(scores[0], scores[1]);
            see_codes(rows, from.value_scales, scales, scores);
        } else {
            see_halves(rows, scores);
        }
    }

    /* Values as f16 numbers: eight columns of each position. */
    __device__ __forceinline__ void see_halves(const uint32_t *rows, float *scores) {
        uint4 v[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            v[i] = shared_four(rows[i] + threadIdx.x % 32 / 4 * 16);
        }
        weigh(scores[0], scores[1]);
        uint32_t high, low;
        split_pair(scores[0], scores[1], high, low);
        const uint32_t w0 = turned(__byte_perm(high, low, 0x5410)), w1 = turned(__byte_perm(high, low, 0x7632));
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const uint32_t words[4] = {(&v[0].x)[j], (&v[1].x)[j], (&v[2].x)[j], (&v[3].x)[j]};
            multiply_tile(sums[j],
                          make_uint4(__byte_perm(words[0], words[1], 0x5410), __byte_perm(words[0], words[1], 0x7632),
                                     __byte_perm(words[2], words[3], 0x5410), __byte_perm(words[2], words[3], 0x7632)),
                          w0, w1);
        }
    }

    /* Values of Q8_0: codes of four columns of each half of the slice, whose scales are multiplied with the weights. */
    __device__ __forceinline__ void see_codes(const uint32_t *rows, uint32_t value_scales, const uint32_t *scales,
                                              const float *weights) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint32_t v[4], high, low;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                v[i] = shared_one(rows[i] + half * 32 + threadIdx.x % 32 / 4 * 4);
            }
            split_pair(weights[0] * (VALUE_SCALE * shared_half(value_scales + scales[0] + half * 2)),
                       weights[1] * (VALUE_SCALE * shared_half(value_scales + scales[1] + half * 2)), high, low);
            const uint32_t w0 = turned(__byte_perm(high, low, 0x5410)), w1 = turned(__byte_perm(high, low, 0x7632));
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const uint32_t which = j ? 0x7362 : 0x5140, a = __byte_perm(v[0], v[1], which) ^ 0x80808080u,
                               b = __byte_perm(v[2], v[3], which) ^ 0x80808080u;
                multiply_tile(sums[half * 2 + j],
                              make_uint4(half_pair(a, BYTES_01), half_pair(a, BYTES_23), half_pair(b, BYTES_01),
                                         half_pair(b, BYTES_23)),
                              w0, w1);
            }
        }
    }

    /* By whole warps: the sum of weights of all positions that the head has seen. */
    __device__ __forceinline__ void add_totals() {
#pragma unroll
        for (int offset = 4; offset < 32; offset <<= 1) {
            total += __shfl_xor_sync(0xffffffffu, total, offset);
        }
    }

    /* Where two fours of its columns are in a slice. */
    template <bool q8> __device__ __forceinline__ static uint32_t column_of(uint32_t four) {
        return q8 ? four * 32 + threadIdx.x % 32 / 4 * 4 : threadIdx.x % 32 / 4 * 8 + four * 4;
    }

    /* To `to`, where the slice of the head's columns begins; what another warp has left there is added, if `others` has
     * it. */
    template <bool q8> __device__ __forceinline__ void leave(float *to, float own, float others) const {
        const float all = q8 ? own / VALUE_SCALE : own;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float(*from)[4] = sums + 2 * i;
            float4 *at = (float4 *)(to + column_of<q8>(i)), sum = make_float4(0, 0, 0, 0);
            if (others != 0) {
                sum = *at;
            }
            *at = make_float4(
                (from[0][0] + from[0][1]) * all + sum.x * others, (from[0][2] + from[0][3]) * all + sum.y * others,
                (from[1][0] + from[1][1]) * all + sum.z * others, (from[1][2] + from[1][3]) * all + sum.w * others);
        }
    }
};

#endif

#endif
