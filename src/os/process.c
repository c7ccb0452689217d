/* os/process.c - child processes. What systems differ in is in process_linux.c and process_macos.c. See process.h. */
#include "os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "os/clock.h"

#define LOOK_NS 200000

/* Reads the child's stderr until it closes it or time runs out. Keeps the first capacity - 1 bytes. */
static bool drain(int from, int64_t deadline_ns, char *output, size_t capacity) {
    size_t kept = 0;
    bool in_time = true;
    for (;;) {
        int64_t left_ms = (deadline_ns - spi_clock_ns()) / 1000000;
        struct pollfd wait = {.fd = from, .events = POLLIN};
        int ready = left_ms > 0 ? poll(&wait, 1, left_ms > 1000000 ? 1000000 : (int)left_ms) : 0;
        if (ready == 0 && spi_clock_ns() >= deadline_ns) {
            in_time = false;
            break;
        }
        char chunk[512];
        ssize_t got = ready > 0 ? read(from, chunk, sizeof chunk) : -1;
        if (got == 0 || (got < 0 && errno != EINTR && ready > 0)) {
            break;
        }
        if (got > 0 && capacity > 1) {
            size_t room = capacity - 1 - kept, take = (size_t)got < room ? (size_t)got : room;
            memcpy(output + kept, chunk, take);
            kept += take;
        }
    }
    if (capacity) {
        output[kept] = 0;
    }
    return in_time;
}

/* Who has closed its stderr mostly ends with it, but need not. SP_TIMEOUT; SP_IO: it has ended, and nobody knows how,
 * since this program lets its children go by themselves (it ignores SIGCHLD). */
static sp_status wait_for_end(pid_t child, int64_t deadline_ns, int *state) {
    for (;;) {
        pid_t ended = waitpid(child, state, WNOHANG);
        if (ended == child) {
            return SP_OK;
        }
        if (ended < 0 && errno != EINTR) {
            return SP_IO;
        }
        if (spi_clock_ns() >= deadline_ns) {
            return SP_TIMEOUT;
        }
        spi_sleep_ns(LOOK_NS);
    }
}

sp_status spi_process_run(const char *const argv[], int64_t timeout_ms, int *exit_code, char *output, size_t capacity,
                          sp_error *error) {
    int ends[2];
    if (spi_process_pipe(ends)) {
        return spi_fail(error, SP_IO, "cannot start %s: %s", argv[0], strerror(errno));
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
    pid_t child;
    int failed =
        posix_spawn(&child, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, spi_process_environment());
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (failed) {
        close(ends[0]);
        return spi_fail(error, SP_IO, "cannot start %s: %s", argv[0], strerror(failed));
    }
    int state = 0;
    int64_t deadline_ns = spi_clock_ns() + timeout_ms * 1000000;
    sp_status status = drain(ends[0], deadline_ns, output, capacity) ? SP_OK : SP_TIMEOUT;
    status = status ? status : wait_for_end(child, deadline_ns, &state);
    close(ends[0]);
    if (status == SP_TIMEOUT) {
        kill(child, SIGKILL);
        while (waitpid(child, &state, 0) < 0 && errno == EINTR) {}
        spi_fail(error, status, "%s took more than %lld ms", argv[0], (long long)timeout_ms);
    } else if (status) {
        spi_fail(error, status, "how %s ended is not to be known: this program ignores SIGCHLD", argv[0]);
    }
    *exit_code = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
    return status;
}
