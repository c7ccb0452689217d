/* device/cuda/kernels/matrix.cu - kernels of matrix.cuh for every type: large tiles for prompts, small ones, of which
 * there are enough to keep all multiprocessors reading, for the next tokens of some sessions. */
#include "device/cuda/kernels/matrix.cuh"

/* Activations as 16-bit numbers. */
KERNEL pack_acts(uint2 *to, const float4 *from, uint32_t count, uint32_t brain) {
    behind_the_last();
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) {
        return;
    }
    float4 x = from[i];
    uint2 out;
    if (brain) {
        out = make_uint2(brain_pair(x.x, x.y), brain_pair(x.z, x.w));
    } else {
        out = make_uint2(clamped_pair(x.x, x.y), clamped_pair(x.z, x.w));
    }
    to[i] = out;
}

#define MATRIX(type)                                                                                                   \
    KERNEL __launch_bounds__(256) matrix128_##type(const __grid_constant__ spi_cu_product args) {                      \
        multiply_tiles<type, 128, 64, 4, 2, 2>(args);                                                                  \
    }                                                                                                                  \
    KERNEL __launch_bounds__(128) matrix64_##type(const __grid_constant__ spi_cu_product args) {                       \
        multiply_tiles<type, 64, 32, 4, 1, 4>(args);                                                                   \
    }
MATRIX(SP_F16)
MATRIX(SP_BF16)
SPI_CU_QUANTISED(MATRIX)
SPI_CU_AFFINE(MATRIX)
