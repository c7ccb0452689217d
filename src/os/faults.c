/* os/faults.c - see faults.h.
 *
 * What is known of pages lies in chunks of 2 MiB of address space, found by a hash of their number. Chunks stay for ever, since
 * a handler in another thread may be looking at one. A page is unknown, protected or written; it changes under one lock that
 * the handler takes, too: nobody touches watched memory while holding it.
 */
#include "os/faults.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "base/memory.h"
#include "os/thread.h"
#include "os/vm.h"

#define CHUNK_SHIFT 21u
#define CHUNK_BYTES ((size_t)1 << CHUNK_SHIFT)
#define PAGES_MAX   512u /* of 4 KiB in a chunk */
#define BUCKETS     4096u

enum { PAGE_UNKNOWN, PAGE_PROTECTED, PAGE_WRITTEN };

typedef struct chunk {
    struct chunk *next; /* in its bucket; never changes once the chunk can be found */
    uintptr_t number;
    const spi_faults *owner; /* of all pages that are known; NULL: none is */
    uint8_t pages[PAGES_MAX];
} chunk;

struct spi_faults {
    int unused;
};

static _Atomic(chunk *) buckets[BUCKETS];
static atomic_flag locked = ATOMIC_FLAG_INIT;
static size_t page_bytes;
static struct sigaction before_segv, before_bus;

static void lock(void) {
    while (atomic_flag_test_and_set_explicit(&locked, memory_order_acquire)) {
        spi_pause();
    }
}

static void unlock(void) {
    atomic_flag_clear_explicit(&locked, memory_order_release);
}

static chunk *find(uintptr_t address) {
    uintptr_t number = address >> CHUNK_SHIFT;
    chunk *at = atomic_load(&buckets[number % BUCKETS]);
    while (at && at->number != number) {
        at = at->next;
    }
    return at;
}

/* Makes it if there is none; NULL: no memory. With the lock not held. */
static chunk *want(uintptr_t address) {
    chunk *at = find(address), *made = at ? NULL : spi_alloc(1, sizeof *made);
    if (!made) {
        return at;
    }
    lock();
    at = find(address);
    if (!at) {
        _Atomic(chunk *) *bucket = &buckets[(address >> CHUNK_SHIFT) % BUCKETS];
        *made = (chunk){.next = atomic_load(bucket), .number = address >> CHUNK_SHIFT};
        atomic_store(bucket, made);
        at = made;
        made = NULL;
    }
    unlock();
    spi_free(made);
    return at;
}

static size_t page_of(uintptr_t address) {
    return (address & (CHUNK_BYTES - 1)) / page_bytes;
}

static void *address_of(const chunk *of, size_t page) {
    return (void *)((of->number << CHUNK_SHIFT) + page * page_bytes);
}

/* Opens a page that was written. Where the kernel's table of mappings is full, the protected pages around it, too: that is
 * one entry less and not two more. With the lock held. */
static bool open_page(chunk *of, size_t page) {
    size_t first = page, end = page + 1, pages = CHUNK_BYTES / page_bytes;
    if (mprotect(address_of(of, page), page_bytes, PROT_READ | PROT_WRITE)) {
        for (; first > 0 && of->pages[first - 1] == PAGE_PROTECTED; first--) {}
        for (; end < pages && of->pages[end] == PAGE_PROTECTED; end++) {}
        if (mprotect(address_of(of, first), (end - first) * page_bytes, PROT_READ | PROT_WRITE)) {
            return false;
        }
    }
    memset(of->pages + first, PAGE_WRITTEN, end - first);
    return true;
}

/* True if the fault was of a watched page, and is settled. */
static bool settle(uintptr_t address) {
    chunk *of = find(address);
    bool settled = false;
    if (of) {
        size_t page = page_of(address);
        lock();
        /* A page that is written already was opened by another thread while this one was on its way here. */
        settled = of->pages[page] == PAGE_WRITTEN || (of->pages[page] == PAGE_PROTECTED && open_page(of, page));
        unlock();
    }
    return settled;
}

static void on_fault(int number, siginfo_t *info, void *context) {
    if (settle((uintptr_t)info->si_addr)) {
        return;
    }
    const struct sigaction *before = number == SIGBUS ? &before_bus : &before_segv;
    if (before->sa_flags & SA_SIGINFO) {
        before->sa_sigaction(number, info, context);
    } else if (before->sa_handler == SIG_DFL || before->sa_handler == SIG_IGN) {
        sigaction(number, before, NULL); /* the same instruction faults again, with nobody to catch it */
    } else {
        before->sa_handler(number);
    }
}

/* Before all others, once: again only if somebody has come between since. */
static void install(int number, struct sigaction *before) {
    struct sigaction now, ours;
    sigaction(number, NULL, &now);
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_fault) {
        return;
    }
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = on_fault;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&ours.sa_mask);
    *before = now;
    sigaction(number, &ours, NULL);
}

sp_status spi_faults_create(spi_faults **out) {
    *out = spi_alloc(1, sizeof **out);
    if (!*out) {
        return SP_NO_MEMORY;
    }
    lock();
    page_bytes = spi_vm_page_bytes();
    unlock();
    spi_faults_renew();
    return SP_OK;
}

void spi_faults_renew(void) {
    lock();
    if (page_bytes) {
        install(SIGSEGV, &before_segv);
        install(SIGBUS, &before_bus); /* what macOS calls a write to a protected page */
    }
    unlock();
}

/* Open again, and unknown. With the lock held. */
static void forget(chunk *of) {
    size_t pages = CHUNK_BYTES / page_bytes, end;
    for (size_t page = 0; page < pages; page = end) {
        for (end = page + 1; end < pages && of->pages[end] == of->pages[page]; end++) {}
        if (of->pages[page] == PAGE_PROTECTED) {
            mprotect(address_of(of, page), (end - page) * page_bytes, PROT_READ | PROT_WRITE);
        }
    }
    memset(of->pages, PAGE_UNKNOWN, sizeof of->pages);
    of->owner = NULL;
}

void spi_faults_destroy(spi_faults *faults) {
    if (!faults) {
        return;
    }
    lock();
    for (uint32_t i = 0; i < BUCKETS; i++) {
        for (chunk *of = atomic_load(&buckets[i]); of; of = of->next) {
            if (of->owner == faults) {
                forget(of);
            }
        }
    }
    unlock();
    spi_free(faults);
}

/* Pages [first, end) of a chunk that are in the state `from` become protected. With the lock held. */
static bool protect(chunk *of, size_t first, size_t end, uint8_t from) {
    size_t next;
    for (size_t page = first; page < end; page = next) {
        next = page + 1;
        if (of->pages[page] == from) {
            for (; next < end && of->pages[next] == from; next++) {}
            if (mprotect(address_of(of, page), (next - page) * page_bytes, PROT_READ)) {
                return false;
            }
            memset(of->pages + page, PAGE_PROTECTED, next - page);
        }
    }
    return true;
}

/* A part of a range that lies in one chunk, in whole pages. */
typedef struct part {
    uintptr_t at, end;
} part;

static part first_part(const void *address, size_t bytes, uintptr_t *end) {
    uintptr_t at = (uintptr_t)address / page_bytes * page_bytes;
    *end = ((uintptr_t)address + bytes + page_bytes - 1) / page_bytes * page_bytes;
    uintptr_t next = ((at >> CHUNK_SHIFT) + 1) << CHUNK_SHIFT;
    return (part){at, next < *end ? next : *end};
}

static part next_part(part now, uintptr_t end) {
    return (part){now.end, end - now.end < CHUNK_BYTES ? end : now.end + CHUNK_BYTES};
}

sp_status spi_faults_watch(spi_faults *faults, void *address, size_t bytes) {
    uintptr_t end;
    for (part now = first_part(address, bytes, &end); now.at < end; now = next_part(now, end)) {
        chunk *of = want(now.at);
        if (!of) {
            return SP_NO_MEMORY;
        }
        size_t first = page_of(now.at), count = (now.end - now.at) / page_bytes;
        lock();
        bool is_free = !of->owner || of->owner == faults;
        bool done = is_free && protect(of, first, first + count, PAGE_UNKNOWN) &&
                    protect(of, first, first + count, PAGE_WRITTEN);
        of->owner = is_free ? faults : of->owner;
        unlock();
        if (!done) {
            return is_free ? SP_NO_MEMORY : SP_UNSUPPORTED;
        }
    }
    return SP_OK;
}

sp_status spi_faults_take(spi_faults *faults, void *address, size_t bytes,
                          void (*written)(void *env, uint8_t *from, size_t bytes), void *env) {
    uintptr_t end;
    for (part now = first_part(address, bytes, &end); now.at < end; now = next_part(now, end)) {
        chunk *of = find(now.at);
        if (!of || of->owner != faults) {
            return SP_UNSUPPORTED;
        }
        size_t first = page_of(now.at), last = first + (now.end - now.at) / page_bytes, next;
        for (size_t page = first; page < last; page = next) {
            next = page + 1;
            if (of->pages[page] != PAGE_WRITTEN) {
                continue;
            }
            for (; next < last && of->pages[next] == PAGE_WRITTEN; next++) {}
            lock();
            bool done = protect(of, page, next, PAGE_WRITTEN);
            unlock();
            written(env, address_of(of, page), (next - page) * page_bytes);
            if (!done) {
                return SP_NO_MEMORY; /* told, and told again the next time */
            }
        }
    }
    return SP_OK;
}
