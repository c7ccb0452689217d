/* snapshot/pages.c - which pages of a guest's memory a snapshot has: those outside of sessions and free ranges that are
 * not all zeros. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "snapshot/snapshot.h"

#define PAGE SPI_SECTION_PAGE_ALIGN

bool spi_page_is_zero(const uint8_t *page) {
    /* Memory is zero if its first bytes are and it is the same one word later; the eager part is for pages that are in
     * use, whose first words say so. */
    uint64_t first[2];
    memcpy(first, page, sizeof first);
    if (first[0] | first[1]) {
        return false;
    }
    for (size_t i = 0; i < PAGE; i += 64) {
        uint64_t words[8];
        memcpy(words, page + i, sizeof words);
        if (words[0] | words[1] | words[2] | words[3] | words[4] | words[5] | words[6] | words[7]) {
            return false;
        }
    }
    return true;
}

bool spi_runs_add(spi_runs *runs, uint64_t offset, uint64_t bytes) {
    spi_page_run *last = runs->count ? &runs->items[runs->count - 1] : NULL;
    runs->bytes += bytes;
    if (last && last->offset + last->bytes == offset) {
        last->bytes += bytes;
        return true;
    }
    if (!SPI_RESERVE(runs->items, runs->count, runs->capacity)) {
        return false;
    }
    runs->items[runs->count++] = (spi_page_run){.offset = offset, .bytes = bytes};
    return true;
}

void spi_runs_free(spi_runs *runs) {
    spi_free(runs->items);
    *runs = (spi_runs){0};
}

static int by_offset(const void *a, const void *b) {
    const spi_page_run *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* What the heap is not, ascending. Ranges begin and end on pages of 64 KiB, but a hole need not: what is left of its
 * first and last page belongs to the heap. */
static sp_status list_holes(const spi_state *state, spi_runs *holes, sp_error *error) {
    bool room = true;
    for (uint32_t i = 0; i < state->range_count && room; i++) {
        room = spi_runs_add(holes, state->ranges[i].offset, state->ranges[i].bytes);
    }
    for (uint32_t i = 0; i < state->slot_count && room; i++) {
        if (state->slots[i].kind == SPI_SLOT_SESSION) {
            room = spi_runs_add(holes, state->slots[i].offset, state->slots[i].bytes);
        }
    }
    if (!room) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for the list of a guest's pages");
    }
    if (holes->count) {
        qsort(holes->items, holes->count, sizeof *holes->items, by_offset);
    }
    return SP_OK;
}

sp_status spi_pages_heap(const spi_state *state, spi_runs *heap, sp_error *error) {
    spi_runs holes = {0};
    *heap = (spi_runs){0};
    sp_status status = list_holes(state, &holes, error);
    uint64_t at = 0;
    bool room = true;
    for (size_t i = 0; i <= holes.count && !status && room; i++) {
        bool is_last = i == holes.count;
        uint64_t from = is_last ? state->memory_bytes : (holes.items[i].offset + PAGE - 1) / PAGE * PAGE;
        room = from <= at || spi_runs_add(heap, at, from - at);
        at = is_last ? at : (holes.items[i].offset + holes.items[i].bytes) / PAGE * PAGE;
    }
    spi_runs_free(&holes);
    if (!status && !room) {
        status = spi_fail(error, SP_NO_MEMORY, "no memory for the list of a guest's pages");
    }
    if (status) {
        spi_runs_free(heap);
    }
    return status;
}

sp_status spi_pages_not_zero(const uint8_t *memory, const spi_runs *heap, spi_runs *runs, sp_error *error) {
    *runs = (spi_runs){0};
    for (size_t i = 0; i < heap->count; i++) {
        const spi_page_run *range = &heap->items[i];
        for (uint64_t at = range->offset; at < range->offset + range->bytes; at += PAGE) {
            if (!spi_page_is_zero(memory + at) && !spi_runs_add(runs, at, PAGE)) {
                spi_runs_free(runs);
                return spi_fail(error, SP_NO_MEMORY, "no memory for the list of a guest's pages");
            }
        }
    }
    return SP_OK;
}
