/* model/recorder.h - finding a model's weights by name and recording its forward pass as a tape.
 *
 * Owns: the arrays of tensors, ops and buffers, and copies of small vectors that the file has in another type than f32.
 * May include: source, model/hparams.h, device/tape.h, base.
 */
#ifndef SPI_MODEL_RECORDER_H
#define SPI_MODEL_RECORDER_H

#include "device/tape.h"
#include "model/hparams.h"
#include "source/source.h"

typedef struct spi_recorder {
    const spi_source *source;
    spi_hparams hparams;
    sp_error *error;
    sp_status status; /* the first failure; everything after it does nothing */
    spi_tensor *tensors;
    size_t tensor_count, tensor_capacity;
    spi_op *ops;
    size_t op_count, op_capacity;
    spi_buffer *buffers;
    size_t buffer_count, buffer_capacity;
    float **vectors; /* converted copies */
    size_t vector_count, vector_capacity;
    bool *used;                           /* [tensors of the file] */
    uint32_t factors_short, factors_long; /* LongRoPE's two tensors, of which ops have the short one; or SPI_NONE */
} spi_recorder;

/* Finds the weights of hparams' family and records its pass; hparams.vocab is filled in. On failure everything was
 * freed. A tensor that the family does not have is SP_UNSUPPORTED: it would mean something that is not computed. */
sp_status spi_recorder_run(spi_recorder *recorder, const spi_source *source, const spi_hparams *hparams,
                           sp_error *error);
void spi_recorder_free(spi_recorder *recorder);

/* Some rows of a matrix, or elements of a vector, that the file has as one tensor with others: from `first` on, of `of`
 * in all. {0}: the whole. */
typedef struct spi_slice {
    uint32_t first, of;
} spi_slice;

/* Steps, for pass.c. Each returns an index to be used in ops, or SPI_NONE after a failure or for an optional weight
 * that is not there. names are printf formats with the layer; rows and elements are those of the part. */
uint32_t spi_record_matrix(spi_recorder *recorder, const char *format, uint32_t layer, uint32_t rows, uint32_t cols,
                           spi_slice part);
uint32_t spi_record_vector(spi_recorder *recorder, const char *format, uint32_t layer, uint32_t elements,
                           spi_slice part, bool optional);
uint32_t spi_record_values(spi_recorder *recorder, const char *name, const double *values, uint32_t elements);
bool spi_record_has(const spi_recorder *recorder, const char *format, uint32_t layer);
uint32_t spi_record_buffer(spi_recorder *recorder, const char *name, uint32_t width);
void spi_record_op(spi_recorder *recorder, spi_op op);

/* model/pass.c */
void spi_record_pass(spi_recorder *recorder);

#endif
