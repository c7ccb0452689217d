/* Guests in C over WASI: arguments, environment, folders, streams, exit codes; and malloc beside the host's growth. */
#include "support/guests.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "os/file.h"

static sp_module *open_guest(sp_engine *engine, const char *name) {
    char relative[100];
    sp_module *module = NULL;
    sp_error error = {0};
    snprintf(relative, sizeof relative, "guests/%s.wasm", name);
    TEST_OK(sp_module_open(engine, test_build_path(relative), &module, &error), error);
    return module;
}

/* Runs test_wasi with these words and what else the options say; output is compared as a whole. */
static void run(const sp_guest_options *base, const char *const *words, uint32_t word_count, int exit_code,
                const char *expected) {
    sp_engine *engine = test_engine(NULL);
    sp_module *module = open_guest(engine, "test_wasi");
    test_output output = {0};
    sp_guest_options options = *base;
    sp_guest *guest;
    sp_error error = {0};
    options.arguments = words;
    options.argument_count = word_count;
    options.out = options.err = test_output_write;
    options.output_env = &output;
    TEST_OK(sp_guest_create(module, &options, &guest, &error), error);
    sp_guest_state state = test_call(guest, "_start", NULL, 0);
    if (state != SP_GUEST_EXITED) {
        fail_msg("%s", sp_guest_error(guest)->message);
    }
    assert_string_equal(output.text, expected);
    assert_int_equal(sp_guest_exit_code(guest), exit_code);
    test_guest_end(guest);
    sp_engine_destroy(engine);
}
#define RUN(options, code, expected, ...)                                                                              \
    run((options), (const char *const[]){"guest", __VA_ARGS__},                                                        \
        sizeof((const char *const[]){"guest", __VA_ARGS__}) / sizeof(char *), (code), (expected))

static void arguments_and_environment(void **state) {
    const char *const environment[] = {"NAME=value=with", "EMPTY="};
    sp_guest_options options = {.environment = environment, .environment_count = 2};
    (void)state;
    RUN(&options, 0,
        "argument 1 of 6: one\nargument 2 of 6: zwei \xc3\xa4\nenv NAME: value=with\nenv EMPTY: \nenv HOME: none\n",
        "one", "zwei \xc3\xa4", "env:NAME", "env:EMPTY", "env:HOME");
}

static void streams_and_exit_codes(void **state) {
    sp_guest_options options = {0};
    (void)state;
    RUN(&options, 0, "stdin: empty\n", "stdin");
    RUN(&options, 0, "to stderr\n", "stderr");
    RUN(&options, 7, "", "exit:7");
    RUN(&options, 255, "", "exit:255");
    RUN(&options, 0, "sleep: 0\n", "sleep:30");
}

static void folders(void **state) {
    char host[64], file[80];
    sp_error error = {0};
    struct stat info;
    (void)state;
    test_folder_create(host);
    snprintf(file, sizeof file, "%s/in.txt", host);
    TEST_OK(spi_file_write(file, "hello", 5, false, &error), error);

    sp_guest_folder folder = {.host_path = host, .guest_path = "/data"};
    sp_guest_options options = {.folders = &folder, .folder_count = 1};
    RUN(&options, 0,
        "read /data/in.txt: hello\nwrite /data/out.txt: refused\nunlink: refused\nrename: refused\nmkdir: refused\n",
        "read:/data/in.txt", "write:/data/out.txt", "change:/data");
    snprintf(file, sizeof file, "%s/out.txt", host);
    assert_int_not_equal(stat(file, &info), 0);

    folder.writable = true;
    RUN(&options, 0, "write /data/out.txt: done\nread /data/out.txt: from a guest\n", "write:/data/out.txt",
        "read:/data/out.txt");
    assert_int_equal(stat(file, &info), 0);

    /* There is no way out of a folder, and none in without one. */
    RUN(&options, 0, "read /data/../../etc/passwd: Operation not permitted\n", "read:/data/../../etc/passwd");
    snprintf(file, sizeof file, "%s/link", host);
    assert_int_equal(symlink("/etc/passwd", file), 0);
    RUN(&options, 0, "read /data/link: Operation not permitted\n", "read:/data/link");
    options.folder_count = 0;
    RUN(&options, 0, "read /etc/passwd: Capabilities insufficient\n", "read:/etc/passwd");
    test_folder_remove(host);
}

static void wrong_options_are_told(void **state) {
    const char *const odd[] = {"no equals sign"};
    const char *const latin[] = {"guest", "\xe4"};
    const sp_guest_folder missing = {.host_path = "/no/such/folder", .guest_path = "/data"};
    const sp_guest_folder file = {.host_path = "/etc/passwd", .guest_path = "/data"};
    const struct {
        sp_guest_options options;
        sp_status status;
        const char *part;
    } cases[] = {
        {{.environment = odd, .environment_count = 1}, SP_INVALID, "\"no equals sign\" is not of the form KEY=VALUE"},
        {{.arguments = latin, .argument_count = 2}, SP_INVALID, "not UTF-8"},
        {{.folders = &missing, .folder_count = 1}, SP_NOT_FOUND, "/no/such/folder"},
        {{.folders = &file, .folder_count = 1}, SP_INVALID, "/etc/passwd is not a folder"},
    };
    sp_engine *engine = test_engine(NULL);
    sp_module *module = open_guest(engine, "test_wasi");
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sp_guest *guest;
        sp_error error = {0};
        assert_int_equal(sp_guest_create(module, &cases[i].options, &guest, &error), cases[i].status);
        assert_non_null(strstr(error.message, cases[i].part));
        assert_null(guest);
    }
    sp_module_close(module);
    sp_engine_destroy(engine);
}

static void an_abort_fails_the_guest(void **state) {
    const char *const words[] = {"guest", "abort"};
    sp_guest_options options = {.arguments = words, .argument_count = 2};
    sp_engine *engine = test_engine(NULL);
    sp_module *module = open_guest(engine, "test_wasi");
    sp_guest *guest;
    sp_error error = {0};
    (void)state;
    TEST_OK(sp_guest_create(module, &options, &guest, &error), error);
    assert_int_equal(test_call(guest, "_start", NULL, 0), SP_GUEST_FAILED);
    test_failed(guest, SP_TRAPPED, "abort (unreachable)");
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

static void count_output(void *env, const void *bytes, size_t byte_count) {
    (void)bytes;
    atomic_fetch_add((atomic_size_t *)env, byte_count);
}

/* A guest that makes its stream non-blocking writes on while it is destroyed. */
static void no_output_comes_after_the_end(void **state) {
    static const char program[] =
        "(module"
        " (import \"wasi_snapshot_preview1\" \"fd_fdstat_set_flags\" (func $flags (param i32 i32) (result i32)))"
        " (import \"wasi_snapshot_preview1\" \"fd_write\" (func $write (param i32 i32 i32 i32) (result i32)))"
        " (memory (export \"memory\") 1)"
        " (func (export \"shout\") (drop (call $flags (i32.const 1) (i32.const 4)))"
        "   (i32.store (i32.const 0) (i32.const 100)) (i32.store (i32.const 4) (i32.const 5000))"
        "   (loop $l (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br $l))))";
    sp_engine *engine = test_engine(NULL);
    (void)state;
    for (int i = 0; i < 20; i++) {
        atomic_size_t *bytes = spi_alloc(1, sizeof *bytes);
        sp_guest_options options = {.out = count_output, .output_env = bytes};
        sp_guest *guest = test_guest(engine, program, &options);
        sp_error error = {0};
        TEST_OK(sp_guest_start(guest, "shout", NULL, 0, &error), error);
        /* How soon Wasmtime's thread gets to write is the machine's affair. */
        for (int tries = 0; tries == 0 || (atomic_load(bytes) == 0 && tries < 4000); tries++) {
            assert_int_equal(sp_engine_run(engine, guest, 5), SP_TIMEOUT);
        }
        assert_true(atomic_load(bytes) > 0);
        test_guest_end(guest);
        spi_free(bytes); /* the sanitizer sees a write that comes late */
    }
    sp_engine_destroy(engine);
}

static void call_reserve(sp_guest *guest, int64_t *words) {
    uint64_t offset = 0;
    (void)spi_guest_reserve(guest, (uint32_t)words[0], (uint32_t)words[1], &offset, NULL);
    words[0] = (int64_t)offset;
}

static void call_release(sp_guest *guest, int64_t *words) {
    spi_guest_release(guest, (uint32_t)words[0], (uint32_t)words[1]);
}

static void malloc_and_the_host_live_together(void **state) {
    static const spi_import imports[] = {
        {.name = "reserve", .parameters = "ii", .results = "i", .call = call_reserve},
        {.name = "release", .parameters = "ii", .results = "", .call = call_release},
    };
    const spi_engine_hooks hooks = {.imports = imports, .import_count = 2};
    sp_engine *engine = test_engine(&hooks);
    sp_module *module = open_guest(engine, "test_malloc");
    sp_guest *guest;
    sp_error error = {0};
    (void)state;
    TEST_OK(sp_guest_create(module, NULL, &guest, &error), error);
    uint8_t *base = sp_region_base(sp_guest_region(guest));
    assert_int_equal(test_call(guest, "_start", NULL, 0), SP_GUEST_EXITED);
    assert_int_equal(sp_guest_exit_code(guest), 0);
    assert_ptr_equal(sp_region_base(sp_guest_region(guest)), base);
    test_guest_end(guest);
    sp_engine_destroy(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_and_environment),
        cmocka_unit_test(streams_and_exit_codes),
        cmocka_unit_test(folders),
        cmocka_unit_test(wrong_options_are_told),
        cmocka_unit_test(an_abort_fails_the_guest),
        cmocka_unit_test(no_output_comes_after_the_end),
        cmocka_unit_test(malloc_and_the_host_live_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
