/* Guests when memory runs out: every allocation on the way fails once, and each failure is clean. */
#include <string.h>

#include "base/memory.h"
#include "support/guests.h"

enum { ALLOCATIONS_MAX = 500 };

static const char program[] =
    "(module (memory (export \"memory\") 1) (func (export \"seven\") (result i32) (i32.const 7)))";

/* All of a guest's life; the status of what failed first. */
static sp_status live(const wasm_byte_vec_t *wasm, sp_error *error) {
    static const char *const environment[] = {"A=1", "B=2"};
    const sp_engine_options engine_options = {.cache_folder = "", .compiler = ""};
    const sp_guest_options options = {.environment = environment, .environment_count = 2};
    sp_engine *engine = NULL;
    sp_module *module = NULL;
    sp_guest *guest = NULL;
    uint64_t offset;
    sp_status status = sp_engine_create(&engine_options, &engine, error);
    test_guest_signals();
    if (!status) {
        status = sp_module_open_bytes(engine, "guest", wasm->data, wasm->size, &module, error);
    }
    if (!status) {
        status = sp_guest_create(module, &options, &guest, error);
    }
    if (!status) {
        status = spi_guest_reserve(guest, 100, 64, &offset, error);
    }
    if (!status) {
        status = sp_guest_start(guest, "seven", NULL, 0, error);
    }
    if (!status) {
        assert_int_equal(sp_engine_run(engine, guest, -1), SP_OK);
        assert_int_equal(sp_guest_result(guest), 7);
    }
    sp_guest_destroy(guest);
    sp_module_close(module);
    sp_engine_destroy(engine);
    return status;
}

static void every_allocation_may_fail(void **state) {
    wasm_byte_vec_t wasm = test_wasm(program);
    int failed_count = 0;
    (void)state;
    for (long count = 0; count < ALLOCATIONS_MAX; count++) {
        sp_error error = {0};
        spi_memory_fail_after(count);
        sp_status status = live(&wasm, &error);
        spi_memory_fail_after(-1);
        if (status == SP_OK && count > 30) {
            break; /* past the last one */
        }
        if (status) {
            assert_int_equal(status, SP_NO_MEMORY);
            assert_true(strlen(error.message) > 0);
            failed_count++;
        }
    }
    assert_in_range(failed_count, 8, ALLOCATIONS_MAX - 10);
    wasm_byte_vec_delete(&wasm);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
