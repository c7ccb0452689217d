/* Linear memory: a region that the guest sees exactly, grows and cannot leave. */
#include "support/guests.h"

#include <string.h>

#include "os/vm.h"

static const char program[] =
    "(module"
    " (memory (export \"memory\") 3)"
    " (data (i32.const 16) \"hello\")"
    " (func (export \"size\") (result i32) memory.size)"
    " (func (export \"grow\") (param i32) (result i32) (memory.grow (local.get 0)))"
    " (func (export \"load\") (param i32) (result i32) (i32.load (local.get 0)))"
    " (func (export \"load_far\") (param i32) (result i32) (i32.load offset=0xfffffff0 (local.get 0)))"
    " (func (export \"store\") (param i32) (i32.store (local.get 0) (i32.const 0x01020304))))";

static void the_region_is_the_memory(void **state) {
    sp_engine *engine = test_engine(NULL);
    sp_guest *guest = test_guest(engine, program, NULL);
    sp_region *region = sp_guest_region(guest);
    uint8_t *base = sp_region_base(region);
    (void)state;
    assert_int_equal((uintptr_t)base % SP_REGION_ALIGN_BYTES, 0);
    assert_int_equal(sp_region_size_bytes(region), 3 << 16);
    assert_memory_equal(base + 16, "hello", 5);
    assert_int_equal(test_result(guest, "load", 16, 1), 0x6c6c6568);
    assert_int_equal(test_call(guest, "store", &(int64_t){65536}, 1), SP_GUEST_IDLE);
    assert_memory_equal(base + 65536, "\4\3\2\1", 4);
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

static void growing_keeps_the_base(void **state) {
    sp_engine *engine = test_engine(NULL);
    sp_guest *guest = test_guest(engine, program, NULL);
    sp_region *region = sp_guest_region(guest);
    uint8_t *base = sp_region_base(region);
    uint64_t pages = 3;
    (void)state;
    for (int64_t step = 1; step < 2000; step *= 3) {
        assert_int_equal(test_result(guest, "grow", step, 1), pages);
        pages += (uint64_t)step;
        assert_int_equal(test_result(guest, "size", 0, 0), pages);
        assert_int_equal(sp_region_size_bytes(region), pages << 16);
        assert_ptr_equal(sp_region_base(region), base);
        assert_int_equal(test_result(guest, "load", (int64_t)(pages << 16) - 4, 1), 0);
    }
    assert_int_equal(test_result(guest, "load", 16, 1), 0x6c6c6568);
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

/* One guest for each place, because a trap is the end of one. */
static void expect_fault(sp_engine *engine, uint32_t grow_pages, const char *function, int64_t place) {
    sp_guest *guest = test_guest(engine, program, NULL);
    if (grow_pages) {
        test_result(guest, "grow", grow_pages, 1);
    }
    assert_int_equal(test_call(guest, function, &place, 1), SP_GUEST_FAILED);
    test_failed(guest, SP_TRAPPED, "access outside of its memory");
    test_guest_end(guest);
}

static void what_lies_behind_faults(void **state) {
    sp_engine *engine = test_engine(NULL);
    sp_guest *guest = test_guest(engine, program, NULL);
    sp_region *region = sp_guest_region(guest);
    (void)state;
    /* More is committed than the guest may see, or this test shows nothing. */
    assert_true(sp_region_committed_bytes(region) > sp_region_size_bytes(region));
    assert_int_equal(test_result(guest, "load", (3 << 16) - 4, 1), 0);
    test_guest_end(guest);
    expect_fault(engine, 0, "load", (3 << 16) - 3);
    expect_fault(engine, 0, "load", 3 << 16);
    expect_fault(engine, 1, "load", (4 << 16) - 1);
    expect_fault(engine, 0, "load", INT64_C(0xfffffffc));
    expect_fault(engine, 0, "load_far", INT64_C(0xffffffff));
    sp_engine_destroy(engine);
}

static void a_limit_holds(void **state) {
    sp_engine *engine = test_engine(NULL);
    sp_guest_options options = {.memory_bytes_max = 10 << 16};
    sp_guest *guest = test_guest(engine, program, &options);
    sp_module *module = guest->module;
    sp_error error = {0};
    uint64_t offset;
    (void)state;
    assert_int_equal(test_result(guest, "grow", 7, 1), 3);
    assert_int_equal(test_result(guest, "grow", 1, 1), -1);
    assert_int_equal(test_result(guest, "size", 0, 0), 10);
    assert_int_equal(spi_guest_reserve(guest, 1, 1, &offset, &error), SP_NO_MEMORY);
    sp_guest_destroy(guest);

    options.memory_bytes_max = (3 << 16) - 1;
    assert_int_equal(sp_guest_create(module, &options, &guest, &error), SP_LIMIT);
    assert_non_null(strstr(error.message, "196608"));
    assert_null(guest);
    sp_module_close(module);
    sp_engine_destroy(engine);
}

static void modules_without_one_memory(void **state) {
    sp_engine *engine = test_engine(NULL);
    sp_error error = {0};
    sp_guest *guest;
    sp_module *module = test_module(engine, "(module (memory 1))");
    (void)state;
    assert_int_equal(sp_guest_create(module, NULL, &guest, &error), SP_UNSUPPORTED);
    assert_non_null(strstr(error.message, "exports no memory"));
    sp_module_close(module);

    static const char *const refused[] = {"(module (memory (export \"memory\") 1) (memory 1))",
                                          "(module (memory (export \"memory\") i64 1))",
                                          "(module (memory (export \"memory\") 1 1 shared))"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        wasm_byte_vec_t wasm = test_wasm(refused[i]);
        assert_int_equal(sp_module_open_bytes(engine, "odd", wasm.data, wasm.size, &module, &error), SP_BAD_FILE);
        assert_null(strchr(error.message, '\n'));
        wasm_byte_vec_delete(&wasm);
    }
    sp_engine_destroy(engine);
}

static void an_empty_memory_can_grow(void **state) {
    sp_engine *engine = test_engine(NULL);
    sp_guest *guest = test_guest(engine,
                                 "(module (memory (export \"memory\") 0)"
                                 " (func (export \"grow\") (param i32) (result i32) (memory.grow (local.get 0)))"
                                 " (func (export \"load\") (param i32) (result i32) (i32.load (local.get 0))))",
                                 NULL);
    (void)state;
    assert_int_equal(test_result(guest, "grow", 1, 1), 0);
    assert_int_equal(test_result(guest, "load", 65532, 1), 0);
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

static void reserving_grows_and_uses_again(void **state) {
    sp_engine *engine = test_engine(NULL);
    sp_guest *guest = test_guest(engine, program, NULL);
    sp_region *region = sp_guest_region(guest);
    sp_error error = {0};
    uint64_t a, b, c, again;
    (void)state;
    TEST_OK(spi_guest_reserve(guest, 100, 64, &a, &error), error);
    assert_int_equal(a, 3 << 16);
    TEST_OK(spi_guest_reserve(guest, 5 << 20, 2 << 20, &b, &error), error);
    assert_int_equal(b, 2 << 20);
    uint64_t size = sp_region_size_bytes(region);
    assert_int_equal(test_result(guest, "size", 0, 0) << 16, size);
    assert_true(b + (5 << 20) <= size);
    for (uint64_t i = 0; i < 5 << 20; i += 4096) {
        assert_int_equal(sp_region_base(region)[b + i], 0);
    }
    TEST_OK(spi_guest_reserve(guest, 1 << 16, 1 << 16, &c, &error), error); /* out of the gap before b */
    assert_true(c + (1 << 16) <= b && c >= a + 100);
    assert_int_equal(sp_region_size_bytes(region), size);

    spi_guest_release(guest, a, 100);
    spi_guest_release(guest, c, 1 << 16);
    spi_guest_release(guest, b, 5 << 20);
    TEST_OK(spi_guest_reserve(guest, size - (3 << 16), 64, &again, &error), error); /* all of it in one piece */
    assert_int_equal(again, 3 << 16);
    assert_int_equal(sp_region_size_bytes(region), size);
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

static void reserving_past_the_end_is_refused(void **state) {
    sp_engine *engine = test_engine(NULL);
    sp_guest *guest = test_guest(engine, program, NULL);
    sp_error error = {0};
    uint64_t offset;
    (void)state;
    assert_int_equal(spi_guest_reserve(guest, (uint64_t)4 << 30, 64, &offset, &error), SP_NO_MEMORY);
    assert_int_equal(spi_guest_reserve(guest, UINT64_MAX, 64, &offset, &error), SP_NO_MEMORY);
    assert_int_equal(spi_guest_reserve(guest, 0, 64, &offset, &error), SP_NO_MEMORY);
    assert_int_equal(sp_region_size_bytes(sp_guest_region(guest)), 3 << 16);
    test_guest_end(guest);

    /* A module's own maximum counts too. */
    guest = test_guest(engine, "(module (memory (export \"memory\") 1 4))", NULL);
    TEST_OK(spi_guest_reserve(guest, 3 << 16, 64, &offset, &error), error);
    assert_int_equal(spi_guest_reserve(guest, 1, 1, &offset, &error), SP_NO_MEMORY);
    assert_non_null(strstr(error.message, "may have 262144"));
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

/* Against a model that is as simple as can be: a byte for each unit. */
static void ranges_agree_with_a_model(void **state) {
    enum { UNITS = 400 };
    static uint8_t is_free[UNITS];
    spi_ranges ranges = {0};
    test_random random = test_random_seed(test_seed());
    struct {
        uint64_t offset, bytes;
    } held[UNITS];
    uint32_t held_count = 0;
    (void)state;
    memset(is_free, 1, sizeof is_free);
    spi_ranges_add(&ranges, 0, UNITS);
    for (int step = 0; step < 20000; step++) {
        if (held_count && test_random_below(&random, 2)) {
            uint32_t which = test_random_below(&random, held_count);
            spi_ranges_add(&ranges, held[which].offset, held[which].bytes);
            memset(is_free + held[which].offset, 1, held[which].bytes);
            held[which] = held[--held_count];
            continue;
        }
        uint64_t bytes = 1 + test_random_below(&random, 30), align = (uint64_t)1 << test_random_below(&random, 5);
        uint64_t offset = 0, expected = UNITS;
        for (uint64_t at = 0; at + bytes <= UNITS && expected == UNITS; at += align) {
            expected = memchr(is_free + at, 0, bytes) ? UNITS : at;
        }
        bool is_taken = spi_ranges_take(&ranges, bytes, align, &offset);
        assert_int_equal(is_taken, expected < UNITS);
        if (is_taken) {
            assert_int_equal(offset, expected);
            memset(is_free + offset, 0, bytes);
            held[held_count].offset = offset;
            held[held_count++].bytes = bytes;
        }
    }
    while (held_count) {
        held_count--;
        spi_ranges_add(&ranges, held[held_count].offset, held[held_count].bytes);
    }
    assert_int_equal(ranges.count, 1);
    assert_int_equal(spi_ranges_tail(&ranges, UNITS), 0);
    spi_ranges_free(&ranges);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_region_is_the_memory),       cmocka_unit_test(growing_keeps_the_base),
        cmocka_unit_test(what_lies_behind_faults),        cmocka_unit_test(a_limit_holds),
        cmocka_unit_test(modules_without_one_memory),     cmocka_unit_test(an_empty_memory_can_grow),
        cmocka_unit_test(reserving_grows_and_uses_again), cmocka_unit_test(reserving_past_the_end_is_refused),
        cmocka_unit_test(ranges_agree_with_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
