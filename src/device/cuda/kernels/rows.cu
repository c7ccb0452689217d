/* device/cuda/kernels/rows.cu - what is done to each row by itself, fetching parameters, and laying weights out. */
#include "device/cuda/kernels/common.cuh"
#include "device/cuda/kernels/kv.cuh"
#include "device/cuda/kernels/likeliest.cuh"
#include "device/cuda/kernels/types.cuh"

#define THREADS 256

/* From the host's pinned memory: block (column, piece). */
KERNEL fetch(uint4 *to, const uint4 *from, const __grid_constant__ spi_cu_pieces pieces) {
    behind_the_last();
    uint32_t first = pieces.first[blockIdx.y], count = pieces.count[blockIdx.y];
    for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        to[first + i] = from[first + i];
    }
}

/* Rows as they lie in a file to rows of planes, a word of the result at a time. */
KERNEL repack(uint8_t *to, const uint8_t *from, spi_cu_format format, spi_cu_matrix matrix, uint32_t row_count) {
    uint32_t words = matrix.stride / 4, blocks = matrix.cols / format.block_elements;
    uint64_t row_bytes = (uint64_t)blocks * format.block_bytes, total = (uint64_t)row_count * words;
    for (uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; i < total;
         i += (uint64_t)gridDim.x * blockDim.x) {
        uint64_t row = i / words;
        uint32_t at = (uint32_t)(i - row * words) * 4, plane = 0;
        while (plane + 1 < format.plane_count && at >= matrix.plane_bytes[plane + 1]) {
            plane++;
        }
        uint32_t bytes = format.planes[plane].bytes, word = 0;
        for (uint32_t k = 0; k < 4; k++) {
            uint32_t in_plane = at + k - matrix.plane_bytes[plane], block = in_plane / bytes;
            if (block < blocks) {
                uint64_t source = row * row_bytes + (uint64_t)block * format.block_bytes +
                                  format.planes[plane].first_byte + in_plane % bytes;
                word |= (uint32_t)from[source] << (8 * k);
            }
        }
        *(uint32_t *)(to + row * matrix.stride + at) = word;
    }
}

/* Block (32 groups of 32 columns, row). */
template <int type>
__device__ void embed_row(const spi_cu_matrix &weight, float *dst, uint32_t stride, const spi_cu_row *rows,
                          float scale) {
    uint32_t group = blockIdx.x * 32 + threadIdx.x, row = blockIdx.y;
    if (group * 32 < weight.cols) {
        float w[32];
        weights<type>::load32((const uint8_t *)weight.data + (uint64_t)rows[row].token * weight.stride, weight, group,
                              w);
        float4 *to = (float4 *)(dst + (uint64_t)row * stride + group * 32);
#pragma unroll
        for (int i = 0; i < 8; i++) { /* what is behind the last column is padding, and zero */
            to[i] = make_float4(w[4 * i] * scale, w[4 * i + 1] * scale, w[4 * i + 2] * scale, w[4 * i + 3] * scale);
        }
    }
}
/* The first kernel that others are not started beside: what they read of the parameters before they wait for the kernel
 * that precedes them is there then. */
#define EMBED(type)                                                                                                    \
    KERNEL embed_##type(spi_cu_matrix weight, float *dst, uint32_t stride, const spi_cu_row *rows, float scale) {      \
        wait_for_the_last();                                                                                           \
        start_the_next();                                                                                              \
        embed_row<type>(weight, dst, stride, rows, scale);                                                             \
    }
SPI_CU_ALL_TYPES(EMBED)

/* Block (group, row). */
KERNEL normalise(float *dst, const float *src, const float *weight, uint32_t stride, uint32_t group, float eps) {
    behind_the_last();
    __shared__ float room[THREADS / 32];
    uint64_t at = (uint64_t)blockIdx.y * stride + blockIdx.x * group;
    float squares = 0;
    for (uint32_t i = threadIdx.x; i < group; i += THREADS) {
        squares += src[at + i] * src[at + i];
    }
    float factor = 1 / sqrtf(block_reduce<THREADS, false>(squares, room) / group + eps);
    for (uint32_t i = threadIdx.x; i < group; i += THREADS) {
        dst[at + i] = src[at + i] * factor * weight[i];
    }
}

KERNEL rope(float *dst, const float2 *table, uint32_t stride, uint32_t heads, uint32_t head_dim, uint32_t pairs,
            uint32_t halves) {
    behind_the_last();
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
    if (i < heads * pairs) {
        uint32_t head = i / pairs, pair = i % pairs;
        float2 turn = table[(uint64_t)row * pairs + pair];
        float *first = dst + (uint64_t)row * stride + head * head_dim + (halves ? pair : 2 * pair);
        float *second = first + (halves ? pairs : 1);
        float x = *first, y = *second;
        *first = x * turn.x - y * turn.y;
        *second = x * turn.y + y * turn.x;
    }
}

/* To the card's blocks and to the guest's. */
KERNEL kv_store(const float *k, const float *v, uint32_t stride, const spi_cu_row *rows, spi_cu_kv kv) {
    behind_the_last();
    uint32_t column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
    if (column >= kv.kv_heads * kv.head_dim) {
        return;
    }
    spi_cu_row place = rows[row];
    uint64_t head_bytes = (uint64_t)64 * kv.head_dim * 2, at = place.position / 64 * kv.block_bytes + kv.layer_bytes;
    at += column / kv.head_dim * head_bytes + (place.position % 64 * kv.head_dim + column % kv.head_dim) * 2;
    uint64_t value_at = at + kv.kv_heads * head_bytes;
    __half key = __float2half_rn(k[(uint64_t)row * stride + column]);
    __half value = __float2half_rn(v[(uint64_t)row * stride + column]);
    *(__half *)(place.kv + at) = key;
    *(__half *)(place.kv + value_at) = value;
    if (place.host) {
        *(__half *)(place.host + at) = key;
        *(__half *)(place.host + value_at) = value;
    }
}

/* The same in Q8_0, a group of 32 columns a warp. */
KERNEL kv_store_q8(const float *k, const float *v, uint32_t stride, const spi_cu_row *rows, spi_cu_kv kv) {
    behind_the_last();
    uint32_t column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y, dim = kv.head_dim;
    if (column >= kv.kv_heads * dim) { /* all of a warp's: heads are whole groups */
        return;
    }
    spi_cu_row place = rows[row];
    for (uint32_t which = 0; which < 2; which++) {
        float x = (which ? v : k)[(uint64_t)row * stride + column];
        for (uint32_t copy = 0; copy < (place.host ? 2 : 1); copy++) {
            uint8_t *head =
                kv_head(kv, copy ? place.host : place.kv, which, column / dim, place.position, q8_head_bytes(dim));
            put_q8(x, head, dim, place.position % 64, column % dim);
        }
    }
}

/* x / (1 + e^-x), and x * (1 + tanh(u)) / 2, which is x / (1 + e^-2u) without the cancellation
 * (arXiv:1606.08415: u = sqrt(2 / pi) * (x + 0.044715 x^3)). */
KERNEL gate(float *dst, const float *src, const float *src1, uint32_t columns, uint32_t stride, uint32_t silu) {
    behind_the_last();
    uint32_t column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column < columns) {
        uint64_t at = (uint64_t)blockIdx.y * stride + column;
        float x = src[at], u = silu ? x : 1.5957691216057308f * (x + 0.044715f * x * x * x);
        dst[at] = x / (1 + expf(-u)) * src1[at];
    }
}

KERNEL add(float *dst, const float *src, uint32_t columns, uint32_t stride, float scale) {
    behind_the_last();
    uint32_t column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column < columns) {
        uint64_t at = (uint64_t)blockIdx.y * stride + column;
        dst[at] = __fadd_rn(dst[at], __fmul_rn(scale, src[at]));
    }
}

KERNEL gather(float *dst, const float *src, const spi_cu_out *outs, uint32_t columns, uint32_t stride) {
    behind_the_last();
    uint32_t column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column < columns) {
        dst[(uint64_t)blockIdx.y * stride + column] = src[(uint64_t)outs[blockIdx.y].row * stride + column];
    }
}

/* For measuring: reads everything, and writes where it holds what it never does. */
KERNEL read_all(uint4 *from, uint64_t count) {
    uint4 all = make_uint4(0, 0, 0, 0);
    uint64_t pace = (uint64_t)gridDim.x * blockDim.x, i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    for (; i + 3 * pace < count; i += 4 * pace) {
        uint4 a = from[i], b = from[i + pace], c = from[i + 2 * pace], d = from[i + 3 * pace];
        all.x |= a.x | b.x | c.x | d.x, all.y |= a.y | b.y | c.y | d.y;
        all.z |= a.z | b.z | c.z | d.z, all.w |= a.w | b.w | c.w | d.w;
    }
    if (all.x | all.y | all.z | all.w) {
        from[0] = all;
    }
}

#define PICK_THREADS 1024

/* Every thread of the cluster gets the best of all; `room` is shared memory for one of each warp. */
template <uint32_t threads> __device__ __forceinline__ likeliest best_of_all(likeliest best, likeliest *room) {
    best.over_warp();
    blocks_sync(); /* nobody reads the room any more */
    if (threadIdx.x % 32 == 0) {
        room[threadIdx.x / 32] = best;
    }
    blocks_sync();
    best = {-INFINITY, 0};
    for (uint32_t block = 0; block < gridDim.z; block++) {
        const likeliest *there = &room[threadIdx.x % (threads / 32)];
        best.consider(__uint_as_float(word_of_block(&there->logit, block)), word_of_block(&there->token, block));
    }
    best.over_warp();
    return best;
}

/* Blocks (output, 1, part), those of an output in a cluster: the likeliest token of its logits, or one that is
 * drawn. */
KERNEL __launch_bounds__(PICK_THREADS) pick(int32_t *picks, const spi_cu_out *outs, uint32_t vocab) {
    behind_the_last();
    __shared__ likeliest room[PICK_THREADS / 32];
    const spi_cu_out out = outs[blockIdx.x];
    const float *logits = (const float *)out.logits;
    uint32_t first = blockIdx.z * PICK_THREADS + threadIdx.x, pace = gridDim.z * PICK_THREADS;
    likeliest best = {-INFINITY, 0};
#pragma unroll 8
    for (uint32_t i = first; i < vocab; i += pace) {
        best.consider(cleaned(__ldcg(logits + i)), i);
    }
    best = best_of_all<PICK_THREADS>(best, room);
    if (out.draw.inverse != 0 && best.logit > -INFINITY) {
        float largest = best.logit;
        best.logit = -INFINITY; /* the likeliest, should no score be larger than that */
#pragma unroll 8
        for (uint32_t i = first; i < vocab; i += pace) {
            float logit = cleaned(__ldcg(logits + i));
            if (spi_draw_may(&out.draw, logit, largest)) {
                best.consider(spi_draw_score(&out.draw, i, logit, largest), i);
            }
        }
        best = best_of_all<PICK_THREADS>(best, room);
    }
    if (threadIdx.x == 0 && blockIdx.z == 0) {
        picks[blockIdx.x] = (int32_t)best.token;
    }
    blocks_sync(); /* nobody leaves while others read */
}

#define NOTED_THREADS 512

/* What no score of the token is larger than, with room for rounding: found without a logarithm. */
__device__ __forceinline__ float most(const spi_draw &draw, uint32_t token, float logit, float largest) {
    float zeros = (float)__clz((int)spi_draw_word(draw.key, token));
    return (logit - largest) * draw.inverse + (zeros + 1) * 0.69315f + 0.01f;
}

/* A piece's logits, four a lane, asked for before they are looked at. */
struct asked_piece {
    float logits[SPI_CU_BEST_TOKENS / 32];
    uint32_t first; /* token of this lane's */

    __device__ __forceinline__ void ask(const float *from, uint32_t piece, uint32_t vocab) {
        first = piece * SPI_CU_BEST_TOKENS + threadIdx.x % 32;
#pragma unroll
        for (uint32_t i = 0; i < SPI_CU_BEST_TOKENS / 32; i++) {
            logits[i] = first + i * 32 < vocab ? __ldcg(from + first + i * 32) : -INFINITY;
        }
    }

    /* Scores are found of those alone that can be larger than what the warp has. */
    __device__ __forceinline__ void draw(const spi_draw &draw, float largest, likeliest &best) const {
        float enough = warp_max(best.logit);
#pragma unroll
        for (uint32_t i = 0; i < SPI_CU_BEST_TOKENS / 32; i++) {
            uint32_t token = first + i * 32;
            float logit = cleaned(logits[i]);
            if (spi_draw_may(&draw, logit, largest) && most(draw, token, logit, largest) >= enough) {
                best.consider(spi_draw_score(&draw, token, logit, largest), token);
            }
        }
    }
};

/* A warp's part of the pieces, each `pace` behind the last: those that have a token which may be drawn. */
__device__ __forceinline__ void draw_from(const spi_cu_out &out, const spi_cu_best *noted, uint32_t pieces,
                                          uint32_t vocab, uint32_t first, uint32_t pace, float largest,
                                          likeliest &best) {
    for (; first < pieces; first += 32 * pace) {
        uint32_t mine = first + threadIdx.x % 32 * pace;
        bool may = mine < pieces && spi_draw_may(&out.draw, __ldcg(&noted[min(mine, pieces - 1)].logit), largest);
        uint32_t left = __ballot_sync(0xffffffffu, may);
        asked_piece now, next;
        if (left) {
            next.ask((const float *)out.logits, first + (__ffs((int)left) - 1) * pace, vocab);
        }
        while (left) {
            now = next;
            left &= left - 1;
            if (left) {
                next.ask((const float *)out.logits, first + (__ffs((int)left) - 1) * pace, vocab);
            }
            now.draw(out.draw, largest, best);
        }
    }
}

/* The same of logits of which the likeliest token of each piece was noted: they are read for draws alone, and only
 * where one that may be drawn is among a piece's. */
KERNEL __launch_bounds__(NOTED_THREADS)
    pick_noted(int32_t *picks, const spi_cu_out *outs, const spi_cu_best *noted, uint32_t pieces, uint32_t vocab) {
    constexpr uint32_t warps = NOTED_THREADS / 32;
    behind_the_last();
    __shared__ likeliest room[warps];
    const spi_cu_out out = outs[blockIdx.x];
    likeliest best = {-INFINITY, 0};
    noted += (uint64_t)blockIdx.x * pieces;
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < pieces; i += NOTED_THREADS) { /* all, in each of the cluster's blocks */
        best.consider_noted(noted + i);
    }
    best = best_of_all<NOTED_THREADS>(best, room);
    if (out.draw.inverse != 0 && best.logit > -INFINITY) {
        float largest = best.logit;
        best.logit = -INFINITY; /* the likeliest, should no score be larger than that */
        draw_from(out, noted, pieces, vocab, blockIdx.z * warps + threadIdx.x / 32, gridDim.z * warps, largest, best);
        best = best_of_all<NOTED_THREADS>(best, room);
    }
    if (threadIdx.x == 0 && blockIdx.z == 0) {
        picks[blockIdx.x] = (int32_t)best.token;
    }
    blocks_sync(); /* nobody leaves while others read */
}
