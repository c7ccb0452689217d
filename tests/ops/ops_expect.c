/* tests/ops/ops_expect.c - what each op must give, in double, from the definitions in device/tape.h; and how far off a
 * device that sums in f32 may be.
 *
 * u = 2^-24 is the relative error of one rounding to f32. Bounds:
 * - A sum of n products in f32, in whatever order: the roundings are independent, so with overwhelming probability the
 *   error stays below c * sqrt(n) * u * sum |a_i b_i| for a small c (Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019).
 *   Here (4 sqrt(n) + 8) u sum |a_i b_i|.
 * - Quantised weights: a device may round activations to 8 bits, by blocks of 32 with the scale
 *   d = max |x| / 127. Each is then off by something uniform in [-d/2, d/2], of variance d^2 / 12, so the sum's error has
 *   the standard deviation s = sqrt(sum over blocks of d^2/12 sum w^2). A sum of bounded independent errors lies within
 *   6 s but for one in 10^8; the scale's own rounding is in the term above. Half of the cases have activations that such
 *   rounding leaves as they are: there the first term is all that is allowed.
 * - Where a device may round factors to bf16 (BF16 weights are that already), each is off by at most 2^-8 of itself:
 * the
 *   standard deviation of a product's error is at most 2^-8 sqrt(roundings / 3) |a b|, and again 6 of the sum's bound it.
 *   Grid activations are not left as they are by this.
 * - Matrix units, in attention: queries and the weights of tokens are rounded to f16, with the same variance each.
 * - Matrix units: both factors are rounded to f16 or, for BF16 and MXFP4, to bf16. A factor is then off by something
 *   uniform within 2^-11 (2^-8) of it, or 2^-25 where f16 has subnormal numbers: as above, with that variance.
 * - Elementwise functions: a few u of the result, and |u'| u for a rounded argument u' of exp. EMBED scales one exact
 * value: 2 u; that of an affine type is a product and a sum, each rounded: u of each more. ADD is two roundings, one
 * where the scale is 1 and then the same as here: bound 0; KV_STORE and GATHER are exact.
 */
#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/hash.h"
#include "ops/ops_cases.h"

#define U 0x1p-24
/* Results this small may be flushed to zero. */
#define TINY      1e-36
#define SUBNORMAL 0x1p-25 /* half of the smallest f16 */
/* Queries of an attention case that are evaluated: the evaluation is slow, and each is like the others. */
#define QUERIES_MAX  400u
#define HEAD_DIM_MAX 512u

double ops_from_half(uint16_t half) {
    uint64_t exponent = half >> 10 & 31, fraction = half & 1023;
    uint64_t bits = (exponent - 15 + 1023) << 52 | fraction << 42; /* a double has the same fraction, in front */
    double magnitude;
    memcpy(&magnitude, &bits, sizeof magnitude);
    magnitude = exponent == 31 ? (fraction ? NAN : INFINITY) : exponent ? magnitude : (double)fraction * 0x1p-24;
    return half & 0x8000 ? -magnitude : magnitude;
}

static uint16_t load_u16(const uint8_t *bytes) {
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static double sum_bound(double count, double magnitude) {
    return (4 * sqrt(count) + 8) * U * magnitude;
}

static const float *input(const ops_bench *bench, uint32_t buffer, uint32_t row) {
    return bench->inputs[buffer] + (size_t)row * bench->buffers[buffer].width;
}

static const ops_bench *owner_of_row(const ops_bench *bench, uint32_t row, uint32_t *segment, uint32_t *position) {
    for (*segment = 0; row >= bench->segments[*segment].row_first + bench->segments[*segment].row_count; ++*segment) {}
    *position = bench->segments[*segment].position_first + row - bench->segments[*segment].row_first;
    return bench;
}

static uint32_t row_of_output(const ops_bench *bench, uint32_t out) {
    uint32_t s = 0;
    while (out >= bench->segments[s].out_first + bench->segments[s].out_count) {
        s++;
    }
    const spi_segment *segment = &bench->segments[s];
    return segment->row_first + segment->row_count - segment->out_count + (out - segment->out_first);
}

/* What products need beside the case, made once for a comparison. Columns are filled up with zeros to whole groups of
 * 32. */
typedef struct decoded {
    const spi_tensor *tensor;
    uint32_t cols;
    double *weights; /* [rows][cols] */
    double *squares; /* [rows][cols / 32]: of the weights of a group, added up */
    double *x;       /* [cols]: a row of activations */
} decoded;

static bool decode(decoded *matrix, const spi_tensor *tensor) {
    uint32_t cols = (tensor->cols + 31) / 32 * 32;
    size_t count = (size_t)tensor->rows * cols;
    *matrix = (decoded){.tensor = tensor,
                        .cols = cols,
                        .weights = calloc(count, sizeof(double)),
                        .squares = calloc(count / 32, sizeof(double)),
                        .x = calloc(cols, sizeof(double))};
    if (!matrix->weights || !matrix->squares || !matrix->x) {
        return false;
    }
    for (uint32_t row = 0; row < tensor->rows; row++) {
        for (uint32_t col = 0; col < tensor->cols; col++) {
            matrix->weights[(size_t)row * cols + col] = ops_weight(tensor, row, col);
        }
    }
    for (size_t i = 0; i < count; i++) {
        matrix->squares[i / 32] += matrix->weights[i] * matrix->weights[i];
    }
    return true;
}

static void release(decoded *matrix) {
    free(matrix->weights);
    free(matrix->squares);
    free(matrix->x);
}

/* The sum of w x and that of |w x|, in lanes: these loops are most of the time of the tests of ops. */
static double dot(const double *w, const double *x, uint32_t cols, double *magnitude) {
    double sums[4] = {0}, magnitudes[4] = {0};
    for (uint32_t k = 0; k < cols; k += 4) {
        for (uint32_t lane = 0; lane < 4; lane++) {
            double term = w[k + lane] * x[k + lane];
            sums[lane] += term;
            magnitudes[lane] += fabs(term);
        }
    }
    *magnitude = magnitudes[0] + magnitudes[1] + magnitudes[2] + magnitudes[3];
    return sums[0] + sums[1] + sums[2] + sums[3];
}

/* Of a product whose activations are rounded to 8 bits, by groups of 32. */
static double rounded_variance(const double *squares, const double *x, uint32_t cols) {
    double variance = 0;
    for (uint32_t first = 0; first < cols; first += 32) {
        double largest = 0;
        for (uint32_t k = first; k < first + 32; k++) {
            largest = fabs(x[k]) > largest ? fabs(x[k]) : largest;
        }
        variance += largest * largest / (127.0 * 127.0 * 12) * squares[first / 32];
    }
    return variance;
}

/* Of one whose factors are both rounded to 16 bits. */
static double halved_variance(const double *w, const double *x, uint32_t cols, double half_error) {
    double variance = 0;
    for (uint32_t k = 0; k < cols; k++) {
        double term = w[k] * x[k], tiny = SUBNORMAL * (fabs(w[k]) + fabs(x[k]));
        variance += (term * term * half_error * half_error * 2 + tiny * tiny) / 3;
    }
    return variance;
}

static double bf16_bound(sp_dtype type, const double *w, const double *x, uint32_t cols) {
    double squares = 0, roundings = type == SP_BF16 ? 1 : sp_dtype_block_elements(type) > 1 ? 2 : 0;
    for (uint32_t k = 0; k < cols; k++) {
        squares += w[k] * x[k] * w[k] * x[k];
    }
    return 6 * 0x1p-8 * sqrt(squares * roundings / 3);
}

static void expect_product(const ops_bench *bench, const decoded *matrix, uint32_t row, double *values,
                           double *bounds) {
    const spi_op *op = &bench->ops[bench->tape.op_count - 1];
    const float *from = input(bench, 0, row);
    sp_dtype type = matrix->tensor->type;
    uint32_t cols = matrix->cols;
    bool rounded = sp_dtype_block_elements(type) > 1 && !bench->on->exact_acts && !bench->test.grid;
    bool halved = bench->on->matrix_units && type != SP_F32;
    double half_error = type == SP_BF16 || type == SP_MXFP4 ? 0x1p-8 : 0x1p-11;
    for (uint32_t k = 0; k < matrix->tensor->cols; k++) {
        matrix->x[k] = (double)from[k];
    }
    for (uint32_t r = 0; r < matrix->tensor->rows; r++) {
        const double *w = matrix->weights + (size_t)r * cols;
        double magnitude, sum = dot(w, matrix->x, cols, &magnitude);
        bounds[r] = sum_bound(matrix->tensor->cols, magnitude);
        if (rounded) {
            bounds[r] += 6 * sqrt(rounded_variance(matrix->squares + (size_t)r * (cols / 32), matrix->x, cols));
        }
        bounds[r] += bench->on->bf16 ? bf16_bound(type, w, matrix->x, cols) : 0;
        bounds[r] += halved ? 6 * sqrt(halved_variance(w, matrix->x, cols, half_error)) : 0;
        if (op->bias != SPI_NONE) {
            double bias = ops_weight(&bench->tensors[op->bias], 0, r);
            sum += bias;
            bounds[r] += U * (fabs(sum) + fabs(bias));
        }
        values[r] = sum;
    }
}

static void expect_matmul(const ops_bench *bench, const decoded *matrix, uint32_t row, double *values, double *bounds) {
    expect_product(bench, matrix, row, values, bounds);
    for (uint32_t r = 0; r < matrix->tensor->rows && bench->test.accumulate; r++) {
        values[r] += (double)input(bench, 1, row)[r];
        bounds[r] += 2 * U * fabs(values[r]);
    }
}

static void expect_head(const ops_bench *bench, const decoded *matrix, uint32_t out, double *values, double *bounds) {
    const ops_case *test = &bench->test;
    expect_product(bench, matrix, row_of_output(bench, out), values, bounds);
    for (uint32_t r = 0; r < matrix->tensor->rows; r++) {
        double scaled = values[r] * (double)test->scale;
        values[r] = scaled;
        bounds[r] = bounds[r] * (double)test->scale + 2 * U * fabs(scaled);
        if (test->softcap != 0) { /* tanh has a slope of at most 1; its own error is some u of its range */
            values[r] = (double)test->softcap * tanh(scaled / (double)test->softcap);
            bounds[r] += 8 * U * (double)test->softcap;
        }
    }
}

static void expect_norm(const ops_bench *bench, uint32_t row, double *values, double *bounds) {
    const float *x = input(bench, 0, row);
    uint32_t group = bench->test.group;
    for (uint32_t first = 0; first < bench->test.cols; first += group) {
        double squares = 0;
        for (uint32_t i = first; i < first + group; i++) {
            squares += (double)x[i] * (double)x[i];
        }
        double factor = 1 / sqrt(squares / group + (double)1e-5f);
        for (uint32_t i = first; i < first + group; i++) {
            values[i] = (double)x[i] * factor * ops_weight(&bench->tensors[0], 0, i - first);
            bounds[i] = (4 * sqrt(group) + 16) * U * fabs(values[i]);
        }
    }
}

static void expect_rope(const ops_bench *bench, uint32_t row, double *values, double *bounds) {
    const ops_case *test = &bench->test;
    const spi_op *op = &bench->ops[0];
    const float *x = input(bench, 0, row);
    uint32_t segment, position, half = test->rope_dims / 2;
    owner_of_row(bench, row, &segment, &position);
    for (uint32_t i = 0; i < test->heads * test->head_dim; i++) {
        values[i] = (double)x[i];
        bounds[i] = 0;
    }
    for (uint32_t head = 0; head < test->heads; head++) {
        for (uint32_t i = 0; i < half; i++) {
            double factor = op->weight == SPI_NONE ? 1 : ops_weight(&bench->tensors[0], 0, i);
            double angle = position * (double)op->rope_freq_scale *
                           pow((double)op->rope_base, -2.0 * i / test->rope_dims) / factor;
            bool halves = test->rope_pairs == SPI_ROPE_HALVES;
            uint32_t a = head * test->head_dim + (halves ? i : 2 * i), b = halves ? a + half : a + 1;
            double p = (double)x[a], q = (double)x[b];
            double scale = (double)test->scale;
            values[a] = scale * (p * cos(angle) - q * sin(angle));
            values[b] = scale * (p * sin(angle) + q * cos(angle));
            /* Scaled cosine and sine are rounded once, the products and the sum once each. */
            bounds[a] = bounds[b] = 4 * U * scale * (fabs(p) + fabs(q));
        }
    }
}

static void expect_gate(const ops_bench *bench, uint32_t row, double *values, double *bounds) {
    const float *x = input(bench, 0, row), *y = input(bench, 2, row);
    for (uint32_t i = 0; i < bench->test.cols; i++) {
        double v = (double)x[i], cube = 0.044715 * v * v * v;
        double u = bench->test.act == SPI_ACT_SILU ? v : 2 * sqrt(2 / 3.14159265358979323846) * (v + cube);
        values[i] = v / (1 + exp(-u)) * (double)y[i];
        bounds[i] = (16 + 6 * fabs(u)) * U * fabs(values[i]) + TINY;
    }
}

typedef struct kv_view {
    const ops_bench *bench;
    const uint8_t *blocks;
    uint32_t head;
} kv_view;

/* A row of keys (which 0) or values. */
static void kv_row(const kv_view *view, uint32_t which, uint32_t position, double *to) {
    const ops_case *test = &view->bench->test;
    const spi_kv_shape *kv = &view->bench->tape.kv;
    const uint8_t *row = view->blocks + spi_kv_row_offset(kv, test->layer, which, view->head, position);
    if (kv->type != SP_KV_Q8_0) {
        for (uint32_t i = 0; i < test->head_dim; i++) {
            to[i] = ops_from_half(load_u16(row + (size_t)i * 2));
        }
        return;
    }
    const uint8_t *scales = view->blocks + spi_kv_scale_offset(kv, test->layer, which, view->head, position);
    for (uint32_t i = 0; i < test->head_dim; i++) {
        to[i] = ops_from_half(load_u16(scales + (size_t)(i / 32) * 2)) * (int8_t)row[i];
    }
}

/* Of a score, queries and keys rounded to f16. */
static double score_variance(const float *q, const double *key, uint32_t count, double scale) {
    double variance = 0;
    for (uint32_t i = 0; i < count; i++) {
        double scaled = (double)q[i] * key[i] * scale, tiny = SUBNORMAL * key[i];
        variance += (scaled * scaled * 0x1p-22 + tiny * tiny) / 3;
    }
    return variance;
}

/* A query's scores, of positions from `first` to `position`; returns the largest error of one. */
static double expect_scores(const kv_view *view, const float *q, uint32_t first, uint32_t position, double *scores) {
    const ops_case *test = &view->bench->test;
    double key[HEAD_DIM_MAX], score_error = 0;
    assert(test->head_dim <= HEAD_DIM_MAX);
    for (uint32_t at = first; at <= position; at++) {
        double sum = 0, magnitude = 0;
        kv_row(view, 0, at, key);
        for (uint32_t i = 0; i < test->head_dim; i++) {
            double term = (double)q[i] * key[i];
            sum += term;
            magnitude += fabs(term);
        }
        double score = sum * (double)test->scale;
        double error = sum_bound(test->head_dim, magnitude) * (double)test->scale + 4 * U * fabs(score);
        if (view->bench->on->matrix_units) {
            error += 6 * sqrt(score_variance(q, key, test->head_dim, (double)test->scale));
        }
        if (test->softcap != 0) {
            score = (double)test->softcap * tanh(score / (double)test->softcap);
            error += 8 * U * (double)test->softcap;
        }
        scores[at] = score;
        score_error = fmax(score_error, error);
    }
    return score_error;
}

/* One query; `scores` has room for its positions. The error of a score moves its weight by as much, relatively; so does
 * it move the sum of weights: together 2 * score error on a mean of |v|. */
static void expect_query(const kv_view *view, const float *q, uint32_t position, double *scores, double *values,
                         double *bounds) {
    const ops_case *test = &view->bench->test;
    uint32_t first = test->window && position + 1 > test->window ? position + 1 - test->window : 0;
    double score_error = expect_scores(view, q, first, position, scores);
    double value[HEAD_DIM_MAX], variance[HEAD_DIM_MAX] = {0}, *magnitude = bounds;
    double largest = -INFINITY, total = 0;
    for (uint32_t at = first; at <= position; at++) {
        largest = fmax(largest, scores[at]);
    }
    for (uint32_t at = first; at <= position; at++) {
        scores[at] = exp(scores[at] - largest);
        total += scores[at];
    }
    for (uint32_t i = 0; i < test->head_dim; i++) {
        values[i] = magnitude[i] = 0;
    }
    for (uint32_t at = first; at <= position; at++) {
        kv_row(view, 1, at, value);
        double weight = scores[at] / total;
        for (uint32_t i = 0; i < test->head_dim; i++) {
            double term = weight * value[i], tiny = SUBNORMAL / total * value[i];
            values[i] += term;
            magnitude[i] += fabs(term);
            variance[i] += (term * term * 0x1p-22 + tiny * tiny) / 3;
        }
    }
    for (uint32_t i = 0; i < test->head_dim; i++) {
        bounds[i] = magnitude[i] * (2 * score_error + 8 * U) + 2 * sum_bound(position + 1 - first, magnitude[i]);
        bounds[i] += view->bench->on->matrix_units ? 6 * sqrt(variance[i]) : 0;
    }
}

/* Sets every value of a row; those of queries that are not evaluated get an infinite bound. */
static void expect_attention(const ops_bench *bench, uint32_t row, double *scores, double *values, double *bounds) {
    const ops_case *test = &bench->test;
    uint32_t segment, position, queries = bench->run.row_count * test->heads;
    owner_of_row(bench, row, &segment, &position);
    kv_view view = {bench, bench->before[test->segments[segment].region] + bench->segments[segment].kv_offset, 0};
    for (uint32_t head = 0; head < test->heads; head++) {
        uint32_t query = row * test->heads + head, at = head * test->head_dim;
        view.head = head / (test->heads / test->kv_heads);
        if (queries > QUERIES_MAX && query % (queries / QUERIES_MAX + 1)) {
            for (uint32_t i = 0; i < test->head_dim; i++) {
                values[at + i] = 0;
                bounds[at + i] = INFINITY;
            }
            continue;
        }
        expect_query(&view, input(bench, 0, row) + at, position, scores, values + at, bounds + at);
    }
}

static void expect_row(const ops_bench *bench, const decoded *matrix, uint32_t row, double *scores, double *values,
                       double *bounds) {
    const ops_case *test = &bench->test;
    const float *from = NULL;
    switch (test->kind) {
    case SPI_OP_EMBED:
        for (uint32_t i = 0; i < test->cols; i++) {
            values[i] = ops_weight(&bench->tensors[0], (uint32_t)bench->tokens[row], i) * (double)test->scale;
            double rounded = ops_weight_rounded(&bench->tensors[0], (uint32_t)bench->tokens[row], i);
            bounds[i] = U * (3 * fabs(values[i]) + rounded * fabs((double)test->scale));
            bounds[i] -= rounded > 0 ? 0 : U * fabs(values[i]);
        }
        break;
    case SPI_OP_NORM: expect_norm(bench, row, values, bounds); break;
    case SPI_OP_MATMUL: expect_matmul(bench, matrix, row, values, bounds); break;
    case SPI_OP_ROPE: expect_rope(bench, row, values, bounds); break;
    case SPI_OP_ATTENTION: expect_attention(bench, row, scores, values, bounds); break;
    case SPI_OP_GATE: expect_gate(bench, row, values, bounds); break;
    case SPI_OP_ADD:
        for (uint32_t i = 0; i < test->cols; i++) {
            double term = (double)input(bench, 0, row)[i] * (double)test->scale;
            values[i] = (double)input(bench, 1, row)[i] + term;
            bounds[i] = U * (fabs(term) + fabs(values[i]));
            if (test->scale == 1) {
                values[i] = (double)(float)values[i];
                bounds[i] = 0;
            }
        }
        break;
    case SPI_OP_GATHER:
        from = input(bench, 0, row_of_output(bench, row));
        for (uint32_t i = 0; i < test->cols; i++) {
            values[i] = (double)from[i];
            bounds[i] = 0;
        }
        break;
    case SPI_OP_HEAD: expect_head(bench, matrix, row, values, bounds); break;
    case SPI_OP_KV_STORE:
    case SPI_OP_KIND_COUNT: break;
    }
}

static void note_wrong(ops_result *result, const char *what, uint32_t row, uint32_t col, double actual, double expected,
                       double bound) {
    if (!result->wrong++) {
        snprintf(result->first_wrong, sizeof result->first_wrong, "%s row %u col %u: %.9g, not %.9g within %.3g", what,
                 row, col, actual, expected, bound);
    }
}

static void hold(ops_result *result, const char *what, uint32_t row, uint32_t count, const float *actual,
                 const double *values, const double *bounds, double *error_max, double *value_max) {
    for (uint32_t i = 0; i < count; i++) {
        if (bounds[i] == INFINITY) {
            continue;
        }
        double error = fabs((double)actual[i] - values[i]);
        result->values++;
        *error_max = fmax(*error_max, error);
        *value_max = fmax(*value_max, fabs(values[i]));
        if (!(error <= bounds[i])) {
            note_wrong(result, what, row, i, (double)actual[i], values[i], bounds[i]);
        } else if (bounds[i] > 0) {
            result->worst = fmax(result->worst, error / bounds[i]);
        }
    }
}

static void mix(ops_result *result, const void *bytes, size_t count) {
    result->hash = result->hash * 0x9e3779b97f4a7c15u + spi_hash64(bytes, count);
}

/* Rows of a buffer from `first` on must be what they were. */
static void hold_still(const ops_bench *bench, ops_result *result, uint32_t buffer, uint32_t first,
                       const float *actual) {
    uint32_t width = bench->buffers[buffer].width;
    for (uint32_t row = first; row < bench->tape.rows_max; row++) {
        const float *was = input(bench, buffer, row), *is = actual + (size_t)row * width;
        if (memcmp(was, is, width * sizeof *was)) {
            note_wrong(result, "untouched buffer", row, buffer, (double)is[0], (double)was[0], 0);
        }
    }
}

typedef struct work {
    bool evaluate;
    double *values, *bounds, *scores;
    float *actual;
    uint8_t *region;
} work;

static void compare_buffers(ops_bench *bench, const decoded *matrix, const work *room, ops_result *result,
                            double *error_max, double *value_max) {
    void *context;
    const spi_backend *backend = spi_device_backend(bench->on->device, &context);
    const spi_op *op = &bench->ops[bench->tape.op_count - 1];
    uint32_t rows = op->kind == SPI_OP_GATHER ? bench->run.out_count : bench->run.row_count;
    for (uint32_t b = 0; b < bench->tape.buffer_count; b++) {
        uint32_t width = bench->buffers[b].width;
        bool written = b == op->dst;
        if (op->kind == SPI_OP_HEAD && b == op->src) {
            continue; /* GATHER's, which has cases of its own */
        }
        backend->read_buffer(context, bench->program, b, bench->tape.rows_max, room->actual, NULL);
        for (uint32_t row = 0; room->evaluate && written && row < rows; row++) {
            expect_row(bench, matrix, row, room->scores, room->values, room->bounds);
            hold(result, "dst", row, width, room->actual + (size_t)row * width, room->values, room->bounds, error_max,
                 value_max);
        }
        if (room->evaluate) {
            hold_still(bench, result, b, written ? rows : 0, room->actual);
        }
        mix(result, room->actual, (size_t)bench->tape.rows_max * width * sizeof(float));
    }
}

/* 32 numbers as GGUF's quantiser rounds them: the largest becomes 127 or -127. */
static void expect_q8(const float *from, uint8_t *codes, uint8_t *scale) {
    float largest = 0;
    for (uint32_t i = 0; i < 32; i++) {
        largest = fmaxf(largest, fabsf(from[i]));
    }
    float d = largest / 127, inverse = d != 0 ? 1 / d : 0;
    uint16_t half = spi_f32_to_f16(d);
    memcpy(scale, &half, sizeof half);
    for (uint32_t i = 0; i < 32; i++) {
        codes[i] = (uint8_t)(int8_t)roundf(from[i] * inverse);
    }
}

/* Writes into the expected image what KV_STORE must have written for one row. */
static void expect_kv(const ops_bench *bench, uint32_t row, uint8_t *image, const spi_segment *segment) {
    const spi_kv_shape *kv = &bench->tape.kv;
    uint32_t position = segment->position_first + row - segment->row_first;
    for (uint32_t i = 0; i < 2 * kv->kv_heads * kv->head_dim && kv->type == SP_KV_Q8_0; i += 32) {
        uint32_t which = i / (kv->kv_heads * kv->head_dim), head = i / kv->head_dim % kv->kv_heads;
        uint32_t column = i % kv->head_dim, layer = bench->test.layer;
        uint8_t *blocks = image + segment->kv_offset;
        expect_q8(input(bench, which, row) + head * kv->head_dim + column,
                  blocks + spi_kv_row_offset(kv, layer, which, head, position) + column,
                  blocks + spi_kv_scale_offset(kv, layer, which, head, position) + column / 32 * 2);
    }
    for (uint32_t i = 0; i < 2 * kv->kv_heads * kv->head_dim && kv->type != SP_KV_Q8_0; i++) {
        uint32_t which = i / (kv->kv_heads * kv->head_dim), head = i / kv->head_dim % kv->kv_heads;
        uint16_t half = spi_f32_to_f16(input(bench, which, row)[head * kv->head_dim + i % kv->head_dim]);
        uint64_t at = spi_kv_row_offset(kv, bench->test.layer, which, head, position) + i % kv->head_dim * 2;
        memcpy(image + segment->kv_offset + at, &half, 2);
    }
}

/* Regions byte by byte: what the op writes must be right, everything else must be as it was. */
static void compare_regions(ops_bench *bench, const decoded *matrix, const work *room, ops_result *result,
                            double *error_max, double *value_max) {
    uint32_t vocab = bench->tape.vocab;
    for (uint32_t r = 0; r < bench->test.region_count; r++) {
        const uint8_t *actual = sp_region_base(bench->regions[r]);
        mix(result, actual, bench->region_bytes);
        if (!room->evaluate) {
            continue;
        }
        memcpy(room->region, bench->before[r], bench->region_bytes);
        for (uint32_t s = 0; s < bench->test.segment_count; s++) {
            const spi_segment *segment = &bench->segments[s];
            if (bench->test.segments[s].region != r) {
                continue;
            }
            for (uint32_t i = 0; i < segment->row_count && bench->test.kind == SPI_OP_KV_STORE; i++) {
                expect_kv(bench, segment->row_first + i, room->region, segment);
                result->values += 2 * (uint64_t)bench->tape.kv.kv_heads * bench->tape.kv.head_dim;
            }
            for (uint32_t i = 0; i < segment->out_count && bench->test.kind == SPI_OP_HEAD; i++) {
                uint64_t at = segment->logits_offset + (uint64_t)i * vocab * sizeof(float);
                memcpy(room->region + at, actual + at, vocab * sizeof(float));
                expect_row(bench, matrix, segment->out_first + i, room->scores, room->values, room->bounds);
                hold(result, "logits", segment->out_first + i, vocab, (const float *)(const void *)(actual + at),
                     room->values, room->bounds, error_max, value_max);
            }
        }
        for (size_t i = 0; memcmp(actual, room->region, bench->region_bytes) && i < bench->region_bytes; i++) {
            if (actual[i] != room->region[i]) {
                note_wrong(result, "region byte", r, (uint32_t)i, actual[i], room->region[i], 0);
                break;
            }
        }
    }
}

sp_status ops_compare(ops_bench *bench, bool evaluate, ops_result *result) {
    *result = (ops_result){0};
    const spi_tensor *tensor = &bench->tensors[0];
    bool product = bench->test.kind == SPI_OP_MATMUL || bench->test.kind == SPI_OP_HEAD;
    size_t widest = bench->tape.vocab, positions = 0;
    for (uint32_t b = 0; b < bench->tape.buffer_count; b++) {
        widest = widest > bench->buffers[b].width ? widest : bench->buffers[b].width;
    }
    for (uint32_t s = 0; s < bench->test.segment_count; s++) {
        size_t end = bench->segments[s].position_first + bench->segments[s].row_count;
        positions = positions > end ? positions : end;
    }
    work room = {.evaluate = evaluate,
                 .values = malloc(widest * sizeof(double)),
                 .bounds = malloc(widest * sizeof(double)),
                 .scores = malloc(positions * sizeof(double)),
                 .actual = malloc(bench->tape.rows_max * widest * sizeof(float)),
                 .region = malloc(bench->region_bytes)};
    decoded matrix = {0};
    bool good = room.values && room.bounds && room.scores && room.actual && room.region;
    good = good && (!product || !evaluate || decode(&matrix, tensor));
    if (good) {
        double error_max = 0, value_max = DBL_MIN;
        compare_buffers(bench, &matrix, &room, result, &error_max, &value_max);
        compare_regions(bench, &matrix, &room, result, &error_max, &value_max);
        result->error_max = error_max / value_max;
    }
    free(room.values);
    free(room.bounds);
    free(room.scores);
    release(&matrix);
    free(room.actual);
    free(room.region);
    return good ? SP_OK : SP_NO_MEMORY;
}
