/* device/metal/product.c - the guests' matmul, in place in a linked region.
 *
 * Matrices longer than a buffer are computed in parts: as many rows of a and c as lie in one buffer each, and over them
 * as many rows of b as lie in one, which are added up.
 */
#include "base/error.h"
#include "device/metal/metal.h"

#define GROUP_COLUMNS 64u
#define GROUP_ROWS    8u
#define GROUPS_MAX    65535u

typedef struct product {
    spi_mt_work work;
    const spi_mt_map *map;
    const sp_matmul *args;
    uint64_t element_bytes;
} product;

typedef struct rows_window {
    spi_mt_binding binding;
    uint32_t rows; /* that are in the buffer */
} rows_window;

static sp_status find_rows(const product *self, uint64_t offset, uint64_t row_bytes, uint32_t rows,
                           rows_window *found) {
    uint64_t fit = spi_mt_map_find(self->map, offset, &found->binding) / row_bytes;
    found->rows = fit < rows ? (uint32_t)fit : rows;
    return fit ? SP_OK
               : spi_fail(self->work.error, SP_UNSUPPORTED,
                          "metal: a matrix row of %llu bytes is more than this device reaches at once",
                          (unsigned long long)row_bytes);
}

/* A binding begins at a multiple of 4; f16 rows may not: the kernel adds the rest, in elements. */
static uint32_t align(spi_mt_binding *binding, uint64_t element_bytes) {
    uint64_t rest = binding->offset % sizeof(uint32_t);
    binding->offset -= rest;
    return (uint32_t)(rest / element_bytes);
}

/* All of b for `rows` rows of a and c. */
static sp_status record_rows(product *self, rows_window a, rows_window c, uint32_t rows) {
    const sp_matmul *args = self->args;
    uint64_t row_bytes = (uint64_t)args->n * self->element_bytes;
    uint32_t a_first = align(&a.binding, self->element_bytes);
    for (uint32_t at = 0; at < args->k;) {
        rows_window b;
        sp_status status = find_rows(self, args->b_offset + at * row_bytes, row_bytes, args->k - at, &b);
        if (status) {
            return status;
        }
        uint32_t b_first = align(&b.binding, self->element_bytes), across = (args->n - 1) / GROUP_COLUMNS + 1;
        spi_mt_dispatch dispatch = {.kernel =
                                        args->type == SP_F16 ? SPI_MT_KERNEL_product_f16 : SPI_MT_KERNEL_product_f32,
                                    .groups_x = across < GROUPS_MAX ? across : GROUPS_MAX,
                                    .groups_y = (rows + GROUP_ROWS - 1) / GROUP_ROWS,
                                    .push = {rows, args->n, b.rows, args->k, a_first + at, b_first, 0, at > 0},
                                    .bindings = {[1] = a.binding, [2] = b.binding, [3] = c.binding}};
        if (at) {
            spi_mt_encode_barrier(&self->work);
        }
        status = spi_mt_encode(&self->work, &dispatch);
        if (status) {
            return status;
        }
        at += b.rows;
    }
    return SP_OK;
}

static sp_status record(product *self) {
    const sp_matmul *args = self->args;
    uint64_t a_bytes = (uint64_t)args->k * self->element_bytes, c_bytes = (uint64_t)args->n * sizeof(float);
    for (uint32_t at = 0; at < args->m;) {
        rows_window a, c;
        sp_status status = find_rows(self, args->a_offset + at * a_bytes, a_bytes, args->m - at, &a);
        status = status ? status : find_rows(self, args->c_offset + at * c_bytes, c_bytes, args->m - at, &c);
        uint32_t rows = !status && a.rows < c.rows ? a.rows : c.rows;
        status = status ? status : record_rows(self, a, c, rows);
        if (status) {
            return status;
        }
        at += rows;
    }
    return SP_OK;
}

sp_status spi_mt_product(void *context, spi_link *link, const sp_matmul *args, sp_error *error) {
    spi_mt *mt = context;
    product self = {
        .map = &((const spi_mt_link *)link)->map, .args = args, .element_bytes = args->type == SP_F16 ? 2 : 4};
    sp_status status = spi_mt_begin(mt, &self.work, error);
    if (status) {
        return status;
    }
    status = record(&self);
    if (status) {
        spi_mt_abandon(&self.work);
        return status;
    }
    status = spi_mt_submit(&self.work);
    mt->runs += !status;
    return status;
}
