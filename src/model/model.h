/* model/model.h - what sessions need of a model beyond the public header.
 *
 * Owns: the mapped file, its index of weights, the tokenizer, the tape, and what is loaded on devices.
 * May include: gguf, tokenizer, sampler, device, region, os, base.
 */
#ifndef SPI_MODEL_MODEL_H
#define SPI_MODEL_MODEL_H

#include "device/backend.h"
#include "device/tape.h"
#include "samepage/model.h"

/* Rows in one run: long enough that matmul is limited by arithmetic, short enough to stop between two of them. */
#define SPI_ROWS_MAX 512u

const spi_tape *spi_model_tape(const sp_model *model);
const spi_weights *spi_model_weights(const sp_model *model);

/* The tape as it is ready on a device; NULL if the model is not loaded there. */
spi_program *spi_model_program(const sp_model *model, const sp_device *device);

/* Sessions count themselves, so that unloading under one is caught as the programmer's error that it is. */
void spi_model_retain(sp_model *model, const sp_device *device);
void spi_model_release(sp_model *model, const sp_device *device);

#endif
