/* device/cuda/kernels/token_attention.cuh - a phase of attention, for the kernel that computes a token in one launch.
 *
 * The context is shared out in runs of blocks of 64 tokens. A block of the grid attends over one run with the query heads
 * of one KV head. Few runs are put together by who reads them (token_input.cuh); of many, those that attend for a KV head do
 * some columns each.
 *
 * Scores and sums are products of tensor cores, which take 16-bit numbers: keys and values are such numbers, and of a query
 * or a weight the nearest one and what that leaves of it are two rows of the same tile, whose sums one thread adds up. So
 * they are off by some 2^-22, as if they had been computed in f32.
 * May include: token_product.cuh, heads.cuh.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_TOKEN_ATTENTION_CUH
#define SPI_DEVICE_CUDA_KERNELS_TOKEN_ATTENTION_CUH

#include "device/cuda/kernels/heads.cuh"
#include "device/cuda/kernels/token_product.cuh"

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

/* Puts the runs of a KV head's context together: each of its blocks does some columns, four by eight lanes, of which each
 * has the runs `lane` and `lane` + 8. */
__device__ __forceinline__ void join_runs(const spi_cu_token &token, const token_step &step, const spi_cu_phase &phase,
                                          bool narrow, uint32_t head, uint32_t split) {
    uint32_t shift = token.dim_shift, dim = 1u << shift, group = phase.group;
    const uint32_t own = narrow ? dim / 2 : dim, pitch = own + 4;
    uint32_t tag = step.tag_of(phase.run_tag), splits = step.splits, first = threadIdx.x % 8;
    for (uint32_t i = split + threadIdx.x / 8 * splits; i < group << (shift - 2); i += THREADS / 8 * splits) {
        uint32_t h = head * group + (4 * i >> shift), column = 4 * i & (dim - 1);
        uint64_t run_floats = (uint64_t)phase.heads * pitch;
        const float *at = token.attended + h * pitch;
        const float *runs[2] = {at + min(first, splits - 1) * run_floats, at + min(first + 8, splits - 1) * run_floats};
        float4 part[2];
        uint2 words[2];
        float2 seen[2]; /* a run's largest score, and its sum of weights */
        uint32_t missing;
        do {
            missing = 0;
#pragma unroll
            for (int k = 0; k < 2; k++) {
                seen[k] = ask2(runs[k] + own);
                if (narrow) {
                    words[k] = ask_narrow((const uint2 *)runs[k] + column / 4);
                } else {
                    part[k] = ask4(runs[k] + column);
                }
            }
#pragma unroll
            for (int k = 0; k < 2; k++) {
                missing |= wrong(seen[k].x, tag) | wrong(seen[k].y, tag) |
                           (narrow ? wrong_narrow(words[k], tag) : wrong4(part[k], tag));
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
        const float all = c * cleared(seen[0].y) + d * cleared(seen[1].y);
        if (narrow) {
            part[0] = widened(words[0]), part[1] = widened(words[1]);
            c *= cleared(seen[0].y), d *= cleared(seen[1].y);
        }
        float sums[5] = {
            c * cleared(part[0].x) + d * cleared(part[1].x), c * cleared(part[0].y) + d * cleared(part[1].y),
            c * cleared(part[0].z) + d * cleared(part[1].z), c * cleared(part[0].w) + d * cleared(part[1].w), all};
#pragma unroll
        for (int offset = 1; offset < 8; offset <<= 1) {
#pragma unroll
            for (int k = 0; k < 5; k++) {
                sums[k] += __shfl_xor_sync(lanes, sums[k], offset);
            }
        }
        if (first == 0) {
            float inverse = 1 / sums[4];
            if (narrow) {
                publish_narrow((uint2 *)phase.out + (h * dim + column) / 4,
                               make_uint2(narrow_pair(sums[0] * inverse, sums[1] * inverse),
                                          narrow_pair(sums[2] * inverse, sums[3] * inverse)),
                               step.tag_of(phase.out_tag));
                continue;
            }
            publish4((float *)phase.out + h * dim + column,
                     make_float4(sums[0] * inverse, sums[1] * inverse, sums[2] * inverse, sums[3] * inverse),
                     step.tag_of(phase.out_tag));
        }
    }
}

/* Every use of a buffer must leave its tag everywhere: also in a run's place when there are fewer runs, and in that of all
 * runs together where nobody puts them there. */
__device__ __forceinline__ void mark_unused(const spi_cu_token &token, const token_step &step,
                                            const spi_cu_phase &phase, bool narrow, uint32_t head, uint32_t split) {
    uint32_t dim = token.kv.head_dim, group = phase.group, tag = step.tag_of(phase.run_tag);
    uint32_t place = split * phase.heads + head * group;
    const uint32_t own = narrow ? dim / 2 : dim, outs = step.tag_of(phase.out_tag);
    for (uint32_t i = threadIdx.x;
         (split >= step.splits || step.splits == 1) && split < SPI_CU_SPLITS_MAX && i < group * (own + 4);
         i += THREADS) {
        const bool halves = narrow && i % (own + 4) < own;
        const uint32_t word = halves ? (i % (own + 4) % 2 ? 0 : narrow_tag(tag)) : tag;
        asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(token.attended + place * (own + 4) + i), "r"(word)
                     : "memory");
    }
    for (uint32_t i = threadIdx.x; step.joins && split == 0 && i < group * own; i += THREADS) {
        asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"((float *)phase.out + head * group * own + i),
                     "r"(narrow ? (i % 2 ? 0 : narrow_tag(outs)) : outs)
                     : "memory");
    }
}

/* In Q8_0: scales stand behind the row's codes in shared memory, and behind those of 64 rows in a block. */
__device__ __forceinline__ void keep_codes(const spi_cu_token &token, const token_step &step, const spi_cu_phase &phase,
                                           uint32_t which, const float *from, uint8_t *row, uint32_t lane) {
    const uint32_t dim = token.kv.head_dim, in_block = step.position % 64;
    const uint64_t head = step.position / 64 * token.kv.block_bytes + phase.layer_bytes +
                          (which * token.kv.kv_heads + step.head) * q8_head_bytes(dim);
    const uint64_t numbers = head + in_block * dim, scales = head + 64 * dim + kv_scale_bytes(dim, in_block);
    for (uint32_t i = lane; i < dim; i += 32) { /* whole warps */
        const q8_code code(from[i]);
        code.put(row, (__half *)(row + dim), i);
        code.put((uint8_t *)(token.blocks + numbers), (__half *)(token.blocks + scales), i);
        if (token.host_blocks) {
            code.put((uint8_t *)(token.host_blocks + numbers), (__half *)(token.host_blocks + scales), i);
        }
    }
}

/* One warp: the token's own row of K or V, rounded as blocks hold it, to shared memory, the card's block and the guest's. */
template <bool q8>
__device__ __forceinline__ void keep_row(const spi_cu_token &token, const token_step &step, const spi_cu_phase &phase,
                                         uint32_t which, const float *from, __half2 *row, uint32_t lane) {
    uint32_t dim = token.kv.head_dim;
    if (q8) {
        keep_codes(token, step, phase, which, from, (uint8_t *)row, lane);
        return;
    }
    uint64_t at = step.position / 64 * token.kv.block_bytes + phase.layer_bytes +
                  (which * token.kv.kv_heads + step.head) * (uint64_t)64 * dim * 2 + step.position % 64 * dim * 2;
    for (uint32_t i = lane; i < dim / 2; i += 32) {
        __half2 pair = __floats2half2_rn(from[2 * i], from[2 * i + 1]);
        row[i] = pair;
        ((__half2 *)(token.blocks + at))[i] = pair;
        if (token.host_blocks) {
            ((__half2 *)(token.host_blocks + at))[i] = pair;
        }
    }
}

/* Where things lie in shared memory during a phase of attention. */
struct attention_room {
    uint32_t *queries; /* tiles of them: place_query() */
    __half2 *k, *v;    /* the token's own */
    float *rows;       /* f32 [group + 2][dim], while they are prepared */
    float2 *seen;      /* [parts][group]: of each part the largest score and the sum of weights */
    float *parts;      /* [parts][group][dim + 4] */

    __device__ __forceinline__ attention_room(uint8_t *room, uint32_t group, uint32_t dim) {
        queries = (uint32_t *)room;
        k = (__half2 *)(queries + (group + TILE_HEADS - 1) / TILE_HEADS * dim * 8);
        v = k + dim / 2;
        seen = (float2 *)(v + dim / 2);
        parts = rows = (float *)(seen + WARPS * TILE_HEADS);
    }
};

/* Queries, and of the last run the token's own K and V, out of what the products left: a warp has a row. */
template <bool q8>
__device__ __forceinline__ void prepare_rows(const spi_cu_token &token, const token_step &step,
                                             const spi_cu_phase &phase, const float2 *turns, uint8_t *memory) {
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, head = step.head, group = phase.group;
    const uint32_t dim = token.kv.head_dim;
    const attention_room room(memory, group, dim);
    uint32_t count = group + (step.split + 1 == step.splits ? 2 : 0);
    for (uint32_t i = warp; i < count; i += WARPS) {
        float *row = room.rows + i * dim;
        bool is_query = i < group, is_key = i == group;
        const float *from = is_query ? (const float *)phase.src + (head * group + i) * dim
                                     : (const float *)(is_key ? phase.k : phase.v) + head * dim;
        const float *norm = (const float *)(is_query ? phase.q_norm : is_key ? phase.k_norm : 0);
        uint32_t tag = step.tag_of(is_query ? phase.src_tag : is_key ? phase.k_tag : phase.v_tag);
        prepare_head<true>(is_query || is_key ? phase.pairs : 0, phase.halves, turns, from, norm,
                           is_query ? phase.eps : phase.k_eps, dim, is_query ? phase.scale : 1, row, lane, tag);
        __syncwarp();
        if (is_query) {
            place_query(row, i, dim, room.queries, lane);
        } else {
            keep_row<q8>(token, step, phase, !is_key, row, is_key ? room.k : room.v, lane);
        }
    }
}

/* Which of a phase's tiles a warp takes: with eight heads each, of 32 columns' slices each, every so many tiles one. */
struct tile_share {
    uint32_t slice, eight, part, parts;

    __device__ __forceinline__ tile_share(const spi_cu_token &token, uint32_t group) {
        uint32_t warp = threadIdx.x / 32, slices_log2 = token.dim_shift - 5, eights_log2 = group > TILE_HEADS;
        slice = warp & ((1u << slices_log2) - 1), eight = warp >> slices_log2 & eights_log2;
        part = warp >> (slices_log2 + eights_log2), parts = WARPS >> (slices_log2 + eights_log2);
    }
};

/* What a warp has seen, to where the others look for it. */
template <bool q8>
__device__ __forceinline__ void leave_part(const spi_cu_token &token, const attended_part &mine, uint32_t group,
                                           uint8_t *memory) {
    const tile_share share(token, group);
    const uint32_t dim = token.kv.head_dim, lane = threadIdx.x % 32;
    const uint32_t local = share.eight * TILE_HEADS + lane / 4, place = share.part * group + local;
    const attention_room room(memory, group, dim);
    if (local < group && mine.largest != -INFINITY) {
        mine.leave<q8>(room.parts + place * (dim + 4) + share.slice * TILE_COLS);
    }
    if (local < group && share.slice == 0 && lane % 4 == 0) {
        room.seen[place] = make_float2(mine.largest, mine.total);
    }
}

/* All tiles of the block's run; the token's own row comes last. */
template <bool q8>
__device__ __forceinline__ void see_run(const spi_cu_token &token, const token_step &step, const spi_cu_phase &phase,
                                        const kv_run &run, const tile_share &share, ring_reader &ring,
                                        uint8_t *memory) {
    const uint32_t dim = token.kv.head_dim, group = phase.group;
    const bool last = step.split + 1 == step.splits;
    const attention_room room(memory, group, dim);
    const uint32_t queries = address_of(room.queries) + share.eight * dim * 32 + threadIdx.x % 32 * 16;
    attended_part mine;
    mine.clear();
    uint32_t turn = share.part;
#pragma unroll 1
    for (uint32_t first = run.first; first < run.end || last; first += token.kv_stage) {
        bool own = first >= run.end;
        uint32_t count = own ? 1 : min(token.kv_stage, run.end - first);
        uint32_t low = own || first >= run.begin ? 0 : run.begin - first;
        kv_place from;
        from.keys = own ? address_of(room.k) : address_of(ring.open());
        from.values = from.keys + (own ? 2 * dim : kv_part_bytes<q8>(token));
        from.key_scales = own ? from.keys + dim : from.values + kv_part_bytes<q8>(token);
        from.value_scales =
            (own ? from.values + dim : from.key_scales + kv_scale_bytes(dim, token.kv_stage)) + share.slice * 2;
        from.values += share.slice * TILE_COLS * (q8 ? 1 : 2);
        uint32_t tiles = (min(count, 1u << token.kv_group_log2) + 3) / 4;
#pragma unroll 1
        for (; turn < tiles; turn += share.parts) {
            mine.see<q8>(queries, from, dim, token.kv_group_log2, turn, count, low, phase.softcap);
        }
        turn -= tiles;
        if (own) {
            break;
        }
        ring.close();
    }
    ring.leave();
    mine.add_totals();
    leave_part<q8>(token, mine, group, memory);
}

/* Puts together what the block's warps have seen. */
__device__ __forceinline__ void hand_on(const spi_cu_token &token, const token_step &step, const spi_cu_phase &phase,
                                        bool narrow, uint8_t *memory) {
    const uint32_t dim = token.kv.head_dim, pitch = dim + 4, group = phase.group;
    const uint32_t own = narrow ? dim / 2 : dim;
    const uint32_t parts = tile_share(token, group).parts;
    const attention_room room(memory, group, dim);
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < group << token.dim_shift; i += THREADS) {
        uint32_t local = i >> token.dim_shift, column = i & (dim - 1), of = step.head * group + local;
        const float2 *seen = room.seen + local;
        float2 part[PARTS_MAX];
        float largest = -INFINITY, total = 0, sum = 0;
#pragma unroll
        for (int p = 0; p < PARTS_MAX; p++) { /* all are on their way at once */
            part[p] = p < parts ? seen[p * group] : make_float2(-INFINITY, 0);
            largest = fmaxf(largest, part[p].x);
        }
        largest = cleared(largest); /* as it will be read: any number near the largest does */
        const float from = largest == -INFINITY ? 0 : largest;
        const float *at = room.parts + local * pitch + column;
#pragma unroll
        for (int p = 0; p < PARTS_MAX; p++) {
            float value = p < parts ? at[p * group * pitch] : 0, weight = e_to(part[p].x - from);
            total += weight * part[p].y;
            sum += weight * (part[p].x != -INFINITY ? value : 0); /* else there is nothing */
        }
        if (narrow) {
            const uint2 words = gather_narrow(total > 0 ? sum / total : 0);
            const bool one = step.splits == 1;
            const uint32_t tag = step.tag_of(one ? phase.out_tag : phase.run_tag);
            float *to = token.attended + ((uint64_t)step.split * phase.heads + of) * (own + 4);
            if (column % 4 == 0) {
                publish_narrow(one ? (uint2 *)phase.out + (of * dim + column) / 4 : (uint2 *)to + column / 4, words,
                               tag);
            }
            if (!one && column == 0) {
                publish(to + own, largest, tag);
                publish(to + own + 1, total, tag);
            }
        } else if (step.splits == 1) {
            publish((float *)phase.out + of * dim + column, sum / total, step.tag_of(phase.out_tag));
        } else {
            float *to = token.attended + ((uint64_t)step.split * phase.heads + of) * pitch;
            uint32_t tag = step.tag_of(phase.run_tag);
            publish(to + column, sum, tag);
            if (column == 0) {
                publish(to + dim, largest, tag);
                publish(to + dim + 1, total, tag);
            }
        }
    }
}

/* A block attends with the query heads of one KV head over one run of blocks, whose rows come through the ring. A warp takes
 * 16 positions at a time, with up to eight heads, and sums up 32 columns. */
template <bool q8>
__device__ __forceinline__ void attend(const spi_cu_token &token, const token_step &step, const spi_cu_phase &phase,
                                       bool narrow, const float2 *turns, ring_state &stages, const uint8_t *bytes,
                                       uint8_t *memory) {
    if (step.split < step.splits) {
        const kv_run run(token, step, phase);
        const tile_share share(token, phase.group);
        ring_reader ring(stages, bytes, token);
        prepare_rows<q8>(token, step, phase, turns, memory);
        all_sync();
        see_run<q8>(token, step, phase, run, share, ring, memory);
        all_sync();
        hand_on(token, step, phase, narrow, memory);
    }
    if (step.split < step.splits && step.splits > 1 && !step.joins) {
        join_runs(token, step, phase, narrow, step.head, step.split);
    } else {
        mark_unused(token, step, phase, narrow, step.head, step.split);
    }
}
#endif

#endif
