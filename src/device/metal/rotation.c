/* device/metal/rotation.c - tables of cosines and sines for ROPE, computed by the host for each run.
 *
 * A shader's sine has an error of its own for large angles, and a table costs a few microseconds a row.
 */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/metal/metal.h"

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

static bool set_up(const spi_program *program, const spi_op *op, spi_mt_rotation *rotation) {
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

sp_status spi_mt_rotations_create(spi_program *program, uint32_t first_word, uint64_t *words, sp_error *error) {
    const spi_tape *tape = program->tape;
    *words = first_word;
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
        spi_mt_rotation *rotation = &program->rotations[program->rotation_count];
        done = set_up(program, &tape->ops[i], rotation);
        rotation->word = (uint32_t)*words;
        *words += (uint64_t)tape->rows_max * rotation->pairs * 2;
        program->op_rotations[i] = program->rotation_count++;
        if (*words > UINT32_MAX) {
            return spi_fail(error, SP_UNSUPPORTED, "metal: runs of %u rows are more than its parameters can hold",
                            tape->rows_max);
        }
    }
    return done ? SP_OK : spi_fail(error, SP_NO_MEMORY, "metal: no memory to prepare a tape");
}

void spi_mt_rotations_destroy(spi_program *program) {
    for (uint32_t i = 0; i < program->rotation_count; i++) {
        spi_free(program->rotations[i].frequencies);
    }
    spi_free(program->rotations);
    spi_free(program->op_rotations);
}

static void fill_row(const spi_mt_rotation *rotation, uint32_t position, float *table) {
    for (uint32_t i = 0; i < rotation->pairs; i++) {
        double angle = position * rotation->frequencies[i];
        table[2 * i] = (float)(rotation->scale * cos(angle));
        table[2 * i + 1] = (float)(rotation->scale * sin(angle));
    }
}

void spi_mt_rotations_fill(const spi_program *program, const spi_run *run) {
    for (uint32_t i = 0; i < program->rotation_count; i++) {
        const spi_mt_rotation *rotation = &program->rotations[i];
        float *table = (float *)program->parameters.contents + rotation->word;
        for (uint32_t s = 0; s < run->segment_count; s++) {
            const spi_segment *segment = &run->segments[s];
            for (uint32_t k = 0; k < segment->row_count; k++) {
                fill_row(rotation, segment->position_first + k,
                         table + (size_t)(segment->row_first + k) * rotation->pairs * 2);
            }
        }
    }
}
