/* model/model.h - what sessions need of a model beyond the public header.
 *
 * Owns: the mapped file, its index of weights, the tokenizer, the tape, and what is loaded on devices.
 * May include: source, tokenizer, sampler, device, region, os, base.
 */
#ifndef SPI_MODEL_MODEL_H
#define SPI_MODEL_MODEL_H

#include "device/backend.h"
#include "device/tape.h"
#include "samepage/model.h"

/* Rows in one run, where the device does not say otherwise: long enough that matmul is limited by arithmetic, short
 * enough to stop between two of them. */
#define SPI_ROWS_MAX 512u

uint32_t spi_model_rows_max(const sp_device *device);

/* What a row of a long run has taken on the device of late; 0: there was no such run. Noted by who makes runs. */
int64_t spi_model_row_ns(const sp_model *model, const sp_device *device);
void spi_model_note_run(sp_model *model, const sp_device *device, uint32_t row_count, int64_t ns);

const spi_tape *spi_model_tape(const sp_model *model); /* with keys and values in F16 */
const spi_kv_shape *spi_model_kv(const sp_model *model, sp_kv_type type);
const spi_weights *spi_model_weights(const sp_model *model);

/* True for a token that ends a text or a turn; a model without a usable tokenizer has none. */
bool spi_model_is_end(const sp_model *model, int32_t token);

/* The tape as it is ready on a device for sessions of that context and type of keys and values; NULL if the model is
 * not loaded there, or nobody has wanted that one. Each type has a tape of its own, and a model that reaches further by
 * LongRoPE (arXiv:2402.13753) has another for contexts longer than the one it was trained at first: rows of two tapes
 * are never in one run, and blocks that one wrote mean nothing to the other. All but the first, which is F16's, are
 * made by spi_model_prepare: SP_NO_MEMORY, SP_UNSUPPORTED. */
spi_program *spi_model_program(const sp_model *model, const sp_device *device, uint32_t context_max, sp_kv_type type);
bool spi_model_is_long(const sp_model *model, uint32_t context_max);
sp_status spi_model_prepare(sp_model *model, const sp_device *device, uint32_t context_max, sp_kv_type type,
                            sp_error *error);

/* Sessions count themselves, so that unloading under one is caught as the programmer's error that it is. */
void spi_model_retain(sp_model *model, const sp_device *device);
void spi_model_release(sp_model *model, const sp_device *device);

#endif
