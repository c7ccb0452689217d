/* os/park.c - see park.h. */
#include "os/park.h"

#include <pthread.h>
#include <time.h>

#define LOTS 64u

typedef struct lot {
    pthread_mutex_t lock;
    pthread_cond_t changed;
} lot;

static lot lots[LOTS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_lots(void) {
    for (uint32_t i = 0; i < LOTS; i++) {
        pthread_condattr_t how;
        pthread_condattr_init(&how);
#if !defined(__APPLE__) /* which has waits of a length in its place */
        pthread_condattr_setclock(&how, CLOCK_MONOTONIC);
#endif
        pthread_mutex_init(&lots[i].lock, NULL);
        pthread_cond_init(&lots[i].changed, &how);
        pthread_condattr_destroy(&how);
    }
}

static lot *lot_of(const atomic_uint *word) {
    pthread_once(&once, make_lots);
    return &lots[((uintptr_t)word >> 6) * 0x9e3779b1u >> 7 & (LOTS - 1)];
}

static void wait_for(lot *at, int64_t timeout_ns) {
    struct timespec limit = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
#if defined(__APPLE__)
    pthread_cond_timedwait_relative_np(&at->changed, &at->lock, &limit);
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    limit.tv_sec += now.tv_sec + (limit.tv_nsec + now.tv_nsec) / 1000000000;
    limit.tv_nsec = (limit.tv_nsec + now.tv_nsec) % 1000000000;
    pthread_cond_timedwait(&at->changed, &at->lock, &limit);
#endif
}

void spi_park_wait(atomic_uint *word, unsigned expected, int64_t timeout_ns) {
    lot *at = lot_of(word);
    pthread_mutex_lock(&at->lock);
    /* Whoever changes the word wakes behind it and takes the lock to do so: a change is seen here, or wakes. */
    if (atomic_load(word) == expected) {
        if (timeout_ns < 0) {
            pthread_cond_wait(&at->changed, &at->lock);
        } else {
            wait_for(at, timeout_ns);
        }
    }
    pthread_mutex_unlock(&at->lock);
}

void spi_park_wake(atomic_uint *word) {
    lot *at = lot_of(word);
    pthread_mutex_lock(&at->lock);
    pthread_cond_broadcast(&at->changed);
    pthread_mutex_unlock(&at->lock);
}
