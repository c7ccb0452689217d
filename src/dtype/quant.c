/* dtype/quant.c - the plain types, and which function encodes which blocks. */
#include "dtype/quant.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/half.h"

static void encode_f32(const float *value, void *out) {
    memcpy(out, value, sizeof *value);
}

static void encode_f16(const float *value, void *out) {
    *(uint16_t *)out = spi_f32_to_f16(*value);
}

static void encode_bf16(const float *value, void *out) {
    *(uint16_t *)out = spi_f32_to_bf16(*value);
}

/* f16_at: where a block's f16 numbers are, in bytes; -1: nowhere. */
typedef struct format {
    sp_dtype type;
    spi_encode_block *encode;
    int f16_at[2];
} format;

static const format formats[] = {
    {SP_F32, encode_f32, {-1, -1}},          {SP_F16, encode_f16, {0, -1}},
    {SP_BF16, encode_bf16, {-1, -1}},        {SP_Q4_0, spi_encode_q4_0, {0, -1}},
    {SP_Q4_1, spi_encode_q4_1, {0, 2}},      {SP_Q5_0, spi_encode_q5_0, {0, -1}},
    {SP_Q5_1, spi_encode_q5_1, {0, 2}},      {SP_Q8_0, spi_encode_q8_0, {0, -1}},
    {SP_Q2_K, spi_encode_q2_k, {80, 82}},    {SP_Q3_K, spi_encode_q3_k, {108, -1}},
    {SP_Q4_K, spi_encode_q4_k, {0, 2}},      {SP_Q5_K, spi_encode_q5_k, {0, 2}},
    {SP_Q6_K, spi_encode_q6_k, {208, -1}},   {SP_IQ4_NL, spi_encode_iq4_nl, {0, -1}},
    {SP_IQ4_XS, spi_encode_iq4_xs, {0, -1}},
};

static const format *find(sp_dtype type) {
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (formats[i].type == type) {
            return &formats[i];
        }
    }
    return NULL;
}

bool spi_quantise_has(sp_dtype type) {
    return find(type) != NULL;
}

/* For blocks: more than any type's scales reach, and little enough for the sums of the searches. What rounds to an
 * infinite f16 is seen there. */
static float reach_of(sp_dtype type) {
    return sp_dtype_block_elements(type) > 1 ? 0x1p30f : type == SP_BF16 ? 0x1.fep127f : FLT_MAX;
}

static bool are_in_reach(sp_dtype type, const float *values, uint32_t count) {
    float largest = 0;
    for (uint32_t i = 0; i < count; i++) {
        largest = fabsf(values[i]) > largest ? fabsf(values[i]) : largest;
    }
    return largest <= reach_of(type);
}

static bool is_finite(const format *of, const uint8_t *block) {
    for (uint32_t i = 0; i < 2 && of->f16_at[i] >= 0; i++) {
        uint16_t half;
        memcpy(&half, block + of->f16_at[i], sizeof half);
        if ((half & 0x7c00u) == 0x7c00u) {
            return false;
        }
    }
    return true;
}

bool spi_quantise(sp_dtype type, const float *values, uint32_t count, void *blocks) {
    const format *of = find(type);
    uint32_t elements = sp_dtype_block_elements(type);
    assert(of && count % elements == 0);
    uint8_t *to = blocks;
    for (uint32_t i = 0; i < count; i += elements, to += sp_dtype_block_bytes(type)) {
        if (!are_in_reach(type, values + i, elements)) {
            return false;
        }
        of->encode(values + i, to);
        if (!is_finite(of, to)) {
            return false;
        }
    }
    return true;
}
