/* tests/support/session_rig.c - see session_rig.h. */
#include "support/session_rig.h"

#include <math.h>
#include <string.h>

#include "model/model.h"
#include "support/kv_type.h"
#include "support/support.h"
#include "support/tiny_model.h"

session_rig test_rig;

/* The best level of one order. On AMX fewer than 24 tokens and more of a quantised model are rounded in two ways
 * (ARCHITECTURE.md), so neither chunks nor what is found in a store give the same numbers there: the level below it
 * does. */
static sp_device *open_cpu(void) {
    sp_error error = {0};
    sp_device_options options = {.thread_count = 2};
    sp_device *device;
    sp_device_info info;
    TEST_OK(sp_device_open("cpu", &options, &device, &error), error);
    sp_device_get_info(device, &info);
    if (strcmp(info.isa, "amx") == 0) {
        sp_device_close(device);
        options.isa = "avx512";
        TEST_OK(sp_device_open("cpu", &options, &device, &error), error);
    }
    return device;
}

int test_rig_open(void **state) {
    (void)state;
    sp_error error = {0};
    sp_device_options plain = {.thread_count = 1, .isa = "reference"};
    memset(&test_rig, 0, sizeof test_rig);
    test_rig.cpu = open_cpu();
    TEST_OK(sp_device_open("cpu", &plain, &test_rig.reference, &error), error);
    test_rig.tiny = test_tiny_model(test_rig.cpu);
    TEST_OK(sp_model_load(test_rig.tiny, test_rig.reference, NULL, NULL, &error), error);
    TEST_OK(sp_model_open(test_source_path("models/samepage-demo-q8_0.gguf"), &test_rig.demo, &error), error);
    TEST_OK(sp_model_load(test_rig.demo, test_rig.cpu, NULL, NULL, &error), error);
    return 0;
}

int test_rig_close(void **state) {
    (void)state;
    sp_model_close(test_rig.demo);
    sp_model_close(test_rig.tiny);
    sp_device_close(test_rig.reference);
    sp_device_close(test_rig.cpu);
    return 0;
}

/* One device stays open, and with it the driver stays loaded: what a driver keeps until the process ends would
 * otherwise be a leak to the sanitizer, which cannot see the variables of a library that was unloaded. */
static sp_device *volatile kept_vulkan;

sp_device *test_rig_device(sp_model *model, const char *name) {
    sp_device *device = NULL;
    sp_error error = {0};
    sp_status status = sp_device_open(name, NULL, &device, &error);
    if (status) {
        assert_true(status == SP_NO_DEVICE || status == SP_UNSUPPORTED);
        print_message("no %s device here: %s\n", name, error.message);
        return NULL;
    }
    if (spi_device_check_kv(device, test_kv_type(), &error)) {
        print_message("%s\n", error.message);
        sp_device_close(device);
        return NULL;
    }
    TEST_OK(sp_model_load(model, device, NULL, NULL, &error), error);
    status = spi_model_prepare(model, device, 0, test_kv_type(), &error);
    if (status == SP_UNSUPPORTED) {
        print_message("%s\n", error.message);
        sp_model_unload(model, device);
        sp_device_close(device);
        return NULL;
    }
    TEST_OK(status, error);
    return device;
}

sp_device *test_rig_vulkan(sp_model *model) {
    sp_device *device = test_rig_device(model, "vulkan");
    sp_error error = {0};
    if (device && !kept_vulkan) {
        sp_device *kept = NULL;
        TEST_OK(sp_device_open("vulkan", NULL, &kept, &error), error);
        kept_vulkan = kept;
    }
    return device;
}

sp_session *test_session_create(sp_model *model, sp_device *device, uint32_t context_max, uint32_t logits_rows_max) {
    sp_session *session = NULL;
    sp_error error = {0};
    sp_session_options options = {
        .context_max = context_max, .logits_rows_max = logits_rows_max, .kv_type = test_kv_type()};
    TEST_OK(sp_session_create(model, device, &options, &session, &error), error);
    return session;
}

void test_session_append(sp_session *session, const int32_t *tokens, uint32_t count, sp_logits logits) {
    sp_error error = {0};
    TEST_OK(sp_session_append(session, tokens, count, logits, &error), error);
}

uint32_t test_model_vocab(const sp_model *model) {
    sp_model_info info;
    sp_model_get_info(model, &info);
    return info.vocab;
}

const spi_kv_shape *test_kv_shape(const sp_model *model) {
    return spi_model_kv(model, test_kv_type());
}

const uint8_t *test_kv_row(const sp_session *session, const spi_kv_shape *shape, uint32_t layer, uint32_t which,
                           uint32_t head, uint32_t position) {
    sp_session_view view;
    sp_session_get_view(session, &view);
    return sp_region_base(sp_session_region(session)) + view.kv_offset +
           spi_kv_row_offset(shape, layer, which, head, position);
}

void test_tokens(const sp_model *model, uint64_t seed, int32_t *tokens, uint32_t count) {
    test_random random = test_random_seed(seed);
    for (uint32_t i = 0; i < count; i++) {
        tokens[i] = (int32_t)test_random_below(&random, test_model_vocab(model));
    }
}

double test_distance(const float *a, const float *b, size_t count) {
    double largest = 0;
    for (size_t i = 0; i < count; i++) {
        double distance = fabs((double)a[i] - (double)b[i]);
        if (!isfinite(distance)) {
            return INFINITY;
        }
        largest = distance > largest ? distance : largest;
    }
    return largest;
}

double test_rms(const float *numbers, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)numbers[i] * numbers[i];
    }
    return sqrt(sum / (double)count);
}
