/* tests/support/tiny_model.h - a model of a few kilobytes: two layers, random weights that are always the same, and a
 * tokenizer with a token for each byte. It says nothing sensible, and computes like any other. */
#ifndef SPI_TESTS_TINY_MODEL_H
#define SPI_TESTS_TINY_MODEL_H

#include "samepage/dtype.h"
#include "samepage/model.h"
#include "support/gguf_writer.h"

#define TINY_VOCAB 259u /* <unk> <s> </s>, then the bytes */

/* What may be put into it; 0 is nothing of it. */
typedef struct test_tiny {
    uint32_t window;           /* attention.sliding_window, of both layers */
    uint32_t original_context; /* LongRoPE beyond it: factors of 1 within, of 4 behind */
    sp_dtype matrices;         /* their type, of blocks of 32; 0 is SP_F32 */
} test_tiny;

/* Its file, for tests that damage it before they write it. */
void test_tiny_model_file(test_gguf *file);
void test_tiny_model_file_with(test_gguf *file, const test_tiny *with);

/* Written to a temporary file, opened, and loaded if device is not NULL. */
sp_model *test_tiny_model(sp_device *device);
sp_model *test_tiny_model_with(const test_tiny *with, sp_device *device);

#endif
