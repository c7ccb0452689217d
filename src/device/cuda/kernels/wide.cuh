/* device/cuda/kernels/wide.cuh - weights times many rows on compute capability 9.0.
 *
 * A block computes 128 rows of the weights by `rows` rows of activations. Both lie in shared memory as 16-bit numbers, 64
 * columns at a time, in stages; two groups of four warps multiply 64 rows of weights each, and one thread has the card
 * fetch what lies in memory as it is multiplied. BF16 weights are multiplied as
 * they are, and MXFP4's are bf16 numbers, too; all others become f16, quantised ones on their way into shared memory while
 * the step before is multiplied, and meet activations rounded to f16: 11 bits, where a decoded weight has no more to lose.
 *
 * Where there are too few tiles to keep the card busy, blocks of a cluster share a tile's columns; each then adds the sums
 * of all for a part of the tile, out of the others' shared memory and always in the same order.
 * May include: matrix.cuh, hopper.cuh, wide_args.h.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_WIDE_CUH
#define SPI_DEVICE_CUDA_KERNELS_WIDE_CUH

#include "device/cuda/kernels/hopper.cuh"
#include "device/cuda/kernels/matrix.cuh"
#include "device/cuda/kernels/wide_args.h"

#define OUTS  SPI_CU_WIDE_OUTS
#define WIDE  256        /* threads that multiply */
#define PITCH (OUTS + 4) /* of the sums, when they are put down */

#ifdef HOPPER
/* The row of the tile's `index`th weight row; rows behind the last stand for themselves and are dropped later. */
__device__ __forceinline__ const uint8_t *weight_row(const spi_cu_wide &args, uint32_t tile, uint32_t index) {
    if (args.output == SPI_CU_OUTPUT_GATE) { /* half a tile of each part */
        uint32_t unit = min(tile * (OUTS / 2) + index % (OUTS / 2), args.unit_count - 1);
        return (const uint8_t *)args.parts[index / (OUTS / 2)].data + (uint64_t)unit * args.stride;
    }
    uint32_t unit = min(tile * OUTS + index, args.unit_count - 1);
    const spi_cu_wide_part *part = args.parts;
    while (unit >= part->rows) {
        unit -= part->rows;
        part++;
    }
    return (const uint8_t *)part->data + (uint64_t)unit * args.stride;
}

/* Plain weights are fetched by the card. */
template <int type> struct wide_weights {
    __device__ __forceinline__ wide_weights(const spi_cu_wide &, uint32_t) {
    }
    __device__ __forceinline__ void fetch(const spi_cu_wide &, uint32_t) {
    }
    __device__ __forceinline__ void put(uint8_t *) {
    }
};

/* A tile of quantised weights: a thread has half a row of 64 columns. */
template <int type> struct wide_quantised {
    const uint8_t *row;
    codes32 held;

    __device__ __forceinline__ wide_quantised(const spi_cu_wide &args, uint32_t tile)
        : row(weight_row(args, tile, threadIdx.x / 2)) {
    }
    __device__ __forceinline__ void fetch(const spi_cu_wide &args, uint32_t step) {
        held = unpacked<type>::at(row, args.plane_bytes, step * 2 + threadIdx.x % 2);
    }
    /* Bytes become f16 numbers by being the low bits of 1024 + byte; the conversion unit would take longer than the product.
     * Scales are rounded to f16, as the weights are. */
    __device__ __forceinline__ void put(uint8_t *tile) {
#pragma unroll
        for (int piece = 0; piece < 4; piece++) {
            uint4 out;
            uint32_t *words = (uint32_t *)&out;
            if (type == SP_MXFP4) {
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    uint32_t code = held.codes[piece * 2 + k / 2];
                    words[k] = brain_pair(held.scale[0] * signed_byte(code, k % 2 * 2),
                                          held.scale[0] * signed_byte(code, k % 2 * 2 + 1));
                }
            } else {
                __half2 scale = __float2half2_rn(held.scale[piece / 2]),
                        less = __float2half2_rn(-held.minimum[piece / 2]);
                const __half2 bias = __float2half2_rn(-1152);
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    uint32_t code = held.codes[piece * 2 + k / 2] ^ 0x80808080u; /* signed + 128 */
                    uint32_t pair = __byte_perm(code, 0x64646464u, k % 2 ? 0x4342 : 0x4140);
                    __half2 value = __hfma2(__hadd2(*(__half2 *)&pair, bias), scale, less);
                    words[k] = *(uint32_t *)&value;
                }
            }
            *(uint4 *)(tile + swizzled(threadIdx.x / 2, threadIdx.x % 2 * 4 + piece)) = out;
        }
    }
};
#define QUANTISED(type)                                                                                                \
    template <> struct wide_weights<type> : wide_quantised<type> { using wide_quantised<type>::wide_quantised; };
SPI_CU_QUANTISED(QUANTISED)
#undef QUANTISED

/* The fetching thread: for each step a box of activations, and of plain weights two halves of a tile. */
template <bool plain, int rows, int stages>
__device__ __forceinline__ void fetch_boxes(const spi_cu_wide &args, uint32_t base, uint32_t full, uint32_t empty,
                                            uint32_t first, uint32_t steps) {
    constexpr uint32_t stage_bytes = (OUTS + rows) * 128;
    const spi_cu_map *halves[2];
    uint32_t half_rows[2];
#pragma unroll
    for (uint32_t i = 0; plain && i < 2; i++) {
        bool gated = args.output == SPI_CU_OUTPUT_GATE;
        uint32_t unit = blockIdx.y * (gated ? OUTS / 2 : OUTS) + (gated ? 0 : i * SPI_CU_WIDE_BOX),
                 part = gated ? i : 0;
        while (!gated && part + 1 < args.part_count && unit >= args.parts[part].rows) {
            unit -= args.parts[part++].rows;
        }
        halves[i] = &args.weights[part];
        half_rows[i] = unit; /* behind the last row the card fetches zeros */
    }
    auto fetch_weights = [&](uint32_t step) {
        uint32_t slot = step % stages, stage = base + slot * stage_bytes, column = (first + step) * STEP;
        box_barrier_expect(full + slot * 8, plain ? stage_bytes : rows * 128);
        if (plain) {
            copy_box(stage, halves[0], column, half_rows[0], full + slot * 8);
            copy_box(stage + SPI_CU_WIDE_BOX * 128, halves[1], column, half_rows[1], full + slot * 8);
        }
    };
    uint32_t early = min((uint32_t)stages, steps);
    for (uint32_t step = 0; step < early; step++) { /* weights depend on nothing that runs */
        fetch_weights(step);
    }
    behind_the_last();
    for (uint32_t step = 0; step < steps; step++) {
        uint32_t slot = step % stages;
        if (step >= early) {
            box_barrier_wait(empty + slot * 8, (step / stages & 1) ^ 1);
            fetch_weights(step);
        }
        copy_box(base + slot * stage_bytes + OUTS * 128, &args.x, (first + step) * STEP, blockIdx.x * rows,
                 full + slot * 8);
    }
}

__device__ __forceinline__ float wide_activated(float x, bool silu) {
    float u = silu ? x : 1.5957691216057308f * (x + 0.044715f * x * x * x);
    return x / (1 + __expf(-u));
}

/* Four neighbouring sums of a row go where they belong. */
__device__ __forceinline__ void put_four(const spi_cu_wide &args, uint32_t row, uint32_t unit, float4 four) {
    const spi_cu_wide_part *part = args.parts;
    float sums[4] = {four.x, four.y, four.z, four.w};
    while (unit >= part->rows) {
        unit -= part->rows;
        part++;
        if (part == args.parts + args.part_count) {
            return;
        }
    }
    float *to;
    if (args.output == SPI_CU_OUTPUT_LOGITS) {
        to = (float *)((const spi_cu_out *)args.outs)[row].logits;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            sums[i] = capped(sums[i], args.scale, args.softcap);
        }
    } else {
        to = (float *)part->dst + (uint64_t)row * part->dst_stride;
    }
    bool add = args.output == SPI_CU_OUTPUT_ADD;
    const float *bias = (const float *)part->bias;
    if (unit + 4 <= part->rows && ((uintptr_t)(to + unit) & 15) == 0) {
        float4 *all = (float4 *)(to + unit);
        float4 old = add ? *all : make_float4(0, 0, 0, 0);
        if (bias) {
            old.x += bias[unit], old.y += bias[unit + 1], old.z += bias[unit + 2], old.w += bias[unit + 3];
        }
        *all = make_float4(sums[0] + old.x, sums[1] + old.y, sums[2] + old.z, sums[3] + old.w);
        return;
    }
    for (int i = 0; i < 4; i++) { /* over the edge of a part, or of the last */
        if (unit == part->rows) {
            part++;
            if (part == args.parts + args.part_count) {
                return;
            }
            unit = 0;
            if (args.output != SPI_CU_OUTPUT_LOGITS) {
                to = (float *)part->dst + (uint64_t)row * part->dst_stride;
            }
            bias = (const float *)part->bias;
        }
        to[unit] = sums[i] + (add ? to[unit] : 0) + (bias ? bias[unit] : 0);
        unit++;
    }
}

__device__ __forceinline__ void put_gated(const spi_cu_wide &args, uint32_t row, uint32_t unit, float4 gate,
                                          float4 up) {
    float g[4] = {gate.x, gate.y, gate.z, gate.w}, u[4] = {up.x, up.y, up.z, up.w}, h[4];
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t at = min(unit + i, args.unit_count - 1);
        g[i] += args.parts[0].bias ? ((const float *)args.parts[0].bias)[at] : 0;
        u[i] += args.parts[1].bias ? ((const float *)args.parts[1].bias)[at] : 0;
        h[i] = unit + i < args.unit_count ? wide_activated(g[i], args.silu) * u[i] : 0;
    }
    uint2 packed = args.brain_out ? make_uint2(brain_pair(h[0], h[1]), brain_pair(h[2], h[3]))
                                  : make_uint2(clamped_pair(h[0], h[1]), clamped_pair(h[2], h[3]));
    if (unit < args.parts[0].dst_stride) { /* the padding behind the last is zero */
        *(uint2 *)((uint16_t *)args.parts[0].dst + (uint64_t)row * args.parts[0].dst_stride + unit) = packed;
    }
}

__device__ __forceinline__ void cluster_sync() {
    asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

/* Four floats at the same place of another block's shared memory. */
__device__ __forceinline__ float4 from_block(const float *here, uint32_t block) {
    uint32_t address;
    float4 value;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address(here)), "r"(block));
    asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
                 : "r"(address)
                 : "memory");
    return value;
}

__device__ __forceinline__ void multipliers_sync() {
    asm volatile("bar.sync 1, %0;" ::"n"(WIDE) : "memory");
}

/* The sums of the tile, to shared memory and, with those of the cluster's other blocks, to where they belong. The fetching
 * warp comes along for the barriers. */
template <int rows> __device__ __forceinline__ void put_tile(const spi_cu_wide &args, const float *sums, float *tile) {
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    bool multiplies = threadIdx.x < WIDE;
    if (multiplies) {
        float *to = tile + lane % 4 * 2 * PITCH + warp * 16 + lane / 4;
        multipliers_sync();
#pragma unroll
        for (int j = 0; j < rows / 8; j++) {
            float *at = to + j * 8 * PITCH;
            at[0] = sums[4 * j], at[PITCH] = sums[4 * j + 1];
            at[8] = sums[4 * j + 2], at[PITCH + 8] = sums[4 * j + 3];
        }
    }
    uint32_t split = gridDim.z, part = blockIdx.z;
    if (split > 1) {
        cluster_sync();
    } else {
        __syncthreads();
    }
    bool gated = args.output == SPI_CU_OUTPUT_GATE;
    uint32_t fours = gated ? OUTS / 8 : OUTS / 4; /* of a row */
    uint32_t real = min((uint32_t)rows, args.row_count - blockIdx.x * rows);
    for (uint32_t i = threadIdx.x + part * WIDE; multiplies && i < real * fours; i += WIDE * split) {
        uint32_t row = i / fours, column = i % fours * 4;
        const float *at = tile + row * PITCH + column;
        float4 sum, second = make_float4(0, 0, 0, 0);
        if (split == 1) {
            sum = *(const float4 *)at;
            second = gated ? *(const float4 *)(at + OUTS / 2) : second;
        } else {
            sum = second;
            for (uint32_t block = 0; block < split; block++) {
                float4 more = from_block(at, block);
                sum.x += more.x, sum.y += more.y, sum.z += more.z, sum.w += more.w;
                if (gated) {
                    more = from_block(at + OUTS / 2, block);
                    second.x += more.x, second.y += more.y, second.z += more.z, second.w += more.w;
                }
            }
        }
        if (gated) {
            put_gated(args, blockIdx.x * rows + row, blockIdx.y * (OUTS / 2) + column, sum, second);
        } else {
            put_four(args, blockIdx.x * rows + row, blockIdx.y * OUTS + column, sum);
        }
    }
    if (split > 1) {
        cluster_sync(); /* nobody leaves while others read */
    }
}

template <int type, int rows, int stages> __device__ __forceinline__ void multiply_wide(const spi_cu_wide &args) {
    constexpr bool brain = type == SP_BF16 || type == SP_MXFP4, plain = !is_quantised(type);
    constexpr uint32_t stage_bytes = (OUTS + rows) * 128;
    extern __shared__ __align__(1024) uint8_t memory[];
    __shared__ uint64_t barriers[2 * stages];
    uint32_t base = shared_address(memory), full = shared_address(barriers), empty = full + stages * 8;
    uint32_t all = (args.cols + STEP - 1) / STEP, first = all * blockIdx.z / gridDim.z;
    uint32_t steps = all * (blockIdx.z + 1) / gridDim.z - first, group = threadIdx.x / 128;
    float sums[rows / 2] = {};
    if (threadIdx.x == 0) {
        for (uint32_t i = 0; i < stages; i++) {
            box_barrier_init(full + i * 8, 1);
            box_barrier_init(empty + i * 8, 2);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    if (threadIdx.x >= WIDE) {
        if (threadIdx.x == WIDE) {
            fetch_boxes<plain, rows, stages>(args, base, full, empty, first, steps);
        }
        __syncwarp();
        behind_the_last();
    } else {
        wide_weights<type> weights(args, blockIdx.y);
        weights.fetch(args, first);
        weights.put(memory);
        publish_shared();
        weights.fetch(args, first + min(1u, steps - 1));
        behind_the_last();
        for (uint32_t step = 0; step < steps; step++) {
            uint32_t slot = step % stages, stage = base + slot * stage_bytes;
            box_barrier_wait(full + slot * 8, step / stages & 1);
            if (!plain) {
                multipliers_sync();
            }
            uint64_t a = describe(stage + group * 64 * 128), b = describe(stage + OUTS * 128);
            group_begin();
#pragma unroll
            for (int k = 0; k < STEP / 16; k++) {
                group_multiply<rows, brain>(sums, a + k * 2, b + k * 2);
            }
            group_commit();
            if (!plain && step + 1 < steps) { /* all warps have seen the end of what was in that stage */
                weights.put(memory + (step + 1) % stages * stage_bytes);
                publish_shared();
                weights.fetch(args, first + min(step + 2, steps - 1));
            }
            group_wait<1>();
            if (step && threadIdx.x % 128 == 0) {
                box_barrier_arrive(empty + (step - 1) % stages * 8);
            }
        }
        group_wait<0>();
    }
    put_tile<rows>(args, sums, (float *)memory);
}
#endif

#endif
