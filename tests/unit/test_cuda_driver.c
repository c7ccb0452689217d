/* The CUDA backend over a stand-in for the driver (tests/support/fake_cuda.c): what it does without a driver, with an
 * old one, an old card; which calls a whole life of a device makes, in which order and with what; and that every single
 * call may fail, and every allocation, without a crash, a leak or a broken rule. Nothing is computed here:
 * test_ops_cuda and test_cuda_decode compare numbers on a card. */
#include "support/cuda_stand_in.h"

#include "device/spare.h"
#include "session/session.h"
#include "support/device_life.h"

#define MIB ((size_t)1 << 20)

static size_t listed(void) {
    sp_device_info infos[16];
    size_t count, found = 0;
    sp_error error = {0};
    TEST_OK(sp_device_list(infos, 16, &count, &error), error);
    for (size_t i = 0; i < count && i < 16; i++) {
        found += !strncmp(infos[i].name, "cuda", 4);
    }
    return found;
}

/* What the list of troubles says of cuda; false: nothing. */
static bool find_trouble(sp_device_trouble *trouble) {
    sp_device_trouble all[8];
    size_t count = sp_device_list_troubles(all, 8);
    for (size_t i = 0; i < count && i < 8; i++) {
        if (!strcmp(all[i].name, "cuda")) {
            *trouble = all[i];
            return true;
        }
    }
    return false;
}

static void assert_says(const char *text, const char *part) {
    if (!strstr(text, part)) {
        print_error("\"%s\" does not say \"%s\"\n", text, part);
        fail();
    }
}

/* The best device that is left, and why it is not cuda. */
static void expect_passed_over(const char *part) {
    sp_device *device;
    sp_device_info info;
    sp_error error = {0};
    TEST_OK(sp_device_open("auto", NULL, &device, &error), error);
    sp_device_get_info(device, &info);
    assert_int_not_equal(strncmp(info.name, "cuda", 4), 0);
    if (part) {
        assert_says(info.passed_over, part);
    } else {
        assert_string_equal(info.passed_over, "");
    }
    sp_device_close(device);
}

/* Asked for by name it says why it is not here; "auto" takes another, and says so where there is hardware. */
static void expect_no_device(sp_status expected, const char *part, bool is_there) {
    sp_device *device;
    sp_device_trouble trouble;
    sp_error error = {0};
    assert_int_equal(listed(), 0);
    assert_int_equal(sp_device_open("cuda", NULL, &device, &error), expected);
    assert_null(device);
    assert_says(error.message, part);
    assert_int_equal(find_trouble(&trouble), is_there);
    if (is_there) {
        assert_says(trouble.reason, part);
    }
    expect_passed_over(is_there ? part : NULL);
    test_stand_in_clean();
}

static void test_no_driver(void **state) {
    (void)state;
    spi_cu_test_library("/nowhere/libcuda.so.1");
    expect_no_device(SP_NO_DEVICE, "no NVIDIA driver here: libcuda.so.1 is not found): use auto or one of ", false);
    assert_int_equal(test_stand_in_open(NULL), 0);
}

static void test_old_driver(void **state) {
    (void)state;
    fake_cuda_set_version_(SPI_CUDA_VERSION_MIN - 1000);
    expect_no_device(SP_UNSUPPORTED, "update it", true);
}

static void test_driver_without_card(void **state) {
    (void)state;
    sp_device_trouble trouble;
    sp_device *device;
    sp_error error = {0};
    fake_cuda_fail_every_("cuInit", SPI_CU_NO_DEVICE);
    expect_no_device(SP_NO_DEVICE, "there is no card", false);
    fake_cuda_fail_every_("cuInit", 803);
    expect_no_device(SP_UNSUPPORTED, "restart the machine", true);
    fake_cuda_fail_every_("cuDeviceGetCount", 999);
    expect_no_device(SP_DEVICE_LOST, "counting cards", true);
    fake_cuda_fail_(NULL, -1, 0);
    assert_false(find_trouble(&trouble));
    TEST_OK(sp_device_open("cuda", NULL, &device, &error), error);
    sp_device_close(device);
    test_stand_in_clean();
}

static void test_old_card(void **state) {
    (void)state;
    fake_cuda_set_major_(7);
    expect_no_device(SP_UNSUPPORTED, "older than compute capability 8.0", true);
}

static void test_lists_and_picks(void **state) {
    (void)state;
    fake_cuda_set_devices_(3);
    assert_int_equal(listed(), 3);
    sp_device *device;
    sp_error error = {0};
    TEST_OK(sp_device_open("cuda:2", NULL, &device, &error), error);
    sp_device_info info;
    sp_device_get_info(device, &info);
    assert_string_equal(info.name, "cuda:2");
    assert_non_null(strstr(info.description, "Stand-in 2"));
    assert_int_equal(info.link, SP_LINK_MIRRORED);
    sp_device_close(device);
    TEST_OK(sp_device_open("auto", NULL, &device, &error), error);
    sp_device_get_info(device, &info);
    assert_string_equal(info.name, "cuda");
    assert_string_equal(info.passed_over, "");
    sp_device_close(device);
    assert_int_equal(sp_device_open("cuda:3", NULL, &device, &error), SP_NO_DEVICE);
    assert_says(error.message, "there is no CUDA device 3");
    assert_says(error.message, "one of cuda, cuda:1, cuda:2, ");
    test_stand_in_clean();
}

/* A card whose driver does not answer takes nothing away from the one beside it. */
static void test_one_card_is_ill(void **state) {
    (void)state;
    sp_device *device;
    sp_device_info info;
    sp_error error = {0};
    fake_cuda_set_devices_(2);
    fake_cuda_fail_("cuDeviceGetName", 0, 999);
    assert_int_equal(listed(), 1);
    fake_cuda_fail_("cuDeviceGetName", 0, 999);
    TEST_OK(sp_device_open("cuda", NULL, &device, &error), error);
    sp_device_get_info(device, &info);
    assert_says(info.description, "Stand-in 1");
    sp_device_close(device);
    fake_cuda_fail_("cuDeviceGetName", 0, 999);
    assert_int_equal(sp_device_open("cuda:1", NULL, &device, &error), SP_UNSUPPORTED);
    assert_says(error.message, "card 0 cannot be used: its driver fails");
    fake_cuda_fail_every_("cuDeviceTotalMem_v2", 999);
    expect_no_device(SP_UNSUPPORTED, "its driver fails", true);
    fake_cuda_fail_(NULL, -1, 0);
    test_stand_in_clean();
}

/* A card that others have filled, or that does not come up: "auto" takes the next one, and then something else. */
static void test_auto_goes_on(void **state) {
    (void)state;
    sp_device *device;
    sp_device_info info;
    sp_error error = {0};
    fake_cuda_set_devices_(2);
    fake_cuda_fail_("cuDevicePrimaryCtxRetain", 0, SPI_CU_OUT_OF_MEMORY);
    TEST_OK(sp_device_open("auto", NULL, &device, &error), error);
    sp_device_get_info(device, &info);
    assert_string_equal(info.name, "cuda:1");
    assert_says(info.passed_over, "opening the card: out of device memory");
    sp_device_close(device);
    fake_cuda_fail_every_("cuModuleLoadData", 222);
    expect_passed_over("too old for the kernels");
    fake_cuda_fail_(NULL, -1, 0);
    test_stand_in_clean();
}

static sp_status live(sp_error *error) {
    static const uint32_t runs[] = {70, 1, 9, 1};
    return test_device_life("cuda", &test_small_shape, 80, runs, sizeof runs / sizeof runs[0], error);
}

static void test_a_life(void **state) {
    (void)state;
    sp_error error = {0};
    TEST_OK(live(&error), error);
    test_stand_in_clean();
    assert_int_equal(fake_cuda_launches_("decode_Q8_0"), 3);
    assert_int_equal(fake_cuda_calls_("cuLaunchCooperativeKernel"), 3);
    assert_int_equal(fake_cuda_launches_("guest_f32"), 1);
    assert_int_equal(fake_cuda_launches_("flash64"), 2); /* a prompt, two layers */
    assert_int_equal(fake_cuda_launches_("start64"), 2); /* a short one */
    /* Each growth is registered by itself, and the model's own region. */
    assert_int_equal(fake_cuda_calls_("cuMemHostRegister_v2"), 4);
}

/* What only Hopper's machine code has is asked of no other generation: of Ampere nothing that wants bulk copies or
 * clusters, and of later cards, which get PTX of 9.0, no tensor maps and none of the kernels behind them. */
static void test_generations(void **state) {
    (void)state;
    static const struct {
        int major;
        long decodes;
        bool has_maps;
    } cases[] = {{8, 0, false}, {9, 3, true}, {10, 3, false}, {12, 3, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fake_cuda_reset_();
        fake_cuda_set_major_(cases[i].major);
        sp_error error = {0};
        TEST_OK(live(&error), error);
        test_stand_in_clean();
        assert_int_equal(fake_cuda_launches_("decode_Q8_0"), cases[i].decodes);
        assert_int_equal(fake_cuda_calls_("cuTensorMapEncodeTiled") > 0, cases[i].has_maps);
        assert_int_equal(fake_cuda_launches_("norm_pack") > 0, cases[i].has_maps);
    }
}

/* Tokens cost no copy: new rows go to the guest as kernels write them. */
static void test_no_copies_a_token(void **state) {
    (void)state;
    sp_error error = {0};
    sp_device *device;
    bench_model model;
    test_small_open(&device, &model);
    assert_true(bench_model_run(&model, 16, 0, true, &error) >= 0);
    long before = fake_cuda_calls_("cuMemcpyHtoDAsync_v2") + fake_cuda_calls_("cuMemcpyDtoHAsync_v2");
    sp_device_counters now;
    sp_device_get_counters(device, &now);
    for (uint32_t i = 16; i < 150; i++) {
        assert_true(bench_model_run(&model, i % 3 ? 1 : 2, i, true, &error) >= 0);
    }
    assert_int_equal(fake_cuda_calls_("cuMemcpyHtoDAsync_v2") + fake_cuda_calls_("cuMemcpyDtoHAsync_v2"), before);
    sp_device_counters then;
    sp_device_get_counters(device, &then);
    assert_int_equal(then.copied_bytes, now.copied_bytes);
    test_small_close(device, &model);
}

static spi_picks run_picks(bench_model *model, uint32_t position, uint32_t count_max, const int32_t *stops,
                           uint32_t stop_count, int32_t *tokens) {
    void *context;
    const spi_backend *backend = spi_device_backend(model->device, &context);
    const int32_t token = 7;
    spi_segment segment = {.link = spi_device_find_link(model->device, model->region),
                           .logits_offset = bench_model_logits_offset(model),
                           .row_count = 1,
                           .position_first = position,
                           .out_count = 1};
    spi_picks picks = {.tokens = tokens, .count_max = count_max, .stops = stops, .stop_count = stop_count};
    spi_run run = {
        .tokens = &token, .row_count = 1, .segments = &segment, .segment_count = 1, .out_count = 1, .picks = &picks};
    sp_error error = {0};
    TEST_OK(backend->run(context, model->program, &run, &error), error);
    return picks;
}

/* Tokens that the card picks itself are one launch, as many as there is room for; op by op there is a pick for each
 * run. */
static void test_picks(void **state) {
    (void)state;
    sp_error error = {0};
    sp_device *device;
    bench_model model;
    int32_t tokens[64];
    static const int32_t expected[] = {8, 9, 10, 11, 12, 13, 14, 15, 16, 17}, stops[] = {99, 11};
    test_small_open(&device, &model);
    assert_int_equal(run_picks(&model, 60, 10, NULL, 0, tokens).count, 10);
    assert_memory_equal(tokens, expected, sizeof expected);
    assert_int_equal(run_picks(&model, 60, 10, stops, 2, tokens).count, 4);
    assert_memory_equal(tokens, expected, 4 * sizeof *expected);
    assert_int_equal(run_picks(&model, 60, 1, NULL, 0, tokens).count, 1);
    assert_int_equal(run_picks(&model, 60, 64, NULL, 0, tokens).count, 16); /* rows that the program has room for */
    int32_t many[SPI_CU_STOPS_MAX + 1] = {11};
    assert_int_equal(run_picks(&model, 60, 10, many, SPI_CU_STOPS_MAX + 1, tokens).count, 1);
    assert_int_equal(fake_cuda_calls_("cuLaunchCooperativeKernel"), 5);
    bench_model_close(&model);
    sp_device_close(device);
    spi_cu_test_choices(&(spi_cu_choices){.op_by_op = true});
    sp_device *plain;
    TEST_OK(sp_device_open("cuda", NULL, &plain, &error), error);
    spi_cu_test_choices(NULL);
    TEST_OK(bench_model_open(plain, &test_small_shape, 16, 300, &model, &error), error);
    assert_int_equal(run_picks(&model, 60, 10, NULL, 0, tokens).count, 1);
    assert_int_equal(fake_cuda_launches_("pick"), 1);
    bench_model_close(&model);
    sp_device_close(plain);
    test_stand_in_clean();
}

static void test_every_call_fails(void **state) {
    (void)state;
    test_stand_in_every_call_fails(live);
}

static void test_every_allocation_fails(void **state) {
    (void)state;
    test_every_allocation_of_life_fails(live, fake_cuda_reset_, test_stand_in_clean);
}

static void test_lost(void **state) {
    (void)state;
    sp_error error = {0};
    sp_device *device;
    bench_model model;
    test_small_open(&device, &model);
    fake_cuda_fail_("cuEventQuery", 0, 700);
    assert_true(bench_model_run(&model, 1, 0, true, &error) < 0);
    assert_int_equal(error.status, SP_DEVICE_LOST);
    long calls = fake_cuda_calls_("cuLaunchCooperativeKernel");
    assert_true(bench_model_run(&model, 1, 0, true, &error) < 0); /* nothing is sent to it any more */
    assert_int_equal(error.status, SP_DEVICE_LOST);
    assert_non_null(strstr(error.message, "open it again"));
    assert_int_equal(fake_cuda_calls_("cuLaunchCooperativeKernel"), calls);
    test_small_close(device, &model);
}

/* A conversation on a card that is lost: the card is opened anew, weights are loaded and blocks are taken over from the
 * host's memory, and the append that failed is made again. While it cannot be opened, appends say so and do no harm. */
static void test_a_conversation_goes_on(void **state) {
    (void)state;
    enum { COUNT = 150 };
    sp_error error = {0};
    sp_device *device;
    sp_model *model;
    sp_session *session, *other;
    sp_device_counters counters;
    int32_t tokens[COUNT];
    const sp_session_options options = {.context_max = 256, .logits_rows_max = 1};
    for (int32_t i = 0; i < COUNT; i++) {
        tokens[i] = 100 + i;
    }
    TEST_OK(sp_device_open("cuda", NULL, &device, &error), error);
    TEST_OK(sp_model_open(test_source_path("models/samepage-demo-q8_0.gguf"), &model, &error), error);
    TEST_OK(sp_model_load(model, device, NULL, NULL, &error), error);
    TEST_OK(sp_session_create(model, device, &options, &session, &error), error);
    TEST_OK(sp_session_create(model, device, &options, &other, &error), error);
    TEST_OK(sp_session_append(session, tokens, COUNT, SP_LOGITS_LAST, &error), error);
    long live = fake_cuda_live_();
    const spi_spare_wish wish = {.options = {.size_bytes = MIB}};
    sp_region *spare;
    uint64_t left_bytes;
    TEST_OK(spi_spare_take(device, &wish, &spare, &left_bytes, &error), error);
    spi_spare_leave(device, spare);
    sp_device_get_counters(device, &counters);
    assert_int_equal(counters.spare_bytes, SP_REGION_ALIGN_BYTES);

    fake_cuda_fail_("cuEventQuery", 0, 700);
    TEST_OK(sp_session_append(session, tokens, 1, SP_LOGITS_LAST, &error), error);
    assert_int_equal(sp_session_token_count(session), COUNT + 1);
    sp_device_get_counters(device, &counters);
    assert_int_equal(counters.revived, 1);
    assert_int_equal(counters.spare_bytes, 0); /* nobody's memory is not linked again */
    assert_true(counters.copied_bytes > 0);    /* the blocks of before */
    assert_int_equal(fake_cuda_calls_("cuDevicePrimaryCtxRelease_v2"), 1);
    assert_int_equal(fake_cuda_live_(), live);

    /* What was written by hand is taken over at once, or with the card that is opened for it. */
    uint64_t copied = counters.copied_bytes;
    TEST_OK(sp_session_edited(session, 10, 1000, &error), error);
    sp_device_get_counters(device, &counters);
    assert_int_equal(counters.copied_bytes, copied + 1000);
    fake_cuda_fail_("cuMemcpyHtoDAsync_v2", 0, 719);
    TEST_OK(sp_session_edited(session, 10, 1000, &error), error);
    sp_device_get_counters(device, &counters);
    assert_int_equal(counters.revived, 2);

    fake_cuda_fail_("cuLaunchKernelEx", 0, 719);
    TEST_OK(sp_session_append(other, tokens, 2, SP_LOGITS_LAST, &error), error);
    sp_device_get_counters(device, &counters);
    assert_int_equal(counters.revived, 3);

    /* Not where the stack is a fiber's: there it says so, and nothing is touched. */
    sp_session *none;
    spi_device_may_revive(device, false);
    fake_cuda_fail_("cuLaunchKernelEx", 0, 719);
    assert_int_equal(sp_session_append(other, tokens, 2, SP_LOGITS_LAST, &error), SP_DEVICE_LOST);
    assert_says(error.message, "opens it anew");
    assert_int_equal(sp_session_create(model, device, &options, &none, &error), SP_DEVICE_LOST);
    assert_null(none);
    spi_device_may_revive(device, true);
    TEST_OK(sp_session_append(other, tokens, 2, SP_LOGITS_LAST, &error), error);
    sp_device_get_counters(device, &counters);
    assert_int_equal(counters.revived, 4);

    static const char *const ways[] = {"cuDevicePrimaryCtxRetain", "cuMemHostRegister_v2", "cuMemAlloc_v2"};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        fake_cuda_fail_every_("cuLaunchCooperativeKernel", 700);
        assert_int_equal(sp_session_append(session, tokens, 1, SP_LOGITS_LAST, &error), SP_DEVICE_LOST);
        fake_cuda_fail_every_(ways[i], 719);
        assert_int_equal(sp_session_append(session, tokens, 1, SP_LOGITS_LAST, &error), SP_DEVICE_LOST);
        assert_says(error.message, "cuda was lost and cannot be opened again: ");
        assert_int_equal(fake_cuda_live_(), 0);
        sp_session *late;
        assert_int_equal(sp_session_create(model, device, &options, &late, &error), SP_DEVICE_LOST);
        sp_device_info info;
        sp_device_get_info(device, &info);
        assert_string_equal(info.name, "cuda");
        assert_int_equal(sp_session_token_count(session), COUNT + 1 + (uint32_t)i);
        fake_cuda_fail_(NULL, -1, 0);
        TEST_OK(sp_session_append(session, tokens, 1, SP_LOGITS_LAST, &error), error);
    }
    fake_cuda_fail_every_("cuLaunchCooperativeKernel", 700);
    assert_int_equal(sp_session_append(session, tokens, 1, SP_LOGITS_LAST, &error), SP_DEVICE_LOST);
    fake_cuda_fail_every_("cuDevicePrimaryCtxRetain", 719);
    assert_int_equal(sp_session_append(session, tokens, 1, SP_LOGITS_LAST, &error), SP_DEVICE_LOST);
    sp_session_destroy(session); /* everything can be closed on what is gone */
    sp_session_destroy(other);
    sp_model_close(model);
    sp_device_close(device);
    test_stand_in_clean();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_no_driver, test_stand_in_reset),
        cmocka_unit_test_setup(test_old_driver, test_stand_in_reset),
        cmocka_unit_test_setup(test_driver_without_card, test_stand_in_reset),
        cmocka_unit_test_setup(test_old_card, test_stand_in_reset),
        cmocka_unit_test_setup(test_lists_and_picks, test_stand_in_reset),
        cmocka_unit_test_setup(test_one_card_is_ill, test_stand_in_reset),
        cmocka_unit_test_setup(test_auto_goes_on, test_stand_in_reset),
        cmocka_unit_test_setup(test_a_life, test_stand_in_reset),
        cmocka_unit_test_setup(test_generations, test_stand_in_reset),
        cmocka_unit_test_setup(test_no_copies_a_token, test_stand_in_reset),
        cmocka_unit_test_setup(test_picks, test_stand_in_reset),
        cmocka_unit_test_setup(test_every_call_fails, test_stand_in_reset),
        cmocka_unit_test_setup(test_every_allocation_fails, test_stand_in_reset),
        cmocka_unit_test_setup(test_lost, test_stand_in_reset),
        cmocka_unit_test_setup(test_a_conversation_goes_on, test_stand_in_reset),
    };
    return cmocka_run_group_tests(tests, test_stand_in_open, NULL);
}
