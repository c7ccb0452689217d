/* tests/support/hf_folder.h - writes a model's folder as Hugging Face and MLX lay it out, right or wrong. */
#ifndef SPI_TESTS_HF_FOLDER_H
#define SPI_TESTS_HF_FOLDER_H

#include <stddef.h>
#include <stdint.h>

typedef struct test_hf_tensor {
    const char *name, *dtype;
    uint32_t rows, cols; /* rows 0: a vector */
    const void *data;    /* NULL: zeros */
} test_hf_tensor;

/* The path of build/tests/NAME, emptied of what an earlier test left there: to be used before the next call. */
const char *test_hf_create(const char *name);
void test_hf_file(const char *folder, const char *name, const void *bytes, size_t count);
void test_hf_text(const char *folder, const char *name, const char *text);
void test_hf_tensors(const char *folder, const char *name, const test_hf_tensor *tensors, size_t count);

/* A llama of one layer, width 64, of zeros in F16, with so many tokens: config.json and model.safetensors. With bits
 * the feed-forward part is quantised, in groups of 32 with scales in BF16. */
void test_hf_llama(const char *folder, uint32_t vocab, uint32_t bits);

#endif
