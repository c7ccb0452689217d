/* tests/unit/test_sampler.c - the chain against llama.cpp's numbers (tests/golden/README.md) and against a plain model
 * in double precision, draws against their distribution, and logits that are hostile. */
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "sampler/chain.h"
#include "sampler/random.h"
#include "support/support.h"

#define VOCAB_MAX 512

static sp_sampler *create(sp_sampler_options options) {
    sp_sampler *sampler;
    sp_error error = {0};
    TEST_OK(sp_sampler_create(&options, &sampler, &error), error);
    return sampler;
}

/* ---- a plain model: probabilities of each id after the whole chain ---- */

typedef struct plain {
    double logit[VOCAB_MAX];
    bool kept[VOCAB_MAX];
    double probability[VOCAB_MAX];
    uint32_t vocab;
} plain;

static uint32_t plain_rank(const plain *model, uint32_t id) {
    uint32_t rank = 0;
    for (uint32_t other = 0; other < model->vocab; other++) {
        bool before = model->logit[other] > model->logit[id] || (model->logit[other] == model->logit[id] && other < id);
        rank += model->kept[other] && before;
    }
    return rank;
}

static void plain_normalize(plain *model, double temperature) {
    double largest = -INFINITY, total = 0;
    for (uint32_t id = 0; id < model->vocab; id++) {
        largest = model->kept[id] ? fmax(largest, model->logit[id]) : largest;
    }
    for (uint32_t id = 0; id < model->vocab; id++) {
        model->probability[id] = model->kept[id] ? exp((model->logit[id] - largest) / temperature) : 0;
        total += model->probability[id];
    }
    for (uint32_t id = 0; id < model->vocab; id++) {
        model->probability[id] /= total;
    }
}

static void plain_penalties(plain *model, const sp_sampler_options *o, const int32_t *accepted, size_t count) {
    size_t last = o->penalty_last ? (size_t)o->penalty_last : 64, from = count > last ? count - last : 0;
    for (uint32_t id = 0; id < model->vocab; id++) {
        unsigned seen = 0;
        for (size_t i = from; i < count; i++) {
            seen += accepted[i] == (int32_t)id;
        }
        if (seen) {
            double repeat = o->repeat_penalty != 0 ? (double)o->repeat_penalty : 1;
            model->logit[id] = model->logit[id] > 0 ? model->logit[id] / repeat : model->logit[id] * repeat;
            model->logit[id] -= seen * (double)o->frequency_penalty + (double)o->presence_penalty;
        }
    }
}

static void plain_run(plain *model, const sp_sampler_options *o, const float *logits, uint32_t vocab,
                      const int32_t *accepted, size_t count) {
    model->vocab = vocab;
    for (uint32_t id = 0; id < vocab; id++) {
        model->logit[id] = (double)logits[id];
        model->kept[id] = true;
    }
    plain_penalties(model, o, accepted, count);
    bool keep[VOCAB_MAX];
    for (int step = 0; step < 3; step++) {
        plain_normalize(model, 1);
        double largest = 0;
        for (uint32_t id = 0; id < vocab; id++) {
            largest = fmax(largest, model->probability[id]);
        }
        for (uint32_t id = 0; id < vocab; id++) {
            uint32_t rank = plain_rank(model, id);
            double above = 0; /* what the likelier ones have */
            for (uint32_t other = 0; other < vocab && step == 1; other++) {
                above += model->kept[other] && plain_rank(model, other) < rank ? model->probability[other] : 0;
            }
            keep[id] = model->kept[id];
            keep[id] &= step != 0 || o->top_k == 0 || rank < (uint32_t)o->top_k;
            keep[id] &= step != 1 || o->top_p == 0 || o->top_p == 1 || above < (double)o->top_p;
            keep[id] &= step != 2 || model->probability[id] >= (double)o->min_p * largest;
        }
        memcpy(model->kept, keep, sizeof keep);
    }
    plain_normalize(model, (double)o->temperature);
}

/* ---- the same from the library's own steps ---- */

static void chain_run(double *probability, const sp_sampler_options *o, const float *logits, uint32_t vocab,
                      const int32_t *accepted, size_t count) {
    spi_choice choices[VOCAB_MAX];
    size_t last = o->penalty_last ? (size_t)o->penalty_last : 64, from = count > last ? count - last : 0, offered = 0;
    bool some = o->top_k > 0 && (uint32_t)o->top_k < vocab;
    double total = 0;
    for (uint32_t id = 0; id < vocab; id++) {
        uint32_t seen = 0;
        for (size_t i = from; i < count; i++) {
            seen += accepted[i] == (int32_t)id;
        }
        spi_choice choice = {spi_chain_penalize(o, spi_chain_clean(logits[id]), seen), (int32_t)id};
        if (some) {
            spi_chain_offer(choices, &offered, (size_t)o->top_k, choice);
        } else {
            choices[offered++] = choice;
        }
        probability[id] = 0;
    }
    size_t kept = spi_chain_keep(o, choices, offered, some);
    assert_true(kept >= 1 && kept <= vocab);
    for (size_t i = 0; i < kept; i++) {
        assert_true(choices[i].logit <= choices[0].logit);
        double weight = spi_chain_weight(choices[i].logit, choices[0].logit, o->temperature);
        probability[choices[i].id] = weight;
        total += weight;
    }
    for (uint32_t id = 0; id < vocab; id++) {
        probability[id] /= total;
    }
}

/* ---- golden numbers ---- */

static uint32_t read_logits(char *list, float *logits) {
    uint32_t count = 0;
    for (char *word = strtok(list, ",\n"); word; word = strtok(NULL, ",\n")) {
        uint32_t bits = (uint32_t)strtoul(word, NULL, 16);
        memcpy(&logits[count++], &bits, 4);
    }
    return count;
}

static void check_case(const sp_sampler_options *o, const float *logits, uint32_t vocab, char *accepted_list,
                       char *expected_list) {
    int32_t accepted[256];
    size_t count = 0;
    double got[VOCAB_MAX], expected[VOCAB_MAX] = {0};
    for (char *word = strtok(accepted_list, ",-"); word; word = strtok(NULL, ",-")) {
        accepted[count++] = (int32_t)strtol(word, NULL, 10);
    }
    for (char *word = strtok(expected_list, ",\n"); word; word = strtok(NULL, ",\n")) {
        char *probability;
        uint32_t id = (uint32_t)strtoul(word, &probability, 10);
        assert_true(id < vocab && *probability == ':');
        expected[id] = strtod(probability + 1, NULL);
    }
    chain_run(got, o, logits, vocab, accepted, count);
    for (uint32_t id = 0; id < vocab; id++) {
        /* What is kept is exactly the same; llama.cpp computes in single precision. */
        if ((got[id] > 0) != (expected[id] > 0) || fabs(got[id] - expected[id]) > 2e-6 * expected[id]) {
            fail_msg("id %u: %.9g, expected %.9g", id, got[id], expected[id]);
        }
    }
}

static void llama_cpp_agrees(void **state) {
    (void)state;
    static char line[65536], accepted[4096], expected[65536];
    float logits[VOCAB_MAX];
    uint32_t vocab = 0, cases = 0;
    FILE *file = fopen(test_source_path("tests/golden/sampler.txt"), "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        char name[64];
        sp_sampler_options o = {0};
        int at = 0;
        if (sscanf(line, "logits %63s %n", name, &at) == 1) {
            vocab = read_logits(line + at, logits);
        } else if (line[0] == 'c') {
            assert_int_equal(sscanf(line, "case %63s %f %d %f %f %f %f %f %d %4095s %65535s", name, &o.temperature,
                                    &o.top_k, &o.top_p, &o.min_p, &o.repeat_penalty, &o.frequency_penalty,
                                    &o.presence_penalty, &o.penalty_last, accepted, expected),
                             11);
            check_case(&o, logits, vocab, accepted, expected);
            cases++;
        }
    }
    fclose(file);
    assert_int_equal(cases, 63);
}

/* Every option alone, then all mixes at random, ties included. */
static void plain_model_agrees(void **state) {
    (void)state;
    static plain model;
    test_random random = test_random_seed(test_seed());
    for (int round = 0; round < 300; round++) {
        float logits[VOCAB_MAX];
        double got[VOCAB_MAX];
        int32_t accepted[100];
        uint32_t vocab = 1 + test_random_below(&random, 60),
                 mask = round < 7 ? 1u << round : test_random_below(&random, 128);
        sp_sampler_options o = {.temperature = 1};
        o.temperature = mask & 1 ? 0.3f + (float)test_random_below(&random, 20) / 10 : 1;
        o.top_k = mask & 2 ? (int32_t)test_random_below(&random, 70) : 0;
        o.top_p = mask & 4 ? 0.013f + (float)test_random_below(&random, 98) / 100 : 0;
        o.min_p = mask & 8 ? 0.0071f + (float)test_random_below(&random, 50) / 100 : 0;
        o.repeat_penalty = mask & 16 ? 0.5f + test_random_float(&random) * 0.4f + 0.8f : 0;
        o.frequency_penalty = mask & 32 ? test_random_float(&random) : 0;
        o.presence_penalty = mask & 64 ? test_random_float(&random) : 0;
        o.penalty_last = (int32_t)test_random_below(&random, 20);
        for (uint32_t id = 0; id < vocab; id++) {
            logits[id] = test_random_below(&random, 4) ? test_random_float(&random) * 6 : 1.5f;
        }
        for (size_t i = 0; i < 100; i++) {
            accepted[i] = (int32_t)test_random_below(&random, 30);
        }
        plain_run(&model, &o, logits, vocab, accepted, 100);
        chain_run(got, &o, logits, vocab, accepted, 100);
        for (uint32_t id = 0; id < vocab; id++) {
            if (fabs(got[id] - model.probability[id]) > 1e-5) {
                fail_msg("round %d, id %u of %u: %.9g, expected %.9g", round, id, vocab, got[id],
                         model.probability[id]);
            }
        }
    }
}

/* Pearson's statistic of many draws by sp_sampler_pick against the plain model; the bound is the mean plus 6 standard
 * deviations of chi-square with as many degrees of freedom. Ids that were left out must never come. */
static void draws_have_their_distribution(void **state) {
    (void)state;
    static plain model;
    const sp_sampler_options cases[] = {
        {.temperature = 1, .seed = 1},
        {.temperature = 0.5f, .seed = 2},
        {.temperature = 1, .top_k = 5, .seed = 3},
        {.temperature = 1.3f, .top_p = 0.8f, .seed = 4},
        {.temperature = 1, .min_p = 0.1f, .seed = 5},
        {.temperature = 0.9f,
         .top_k = 12,
         .top_p = 0.9f,
         .min_p = 0.05f,
         .repeat_penalty = 1.3f,
         .frequency_penalty = 0.2f,
         .presence_penalty = 0.1f,
         .penalty_last = 7,
         .seed = 6},
    };
    const int draws = 100000;
    test_random random = test_random_seed(11);
    float logits[24];
    int32_t accepted[12];
    for (size_t i = 0; i < 24; i++) {
        logits[i] = test_random_float(&random) * 2;
    }
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        int seen[24] = {0};
        sp_sampler *sampler = create(cases[c]);
        for (size_t i = 0; i < 12; i++) {
            accepted[i] = (int32_t)test_random_below(&random, 24);
            sp_sampler_accept(sampler, accepted[i]);
        }
        plain_run(&model, &cases[c], logits, 24, accepted, 12);
        for (int i = 0; i < draws; i++) {
            seen[sp_sampler_pick(sampler, logits, 24)]++;
        }
        double statistic = 0, freedom = -1;
        for (uint32_t id = 0; id < 24; id++) {
            double expected = model.probability[id] * draws;
            if (expected == 0) {
                assert_int_equal(seen[id], 0);
                continue;
            }
            statistic += (seen[id] - expected) * (seen[id] - expected) / expected;
            freedom++;
        }
        if (statistic > freedom + 6 * sqrt(2 * freedom) + 6) {
            fail_msg("case %zu: chi-square %.1f with %.0f degrees of freedom", c, statistic, freedom);
        }
        sp_sampler_destroy(sampler);
    }
}

static void greedy_takes_the_lowest_of_the_largest(void **state) {
    (void)state;
    sp_error error = {0};
    sp_sampler *sampler;
    TEST_OK(sp_sampler_create(NULL, &sampler, &error), error);
    assert_int_equal(sp_sampler_pick(sampler, (float[]){1, 3, 2, 3}, 4), 1);
    assert_int_equal(sp_sampler_pick(sampler, (float[]){-1, -3}, 2), 0);
    assert_int_equal(sp_sampler_pick(sampler, (float[]){NAN, -3, NAN}, 3), 1);
    assert_int_equal(sp_sampler_pick(sampler, (float[]){NAN, NAN}, 2), 0);
    assert_int_equal(sp_sampler_pick(sampler, (float[]){-INFINITY, -INFINITY}, 2), 0);
    assert_int_equal(sp_sampler_pick(sampler, (float[]){1, FLT_MAX, INFINITY}, 3), 1);
    assert_int_equal(sp_sampler_pick(sampler, (float[]){1, INFINITY, INFINITY}, 3), 1);
    assert_int_equal(sp_sampler_pick(sampler, (float[]){5}, 1), 0);
    sp_sampler_destroy(sampler);
    sp_sampler_destroy(NULL);

    /* Penalties come before the choice, and the window forgets. */
    sampler = create((sp_sampler_options){.presence_penalty = 2, .penalty_last = 2});
    const float logits[] = {3, 2, 1.5f};
    sp_sampler_accept(sampler, 0);
    assert_int_equal(sp_sampler_pick(sampler, logits, 3), 1);
    sp_sampler_accept(sampler, 1);
    assert_int_equal(sp_sampler_pick(sampler, logits, 3), 2);
    sp_sampler_accept(sampler, 2);
    assert_int_equal(sp_sampler_pick(sampler, logits, 3), 0);
    sp_sampler_accept(sampler, INT32_MIN); /* no id of any vocabulary: counts in the window and nowhere else */
    sp_sampler_accept(sampler, INT32_MAX);
    assert_int_equal(sp_sampler_pick(sampler, (float[]){2, 2.5f, 3}, 3), 2);
    sp_sampler_destroy(sampler);
}

/* Sizes around those that it works in, odd values in all places, many ties. */
static void greedy_is_a_plain_loop(void **state) {
    enum { MOST = 1600 };
    (void)state;
    static const float odd[] = {NAN, -NAN, INFINITY, -INFINITY, FLT_MAX, -FLT_MAX, 0, -0.0f, 1e-45f, -1e-45f, 3e38f};
    static float logits[MOST];
    test_random random = test_random_seed(test_seed());
    sp_error error = {0};
    sp_sampler *sampler;
    TEST_OK(sp_sampler_create(NULL, &sampler, &error), error);
    for (int round = 0; round < 2000; round++) {
        uint32_t count = 1 + test_random_below(&random, MOST), odd_in = 1 + test_random_below(&random, 400);
        int32_t best = 0;
        float largest = -INFINITY;
        for (uint32_t i = 0; i < count; i++) {
            logits[i] = test_random_below(&random, odd_in) ? (float)test_random_below(&random, 200) / 16 - 20
                                                           : odd[test_random_below(&random, 11)];
            float clean = spi_chain_clean(logits[i]);
            best = clean > largest ? (int32_t)i : best;
            largest = clean > largest ? clean : largest;
        }
        assert_int_equal(sp_sampler_pick(sampler, logits, count), best);
    }
    sp_sampler_destroy(sampler);
}

static void odd_logits_stay_in_range(void **state) {
    (void)state;
    static const float odd[] = {NAN,     INFINITY, -INFINITY, FLT_MAX, -FLT_MAX, 0,    -0.0f,
                                FLT_MIN, 1e-45f,   1,         -1,      88,       3e38f};
    test_random random = test_random_seed(test_seed());
    for (int round = 0; round < 3000; round++) {
        sp_sampler_options o = {.temperature = test_random_below(&random, 2) ? 1e-30f : 1e6f,
                                .top_k = (int32_t)test_random_below(&random, 12),
                                .top_p = (float)test_random_below(&random, 5) / 4,
                                .min_p = (float)test_random_below(&random, 5) / 4,
                                .repeat_penalty = (float)test_random_below(&random, 3) * 5e5f,
                                .frequency_penalty = test_random_float(&random) * 1e6f,
                                .seed = test_random_next(&random)};
        sp_sampler *sampler = create(o);
        float logits[10];
        uint32_t vocab = 1 + test_random_below(&random, 10);
        bool has_likely = false;
        for (uint32_t id = 0; id < vocab; id++) {
            logits[id] = odd[test_random_below(&random, sizeof odd / sizeof odd[0])];
            has_likely |= logits[id] > -INFINITY;
        }
        for (uint32_t id = 0; id < vocab; id++) {
            sp_sampler_accept(sampler, (int32_t)(id * 2));
            int32_t picked = sp_sampler_pick(sampler, logits, vocab);
            assert_true(picked >= 0 && (uint32_t)picked < vocab);
            assert_true(!has_likely || logits[picked] > -INFINITY); /* NaN and -infinity are never taken */
        }
        sp_sampler_destroy(sampler);
    }
}

typedef struct storm {
    _Atomic uint32_t *words;
    uint32_t count;
    atomic_bool stop;
} storm;

static void *rage(void *argument) {
    storm *s = argument;
    test_random random = test_random_seed(5);
    while (!atomic_load(&s->stop)) {
        atomic_store_explicit(&s->words[test_random_below(&random, s->count)], (uint32_t)test_random_next(&random),
                              memory_order_relaxed);
    }
    return NULL;
}

/* Another thread writes any bits to the logits while they are read: the result is some id, and nothing breaks. */
static void changing_logits_are_survived(void **state) {
    (void)state;
    static _Atomic uint32_t words[1000];
    storm s = {.words = words, .count = 1000};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, rage, &s), 0);
    for (uint64_t seed = 0; seed < 40; seed++) {
        sp_sampler *sampler = create((sp_sampler_options){.temperature = seed % 2 ? 1 : 0,
                                                          .top_k = seed % 3 ? 40 : 0,
                                                          .top_p = seed % 5 ? 0.9f : 0,
                                                          .min_p = seed % 7 ? 0.01f : 0,
                                                          .repeat_penalty = 1.1f,
                                                          .seed = seed});
        for (int i = 0; i < 20; i++) {
            int32_t picked = sp_sampler_pick(sampler, (const float *)(const void *)words, 1000);
            assert_true(picked >= 0 && picked < 1000);
            sp_sampler_accept(sampler, picked);
        }
        sp_sampler_destroy(sampler);
    }
    atomic_store(&s.stop, true);
    pthread_join(thread, NULL);
}

/* The draws that the golden file's script computed on its own. */
static void read_draws(int32_t expected[64]) {
    static char line[65536];
    size_t count = 0;
    FILE *file = fopen(test_source_path("tests/golden/sampler.txt"), "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        for (char *word = strncmp(line, "draws 42 ", 9) ? NULL : strtok(line + 9, ",\n"); word;
             word = strtok(NULL, ",\n")) {
            assert_true(count < 64);
            expected[count++] = (int32_t)strtol(word, NULL, 10);
        }
    }
    fclose(file);
    assert_int_equal(count, 64);
}

/* The first numbers of SplitMix64 for seed 0, and of xoshiro256++ for the state 1, 2, 3, 4, are published with them. */
static void seeds_give_the_same_everywhere(void **state) {
    (void)state;
    spi_random random = spi_random_seed(0);
    assert_int_equal(random.state[0], 0xe220a8397b1dcdafu);
    assert_int_equal(random.state[1], 0x6e789e6aa1b965f4u);
    assert_int_equal(random.state[2], 0x06c45d188009454fu);
    assert_int_equal(random.state[3], 0xf88bb8a8724c81ecu);
    spi_random known = {{1, 2, 3, 4}};
    assert_int_equal(spi_random_next(&known), 41943041u);
    assert_int_equal(spi_random_next(&known), 58720359u);

    float logits[50];
    for (int i = 0; i < 50; i++) {
        logits[i] = (float)(i * 37 % 50) / 16;
    }
    sp_sampler *one = create((sp_sampler_options){.temperature = 1, .seed = 42});
    sp_sampler *same = create((sp_sampler_options){.temperature = 1, .seed = 42});
    sp_sampler *other = create((sp_sampler_options){.temperature = 1, .seed = 43});
    int differ = 0;
    int32_t expected[64];
    read_draws(expected);
    for (size_t i = 0; i < 64; i++) {
        int32_t picked = sp_sampler_pick(one, logits, 50);
        assert_int_equal(picked, sp_sampler_pick(same, logits, 50));
        differ += picked != sp_sampler_pick(other, logits, 50);
        assert_int_equal(picked, expected[i]);
    }
    assert_true(differ > 32);
    sp_sampler_destroy(one);
    sp_sampler_destroy(same);
    sp_sampler_destroy(other);
}

static void own_exp_is_exact(void **state) {
    (void)state;
    test_random random = test_random_seed(3);
    for (int i = 0; i < 200000; i++) {
        double x = -(double)test_random_below(&random, 1u << 30) / (1u << (i % 31)) * 0.7, expected = exp(x);
        if (x > -708) {
            assert_true(fabs(spi_chain_exp(x) - expected) <= 4 * DBL_EPSILON * expected);
        } else {
            assert_true(spi_chain_exp(x) == 0);
        }
    }
    assert_true(spi_chain_exp(0) == 1 && spi_chain_exp(-INFINITY) == 0);
}

static void bad_options_are_named(void **state) {
    (void)state;
    const struct {
        sp_sampler_options options;
        const char *word;
    } cases[] = {
        {{.temperature = -1}, "temperature"},
        {{.temperature = NAN}, "temperature"},
        {{.temperature = INFINITY}, "temperature"},
        {{.top_k = -1}, "top_k"},
        {{.top_p = 1.1f}, "top_p"},
        {{.top_p = -0.1f}, "top_p"},
        {{.min_p = 2}, "min_p"},
        {{.min_p = NAN}, "min_p"},
        {{.repeat_penalty = -1}, "repeat_penalty"},
        {{.repeat_penalty = INFINITY}, "repeat_penalty"},
        {{.frequency_penalty = NAN}, "frequency"},
        {{.presence_penalty = -INFINITY}, "presence"},
        {{.penalty_last = 4097}, "penalty_last"},
        {{.penalty_last = -1}, "penalty_last"},
        {{.reserved = 1}, "reserved"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sp_error error = {0};
        sp_sampler *sampler;
        assert_int_equal(sp_sampler_create(&cases[i].options, &sampler, &error), SP_INVALID);
        assert_null(sampler);
        assert_non_null(strstr(error.message, cases[i].word));
    }
}

static void no_memory_is_greedy(void **state) {
    (void)state;
    sp_sampler_options o = {.temperature = 1, .repeat_penalty = 2, .seed = 1};
    sp_sampler *sampler;
    sp_error error = {0};
    for (long n = 0; n < 3; n++) {
        spi_memory_fail_after(n);
        assert_int_equal(sp_sampler_create(&o, &sampler, &error), SP_NO_MEMORY);
        assert_null(sampler);
    }
    spi_memory_fail_after(-1);
    sampler = create(o);
    for (int i = 0; i < 100; i++) {
        spi_memory_fail_after(0);
        assert_int_equal(sp_sampler_pick(sampler, (float[]){1, 1.1f, 1}, 3), 1);
    }
    spi_memory_fail_after(-1);
    sp_sampler_destroy(sampler);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_cpp_agrees),
        cmocka_unit_test(plain_model_agrees),
        cmocka_unit_test(draws_have_their_distribution),
        cmocka_unit_test(greedy_takes_the_lowest_of_the_largest),
        cmocka_unit_test(greedy_is_a_plain_loop),
        cmocka_unit_test(odd_logits_stay_in_range),
        cmocka_unit_test(changing_logits_are_survived),
        cmocka_unit_test(seeds_give_the_same_everywhere),
        cmocka_unit_test(own_exp_is_exact),
        cmocka_unit_test(bad_options_are_named),
        cmocka_unit_test(no_memory_is_greedy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
