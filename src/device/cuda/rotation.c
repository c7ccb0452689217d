/* device/cuda/rotation.c - tables of cosines and sines for ROPE, computed by the host for each run.
 *
 * In f32 an angle at position 100,000 is off by 0.004, and a table costs a few microseconds a row.
 */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/cuda/cuda.h"

static bool same(const spi_op *a, const spi_op *b) {
    return a->weight == b->weight && a->rope_dims == b->rope_dims && a->rope_base == b->rope_base &&
           a->rope_freq_scale == b->rope_freq_scale && a->scale == b->scale;
}

/* The first op that rotates by the same angles; op itself if there is none before it. */
static uint32_t find_first(const spi_tape *tape, uint32_t op) {
    for (uint32_t i = 0; i < op; i++) {
        if (tape->ops[i].kind == SPI_OP_ROPE && same(&tape->ops[i], &tape->ops[op])) {
            return i;
        }
    }
    return op;
}

static bool set_up(const spi_program *program, const spi_op *op, spi_cu_rotation *rotation) {
    const float *factors = op->weight == SPI_NONE ? NULL : program->store->sources[op->weight].data;
    rotation->pairs = op->rope_dims / 2;
    rotation->scale = (double)op->scale;
    rotation->frequencies = spi_alloc(rotation->pairs, sizeof *rotation->frequencies);
    for (uint32_t i = 0; rotation->frequencies && i < rotation->pairs; i++) {
        rotation->frequencies[i] = (double)op->rope_freq_scale *
                                   pow((double)op->rope_base, -2.0 * i / (double)op->rope_dims) /
                                   (factors ? (double)factors[i] : 1.0);
    }
    return rotation->frequencies != NULL;
}

sp_status spi_cu_rotations_create(spi_program *program, uint64_t first_byte, sp_error *error) {
    const spi_tape *tape = program->tape;
    program->parameter_bytes = first_byte;
    program->rotations = spi_alloc(tape->op_count, sizeof *program->rotations);
    program->op_rotations = spi_alloc(tape->op_count, sizeof *program->op_rotations);
    bool done = program->rotations && program->op_rotations;
    for (uint32_t i = 0; done && i < tape->op_count; i++) {
        if (tape->ops[i].kind != SPI_OP_ROPE) {
            continue;
        }
        uint32_t first = find_first(tape, i);
        if (first < i) {
            program->op_rotations[i] = program->op_rotations[first];
            continue;
        }
        spi_cu_rotation *rotation = &program->rotations[program->rotation_count];
        done = set_up(program, &tape->ops[i], rotation);
        rotation->first_byte = program->parameter_bytes;
        uint64_t bytes = (uint64_t)tape->rows_max * rotation->pairs * 2 * sizeof(float);
        program->parameter_bytes += (bytes + 15) / 16 * 16;
        program->op_rotations[i] = program->rotation_count++;
    }
    return done ? SP_OK : spi_fail(error, SP_NO_MEMORY, "cuda: no memory to prepare a tape");
}

void spi_cu_rotations_destroy(spi_program *program) {
    for (uint32_t i = 0; i < program->rotation_count; i++) {
        spi_free(program->rotations[i].frequencies);
    }
    spi_free(program->rotations);
    spi_free(program->op_rotations);
}

/* Positions next to each other differ by one angle: only every ANCHOR-th is computed from the start, and the error of so
 * many steps in double is far below what f32 can hold. */
#define ANCHOR 64u

static void fill_rows(const spi_cu_rotation *rotation, uint32_t position, uint32_t rows, float *table) {
    for (uint32_t i = 0; i < rotation->pairs; i++) {
        double frequency = rotation->frequencies[i], step_cos = cos(frequency), step_sin = sin(frequency), x = 0, y = 0;
        for (uint32_t row = 0; row < rows; row++) {
            double before = x;
            if (row % ANCHOR == 0) {
                x = rotation->scale * cos((position + row) * frequency);
                y = rotation->scale * sin((position + row) * frequency);
            } else {
                x = before * step_cos - y * step_sin;
                y = before * step_sin + y * step_cos;
            }
            float *to = table + ((size_t)row * rotation->pairs + i) * 2;
            to[0] = (float)x;
            to[1] = (float)y;
        }
    }
}

void spi_cu_rotations_fill(const spi_program *program, const spi_run *run) {
    for (uint32_t i = 0; i < program->rotation_count; i++) {
        const spi_cu_rotation *rotation = &program->rotations[i];
        float *table = (float *)(void *)((uint8_t *)program->parameters.address + rotation->first_byte);
        for (uint32_t s = 0; s < run->segment_count; s++) {
            const spi_segment *segment = &run->segments[s];
            fill_rows(rotation, segment->position_first, segment->row_count,
                      table + (size_t)segment->row_first * rotation->pairs * 2);
        }
    }
}
