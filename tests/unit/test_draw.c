/* tests/unit/test_draw.c - picks by noise: their distribution against the softmax in double, the arithmetic against
 * double and against numbers that every machine must make, logits that are hostile; and batches of sessions that
 * pick. */
#include "support/session_rig.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sampler/draw.h"
#include "support/support.h"

#define VOCAB 200u

static sp_sampler *sampler_of(sp_sampler_options options) {
    sp_sampler *sampler;
    sp_error error = {0};
    TEST_OK(sp_sampler_create(&options, &sampler, &error), error);
    return sampler;
}

static spi_draw draw_of(sp_sampler_options options, uint32_t position) {
    sp_sampler *sampler = sampler_of(options);
    spi_draw draw;
    assert_true(spi_sampler_draw(sampler, position, &draw));
    sp_sampler_destroy(sampler);
    return draw;
}

static void fill(float *logits, uint32_t count, float size) {
    uint64_t state = 99;
    for (uint32_t i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        logits[i] = (float)((double)(state >> 11) * 0x1p-53 - 0.5) * size;
    }
}

static void test_logarithm(void **state) {
    (void)state;
    for (uint32_t bits = 0x00800000u; bits < 0x7f800000u; bits += 104729u) {
        float x = spi_draw_float(bits), mine = spi_draw_log(x);
        double exact = log((double)x), size = fmax(1, fabs(exact));
        assert_true(fabs((double)mine - exact) <= 2e-7 * size);
    }
}

/* -ln(-ln(1 - v)) of the same v, in double: as near as 1 - v in f32 allows, which is close where the noise is large.
 * And its extremes are no further apart than SPI_DRAW_SPAN says. */
static void test_noise(void **state) {
    (void)state;
    for (uint32_t token = 0; token < 200000; token++) {
        double v = ((double)(uint32_t)(spi_draw_mix(7 + token * 0x9e3779b97f4a7c15u) >> 32) + 0.5) * 0x1p-32;
        double wait = -log1p(-v), error = fabs((double)spi_draw_noise(7, token) + log(wait));
        assert_true(error <= 1e-6 + 0x1p-24 / ((1 - v) * wait));
    }
    double most = -log(0.5 * 0x1p-32), least = -log(25 * log(2));
    assert_true(most - least < (double)SPI_DRAW_SPAN);
}

/* What tokens are worth to a softmax with these options. */
static void weigh(const float *logits, sp_sampler_options options, double *weights) {
    float top = logits[0];
    for (uint32_t i = 1; i < VOCAB; i++) {
        top = logits[i] > top ? logits[i] : top; /* gcc 12 for aarch64 cannot compile fmax in this place */
    }
    double largest = (double)top;
    double low = options.min_p > 0 ? largest + log((double)options.min_p) : -INFINITY;
    for (uint32_t i = 0; i < VOCAB; i++) {
        double logit = (double)logits[i];
        weights[i] = logit >= low ? exp((logit - largest) / (double)options.temperature) : 0;
    }
}

/* Chi-square of draws at many positions; the bound is passed by chance once in some 10^6 runs, and the draws are always
 * the same. */
static void check_distribution(const float *logits, sp_sampler_options options, uint32_t draws) {
    static uint32_t counts[VOCAB];
    static double weights[VOCAB];
    double total = 0, chi = 0, rest = 0, rest_count = 0;
    uint32_t bins = 0;
    memset(counts, 0, sizeof counts);
    for (uint32_t i = 0; i < draws; i++) {
        spi_draw draw = draw_of(options, i);
        counts[spi_draw_pick(&draw, logits, VOCAB)]++;
    }
    weigh(logits, options, weights);
    for (uint32_t i = 0; i < VOCAB; i++) {
        total += weights[i];
    }
    for (uint32_t i = 0; i < VOCAB; i++) {
        double expected = weights[i] / total * draws;
        assert_true(expected > 0 || !counts[i]);
        if (expected >= 10) {
            weights[bins] = expected;
            counts[bins++] = counts[i];
        } else { /* too few by themselves */
            rest += expected;
            rest_count += counts[i];
        }
    }
    for (uint32_t i = 0; i < bins; i++) {
        chi += (counts[i] - weights[i]) * (counts[i] - weights[i]) / weights[i];
    }
    if (rest > 0) {
        chi += (rest_count - rest) * (rest_count - rest) / rest;
        bins++;
    }
    /* Wilson and Hilferty: (chi / n)^(1/3) is normal around 1 - 2 / 9 n with a variance of 2 / 9 n. */
    double n = bins - 1, deviation = (cbrt(chi / n) - (1 - 2 / (9 * n))) / sqrt(2 / (9 * n));
    print_message("temperature %g, min_p %g: chi-square %.1f of %d, %.2f deviations\n", (double)options.temperature,
                  (double)options.min_p, chi, (int)bins - 1, deviation);
    assert_true(deviation < 4.8);
}

static void test_distribution(void **state) {
    (void)state;
    float logits[VOCAB];
    fill(logits, VOCAB, 12);
    check_distribution(logits, (sp_sampler_options){.temperature = 1, .seed = 1}, 200000);
    check_distribution(logits, (sp_sampler_options){.temperature = 0.6f, .seed = 2}, 100000);
    check_distribution(logits, (sp_sampler_options){.temperature = 2.5f, .seed = 3, .top_p = 1}, 200000);
    check_distribution(logits, (sp_sampler_options){.temperature = 1, .seed = 4, .min_p = 0.1f}, 100000);
}

/* What a machine picks, every machine picks: these were made on x86-64. */
static void test_same_everywhere(void **state) {
    (void)state;
    static const int32_t expected[] = {2262, 1299, 4612, 4939, 3285, 1092, 3287, 2013};
    static float logits[5000];
    fill(logits, 5000, 4);
    for (uint32_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        spi_draw draw = draw_of((sp_sampler_options){.temperature = 0.8f, .seed = 42}, i);
        assert_int_equal(spi_draw_pick(&draw, logits, 5000), expected[i]);
    }
}

static void test_which_can(void **state) {
    (void)state;
    static const struct {
        sp_sampler_options options;
        bool can;
    } cases[] = {
        {{0}, true},
        {{.top_k = 40, .top_p = 0.9f}, true}, /* greedy all the same */
        {{.temperature = 1}, true},
        {{.temperature = 1, .min_p = 0.05f}, true},
        {{.temperature = 1, .top_p = 1}, true},
        {{.temperature = 1, .top_k = 40}, false},
        {{.temperature = 1, .top_p = 0.9f}, false},
        {{.repeat_penalty = 1.1f}, false},
        {{.temperature = 1, .presence_penalty = 1}, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sp_sampler *sampler = sampler_of(cases[i].options);
        spi_draw draw;
        assert_int_equal(spi_sampler_draw(sampler, 5, &draw), cases[i].can);
        sp_sampler_destroy(sampler);
    }
}

static void test_hostile(void **state) {
    (void)state;
    static const float temperatures[] = {0, 1e-45f, 1e-3f, 1, 1e6f};
    for (size_t t = 0; t < sizeof temperatures / sizeof temperatures[0]; t++) {
        float logits[6] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY};
        spi_draw draw = draw_of((sp_sampler_options){.temperature = temperatures[t]}, 3);
        assert_int_equal(spi_draw_pick(&draw, logits, 6), 0);
        logits[1] = NAN, logits[2] = 3;
        assert_int_equal(spi_draw_pick(&draw, logits, 6), 2);
        logits[4] = INFINITY;
        assert_int_equal(spi_draw_pick(&draw, logits, 6), 4);
        logits[2] = -FLT_MAX, logits[4] = -FLT_MAX;
        int32_t token = spi_draw_pick(&draw, logits, 6);
        assert_true(token == 2 || token == 4);
    }
    float close[2] = {100, 100.0001f}; /* hardly any temperature is none */
    spi_draw draw = draw_of((sp_sampler_options){.temperature = 1e-40f}, 3);
    assert_int_equal(spi_draw_pick(&draw, close, 2), 1);
}

/* ---- batches ---- */

#define SESSIONS 4u

/* Sessions that append, and pick with a sampler each, some of which keep their logits; beside the same by append and by
 * picking from the logits. */
static void test_batch(void **state) {
    (void)state;
    static const sp_sampler_options options[SESSIONS] = {
        {0}, {.temperature = 1, .seed = 5}, {.temperature = 0.9f, .top_k = 20, .seed = 6}, {.repeat_penalty = 1.3f}};
    sp_session *together[SESSIONS], *alone[SESSIONS];
    sp_sampler *samplers[SESSIONS], *others[SESSIONS];
    int32_t tokens[20], last[SESSIONS];
    uint32_t vocab = test_model_vocab(test_rig.demo);
    test_tokens(test_rig.demo, 3, tokens, 20);
    for (uint32_t i = 0; i < SESSIONS; i++) {
        together[i] = test_session_create(test_rig.demo, test_rig.cpu, 200, 1);
        alone[i] = test_session_create(test_rig.demo, test_rig.cpu, 200, 1);
        samplers[i] = sampler_of(options[i]);
        others[i] = sampler_of(options[i]);
    }
    for (uint32_t step = 0; step < 12; step++) {
        sp_append parts[SESSIONS];
        sp_error error = {0};
        for (uint32_t i = 0; i < SESSIONS; i++) {
            parts[i] = (sp_append){.session = together[i],
                                   .tokens = step ? &last[i] : tokens,
                                   .token_count = step ? 1 : 3 + i,
                                   .logits = (step + i) % 3 ? SP_LOGITS_NONE : SP_LOGITS_LAST,
                                   .sampler = samplers[i]};
        }
        TEST_OK(sp_session_append_batch(parts, SESSIONS, NULL, NULL, &error), error);
        for (uint32_t i = 0; i < SESSIONS; i++) {
            test_session_append(alone[i], parts[i].tokens, parts[i].token_count, SP_LOGITS_LAST);
            spi_draw draw;
            int32_t expected;
            if (spi_sampler_draw(others[i], sp_session_token_count(alone[i]), &draw)) {
                expected = spi_draw_pick(&draw, sp_session_logits(alone[i], 0), vocab);
            } else {
                expected = sp_sampler_pick(others[i], sp_session_logits(alone[i], 0), vocab);
            }
            sp_sampler_accept(others[i], expected);
            assert_int_equal(parts[i].token, expected);
            assert_int_equal(sp_session_logits_rows(together[i]), parts[i].logits == SP_LOGITS_LAST);
        }
        for (uint32_t i = 0; i < SESSIONS; i++) {
            last[i] = parts[i].token;
        }
    }
    for (uint32_t i = 0; i < SESSIONS; i++) {
        sp_session_destroy(together[i]);
        sp_session_destroy(alone[i]);
        sp_sampler_destroy(samplers[i]);
        sp_sampler_destroy(others[i]);
    }
}

/* A part that is refused accepts nothing; one without tokens picks nothing. */
static void test_refused(void **state) {
    (void)state;
    sp_session *session = test_session_create(test_rig.demo, test_rig.cpu, 4, 1);
    sp_sampler *sampler =
        sampler_of((sp_sampler_options){.temperature = 1, .top_k = 5, .seed = 9, .presence_penalty = 1});
    sp_sampler *fresh =
        sampler_of((sp_sampler_options){.temperature = 1, .top_k = 5, .seed = 9, .presence_penalty = 1});
    int32_t tokens[5] = {1, 2, 3, 4, 5};
    sp_error error = {0};
    sp_append part = {.session = session, .tokens = tokens, .token_count = 5, .sampler = sampler, .token = -7};
    assert_int_equal(sp_session_append_batch(&part, 1, NULL, NULL, &error), SP_CONTEXT_FULL);
    assert_int_equal(part.token, -7);
    part.token_count = 0;
    TEST_OK(sp_session_append_batch(&part, 1, NULL, NULL, &error), error);
    assert_int_equal(part.token, -7);
    part.token_count = 3;
    TEST_OK(sp_session_append_batch(&part, 1, NULL, NULL, &error), error);
    assert_int_equal(part.token,
                     sp_sampler_pick(fresh, sp_session_logits(session, 0), test_model_vocab(test_rig.demo)));
    sp_sampler_destroy(sampler);
    sp_sampler_destroy(fresh);
    sp_session_destroy(session);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logarithm),       cmocka_unit_test(test_noise),     cmocka_unit_test(test_distribution),
        cmocka_unit_test(test_same_everywhere), cmocka_unit_test(test_which_can), cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_batch),           cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, test_rig_open, test_rig_close);
}
