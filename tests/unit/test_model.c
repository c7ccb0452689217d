/* Opening model files: what is right is described rightly, what is wrong is refused with a message that names it. */
#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "samepage/dtype.h"
#include "samepage/model.h"
#include "support/tiny_model.h"

/* The tiny model's bytes, and where they are written for opening. */
typedef struct bench {
    test_gguf file;
    char path[512];
} bench;

static bench make_bench(void) {
    bench it = {.file = {0}};
    const char *folder = getenv("TMPDIR");
    snprintf(it.path, sizeof it.path, "%s/samepage-model-XXXXXX", folder ? folder : "/tmp");
    int descriptor = mkstemp(it.path);
    assert_true(descriptor >= 0);
    close(descriptor);
    test_tiny_model_file(&it.file);
    return it;
}

static void free_bench(bench *it) {
    unlink(it->path);
    test_gguf_free(&it->file);
}

static sp_status open_bytes(const bench *it, size_t count, sp_model **model, sp_error *error) {
    FILE *out = fopen(it->path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(it->file.bytes, 1, count, out), count);
    assert_int_equal(fclose(out), 0);
    return sp_model_open(it->path, model, error);
}

/* The bytes behind a GGUF string, which must be there. */
static unsigned char *behind(bench *it, const char *text) {
    size_t length = strlen(text);
    for (size_t i = 0; i + 8 + length <= it->file.count; i++) {
        unsigned char *at = it->file.bytes + i;
        if (at[0] == length && !memcmp(at + 1, "\0\0\0\0\0\0\0", 7) && !memcmp(at + 8, text, length)) {
            return at + 8 + length;
        }
    }
    fail_msg("no %s in the file", text);
    return NULL;
}

/* Both have the same length. */
static void rename_text(bench *it, const char *from, const char *to) {
    size_t length = strlen(from);
    assert_int_equal(length, strlen(to));
    memcpy(behind(it, from) - length, to, length);
}

static void set_u32(bench *it, const char *key, unsigned char value) {
    memcpy(behind(it, key) + 4, (unsigned char[]){value, 0, 0, 0}, 4); /* behind the value's type */
}

/* What is wrong, and what the message must hold. */
typedef struct damage {
    void (*make)(bench *it);
    sp_status status;
    const char *words[2];
} damage;

static void unknown_architecture(bench *it) {
    memcpy(behind(it, "general.architecture") + 12, "gpt-j", 5);
}
static void no_architecture(bench *it) {
    rename_text(it, "general.architecture", "general.architectura");
}
static void missing_key(bench *it) {
    rename_text(it, "llama.context_length", "llama.context_lengtx");
}
static void not_a_number(bench *it) {
    memcpy(behind(it, "llama.block_count"), (unsigned char[]){SPI_VALUE_F32}, 1);
}
static void no_layers(bench *it) {
    set_u32(it, "llama.block_count", 0);
}
static void odd_heads(bench *it) {
    set_u32(it, "llama.attention.head_count_kv", 3);
}
static void unknown_feature(bench *it) {
    rename_text(it, "tokenizer.ggml.add_bos_token", "llama.attn_logit_softcapping");
}
static void missing_tensor(bench *it) {
    rename_text(it, "blk.1.attn_k.weight", "blk.7.attn_k.weight");
}
static void missing_embedding(bench *it) {
    rename_text(it, "token_embd.weight", "token_embe.weight");
}
static void wrong_shape(bench *it) {
    unsigned char *dimensions = behind(it, "blk.0.attn_v.weight") + 4;
    dimensions[0] = 32;
    dimensions[8] = 64;
}
static void unknown_tensor(bench *it) {
    set_u32(it, "llama.block_count", 1);
}
static void unsupported_type(bench *it) {
    behind(it, "blk.1.ffn_down.weight")[4 + 2 * 8] = 16; /* IQ2_XXS */
}
static void quantised_vector(bench *it) {
    behind(it, "blk.0.ffn_norm.weight")[4 + 8] = SP_Q8_0;
}
static void small_embedding(bench *it) {
    unsigned char *rows = behind(it, "token_embd.weight") + 4 + 8;
    assert_int_equal(rows[0] + 256 * rows[1], TINY_VOCAB);
    rows[0]--;
}
static void far_tensor(bench *it) {
    behind(it, "output_norm.weight")[4 + 8 + 4 + 5] = 1; /* its offset: 2^40 further on */
}

static const damage damages[] = {
    {unknown_architecture, SP_UNSUPPORTED, {"gpt-j", "llama"}},
    {no_architecture, SP_BAD_FILE, {"general.architecture", "missing"}},
    {missing_key, SP_BAD_FILE, {"llama.context_length", "missing"}},
    {not_a_number, SP_BAD_FILE, {"llama.block_count", "whole number"}},
    {no_layers, SP_BAD_FILE, {"llama.block_count", "0"}},
    {odd_heads, SP_BAD_FILE, {"llama.attention.head_count", "3"}},
    {unknown_feature, SP_UNSUPPORTED, {"llama.attn_logit_softcapping", "not supported"}},
    {missing_tensor, SP_BAD_FILE, {"blk.1.attn_k.weight", "missing"}},
    {missing_embedding, SP_BAD_FILE, {"token_embd.weight", "missing"}},
    {wrong_shape, SP_BAD_FILE, {"blk.0.attn_v.weight", "64 x 32, not 32 x 64"}},
    {unknown_tensor, SP_UNSUPPORTED, {"blk.1.attn_norm.weight", "does not use"}},
    {unsupported_type, SP_UNSUPPORTED, {"blk.1.ffn_down.weight has the weight type IQ2_XXS", "IQ4_XS"}},
    {quantised_vector, SP_UNSUPPORTED, {"blk.0.ffn_norm.weight", "Q8_0"}},
    {small_embedding, SP_BAD_FILE, {"tokenizer has 259", "258"}},
    {far_tensor, SP_BAD_FILE, {"output_norm.weight", "ends"}},
};

static void assert_refused(const bench *it, size_t count, sp_status status, const char *const words[2]) {
    sp_model *model = (sp_model *)(uintptr_t)it;
    sp_error error = {0};
    assert_int_equal(open_bytes(it, count, &model, NULL), status);
    assert_int_equal(open_bytes(it, count, &model, &error), status);
    assert_int_equal(error.status, status);
    assert_null(model);
    const char *const needed[] = {it->path, words[0], words[1]};
    for (int i = 0; i < 3; i++) {
        if (!strstr(error.message, needed[i])) {
            fail_msg("no \"%s\" in: %s", needed[i], error.message);
        }
    }
}

static void test_damages(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        bench it = make_bench();
        damages[i].make(&it);
        assert_refused(&it, it.file.count, damages[i].status, damages[i].words);
        free_bench(&it);
    }
}

static void test_not_models(void **state) {
    (void)state;
    sp_model *model = NULL;
    sp_error error = {0};
    const char *nowhere = test_source_path("models/there-is-none.gguf");
    assert_int_equal(sp_model_open(nowhere, &model, &error), SP_NOT_FOUND);
    assert_non_null(strstr(error.message, "there-is-none.gguf"));
    assert_null(model);
    bench it = make_bench();
    it.file.bytes[0] = 'g';
    assert_refused(&it, it.file.count, SP_BAD_FILE, (const char *const[2]){"GGUF", ""});
    it.file.bytes[0] = 'G';
    for (size_t count = 0; count < it.file.count; count = count < 64 ? count + 1 : count * 5 / 4) {
        assert_refused(&it, count, SP_BAD_FILE, (const char *const[2]){"", ""});
    }
    assert_refused(&it, it.file.count - 1, SP_BAD_FILE, (const char *const[2]){"output_norm.weight", "ends"});
    TEST_OK(open_bytes(&it, it.file.count, &model, &error), error);
    sp_model_close(model);
    sp_model_close(NULL);
    free_bench(&it);
}

static void test_info(void **state) {
    (void)state;
    sp_model *model = test_tiny_model(NULL);
    sp_model_info info;
    sp_model_get_info(model, &info);
    assert_string_equal(info.architecture, "llama");
    assert_string_equal(info.name, "tiny");
    assert_string_equal(info.type, "F32");
    assert_int_equal(info.layers, 2);
    assert_int_equal(info.embedding, 64);
    assert_int_equal(info.feed_forward, 96);
    assert_int_equal(info.heads, 2);
    assert_int_equal(info.kv_heads, 1);
    assert_int_equal(info.head_dim, 32);
    assert_int_equal(info.vocab, TINY_VOCAB);
    assert_int_equal(info.context_max, 512);
    assert_int_equal(info.block_tokens, 64);
    assert_int_equal(info.block_bytes, 64 << 10); /* 16 KiB of rows, padded */
    const uint64_t matrices = TINY_VOCAB * 64 + 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64);
    assert_int_equal(info.weight_bytes, matrices * sizeof(float));
    assert_int_equal(info.parameter_count, matrices + 5 * 64);
    assert_true(info.file_bytes > info.weight_bytes);
    assert_non_null(sp_model_tokenizer(model, NULL));
    assert_int_equal(sp_tokenizer_vocab(sp_model_tokenizer(model, NULL)), TINY_VOCAB);
    sp_model_close(model);
}

/* A model whose tokenizer nobody knows computes all the same, and says why there is no text. */
static void test_no_tokenizer(void **state) {
    (void)state;
    bench it = make_bench();
    memcpy(behind(&it, "tokenizer.ggml.model") + 12, "ngons", 5);
    sp_model *model = NULL;
    sp_error error = {0};
    TEST_OK(open_bytes(&it, it.file.count, &model, &error), error);
    assert_null(sp_model_tokenizer(model, NULL));
    assert_null(sp_model_tokenizer(model, &error));
    assert_int_equal(error.status, SP_UNSUPPORTED);
    assert_non_null(strstr(error.message, "ngons"));
    sp_model_close(model);
    free_bench(&it);
}

static void assert_metadata(const sp_model *model, const char *key, const char *expected) {
    char text[64];
    size_t bytes = 99, needed = strlen(expected);
    sp_error error = {0};
    memset(text, '#', sizeof text);
    TEST_OK(sp_model_metadata(model, key, text, needed, &bytes, &error), error); /* just enough room */
    assert_int_equal(bytes, needed);
    assert_memory_equal(text, expected, needed);
    assert_int_equal(text[needed], '#');
    assert_int_equal(sp_model_metadata(model, key, text, needed - 1, &bytes, &error), SP_BUFFER_TOO_SMALL);
    assert_int_equal(bytes, needed);
    assert_int_equal(sp_model_metadata(model, key, NULL, 0, &bytes, &error), SP_BUFFER_TOO_SMALL);
    assert_int_equal(bytes, needed);
}

static void test_metadata(void **state) {
    (void)state;
    sp_model *model = test_tiny_model(NULL);
    assert_metadata(model, "general.name", "tiny");
    assert_metadata(model, "llama.block_count", "2");
    assert_metadata(model, "llama.attention.layer_norm_rms_epsilon", "1e-05");
    assert_metadata(model, "tokenizer.ggml.add_bos_token", "true");
    assert_metadata(model, "tokenizer.ggml.add_space_prefix", "false");
    assert_metadata(model, "tokenizer.ggml.tokens", "[259 values]");
    size_t bytes = 99;
    sp_error error = {0};
    assert_int_equal(sp_model_metadata(model, "general.colour", NULL, 0, &bytes, &error), SP_NOT_FOUND);
    assert_non_null(strstr(error.message, "general.colour"));
    assert_int_equal(bytes, 0);
    uint64_t count = sp_model_metadata_count(model);
    assert_int_equal(count, 17);
    for (uint64_t i = 0; i < count; i++) {
        const char *key = sp_model_metadata_key(model, i, &bytes);
        char name[96] = "", text[64];
        assert_non_null(key);
        assert_in_range(bytes, 1, sizeof name - 1);
        memcpy(name, key, bytes);
        TEST_OK(sp_model_metadata(model, name, text, sizeof text, &bytes, &error), error);
    }
    assert_memory_equal(sp_model_metadata_key(model, 0, &bytes), "general.architecture", 20);
    assert_int_equal(bytes, 20);
    assert_null(sp_model_metadata_key(model, count, &bytes));
    assert_int_equal(bytes, 0);
    sp_model_close(model);
}

/* Each allocation of opening and loading fails in turn: no model, or the same as ever; a load that failed can be tried
 * again. */
static void test_no_memory(void **state) {
    (void)state;
    bench it = make_bench();
    sp_device *device = NULL;
    sp_model *model = NULL;
    sp_model_info expected, info;
    sp_error error = {0};
    TEST_OK(sp_device_open("cpu", &(sp_device_options){.thread_count = 1}, &device, &error), error);
    TEST_OK(open_bytes(&it, it.file.count, &model, &error), error);
    sp_model_get_info(model, &expected);
    sp_model_close(model);
    sp_status status = SP_NO_MEMORY;
    long not_opened = 0, not_loaded = 0;
    for (long n = 0; status; n++) {
        model = NULL;
        spi_memory_fail_after(n);
        status = sp_model_open(it.path, &model, &error);
        bool opened = !status;
        status = status ? status : sp_model_load(model, device, NULL, NULL, &error);
        spi_memory_fail_after(-1);
        assert_true(status == SP_OK || status == SP_NO_MEMORY);
        assert_int_equal(opened, model != NULL);
        not_opened += !opened;
        not_loaded += opened && status;
        if (opened) {
            sp_model_get_info(model, &info);
            assert_memory_equal(&info, &expected, sizeof info);
            assert_non_null(sp_model_tokenizer(model, NULL));
            TEST_OK(sp_model_load(model, device, NULL, NULL, &error), error);
            TEST_OK(sp_model_load(model, device, NULL, NULL, &error), error); /* does nothing */
        }
        sp_model_close(model);
    }
    assert_true(not_opened > 20 && not_loaded > 2);
    sp_device_close(device);
    free_bench(&it);
}

/* A progress callback that must only go forward and end at the whole. */
typedef struct progress {
    uint64_t done, total;
} progress;

static void note(void *env, uint64_t done_bytes, uint64_t total_bytes) {
    progress *seen = env;
    assert_true(done_bytes >= seen->done && done_bytes <= total_bytes);
    *seen = (progress){.done = done_bytes, .total = total_bytes};
}

static void test_load(void **state) {
    (void)state;
    sp_device *device = NULL;
    sp_model *model = NULL;
    sp_error error = {0};
    TEST_OK(sp_device_open("cpu", &(sp_device_options){.thread_count = 1}, &device, &error), error);
    TEST_OK(sp_model_open(test_source_path("models/samepage-demo-q8_0.gguf"), &model, &error), error);
    sp_model_unload(model, device); /* not loaded: nothing */
    for (int round = 0; round < 2; round++) {
        progress seen = {0};
        TEST_OK(sp_model_load(model, device, note, &seen, &error), error);
        assert_true(seen.total > 0);
        assert_int_equal(seen.done, seen.total);
        sp_model_unload(model, device);
    }
    sp_model_close(model);
    sp_device_close(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damages),      cmocka_unit_test(test_not_models), cmocka_unit_test(test_info),
        cmocka_unit_test(test_no_tokenizer), cmocka_unit_test(test_metadata),   cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
