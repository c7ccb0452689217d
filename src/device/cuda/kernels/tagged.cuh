/* device/cuda/kernels/tagged.cuh - numbers that blocks hand to each other without a barrier: decode_args.h says what
 * tags are. May include: common.cuh, decode_args.h. */
#ifndef SPI_DEVICE_CUDA_KERNELS_TAGGED_CUH
#define SPI_DEVICE_CUDA_KERNELS_TAGGED_CUH

#include <cuda_fp16.h>

#include "device/cuda/kernels/common.cuh"
#include "device/cuda/kernels/decode_args.h"

/* What changes from token to token of a launch. */
struct token_step {
    uint32_t index, token, position, splits, split_positions;
    uint64_t tags;
    bool last;            /* whether another token may follow */
    bool joins;           /* whether who reads what was attended to puts its runs together */
    uint32_t head, split; /* of attention, this block's: as long as the launch */

    token_step() = default;

    __device__ __forceinline__ explicit token_step(const spi_cu_token &all)
        : index(0), token(all.token), position(all.position), tags(all.tags), last(all.steps == 1),
          head(blockIdx.x % all.kv.kv_heads), split(blockIdx.x / all.kv.kv_heads) {
        share_context(all);
    }

    __device__ __forceinline__ void next(const spi_cu_token &all, uint32_t pick) {
        const uint64_t odd = 0x5555555555555555u;
        index++, position++;
        token = pick;
        tags = ((tags & odd) + (all.uses & odd)) ^ ((tags ^ all.uses) & ~odd);
        last = index + 1 == all.steps;
        share_context(all);
    }

    /* Of a short context few runs, which need not be put together before they are read; of a long one as many as there
     * are multiprocessors for a KV head. */
    __device__ __forceinline__ void share_context(const spi_cu_token &all) {
        const uint32_t few = min(all.runs, all.joined),
                       runs = few && position <= few * SPI_CU_JOINED_RUN * 64 ? few : all.runs;
        const uint32_t group = max(16u, 1u << all.kv_group_log2);
        split_positions = max(((position + runs - 1) / runs + group - 1) & ~(group - 1), max(all.run_blocks, 1u) * 64);
        splits = max((position + split_positions - 1) / split_positions, 1u);
        joins = splits > 1 && splits <= all.joined;
    }

    __device__ __forceinline__ uint32_t tag_of(uint32_t tag) const {
        return ((uint32_t)(tags >> (tag / 4 * 2)) + tag) & 3;
    }
};

__device__ __forceinline__ float cleared(float x) {
    return __uint_as_float(__float_as_uint(x) & ~3u);
}

__device__ __forceinline__ float tagged(float x, uint32_t tag) {
    return __uint_as_float((__float_as_uint(x) & ~3u) | tag);
}

__device__ __forceinline__ void publish(float *to, float x, uint32_t tag) {
    asm volatile("st.relaxed.gpu.global.f32 [%0], %1;" ::"l"(to), "f"(tagged(x, tag)) : "memory");
}

__device__ __forceinline__ void publish4(float *to, float4 x, uint32_t tag) {
    asm volatile("st.relaxed.gpu.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(tagged(x.x, tag)),
                 "f"(tagged(x.y, tag)), "f"(tagged(x.z, tag)), "f"(tagged(x.w, tag))
                 : "memory");
}

__device__ __forceinline__ float4 ask4(const float *from) {
    float4 x;
    asm volatile("ld.relaxed.gpu.global.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
                 : "l"(from)
                 : "memory");
    return x;
}

__device__ __forceinline__ float2 ask2(const float *from) {
    float2 x;
    asm volatile("ld.relaxed.gpu.global.v2.f32 {%0, %1}, [%2];" : "=f"(x.x), "=f"(x.y) : "l"(from) : "memory");
    return x;
}

__device__ __forceinline__ float ask(const float *from) {
    float x;
    asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];" : "=f"(x) : "l"(from) : "memory");
    return x;
}

/* Which of the tag's bits are wrong. */
__device__ __forceinline__ uint32_t wrong(float x, uint32_t tag) {
    return (__float_as_uint(x) ^ tag) & 3;
}

/* By a whole warp, behind a go of asking: whether one of its lanes must ask again. Lanes that leave such a loop one by
 * one are not together behind it, where every shuffle then takes hundreds of clocks until they are. */
__device__ __forceinline__ bool warp_misses(uint32_t missing) {
    return __any_sync(0xffffffffu, missing);
}

/* Four numbers as f16, written and read as one: of the first two the last bits are the tag. */
__device__ __forceinline__ uint32_t narrow_tag(uint32_t tag) {
    return (tag & 1) | (tag & 2) << 15;
}

__device__ __forceinline__ void publish_narrow(uint2 *to, uint2 words, uint32_t tag) {
    words.x = (words.x & ~0x10001u) | narrow_tag(tag);
    asm volatile("{\n"
                 ".reg .b64 all;\n"
                 "mov.b64 all, {%1, %2};\n"
                 "st.relaxed.gpu.global.b64 [%0], all;\n"
                 "}\n" ::"l"(to),
                 "r"(words.x), "r"(words.y)
                 : "memory");
}

__device__ __forceinline__ uint2 ask_narrow(const uint2 *from) {
    uint2 words;
    asm volatile("{\n"
                 ".reg .b64 all;\n"
                 "ld.relaxed.gpu.global.b64 all, [%2];\n"
                 "mov.b64 {%0, %1}, all;\n"
                 "}\n"
                 : "=r"(words.x), "=r"(words.y)
                 : "l"(from)
                 : "memory");
    return words;
}

__device__ __forceinline__ uint32_t wrong_narrow(uint2 words, uint32_t tag) {
    return (words.x ^ narrow_tag(tag)) & 0x10001u;
}

__device__ __forceinline__ uint32_t narrow_pair(float x, float y) {
    __half2 pair = __floats2half2_rn(fminf(fmaxf(x, -65504.0f), 65504.0f), fminf(fmaxf(y, -65504.0f), 65504.0f));
    return *(uint32_t *)&pair;
}

/* A lane's number beside those of the next three, in every fourth of the lanes that are there. */
__device__ __forceinline__ uint2 gather_narrow(float x) {
    uint32_t pair = narrow_pair(x, __shfl_down_sync(0xffffffffu, x, 1));
    return make_uint2(pair, __shfl_down_sync(0xffffffffu, pair, 2));
}

__device__ __forceinline__ float4 widened(uint2 words) {
    words.x &= ~0x10001u;
    float2 a = __half22float2(*(const __half2 *)&words.x), b = __half22float2(*(const __half2 *)&words.y);
    return make_float4(a.x, a.y, b.x, b.y);
}

/* 16 bytes that are written and read as one: three words of somebody's, and one with a tag in its last bits. */
__device__ __forceinline__ void publish_words(uint4 *to, uint4 words) {
    asm volatile("{\n"
                 ".reg .b64 low, high;\n"
                 ".reg .b128 all;\n"
                 "mov.b64 low, {%1, %2};\n"
                 "mov.b64 high, {%3, %4};\n"
                 "mov.b128 all, {low, high};\n"
                 "st.relaxed.gpu.global.b128 [%0], all;\n"
                 "}\n" ::"l"(to),
                 "r"(words.x), "r"(words.y), "r"(words.z), "r"(words.w)
                 : "memory");
}

__device__ __forceinline__ uint4 ask_words(const uint4 *from) {
    uint4 words;
    asm volatile("{\n"
                 ".reg .b64 low, high;\n"
                 ".reg .b128 all;\n"
                 "ld.relaxed.gpu.global.b128 all, [%4];\n"
                 "mov.b128 {low, high}, all;\n"
                 "mov.b64 {%0, %1}, low;\n"
                 "mov.b64 {%2, %3}, high;\n"
                 "}\n"
                 : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                 : "l"(from)
                 : "memory");
    return words;
}

/* For one number of those that a warp is about to ask for, the same in all lanes: that is what it waits with. All
 * numbers asked for again and again by all multiprocessors keep each other and those that write them waiting. Where
 * weights are on their way all the time, as those of 16 bits are, it makes no difference. */
__device__ __forceinline__ void await(const float *from, uint32_t tag, bool wanted) {
    while (wanted && wrong(ask(from), tag)) {}
}

__device__ __forceinline__ uint32_t wrong4(float4 x, uint32_t tag) {
    return wrong(x.x, tag) | wrong(x.y, tag) | wrong(x.z, tag) | wrong(x.w, tag);
}

__device__ __forceinline__ float4 cleared4(float4 x) {
    return make_float4(cleared(x.x), cleared(x.y), cleared(x.z), cleared(x.w));
}

#endif
