/* tokenizer/tokenizer.h - making a tokenizer from a model's file.
 *
 * May include: source, os, base.
 */
#ifndef SPI_TOKENIZER_TOKENIZER_H
#define SPI_TOKENIZER_TOKENIZER_H

#include "samepage/tokenizer.h"
#include "source/source.h"

/* Reads tokenizer.ggml.*; strings are copied, so the file may be closed. A model without a tokenizer, of an unknown
 * family or with an unknown pre-tokeniser is SP_UNSUPPORTED and named; vocabulary arrays that do not fit together are
 * SP_BAD_FILE. */
sp_status spi_tokenizer_create(const spi_source *source, sp_tokenizer **tokenizer, sp_error *error);
void spi_tokenizer_destroy(sp_tokenizer *tokenizer);

#endif
