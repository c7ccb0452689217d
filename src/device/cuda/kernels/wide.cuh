/* device/cuda/kernels/wide.cuh - weights times many rows on compute capability 9.0.
 *
 * A block computes 128 rows of the weights by `rows` rows of activations, which are the largest tile's 256 here, and
 * fewer in narrow.cuh; two groups of four warps multiply 64 rows of
 * weights each, and one thread has the card fetch both, 64 columns of activations at a time. Plain weights come with
 * them and are multiplied out of shared memory. Quantised ones come packed as they are, in slabs of 256 columns and
 * rings of their own; the warps unpack them into the registers that they multiply from, and meet activations whose
 * columns are turned for that (packed.cuh). BF16 weights are multiplied as they are, and MXFP4's are bf16 numbers, too;
 * all others are f16 and meet activations rounded to f16: 11 bits, where a decoded weight has no more to lose.
 *
 * Weights are asked for before the kernel that precedes this one has ended.
 *
 * Where there are too few tiles to keep the card busy, blocks of a cluster share a tile's columns; each then adds the
 * sums of all for a part of the tile, out of the others' shared memory and always in the same order.
 *
 * A norm is never a pass of its own behind an addition: whoever adds leaves the rows times the norm's weight, and for
 * each row sums of squares. Factors are applied to the sums of the next product (spi_cu_squares). May include:
 * packed.cuh, hopper.cuh, likeliest.cuh, wide_args.h.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_WIDE_CUH
#define SPI_DEVICE_CUDA_KERNELS_WIDE_CUH

#include <cstddef>

#include "device/cuda/kernels/hopper.cuh"
#include "device/cuda/kernels/likeliest.cuh"
#include "device/cuda/kernels/packed.cuh"

#define OUTS  SPI_CU_WIDE_OUTS
#define WIDE  256        /* threads that multiply */
#define PITCH (OUTS + 4) /* of the sums, when they are put down */

#ifdef HOPPER
/* Types with a plane of which a slab's part is no multiple of 16 bytes. */
__device__ constexpr bool has_odd_planes(int type) {
    return type == SP_Q2_K || type == SP_Q3_K || type == SP_Q6_K || type == SP_IQ4_XS || type == SP_MXFP4;
}

/* Four neighbours of a quantised weight as two pairs of 16-bit numbers. Bytes become f16 numbers by being the low bits
 * of 1024 + byte; the conversion unit would take longer than the product. Scales are rounded to f16, as the weights
 * are. */
template <int type>
__device__ __forceinline__ void two_pairs(const codes32 &c, int word, uint32_t *first, uint32_t *second) {
    uint32_t code = c.codes[word];
    if (type == SP_MXFP4) {
        float scale = c.scale[0];
        *first = brain_pair(scale * signed_byte(code, 0), scale * signed_byte(code, 1));
        *second = brain_pair(scale * signed_byte(code, 2), scale * signed_byte(code, 3));
        return;
    }
    constexpr bool is_signed = type == SP_Q8_0 || type == SP_IQ4_NL || type == SP_IQ4_XS, is_shifted = !is_signed;
    const __half2 bias = __float2half2_rn(is_signed ? -1152 : -1024);
    __half2 scale = __float2half2_rn(c.scale[word / 4]), less = __float2half2_rn(-c.minimum[word / 4]);
    code ^= is_signed ? 0x80808080u : 0;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t pair = __byte_perm(code, 0x64646464u, i ? 0x4342 : 0x4140);
        __half2 value = __hadd2(*(__half2 *)&pair, bias);
        value = is_shifted ? __hfma2(value, scale, less) : __hmul2(value, scale);
        *(i ? second : first) = *(uint32_t *)&value;
    }
}

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

/* A block's part of the columns, in steps of 64 or slabs of 256. */
struct share {
    uint32_t first, count;

    __device__ __forceinline__ share(uint32_t columns, uint32_t unit) {
        uint32_t all = (columns + unit - 1) / unit;
        first = all * blockIdx.z / gridDim.z;
        count = all * (blockIdx.z + 1) / gridDim.z - first;
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

/* A row's part of a slab: plane by plane, as unpacked<type> finds it. */
__device__ __forceinline__ uint32_t slab_bytes(const spi_cu_wide &args) {
    return OUTS * (args.plane_pitch[0] + args.plane_pitch[1] + args.plane_pitch[2]);
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

/* The sums of the tile, to shared memory and, with those of the cluster's other blocks, to where they belong. */
template <int rows>
__device__ __forceinline__ void put_tile(const spi_cu_wide &args, const float *sums, float *tile, const float *wanted,
                                         const float *known) {
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, split = gridDim.z, part = blockIdx.z;
    float *to = tile + lane % 4 * 2 * PITCH + warp * 16 + lane / 4;
    multipliers_sync();
#pragma unroll
    for (int j = 0; j < rows / 8; j++) {
        float *at = to + j * 8 * PITCH;
        at[0] = sums[4 * j], at[PITCH] = sums[4 * j + 1];
        at[8] = sums[4 * j + 2], at[PITCH + 8] = sums[4 * j + 3];
    }
    bool gated = args.output == SPI_CU_OUTPUT_GATE, packs = gated || args.next.records;
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
        if (args.output == SPI_CU_OUTPUT_LOGITS) {
            sum = as_logits(args, index, blockIdx.y * OUTS + column, sum);
        }
        float squares = put_four(args, index, blockIdx.y * OUTS + column, sum, before, known[row]);
        uint32_t after = i + WIDE * split;
        if (after < real * fours) {
            before = before_adding(args, blockIdx.x * rows + after / fours, blockIdx.y * OUTS + after % fours * 4);
        }
        if (args.next.records) { /* the warp has all 32 fours of the row */
            squares = warp_sum(squares);
            float *record = (float *)args.next.records + (uint64_t)index * args.next.pitch;
            if (lane == 0) {
                record[1 + blockIdx.y] = squares;
                record[0] = known[row]; /* every tile's is the same */
            }
        }
    }
    if (packs && blockIdx.y + 1 == gridDim.y && part == 0) {
        uint32_t first = gated ? gridDim.y * (OUTS / 2) : args.parts[0].rows;
        for (uint32_t i = threadIdx.x; i < real * (SPI_CU_WIDE_SLAB / 4); i += WIDE) {
            clear_behind(args, blockIdx.x * rows + i / (SPI_CU_WIDE_SLAB / 4), first + i % (SPI_CU_WIDE_SLAB / 4) * 4);
        }
    }
    if (split > 1) {
        cluster_sync(); /* nobody leaves while others read */
    }
}

/* Both factors lie in shared memory. */
template <int rows, int stages, bool brain>
__device__ __forceinline__ void multiply_plain(const spi_cu_wide &args, float *sums, uint32_t base, uint32_t full,
                                               uint32_t empty, uint32_t steps) {
    constexpr uint32_t stage_bytes = (OUTS + rows) * 128;
    uint32_t group = threadIdx.x / 128;
    for (uint32_t step = 0; step < steps; step++) {
        uint32_t slot = step % stages, stage = base + slot * stage_bytes;
        box_barrier_wait(full + slot * 8, step / stages & 1);
        mark(step || threadIdx.x ? 0 : args.clocks, 2);
        uint64_t a = describe(stage + group * 64 * 128), b = describe(stage + OUTS * 128);
        group_begin();
#pragma unroll
        for (int k = 0; k < STEP / 16; k++) {
            group_multiply<rows, brain>(sums, a + k * 2, b + k * 2);
        }
        group_commit();
        group_wait<1>();
        if (step && threadIdx.x % 128 == 0) {
            box_barrier_arrive(empty + (step - 1) % stages * 8);
        }
    }
    group_wait<0>();
}

/* A thread unpacks 16 columns of two rows for each step. While one group of warps does, the other multiplies: registers
 * that products come from are not written before they are done. */
template <int type, int rows, int stages>
__device__ __forceinline__ void multiply_packed(const spi_cu_wide &args, float *sums, const uint8_t *memory,
                                                uint32_t base, uint32_t full, uint32_t empty, share slabs) {
    constexpr bool brain = type == SP_MXFP4;
    constexpr uint32_t together = 1, a_slab = SPI_CU_WIDE_SLAB / STEP; /* steps; as registers allow */
    uint32_t slab_full = empty + stages * 8, slab_empty = slab_full + SPI_CU_WIDE_SLABS_MAX * 8;
    uint32_t lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4, bytes = slab_bytes(args);
    const uint32_t *pitch = args.plane_pitch;
    uint32_t planes[2][SPI_CU_PLANES]; /* of this thread's two rows, from where their first plane is */
#pragma unroll
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t at = row + 8 * i;
        planes[i][0] = 0;
        planes[i][1] = OUTS * pitch[0] + at * pitch[1] - at * pitch[0];
        planes[i][2] = OUTS * (pitch[0] + pitch[1]) + at * pitch[2] - at * pitch[0];
    }
    uint32_t slot = 0, parity = 0, stage = 0, stage_parity = 0;
    for (uint32_t slab = 0; slab < slabs.count; slab++) {
        if (has_odd_planes(type)) {
#pragma unroll
            for (uint32_t k = 0; k < SPI_CU_PLANES; k++) {
                uint32_t now = (slabs.first + slab) * args.plane_step[k] * 2 % 16;
                planes[0][k] = planes[0][k] / 16 * 16 + now, planes[1][k] = planes[1][k] / 16 * 16 + now;
            }
        }
        const uint8_t *upper = memory + slot * bytes + row * pitch[0], *lower = upper + 8 * pitch[0];
        box_barrier_wait(slab_full + slot * 8, parity);
#pragma unroll
        for (uint32_t step = 0; step < a_slab; step += together) {
            uint32_t a[together][16], group = step / 2 * 4 + lane % 4, first = stage;
#pragma unroll
            for (uint32_t i = 0; i < together; i++) {
                codes32 codes = unpacked<type>::at(upper, planes[0], group);
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    two_pairs<type>(codes, (step + i) % 2 * 4 + k, &a[i][4 * k], &a[i][4 * k + 2]);
                }
                codes = unpacked<type>::at(lower, planes[1], group);
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    two_pairs<type>(codes, (step + i) % 2 * 4 + k, &a[i][4 * k + 1], &a[i][4 * k + 3]);
                }
            }
            if (step + together == a_slab) { /* all codes of the slab are in registers */
                __syncwarp();
                if (lane == 0) {
                    box_barrier_arrive(slab_empty + slot * 8);
                }
            }
#pragma unroll
            for (uint32_t i = 0; i < together; i++) {
                box_barrier_wait(full + stage * 8, stage_parity);
                stage++;
                if (stage == stages) {
                    stage = 0, stage_parity ^= 1;
                }
            }
            mark(slab || step || threadIdx.x ? 0 : args.clocks, 2);
            group_begin();
#pragma unroll
            for (uint32_t i = 0; i < together; i++) {
                uint32_t at = i && first + 1 == stages ? 0 : first + i;
                uint64_t b = describe(base + at * rows * 128);
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    group_multiply<rows, brain>(sums, &a[i][4 * k], b + k * 2);
                }
            }
            group_commit();
            group_wait<0>();
            if (threadIdx.x % 128 < together) {
                uint32_t at = threadIdx.x % 128 && first + 1 == stages ? 0 : first + threadIdx.x % 128;
                box_barrier_arrive(empty + at * 8);
            }
        }
        slot++;
        if (slot == args.slots) {
            slot = 0, parity ^= 1;
        }
    }
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
    constexpr int stages = plain ? SPI_CU_WIDE_PLAIN_STAGES(rows) : SPI_CU_WIDE_STAGES(rows);
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
            multiply_packed<type, rows, stages>(args, sums, memory, steps_at, full, empty, mine);
        }
        mark(threadIdx.x ? 0 : args.clocks, 3);
        wait_for_the_last();
        wait_for_factors();
        put_tile<rows>(args, sums, (float *)memory, wanted, known);
        mark(threadIdx.x ? 0 : args.clocks, 4);
    }
}
#endif

#endif
