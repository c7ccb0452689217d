/* device/cuda/kernels/wide.cu - kernels of wide.cuh for every type: tiles of 256 rows for prompts, of 16 and 64 for the
 * next tokens of some sessions. Empty but on compute capability 9.0; there is no PTX of them that other cards could use. */
#include "device/cuda/kernels/wide.cuh"

#ifdef HOPPER
#define BODY(rows, type, stages) multiply_wide<type, rows, stages>(args);
#else
#define BODY(rows, type, stages)
#endif

/* Stages: as many as two blocks' worth of shared memory has, and of the largest as many as one's. */
#define STAGES(rows) (rows == 256 ? 4 : rows == 64 ? 4 : 6)
#define WIDE_KERNEL(rows, type)                                                                                        \
    KERNEL __launch_bounds__(SPI_CU_WIDE_THREADS, rows == 256 ? 1 : 2)                                                 \
        wide##rows##_##type(const __grid_constant__ spi_cu_wide args) {                                                \
        BODY(rows, type, STAGES(rows))                                                                                 \
    }
#define WIDE_TYPE(type) SPI_CU_WIDE_TILES(WIDE_KERNEL, type)
WIDE_TYPE(SP_F16)
WIDE_TYPE(SP_BF16)
SPI_CU_QUANTISED(WIDE_TYPE)
