/* The CUDA backend's links over the stand-in for the driver (tests/support/fake_cuda.c): blocks of a store, blocks that
 * are sent ahead or did not arrive, regions that change hands with what the card has behind them, registration and
 * memory that are refused. */
#include "support/cuda_stand_in.h"

#include "device/spare.h"
#include "samepage/store.h"
#include "session/session.h"
#include "snapshot/snapshot.h"
#include "support/device_life.h"

#define MIB ((size_t)1 << 20)

static sp_session *append_through(sp_store *store, sp_model *model, sp_device *device, const int32_t *tokens,
                                  uint32_t count) {
    const sp_session_options options = {.context_max = 256, .logits_rows_max = 1};
    sp_session *session;
    sp_error error = {0};
    TEST_OK(sp_session_create(model, device, &options, &session, &error), error);
    TEST_OK(sp_store_attach(store, session, &error), error);
    TEST_OK(sp_session_append(session, tokens, count, SP_LOGITS_LAST, &error), error);
    return session;
}

/* Pages of files would be copied one by one when they are pinned: a store's blocks are copied, all at once, and nothing
 * that is linked is let go for it. */
static void test_blocks_are_copied(void **state) {
    (void)state;
    enum { COUNT = 150, BLOCKS = 2 };
    sp_error error = {0};
    sp_device *device;
    sp_model *model;
    sp_store *store;
    sp_store_stats stats;
    int32_t tokens[COUNT];
    TEST_OK(sp_device_open("cuda", NULL, &device, &error), error);
    assert_false(spi_device_shares_files(device));
    assert_true(spi_device_takes(device, SP_BACKING_SHAREABLE));
    TEST_OK(sp_model_open(test_source_path("models/samepage-demo-q8_0.gguf"), &model, &error), error);
    TEST_OK(sp_model_load(model, device, NULL, NULL, &error), error);
    TEST_OK(sp_store_open(&(sp_store_options){0}, &store, &error), error);
    for (int32_t i = 0; i < COUNT; i++) {
        tokens[i] = 100 + i;
    }
    sp_session *first = append_through(store, model, device, tokens, COUNT);
    long unregistered = fake_cuda_calls_("cuMemHostUnregister");
    sp_session *second = append_through(store, model, device, tokens, COUNT);
    assert_int_equal(fake_cuda_calls_("cuMemHostUnregister"), unregistered);
    sp_store_get_stats(store, &stats);
    assert_int_equal(stats.hits, BLOCKS);
    assert_int_equal(stats.copied_blocks, BLOCKS);
    assert_int_equal(stats.mapped_blocks, 0);
    assert_memory_equal(spi_session_block(first, 0), spi_session_block(second, 0),
                        BLOCKS * spi_kv_block_bytes_of(first));
    sp_session_destroy(first);
    sp_session_destroy(second);
    sp_store_close(store);
    sp_model_close(model);
    sp_device_close(device);
    test_stand_in_clean();
}

/* ---- regions that change hands ---- */

static size_t region_bytes(const bench_model *model) {
    return (size_t)bench_model_logits_offset(model) + model->shape.vocab * sizeof(float);
}

/* The model's region ends with its user, and the next user gets one. NULL in the model: there is none. */
static sp_status change_hands(bench_model *model, sp_error *error) {
    const spi_spare_wish wish = {.options = {.size_bytes = region_bytes(model)}};
    uint64_t left_bytes;
    spi_spare_leave(model->device, model->region);
    return spi_spare_take(model->device, &wish, &model->region, &left_bytes, error);
}

static sp_status run_one(bench_model *model, uint32_t position, sp_error *error) {
    return bench_model_run(model, 1, position, true, error) < 0 ? error->status : SP_OK;
}

/* Two users of one region, the second with blocks that were computed elsewhere; then one more beside it, which finds no
 * memory that nobody uses. */
static sp_status live_with_spares(sp_error *error) {
    sp_device *device;
    sp_status status = sp_device_open("cuda", NULL, &device, error);
    if (status) {
        return status;
    }
    bench_model model = {0};
    sp_region *other = NULL;
    status = bench_model_open(device, &test_small_shape, 16, 300, &model, error);
    status = status ? status : run_one(&model, 0, error);
    status = status ? status : change_hands(&model, error);
    if (!status) {
        spi_device_ahead(device, model.region, 0, model.tape.kv.block_bytes * 2);
        status = run_one(&model, 130, error);
    }
    if (!status) {
        const spi_spare_wish wish = {.options = {.size_bytes = region_bytes(&model)}};
        uint64_t left_bytes;
        status = spi_spare_take(device, &wish, &other, &left_bytes, error);
    }
    if (other) {
        spi_spare_leave(device, other);
    }
    status = status ? status : sp_region_grow(model.region, 64 * MIB, error);
    bench_model_close(&model);
    sp_device_close(device);
    return status;
}

static void test_regions_change_hands(void **state) {
    (void)state;
    sp_error error = {0};
    sp_device *device;
    bench_model model;
    sp_device_counters counters;
    test_small_open(&device, &model);
    TEST_OK(run_one(&model, 0, &error), error);
    long registered = fake_cuda_calls_("cuMemHostRegister_v2"), made = fake_cuda_calls_("cuMemCreate");
    long reserved = fake_cuda_calls_("cuMemAddressReserve"), cleared = fake_cuda_calls_("cuMemsetD8Async");
    sp_region *region = model.region;
    memset(sp_region_base(region), 0x77, sp_region_size_bytes(region));
    TEST_OK(change_hands(&model, &error), error);
    assert_ptr_equal(model.region, region);
    for (size_t i = 0; i < sp_region_size_bytes(region); i++) {
        assert_int_equal(sp_region_base(region)[i], 0);
    }
    TEST_OK(run_one(&model, 0, &error), error);
    /* Nothing is registered, reserved or made again; what the card had of the one before is cleared. */
    assert_int_equal(fake_cuda_calls_("cuMemHostRegister_v2"), registered);
    assert_int_equal(fake_cuda_calls_("cuMemAddressReserve"), reserved);
    assert_int_equal(fake_cuda_calls_("cuMemCreate"), made);
    assert_int_equal(fake_cuda_calls_("cuMemsetD8Async"), cleared + 1);
    sp_device_get_counters(device, &counters);
    assert_int_equal(counters.spares_taken, 1);
    test_small_close(device, &model);
}

/* Blocks that are about to be read are sent once: not again by the run that reads them. */
static void test_blocks_are_sent_ahead(void **state) {
    (void)state;
    sp_error error = {0};
    sp_device *device;
    bench_model model;
    sp_device_counters before, now;
    test_small_open(&device, &model);
    uint64_t bytes = 2 * model.tape.kv.block_bytes;
    TEST_OK(spi_device_host_wrote(device, model.region, 0, sp_region_size_bytes(model.region), &error), error);
    sp_device_get_counters(device, &before);
    spi_device_ahead(device, model.region, 0, bytes);
    sp_device_get_counters(device, &now);
    /* All of the one page that there is. */
    assert_true(bytes < sp_region_size_bytes(model.region));
    assert_int_equal(now.copied_bytes - before.copied_bytes, sp_region_size_bytes(model.region));
    TEST_OK(run_one(&model, 128, &error), error);
    before = now;
    sp_device_get_counters(device, &now);
    assert_int_equal(now.copied_bytes, before.copied_bytes);
    test_small_close(device, &model);
}

/* The card's memory that waits behind a region for its next user is given to who needs it now. */
static void test_spare_memory_of_the_card(void **state) {
    (void)state;
    sp_error error = {0};
    sp_device *device;
    bench_model first, second;
    TEST_OK(sp_device_open("cuda", NULL, &device, &error), error);
    TEST_OK(bench_model_open(device, &test_small_shape, 16, 300, &first, &error), error);
    TEST_OK(bench_model_open(device, &test_small_shape, 16, 300, &second, &error), error);
    TEST_OK(run_one(&first, 0, &error), error);
    spi_spare_leave(device, first.region);
    first.region = NULL;
    long released = fake_cuda_calls_("cuMemRelease");
    fake_cuda_fail_("cuMemCreate", 0, SPI_CU_OUT_OF_MEMORY);
    TEST_OK(run_one(&second, 0, &error), error);
    assert_int_equal(fake_cuda_calls_("cuMemRelease"), released + 1);
    const spi_spare_wish wish = {.options = {.size_bytes = region_bytes(&first)}};
    uint64_t left_bytes;
    TEST_OK(spi_spare_take(device, &wish, &first.region, &left_bytes, &error), error);
    TEST_OK(run_one(&first, 0, &error), error); /* its addresses are there, and get memory again */
    bench_model_close(&first);
    bench_model_close(&second);
    sp_device_close(device);
    test_stand_in_clean();
}

static void test_every_call_fails(void **state) {
    (void)state;
    test_stand_in_every_call_fails(live_with_spares);
}

static void test_every_allocation_fails(void **state) {
    (void)state;
    test_every_allocation_of_life_fails(live_with_spares, fake_cuda_reset_, test_stand_in_clean);
}

/* ---- refusals ---- */

static void test_registration_refused(void **state) {
    (void)state;
    sp_error error = {0};
    sp_device *device;
    sp_region *region;
    TEST_OK(sp_device_open("cuda", NULL, &device, &error), error);
    sp_region_options options = {.reserve_bytes = 64 * MIB, .size_bytes = 1};
    TEST_OK(sp_region_create(&options, &region, &error), error);
    fake_cuda_fail_("cuMemHostRegister_v2", 0, 1);
    assert_int_equal(sp_device_link(device, region, &error), SP_LINK_REFUSED);
    TEST_OK(sp_device_link(device, region, &error), error);
    size_t size = sp_region_size_bytes(region);
    fake_cuda_fail_("cuMemHostRegister_v2", 0, 1);
    assert_int_equal(sp_region_grow(region, 40 * MIB, &error), SP_LINK_REFUSED);
    assert_int_equal(sp_region_size_bytes(region), size);
    TEST_OK(sp_region_grow(region, 40 * MIB, &error), error);
    sp_device_unlink(device, region);
    sp_region_destroy(region);
    sp_device_close(device);
    test_stand_in_clean();
}

static void test_no_memory_for_blocks(void **state) {
    (void)state;
    sp_error error = {0};
    sp_device *device;
    bench_model model;
    test_small_open(&device, &model);
    fake_cuda_fail_("cuMemCreate", 0, SPI_CU_OUT_OF_MEMORY);
    assert_true(bench_model_run(&model, 1, 0, true, &error) < 0);
    assert_int_equal(error.status, SP_NO_MEMORY);
    assert_non_null(strstr(error.message, "close a session"));
    assert_true(bench_model_run(&model, 1, 0, true, &error) >= 0); /* it is not lost */
    test_small_close(device, &model);
}

/* A copy that fails behind memory that was just mapped: the memory is given back, so that the next run begins anew and
 * takes the blocks over that this one did not. */
static void test_blocks_that_did_not_arrive(void **state) {
    (void)state;
    sp_error error = {0};
    sp_device *device;
    bench_model model;
    sp_device_counters before, now;
    test_small_open(&device, &model);
    sp_device_get_counters(device, &before);
    long live = fake_cuda_live_();
    fake_cuda_fail_("cuMemcpyHtoDAsync_v2", 0, SPI_CU_OUT_OF_MEMORY);
    assert_true(bench_model_run(&model, 1, 200, true, &error) < 0); /* behind blocks that were computed elsewhere */
    assert_int_equal(error.status, SP_NO_MEMORY);
    assert_int_equal(fake_cuda_live_(), live);
    assert_true(bench_model_run(&model, 1, 200, true, &error) >= 0);
    sp_device_get_counters(device, &now);
    assert_true(now.copied_bytes > before.copied_bytes);
    test_small_close(device, &model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_blocks_are_copied, test_stand_in_reset),
        cmocka_unit_test_setup(test_regions_change_hands, test_stand_in_reset),
        cmocka_unit_test_setup(test_blocks_are_sent_ahead, test_stand_in_reset),
        cmocka_unit_test_setup(test_spare_memory_of_the_card, test_stand_in_reset),
        cmocka_unit_test_setup(test_every_call_fails, test_stand_in_reset),
        cmocka_unit_test_setup(test_every_allocation_fails, test_stand_in_reset),
        cmocka_unit_test_setup(test_registration_refused, test_stand_in_reset),
        cmocka_unit_test_setup(test_no_memory_for_blocks, test_stand_in_reset),
        cmocka_unit_test_setup(test_blocks_that_did_not_arrive, test_stand_in_reset),
    };
    return cmocka_run_group_tests(tests, test_stand_in_open, NULL);
}
