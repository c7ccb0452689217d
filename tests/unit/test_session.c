/* tests/unit/test_session.c - sessions on the tiny model and the cpu device: however tokens are appended, the logits
 * are the same, and what is refused changes nothing. Numbers against double precision are the oracle's work. */
#include "support/support.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "samepage/session.h"
#include "support/tiny_model.h"

#define TOKENS  150u /* three blocks, the last one not full */
#define CONTEXT 1024u

typedef struct stage {
    sp_device *device;
    sp_model *model;
    int32_t tokens[CONTEXT];
} stage;

static int set_up(void **state) {
    static stage s;
    sp_error error = {0};
    TEST_OK(sp_device_open("cpu", NULL, &s.device, &error), error);
    s.model = test_tiny_model(s.device);
    test_random random = test_random_seed(test_seed());
    for (uint32_t i = 0; i < CONTEXT; i++) {
        s.tokens[i] = (int32_t)test_random_below(&random, TINY_VOCAB);
    }
    *state = &s;
    return 0;
}

static int tear_down(void **state) {
    stage *s = *state;
    sp_model_close(s->model);
    sp_device_close(s->device);
    return 0;
}

static sp_session *open_session(stage *s, uint32_t context_max, uint32_t rows) {
    sp_error error = {0};
    sp_session *session;
    sp_session_options options = {.context_max = context_max, .logits_rows_max = rows};
    TEST_OK(sp_session_create(s->model, s->device, &options, &session, &error), error);
    return session;
}

static void append(sp_session *session, const int32_t *tokens, uint32_t count, sp_logits logits) {
    sp_error error = {0};
    TEST_OK(sp_session_append(session, tokens, count, logits, &error), error);
}

/* The logits of the last token of the first `count`, computed in one append: what everything else is compared with. */
static void expected(stage *s, uint32_t count, float *logits) {
    sp_session *session = open_session(s, CONTEXT, 1);
    append(session, s->tokens, count, SP_LOGITS_LAST);
    memcpy(logits, sp_session_logits(session, 0), TINY_VOCAB * sizeof *logits);
    sp_session_destroy(session);
}

/* Each output is computed in one order, whatever rows are beside it and whoever computes it. Only float weights know a
 * second order, that of a run of one row, on Arm: see kv_rounding. */
static void assert_same(const float *got, const float *want) {
    assert_memory_equal(got, want, TINY_VOCAB * sizeof *want);
}

/* Two orders of a sum of 64 products, each of at most 11 roundings one after the other (8 to a lane of AVX2 and 3 over
 * its lanes, and fewer elsewhere), of which each is 2^-24 of at most the sum of the products' sizes: weights are below
 * 0.3, and a row that is normed has the length 8, so that its 64 sizes add up to no more than 64. */
#define LOGIT_ROUNDING (2 * 11 * 0x1p-24f * 0.3f * 64)

static float largest_difference(const float *a, const float *b) {
    float largest = 0;
    for (uint32_t i = 0; i < TINY_VOCAB; i++) {
        assert_false(isnan(a[i]) || isnan(b[i]));
        largest = fmaxf(largest, fabsf(a[i] - b[i]));
    }
    return largest;
}

/* What it makes of the logits that every number of the KV is the next f16 above or below. Products of one token are
 * summed in another order than those of several, so now and then a key or a value falls to the other side of where f16
 * rounds: that is one in hundreds, so the logits stay well within this, and a token that is amiss is far outside. */
static float kv_rounding(stage *s, const float *want) {
    sp_error error = {0};
    sp_session_layout layout;
    TEST_OK(sp_session_plan(s->model, CONTEXT, 1, SP_KV_F16, &layout, &error), error);
    sp_region_options memory = {.reserve_bytes = layout.total_bytes, .size_bytes = layout.total_bytes};
    sp_session_options options = {.context_max = CONTEXT, .logits_rows_max = 1};
    TEST_OK(sp_region_create(&memory, &options.region, &error), error);
    sp_session *session;
    TEST_OK(sp_session_create(s->model, s->device, &options, &session, &error), error);
    append(session, s->tokens, TOKENS - 2, SP_LOGITS_NONE);
    uint8_t *kv = sp_region_base(options.region);
    for (uint64_t i = 0; i < layout.kv_bytes; i += sizeof(uint16_t)) {
        kv[i] ^= 1;
    }
    append(session, s->tokens + TOKENS - 2, 2, SP_LOGITS_LAST);
    float largest = largest_difference(sp_session_logits(session, 0), want);
    sp_session_destroy(session);
    sp_region_destroy(options.region);
    return largest;
}

/* The logits of TOKENS tokens that come `size` at a time. */
static void in_chunks(stage *s, uint32_t size, float *logits) {
    sp_session *session = open_session(s, CONTEXT, 1);
    for (uint32_t done = 0; done < TOKENS; done += size) {
        uint32_t left = TOKENS - done;
        append(session, s->tokens + done, left < size ? left : size, SP_LOGITS_LAST);
    }
    assert_int_equal(sp_session_token_count(session), TOKENS);
    assert_memory_equal(sp_session_tokens(session), s->tokens, TOKENS * sizeof(int32_t));
    memcpy(logits, sp_session_logits(session, 0), TINY_VOCAB * sizeof *logits);
    sp_session_destroy(session);
}

static void chunks_make_no_difference(void **state) {
    stage s = *(stage *)*state;
    static const uint32_t sizes[] = {2, 7, 64, 63}; /* none leaves one over */
    for (uint64_t seed = 0; seed < 5; seed++) {
        float want[TINY_VOCAB], got[TINY_VOCAB], nudged, singly;
        test_random random = test_random_seed(test_seed() + seed);
        for (uint32_t i = 0; i < TOKENS; i++) {
            s.tokens[i] = (int32_t)test_random_below(&random, TINY_VOCAB - 1);
        }
        expected(&s, TOKENS, want);
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            in_chunks(&s, sizes[k], got);
            assert_same(got, want);
        }
        in_chunks(&s, 1, got);
#if defined(__x86_64__)
        assert_same(got, want);
#endif
        nudged = kv_rounding(&s, want);
        singly = largest_difference(got, want);
        if (singly > nudged + LOGIT_ROUNDING) {
            fail_msg("one by one: off by %g, and f16 explains %g", (double)singly, (double)nudged);
        }
        s.tokens[TOKENS / 2] ^= 1; /* what is amiss is seen: one other token, long ago */
        in_chunks(&s, 1, got);
        assert_true(largest_difference(got, want) > nudged + LOGIT_ROUNDING);
    }
}

/* Chunks of sizes that give the same bits: the products of quantised types know one order, so those of any size do, one
 * by one, too. On AMX few tokens are multiplied as bytes, from 12 (Q4_0) or 24 (Q8_0) on in bf16, and Q4_0's weights
 * are rounded for more than 32 (device/cpu/products.h): there only sizes on the same sides of these do. */
typedef const uint32_t same_sizes[6];
static same_sizes everywhere[] = {{TOKENS, 1, 7, 64, 149}, {0}};
static same_sizes on_amx[] = {{1, 7, 10}, {25, 30}, {TOKENS, 50, 75}, {0}};

static void chunks_of_quantised_models_are_the_same_bits(void **state) {
    stage s = *(stage *)*state;
    static const sp_dtype types[] = {SP_Q8_0, SP_Q4_0};
    sp_device_info info;
    sp_device_get_info(s.device, &info);
    same_sizes *of_device = strcmp(info.isa, "amx") == 0 ? on_amx : everywhere;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        s.model = test_tiny_model_with(&(test_tiny){.matrices = types[i]}, s.device);
        for (same_sizes *sizes = of_device; (*sizes)[0]; sizes++) {
            float want[TINY_VOCAB], got[TINY_VOCAB];
            in_chunks(&s, (*sizes)[0], want);
            for (uint32_t k = 1; (*sizes)[k]; k++) {
                in_chunks(&s, (*sizes)[k], got);
                assert_same(got, want);
            }
        }
        sp_model_close(s.model);
    }
}

/* A prompt's steps, some of which are done together where there are many tokens, give what the plain C of every op
 * gives one by one. Rounded activations change the logits by 1 to 3 % of their size; a gate whose two sides are
 * confused, by 80 %. */
static void prompts_are_near_the_reference(void **state) {
    stage s = *(stage *)*state, plain = s;
    static const sp_dtype types[] = {SP_BF16, SP_Q8_0, SP_Q4_0};
    sp_device_options options = {.isa = "reference"};
    sp_error error = {0};
    TEST_OK(sp_device_open("cpu", &options, &plain.device, &error), error);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        float want[TINY_VOCAB], got[TINY_VOCAB], difference = 0, size = 0;
        s.model = test_tiny_model_with(&(test_tiny){.matrices = types[i]}, s.device);
        plain.model = test_tiny_model_with(&(test_tiny){.matrices = types[i]}, plain.device);
        expected(&s, TOKENS, got);
        expected(&plain, TOKENS, want);
        for (uint32_t k = 0; k < TINY_VOCAB; k++) {
            difference += (got[k] - want[k]) * (got[k] - want[k]);
            size += want[k] * want[k];
        }
        print_message("type %zu: off by %.4f of their size\n", i, (double)sqrtf(difference / size));
        assert_true(difference <= 0.06f * 0.06f * size);
        sp_model_close(s.model);
        sp_model_close(plain.model);
    }
    sp_device_close(plain.device);
}

static void long_prompts_take_several_runs(void **state) {
    stage *s = *state;
    float want[TINY_VOCAB];
    expected(s, 1000, want);
    sp_session *session = open_session(s, CONTEXT, 1);
    append(session, s->tokens, 600, SP_LOGITS_NONE);
    assert_null(sp_session_logits(session, 0));
    append(session, s->tokens + 600, 400, SP_LOGITS_LAST);
    assert_same(sp_session_logits(session, 0), want);
    sp_session_destroy(session);
}

static void all_rows_are_those_of_each_token(void **state) {
    stage *s = *state;
    sp_session *session = open_session(s, CONTEXT, 600);
    append(session, s->tokens, 600, SP_LOGITS_ALL);
    assert_int_equal(sp_session_logits_rows(session), 600);
    for (uint32_t i = 1; i < 600; i += 149) {
        float want[TINY_VOCAB];
        expected(s, i + 1, want); /* its last product is of one row */
        assert_true(largest_difference(sp_session_logits(session, i), want) <= LOGIT_ROUNDING);
    }
    assert_null(sp_session_logits(session, 600));
    sp_session_destroy(session);
}

static void batches_equal_single_sessions(void **state) {
    enum { COUNT = 5 };
    stage *s = *state;
    static const uint32_t before[COUNT] = {0, 100, 0, 63, 400}, added[COUNT] = {300, 1, 17, 2, 1};
    sp_session *sessions[COUNT];
    sp_append parts[COUNT];
    sp_error error = {0};
    for (uint32_t i = 0; i < COUNT; i++) {
        sessions[i] = open_session(s, CONTEXT, 1);
        append(sessions[i], s->tokens, before[i], SP_LOGITS_NONE);
        parts[i] = (sp_append){
            .session = sessions[i], .tokens = s->tokens + before[i], .token_count = added[i], .status = SP_INTERNAL};
    }
    TEST_OK(sp_session_append_batch(parts, COUNT, NULL, NULL, &error), error);
    for (uint32_t i = 0; i < COUNT; i++) {
        float want[TINY_VOCAB];
        assert_int_equal(parts[i].status, SP_OK);
        expected(s, before[i] + added[i], want);
        assert_true(largest_difference(sp_session_logits(sessions[i], 0), want) <= LOGIT_ROUNDING);
        sp_session_destroy(sessions[i]);
    }
}

static void truncated_sessions_go_on(void **state) {
    stage *s = *state;
    float want[TINY_VOCAB];
    sp_error error = {0};
    sp_session *session = open_session(s, CONTEXT, 1);
    append(session, s->tokens + 200, 90, SP_LOGITS_LAST);
    TEST_OK(sp_session_truncate(session, 0, &error), error);
    append(session, s->tokens, TOKENS, SP_LOGITS_LAST);
    append(session, s->tokens + 500, 30, SP_LOGITS_LAST);
    TEST_OK(sp_session_truncate(session, 70, &error), error);
    assert_null(sp_session_logits(session, 0));
    append(session, s->tokens + 70, TOKENS - 70, SP_LOGITS_LAST);
    expected(s, TOKENS, want);
    assert_same(sp_session_logits(session, 0), want);
    assert_int_equal(sp_session_truncate(session, TOKENS + 1, &error), SP_INVALID);
    sp_session_destroy(session);
}

/* A fresh session's memory may hold anything: nothing is read before it was written, and nothing outside is touched. */
static void regions_of_others_are_used_in_place(void **state) {
    stage *s = *state;
    float want[TINY_VOCAB];
    sp_error error = {0};
    sp_session_layout layout;
    TEST_OK(sp_session_plan(s->model, 200, 1, SP_KV_F16, &layout, &error), error);
    uint64_t offset = 3 * layout.align_bytes, size = offset + layout.total_bytes + layout.align_bytes;
    sp_region *region;
    sp_region_options memory = {.reserve_bytes = size, .size_bytes = size};
    TEST_OK(sp_region_create(&memory, &region, &error), error);
    memset(sp_region_base(region), 0xff, size); /* NaN in f16 and f32 */
    sp_session *session;
    sp_session_options options = {.context_max = 200, .logits_rows_max = 1, .region = region, .region_offset = offset};
    TEST_OK(sp_session_create(s->model, s->device, &options, &session, &error), error);
    append(session, s->tokens, TOKENS, SP_LOGITS_LAST);
    expected(s, TOKENS, want);
    assert_same(sp_session_logits(session, 0), want);
    assert_ptr_equal(sp_session_logits(session, 0), sp_region_base(region) + offset + layout.logits_offset);
    for (uint64_t i = 0; i < size; i++) {
        if (i < offset || i >= offset + layout.total_bytes) {
            assert_int_equal(sp_region_base(region)[i], 0xff);
        }
    }
    sp_session_destroy(session);
    options.region_offset = offset + layout.align_bytes * 2;
    assert_int_equal(sp_session_create(s->model, s->device, &options, &session, &error), SP_INVALID);
    options.region_offset = 64;
    assert_int_equal(sp_session_create(s->model, s->device, &options, &session, &error), SP_INVALID);
    sp_region_destroy(region);
}

static void what_is_refused_changes_nothing(void **state) {
    stage *s = *state;
    sp_error error = {0};
    sp_session *session = open_session(s, 100, 4), *other = open_session(s, 100, 1);
    append(session, s->tokens, 90, SP_LOGITS_LAST);
    int32_t bad[3] = {1, 2, TINY_VOCAB}, negative[1] = {-1};
    assert_int_equal(sp_session_append(session, s->tokens, 11, SP_LOGITS_LAST, &error), SP_CONTEXT_FULL);
    assert_int_equal(sp_session_append(session, bad, 3, SP_LOGITS_LAST, &error), SP_INVALID);
    assert_int_equal(sp_session_append(session, negative, 1, SP_LOGITS_LAST, &error), SP_INVALID);
    assert_int_equal(sp_session_append(session, s->tokens, 5, SP_LOGITS_ALL, &error), SP_LIMIT);
    assert_int_equal(sp_session_append(session, s->tokens, 1, (sp_logits)7, &error), SP_INVALID);
    assert_int_equal(sp_session_token_count(session), 90);
    assert_non_null(sp_session_logits(session, 0));
    append(session, s->tokens, 0, SP_LOGITS_LAST);
    assert_int_equal(sp_session_token_count(session), 90);
    /* In a batch the wrong parts are refused and the right ones computed. */
    sp_append parts[] = {{.session = session, .tokens = bad, .token_count = 3},
                         {.session = other, .tokens = s->tokens, .token_count = 20},
                         {.session = other, .tokens = s->tokens, .token_count = 5}};
    assert_int_equal(sp_session_append_batch(parts, 3, NULL, NULL, &error), SP_INVALID);
    assert_int_equal(parts[0].status, SP_INVALID);
    assert_int_equal(parts[1].status, SP_OK);
    assert_int_equal(parts[2].status, SP_INVALID);
    assert_int_equal(sp_session_token_count(other), 20);
    sp_session_destroy(other);
    sp_session_destroy(session);
    sp_session_destroy(NULL);
}

static int after_the_first(void *env) {
    return ++*(int *)env >= 1;
}

static void a_cancelled_prompt_keeps_what_was_computed(void **state) {
    stage *s = *state;
    float want[TINY_VOCAB];
    sp_error error = {0};
    int asked = 0;
    sp_session *session = open_session(s, CONTEXT, 1);
    sp_append part = {.session = session, .tokens = s->tokens, .token_count = 1000};
    assert_int_equal(sp_session_append_batch(&part, 1, after_the_first, &asked, &error), SP_CANCELLED);
    assert_int_equal(part.status, SP_CANCELLED);
    uint32_t kept = sp_session_token_count(session);
    assert_in_range(kept, 1, 999);
    assert_null(sp_session_logits(session, 0));
    append(session, s->tokens + kept, 1000 - kept, SP_LOGITS_LAST);
    expected(s, 1000, want);
    assert_same(sp_session_logits(session, 0), want);
    sp_session_destroy(session);
}

static void no_memory_leaves_sessions_as_they_were(void **state) {
    stage *s = *state;
    sp_error error = {0};
    sp_session *session = NULL;
    sp_session_options options = {.context_max = 100};
    long failures = 0;
    for (long i = 0; !session && i < 100; i++) {
        spi_memory_fail_after(i);
        sp_status status = sp_session_create(s->model, s->device, &options, &session, &error);
        spi_memory_fail_after(-1);
        failures += status == SP_NO_MEMORY;
        assert_true(status == SP_OK || status == SP_NO_MEMORY);
    }
    assert_in_range(failures, 1, 99);
    failures = 0;
    while (sp_session_token_count(session) == 0) {
        spi_memory_fail_after(failures);
        sp_status status = sp_session_append(session, s->tokens, 10, SP_LOGITS_LAST, &error);
        spi_memory_fail_after(-1);
        assert_int_equal(status, sp_session_token_count(session) ? SP_OK : SP_NO_MEMORY);
        assert_in_range(failures++, 0, 99);
    }
    assert_true(failures > 1);
    sp_session_destroy(session);
}

static void plans_have_limits(void **state) {
    stage *s = *state;
    sp_error error = {0};
    sp_session_layout layout;
    assert_int_equal(sp_session_plan(s->model, 0, 1, SP_KV_F16, &layout, &error), SP_INVALID);
    assert_int_equal(sp_session_plan(s->model, (1u << 20) + 1, 1, SP_KV_F16, &layout, &error), SP_INVALID);
    assert_int_equal(sp_session_plan(s->model, 10, 0, SP_KV_F16, &layout, &error), SP_INVALID);
    assert_int_equal(sp_session_plan(s->model, 10, 11, SP_KV_F16, &layout, &error), SP_INVALID);
    TEST_OK(sp_session_plan(s->model, 65, 1, SP_KV_F16, &layout, &error), error);
    sp_model_info info;
    sp_model_get_info(s->model, &info);
    assert_int_equal(layout.kv_bytes, 2 * info.block_bytes);
    assert_int_equal(layout.logits_offset % 64, 0);
    assert_true(layout.total_bytes >= layout.kv_bytes + info.vocab * sizeof(float));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_make_no_difference),
        cmocka_unit_test(chunks_of_quantised_models_are_the_same_bits),
        cmocka_unit_test(prompts_are_near_the_reference),
        cmocka_unit_test(long_prompts_take_several_runs),
        cmocka_unit_test(all_rows_are_those_of_each_token),
        cmocka_unit_test(batches_equal_single_sessions),
        cmocka_unit_test(truncated_sessions_go_on),
        cmocka_unit_test(regions_of_others_are_used_in_place),
        cmocka_unit_test(what_is_refused_changes_nothing),
        cmocka_unit_test(a_cancelled_prompt_keeps_what_was_computed),
        cmocka_unit_test(no_memory_leaves_sessions_as_they_were),
        cmocka_unit_test(plans_have_limits),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
