/* What the table of families says: numbers that a file does not state, what each takes and what it refuses by name; and
 * sessions of models whose layers have windows or whose positions depend on the context. Logits of each family against
 * double precision are the oracle's work. */
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "model/hparams.h"
#include "samepage/session.h"
#include "samepage/store.h"
#include "support/gguf_writer.h"
#include "support/tiny_model.h"

/* One key more than the file would have; its name is behind the architecture's. */
typedef struct extra {
    const char *suffix; /* NULL: none */
    spi_value_type type;
    double number; /* of any type but a string or an array */
    const char *text;
} extra;

static void put_key(test_gguf *file, const char *architecture, extra more) {
    char key[128];
    snprintf(key, sizeof key, "%s.%s", architecture, more.suffix);
    float number = (float)more.number;
    switch (more.type) {
    case SPI_VALUE_U32: test_gguf_key_u32(file, key, (uint32_t)more.number); break;
    case SPI_VALUE_BOOL: test_gguf_key_bool(file, key, more.number != 0); break;
    case SPI_VALUE_STRING: test_gguf_key_string(file, key, more.text); break;
    case SPI_VALUE_ARRAY: /* a flag for each character */
    {
        unsigned char flags[64];
        for (size_t i = 0; i < strlen(more.text); i++) {
            flags[i] = more.text[i] == '1';
        }
        test_gguf_key_numbers(file, key, SPI_VALUE_BOOL, flags, strlen(more.text));
        break;
    }
    default: test_gguf_key(file, key, SPI_VALUE_F32); test_gguf_bytes(file, &number, sizeof number);
    }
}

static sp_status read_with(const char *architecture, uint32_t layers, const extra *more, size_t more_count,
                           spi_hparams *hparams, sp_error *error) {
    test_gguf file = {0};
    test_gguf_header(&file, 3, 0, 8 + more_count);
    test_gguf_key_string(&file, "general.architecture", architecture);
    const extra standard[] = {
        {"block_count", SPI_VALUE_U32, layers, NULL},      {"embedding_length", SPI_VALUE_U32, 192, NULL},
        {"feed_forward_length", SPI_VALUE_U32, 320, NULL}, {"attention.head_count", SPI_VALUE_U32, 4, NULL},
        {"attention.key_length", SPI_VALUE_U32, 16, NULL}, {"attention.value_length", SPI_VALUE_U32, 16, NULL},
        {"context_length", SPI_VALUE_U32, 4096, NULL}};
    for (size_t i = 0; i < 7; i++) {
        put_key(&file, architecture, standard[i]);
    }
    for (size_t i = 0; i < more_count; i++) {
        put_key(&file, architecture, more[i]);
    }
    spi_source *gguf;
    TEST_OK(spi_gguf_parse(file.bytes, file.count, "test", &gguf, error), *error);
    sp_status status = spi_hparams_read(gguf, hparams, error);
    spi_source_close(gguf);
    test_gguf_free(&file);
    return status;
}

#define EPSILON                                                                                                        \
    { "attention.layer_norm_rms_epsilon", SPI_VALUE_F32, 1e-6, NULL }

static spi_hparams read_good(const char *architecture, uint32_t layers, const extra *more, size_t more_count) {
    extra all[8] = {EPSILON};
    for (size_t i = 0; i < more_count; i++) {
        all[1 + i] = more[i];
    }
    spi_hparams hparams;
    sp_error error = {0};
    TEST_OK(read_with(architecture, layers, all, more_count + 1, &hparams, &error), error);
    return hparams;
}

static void assert_near(double got, double want) {
    if (!(fabs(got - want) <= 1e-6 * fabs(want))) {
        fail_msg("%.9g is not %.9g", got, want);
    }
}

/* "1" for a layer with a window. */
static void assert_locals(const spi_hparams *hparams, const char *want) {
    for (uint32_t i = 0; i < hparams->layers; i++) {
        assert_int_equal(spi_hparams_is_local(hparams, i), want[i % strlen(want)] == '1');
    }
}

/* Configurations as published: gemma-2-2b and 27b, gemma-3-1b and 27b. */
static void test_gemma(void **state) {
    (void)state;
    spi_hparams hp = read_good("gemma", 18, NULL, 0);
    assert_near((double)hp.embedding_scale, sqrt(192));
    assert_near((double)hp.attention_scale, 0.25);
    assert_int_equal(hp.window, 0);
    const extra caps[] = {{"attn_logit_softcapping", SPI_VALUE_F32, 50, NULL},
                          {"final_logit_softcapping", SPI_VALUE_F32, 30, NULL}};
    hp = read_good("gemma2", 26, caps, 2);
    assert_near((double)hp.attention_cap, 50);
    assert_near((double)hp.logit_cap, 30);
    assert_near((double)hp.attention_scale, 0.25);
    assert_int_equal(hp.window, 4096);
    assert_locals(&hp, "10");
    assert_near((double)hp.local_rope.base, (double)hp.rope.base);
    hp = read_good("gemma2", 46, caps, 2);
    assert_near((double)hp.attention_scale, 1 / sqrt(48));
    const extra stretched[] = {{"attention.sliding_window", SPI_VALUE_U32, 512, NULL},
                               {"rope.freq_base", SPI_VALUE_F32, 1e6, NULL},
                               {"rope.scaling.type", SPI_VALUE_STRING, 0, "linear"},
                               {"rope.scaling.factor", SPI_VALUE_F32, 8, NULL}};
    hp = read_good("gemma3", 26, stretched, 4);
    assert_int_equal(hp.window, 512);
    assert_locals(&hp, "111110");
    assert_near((double)hp.rope.base, 1e6);
    assert_near((double)hp.rope.freq_scale, 0.125);
    assert_near((double)hp.local_rope.base, 1e4);
    assert_near((double)hp.local_rope.freq_scale, 1);
    assert_near((double)hp.attention_scale, 0.25);
    hp = read_good("gemma3", 62, stretched, 4);
    assert_near((double)hp.attention_scale, 1 / sqrt(48));
    hp = read_good("gemma3", 26, NULL, 0);
    assert_int_equal(hp.window, 0);
    assert_locals(&hp, "0");
}

static void test_windows(void **state) {
    (void)state;
    const extra window = {"attention.sliding_window", SPI_VALUE_U32, 100, NULL};
    spi_hparams hp = read_good("llama", 5, &window, 1);
    assert_int_equal(hp.window, 100);
    assert_locals(&hp, "1");
    hp = read_good("phi3", 5, &(extra){"attention.sliding_window", SPI_VALUE_U32, 0, NULL}, 1);
    assert_int_equal(hp.window, 0);
    assert_locals(&hp, "0");
    const extra flags[] = {window, {"attention.sliding_window_pattern", SPI_VALUE_ARRAY, 0, "11001"}};
    hp = read_good("olmo2", 5, flags, 2);
    assert_locals(&hp, "11001");
    const extra period[] = {window, {"attention.sliding_window_pattern", SPI_VALUE_U32, 3, NULL}};
    hp = read_good("olmo2", 6, period, 2);
    assert_locals(&hp, "110");
    const extra none[] = {window, {"attention.sliding_window_pattern", SPI_VALUE_U32, 1, NULL}};
    hp = read_good("gemma2", 6, none, 2);
    assert_locals(&hp, "0");
    hp = read_good("olmo2", 8, &window, 1);
    assert_locals(&hp, "1110");
}

static void test_rope(void **state) {
    (void)state;
    const extra yarn[] = {{"rope.scaling.type", SPI_VALUE_STRING, 0, "yarn"},
                          {"rope.scaling.factor", SPI_VALUE_F32, 4, NULL},
                          {"rope.scaling.original_context_length", SPI_VALUE_U32, 1024, NULL}};
    spi_hparams hp = read_good("qwen2", 2, yarn, 3);
    assert_true(hp.rope.yarn);
    assert_int_equal(hp.original_context, 1024);
    assert_near((double)hp.rope.freq_scale, 0.25);
    assert_near((double)hp.rope.scale, 0.1 * log(4) + 1);
    assert_near((double)hp.rope.yarn_fast, 32);
    assert_near((double)hp.rope.yarn_slow, 1);
    /* OLMo 3: the layers with windows rotate as if nothing was stretched. */
    const extra olmo[] = {yarn[0],
                          yarn[1],
                          yarn[2],
                          {"rope.scaling.yarn_attn_factor", SPI_VALUE_F32, 1.25, NULL},
                          {"attention.sliding_window", SPI_VALUE_U32, 64, NULL}};
    hp = read_good("olmo2", 4, olmo, 5);
    assert_near((double)hp.rope.scale, 1.25);
    assert_false(hp.local_rope.yarn);
    assert_near((double)hp.local_rope.scale, 1);
    const extra factor = {"rope.scaling.attn_factor", SPI_VALUE_F32, 1.19, NULL};
    hp = read_good("phi3", 2, &factor, 1);
    assert_near((double)hp.rope.scale, 1.19);
}

static void test_granite(void **state) {
    (void)state;
    const extra scales[] = {{"embedding_scale", SPI_VALUE_F32, 12, NULL},
                            {"residual_scale", SPI_VALUE_F32, 0.22, NULL},
                            {"attention.scale", SPI_VALUE_F32, 0.015625, NULL},
                            {"logit_scale", SPI_VALUE_F32, 8, NULL}};
    spi_hparams hp = read_good("granite", 2, scales, 4);
    assert_near((double)hp.embedding_scale, 12);
    assert_near((double)hp.residual_scale, 0.22);
    assert_near((double)hp.attention_scale, 0.015625);
    assert_near((double)hp.logit_scale, 0.125);
    hp = read_good("granite", 2, NULL, 0);
    assert_near((double)hp.logit_scale, 1);
    assert_near((double)hp.attention_scale, 0.25);
}

typedef struct refusal {
    const char *architecture;
    extra more;
    sp_status status;
} refusal;

static const refusal refusals[] = {
    {"llama", {"expert_count", SPI_VALUE_U32, 8, NULL}, SP_UNSUPPORTED},
    {"llama", {"attention.scale", SPI_VALUE_F32, 0.5, NULL}, SP_UNSUPPORTED},
    {"llama", {"logit_scale", SPI_VALUE_F32, 0.5, NULL}, SP_UNSUPPORTED},
    {"llama", {"attention.clamp_kqv", SPI_VALUE_F32, 8, NULL}, SP_UNSUPPORTED},
    {"llama", {"attention.causal", SPI_VALUE_BOOL, 0, NULL}, SP_UNSUPPORTED},
    {"llama", {"attention.temperature_scale", SPI_VALUE_F32, 0.1, NULL}, SP_UNSUPPORTED},
    {"llama", {"pooling_type", SPI_VALUE_U32, 1, NULL}, SP_UNSUPPORTED},
    {"llama", {"of.which.nobody.heard", SPI_VALUE_U32, 1, NULL}, SP_UNSUPPORTED},
    {"llama", {"hidden_activation", SPI_VALUE_STRING, 0, "relu"}, SP_UNSUPPORTED},
    {"llama", {"rope.scaling.type", SPI_VALUE_STRING, 0, "dynamic"}, SP_UNSUPPORTED},
    {"llama", {"rope.scaling.type", SPI_VALUE_U32, 1, NULL}, SP_BAD_FILE},
    {"llama", {"rope.scaling.factor", SPI_VALUE_F32, -1, NULL}, SP_BAD_FILE},
    {"llama", {"rope.scaling.alpha", SPI_VALUE_F32, 2, NULL}, SP_UNSUPPORTED},
    {"llama", {"attention.sliding_window", SPI_VALUE_F32, 1.5, NULL}, SP_BAD_FILE},
    {"qwen2", {"attention.sliding_window", SPI_VALUE_U32, 4096, NULL}, SP_UNSUPPORTED},
    {"qwen3", {"attention.sliding_window", SPI_VALUE_U32, 4096, NULL}, SP_UNSUPPORTED},
    {"qwen3", {"rope.dimension_sections", SPI_VALUE_ARRAY, 0, "1111"}, SP_UNSUPPORTED},
    {"qwen2", {"final_logit_softcapping", SPI_VALUE_F32, 30, NULL}, SP_UNSUPPORTED},
    {"gemma", {"attn_logit_softcapping", SPI_VALUE_F32, 50, NULL}, SP_UNSUPPORTED},
    {"gemma3", {"attn_logit_softcapping", SPI_VALUE_F32, 50, NULL}, SP_UNSUPPORTED},
    {"gemma3", {"attention.sliding_window_pattern", SPI_VALUE_ARRAY, 0, "10"}, SP_BAD_FILE},
    {"gemma3", {"attention.key_length_swa", SPI_VALUE_U32, 8, NULL}, SP_UNSUPPORTED},
    {"granite", {"rope.scaling.finetuned", SPI_VALUE_BOOL, 0, NULL}, SP_UNSUPPORTED},
    {"granite", {"residual_scale", SPI_VALUE_F32, 0, NULL}, SP_BAD_FILE},
    {"granite", {"expert_count", SPI_VALUE_U32, 32, NULL}, SP_UNSUPPORTED},
    {"phi3", {"attention.layer_norm_rms_epsilon", SPI_VALUE_F32, 0, NULL}, SP_BAD_FILE},
};

static void test_refusals(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const refusal *r = &refusals[i];
        spi_hparams hparams;
        sp_error error = {0};
        extra all[] = {EPSILON, r->more};
        bool is_epsilon = !strcmp(r->more.suffix, all[0].suffix);
        sp_status status = read_with(r->architecture, 6, all + is_epsilon, is_epsilon ? 1 : 2, &hparams, &error);
        if (status != r->status || !strstr(error.message, r->more.suffix) || !strstr(error.message, r->architecture)) {
            fail_msg("%s.%s: status %d, %s", r->architecture, r->more.suffix, (int)status, error.message);
        }
    }
}

/* Keys that say nothing, and what real files have besides. */
static void test_harmless(void **state) {
    (void)state;
    const extra more[] = {{"expert_count", SPI_VALUE_U32, 0, NULL},
                          {"vocab_size", SPI_VALUE_U32, 1000, NULL},
                          {"pooling_type", SPI_VALUE_U32, 0, NULL},
                          {"attention.causal", SPI_VALUE_BOOL, 1, NULL},
                          {"rope.scaling.finetuned", SPI_VALUE_BOOL, 0, NULL},
                          {"tensor_data_layout", SPI_VALUE_STRING, 0, "Meta AI original pth"},
                          {"attention.sliding_window", SPI_VALUE_U32, 0, NULL}};
    read_good("llama", 2, more, 7);
    read_good("qwen2", 2, more, 7);
}

static void test_no_memory(void **state) {
    (void)state;
    const extra more[] = {EPSILON};
    sp_error error = {0};
    spi_hparams hparams;
    test_gguf file = {0};
    test_tiny_model_file(&file);
    spi_source *gguf;
    TEST_OK(spi_gguf_parse(file.bytes, file.count, "test", &gguf, &error), error);
    spi_memory_fail_after(0);
    sp_status status = spi_hparams_read(gguf, &hparams, &error);
    spi_memory_fail_after(-1);
    assert_int_equal(status, SP_NO_MEMORY);
    spi_source_close(gguf);
    test_gguf_free(&file);
    TEST_OK(read_with("llama", 2, more, 1, &hparams, &error), error);
}

/* ---- sessions ---- */

#define TOKENS 230u

typedef struct stage {
    sp_device *device;
    sp_model *model;
    int32_t tokens[TOKENS];
} stage;

static stage open_stage(const test_tiny *with) {
    stage s;
    sp_error error = {0};
    TEST_OK(sp_device_open("cpu", NULL, &s.device, &error), error);
    s.model = test_tiny_model_with(with, s.device);
    test_random random = test_random_seed(test_seed());
    for (uint32_t i = 0; i < TOKENS; i++) {
        s.tokens[i] = (int32_t)test_random_below(&random, TINY_VOCAB);
    }
    return s;
}

static void close_stage(stage *s) {
    sp_model_close(s->model);
    sp_device_close(s->device);
}

static sp_session *open_session(const stage *s, uint32_t context_max) {
    sp_error error = {0};
    sp_session *session;
    sp_session_options options = {.context_max = context_max};
    TEST_OK(sp_session_create(s->model, s->device, &options, &session, &error), error);
    return session;
}

static void append(sp_session *session, const int32_t *tokens, uint32_t count) {
    sp_error error = {0};
    TEST_OK(sp_session_append(session, tokens, count, SP_LOGITS_LAST, &error), error);
}

static double distance(const float *a, const float *b) {
    double largest = 0, difference = 0;
    for (uint32_t i = 0; i < TINY_VOCAB; i++) {
        double value = fabs((double)b[i]), change = fabs((double)a[i] - (double)b[i]);
        largest = value > largest ? value : largest;
        difference = change > difference ? change : difference;
    }
    return difference / largest;
}

static void logits_of(const stage *s, uint32_t context_max, const int32_t *tokens, uint32_t count, float *logits) {
    sp_session *session = open_session(s, context_max);
    append(session, tokens, count);
    memcpy(logits, sp_session_logits(session, 0), TINY_VOCAB * sizeof *logits);
    sp_session_destroy(session);
}

/* With two layers that look back `window` tokens, the last one depends on 2 * (window - 1) before it, and on none
 * further back: not in a single bit. */
static void windows_end_where_they_should(void **state) {
    (void)state;
    enum { WINDOW = 70, REACH = 2 * (WINDOW - 1) };
    stage s = open_stage(&(test_tiny){.window = WINDOW});
    float want[TINY_VOCAB], got[TINY_VOCAB];
    int32_t changed[TOKENS];
    logits_of(&s, 512, s.tokens, TOKENS, want);
    memcpy(changed, s.tokens, sizeof changed);
    for (uint32_t i = 0; i + REACH + 1 < TOKENS; i++) {
        changed[i] = (s.tokens[i] + 1) % (int32_t)TINY_VOCAB;
    }
    logits_of(&s, 512, changed, TOKENS, got);
    assert_memory_equal(got, want, sizeof want);
    changed[TOKENS - REACH - 1] = (s.tokens[TOKENS - REACH - 1] + 1) % (int32_t)TINY_VOCAB;
    logits_of(&s, 512, changed, TOKENS, got);
    assert_true(distance(got, want) > 1e-6);
    close_stage(&s);
}

/* Rows alone and rows together are multiplied in other orders, so that now and then a key or value is rounded to its
 * neighbour in f16, 2^-10 away. */
static void windows_in_pieces_and_after_truncation(void **state) {
    (void)state;
    stage s = open_stage(&(test_tiny){.window = 70});
    float want[TINY_VOCAB];
    logits_of(&s, 512, s.tokens, TOKENS, want);
    sp_session *session = open_session(&s, 512);
    sp_error error = {0};
    append(session, s.tokens, 100);
    append(session, s.tokens + 50, 90); /* not what belongs there */
    TEST_OK(sp_session_truncate(session, 100, &error), error);
    append(session, s.tokens + 100, 29);
    for (uint32_t i = 129; i < TOKENS; i++) {
        append(session, s.tokens + i, 1);
    }
    assert_true(distance(sp_session_logits(session, 0), want) <= 1e-4);
    sp_session_destroy(session);
    close_stage(&s);
}

/* Sessions of both kinds in one batch, each as if it was alone; a context that is not longer than the original one is
 * the model without its long factors. */
static void contexts_choose_their_positions(void **state) {
    (void)state;
    stage s = open_stage(&(test_tiny){.original_context = 256}), plain = open_stage(&(test_tiny){0});
    float near_logits[TINY_VOCAB], far_logits[TINY_VOCAB], want[TINY_VOCAB];
    logits_of(&plain, 256, s.tokens, TOKENS, want);
    logits_of(&s, 256, s.tokens, TOKENS, near_logits);
    assert_memory_equal(near_logits, want, sizeof want);
    logits_of(&s, 257, s.tokens, TOKENS, far_logits);
    assert_true(distance(far_logits, want) > 1e-3);
    enum { COUNT = 5 };
    sp_append parts[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) {
        parts[i] = (sp_append){
            .session = open_session(&s, i % 2 ? 300 : 256), .tokens = s.tokens, .token_count = TOKENS - 3 * (i == 2)};
    }
    sp_error error = {0};
    TEST_OK(sp_session_append_batch(parts, COUNT, NULL, NULL, &error), error);
    append(parts[2].session, s.tokens + TOKENS - 3, 3);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(sp_session_token_count(parts[i].session), TOKENS);
        assert_true(distance(sp_session_logits(parts[i].session, 0), i % 2 ? far_logits : near_logits) <= 1e-4);
        sp_session_destroy(parts[i].session);
    }
    close_stage(&plain);
    close_stage(&s);
}

/* A store that has the same tokens of a session of the other kind finds nothing. */
static void blocks_of_both_kinds_are_not_shared(void **state) {
    (void)state;
    stage s = open_stage(&(test_tiny){.original_context = 256});
    float want[TINY_VOCAB];
    logits_of(&s, 300, s.tokens, TOKENS, want);
    const sp_store_options options = {.folder = NULL};
    sp_store *store;
    sp_error error = {0};
    TEST_OK(sp_store_open(&options, &store, &error), error);
    for (uint32_t i = 0; i < 3; i++) {
        sp_session *session = open_session(&s, i ? 300 : 256);
        TEST_OK(sp_store_attach(store, session, &error), error);
        append(session, s.tokens, TOKENS);
        assert_true((distance(sp_session_logits(session, 0), want) <= 1e-4) == (i > 0));
        sp_session_destroy(session);
        sp_store_stats stats;
        sp_store_get_stats(store, &stats);
        assert_int_equal(stats.hits, i == 2 ? TOKENS / 64 : 0);
    }
    sp_store_close(store);
    close_stage(&s);
}

/* The second program is made when a session needs it, and no memory for it is that session's failure alone. */
static void no_memory_for_the_second_program(void **state) {
    (void)state;
    stage s = open_stage(&(test_tiny){.original_context = 256});
    sp_session_options options = {.context_max = 300};
    sp_session *session = NULL;
    sp_error error = {0};
    bool failed = false;
    for (long at = 0; !session; at++) {
        spi_memory_fail_after(at);
        sp_status status = sp_session_create(s.model, s.device, &options, &session, &error);
        spi_memory_fail_after(-1);
        assert_true(!status == (session != NULL));
        failed |= status == SP_NO_MEMORY;
    }
    assert_true(failed);
    append(session, s.tokens, 10);
    sp_session_destroy(session);
    close_stage(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemma),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_granite),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_harmless),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(windows_end_where_they_should),
        cmocka_unit_test(windows_in_pieces_and_after_truncation),
        cmocka_unit_test(contexts_choose_their_positions),
        cmocka_unit_test(blocks_of_both_kinds_are_not_shared),
        cmocka_unit_test(no_memory_for_the_second_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
