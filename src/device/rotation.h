/* device/rotation.h - the angles of ROPE, for backends whose kernels read cosines and sines from tables.
 *
 * The host computes a table for each run: in f32 an angle at position 100,000 is off by 0.004, and a device's sine has
 * an error of its own for large angles. Ops that turn by the same angles share a table. A position's angles are put
 * together from those of its digits, always in the same way: its numbers do not depend on the rows beside it. May
 * include: device/tape.h.
 */
#ifndef SPI_DEVICE_ROTATION_H
#define SPI_DEVICE_ROTATION_H

#include "device/tape.h"

typedef struct spi_rotation {
    uint32_t pairs;
    uint64_t place; /* of its table, in whatever the backend counts: the backend's to set */
    double scale;
    double *frequencies; /* [pairs] */
    double *turns; /* (cos, sin) [level][digit][pair] of digit * 64^level, the last level's times scale: rotation.c */
} spi_rotation;

typedef struct spi_rotations {
    spi_rotation *items;
    uint32_t *of_op; /* per op of the tape: an index of items, for ROPE */
    uint32_t count;
} spi_rotations;

/* tensors: where the factors of an op's `weight` are read from. A failure leaves something behind for destroy. */
sp_status spi_rotations_create(const spi_tape *tape, const spi_tensor *tensors, spi_rotations *rotations,
                               sp_error *error);
void spi_rotations_destroy(spi_rotations *rotations); /* a zeroed one is allowed */

/* The run's rows of a table: (cos, sin) [row][pair]. */
void spi_rotation_fill(const spi_rotation *rotation, const spi_run *run, float *table);
void spi_rotation_fill_segment(const spi_rotation *rotation, const spi_segment *segment, float *table);

#endif
