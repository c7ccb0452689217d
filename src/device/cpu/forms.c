/* device/cpu/forms.c - rows of activations in the forms that products take: by a step of their own, or within the step
 * that computes them, a few rows at a time, while they are in the caches. May include: device, os, base.
 */
#include <string.h>

#include "device/cpu/cpu.h"

uint32_t spi_cpu_rows(const spi_program *program, const spi_step *step) {
    return step->outputs ? program->run->out_count : program->run->row_count;
}

bool spi_cpu_in_form(const spi_program *program, const spi_step *prepare) {
    /* Rows that are to be as if alone are multiplied in the form of a run of one row. */
    uint32_t rows = program->alone ? 1 : spi_cpu_rows(program, prepare);
    return rows >= prepare->rows_min && rows < prepare->rows_end;
}

bool spi_cpu_makes_forms(const spi_program *program, const spi_step *step) {
    bool any = false;
    for (uint32_t form = 0; form < SPI_FORM_COUNT; form++) {
        any |= step->prepares[form] && spi_cpu_in_form(program, step->prepares[form]);
    }
    return any;
}

bool spi_cpu_only_forms(const spi_program *program, const spi_step *step) {
    return !program->alone && spi_cpu_rows(program, step) >= step->forms_rows_min;
}

/* 32 columns of a row, or what is left of them. */
static void square_row(const spi_cpu_kernels *kernels, uint16_t *to, const float *from, uint32_t count) {
    if (count < SPI_BF16_UNIT) {
        float rest[SPI_BF16_UNIT] = {0};
        memcpy(rest, from, count * sizeof *rest);
        kernels->to_bf16(to, rest);
    } else {
        kernels->to_bf16(to, from);
    }
}

/* Columns from `column` on of a row of the patch. */
static const float *values_of(const spi_program *program, uint32_t buffer, const spi_cpu_patch *of, uint32_t row,
                              uint32_t column) {
    if (of->values) {
        return of->values + (row - of->row_first) * of->stride + (column - of->first);
    }
    return program->buffers[buffer] + (size_t)row * program->tape->buffers[buffer].width + column;
}

static void to_bf16(const spi_program *program, uint32_t buffer, const spi_cpu_patch *of) {
    uint32_t unit = SPI_BF16_UNIT, columns = program->tape->buffers[buffer].width;
    uint16_t *squares = (uint16_t *)(void *)program->acts[SPI_FORM_BF16][buffer];
    for (uint32_t column = of->first; column < of->end; column += unit) {
        for (uint32_t row = of->row_first; row < of->row_end; row++) {
            size_t square = (size_t)(row / unit) * unit * spi_bf16_stride(columns) + (size_t)column * unit;
            square_row(program->cpu->kernels, squares + square + (size_t)(row % unit) * unit,
                       values_of(program, buffer, of, row, column), of->end - column);
        }
    }
}

static void to_i8(const spi_program *program, uint32_t rows, uint32_t buffer, const spi_cpu_patch *of) {
    const spi_cpu_kernels *kernels = program->cpu->kernels;
    uint32_t columns = program->tape->buffers[buffer].width, blocks = columns / SPI_I8_COLUMNS;
    for (uint32_t row = of->row_first, tile_first = 0, tile; row < of->row_end; row++) {
        while (tile = spi_i8_tile_tokens(rows - tile_first, kernels->token_tile_max), row >= tile_first + tile) {
            /* All tiles before the last few are full: go there at once. */
            uint32_t full = (row - tile_first) / tile;
            tile_first += tile == kernels->token_tile_max && full > 1 ? (full - 1) * tile : tile;
        }
        size_t block = (size_t)tile_first * blocks + (size_t)of->first / SPI_I8_COLUMNS * tile;
        kernels->quantise(program->acts[SPI_FORM_I8][buffer] + block * SPI_I8_TOKEN_BYTES, tile, row - tile_first,
                          values_of(program, buffer, of, row, of->first), (of->end - of->first) / SPI_I8_COLUMNS);
    }
}

void spi_cpu_make_form(const spi_program *program, const spi_step *prepare, const spi_cpu_patch *of) {
    if (prepare->form == SPI_FORM_I8) {
        to_i8(program, spi_cpu_rows(program, prepare), prepare->buffer, of);
    } else {
        to_bf16(program, prepare->buffer, of);
    }
}

void spi_cpu_make_forms(const spi_program *program, const spi_step *step, const spi_cpu_patch *of) {
    for (uint32_t form = 0; form < SPI_FORM_COUNT; form++) {
        const spi_step *prepare = step->prepares[form];
        if (prepare && spi_cpu_in_form(program, prepare)) {
            spi_cpu_make_form(program, prepare, of);
        }
    }
}
