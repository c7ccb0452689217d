/* tests/unit/test_affine.c - MLX's affine quantisation against tests/golden/mlx/dequant.bin, which mx.dequantize made
 * (tools/mlx/golden_dequant.py), bit for bit: in f32, and, with each step rounded as MLX does it, in 16 bits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "device/tape.h"
#include "dtype/affine.h"
#include "support/support.h"

#define COLUMNS 256u

typedef struct record {
    uint32_t bits, group, type, columns;
    uint8_t codes[COLUMNS], scales[COLUMNS / 32 * 4], biases[COLUMNS / 32 * 4], own[COLUMNS * 4];
    float wide[COLUMNS];
    size_t number_bytes;
} record;

static bool read_record(FILE *file, record *r) {
    uint32_t head[4];
    if (fread(head, sizeof head, 1, file) != 1) {
        assert_true(feof(file));
        return false;
    }
    r->bits = head[0], r->group = head[1], r->type = head[2], r->columns = head[3];
    assert_int_equal(r->columns, COLUMNS);
    r->number_bytes = r->type == SP_F32 ? 4 : 2;
    size_t groups = COLUMNS / r->group;
    assert_int_equal(fread(r->codes, COLUMNS * r->bits / 8, 1, file), 1);
    assert_int_equal(fread(r->scales, groups * r->number_bytes, 1, file), 1);
    assert_int_equal(fread(r->biases, groups * r->number_bytes, 1, file), 1);
    assert_int_equal(fread(r->own, COLUMNS * r->number_bytes, 1, file), 1);
    assert_int_equal(fread(r->wide, sizeof r->wide, 1, file), 1);
    return true;
}

static uint16_t rounded(const record *r, float value) {
    return r->type == SP_F16 ? spi_f32_to_f16(value) : spi_f32_to_bf16(value);
}

static float widened(const record *r, uint16_t half) {
    return r->type == SP_F16 ? spi_f16_to_f32(half) : spi_bf16_to_f32(half);
}

/* In 16 bits MLX rounds the product and then the sum; codes are taken out of ours with scales of one and no bias. */
static void check_own_type(const record *r, sp_dtype type) {
    float ones[COLUMNS / 32], zeros[COLUMNS / 32] = {0}, codes[COLUMNS];
    for (uint32_t i = 0; i < COLUMNS / 32; i++) {
        ones[i] = 1;
    }
    spi_affine plain = {.scales = ones, .biases = zeros, .type = SP_F32, .group = r->group};
    spi_affine_values(type, &plain, r->codes, 0, COLUMNS, 0, COLUMNS, codes);
    for (uint32_t i = 0; i < COLUMNS; i++) {
        uint16_t expected;
        memcpy(&expected, r->own + 2 * (size_t)i, 2);
        float scale = spi_affine_number((sp_dtype)r->type, r->scales, i / r->group);
        float bias = spi_affine_number((sp_dtype)r->type, r->biases, i / r->group);
        assert_true(codes[i] >= 0 && codes[i] < (float)(1u << r->bits));
        assert_int_equal(rounded(r, widened(r, rounded(r, codes[i] * scale)) + bias), expected);
    }
}

static void test_golden(void **state) {
    (void)state;
    static record r;
    uint32_t seen = 0;
    FILE *file = fopen(test_source_path("tests/golden/mlx/dequant.bin"), "rb");
    assert_non_null(file);
    for (; read_record(file, &r); seen++) {
        sp_dtype type;
        float got[COLUMNS];
        assert_true(spi_affine_type(r.bits, &type));
        assert_int_equal(spi_affine_bits(type), r.bits);
        assert_int_equal(sp_dtype_block_bytes(type), 4 * r.bits);
        spi_affine affine = {.scales = r.scales, .biases = r.biases, .type = (sp_dtype)r.type, .group = r.group};
        spi_affine_values(type, &affine, r.codes, 0, COLUMNS, 0, COLUMNS, got);
        assert_memory_equal(got, r.wide, sizeof got);
        for (uint32_t first = 0; first < COLUMNS; first += 32) { /* the same in pieces */
            spi_affine_values(type, &affine, r.codes, 0, COLUMNS, first, 32, got);
            assert_memory_equal(got, r.wide + first, 32 * sizeof *got);
        }
        if (r.type == SP_F32) {
            assert_memory_equal(r.own, r.wide, sizeof r.wide);
        } else {
            check_own_type(&r, type);
        }
    }
    fclose(file);
    assert_int_equal(seen, 6 * 3 * 3);
}

/* The second row of a tensor, through the tensor's own way and as blocks with scales of their own. */
static void test_rows(void **state) {
    (void)state;
    static record a, b;
    FILE *file = fopen(test_source_path("tests/golden/mlx/dequant.bin"), "rb");
    assert_non_null(file);
    while (read_record(file, &a)) {
        uint8_t codes[2 * COLUMNS], scales[sizeof a.scales * 2], biases[sizeof a.biases * 2], blocks[8 * 40];
        size_t row = COLUMNS * a.bits / 8, plane = COLUMNS / a.group * a.number_bytes;
        float got[COLUMNS];
        b = a;
        memset(codes, 0xff, row);
        memset(scales, 0, plane);
        memset(biases, 0, plane);
        memcpy(codes + row, b.codes, row);
        memcpy(scales + plane, b.scales, plane);
        memcpy(biases + plane, b.biases, plane);
        spi_tensor tensor = {.name = "two", .rows = 2, .cols = COLUMNS, .data = codes, .bytes = 2 * row};
        assert_true(spi_affine_type(a.bits, &tensor.type));
        tensor.affine = (spi_affine){.scales = scales, .biases = biases, .type = (sp_dtype)a.type, .group = a.group};
        spi_tensor_values(&tensor, 1, 0, COLUMNS, got);
        assert_memory_equal(got, b.wide, sizeof got);
        spi_tensor_affine_blocks(&tensor, 1, 0, 8, blocks);
        for (uint32_t i = 0; i < COLUMNS; i++) {
            const uint8_t *block = blocks + i / 32 * SPI_AFFINE_BLOCK_BYTES(a.bits);
            uint8_t values[32];
            float pair[2];
            spi_affine_codes(a.bits, block, values);
            memcpy(pair, block + 4 * (size_t)a.bits, sizeof pair);
            float value = (float)values[i % 32] * pair[0] + pair[1];
            assert_memory_equal(&value, &b.wide[i], sizeof value);
        }
    }
    fclose(file);
}

static void test_types(void **state) {
    (void)state;
    sp_dtype type;
    for (uint32_t bits = 0; bits < 70; bits++) {
        bool known = (bits >= 2 && bits <= 6) || bits == 8;
        assert_int_equal(spi_affine_type(bits, &type), known);
    }
    assert_int_equal(spi_affine_bits(SP_F32), 0);
    assert_int_equal(spi_affine_bits((sp_dtype)1007), 7); /* which no source makes: see spi_affine_type */
    assert_null(sp_dtype_name((sp_dtype)1007));
    assert_string_equal(sp_dtype_name(SP_AFFINE4), "AFFINE4");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_rows),
                                       cmocka_unit_test(test_types)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
