/* device/rotation.c - see rotation.h. */
#include "device/rotation.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

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

static bool set_up(const spi_tensor *tensors, const spi_op *op, spi_rotation *rotation) {
    const float *factors = op->weight == SPI_NONE ? NULL : tensors[op->weight].data;
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

sp_status spi_rotations_create(const spi_tape *tape, const spi_tensor *tensors, spi_rotations *rotations,
                               sp_error *error) {
    memset(rotations, 0, sizeof *rotations);
    rotations->items = spi_alloc(tape->op_count, sizeof *rotations->items);
    rotations->of_op = spi_alloc(tape->op_count, sizeof *rotations->of_op);
    bool done = rotations->items && rotations->of_op;
    for (uint32_t i = 0; done && i < tape->op_count; i++) {
        if (tape->ops[i].kind == SPI_OP_ROPE) {
            uint32_t first = find_first(tape, i);
            if (first == i) {
                done = set_up(tensors, &tape->ops[i], &rotations->items[rotations->count]);
                rotations->of_op[i] = rotations->count++;
            } else {
                rotations->of_op[i] = rotations->of_op[first];
            }
        }
    }
    return done ? SP_OK : spi_fail(error, SP_NO_MEMORY, "no memory to prepare a tape");
}

void spi_rotations_destroy(spi_rotations *rotations) {
    for (uint32_t i = 0; i < rotations->count; i++) {
        spi_free(rotations->items[i].frequencies);
    }
    spi_free(rotations->items);
    spi_free(rotations->of_op);
    memset(rotations, 0, sizeof *rotations);
}

/* Positions next to each other differ by one angle: only every ANCHOR-th is computed from the start, and the error of so
 * many steps in double is far below what f32 can hold. */
#define ANCHOR 64u

static void fill_rows(const spi_rotation *rotation, uint32_t position, uint32_t rows, float *table) {
    for (uint32_t i = 0; i < rotation->pairs; i++) {
        double frequency = rotation->frequencies[i], x = 0, y = 0;
        double step_cos = rows > 1 ? cos(frequency) : 1, step_sin = rows > 1 ? sin(frequency) : 0;
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

void spi_rotation_fill(const spi_rotation *rotation, const spi_run *run, float *table) {
    for (uint32_t s = 0; s < run->segment_count; s++) {
        const spi_segment *segment = &run->segments[s];
        fill_rows(rotation, segment->position_first, segment->row_count,
                  table + (size_t)segment->row_first * rotation->pairs * 2);
    }
}
