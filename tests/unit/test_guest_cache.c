/* Compiled modules on disk: used again, never trusted, compiled by a child process or here.
 *
 * Called with "compile-module" this program is the compiler that its own tests start. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "guest/cache.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/process.h"
#include "support/guests.h"

static const char answer[] = "(module (memory (export \"memory\") 1)"
                             " (func (export \"answer\") (result i32) (i32.const 42)))";

static sp_engine *engine_with(const char *folder, const char *compiler) {
    sp_engine_options options = {.cache_folder = folder, .compiler = compiler};
    sp_engine *engine = NULL;
    sp_error error = {0};
    TEST_OK(sp_engine_create(&options, &engine, &error), error);
    test_guest_signals();
    return engine;
}

/* Opens the module with a new engine, checks that it works and tells how it came. */
static sp_module_origin open_anew(const char *folder, const char *compiler, uint64_t fuel) {
    sp_engine *engine = engine_with(folder, compiler);
    sp_guest_options options = {.fuel = fuel};
    sp_guest *guest = test_guest(engine, answer, &options);
    sp_module_origin origin = sp_module_get_origin(guest->module);
    assert_int_equal(test_result(guest, "answer", 0, 0), 42);
    test_guest_end(guest);
    sp_engine_destroy(engine);
    return origin;
}

/* What is compiled and cached is the module with all of its state exported. */
static void path_of_module(const char *folder, spi_variant variant, const wasm_byte_vec_t *wasm, char *path,
                           size_t capacity) {
    spi_rewrite rewrite;
    sp_error error = {0};
    TEST_OK(spi_rewrite_module(wasm->data, wasm->size, &rewrite, &error), error);
    assert_true(spi_cache_path(folder, spi_config_key(variant), rewrite.wasm, rewrite.wasm_bytes, path, capacity));
    spi_rewrite_free(&rewrite);
}

static void path_of(const char *folder, spi_variant variant, char *path, size_t capacity) {
    wasm_byte_vec_t wasm = test_wasm(answer);
    path_of_module(folder, variant, &wasm, path, capacity);
    wasm_byte_vec_delete(&wasm);
}

static void opened_again_it_is_cached(void **state) {
    char folder[64], path[200];
    struct stat info;
    (void)state;
    test_folder_create(folder);
    assert_int_equal(open_anew(folder, "", 0), SP_MODULE_COMPILED);
    assert_int_equal(open_anew(folder, "", 0), SP_MODULE_CACHED);
    path_of(folder, SPI_PLAIN, path, sizeof path);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    path_of(folder, SPI_METERED, path, sizeof path);
    assert_int_not_equal(stat(path, &info), 0);
    open_anew(folder, "", 1000000);
    assert_int_equal(stat(path, &info), 0);
    test_folder_remove(folder);
}

static void a_folder_is_made_for_the_user_alone(void **state) {
    char parent[64], folder[100];
    struct stat info;
    (void)state;
    test_folder_create(parent);
    snprintf(folder, sizeof folder, "%s/a/b", parent);
    assert_int_equal(open_anew(folder, "", 0), SP_MODULE_COMPILED);
    assert_int_equal(stat(folder, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    assert_int_equal(open_anew(folder, "", 0), SP_MODULE_CACHED);
    test_folder_remove(parent);
}

static void make_leftover(const char *folder, const char *name, bool is_old) {
    char path[200];
    sp_error error = {0};
    const struct timespec old[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    char *slash = strchr(path + strlen(folder) + 1, '/');
    if (slash) {
        *slash = 0;
        TEST_OK(spi_folder_create(path, &error), error);
        *slash = '/';
    }
    TEST_OK(spi_file_write(path, "x", 1, false, &error), error);
    if (slash) {
        *slash = 0;
    }
    assert_int_equal(is_old ? utimensat(AT_FDCWD, path, old, 0) : 0, 0);
}

static bool is_there(const char *folder, const char *name) {
    char path[200];
    struct stat info;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return !lstat(path, &info);
}

/* Who compiles now is left alone, as is everything that is no compilation's. */
static void leftovers_of_the_killed_are_swept(void **state) {
    static const struct {
        const char *name;
        bool is_old, stays;
    } files[] = {
        {"compile-aB3dE6/in.wasm", true, false},
        {"compile-aB3dE7/out.77-0.part", true, false},
        {"compile-aB3dE8/in.wasm", false, true},
        {"compile-longer-names/in.wasm", true, true},
        {"0123-4567.12345-6.part", true, false},
        {"0123-4568.12345-6.part", false, true},
        {"letters.part", true, true},
        {"other.1-.part", true, true},
        {"12345-6.part", true, true},
        {"0123-4567", true, true},
    };
    char folder[64];
    (void)state;
    test_folder_create(folder);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        make_leftover(folder, files[i].name, files[i].is_old);
    }
    assert_int_equal(open_anew(folder, "", 0), SP_MODULE_COMPILED);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        assert_int_equal(is_there(folder, files[i].name), files[i].stays);
    }
    assert_false(is_there(folder, "compile-aB3dE6"));
    assert_false(is_there(folder, "compile-aB3dE7"));
    test_folder_remove(folder);
}

static void damage_is_found(void **state) {
    char folder[64], path[200];
    void *good, *bad;
    size_t bytes, step;
    sp_error error = {0};
    (void)state;
    test_folder_create(folder);
    open_anew(folder, "", 0);
    path_of(folder, SPI_PLAIN, path, sizeof path);
    TEST_OK(spi_file_read(path, SIZE_MAX, &good, &bytes, &error), error);
    bad = spi_alloc(bytes, 1);
    step = bytes / 12;
    for (size_t i = 0; i < bytes; i += step) {
        memcpy(bad, good, bytes);
        ((char *)bad)[i] ^= 0x10;
        TEST_OK(spi_file_write(path, bad, bytes, false, &error), error);
        assert_int_equal(open_anew(folder, "", 0), SP_MODULE_COMPILED);
        assert_int_equal(open_anew(folder, "", 0), SP_MODULE_CACHED); /* repaired */
        TEST_OK(spi_file_write(path, good, i, false, &error), error); /* cut */
        assert_int_equal(open_anew(folder, "", 0), SP_MODULE_COMPILED);
    }
    spi_free(bad);
    spi_free(good);
    test_folder_remove(folder);
}

static void what_others_could_write_is_not_trusted(void **state) {
    char folder[64], path[200], elsewhere[200];
    (void)state;
    test_folder_create(folder);
    open_anew(folder, "", 0);
    path_of(folder, SPI_PLAIN, path, sizeof path);
    assert_int_equal(chmod(path, 0622), 0);
    assert_int_equal(open_anew(folder, "", 0), SP_MODULE_COMPILED);
    assert_int_equal(open_anew(folder, "", 0), SP_MODULE_CACHED); /* written anew */

    assert_int_equal(chmod(folder, 0770), 0);
    assert_int_equal(open_anew(folder, "", 0), SP_MODULE_COMPILED);
    assert_int_equal(chmod(folder, 0700), 0);

    snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", folder);
    assert_int_equal(rename(path, elsewhere), 0);
    assert_int_equal(symlink(elsewhere, path), 0);
    assert_int_equal(open_anew(folder, "", 0), SP_MODULE_COMPILED);
    if (geteuid() == 0) { /* only root can give a file away */
        assert_int_equal(chown(path, 12345, 12345), 0);
        assert_int_equal(open_anew(folder, "", 0), SP_MODULE_COMPILED);
        assert_int_equal(open_anew(folder, "", 0), SP_MODULE_CACHED);
        assert_int_equal(chown(folder, 12345, 12345), 0);
        assert_int_equal(open_anew(folder, "", 0), SP_MODULE_COMPILED);
    }
    test_folder_remove(folder);
}

/* Two modules whose names happened to be the same must not share code. */
static void the_content_decides_and_not_the_name(void **state) {
    char folder[64], path[200];
    void *data;
    size_t bytes;
    sp_error error = {0};
    (void)state;
    test_folder_create(folder);
    wasm_byte_vec_t other = test_wasm("(module (memory (export \"memory\") 1)"
                                      " (func (export \"answer\") (result i32) (i32.const 43)))");
    sp_engine *engine = engine_with(folder, "");
    sp_module *module;
    TEST_OK(sp_module_open_bytes(engine, "other", other.data, other.size, &module, &error), error);
    sp_engine_destroy(engine);
    path_of_module(folder, SPI_PLAIN, &other, path, sizeof path);
    TEST_OK(spi_file_read(path, SIZE_MAX, &data, &bytes, &error), error);
    wasm_byte_vec_delete(&other);
    path_of(folder, SPI_PLAIN, path, sizeof path);
    TEST_OK(spi_file_write(path, data, bytes, false, &error), error);
    assert_int_equal(open_anew(folder, "", 0), SP_MODULE_COMPILED);
    spi_free(data);
    test_folder_remove(folder);
}

static void a_child_compiles(void **state) {
    char folder[64], self[1024], path[200];
    (void)state;
    assert_int_equal(spi_process_self(self, sizeof self), SP_OK);
    for (int cached = 0; cached < 2; cached++) {
        test_folder_create(folder);
        setenv("SAMEPAGE_TEST_MARK", folder, 1);
        assert_int_equal(open_anew(cached ? folder : "", self, 0), SP_MODULE_COMPILED);
        assert_int_equal(open_anew(cached ? folder : "", self, 5000), cached ? SP_MODULE_CACHED : SP_MODULE_COMPILED);
        snprintf(path, sizeof path, "%s/mark", folder); /* written by the child, or it was this process */
        assert_int_equal(unlink(path), 0);
        if (cached) {
            path_of(folder, SPI_METERED, path, sizeof path);
            assert_int_equal(access(path, R_OK), 0);
        } else {
            assert_int_equal(rmdir(folder), 0); /* nothing is left behind */
            continue;
        }
        test_folder_remove(folder);
    }
    unsetenv("SAMEPAGE_TEST_MARK");
}

static void a_child_that_does_not_work_is_done_without(void **state) {
    char folder[64];
    (void)state;
    test_folder_create(folder);
    assert_int_equal(open_anew(folder, "/no/such/program", 0), SP_MODULE_COMPILED);
    test_folder_remove(folder);
    test_folder_create(folder);
    assert_int_equal(open_anew(folder, "/bin/false", 0), SP_MODULE_COMPILED);
    test_folder_remove(folder);
    test_folder_create(folder);
    assert_int_equal(open_anew(folder, "/bin/true", 0), SP_MODULE_COMPILED);
    test_folder_remove(folder);
}

static void what_a_child_says_is_told(void **state) {
    char folder[64], self[1024];
    sp_module *module;
    sp_error error = {0};
    (void)state;
    assert_int_equal(spi_process_self(self, sizeof self), SP_OK);
    test_folder_create(folder);
    sp_engine *engine = engine_with(folder, self);
    assert_int_equal(sp_module_open_bytes(engine, "broken.wasm", "\0asm\1\0\0\0\1", 9, &module, &error), SP_BAD_FILE);
    assert_non_null(strstr(error.message, "broken.wasm is not a valid WebAssembly module: "));
    assert_null(strchr(error.message, '\n'));

    setenv("SAMEPAGE_TEST_CRASH", "1", 1);
    wasm_byte_vec_t wasm = test_wasm(answer);
    assert_int_equal(sp_module_open_bytes(engine, "evil.wasm", wasm.data, wasm.size, &module, &error), SP_BAD_FILE);
    assert_non_null(strstr(error.message, "evil.wasm cannot be compiled: the compiler ended with signal 9"));
    unsetenv("SAMEPAGE_TEST_CRASH");
    wasm_byte_vec_delete(&wasm);
    sp_engine_destroy(engine);
    test_folder_remove(folder);
}

static void opened_twice_it_is_one(void **state) {
    sp_engine *engine = test_engine(NULL);
    sp_module *first = test_module(engine, answer), *second = test_module(engine, answer);
    sp_guest *guest;
    sp_error error = {0};
    (void)state;
    assert_ptr_equal(first, second);
    sp_module_close(first);
    TEST_OK(sp_guest_create(second, NULL, &guest, &error), error);
    assert_int_equal(test_result(guest, "answer", 0, 0), 42);
    test_guest_end(guest);
    sp_module_close(NULL);
    test_module(engine, answer); /* left to the engine */
    sp_engine_destroy(engine);
}

static void files_that_are_none(void **state) {
    sp_engine *engine = test_engine(NULL);
    sp_module *module;
    sp_error error = {0};
    (void)state;
    assert_int_equal(sp_module_open(engine, "/no/such/file.wasm", &module, &error), SP_NOT_FOUND);
    assert_null(module);
    assert_int_equal(sp_module_open(engine, "/tmp", &module, &error), SP_IO);
    assert_int_equal(sp_module_open(engine, "/etc/passwd", &module, &error), SP_BAD_FILE);
    assert_non_null(strstr(error.message, "passwd is not a valid WebAssembly module"));
    sp_engine_destroy(engine);
}

/* The command of a compiler program, as samepage has it. */
static int compile(int argc, char **argv) {
    const char *mark = getenv("SAMEPAGE_TEST_MARK");
    char path[1024];
    sp_error error = {0};
    if (getenv("SAMEPAGE_TEST_CRASH")) {
        raise(SIGKILL);
    }
    if (mark) {
        snprintf(path, sizeof path, "%s/mark", mark);
        close(open(path, O_CREAT | O_WRONLY, 0600));
    }
    sp_status status = sp_module_compile_file(argv[2], argv[3], argc > 4, &error);
    if (status) {
        fprintf(stderr, "%s\n", error.message);
    }
    return -(int)status;
}

static void a_silent_child_is_waited_for_no_longer(void **state) {
    static const char *const argv[] = {"/bin/sh", "-c", "exec sleep 20 2>&-", NULL};
    char output[16];
    int exit_code = 0;
    sp_error error = {0};
    (void)state;
    int64_t begun_ns = spi_clock_ns();
    assert_int_equal(spi_process_run(argv, 200, &exit_code, output, sizeof output, &error), SP_TIMEOUT);
    assert_true(spi_clock_ns() - begun_ns < 10000000000);
    assert_int_equal(exit_code, 128 + SIGKILL);
}

/* A host that ignores SIGCHLD never learns how a child ended: nothing is made of that. */
static void a_child_that_nobody_saw_end_is_no_success(void **state) {
    static const char *const argv[] = {"/bin/sh", "-c", "exit 3", NULL};
    char output[16];
    int exit_code = 0;
    sp_error error = {0};
    (void)state;
    void (*usual)(int) = signal(SIGCHLD, SIG_IGN);
    sp_status status = spi_process_run(argv, 10000, &exit_code, output, sizeof output, &error);
    signal(SIGCHLD, usual);
    assert_int_equal(status, SP_IO);
    TEST_OK(spi_process_run(argv, 10000, &exit_code, output, sizeof output, &error), error);
    assert_int_equal(exit_code, 3);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opened_again_it_is_cached),
        cmocka_unit_test(a_folder_is_made_for_the_user_alone),
        cmocka_unit_test(a_silent_child_is_waited_for_no_longer),
        cmocka_unit_test(a_child_that_nobody_saw_end_is_no_success),
        cmocka_unit_test(leftovers_of_the_killed_are_swept),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(what_others_could_write_is_not_trusted),
        cmocka_unit_test(the_content_decides_and_not_the_name),
        cmocka_unit_test(a_child_compiles),
        cmocka_unit_test(a_child_that_does_not_work_is_done_without),
        cmocka_unit_test(what_a_child_says_is_told),
        cmocka_unit_test(opened_twice_it_is_one),
        cmocka_unit_test(files_that_are_none),
    };
    if (argc >= 4 && strcmp(argv[1], "compile-module") == 0) {
        return compile(argc, argv);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
