/* device/cuda/kernels/wide.cu - kernels of wide.cuh for every type: tiles of 256 rows for prompts, of 16 to 64 for the
 * next tokens of some sessions. Empty but on compute capability 9.0; there is no PTX of them that other cards could
 * use. */
#include "device/cuda/kernels/narrow.cuh"

#ifdef HOPPER
template <int type, int rows> __device__ __forceinline__ void multiply(const spi_cu_wide &args) {
    if constexpr (rows == 256) {
        multiply_wide<type, rows>(args);
    } else {
        narrow::multiply<type, rows>(args);
    }
}
#define BODY(rows, type) multiply<type, rows>(args);
#else
#define BODY(rows, type)
#endif

#define WIDE_KERNEL(rows, type)                                                                                        \
    KERNEL __launch_bounds__(SPI_CU_WIDE_THREADS(rows), rows == 256 ? 1 : 2)                                           \
        wide##rows##_##type(const __grid_constant__ spi_cu_wide args) {                                                \
        BODY(rows, type)                                                                                               \
    }
#define WIDE_TYPE(type) SPI_CU_WIDE_TILES(WIDE_KERNEL, type)
WIDE_TYPE(SP_F16)
WIDE_TYPE(SP_BF16)
SPI_CU_QUANTISED(WIDE_TYPE)
