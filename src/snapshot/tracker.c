/* snapshot/tracker.c - what a guest changed since a snapshot of it, as a smaller snapshot.
 *
 * Pages that were written are collected in a bit map until a delta with them is accepted. Where there is no record of
 * them every page has a hash that is compared: exact for anyone's writes, but it reads all of the guest's memory.
 * Ranges that a device wrote come from the guest (guest/state.h), sessions' blocks and logits are not memory in this
 * sense, and of tokens those are new that come behind what a session had. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "os/dirty.h"
#include "snapshot/capture.h"

#define PAGE SPI_SECTION_PAGE_ALIGN

/* What of a session was in the latest accepted snapshot. */
typedef struct known_session {
    uint32_t slot, generation, count;
    int32_t *tokens;
} known_session;

typedef struct known_sessions {
    known_session *items;
    uint32_t count;
} known_sessions;

struct sp_tracker {
    sp_guest *guest;
    sp_tracking tracking;
    spi_dirty *dirty; /* NULL: by hashes */
    uint64_t *hashes; /* [page_count] */
    uint8_t *pending; /* a bit for each page: written, and in no accepted delta */
    uint64_t page_count;
    spi_runs watched; /* of the heap */
    uint8_t parent[SP_SNAPSHOT_ID_BYTES], latest[SP_SNAPSHOT_ID_BYTES];
    bool has_latest;
    known_sessions accepted, offered;
};

static uint8_t *memory_of(const sp_tracker *tracker) {
    return sp_region_base(sp_guest_region(tracker->guest));
}

static sp_status no_memory(sp_error *error) {
    return spi_fail(error, SP_NO_MEMORY, "no memory to track a guest");
}

/* ---- tokens ---- */

static void free_sessions(known_sessions *sessions) {
    for (uint32_t i = 0; i < sessions->count; i++) {
        spi_free(sessions->items[i].tokens);
    }
    spi_free(sessions->items);
    *sessions = (known_sessions){0};
}

static sp_status copy_sessions(const spi_state *state, known_sessions *sessions, sp_error *error) {
    *sessions = (known_sessions){.items = spi_alloc(state->slot_count, sizeof *sessions->items)};
    for (uint32_t i = 0; i < state->slot_count && sessions->items; i++) {
        const spi_state_slot *slot = &state->slots[i];
        if (slot->kind == SPI_SLOT_SESSION) {
            known_session *to = &sessions->items[sessions->count];
            *to = (known_session){.slot = i, .generation = slot->generation, .count = slot->token_count};
            to->tokens = spi_alloc(slot->token_count, sizeof *to->tokens);
            if (!to->tokens) {
                free_sessions(sessions);
                return no_memory(error);
            }
            if (slot->token_count) {
                memcpy(to->tokens, slot->tokens, slot->token_count * sizeof *to->tokens);
            }
            sessions->count++;
        }
    }
    return sessions->items ? SP_OK : no_memory(error);
}

/* How many of a session's tokens are those that it had. */
static uint32_t common_tokens(const known_sessions *known, uint32_t slot, const spi_state_slot *now) {
    for (uint32_t i = 0; i < known->count; i++) {
        const known_session *old = &known->items[i];
        if (old->slot == slot && old->generation == now->generation) {
            uint32_t most = old->count < now->token_count ? old->count : now->token_count, same = 0;
            while (same < most && old->tokens[same] == now->tokens[same]) {
                same++;
            }
            return same;
        }
    }
    return 0;
}

static void keep_new_tokens(const sp_tracker *tracker, spi_capture *capture) {
    for (uint32_t i = 0; i < capture->session_count; i++) {
        spi_saved_session *session = &capture->sessions[i];
        const spi_state_slot *slot = &capture->state.slots[session->slot];
        session->token_first = common_tokens(&tracker->accepted, session->slot, slot);
        session->tokens = slot->tokens + session->token_first;
        session->token_count = slot->token_count - session->token_first;
    }
}

/* ---- pages ---- */

static void mark(sp_tracker *tracker, uint64_t offset, uint64_t bytes) {
    uint64_t end = (offset + bytes + PAGE - 1) / PAGE;
    for (uint64_t page = offset / PAGE; page < end && page < tracker->page_count; page++) {
        tracker->pending[page / 8] |= (uint8_t)(1u << page % 8);
    }
}

static void on_written(void *env, uint8_t *from, size_t bytes) {
    sp_tracker *tracker = env;
    mark(tracker, (uint64_t)(from - memory_of(tracker)), bytes);
}

/* The guest's memory has grown: what is new counts as zero so far. */
static sp_status want_pages(sp_tracker *tracker, uint64_t memory_bytes, sp_error *error) {
    uint64_t count = memory_bytes / PAGE, before = tracker->page_count;
    if (count <= before) {
        return SP_OK;
    }
    uint8_t *pending = spi_resize(tracker->pending, tracker->pending ? before / 8 + 1 : 0, count / 8 + 1, 1);
    tracker->pending = pending ? pending : tracker->pending;
    if (pending && !tracker->dirty) {
        static const uint8_t zeros[PAGE];
        uint64_t *hashes = spi_resize(tracker->hashes, before, count, sizeof *hashes), zero = spi_hash64(zeros, PAGE);
        for (uint64_t i = before; hashes && i < count; i++) {
            hashes[i] = zero;
        }
        tracker->hashes = hashes ? hashes : tracker->hashes;
        pending = hashes ? pending : NULL;
    }
    if (!pending) {
        return no_memory(error);
    }
    tracker->page_count = count;
    return SP_OK;
}

static bool is_watched(const sp_tracker *tracker, uint64_t offset, uint64_t *end) {
    for (size_t i = 0; i < tracker->watched.count; i++) {
        const spi_page_run *run = &tracker->watched.items[i];
        if (offset < run->offset) {
            *end = run->offset;
            return false;
        }
        if (offset < run->offset + run->bytes) {
            *end = run->offset + run->bytes;
            return true;
        }
    }
    *end = UINT64_MAX;
    return false;
}

static sp_status by_record(sp_tracker *tracker, const spi_runs *heap, sp_error *error) {
    sp_status status = SP_OK;
    for (size_t i = 0; i < heap->count && !status; i++) {
        uint64_t at = heap->items[i].offset, end = at + heap->items[i].bytes;
        while (at < end && !status) {
            uint64_t until;
            bool watched = is_watched(tracker, at, &until);
            until = until < end ? until : end;
            if (watched) {
                status =
                    spi_dirty_take(tracker->dirty, memory_of(tracker) + at, (size_t)(until - at), on_written, tracker);
            } else {
                status = spi_dirty_watch(tracker->dirty, memory_of(tracker) + at, (size_t)(until - at));
                mark(tracker, at, until - at);
            }
            at = until;
        }
    }
    if (status) {
        return spi_fail(error, status, "the system does not tell which pages of a guest were written");
    }
    spi_runs now = {0};
    for (size_t i = 0; i < heap->count; i++) {
        if (!spi_runs_add(&now, heap->items[i].offset, heap->items[i].bytes)) {
            spi_runs_free(&now);
            return no_memory(error); /* what is not known as watched is taken as written the next time */
        }
    }
    spi_runs_free(&tracker->watched);
    tracker->watched = now;
    return SP_OK;
}

static void by_hashes(sp_tracker *tracker, const spi_runs *heap) {
    const uint8_t *memory = memory_of(tracker);
    for (size_t i = 0; i < heap->count; i++) {
        for (uint64_t at = heap->items[i].offset; at < heap->items[i].offset + heap->items[i].bytes; at += PAGE) {
            uint64_t hash = spi_hash64(memory + at, PAGE);
            if (tracker->hashes[at / PAGE] != hash) {
                tracker->hashes[at / PAGE] = hash;
                mark(tracker, at, PAGE);
            }
        }
    }
}

static sp_status collect(sp_tracker *tracker, const spi_capture *capture, sp_error *error) {
    sp_status status = want_pages(tracker, capture->state.memory_bytes, error);
    if (status) {
        return status;
    }
    if (tracker->dirty) {
        status = by_record(tracker, &capture->heap, error);
    } else {
        by_hashes(tracker, &capture->heap);
    }
    bool all;
    spi_ranges written = spi_state_take_written(tracker->guest, &all);
    for (size_t i = 0; i < written.count; i++) {
        mark(tracker, written.items[i].offset, written.items[i].bytes);
    }
    if (all) {
        mark(tracker, 0, capture->state.memory_bytes);
    }
    spi_ranges_free(&written);
    return status;
}

static sp_status list_pending(const sp_tracker *tracker, spi_capture *capture, sp_error *error) {
    for (size_t i = 0; i < capture->heap.count; i++) {
        const spi_page_run *run = &capture->heap.items[i];
        for (uint64_t at = run->offset; at < run->offset + run->bytes; at += PAGE) {
            uint64_t page = at / PAGE;
            if (tracker->pending[page / 8] >> page % 8 & 1 && !spi_runs_add(&capture->runs, at, PAGE)) {
                return no_memory(error);
            }
        }
    }
    return SP_OK;
}

/* ---- the tracker ---- */

static sp_status begin(sp_tracker *tracker, sp_error *error) {
    spi_capture capture;
    sp_status status = spi_capture_begin(&capture, tracker->guest, NULL, error);
    if (status) {
        return status;
    }
    status = collect(tracker, &capture, error);
    status = status ? status : copy_sessions(&capture.state, &tracker->accepted, error);
    if (!status) {
        memset(tracker->pending, 0, tracker->page_count / 8 + 1); /* all of it is in the base */
    }
    spi_capture_end(&capture);
    return status;
}

/* Makes what one way of tracking needs. SP_UNSUPPORTED: there is none, or not for memory like this guest's. */
static sp_status begin_way(sp_tracker *tracker, sp_tracking way, sp_error *error) {
    static const char *const reasons[] = {
        [SP_TRACK_FAULTS] = "this kernel keeps no record of written pages that a program may read",
        [SP_TRACK_PROTECTION] = "pages cannot be protected of a guest that has the system read files into them",
    };
    sp_status status = SP_OK;
    tracker->tracking = way;
    if (way == SP_TRACK_PROTECTION && spi_module_reads_files(spi_guest_module(tracker->guest))) {
        status = SP_UNSUPPORTED;
    } else if (way != SP_TRACK_HASHES) {
        status = spi_dirty_create(way == SP_TRACK_FAULTS ? SPI_DIRTY_KERNEL : SPI_DIRTY_PROTECT, &tracker->dirty);
    }
    if (status) {
        return spi_fail(error, status, "%s", status == SP_NO_MEMORY ? "no memory to track a guest" : reasons[way]);
    }
    status = begin(tracker, error);
    if (status) {
        spi_dirty_destroy(tracker->dirty);
        spi_free(tracker->pending);
        tracker->dirty = NULL;
        tracker->pending = NULL;
        tracker->page_count = 0;
        spi_runs_free(&tracker->watched);
        free_sessions(&tracker->accepted);
    }
    return status;
}

sp_status sp_tracker_create(sp_guest *guest, const sp_snapshot *base, const sp_tracker_options *options,
                            sp_tracker **out, sp_error *error) {
    static const sp_tracking ways[] = {SP_TRACK_FAULTS, SP_TRACK_PROTECTION, SP_TRACK_HASHES};
    sp_tracking wanted = options ? options->tracking : SP_TRACK_AUTO;
    *out = NULL;
    sp_tracker *tracker = spi_alloc(1, sizeof *tracker);
    if (!tracker) {
        return no_memory(error);
    }
    tracker->guest = guest;
    memcpy(tracker->parent, base->header->id, sizeof tracker->parent);
    sp_status status = SP_UNSUPPORTED;
    for (size_t i = 0; i < sizeof ways / sizeof *ways && status == SP_UNSUPPORTED; i++) {
        if (wanted == SP_TRACK_AUTO || wanted == ways[i]) {
            status = begin_way(tracker, ways[i], error);
        }
    }
    if (status) {
        sp_tracker_destroy(tracker);
        return status;
    }
    *out = tracker;
    return SP_OK;
}

void sp_tracker_destroy(sp_tracker *tracker) {
    if (!tracker) {
        return;
    }
    spi_dirty_destroy(tracker->dirty);
    spi_free(tracker->hashes);
    spi_free(tracker->pending);
    spi_runs_free(&tracker->watched);
    free_sessions(&tracker->accepted);
    free_sessions(&tracker->offered);
    spi_free(tracker);
}

sp_tracking sp_tracker_get_tracking(const sp_tracker *tracker) {
    return tracker->tracking;
}

sp_status sp_tracker_delta(sp_tracker *tracker, const sp_capture_options *options, sp_snapshot **delta,
                           sp_error *error) {
    spi_capture capture;
    known_sessions offered = {0};
    *delta = NULL;
    sp_status status = spi_capture_begin(&capture, tracker->guest, options, error);
    if (status) {
        return status;
    }
    status = collect(tracker, &capture, error);
    status = status ? status : list_pending(tracker, &capture, error);
    status = status ? status : copy_sessions(&capture.state, &offered, error);
    if (!status) {
        keep_new_tokens(tracker, &capture);
        status = spi_capture_build(&capture, tracker->parent, delta, error);
    }
    if (!status) {
        free_sessions(&tracker->offered);
        tracker->offered = offered;
        memcpy(tracker->latest, (*delta)->header->id, sizeof tracker->latest);
        tracker->has_latest = true;
        (void)spi_capture_take_blocks(&capture, NULL); /* blocks follow: they can be computed again */
    } else {
        free_sessions(&offered);
    }
    spi_capture_end(&capture);
    return status;
}

void sp_tracker_accept(sp_tracker *tracker) {
    if (tracker->has_latest) {
        free_sessions(&tracker->accepted);
        tracker->accepted = tracker->offered;
        tracker->offered = (known_sessions){0};
        memcpy(tracker->parent, tracker->latest, sizeof tracker->parent);
        memset(tracker->pending, 0, tracker->page_count / 8 + 1);
        tracker->has_latest = false;
    }
}
