/* tests/unit/test_stack.c - what spi_backend.runs_on_fibers promises: run needs at most 256 KiB of stack, whatever the
 * op, the weight type, the instruction set and the context. The rest of a guest's fiber is the guest's own.
 *
 * Sanitizers have frames of their own, and kernels that are not optimised keep every vector in memory: they are no
 * measure, and nothing is asserted there. */
#include "ops/ops_cases.h"
#include "support/painted_stack.h"
#include "support/session_rig.h"
#include "support/support.h"
#include "support/tiny_model.h"

#define PROMISE_BYTES ((size_t)256 << 10)
#define CASES         16u

static void nothing(void *env) {
    (void)env;
}

static void run_op(void *env) {
    sp_error error = {0};
    TEST_OK(ops_run(env, &error), error);
}

static void expect_within(size_t bytes, const char *what) {
    size_t thread_bytes = test_stack_of(nothing, NULL); /* its descriptor and what starts it lie there, too */
    assert_true(bytes >= thread_bytes);
    bytes -= thread_bytes;
    print_message("%-16s %6.1f KiB of stack\n", what, (double)bytes / 1024);
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(bytes <= PROMISE_BYTES);
#endif
}

static sp_device *open_cpu(const char *isa) {
    sp_error error = {0};
    sp_device *device;
    sp_status status = sp_device_open("cpu", &(sp_device_options){.thread_count = 1, .isa = isa}, &device, &error);
    if (status == SP_UNSUPPORTED) {
        return NULL;
    }
    TEST_OK(status, error);
    return device;
}

/* The most that any of the cases takes. */
static size_t stack_of_cases(const ops_device *on, spi_op_kind kind, sp_dtype type) {
    size_t most = 0;
    for (uint32_t i = 0; i < CASES; i += test_stride(1)) {
        ops_case test = ops_generate(kind, type, i, test_seed());
        ops_bench bench;
        sp_error error = {0};
        TEST_OK(ops_open(on, &test, &bench, &error), error);
        size_t bytes = test_stack_of(run_op, &bench);
        most = bytes > most ? bytes : most;
        ops_close(&bench);
    }
    return most;
}

static void test_ops(void **state) {
    (void)state;
    static const char *const isas[] = {"reference", "avx2", "avx512", "avx512bf16", "amx"};
    static const sp_dtype types[] = {
#define X(name, value, text, elements, bytes) name,
        SP_DTYPE_LIST(X)
#undef X
    };
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
        ops_device on = {.device = open_cpu(isas[i])};
        size_t most = 0;
        for (int kind = 0; kind < SPI_OP_KIND_COUNT && on.device; kind++) {
            for (size_t t = 0; t < (ops_has_type((spi_op_kind)kind) ? sizeof types / sizeof types[0] : 1); t++) {
                size_t bytes = stack_of_cases(&on, (spi_op_kind)kind, types[t]);
                most = bytes > most ? bytes : most;
            }
        }
        if (on.device) {
            expect_within(most, isas[i]);
        }
        sp_device_close(on.device);
    }
}

static void append_one(void *env) {
    test_session_append(env, &(int32_t){65}, 1, SP_LOGITS_LAST);
}

/* All of what a guest's fiber calls for a token: the session's part, and the device's with a context behind it. */
static void test_session(void **state) {
    (void)state;
    assert_int_equal(test_rig_open(NULL), 0);
    static const uint32_t contexts[] = {0, 63, 64, 1500};
    size_t most = 0;
    for (size_t i = 0; i < sizeof contexts / sizeof contexts[0]; i++) {
        static int32_t tokens[1500];
        sp_session *session = test_session_create(test_rig.demo, test_rig.cpu, 2048, 1);
        test_tokens(test_rig.demo, 5, tokens, contexts[i]);
        if (contexts[i]) {
            test_session_append(session, tokens, contexts[i], SP_LOGITS_NONE);
        }
        size_t bytes = test_stack_of(append_one, session);
        most = bytes > most ? bytes : most;
        sp_session_destroy(session);
    }
    expect_within(most, "a token");
    assert_int_equal(test_rig_close(NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ops), cmocka_unit_test(test_session)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
