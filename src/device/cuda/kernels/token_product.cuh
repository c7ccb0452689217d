/* device/cuda/kernels/token_product.cuh - a phase of products, for the kernel that computes a token in one launch.
 *
 * All warps of a block put the phase's input vector into shared memory; then each takes whole tiles of the ring, by itself:
 * it multiplies up to four rows at once, adds over its lanes, and the lanes that hold a sum see to what becomes of it. So
 * nothing is exchanged between warps, and none waits for another before the phase's end.
 * May include: ring.cuh, vector.cuh.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_TOKEN_PRODUCT_CUH
#define SPI_DEVICE_CUDA_KERNELS_TOKEN_PRODUCT_CUH

#include "device/cuda/kernels/ring.cuh"
#include "device/cuda/kernels/vector.cuh"

#define ROWS SPI_CU_ROWS_AT_ONCE

#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ void all_sync() { /* of the warps that multiply */
    asm volatile("bar.sync 1, %0;" ::"n"(THREADS) : "memory");
}

/* The ring as the warps that multiply see it. */
struct ring_reader {
    ring_state *state;
    const uint8_t *bytes;
    uint32_t tile; /* the phase's first, counted from the token's beginning */
};

/* Sums of `rows` values over the warp's lanes: of row i in lanes with bits 4 and 3 equal to i where there are four, bit
 * 4 where there are two. */
template <int rows> __device__ __forceinline__ float fold(float *v, uint32_t lane) {
    float sum = v[0];
    if (rows == 4) {
        bool high = lane & 16, middle = lane & 8;
        float a = (high ? v[2] : v[0]) + __shfl_xor_sync(0xffffffffu, high ? v[0] : v[2], 16);
        float b = (high ? v[3] : v[1]) + __shfl_xor_sync(0xffffffffu, high ? v[1] : v[3], 16);
        sum = (middle ? b : a) + __shfl_xor_sync(0xffffffffu, middle ? a : b, 8);
    } else if (rows == 2) {
        bool high = lane & 16;
        sum = (high ? v[1] : v[0]) + __shfl_xor_sync(0xffffffffu, high ? v[0] : v[1], 16);
        sum += __shfl_xor_sync(0xffffffffu, sum, 8);
    } else {
        sum += __shfl_xor_sync(0xffffffffu, sum, 16);
        sum += __shfl_xor_sync(0xffffffffu, sum, 8);
    }
    sum += __shfl_xor_sync(0xffffffffu, sum, 4);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    return sum + __shfl_xor_sync(0xffffffffu, sum, 1);
}

/* What a warp needs of a phase, out of shared memory once. */
struct product_shape {
    uint32_t stride, chunk_count, planes[SPI_CU_PLANES], unit_rows, output;

    __device__ __forceinline__ product_shape(const spi_cu_phase &phase, uint32_t chunk_elements)
        : stride(phase.stride), chunk_count(phase.groups * 32 / chunk_elements), unit_rows(phase.unit_rows),
          output(phase.output) {
#pragma unroll
        for (uint32_t i = 0; i < SPI_CU_PLANES; i++) {
            planes[i] = phase.plane_bytes[i];
        }
    }
};

/* Sums of `count` units' rows, of which the last stands in for those that are missing. */
template <int type, int rows>
__device__ __forceinline__ float multiply_rows(const product_shape &shape, const shared_vector &vector,
                                               const uint8_t *tile, uint32_t other, uint32_t count, uint32_t lane) {
    const uint8_t *row[rows];
    float sums[rows];
#pragma unroll
    for (int i = 0; i < rows; i++) {
        uint32_t index = shape.unit_rows == 2 ? (uint32_t)i % (rows / 2 + rows % 2) : min((uint32_t)i, count - 1);
        row[i] = tile + index * shape.stride + (shape.unit_rows == 2 && i >= rows / 2 ? other : 0);
        sums[i] = 0;
    }
#pragma unroll(chunks <type>::elements == 8 ? 2 : 1)
    for (uint32_t chunk = lane; chunk < shape.chunk_count; chunk += 32) {
        typename chunks<type>::taken x = chunks<type>::take(vector, chunk);
#pragma unroll
        for (int i = 0; i < rows; i++) {
            sums[i] += chunks<type>::dot(row[i], shape.planes, chunk, x);
        }
    }
    return fold<rows>(sums, lane);
}

__device__ __forceinline__ float capped(float value, float scale, float cap) {
    value *= scale;
    return cap != 0 ? cap * tanhf(value / cap) : value;
}

__device__ __forceinline__ float activated(float x, bool silu) {
    float u = silu ? x : 1.5957691216057308f * (x + 0.044715f * x * x * x);
    return x / (1 + __expf(-u));
}

/* A unit's sums go where they belong. */
__device__ __forceinline__ void finish(const spi_cu_token &token, const spi_cu_phase &phase, uint32_t output, float sum,
                                       float second, uint32_t unit, float before) {
    if (output == SPI_CU_OUTPUT_GATE) {
        const spi_cu_part &gate = phase.parts[0], &up = phase.parts[1];
        sum += gate.bias ? __ldg((const float *)gate.bias + unit) : 0;
        second += up.bias ? __ldg((const float *)up.bias + unit) : 0;
        ((float *)gate.dst)[unit] = activated(sum, phase.silu) * second;
        return;
    }
    uint32_t part = 0;
    while (part + 1 < phase.part_count && unit >= phase.parts[part].rows) {
        unit -= phase.parts[part++].rows;
    }
    sum += phase.parts[part].bias ? __ldg((const float *)phase.parts[part].bias + unit) : 0;
    if (output == SPI_CU_OUTPUT_LOGITS) {
        ((float *)token.logits)[unit] = capped(sum, phase.scale, phase.softcap);
    } else {
        ((float *)phase.parts[part].dst)[unit] = sum + before;
    }
}

/* Some units of a tile: one row each, or one here and one of the other part so many bytes further on. */
template <int type>
__device__ __forceinline__ void multiply_units(const spi_cu_token &token, const spi_cu_phase &phase,
                                               const product_shape &shape, const shared_vector &vector,
                                               const uint8_t *at, uint32_t other, uint32_t unit, uint32_t count,
                                               float factor, uint32_t lane) {
    uint32_t rows = count * shape.unit_rows, index = rows > 2 ? lane / 8 : rows == 2 ? lane / 16 : 0;
    bool finishes = lane % (rows > 2 ? 8 : rows == 2 ? 16 : 32) == 0 && index < count;
    float before = 0, sum; /* the residual */
    if (shape.output == SPI_CU_OUTPUT_ADD && finishes) {
        before = __ldcg((const float *)phase.parts[0].dst + unit + index);
    }
    if (rows > 2) {
        sum = multiply_rows<type, 4>(shape, vector, at, other, count, lane);
    } else if (rows == 2) {
        sum = multiply_rows<type, 2>(shape, vector, at, other, count, lane);
    } else {
        sum = multiply_rows<type, 1>(shape, vector, at, other, count, lane);
    }
    sum *= factor;
    float second = __shfl_xor_sync(0xffffffffu, sum, 16); /* of a gate: the other part's same row */
    if (finishes) {
        finish(token, phase, shape.output, sum, second, unit + index, before);
    }
}

/* The block's tiles of a phase. `squares` has the warps' sums of squares of the input, where that is normalised. */
template <int type>
__device__ __forceinline__ void multiply(const spi_cu_token &token, const spi_cu_phase &phase, const float *squares,
                                         const shared_vector &vector, ring_reader &ring) {
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const share mine(phase);
    const product_shape shape(phase, chunks<type>::elements);
    float factor = 1;
    uint32_t at_once = ROWS / shape.unit_rows;
    if (phase.normed) {
        factor = rsqrtf(warp_sum(lane < WARPS ? squares[lane] : 0) / phase.cols + phase.eps);
    }
    for (uint32_t t = (warp - ring.tile) % WARPS; t < mine.tiles; t += WARPS) {
        uint32_t unit = mine.first + t * mine.step, count = min(mine.step, mine.end - unit);
        uint32_t tile = ring.tile + t, i = tile % RING_TILES;
        barrier_wait(&ring.state->full[i], tile / RING_TILES & 1);
        const uint8_t *at = ring.bytes + ring.state->begins[i];
        for (uint32_t done = 0; done < count; done += at_once) {
            multiply_units<type>(token, phase, shape, vector, at + done * shape.stride, count * shape.stride,
                                 unit + done, min(at_once, count - done), factor, lane);
        }
        __syncwarp();
        if (lane == 0) {
            barrier_arrive(&ring.state->empty[i]);
        }
    }
    ring.tile += mine.tiles;
}

/* The input vector of a phase. Returns this thread's part of the sum of squares. */
template <bool quantised>
__device__ __forceinline__ float fill_vector(const spi_cu_phase &phase, const shared_vector &vector) {
    float squares = 0;
    uint32_t count = phase.groups * 8, real = phase.cols / 4;
    bool normed = phase.input == SPI_CU_INPUT_NORM;
    const float4 *from = (const float4 *)phase.src, *norm = (const float4 *)phase.norm_weight;
    for (uint32_t first = threadIdx.x; first < count;
         first += 4 * THREADS) { /* all that is asked for is on its way at once */
        float4 x[4], w[4];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            uint32_t i = first + k * THREADS;
            x[k] = w[k] = make_float4(0, 0, 0, 0);
            if (i < real) {
                x[k] = __ldcg(from + i);
                if (normed) {
                    w[k] = __ldg(norm + i);
                }
            }
        }
#pragma unroll
        for (int k = 0; k < 4; k++) {
            uint32_t i = first + k * THREADS;
            if (i < count) { /* whole warps: groups are padded to 8 */
                if (normed) {
                    squares += x[k].x * x[k].x + x[k].y * x[k].y + x[k].z * x[k].z + x[k].w * x[k].w;
                    x[k] = make_float4(x[k].x * w[k].x, x[k].y * w[k].y, x[k].z * w[k].z, x[k].w * w[k].w);
                }
                put4(vector, quantised, i, x[k]);
            }
        }
    }
    return squares;
}

__device__ __forceinline__ uint64_t time_ns() {
    uint64_t now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}

/* For measuring: where all blocks stand in one of the phases. */
__device__ __forceinline__ void mark_block(const spi_cu_token &token, uint32_t phase, uint32_t index) {
    if (token.clocks && phase == token.marked && threadIdx.x == 0) {
        token.clocks[3 * token.phase_count + 1 + 2 * blockIdx.x + index] = (long long)time_ns();
    }
}

/* For measuring: when the first block began and ended. */
__device__ __forceinline__ void mark_time(const spi_cu_token &token, uint32_t index) {
    if (token.clocks && blockIdx.x == 0 && threadIdx.x == 0) {
        token.clocks[3 * token.phase_count + 1 + 2 * gridDim.x + index] = (long long)time_ns();
    }
}

/* For measuring: when the first block's first thread got somewhere. */
__device__ __forceinline__ void mark(const spi_cu_token &token, uint32_t index) {
    if (token.clocks && blockIdx.x == 0 && threadIdx.x == 0) {
        token.clocks[index] = clock64();
    }
}

template <int type>
__device__ __forceinline__ void product(const spi_cu_token &token, const spi_cu_phase &phase, float *squares,
                                        uint8_t *room, ring_reader &ring, uint32_t mark_index) {
    constexpr bool quantised = is_quantised(type);
    shared_vector vector = make_vector(room, phase.groups * 32, quantised);
    if (phase.input != SPI_CU_INPUT_SAME) {
        float sum = warp_sum(fill_vector<quantised>(phase, vector));
        if (threadIdx.x % 32 == 0) {
            squares[threadIdx.x / 32] = sum;
        }
        all_sync();
    }
    mark(token, mark_index);
    multiply<type>(token, phase, squares, vector, ring);
}
#endif

#endif
