/* tests/unit/test_embedded.c - the guests that are the program's own commands, through the engine on a tiny model: they
 * compute what a host program computes, print what can be read, and go on where the context is full. */
#include "support/guests.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "apps/guests/embedded.h"
#include "samepage/device.h"
#include "samepage/session.h"
#include "support/tiny_model.h"

#define GENERATED 24

static sp_device *device;
static sp_model *model;
static sp_engine *engine;
static test_output out, err;

/* Standard input is one for the whole process, and Wasmtime reads no more of it once it has ended. So it is a pipe that
 * stays open: guests that read it end by what they are told, and only the last one sees its end. */
static int input_end;

static int setup(void **state) {
    sp_error error = {0};
    int ends[2];
    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_true(dup2(ends[0], STDIN_FILENO) >= 0);
    close(ends[0]);
    input_end = ends[1];
    TEST_OK(sp_device_open("cpu", NULL, &device, &error), error);
    model = test_tiny_model(device);
    engine = test_engine(NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    sp_engine_destroy(engine);
    sp_model_close(model);
    sp_device_close(device);
    return 0;
}

static void write_out(void *env, const void *bytes, size_t count) {
    (void)env;
    test_output_write(&out, bytes, count);
}

static void write_err(void *env, const void *bytes, size_t count) {
    (void)env;
    test_output_write(&err, bytes, count);
}

/* Runs a guest to its end and returns its exit code. input NULL: none. */
static int run(const char *name, const char *const *arguments, uint32_t count, const char *input) {
    const embedded_guest *found = embedded_guests;
    sp_error error = {0};
    while (strcmp(found->name, name)) {
        found++;
        assert_true(found < embedded_guests + embedded_guest_count);
    }
    test_guest_signals();
    memset(&out, 0, sizeof out);
    memset(&err, 0, sizeof err);
    sp_module *module = NULL;
    sp_guest *guest = NULL;
    size_t bytes = (size_t)(found->end - found->start);
    TEST_OK(sp_module_open_bytes(engine, name, found->start, bytes, &module, &error), error);
    if (input) {
        assert_int_equal(write(input_end, input, strlen(input)), strlen(input));
    }
    sp_guest_model models[] = {{.name = "tiny", .model = model}};
    sp_guest_options options = {.arguments = arguments,
                                .argument_count = count,
                                .inherit_stdin = input != NULL,
                                .out = write_out,
                                .err = write_err,
                                .device = device,
                                .models = models,
                                .model_count = 1};
    TEST_OK(sp_guest_create(module, &options, &guest, &error), error);
    sp_guest_state state = test_call(guest, "_start", NULL, 0);
    if (state != SP_GUEST_EXITED) {
        print_error("%s: %s\n", name, sp_guest_error(guest)->message);
    }
    assert_int_equal(state, SP_GUEST_EXITED);
    int code = sp_guest_exit_code(guest);
    sp_guest_destroy(guest);
    sp_module_close(module);
    return code;
}

#define RUN(name, input, ...)                                                                                          \
    run(name, (const char *const[]){name, __VA_ARGS__},                                                                \
        sizeof((const char *const[]){name, __VA_ARGS__}) / sizeof(char *), input)

/* The same prompt and the likeliest tokens, without a guest. */
static void expected_tokens(const char *prompt, char *list, size_t capacity) {
    sp_error error = {0};
    sp_session *session = NULL;
    sp_sampler *sampler = NULL;
    int32_t tokens[256];
    size_t count = 0;
    TEST_OK(sp_tokenizer_encode(sp_model_tokenizer(model, NULL), prompt, strlen(prompt), SP_ENCODE_SPECIAL, tokens, 256,
                                &count, &error),
            error);
    TEST_OK(sp_session_create(model, device, &(sp_session_options){.context_max = 256}, &session, &error), error);
    TEST_OK(sp_sampler_create(NULL, &sampler, &error), error);
    TEST_OK(sp_session_append(session, tokens, (uint32_t)count, SP_LOGITS_LAST, &error), error);
    size_t used = (size_t)snprintf(list, capacity, "\"tokens\":[");
    for (int i = 0; i < GENERATED; i++) {
        int32_t token;
        TEST_OK(sp_session_sample(session, sampler, &token, &error), error);
        used += (size_t)snprintf(list + used, capacity - used, "%s%d", i ? "," : "", token);
        TEST_OK(sp_session_append(session, &token, 1, SP_LOGITS_LAST, &error), error);
    }
    snprintf(list + used, capacity - used, "]");
    sp_sampler_destroy(sampler);
    sp_session_destroy(session);
}

static void test_complete(void **state) {
    char list[1024];
    (void)state;
    expected_tokens("Hello", list, sizeof list);
    assert_int_equal(RUN("complete", NULL, "-p", "Hello", "-n", "24", "--json", "--ignore-eos", "--ctx", "256"), 0);
    assert_non_null(strstr(out.text, list));
    assert_non_null(strstr(out.text, "\"prompt_tokens\":6,\"generated_tokens\":24,\"finish\":\"length\""));
    assert_memory_equal(out.text + out.bytes - 2, "}\n", 2);
    assert_int_equal(RUN("complete", NULL, "-p", "Hello", "-n", "50", "--json", "--ignore-eos", "--ctx", "10"), 0);
    assert_non_null(strstr(out.text, "\"finish\":\"context\""));
    /* What goes wrong is said in one line, and by the exit code. */
    assert_int_equal(RUN("complete", NULL, "-p", "Hello", "--ctx", "3"), 1);
    assert_non_null(strstr(err.text, "does not fit"));
    assert_int_equal(RUN("complete", NULL, "-p"), 2);
    assert_int_equal(RUN("complete", NULL, "--nonsense"), 2);
    assert_int_equal(RUN("complete", NULL, "-n", "-1"), 2);
    assert_int_equal(RUN("complete", NULL, "-p", "x", "--temp", "-1"), 1);
    assert_int_equal(RUN("complete", NULL, "-p", "x", "--raw", "--chat"), 1);
}

/* Special tokens by name: parsed with --raw only, and then not doubled. */
static void test_raw(void **state) {
    (void)state;
    assert_int_equal(RUN("complete", NULL, "-p", "<s>Hello", "-n", "1", "--json"), 0);
    assert_non_null(strstr(out.text, "\"prompt_tokens\":9"));
    assert_int_equal(RUN("complete", NULL, "-p", "<s>Hello", "-n", "1", "--json", "--raw"), 0);
    assert_non_null(strstr(out.text, "\"prompt_tokens\":6"));
}

static void test_chat(void **state) {
    (void)state;
    assert_int_equal(RUN("chat", "Hello\n/stats\n\n/clear\nAgain\n/quit\n", "-n", "8", "--script", "--stats"), 0);
    assert_non_null(strstr(out.text, "> Hello\n"));
    assert_non_null(strstr(out.text, "> Again\n"));
    assert_non_null(strstr(err.text, "1 turns, "));
    assert_non_null(strstr(err.text, "format plain"));
    assert_non_null(strstr(err.text, "tokens/s"));
    assert_non_null(strstr(err.text, "cleared"));
}

/* Each turn takes about 30 of the 100 tokens, so that there is no room for all of them. */
static void test_chat_context(void **state) {
    (void)state;
    assert_int_equal(
        RUN("chat", "One\nTwo\nThree\nFour\nFive\nSix\nSeven\n/quit\n", "-n", "12", "--ctx", "100", "--script"), 0);
    assert_non_null(strstr(err.text, "the context of 100 tokens is full: the oldest "));
    assert_non_null(strstr(out.text, "> Seven\n"));
    /* A message that can never fit is refused, and the conversation goes on. */
    char input[1024] = "One\n";
    memset(input + 4, 'x', 200);
    strcpy(input + 204, "\nTwo\n/stats\n/quit\n");
    assert_int_equal(RUN("chat", input, "-n", "4", "--ctx", "100", "--script"), 0);
    assert_non_null(strstr(err.text, "this message alone does not fit into a context of 100 tokens"));
    assert_non_null(strstr(err.text, "2 turns, "));
    /* An answer longer than the whole context ends with it. */
    assert_int_equal(RUN("chat", "One\nTwo\n/quit\n", "-n", "500", "--ctx", "60", "--script"), 0);
    assert_non_null(strstr(out.text, "> Two\n"));
}

static void test_bench_and_doctor(void **state) {
    (void)state;
    assert_int_equal(RUN("bench", NULL, "-p", "20", "-n", "5", "-r", "2"), 0);
    unsigned prompt, generated;
    unsigned long long prompt_ns, generated_ns, calls;
    assert_int_equal(sscanf(out.text,
                            "prompt_tokens=%u prompt_ns=%llu generated_tokens=%u generated_ns=%llu host_calls=%llu",
                            &prompt, &prompt_ns, &generated, &generated_ns, &calls),
                     5);
    assert_int_equal(prompt, 20);
    assert_int_equal(generated, 5);
    assert_true(prompt_ns > 0 && generated_ns > 0 && calls >= 10);
    assert_non_null(strchr(out.text, '\n'));
    assert_int_equal(RUN("bench", NULL, "-p", "x"), 2);
    assert_int_equal(run("doctor", (const char *const[]){"doctor"}, 1, NULL), 0);
}

/* The last test: it ends standard input. */
static void test_complete_stdin(void **state) {
    char list[1024];
    (void)state;
    expected_tokens("Hello", list, sizeof list);
    /* Without the line end; the prompt comes first. */
    assert_int_equal(write(input_end, "Hello\n", 6), 6);
    close(input_end);
    input_end = open("/dev/null", O_WRONLY);
    assert_int_equal(RUN("complete", "", "-n", "24", "--json", "--ignore-eos", "--echo"), 0);
    assert_non_null(strstr(out.text, list));
    assert_non_null(strstr(out.text, "{\"text\":\"Hello"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_complete),
        cmocka_unit_test(test_raw),
        cmocka_unit_test(test_chat),
        cmocka_unit_test(test_chat_context),
        cmocka_unit_test(test_bench_and_doctor),
        cmocka_unit_test(test_complete_stdin),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
