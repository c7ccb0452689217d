/* A Vulkan device that is lost in the middle of a conversation is opened anew under it: the same tokens and logits come
 * as if nothing had been. Skipped only without a device. */
#include "support/support.h"

#include <string.h>

#include "device/vulkan/vulkan.h"
#include "samepage/session.h"
#include "support/session_rig.h"

enum { PROMPT = 70, STEPS = 12 };

static sp_device *device;

static int open_vulkan(void **state) {
    if (test_rig_open(state)) {
        return 1;
    }
    const spi_vk_limits limits = {.unmapped = true}; /* keys and values are read from a mirror, as on a card */
    spi_vk_test_limits(&limits);
    device = test_rig_vulkan(test_rig.demo);
    return 0;
}

static int close_vulkan(void **state) {
    if (device) {
        sp_model_unload(test_rig.demo, device);
        sp_device_close(device);
    }
    return test_rig_close(state);
}

static VkResult VKAPI_CALL lose(VkQueue queue, uint32_t count, const VkSubmitInfo *submits, VkFence fence) {
    (void)queue, (void)count, (void)submits, (void)fence;
    return VK_ERROR_DEVICE_LOST;
}

/* What is submitted next loses the device; one that is opened anew has the driver's own functions. */
static void lose_device(void) {
    void *context;
    spi_device_backend(device, &context);
    spi_vk *vk = context;
    vk->instance.call.QueueSubmit = lose;
}

/* A prompt and greedy tokens behind it; before step `at` the device is lost (< 0: never), 0 being the prompt. */
static void converse(int at, int32_t tokens[STEPS], float *logits) {
    int32_t prompt[PROMPT];
    sp_error error = {0};
    sp_sampler *sampler;
    test_tokens(test_rig.demo, 5, prompt, PROMPT);
    sp_session *session = test_session_create(test_rig.demo, device, 256, 1);
    TEST_OK(sp_sampler_create(NULL, &sampler, &error), error);
    for (int i = 0; i <= STEPS; i++) {
        if (i == at) {
            lose_device();
        }
        if (i) {
            TEST_OK(sp_session_sample(session, sampler, &tokens[i - 1], &error), error);
        }
        test_session_append(session, i ? &tokens[i - 1] : prompt, i ? 1 : PROMPT, SP_LOGITS_LAST);
    }
    memcpy(logits, sp_session_logits(session, 0), test_model_vocab(test_rig.demo) * sizeof *logits);
    sp_sampler_destroy(sampler);
    sp_session_destroy(session);
}

static void test_goes_on(void **state) {
    (void)state;
    static float expected[4096], got[4096];
    int32_t expected_tokens[STEPS], tokens[STEPS];
    static const int places[] = {0, 1, 7, STEPS};
    sp_device_counters counters;
    if (!device) {
        skip();
    }
    assert_in_range(test_model_vocab(test_rig.demo), 1, 4096);
    converse(-1, expected_tokens, expected);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        converse(places[i], tokens, got);
        sp_device_get_counters(device, &counters);
        assert_int_equal(counters.revived, i + 1);
        assert_memory_equal(tokens, expected_tokens, sizeof tokens);
        assert_memory_equal(got, expected, test_model_vocab(test_rig.demo) * sizeof *got);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_goes_on)};
    return cmocka_run_group_tests(tests, open_vulkan, close_vulkan);
}
