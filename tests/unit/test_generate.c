/* Several tokens in one call: the same as single appends and samples, with every sampler, and where the context ends.
 * On the reference, which picks nothing by itself; tests/unit/test_cuda_decode.c compares what a card picks. */
#include <string.h>

#include "base/memory.h"
#include "device/backend.h"
#include "support/session_rig.h"
#include "support/support.h"
#include "support/tiny_model.h"

#define CONTEXT 40u

static void same_tokens(float temperature, float penalty) {
    static const int32_t prompt[] = {3, 1, 4, 1, 5};
    sp_error error = {0};
    sp_sampler_options options = {.temperature = temperature, .repeat_penalty = penalty, .seed = 11};
    sp_sampler *samplers[2];
    sp_session *sessions[2];
    for (int i = 0; i < 2; i++) {
        TEST_OK(sp_sampler_create(&options, &samplers[i], &error), error);
        sessions[i] = test_session_create(test_rig.tiny, test_rig.reference, CONTEXT, 1);
        test_session_append(sessions[i], prompt, 5, SP_LOGITS_LAST);
    }
    int32_t token, other, picks[8];
    uint32_t count;
    TEST_OK(sp_session_sample(sessions[0], samplers[0], &token, &error), error);
    TEST_OK(sp_session_sample(sessions[1], samplers[1], &other, &error), error);
    while (sp_session_token_count(sessions[0]) < CONTEXT) {
        TEST_OK(sp_session_generate(sessions[1], samplers[1], other, NULL, 0, picks, 8, &count, &error), error);
        assert_true(count >= 1 && count <= 8);
        for (uint32_t i = 0; i < count; i++) {
            assert_int_equal(token, other);
            test_session_append(sessions[0], &token, 1, SP_LOGITS_LAST);
            TEST_OK(sp_session_sample(sessions[0], samplers[0], &token, &error), error);
            other = picks[i];
        }
        assert_int_equal(token, other);
        assert_int_equal(sp_session_token_count(sessions[1]), sp_session_token_count(sessions[0]));
        assert_memory_equal(sp_session_tokens(sessions[1]), sp_session_tokens(sessions[0]),
                            sp_session_token_count(sessions[0]) * sizeof(int32_t));
        sp_session_view view;
        sp_session_get_view(sessions[0], &view);
        assert_memory_equal(sp_session_logits(sessions[1], 0), sp_session_logits(sessions[0], 0),
                            view.vocab * sizeof(float));
    }
    assert_int_equal(sp_session_generate(sessions[1], samplers[1], other, NULL, 0, picks, 8, &count, &error),
                     SP_CONTEXT_FULL);
    assert_int_equal(count, 0);
    for (int i = 0; i < 2; i++) {
        sp_session_destroy(sessions[i]);
        sp_sampler_destroy(samplers[i]);
    }
}

static void test_same_tokens(void **state) {
    (void)state;
    same_tokens(0, 0);
    same_tokens(0, 1.3f);
    same_tokens(0.9f, 0);
}

static void test_refuses(void **state) {
    (void)state;
    sp_error error = {0};
    sp_sampler *greedy;
    int32_t picks[2];
    uint32_t count;
    TEST_OK(sp_sampler_create(NULL, &greedy, &error), error);
    sp_session *session = test_session_create(test_rig.tiny, test_rig.reference, CONTEXT, 1);
    assert_int_equal(sp_session_generate(session, greedy, -1, NULL, 0, picks, 2, &count, &error), SP_INVALID);
    assert_int_equal(sp_session_generate(session, greedy, 1 << 20, NULL, 0, picks, 2, &count, &error), SP_INVALID);
    assert_int_equal(sp_session_generate(session, greedy, 1, NULL, 0, picks, 0, &count, &error), SP_INVALID);
    assert_int_equal(sp_session_token_count(session), 0);
    sp_session_destroy(session);
    sp_sampler_destroy(greedy);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_tokens), cmocka_unit_test(test_refuses)};
    return cmocka_run_group_tests(tests, test_rig_open, test_rig_close);
}
