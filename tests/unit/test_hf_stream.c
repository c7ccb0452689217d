/* tests/unit/test_hf_stream.c - JSON without a tree: what it is, what it is not, and that a tree says the same. */
#include <cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "hf/stream.h"
#include "os/file.h"
#include "support/support.h"

static spi_stream stream_of(const char *json) {
    return spi_stream_of((spi_string){json, strlen(json)});
}

/* What is JSON is taken to its end; of what is not, the first byte that cannot be is named. */
static void test_grammar(void **state) {
    (void)state;
    static const struct {
        const char *json;
        int wrong; /* -1: nothing */
    } cases[] = {{"{}", -1},
                 {" [ ] ", -1},
                 {"[1, -2.5, 3e5, 4E-2, 0.25e+1]", -1},
                 {"{\"a\" : {\"b\" : [null, true, false, \"\\u00e9\\n\\\\\"]}}", -1},
                 {"\xef\xbb\xbf[1]", -1},
                 {"\"\\ud83d\\ude00\"", -1},
                 {"", 0},
                 {"{", 1},
                 {"[1,]", 3},
                 {"[1 2]", 3},
                 {"[1}", 2},
                 {"{\"a\"}", 4},
                 {"{\"a\":}", 5},
                 {"{a:1}", 1},
                 {"{\"a\":1,}", 7},
                 {"[,1]", 1},
                 {"[nul]", 1},
                 {"[truth]", 1},
                 {"[-]", 1},
                 {"[1.]", 1},
                 {"[1e]", 1},
                 {"[.5]", 1},
                 {"[+5]", 1},
                 {"\"abc", 4},
                 {"\"\\x\"", 1},
                 {"\"\\u12g4\"", 1},
                 {"\"\\u12", 1},
                 {"\"\\", 1},
                 {"\"\\ud83d\"", 1},
                 {"\"\\ud83d\\u0041\"", 1},
                 {"\"\\ude00\"", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        spi_stream stream = stream_of(cases[i].json);
        spi_stream_skip(&stream);
        spi_stream_peek(&stream);
        int at = (int)(stream.at - cases[i].json), expected = cases[i].wrong;
        if (stream.bad != (expected >= 0) || at != (expected < 0 ? (int)strlen(cases[i].json) : expected)) {
            fail_msg("%s: %s at %d, not %d", cases[i].json, stream.bad ? "bad" : "good", at, expected);
        }
    }
}

static void test_depth(void **state) {
    (void)state;
    for (size_t depth = 199; depth <= 100000; depth = depth < 203 ? depth + 1 : depth * 10) {
        char *json = malloc(2 * depth + 1);
        assert_non_null(json);
        memset(json, '[', depth);
        memset(json + depth, ']', depth);
        json[2 * depth] = 0;
        spi_stream stream = stream_of(json);
        spi_stream_skip(&stream);
        assert_int_equal(stream.bad, depth > 200);
        free(json);
    }
}

/* Asked for another kind than comes, nothing is taken. */
static void test_kinds(void **state) {
    (void)state;
    static const char json[] = "{\"n\": 12, \"t\": true, \"s\": \"x\", \"l\": [], \"o\": {}, \"m\": -1, \"p\": 1.0,"
                               " \"e\": 1e3, \"big\": 1234567890123456789}";
    spi_stream stream = stream_of(json);
    spi_string key, string;
    uint64_t number = 7;
    bool flag = false;
    assert_false(spi_stream_open(&stream, '['));
    assert_true(spi_stream_open(&stream, '{'));
    for (uint32_t i = 0; spi_stream_member(&stream, &key); i++) {
        assert_int_equal(spi_stream_whole(&stream, &number), spi_stream_equal(key, "n"));
        if (i > 0) {
            assert_int_equal(spi_stream_flag(&stream, &flag), spi_stream_equal(key, "t"));
        }
        if (i > 1) {
            assert_int_equal(spi_stream_string(&stream, &string), spi_stream_equal(key, "s"));
        }
        if (i > 2) {
            spi_stream_skip(&stream);
        }
    }
    assert_int_equal(number, 12);
    assert_true(flag);
    assert_int_equal(string.bytes, 1);
    assert_false(stream.bad);
    assert_int_equal(*stream.at, 0);
}

static void test_decode(void **state) {
    (void)state;
    static const struct {
        const char *json, *text;
        size_t bytes;
    } cases[] = {{"\"\"", "", 0},
                 {"\"plain \xc3\xa9\"", "plain \xc3\xa9", 8},
                 {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8},
                 {"\"\\u0041\\u00E9\\u2581\\ud83d\\uDE00\"", "A\xc3\xa9\xe2\x96\x81\xf0\x9f\x98\x80", 10},
                 {"\"a\\u0000b\"", "a\0b", 3},
                 {"\"\\uffff\\u0800\\u07ff\\u0080\\u007f\"", "\xef\xbf\xbf\xe0\xa0\x80\xdf\xbf\xc2\x80\x7f", 11}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        spi_stream stream = stream_of(cases[i].json);
        spi_string raw;
        char text[64];
        assert_true(spi_stream_string(&stream, &raw));
        assert_int_equal(spi_stream_decode(raw, text), cases[i].bytes);
        assert_memory_equal(text, cases[i].text, cases[i].bytes);
        assert_int_equal(spi_stream_equal(raw, cases[i].text), cases[i].bytes == strlen(cases[i].text));
        assert_false(spi_stream_equal(raw, "plain"));
    }
}

/* A tree's strings end where they hold a zero byte. */
static bool same_text(spi_string raw, const char *text) {
    char decoded[1024];
    assert_true(raw.bytes < sizeof decoded);
    decoded[spi_stream_decode(raw, decoded)] = 0;
    return !strcmp(decoded, text);
}

/* A tree of the same bytes holds the same, in the same order. */
static void compare(spi_stream *stream, const cJSON *item) {
    spi_string raw;
    uint64_t number;
    bool flag;
    if (cJSON_IsArray(item) || cJSON_IsObject(item)) {
        bool object = cJSON_IsObject(item);
        const cJSON *child = item->child;
        assert_true(spi_stream_open(stream, object ? '{' : '['));
        while (object ? spi_stream_member(stream, &raw) : spi_stream_next(stream, ']')) {
            assert_non_null(child);
            assert_true(!object || same_text(raw, child->string));
            compare(stream, child);
            child = child->next;
        }
        assert_null(child);
    } else if (cJSON_IsString(item)) {
        assert_true(spi_stream_string(stream, &raw));
        assert_true(same_text(raw, item->valuestring));
    } else if (cJSON_IsBool(item)) {
        assert_true(spi_stream_flag(stream, &flag));
        assert_int_equal(flag, cJSON_IsTrue(item));
    } else if (cJSON_IsNumber(item) && spi_stream_whole(stream, &number)) {
        assert_true((double)number == item->valuedouble);
    } else {
        spi_stream_skip(stream);
    }
}

/* Whatever is taken for JSON is JSON for the tree as well, and says the same: bytes are changed, cut out and
 * doubled. */
static void test_tree(void **state) {
    (void)state;
    static const char *const names[] = {"tests/golden/mlx/tokens/qwen2.json", "tests/golden/mlx/tokens/gemma.json"};
    static const char other[] = "\"\\{}[],:0123456789eE.+-utfn \n\xc3\xa9";
    test_random random = test_random_seed(test_seed());
    uint32_t good = 0;
    for (uint32_t round = 0; round < 4000; round++) {
        void *file;
        size_t bytes;
        sp_error error = {0};
        TEST_OK(spi_file_read(test_source_path(names[round & 1]), (size_t)1 << 24, &file, &bytes, &error), error);
        bytes = bytes < 6000 ? bytes : 6000;
        char *json = file;
        size_t begin = test_random_next(&random) % (bytes - 600), length = 64 + test_random_next(&random) % 500;
        memmove(json, json + begin, length);
        for (uint32_t changes = (uint32_t)test_random_next(&random) % 4; changes; changes--) {
            json[test_random_next(&random) % length] = other[test_random_next(&random) % (sizeof other - 1)];
        }
        /* values from anywhere: of most of these beginnings none is one */
        for (size_t at = 0; at < length; at++) {
            spi_stream stream = spi_stream_of((spi_string){json + at, length - at}), again = stream;
            spi_stream_skip(&stream);
            cJSON *tree = stream.bad ? NULL : cJSON_ParseWithLength(json + at, (size_t)(stream.at - json) - at);
            if (!stream.bad) {
                assert_non_null(tree);
                compare(&again, tree);
                assert_ptr_equal(stream.at, again.at);
                good++;
            }
            cJSON_Delete(tree);
        }
        spi_free(file);
    }
    assert_true(good > 10000);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_grammar), cmocka_unit_test(test_depth),
                                       cmocka_unit_test(test_kinds), cmocka_unit_test(test_decode),
                                       cmocka_unit_test(test_tree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
