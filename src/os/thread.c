/* os/thread.c - see thread.h. */
#include "os/thread.h"

#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"

typedef struct start {
    void (*run)(void *env);
    void *env;
} start;

static void *enter(void *argument) {
    start begin = *(start *)argument;
    spi_free(argument);
    begin.run(begin.env);
    return NULL;
}

sp_status spi_thread_start(spi_thread *thread, const char *name, void (*run)(void *env), void *env) {
    start *begin = spi_alloc(1, sizeof *begin);
    if (!begin) {
        return SP_NO_MEMORY;
    }
    *begin = (start){.run = run, .env = env};
    /* Signals are the program's own business and must not land in a worker that holds half a result. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread->id, NULL, enter, begin);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        spi_free(begin);
        return SP_NO_MEMORY;
    }
    pthread_setname_np(thread->id, name);
    return SP_OK;
}

void spi_thread_join(spi_thread *thread) {
    pthread_join(thread->id, NULL);
}

void spi_wait_word(atomic_uint *word, unsigned expected, int64_t timeout_ns) {
    struct timespec limit = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ns < 0 ? NULL : &limit, NULL, 0);
}

void spi_wake_word(atomic_uint *word, int waiter_count_max) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, waiter_count_max, NULL, NULL, 0);
}
