/* Keys and values in Q8_0 beside those in F16: how much memory they take, how near the numbers are, that both go side
 * by side, and that what cannot be is refused. What a session can do at all is tested for both types by tests that run
 * twice (tests/CMakeLists.txt); how far logits are from double is in tests/e2e/test_oracle.sh. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "model/model.h"
#include "session/session.h"
#include "support/session_rig.h"
#include "support/support.h"
#include "support/tiny_model.h"

#define CONTEXT 200u
#define COUNT   150u

static sp_session *create(sp_model *model, sp_device *device, sp_kv_type type) {
    sp_session *session = NULL;
    sp_error error = {0};
    sp_session_options options = {.context_max = CONTEXT, .logits_rows_max = 1, .kv_type = type};
    TEST_OK(sp_session_create(model, device, &options, &session, &error), error);
    return session;
}

static void test_memory(void **state) {
    (void)state;
    const spi_kv_shape *f16 = spi_model_kv(test_rig.demo, SP_KV_F16), *q8 = spi_model_kv(test_rig.demo, SP_KV_Q8_0);
    uint64_t heads = (uint64_t)f16->layers * 2 * f16->kv_heads;
    assert_int_equal(spi_kv_head_bytes(q8) * 32, spi_kv_head_bytes(f16) * 17);
    assert_true(q8->block_bytes >= heads * spi_kv_head_bytes(q8) && q8->block_bytes % 65536 == 0);
    assert_true(q8->block_bytes - heads * spi_kv_head_bytes(q8) < 65536);
    sp_session *session = create(test_rig.demo, test_rig.cpu, SP_KV_Q8_0);
    sp_session_view view;
    sp_session_get_view(session, &view);
    assert_int_equal(view.kv_type, SP_KV_Q8_0);
    assert_int_equal(view.block_bytes, q8->block_bytes);
    assert_int_equal(view.kv_bytes, (CONTEXT + 63) / 64 * q8->block_bytes);
    sp_session_destroy(session);
    session = create(test_rig.demo, test_rig.cpu, SP_KV_DEFAULT);
    sp_session_get_view(session, &view);
    assert_int_equal(view.kv_type, SP_KV_F16);
    sp_session_destroy(session);
}

/* The first layer's rows do not depend on any others: each number is the one that F16 has, but for half a step of its
 * 32 and what F16 rounds. */
static void compare_rows(const sp_session *f16, const sp_session *q8) {
    const spi_kv_shape *kv = q8->kv;
    for (uint32_t i = 0; i < COUNT * 2 * kv->kv_heads * kv->head_dim; i++) {
        uint32_t column = i % kv->head_dim, head = i / kv->head_dim % kv->kv_heads;
        uint32_t which = i / kv->head_dim / kv->kv_heads % 2, at = i / kv->head_dim / kv->kv_heads / 2;
        const uint8_t *blocks = spi_session_block(q8, 0);
        double largest = 0;
        for (uint32_t k = column / 32 * 32; k < column / 32 * 32 + 32; k++) {
            double value = fabs((double)spi_kv_value(f16->kv, spi_session_block(f16, 0), 0, which, head, at, k));
            largest = value > largest ? value : largest;
        }
        double a = (double)spi_kv_value(f16->kv, spi_session_block(f16, 0), 0, which, head, at, column);
        double b = (double)spi_kv_value(kv, blocks, 0, which, head, at, column);
        /* A step is largest / 127 but for 2^-11 of it, and of 127 steps that is another 2^-11 of the largest. */
        assert_true(fabs(a - b) <= largest * (0.5 / 127 + 0x1p-10) + 0x1p-14);
    }
}

static void test_rows_and_logits(void **state) {
    (void)state;
    int32_t tokens[COUNT];
    sp_model *models[] = {test_rig.demo, test_rig.tiny};
    for (int i = 0; i < 2; i++) {
        uint32_t vocab = test_model_vocab(models[i]);
        test_tokens(models[i], 3, tokens, COUNT);
        sp_session *f16 = create(models[i], test_rig.cpu, SP_KV_F16), *q8 = create(models[i], test_rig.cpu, SP_KV_Q8_0);
        test_session_append(f16, tokens, COUNT, SP_LOGITS_LAST);
        test_session_append(q8, tokens, COUNT, SP_LOGITS_LAST);
        compare_rows(f16, q8);
        double sum = 0, rms = test_rms(sp_session_logits(f16, 0), vocab);
        for (uint32_t k = 0; k < vocab; k++) {
            double distance = (double)sp_session_logits(f16, 0)[k] - (double)sp_session_logits(q8, 0)[k];
            sum += distance * distance;
        }
        double distance = sqrt(sum / vocab);
        print_message("model %d: logits differ by %.4f of their rms\n", i, distance / rms);
        assert_true(distance > 0 && distance < 0.05 * rms);
        sp_session_destroy(f16);
        sp_session_destroy(q8);
    }
}

/* The fast kernels and plain C see the same numbers. */
static void test_reference(void **state) {
    (void)state;
    int32_t tokens[COUNT];
    test_tokens(test_rig.tiny, 4, tokens, COUNT);
    sp_session *fast = create(test_rig.tiny, test_rig.cpu, SP_KV_Q8_0),
               *plain = create(test_rig.tiny, test_rig.reference, SP_KV_Q8_0);
    test_session_append(fast, tokens, COUNT, SP_LOGITS_LAST);
    test_session_append(plain, tokens, COUNT, SP_LOGITS_LAST);
    /* A number that lies between two steps may be rounded either way: the distance of the types bounds that, too. */
    double distance = test_distance(sp_session_logits(fast, 0), sp_session_logits(plain, 0), TINY_VOCAB);
    assert_true(distance < 0.02 * test_rms(sp_session_logits(plain, 0), TINY_VOCAB));
    sp_session_destroy(fast);
    sp_session_destroy(plain);
}

/* Sessions of both types in one batch: each has the bits that it has alone. */
static void test_side_by_side(void **state) {
    (void)state;
    enum { SESSIONS = 4 };
    int32_t tokens[SESSIONS][COUNT];
    sp_session *alone[SESSIONS], *together[SESSIONS];
    sp_append parts[SESSIONS];
    sp_error error = {0};
    uint32_t vocab = test_model_vocab(test_rig.demo);
    for (int i = 0; i < SESSIONS; i++) {
        sp_kv_type type = i % 2 ? SP_KV_Q8_0 : SP_KV_F16;
        test_tokens(test_rig.demo, 10 + (uint64_t)i, tokens[i], COUNT);
        alone[i] = create(test_rig.demo, test_rig.cpu, type);
        together[i] = create(test_rig.demo, test_rig.cpu, type);
        test_session_append(alone[i], tokens[i], COUNT - 1, SP_LOGITS_NONE);
        test_session_append(alone[i], tokens[i] + COUNT - 1, 1, SP_LOGITS_LAST);
        parts[i] = (sp_append){
            .session = together[i], .tokens = tokens[i], .token_count = COUNT - 1, .logits = SP_LOGITS_NONE};
    }
    TEST_OK(sp_session_append_batch(parts, SESSIONS, NULL, NULL, &error), error);
    for (int i = 0; i < SESSIONS; i++) {
        parts[i].tokens += COUNT - 1;
        parts[i].token_count = 1;
        parts[i].logits = SP_LOGITS_LAST;
    }
    TEST_OK(sp_session_append_batch(parts, SESSIONS, NULL, NULL, &error), error);
    for (int i = 0; i < SESSIONS; i++) {
        double rms = test_rms(sp_session_logits(alone[i], 0), vocab);
        assert_true(test_distance(sp_session_logits(alone[i], 0), sp_session_logits(together[i], 0), vocab) <
                    1e-3 * rms);
        sp_session_destroy(alone[i]);
        sp_session_destroy(together[i]);
    }
}

static void test_refused(void **state) {
    (void)state;
    sp_error error = {0};
    sp_session *session = NULL;
    sp_session_layout layout;
    sp_session_options options = {.context_max = CONTEXT, .kv_type = (sp_kv_type)3};
    assert_int_equal(sp_session_create(test_rig.tiny, test_rig.cpu, &options, &session, &error), SP_INVALID);
    assert_null(session);
    assert_int_equal(sp_session_plan(test_rig.tiny, CONTEXT, 1, (sp_kv_type)-1, &layout, &error), SP_INVALID);
    assert_null(sp_kv_type_name((sp_kv_type)3));
    /* Heads that 32 does not divide. */
    spi_kv_shape *shape = (spi_kv_shape *)(uintptr_t)spi_model_kv(test_rig.tiny, SP_KV_Q8_0);
    uint32_t head_dim = shape->head_dim;
    shape->head_dim = 40;
    options.kv_type = SP_KV_Q8_0;
    assert_int_equal(sp_session_create(test_rig.tiny, test_rig.cpu, &options, &session, &error), SP_UNSUPPORTED);
    assert_non_null(strstr(error.message, "40 numbers"));
    assert_non_null(strstr(error.message, "f16"));
    shape->head_dim = head_dim;
}

/* A device that lacks a width of heads says so when a session is made, and goes on with others. */
static void test_other_devices(void **state) {
    (void)state;
    sp_device *device = test_rig_vulkan(test_rig.tiny);
    if (!device) {
        skip();
    }
    sp_session *session = NULL;
    sp_error error = {0};
    sp_session_options options = {.context_max = CONTEXT, .kv_type = SP_KV_Q8_0};
    assert_int_equal(sp_session_create(test_rig.tiny, device, &options, &session, &error), SP_UNSUPPORTED);
    assert_null(session);
    assert_non_null(strstr(error.message, "multiple of 64 columns, not for 32: ask for f16"));
    sp_session_destroy(create(test_rig.tiny, device, SP_KV_F16));
    sp_model_unload(test_rig.tiny, device);
    sp_device_close(device);
}

/* The tape of a type is made for its first session: whatever fails meanwhile, the next one has it. */
static void test_no_memory(void **state) {
    (void)state;
    sp_error error = {0};
    sp_model *model = test_tiny_model(test_rig.cpu);
    sp_session_options options = {.context_max = CONTEXT, .kv_type = SP_KV_Q8_0};
    sp_status status = SP_NO_MEMORY;
    long failures = 0;
    for (; status; failures++) {
        sp_session *session = NULL;
        spi_memory_fail_after(failures);
        status = sp_session_create(model, test_rig.cpu, &options, &session, &error);
        spi_memory_fail_after(-1);
        assert_true(status == SP_OK || status == SP_NO_MEMORY);
        sp_session_destroy(session);
    }
    assert_true(failures > 10);
    sp_model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),    cmocka_unit_test(test_rows_and_logits),
        cmocka_unit_test(test_reference), cmocka_unit_test(test_side_by_side),
        cmocka_unit_test(test_refused),   cmocka_unit_test(test_other_devices),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, test_rig_open, test_rig_close);
}
