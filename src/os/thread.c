/* os/thread.c - starting and joining threads. Names, and sleeping on a word, are the system's: thread_linux.c and
 * thread_macos.c. See thread.h. */
#include "os/thread.h"

#include <signal.h>

#include "base/memory.h"

typedef struct start {
    void (*run)(void *env);
    void *env;
    char name[16];
} start;

static void *enter(void *argument) {
    start begin = *(start *)argument;
    spi_free(argument);
    spi_thread_introduce(begin.name);
    begin.run(begin.env);
    return NULL;
}

sp_status spi_thread_start(spi_thread *thread, const char *name, void (*run)(void *env), void *env) {
    start *begin = spi_alloc(1, sizeof *begin);
    if (!begin) {
        return SP_NO_MEMORY;
    }
    *begin = (start){.run = run, .env = env};
    for (size_t i = 0; i + 1 < sizeof begin->name && name[i]; i++) {
        begin->name[i] = name[i];
    }
    /* Signals are the program's own business and must not land in a worker that holds half a result; but a fault is the
     * worker's own, and who watches pages (dirty.h) settles it. */
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread->id, NULL, enter, begin);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        spi_free(begin);
        return SP_NO_MEMORY;
    }
    return SP_OK;
}

void spi_thread_join(spi_thread *thread) {
    pthread_join(thread->id, NULL);
}
