/* tests/unit/test_quantise.c - whole files: what changes and what does not, that all of it is there or nothing, and
 * what is refused. That the bits are llama.cpp's is in test_quant.c and tools/oracle/quantise.py. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "dtype/dequant.h"
#include "dtype/quant.h"
#include "gguf/gguf.h"
#include "os/file.h"
#include "samepage/quantise.h"
#include "support/support.h"
#include "support/tiny_model.h"

typedef struct bench {
    char folder[256], in[300], out[300];
} bench;

static void write_bytes(const char *path, const void *bytes, size_t count) {
    sp_error error = {0};
    TEST_OK(spi_file_write(path, bytes, count, false, &error), error);
}

static int setup(void **state) {
    bench *it = calloc(1, sizeof *it);
    assert_non_null(it);
    const char *folder = getenv("TMPDIR");
    snprintf(it->folder, sizeof it->folder, "%s/samepage-quantise-XXXXXX", folder ? folder : "/tmp");
    assert_non_null(mkdtemp(it->folder));
    snprintf(it->in, sizeof it->in, "%s/in.gguf", it->folder);
    snprintf(it->out, sizeof it->out, "%s/out.gguf", it->folder);
    test_gguf file = {0};
    test_tiny_model_file(&file);
    write_bytes(it->in, file.bytes, file.count);
    test_gguf_free(&file);
    *state = it;
    return 0;
}

/* Files in the folder but for the input. */
static uint32_t others(const bench *it) {
    uint32_t count = 0;
    DIR *folder = opendir(it->folder);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        count += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") && strcmp(entry->d_name, "in.gguf");
    }
    closedir(folder);
    return count;
}

static int teardown(void **state) {
    bench *it = *state;
    unlink(it->in);
    unlink(it->out);
    assert_int_equal(rmdir(it->folder), 0); /* nothing was left behind */
    free(it);
    return 0;
}

static spi_source *open_file(const char *path) {
    spi_source *gguf;
    sp_error error = {0};
    TEST_OK(spi_gguf_open(path, &gguf, &error), error);
    return gguf;
}

static void compare_values(const spi_source *before, const spi_source *after) {
    uint64_t number;
    for (uint64_t i = 0; i < spi_source_value_count(before); i++) {
        const spi_value *one = spi_source_value_at(before, i), *other = spi_source_value_at(after, i);
        assert_int_equal(one->key.bytes, other->key.bytes);
        assert_memory_equal(one->key.text, other->key.text, one->key.bytes);
        assert_int_equal(one->type, other->type);
        assert_int_equal(one->element_type, other->element_type);
        assert_int_equal(one->count, other->count);
        spi_string a, b;
        spi_value_iterator ai, bi;
        if (spi_value_as_string(one, &a)) {
            assert_true(spi_value_as_string(other, &b) && a.bytes == b.bytes);
            assert_memory_equal(a.text, b.text, a.bytes);
        } else if (spi_value_strings(one, &ai)) {
            assert_true(spi_value_strings(other, &bi));
            while (spi_value_next(&ai, &a)) {
                assert_true(spi_value_next(&bi, &b) && a.bytes == b.bytes);
                assert_memory_equal(a.text, b.text, a.bytes);
            }
        } else {
            assert_memory_equal(one->data, other->data, one->count); /* a byte of each element at least */
        }
    }
    assert_true(spi_value_as_u64(spi_source_find(after, "general.file_type"), &number) && number == 7);
    assert_true(spi_value_as_u64(spi_source_find(after, "general.quantization_version"), &number) && number == 2);
}

static void the_rest_stays_as_it_is(void **state) {
    const bench *it = *state;
    sp_error error = {0};
    sp_quantise_result result;
    sp_quantise_options options = {.type = "q8_0", .thread_count = 3};
    TEST_OK(sp_quantise_file(it->in, it->out, &options, &result, &error), error);
    spi_source *before = open_file(it->in), *after = open_file(it->out);
    compare_values(before, after);
    uint64_t count = spi_source_tensor_count(before), changed = 0;
    assert_int_equal(spi_source_tensor_count(after), count);
    assert_int_equal(result.tensor_count, count);
    for (uint64_t i = 0; i < count; i++) {
        const spi_source_tensor *one = spi_source_tensor_at(before, i), *other = spi_source_tensor_at(after, i);
        assert_memory_equal(one->name.text, other->name.text, one->name.bytes);
        assert_memory_equal(one->dimensions, other->dimensions, sizeof one->dimensions);
        assert_int_equal((uintptr_t)other->data % 32, 0);
        if (one->dimension_count == 1) {
            assert_int_equal(other->type, SP_F32);
            assert_memory_equal(one->data, other->data, one->bytes);
            continue;
        }
        assert_int_equal(other->type, SP_Q8_0);
        uint32_t elements = (uint32_t)(one->dimensions[0] * one->dimensions[1]);
        uint8_t *wanted = malloc((size_t)other->bytes);
        assert_non_null(wanted);
        assert_true(spi_quantise(SP_Q8_0, one->data, elements, wanted));
        assert_memory_equal(other->data, wanted, other->bytes);
        free(wanted);
        changed++;
    }
    assert_int_equal(result.converted_count, changed);
    spi_source_close(before);
    spi_source_close(after);
    struct stat stat_now;
    assert_int_equal(stat(it->out, &stat_now), 0);
    assert_true(stat_now.st_mode & 0400);
}

static void *read_whole(const char *path, size_t *bytes) {
    void *data;
    sp_error error = {0};
    TEST_OK(spi_file_read(path, 1 << 24, &data, bytes, &error), error);
    return data;
}

static void threads_and_times_do_not_matter(void **state) {
    const bench *it = *state;
    sp_error error = {0};
    void *first = NULL;
    size_t first_bytes = 0;
    for (uint32_t threads = 1; threads < 100; threads += 33) {
        sp_quantise_options options = {.type = "Q5_1", .thread_count = threads};
        TEST_OK(sp_quantise_file(it->in, it->out, &options, NULL, &error), error); /* over what is there */
        size_t bytes;
        void *data = read_whole(it->out, &bytes);
        if (first) {
            assert_int_equal(bytes, first_bytes);
            assert_memory_equal(data, first, bytes);
            spi_free(data);
        } else {
            first = data;
            first_bytes = bytes;
        }
    }
    spi_free(first);
}

typedef struct seen {
    uint32_t tensors, calls, stop_at;
    uint64_t done, total;
} seen;

static void on_tensor(void *env, const char *name, sp_dtype from, sp_dtype to, uint64_t elements) {
    seen *of = env;
    assert_true(name[0] && from == SP_F32 && (to == SP_F32 || to == SP_Q4_0 || to == SP_Q8_0) && elements > 0);
    of->tensors++;
}

static bool on_progress(void *env, uint64_t done_bytes, uint64_t total_bytes) {
    seen *of = env;
    assert_true(done_bytes >= of->done && done_bytes <= total_bytes);
    of->done = done_bytes;
    of->total = total_bytes;
    return ++of->calls != of->stop_at;
}

static void who_asks_is_told_and_can_stop_it(void **state) {
    const bench *it = *state;
    sp_error error = {0};
    seen of = {0};
    sp_quantise_options options = {.type = "Q4_0", .tensor = on_tensor, .progress = on_progress, .env = &of};
    TEST_OK(sp_quantise_file(it->in, it->out, &options, NULL, &error), error);
    assert_int_equal(of.done, of.total);
    assert_int_equal(of.tensors, 20);
    unlink(it->out);
    of = (seen){.stop_at = 5};
    assert_int_equal(sp_quantise_file(it->in, it->out, &options, NULL, &error), SP_CANCELLED);
    assert_int_equal(of.calls, 5);
    assert_int_equal(others(it), 0);
    of = (seen){0};
    options.dry_run = true;
    sp_quantise_result result;
    TEST_OK(sp_quantise_file(it->in, NULL, &options, &result, &error), error);
    assert_int_equal(of.tensors, 20);
    assert_true(result.out_bytes < result.in_bytes / 3);
    assert_int_equal(others(it), 0);
}

static void refused(const bench *it, const sp_quantise_options *options, sp_status status, const char *words) {
    sp_error error = {0};
    sp_status got = sp_quantise_file(it->in, it->out, options, NULL, &error);
    if (got != status || !strstr(error.message, words)) {
        print_error("%d, not %d with \"%s\": %s\n", got, status, words, error.message);
        fail();
    }
    assert_int_equal(others(it), 0);
}

static void what_cannot_be_is_said(void **state) {
    bench *it = *state;
    sp_quantise_options options = {.type = "Q9_Z"};
    refused(it, &options, SP_UNSUPPORTED, "Q9_Z");
    options.type = "Q8_0";
    sp_error error = {0};
    char other[320];
    snprintf(other, sizeof other, "%s/./in.gguf", it->folder);
    assert_int_equal(sp_quantise_file(it->in, other, &options, NULL, &error), SP_INVALID);
    assert_non_null(strstr(error.message, "itself"));
    assert_int_equal(sp_quantise_file(it->in, "/nonexistent/folder/out.gguf", &options, NULL, &error), SP_IO);
    assert_int_equal(sp_quantise_file("/nonexistent.gguf", it->out, &options, NULL, &error), SP_NOT_FOUND);
    /* What is quantised already. */
    TEST_OK(sp_quantise_file(it->in, it->out, &options, NULL, &error), error);
    assert_int_equal(rename(it->out, it->in), 0);
    options.type = "Q4_0";
    refused(it, &options, SP_UNSUPPORTED, "quantised already (Q8_0)");
    options.requantise = true;
    TEST_OK(sp_quantise_file(it->in, it->out, &options, NULL, &error), error);
}

/* The place of a tensor's data in the file. */
static size_t data_of(const test_gguf *file, const char *name) {
    spi_source *gguf;
    sp_error error = {0};
    TEST_OK(spi_gguf_parse(file->bytes, file->count, "tiny", &gguf, &error), error);
    size_t at = (size_t)((const unsigned char *)spi_source_find_tensor(gguf, name)->data - file->bytes);
    spi_source_close(gguf);
    return at;
}

static void damaged_values_are_named(void **state) {
    const bench *it = *state;
    static const float bad[] = {NAN, INFINITY, -INFINITY, 1e30f};
    for (uint32_t i = 0; i < 4; i++) {
        test_gguf file = {0};
        test_tiny_model_file(&file);
        memcpy(file.bytes + data_of(&file, "blk.1.ffn_up.weight") + 4 * 4321, &bad[i], 4);
        write_bytes(it->in, file.bytes, file.count);
        sp_quantise_options options = {.type = "Q8_0", .thread_count = 2};
        refused(it, &options, i < 3 ? SP_BAD_FILE : SP_UNSUPPORTED, "blk.1.ffn_up.weight");
        test_gguf_free(&file);
    }
}

static void no_truncation_and_no_byte_crashes(void **state) {
    const bench *it = *state;
    test_gguf file = {0};
    test_tiny_model_file(&file);
    size_t head = data_of(&file, "token_embd.weight");
    sp_quantise_options options = {.type = "Q4_0", .thread_count = 1};
    test_random random = test_random_seed(test_seed());
    for (uint32_t i = 0; i < 300; i++) {
        bool cut = i % 3 == 0;
        size_t count = cut ? test_random_below(&random, (uint32_t)file.count) : file.count;
        size_t at = test_random_below(&random, (uint32_t)head);
        unsigned char kept = file.bytes[at];
        file.bytes[at] = cut ? kept : (unsigned char)test_random_next(&random);
        write_bytes(it->in, file.bytes, count);
        sp_error error = {0};
        sp_status status = sp_quantise_file(it->in, it->out, &options, NULL, &error);
        assert_true(!status || error.message[0]);
        assert_true(!cut || status);
        if (status) {
            assert_int_equal(others(it), 0);
        } else {
            spi_source_close(open_file(it->out)); /* whatever was made of it is a good file */
            unlink(it->out);
        }
        file.bytes[at] = kept;
    }
    test_gguf_free(&file);
}

static void every_allocation_may_fail(void **state) {
    const bench *it = *state;
    sp_status status = SP_NO_MEMORY;
    sp_quantise_options options = {.type = "Q8_0", .thread_count = 1};
    for (long n = 0; status; n++) {
        sp_error error = {0};
        spi_memory_fail_after(n);
        status = sp_quantise_file(it->in, it->out, &options, NULL, &error);
        spi_memory_fail_after(-1);
        assert_true(status == SP_OK || status == SP_NO_MEMORY);
        assert_int_equal(others(it), status ? 0 : 1);
        assert_true(n < 1000);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_rest_stays_as_it_is, setup, teardown),
        cmocka_unit_test_setup_teardown(threads_and_times_do_not_matter, setup, teardown),
        cmocka_unit_test_setup_teardown(who_asks_is_told_and_can_stop_it, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_is_said, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_values_are_named, setup, teardown),
        cmocka_unit_test_setup_teardown(no_truncation_and_no_byte_crashes, setup, teardown),
        cmocka_unit_test_setup_teardown(every_allocation_may_fail, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
