/* device/cuda/kernels/token_input.cuh - a phase's input vector, for the kernel that computes a token in one launch: out
 * of the numbers that other blocks leave, into shared memory as products want it.
 *
 * Whoever waits for numbers asks for them again and again, all multiprocessors for the same ones: that is most of what
 * a phase costs beside its weights, so what is asked for, by how many and how often is what this file is about. May
 * include: ring.cuh, tagged.cuh, vector.cuh.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_TOKEN_INPUT_CUH
#define SPI_DEVICE_CUDA_KERNELS_TOKEN_INPUT_CUH

#include "device/cuda/kernels/ring.cuh"
#include "device/cuda/kernels/tagged.cuh"
#include "device/cuda/kernels/vector.cuh"

#if __CUDA_ARCH__ >= 900
/* The input vector of a phase, four numbers at a time, at most four times at once; longer ones in several goes. Blocks
 * begin at different places, so that they do not all ask for the same at the same time. Returns this thread's part of
 * the sum of squares. */
__device__ __forceinline__ float fill_vector(const token_step &step, const spi_cu_phase &phase,
                                             const shared_vector &vector) {
    float squares = 0;
    uint32_t tag = step.tag_of(phase.src_tag), count = phase.groups * 8, real = phase.cols / 4;
    uint32_t thread = (threadIdx.x + blockIdx.x * 32) % THREADS;
    bool normed = phase.input == SPI_CU_INPUT_NORM;
    const float *from = (const float *)phase.src;
    const float4 *norm = (const float4 *)phase.norm_weight;
#pragma unroll 1
    for (uint32_t first = 0; first < count; first += 4 * THREADS) {
        float4 x[4], w = make_float4(1, 1, 1, 1);
        uint32_t missing, i = first + thread;
        if (normed && i < real) {
            w = __ldg(norm + i);
        }
#pragma unroll
        for (int k = 0; k < 4; k++) {
            x[k] = make_float4(0, 0, 0, 0);
            if (i + k * THREADS < real) {
                x[k] = ask4(from + (i + k * THREADS) * 4);
            }
        }
        do { /* only what is missing is asked for again */
            missing = 0;
#pragma unroll
            for (int k = 0; k < 4; k++) {
                if (i + k * THREADS < real && wrong4(x[k], tag)) {
                    x[k] = ask4(from + (i + k * THREADS) * 4);
                    missing = 1;
                }
            }
        } while (warp_misses(missing));
#pragma unroll 1
        for (int k = 0; k < 4 && i < count; k++, i += THREADS) { /* whole warps: groups are padded to 8 */
            float4 y = cleared4(x[0]);
            if (normed) {
                squares += y.x * y.x + y.y * y.y + y.z * y.z + y.w * y.w;
                y = make_float4(y.x * w.x, y.y * w.y, y.z * w.z, y.w * w.w);
                if (i + THREADS < real) {
                    w = __ldg(norm + i + THREADS);
                }
            }
            put4(vector, false, i, y);
            x[0] = x[1], x[1] = x[2], x[2] = x[3];
        }
    }
    return squares;
}

/* The same for quantised types, whose ring is full while they wait, so that code is what they wait for: a piece of it
 * for vectors as f16 numbers, which a norm's are a sixteenth of, and for others. */
__device__ __forceinline__ float fill_rounded(const token_step &step, const spi_cu_phase &phase,
                                              const shared_vector &vector) {
    const uint32_t tag = step.tag_of(phase.src_tag), count = phase.groups * 8, real = phase.cols / 4;
    const bool normed = phase.input == SPI_CU_INPUT_NORM, narrow = phase.narrow_in;
    const float scale = narrow && normed ? SPI_CU_NARROWED : 1;
    float squares = 0;
#pragma unroll 1
    for (uint32_t i = (threadIdx.x + blockIdx.x * 32) % THREADS; i < count; i += THREADS) { /* whole warps */
        float4 w = make_float4(1, 1, 1, 1), y = make_float4(0, 0, 0, 0);
        if (normed && i < real) {
            w = __ldg((const float4 *)phase.norm_weight + i);
        }
        uint32_t missing = i < real;
        if (narrow) {
            uint2 words = make_uint2(0, 0);
            do {
                if (missing) {
                    words = ask_narrow((const uint2 *)phase.src + i);
                    missing = wrong_narrow(words, tag);
                }
            } while (warp_misses(missing));
            y = widened(words);
        } else {
            do {
                if (missing) {
                    y = ask4((const float *)phase.src + i * 4);
                    missing = wrong4(y, tag);
                }
            } while (warp_misses(missing));
            y = cleared4(y);
        }
        if (normed) {
            y = make_float4(y.x * scale, y.y * scale, y.z * scale, y.w * scale);
            squares += y.x * y.x + y.y * y.y + y.z * y.z + y.w * y.w;
            y = make_float4(y.x * w.x, y.y * w.y, y.z * w.z, y.w * w.w);
        }
        put4(vector, true, i, y);
    }
    return squares;
}

/* Of running maxima, of which the first is -infinity where nothing was seen. */
__device__ __forceinline__ float growth(float from, float to) {
    return e_to(from - to);
}

/* The same out of the runs that a context was attended to in, which are put together here: by all blocks, but without
 * waiting for each other once more. */
template <bool quantised>
__device__ __forceinline__ void fill_joined(const spi_cu_token &token, const token_step &step,
                                            const spi_cu_phase &phase, const shared_vector &vector) {
    constexpr bool narrow = quantised;
    const uint32_t tag = step.tag_of(phase.joins_tag), count = phase.groups * 8, real = phase.cols / 4;
    const uint32_t dim = 1u << token.dim_shift, own = narrow ? dim / 2 : dim, pitch = own + 4;
    const uint32_t heads = phase.cols >> token.dim_shift;
    const float *latest = token.attended + (step.splits - 1) * heads * pitch + own;
#pragma unroll 1
    for (uint32_t i = (threadIdx.x + blockIdx.x * 32) % THREADS; i < count; i += THREADS) { /* whole warps */
        const float *at = token.attended + (4 * i >> token.dim_shift) * pitch;
        float4 part[SPI_CU_JOINED_MAX];
        uint2 words[SPI_CU_JOINED_MAX];
        float2 seen[SPI_CU_JOINED_MAX];
        uint32_t missing, leader = i & ~31u;
        await(latest + (4 * leader >> token.dim_shift) * pitch, tag, quantised && leader < real);
        do {
            missing = 0;
#pragma unroll
            for (int k = 0; k < SPI_CU_JOINED_MAX; k++) {
                seen[k] = make_float2(-INFINITY, 0);
                part[k] = make_float4(0, 0, 0, 0);
                words[k] = make_uint2(0, 0);
                if (i < real && k < step.splits) {
                    const float *run = at + k * heads * pitch;
                    seen[k] = ask2(run + own);
                    if (narrow) {
                        words[k] = ask_narrow((const uint2 *)run + (i & (dim / 4 - 1)));
                    } else {
                        part[k] = ask4(run + (4 * i & (dim - 1)));
                    }
                }
            }
#pragma unroll
            for (int k = 0; k < SPI_CU_JOINED_MAX; k++) {
                if (i < real && k < step.splits) {
                    missing |= wrong(seen[k].x, tag) | wrong(seen[k].y, tag) |
                               (narrow ? wrong_narrow(words[k], tag) : wrong4(part[k], tag));
                }
            }
        } while (warp_misses(missing));
        float largest = i < real ? -INFINITY : 0, total = 0;
        float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll
        for (int k = 0; k < SPI_CU_JOINED_MAX; k++) {
            largest = fmaxf(largest, cleared(seen[k].x));
        }
#pragma unroll
        for (int k = 0; k < SPI_CU_JOINED_MAX; k++) {
            float weight = growth(cleared(seen[k].x), largest);
            total += weight * cleared(seen[k].y);
            weight *= narrow ? cleared(seen[k].y) : 1; /* narrow sums are divided by it */
            part[k] = narrow ? widened(words[k]) : cleared4(part[k]);
            sum.x += weight * part[k].x, sum.y += weight * part[k].y;
            sum.z += weight * part[k].z, sum.w += weight * part[k].w;
        }
        float inverse = i < real ? 1 / total : 0;
        put4(vector, quantised, i, make_float4(sum.x * inverse, sum.y * inverse, sum.z * inverse, sum.w * inverse));
    }
}

/* 32 neighbours of a vector rounded to 8 bits, as put4() has them, for who multiplies with it: three times three words
 * and one with a tag. The nine are the codes, four in a word, and the scale; beside the first tag stand the sums of
 * both halves' codes, of 12 bits. A third of the bytes of f32, which all multiprocessors ask for, and none of them has
 * to round. */
#define PACKED_PARTS 3u

/* By a warp, one value a lane. */
__device__ __forceinline__ void publish_packed(uint4 *to, float value, uint32_t tag) {
    const uint32_t lane = threadIdx.x % 32;
    const float largest = warp_max(fabsf(value)), inverse = largest > 0 ? __fdividef(127, largest) : 0;
    const int code = __float2int_rn(value * inverse);
    uint32_t word = (code & 255u) << (lane % 4 * 8);
    int sum = code;
    word |= __shfl_xor_sync(0xffffffffu, word, 1), sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    word |= __shfl_xor_sync(0xffffffffu, word, 2), sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    sum += __shfl_xor_sync(0xffffffffu, sum, 4);
    sum += __shfl_xor_sync(0xffffffffu, sum, 8);
    const uint32_t sums = (sum & 0xfffu) | (__shfl_xor_sync(0xffffffffu, sum, 16) & 0xfffu)
                                               << 12; /* lane 0: in order */
    uint32_t words[3];
#pragma unroll
    for (uint32_t i = 0; i < 3; i++) {
        words[i] = __shfl_sync(0xffffffffu, word, min(3 * lane + i, 7) * 4);
    }
    if (lane < PACKED_PARTS) {
        words[2] = lane == 2 ? __float_as_uint(largest * (1 / 127.0f)) : words[2];
        publish_words(to + lane, make_uint4(words[0], words[1], words[2], (lane ? 0 : sums << 2) | tag));
    }
}

/* A vector that was left like that. */
__device__ __forceinline__ void fill_packed(const token_step &step, const spi_cu_phase &phase,
                                            const shared_vector &vector) {
    const uint32_t tag = step.tag_of(phase.src_tag), real = phase.cols / 32 * PACKED_PARTS;
    const uint32_t count = phase.groups * PACKED_PARTS;
    const uint4 *from = (const uint4 *)phase.src;
#pragma unroll 1
    for (uint32_t i = (threadIdx.x + blockIdx.x * 32) % THREADS; (i & ~31u) < count; i += THREADS) { /* whole warps */
        uint4 words = make_uint4(0, 0, 0, tag);
        uint32_t missing = i < real;
        do {
            if (missing) {
                words = ask_words(from + i);
                missing = wrong(__uint_as_float(words.w), tag);
            }
        } while (warp_misses(missing));
        if (i >= count) {
            break;
        }
        const uint32_t group = i / PACKED_PARTS, part = i % PACKED_PARTS;
        const uint32_t all[3] = {words.x, words.y, words.z};
#pragma unroll
        for (uint32_t k = 0; k < 3; k++) {
            uint32_t at = part * 3 + k;
            if (at < 8) {
                ((uint32_t *)vector.piece(2 * group + at / 4))[at % 4] = all[k];
            } else {
                vector.scales[group] = __uint_as_float(all[k]);
            }
        }
        if (part == 0) {
            int sums = (int)words.w << 6;
            ((int2 *)vector.sums)[group] = make_int2((int)words.w << 18 >> 20, sums >> 20);
        }
    }
}
#endif

#endif
