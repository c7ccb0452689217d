/* device/cuda/kernels/packed.cuh - activations as 16-bit numbers, as products on tensor cores read them.
 *
 * Of quantised weights a thread of a multiplying warp unpacks 32 neighbours of a row at once, which is not what it has
 * to bring to the next four products in a row. So the numbers are turned instead: of every 128 columns, product s takes
 * columns 32 t + 4 s to 32 t + 4 s + 3 for the four threads t = 0 .. 3 of a row, in the places where those threads' own
 * numbers of the weights are. May include: matrix.cuh, wide_args.h.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_PACKED_CUH
#define SPI_DEVICE_CUDA_KERNELS_PACKED_CUH

#include "device/cuda/kernels/matrix.cuh"
#include "device/cuda/kernels/wide_args.h"

/* Where the pair of columns `column` and the next is, in pairs; column is even. */
__device__ __forceinline__ uint32_t pair_place(uint32_t column, uint32_t form) {
    if (!(form & SPI_CU_FORM_TURNED)) {
        return column / 2;
    }
    return (column & ~127u) / 2 + (column >> 2 & 7u) * 8 + (column >> 1 & 1u) * 4 + (column >> 5 & 3u);
}

__device__ __forceinline__ uint32_t pack_pair(float a, float b, uint32_t form) {
    return form & SPI_CU_FORM_BRAIN ? brain_pair(a, b) : clamped_pair(a, b);
}

/* Columns column .. column + 3 of a row; column is a multiple of 4. */
__device__ __forceinline__ void put_packed(void *row, uint32_t column, float4 x, uint32_t form) {
    uint32_t first = pack_pair(x.x, x.y, form), second = pack_pair(x.z, x.w, form);
    uint32_t *to = (uint32_t *)row + pair_place(column, form);
    if (form & SPI_CU_FORM_TURNED) {
        to[0] = first, to[4] = second;
    } else {
        *(uint2 *)to = make_uint2(first, second);
    }
}

/* The columns behind attention's last head become zero; the last KV head's block does it for its rows. */
__device__ __forceinline__ void clear_rest(const spi_cu_flash &args, const spi_cu_span &span, uint32_t threads) {
    uint32_t columns = args.heads * args.kv.head_dim, fours = (args.out_stride - columns) / 4;
    if (blockIdx.y + 1 < args.kv.kv_heads) {
        return;
    }
    for (uint32_t i = threadIdx.x; i < span.count * fours; i += threads) {
        put_packed((uint16_t *)args.out + (uint64_t)(span.first + i / fours) * args.out_stride, columns + i % fours * 4,
                   make_float4(0, 0, 0, 0), args.form_out);
    }
}

#endif
