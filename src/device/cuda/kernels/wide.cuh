/* device/cuda/kernels/wide.cuh - weights times many rows on compute capability 9.0.
 *
 * A block computes 128 rows of the weights by `rows` rows of activations, which are the largest tile's 256 here, and
 * fewer in narrow.cuh; two groups of four warps multiply 64 rows of weights each, and one thread has the card fetch
 * both, 64 columns of activations at a time. Plain weights come with them and are multiplied out of shared memory.
 * Quantised ones come packed as they are, in slabs of 256 columns and rings of their own (slabs.cuh); the warps unpack
 * them into the registers that they multiply from, and meet activations whose columns are turned for that (packed.cuh).
 * BF16 weights are multiplied as they are, and MXFP4's are bf16 numbers, too; all others are f16 and meet activations
 * rounded to f16: 11 bits, where a decoded weight has no more to lose.
 *
 * Weights are asked for before the kernel that precedes this one has ended.
 *
 * Where there are too few tiles to keep the card busy, blocks of a cluster share a tile's columns; each then adds the
 * sums of all for a part of the tile, out of the others' shared memory and always in the same order.
 *
 * A norm is never a pass of its own behind an addition: whoever adds leaves the rows times the norm's weight, and for
 * each row sums of squares. Factors are applied to the sums of the next product (spi_cu_squares). May include:
 * packed.cuh, hopper.cuh, slabs.cuh, likeliest.cuh, wide_args.h.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_WIDE_CUH
#define SPI_DEVICE_CUDA_KERNELS_WIDE_CUH

#include <cstddef>

#include "device/cuda/kernels/hopper.cuh"
#include "device/cuda/kernels/likeliest.cuh"
#include "device/cuda/kernels/packed.cuh"
#include "device/cuda/kernels/slabs.cuh"

#define WIDE  256        /* threads that multiply */
#define PITCH (OUTS + 4) /* of the sums, when they are put down */

#ifdef HOPPER
/* Where the halves of a tile begin: in which part, and at which of its rows. */
struct tile_halves {
    uint32_t part[2], row[2];

    __device__ __forceinline__ tile_halves(const spi_cu_wide &args) {
        bool gated = args.output == SPI_CU_OUTPUT_GATE;
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            uint32_t unit = blockIdx.y * (gated ? OUTS / 2 : OUTS) + (gated ? 0 : i * SPI_CU_WIDE_BOX);
            part[i] = gated ? i : 0;
            while (!gated && part[i] + 1 < args.part_count && unit >= args.parts[part[i]].rows) {
                unit -= args.parts[part[i]++].rows;
            }
            row[i] = unit; /* behind the last row the card fetches zeros */
        }
    }
};

/* The fetching thread, of plain weights: for each step a box of activations and two halves of a tile. */
template <int rows, int stages>
__device__ __forceinline__ void fetch_plain(const spi_cu_wide &args, uint32_t base, uint32_t full, uint32_t empty,
                                            share steps) {
    constexpr uint32_t stage_bytes = (OUTS + rows) * 128;
    const tile_halves halves(args);
    auto fetch_weights = [&](uint32_t step) {
        uint32_t slot = step % stages, stage = base + slot * stage_bytes, column = (steps.first + step) * STEP;
        box_barrier_expect(full + slot * 8, stage_bytes);
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            copy_box(stage + i * SPI_CU_WIDE_BOX * 128, &args.weights[halves.part[i]][0], column, halves.row[i],
                     full + slot * 8);
        }
    };
    uint32_t early = min((uint32_t)stages, steps.count);
    ask_map(&args.x);
    for (uint32_t step = 0; step < early; step++) { /* weights depend on nothing that runs */
        fetch_weights(step);
    }
    wait_for_the_last();
    for (uint32_t step = 0; step < steps.count; step++) {
        uint32_t slot = step % stages;
        if (step >= early) {
            box_barrier_wait(empty + slot * 8, (step / stages & 1) ^ 1);
            fetch_weights(step);
        }
        copy_box(base + slot * stage_bytes + OUTS * 128, &args.x, (steps.first + step) * STEP, blockIdx.x * rows,
                 full + slot * 8);
    }
}

/* The fetching thread, of quantised weights. A slab's place is given to another when the steps of the slab behind it
 * are on their way, so that waiting for it holds nothing up. */
template <int rows, int stages>
__device__ __forceinline__ void fetch_packed(const spi_cu_wide &args, uint32_t slabs_at, uint32_t base, uint32_t full,
                                             uint32_t empty, share slabs) {
    constexpr uint32_t a_slab = SPI_CU_WIDE_SLAB / STEP;
    const tile_halves halves(args);
    uint32_t slab_full = empty + stages * 8, slab_empty = slab_full + SPI_CU_WIDE_SLABS_MAX * 8;
    uint32_t bytes = slab_bytes(args), slots = args.slots;
    auto fetch_slab = [&](uint32_t slab, uint32_t slot) {
        uint32_t to = slabs_at + slot * bytes, index = slabs.first + slab;
        box_barrier_expect(slab_full + slot * 8, bytes);
        for (uint32_t plane = 0; plane < args.plane_count; plane++) {
            uint32_t half = SPI_CU_WIDE_BOX * args.plane_pitch[plane], at = index * args.plane_step[plane] & ~7u;
            copy_box(to, &args.weights[halves.part[0]][plane], at, halves.row[0], slab_full + slot * 8);
            copy_box(to + half, &args.weights[halves.part[1]][plane], at, halves.row[1], slab_full + slot * 8);
            to += 2 * half;
        }
    };
    uint32_t early = min(slots, slabs.count), next = early, slot = 0, parity = 0;
    ask_map(&args.x);
    for (uint32_t slab = 0; slab < early; slab++) {
        fetch_slab(slab, slab);
    }
    wait_for_the_last();
    for (uint32_t step = 0; step < slabs.count * a_slab; step++) {
        uint32_t to = step % stages;
        if (step >= stages) {
            box_barrier_wait(empty + to * 8, (step / stages & 1) ^ 1);
        }
        box_barrier_expect(full + to * 8, rows * 128);
        copy_box(base + to * rows * 128, &args.x, (slabs.first * a_slab + step) * STEP, blockIdx.x * rows,
                 full + to * 8);
        if (step % a_slab == a_slab - 1 && step >= a_slab && next < slabs.count) { /* the last slab's place */
            box_barrier_wait(slab_empty + slot * 8, parity);
            fetch_slab(next++, slot);
            slot++;
            if (slot == slots) {
                slot = 0, parity ^= 1;
            }
        }
    }
}

__device__ __forceinline__ float wide_activated(float x, bool silu) {
    float u = silu ? x : 1.5957691216057308f * (x + 0.044715f * x * x * x);
    return x / (1 + __expf(-u));
}

/* What an addition reads, asked for before it has its sums. */
struct before_adding {
    float4 old, weight; /* the row's numbers, and the next norm's weight */

    __device__ __forceinline__ before_adding(const spi_cu_wide &args, uint32_t row, uint32_t unit)
        : old(make_float4(0, 0, 0, 0)), weight(old) {
        if (args.output == SPI_CU_OUTPUT_ADD && unit + 4 <= args.parts[0].rows) {
            const float *from = (const float *)args.parts[0].dst + (uint64_t)row * args.parts[0].dst_stride + unit;
            old = ((uintptr_t)from & 15) == 0 ? __ldcg((const float4 *)from) : old;
            weight = args.next.records ? __ldg((const float4 *)((const float *)args.next_weight + unit)) : weight;
        }
    }
};

/* The new numbers of a row that was added to, as the next norm's product reads them; returns their squares. */
__device__ __forceinline__ float put_next(const spi_cu_wide &args, uint32_t row, uint32_t unit, float4 x, float4 w,
                                          float known) {
    put_packed((uint16_t *)args.next_packed + (uint64_t)row * args.next_stride, unit,
               make_float4(x.x * known * w.x, x.y * known * w.y, x.z * known * w.z, x.w * known * w.w), args.form_out);
    return x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w;
}

/* Logits, of which a warp has a tile's of one row, four a lane; the likeliest of them is noted where that is wanted. */
__device__ __forceinline__ float4 as_logits(const spi_cu_wide &args, uint32_t row, uint32_t unit, float4 sum) {
    float logits[4] = {sum.x, sum.y, sum.z, sum.w};
    likeliest best = {-INFINITY, unit};
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        logits[i] = capped(logits[i], args.scale, args.softcap);
        best.consider(unit + i < args.parts[0].rows ? cleaned(logits[i]) : -INFINITY, unit + i);
    }
    if (args.best) {
        best.over_warp();
        if (threadIdx.x % 32 == 0) {
            ((spi_cu_best *)args.best)[(uint64_t)row * gridDim.y + blockIdx.y] = {best.logit, best.token};
        }
    }
    return make_float4(logits[0], logits[1], logits[2], logits[3]);
}

/* Four neighbouring sums of a row go where they belong; returns the squares of the new numbers, where the next phase
 * wants them. */
__device__ __forceinline__ float put_four(const spi_cu_wide &args, uint32_t row, uint32_t unit, float4 four,
                                          const before_adding &before, float known) {
    const spi_cu_wide_part *part = args.parts;
    float sums[4] = {four.x, four.y, four.z, four.w};
    while (unit >= part->rows) {
        unit -= part->rows;
        part++;
        if (part == args.parts + args.part_count) {
            return 0;
        }
    }
    float *to;
    if (args.output == SPI_CU_OUTPUT_LOGITS) {
        to = (float *)((const spi_cu_out *)args.outs)[row].logits;
        if (!to) {
            return 0;
        }
    } else {
        to = (float *)part->dst + (uint64_t)row * part->dst_stride;
    }
    bool add = args.output == SPI_CU_OUTPUT_ADD;
    const float *bias = (const float *)part->bias;
    if (unit + 4 <= part->rows && ((uintptr_t)(to + unit) & 15) == 0) {
        float4 *all = (float4 *)(to + unit);
        float4 old = before.old;
        if (bias) {
            old.x += bias[unit], old.y += bias[unit + 1], old.z += bias[unit + 2], old.w += bias[unit + 3];
        }
        old = make_float4(sums[0] + old.x, sums[1] + old.y, sums[2] + old.z, sums[3] + old.w);
        *all = old;
        return args.next.records ? put_next(args, row, unit, old, before.weight, known) : 0;
    }
    for (int i = 0; i < 4; i++) { /* over the edge of a part, or of the last; the host asks for no next norm then */
        if (unit == part->rows) {
            part++;
            if (part == args.parts + args.part_count) {
                return 0;
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
    return 0;
}

/* Of a row by a warp, a tile's all. */
__device__ __forceinline__ float put_sums(const spi_cu_wide &args, uint32_t row, uint32_t unit, float4 sum,
                                          const before_adding &before, float known) {
    if (args.output == SPI_CU_OUTPUT_LOGITS) {
        sum = as_logits(args, row, unit, sum);
    }
    return put_four(args, row, unit, sum, before, known);
}

/* What a warp has added of a row, all 32 fours of a tile: its squares, where the next norm finds them. */
__device__ __forceinline__ void note_squares(const spi_cu_wide &args, uint32_t row, float squares, float known) {
    if (args.next.records) {
        squares = warp_sum(squares);
        float *record = (float *)args.next.records + (uint64_t)row * args.next.pitch;
        if (threadIdx.x % 32 == 0) {
            record[1 + blockIdx.y] = squares;
            record[0] = known; /* every tile's is the same */
        }
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
    if (unit < args.parts[0].dst_stride) {
        put_packed((uint16_t *)args.parts[0].dst + (uint64_t)row * args.parts[0].dst_stride, unit,
                   make_float4(h[0], h[1], h[2], h[3]), args.form_out);
    }
}

/* The sum of what stands at the same place in all blocks of the cluster; all are asked before the first is waited
 * for. */
__device__ __forceinline__ float4 from_all(const float *here, uint32_t blocks) {
    float4 parts[SPI_CU_WIDE_CLUSTER_MAX], sum = make_float4(0, 0, 0, 0);
#pragma unroll
    for (uint32_t i = 0; i < SPI_CU_WIDE_CLUSTER_MAX; i++) {
        parts[i] = i < blocks ? from_block(here, i) : sum;
    }
#pragma unroll
    for (uint32_t i = 0; i < SPI_CU_WIDE_CLUSTER_MAX; i++) {
        sum.x += parts[i].x, sum.y += parts[i].y, sum.z += parts[i].z, sum.w += parts[i].w;
    }
    return sum;
}

__device__ __forceinline__ void multipliers_sync() {
    asm volatile("bar.sync 1, %0;" ::"n"(WIDE) : "memory");
}

/* A row's factor, 1 / sqrt(mean of squares + eps), found by `lanes` neighbouring lanes. Divided by what the row's
 * packed numbers were multiplied by, if asked. */
template <uint32_t lanes>
__device__ __forceinline__ float factor_of(const spi_cu_squares &norm, uint32_t row, bool is_left) {
    const float *record = (const float *)norm.records + (uint64_t)row * norm.pitch;
    float sum = 0, left = is_left ? record[0] : 1; /* asked for before the others are waited for */
    for (uint32_t i = threadIdx.x % lanes; i < norm.pieces; i += lanes) {
        sum += record[1 + i];
    }
#pragma unroll
    for (uint32_t offset = lanes / 2; offset; offset >>= 1) {
        sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    }
    float factor = rsqrtf(sum * norm.inverse_cols + norm.eps);
    return is_left ? factor / left : factor;
}

/* What the sums of rows want, and what is known of the rows that they are added to, by so many threads of which `lanes`
 * share a row. */
template <int rows, uint32_t lanes, uint32_t threads>
__device__ __forceinline__ void find_factors(const spi_cu_wide &args, uint32_t thread, float *wanted, float *known) {
    for (uint32_t i = thread / lanes; i < rows; i += threads / lanes) {
        uint32_t row = min(blockIdx.x * rows + i, args.row_count - 1);
        float a = args.norm.records ? factor_of<lanes>(args.norm, row, true) : 1;
        float b = args.next.records ? factor_of<lanes>(args.known, row, false) : 1;
        if (thread % lanes == 0) {
            wanted[i] = a, known[i] = b;
        }
    }
}

/* With the largest tile, a block to a multiprocessor, warps that have nothing else to do find the factors meanwhile. */
#define FINDERS 96

__device__ __forceinline__ void factors_found() {
    asm volatile("bar.arrive 2, %0;" ::"n"(WIDE + FINDERS) : "memory");
}

__device__ __forceinline__ void wait_for_factors() {
    asm volatile("bar.sync 2, %0;" ::"n"(WIDE + FINDERS) : "memory");
}

__device__ __forceinline__ float4 times(float4 x, float factor) {
    return make_float4(x.x * factor, x.y * factor, x.z * factor, x.w * factor);
}

/* Packed numbers behind a row's last become zero: products go on to the end of a slab. */
__device__ __forceinline__ void clear_behind(const spi_cu_wide &args, uint32_t row, uint32_t column) {
    bool gated = args.output == SPI_CU_OUTPUT_GATE;
    uint32_t stride = gated ? args.parts[0].dst_stride : args.next_stride;
    uint16_t *to = (uint16_t *)(gated ? args.parts[0].dst : args.next_packed) + (uint64_t)row * stride;
    if (column < stride) {
        put_packed(to, column, make_float4(0, 0, 0, 0), args.form_out);
    }
}

/* A thread's sums to where the tile's rows are whole, when all have ended multiplying out of the same memory. */
template <int rows> __device__ __forceinline__ void leave_sums(const float *sums, float *tile) {
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float *to = tile + lane % 4 * 2 * PITCH + warp * 16 + lane / 4;
    multipliers_sync();
#pragma unroll
    for (int j = 0; j < rows / 8; j++) {
        float *at = to + j * 8 * PITCH;
        at[0] = sums[4 * j], at[PITCH] = sums[4 * j + 1];
        at[8] = sums[4 * j + 2], at[PITCH + 8] = sums[4 * j + 3];
    }
}

/* By the first of the last tile's blocks. */
template <int rows> __device__ __forceinline__ void clear_behind_tile(const spi_cu_wide &args) {
    bool gated = args.output == SPI_CU_OUTPUT_GATE;
    uint32_t real = min((uint32_t)rows, args.row_count - blockIdx.x * rows), fours = SPI_CU_WIDE_SLAB / 4;
    if ((gated || args.next.records) && blockIdx.y + 1 == gridDim.y && blockIdx.z == 0) {
        uint32_t first = gated ? gridDim.y * (OUTS / 2) : args.parts[0].rows;
        for (uint32_t i = threadIdx.x; i < real * fours; i += WIDE) {
            clear_behind(args, blockIdx.x * rows + i / fours, first + i % fours * 4);
        }
    }
}

/* The sums of the tile, to shared memory and, with those of the cluster's other blocks, of which so many share it, to
 * where they belong. */
template <int rows>
__device__ __forceinline__ void put_tile(const spi_cu_wide &args, const float *sums, float *tile, const float *wanted,
                                         const float *known, uint32_t split) {
    uint32_t part = split > 1 ? blockIdx.z : 0;
    leave_sums<rows>(sums, tile);
    bool gated = args.output == SPI_CU_OUTPUT_GATE;
    uint32_t fours = gated ? OUTS / 8 : OUTS / 4; /* of a row */
    uint32_t real = min((uint32_t)rows, args.row_count - blockIdx.x * rows), i = threadIdx.x + part * WIDE;
    before_adding before(args, blockIdx.x * rows + min(i / fours, real - 1), blockIdx.y * OUTS + i % fours * 4);
    if (split > 1) {
        cluster_sync();
    } else {
        multipliers_sync();
    }
    for (; i < real * fours; i += WIDE * split) {
        uint32_t row = i / fours, column = i % fours * 4, index = blockIdx.x * rows + row;
        const float *at = tile + row * PITCH + column;
        float4 sum, second = make_float4(0, 0, 0, 0);
        if (split == 1) {
            sum = *(const float4 *)at;
            second = gated ? *(const float4 *)(at + OUTS / 2) : second;
        } else {
            sum = from_all(at, split);
            second = gated ? from_all(at + OUTS / 2, split) : second;
        }
        sum = times(sum, wanted[row]);
        if (gated) {
            put_gated(args, index, blockIdx.y * (OUTS / 2) + column, sum, times(second, wanted[row]));
            continue;
        }
        float squares = put_sums(args, index, blockIdx.y * OUTS + column, sum, before, known[row]);
        uint32_t after = i + WIDE * split;
        if (after < real * fours) {
            before = before_adding(args, blockIdx.x * rows + after / fours, blockIdx.y * OUTS + after % fours * 4);
        }
        note_squares(args, index, squares, known[row]);
    }
    clear_behind_tile<rows>(args);
    if (split > 1) {
        cluster_sync(); /* nobody leaves while others read */
    }
}

/* A step of plain weights, with its rows behind it in shared memory; when this returns, the step before is done. */
template <int rows, bool brain> __device__ __forceinline__ void multiply_step(float *sums, uint32_t stage) {
    uint32_t group = threadIdx.x / 128;
    uint64_t a = describe(stage + group * 64 * 128), b = describe(stage + OUTS * 128);
    group_begin();
#pragma unroll
    for (int k = 0; k < STEP / 16; k++) {
        group_multiply<rows, brain>(sums, a + k * 2, b + k * 2);
    }
    group_commit();
    group_wait<1>();
}

/* Both factors lie in shared memory. */
template <int rows, int stages, bool brain>
__device__ __forceinline__ void multiply_plain(const spi_cu_wide &args, float *sums, uint32_t base, uint32_t full,
                                               uint32_t empty, uint32_t steps) {
    constexpr uint32_t stage_bytes = (OUTS + rows) * 128;
    for (uint32_t step = 0; step < steps; step++) {
        uint32_t slot = step % stages, stage = base + slot * stage_bytes;
        box_barrier_wait(full + slot * 8, step / stages & 1);
        mark(step || threadIdx.x ? 0 : args.clocks, 2);
        multiply_step<rows, brain>(sums, stage);
        if (step && threadIdx.x % 128 == 0) {
            box_barrier_arrive(empty + (step - 1) % stages * 8);
        }
    }
    group_wait<0>();
}

/* The sums of 256 rows take more registers than a thread's share of the multiprocessor's: the fetching warps give
 * theirs. */
__device__ __forceinline__ void registers_less() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
}

__device__ __forceinline__ void registers_more() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
}

template <int type, int rows> __device__ __forceinline__ void multiply_wide(const spi_cu_wide &args) {
    constexpr bool brain = type == SP_BF16, plain = !is_quantised(type);
    constexpr int stages = plain ? SPI_CU_WIDE_PLAIN_STAGES_LARGE : SPI_CU_WIDE_STAGES(rows);
    extern __shared__ __align__(1024) uint8_t memory[];
    __shared__ uint64_t barriers[2 * stages + 2 * SPI_CU_WIDE_SLABS_MAX];
    __shared__ float wanted[rows], known[rows];
    start_the_next();
    mark(threadIdx.x ? 0 : args.clocks, 0);
    uint32_t base = shared_address(memory), full = shared_address(barriers), empty = full + stages * 8;
    share mine(args.cols, plain ? STEP : SPI_CU_WIDE_SLAB);
    if (threadIdx.x == 0) {
        for (uint32_t i = 0; i < stages; i++) {
            box_barrier_init(full + i * 8, 1);
            box_barrier_init(empty + i * 8, 2);
        }
        for (uint32_t i = 0; i < SPI_CU_WIDE_SLABS_MAX; i++) {
            box_barrier_init(empty + (stages + i) * 8, 1);
            box_barrier_init(empty + (stages + SPI_CU_WIDE_SLABS_MAX + i) * 8, WIDE / 32);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    uint32_t steps_at = plain ? base : base + args.slots * slab_bytes(args);
    if (threadIdx.x >= WIDE) {
        registers_less();
        if (threadIdx.x >= WIDE + 32) {
            wait_for_the_last();
            find_factors<rows, 1, FINDERS>(args, threadIdx.x - WIDE - 32, wanted, known);
            factors_found();
        }
        if (threadIdx.x == WIDE) {
            if constexpr (plain) {
                fetch_plain<rows, stages>(args, base, full, empty, mine);
            } else {
                fetch_packed<rows, stages>(args, base, steps_at, full, empty, mine);
            }
        }
        __syncwarp();
        if (gridDim.z > 1) { /* as put_tile */
            cluster_sync();
            cluster_sync();
        }
    } else {
        registers_more();
        float sums[rows / 2] = {};
        if constexpr (plain) {
            multiply_plain<rows, stages, brain>(args, sums, base, full, empty, mine.count);
        } else {
            uint32_t slab_full = empty + stages * 8;
            multiply_packed<type, rows, 1>(args, sums, memory, steps_at, stages,
                                           {full, empty, slab_full, slab_full + SPI_CU_WIDE_SLABS_MAX * 8}, mine);
        }
        mark(threadIdx.x ? 0 : args.clocks, 3);
        wait_for_the_last();
        wait_for_factors();
        put_tile<rows>(args, sums, (float *)memory, wanted, known, gridDim.z);
        mark(threadIdx.x ? 0 : args.clocks, 4);
    }
}
#endif

#endif
