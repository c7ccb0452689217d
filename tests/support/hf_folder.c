/* tests/support/hf_folder.c - see hf_folder.h. */
#include "support/hf_folder.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/file.h"
#include "support/support.h"

#define WIDTH 64u

const char *test_hf_create(const char *name) {
    static char path[1024];
    sp_error error = {0};
    snprintf(path, sizeof path, "%s/%s", test_build_path("tests"), name);
    TEST_OK(spi_folder_create(path, &error), error);
    DIR *folder = opendir(path);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        char file[2048];
        snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.') {
            unlink(file);
        }
    }
    closedir(folder);
    return path;
}

void test_hf_file(const char *folder, const char *name, const void *bytes, size_t count) {
    char path[2048];
    sp_error error = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    TEST_OK(spi_file_write(path, bytes, count, false, &error), error);
}

void test_hf_text(const char *folder, const char *name, const char *text) {
    test_hf_file(folder, name, text, strlen(text));
}

static size_t element_bytes(const char *dtype) {
    return !strcmp(dtype, "U32") || !strcmp(dtype, "F32") ? 4 : 2;
}

void test_hf_tensors(const char *folder, const char *name, const test_hf_tensor *tensors, size_t count) {
    size_t total = 0, header_bytes = 0, capacity = 256 + count * 256;
    char *header = malloc(capacity);
    assert_non_null(header);
    header_bytes = (size_t)snprintf(header, capacity, "{\"__metadata__\":{\"format\":\"mlx\"}");
    for (size_t i = 0; i < count; i++) {
        const test_hf_tensor *t = &tensors[i];
        char shape[64];
        size_t bytes = element_bytes(t->dtype) * (t->rows ? t->rows : 1) * t->cols;
        snprintf(shape, sizeof shape, t->rows ? "%u,%u" : "%.0u%u", t->rows, t->cols);
        header_bytes += (size_t)snprintf(header + header_bytes, capacity - header_bytes,
                                         ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                                         t->name, t->dtype, shape, total, total + bytes);
        total += bytes;
    }
    header_bytes += (size_t)snprintf(header + header_bytes, capacity - header_bytes, "}");
    unsigned char *file = calloc(1, 8 + header_bytes + total), *at = file + 8 + header_bytes;
    assert_non_null(file);
    uint64_t length = header_bytes;
    memcpy(file, &length, 8);
    memcpy(file + 8, header, header_bytes);
    for (size_t i = 0; i < count; i++) {
        size_t bytes = element_bytes(tensors[i].dtype) * (tensors[i].rows ? tensors[i].rows : 1) * tensors[i].cols;
        if (tensors[i].data) {
            memcpy(at, tensors[i].data, bytes);
        }
        at += bytes;
    }
    test_hf_file(folder, name, file, 8 + header_bytes + total);
    free(header);
    free(file);
}

void test_hf_llama(const char *folder, uint32_t vocab, uint32_t bits) {
    static const char *const squares[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                          "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj",
                                          "mlp.down_proj"};
    static char names[32][96];
    test_hf_tensor tensors[32] = {{"model.embed_tokens.weight", "F16", vocab, WIDTH, NULL},
                                  {"model.norm.weight", "F16", 0, WIDTH, NULL},
                                  {"model.layers.0.input_layernorm.weight", "F16", 0, WIDTH, NULL},
                                  {"model.layers.0.post_attention_layernorm.weight", "F16", 0, WIDTH, NULL}};
    size_t count = 4;
    char config[1024], quantization[128] = "";
    for (size_t i = 0; i < 7; i++) {
        bool quantised = bits && i >= 4;
        static const char *const parts[] = {"weight", "scales", "biases"};
        for (size_t k = 0; k < (quantised ? 3 : 1); k++, count++) {
            snprintf(names[count], sizeof names[count], "model.layers.0.%s.%s", squares[i], parts[k]);
            tensors[count] = (test_hf_tensor){names[count],
                                              k           ? "BF16"
                                              : quantised ? "U32"
                                                          : "F16",
                                              WIDTH,
                                              !quantised ? WIDTH
                                              : k        ? WIDTH / 32
                                                         : WIDTH * bits / 32,
                                              NULL};
        }
    }
    if (bits) {
        snprintf(quantization, sizeof quantization, ", \"quantization\": {\"group_size\": 32, \"bits\": %u}", bits);
    }
    snprintf(config, sizeof config,
             "{\"model_type\": \"llama\", \"vocab_size\": %u, \"num_hidden_layers\": 1, \"hidden_size\": 64,\n"
             " \"intermediate_size\": 64, \"num_attention_heads\": 2, \"num_key_value_heads\": 2, \"hidden_act\": "
             "\"silu\",\n"
             " \"rms_norm_eps\": 1e-05, \"max_position_embeddings\": 256, \"rope_theta\": 10000.0,\n"
             " \"tie_word_embeddings\": true, \"torch_dtype\": \"float16\"%s}\n",
             vocab, quantization);
    test_hf_text(folder, "config.json", config);
    test_hf_tensors(folder, "model.safetensors", tensors, count);
}
