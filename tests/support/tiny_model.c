/* tests/support/tiny_model.c - see tiny_model.h. */
#include "support/tiny_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dtype/quant.h"
#include "samepage/dtype.h"
#include "support/support.h"

enum { LAYERS = 2, WIDTH = 64, FEED = 96, HEADS = 2, KV_HEADS = 1, HEAD_DIM = 32, ALIGNMENT = 32 };

typedef struct tensor {
    char name[64];
    uint32_t rows, columns; /* rows 0: a vector of `value` */
    float value;
} tensor;

typedef struct list {
    tensor items[5 + LAYERS * 9];
    uint32_t count;
} list;

static void add(list *all, const char *format, uint32_t layer, uint32_t rows, uint32_t columns) {
    tensor *t = &all->items[all->count++];
    *t = (tensor){.rows = rows, .columns = columns, .value = 1};
    snprintf(t->name, sizeof t->name, format, layer);
}

static list tensors(const test_tiny *with) {
    list all = {.count = 0};
    add(&all, "token_embd.weight", 0, TINY_VOCAB, WIDTH);
    for (uint32_t i = 0; i < LAYERS; i++) {
        add(&all, "blk.%u.attn_norm.weight", i, 0, WIDTH);
        add(&all, "blk.%u.attn_q.weight", i, HEADS * HEAD_DIM, WIDTH);
        add(&all, "blk.%u.attn_k.weight", i, KV_HEADS * HEAD_DIM, WIDTH);
        add(&all, "blk.%u.attn_v.weight", i, KV_HEADS * HEAD_DIM, WIDTH);
        add(&all, "blk.%u.attn_output.weight", i, WIDTH, HEADS * HEAD_DIM);
        add(&all, "blk.%u.ffn_norm.weight", i, 0, WIDTH);
        add(&all, "blk.%u.ffn_gate.weight", i, FEED, WIDTH);
        add(&all, "blk.%u.ffn_up.weight", i, FEED, WIDTH);
        add(&all, "blk.%u.ffn_down.weight", i, WIDTH, FEED);
    }
    add(&all, "output_norm.weight", 0, 0, WIDTH);
    if (with->original_context) {
        add(&all, "rope_factors_short.weight", 0, 0, HEAD_DIM / 2);
        add(&all, "rope_factors_long.weight", 0, 0, HEAD_DIM / 2);
        all.items[all.count - 1].value = 4;
    }
    return all;
}

static void write_tokenizer(test_gguf *file) {
    static char names[TINY_VOCAB][8] = {"<unk>", "<s>", "</s>"};
    const char *texts[TINY_VOCAB];
    float scores[TINY_VOCAB] = {0};
    int32_t types[TINY_VOCAB] = {2, 3, 3}; /* unknown, control, control */
    for (uint32_t i = 0; i < TINY_VOCAB; i++) {
        if (i >= 3) {
            snprintf(names[i], sizeof names[i], "<0x%02X>", (unsigned)(i - 3) & 0xff);
            types[i] = 6; /* byte */
        }
        texts[i] = names[i];
    }
    test_gguf_key_string(file, "tokenizer.ggml.model", "llama");
    test_gguf_key_strings(file, "tokenizer.ggml.tokens", texts, TINY_VOCAB);
    test_gguf_key_numbers(file, "tokenizer.ggml.scores", SPI_VALUE_F32, scores, TINY_VOCAB);
    test_gguf_key_numbers(file, "tokenizer.ggml.token_type", SPI_VALUE_I32, types, TINY_VOCAB);
    test_gguf_key_u32(file, "tokenizer.ggml.bos_token_id", 1);
    test_gguf_key_u32(file, "tokenizer.ggml.eos_token_id", 2);
    test_gguf_key_bool(file, "tokenizer.ggml.add_bos_token", 1);
    test_gguf_key_bool(file, "tokenizer.ggml.add_space_prefix", 0);
}

static void write_row(test_gguf *file, const tensor *t, sp_dtype type, test_random *random) {
    float numbers[FEED], blocks[FEED];
    for (uint32_t i = 0; i < t->columns; i++) {
        numbers[i] = t->rows ? test_random_float(random) * 0.3f : t->value;
    }
    if (type == SP_F32) {
        test_gguf_bytes(file, numbers, t->columns * sizeof *numbers);
    } else {
        assert_true(spi_quantise(type, numbers, t->columns, blocks));
        test_gguf_bytes(file, blocks, t->columns / sp_dtype_block_elements(type) * sp_dtype_block_bytes(type));
    }
}

void test_tiny_model_file(test_gguf *file) {
    test_tiny_model_file_with(file, &(test_tiny){0});
}

void test_tiny_model_file_with(test_gguf *file, const test_tiny *with) {
    const list all = tensors(with);
    test_random random = test_random_seed(7);
    float epsilon = 1e-5f;
    uint64_t offset = 0;
    test_gguf_header(file, 3, all.count, 17 + (with->window > 0) + (with->original_context > 0));
    test_gguf_key_string(file, "general.architecture", "llama");
    test_gguf_key_string(file, "general.name", "tiny");
    test_gguf_key_u32(file, "llama.block_count", LAYERS);
    test_gguf_key_u32(file, "llama.embedding_length", WIDTH);
    test_gguf_key_u32(file, "llama.feed_forward_length", FEED);
    test_gguf_key_u32(file, "llama.attention.head_count", HEADS);
    test_gguf_key_u32(file, "llama.attention.head_count_kv", KV_HEADS);
    test_gguf_key_u32(file, "llama.context_length", 512);
    test_gguf_key(file, "llama.attention.layer_norm_rms_epsilon", SPI_VALUE_F32);
    test_gguf_bytes(file, &epsilon, sizeof epsilon);
    if (with->window) {
        test_gguf_key_u32(file, "llama.attention.sliding_window", with->window);
    }
    if (with->original_context) {
        test_gguf_key_u32(file, "llama.rope.scaling.original_context_length", with->original_context);
    }
    write_tokenizer(file);
    for (uint32_t i = 0; i < all.count; i++) {
        const tensor *t = &all.items[i];
        uint64_t dimensions[2] = {t->columns, t->rows};
        sp_dtype type = t->rows ? with->matrices : SP_F32;
        test_gguf_tensor(file, t->name, t->rows ? 2 : 1, dimensions, type, offset);
        offset +=
            (uint64_t)(t->rows ? t->rows : 1) * t->columns / sp_dtype_block_elements(type) * sp_dtype_block_bytes(type);
        offset = (offset + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    for (uint32_t i = 0; i < all.count; i++) {
        const tensor *t = &all.items[i];
        test_gguf_pad(file, ALIGNMENT);
        for (uint32_t k = 0; k < (t->rows ? t->rows : 1); k++) {
            write_row(file, t, t->rows ? with->matrices : SP_F32, &random);
        }
    }
}

sp_model *test_tiny_model(sp_device *device) {
    return test_tiny_model_with(&(test_tiny){0}, device);
}

sp_model *test_tiny_model_with(const test_tiny *with, sp_device *device) {
    test_gguf file = {0};
    test_tiny_model_file_with(&file, with);
    const char *folder = getenv("TMPDIR");
    char path[512];
    snprintf(path, sizeof path, "%s/samepage-tiny-XXXXXX", folder ? folder : "/tmp");
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, file.bytes, file.count), file.count);
    close(descriptor);
    test_gguf_free(&file);
    sp_model *model = NULL;
    sp_error error = {0};
    TEST_OK(sp_model_open(path, &model, &error), error);
    unlink(path);
    if (device) {
        TEST_OK(sp_model_load(model, device, NULL, NULL, &error), error);
    }
    return model;
}
