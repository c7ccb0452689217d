/* base/memory.c - allocation with a hook for fault injection. */
#include "base/memory.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static atomic_long fail_countdown = -1;

void spi_memory_fail_after(long count) {
    atomic_store(&fail_countdown, count);
}

static int refuse(void) {
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) < 0) {
        return 0;
    }
    return atomic_fetch_sub(&fail_countdown, 1) == 0;
}

void *spi_alloc(size_t count, size_t size) {
    size_t bytes; /* checked here too: a sanitizer's calloc ends the program where the system's gives NULL */
    if (refuse() || __builtin_mul_overflow(count, size, &bytes)) {
        return NULL;
    }
    return calloc(bytes ? bytes : 1, 1);
}

void *spi_resize(void *array, size_t old_count, size_t new_count, size_t size) {
    size_t bytes;
    if (refuse() || __builtin_mul_overflow(new_count, size, &bytes)) {
        return NULL;
    }
    char *grown = realloc(array, bytes ? bytes : 1);
    if (grown && new_count > old_count) {
        memset(grown + old_count * size, 0, (new_count - old_count) * size);
    }
    return grown;
}

char *spi_copy_string(const char *text, size_t length) {
    char *copy = length < SIZE_MAX ? spi_alloc(length + 1, 1) : NULL;
    if (copy && length) {
        memcpy(copy, text, length);
    }
    return copy;
}

void spi_free(void *memory) {
    free(memory);
}

/* From calloc, which leaves fresh pages of the system untouched: buffers for the largest run cost no memory until there
 * is one. What calloc gave stands in front of what the caller gets. */
void *spi_alloc_aligned(size_t bytes, size_t alignment) {
    size_t room;
    if (refuse() || __builtin_add_overflow(bytes, alignment + sizeof(void *), &room)) {
        return NULL;
    }
    char *given = calloc(room, 1);
    if (!given) {
        return NULL;
    }
    uintptr_t at = ((uintptr_t)given + sizeof(void *) + alignment - 1) / alignment * alignment;
    char *memory = given + (at - (uintptr_t)given);
    memcpy(memory - sizeof given, &given, sizeof given);
    return memory;
}

void spi_free_aligned(void *memory) {
    if (memory) {
        char *given;
        memcpy(&given, (char *)memory - sizeof given, sizeof given);
        free(given);
    }
}

int spi_reserve(void **array, size_t *capacity, size_t needed, size_t size) {
    if (needed <= *capacity) {
        return 1;
    }
    size_t grown = *capacity ? *capacity * 2 : 8;
    if (grown < needed) {
        grown = needed;
    }
    void *moved = spi_resize(*array, *capacity, grown, size);
    if (!moved) {
        return 0;
    }
    *array = moved;
    *capacity = grown;
    return 1;
}
