/* tests/unit/test_quant.c - encoding weights, bit for bit against tests/golden/quant.bin, which ggml's own quantisers
 * made; and what cannot be encoded. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "dtype/dequant.h"
#include "dtype/quant.h"
#include "support/support.h"

static void check(sp_dtype type, const float *values, uint32_t count, const uint8_t *wanted) {
    uint32_t elements = sp_dtype_block_elements(type), size = sp_dtype_block_bytes(type);
    uint8_t *got = malloc((size_t)count / elements * size);
    assert_non_null(got);
    assert_true(spi_quantise(type, values, count, got));
    for (uint32_t i = 0; i < count / elements; i++) {
        if (memcmp(got + (size_t)i * size, wanted + (size_t)i * size, size)) {
            print_error("%s: block %u (from value %u on) is other than ggml's\n", sp_dtype_name(type), i, i * elements);
            fail();
        }
    }
    free(got);
}

static void every_type_is_what_ggml_makes(void **state) {
    (void)state;
    FILE *file = fopen(test_source_path("tests/golden/quant.bin"), "rb");
    assert_non_null(file);
    uint32_t count, type, seen = 0, known = 0;
    assert_int_equal(fread(&count, sizeof count, 1, file), 1);
    float *values = malloc((size_t)count * sizeof *values);
    uint8_t *blocks = malloc((size_t)count * sizeof *values);
    assert_true(values && blocks);
    assert_int_equal(fread(values, sizeof *values, count, file), count);
    while (fread(&type, sizeof type, 1, file) == 1) {
        size_t bytes = count / sp_dtype_block_elements((sp_dtype)type) * sp_dtype_block_bytes((sp_dtype)type);
        assert_int_equal(fread(blocks, 1, bytes, file), bytes);
        check((sp_dtype)type, values, count, blocks);
        seen++;
    }
    fclose(file);
#define X(name, value, text, elements, bytes) known += spi_quantise_has(name) && (name) != SP_F32;
    SP_DTYPE_LIST(X)
#undef X
    assert_int_equal(seen, known);
    free(values);
    free(blocks);
}

/* Values too large for f16 scales are refused, whatever else they are; nothing is undefined on the way (sanitizers). */
static void too_large_is_refused(void **state) {
    (void)state;
    static const sp_dtype types[] = {SP_F16,  SP_Q4_0, SP_Q4_1, SP_Q5_0, SP_Q5_1,   SP_Q8_0,  SP_Q2_K,
                                     SP_Q3_K, SP_Q4_K, SP_Q5_K, SP_Q6_K, SP_IQ4_NL, SP_IQ4_XS};
    test_random random = test_random_seed(test_seed());
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        float values[256];
        uint8_t block[2048];
        for (uint32_t i = 0; i < 256; i++) {
            values[i] = test_random_float(&random);
        }
        assert_true(spi_quantise(types[t], values, 256, block));
        static const float large[] = {1e9f, -3e20f, 3.3e38f, -3.3e38f};
        for (uint32_t i = 0; i < 4; i++) {
            values[17 * i] = large[i];
            assert_false(spi_quantise(types[t], values, 256, block));
        }
    }
}

/* A second time over changes nothing where the scale is found from the largest value alone. */
static void q8_0_of_q8_0_is_itself(void **state) {
    (void)state;
    test_random random = test_random_seed(test_seed());
    float values[1024], back[1024];
    uint8_t once[34 * 32], twice[34 * 32];
    for (uint32_t i = 0; i < 1024; i++) {
        values[i] = test_random_float(&random);
    }
    assert_true(spi_quantise(SP_Q8_0, values, 1024, once));
    spi_dequantise(SP_Q8_0, once, 0, 1024, back);
    assert_true(spi_quantise(SP_Q8_0, back, 1024, twice));
    spi_dequantise(SP_Q8_0, twice, 0, 1024, values);
    for (uint32_t i = 0; i < 1024; i++) {
        assert_true(fabsf(values[i] - back[i]) <= 1e-3f * fabsf(back[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_what_ggml_makes),
        cmocka_unit_test(too_large_is_refused),
        cmocka_unit_test(q8_0_of_q8_0_is_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
