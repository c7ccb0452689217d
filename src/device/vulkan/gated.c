/* device/vulkan/gated.c - the gate's two products of many rows as one: a work group has tiles of both and writes act(a)
 * * b as f16, as the product behind wants it, where each by itself would write f32 and be read again.
 *
 * As f16 a row needs a factor before anybody knows its values. A bound will do, since f16 loses nothing but what is
 * 2^28 times smaller than that: |a| <= |x| |w|, so |act(a) * b| is at most the square of the length of x times those of
 * each weight's longest row, which are measured once.
 *
 * May include: device/vulkan/products.h.
 */
#include "device/vulkan/products.h"

#define BOUNDS_INVOCATIONS 256u
#define GATED_GELU         8u

/* For so many rows of each weight. */
static spi_vk_tile choose_tile(const spi_vk_recorder *r, uint32_t weight_rows) {
    return spi_vk_choose_tile(r->vk, 2 * weight_rows, r->rows,
                              spi_vk_tile_count(SPI_VK_TILE_128, 2 * weight_rows, r->rows));
}

bool spi_vk_takes_gated(const spi_vk_recorder *r, uint32_t begin) {
    const spi_program *program = r->program;
    const spi_op *op = &program->tape->ops[begin];
    uint32_t rows = program->store->sources[op->weight].rows;
    bool many = r->rows >= r->vk->limits.matrix_rows_min && !spi_vk_takes_few(r->vk, r->rows);
    bool tiles = !r->vk->limits.cooperative || choose_tile(r, rows) > SPI_VK_TILE_64;
    return program->gated.bytes && many && tiles && spi_vk_takes_halves(r, op) && spi_vk_takes_halves(r, op + 1);
}

/* Rows of each of so many weights that can be expanded at once: whole parts. */
static uint32_t rows_at_once(const spi_program *program, const spi_op *op, uint32_t weights) {
    uint64_t bytes = (uint64_t)spi_shader_stride(program->store->sources[op->weight].cols) * sizeof(uint16_t) * weights;
    uint64_t rows = program->expanded[0].bytes / bytes / SPI_VK_PART_ROWS * SPI_VK_PART_ROWS;
    return rows < UINT32_MAX ? (uint32_t)rows : UINT32_MAX;
}

/* The products of two parts. is_last: nothing stands behind them in a row but its padding. */
static sp_status record_tiles(spi_vk_recorder *r, uint32_t begin, const spi_vk_part parts[2], bool is_last) {
    static const spi_vk_shader shaders[SPI_VK_TILES][2] = {{SPI_VK_matrix_gated_64, SPI_VK_matrix_gated_64_bf16},
                                                           {SPI_VK_matrix_gated_c128, SPI_VK_matrix_gated_c128_bf16},
                                                           {SPI_VK_matrix_gated_c256, SPI_VK_matrix_gated_c256_bf16}};
    const spi_program *program = r->program;
    const spi_op *op = parts[0].op, *gate = &program->tape->ops[begin + 2];
    const spi_vk_packing *packing = &program->store->tensors[op->weight].packing;
    spi_vk_binding expanded = spi_vk_bind(&program->expanded[r->expanded]);
    uint32_t first = parts[0].piece->row_first + parts[0].row_first;
    uint32_t h_stride = spi_vk_buffer_stride(r, gate->dst), limit = is_last ? h_stride - first : parts[0].row_count;
    uint32_t stride = spi_vk_buffer_stride(r, op->src) / 8;
    /* There are none of 64 with cooperative matrices; the last part may have that few rows. */
    spi_vk_tile tile = choose_tile(r, parts[0].row_count);
    tile = r->vk->limits.cooperative && tile == SPI_VK_TILE_64 ? SPI_VK_TILE_128 : tile;
    spi_vk_order(r, (spi_vk_access){SPI_VK_HALVES_BIT | (parts[0].lies ? 0 : SPI_VK_EXPANDED_BIT << r->expanded),
                                    first ? 0 : SPI_VK_GATED_BIT}); /* parts write different columns */
    sp_status status = spi_vk_copies_record(r);
    if (status) {
        return status;
    }
    spi_vk_dispatch dispatch = {.shader = shaders[tile][spi_vk_is_bf16(&parts[0], packing)],
                                .groups_x = spi_vk_ceil_div(limit, spi_vk_tile_weights(tile) / 2),
                                .groups_y = spi_vk_ceil_div(r->rows, spi_vk_tile_rows_of(tile)),
                                .push = {first, parts[0].row_count, parts[0].to, stride, h_stride / 2, 0, r->rows,
                                         gate->act == SPI_ACT_GELU_TANH ? GATED_GELU : 0, 0, 0, 0,
                                         spi_vk_part_units(&parts[0], packing, stride), 0, 0, 0, parts[1].to, limit,
                                         program->tape->rows_max, spi_vk_panel_rows(program)},
                                .bindings = {[1] = spi_vk_bind(&program->parameters),
                                             [2] = parts[0].lies ? parts[0].piece->units : expanded,
                                             [3] = parts[1].lies ? parts[1].piece->units : expanded,
                                             [4] = spi_vk_bind(&program->halves),
                                             [5] = spi_vk_bind(&program->parameters),
                                             [6] = spi_vk_bind(&program->parameters),
                                             [7] = spi_vk_bind(&program->factors),
                                             [8] = spi_vk_bind(&program->gated)}};
    return spi_vk_dispatch_record(r, &dispatch);
}

sp_status spi_vk_gated_record(spi_vk_recorder *r, uint32_t begin, const spi_op *norm) {
    const spi_program *program = r->program;
    const spi_op *ops = &program->tape->ops[begin];
    const spi_vk_tensor *tensors[2] = {&program->store->tensors[ops[0].weight],
                                       &program->store->tensors[ops[1].weight]};
    uint32_t pieces = tensors[0]->piece_count, stride = spi_vk_buffer_stride(r, ops[0].src) / 8;
    bool lies = spi_vk_lies(&tensors[0]->packing), has_halves = false;
    sp_status status = SP_OK;
    for (uint32_t k = 0; k < pieces && !status; k++) {
        uint32_t count = tensors[0]->pieces[k].row_count, most = lies ? count : rows_at_once(program, ops, 2);
        for (uint32_t row = 0; row < count && !status; row += most) {
            uint32_t rows = count - row < most ? count - row : most;
            uint32_t second = lies ? 0 : spi_vk_ceil_div(rows, SPI_VK_PART_ROWS) * SPI_VK_PART_ROWS * stride;
            spi_vk_part parts[2] = {{ops, &tensors[0]->pieces[k], row, rows, 0, lies},
                                    {ops + 1, &tensors[1]->pieces[k], row, rows, second, lies}};
            for (uint32_t i = 0; i < 2 && !status && !lies; i++) {
                status = spi_vk_expansion_record(r, &parts[i]);
            }
            if (!status && !has_halves) {
                has_halves = true;
                status = spi_vk_halves_record(r, &(spi_vk_x){.src = norm->src, .by = norm}, 0, begin);
            }
            status = status ? status : record_tiles(r, begin, parts, k + 1 == pieces && row + rows == count);
            r->expanded ^= !lies;
        }
    }
    return status;
}

static sp_status record_bounds(spi_vk_recorder *r, uint32_t index) {
    const spi_program *program = r->program;
    const spi_op *op = &program->tape->ops[index];
    const spi_vk_tensor *tensor = &program->store->tensors[op->weight];
    uint32_t most = rows_at_once(program, op, 1),
             stride = spi_shader_stride(program->store->sources[op->weight].cols) / 8;
    sp_status status = SP_OK;
    for (uint32_t k = 0; k < tensor->piece_count; k++) {
        uint32_t count = tensor->pieces[k].row_count;
        for (uint32_t row = 0; row < count && !status; row += most) {
            uint32_t rows = count - row < most ? count - row : most;
            status = spi_vk_expansion_record(r, &(spi_vk_part){op, &tensor->pieces[k], row, rows, 0, false});
            spi_vk_order(r, (spi_vk_access){SPI_VK_EXPANDED_BIT << r->expanded, 0});
            spi_vk_dispatch dispatch = {
                .shader = SPI_VK_bounds,
                .groups_x = spi_vk_ceil_div(rows, BOUNDS_INVOCATIONS),
                .groups_y = 1,
                .push = {rows, stride, index},
                .bindings = {[2] = spi_vk_bind(&program->expanded[r->expanded]), [6] = spi_vk_bind(&program->tops)}};
            status = status ? status : spi_vk_dispatch_record(r, &dispatch);
            r->expanded ^= 1;
        }
    }
    return status;
}

sp_status spi_vk_bounds_find(spi_vk *vk, spi_program *program, sp_error *error) {
    if (!program->gated.bytes) {
        return SP_OK;
    }
    spi_vk_relay relay = {0};
    spi_vk_recorder recorder = {
        .vk = vk, .program = program, .relay = &relay, .commands = vk->once, .sets = &vk->once_sets, .error = error};
    sp_status status = spi_vk_zero(vk, &program->tops, 1, error);
    status = status ? status : spi_vk_sets_reset(vk, &vk->once_sets, error);
    status = status ? status : spi_vk_begin(vk, vk->once, error);
    if (status) {
        return status;
    }
    for (uint32_t i = 0; i < program->tape->op_count && !status; i++) {
        bool gated = spi_vk_is_gated(program, i);
        status = gated ? record_bounds(&recorder, i) : SP_OK;
        status = gated && !status ? record_bounds(&recorder, i + 1) : status;
    }
    if (status) {
        spi_vk_abandon(vk, vk->once);
        return status;
    }
    return spi_vk_submit(vk, vk->once, error);
}
