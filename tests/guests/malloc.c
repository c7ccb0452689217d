/* The guest's own allocator beside memory that the host reserves behind its back: each keeps what is the other's.
 *
 * Ends with 0, or with a number that says which check failed. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

__attribute__((import_module("samepage"), import_name("reserve"))) uint32_t host_reserve(uint32_t bytes,
                                                                                         uint32_t align_bytes);
__attribute__((import_module("samepage"), import_name("release"))) void host_release(uint32_t offset, uint32_t bytes);

enum { SLOTS = 64, STEPS = 3000 };

static struct {
    unsigned char *at;
    uint32_t bytes, is_hosts;
    unsigned char fill;
} slots[SLOTS];

static uint32_t random_state = 12345;

static uint32_t random_below(uint32_t limit) {
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)random_state * limit >> 32);
}

static int is_whole(int which) {
    for (uint32_t i = 0; i < slots[which].bytes; i++) {
        if (slots[which].at[i] != slots[which].fill) {
            return 0;
        }
    }
    return 1;
}

static void drop(int which) {
    if (slots[which].is_hosts) {
        host_release((uint32_t)(uintptr_t)slots[which].at, slots[which].bytes);
    } else {
        free(slots[which].at);
    }
    slots[which].at = NULL;
}

static int take(int which, unsigned char fill) {
    uint32_t bytes = 1 + random_below(random_below(8) ? 5000 : 300000);
    slots[which].is_hosts = random_below(2);
    slots[which].bytes = bytes;
    slots[which].fill = fill;
    if (slots[which].is_hosts) {
        uint32_t align = 1u << random_below(18), offset = host_reserve(bytes, align);
        if (!offset || offset % align) {
            return 2;
        }
        slots[which].at = (unsigned char *)(uintptr_t)offset;
    } else {
        slots[which].at = malloc(bytes);
        if (!slots[which].at) {
            return 3;
        }
    }
    memset(slots[which].at, fill, bytes);
    return 0;
}

int main(void) {
    /* The allocator of older wasi-libc takes all memory that there is at the first malloc for its own: that must come
     * before the host reserves any. (With arguments on the command line, it comes before main.) */
    void *volatile first = malloc(1); /* volatile, or the compiler leaves both calls out */
    free(first);
    for (int step = 0; step < STEPS; step++) {
        int which = (int)random_below(SLOTS);
        if (slots[which].at) {
            if (!is_whole(which)) {
                return 1;
            }
            drop(which);
            continue;
        }
        int failed = take(which, (unsigned char)step);
        if (failed) {
            return failed;
        }
    }
    for (int which = 0; which < SLOTS; which++) {
        if (slots[which].at && !is_whole(which)) {
            return 1;
        }
        if (slots[which].at) {
            drop(which);
        }
    }
    return 0;
}
