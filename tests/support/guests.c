/* tests/support/guests.c - see guests.h. */
#include "support/guests.h"

#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RUN_MS_MAX 120000 /* for a guest that hangs, not for a machine that is slow */

/* Wasmtime installs its handlers once, with the first engine; cmocka puts its own over them at the start of each
 * test. */
void test_guest_signals(void) {
    static const int signals[] = {SIGSEGV, SIGILL, SIGFPE, SIGBUS};
    static struct sigaction wasmtimes[4];
    static bool is_known;
    for (int i = 0; i < 4; i++) {
        struct sigaction now;
        sigaction(signals[i], NULL, &now);
        if (!is_known) {
            wasmtimes[i] = now;
        } else if (!(now.sa_flags &
                     SA_SIGINFO)) { /* cmocka's; who has put another in front since then calls Wasmtime's */
            sigaction(signals[i], &wasmtimes[i], NULL);
        }
    }
    is_known = true;
}

sp_engine *test_engine(const spi_engine_hooks *hooks) {
    return test_engine_with(hooks, 0);
}

sp_engine *test_engine_with(const spi_engine_hooks *hooks, uint32_t slice_ms) {
    const sp_engine_options options = {.cache_folder = "", .compiler = "", .slice_ms = slice_ms};
    sp_engine *engine = NULL;
    sp_error error = {0};
    if (hooks) {
        TEST_OK(spi_engine_create(&options, hooks, &engine, &error), error);
    } else {
        TEST_OK(sp_engine_create(&options, &engine, &error), error);
    }
    test_guest_signals();
    return engine;
}

wasm_byte_vec_t test_wasm(const char *text) {
    wasm_byte_vec_t wasm = {0}, message;
    wasmtime_error_t *failure = wasmtime_wat2wasm(text, strlen(text), &wasm);
    if (failure) {
        wasmtime_error_message(failure, &message);
        fail_msg("%.*s", (int)message.size, message.data);
    }
    return wasm;
}

sp_module *test_module(sp_engine *engine, const char *text) {
    wasm_byte_vec_t wasm = test_wasm(text);
    sp_module *module = NULL;
    sp_error error = {0};
    TEST_OK(sp_module_open_bytes(engine, "guest", wasm.data, wasm.size, &module, &error), error);
    wasm_byte_vec_delete(&wasm);
    return module;
}

sp_guest *test_guest(sp_engine *engine, const char *text, const sp_guest_options *options) {
    sp_guest *guest = NULL;
    sp_error error = {0};
    TEST_OK(sp_guest_create(test_module(engine, text), options, &guest, &error), error);
    return guest;
}

void test_guest_end(sp_guest *guest) {
    sp_module *module = guest->module;
    sp_guest_destroy(guest);
    sp_module_close(module);
}

sp_guest_state test_call(sp_guest *guest, const char *function, const int64_t *arguments, uint32_t argument_count) {
    sp_error error = {0};
    TEST_OK(sp_guest_start(guest, function, arguments, argument_count, &error), error);
    assert_int_equal(sp_guest_get_state(guest), SP_GUEST_RUNNING);
    assert_int_equal(sp_engine_run(guest->engine, guest, RUN_MS_MAX), SP_OK);
    return sp_guest_get_state(guest);
}

int64_t test_result(sp_guest *guest, const char *function, int64_t argument, uint32_t argument_count) {
    if (test_call(guest, function, &argument, argument_count) != SP_GUEST_IDLE) {
        fail_msg("%s: %s", function, sp_guest_error(guest)->message);
    }
    return sp_guest_result(guest);
}

void test_failed(const sp_guest *guest, sp_status status, const char *part) {
    const sp_error *error = sp_guest_error(guest);
    assert_int_equal(sp_guest_get_state(guest), SP_GUEST_FAILED);
    if (error->status != status || !strstr(error->message, part) || strchr(error->message, '\n')) {
        fail_msg("wanted %s with \"%s\", got %s: %s", sp_status_text(status), part, sp_status_text(error->status),
                 error->message);
    }
}

void test_folder_create(char path[64]) {
    const char *below = getenv("TMPDIR");
    snprintf(path, 64, "%s/samepage-test-XXXXXX", below && strlen(below) < 40 ? below : "/tmp");
    assert_non_null(mkdtemp(path));
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk) {
    (void)info;
    (void)kind;
    (void)walk;
    return remove(path);
}

void test_folder_remove(const char *path) {
    assert_int_equal(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

void test_output_write(void *env, const void *bytes, size_t byte_count) {
    test_output *output = env;
    size_t room = sizeof output->text - 1 - output->bytes, take = byte_count < room ? byte_count : room;
    memcpy(output->text + output->bytes, bytes, take);
    output->bytes += take;
    output->text[output->bytes] = 0;
}
