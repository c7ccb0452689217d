/* tests/fault/test_actor_fault.c - actors under a system that fails at every place that it can fail at.
 *
 * The oracle is a run that nothing disturbs: what the actors know at its end. A disturbed run is ended in some way;
 * after it every actor must be at one commit for each message that is done, what was acknowledged must be there, and
 * the script, gone on with, must end in the same: replies token for token, memory by its hash. Where bytes on disk were
 * changed the other outcome that counts is a refusal that says so.
 *
 * SAMEPAGE_FAULT_RUNS: how many places are tried of each kind; 0 is all of them. `make test-long` tries at least
 * 500. */
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
#include "fault/fault_rig.h"
#include "os/file.h"
#include "support/guests.h"
#include "support/support.h"

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

/* Kills the worker before the call `at`, whichever of its threads makes it, of those that can change a file; -1: never.
 * *total: how many there are. */
static fault_outcome run_killed(const fault_rig *r, long at, long *total) {
    struct __ptrace_syscall_info info;
    int status = 0, end = 0;
    bool is_armed = false;
    *total = 0;
    pid_t child = fault_spawn(r, "run", -1, NULL, true), thread = child;
    waitpid(child, &status, 0);
    ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE));
    while (thread > 0) {
        int stop = WIFSTOPPED(status) ? WSTOPSIG(status) : 0, pass = 0;
        end = thread == child && !stop ? status : end;
        if (stop == (SIGTRAP | 0x80)) {
            if (ptrace(PTRACE_GET_SYSCALL_INFO, thread, (void *)sizeof info, &info) > 0 &&
                info.op == PTRACE_SYSCALL_INFO_ENTRY) {
                is_armed |= info.entry.nr == SYS_getpriority && info.entry.args[0] == 77;
                if (is_armed && writes((long)info.entry.nr) && (*total)++ == at) {
                    kill(child, SIGKILL);
                }
            }
        } else if (stop && stop != SIGTRAP && stop != SIGSTOP) { /* a new thread begins with SIGSTOP */
            pass = stop;
        }
        if (stop) {
            (void)ptrace(PTRACE_SYSCALL, thread, NULL, (void *)(intptr_t)pass);
        }
        thread = waitpid(-1, &status, __WALL); /* until none is left */
    }
    return fault_collect(r, end);
}

/* ---- the tests ---- */

static void killed_at_every_system_call(void **state) {
    fault_rig *r = *state;
    test_random random = test_random_seed(test_seed());
    long total, unused;
    fault_start_anew(r);
    fault_outcome whole = run_killed(r, -1, &total);
    assert_true(WIFEXITED(whole.status) && !WEXITSTATUS(whole.status));
    assert_true(total > 100);
    free(whole.text);
    long runs = r->runs ? r->runs * 2 : total;
    for (int i = 0; i < runs && i < total; i++) {
        long at = r->runs ? (long)((uint64_t)test_random_next(&random) % (uint64_t)total) : i;
        fault_start_anew(r);
        fault_outcome o = run_killed(r, at, &unused);
        assert_true(WIFSIGNALED(o.status) && WTERMSIG(o.status) == SIGKILL);
        fault_must_recover(r, o.acknowledged, false, "killed at system call", at);
        free(o.text);
    }
    print_message("%ld of %ld system calls\n", runs, total);
}

static void killed_at_any_time(void **state) {
    fault_rig *r = *state;
    test_random random = test_random_seed(test_seed() + 1);
    int runs = r->runs ? r->runs : 100, status;
    for (int i = 0; i < runs; i++) {
        fault_start_anew(r);
        int last = -1;
        for (int times = 0; times < 3; times++) { /* several deaths in a row, some of them while recovering */
            pid_t child = fault_spawn(r, "run", -1, NULL, false);
            usleep(5000 + test_random_below(&random, 150000));
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
            fault_outcome o = fault_collect(r, status);
            last = o.acknowledged > last ? o.acknowledged : last;
            free(o.text);
        }
        fault_must_recover(r, last, false, "killed at a random time", i);
    }
}

/* How many calls of each kind an undisturbed run makes. */
static long count_calls(const fault_rig *r, const char *kind) {
    static char *text;
    char path[128], line[32];
    size_t bytes;
    void *data = NULL;
    sp_error error = {0};
    snprintf(path, sizeof path, "%s/count", r->root);
    if (!text) {
        const char *const counting[] = {
            "LD_PRELOAD", test_build_path("tests/libfault_shim.so"), "SHIM_FOLDER", r->folder, "SHIM_COUNT", path,
            NULL};
        fault_start_anew(r);
        fault_outcome o = fault_run(r, "run", -1, counting);
        assert_true(WIFEXITED(o.status) && !WEXITSTATUS(o.status));
        free(o.text);
        TEST_OK(spi_file_read(path, 1000, &data, &bytes, &error), error);
        text = data;
    }
    snprintf(line, sizeof line, "%s ", kind);
    const char *at = strstr(text, line);
    assert_non_null(at);
    return atol(at + strlen(line));
}

static fault_outcome run_lied_to(const fault_rig *r, const char *shim) {
    const char *const lying[] = {
        "LD_PRELOAD", test_build_path("tests/libfault_shim.so"), "SHIM_FOLDER", r->folder, "SHIM", shim, NULL};
    return fault_run(r, "run", -1, lying);
}

/* The run may go through, or fail in a way that is told; it never ends by a signal or says that it is wrong. */
static void fails_at(fault_rig *r, const char *kind, const char *suffix) {
    test_random random = test_random_seed(test_seed() + 2);
    long total = count_calls(r, kind);
    assert_true(total > 10);
    int told = 0, runs = r->runs ? r->runs : (int)total;
    for (int i = 0; i < runs && i < total; i++) {
        char shim[48];
        long at = fault_place(r, total, i, &random);
        snprintf(shim, sizeof shim, "%s%s:%ld", kind, suffix, at);
        fault_start_anew(r);
        fault_outcome o = run_lied_to(r, shim);
        if (!WIFEXITED(o.status) || (WEXITSTATUS(o.status) != 0 && WEXITSTATUS(o.status) != 3)) {
            fail_msg("%s: status %x, %s", shim, o.status, o.text);
        }
        told += WEXITSTATUS(o.status) == 3;
        fault_must_recover(r, o.acknowledged, true, shim, at);
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
    fault_rig *r = *state;
    fault_start_anew(r);
    fault_outcome o = run_lied_to(r, "clock+:5");
    int last = o.acknowledged;
    free(o.text);
    fault_must_recover(r, last, false, "a clock that jumps", 0);
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
    if (kind == FTW_F && info->st_size && found.count < 64 && !strstr(path, "/lock") &&
        !strstr(path, "/acknowledged")) {
        snprintf(found.paths[found.count], sizeof found.paths[0], "%s", path);
        found.bytes[found.count++] = (size_t)info->st_size;
    }
    return 0;
}

static void flip(const char *path, size_t at, uint8_t bits) {
    uint8_t byte;
    int file = open(path, O_RDWR);
    assert_int_equal(pread(file, &byte, 1, (off_t)at), 1);
    byte ^= bits;
    assert_int_equal(pwrite(file, &byte, 1, (off_t)at), 1);
    close(file);
}

static void damage(const char *path, size_t bytes, bool is_torn, test_random *random) {
    size_t at = (size_t)(test_random_next(random) % bytes);
    if (is_torn) {
        assert_int_equal(truncate(path, (off_t)at), 0);
        return;
    }
    flip(path, at, (uint8_t)(1u << test_random_below(random, 8)));
}

/* Refused with a reason, or as if nothing had been. */
static void damaged_files_are_found_out(void **state) {
    fault_rig *r = *state;
    test_random random = test_random_seed(test_seed() + 3);
    int runs = r->runs ? r->runs * 3 : 300, refused = 0;
    for (int i = 0; i < runs; i++) {
        fault_start_anew(r);
        fault_outcome whole = fault_run(r, "run", -1, NULL);
        assert_int_equal(whole.status, 0);
        free(whole.text);
        found.count = 0;
        (void)nftw(r->folder, note_file, 16, FTW_PHYS);
        assert_true(found.count > 2); /* the database, a folded state, blocks */
        int which = (int)test_random_below(&random, (uint32_t)found.count);
        bool is_torn = i % 4 == 3;
        damage(found.paths[which], found.bytes[which], is_torn, &random);
        fault_outcome o = fault_run(r, "recover", -1, NULL);
        bool is_refused = WIFEXITED(o.status) && WEXITSTATUS(o.status) == 3 && strstr(o.text, "error: ");
        if (!is_refused && (o.status || strcmp(fault_dump(&o), r->expected) != 0)) {
            fail_msg("%s %s: status %x, expected\n%s\ngot\n%s", found.paths[which], is_torn ? "torn" : "flipped",
                     o.status, r->expected, o.text);
        }
        refused += is_refused;
        free(o.text);
    }
    print_message("%d of %d were refused, the rest did no harm\n", refused, runs);
}

/* The log of a process that was killed holds its last commits. A bit that flips there must not make them vanish. */
static void damage_of_the_log_is_found_out(void **state) {
    fault_rig *r = *state;
    test_random random = test_random_seed(test_seed() + 4);
    const char *const dying[] = {"DIE_AT_END", "1", NULL};
    int runs = r->runs ? r->runs * 3 : 300, refused = 0;
    char path[200];
    snprintf(path, sizeof path, "%s/actors.db-wal", r->folder);
    for (int i = 0; i < runs; i++) {
        struct stat info;
        fault_start_anew(r);
        fault_outcome whole = fault_run(r, "run", -1, dying);
        assert_true(WIFSIGNALED(whole.status));
        int acknowledged = whole.acknowledged;
        free(whole.text);
        assert_int_equal(stat(path, &info), 0);
        size_t bytes = (size_t)info.st_size,
               tail = bytes < 20000 || i % 2 ? bytes : 20000; /* the last commit, or all */
        size_t at = bytes - 1 - (size_t)(test_random_next(&random) % tail);
        flip(path, at, (uint8_t)(1u << test_random_below(&random, 8)));
        fault_outcome o = fault_run(r, "recover", acknowledged, NULL);
        bool is_refused = WIFEXITED(o.status) && WEXITSTATUS(o.status) == 3 && strstr(o.text, "error: ");
        if (!is_refused && (o.status || strcmp(fault_dump(&o), r->expected) != 0)) {
            fail_msg("byte %zu of %zu: status %x, expected\n%s\ngot\n%s", at, bytes, o.status, r->expected, o.text);
        }
        refused += is_refused;
        free(o.text);
    }
    print_message("%d of %d were refused, the rest did no harm\n", refused, runs);
    assert_true(refused > runs / 2);
}

static void another_model_is_refused(void **state) {
    fault_rig *r = *state;
    char kept[160];
    fault_start_anew(r);
    fault_outcome whole = fault_run(r, "run", -1, NULL);
    assert_int_equal(whole.status, 0);
    free(whole.text);
    snprintf(kept, sizeof kept, "%s.kept", r->model);
    assert_int_equal(rename(r->model, kept), 0);
    assert_int_equal(link(r->other, r->model), 0);
    fault_outcome o = fault_run(r, "wake", -1, NULL);
    assert_true(WIFEXITED(o.status) && WEXITSTATUS(o.status) == 3);
    assert_non_null(strstr(o.text, "model"));
    free(o.text);
    assert_int_equal(unlink(r->model), 0);
    assert_int_equal(rename(kept, r->model), 0);
    fault_must_recover(r, -1, true, "another model", 0);
}

static void a_newer_version_is_refused(void **state) {
    fault_rig *r = *state;
    char path[200];
    sqlite3 *db;
    fault_start_anew(r);
    fault_outcome o = fault_run(r, "run", -1, NULL);
    assert_int_equal(o.status, 0);
    free(o.text);
    snprintf(path, sizeof path, "%s/actors.db", r->folder);
    for (int is_back = 0; is_back < 2; is_back++) {
        assert_int_equal(spi_pages_register(), 0);
        assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, SPI_PAGES_VFS), SQLITE_OK);
        assert_int_equal(
            sqlite3_exec(db, is_back ? "PRAGMA user_version = 3" : "PRAGMA user_version = 99", NULL, NULL, NULL),
            SQLITE_OK);
        sqlite3_close(db);
        if (!is_back) {
            o = fault_run(r, "run", -1, NULL);
            assert_true(WIFEXITED(o.status) && WEXITSTATUS(o.status) == 3);
            assert_non_null(strstr(o.text, "newer samepage"));
            free(o.text);
        }
    }
    fault_must_recover(r, -1, true, "a newer version", 0);
}

/* A folder as version 1 had it. */
static void an_older_version_is_brought_on(void **state) {
    fault_rig *r = *state;
    char path[200];
    sqlite3 *db;
    fault_start_anew(r);
    fault_outcome o = fault_run(r, "run", -1, NULL);
    assert_int_equal(o.status, 0);
    free(o.text);
    snprintf(path, sizeof path, "%s/actors.db", r->folder);
    assert_int_equal(spi_pages_register(), 0);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, SPI_PAGES_VFS), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(db,
                     "BEGIN; ALTER TABLE actor DROP COLUMN kv_type; ALTER TABLE state ADD COLUMN bytes BLOB;"
                     "UPDATE state SET bytes = (SELECT bytes FROM state_body WHERE state = id);"
                     "DROP TABLE state_body; PRAGMA user_version = 1; COMMIT",
                     NULL, NULL, NULL),
        SQLITE_OK);
    sqlite3_close(db);
    fault_must_recover(r, o.acknowledged, false, "version 1", 0);
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
        cmocka_unit_test(damage_of_the_log_is_found_out),
        cmocka_unit_test(another_model_is_refused),
        cmocka_unit_test(a_newer_version_is_refused),
        cmocka_unit_test(an_older_version_is_brought_on),
    };
    return cmocka_run_group_tests(tests, fault_setup, fault_teardown);
}
