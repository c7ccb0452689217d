/* tokenizer/heap.c - a binary heap of candidates: the soonest comes first. May include: base. */
#include "base/error.h"
#include "base/memory.h"
#include "tokenizer/internal.h"

sp_status spi_heap_push(spi_work *work, spi_candidate candidate, spi_sooner sooner) {
    if (!SPI_RESERVE(work->heap, work->heap_count, work->heap_capacity)) {
        return spi_fail(work->error, SP_NO_MEMORY, "no memory to tokenize");
    }
    size_t at = work->heap_count++;
    while (at > 0) {
        size_t parent = (at - 1) / 2;
        if (!sooner(&candidate, &work->heap[parent])) {
            break;
        }
        work->heap[at] = work->heap[parent];
        at = parent;
    }
    work->heap[at] = candidate;
    return SP_OK;
}

spi_candidate spi_heap_pop(spi_work *work, spi_sooner sooner) {
    spi_candidate top = work->heap[0], last = work->heap[--work->heap_count];
    size_t at = 0, count = work->heap_count;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= count) {
            break;
        }
        if (child + 1 < count && sooner(&work->heap[child + 1], &work->heap[child])) {
            child++;
        }
        if (!sooner(&work->heap[child], &last)) {
            break;
        }
        work->heap[at] = work->heap[child];
        at = child;
    }
    work->heap[at] = last;
    return top;
}
