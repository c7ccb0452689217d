/* device/rotation.c - see rotation.h. */
#include "device/rotation.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

/* Of positions, of which a run of many sessions has many: a sine of each would take longer than sending the run. */
#define DIGITS 64u
#define LEVELS 3u
#define PAIRS  128u /* that are put together at once */

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

static void set_turns(spi_rotation *rotation) {
    double unit = 1, *to = rotation->turns;
    for (uint32_t level = 0; level < LEVELS; level++, unit *= DIGITS) {
        double scale = level + 1 == LEVELS ? rotation->scale : 1;
        for (uint32_t digit = 0; digit < DIGITS; digit++) {
            for (uint32_t i = 0; i < rotation->pairs; i++) {
                *to++ = scale * cos(digit * unit * rotation->frequencies[i]);
                *to++ = scale * sin(digit * unit * rotation->frequencies[i]);
            }
        }
    }
}

static bool set_up(const spi_tensor *tensors, const spi_op *op, spi_rotation *rotation) {
    const float *factors = op->weight == SPI_NONE ? NULL : tensors[op->weight].data;
    rotation->pairs = op->rope_dims / 2;
    rotation->scale = (double)op->scale;
    rotation->frequencies = spi_alloc(rotation->pairs * (1 + LEVELS * DIGITS * 2), sizeof *rotation->frequencies);
    if (!rotation->frequencies) {
        return false;
    }
    for (uint32_t i = 0; i < rotation->pairs; i++) {
        rotation->frequencies[i] = (double)op->rope_freq_scale *
                                   pow((double)op->rope_base, -2.0 * i / (double)op->rope_dims) /
                                   (factors ? (double)factors[i] : 1.0);
    }
    rotation->turns = rotation->frequencies + rotation->pairs;
    set_turns(rotation);
    return true;
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

static const double *turns_of(const spi_rotation *rotation, uint32_t level, uint32_t digit) {
    return rotation->turns + ((size_t)level * DIGITS + digit) * rotation->pairs * 2;
}

/* (cos, sin) of all digits of a position but the last, for `count` pairs from `first` on. */
static void turn_high(const spi_rotation *rotation, uint32_t position, uint32_t first, uint32_t count, double *to) {
    uint32_t high = position / DIGITS;
    bool far = high >= DIGITS * DIGITS;
    const double *a = turns_of(rotation, 2, far ? 0 : high / DIGITS) + (size_t)2 * first;
    const double *b = turns_of(rotation, 1, high % DIGITS) + (size_t)2 * first;
    for (uint32_t i = 0; i < count; i++) {
        to[2 * i] = a[2 * i] * b[2 * i] - a[2 * i + 1] * b[2 * i + 1];
        to[2 * i + 1] = a[2 * i] * b[2 * i + 1] + a[2 * i + 1] * b[2 * i];
        if (far) {
            double angle = (double)high * DIGITS * rotation->frequencies[first + i];
            to[2 * i] = rotation->scale * cos(angle);
            to[2 * i + 1] = rotation->scale * sin(angle);
        }
    }
}

/* Rows of positions that differ in the last digit only. A row's numbers are written one behind the other: tables lie
 * where a processor's writes are slow unless they fill whole lines. */
static void fill_rows(const spi_rotation *rotation, uint32_t position, uint32_t rows, float *table) {
    uint32_t pairs = rotation->pairs;
    double high[2 * PAIRS];
    for (uint32_t first = 0, count; first < pairs; first += count) {
        count = pairs - first < PAIRS ? pairs - first : PAIRS;
        turn_high(rotation, position, first, count, high);
        for (uint32_t row = 0; row < rows; row++) {
            const double *low = turns_of(rotation, 0, position % DIGITS + row) + (size_t)2 * first;
            float *to = table + ((size_t)row * pairs + first) * 2;
            for (uint32_t i = 0; i < 2 * count; i += 2) {
                to[i] = (float)(high[i] * low[i] - high[i + 1] * low[i + 1]);
                to[i + 1] = (float)(high[i] * low[i + 1] + high[i + 1] * low[i]);
            }
        }
    }
}

void spi_rotation_fill_segment(const spi_rotation *rotation, const spi_segment *segment, float *table) {
    for (uint32_t row = 0, rows; row < segment->row_count; row += rows) {
        uint32_t position = segment->position_first + row, left = segment->row_count - row;
        rows = DIGITS - position % DIGITS;
        rows = rows < left ? rows : left;
        fill_rows(rotation, position, rows, table + (size_t)(segment->row_first + row) * rotation->pairs * 2);
    }
}

void spi_rotation_fill(const spi_rotation *rotation, const spi_run *run, float *table) {
    for (uint32_t s = 0; s < run->segment_count; s++) {
        spi_rotation_fill_segment(rotation, &run->segments[s], table);
    }
}
