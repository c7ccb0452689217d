/* tests/unit/test_safetensors.c - reading safetensors files: a good one, every way to be wrong, and any bytes. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "safetensors/safetensors.h"
#include "support/support.h"

#define DATA_BYTES 64u

/* A header and so many bytes of data behind it. */
static size_t build(const char *header, size_t data_bytes, unsigned char *out) {
    uint64_t length = strlen(header);
    memcpy(out, &length, 8);
    memcpy(out + 8, header, (size_t)length);
    for (size_t i = 0; i < data_bytes; i++) {
        out[8 + length + i] = (unsigned char)i;
    }
    return 8 + (size_t)length + data_bytes;
}

static void test_good(void **state) {
    (void)state;
    unsigned char bytes[1024];
    size_t size = build("{\"__metadata__\":{\"format\":\"pt\"},\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],"
                        "\"data_offsets\":[8,20]},\"a\":{\"dtype\":\"U32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                        "\"one\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[20,28]}}  ",
                        DATA_BYTES, bytes);
    spi_safetensors file;
    sp_error error = {0};
    TEST_OK(spi_safetensors_parse(bytes, size, "good", &file, &error), error);
    assert_int_equal(file.count, 3);
    assert_int_equal(file.header_bytes, size - DATA_BYTES);
    const spi_safetensor *b = &file.tensors[0], *a = &file.tensors[1], *one = &file.tensors[2];
    assert_int_equal(b->name.bytes, 1);
    assert_string_equal(b->dtype, "BF16");
    assert_int_equal(b->dimension_count, 2);
    assert_int_equal(b->dimensions[0], 2);
    assert_int_equal(b->dimensions[1], 3);
    assert_ptr_equal(b->data, bytes + file.header_bytes + 8);
    assert_int_equal(b->bytes, 12);
    assert_int_equal(a->element_bytes, 4);
    assert_int_equal(a->data[3], 3);
    assert_int_equal(one->dimension_count, 0);
    assert_int_equal(one->bytes, 8);
    spi_safetensors_free(&file);
}

typedef struct wrong {
    const char *header, *message;
    sp_status status;
} wrong;

#define TENSOR(dtype, shape, offsets) "{\"x\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static const wrong all_wrong[] = {
    {"[]", "the header is no JSON object", SP_BAD_FILE},
    {"{\"x\":", "the header is no JSON object", SP_BAD_FILE},
    {"{\"x\":7}", "\"x\": its entry is no object", SP_BAD_FILE},
    {TENSOR("7", "[1]", "[0,4]"), "\"x\": dtype is missing or no string", SP_BAD_FILE},
    {TENSOR("\"F128\"", "[1]", "[0,4]"), "\"x\": dtype is \"F128\"", SP_UNSUPPORTED},
    {"{\"x\":{\"shape\":[1],\"data_offsets\":[0,4]}}", "dtype is missing", SP_BAD_FILE},
    {TENSOR("\"F32\"", "4", "[0,4]"), "\"x\": shape is missing or no array", SP_BAD_FILE},
    {TENSOR("\"F32\"", "[0]", "[0,0]"), "\"x\": shape holds", SP_BAD_FILE},
    {TENSOR("\"F32\"", "[-1]", "[0,4]"), "\"x\": shape holds", SP_BAD_FILE},
    {TENSOR("\"F32\"", "[1.5]", "[0,6]"), "\"x\": shape holds", SP_BAD_FILE},
    {TENSOR("\"F32\"", "[\"1\"]", "[0,4]"), "\"x\": shape holds", SP_BAD_FILE},
    {TENSOR("\"F32\"", "[1e300]", "[0,4]"), "\"x\": shape holds", SP_BAD_FILE},
    {TENSOR("\"F32\"", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), "more than 8 dimensions", SP_BAD_FILE},
    {TENSOR("\"F32\"", "[4294967296,4294967296]", "[0,4]"), "shape: the product", SP_BAD_FILE},
    {TENSOR("\"F32\"", "[1]", "[0]"), "\"x\": data_offsets is missing", SP_BAD_FILE},
    {TENSOR("\"F32\"", "[1]", "[0,4,8]"), "\"x\": data_offsets is missing", SP_BAD_FILE},
    {TENSOR("\"F32\"", "[1]", "[-4,0]"), "\"x\": data_offsets is missing", SP_BAD_FILE},
    {TENSOR("\"F32\"", "[1]", "[8,4]"), "\"x\": data_offsets 8..4 are outside", SP_BAD_FILE},
    {TENSOR("\"F32\"", "[1]", "[61,65]"), "\"x\": data_offsets 61..65 are outside of the 64 bytes", SP_BAD_FILE},
    {TENSOR("\"F32\"", "[1]", "[9007199254740992,9007199254740996]"), "data_offsets", SP_BAD_FILE},
    {TENSOR("\"F32\"", "[2]", "[0,4]"), "data_offsets give it 4 bytes, but its shape and dtype need 8", SP_BAD_FILE},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"y\":{\"dtype\":\"F32\",\"shape\":[1],"
     "\"data_offsets\":[4,8]}}",
     "\"x\" and \"y\" overlap", SP_BAD_FILE},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"x\":{\"dtype\":\"F32\",\"shape\":[1],"
     "\"data_offsets\":[4,8]}}",
     "\"x\" is there twice", SP_BAD_FILE},
};

static void test_wrong(void **state) {
    (void)state;
    unsigned char bytes[1024];
    for (size_t i = 0; i < sizeof all_wrong / sizeof all_wrong[0]; i++) {
        spi_safetensors file;
        sp_error error = {0};
        size_t size = build(all_wrong[i].header, DATA_BYTES, bytes);
        sp_status status = spi_safetensors_parse(bytes, size, "some.safetensors", &file, &error);
        if (status != all_wrong[i].status || !strstr(error.message, all_wrong[i].message) ||
            strncmp(error.message, "some.safetensors: ", 18) != 0) {
            fail_msg("%s: %d, %s", all_wrong[i].header, status, error.message);
        }
        spi_safetensors_free(&file); /* nothing is left */
    }
}

static void test_lengths(void **state) {
    (void)state;
    unsigned char bytes[1024];
    spi_safetensors file;
    sp_error error = {0};
    size_t size = build(TENSOR("\"F32\"", "[1]", "[0,4]"), 4, bytes);
    for (size_t cut = 0; cut < size; cut++) { /* no part of it is a file */
        assert_int_equal(spi_safetensors_parse(bytes, cut, "cut", &file, &error), SP_BAD_FILE);
    }
    uint64_t length = UINT64_MAX;
    memcpy(bytes, &length, 8);
    assert_int_equal(spi_safetensors_parse(bytes, size, "long", &file, &error), SP_BAD_FILE);
    assert_non_null(strstr(error.message, "header length at byte 0"));
    size_t large = SPI_SAFETENSORS_HEADER_MAX + 64;
    unsigned char *much = spi_alloc(large, 1);
    assert_non_null(much);
    length = SPI_SAFETENSORS_HEADER_MAX + 1;
    memcpy(much, &length, 8);
    assert_int_equal(spi_safetensors_parse(much, large, "large", &file, &error), SP_LIMIT);
    spi_free(much);
}

/* One byte of the header is another: an error, or a file whose tensors lie in its bytes. */
static void test_any_byte(void **state) {
    (void)state;
    unsigned char bytes[1024];
    test_random random = test_random_seed(test_seed());
    for (uint32_t round = 0; round < 4000; round++) {
        spi_safetensors file;
        sp_error error = {0};
        size_t size =
            build("{\"x\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},\"y\":{\"dtype\":\"U8\","
                  "\"shape\":[48],\"data_offsets\":[16,64]}}",
                  DATA_BYTES, bytes);
        bytes[test_random_next(&random) % (size - DATA_BYTES)] = (unsigned char)test_random_next(&random);
        if (!spi_safetensors_parse(bytes, size, "any", &file, &error)) {
            for (uint64_t i = 0; i < file.count; i++) {
                assert_true(file.tensors[i].data >= bytes &&
                            file.tensors[i].data + file.tensors[i].bytes <= bytes + size);
            }
            spi_safetensors_free(&file);
        } else {
            assert_true(error.message[0]);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_good), cmocka_unit_test(test_wrong),
                                       cmocka_unit_test(test_lengths), cmocka_unit_test(test_any_byte)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
