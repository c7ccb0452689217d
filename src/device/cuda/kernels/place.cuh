/* device/cuda/kernels/place.cuh - a row's heads, normalised and rotated, where attention of several rows reads them; by
 * a warp each. May include: heads.cuh, kv.cuh, packed.cuh. */
#ifndef SPI_DEVICE_CUDA_KERNELS_PLACE_CUH
#define SPI_DEVICE_CUDA_KERNELS_PLACE_CUH

#include "device/cuda/kernels/heads.cuh"
#include "device/cuda/kernels/kv.cuh"
#include "device/cuda/kernels/packed.cuh"

__device__ __forceinline__ const float2 *turns_of(const spi_cu_heads &args, uint32_t row) {
    return (const float2 *)args.table + (uint64_t)row * args.pairs;
}

/* A prepared query, in shared memory, as f16 numbers. */
__device__ __forceinline__ void put_query(const float *x, uint32_t dim, uint32_t lane, uint32_t *to) {
    for (uint32_t i = lane; i < dim / 2; i += 32) {
        to[i] = clamped_pair(x[2 * i], x[2 * i + 1]);
    }
    __syncwarp();
}

/* `x` is shared memory for the head's columns. */
__device__ __forceinline__ void place_query(const spi_cu_heads &args, uint32_t row, uint32_t head, float *x,
                                            uint32_t lane, uint32_t *to) {
    uint32_t dim = args.kv.head_dim;
    prepare_head<false>(args.pairs, args.halves, turns_of(args, row),
                        (const float *)args.q + (uint64_t)row * args.q_stride + head * dim, (const float *)args.q_norm,
                        args.eps, dim, args.scale, x, lane);
    __syncwarp();
    put_query(x, dim, lane, to);
}

/* Where a new key (which: 0) or value (1) goes: to its place in the session's blocks; to the guest's memory, too, if
 * there is `host`. */
struct new_place {
    uint32_t which, head, position;
    uint64_t kv, host;
};

/* Its numbers are in shared memory. */
template <bool q8>
__device__ __forceinline__ void put_new(const spi_cu_kv &kv, const new_place &place, const float *x, uint32_t lane) {
    uint32_t dim = kv.head_dim;
    for (uint32_t copy = 0; copy < (place.host ? 2 : 1); copy++) {
        uint8_t *rows = kv_head(kv, copy ? place.host : place.kv, place.which, place.head, place.position,
                                q8 ? q8_head_bytes(dim) : (uint64_t)128 * dim);
        if (q8) {
            for (uint32_t i = lane; i < dim; i += 32) {
                put_q8(x[i], rows, dim, place.position % 64, i);
            }
        } else {
            for (uint32_t i = lane; i < dim / 2; i += 32) {
                ((uint32_t *)rows)[place.position % 64 * (dim / 2) + i] = half_pair(x[2 * i], x[2 * i + 1]);
            }
        }
    }
    __syncwarp();
}

template <bool q8>
__device__ __forceinline__ void place_new(const spi_cu_heads &args, uint32_t row, const new_place &place, float *x,
                                          uint32_t lane) {
    uint32_t dim = args.kv.head_dim;
    const float *from =
        (const float *)(place.which ? args.v : args.k) + (uint64_t)row * args.k_stride + place.head * dim;
    if (place.which) {
        for (uint32_t i = lane; i < dim; i += 32) {
            x[i] = __ldcg(from + i);
        }
    } else {
        prepare_head<false>(args.pairs, args.halves, turns_of(args, row), from, (const float *)args.k_norm, args.k_eps,
                            dim, 1, x, lane);
    }
    __syncwarp();
    put_new<q8>(args.kv, place, x, lane);
}

#endif
