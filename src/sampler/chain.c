/* sampler/chain.c - penalties, top-k, top-p, min-p. See chain.h; each step means what it does in llama.cpp's samplers
 * (github.com/ggml-org/llama.cpp, include/llama.h), equal candidates are ordered by id. May include: base.
 */
#include "sampler/chain.h"

#include <string.h>

float spi_chain_penalize(const sp_sampler_options *options, float logit, uint32_t count) {
    if (count == 0 || logit == -INFINITY) {
        return logit;
    }
    float repeat = options->repeat_penalty;
    if (repeat > 0) {
        logit = logit > 0 ? logit / repeat : logit * repeat;
    }
    logit -= (float)count * options->frequency_penalty + options->presence_penalty;
    return spi_chain_clean(logit);
}

double spi_chain_exp(double x) {
    static const double terms[] = {1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800,
                                   1.0 / 362880,     1.0 / 40320,     1.0 / 5040,     1.0 / 720,
                                   1.0 / 120,        1.0 / 24,        1.0 / 6,        1.0 / 2}; /* 1/n! */
    if (!(x > -708)) {
        return 0; /* below 1e-307: no draw sees it */
    }
    /* x = n ln 2 + r with |r| <= ln 2 / 2, and ln 2 in two parts, of which n times the first is exact; e^r by its
     * series, whose rest after r^13 is below 1e-17. */
    int n = (int)(x * 1.4426950408889634 - 0.5);
    double r = (x - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33, sum = terms[0], scale;
    for (size_t i = 1; i < sizeof terms / sizeof terms[0]; i++) {
        sum = sum * r + terms[i];
    }
    uint64_t bits = (uint64_t)(1023 + n) << 52; /* 2^n */
    memcpy(&scale, &bits, sizeof scale);
    return ((sum * r + 1) * r + 1) * scale;
}

double spi_chain_weight(float logit, float largest, float temperature) {
    if (logit == -INFINITY) {
        return 0;
    }
    return spi_chain_exp(((double)logit - (double)largest) / (double)temperature);
}

static bool is_likelier(spi_choice a, spi_choice b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

/* Restores a heap below `at`. On top is the likeliest, or with `least` the least likely. */
static void sink(spi_choice *heap, size_t count, size_t at, bool least) {
    spi_choice moved = heap[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= count) {
            break;
        }
        if (child + 1 < count && is_likelier(heap[child + 1], heap[child]) != least) {
            child++;
        }
        if (is_likelier(heap[child], moved) == least) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

static void make_heap(spi_choice *heap, size_t count, bool least) {
    for (size_t i = count / 2; i-- > 0;) {
        sink(heap, count, i, least);
    }
}

void spi_chain_offer(spi_choice *choices, size_t *count, size_t limit, spi_choice choice) {
    if (*count < limit) {
        choices[(*count)++] = choice;
        if (*count == limit) {
            make_heap(choices, limit, true);
        }
    } else if (is_likelier(choice, choices[0])) {
        choices[0] = choice;
        sink(choices, limit, 0, true);
    }
}

static double total_weight(const spi_choice *choices, size_t count, float largest) {
    double total = 0;
    for (size_t i = 0; i < count; i++) {
        total += spi_chain_weight(choices[i].logit, largest, 1);
    }
    return total;
}

/* Likeliest first. */
static void sort(spi_choice *choices, size_t count) {
    make_heap(choices, count, true);
    for (size_t left = count; left > 1; left--) {
        spi_choice least = choices[0];
        choices[0] = choices[left - 1];
        choices[left - 1] = least;
        sink(choices, left - 1, 0, true);
    }
}

static void reverse(spi_choice *choices, size_t count) {
    for (size_t i = 0; i < count / 2; i++) {
        spi_choice kept = choices[i];
        choices[i] = choices[count - 1 - i];
        choices[count - 1 - i] = kept;
    }
}

/* Takes the likeliest ones out of all until they have the weight. They gather, likeliest last, at the end of the array;
 * then they are put in front, likeliest first. Most often a few of very many: not worth a sort. */
static size_t pop_top_p(const sp_sampler_options *options, spi_choice *choices, size_t count) {
    make_heap(choices, count, false);
    float largest = choices[0].logit;
    double wanted = (double)options->top_p * total_weight(choices, count, largest), sum = 0;
    size_t taken = 0;
    while (taken < count) {
        spi_choice top = choices[0];
        choices[0] = choices[count - 1 - taken];
        choices[count - 1 - taken] = top;
        taken++;
        if (taken < count) {
            sink(choices, count - taken, 0, false);
        }
        sum += spi_chain_weight(top.logit, largest, 1);
        if (sum >= wanted) {
            break;
        }
    }
    reverse(choices, count);
    return taken;
}

static size_t cut_top_p(const sp_sampler_options *options, const spi_choice *sorted, size_t count) {
    double wanted = (double)options->top_p * total_weight(sorted, count, sorted[0].logit), sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += spi_chain_weight(sorted[i].logit, sorted[0].logit, 1);
        if (sum >= wanted) {
            return i + 1;
        }
    }
    return count;
}

static void likeliest_first(spi_choice *choices, size_t count) {
    size_t best = 0;
    for (size_t i = 1; i < count; i++) {
        best = is_likelier(choices[i], choices[best]) ? i : best;
    }
    spi_choice kept = choices[0];
    choices[0] = choices[best];
    choices[best] = kept;
}

static size_t keep_min_p(const sp_sampler_options *options, spi_choice *choices, size_t count) {
    /* exp(low) < min_p <= exp(high): found once, so that each choice costs a comparison. */
    double low = -200, high = 0; /* the least positive float is exp(-103.3) */
    for (int i = 0; i < 64; i++) {
        double middle = (low + high) / 2;
        if (spi_chain_exp(middle) >= (double)options->min_p) {
            high = middle;
        } else {
            low = middle;
        }
    }
    double largest = (double)choices[0].logit;
    size_t kept = 1;
    for (size_t i = 1; i < count; i++) {
        if ((double)choices[i].logit - largest >= high) {
            choices[kept++] = choices[i];
        }
    }
    return kept;
}

size_t spi_chain_keep(const sp_sampler_options *options, spi_choice *choices, size_t count, bool offered) {
    bool some_p = options->top_p > 0 && options->top_p < 1;
    if (offered) {
        sort(choices, count);
        count = some_p ? cut_top_p(options, choices, count) : count;
    } else if (some_p) {
        count = pop_top_p(options, choices, count);
    } else {
        likeliest_first(choices, count);
    }
    return options->min_p > 0 ? keep_min_p(options, choices, count) : count;
}
