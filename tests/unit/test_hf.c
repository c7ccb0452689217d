/* tests/unit/test_hf.c - folders as Hugging Face and MLX lay them out: what a damaged or unknown one is told, in one
 * line that names file and field; shards; weights that are not aligned; and who a model is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "hf/hf.h"
#include "os/file.h"
#include "samepage/model.h"
#include "source/source.h"
#include "support/hf_folder.h"
#include "support/support.h"

#define VOCAB 300u

static void *read_file(const char *folder, const char *name, size_t *bytes) {
    char path[2048];
    void *data;
    sp_error error = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    TEST_OK(spi_file_read(path, (size_t)1 << 28, &data, bytes, &error), error);
    return data;
}

/* The first `from` in a file of the folder becomes `to`; in a safetensors header the length stays right. */
static void replace(const char *folder, const char *name, const char *from, const char *to) {
    size_t bytes, from_bytes = strlen(from), to_bytes = strlen(to);
    unsigned char *data = read_file(folder, name, &bytes), *place = NULL;
    for (size_t i = 0; i + from_bytes <= bytes && !place; i++) {
        place = memcmp(data + i, from, from_bytes) ? NULL : data + i;
    }
    assert_non_null(place);
    size_t before = (size_t)(place - data), behind = bytes - before - from_bytes;
    unsigned char *changed = malloc(bytes + to_bytes);
    assert_non_null(changed);
    memcpy(changed, data, before);
    memcpy(changed + before, to, to_bytes);
    memcpy(changed + before + to_bytes, place + from_bytes, behind);
    if (strstr(name, ".safetensors") && !strstr(name, ".json")) {
        uint64_t length;
        memcpy(&length, changed, 8);
        length += to_bytes - from_bytes;
        memcpy(changed, &length, 8);
    }
    test_hf_file(folder, name, changed, before + to_bytes + behind);
    free(changed);
    spi_free(data);
}

typedef struct damage {
    const char *file, *from, *to;
    sp_status status;
    const char *message;
} damage;

#define CONFIG  "config.json"
#define WEIGHTS "model.safetensors"

static const damage damages[] = {
    {CONFIG, "\"model_type\"", "model_type", SP_BAD_FILE, "config.json is no JSON"},
    {CONFIG, "\"llama\"", "\"mamba\"", SP_UNSUPPORTED, "model_type mamba are not supported yet (supported: llama"},
    {CONFIG, "\"model_type\"", "\"other\"", SP_BAD_FILE, "config.json: model_type is missing"},
    {CONFIG, "\"vocab_size\": 300", "\"vocab_size\": 301", SP_BAD_FILE,
     "vocab_size is 301, but embed_tokens has 300 rows"},
    {CONFIG, "\"num_hidden_layers\": 1", "\"num_hidden_layers\": 0", SP_BAD_FILE,
     "num_hidden_layers is no whole number"},
    {CONFIG, "\"num_hidden_layers\": 1", "\"num_hidden_layers\": 2", SP_BAD_FILE, "blk.1.attn_norm.weight is missing"},
    {CONFIG, "\"hidden_size\": 64", "\"hidden_size\": \"64\"", SP_BAD_FILE, "hidden_size is no whole number"},
    {CONFIG, "\"hidden_size\": 64", "\"hidden_size\": 128", SP_BAD_FILE, "is 300 x 64, not 300 x 128"},
    {CONFIG, "\"hidden_size\"", "\"hidden_sise\"", SP_BAD_FILE, "hidden_size is missing"},
    {CONFIG, "\"num_attention_heads\": 2", "\"num_attention_heads\": 9999", SP_BAD_FILE, "num_attention_heads"},
    {CONFIG, "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", SP_BAD_FILE, "not a multiple"},
    {CONFIG, "\"silu\"", "\"relu\"", SP_UNSUPPORTED, "hidden_act is relu"},
    {CONFIG, "\"rope_theta\": 10000.0", "\"rope_theta\": -1", SP_BAD_FILE, "rope_theta is no positive number"},
    {CONFIG, "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": true", SP_BAD_FILE, "rms_norm_eps is no number"},
    {CONFIG, "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": 1", SP_BAD_FILE,
     "tie_word_embeddings is neither"},
    {CONFIG, "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false", SP_BAD_FILE,
     "lm_head.weight is missing"},
    {CONFIG, "\"torch_dtype\"", "\"use_alibi\": true, \"torch_dtype\"", SP_UNSUPPORTED, "the model uses use_alibi"},
    {CONFIG, "\"torch_dtype\"", "\"layer_types\": [\"linear_attention\"], \"torch_dtype\"", SP_UNSUPPORTED,
     "layer_types"},
    {CONFIG, "\"torch_dtype\"", "\"layer_types\": [], \"torch_dtype\"", SP_BAD_FILE, "layer_types has 0 entries"},
    {CONFIG, "\"torch_dtype\"", "\"rope_scaling\": {\"rope_type\": \"dynamic\", \"factor\": 2}, \"torch_dtype\"",
     SP_UNSUPPORTED, "rope_scaling: rope_type is dynamic"},
    {CONFIG, "\"torch_dtype\"", "\"rope_scaling\": {\"rope_type\": \"linear\"}, \"torch_dtype\"", SP_BAD_FILE,
     "rope_scaling: factor is missing"},
    {CONFIG, "\"torch_dtype\"", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2, \"knob\": 3}, \"torch_dtype\"",
     SP_UNSUPPORTED, "rope_scaling: the model uses knob"},
    {CONFIG, "\"torch_dtype\"",
     "\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1], \"long_factor\": []},"
     " \"torch_dtype\"",
     SP_BAD_FILE, "short_factor has 1 numbers, not 16"},
    {CONFIG, "\"torch_dtype\"",
     "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4,"
     " \"high_freq_factor\": 1}, \"torch_dtype\"",
     SP_BAD_FILE, "low_freq_factor 4 and high_freq_factor 1"},
    {CONFIG, "\"bits\": 4", "\"bits\": 7", SP_UNSUPPORTED, "7 bits in groups of 32 are not supported"},
    {CONFIG, "\"bits\": 4", "\"bits\": 8", SP_BAD_FILE, "are not 8 bits in groups of 32, as config.json has them"},
    {CONFIG, "\"group_size\": 32", "\"group_size\": 48", SP_UNSUPPORTED, "4 bits in groups of 48"},
    {CONFIG, "\"group_size\": 32", "\"group_size\": 64", SP_BAD_FILE, "4 bits in groups of 64, as config.json"},
    {CONFIG, "\"group_size\"", "\"mode\": \"mxfp4\", \"group_size\"", SP_UNSUPPORTED, "quantization.mode is mxfp4"},
    {CONFIG, "\"group_size\"", "\"model.layers.0.mlp.up_proj\": {\"bits\": 2, \"group_size\": 32}, \"group_size\"",
     SP_BAD_FILE, "up_proj.weight\": rows of 8 words with 2 scales are not 2 bits"},
    {CONFIG, "\"quantization\"", "\"quantisation\"", SP_UNSUPPORTED, "the model uses quantisation"},
    {CONFIG, "\"quantization\": {", "\"quantization_config\": {\"quant_method\": \"gptq\", ", SP_UNSUPPORTED,
     "quant_method is gptq"},
    {WEIGHTS, "mlp.up_proj.scales", "mlp.up_proj.scalis", SP_BAD_FILE, "mlp.up_proj.weight\": its .scales are missing"},
    {WEIGHTS, "mlp.up_proj.biases", "mlp.up_proj.biasis", SP_BAD_FILE, "mlp.up_proj.weight\": its .biases are missing"},
    {WEIGHTS, "mlp.up_proj.weight", "mlp.up_prom.weight", SP_UNSUPPORTED, "mlp.up_prom.weight\": dtype is U32"},
    {WEIGHTS, "self_attn.q_proj.weight", "self_attn.p_proj.weight", SP_BAD_FILE, "blk.0.attn_q.weight is missing"},
    {WEIGHTS, "model.norm.weight", "model.more.weight", SP_BAD_FILE, "output_norm.weight is missing"},
    {WEIGHTS, "model.embed_tokens.weight\":{\"dtype\":\"F16\"", "model.embed_tokens.weight\":{\"dtype\":\"I16\"",
     SP_UNSUPPORTED, "dtype is I16"},
    {WEIGHTS, "\"BF16\",\"shape\":[64,2]", "\"F16\",\"shape\":[64,2]", SP_BAD_FILE, "its .scales and .biases are not"},
    {WEIGHTS, "\"dtype\":\"U32\",\"shape\":[64,8]", "\"dtype\":\"I32\",\"shape\":[64,8]", SP_BAD_FILE,
     "no matrix of U32"},
};

static void test_damaged(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        const damage *d = &damages[i];
        const char *folder = test_hf_create("hf");
        test_hf_llama(folder, VOCAB, 4);
        replace(folder, d->file, d->from, d->to);
        sp_model *model = NULL;
        sp_error error = {0};
        sp_status status = sp_model_open(folder, &model, &error);
        if (status != d->status || !strstr(error.message, d->message) || strchr(error.message, '\n') ||
            !strstr(error.message, folder)) {
            fail_msg("%s -> %s: %d, %s (not \"%s\")", d->from, d->to, status, error.message, d->message);
        }
        assert_null(model);
    }
}

static sp_model *open_model(const char *folder) {
    sp_model *model;
    sp_error error = {0};
    TEST_OK(sp_model_open(folder, &model, &error), error);
    return model;
}

static void test_info(void **state) {
    (void)state;
    const char *folder = test_hf_create("hf");
    test_hf_llama(folder, VOCAB, 4);
    sp_model *model = open_model(folder);
    sp_model_info info;
    sp_error error = {0};
    sp_model_get_info(model, &info);
    assert_string_equal(info.architecture, "llama");
    assert_string_equal(info.name, "hf");
    assert_string_equal(info.type, "F16"); /* attention has more bytes than the feed-forward part */
    assert_int_equal(info.vocab, VOCAB);
    assert_int_equal(info.head_dim, 32);
    assert_int_equal(info.parameter_count, VOCAB * 64 + 7 * 64 * 64 + 3 * 64);
    /* codes, and a scale and a bias for each 32 */
    assert_int_equal(info.weight_bytes, VOCAB * 64 * 2 + 4 * 64 * 64 * 2 + 3 * (64 * 64 / 2 + 64 * 2 * 2 * 2));
    assert_null(sp_model_tokenizer(model, &error));
    assert_non_null(strstr(error.message, "no tokenizer.json"));
    sp_model_close(model);
}

/* The same weights in two files with an index, in odd places, and as a file with a head that is tied anyway. */
static void test_shards(void **state) {
    (void)state;
    static const char index[] = "{\"metadata\": {}, \"weight_map\": {\"model.norm.weight\": \"b.safetensors\","
                                " \"model.embed_tokens.weight\": \"a.safetensors\"}}";
    const char *folder = test_hf_create("hf");
    test_hf_llama(folder, VOCAB, 3);
    size_t bytes;
    unsigned char *whole = read_file(folder, WEIGHTS, &bytes);
    test_hf_file(folder, "a.safetensors", whole, bytes);
    const test_hf_tensor norm = {"model.norm.weight", "F16", 0, 64, NULL};
    test_hf_tensors(folder, "b.safetensors", &norm, 1);
    test_hf_text(folder, "model.safetensors.index.json", index);
    sp_error error = {0};
    sp_model *model = NULL;
    assert_int_equal(sp_model_open(folder, &model, &error), SP_BAD_FILE);
    assert_non_null(strstr(error.message, "\"model.norm.weight\" is in two files"));
    replace(folder, "a.safetensors", "\"model.norm.weight\"", "\"lm_head.weight\""); /* tied: left out */
    sp_model_close(open_model(folder));
    replace(folder, "b.safetensors", "\"F16\",\"shape\":[64]",
            "\"F16\",\"shape\":[ 64]"); /* an odd header: not aligned */
    sp_model_close(open_model(folder));
    replace(folder, "model.safetensors.index.json", "b.safetensors", "c.safetensors");
    assert_int_equal(sp_model_open(folder, &model, &error), SP_NOT_FOUND);
    assert_non_null(strstr(error.message, "c.safetensors"));
    replace(folder, "model.safetensors.index.json", "c.safetensors", "../hf/b.safetensors");
    assert_int_equal(sp_model_open(folder, &model, &error), SP_BAD_FILE);
    assert_non_null(strstr(error.message, "no file of the folder"));
    replace(folder, "model.safetensors.index.json", "../hf/b.safetensors", "a.safetensors");
    assert_int_equal(sp_model_open(folder, &model, &error), SP_BAD_FILE);
    assert_non_null(strstr(error.message, "model.norm.weight\" is not in a.safetensors"));
    spi_free(whole);
}

static void test_missing(void **state) {
    (void)state;
    const char *folder = test_hf_create("hf");
    sp_error error = {0};
    sp_model *model = NULL;
    assert_int_equal(sp_model_open(folder, &model, &error), SP_NOT_FOUND);
    assert_non_null(strstr(error.message, "config.json"));
    test_hf_llama(folder, VOCAB, 0);
    test_hf_file(folder, WEIGHTS, "", 0);
    assert_int_equal(sp_model_open(folder, &model, &error), SP_BAD_FILE);
    assert_non_null(strstr(error.message, "not a safetensors file"));
}

/* A code, a scale, a number of the configuration: each makes another model, and the same files the same one. */
static void test_fingerprint(void **state) {
    (void)state;
    sp_fingerprint prints[4];
    uint8_t full[4][16];
    for (uint32_t i = 0; i < 4; i++) {
        const char *folder = test_hf_create("hf");
        test_hf_llama(folder, VOCAB, 4);
        size_t bytes;
        unsigned char *data = read_file(folder, WEIGHTS, &bytes);
        data[i == 1 ? bytes - 64 * 2 * 2 - 1 : bytes - 1] ^= i == 1 || i == 2; /* the last scale, the last bias */
        test_hf_file(folder, WEIGHTS, data, bytes);
        spi_free(data);
        sp_model *model = open_model(folder);
        sp_model_get_fingerprint(model, &prints[i]);
        sp_model_get_full_fingerprint(model, full[i]);
        sp_model_close(model);
    }
    assert_memory_equal(&prints[0], &prints[3], sizeof prints[0]);
    assert_memory_equal(full[0], full[3], 16);
    for (uint32_t i = 1; i < 3; i++) {
        assert_memory_not_equal(prints[0].weights, prints[i].weights, 16);
        assert_memory_not_equal(full[0], full[i], 16);
        assert_memory_equal(prints[0].family, prints[i].family, 16);
    }
    assert_memory_not_equal(prints[1].weights, prints[2].weights, 16);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_damaged), cmocka_unit_test(test_info),
                                       cmocka_unit_test(test_shards), cmocka_unit_test(test_missing),
                                       cmocka_unit_test(test_fingerprint)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
