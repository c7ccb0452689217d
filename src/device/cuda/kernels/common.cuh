/* device/cuda/kernels/common.cuh - sums over a warp and a block, and what blocks of a cluster have of each other. May
 * include: nothing. */
#ifndef SPI_DEVICE_CUDA_KERNELS_COMMON_CUH
#define SPI_DEVICE_CUDA_KERNELS_COMMON_CUH

#include <stdint.h>

#define KERNEL extern "C" __global__ void

/* Kernels of a run are started before the one that precedes them has ended, where the host asks for that: what is
 * behind wait_for_the_last() sees all that it wrote, and what is before it must not depend on it. Every kernel of such
 * a run says both, and all its blocks do. */
__device__ __forceinline__ void start_the_next() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ __forceinline__ void wait_for_the_last() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ __forceinline__ void behind_the_last() {
    start_the_next();
    wait_for_the_last();
}

/* A kernel's arguments are read through a cache that has none of them when it begins: each line, from this byte on, is
 * asked for while there is nothing else to do. */
template <typename Args> __device__ __forceinline__ void ask_for_arguments(const Args &args, uint32_t first_byte) {
    constexpr uint32_t line = 16; /* words */
    const uint32_t *words = (const uint32_t *)&args;
#pragma unroll
    for (uint32_t i = first_byte / 4; i < sizeof args / 4; i += line) {
        asm volatile("" ::"r"(words[i]));
    }
}

/* For measuring: one thread of a block says when it is at a point. */
__device__ __forceinline__ void mark(unsigned long long clocks, uint32_t point) {
    if (clocks) {
        unsigned long long now;
        asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now)::"memory");
        atomicMin((unsigned long long *)clocks + 2 * point, now);
        atomicMax((unsigned long long *)clocks + 2 * point + 1, now);
    }
}

/* A load of what never changes, on its way from here on: a compiler moves an ordinary one to where it is needed. */
__device__ __forceinline__ uint4 ask_now(const uint4 *from) {
    uint4 x;
    asm volatile("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
                 : "l"(from));
    return x;
}

/* e^x; of less than 2^-126 nothing. */
__device__ __forceinline__ float e_to(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.4426950408889634f));
    return y;
}

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int offset = 16; offset; offset >>= 1) {
        value += __shfl_xor_sync(0xffffffffu, value, offset);
    }
    return value;
}

__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
    for (int offset = 16; offset; offset >>= 1) {
        value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
    }
    return value;
}

/* Every thread gets the result; `room` is shared memory for a float of each warp, free again at the next barrier. */
template <int threads, bool largest> __device__ __forceinline__ float block_reduce(float value, float *room) {
    value = largest ? warp_max(value) : warp_sum(value);
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
        room[threadIdx.x / 32] = value;
    }
    __syncthreads();
    float all = room[0];
#pragma unroll
    for (int i = 1; i < threads / 32; i++) {
        all = largest ? fmaxf(all, room[i]) : all + room[i];
    }
    return all;
}

/* On cards that have clusters. */
__device__ __forceinline__ void cluster_sync() {
    asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

/* Its two halves, for what can be done in between. */
__device__ __forceinline__ void cluster_arrive() {
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}

__device__ __forceinline__ void cluster_wait() {
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/* The same place in another block's shared memory; and what stands there. */
__device__ __forceinline__ uint32_t place_in_block(const void *here, uint32_t block) {
    uint32_t address;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
                 : "=r"(address)
                 : "r"((uint32_t)__cvta_generic_to_shared(here)), "r"(block));
    return address;
}

__device__ __forceinline__ float4 from_block(const float *here, uint32_t block) {
    float4 value;
    asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
                 : "r"(place_in_block(here, block))
                 : "memory");
    return value;
}

/* Of the blocks of a cluster, those that differ in z; where there is one alone, of its threads. */
__device__ __forceinline__ void blocks_sync() {
#if __CUDA_ARCH__ >= 900
    if (gridDim.z > 1) {
        cluster_sync();
        return;
    }
#endif
    __syncthreads();
}

/* A word of one of those blocks; and four. */
__device__ __forceinline__ uint32_t word_of_block(const void *here, uint32_t block) {
    uint32_t value = *(const uint32_t *)here;
#if __CUDA_ARCH__ >= 900
    if (gridDim.z > 1) {
        asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(value) : "r"(place_in_block(here, block)) : "memory");
    }
#endif
    return value;
}

__device__ __forceinline__ float4 four_of_block(const float *here, uint32_t block) {
    float4 value = *(const float4 *)here;
#if __CUDA_ARCH__ >= 900
    if (gridDim.z > 1) {
        value = from_block(here, block);
    }
#endif
    return value;
}

#endif
