/* tests/unit/test_gguf.c - the GGUF reader: what a good file gives, and that every kind of damage is told and named. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "samepage/dtype.h"
#include "support/gguf_writer.h"
#include "support/support.h"

#define EXOTIC 16 /* IQ2_XXS: a type that is not in samepage/dtype.h */

/* A file with a value of every type and three tensors, one of them of a type that only ggml knows. */
static test_gguf good_file(uint32_t version, uint32_t alignment) {
    static const uint16_t u16 = 65535;
    static const int16_t i16 = -300;
    static const int64_t i64 = -5000000000;
    static const float f32 = 0.15625f, floats[] = {1.5f, -2.0f};
    static const double f64 = 1e300;
    static const int32_t numbers[] = {1, -2, 3};
    static const char *const texts[] = {"one", "", "three\n"};
    test_gguf file = {0};
    test_gguf_header(&file, version, 3, 16);
    test_gguf_key_string(&file, "general.architecture", "llama");
    test_gguf_key_u32(&file, "general.alignment", alignment);
    test_gguf_key(&file, "u8", SPI_VALUE_U8);
    test_gguf_bytes(&file, "\xff", 1);
    test_gguf_key(&file, "i8", SPI_VALUE_I8);
    test_gguf_bytes(&file, "\xff", 1);
    test_gguf_key(&file, "u16", SPI_VALUE_U16);
    test_gguf_bytes(&file, &u16, 2);
    test_gguf_key(&file, "i16", SPI_VALUE_I16);
    test_gguf_bytes(&file, &i16, 2);
    test_gguf_key_u32(&file, "u32", 4000000000u);
    test_gguf_key(&file, "i32", SPI_VALUE_I32);
    test_gguf_u32(&file, (uint32_t)-7);
    test_gguf_key(&file, "u64", SPI_VALUE_U64);
    test_gguf_u64(&file, UINT64_MAX);
    test_gguf_key(&file, "i64", SPI_VALUE_I64);
    test_gguf_bytes(&file, &i64, 8);
    test_gguf_key(&file, "f32", SPI_VALUE_F32);
    test_gguf_bytes(&file, &f32, 4);
    test_gguf_key(&file, "f64", SPI_VALUE_F64);
    test_gguf_bytes(&file, &f64, 8);
    test_gguf_key_bool(&file, "yes", 1);
    test_gguf_key_strings(&file, "texts", texts, 3);
    test_gguf_key_numbers(&file, "numbers", SPI_VALUE_I32, numbers, 3);
    test_gguf_key_numbers(&file, "floats", SPI_VALUE_F32, floats, 2);
    uint64_t second = (64 * 4 + alignment - 1) / alignment * alignment; /* the first tensor has 64 floats */
    uint64_t third = second + (2 * 34 + alignment - 1) / alignment * alignment;
    test_gguf_tensor(&file, "norm", 1, (uint64_t[]){64}, SP_F32, 0);
    test_gguf_tensor(&file, "weight", 2, (uint64_t[]){32, 2}, SP_Q8_0, second);
    test_gguf_tensor(&file, "exotic", 1, (uint64_t[]){256}, EXOTIC, third);
    test_gguf_pad(&file, alignment);
    for (uint64_t i = 0; i < third + 64; i++) {
        unsigned char byte = (unsigned char)i;
        test_gguf_bytes(&file, &byte, 1);
    }
    return file;
}

static void check_values(const spi_source *gguf) {
    uint64_t u;
    int64_t i;
    double d;
    bool b;
    spi_string s;
    assert_true(spi_value_as_string(spi_source_find(gguf, "general.architecture"), &s));
    assert_int_equal(s.bytes, 5);
    assert_memory_equal(s.text, "llama", 5);
    assert_true(spi_value_as_u64(spi_source_find(gguf, "u8"), &u) && u == 255);
    assert_true(spi_value_as_i64(spi_source_find(gguf, "i8"), &i) && i == -1);
    assert_false(spi_value_as_u64(spi_source_find(gguf, "i8"), &u));
    assert_true(spi_value_as_u64(spi_source_find(gguf, "u16"), &u) && u == 65535);
    assert_true(spi_value_as_i64(spi_source_find(gguf, "i16"), &i) && i == -300);
    assert_true(spi_value_as_u64(spi_source_find(gguf, "u32"), &u) && u == 4000000000u);
    assert_true(spi_value_as_i64(spi_source_find(gguf, "i32"), &i) && i == -7);
    assert_true(spi_value_as_u64(spi_source_find(gguf, "u64"), &u) && u == UINT64_MAX);
    assert_false(spi_value_as_i64(spi_source_find(gguf, "u64"), &i));
    assert_true(spi_value_as_i64(spi_source_find(gguf, "i64"), &i) && i == -5000000000);
    assert_true(spi_value_as_f64(spi_source_find(gguf, "f32"), &d) && d == 0.15625);
    assert_true(spi_value_as_f64(spi_source_find(gguf, "f64"), &d) && d == 1e300);
    assert_false(spi_value_as_f64(spi_source_find(gguf, "u32"), &d));
    assert_false(spi_value_as_u64(spi_source_find(gguf, "f32"), &u));
    assert_true(spi_value_as_bool(spi_source_find(gguf, "yes"), &b) && b);
    assert_false(spi_value_as_bool(spi_source_find(gguf, "u8"), &b));
    assert_false(spi_value_as_u64(NULL, &u) || spi_value_as_string(NULL, &s) || spi_value_as_bool(NULL, &b));
    assert_null(spi_source_find(gguf, "absent"));
    assert_null(spi_source_find(gguf, ""));
}

static void check_arrays(const spi_source *gguf) {
    spi_value_iterator iterator;
    spi_string s;
    int64_t i;
    double d;
    const spi_value *numbers = spi_source_find(gguf, "numbers"), *floats = spi_source_find(gguf, "floats");
    assert_true(spi_value_strings(spi_source_find(gguf, "texts"), &iterator));
    assert_true(spi_value_next(&iterator, &s) && s.bytes == 3 && !memcmp(s.text, "one", 3));
    assert_true(spi_value_next(&iterator, &s) && s.bytes == 0);
    assert_true(spi_value_next(&iterator, &s) && s.bytes == 6);
    assert_false(spi_value_next(&iterator, &s));
    assert_false(spi_value_strings(numbers, &iterator));
    assert_int_equal(numbers->count, 3);
    assert_true(spi_value_array_i64(numbers, 1, &i) && i == -2);
    assert_false(spi_value_array_i64(numbers, 3, &i));
    assert_false(spi_value_array_i64(floats, 0, &i));
    assert_true(spi_value_array_f64(floats, 1, &d) && d == -2.0);
    assert_false(spi_value_array_f64(numbers, 0, &d));
    assert_false(spi_value_array_i64(spi_source_find(gguf, "texts"), 0, &i));
    assert_false(spi_value_array_i64(spi_source_find(gguf, "u32"), 0, &i));
}

static void check_tensors(const spi_source *gguf, const unsigned char *bytes, uint32_t alignment) {
    const spi_source_tensor *norm = spi_source_find_tensor(gguf, "norm"),
                            *weight = spi_source_find_tensor(gguf, "weight");
    const spi_source_tensor *exotic = spi_source_find_tensor(gguf, "exotic");
    assert_non_null(norm);
    assert_int_equal(norm->bytes, 256);
    assert_int_equal(norm->dimension_count, 1);
    assert_int_equal(norm->dimensions[0], 64);
    assert_int_equal(norm->dimensions[3], 1);
    assert_int_equal(((const unsigned char *)norm->data - bytes) % alignment, 0);
    assert_int_equal(((const unsigned char *)norm->data)[3], 3);
    assert_int_equal(weight->bytes, 68);
    assert_int_equal(weight->type, SP_Q8_0);
    assert_true((const unsigned char *)weight->data >= (const unsigned char *)norm->data + 256);
    assert_null(exotic->data);
    assert_int_equal(exotic->bytes, 0);
    assert_int_equal(exotic->type, EXOTIC);
    assert_null(spi_source_find_tensor(gguf, "norm2"));
    assert_int_equal(spi_source_tensor_count(gguf), 3);
    assert_ptr_equal(spi_source_tensor_at(gguf, 1), weight);
    assert_null(spi_source_tensor_at(gguf, 3));
}

static void good_files_open(void **state) {
    (void)state;
    static const uint32_t alignments[] = {8, 32, 64, 4096};
    for (uint32_t version = 2; version <= 3; version++) {
        for (size_t i = 0; i < sizeof alignments / sizeof alignments[0]; i++) {
            test_gguf file = good_file(version, alignments[i]);
            sp_error error = {0};
            spi_source *gguf;
            TEST_OK(spi_gguf_parse(file.bytes, file.count, "good", &gguf, &error), error);
            assert_int_equal(gguf->version, version);
            assert_int_equal(spi_source_bytes(gguf), file.count);
            assert_int_equal(spi_source_value_count(gguf), 16);
            assert_non_null(spi_source_value_at(gguf, 15));
            assert_null(spi_source_value_at(gguf, 16));
            check_values(gguf);
            check_arrays(gguf);
            check_tensors(gguf, file.bytes, alignments[i]);
            spi_source_close(gguf);
            test_gguf_free(&file);
        }
    }
    spi_source_close(NULL);
}

static void a_file_opens_from_disk(void **state) {
    (void)state;
    sp_error error = {0};
    spi_source *gguf;
    const char *path = test_build_path("test_gguf.tmp.gguf");
    test_gguf file = good_file(3, 32);
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(file.bytes, 1, file.count, stream), file.count);
    assert_int_equal(fclose(stream), 0);
    TEST_OK(spi_gguf_open(path, &gguf, &error), error);
    check_values(gguf);
    assert_int_equal((uintptr_t)spi_source_find_tensor(gguf, "norm")->data % 32, 0);
    spi_source_close(gguf);
    for (long n = 0;; n++) {
        spi_memory_fail_after(n);
        sp_status status = spi_gguf_open(path, &gguf, &error);
        spi_memory_fail_after(-1);
        if (status == SP_OK) {
            assert_true(n >= 7);
            spi_source_close(gguf);
            break;
        }
        assert_int_equal(status, SP_NO_MEMORY);
        assert_null(gguf);
    }
    remove(path);
    assert_int_equal(spi_gguf_open(path, &gguf, &error), SP_NOT_FOUND);
    assert_null(gguf);
    test_gguf_free(&file);
}

/* Parses a copy that ends where its allocation does, so that a sanitizer sees one byte too many. */
static sp_status parse_copy(const void *bytes, size_t count, sp_error *error) {
    spi_source *gguf;
    unsigned char *copy = malloc(count ? count : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, count);
    *error = (sp_error){0};
    sp_status status = spi_gguf_parse(copy, count, "file.gguf", &gguf, error);
    if (status) {
        assert_null(gguf);
        assert_int_equal(error->status, status);
        assert_int_equal(strncmp(error->message, "file.gguf: ", 11), 0);
        assert_null(strchr(error->message, '\n'));
    } else {
        spi_source_close(gguf);
    }
    free(copy);
    return status;
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    test_gguf file = good_file(3, 32);
    sp_error error;
    /* 63 bytes behind the first one of the tensor of unknown size are padding. */
    for (size_t count = 0; count < file.count - 63; count++) {
        assert_int_equal(parse_copy(file.bytes, count, &error), SP_BAD_FILE);
    }
    assert_int_equal(parse_copy(file.bytes, file.count - 63, &error), SP_OK);
    test_gguf_free(&file);
}

/* No flipped byte may crash; every one either opens or is refused with a message. */
static void every_changed_byte_is_survived(void **state) {
    (void)state;
    test_gguf file = good_file(2, 32);
    sp_error error;
    size_t refused = 0;
    for (size_t at = 0; at < file.count; at++) {
        for (unsigned bit = 0; bit < 9; bit++) {
            unsigned char kept = file.bytes[at];
            file.bytes[at] = bit == 8 ? 0xff : (unsigned char)(kept ^ 1u << bit);
            refused += parse_copy(file.bytes, file.count, &error) != SP_OK;
            file.bytes[at] = kept;
        }
    }
    assert_true(refused > 1000);
    test_gguf_free(&file);
}

/* One damaged file: how it is made, the status, and what the message must say. */
typedef struct damage {
    const char *name;
    void (*make)(test_gguf *file);
    sp_status status;
    const char *words[3];
} damage;

static void no_magic(test_gguf *f) {
    test_gguf_bytes(f, "GGML\3\0\0\0", 8);
}
static void version_1(test_gguf *f) {
    test_gguf_header(f, 1, 0, 0);
}
static void big_endian(test_gguf *f) {
    test_gguf_header(f, 0x03000000, 0, 0);
}
static void too_many_keys(test_gguf *f) {
    test_gguf_header(f, 3, 0, UINT64_MAX);
}
static void too_many_tensors(test_gguf *f) {
    test_gguf_header(f, 3, 1ull << 61, 0);
}
static void key_of_all_memory(test_gguf *f) {
    test_gguf_header(f, 3, 0, 1);
    test_gguf_u64(f, UINT64_MAX - 3);
    test_gguf_bytes(f, "abcdefgh", 8);
}
static void empty_key(test_gguf *f) {
    test_gguf_header(f, 3, 0, 1);
    test_gguf_key_u32(f, "", 1);
}
static void twice_the_key(test_gguf *f) {
    test_gguf_header(f, 3, 0, 3);
    test_gguf_key_u32(f, "same", 1);
    test_gguf_key_u32(f, "other", 1);
    test_gguf_key_u32(f, "same", 2);
}
static void unknown_type(test_gguf *f) {
    test_gguf_header(f, 3, 0, 1);
    test_gguf_key(f, "odd", (spi_value_type)13);
    test_gguf_u64(f, 0);
}
static void array_of_arrays(test_gguf *f) {
    test_gguf_header(f, 3, 0, 1);
    test_gguf_key(f, "deep", SPI_VALUE_ARRAY);
    test_gguf_u32(f, SPI_VALUE_ARRAY);
    test_gguf_u64(f, 1);
    test_gguf_u64(f, 0);
}
static void array_too_long(test_gguf *f) {
    test_gguf_header(f, 3, 0, 1);
    test_gguf_key(f, "long", SPI_VALUE_ARRAY);
    test_gguf_u32(f, SPI_VALUE_U64);
    test_gguf_u64(f, (1ull << 61) + 1); /* times 8 is 8 in 64 bits */
    test_gguf_u64(f, 0);
}
static void strings_too_many(test_gguf *f) {
    test_gguf_header(f, 3, 0, 1);
    test_gguf_key(f, "words", SPI_VALUE_ARRAY);
    test_gguf_u32(f, SPI_VALUE_STRING);
    test_gguf_u64(f, UINT64_MAX);
    test_gguf_string(f, "a");
}
static void bool_of_two(test_gguf *f) {
    test_gguf_header(f, 3, 0, 1);
    test_gguf_key_bool(f, "maybe", 2);
}
static void alignment_of(test_gguf *f, uint32_t alignment) {
    test_gguf_header(f, 3, 0, 1);
    test_gguf_key_u32(f, "general.alignment", alignment);
}
static void alignment_0(test_gguf *f) {
    alignment_of(f, 0);
}
static void alignment_24(test_gguf *f) {
    alignment_of(f, 24);
}
static void alignment_4(test_gguf *f) {
    alignment_of(f, 4);
}
static void alignment_text(test_gguf *f) {
    test_gguf_header(f, 3, 0, 1);
    test_gguf_key_string(f, "general.alignment", "32");
}

/* A file of two tensors with 128 bytes of data; where they lie and what they are is the test's. */
static void two_tensors(test_gguf *f, const char *second, uint32_t dimension_count, const uint64_t *dimensions,
                        uint32_t type, uint64_t offset) {
    test_gguf_header(f, 3, 2, 0);
    test_gguf_tensor(f, "first", 1, (uint64_t[]){16}, SP_F32, 0);
    test_gguf_tensor(f, second, dimension_count, dimensions, type, offset);
    test_gguf_pad(f, 32);
    for (int i = 0; i < 128; i++) {
        test_gguf_bytes(f, "", 1);
    }
}
static void twice_the_tensor(test_gguf *f) {
    two_tensors(f, "first", 1, (uint64_t[]){16}, SP_F32, 64);
}
static void empty_name(test_gguf *f) {
    two_tensors(f, "", 1, (uint64_t[]){16}, SP_F32, 64);
}
static void long_name(test_gguf *f) {
    two_tensors(f, "12345678901234567890123456789012345678901234567890123456789012345", 1, (uint64_t[]){16}, SP_F32,
                64);
}
static void no_dimensions(test_gguf *f) {
    two_tensors(f, "second", 0, NULL, SP_F32, 64);
}
static void five_dimensions(test_gguf *f) {
    two_tensors(f, "second", 5, (uint64_t[]){1, 1, 1, 1, 1}, SP_F32, 64);
}
static void zero_dimension(test_gguf *f) {
    two_tensors(f, "second", 2, (uint64_t[]){16, 0}, SP_F32, 64);
}
static void product_too_large(test_gguf *f) {
    two_tensors(f, "second", 2, (uint64_t[]){1ull << 32, 1ull << 31}, SP_F32, 64);
}
static void product_wraps(test_gguf *f) {
    two_tensors(f, "second", 2, (uint64_t[]){1ull << 32, (1ull << 32) + 16}, SP_F32, 64);
}
static void bytes_wrap(test_gguf *f) {
    two_tensors(f, "second", 1, (uint64_t[]){1ull << 62}, SP_F32, 64);
}
static void half_a_block(test_gguf *f) {
    two_tensors(f, "second", 2, (uint64_t[]){16, 2}, SP_Q8_0, 64);
}
static void offset_unaligned(test_gguf *f) {
    two_tensors(f, "second", 1, (uint64_t[]){8}, SP_F32, 72);
}
static void offset_wraps(test_gguf *f) {
    two_tensors(f, "second", 1, (uint64_t[]){16}, SP_F32, UINT64_MAX - 31);
}
static void data_too_short(test_gguf *f) {
    two_tensors(f, "second", 1, (uint64_t[]){17}, SP_F32, 64);
}
static void unknown_type_outside(test_gguf *f) {
    two_tensors(f, "second", 1, (uint64_t[]){256}, EXOTIC, 128);
}
static void overlap(test_gguf *f) {
    two_tensors(f, "second", 1, (uint64_t[]){16}, SP_F32, 32);
}
static void same_place(test_gguf *f) {
    two_tensors(f, "second", 1, (uint64_t[]){256}, EXOTIC, 0);
}

static const damage damages[] = {
    {"no_magic", no_magic, SP_BAD_FILE, {"not a GGUF file"}},
    {"version_1", version_1, SP_UNSUPPORTED, {"version 1"}},
    {"big_endian", big_endian, SP_UNSUPPORTED, {"big-endian"}},
    {"too_many_keys", too_many_keys, SP_BAD_FILE, {"metadata count at byte 16", "18446744073709551615"}},
    {"too_many_tensors", too_many_tensors, SP_BAD_FILE, {"tensor count at byte 8", "2305843009213693952"}},
    {"key_of_all_memory", key_of_all_memory, SP_BAD_FILE, {"metadata key at byte 24", "18446744073709551612"}},
    {"empty_key", empty_key, SP_BAD_FILE, {"key at byte 24 is empty"}},
    {"twice_the_key", twice_the_key, SP_BAD_FILE, {"\"same\"", "twice", "byte 73"}},
    {"unknown_type", unknown_type, SP_BAD_FILE, {"\"odd\"", "type", "13"}},
    {"array_of_arrays", array_of_arrays, SP_BAD_FILE, {"\"deep\"", "array inside of an array"}},
    {"array_too_long", array_too_long, SP_BAD_FILE, {"\"long\"", "2305843009213693953 elements of 8"}},
    {"strings_too_many", strings_too_many, SP_BAD_FILE, {"\"words\"", "file ends"}},
    {"bool_of_two", bool_of_two, SP_BAD_FILE, {"\"maybe\"", "a bool is 2", "byte 41"}},
    {"alignment_0", alignment_0, SP_BAD_FILE, {"general.alignment"}},
    {"alignment_24", alignment_24, SP_BAD_FILE, {"general.alignment", "24"}},
    {"alignment_4", alignment_4, SP_BAD_FILE, {"general.alignment", "4"}},
    {"alignment_text", alignment_text, SP_BAD_FILE, {"general.alignment"}},
    {"twice_the_tensor", twice_the_tensor, SP_BAD_FILE, {"\"first\"", "twice"}},
    {"empty_name", empty_name, SP_BAD_FILE, {"tensor name", "empty"}},
    {"long_name", long_name, SP_BAD_FILE, {"tensor's name", "65 bytes"}},
    {"no_dimensions", no_dimensions, SP_BAD_FILE, {"\"second\"", "0 dimensions"}},
    {"five_dimensions", five_dimensions, SP_BAD_FILE, {"\"second\"", "5 dimensions"}},
    {"zero_dimension", zero_dimension, SP_BAD_FILE, {"\"second\"", "dimension 1 is 0"}},
    {"product_too_large", product_too_large, SP_BAD_FILE, {"\"second\"", "63 bits"}},
    {"product_wraps", product_wraps, SP_BAD_FILE, {"\"second\"", "63 bits"}},
    {"bytes_wrap", bytes_wrap, SP_BAD_FILE, {"\"second\"", "larger than 2^64"}},
    {"half_a_block", half_a_block, SP_BAD_FILE, {"\"second\"", "16 elements", "Q8_0"}},
    {"offset_unaligned", offset_unaligned, SP_BAD_FILE, {"\"second\"", "72", "alignment 32"}},
    {"offset_wraps", offset_wraps, SP_BAD_FILE, {"\"second\"", "file ends"}},
    {"data_too_short", data_too_short, SP_BAD_FILE, {"\"second\"", "68 bytes", "file ends"}},
    {"unknown_type_outside", unknown_type_outside, SP_BAD_FILE, {"\"second\"", "file ends"}},
    {"overlap", overlap, SP_BAD_FILE, {"\"first\"", "\"second\"", "overlap at offset 32"}},
    {"same_place", same_place, SP_BAD_FILE, {"\"first\"", "\"second\"", "overlap at offset 0"}},
};

/* Of each type: whole blocks open and have their bytes, half a block is refused by the type's name, and so is one byte
 * less than the tensor has. */
static void every_type_is_measured(void **state) {
    (void)state;
    static const struct {
        sp_dtype type;
        uint32_t elements, bytes;
    } types[] = {
#define X(name, value, text, elements, bytes) {name, elements, bytes},
        SP_DTYPE_LIST(X)
#undef X
    };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        for (uint64_t wrong = 0; wrong < 3; wrong++) {
            test_gguf file = {0};
            uint64_t columns = 3 * types[i].elements - (wrong == 1 ? types[i].elements / 2 : 0);
            uint64_t bytes = 2 * 3 * types[i].bytes - (wrong == 2);
            test_gguf_header(&file, 3, 1, 0);
            test_gguf_tensor(&file, "one", 2, (uint64_t[]){columns, 2}, types[i].type, 0);
            test_gguf_pad(&file, 32);
            for (uint64_t k = 0; k < bytes; k++) {
                test_gguf_bytes(&file, "", 1);
            }
            sp_error error = {0};
            spi_source *gguf;
            sp_status status = spi_gguf_parse(file.bytes, file.count, "file.gguf", &gguf, &error);
            if (wrong == 0 || (wrong == 1 && types[i].elements == 1)) {
                TEST_OK(status, error);
                assert_int_equal(spi_source_tensor_at(gguf, 0)->bytes, bytes);
                spi_source_close(gguf);
            } else {
                assert_int_equal(status, SP_BAD_FILE);
                assert_non_null(strstr(error.message, wrong == 1 ? sp_dtype_name(types[i].type) : "file ends"));
            }
            test_gguf_free(&file);
        }
    }
}

static void every_damage_is_named(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        test_gguf file = {0};
        sp_error error;
        damages[i].make(&file);
        sp_status status = parse_copy(file.bytes, file.count, &error);
        if (status != damages[i].status) {
            fail_msg("%s: %s: %s", damages[i].name, sp_status_text(status), error.message);
        }
        for (size_t word = 0; word < 3 && damages[i].words[word]; word++) {
            if (!strstr(error.message, damages[i].words[word])) {
                fail_msg("%s: no \"%s\" in: %s", damages[i].name, damages[i].words[word], error.message);
            }
        }
        test_gguf_free(&file);
    }
}

/* The fuzzer's corpus, made by the format's own Python package: those whose names begin with "bad" are refused. */
static void the_corpus_opens(void **state) {
    (void)state;
    size_t good = 0, bad = 0;
    struct dirent *entry;
    DIR *folder = opendir(test_source_path("fuzz/corpus/gguf"));
    assert_non_null(folder);
    while ((entry = readdir(folder))) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        char path[1024];
        sp_error error = {0};
        spi_source *gguf;
        snprintf(path, sizeof path, "%s/%s", test_source_path("fuzz/corpus/gguf"), entry->d_name);
        sp_status status = spi_gguf_open(path, &gguf, &error);
        if (strncmp(entry->d_name, "bad", 3)) {
            test_ok(status, &error, __FILE__, __LINE__);
            good++;
        } else {
            assert_true(status == SP_BAD_FILE || status == SP_UNSUPPORTED);
            bad++;
        }
        spi_source_close(gguf);
    }
    closedir(folder);
    assert_true(good >= 5 && bad >= 3);
}

/* A message stays one line whatever the file holds. */
static void names_are_printable(void **state) {
    (void)state;
    char out[8];
    spi_string_printable((spi_string){.text = "a\nb\x7f", .bytes = 4}, out, sizeof out);
    assert_string_equal(out, "a?b?");
    spi_string_printable((spi_string){.text = "0123456789", .bytes = 10}, out, sizeof out);
    assert_string_equal(out, "0123456");
    spi_string_printable((spi_string){0}, out, sizeof out);
    assert_string_equal(out, "(none)");
    spi_string_printable((spi_string){.text = "a", .bytes = 1}, out, 1);
    assert_string_equal(out, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_files_open),
        cmocka_unit_test(a_file_opens_from_disk),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_changed_byte_is_survived),
        cmocka_unit_test(every_type_is_measured),
        cmocka_unit_test(every_damage_is_named),
        cmocka_unit_test(the_corpus_opens),
        cmocka_unit_test(names_are_printable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
