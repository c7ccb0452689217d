/* Keys and values that somebody wrote by hand: once that is declared, a device that keeps a copy of them computes with
 * what is there now. Skipped only without a Vulkan device. */
#include "support/support.h"

#include <stdlib.h>
#include <string.h>

#include "device/vulkan/vulkan.h"
#include "samepage/session.h"
#include "support/session_rig.h"

enum { COUNT = 100 }; /* a block and a part of one */

static sp_session *make(sp_device *device, uint64_t seed) {
    int32_t tokens[COUNT];
    test_tokens(test_rig.demo, seed, tokens, COUNT);
    sp_session *session = test_session_create(test_rig.demo, device, 256, 1);
    test_session_append(session, tokens, COUNT, SP_LOGITS_LAST);
    return session;
}

static uint8_t *kv_of(const sp_session *session, sp_session_view *view) {
    sp_session_get_view(session, view);
    return sp_region_base(sp_session_region(session)) + view->kv_offset;
}

static void append_one(sp_session *session, float *logits) {
    const int32_t token = 7;
    test_session_append(session, &token, 1, SP_LOGITS_LAST);
    memcpy(logits, sp_session_logits(session, 0), test_model_vocab(test_rig.demo) * sizeof *logits);
}

/* One conversation gets the keys and values of another, which it then goes on with, bit for bit. */
static void check_device(sp_device *device, bool is_copied) {
    size_t vocab = test_model_vocab(test_rig.demo), bytes = vocab * sizeof(float);
    float *mine = malloc(bytes), *others = malloc(bytes), *got = malloc(bytes);
    sp_session *other = make(device, 1), *plain = make(device, 2), *edited = make(device, 2);
    sp_session_view from, to;
    sp_error error = {0};
    sp_device_counters before, after;
    append_one(plain, mine);
    uint64_t kv_bytes = 2 * test_kv_shape(test_rig.demo)->block_bytes;
    memcpy(kv_of(edited, &to), kv_of(other, &from), kv_bytes);
    append_one(other, others);
    assert_memory_not_equal(mine, others, bytes);
    sp_device_get_counters(device, &before);
    assert_int_equal(sp_session_edited(edited, to.kv_bytes, 1, &error), SP_BAD_POINTER);
    assert_int_equal(sp_session_edited(edited, UINT64_MAX, 2, &error), SP_BAD_POINTER);
    TEST_OK(sp_session_edited(edited, 0, kv_bytes, &error), error);
    append_one(edited, got);
    assert_memory_equal(got, others, bytes);
    sp_device_get_counters(device, &after);
    assert_int_equal(after.copied_bytes > before.copied_bytes, is_copied);
    sp_session_destroy(other);
    sp_session_destroy(plain);
    sp_session_destroy(edited);
    free(mine);
    free(others);
    free(got);
}

static void test_in_place(void **state) {
    (void)state;
    check_device(test_rig.cpu, false);
}

static void test_mirrored(void **state) {
    (void)state;
    const spi_vk_limits limits = {.unmapped = true};
    spi_vk_test_limits(&limits);
    sp_device *device = test_rig_vulkan(test_rig.demo);
    spi_vk_test_limits(NULL);
    if (!device) {
        skip();
    }
    check_device(device, true);
    sp_model_unload(test_rig.demo, device);
    sp_device_close(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_in_place), cmocka_unit_test(test_mirrored)};
    return cmocka_run_group_tests(tests, test_rig_open, test_rig_close);
}
