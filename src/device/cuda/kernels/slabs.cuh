/* device/cuda/kernels/slabs.cuh - quantised weights times rows out of shared memory, where the card has brought slabs
 * of 256 columns of the weights and steps of 64 columns of the rows (wide.cuh). May include: hopper.cuh, packed.cuh. */
#ifndef SPI_DEVICE_CUDA_KERNELS_SLABS_CUH
#define SPI_DEVICE_CUDA_KERNELS_SLABS_CUH

#include "device/cuda/kernels/hopper.cuh"
#include "device/cuda/kernels/packed.cuh"

#define OUTS SPI_CU_WIDE_OUTS

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

/* A block's part of the columns, in steps of 64 or slabs of 256. */
struct share {
    uint32_t first, count;

    __device__ __forceinline__ share(uint32_t columns, uint32_t unit) {
        uint32_t all = (columns + unit - 1) / unit;
        first = all * blockIdx.z / gridDim.z;
        count = all * (blockIdx.z + 1) / gridDim.z - first;
    }
};

/* A row's part of a slab: plane by plane, as unpacked<type> finds it. */
__device__ __forceinline__ uint32_t slab_bytes(const spi_cu_wide &args) {
    return OUTS * (args.plane_pitch[0] + args.plane_pitch[1] + args.plane_pitch[2]);
}

/* Where the first barriers are of steps of rows and of slabs that have come, and of places that are free. */
struct slab_barriers {
    uint32_t full, empty, slab_full, slab_empty;
};

/* A thread unpacks 16 columns of two rows for each step. While one group of warps does, the other multiplies: registers
 * that products come from are not written before they are done. So many steps are taken together, as registers
 * allow. */
template <int type, int rows, uint32_t together>
__device__ __forceinline__ void multiply_packed(const spi_cu_wide &args, float *sums, const uint8_t *memory,
                                                uint32_t base, uint32_t stages, const slab_barriers &barriers,
                                                share slabs) {
    constexpr bool brain = type == SP_MXFP4;
    constexpr uint32_t a_slab = SPI_CU_WIDE_SLAB / STEP; /* steps */
    uint32_t full = barriers.full, empty = barriers.empty, slab_full = barriers.slab_full,
             slab_empty = barriers.slab_empty;
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
#endif

#endif
