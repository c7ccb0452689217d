/* tests/unit/test_half.c - conversions of 16-bit floats: all halves, every border between two of them, and the
 * processor's own conversion where there is one. */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/half.h"
#include "support/support.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

static bool is_nan_half(uint16_t half) {
    return (half & 0x7fffu) > 0x7c00u;
}

/* The value from its definition (IEEE 754-2019, 3.4), in double precision. */
static double half_value(uint16_t half) {
    int exponent = half >> 10 & 31, fraction = half & 1023;
    double magnitude = exponent == 31  ? (fraction ? NAN : INFINITY)
                       : exponent == 0 ? ldexp(fraction, -24)
                                       : ldexp(1024 + fraction, exponent - 25);
    return half & 0x8000u ? -magnitude : magnitude;
}

static void every_half_is_its_value(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        uint16_t half = (uint16_t)bits;
        float value = spi_f16_to_f32(half);
        if (is_nan_half(half)) {
            assert_true(isnan(value) && is_nan_half(spi_f32_to_f16(value)));
            continue;
        }
        assert_true((double)value == half_value(half) && !signbit(value) == !(half & 0x8000u));
        assert_int_equal(spi_f32_to_f16(value), half);
    }
}

/* Between each two neighbours: the middle goes to the even one, one bit to either side to the nearer one. */
static void every_border_rounds_to_even(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 0x7c00u; bits++) {
        uint16_t low = (uint16_t)bits, high = (uint16_t)(bits + 1), even = bits & 1 ? high : low;
        double upper = high == 0x7c00u ? 65536 : half_value(high); /* beyond the largest the next step would be there */
        float middle = (float)((half_value(low) + upper) / 2);     /* exact: one more bit than a half has */
        assert_int_equal(spi_f32_to_f16(middle), even);
        assert_int_equal(spi_f32_to_f16(-middle), even | 0x8000u);
        assert_int_equal(spi_f32_to_f16(nextafterf(middle, 0)), low);
        assert_int_equal(spi_f32_to_f16(nextafterf(middle, INFINITY)), high);
    }
    assert_int_equal(spi_f32_to_f16(FLT_MAX), 0x7c00u);
    assert_int_equal(spi_f32_to_f16(INFINITY), 0x7c00u);
    assert_int_equal(spi_f32_to_f16(-INFINITY), 0xfc00u);
    assert_int_equal(spi_f32_to_f16(FLT_TRUE_MIN), 0);
    assert_int_equal(spi_f32_to_f16(-0.0f), 0x8000u);
    assert_true(is_nan_half(spi_f32_to_f16(NAN)));
    assert_true(
        is_nan_half(spi_f32_to_f16(spi_bits_to_f32(0x7f800001u)))); /* a NaN whose upper bits are those of infinity */
}

#if defined(__x86_64__)
__attribute__((target("f16c"))) static uint16_t processor_to_half(float value) {
    return (uint16_t)_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT);
}

__attribute__((target("f16c"))) static float processor_from_half(uint16_t half) {
    return _cvtsh_ss(half);
}

static void the_processor_agrees(void **state) {
    (void)state;
    unsigned a, b, c = 0, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_F16C) || !(c & bit_AVX)) {
        skip();
    }
    for (uint32_t half = 0; half < 65536; half++) {
        float ours = spi_f16_to_f32((uint16_t)half), theirs = processor_from_half((uint16_t)half);
        assert_true(isnan(ours) ? isnan(theirs) : spi_f32_to_bits(ours) == spi_f32_to_bits(theirs));
    }
    /* Every 251st float of all: a prime step meets every pattern of low bits. */
    for (uint64_t bits = 0; bits < 1ull << 32; bits += 251) {
        float value = spi_bits_to_f32((uint32_t)bits);
        uint16_t ours = spi_f32_to_f16(value), theirs = processor_to_half(value);
        assert_true(ours == theirs || (is_nan_half(ours) && is_nan_half(theirs)));
    }
}
#else
static void the_processor_agrees(void **state) {
    (void)state;
    skip();
}
#endif

static void brain_floats_round_to_even(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        uint16_t brain = (uint16_t)bits;
        float value = spi_bf16_to_f32(brain);
        assert_int_equal(spi_f32_to_bits(value), bits << 16);
        if (isnan(value)) {
            assert_true(isnan(spi_bf16_to_f32(spi_f32_to_bf16(value))));
            continue;
        }
        assert_int_equal(spi_f32_to_bf16(value), brain);
        if ((bits & 0x7fffu) < 0x7f80u) {
            assert_int_equal(spi_f32_to_bf16(spi_bits_to_f32(bits << 16 | 0x7fffu)), brain);
            assert_int_equal(spi_f32_to_bf16(spi_bits_to_f32(bits << 16 | 0x8000u)), brain + (brain & 1u));
            assert_int_equal(spi_f32_to_bf16(spi_bits_to_f32(bits << 16 | 0x8001u)), brain + 1u);
        }
    }
    assert_true(isnan(spi_bf16_to_f32(spi_f32_to_bf16(spi_bits_to_f32(0x7f800001u)))));
    assert_true(isnan(spi_bf16_to_f32(spi_f32_to_bf16(spi_bits_to_f32(0xffffffffu)))));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_is_its_value),
        cmocka_unit_test(every_border_rounds_to_even),
        cmocka_unit_test(the_processor_agrees),
        cmocka_unit_test(brain_floats_round_to_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
