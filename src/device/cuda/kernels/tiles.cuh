/* device/cuda/kernels/tiles.cuh - tiles of keys and values in shared memory, for tensor cores. May include: matrix.cuh. */
#ifndef SPI_DEVICE_CUDA_KERNELS_TILES_CUH
#define SPI_DEVICE_CUDA_KERNELS_TILES_CUH

#include "device/cuda/kernels/matrix.cuh"

__device__ __forceinline__ void load_four_turned(uint32_t *fragment, uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                 : "r"(address)
                 : "memory");
}

/* A piece of 16 bytes of a row, xored with the row's number. */
template <int dim> __device__ __forceinline__ uint32_t place_of(uint32_t row, uint32_t piece) {
    return row * dim * 2 + ((piece ^ row % 8) * 16);
}

#endif
