/* Calls, traps, limits, time slices and who waits for what. */
#include "support/guests.h"

#include <stdio.h>
#include <string.h>

#include "os/clock.h"
#include "session/session.h"

static const char program[] =
    "(module"
    " (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))"
    " (memory (export \"memory\") 1) (table 1 funcref) (type $t (func))"
    " (func (export \"add\") (param i32 i64) (result i64) (i64.add (i64.extend_i32_s (local.get 0)) (local.get 1)))"
    " (func (export \"negative\") (result i32) (i32.const -7))"
    " (func (export \"nothing\"))"
    " (func (export \"half\") (result f32) (f32.const 0.5))"
    " (func (export \"takes_float\") (param f32))"
    " (func $spin (export \"spin\") (loop $l (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))"
    "   (br $l)))"
    " (func (export \"count\") (param $n i32) (result i32) (local $i i32)"
    "   (loop $l (local.set $i (i32.add (local.get $i) (i32.const 1))) (i32.store (i32.const 4) (local.get $i))"
    "     (br_if $l (i32.lt_u (local.get $i) (local.get $n)))) (local.get $i))"
    " (func $deep (export \"deep\") (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))"
    " (func (export \"abort\") unreachable)"
    " (func (export \"divide\") (param i32) (result i32) (i32.div_s (i32.const 1) (local.get 0)))"
    " (func (export \"overflow\") (result i32) (i32.div_s (i32.const 0x80000000) (i32.const -1)))"
    " (func (export \"convert\") (result i32) (i32.trunc_f32_s (f32.const nan)))"
    " (func (export \"null\") (call_indirect (type $t) (i32.const 0)))"
    " (func (export \"table\") (call_indirect (type $t) (i32.const 9)))"
    " (func (export \"wild\") (drop (i32.load (i32.const 0xfffffff0))))"
    " (func (export \"exit\") (param i32) (call $exit (local.get 0)))"
    " (func (export \"_start\") (i32.store (i32.const 8) (i32.const 5))))";

static void results_and_arguments(void **state) {
    sp_engine *engine = test_engine(NULL);
    sp_guest *guest = test_guest(engine, program, NULL);
    sp_error error = {0};
    (void)state;
    assert_int_equal(sp_guest_get_state(guest), SP_GUEST_IDLE);
    assert_int_equal(test_call(guest, "add", (int64_t[]){-5, INT64_C(1) << 40}, 2), SP_GUEST_IDLE);
    assert_int_equal(sp_guest_result(guest), (INT64_C(1) << 40) - 5);
    assert_int_equal(test_result(guest, "negative", 0, 0), -7);
    assert_int_equal(test_result(guest, "nothing", 0, 0), 0);

    assert_int_equal(sp_guest_start(guest, "add", (int64_t[]){INT64_C(1) << 32, 0}, 2, &error), SP_INVALID);
    assert_int_equal(sp_guest_start(guest, "add", (int64_t[]){1}, 1, &error), SP_INVALID);
    assert_int_equal(sp_guest_start(guest, "nothing", (int64_t[9]){0}, 9, &error), SP_INVALID);
    assert_int_equal(sp_guest_start(guest, "takes_float", (int64_t[]){1}, 1, &error), SP_INVALID);
    assert_int_equal(sp_guest_start(guest, "half", NULL, 0, &error), SP_UNSUPPORTED);
    assert_int_equal(sp_guest_start(guest, "memory", NULL, 0, &error), SP_NOT_FOUND);
    assert_non_null(strstr(error.message, "add, negative, nothing"));
    assert_int_equal(sp_guest_get_state(guest), SP_GUEST_IDLE);

    TEST_OK(sp_guest_start(guest, "nothing", NULL, 0, &error), error);
    assert_int_equal(sp_guest_start(guest, "nothing", NULL, 0, &error), SP_BUSY);
    assert_int_equal(sp_engine_run(engine, NULL, -1), SP_OK);
    assert_int_equal(sp_engine_run(engine, guest, -1), SP_OK);
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

static void every_trap_ends_its_guest_alone(void **state) {
    static const struct {
        const char *function, *text;
        uint32_t argument_count;
    } cases[] = {
        {"deep", "nested too deep", 1},        {"abort", "abort (unreachable), in function ", 0},
        {"divide", "division by zero", 1},     {"overflow", "integer overflow", 0},
        {"convert", "no integer can hold", 0}, {"null", "null function pointer", 0},
        {"table", "outside of a table", 0},    {"wild", "access outside of its memory", 0},
    };
    sp_engine *engine = test_engine(NULL);
    sp_guest *other = test_guest(engine, program, NULL);
    sp_error error = {0};
    int64_t zero = 0, many = 30000000;
    (void)state;
    TEST_OK(sp_guest_start(other, "count", &many, 1, &error), error);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sp_guest *guest = test_guest(engine, program, NULL);
        assert_int_equal(test_call(guest, cases[i].function, &zero, cases[i].argument_count), SP_GUEST_FAILED);
        test_failed(guest, SP_TRAPPED, cases[i].text);
        assert_non_null(strstr(sp_guest_error(guest)->message, cases[i].function));
        assert_int_equal(sp_guest_start(guest, "nothing", NULL, 0, &error), SP_TRAPPED);
        test_guest_end(guest);
    }
    assert_int_equal(sp_engine_run(engine, other, 20000), SP_OK);
    assert_int_equal(sp_guest_get_state(other), SP_GUEST_IDLE);
    assert_int_equal(sp_guest_result(other), many);
    test_guest_end(other);
    sp_engine_destroy(engine);
}

static void names_of_functions_are_told(void **state) {
    sp_engine *engine = test_engine(NULL);
    sp_guest *guest = test_guest(engine,
                                 "(module (memory (export \"memory\") 1)"
                                 " (func $inner unreachable) (func (export \"outer\") (call $inner)))",
                                 NULL);
    (void)state;
    assert_int_equal(test_call(guest, "outer", NULL, 0), SP_GUEST_FAILED);
    test_failed(guest, SP_TRAPPED, "guest trapped in outer: abort (unreachable), in inner (at 0x");
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

static void exits(void **state) {
    sp_engine *engine = test_engine(NULL);
    sp_error error = {0};
    (void)state;
    for (int64_t code = 0; code < 256; code += 51) {
        sp_guest *guest = test_guest(engine, program, NULL);
        assert_int_equal(test_call(guest, "exit", &code, 1), SP_GUEST_EXITED);
        assert_int_equal(sp_guest_exit_code(guest), code);
        assert_int_equal(sp_guest_start(guest, "nothing", NULL, 0, &error), SP_INVALID);
        test_guest_end(guest);
    }
    sp_guest *guest = test_guest(engine, program, NULL);
    assert_int_equal(test_call(guest, "_start", NULL, 0), SP_GUEST_EXITED);
    assert_int_equal(sp_guest_exit_code(guest), 0);
    assert_int_equal(sp_region_base(sp_guest_region(guest))[8], 5);
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

static void initialize_runs_once_and_first(void **state) {
    static const char reactor[] =
        "(module (memory (export \"memory\") 1) (global $n (mut i32) (i32.const 0))"
        " (func (export \"_initialize\") (global.set $n (i32.add (global.get $n) (i32.const 10))))"
        " (func (export \"value\") (param i32) (result i32) (i32.add (global.get $n) (local.get 0))))";
    sp_engine *engine = test_engine(NULL);
    sp_guest *guest = test_guest(engine, reactor, NULL);
    (void)state;
    assert_int_equal(test_result(guest, "value", 1, 1), 11);
    assert_int_equal(test_result(guest, "value", 2, 1), 12);
    test_guest_end(guest);
    guest = test_guest(engine, reactor, NULL);
    assert_int_equal(test_result(guest, "_initialize", 0, 0), 0);
    assert_int_equal(test_result(guest, "value", 3, 1), 13);
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

static void fuel_runs_out(void **state) {
    sp_engine *engine = test_engine(NULL);
    sp_guest_options options = {.fuel = 1000000};
    sp_guest *guest = test_guest(engine, program, &options);
    sp_module *module = guest->module;
    sp_error error = {0};
    (void)state;
    assert_int_equal(test_result(guest, "count", 1000, 1), 1000);
    assert_int_equal(test_call(guest, "spin", NULL, 0), SP_GUEST_FAILED);
    test_failed(guest, SP_LIMIT, "used up its fuel in spin");
    sp_guest_destroy(guest);
    /* The same module without a limit is not metered. */
    TEST_OK(sp_guest_create(module, NULL, &guest, &error), error);
    assert_int_equal(test_result(guest, "count", 3000000, 1), 3000000);
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

static void a_deadline_ends_a_spinner(void **state) {
    sp_engine *engine = test_engine(NULL);
    sp_guest_options options = {.deadline_ms = 30};
    sp_guest *guest = test_guest(engine, program, &options);
    (void)state;
    assert_int_equal(test_result(guest, "count", 10, 1), 10);
    assert_int_equal(test_call(guest, "spin", NULL, 0), SP_GUEST_FAILED);
    test_failed(guest, SP_TIMEOUT, "30 ms");
    assert_true(sp_region_base(sp_guest_region(guest))[0] || sp_region_base(sp_guest_region(guest))[1]);
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

static void run_until_time_is_up(void **state) {
    sp_engine *engine = test_engine(NULL);
    sp_guest *guest = test_guest(engine, program, NULL);
    sp_guest_counters counters;
    sp_error error = {0};
    (void)state;
    TEST_OK(sp_guest_start(guest, "spin", NULL, 0, &error), error);
    assert_int_equal(sp_engine_run(engine, guest, 50), SP_TIMEOUT);
    assert_int_equal(sp_engine_run(engine, NULL, 20), SP_TIMEOUT);
    assert_int_equal(sp_guest_get_state(guest), SP_GUEST_RUNNING);
    sp_guest_get_counters(guest, &counters);
    assert_true(counters.slices >= 2);
    test_guest_end(guest); /* in the middle of its call */
    sp_engine_destroy(engine);
}

static void terminate_from_a_thread(void *env) {
    spi_sleep_ns(20000000);
    sp_guest_terminate(env);
}

static void a_spinner_can_be_terminated(void **state) {
    sp_engine *engine = test_engine(NULL);
    sp_guest *guest = test_guest(engine, program, NULL), *idle = test_guest(engine, program, NULL);
    spi_thread thread;
    sp_error error = {0};
    (void)state;
    assert_int_equal(spi_thread_start(&thread, "terminate", terminate_from_a_thread, guest), SP_OK);
    assert_int_equal(test_call(guest, "spin", NULL, 0), SP_GUEST_FAILED); /* or it would run for 20 s */
    spi_thread_join(&thread);
    test_failed(guest, SP_CANCELLED, "terminated in spin");
    test_guest_end(guest);

    sp_guest_terminate(idle);
    assert_int_equal(test_call(idle, "nothing", NULL, 0), SP_GUEST_FAILED);
    test_failed(idle, SP_CANCELLED, "terminated");
    TEST_OK(SP_OK, error);
    test_guest_end(idle);
    sp_engine_destroy(engine);
}

static void spinners_share(void **state) {
    enum { SPINNERS = 8 };
    sp_engine *engine = test_engine(NULL);
    sp_guest *spinners[SPINNERS];
    sp_error error = {0};
    (void)state;
    for (int i = 0; i < SPINNERS; i++) {
        spinners[i] = test_guest(engine, program, NULL);
        TEST_OK(sp_guest_start(spinners[i], "spin", NULL, 0, &error), error);
    }
    assert_int_equal(sp_engine_run(engine, NULL, 20), SP_TIMEOUT);
    sp_guest *ninth = test_guest(engine, program, NULL); /* starting works while they spin */
    assert_int_equal(test_result(ninth, "count", 20000000, 1), 20000000);
    assert_int_equal(sp_engine_run(engine, NULL, 300), SP_TIMEOUT);
    uint64_t least = UINT64_MAX, most = 0;
    for (int i = 0; i < SPINNERS; i++) {
        sp_guest_counters counters;
        uint32_t turns;
        sp_guest_get_counters(spinners[i], &counters);
        memcpy(&turns, sp_region_base(sp_guest_region(spinners[i])), sizeof turns);
        assert_true(turns > 0);
        least = counters.slices < least ? counters.slices : least;
        most = counters.slices > most ? counters.slices : most;
    }
    assert_true(most - least <= 1); /* round robin */
    test_guest_end(ninth);
    for (int i = 0; i < SPINNERS; i++) {
        test_guest_end(spinners[i]);
    }
    sp_engine_destroy(engine);
}

static void start_functions(void **state) {
    sp_engine *engine = test_engine(NULL);
    sp_guest *guest;
    sp_error error = {0};
    (void)state;
    guest = test_guest(
        engine, "(module (memory (export \"memory\") 1) (func $s (i32.store8 (i32.const 3) (i32.const 9))) (start $s))",
        NULL);
    assert_int_equal(sp_region_base(sp_guest_region(guest))[3], 9);
    test_guest_end(guest);

    sp_module *module = test_module(engine, "(module (memory (export \"memory\") 1) (func $s unreachable) (start $s))");
    assert_int_equal(sp_guest_create(module, NULL, &guest, &error), SP_TRAPPED);
    assert_non_null(strstr(error.message, "its start function"));
    assert_null(guest);
    sp_module_close(module);

    sp_guest_options options = {.deadline_ms = 20};
    module = test_module(engine, "(module (memory (export \"memory\") 1) (func $s (loop $l (br $l))) (start $s))");
    assert_int_equal(sp_guest_create(module, &options, &guest, &error), SP_TIMEOUT);
    sp_module_close(module);

    /* Data that does not fit is found while the instance is made. */
    module = test_module(engine, "(module (memory (export \"memory\") 1) (data (i32.const 65534) \"long\"))");
    assert_int_equal(sp_guest_create(module, NULL, &guest, &error), SP_TRAPPED);
    sp_module_close(module);
    sp_engine_destroy(engine);
}

/* Tables are the host's memory. */
static void tables_are_limited(void **state) {
    sp_engine *engine = test_engine(NULL);
    sp_guest *guest;
    sp_error error = {0};
    (void)state;
    guest = test_guest(engine,
                       "(module (memory (export \"memory\") 1) (table $t 10 funcref)"
                       " (func (export \"grow\") (param i32) (result i32)"
                       "   (table.grow $t (ref.null func) (local.get 0))))",
                       NULL);
    assert_int_equal(test_result(guest, "grow", 1000, 1), 10);
    assert_int_equal(test_result(guest, "grow", 1 << 20, 1), -1);
    test_guest_end(guest);

    static const char *const refused[] = {
        "(module (memory (export \"memory\") 1) (table 2000000 funcref))",
        "(module (memory (export \"memory\") 1)"
        " (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref))"};
    for (int i = 0; i < 2; i++) {
        sp_module *module = test_module(engine, refused[i]);
        assert_int_equal(sp_guest_create(module, NULL, &guest, &error), SP_TRAPPED);
        assert_non_null(strstr(error.message, "table"));
        assert_null(strchr(error.message, '\n'));
        sp_module_close(module);
    }
    sp_engine_destroy(engine);
}

static void hostile_bytes_are_refused(void **state) {
    sp_engine *engine = test_engine(NULL);
    wasm_byte_vec_t wasm = test_wasm(program);
    test_random random = test_random_seed(test_seed());
    sp_module *module;
    sp_error error;
    (void)state;
    assert_int_equal(sp_module_open_bytes(engine, "empty", NULL, 0, &module, &error), SP_BAD_FILE);
    assert_int_equal(sp_module_open_bytes(engine, "text", "(module)", 8, &module, &error), SP_BAD_FILE);
    for (size_t length = 1; length < wasm.size; length += 7) {
        sp_status status = sp_module_open_bytes(engine, "cut", wasm.data, length, &module, &error);
        if (!status) {
            sp_module_close(module); /* cut between two sections: a smaller module */
            continue;
        }
        assert_true(status == SP_BAD_FILE);
        assert_null(module);
    }
    for (int i = 0; i < 150; i++) {
        uint8_t bytes[2048];
        size_t length = wasm.size < sizeof bytes ? wasm.size : sizeof bytes;
        memcpy(bytes, wasm.data, length);
        for (int k = 0; k < 3; k++) {
            bytes[test_random_below(&random, (uint32_t)length)] = (uint8_t)test_random_next(&random);
        }
        sp_status status = sp_module_open_bytes(engine, "bent", bytes, length, &module, &error);
        assert_true(!status || status == SP_BAD_FILE || status == SP_UNSUPPORTED);
        if (!status) {
            sp_module_close(module);
        }
    }
    wasm_byte_vec_delete(&wasm);
    sp_engine_destroy(engine);
}

static void unknown_imports_are_named(void **state) {
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"(module (import \"env\" \"puts\" (func)) (import \"samepage\" \"fly\" (func)))",
         "nobody provides: env.puts, samepage.fly."},
        {"(module (import \"samepage\" \"abi_version\" (func (param f32))))", "samepage.abi_version (of another type)"},
        {"(module (import \"samepage\" \"abi_version\" (memory 1)))", "samepage.abi_version (of another type)"},
        {"(module (import \"wasi_snapshot_preview1\" \"fly\" (func)))", "fly"},
        {"(module (import \"wasi_snapshot_preview1\" \"proc_exit\" (func (param f32))))", "proc_exit"},
    };
    sp_engine *engine = test_engine(NULL);
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        wasm_byte_vec_t wasm = test_wasm(cases[i].text);
        sp_module *module;
        sp_error error = {0};
        assert_int_equal(sp_module_open_bytes(engine, "odd", wasm.data, wasm.size, &module, &error), SP_UNSUPPORTED);
        if (!strstr(error.message, cases[i].part) || strchr(error.message, '\n')) {
            fail_msg("%s", error.message);
        }
        wasm_byte_vec_delete(&wasm);
    }
    sp_engine_destroy(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_and_arguments),
        cmocka_unit_test(every_trap_ends_its_guest_alone),
        cmocka_unit_test(names_of_functions_are_told),
        cmocka_unit_test(exits),
        cmocka_unit_test(initialize_runs_once_and_first),
        cmocka_unit_test(fuel_runs_out),
        cmocka_unit_test(a_deadline_ends_a_spinner),
        cmocka_unit_test(run_until_time_is_up),
        cmocka_unit_test(a_spinner_can_be_terminated),
        cmocka_unit_test(spinners_share),
        cmocka_unit_test(start_functions),
        cmocka_unit_test(tables_are_limited),
        cmocka_unit_test(hostile_bytes_are_refused),
        cmocka_unit_test(unknown_imports_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
