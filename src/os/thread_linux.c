/* os/thread_linux.c - names of threads, and sleeping on a word: a futex. See thread.h. */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "os/thread.h"

void spi_thread_introduce(const char *name) {
    pthread_setname_np(pthread_self(), name);
}

void spi_wait_word(atomic_uint *word, unsigned expected, int64_t timeout_ns) {
    struct timespec limit = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ns < 0 ? NULL : &limit, NULL, 0);
}

void spi_wake_word(atomic_uint *word, int waiter_count_max) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, waiter_count_max, NULL, NULL, 0);
}
