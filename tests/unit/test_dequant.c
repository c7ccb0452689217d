/* tests/unit/test_dequant.c - decoding every weight type, bit for bit against tests/golden/dequant.bin, which the gguf
 * package made; and any part of a row like the whole of it. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "dtype/dequant.h"
#include "support/support.h"

static bool same(float got, float wanted) {
    return isnan(wanted) ? isnan(got) : spi_f32_to_bits(got) == spi_f32_to_bits(wanted);
}

static void check(sp_dtype type, uint32_t block_count, const uint8_t *blocks, const float *wanted) {
    uint32_t elements = sp_dtype_block_elements(type), count = block_count * elements;
    float *got = malloc((size_t)count * sizeof *got);
    assert_non_null(got);
    spi_dequantise(type, blocks, 0, count, got);
    for (uint32_t i = 0; i < count; i++) {
        if (!same(got[i], wanted[i])) {
            print_error("%s: element %u of block %u is %a, not %a\n", sp_dtype_name(type), i % elements, i / elements,
                        (double)got[i], (double)wanted[i]);
            fail();
        }
    }
    for (uint32_t first = 1; first < block_count; first++) {
        uint32_t length = (block_count - first < 2 ? 1 : 2) * elements;
        spi_dequantise(type, blocks, first * elements, length, got);
        for (uint32_t i = 0; i < length; i++) {
            assert_true(same(got[i], wanted[first * elements + i]));
        }
    }
    free(got);
}

static void every_type_is_what_gguf_says(void **state) {
    (void)state;
    FILE *file = fopen(test_source_path("tests/golden/dequant.bin"), "rb");
    assert_non_null(file);
    uint32_t head[2], seen = 0, known = 0;
    while (fread(head, sizeof head, 1, file) == 1) {
        sp_dtype type = (sp_dtype)head[0];
        size_t bytes = (size_t)head[1] * sp_dtype_block_bytes(type);
        size_t values = (size_t)head[1] * sp_dtype_block_elements(type);
        assert_true(bytes > 0);
        uint8_t *blocks = malloc(bytes);
        float *wanted = malloc(values * sizeof *wanted);
        assert_true(blocks && wanted);
        assert_int_equal(fread(blocks, 1, bytes, file), bytes);
        assert_int_equal(fread(wanted, sizeof *wanted, values, file), values);
        check(type, head[1], blocks, wanted);
        free(blocks);
        free(wanted);
        seen++;
    }
    fclose(file);
#define X(name, value, text, elements, bytes) known++;
    SP_DTYPE_LIST(X)
#undef X
    assert_int_equal(seen, known);
}

/* MXFP4's scale is 2^(exponent - 128), from the OCP specification's 2^(exponent - 127) and values that are doubled. */
static void mxfp4_is_its_specification(void **state) {
    (void)state;
    for (int exponent = 0; exponent < 255; exponent++) {
        uint8_t block[17] = {(uint8_t)exponent};
        for (uint32_t j = 0; j < 16; j++) {
            block[1 + j] = (uint8_t)(j | j << 4);
        }
        float got[32];
        spi_dequantise(SP_MXFP4, block, 0, 32, got);
        static const double e2m1[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
        for (uint32_t j = 0; j < 32; j++) {
            double value = ldexp(e2m1[j % 8], exponent - 127);
            assert_true((double)got[j] == (double)(float)(j % 16 < 8 ? value : -value));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_what_gguf_says),
        cmocka_unit_test(mxfp4_is_its_specification),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
