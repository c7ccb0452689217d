/* device/vulkan/product.c - the guests' matmul, in place in a linked region.
 *
 * Large matrices are computed in parts that can be bound: as many rows of a and c as fit their windows, and over them
 * as many rows of b as fit its own, which are added up.
 */
#include "base/error.h"
#include "device/vulkan/vulkan.h"

#define GROUP_COLUMNS 64u
#define GROUP_ROWS    8u

typedef struct product {
    spi_vk *vk;
    const spi_link *link;
    const sp_matmul *args;
    uint64_t element_bytes;
    sp_error *error;
} product;

typedef struct rows_window {
    spi_vk_binding binding;
    uint32_t first_element; /* of the first row, in the binding */
    uint32_t rows;          /* that fit */
} rows_window;

static sp_status find_rows(const product *work, uint64_t offset, uint64_t row_bytes, uint64_t element_bytes,
                           uint32_t rows, rows_window *found) {
    spi_vk_window window;
    uint64_t held;
    if (!spi_vk_link_window(work->vk, work->link, offset, row_bytes, &window, &held)) {
        uint64_t most = work->vk->limits.window_bytes_max;
        return row_bytes > most
                   ? spi_fail(work->error, SP_UNSUPPORTED,
                              "vulkan: a matrix row of %llu bytes is more than the %llu that this device "
                              "reaches at once",
                              (unsigned long long)row_bytes, (unsigned long long)most)
                   : spi_fail(work->error, SP_LINK_REFUSED,
                              "vulkan: the matrix row at %llu lies across the end of a linked range: put "
                              "it elsewhere, or keep the region below %llu bytes",
                              (unsigned long long)offset, (unsigned long long)work->vk->limits.allocation_bytes_max);
    }
    uint64_t fit = held / row_bytes;
    found->binding = window.binding;
    found->first_element = (uint32_t)((offset - window.first_byte) / element_bytes);
    found->rows = fit < rows ? (uint32_t)fit : rows;
    return SP_OK;
}

/* All of b for the rows of a and c that fit. */
static sp_status record_rows(const product *work, const rows_window *a, const rows_window *c, uint32_t rows) {
    const sp_matmul *args = work->args;
    spi_vk *vk = work->vk;
    for (uint32_t at = 0; at < args->k;) {
        rows_window b;
        uint64_t row_bytes = (uint64_t)args->n * work->element_bytes;
        sp_status status =
            find_rows(work, args->b_offset + at * row_bytes, row_bytes, work->element_bytes, args->k - at, &b);
        if (status) {
            return status;
        }
        uint32_t groups = (args->n + GROUP_COLUMNS - 1) / GROUP_COLUMNS;
        spi_vk_dispatch dispatch = {
            .shader = args->type == SP_F16 ? SPI_VK_product_f16 : SPI_VK_product_f32,
            .groups_x = groups < vk->limits.groups_x_max ? groups : vk->limits.groups_x_max,
            .groups_y = (rows + GROUP_ROWS - 1) / GROUP_ROWS,
            .push = {rows, args->n, b.rows, args->k, a->first_element + at, b.first_element, c->first_element, at > 0},
            .bindings = {[1] = a->binding, [2] = b.binding, [3] = c->binding}};
        if (at) {
            spi_vk_encode_barrier(vk, vk->once);
        }
        status = spi_vk_encode(vk, vk->once, &vk->once_sets, &dispatch, work->error);
        if (status) {
            return status;
        }
        at += b.rows;
    }
    return SP_OK;
}

static sp_status record(const product *work) {
    const sp_matmul *args = work->args;
    uint64_t a_bytes = (uint64_t)args->k * work->element_bytes, c_bytes = (uint64_t)args->n * sizeof(float);
    uint64_t rows_max = (uint64_t)work->vk->limits.groups_y_max * GROUP_ROWS;
    for (uint32_t at = 0; at < args->m;) {
        rows_window a, c;
        uint32_t rows = args->m - at < rows_max ? args->m - at : (uint32_t)rows_max;
        sp_status status = find_rows(work, args->a_offset + at * a_bytes, a_bytes, work->element_bytes, rows, &a);
        status = status ? status : find_rows(work, args->c_offset + at * c_bytes, c_bytes, sizeof(float), rows, &c);
        rows = a.rows < c.rows ? a.rows : c.rows;
        status = status ? status : record_rows(work, &a, &c, rows);
        if (status) {
            return status;
        }
        at += rows;
    }
    return SP_OK;
}

sp_status spi_vk_product(void *context, spi_link *link, const sp_matmul *args, sp_error *error) {
    spi_vk *vk = context;
    product work = {
        .vk = vk, .link = link, .args = args, .element_bytes = args->type == SP_F16 ? 2 : 4, .error = error};
    sp_status status = spi_vk_sets_reset(vk, &vk->once_sets, error);
    status = status ? status : spi_vk_begin(vk, vk->once, error);
    if (status) {
        return status;
    }
    status = record(&work);
    if (status) {
        spi_vk_abandon(vk, vk->once);
        return status;
    }
    spi_vk_encode_host_barrier(vk, vk->once);
    status = spi_vk_submit(vk, vk->once, error);
    vk->runs += !status;
    return status;
}
