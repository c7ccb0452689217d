/* tests/unit/test_hf_tokens.c - tokenizer.json of every kind that is read, against what `tokenizers` makes of the same
 * texts (tests/golden/mlx/tokens, by tools/mlx/golden_tokens.py); and what is refused by name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "hf/hf.h"
#include "os/file.h"
#include "support/hf_folder.h"
#include "support/support.h"
#include "tokenizer/tokenizer.h"

#define VOCAB 1024u

static const char *const names[] = {"llama3", "qwen2", "gpt2",  "starcoder", "o200k",
                                    "llama2", "phi3",  "gemma", "mistral",   "words"};

static char *read_golden(const char *name) {
    char path[128];
    void *text;
    size_t bytes;
    sp_error error = {0};
    snprintf(path, sizeof path, "tests/golden/mlx/tokens/%s.json", name);
    TEST_OK(spi_file_read(test_source_path(path), (size_t)1 << 24, &text, &bytes, &error), error);
    return text;
}

static sp_status open_text(const char *json, spi_source **source, sp_tokenizer **tokenizer, sp_error *error) {
    const char *folder = test_hf_create("hf_tokens");
    test_hf_llama(folder, VOCAB, 0);
    test_hf_text(folder, "tokenizer.json", json);
    *tokenizer = NULL;
    sp_status status = spi_hf_open(folder, source, error);
    return status ? status : spi_tokenizer_create(*source, tokenizer, error);
}

static size_t from_hex(const char *hex, unsigned char *out) {
    size_t count = 0;
    for (; hex[0] && hex[0] != '-'; hex += 2) {
        char pair[3] = {hex[0], hex[1], 0};
        out[count++] = (unsigned char)strtoul(pair, NULL, 16);
    }
    return count;
}

static void check_line(const sp_tokenizer *tokenizer, const char *name, const char *hex, const char *list) {
    static unsigned char text[4096];
    int32_t got[2048], expected[2048];
    size_t bytes = from_hex(hex, text), count = 0, got_count;
    sp_error error = {0};
    while (*list && *list != '-') {
        char *end;
        expected[count++] = (int32_t)strtol(list, &end, 10);
        list = *end == ',' ? end + 1 : end;
    }
    TEST_OK(sp_tokenizer_encode(tokenizer, (const char *)text, bytes, SP_ENCODE_SPECIAL | SP_ENCODE_PARSE_SPECIAL, got,
                                2048, &got_count, &error),
            error);
    if (got_count != count || memcmp(got, expected, count * sizeof *got) != 0) {
        print_error("%s: %s\ngot:", name, hex);
        for (size_t i = 0; i < got_count; i++) {
            print_error(" %d", got[i]);
        }
        print_error("\nnot:");
        for (size_t i = 0; i < count; i++) {
            print_error(" %d", expected[i]);
        }
        print_error("\n");
        fail();
    }
}

static void test_golden(void **state) {
    (void)state;
    static char line[16384], hex[8192], list[8192];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[128], *json = read_golden(names[i]);
        spi_source *source;
        sp_tokenizer *tokenizer;
        sp_error error = {0};
        uint32_t texts = 0;
        TEST_OK(open_text(json, &source, &tokenizer, &error), error);
        spi_source_close(source); /* the tokenizer has copied what it needs */
        snprintf(path, sizeof path, "tests/golden/mlx/tokens/%s.txt", names[i]);
        FILE *file = fopen(test_source_path(path), "r");
        assert_non_null(file);
        while (fgets(line, sizeof line, file)) {
            if (line[0] != '#') {
                assert_int_equal(sscanf(line, "%8191s %8191s", hex, list), 2);
                check_line(tokenizer, names[i], hex, list);
                texts++;
            }
        }
        fclose(file);
        print_message("%-10s %u texts as tokenizers has them\n", names[i], texts);
        assert_true(texts > 150);
        spi_tokenizer_destroy(tokenizer);
        spi_free(json);
    }
}

/* Any bytes are encoded, and for byte-level ones come back, but for what NFC composes. */
static void test_any_bytes(void **state) {
    (void)state;
    test_random random = test_random_seed(test_seed());
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *json = read_golden(names[i]);
        spi_source *source;
        sp_tokenizer *tokenizer;
        sp_error error = {0};
        TEST_OK(open_text(json, &source, &tokenizer, &error), error);
        spi_source_close(source);
        for (uint32_t round = 0; round < 300; round++) {
            char text[64], back[512];
            int32_t ids[256];
            size_t bytes = test_random_next(&random) % sizeof text, count, back_bytes;
            for (size_t k = 0; k < bytes; k++) {
                text[k] = (char)test_random_next(&random);
            }
            TEST_OK(sp_tokenizer_encode(tokenizer, text, bytes, 0, ids, 256, &count, &error), error);
            TEST_OK(
                sp_tokenizer_decode(tokenizer, ids, count, SP_DECODE_SPECIAL, back, sizeof back, &back_bytes, &error),
                error);
            if (!strcmp(names[i], "gpt2") || !strcmp(names[i], "llama3")) {
                assert_int_equal(back_bytes, bytes);
                assert_memory_equal(back, text, bytes);
            }
        }
        spi_tokenizer_destroy(tokenizer);
        spi_free(json);
    }
}

typedef struct change {
    const char *name, *from, *to;
    sp_status status;
    const char *message;
} change;

static const change changes[] = {
    {"gpt2", "\"type\":\"BPE\"", "\"type\":\"Unigram\"", SP_UNSUPPORTED, "model.type Unigram"},
    {"gpt2", "\"add_prefix_space\":false", "\"add_prefix_space\":true", SP_UNSUPPORTED, "add_prefix_space"},
    {"qwen2", "\"type\":\"NFC\"", "\"type\":\"NFKC\"", SP_UNSUPPORTED, "normalizer NFKC"},
    {"qwen2", "\"behavior\":\"Isolated\"", "\"behavior\":\"Removed\"", SP_UNSUPPORTED, "Removed"},
    {"qwen2", "\"single_word\":false", "\"single_word\":true", SP_UNSUPPORTED, "single_word"},
    {"qwen2", "(?i:", "(?i:(", SP_UNSUPPORTED, "does not compile"},
    {"llama3", "TemplateProcessing", "RobertaProcessing", SP_UNSUPPORTED, "RobertaProcessing"},
    {"llama2", "\"prepend\":\"\xe2\x96\x81\"", "\"prepend\":\"x\"", SP_UNSUPPORTED, "normalizer Prepend"},
    {"llama2", "\"normalized\":false", "\"normalized\":true", SP_UNSUPPORTED, "normalized"},
    {"words", "\"prepend_scheme\":\"always\"", "\"prepend_scheme\":\"never\"", SP_OK, NULL},
    {"words", "Metaspace", "Whitespace", SP_UNSUPPORTED, "pre_tokenizer Whitespace"},
    {"gpt2", "\"vocab\":{", "\"vocab\":{\"far\":99999,", SP_BAD_FILE, "the id of \"far\""},
    {"gpt2", "\"vocab\":{", "\"vocab\":{\"half\":0.5,", SP_BAD_FILE, "the id of \"half\""},
    {"gpt2", "\"vocab\":{", "\"vocab\":{\"two\":5,", SP_BAD_FILE, "id of another token, 5"},
    {"gpt2", "\"vocab\":{", "\"words\":{", SP_BAD_FILE, "model.vocab is missing"},
    {"gpt2", "\"merges\":[", "\"merges\":[7,", SP_BAD_FILE, "model.merges"},
    {"gemma", "\"merges\":[[", "\"merges\":[[\"a\"],[", SP_BAD_FILE, "model.merges"},
    {"gpt2", "{\"id\":0,", "{\"id\":-1,", SP_BAD_FILE, "added_tokens"},
    {"gpt2", "\"version\"", "version", SP_BAD_FILE, "tokenizer.json is no JSON: see byte 1"},
    {"gpt2", "\"vocab\":{", "\"vocab\":{\"\\q\":1,", SP_BAD_FILE, "tokenizer.json is no JSON: see byte"},
    {"gpt2", "\"vocab\":{", "\"vocab\":{\"two\\n\\u00e9\":5.5,", SP_BAD_FILE, "the id of \"two?\xc3\xa9\" is no"},
    {"gpt2", "\"merges\":[", "\"merges\":[\"a b\" 7,", SP_BAD_FILE, "tokenizer.json is no JSON"},
    {"gpt2", "\"merges\":[", "\"merges\":[],\"merges\":[7,", SP_OK, NULL}, /* the first counts */
    {"gpt2", "\"model\":{", "\"model\":null,\"model\":{", SP_BAD_FILE, "model is missing"},
    {"gpt2", "\"model\":{", "\"model\":[{}],\"mo\":{", SP_UNSUPPORTED, "model.type (none)"},
    {"gpt2", "\"vocab\":{", "\"vocab\":null,\"vocab\":{", SP_BAD_FILE, "model.vocab is missing"},
    {"gpt2", "\"vocab\":{", "\"voc\\u0061b\":{", SP_OK, NULL},
    {"gpt2", "\"added_tokens\":[", "\"added_tokens\":7,\"more\":[", SP_BAD_FILE, "added_tokens is no array"},
    {"gpt2", "\"added_tokens\":[", "\"added_tokens\":[7,", SP_BAD_FILE, "added_tokens holds an entry"},
    {"gpt2", "\"added_tokens\":[", "\"added_tokens\":null,\"more\":[", SP_OK, NULL},
};

static void check_change(const change *c, const char *json) {
    const char *place = strstr(json, c->from);
    assert_non_null(place);
    size_t size = strlen(json) + strlen(c->to) + 1;
    char *changed = malloc(size);
    assert_non_null(changed);
    snprintf(changed, size, "%.*s%s%s", (int)(place - json), json, c->to, place + strlen(c->from));
    spi_source *source = NULL;
    sp_tokenizer *tokenizer = NULL;
    sp_error error = {0};
    sp_status status = open_text(changed, &source, &tokenizer, &error);
    if (status != c->status || (c->message && !strstr(error.message, c->message))) {
        fail_msg("%s, %s: %d, %s", c->name, c->to, status, error.message);
    }
    spi_tokenizer_destroy(tokenizer);
    spi_source_close(source);
    free(changed);
}

static void test_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        char *json = read_golden(changes[i].name);
        check_change(&changes[i], json);
        spi_free(json);
    }
}

/* What is not the vocabulary becomes a tree, and so is bounded. */
static void test_much_else(void **state) {
    (void)state;
    static const size_t bytes = (size_t)17 << 20;
    char *json = malloc(bytes);
    assert_non_null(json);
    memset(json, ' ', bytes);
    memcpy(json, "{\"version\":", 11);
    json[11] = '7';
    memcpy(json + bytes - 2, "}", 2);
    spi_source *source = NULL;
    sp_tokenizer *tokenizer = NULL;
    sp_error error = {0};
    assert_int_equal(open_text(json, &source, &tokenizer, &error), SP_BAD_FILE);
    assert_non_null(strstr(error.message, "beside the vocabulary are too many"));
    free(json);
}

/* No memory at any point is said, and nothing is lost. */
static void test_no_memory(void **state) {
    (void)state;
    char *json = read_golden("qwen2");
    const char *folder = test_hf_create("hf_tokens");
    test_hf_llama(folder, VOCAB, 4);
    test_hf_text(folder, "tokenizer.json", json);
    spi_free(json);
    for (long allocation = 0;; allocation += allocation < 60 ? 1 : 37) {
        sp_error error = {0};
        spi_source *source = NULL;
        sp_tokenizer *tokenizer = NULL;
        spi_memory_fail_after(allocation);
        sp_status status = spi_hf_open(folder, &source, &error);
        status = status ? status : spi_tokenizer_create(source, &tokenizer, &error);
        bool reached = !status;
        spi_memory_fail_after(-1);
        spi_tokenizer_destroy(tokenizer);
        spi_source_close(source);
        if (reached) {
            assert_true(allocation > 50);
            break;
        }
        assert_int_equal(status, SP_NO_MEMORY);
        assert_true(error.message[0]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_any_bytes),
                                       cmocka_unit_test(test_refused), cmocka_unit_test(test_much_else),
                                       cmocka_unit_test(test_no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
