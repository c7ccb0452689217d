/* device/cuda/kernels/matrix.cuh - weights times many rows, on tensor cores.
 *
 * A block computes a tile of rows by a tile of the weight's rows. Both lie in shared memory as 16-bit numbers, 64
 * columns at a time, in stages: while one is multiplied (mma.sync m16n8k16, sums in f32), the next are on their way.
 * BF16 weights are multiplied as they are, and MXFP4's are bf16 numbers, too; all others become f16, quantised ones on
 * their way into shared memory, and meet activations rounded to f16: 11 bits, where a decoded weight has no more than
 * that to lose. Pieces of 16 bytes are stored with their place in a row of 128 bytes xored with the row's number, so
 * that ldmatrix meets no bank twice. May include: types.cuh, common.cuh.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_MATRIX_CUH
#define SPI_DEVICE_CUDA_KERNELS_MATRIX_CUH

#include "device/cuda/kernels/common.cuh"
#include "device/cuda/kernels/types.cuh"

#define STEP 64 /* columns at a time */

__device__ __forceinline__ uint32_t swizzled(uint32_t row, uint32_t piece) {
    return row * 128 + ((piece ^ row % 8) * 16);
}

__device__ __forceinline__ uint32_t shared_address(const void *shared) {
    return (uint32_t)__cvta_generic_to_shared(shared);
}

__device__ __forceinline__ void copy_async(uint32_t to, const void *from, bool real) {
    uint32_t bytes = real ? 16 : 0; /* the rest is filled with zeros */
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

__device__ __forceinline__ void load_four(uint32_t *fragment, uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                 : "r"(address)
                 : "memory");
}

template <bool brain>
__device__ __forceinline__ void multiply_add(float *sum, const uint32_t *a, uint32_t b0, uint32_t b1) {
    if (brain) {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    } else {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                     "{%0, %1, %2, %3};"
                     : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
}

__device__ __forceinline__ uint32_t half_pair(float a, float b) {
    __half2 pair = __floats2half2_rn(a, b);
    return *(uint32_t *)&pair;
}

__device__ __forceinline__ uint32_t brain_pair(float a, float b) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
    return *(uint32_t *)&pair;
}

/* Numbers beyond f16's become its largest. */
__device__ __forceinline__ uint32_t clamped_pair(float a, float b) {
    const float most = 65504;
    return half_pair(fminf(fmaxf(a, -most), most), fminf(fmaxf(b, -most), most));
}

/* One step's piece of the weight's tile: 64 columns of `rows` rows. Plain types are copied as they are; quantised ones
 * are fetched before a step is multiplied, and unpacked behind it. */
template <int type, int rows, int threads> struct weight_step {
    static constexpr int count = (rows * 2 + threads - 1) / threads;
    codes32 held[count];

    __device__ __forceinline__ void fetch(const spi_cu_matrix &weight, uint32_t first, uint32_t step, uint8_t *) {
#pragma unroll
        for (int k = 0; k < count; k++) {
            uint32_t i = threadIdx.x + k * threads, at = min(first + i / 2, weight.rows - 1);
            if (i < rows * 2) {
                held[k] = unpacked<type>::at((const uint8_t *)weight.data + (uint64_t)at * weight.stride,
                                             weight.plane_bytes, step * 2 + i % 2);
            }
        }
    }

    __device__ __forceinline__ void put(uint8_t *tile) {
#pragma unroll
        for (int n = 0; n < count; n++) {
            uint32_t i = threadIdx.x + n * threads;
            const codes32 &c = held[n];
            if (i >= rows * 2) {
                return;
            }
#pragma unroll
            for (int piece = 0; piece < 4; piece++) {
                float scale = c.scale[piece / 2], minimum = c.minimum[piece / 2];
                uint4 out;
                uint32_t *words = (uint32_t *)&out;
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    uint32_t code = c.codes[piece * 2 + k / 2];
                    float a = scale * signed_byte(code, k % 2 * 2) - minimum;
                    float b = scale * signed_byte(code, k % 2 * 2 + 1) - minimum;
                    words[k] = type == SP_MXFP4 ? brain_pair(a, b) : half_pair(a, b);
                }
                *(uint4 *)(tile + swizzled(i / 2, i % 2 * 4 + piece)) = out;
            }
        }
    }
};

template <int rows, int threads> struct copied_step {
    __device__ __forceinline__ void fetch(const spi_cu_matrix &weight, uint32_t first, uint32_t step, uint8_t *tile) {
#pragma unroll
        for (uint32_t i = threadIdx.x; i < rows * 8; i += threads) {
            uint32_t row = i / 8, piece = i % 8, at = min(first + row, weight.rows - 1);
            const uint8_t *from = (const uint8_t *)weight.data + (uint64_t)at * weight.stride + step * 128 + piece * 16;
            copy_async(shared_address(tile) + swizzled(row, piece), from, true);
        }
    }
    __device__ __forceinline__ void put(uint8_t *) {
    }
};
template <int rows, int threads> struct weight_step<SP_BF16, rows, threads> : copied_step<rows, threads> {};
template <int rows, int threads> struct weight_step<SP_F16, rows, threads> : copied_step<rows, threads> {};

template <int rows, int threads>
__device__ __forceinline__ void fill_acts(const spi_cu_product &args, uint32_t first, uint32_t step, uint8_t *tile) {
#pragma unroll
    for (uint32_t i = threadIdx.x; i < rows * 8; i += threads) {
        uint32_t row = i / 8, piece = i % 8;
        bool real = first + row < args.row_count;
        uint32_t at = real ? first + row : 0;
        const uint8_t *from =
            (const uint8_t *)args.packed + ((uint64_t)at * args.x_stride + step * STEP) * 2 + piece * 16;
        copy_async(shared_address(tile) + swizzled(row, piece), from, real);
    }
}

__device__ __forceinline__ float capped(float value, float scale, float cap) {
    value *= scale;
    return cap != 0 ? cap * tanhf(value / cap) : value;
}

__device__ __forceinline__ void put_sum(const spi_cu_product &args, uint32_t row, uint32_t out, float sum) {
    if (row >= args.row_count || out >= args.weight.rows) {
        return;
    }
    sum += args.bias ? args.bias[out] : 0;
    if (args.y) {
        float *y = args.y + (uint64_t)row * args.y_stride + out;
        *y = args.accumulate ? *y + sum : sum;
    } else {
        ((float *)args.outs[row].logits)[out] = capped(sum, args.scale, args.softcap);
    }
}

/* Tile of rows x outs by row_warps x out_warps warps. */
template <int type, int rows, int outs, int row_warps, int out_warps, int stages>
__device__ __forceinline__ void multiply_tiles(const spi_cu_product &args) {
    constexpr int threads = row_warps * out_warps * 32, warp_rows = rows / row_warps, warp_outs = outs / out_warps;
    constexpr int a_count = warp_rows / 16, b_count = warp_outs / 16, stage_bytes = (rows + outs) * 128;
    constexpr int pitch = outs + 4; /* of the sums, when they are put down */
    constexpr bool brain = type == SP_BF16 || type == SP_MXFP4;
    static_assert(rows * pitch * 4 <= stages * stage_bytes, "the sums fit where the factors were");
    __shared__ __align__(128) uint8_t memory[stages * stage_bytes];
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    uint32_t row_first = blockIdx.x * rows, out_first = blockIdx.y * outs;
    uint32_t warp_row = warp / out_warps * warp_rows, warp_out = warp % out_warps * warp_outs;
    float sums[a_count][b_count * 2][4] = {};
    uint32_t steps = (args.weight.cols + STEP - 1) / STEP;
    weight_step<type, outs, threads> next;
    auto fetch = [&](uint32_t step) {
        if (step < steps) {
            uint8_t *stage = memory + step % stages * stage_bytes;
            fill_acts<rows, threads>(args, row_first, step, stage);
            next.fetch(args.weight, out_first, step, stage + rows * 128);
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    };
    auto put = [&](uint32_t step) {
        if (step < steps) {
            next.put(memory + step % stages * stage_bytes + rows * 128);
        }
    };
    for (uint32_t step = 0; step + 1 < stages; step++) {
        fetch(step);
        put(step);
    }
    for (uint32_t step = 0; step < steps; step++) {
        asm volatile("cp.async.wait_group %0;" ::"n"(stages - 2) : "memory");
        __syncthreads();
        fetch(step + stages - 1);
        uint32_t a_base = shared_address(memory + step % stages * stage_bytes), b_base = a_base + rows * 128;
#pragma unroll
        for (int k = 0; k < STEP / 16; k++) {
            uint32_t a[a_count][4];
#pragma unroll
            for (int i = 0; i < a_count; i++) {
                uint32_t row = warp_row + i * 16 + lane % 16;
                load_four(a[i], a_base + swizzled(row, k * 2 + lane / 16));
            }
#pragma unroll
            for (int j = 0; j < b_count; j++) {
                uint32_t b[4], row = warp_out + j * 16 + lane % 8 + lane / 16 * 8;
                load_four(b, b_base + swizzled(row, k * 2 + lane / 8 % 2));
#pragma unroll
                for (int i = 0; i < a_count; i++) {
                    multiply_add<brain>(sums[i][2 * j], a[i], b[0], b[1]);
                    multiply_add<brain>(sums[i][2 * j + 1], a[i], b[2], b[3]);
                }
            }
        }
        put(step + stages - 1);
    }
    __syncthreads();
    float *tile = (float *)memory; /* so that rows are written in one piece: over the bus small pieces are slow */
#pragma unroll
    for (int i = 0; i < a_count; i++) {
#pragma unroll
        for (int j = 0; j < b_count * 2; j++) {
            float *to = tile + (warp_row + i * 16 + lane / 4) * pitch + warp_out + j * 8 + lane % 4 * 2;
            *(float2 *)to = make_float2(sums[i][j][0], sums[i][j][1]);
            *(float2 *)(to + 8 * pitch) = make_float2(sums[i][j][2], sums[i][j][3]);
        }
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < rows * outs; i += threads) {
        put_sum(args, row_first + i / outs, out_first + i % outs, tile[i / outs * pitch + i % outs]);
    }
}

#endif
