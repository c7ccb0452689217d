/* Prompt lookup: what it proposes, and that what it makes of a text is token for token what single appends make of it,
 * for greedy and for random picks, on the fast kernels and in plain C; and on GPUs, which round several rows otherwise
 * than one, but for tokens that are as good as equal. */
#include <string.h>

#include "base/memory.h"
#include "support/session_rig.h"
#include "support/support.h"
#include "support/tiny_model.h"

#define GENERATED 96u
#define CONTEXT   512u
#define VOCAB_MAX 4096u

static void expect_proposal(const int32_t *tokens, uint32_t count, int32_t token, uint32_t most,
                            const int32_t *expected, uint32_t expected_count) {
    int32_t draft[SP_LOOKUP_MAX];
    sp_session *session = test_session_create(test_rig.tiny, test_rig.reference, 16, 1);
    if (count) {
        test_session_append(session, tokens, count, SP_LOGITS_NONE);
    }
    assert_int_equal(sp_session_lookup(session, token, most, draft), expected_count);
    assert_memory_equal(draft, expected, expected_count * sizeof *draft);
    sp_session_destroy(session);
}

static void test_proposals(void **state) {
    (void)state;
    const int32_t text[] = {3, 4, 5, 6, 7, 4, 5, 8, 9, 4};
    /* "4 5" stood there twice: what followed the later one. */
    expect_proposal(text, 10, 5, 3, (const int32_t[]){8, 9, 4}, 3);
    /* "3 4 5" before, "7 4 5" later: the longer match is the earlier one. */
    const int32_t longer[] = {3, 4, 5, 6, 7, 4, 5, 8, 3, 4};
    expect_proposal(longer, 10, 5, 2, (const int32_t[]){6, 7}, 2);
    /* One token alone proposes nothing, nor does one that never was there, nor an empty session. */
    expect_proposal(text, 10, 6, 4, NULL, 0);
    expect_proposal(text, 10, 200, 4, NULL, 0);
    expect_proposal(NULL, 0, 5, 4, NULL, 0);
    expect_proposal(text, 10, 5, 0, NULL, 0);
    /* Nothing is proposed from a token that ends a text on: here 2. */
    const int32_t ends[] = {3, 4, 5, 2, 7, 4, 4, 3, 4};
    expect_proposal(ends, 9, 5, 3, NULL, 0);
    expect_proposal(ends, 8, 4, 3, (const int32_t[]){5}, 1);
    /* What repeats goes on repeating, as far as the context has room: 16 tokens. */
    const int32_t loop[] = {1, 6, 3, 1, 6, 3, 1, 6};
    expect_proposal(loop, 8, 3, 20, (const int32_t[]){1, 6, 3, 1, 6, 3, 1}, 7);
}

/* Prompts that repeat themselves in different ways, so that there is something to propose, and some of it wrong. */
static uint32_t make_prompt(const sp_model *model, uint32_t index, int32_t *prompt) {
    uint32_t length = 5 + index * 7 % 40, repeats = 1 + index % 4;
    test_tokens(model, index, prompt, length);
    for (uint32_t i = 1; i < repeats; i++) {
        memcpy(prompt + i * length, prompt, length * sizeof *prompt);
        prompt[i * length + length / 2] = prompt[i % length];
    }
    return length * repeats - index % 3;
}

static sp_sampler *make_sampler(float temperature, float repeat_penalty) {
    sp_error error = {0};
    sp_sampler *sampler;
    TEST_OK(sp_sampler_create(
                &(sp_sampler_options){.temperature = temperature, .repeat_penalty = repeat_penalty, .seed = 7},
                &sampler, &error),
            error);
    return sampler;
}

/* logits[i]: those that token i was picked from; one row more for the last one's own. */
static void generate_single(sp_session *session, sp_sampler *sampler, uint32_t vocab, int32_t *tokens,
                            float logits[][VOCAB_MAX]) {
    sp_error error = {0};
    for (uint32_t i = 0; i < GENERATED; i++) {
        memcpy(logits[i], sp_session_logits(session, 0), vocab * sizeof **logits);
        TEST_OK(sp_session_sample(session, sampler, &tokens[i], &error), error);
        test_session_append(session, &tokens[i], 1, SP_LOGITS_LAST);
    }
    memcpy(logits[GENERATED], sp_session_logits(session, 0), vocab * sizeof **logits);
}

/* Returns how many proposals were accepted. The session ends with exactly the tokens but the last pick. */
static uint32_t generate_lookup(sp_session *session, sp_sampler *sampler, uint32_t most, int32_t *tokens) {
    sp_error error = {0};
    uint32_t count = 1, accepted = 0;
    TEST_OK(sp_session_sample(session, sampler, &tokens[0], &error), error);
    while (count < GENERATED + 1) {
        sp_lookup lookup;
        uint32_t left = GENERATED - count, before = sp_session_token_count(session);
        TEST_OK(
            sp_session_append_lookup(session, sampler, tokens[count - 1], left < most ? left : most, &lookup, &error),
            error);
        assert_true(lookup.count >= 1 && lookup.accepted == lookup.count - 1 && lookup.accepted <= lookup.proposed);
        assert_int_equal(sp_session_token_count(session), before + lookup.count);
        assert_int_equal(sp_session_logits_rows(session), lookup.count);
        memcpy(tokens + count, lookup.tokens, lookup.count * sizeof *tokens);
        count += lookup.count;
        accepted += lookup.accepted;
    }
    return accepted;
}

/* The first token that differs, if any, was as likely as the other one but for a device's rounding of rows. */
static void assert_equal_or_tied(const int32_t *single, const int32_t *several, float logits[][VOCAB_MAX],
                                 uint32_t vocab) {
    for (uint32_t i = 0; i < GENERATED; i++) {
        if (single[i] != several[i]) {
            float gap = logits[i][single[i]] - logits[i][several[i]];
            print_message("token %u of a text differs, by %g of logits whose rms is %g\n", i, (double)gap,
                          test_rms(logits[i], vocab));
            assert_true(gap >= 0 && gap <= 0.02 * test_rms(logits[i], vocab));
            return;
        }
    }
}

static void compare(sp_model *model, sp_device *device, uint32_t prompts, float temperature, bool exact) {
    static float logits[GENERATED + 1][VOCAB_MAX];
    uint32_t accepted = 0, vocab = test_model_vocab(model);
    for (uint32_t index = 0; index < prompts; index += test_stride(1)) {
        static const uint32_t mosts[] = {1, 4, 8, 31};
        int32_t prompt[CONTEXT], single[GENERATED], several[GENERATED + SP_LOOKUP_MAX + 2];
        uint32_t count = make_prompt(model, index, prompt), most = mosts[index % 4];
        sp_session *alone = test_session_create(model, device, CONTEXT, 1);
        sp_session *session = test_session_create(model, device, CONTEXT, SP_LOOKUP_MAX + 1);
        /* A tie is one of the logits only where nothing else weighs in a choice. */
        float penalty = exact ? 1.1f : 1;
        sp_sampler *samplers[2] = {make_sampler(temperature, penalty), make_sampler(temperature, penalty)};
        test_session_append(alone, prompt, count, SP_LOGITS_LAST);
        test_session_append(session, prompt, count, SP_LOGITS_LAST);
        generate_single(alone, samplers[0], vocab, single, logits);
        accepted += generate_lookup(session, samplers[1], most, several);
        assert_int_equal(sp_session_token_count(session), count + GENERATED);
        if (exact) {
            /* The last row is bit for bit that of the last token: the blocks are those of single appends, too. */
            const float *last = sp_session_logits(session, sp_session_logits_rows(session) - 1);
            assert_memory_equal(single, several, sizeof single);
            assert_memory_equal(last, logits[GENERATED], vocab * sizeof *last);
        } else {
            assert_equal_or_tied(single, several, logits, vocab);
        }
        sp_sampler_destroy(samplers[0]);
        sp_sampler_destroy(samplers[1]);
        sp_session_destroy(alone);
        sp_session_destroy(session);
    }
    assert_true(accepted > 0 || test_stride(1) > 1); /* of few prompts it can be none */
}

static void test_greedy(void **state) {
    (void)state;
    compare(test_rig.demo, test_rig.cpu, 24, 0, true);
    compare(test_rig.tiny, test_rig.cpu, 24, 0, true);
    compare(test_rig.tiny, test_rig.reference, 8, 0, true);
}

static void test_random_picks(void **state) {
    (void)state;
    compare(test_rig.demo, test_rig.cpu, 12, 0.7f, true);
    compare(test_rig.tiny, test_rig.cpu, 12, 0.2f, true);
}

/* On each kind of GPU that there is. */
static void test_devices(void **state) {
    (void)state;
    static const char *const names[] = {"vulkan", "cuda", "metal"};
    bool any = false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        sp_device *device = i ? test_rig_device(test_rig.demo, names[i]) : test_rig_vulkan(test_rig.demo);
        if (device) {
            any = true;
            compare(test_rig.demo, device, 3, 0, false);
            sp_model_unload(test_rig.demo, device);
            sp_device_close(device);
        }
    }
    if (!any) {
        skip();
    }
}

static void test_refused(void **state) {
    (void)state;
    sp_error error = {0};
    sp_lookup lookup;
    const int32_t text[] = {1, 6, 3, 1, 6};
    sp_sampler *sampler = make_sampler(0, 1.1f);
    sp_session *session = test_session_create(test_rig.tiny, test_rig.reference, 8, 4);
    test_session_append(session, text, 5, SP_LOGITS_LAST);
    assert_int_equal(sp_session_append_lookup(session, sampler, 3, 4, &lookup, &error), SP_LIMIT);
    assert_int_equal(sp_session_append_lookup(session, sampler, 3, SP_LOOKUP_MAX + 1, &lookup, &error), SP_LIMIT);
    assert_int_equal(sp_session_append_lookup(session, sampler, -1, 2, &lookup, &error), SP_INVALID);
    assert_int_equal(sp_session_append_lookup(session, sampler, TINY_VOCAB, 2, &lookup, &error), SP_INVALID);
    assert_int_equal(sp_session_token_count(session), 5);
    /* Two more fit behind the token, and then none. */
    TEST_OK(sp_session_append_lookup(session, sampler, 3, 3, &lookup, &error), error);
    assert_int_equal(lookup.proposed, 2);
    TEST_OK(sp_session_truncate(session, 5, &error), error);
    test_session_append(session, text, 3, SP_LOGITS_LAST);
    assert_int_equal(sp_session_append_lookup(session, sampler, 3, 3, &lookup, &error), SP_CONTEXT_FULL);
    assert_int_equal(lookup.count, 0);
    for (long n = 0; n < 3; n++) { /* the batch's own memory */
        TEST_OK(sp_session_truncate(session, 5, &error), error);
        spi_memory_fail_after(n);
        sp_status status = sp_session_append_lookup(session, sampler, 3, 2, &lookup, &error);
        spi_memory_fail_after(-1);
        assert_int_equal(status, SP_NO_MEMORY);
        assert_int_equal(sp_session_token_count(session), 5);
    }
    sp_session_destroy(session);
    sp_sampler_destroy(sampler);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_proposals), cmocka_unit_test(test_greedy),  cmocka_unit_test(test_random_picks),
        cmocka_unit_test(test_devices),   cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, test_rig_open, test_rig_close);
}
