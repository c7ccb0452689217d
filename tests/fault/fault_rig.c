/* tests/fault/fault_rig.c - see fault_rig.h. */
#include "fault/fault_rig.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "os/file.h"
#include "support/guests.h"

#define TEXT_MAX (1 << 20)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RUNS_DEFAULT 1 /* a run takes ten times as long; the places change with the seed */
#else
#define RUNS_DEFAULT 10
#endif

/* ---- running the worker ---- */

static void launch(const fault_rig *r, const char *mode, int acknowledged, const char *const *environment,
                   bool is_traced) {
    char worker[512], guest[512], last[16];
    snprintf(worker, sizeof worker, "%s", test_build_path("tests/actor_worker"));
    snprintf(guest, sizeof guest, "%s", test_build_path("guests/test_actor.wasm"));
    snprintf(last, sizeof last, "%d", acknowledged);
    int out = open(r->out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(out, 1);
    for (; environment && *environment; environment += 2) {
        setenv(environment[0], environment[1], 1);
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

pid_t fault_spawn(const fault_rig *r, const char *mode, int acknowledged, const char *const *environment,
                  bool is_traced) {
    int out = open(r->out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(out >= 0);
    close(out);
    pid_t child = fork();
    if (!child) {
        launch(r, mode, acknowledged, environment, is_traced);
    }
    assert_true(child > 0);
    return child;
}

fault_outcome fault_collect(const fault_rig *r, int status) {
    fault_outcome o = {.status = status, .acknowledged = -1};
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

fault_outcome fault_run(const fault_rig *r, const char *mode, int acknowledged, const char *const *environment) {
    int status;
    pid_t child = fault_spawn(r, mode, acknowledged, environment, false);
    waitpid(child, &status, 0);
    return fault_collect(r, status);
}

const char *fault_dump(const fault_outcome *o) {
    const char *dump = strstr(o->text, "--\n");
    return dump ? dump : "";
}

/* ---- folders ---- */

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

void fault_start_anew(const fault_rig *r) {
    char carried[200];
    (void)nftw(r->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    snprintf(carried, sizeof carried, "%s/carried.snap", r->root);
    (void)unlink(carried);
}

void fault_must_recover(const fault_rig *r, int acknowledged, bool may_compute, const char *what, long at) {
    fault_outcome o = fault_run(r, "recover", acknowledged, NULL);
    bool computed = strstr(o.text, "computed again") != NULL;
    if (!WIFEXITED(o.status) || WEXITSTATUS(o.status) || strcmp(fault_dump(&o), r->expected) != 0 ||
        (computed && !may_compute)) {
        print_error("expected\n%s\ngot\n%s\n", r->expected,
                    o.text); /* which is longer than a failure's message may be */
        fail_msg("%s %ld (acknowledged %d): status %x", what, at, acknowledged, o.status);
    }
    free(o.text);
}

long fault_place(const fault_rig *r, long total, int i, test_random *random) {
    long runs = r->runs ? r->runs : total, step = total / runs ? total / runs : 1;
    return r->runs ? (long)i * step + (long)test_random_below(random, (uint32_t)step) : i;
}

/* ---- the rig ---- */

static void write_models(const fault_rig *r) {
    void *data;
    size_t count;
    sp_error error = {0};
    TEST_OK(spi_file_read(test_source_path("models/samepage-demo-q8_0.gguf"), (size_t)1 << 26, &data, &count, &error),
            error);
    TEST_OK(spi_file_write(r->model, data, count, false, &error), error);
    char *name = memmem(data, count, "Samepage demo", 13);
    assert_non_null(name);
    name[1] = 'o'; /* one of the same shape, by another name */
    TEST_OK(spi_file_write(r->other, data, count, false, &error), error);
    free(data);
}

int fault_setup(void **state) {
    static fault_rig r;
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
    char seed[32];
    snprintf(seed, sizeof seed, "%lld", (long long)time(NULL));
    setenv("SAMEPAGE_TEST_SEED", seed, 0); /* other places each time, since all of them would take hours */
    print_message("SAMEPAGE_TEST_SEED=%s, %d runs of each kind\n", getenv("SAMEPAGE_TEST_SEED"), r.runs);
    write_models(&r);
    fault_outcome o = fault_run(&r, "recover", -1, NULL);
    if (!WIFEXITED(o.status) || WEXITSTATUS(o.status)) {
        print_error("the undisturbed run: %x\n%s\n", o.status, o.text);
        return -1;
    }
    r.expected = strdup(fault_dump(&o));
    assert_non_null(strstr(r.expected, "two 0 1 think 6 hello > "));
    free(o.text);
    *state = &r;
    return 0;
}

int fault_teardown(void **state) {
    fault_rig *r = *state;
    free(r->expected);
    test_folder_remove(r->root);
    return 0;
}
