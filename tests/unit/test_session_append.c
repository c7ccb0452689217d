/* What a session computes: the same logits however its tokens came, alone or beside others; and what it refuses.
 *
 * Comparisons are exact on the reference device, and with packed weights, whose rows are rounded to 8 bits and
 * multiplied each by itself. Fast kernels for F32 weights add in an order that depends on how many rows a run has. */
#include "support/session_rig.h"

#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "support/support.h"

#define LONG_COUNT 700u /* more than one run of 512 rows, and no multiple of a block */
#define ROWS_COUNT 100u

/* Where sums in f32 differ in their last bits, a K or V number that lay between two f16 is stored as the other one: a
 * step of at most 2^-10 of it. If that happened to all of them at once, in K and in V of both layers of the tiny model,
 * and every step reached the logits whole, these were off by four steps. A token too many or too few, or a row at a
 * wrong position, moves them by about as much as they are large. */
#define F32_SHARE (4 * 0x1p-10)

/* A model on a device, and how far apart logits may be there, as a share of their root mean square. */
typedef struct setting {
    const char *name;
    sp_model *model;
    sp_device *device;
    double share;
} setting;

static uint32_t settings(setting out[3]) {
    out[0] = (setting){"tiny, reference", test_rig.tiny, test_rig.reference, 0};
    out[1] = (setting){"tiny, best", test_rig.tiny, test_rig.cpu, F32_SHARE};
    out[2] = (setting){"demo, best", test_rig.demo, test_rig.cpu, 0};
    return 3;
}

static void assert_agree(const setting *where, const float *a, const float *b, size_t count) {
    double distance = test_distance(a, b, count), allowed = where->share * test_rms(a, count);
    if (!(distance <= allowed)) {
        print_error("%s: logits differ by %g, allowed are %g\n", where->name, distance, allowed);
    }
    assert_true(distance <= allowed);
}

/* Appends in chunks of the given sizes, over and over; the last chunk is what is left. */
static void append_in_chunks(sp_session *session, const int32_t *tokens, uint32_t count, const uint32_t *sizes,
                             uint32_t size_count) {
    for (uint32_t at = 0, turn = 0; at < count; turn++) {
        uint32_t chunk = sizes[turn % size_count];
        chunk = chunk < count - at ? chunk : count - at;
        test_session_append(session, tokens + at, chunk, at + chunk == count ? SP_LOGITS_LAST : SP_LOGITS_NONE);
        at += chunk;
    }
    assert_int_equal(sp_session_token_count(session), count);
    assert_memory_equal(sp_session_tokens(session), tokens, count * sizeof *tokens);
}

static void test_chunks(void **state) {
    (void)state;
    static const uint32_t whole[] = {LONG_COUNT}, odd[] = {7, 64, 65, 1, 129, 3}, runs[] = {512, 1};
    static const struct {
        const uint32_t *sizes;
        uint32_t count;
    } ways[] = {{odd, 6}, {runs, 2}};
    setting all[3];
    for (uint32_t i = 1; i < settings(all); i++) { /* the reference is too slow for this many */
        int32_t tokens[LONG_COUNT];
        test_tokens(all[i].model, 1, tokens, LONG_COUNT);
        sp_session *at_once = test_session_create(all[i].model, all[i].device, LONG_COUNT, 1);
        append_in_chunks(at_once, tokens, LONG_COUNT, whole, 1);
        for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
            sp_session *session = test_session_create(all[i].model, all[i].device, LONG_COUNT, 1);
            append_in_chunks(session, tokens, LONG_COUNT, ways[way].sizes, ways[way].count);
            assert_agree(&all[i], sp_session_logits(at_once, 0), sp_session_logits(session, 0),
                         test_model_vocab(all[i].model));
            sp_session_destroy(session);
        }
        sp_session_destroy(at_once);
    }
}

/* The rows of SP_LOGITS_ALL are those that each token had got as the last one. */
static void test_token_by_token(void **state) {
    (void)state;
    setting all[3];
    for (uint32_t i = 0; i < settings(all); i++) {
        uint32_t vocab = test_model_vocab(all[i].model);
        int32_t tokens[ROWS_COUNT];
        test_tokens(all[i].model, 2, tokens, ROWS_COUNT);
        sp_session *rows = test_session_create(all[i].model, all[i].device, ROWS_COUNT, ROWS_COUNT);
        sp_session *single = test_session_create(all[i].model, all[i].device, ROWS_COUNT, 1);
        test_session_append(rows, tokens, ROWS_COUNT, SP_LOGITS_ALL);
        assert_int_equal(sp_session_logits_rows(rows), ROWS_COUNT);
        assert_null(sp_session_logits(rows, ROWS_COUNT));
        for (uint32_t token = 0; token < ROWS_COUNT; token++) {
            test_session_append(single, tokens + token, 1, SP_LOGITS_LAST);
            assert_int_equal(sp_session_logits_rows(single), 1);
            assert_agree(&all[i], sp_session_logits(rows, token), sp_session_logits(single, 0), vocab);
        }
        sp_session_destroy(single);
        sp_session_destroy(rows);
    }
}

/* SP_LOGITS_ALL over more than one run: the second run's rows come behind the first's. */
static void test_rows_over_runs(void **state) {
    (void)state;
    setting all[3];
    settings(all);
    int32_t tokens[LONG_COUNT];
    test_tokens(test_rig.tiny, 3, tokens, LONG_COUNT);
    sp_session *rows = test_session_create(test_rig.tiny, test_rig.cpu, LONG_COUNT, LONG_COUNT);
    sp_session *single = test_session_create(test_rig.tiny, test_rig.cpu, LONG_COUNT, 1);
    test_session_append(rows, tokens, LONG_COUNT, SP_LOGITS_ALL);
    static const uint32_t places[] = {0, 510, 511, 512, 513, LONG_COUNT - 1};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        uint32_t from = sp_session_token_count(single);
        test_session_append(single, tokens + from, places[i] + 1 - from, SP_LOGITS_LAST);
        assert_agree(&all[1], sp_session_logits(rows, places[i]), sp_session_logits(single, 0),
                     test_model_vocab(test_rig.tiny));
    }
    sp_session_destroy(single);
    sp_session_destroy(rows);
}

#define MIX_COUNT 5u

/* Five conversations of different lengths: some get a long prompt, some one token, one nothing, in the same batch; in
 * the end each has what it would have got alone. */
static void check_mix(const setting *where) {
    static const uint32_t before[MIX_COUNT] = {0, 33, 64, 5, 100}, added[MIX_COUNT] = {600, 1, 1, 0, 37};
    static const sp_logits wanted[MIX_COUNT] = {SP_LOGITS_LAST, SP_LOGITS_LAST, SP_LOGITS_ALL, SP_LOGITS_LAST,
                                                SP_LOGITS_ALL};
    uint32_t vocab = test_model_vocab(where->model);
    int32_t tokens[MIX_COUNT][LONG_COUNT];
    sp_session *sessions[MIX_COUNT], *alone[MIX_COUNT];
    sp_append parts[MIX_COUNT];
    for (uint32_t i = 0; i < MIX_COUNT; i++) {
        test_tokens(where->model, 10 + i, tokens[i], LONG_COUNT);
        sessions[i] = test_session_create(where->model, where->device, LONG_COUNT, 40);
        alone[i] = test_session_create(where->model, where->device, LONG_COUNT, 40);
        test_session_append(sessions[i], tokens[i], before[i], SP_LOGITS_LAST);
        test_session_append(alone[i], tokens[i], before[i], SP_LOGITS_LAST);
        test_session_append(alone[i], tokens[i] + before[i], added[i], wanted[i]);
        parts[i] = (sp_append){.session = sessions[i],
                               .tokens = tokens[i] + before[i],
                               .token_count = added[i],
                               .logits = wanted[i],
                               .status = SP_INTERNAL};
    }
    sp_error error = {0};
    TEST_OK(sp_session_append_batch(parts, MIX_COUNT, NULL, NULL, &error), error);
    for (uint32_t i = 0; i < MIX_COUNT; i++) {
        assert_int_equal(parts[i].status, SP_OK);
        assert_int_equal(sp_session_token_count(sessions[i]), before[i] + added[i]);
        assert_int_equal(sp_session_logits_rows(sessions[i]), sp_session_logits_rows(alone[i]));
        for (uint32_t row = 0; row < sp_session_logits_rows(alone[i]); row++) {
            assert_agree(where, sp_session_logits(alone[i], row), sp_session_logits(sessions[i], row), vocab);
        }
        sp_session_destroy(alone[i]);
        sp_session_destroy(sessions[i]);
    }
}

static void test_mixed_batch(void **state) {
    (void)state;
    setting all[3];
    for (uint32_t i = 0; i < settings(all); i++) {
        check_mix(&all[i]);
    }
}

/* Going back and forward again is as if the tokens in between had never been; and a session's own tokens may be what is
 * appended. */
static void test_truncate(void **state) {
    (void)state;
    int32_t tokens[200], other[200];
    uint32_t vocab = test_model_vocab(test_rig.tiny);
    test_tokens(test_rig.tiny, 4, tokens, 200);
    test_tokens(test_rig.tiny, 5, other, 200);
    sp_session *straight = test_session_create(test_rig.tiny, test_rig.reference, 200, 1);
    sp_session *wandering = test_session_create(test_rig.tiny, test_rig.reference, 200, 1);
    test_session_append(straight, tokens, 200, SP_LOGITS_LAST);
    test_session_append(wandering, tokens, 100, SP_LOGITS_LAST);
    test_session_append(wandering, other, 100, SP_LOGITS_LAST);
    assert_int_not_equal(memcmp(sp_session_logits(straight, 0), sp_session_logits(wandering, 0), vocab * sizeof(float)),
                         0);
    static const uint32_t places[] = {100, 64, 63, 1, 0, 199};
    sp_error error = {0};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        TEST_OK(sp_session_truncate(wandering, places[i], &error), error);
        assert_int_equal(sp_session_token_count(wandering), places[i]);
        assert_null(sp_session_logits(wandering, 0));
        test_session_append(wandering, tokens + places[i], 200 - places[i], SP_LOGITS_LAST);
        assert_memory_equal(sp_session_logits(straight, 0), sp_session_logits(wandering, 0), vocab * sizeof(float));
    }
    assert_int_equal(sp_session_truncate(wandering, 201, &error), SP_INVALID);
    TEST_OK(sp_session_truncate(wandering, 200, &error), error);
    assert_non_null(sp_session_logits(wandering, 0)); /* nothing was forgotten */
    TEST_OK(sp_session_truncate(wandering, 120, &error), error);
    test_session_append(wandering, sp_session_tokens(wandering) + 120, 80, SP_LOGITS_LAST);
    assert_memory_equal(sp_session_logits(straight, 0), sp_session_logits(wandering, 0), vocab * sizeof(float));
    TEST_OK(sp_session_truncate(wandering, 120, &error), error);
    test_session_append(wandering, sp_session_tokens(wandering) + 100, 80, SP_LOGITS_LAST);
    assert_memory_equal(sp_session_tokens(wandering) + 120, tokens + 100, 80 * sizeof *tokens);
    sp_session_destroy(wandering);
    sp_session_destroy(straight);
}

/* What is asked wrongly changes nothing, the logits of before included. */
static void assert_refused(sp_session *session, const int32_t *tokens, uint32_t count, sp_logits logits,
                           sp_status expected, const char *word) {
    sp_error error = {0};
    uint32_t tokens_before = sp_session_token_count(session), vocab = test_model_vocab(test_rig.tiny);
    float *copy = malloc(vocab * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, sp_session_logits(session, 0), vocab * sizeof *copy);
    assert_int_equal(sp_session_append(session, tokens, count, logits, &error), expected);
    assert_int_equal(error.status, expected);
    if (!strstr(error.message, word)) {
        fail_msg("no \"%s\" in: %s", word, error.message);
    }
    assert_int_equal(sp_session_append(session, tokens, count, logits, NULL), expected);
    assert_int_equal(sp_session_token_count(session), tokens_before);
    assert_int_equal(sp_session_logits_rows(session), 1);
    assert_memory_equal(copy, sp_session_logits(session, 0), vocab * sizeof *copy);
    free(copy);
}

static void test_refusals(void **state) {
    (void)state;
    int32_t tokens[100], bad[3] = {1, 2, (int32_t)test_model_vocab(test_rig.tiny)};
    test_tokens(test_rig.tiny, 6, tokens, 100);
    sp_session *session = test_session_create(test_rig.tiny, test_rig.cpu, 70, 4);
    test_session_append(session, tokens, 60, SP_LOGITS_LAST);
    assert_refused(session, tokens, 11, SP_LOGITS_LAST, SP_CONTEXT_FULL, "70");
    assert_refused(session, tokens, UINT32_MAX, SP_LOGITS_LAST, SP_CONTEXT_FULL, "60");
    assert_refused(session, tokens, 5, SP_LOGITS_ALL, SP_LIMIT, "4");
    assert_refused(session, bad, 3, SP_LOGITS_LAST, SP_INVALID, "token 2 is 259");
    bad[0] = -1;
    assert_refused(session, bad, 1, SP_LOGITS_NONE, SP_INVALID, "-1");
    assert_refused(session, tokens, 1, (sp_logits)3, SP_INVALID, "3");
    test_session_append(session, NULL, 0, SP_LOGITS_ALL); /* nothing, and the logits stay */
    assert_int_equal(sp_session_logits_rows(session), 1);
    test_session_append(session, tokens, 10, SP_LOGITS_NONE); /* to the last place */
    assert_int_equal(sp_session_logits_rows(session), 0);
    assert_int_equal(sp_session_token_count(session), 70);
    sp_error error = {0};
    assert_int_equal(sp_session_append(session, tokens, 1, SP_LOGITS_LAST, &error), SP_CONTEXT_FULL);
    sp_sampler *sampler = NULL;
    int32_t token;
    TEST_OK(sp_sampler_create(NULL, &sampler, &error), error);
    assert_int_equal(sp_session_sample(session, sampler, &token, &error), SP_INVALID);
    sp_sampler_destroy(sampler);
    sp_session_destroy(session);
}

/* Wrong parts are refused one by one, and the others get what they wanted. */
static void test_refused_parts(void **state) {
    (void)state;
    int32_t tokens[80], bad = -5;
    test_tokens(test_rig.tiny, 7, tokens, 80);
    sp_session *good = test_session_create(test_rig.tiny, test_rig.cpu, 80, 1),
               *full = test_session_create(test_rig.tiny, test_rig.cpu, 8, 1);
    sp_session *wrong = test_session_create(test_rig.tiny, test_rig.cpu, 80, 1);
    sp_session *other_model = test_session_create(test_rig.demo, test_rig.cpu, 80, 1);
    sp_session *other_device = test_session_create(test_rig.tiny, test_rig.reference, 80, 1);
    sp_session *late = test_session_create(test_rig.tiny, test_rig.cpu, 80, 1);
    sp_append parts[] = {
        {.session = good, .tokens = tokens, .token_count = 80},
        {.session = full, .tokens = tokens, .token_count = 9},
        {.session = wrong, .tokens = &bad, .token_count = 1},
        {.session = good, .tokens = tokens, .token_count = 1},
        {.session = other_model, .tokens = tokens, .token_count = 1},
        {.session = other_device, .tokens = tokens, .token_count = 1},
        {.session = late, .tokens = tokens, .token_count = 80},
    };
    static const sp_status expected[] = {SP_OK, SP_CONTEXT_FULL, SP_INVALID, SP_INVALID, SP_INVALID, SP_INVALID, SP_OK};
    static const uint32_t counts[] = {80, 0, 0, 80, 0, 0, 80};
    sp_error error = {0};
    assert_int_equal(sp_session_append_batch(parts, 7, NULL, NULL, &error), SP_CONTEXT_FULL);
    assert_int_equal(error.status, SP_CONTEXT_FULL); /* the first failure is what is told */
    assert_non_null(strstr(error.message, "8 tokens is full"));
    for (uint32_t i = 0; i < 7; i++) {
        assert_int_equal(parts[i].status, expected[i]);
        assert_int_equal(sp_session_token_count(parts[i].session), counts[i]);
    }
    assert_memory_equal(sp_session_logits(good, 0), sp_session_logits(late, 0),
                        test_model_vocab(test_rig.tiny) * sizeof(float));
    assert_int_equal(sp_session_append_batch(NULL, 0, NULL, NULL, &error), SP_OK);
    sp_session *gone[] = {good, full, wrong, other_model, other_device, late};
    for (size_t i = 0; i < 6; i++) {
        sp_session_destroy(gone[i]);
    }
}

/* Stops at the n-th question. */
static int stop_at(void *env) {
    int *left = env;
    return (*left)-- == 0;
}

static void test_cancel(void **state) {
    (void)state;
    enum { COUNT = 1200 };
    setting all[3];
    settings(all);
    static int32_t tokens[COUNT];
    test_tokens(test_rig.tiny, 8, tokens, COUNT);
    sp_session *whole = test_session_create(test_rig.tiny, test_rig.cpu, COUNT, 1);
    sp_session *cut = test_session_create(test_rig.tiny, test_rig.cpu, COUNT, 1);
    sp_session *brief = test_session_create(test_rig.tiny, test_rig.cpu, COUNT, 1);
    test_session_append(whole, tokens, COUNT, SP_LOGITS_LAST);
    sp_append parts[] = {{.session = cut, .tokens = tokens, .token_count = COUNT},
                         {.session = brief, .tokens = tokens, .token_count = 2}};
    sp_error error = {0};
    int questions = 1; /* lets the second run begin */
    assert_int_equal(sp_session_append_batch(parts, 2, stop_at, &questions, &error), SP_CANCELLED);
    assert_int_equal(error.status, SP_CANCELLED);
    assert_int_equal(parts[0].status, SP_CANCELLED);
    assert_int_equal(parts[1].status, SP_OK); /* it was done in the first run */
    assert_int_equal(sp_session_token_count(brief), 2);
    assert_int_equal(sp_session_logits_rows(brief), 1);
    uint32_t done = sp_session_token_count(cut);
    assert_in_range(done, 64 + 512, 2 * 512 - 2); /* the first has as much of it as takes a moment, then none waits */
    assert_int_equal(sp_session_logits_rows(cut), 0);
    assert_memory_equal(sp_session_tokens(cut), tokens, done * sizeof *tokens);
    test_session_append(cut, tokens + done, COUNT - done, SP_LOGITS_LAST);
    assert_agree(&all[1], sp_session_logits(whole, 0), sp_session_logits(cut, 0), test_model_vocab(test_rig.tiny));
    sp_session_destroy(brief);
    sp_session_destroy(cut);
    sp_session_destroy(whole);
}

/* What was computed at the first question. */
typedef struct seen {
    const sp_session *few, *many;
    uint32_t few_count, many_count;
} seen;

static int look(void *env) {
    seen *first = env;
    first->few_count = sp_session_token_count(first->few);
    first->many_count = sp_session_token_count(first->many);
    return 1;
}

/* Beside who wants one token a run has no more of a long prompt than a moment's worth, and as much as there is room for
 * on a device that is fast; a prompt alone or beside another has whole runs. */
static void test_short_runs(void **state) {
    (void)state;
    enum { COUNT = 1200 };
    static const struct {
        int64_t row_ns;
        uint32_t few, expected; /* rows of the prompt in the first run */
    } cases[] = {{10000000, 1, 64}, {200000, 1, 192}, {1, 1, 511}, {1, 40, 472}, {10000000, 100, 412}};
    static int32_t tokens[COUNT];
    test_tokens(test_rig.tiny, 8, tokens, COUNT);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sp_session *many = test_session_create(test_rig.tiny, test_rig.cpu, COUNT, 1);
        sp_session *few = test_session_create(test_rig.tiny, test_rig.cpu, COUNT, 1);
        for (int k = 0; k < 200; k++) { /* until what other tests took is forgotten */
            spi_model_note_run(test_rig.tiny, test_rig.cpu, 64, cases[i].row_ns * 64);
        }
        sp_append parts[] = {{.session = many, .tokens = tokens, .token_count = COUNT},
                             {.session = few, .tokens = tokens, .token_count = cases[i].few}};
        seen first = {.few = few, .many = many};
        sp_error error = {0};
        assert_int_equal(sp_session_append_batch(parts, 2, look, &first, &error), SP_CANCELLED);
        assert_int_equal(first.few_count, cases[i].few);
        assert_int_equal(first.many_count, cases[i].expected);
        assert_int_equal(parts[1].status, SP_OK);
        sp_session_destroy(few);
        sp_session_destroy(many);
    }
}

/* There is nothing to stop once all is computed: nobody is asked, and nothing fails. */
static void test_cancel_too_late(void **state) {
    (void)state;
    int32_t tokens[LONG_COUNT];
    test_tokens(test_rig.tiny, 9, tokens, LONG_COUNT);
    sp_session *session = test_session_create(test_rig.tiny, test_rig.cpu, LONG_COUNT, 1);
    sp_error error = {0};
    sp_append part = {.session = session, .tokens = tokens, .token_count = 100};
    int questions = 0;
    TEST_OK(sp_session_append_batch(&part, 1, stop_at, &questions, &error), error);
    assert_int_equal(questions, 0);
    part = (sp_append){.session = session, .tokens = tokens, .token_count = 600};
    questions = 1; /* two runs have one gap between them */
    TEST_OK(sp_session_append_batch(&part, 1, stop_at, &questions, &error), error);
    assert_int_equal(questions, 0);
    part.token_count = 0;
    TEST_OK(sp_session_append_batch(&part, 1, stop_at, &questions, &error), error);
    assert_int_equal(questions, 0);
    sp_session_destroy(session);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks),          cmocka_unit_test(test_token_by_token),
        cmocka_unit_test(test_rows_over_runs),  cmocka_unit_test(test_mixed_batch),
        cmocka_unit_test(test_truncate),        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_refused_parts),   cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_cancel_too_late), cmocka_unit_test(test_short_runs),
    };
    return cmocka_run_group_tests(tests, test_rig_open, test_rig_close);
}
