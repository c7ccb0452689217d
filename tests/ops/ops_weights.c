/* tests/ops/ops_weights.c - weights of every type: any bytes that a file could hold, and their values in double.
 *
 * Decoded from the formats as they are defined at github.com/ggml-org/ggml (src/ggml-common.h and the dequantize_row
 * functions of src/ggml-quants.c), by the place of each bit, and MLX's as its documentation has them; with nothing
 * taken from src/dtype. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "ops/ops_cases.h"

/* Where the f16 scales of a block are, and what keeps values below one. */
typedef struct scale_place {
    sp_dtype type;
    struct {
        uint32_t byte, divisor;
    } scales[2]; /* divisor 0: none */
} scale_place;

static const scale_place places[] = {
    {SP_Q4_0, {{0, 8}}},
    {SP_Q4_1, {{0, 15}, {2, 1}}},
    {SP_Q5_0, {{0, 16}}},
    {SP_Q5_1, {{0, 31}, {2, 1}}},
    {SP_Q8_0, {{0, 128}}},
    {SP_Q2_K, {{80, 15 * 3}, {82, 15}}},
    {SP_Q3_K, {{108, 32 * 4}}},
    {SP_Q4_K, {{0, 63 * 15}, {2, 63}}},
    {SP_Q5_K, {{0, 63 * 31}, {2, 63}}},
    {SP_Q6_K, {{208, 128 * 32}}},
    {SP_IQ4_NL, {{0, 127}}},
    {SP_IQ4_XS, {{0, 32 * 127}}},
};

static void put_half(uint8_t *to, double value) {
    uint16_t half = spi_f32_to_f16((float)value);
    memcpy(to, &half, sizeof half);
}

static void fill_block(sp_dtype type, uint8_t *block, uint32_t bytes, ops_random *random) {
    for (uint32_t i = 0; i < bytes; i += 8) {
        uint64_t eight = ops_next(random);
        memcpy(block + i, &eight, bytes - i < 8 ? bytes - i : 8);
    }
    if (type == SP_MXFP4) {
        block[0] = (uint8_t)ops_between(random, 119, 124); /* 12 * 2^(124 - 128) is below one */
        return;
    }
    for (uint32_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        for (uint32_t k = 0; places[i].type == type && k < 2 && places[i].scales[k].divisor; k++) {
            put_half(block + places[i].scales[k].byte, ops_uniform(random) / places[i].scales[k].divisor);
        }
    }
}

/* Two numbers a group that keep values below two. */
static void fill_affine(spi_tensor *tensor, ops_random *random) {
    const spi_affine *affine = &tensor->affine;
    uint32_t bytes = sp_dtype_block_bytes(affine->type), most = (1u << spi_affine_bits(tensor->type)) - 1;
    uint64_t count = (uint64_t)tensor->rows * (tensor->cols / affine->group);
    for (uint64_t i = 0; i < 2 * count; i++) {
        float value = (float)(ops_uniform(random) / (i < count ? most : 1));
        uint16_t half = affine->type == SP_F16 ? spi_f32_to_f16(value) : spi_f32_to_bf16(value);
        uint8_t *to = (uint8_t *)(uintptr_t)(i < count ? affine->scales : affine->biases) + i % count * bytes;
        memcpy(to, affine->type == SP_F32 ? (const void *)&value : &half, bytes);
    }
}

void ops_fill_weight(spi_tensor *tensor, ops_random *random) {
    uint8_t *bytes = (uint8_t *)(uintptr_t)tensor->data;
    uint32_t block_bytes = sp_dtype_block_bytes(tensor->type);
    for (uint64_t at = 0; at < tensor->bytes; at += block_bytes) {
        if (sp_dtype_block_elements(tensor->type) > 1) {
            fill_block(tensor->type, bytes + at, block_bytes, random);
            continue;
        }
        float value = (float)ops_uniform(random);
        uint16_t half = tensor->type == SP_F16 ? spi_f32_to_f16(value) : spi_f32_to_bf16(value);
        memcpy(bytes + at, tensor->type == SP_F32 ? (const void *)&value : &half, block_bytes);
    }
    if (spi_affine_bits(tensor->type)) {
        fill_affine(tensor, random);
    }
}

static uint32_t load_u16(const uint8_t *bytes) {
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8;
}

static double half_at(const uint8_t *bytes) {
    return ops_from_half((uint16_t)load_u16(bytes));
}

static double plain(sp_dtype type, const uint8_t *bytes) {
    float value;
    uint32_t bits = load_u16(bytes) << 16;
    if (type == SP_F16) {
        return half_at(bytes);
    }
    memcpy(&value, type == SP_F32 ? (const void *)bytes : &bits, sizeof value);
    return (double)value;
}

static uint32_t bit(const uint8_t *bytes, uint32_t index) {
    return bytes[index / 8] >> index % 8 & 1u;
}

/* The nibble of value j of 32: the first half in the low ones. */
static uint32_t nibble(const uint8_t *q, uint32_t j) {
    return q[j % 16] >> (j / 16 * 4) & 15u;
}

static double block_of_32(sp_dtype type, const uint8_t *block, uint32_t j) {
    static const int iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    static const double e2m1[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    double d = half_at(block);
    switch (type) {
    case SP_Q8_0: return d * (int8_t)block[2 + j];
    case SP_Q4_0: return d * ((int)nibble(block + 2, j) - 8);
    case SP_Q4_1: return d * nibble(block + 4, j) + half_at(block + 2);
    case SP_Q5_0: return d * ((int)(nibble(block + 6, j) + 16 * bit(block + 2, j)) - 16);
    case SP_Q5_1: return d * (nibble(block + 8, j) + 16 * bit(block + 4, j)) + half_at(block + 2);
    case SP_IQ4_NL: return d * iq4[nibble(block + 2, j)];
    case SP_MXFP4: {
        uint32_t n = nibble(block + 1, j);
        return ldexp(n < 8 ? e2m1[n] : -e2m1[n - 8], block[0] - 127);
    }
    default: return NAN;
    }
}

/* Six-bit scales and minima of Q4_K and Q5_K, twelve bytes for eight of each. */
static void k_scale(const uint8_t *s, uint32_t i, double *scale, double *minimum) {
    uint32_t four = i % 4;
    *scale = i < 4 ? s[four] & 63 : (s[8 + four] & 15) + (s[four] >> 6) * 16;
    *minimum = i < 4 ? s[4 + four] & 63 : (s[8 + four] >> 4) + (s[4 + four] >> 6) * 16;
}

static double q3_scale(const uint8_t *s, uint32_t i) {
    uint32_t low = s[i % 8] >> (i / 8 * 4) & 15u, high = s[8 + i % 4] >> (i / 4 * 2) & 3u;
    return (double)(low + 16 * high) - 32;
}

static double block_of_256(sp_dtype type, const uint8_t *block, uint32_t j) {
    uint32_t half = j / 128, quarter = j % 128 / 32, lane = j % 32, pair = j / 64;
    double scale, minimum;
    switch (type) {
    case SP_Q2_K: {
        uint32_t n = block[16 + half * 32 + lane] >> (2 * quarter) & 3u, s = block[j / 16];
        return half_at(block + 80) * (s & 15) * n - half_at(block + 82) * (s >> 4);
    }
    case SP_Q3_K: {
        uint32_t n = block[32 + half * 32 + lane] >> (2 * quarter) & 3u, third = block[lane] >> (j / 32) & 1u;
        return half_at(block + 108) * q3_scale(block + 96, j / 16) * ((int)n - (third ? 0 : 4));
    }
    case SP_Q4_K: {
        k_scale(block + 4, j / 32, &scale, &minimum);
        uint32_t n = block[16 + pair * 32 + lane] >> (j % 64 / 32 * 4) & 15u;
        return half_at(block) * scale * n - half_at(block + 2) * minimum;
    }
    case SP_Q5_K: {
        k_scale(block + 4, j / 32, &scale, &minimum);
        uint32_t n = block[48 + pair * 32 + lane] >> (j % 64 / 32 * 4) & 15u, fifth = block[16 + lane] >> (j / 32) & 1u;
        return half_at(block) * scale * (n + 16 * fifth) - half_at(block + 2) * minimum;
    }
    case SP_Q6_K: {
        uint32_t low = block[half * 64 + j % 64] >> (j % 128 / 64 * 4) & 15u;
        uint32_t high = block[128 + half * 32 + lane] >> (2 * quarter) & 3u;
        return half_at(block + 208) * (int8_t)block[192 + j / 16] * ((int)(low + 16 * high) - 32);
    }
    case SP_IQ4_XS: {
        uint32_t s = j / 32, low = block[4 + s / 2] >> (s % 2 * 4) & 15u, high = load_u16(block + 2) >> (2 * s) & 3u;
        uint8_t as_nl[18] = {0, 0x3c}; /* the same quants under a scale of one */
        memcpy(as_nl + 2, block + 8 + s * 16, 16);
        return half_at(block) * ((int)(low + 16 * high) - 32) * block_of_32(SP_IQ4_NL, as_nl, lane);
    }
    default: return NAN;
    }
}

/* Bit by bit, as MLX's documentation of mx.quantize has it. *rounded: the product, which
 * a device rounds, or not, before it adds the bias. */
static double affine_element(const spi_tensor *tensor, uint32_t row, uint32_t col, double *rounded) {
    const spi_affine *affine = &tensor->affine;
    uint32_t bits = (uint32_t)tensor->type - 1000, code = 0, bytes = sp_dtype_block_bytes(affine->type);
    const uint8_t *codes = (const uint8_t *)tensor->data + (size_t)row * tensor->cols * bits / 8;
    for (uint32_t i = 0; i < bits; i++) {
        code |= bit(codes, col * bits + i) << i;
    }
    size_t at = ((size_t)row * (tensor->cols / affine->group) + col / affine->group) * bytes;
    double product = code * plain(affine->type, (const uint8_t *)affine->scales + at);
    *rounded = fabs(product);
    return product + plain(affine->type, (const uint8_t *)affine->biases + at);
}

double ops_weight(const spi_tensor *tensor, uint32_t row, uint32_t col) {
    uint32_t elements = sp_dtype_block_elements(tensor->type), bytes = sp_dtype_block_bytes(tensor->type);
    if (spi_affine_bits(tensor->type)) {
        double rounded;
        return affine_element(tensor, row, col, &rounded);
    }
    const uint8_t *block =
        (const uint8_t *)tensor->data + tensor->bytes / tensor->rows * row + (size_t)(col / elements) * bytes;
    return elements == 1    ? plain(tensor->type, block)
           : elements == 32 ? block_of_32(tensor->type, block, col % 32)
                            : block_of_256(tensor->type, block, col % 256);
}

double ops_weight_rounded(const spi_tensor *tensor, uint32_t row, uint32_t col) {
    double rounded = 0;
    if (spi_affine_bits(tensor->type)) {
        affine_element(tensor, row, col, &rounded);
    }
    return rounded;
}
