/* os/dirty_protect.c - written pages by protection and a signal: see dirty.h.
 *
 * A watched range is a span in a list that only grows: the handler walks it without a lock, on any thread, and a span
 * that is not used any more waits to be used again. Its fields are guarded by a version that is odd while they change;
 * the handler passes over such a span, because a range that is being changed is one that nobody may write to.
 */
#include "os/dirty_ways.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "base/memory.h"
#include "os/vm.h"

typedef struct span {
    struct span *next;    /* never changes once it is in the list */
    spi_dirty *owner;     /* NULL: free. Under the lock, as all below but for the handler */
    size_t page_capacity; /* of the bits */
    atomic_uint version;
    atomic_uintptr_t begin, end;  /* whole pages */
    _Atomic(atomic_uchar *) bits; /* one for each page: written */
} span;

static span *_Atomic spans;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- the handler ---- */

#ifdef __APPLE__
static const int signals[] = {SIGBUS, SIGSEGV}; /* which of them it is has changed with versions */
#else
static const int signals[] = {SIGSEGV};
#endif
#define SIGNAL_COUNT ((int)(sizeof signals / sizeof *signals))

static void set_bit(atomic_uchar *bits, size_t page) {
    atomic_fetch_or(&bits[page / 8], (unsigned char)(1u << page % 8));
}

/* Notes a write and lets it happen. The bit comes first: another thread that finds the page writable must not be
 * forgotten. Where the system has no room for one more piece of a mapping all of the span becomes one. */
static bool note(uintptr_t begin, uintptr_t end, atomic_uchar *bits, uintptr_t address) {
    size_t page_bytes = spi_vm_page_bytes(), page = (address - begin) / page_bytes;
    set_bit(bits, page);
    if (spi_vm_protect((void *)(begin + page * page_bytes), page_bytes, true, true) == SP_OK) {
        return true;
    }
    for (size_t i = 0; i < (end - begin) / page_bytes; i++) {
        set_bit(bits, i);
    }
    return spi_vm_protect((void *)begin, end - begin, true, true) == SP_OK;
}

static bool is_ours(uintptr_t address) {
    for (span *at = atomic_load(&spans); at; at = at->next) {
        unsigned version = atomic_load(&at->version);
        uintptr_t begin = atomic_load(&at->begin), end = atomic_load(&at->end);
        atomic_uchar *bits = atomic_load(&at->bits);
        if (!(version & 1) && address >= begin && address < end && atomic_load(&at->version) == version) {
            return note(begin, end, bits, address);
        }
    }
    return false;
}

/* Two places in the chain of handlers: one that was taken first, and one above whoever came in between, which may well
 * call the first. */
static struct sigaction below[2][SIGNAL_COUNT];

static void pass_on(const struct sigaction *to, int number, siginfo_t *info, void *context) {
    if (to->sa_flags & SA_SIGINFO) {
        to->sa_sigaction(number, info, context);
    } else if (to->sa_handler == SIG_DFL || to->sa_handler == SIG_IGN) {
        signal(number, SIG_DFL); /* it happens again, and ends the process as it would have */
    } else {
        to->sa_handler(number);
    }
}

static void handle(int place, int number, siginfo_t *info, void *context) {
#ifndef __APPLE__
    bool can_be = info->si_code == SEGV_ACCERR;
#else
    bool can_be = info->si_code > 0;
#endif
    if (can_be && is_ours((uintptr_t)info->si_addr)) {
        return;
    }
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        if (signals[i] == number) {
            pass_on(&below[place][i], number, info, context);
        }
    }
}

static void on_fault(int number, siginfo_t *info, void *context) {
    handle(0, number, info, context);
}

static void on_fault_above(int number, siginfo_t *info, void *context) {
    handle(1, number, info, context);
}

typedef void (*handler)(int, siginfo_t *, void *);
static const handler handlers[2] = {on_fault, on_fault_above};

static bool is_same(const struct sigaction *a, const struct sigaction *b) {
    bool is_long = a->sa_flags & SA_SIGINFO, as_long = b->sa_flags & SA_SIGINFO;
    return is_long == as_long && (is_long ? a->sa_sigaction == b->sa_sigaction : a->sa_handler == b->sa_handler);
}

/* Whoever made an engine after the handler was set up has put its own in front, which takes every fault of WebAssembly
 * for an access outside of its memory. One that was there before and is there again has only lost sight of ours. */
static bool set_handler(int number, struct sigaction *under[2], int *taken) {
    struct sigaction now, own = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    int place = 0;
    if (sigaction(number, NULL, &now)) {
        return false;
    }
    if (now.sa_flags & SA_SIGINFO && (now.sa_sigaction == on_fault || now.sa_sigaction == on_fault_above)) {
        return true;
    }
    while (place < *taken && !is_same(&now, under[place])) {
        place++;
    }
    if (place == 2) {
        return false; /* three who take turns: nobody would know whose turn it is */
    }
    *under[place] = now;
    *taken = place == *taken ? place + 1 : *taken;
    own.sa_sigaction = handlers[place];
    sigemptyset(&own.sa_mask);
    return sigaction(number, &own, NULL) == 0;
}

static bool set_handlers(void) {
    static int taken[SIGNAL_COUNT];
    bool is_set = true;
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        struct sigaction *under[2] = {&below[0][i], &below[1][i]};
        is_set = set_handler(signals[i], under, &taken[i]) && is_set;
    }
    return is_set;
}

/* ---- spans ---- */

static void change(span *at, uintptr_t begin, uintptr_t end) {
    atomic_fetch_add(&at->version, 1);
    atomic_store(&at->begin, begin);
    atomic_store(&at->end, end);
    atomic_fetch_add(&at->version, 1);
}

/* A span with room for so many pages. */
static span *want_span(size_t pages) {
    span *at = atomic_load(&spans);
    while (at && (at->owner || at->page_capacity < pages)) {
        at = at->next;
    }
    if (at) {
        memset((void *)atomic_load(&at->bits), 0, pages / 8 + 1);
        return at;
    }
    at = spi_alloc(1, sizeof *at);
    atomic_uchar *bits = at ? spi_alloc(pages / 8 + 1, 1) : NULL;
    if (!bits) {
        spi_free(at);
        return NULL;
    }
    at->page_capacity = pages;
    atomic_store(&at->bits, bits);
    at->next = atomic_load(&spans);
    atomic_store(&spans, at);
    return at;
}

/* The part of a span that lies in a range; false: none does. */
static bool meet(const span *at, uintptr_t from, uintptr_t to, uintptr_t *begin, uintptr_t *end) {
    uintptr_t first = atomic_load(&at->begin), last = atomic_load(&at->end);
    *begin = first > from ? first : from;
    *end = last < to ? last : to;
    return at->owner && *begin < *end;
}

static bool is_written(const span *at, uintptr_t address) {
    size_t page = (address - atomic_load(&at->begin)) / spi_vm_page_bytes();
    return atomic_load(&atomic_load(&at->bits)[page / 8]) >> page % 8 & 1;
}

/* From `at` on: where the run of pages that are as written as the first of them ends. */
static uintptr_t run_end(const span *in, uintptr_t at, uintptr_t end) {
    bool first = is_written(in, at);
    while (at < end && is_written(in, at) == first) {
        at += spi_vm_page_bytes();
    }
    return at;
}

/* ---- the way ---- */

static void destroy(spi_dirty *dirty) {
    pthread_mutex_lock(&lock);
    for (span *at = atomic_load(&spans); at; at = at->next) {
        if (at->owner == dirty) {
            uintptr_t begin = atomic_load(&at->begin), end = atomic_load(&at->end);
            (void)spi_vm_protect((void *)begin, end - begin, true, true);
            change(at, UINTPTR_MAX, 0);
            at->owner = NULL;
        }
    }
    pthread_mutex_unlock(&lock);
    spi_free(dirty);
}

static uintptr_t round_up(uintptr_t address) {
    size_t page = spi_vm_page_bytes();
    return (address + page - 1) / page * page;
}

static uintptr_t round_down(uintptr_t address) {
    return address / spi_vm_page_bytes() * spi_vm_page_bytes();
}

/* Where the system's pages are larger than the caller's, what is a part of one at either end is not watched. */
static sp_status watch(spi_dirty *dirty, void *address, size_t bytes) {
    uintptr_t begin = round_up((uintptr_t)address), end = round_down((uintptr_t)address + bytes);
    sp_status status = SP_OK;
    if (begin >= end) {
        return SP_OK;
    }
    pthread_mutex_lock(&lock);
    bool is_set = set_handlers();
    span *at = is_set ? want_span((end - begin) / spi_vm_page_bytes()) : NULL;
    if (at) {
        at->owner = dirty;
        change(at, begin, end);
        status = spi_vm_protect((void *)begin, end - begin, true, false);
        if (status) {
            (void)spi_vm_protect((void *)begin, end - begin, true, true);
            change(at, UINTPTR_MAX, 0);
            at->owner = NULL;
        }
    }
    pthread_mutex_unlock(&lock);
    return at ? status : is_set ? SP_NO_MEMORY : SP_UNSUPPORTED;
}

typedef struct telling {
    void (*written)(void *env, uint8_t *from, size_t bytes);
    void *env;
} telling;

static void tell(const telling *to, uintptr_t begin, uintptr_t end) {
    if (begin < end) {
        to->written(to->env, (uint8_t *)begin, end - begin);
    }
}

static sp_status take_span(span *in, uintptr_t begin, uintptr_t end, const telling *to) {
    size_t page_bytes = spi_vm_page_bytes();
    for (uintptr_t at = begin; at < end;) {
        uintptr_t next = run_end(in, at, end);
        if (is_written(in, at)) {
            tell(to, at, next);
        }
        at = next;
    }
    /* Protected first: should that fail, the record stands as it is. */
    sp_status status = spi_vm_protect((void *)begin, end - begin, true, false);
    for (uintptr_t at = begin; at < end && !status; at += page_bytes) {
        size_t page = (at - atomic_load(&in->begin)) / page_bytes;
        atomic_fetch_and(&atomic_load(&in->bits)[page / 8], (unsigned char)~(1u << page % 8));
    }
    return status;
}

static sp_status take(spi_dirty *dirty, void *address, size_t bytes,
                      void (*written)(void *env, uint8_t *from, size_t bytes), void *env) {
    const telling to = {written, env};
    uintptr_t from = (uintptr_t)address, end = from + bytes;
    sp_status status = SP_OK;
    /* What no whole page of the system lies in is taken as written. */
    uintptr_t first = round_up(from), last = round_down(end);
    tell(&to, from, first < end ? first : end);
    tell(&to, last > first ? last : first, end);
    pthread_mutex_lock(&lock);
    for (span *at = atomic_load(&spans); at && !status; at = at->next) {
        uintptr_t begin, until;
        if (at->owner == dirty && meet(at, from, end, &begin, &until)) {
            status = take_span(at, begin, until, &to);
        }
    }
    pthread_mutex_unlock(&lock);
    return status;
}

sp_status spi_dirty_protect_create(spi_dirty **out) {
    static const spi_dirty_ways ways = {destroy, watch, take};
    spi_dirty *dirty = spi_alloc(1, sizeof *dirty);
    *out = dirty;
    if (!dirty) {
        return SP_NO_MEMORY;
    }
    dirty->ways = &ways;
    return SP_OK;
}

/* ---- letting others write ---- */

void spi_dirty_open(const void *address, size_t bytes) {
    uintptr_t begin, end;
    if (!atomic_load(&spans)) {
        return;
    }
    pthread_mutex_lock(&lock);
    for (span *at = atomic_load(&spans); at; at = at->next) {
        if (meet(at, (uintptr_t)address, (uintptr_t)address + bytes, &begin, &end)) {
            (void)spi_vm_protect((void *)begin, end - begin, true, true);
        }
    }
    pthread_mutex_unlock(&lock);
}

static void close_span(span *in, uintptr_t begin, uintptr_t end) {
    for (uintptr_t at = begin; at < end;) {
        uintptr_t next = run_end(in, at, end);
        if (!is_written(in, at) && spi_vm_protect((void *)at, next - at, true, false)) {
            for (uintptr_t page = at; page < next; page += spi_vm_page_bytes()) {
                set_bit(atomic_load(&in->bits), (page - atomic_load(&in->begin)) / spi_vm_page_bytes());
            }
        }
        at = next;
    }
}

void spi_dirty_close(const void *address, size_t bytes) {
    uintptr_t begin, end;
    if (!atomic_load(&spans)) {
        return;
    }
    pthread_mutex_lock(&lock);
    for (span *at = atomic_load(&spans); at; at = at->next) {
        if (meet(at, (uintptr_t)address, (uintptr_t)address + bytes, &begin, &end)) {
            close_span(at, begin, end);
        }
    }
    pthread_mutex_unlock(&lock);
}
