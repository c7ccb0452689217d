/* tests/unit/test_tokenizer.c - equality with the original implementations on golden files (tests/golden/README.md says
 * where they come from), and what must hold for any text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "os/file.h"
#include "support/gguf_writer.h"
#include "support/support.h"
#include "tokenizer/tokenizer.h"

static void copy_strings(test_gguf *file, const spi_source *from, const char *key) {
    const spi_value *value = spi_source_find(from, key);
    spi_value_iterator iterator;
    spi_string text;
    assert_true(spi_value_strings(value, &iterator));
    test_gguf_key(file, key, SPI_VALUE_ARRAY);
    test_gguf_u32(file, SPI_VALUE_STRING);
    test_gguf_u64(file, value->count);
    while (spi_value_next(&iterator, &text)) {
        test_gguf_u64(file, text.bytes);
        test_gguf_bytes(file, text.text, text.bytes);
    }
}

/* The golden vocabulary with another pre-tokeniser's name. */
static sp_status create_with_pre(const char *path, const char *pre, sp_tokenizer **tokenizer, sp_error *error) {
    spi_source *gguf, *changed;
    test_gguf file = {0};
    uint64_t bos = 0, eos = 0;
    TEST_OK(spi_gguf_open(test_source_path(path), &gguf, error), *error);
    assert_true(spi_value_as_u64(spi_source_find(gguf, "tokenizer.ggml.bos_token_id"), &bos));
    assert_true(spi_value_as_u64(spi_source_find(gguf, "tokenizer.ggml.eos_token_id"), &eos));
    const spi_value *types = spi_source_find(gguf, "tokenizer.ggml.token_type");
    test_gguf_header(&file, 3, 0, 7);
    test_gguf_key_string(&file, "tokenizer.ggml.model", "gpt2");
    test_gguf_key_string(&file, "tokenizer.ggml.pre", pre);
    copy_strings(&file, gguf, "tokenizer.ggml.tokens");
    copy_strings(&file, gguf, "tokenizer.ggml.merges");
    test_gguf_key_numbers(&file, "tokenizer.ggml.token_type", SPI_VALUE_I32, types->data, types->count);
    test_gguf_key_u32(&file, "tokenizer.ggml.bos_token_id", (uint32_t)bos);
    test_gguf_key_u32(&file, "tokenizer.ggml.eos_token_id", (uint32_t)eos);
    TEST_OK(spi_gguf_parse(file.bytes, file.count, pre, &changed, error), *error);
    sp_status status = spi_tokenizer_create(changed, tokenizer, error);
    spi_source_close(changed);
    spi_source_close(gguf);
    test_gguf_free(&file); /* the tokenizer has copied what it needs */
    return status;
}

static sp_tokenizer *open_golden(const char *path) {
    spi_source *gguf;
    sp_tokenizer *tokenizer;
    sp_error error = {0};
    TEST_OK(spi_gguf_open(test_source_path(path), &gguf, &error), error);
    TEST_OK(spi_tokenizer_create(gguf, &tokenizer, &error), error);
    spi_source_close(gguf);
    return tokenizer;
}

static size_t from_hex(const char *hex, unsigned char *out) {
    size_t count = 0;
    for (; hex[0] && hex[0] != '-'; hex += 2) {
        char pair[3] = {hex[0], hex[1], 0};
        out[count++] = (unsigned char)strtoul(pair, NULL, 16);
    }
    return count;
}

static size_t from_list(const char *list, int32_t *out) {
    size_t count = 0;
    while (*list && *list != '-') {
        char *end;
        out[count++] = (int32_t)strtol(list, &end, 10);
        list = *end == ',' ? end + 1 : end;
    }
    return count;
}

static void check_encode(const sp_tokenizer *tokenizer, const char *line, uint32_t flags, const char *hex,
                         const char *list, bool is_byte_level) {
    static unsigned char text[4096], back[8192];
    static int32_t expected[4096], got[4096];
    size_t bytes = from_hex(hex, text), count = from_list(list, expected), got_count = 0, back_bytes = 0;
    sp_error error = {0};
    TEST_OK(sp_tokenizer_encode(tokenizer, (const char *)text, bytes, flags, got, 4096, &got_count, &error), error);
    if (got_count != count || memcmp(got, expected, count * sizeof *got)) {
        print_error("%s\ngot:", line);
        for (size_t i = 0; i < got_count; i++) {
            print_error(" %d", got[i]);
        }
        print_error("\n");
        fail_msg("%zu tokens, expected %zu", got_count, count);
    }
    if (is_byte_level && !(flags & SP_ENCODE_SPECIAL)) {
        TEST_OK(sp_tokenizer_decode(tokenizer, got, got_count, SP_DECODE_SPECIAL, (char *)back, sizeof back,
                                    &back_bytes, &error),
                error);
        assert_int_equal(back_bytes, bytes);
        assert_memory_equal(back, text, bytes);
    }
}

static void check_piece(const sp_tokenizer *tokenizer, int32_t id, const char *hex) {
    unsigned char expected[512];
    char got[512];
    size_t bytes = from_hex(hex, expected), got_bytes = 0;
    sp_error error = {0};
    TEST_OK(sp_tokenizer_decode(tokenizer, &id, 1, SP_DECODE_SPECIAL, got, sizeof got, &got_bytes, &error), error);
    assert_int_equal(got_bytes, bytes);
    assert_memory_equal(got, expected, bytes);
}

typedef struct tally {
    size_t texts, pieces, skipped;
} tally;

static tally check_golden(const char *vocabulary, const char *golden, bool is_byte_level) {
    static char line[65536], pre[64], oracle[64], flags[64], hex[16384], list[32768], current[64];
    tally seen = {0};
    sp_tokenizer *tokenizer = NULL;
    sp_error error = {0};
    FILE *file = fopen(test_source_path(golden), "r");
    assert_non_null(file);
    current[0] = 0;
    while (fgets(line, sizeof line, file)) {
        if (line[0] == '#') {
            continue;
        }
        int fields = sscanf(line, "%63s %63s %63s %16383s %32767s", pre, oracle, flags, hex, list);
        assert_true(fields >= 4);
        if (strcmp(pre, current)) {
            spi_tokenizer_destroy(tokenizer);
            if (is_byte_level) {
                TEST_OK(create_with_pre(vocabulary, pre, &tokenizer, &error), error);
            } else {
                tokenizer = open_golden(vocabulary);
            }
            snprintf(current, sizeof current, "%.63s", pre);
        }
        if (strcmp(oracle, "piece") == 0) {
            check_piece(tokenizer, (int32_t)atoi(flags), hex);
            seen.pieces++;
        } else if (strcmp(oracle, "differs")) {
            assert_int_equal(fields, 5);
            check_encode(tokenizer, line, (uint32_t)atoi(flags), hex, list, is_byte_level);
            seen.texts++;
        } else {
            seen.skipped++;
        }
    }
    fclose(file);
    spi_tokenizer_destroy(tokenizer);
    return seen;
}

static void llama3_and_others_agree(void **state) {
    (void)state;
    tally seen = check_golden("tests/golden/tokenizer-llama3.gguf", "tests/golden/tokenizer-llama3.txt", true);
    assert_true(seen.texts > 3500 && seen.pieces == 2005);
}

static void gpt2_agrees(void **state) {
    (void)state;
    tally seen = check_golden("tests/golden/tokenizer-gpt2.gguf", "tests/golden/tokenizer-gpt2.txt", true);
    assert_true(seen.texts > 200 && seen.pieces == 1505);
}

static void qwen2_agrees(void **state) {
    (void)state;
    tally seen = check_golden("tests/golden/tokenizer-qwen2.gguf", "tests/golden/tokenizer-qwen2.txt", true);
    assert_true(seen.texts > 200 && seen.pieces == 1505);
}

static void sentencepiece_agrees(void **state) {
    (void)state;
    tally seen = check_golden("tests/golden/tokenizer-spm.gguf", "tests/golden/tokenizer-spm.txt", false);
    assert_true(seen.texts > 200 && seen.pieces == 700);
    seen = check_golden("tests/golden/tokenizer-gemma.gguf", "tests/golden/tokenizer-gemma.txt", false);
    assert_true(seen.texts > 150 && seen.pieces == 700);
    seen = check_golden("tests/golden/tokenizer-phi3.gguf", "tests/golden/tokenizer-phi3.txt", false);
    assert_true(seen.texts > 150 && seen.pieces == 705);
}

/* Random bytes, random valid UTF-8 and pieces of tokens: what comes back is what went in, and the count without an
 * array is the count with one. */
static void random_texts_come_back(void **state) {
    (void)state;
    static const char *const pres[] = {"llama-bpe", "gpt-2",       "qwen2",        "smollm",         "gpt-4o",
                                       "tekken",    "deepseek-v3", "deepseek-llm", "falcon",         "default",
                                       "bloom",     "viking",      "bailingmoe",   "deepseek-coder", "minicpm5",
                                       "tiny_aya",  "ufakzeka",    "qwen35",       "seed-coder"};
    static char text[600], back[1200];
    static int32_t tokens[600];
    test_random random = test_random_seed(test_seed());
    for (size_t p = 0; p < sizeof pres / sizeof pres[0]; p++) {
        sp_tokenizer *tokenizer;
        sp_error error = {0};
        TEST_OK(create_with_pre("tests/golden/tokenizer-llama3.gguf", pres[p], &tokenizer, &error), error);
        for (int round = 0; round < 300; round++) {
            size_t bytes = test_random_below(&random, sizeof text), count = 0, counted = 0, back_bytes = 0;
            unsigned kind = test_random_below(&random, 3);
            for (size_t i = 0; i < bytes; i++) {
                unsigned char any = (unsigned char)test_random_below(&random, 256);
                text[i] = (char)(kind == 0 ? any : kind == 1 ? " \n\ta'1.\xc3\xa9<"[any % 11] : any & 0x7f);
            }
            TEST_OK(sp_tokenizer_encode(tokenizer, text, bytes, 0, tokens, 600, &count, &error), error);
            sp_status status = sp_tokenizer_encode(tokenizer, text, bytes, 0, NULL, 0, &counted, &error);
            assert_int_equal(status, count ? SP_BUFFER_TOO_SMALL : SP_OK);
            assert_int_equal(counted, count);
            TEST_OK(sp_tokenizer_decode(tokenizer, tokens, count, 0, back, sizeof back, &back_bytes, &error), error);
            assert_int_equal(back_bytes, bytes);
            assert_memory_equal(back, text, bytes);
        }
        spi_tokenizer_destroy(tokenizer);
    }
}

/* 256 thousand letters are one word, as many spaces too: neither may take time that grows with the square. */
static void long_words_are_cut_in_time(void **state) {
    (void)state;
    static const char *const fills[] = {"a",  " ",   "\n",        "1",       "'", "\xff", "\xe4\xbd\xa0",
                                        "aA", " \n", "<|eot_id|", "\xcc\x81"};
    const size_t bytes = 1 << 18;
    char *text = malloc(bytes + 16), *back = malloc(bytes);
    int32_t *tokens = malloc(bytes * sizeof *tokens);
    sp_error error = {0};
    assert_true(text && back && tokens);
    static const char *const pres[] = {"llama-bpe", "deepseek-llm", "tekken"};
    for (size_t p = 0; p < sizeof pres / sizeof pres[0]; p++) {
        sp_tokenizer *tokenizer;
        TEST_OK(create_with_pre("tests/golden/tokenizer-llama3.gguf", pres[p], &tokenizer, &error), error);
        for (size_t f = 0; f < sizeof fills / sizeof fills[0]; f++) {
            size_t count = 0, back_bytes = 0, length = strlen(fills[f]);
            for (size_t i = 0; i < bytes; i += length) {
                memcpy(text + i, fills[f], length);
            }
            text[bytes - 1] = 'x';
            TEST_OK(sp_tokenizer_encode(tokenizer, text, bytes, 0, tokens, bytes, &count, &error), error);
            TEST_OK(sp_tokenizer_decode(tokenizer, tokens, count, 0, back, bytes, &back_bytes, &error), error);
            assert_int_equal(back_bytes, bytes);
            assert_memory_equal(back, text, bytes);
        }
        spi_tokenizer_destroy(tokenizer);
    }
    sp_tokenizer *spm = open_golden("tests/golden/tokenizer-spm.gguf");
    memset(text, 'a', bytes);
    size_t count = 0;
    TEST_OK(sp_tokenizer_encode(spm, text, bytes, 0, tokens, bytes, &count, &error), error);
    assert_true(count > 1000);
    spi_tokenizer_destroy(spm);
    free(text);
    free(back);
    free(tokens);
}

static void special_tokens_are_known(void **state) {
    (void)state;
    sp_tokenizer *tokenizer = open_golden("tests/golden/tokenizer-llama3.gguf");
    sp_error error = {0};
    int32_t tokens[8];
    size_t count = 0, bytes = 0;
    char text[64];
    int32_t eot = sp_tokenizer_find(tokenizer, "<|eot_id|>", 10), bos = sp_tokenizer_bos(tokenizer);
    assert_int_equal(sp_tokenizer_vocab(tokenizer), 2005);
    assert_int_equal(bos, 2000);
    assert_int_equal(sp_tokenizer_eos(tokenizer), 2001);
    assert_int_equal(eot, 2002);
    assert_int_equal(sp_tokenizer_find(tokenizer, "no such token", 13), -1);
    assert_int_equal(sp_tokenizer_find(tokenizer, "", 0), -1);
    assert_true(sp_tokenizer_is_end(tokenizer, eot));
    assert_true(sp_tokenizer_is_end(tokenizer, 2001));
    assert_false(sp_tokenizer_is_end(tokenizer, bos) || sp_tokenizer_is_end(tokenizer, -1) ||
                 sp_tokenizer_is_end(tokenizer, 2005) || sp_tokenizer_is_end(tokenizer, INT32_MIN));
    TEST_OK(sp_tokenizer_encode(tokenizer, "<|eot_id|>", 10, SP_ENCODE_PARSE_SPECIAL | SP_ENCODE_SPECIAL, tokens, 8,
                                &count, &error),
            error);
    assert_int_equal(count, 2);
    assert_int_equal(tokens[0], bos);
    assert_int_equal(tokens[1], eot);
    /* Control tokens are shown only when asked for; the user's own always are. */
    TEST_OK(sp_tokenizer_decode(tokenizer, (int32_t[]){bos, 2003, eot}, 3, 0, text, sizeof text, &bytes, &error),
            error);
    assert_int_equal(bytes, 6);
    assert_memory_equal(text, "<tool>", 6);
    assert_int_equal(
        sp_tokenizer_decode(tokenizer, (int32_t[]){bos, 2003}, 2, SP_DECODE_SPECIAL, text, 3, &bytes, &error),
        SP_BUFFER_TOO_SMALL);
    assert_int_equal(bytes, 17 + 6);
    assert_int_equal(sp_tokenizer_decode(tokenizer, (int32_t[]){0, 2005}, 2, 0, text, sizeof text, &bytes, &error),
                     SP_INVALID);
    assert_int_equal(sp_tokenizer_decode(tokenizer, (int32_t[]){-1}, 1, 0, text, sizeof text, &bytes, &error),
                     SP_INVALID);
    assert_int_equal(sp_tokenizer_encode(tokenizer, "a", 1, 4, tokens, 8, &count, &error), SP_INVALID);
    spi_tokenizer_destroy(tokenizer);
    spi_tokenizer_destroy(NULL);
}

/* ---- files that are not as they should be ---- */

typedef struct wrong {
    const char *name;
    void (*make)(test_gguf *file);
    sp_status status;
    const char *words;
} wrong;

static const char *const three[] = {"a", "b", "ab"};

static void base(test_gguf *f, uint64_t more, const char *model, const char *pre) {
    test_gguf_header(f, 3, 0, 2 + more);
    test_gguf_key_string(f, "tokenizer.ggml.model", model);
    test_gguf_key_string(f, "tokenizer.ggml.pre", pre);
}
static void no_model(test_gguf *f) {
    test_gguf_header(f, 3, 0, 0);
}
static void unknown_model(test_gguf *f) {
    base(f, 0, "rwkv", "x");
}
static void unknown_pre(test_gguf *f) {
    base(f, 0, "gpt2", "kimi-k2");
}
static void two_pres(test_gguf *f) {
    base(f, 0, "gpt2", "llama-bpe llama3");
}
static void no_tokens(test_gguf *f) {
    base(f, 0, "gpt2", "gpt-2");
}
static void zero_tokens(test_gguf *f) {
    base(f, 1, "gpt2", "gpt-2");
    test_gguf_key_strings(f, "tokenizer.ggml.tokens", three, 0);
}
static void no_merges(test_gguf *f) {
    base(f, 1, "gpt2", "gpt-2");
    test_gguf_key_strings(f, "tokenizer.ggml.tokens", three, 3);
}
static void merge_of_one(test_gguf *f) {
    base(f, 2, "gpt2", "gpt-2");
    test_gguf_key_strings(f, "tokenizer.ggml.tokens", three, 3);
    test_gguf_key_strings(f, "tokenizer.ggml.merges", (const char *const[]){"a b", "ab"}, 2);
}
static void merge_of_nothing(test_gguf *f) {
    base(f, 2, "gpt2", "gpt-2");
    test_gguf_key_strings(f, "tokenizer.ggml.tokens", three, 3);
    test_gguf_key_strings(f, "tokenizer.ggml.merges", (const char *const[]){"a "}, 1);
}
static void same_token(test_gguf *f) {
    base(f, 1, "gpt2", "gpt-2");
    test_gguf_key_strings(f, "tokenizer.ggml.tokens", (const char *const[]){"a", "b", "a"}, 3);
}
static void few_types(test_gguf *f) {
    base(f, 2, "gpt2", "gpt-2");
    test_gguf_key_strings(f, "tokenizer.ggml.tokens", three, 3);
    test_gguf_key_numbers(f, "tokenizer.ggml.token_type", SPI_VALUE_I32, (int32_t[]){1, 1}, 2);
}
static void float_types(test_gguf *f) {
    base(f, 2, "gpt2", "gpt-2");
    test_gguf_key_strings(f, "tokenizer.ggml.tokens", three, 3);
    test_gguf_key_numbers(f, "tokenizer.ggml.token_type", SPI_VALUE_F32, (float[]){1, 1, 1}, 3);
}
static void few_scores(test_gguf *f) {
    base(f, 2, "llama", "default");
    test_gguf_key_strings(f, "tokenizer.ggml.tokens", three, 3);
    test_gguf_key_numbers(f, "tokenizer.ggml.scores", SPI_VALUE_F32, (float[]){1, 1}, 2);
}
static void nan_score(test_gguf *f) {
    base(f, 2, "llama", "default");
    test_gguf_key_strings(f, "tokenizer.ggml.tokens", three, 3);
    test_gguf_key_numbers(f, "tokenizer.ggml.scores", SPI_VALUE_F32, (uint32_t[]){0, 0x7fc00000, 0}, 3);
}
static void far_eos(test_gguf *f) {
    base(f, 2, "llama", "default");
    test_gguf_key_strings(f, "tokenizer.ggml.tokens", three, 3);
    test_gguf_key_u32(f, "tokenizer.ggml.eos_token_id", 3);
}
static void bos_of_nothing(test_gguf *f) {
    base(f, 2, "gpt2", "gpt-2");
    test_gguf_key_strings(f, "tokenizer.ggml.tokens", three, 3);
    test_gguf_key_bool(f, "tokenizer.ggml.add_bos_token", 1);
}

static const wrong wrongs[] = {
    {"no_model", no_model, SP_UNSUPPORTED, "tokenizer.ggml.model"},
    {"unknown_model", unknown_model, SP_UNSUPPORTED, "rwkv"},
    {"unknown_pre", unknown_pre, SP_UNSUPPORTED, "kimi-k2"},
    {"two_pres", two_pres, SP_UNSUPPORTED, "llama-bpe llama3"},
    {"no_tokens", no_tokens, SP_BAD_FILE, "tokenizer.ggml.tokens"},
    {"zero_tokens", zero_tokens, SP_BAD_FILE, "0 tokens"},
    {"no_merges", no_merges, SP_BAD_FILE, "tokenizer.ggml.merges"},
    {"merge_of_one", merge_of_one, SP_BAD_FILE, "\"ab\" at index 1"},
    {"merge_of_nothing", merge_of_nothing, SP_BAD_FILE, "\"a \" at index 0"},
    {"same_token", same_token, SP_BAD_FILE, "tokens 0 and 2 are both \"a\""},
    {"few_types", few_types, SP_BAD_FILE, "token_type has 2"},
    {"float_types", float_types, SP_BAD_FILE, "token_type"},
    {"few_scores", few_scores, SP_BAD_FILE, "scores has 2"},
    {"nan_score", nan_score, SP_BAD_FILE, "number 1"},
    {"far_eos", far_eos, SP_BAD_FILE, "eos_token_id is 3"},
    {"bos_of_nothing", bos_of_nothing, SP_BAD_FILE, "bos_token_id is missing"},
};

static void wrong_files_are_named(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof wrongs / sizeof wrongs[0]; i++) {
        test_gguf file = {0};
        spi_source *gguf;
        sp_tokenizer *tokenizer;
        sp_error error = {0};
        wrongs[i].make(&file);
        TEST_OK(spi_gguf_parse(file.bytes, file.count, "file", &gguf, &error), error);
        sp_status status = spi_tokenizer_create(gguf, &tokenizer, &error);
        if (status != wrongs[i].status || !strstr(error.message, wrongs[i].words)) {
            fail_msg("%s: %s: %s", wrongs[i].name, sp_status_text(status), error.message);
        }
        assert_null(tokenizer);
        spi_source_close(gguf);
        test_gguf_free(&file);
    }
}

/* Merges over strings that are no tokens, tokens that are no bytes, no token for most bytes: all is survived. */
static void odd_vocabularies_work(void **state) {
    (void)state;
    test_gguf file = {0};
    spi_source *gguf;
    sp_tokenizer *tokenizer;
    sp_error error = {0};
    int32_t tokens[8];
    size_t count = 0;
    base(&file, 2, "gpt2", "gpt-2");
    test_gguf_key_strings(&file, "tokenizer.ggml.tokens",
                          (const char *const[]){"a", "b", "c", "", "abc", "<|im_end|>", "</s>"}, 7);
    test_gguf_key_strings(&file, "tokenizer.ggml.merges", (const char *const[]){"a b", "ab c", "b c", "a b"}, 4);
    TEST_OK(spi_gguf_parse(file.bytes, file.count, "file", &gguf, &error), error);
    TEST_OK(spi_tokenizer_create(gguf, &tokenizer, &error), error);
    TEST_OK(sp_tokenizer_encode(tokenizer, "abcabxbc", 8, 0, tokens, 8, &count, &error), error);
    assert_int_equal(count, 5); /* abc, then ab and bc as bytes, and no x */
    assert_memory_equal(tokens, ((int32_t[]){4, 0, 1, 1, 2}), 5 * sizeof *tokens);
    assert_int_equal(sp_tokenizer_find(tokenizer, "ab", 2), -1);
    assert_int_equal(sp_tokenizer_bos(tokenizer), -1);
    assert_true(sp_tokenizer_is_end(tokenizer, 5));
    assert_false(sp_tokenizer_is_end(tokenizer, 6)); /* HTML, where the file does not say that it is a control token */
    TEST_OK(sp_tokenizer_encode(tokenizer, "<|im_end|>", 10, SP_ENCODE_PARSE_SPECIAL, tokens, 8, &count, &error),
            error);
    assert_int_equal(count, 1);
    assert_int_equal(tokens[0], 5);
    spi_tokenizer_destroy(tokenizer);
    spi_source_close(gguf);
    test_gguf_free(&file);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    static const char *const files[] = {"fuzz/corpus/gguf/bpe.gguf", "fuzz/corpus/gguf/spm.gguf"};
    for (size_t f = 0; f < 2; f++) {
        spi_source *gguf;
        sp_tokenizer *tokenizer;
        sp_error error = {0};
        int32_t tokens[64];
        size_t count;
        TEST_OK(spi_gguf_open(test_source_path(files[f]), &gguf, &error), error);
        for (long n = 0;; n++) {
            spi_memory_fail_after(n);
            sp_status status = spi_tokenizer_create(gguf, &tokenizer, &error);
            spi_memory_fail_after(-1);
            if (status == SP_OK) {
                assert_true(n >= 5);
                break;
            }
            assert_int_equal(status, SP_NO_MEMORY);
            assert_null(tokenizer);
        }
        for (long n = 0;; n++) {
            spi_memory_fail_after(n);
            sp_status status =
                sp_tokenizer_encode(tokenizer, "abc abc \xff <|end|>", 18, 0, tokens, 64, &count, &error);
            spi_memory_fail_after(-1);
            if (status == SP_OK) {
                assert_true(n > 2);
                break;
            }
            assert_int_equal(status, SP_NO_MEMORY);
            assert_int_equal(count, 0);
        }
        spi_tokenizer_destroy(tokenizer);
        spi_source_close(gguf);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama3_and_others_agree),
        cmocka_unit_test(gpt2_agrees),
        cmocka_unit_test(qwen2_agrees),
        cmocka_unit_test(sentencepiece_agrees),
        cmocka_unit_test(random_texts_come_back),
        cmocka_unit_test(long_words_are_cut_in_time),
        cmocka_unit_test(special_tokens_are_known),
        cmocka_unit_test(wrong_files_are_named),
        cmocka_unit_test(odd_vocabularies_work),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
