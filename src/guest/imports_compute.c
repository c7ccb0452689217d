/* guest/imports_compute.c - the imports that compute on plain memory. */
#include "base/error.h"
#include "guest/imports.h"
#include "guest/imports_abi.h"
#include "samepage/dtype.h"

#define MATRIX_ALIGN_BYTES 16u

/* A product is computed in one go while other guests wait, so it must end soon: 4,096 cubed. */
#define MULTIPLICATIONS_MAX ((uint64_t)1 << 36)

/* Products of two 32-bit numbers and a small size fit into 64 bits only almost. */
static sp_status check_matrix(sp_guest *guest, const char *name, uint32_t address, uint32_t rows, uint32_t columns,
                              uint32_t element_bytes) {
    uint64_t bytes;
    if (__builtin_mul_overflow((uint64_t)rows * columns, element_bytes, &bytes)) {
        bytes = UINT64_MAX;
    }
    return spi_memory_range(guest, "matmul", name, address, bytes, MATRIX_ALIGN_BYTES);
}

int32_t spi_host_matmul(sp_guest *guest, uint32_t a, uint32_t b, uint32_t c, uint32_t m, uint32_t n, uint32_t k,
                        int32_t type, spi_job *job) {
    sp_error *error = spi_host_error(guest);
    if (!spi_guest_device(guest)) {
        return spi_fail(error, SP_NO_DEVICE, "matmul: this guest was given no device");
    }
    if (type != SP_F32 && type != SP_F16) {
        return spi_fail(error, SP_INVALID, "matmul: type %d is neither 0 (f32) nor 1 (f16)", type);
    }
    if (!m || !n || !k) {
        return spi_fail(error, SP_INVALID, "matmul: %u x %u x %u has nothing in it", m, n, k);
    }
    uint64_t multiplications;
    if (__builtin_mul_overflow((uint64_t)m * n, k, &multiplications) || multiplications > MULTIPLICATIONS_MAX) {
        return spi_fail(error, SP_LIMIT, "matmul: %u x %u x %u is too much for one call: split it", m, n, k);
    }
    uint32_t element_bytes = type == SP_F32 ? 4 : 2;
    sp_status status = check_matrix(guest, "a", a, m, k, element_bytes);
    status = status ? status : check_matrix(guest, "b", b, k, n, element_bytes);
    status = status ? status : check_matrix(guest, "c", c, m, n, 4);
    if (status) {
        return status;
    }
    *job = (spi_job){
        .kind = SPI_JOB_MATMUL,
        .matmul = {.m = m, .n = n, .k = k, .type = type, .a_offset = a, .b_offset = b, .c_offset = c},
    };
    return SP_OK;
}
