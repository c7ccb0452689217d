/* tests/unit/test_rewrite.c - what the pass over modules adds, what it refuses, and that nothing breaks it. */
#include <string.h>

#include "base/memory.h"
#include "support/guests.h"

static spi_rewrite rewritten(const char *text) {
    wasm_byte_vec_t wasm = test_wasm(text);
    spi_rewrite rewrite;
    sp_error error = {0};
    TEST_OK(spi_rewrite_module(wasm.data, wasm.size, &rewrite, &error), error);
    wasm_byte_vec_delete(&wasm);
    return rewrite;
}

static void refused(const char *text, const char *part) {
    wasm_byte_vec_t wasm = test_wasm(text);
    spi_rewrite rewrite;
    sp_error error = {0};
    assert_int_equal(spi_rewrite_module(wasm.data, wasm.size, &rewrite, &error), SP_UNSUPPORTED);
    if (!strstr(error.message, part)) {
        fail_msg("wanted \"%s\" in: %s", part, error.message);
    }
    assert_null(rewrite.wasm);
    wasm_byte_vec_delete(&wasm);
}

static const char everything[] =
    "(module (import \"samepage\" \"abi_version\" (func $host (result i32)))"
    " (type $f (func (result i32)))"
    " (memory (export \"memory\") 1) (table $t 4 funcref) (table $u 2 10 funcref)"
    " (global $a (mut i32) (i32.const 1)) (global $b i64 (i64.const 2)) (global $c (mut f64) (f64.const 3))"
    " (global $d (mut v128) (v128.const i64x2 4 5)) (global $e (mut funcref) (ref.func $two))"
    " (func $one (result i32) (i32.const 1)) (func $two (result i32) (i32.const 2))"
    " (func $three (result i32) (i32.const 3)) (func $unused (result i32) (i32.const 4))"
    " (func (export \"five\") (result i32) (call_indirect $t (type $f) (i32.const 1)))"
    " (elem (table $t) (i32.const 1) func $one $host) (elem declare func $three)"
    " (data (i32.const 8) \"hello\"))";

static void all_state_is_exported(void **state) {
    (void)state;
    spi_rewrite rewrite = rewritten(everything);
    const uint32_t globals[] = {0, 2, 3, 4}, tables[] = {0, 1}, functions[] = {0, 1, 2, 3, 5};
    assert_int_equal(rewrite.global_count, 4);
    assert_memory_equal(rewrite.globals, globals, sizeof globals);
    assert_int_equal(rewrite.table_count, 2);
    assert_memory_equal(rewrite.tables, tables, sizeof tables);
    assert_int_equal(rewrite.function_count, 5);
    assert_memory_equal(rewrite.functions, functions, sizeof functions);

    /* Wasmtime is the judge of what was made, and of each name. */
    sp_engine *engine = test_engine(NULL);
    sp_guest *guest = test_guest(engine, everything, NULL);
    for (uint32_t i = 0; i < rewrite.global_count; i++) {
        char name[24];
        wasmtime_extern_t item;
        size_t length = spi_rewrite_name('g', rewrite.globals[i], name);
        assert_true(wasmtime_instance_export_get(guest->context, &guest->instance, name, length, &item));
        assert_int_equal(item.kind, WASMTIME_EXTERN_GLOBAL);
    }
    assert_int_equal(test_result(guest, "five", 0, 0), 1);
    assert_string_equal(guest->module->exports, "five"); /* ours are not shown to people */
    test_guest_end(guest);
    sp_engine_destroy(engine);
    spi_rewrite_free(&rewrite);
}

static void a_module_without_exports_gets_some(void **state) {
    (void)state;
    spi_rewrite rewrite = rewritten("(module (global (mut i32) (i32.const 1)))");
    assert_int_equal(rewrite.global_count, 1);
    spi_rewrite_free(&rewrite);
    rewrite = rewritten("(module)");
    assert_non_null(rewrite.wasm);
    spi_rewrite_free(&rewrite);
}

/* Addresses are signed in the file: those of the last 128 MiB of four GiB are short negative numbers there. */
static void the_end_of_data_is_known(void **state) {
    (void)state;
    static const struct {
        const char *module;
        uint64_t end;
    } cases[] = {
        {"(module (memory 1))", 0},
        {"(module (memory 1) (data (i32.const 8) \"hello\"))", 13},
        {"(module (memory 1) (data (i32.const 64) \"hello\") (data (i32.const 8) \"hello\"))", 69},
        {"(module (memory 65536) (data (i32.const 0x80000000) \"hello\"))", 0x80000005},
        {"(module (memory 65536) (data (i32.const 0xffff0000) \"hello\"))", 0xffff0005},
        {"(module (memory 65536) (data (i32.const -64) \"hello\"))", 0xffffffc5},
        {"(module (memory 1) (global $g i32 (i32.const 8)) (data (global.get $g) \"hello\"))", UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        spi_rewrite rewrite = rewritten(cases[i].module);
        assert_int_equal(rewrite.data_end, cases[i].end);
        spi_rewrite_free(&rewrite);
    }
}

static void reasons_are_given(void **state) {
    (void)state;
    refused("(module (memory (export \"memory\") 1) (func $f) (start $f))", "start function");
    refused("(module (memory 1) (data \"passive\"))", "passive data segment");
    refused("(module (func $f) (elem func $f))", "passive element segment");
    refused("(module (table 1 externref))", "table 0");
    refused("(module (global (mut externref) (ref.null extern)))", "global 0");
    refused("(module (import \"a\" \"b\" (global i32)))", "imports");
    refused("(module (func (export \"samepage.f1\")))", "begin with \"samepage.\"");
}

static void plain_guests_of_such_modules_run(void **state) {
    (void)state;
    sp_engine *engine = test_engine(NULL);
    sp_guest *guest = test_guest(engine,
                                 "(module (memory (export \"memory\") 1) (data $d \"*\") (func (export \"get\")"
                                 " (result i32) (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))"
                                 " (i32.load8_u (i32.const 0))))",
                                 NULL);
    sp_error error = {0};
    assert_int_equal(sp_module_check_durable(guest->module, &error), SP_UNSUPPORTED);
    assert_non_null(strstr(error.message, "passive data segment"));
    assert_int_equal(test_result(guest, "get", 0, 0), '*');
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

/* Whatever is cut off or flipped: an answer, and nothing that Wasmtime would call a crash of ours. */
static void damage_is_survived(void **state) {
    (void)state;
    wasm_byte_vec_t wasm = test_wasm(everything);
    uint8_t *copy = spi_alloc(wasm.size, 1);
    spi_rewrite rewrite;
    for (size_t i = 0; i < wasm.size; i++) {
        uint8_t *part = spi_alloc(i, 1); /* of its own, so that a byte read behind it is found */
        memcpy(part, wasm.data, i);
        if (spi_rewrite_module(part, i, &rewrite, NULL) == SP_OK) {
            spi_rewrite_free(&rewrite);
        }
        spi_free(part);
        for (int bit = 0; bit < 8; bit++) {
            memcpy(copy, wasm.data, wasm.size);
            copy[i] ^= (uint8_t)(1 << bit);
            if (spi_rewrite_module(copy, wasm.size, &rewrite, NULL) == SP_OK) {
                spi_rewrite_free(&rewrite);
            } else {
                assert_null(rewrite.wasm);
            }
        }
    }
    spi_free(copy);
    wasm_byte_vec_delete(&wasm);
}

static void any_allocation_may_fail(void **state) {
    (void)state;
    wasm_byte_vec_t wasm = test_wasm(everything);
    sp_status status = SP_NO_MEMORY;
    for (long i = 0; status != SP_OK; i++) {
        spi_rewrite rewrite;
        sp_error error = {0};
        assert_true(i < 200);
        spi_memory_fail_after(i);
        status = spi_rewrite_module(wasm.data, wasm.size, &rewrite, &error);
        spi_memory_fail_after(-1);
        assert_true(status == SP_OK || status == SP_NO_MEMORY);
        spi_rewrite_free(&rewrite);
    }
    wasm_byte_vec_delete(&wasm);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_state_is_exported),
        cmocka_unit_test(a_module_without_exports_gets_some),
        cmocka_unit_test(the_end_of_data_is_known),
        cmocka_unit_test(reasons_are_given),
        cmocka_unit_test(plain_guests_of_such_modules_run),
        cmocka_unit_test(damage_is_survived),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
