/* A session in memory that its caller has: nothing is read that was not written, and nothing written beside what was
 * planned; what does not fit is refused; a failing allocation leaves everything as it was. */
#include "support/session_rig.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/model.h"
#include "support/kv_type.h"
#include "support/support.h"

#define KIB   ((uint64_t)1 << 10)
#define PAINT 0xffu /* NaN as f16 and as f32, and no row that a kernel stores */

static bool is_painted(const uint8_t *bytes, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        if (bytes[i] != PAINT) {
            return false;
        }
    }
    return true;
}

static sp_region *painted_region(uint64_t bytes) {
    sp_region *region = NULL;
    sp_error error = {0};
    sp_region_options options = {.reserve_bytes = bytes, .size_bytes = bytes};
    TEST_OK(sp_region_create(&options, &region, &error), error);
    memset(sp_region_base(region), PAINT, sp_region_size_bytes(region));
    return region;
}

/* Every row of the tokens there are was written, and no row behind them. */
static void assert_rows_written(const sp_session *session, const sp_model *model) {
    const spi_kv_shape *shape = test_kv_shape(model);
    sp_session_view view;
    sp_session_get_view(session, &view);
    uint32_t positions = (uint32_t)(view.kv_bytes / view.block_bytes) * view.block_tokens;
    for (uint32_t layer = 0; layer < shape->layers; layer++) {
        for (uint32_t which = 0; which < 2; which++) {
            for (uint32_t head = 0; head < shape->kv_heads; head++) {
                for (uint32_t position = 0; position < positions; position++) {
                    const uint8_t *row = test_kv_row(session, shape, layer, which, head, position);
                    bool is_behind = position >= sp_session_token_count(session);
                    assert_int_equal(is_painted(row, spi_kv_number_bytes(shape)), is_behind);
                    if (spi_kv_is_q8(shape)) {
                        row += spi_kv_scale_offset(shape, layer, which, head, position) -
                               spi_kv_row_offset(shape, layer, which, head, position);
                        assert_int_equal(is_painted(row, spi_kv_scale_bytes(shape)), is_behind);
                    }
                }
            }
        }
    }
}

/* One session in a painted region, with paint around it; its logits are those of a session in zeroed memory. */
static void check_region(sp_model *model, sp_device *device) {
    enum { CONTEXT = 150, FIRST = 70, SECOND = 30 };
    int32_t tokens[FIRST + SECOND];
    test_tokens(model, 1, tokens, FIRST + SECOND);
    sp_session *clean = test_session_create(model, device, CONTEXT, SECOND), *session = NULL;
    sp_session_layout layout;
    sp_error error = {0};
    TEST_OK(sp_session_plan(model, CONTEXT, SECOND, test_kv_type(), &layout, &error), error);
    uint64_t offset = 3 * layout.align_bytes, end = offset + layout.total_bytes;
    sp_region *region = painted_region(end + layout.align_bytes);
    sp_session_options options = {.context_max = CONTEXT,
                                  .logits_rows_max = SECOND,
                                  .kv_type = test_kv_type(),
                                  .region = region,
                                  .region_offset = offset};
    TEST_OK(sp_session_create(model, device, &options, &session, &error), error);
    assert_ptr_equal(sp_session_region(session), region);
    assert_true(is_painted(sp_region_base(region), sp_region_size_bytes(region))); /* nothing touched yet */
    test_session_append(clean, tokens, FIRST, SP_LOGITS_LAST);
    test_session_append(session, tokens, FIRST, SP_LOGITS_LAST);
    uint64_t row_bytes = (uint64_t)test_model_vocab(model) * sizeof(float);
    assert_memory_equal(sp_session_logits(clean, 0), sp_session_logits(session, 0), row_bytes);
    assert_rows_written(session, model);
    test_session_append(clean, tokens + FIRST, SECOND, SP_LOGITS_ALL);
    test_session_append(session, tokens + FIRST, SECOND, SP_LOGITS_ALL);
    assert_memory_equal(sp_session_logits(clean, 0), sp_session_logits(session, 0), SECOND * row_bytes);
    assert_rows_written(session, model);
    assert_true((uint8_t *)sp_session_logits(session, 0) == sp_region_base(region) + offset + layout.logits_offset);
    const uint8_t *base = sp_region_base(region);
    assert_true(is_painted(base, offset));
    assert_true(is_painted(base + end, sp_region_size_bytes(region) - end));
    sp_session_destroy(session);
    sp_session_destroy(clean);
    sp_region_destroy(region);
}

static void test_region(void **state) {
    (void)state;
    check_region(test_rig.tiny, test_rig.reference);
    check_region(test_rig.tiny, test_rig.cpu);
    check_region(test_rig.demo, test_rig.cpu);
    sp_device *vulkan = test_rig_vulkan(test_rig.tiny);
    if (!vulkan) {
        skip();
    }
    check_region(test_rig.tiny, vulkan);
    sp_model_unload(test_rig.tiny, vulkan);
    sp_device_close(vulkan);
}

static void test_bad_region(void **state) {
    (void)state;
    sp_session_layout layout;
    sp_error error = {0};
    TEST_OK(sp_session_plan(test_rig.tiny, 100, 1, test_kv_type(), &layout, &error), error);
    sp_region *region = painted_region(layout.total_bytes + layout.align_bytes);
    const uint64_t offsets[] = {
        1, 64, layout.align_bytes / 2, 2 * layout.align_bytes, UINT64_MAX / 2 + 1, 0 - layout.align_bytes};
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        sp_session *session = (sp_session *)&error;
        sp_session_options options = {
            .context_max = 100, .kv_type = test_kv_type(), .region = region, .region_offset = offsets[i]};
        assert_int_equal(sp_session_create(test_rig.tiny, test_rig.cpu, &options, &session, &error), SP_INVALID);
        assert_null(session);
        assert_non_null(strstr(error.message, "offset"));
    }
    sp_session *low = NULL;
    sp_session_options fits = {
        .context_max = 100, .kv_type = test_kv_type(), .region = region, .region_offset = layout.align_bytes};
    TEST_OK(sp_session_create(test_rig.tiny, test_rig.cpu, &fits, &low, &error), error);
    sp_session_destroy(low);
    sp_region_destroy(region);
    sp_session *session = NULL;
    sp_device *other = NULL;
    TEST_OK(sp_device_open("cpu", NULL, &other, &error), error);
    assert_int_equal(sp_session_create(test_rig.tiny, other, NULL, &session, &error), SP_INVALID);
    assert_non_null(strstr(error.message, "not loaded"));
    sp_device_close(other);
    sp_session_destroy(NULL);
}

/* Options of zero are the model's own context and one row. */
static void test_defaults(void **state) {
    (void)state;
    sp_session *session = NULL;
    sp_session_view view;
    sp_error error = {0};
    TEST_OK(sp_session_create(test_rig.tiny, test_rig.cpu, NULL, &session, &error), error);
    sp_session_get_view(session, &view);
    assert_int_equal(view.context_max, 512);
    assert_int_equal(view.logits_rows_max, 1);
    assert_int_equal(view.vocab, test_model_vocab(test_rig.tiny));
    assert_int_equal(view.block_tokens, 64);
    assert_int_equal(view.kv_bytes, 8 * view.block_bytes);
    assert_int_equal(sp_session_logits_rows(session), 0);
    assert_null(sp_session_logits(session, 0));
    sp_session_destroy(session);
}

static void test_plan(void **state) {
    (void)state;
    static const uint32_t contexts[] = {1, 63, 64, 65, 1u << 20}, rows[] = {1, 2, 64, 65, 1u << 20};
    uint64_t block = test_kv_shape(test_rig.tiny)->block_bytes, vocab = test_model_vocab(test_rig.tiny);
    sp_session_layout layout;
    sp_error error = {0};
    for (size_t i = 0; i < 5; i++) {
        uint32_t wanted = rows[i] < contexts[i] ? rows[i] : contexts[i];
        TEST_OK(sp_session_plan(test_rig.tiny, contexts[i], wanted, test_kv_type(), &layout, &error), error);
        assert_int_equal(layout.kv_bytes, (contexts[i] + 63) / 64 * block);
        assert_true(layout.logits_bytes >= wanted * vocab * sizeof(float));
        assert_true(layout.logits_offset >= layout.kv_offset + layout.kv_bytes);
        assert_true(layout.total_bytes >= layout.logits_offset + layout.logits_bytes);
        assert_int_equal((layout.total_bytes | layout.kv_offset | layout.kv_bytes | layout.logits_offset |
                          layout.logits_bytes | layout.align_bytes) %
                             64,
                         0);
        assert_true(layout.align_bytes == 64 * KIB || layout.align_bytes == SP_REGION_ALIGN_BYTES);
    }
    static const uint32_t wrong[][2] = {{0, 1},   {(1u << 20) + 1, 1}, {UINT32_MAX, 1}, {10, 0},
                                        {10, 11}, {1, UINT32_MAX}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(sp_session_plan(test_rig.tiny, wrong[i][0], wrong[i][1], test_kv_type(), &layout, &error),
                         SP_INVALID);
        assert_int_equal(sp_session_plan(test_rig.tiny, wrong[i][0], wrong[i][1], test_kv_type(), &layout, NULL),
                         SP_INVALID);
        assert_int_equal(layout.total_bytes, 0);
    }
}

/* No model of the tests is large enough for the limit, so one is made to look so. */
static void test_plan_limit(void **state) {
    (void)state;
    spi_tape *tape = (spi_tape *)(uintptr_t)spi_model_tape(test_rig.tiny);
    const spi_tape before = *tape;
    spi_kv_shape *kv = (spi_kv_shape *)(uintptr_t)test_kv_shape(test_rig.tiny);
    const uint64_t block_bytes = kv->block_bytes;
    sp_session_layout layout;
    sp_error error = {0};
    static const uint64_t blocks[] = {((uint64_t)1 << 40) + 64 * KIB, ((uint64_t)1 << 62) + 64 * KIB};
    for (size_t i = 0; i < 2; i++) {
        kv->block_bytes = blocks[i];
        assert_int_equal(sp_session_plan(test_rig.tiny, 64 << (4 * i), 1, test_kv_type(), &layout, &error), SP_LIMIT);
    }
    kv->block_bytes = block_bytes;
    tape->vocab = 1u << 20;
    assert_int_equal(sp_session_plan(test_rig.tiny, 1u << 20, 1u << 18, test_kv_type(), &layout, &error), SP_LIMIT);
    *tape = before;
}

/* Each allocation of creating and appending fails in turn: no session, or one that is as it was and goes on. */
static void test_no_memory(void **state) {
    (void)state;
    int32_t tokens[40];
    uint64_t row_bytes = (uint64_t)test_model_vocab(test_rig.tiny) * sizeof(float);
    test_tokens(test_rig.tiny, 5, tokens, 40);
    sp_session *expected = test_session_create(test_rig.tiny, test_rig.cpu, 64, 1);
    test_session_append(expected, tokens, 40, SP_LOGITS_LAST);
    sp_session_options options = {.context_max = 64, .kv_type = test_kv_type()};
    sp_status status = SP_NO_MEMORY;
    long not_created = 0, not_appended = 0;
    for (long n = 0; status; n++) {
        sp_session *session = NULL;
        sp_error error = {0};
        spi_memory_fail_after(n);
        status = sp_session_create(test_rig.tiny, test_rig.cpu, &options, &session, &error);
        bool created = !status;
        status = status ? status : sp_session_append(session, tokens, 40, SP_LOGITS_LAST, &error);
        spi_memory_fail_after(-1);
        assert_true(status == SP_OK || status == SP_NO_MEMORY);
        assert_int_equal(created, session != NULL);
        not_created += !created;
        if (created && status) {
            not_appended++;
            assert_int_equal(sp_session_token_count(session), 0);
            test_session_append(session, tokens, 40, SP_LOGITS_LAST);
        }
        if (created) {
            assert_memory_equal(sp_session_logits(session, 0), sp_session_logits(expected, 0), row_bytes);
        }
        sp_session_destroy(session);
    }
    assert_true(not_created > 3 && not_appended > 2);
    sp_session_destroy(expected);
}

/* In the middle of two conversations a batch for which there is no memory is as if it had never been asked for. */
static void test_no_memory_later(void **state) {
    (void)state;
    int32_t tokens[40];
    uint64_t row_bytes = (uint64_t)test_model_vocab(test_rig.tiny) * sizeof(float);
    test_tokens(test_rig.tiny, 6, tokens, 40);
    sp_session *both[] = {test_session_create(test_rig.tiny, test_rig.cpu, 64, 1),
                          test_session_create(test_rig.tiny, test_rig.cpu, 64, 1)};
    test_session_append(both[0], tokens, 30, SP_LOGITS_LAST);
    test_session_append(both[1], tokens, 30, SP_LOGITS_LAST);
    float *before = malloc(row_bytes);
    assert_non_null(before);
    memcpy(before, sp_session_logits(both[0], 0), row_bytes);
    sp_status status = SP_NO_MEMORY;
    for (long n = 0; status; n++) {
        sp_append parts[] = {{.session = both[0], .tokens = tokens + 30, .token_count = 10},
                             {.session = both[1], .tokens = tokens + 30, .token_count = 1}};
        sp_error error = {0};
        spi_memory_fail_after(n);
        status = sp_session_append_batch(parts, 2, NULL, NULL, &error);
        spi_memory_fail_after(-1);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(parts[i].status, status);
            assert_int_equal(sp_session_token_count(both[i]), status ? 30 : parts[i].token_count + 30);
            assert_int_equal(sp_session_logits_rows(both[i]), 1);
        }
        if (status) {
            assert_int_equal(status, SP_NO_MEMORY);
            assert_int_equal(error.status, SP_NO_MEMORY);
            assert_memory_equal(before, sp_session_logits(both[0], 0), row_bytes);
        } else {
            assert_true(n > 2);
        }
    }
    free(before);
    sp_session_destroy(both[1]);
    sp_session_destroy(both[0]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_region),          cmocka_unit_test(test_bad_region),
        cmocka_unit_test(test_defaults),        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_plan_limit),      cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_no_memory_later),
    };
    return cmocka_run_group_tests(tests, test_rig_open, test_rig_close);
}
