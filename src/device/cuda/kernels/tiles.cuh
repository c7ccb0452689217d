/* device/cuda/kernels/tiles.cuh - tiles of keys and values in shared memory, for tensor cores. May include: kv.cuh,
 * matrix.cuh. */
#ifndef SPI_DEVICE_CUDA_KERNELS_TILES_CUH
#define SPI_DEVICE_CUDA_KERNELS_TILES_CUH

#include "device/cuda/kernels/kv.cuh"
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

/* Such a piece of a row of a head's 64 on its way to shared memory, or zeros. What is in Q8_0 is there when this
 * returns, as f16. */
template <int dim, bool q8>
__device__ __forceinline__ void fetch_piece(const uint8_t *head, uint32_t row, uint32_t piece, bool real, uint32_t to) {
    if (q8) {
        uint4 x = real ? eight_of_q8(head, dim, row, piece * 8) : make_uint4(0, 0, 0, 0);
        asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w)
                     : "memory");
    } else {
        copy_async(to, head + (row * (dim / 8) + piece) * 16, real);
    }
}

#endif
