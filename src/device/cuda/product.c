/* device/cuda/product.c - the guests' matmul, in place in registered memory. */
#include "device/cuda/cuda.h"

#define TILE 32u

sp_status spi_cu_product_run(void *context, spi_link *link, const sp_matmul *args, sp_error *error) {
    spi_cu *cu = context;
    sp_status status = spi_cu_enter(cu, error);
    if (status) {
        return status;
    }
    spi_cu_pointer base = (uintptr_t)sp_region_base(link->region);
    spi_cu_pointer a = base + args->a_offset, b = base + args->b_offset, c = base + args->c_offset;
    uint32_t m = args->m, n = args->n, k = args->k, tiles_m = spi_cu_ceil(m, TILE), tiles_n = spi_cu_ceil(n, TILE);
    void *arguments[] = {&a, &b, &c, &m, &n, &k};
    spi_cu_kernel kernel = args->type == SP_F16 ? SPI_CU_guest_f16 : SPI_CU_guest_f32;
    /* Rows of tiles go along y, of which a card takes fewer: the kernel walks over the rest. */
    status = spi_cu_launch(cu, kernel, tiles_n, tiles_m < 65535 ? tiles_m : 65535, TILE * 8, arguments, error);
    cu->runs++;
    return status ? status : spi_cu_wait(cu, "multiplying a guest's matrices", error);
}
