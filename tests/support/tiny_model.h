/* tests/support/tiny_model.h - a model of a few kilobytes: two layers, random weights that are always the same, and a
 * tokenizer with a token for each byte. It says nothing sensible, and computes like any other. */
#ifndef SPI_TESTS_TINY_MODEL_H
#define SPI_TESTS_TINY_MODEL_H

#include "samepage/model.h"
#include "support/gguf_writer.h"

#define TINY_VOCAB 259u /* <unk> <s> </s>, then the bytes */

/* Its file, for tests that damage it before they write it. */
void test_tiny_model_file(test_gguf *file);

/* Written to a temporary file, opened, and loaded if device is not NULL. */
sp_model *test_tiny_model(sp_device *device);

#endif
