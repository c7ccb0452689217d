/* device/cpu/reference.c - every op of a row in plain C: the oracle, and what other tables borrow from.
 *
 * Written to be obviously right: one loop a formula, sums in double. May include: device, dtype, os, base.
 */
#include <math.h>

#include "base/half.h"
#include "device/cpu/kernels.h"

static void norm(float *dst, const float *src, const float *weight, uint32_t count, float eps) {
    double squares = 0;
    for (uint32_t i = 0; i < count; i++) {
        squares += (double)src[i] * src[i];
    }
    double factor = 1 / sqrt(squares / count + eps);
    for (uint32_t i = 0; i < count; i++) {
        dst[i] = (float)(src[i] * factor * weight[i]);
    }
}

static void rotate(float *head, const float *cosines, const float *sines, uint32_t pair_count, spi_rope_pairs pairs) {
    for (uint32_t i = 0; i < pair_count; i++) {
        float *first = pairs == SPI_ROPE_HALVES ? head + i : head + 2 * i;
        float *second = pairs == SPI_ROPE_HALVES ? head + i + pair_count : head + 2 * i + 1;
        double x = *first, y = *second;
        *first = (float)(x * cosines[i] - y * sines[i]);
        *second = (float)(x * sines[i] + y * cosines[i]);
    }
}

/* x / (1 + e^-x), and x * (1 + tanh(u)) / 2, which is x / (1 + e^-2u) without the cancellation
 * (arXiv:1606.08415: u = sqrt(2 / pi) * (x + 0.044715 x^3)). */
static double activate(double x, spi_act act) {
    double u = act == SPI_ACT_SILU ? x : 2 * 0.79788456080286535588 * (x + 0.044715 * x * x * x);
    return x / (1 + exp(-u));
}

static void gate(float *dst, const float *src, const float *src1, uint32_t count, spi_act act) {
    for (uint32_t i = 0; i < count; i++) {
        dst[i] = (float)(activate(src[i], act) * src1[i]);
    }
}

static void add(float *dst, const float *src, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        dst[i] += src[i];
    }
}

static void add_scaled(float *dst, const float *src, uint32_t count, float scale) {
    for (uint32_t i = 0; i < count; i++) {
        dst[i] = (float)(dst[i] + (double)src[i] * scale);
    }
}

static void cap(float *x, uint32_t count, float scale, float softcap) {
    for (uint32_t i = 0; i < count; i++) {
        double value = (double)x[i] * scale;
        x[i] = (float)(softcap != 0 ? softcap * tanh(value / softcap) : value);
    }
}

static void to_f16(uint16_t *dst, const float *src, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        dst[i] = spi_f32_to_f16(src[i]);
    }
}

#define CHUNK  256u /* a multiple of every type's block */
#define TOKENS 8u   /* that share one decoding of a chunk */

/* Products of one row of weights with some tokens. */
static void dot_row(const spi_tensor *tensor, uint32_t row, const float *acts, size_t act_stride, uint32_t token_count,
                    double sums[TOKENS]) {
    float values[CHUNK];
    for (uint32_t first = 0; first < tensor->cols; first += CHUNK) {
        uint32_t count = tensor->cols - first < CHUNK ? tensor->cols - first : CHUNK;
        spi_tensor_values(tensor, row, first, count, values);
        for (uint32_t t = 0; t < token_count; t++) {
            const float *x = acts + t * act_stride + first;
            for (uint32_t i = 0; i < count; i++) {
                sums[t] += (double)values[i] * x[i];
            }
        }
    }
}

static void product(const spi_cpu_product *args) {
    for (uint32_t r = 0; r < args->row_count; r++) {
        for (uint32_t first = 0; first < args->token_count; first += TOKENS) {
            uint32_t count = args->token_count - first < TOKENS ? args->token_count - first : TOKENS;
            double sums[TOKENS] = {0};
            const float *acts = (const float *)args->acts + first * args->act_stride;
            dot_row(args->tensor, args->row_first + r, acts, args->act_stride, count, sums);
            for (uint32_t t = 0; t < count; t++) {
                args->out[(first + t) * args->out_stride + r] = (float)sums[t];
            }
        }
    }
}

static const spi_cpu_type types[] = {
#define X(name, value, text, elements, bytes) {.type = name, .form = SPI_FORM_F32, .group_rows = 1, .product = product},
    SP_DTYPE_LIST(X) SP_AFFINE_LIST(X)
#undef X
};

static void gemm(const spi_cpu_gemm *args) {
    const float *a = args->a, *b = args->b;
    const uint16_t *half_a = args->a, *half_b = args->b;
    for (uint32_t i = args->row_first; i < args->row_first + args->row_count; i++) {
        for (uint32_t j = args->col_first; j < args->col_first + args->col_count; j++) {
            double sum = 0;
            for (uint32_t k = 0; k < args->k; k++) {
                size_t at_a = (size_t)i * args->k + k, at_b = (size_t)k * args->n + j;
                double x = args->half ? spi_f16_to_f32(half_a[at_a]) : a[at_a];
                double y = args->half ? spi_f16_to_f32(half_b[at_b]) : b[at_b];
                sum += x * y;
            }
            args->c[(size_t)i * args->n + j] = (float)sum;
        }
    }
}

static bool available(const spi_cpu_features *features) {
    (void)features;
    return true;
}

const spi_cpu_kernels spi_cpu_kernels_reference = {
    .name = "reference",
    .available = available,
    .types = types,
    .type_count = sizeof types / sizeof types[0],
    .token_tile_max = 1,
    .norm = norm,
    .rotate = rotate,
    .gate = gate,
    .add = add,
    .add_scaled = add_scaled,
    .cap = cap,
    .to_f16 = to_f16,
    .attention_rows = 4,
    .attention_scratch_bytes = spi_cpu_attention_scratch_reference,
    .attention = spi_cpu_attention_reference,
    .gemm_rows = 16,
    .gemm_cols = 64,
    .gemm_scratch_bytes = 0,
    .gemm = gemm,
};
