/* device/cpu/reference_attention.c - attention in plain C and double, one query at a time. May include: device,
 * base. */
#include <math.h>

#include "device/cpu/kernels.h"

static double number(const spi_cpu_attention *args, uint32_t which, uint32_t position, uint32_t column) {
    return spi_kv_value(args->kv, args->blocks, args->layer, which, args->kv_head, position, column);
}

static double score(const spi_cpu_attention *args, const float *q, uint32_t position) {
    double sum = 0;
    for (uint32_t i = 0; i < args->kv->head_dim; i++) {
        sum += (double)q[i] * number(args, 0, position, i);
    }
    sum *= args->scale;
    return args->softcap != 0 ? args->softcap * tanh(sum / args->softcap) : sum;
}

/* Scores are computed twice, once for their maximum, so that a context of any length needs no room for them. */
static void attend(const spi_cpu_attention *args, const float *q, uint32_t position, float *dst) {
    uint32_t first = args->window && position + 1 > args->window ? position + 1 - args->window : 0;
    uint32_t head_dim = args->kv->head_dim;
    double *sums = args->scratch, largest = -INFINITY, total = 0;
    for (uint32_t i = 0; i < head_dim; i++) {
        sums[i] = 0;
    }
    for (uint32_t at = first; at <= position; at++) {
        largest = fmax(largest, score(args, q, at));
    }
    for (uint32_t at = first; at <= position; at++) {
        double weight = exp(score(args, q, at) - largest);
        total += weight;
        for (uint32_t i = 0; i < head_dim; i++) {
            sums[i] += weight * number(args, 1, at, i);
        }
    }
    for (uint32_t i = 0; i < head_dim; i++) {
        dst[i] = (float)(sums[i] / total);
    }
}

size_t spi_cpu_attention_scratch_reference(uint32_t row_count, uint32_t group, uint32_t heads, uint32_t head_dim) {
    (void)row_count;
    (void)group;
    (void)heads;
    return head_dim * sizeof(double);
}

void spi_cpu_attention_reference(const spi_cpu_attention *args) {
    for (uint32_t r = 0; r < args->row_count; r++) {
        for (uint32_t h = 0; h < args->group; h++) {
            size_t at = r * args->row_stride + (size_t)h * args->kv->head_dim;
            attend(args, args->q + at, args->position_first + r, args->dst + at);
        }
    }
}
