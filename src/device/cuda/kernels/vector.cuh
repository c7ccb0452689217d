/* device/cuda/kernels/vector.cuh - a token's input vector in shared memory, and rows of weights times it.
 *
 * For plain types the vector is f32; for quantised ones it is rounded to 8 bits by blocks of 32 with the scale
 * max / 127, once, as the CPU backend does. It is stored in two halves, even and odd pieces of 16 bytes, half a row of
 * shared memory's banks apart, so that lanes which read neighbouring pairs of pieces do not meet in a bank.
 *
 * A lane takes 16 bytes of a row's first plane at a time (a chunk) and the part of the vector that belongs to it; the
 * latter serves several rows. May include: types.cuh.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_VECTOR_CUH
#define SPI_DEVICE_CUDA_KERNELS_VECTOR_CUH

#include "device/cuda/kernels/common.cuh"
#include "device/cuda/kernels/types.cuh"

struct shared_vector {
    uint4 *pieces; /* of 4 floats or 16 bytes */
    float *scales; /* of blocks of 32: quantised only */
    int *sums;     /* of each half block's rounded elements */
    uint32_t half; /* where the odd pieces begin */

    __device__ __forceinline__ uint4 *piece(uint32_t index) const {
        return pieces + (index & 1) * half + index / 2;
    }
};

/* Shared memory starts at `room`; `cols` is a multiple of 256. */
__device__ __forceinline__ shared_vector make_vector(uint8_t *room, uint32_t cols, bool quantised) {
    shared_vector v;
    v.pieces = (uint4 *)room;
    v.half = (quantised ? cols / 32 : cols / 8) + 4;
    v.scales = (float *)(v.pieces + 2 * v.half);
    v.sums = (int *)(v.scales + cols / 32);
    return v;
}

/* Of a number that is not negative; of one that is nearly nothing nothing. */
__device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return x > 1e-35f ? y : 0;
}

/* Elements 4 * index .. + 3; for quantised types eight neighbouring lanes hold a block. */
__device__ __forceinline__ void put4(const shared_vector &v, bool quantised, uint32_t index, float4 x) {
    if (!quantised) {
        *(float4 *)v.piece(index) = x;
        return;
    }
    float largest = fmaxf(fmaxf(fabsf(x.x), fabsf(x.y)), fmaxf(fabsf(x.z), fabsf(x.w)));
#pragma unroll
    for (int offset = 1; offset < 8; offset <<= 1) {
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, offset));
    }
    float inverse = 127 * reciprocal(largest);
    int a = __float2int_rn(x.x * inverse), b = __float2int_rn(x.y * inverse), c = __float2int_rn(x.z * inverse),
        d = __float2int_rn(x.w * inverse), sum = a + b + c + d;
#pragma unroll
    for (int offset = 1; offset < 4; offset <<= 1) {
        sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    }
    ((uint32_t *)v.piece(index / 4))[index % 4] = (a & 255) | (b & 255) << 8 | (c & 255) << 16 | (uint32_t)d << 24;
    if (index % 8 == 0) {
        v.scales[index / 8] = largest * (1 / 127.0f);
    }
    if (index % 4 == 0) {
        v.sums[index / 4] = sum;
    }
}

__device__ __forceinline__ int dot16(uint4 a, uint4 b, int sum) {
    sum = __dp4a((int)a.x, (int)b.x, sum);
    sum = __dp4a((int)a.y, (int)b.y, sum);
    sum = __dp4a((int)a.z, (int)b.z, sum);
    return __dp4a((int)a.w, (int)b.w, sum);
}

/* Codes that are bytes without a sign. */
__device__ __forceinline__ int dot4_unsigned(uint32_t codes, uint32_t x, int sum) {
    asm("dp4a.u32.s32 %0, %1, %2, %0;" : "+r"(sum) : "r"(codes), "r"(x));
    return sum;
}

/* Of nibbles: of the low ones, and 16 times that of the high ones, which saves shifting them. */
__device__ __forceinline__ int dot16_low(uint4 u, uint4 x, int sum) {
    const uint32_t mask = 0x0f0f0f0f;
    return dot16({u.x & mask, u.y & mask, u.z & mask, u.w & mask}, x, sum);
}

__device__ __forceinline__ int dot16_high(uint4 u, uint4 x, int sum) {
    const uint32_t mask = 0xf0f0f0f0;
    sum = dot4_unsigned(u.x & mask, x.x, sum);
    sum = dot4_unsigned(u.y & mask, x.y, sum);
    sum = dot4_unsigned(u.z & mask, x.z, sum);
    return dot4_unsigned(u.w & mask, x.w, sum);
}

/* How many elements a chunk has; take: the vector's part of it; dot: that and a row's chunk. */
template <int type> struct chunks {
    static constexpr uint32_t elements = 32;
    struct taken {
        uint4 low, high;
        float scale;
        int2 sums;
        __device__ __forceinline__ void clear() {
            scale = 0;
        }
    };
    static __device__ __forceinline__ taken take(const shared_vector &v, uint32_t chunk) {
        return {v.pieces[chunk], v.pieces[v.half + chunk], v.scales[chunk], ((const int2 *)v.sums)[chunk]};
    }
    static __device__ __forceinline__ float dot(const uint8_t *row, const uint32_t *planes, uint32_t chunk,
                                                const taken &x) {
        codes32 c = unpacked<type>::at(row, planes, chunk);
        uint4 low = {c.codes[0], c.codes[1], c.codes[2], c.codes[3]},
              high = {c.codes[4], c.codes[5], c.codes[6], c.codes[7]};
        float sum = c.scale[0] * (float)dot16(low, x.low, 0) + c.scale[1] * (float)dot16(high, x.high, 0);
        return x.scale * (sum - (c.minimum[0] * (float)x.sums.x + c.minimum[1] * (float)x.sums.y));
    }
};

struct float_chunk {
    float4 a, b;
    __device__ __forceinline__ void clear() {
        a = b = make_float4(0, 0, 0, 0);
    }
};

template <> struct chunks<SP_BF16> {
    static constexpr uint32_t elements = 8;
    typedef float_chunk taken;
    static __device__ __forceinline__ taken take(const shared_vector &v, uint32_t chunk) {
        return {*(const float4 *)(v.pieces + chunk), *(const float4 *)(v.pieces + v.half + chunk)};
    }
    static __device__ __forceinline__ float dot(const uint8_t *row, const uint32_t *, uint32_t chunk, const taken &x) {
        uint4 u = ((const uint4 *)row)[chunk];
        float even = bf16_low(u.x) * x.a.x, odd = bf16_high(u.x) * x.a.y;
        even += bf16_low(u.y) * x.a.z, odd += bf16_high(u.y) * x.a.w;
        even += bf16_low(u.z) * x.b.x, odd += bf16_high(u.z) * x.b.y;
        even += bf16_low(u.w) * x.b.z, odd += bf16_high(u.w) * x.b.w;
        return even + odd;
    }
};

template <> struct chunks<SP_F16> {
    static constexpr uint32_t elements = 8;
    typedef float_chunk taken;
    static __device__ __forceinline__ taken take(const shared_vector &v, uint32_t chunk) {
        return chunks<SP_BF16>::take(v, chunk);
    }
    static __device__ __forceinline__ float dot(const uint8_t *row, const uint32_t *, uint32_t chunk, const taken &x) {
        uint4 u = ((const uint4 *)row)[chunk];
        const __half2 *h = (const __half2 *)&u;
        float2 p = __half22float2(h[0]), q = __half22float2(h[1]), r = __half22float2(h[2]), s = __half22float2(h[3]);
        return (p.x * x.a.x + q.x * x.a.z + r.x * x.b.x + s.x * x.b.z) +
               (p.y * x.a.y + q.y * x.a.w + r.y * x.b.y + s.y * x.b.w);
    }
};

template <> struct chunks<SP_Q8_0> {
    static constexpr uint32_t elements = 16;
    struct taken {
        uint4 x;
        float scale;
        __device__ __forceinline__ void clear() {
            scale = 0;
        }
    };
    static __device__ __forceinline__ taken take(const shared_vector &v, uint32_t chunk) {
        return {*v.piece(chunk), v.scales[chunk / 2]};
    }
    static __device__ __forceinline__ float dot(const uint8_t *row, const uint32_t *planes, uint32_t chunk,
                                                const taken &x) {
        uint4 u = ((const uint4 *)row)[chunk];
        float scale = half_at(row + planes[1] + chunk / 2 * 2);
        return (float)dot16(u, x.x, 0) * (scale * x.scale);
    }
};

template <> struct chunks<SP_Q4_0> {
    static constexpr uint32_t elements = 32;
    struct taken {
        uint4 low, high;
        float scale;
        int offset; /* of the 8 that is subtracted from each value */
        __device__ __forceinline__ void clear() {
            scale = 0;
        }
    };
    static __device__ __forceinline__ taken take(const shared_vector &v, uint32_t chunk) {
        return {v.pieces[chunk], v.pieces[v.half + chunk], v.scales[chunk],
                -8 * (v.sums[2 * chunk] + v.sums[2 * chunk + 1])};
    }
    static __device__ __forceinline__ float dot(const uint8_t *row, const uint32_t *planes, uint32_t chunk,
                                                const taken &x) {
        uint4 u = ((const uint4 *)row)[chunk];
        float scale = half_at(row + planes[1] + chunk * 2);
        int sum = dot16_low(u, x.low, x.offset) + (dot16_high(u, x.high, 0) >> 4);
        return (float)sum * (scale * x.scale);
    }
};

/* 64 elements: the nibbles of 32 bytes, low ones first. Every four lanes read the two halves the other way round, so
 * that they do not meet in a bank. */
template <> struct chunks<SP_Q4_K> {
    static constexpr uint32_t elements = 64;
    struct taken {
        uint4 low[2], high[2]; /* of the half that is read first, and of the other */
        float scale[2], sum[2];
        __device__ __forceinline__ void clear() {
            scale[0] = scale[1] = sum[0] = sum[1] = 0;
        }
    };
    static __device__ __forceinline__ uint32_t first_half(uint32_t chunk) {
        return chunk >> 2 & 1;
    }
    static __device__ __forceinline__ taken take(const shared_vector &v, uint32_t chunk) {
        const uint4 *first = v.pieces + first_half(chunk) * v.half + 2 * chunk,
                    *other = v.pieces + (1 - first_half(chunk)) * v.half + 2 * chunk;
        const float2 scales = ((const float2 *)v.scales)[chunk];
        const int4 sums = ((const int4 *)v.sums)[chunk];
        return {{first[0], other[0]},
                {first[1], other[1]},
                {scales.x, scales.y},
                {scales.x * (float)(sums.x + sums.y), scales.y * (float)(sums.z + sums.w)}};
    }
    static __device__ __forceinline__ float dot(const uint8_t *row, const uint32_t *planes, uint32_t chunk,
                                                const taken &x) {
        const uint4 *at = (const uint4 *)row + 2 * chunk, head = *(const uint4 *)(row + planes[1] + chunk / 4 * 16);
        const uint4 a = at[first_half(chunk)], b = at[1 - first_half(chunk)];
        int low = dot16_low(a, x.low[0], 0) + dot16_low(b, x.low[1], 0);
        int high = (dot16_high(a, x.high[0], 0) + dot16_high(b, x.high[1], 0)) >> 4;
        /* Two scales and two minima of 6 bits each: types.cuh has them one by one. */
        const uint32_t shift = chunk % 2 * 16, y = head.y >> shift, z = head.z >> shift, w = head.w >> shift;
        const bool early = chunk % 4 < 2;
        const uint32_t scales = early ? y & 0x3f3fu : (w & 0x0f0fu) | (y >> 2 & 0x3030u);
        const uint32_t minima = early ? z & 0x3f3fu : (w >> 4 & 0x0f0fu) | (z >> 2 & 0x3030u);
        const float2 both = __half22float2(*(const __half2 *)&head.x);
        float sum =
            (float)(low * (int)(scales & 255u)) * x.scale[0] + (float)(high * (int)(scales >> 8 & 255u)) * x.scale[1];
        float less = (float)(minima & 255u) * x.sum[0] + (float)(minima >> 8 & 255u) * x.sum[1];
        return both.x * sum - both.y * less;
    }
};

#endif
