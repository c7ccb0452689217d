/* os/thread_macos.c - names and importance of threads, and sleeping on a word. See thread.h. */
#include <pthread.h>
#include <pthread/qos.h>

#include "os/park.h"
#include "os/thread.h"

/* What a user waits for: without it the system may put computing threads on the slow cores. */
void spi_thread_introduce(const char *name) {
    pthread_setname_np(name);
    pthread_set_qos_class_self_np(QOS_CLASS_USER_INITIATED, 0);
}

void spi_wait_word(atomic_uint *word, unsigned expected, int64_t timeout_ns) {
    spi_park_wait(word, expected, timeout_ns);
}

void spi_wake_word(atomic_uint *word, int waiter_count_max) {
    (void)waiter_count_max;
    spi_park_wake(word);
}
