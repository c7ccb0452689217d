/* tests/fault/test_actor_fault.c - actors under a system that fails at every place that it can fail at.
 *
 * The oracle is a run that nothing disturbs: what the actors know at its end. A disturbed run is ended in some way; after
 * it every actor must be at one commit for each message that is done, what was acknowledged must be there, and the script,
 * gone on with, must end in the same: replies token for token, memory by its hash. Where bytes on disk were changed the
 * other outcome that counts is a refusal that says so.
 *
 * SAMEPAGE_FAULT_RUNS: how many places are tried of each kind; 0 is all of them. `make test-long` tries at least 500. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "actor/pages.h"
#include "os/file.h"
#include "support/guests.h"
#include "support/support.h"

#define RUNS_DEFAULT 10
#define TEXT_MAX     (1 << 20)

typedef struct rig {
    char root[64], folder[128], model[128], other[128], cache[128], out[128], *expected;
    int runs;
} rig;

typedef struct outcome {
    int status; /* of waitpid */
    int acknowledged;
    char *text;
} outcome;

/* ---- running the worker ---- */

static void launch(const rig *r, const char *mode, const char *last, const char *shim, bool is_traced) {
    char worker[512], preload[512], guest[512];
    snprintf(worker, sizeof worker, "%s", test_build_path("tests/actor_worker"));
    snprintf(preload, sizeof preload, "%s", test_build_path("tests/libfault_shim.so"));
    snprintf(guest, sizeof guest, "%s", test_build_path("guests/test_actor.wasm"));
    int out = open(r->out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(out, 1);
    if (shim) {
        setenv("SHIM", shim, 1);
        setenv("SHIM_FOLDER", r->folder, 1);
        setenv("LD_PRELOAD", preload, 1);
    }
    /* Where the suite is built with sanitizers: what stands in front of them, and what they cannot do under ptrace. */
    setenv("ASAN_OPTIONS",
           "allow_user_segv_handler=1:detect_stack_use_after_return=0:detect_leaks=0:verify_asan_link_order=0", 1);
    if (is_traced) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    }
    execl(worker, worker, mode, r->folder, r->model, r->cache, guest, last, (char *)NULL);
    _exit(99);
}

/* The file of its output is empty before it runs: one that is killed before it has opened it said nothing. */
static pid_t spawn(const rig *r, const char *mode, const char *last, const char *shim, bool is_traced) {
    int out = open(r->out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(out >= 0);
    close(out);
    pid_t child = fork();
    if (!child) {
        launch(r, mode, last, shim, is_traced);
    }
    assert_true(child > 0);
    return child;
}

static outcome collect(const rig *r, int status) {
    outcome o = {.status = status, .acknowledged = -1};
    size_t bytes;
    void *text = NULL;
    sp_error error = {0};
    TEST_OK(spi_file_read(r->out, TEXT_MAX, &text, &bytes, &error), error);
    o.text = text;
    for (const char *at = o.text; at && *at; at = strchr(at, '\n'), at += at != NULL) {
        o.acknowledged = strncmp(at, "ack ", 4) ? o.acknowledged : atoi(at + 4);
    }
    return o;
}

static outcome run(const rig *r, const char *mode, int last, const char *shim) {
    char number[16];
    int status;
    snprintf(number, sizeof number, "%d", last);
    pid_t child = spawn(r, mode, number, shim, false);
    waitpid(child, &status, 0);
    return collect(r, status);
}

static bool writes(long number) {
    switch (number) {
    case SYS_write:
    case SYS_pwrite64:
    case SYS_writev:
    case SYS_pwritev:
    case SYS_fsync:
    case SYS_fdatasync:
    case SYS_ftruncate:
    case SYS_fallocate:
    case SYS_openat:
    case SYS_unlinkat:
    case SYS_renameat2:
    case SYS_fchmod:
#ifdef SYS_open
    case SYS_open:
    case SYS_unlink:
    case SYS_rename:
    case SYS_mkdir:
#endif
        return true;
    default: return false;
    }
}

/* Kills the worker before the system call `at` of those that can change a file; -1: never. *total: how many there are. */
static outcome run_killed(const rig *r, long at, long *total) {
    struct __ptrace_syscall_info info;
    int status = 0;
    bool is_armed = false;
    *total = 0;
    pid_t child = spawn(r, "run", "-1", NULL, true);
    waitpid(child, &status, 0);
    ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL));
    int signal_to_pass = 0;
    while (WIFSTOPPED(status)) {
        bool is_call = WSTOPSIG(status) == (SIGTRAP | 0x80);
        signal_to_pass = is_call || WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
        if (is_call && ptrace(PTRACE_GET_SYSCALL_INFO, child, (void *)sizeof info, &info) > 0 &&
            info.op == PTRACE_SYSCALL_INFO_ENTRY) {
            is_armed |= info.entry.nr == SYS_getpriority && info.entry.args[0] == 77;
            if (is_armed && writes((long)info.entry.nr) && (*total)++ == at) {
                kill(child, SIGKILL);
            }
        }
        if (ptrace(PTRACE_SYSCALL, child, NULL, (void *)(intptr_t)signal_to_pass)) {
            break;
        }
        waitpid(child, &status, 0);
    }
    if (WIFSTOPPED(status)) {
        waitpid(child, &status, 0);
    }
    return collect(r, status);
}

/* ---- folders ---- */

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

static void start_anew(const rig *r) {
    char carried[200];
    (void)nftw(r->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    snprintf(carried, sizeof carried, "%s/carried.snap", r->root);
    (void)unlink(carried);
}

static const char *dump_of(const outcome *o) {
    const char *dump = strstr(o->text, "--\n");
    return dump ? dump : "";
}

/* Goes on after a disturbance; the end must be that of the undisturbed run. */
static void must_recover(const rig *r, int acknowledged, const char *what, long at) {
    outcome o = run(r, "recover", acknowledged, NULL);
    if (!WIFEXITED(o.status) || WEXITSTATUS(o.status) || strcmp(dump_of(&o), r->expected) != 0) {
        print_error("expected\n%s\ngot\n%s\n", r->expected,
                    o.text); /* which is longer than a failure's message may be */
        fail_msg("%s %ld (acknowledged %d): status %x", what, at, acknowledged, o.status);
    }
    free(o.text);
}

/* ---- the tests ---- */

static int setup(void **state) {
    static rig r;
    const char *runs = getenv("SAMEPAGE_FAULT_RUNS");
    if (!access("/dev/shm", W_OK)) {
        setenv("TMPDIR", "/dev/shm", 0); /* what a sync waits for is not tested here */
    }
    test_folder_create(r.root);
    snprintf(r.folder, sizeof r.folder, "%s/data", r.root);
    snprintf(r.model, sizeof r.model, "%s/model.gguf", r.root);
    snprintf(r.other, sizeof r.other, "%s/other.gguf", r.root);
    snprintf(r.cache, sizeof r.cache, "%s/cache", r.root);
    snprintf(r.out, sizeof r.out, "%s/out", r.root);
    r.runs = runs ? atoi(runs) : RUNS_DEFAULT;
    void *data;
    size_t count;
    sp_error error = {0};
    TEST_OK(spi_file_read(test_source_path("models/samepage-demo-q8_0.gguf"), (size_t)1 << 26, &data, &count, &error),
            error);
    TEST_OK(spi_file_write(r.model, data, count, false, &error), error);
    char *name = memmem(data, count, "Samepage demo", 13);
    assert_non_null(name);
    name[1] = 'o'; /* one of the same shape, by another name */
    TEST_OK(spi_file_write(r.other, data, count, false, &error), error);
    free(data);

    outcome o = run(&r, "recover", -1, NULL);
    if (!WIFEXITED(o.status) || WEXITSTATUS(o.status)) {
        print_error("the undisturbed run: %x\n%s\n", o.status, o.text);
        return -1;
    }
    r.expected = strdup(dump_of(&o));
    assert_non_null(strstr(r.expected, "two 0 1 think 6 hello > "));
    free(o.text);
    *state = &r;
    return 0;
}

static int teardown(void **state) {
    rig *r = *state;
    free(r->expected);
    test_folder_remove(r->root);
    return 0;
}

/* The places that are tried: evenly spread, with a random shift. */
static long place(const rig *r, long total, int i, test_random *random) {
    long runs = r->runs ? r->runs : total, step = total / runs ? total / runs : 1;
    return r->runs ? (long)i * step + (long)test_random_below(random, (uint32_t)step) : i;
}

static void killed_at_every_system_call(void **state) {
    rig *r = *state;
    test_random random = test_random_seed(test_seed());
    long total, unused;
    start_anew(r);
    outcome whole = run_killed(r, -1, &total);
    assert_true(WIFEXITED(whole.status) && !WEXITSTATUS(whole.status));
    assert_true(total > 100);
    free(whole.text);
    long runs = r->runs ? r->runs * 2 : total;
    for (int i = 0; i < runs && i < total; i++) {
        long at = r->runs ? (long)((uint64_t)test_random_next(&random) % (uint64_t)total) : i;
        start_anew(r);
        outcome o = run_killed(r, at, &unused);
        assert_true(WIFSIGNALED(o.status) && WTERMSIG(o.status) == SIGKILL);
        must_recover(r, o.acknowledged, "killed at system call", at);
        free(o.text);
    }
    print_message("%ld of %ld system calls\n", runs, total);
}

static void killed_at_any_time(void **state) {
    rig *r = *state;
    test_random random = test_random_seed(test_seed() + 1);
    int runs = r->runs ? r->runs : 100, status;
    for (int i = 0; i < runs; i++) {
        start_anew(r);
        int last = -1;
        for (int times = 0; times < 3; times++) { /* several deaths in a row, some of them while recovering */
            pid_t child = spawn(r, "run", "-1", NULL, false);
            usleep(5000 + test_random_below(&random, 150000));
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
            outcome o = collect(r, status);
            last = o.acknowledged > last ? o.acknowledged : last;
            free(o.text);
        }
        must_recover(r, last, "killed at a random time", i);
    }
}

static long count_calls(const rig *r, const char *kind) {
    char shim[32], path[128];
    size_t bytes;
    void *text = NULL;
    sp_error error = {0};
    snprintf(shim, sizeof shim, "%s:1000000", kind);
    snprintf(path, sizeof path, "%s/count", r->root);
    setenv("SHIM_COUNT", path, 1);
    start_anew(r);
    outcome o = run(r, "run", -1, shim);
    unsetenv("SHIM_COUNT");
    assert_true(WIFEXITED(o.status) && !WEXITSTATUS(o.status));
    free(o.text);
    TEST_OK(spi_file_read(path, 100, &text, &bytes, &error), error);
    long total = atol(text);
    free(text);
    return total;
}

/* The run may go through, or fail in a way that is told; it never ends by a signal or says that it is wrong. */
static void fails_at(rig *r, const char *kind, const char *suffix) {
    test_random random = test_random_seed(test_seed() + 2);
    long total = count_calls(r, kind);
    assert_true(total > 10);
    int told = 0, runs = r->runs ? r->runs : (int)total;
    for (int i = 0; i < runs && i < total; i++) {
        char shim[48];
        long at = place(r, total, i, &random);
        snprintf(shim, sizeof shim, "%s%s:%ld", kind, suffix, at);
        start_anew(r);
        outcome o = run(r, "run", -1, shim);
        if (!WIFEXITED(o.status) || (WEXITSTATUS(o.status) != 0 && WEXITSTATUS(o.status) != 3)) {
            fail_msg("%s: status %x, %s", shim, o.status, o.text);
        }
        told += WEXITSTATUS(o.status) == 3;
        must_recover(r, o.acknowledged, shim, at);
        free(o.text);
    }
    print_message("%s%s: %d of %d runs (%ld places) failed and said so\n", kind, suffix, told, runs, total);
}

static void writes_fall_short(void **state) {
    fails_at(*state, "short", "");
}

static void the_disk_is_full(void **state) {
    fails_at(*state, "enospc", "");
    fails_at(*state, "enospc", "+");
}

static void writes_fail(void **state) {
    fails_at(*state, "eio", "");
}

static void reads_fail(void **state) {
    fails_at(*state, "read", "");
}

static void syncs_fail(void **state) {
    fails_at(*state, "sync", "");
    fails_at(*state, "sync", "+");
}

static void the_clock_jumps(void **state) {
    rig *r = *state;
    start_anew(r);
    outcome o = run(r, "run", -1, "clock+:5");
    int last = o.acknowledged;
    free(o.text);
    must_recover(r, last, "a clock that jumps", 0);
}

/* ---- bytes that change on disk ---- */

typedef struct files {
    char paths[64][256];
    size_t bytes[64];
    int count;
} files;
static files found;

static int note_file(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)where;
    if (kind == FTW_F && info->st_size && found.count < 64 && !strstr(path, "/lock")) {
        snprintf(found.paths[found.count], sizeof found.paths[0], "%s", path);
        found.bytes[found.count++] = (size_t)info->st_size;
    }
    return 0;
}

static void damage(const char *path, size_t bytes, bool is_torn, test_random *random) {
    size_t at = (size_t)(test_random_next(random) % bytes);
    if (is_torn) {
        assert_int_equal(truncate(path, (off_t)at), 0);
        return;
    }
    uint8_t byte;
    int file = open(path, O_RDWR);
    assert_int_equal(pread(file, &byte, 1, (off_t)at), 1);
    byte ^= (uint8_t)(1u << test_random_below(random, 8));
    assert_int_equal(pwrite(file, &byte, 1, (off_t)at), 1);
    close(file);
}

/* Refused with a reason, or as if nothing had been. */
static void damaged_files_are_found_out(void **state) {
    rig *r = *state;
    test_random random = test_random_seed(test_seed() + 3);
    int runs = r->runs ? r->runs * 3 : 300, refused = 0;
    for (int i = 0; i < runs; i++) {
        start_anew(r);
        outcome whole = run(r, "run", -1, NULL);
        assert_int_equal(whole.status, 0);
        free(whole.text);
        found.count = 0;
        (void)nftw(r->folder, note_file, 16, FTW_PHYS);
        assert_true(found.count > 2); /* the database, a folded state, blocks */
        int which = (int)test_random_below(&random, (uint32_t)found.count);
        bool is_torn = i % 4 == 3;
        damage(found.paths[which], found.bytes[which], is_torn, &random);
        outcome o = run(r, "recover", -1, NULL);
        bool is_refused = WIFEXITED(o.status) && WEXITSTATUS(o.status) == 3 && strstr(o.text, "error: ");
        if (!is_refused && (o.status || strcmp(dump_of(&o), r->expected) != 0)) {
            fail_msg("%s %s: status %x, expected\n%s\ngot\n%s", found.paths[which], is_torn ? "torn" : "flipped",
                     o.status, r->expected, o.text);
        }
        refused += is_refused;
        free(o.text);
    }
    print_message("%d of %d were refused, the rest did no harm\n", refused, runs);
}

static void another_model_is_refused(void **state) {
    rig *r = *state;
    char kept[160];
    start_anew(r);
    outcome whole = run(r, "run", -1, NULL);
    assert_int_equal(whole.status, 0);
    free(whole.text);
    snprintf(kept, sizeof kept, "%s.kept", r->model);
    assert_int_equal(rename(r->model, kept), 0);
    assert_int_equal(link(r->other, r->model), 0);
    outcome o = run(r, "wake", -1, NULL);
    assert_true(WIFEXITED(o.status) && WEXITSTATUS(o.status) == 3);
    assert_non_null(strstr(o.text, "model"));
    free(o.text);
    assert_int_equal(unlink(r->model), 0);
    assert_int_equal(rename(kept, r->model), 0);
    must_recover(r, -1, "another model", 0);
}

static void a_newer_version_is_refused(void **state) {
    rig *r = *state;
    char path[200];
    sqlite3 *db;
    start_anew(r);
    outcome o = run(r, "run", -1, NULL);
    assert_int_equal(o.status, 0);
    free(o.text);
    snprintf(path, sizeof path, "%s/actors.db", r->folder);
    for (int is_back = 0; is_back < 2; is_back++) {
        assert_int_equal(spi_pages_register(), 0);
        assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, SPI_PAGES_VFS), SQLITE_OK);
        assert_int_equal(
            sqlite3_exec(db, is_back ? "PRAGMA user_version = 1" : "PRAGMA user_version = 99", NULL, NULL, NULL),
            SQLITE_OK);
        sqlite3_close(db);
        if (!is_back) {
            o = run(r, "run", -1, NULL);
            assert_true(WIFEXITED(o.status) && WEXITSTATUS(o.status) == 3);
            assert_non_null(strstr(o.text, "newer samepage"));
            free(o.text);
        }
    }
    must_recover(r, -1, "a newer version", 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_every_system_call),
        cmocka_unit_test(killed_at_any_time),
        cmocka_unit_test(writes_fall_short),
        cmocka_unit_test(the_disk_is_full),
        cmocka_unit_test(writes_fail),
        cmocka_unit_test(reads_fail),
        cmocka_unit_test(syncs_fail),
        cmocka_unit_test(the_clock_jumps),
        cmocka_unit_test(damaged_files_are_found_out),
        cmocka_unit_test(another_model_is_refused),
        cmocka_unit_test(a_newer_version_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
