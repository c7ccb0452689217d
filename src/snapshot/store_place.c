/* snapshot/store_place.c - blocks of a store into a session: mapped or copied, and checked in their first use in a
 * process.
 *
 * Copying and checking are shared out to threads: a card that takes no pages of files waits for hundreds of megabytes,
 * and its own prefill is faster than one processor's copying. May include: what store.h may.
 */
#include <stdatomic.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "os/clock.h"
#include "os/crew.h"
#include "os/vm.h"
#include "snapshot/capture.h"
#include "snapshot/store.h"

/* What a device begins to take over while others are still copied. */
#define AHEAD_BYTES ((uint64_t)16 << 20)

typedef enum outcome { NOT_YET, READ_WELL, READ_AND_CHECKED, READ_BADLY } outcome;

typedef struct item {
    const spi_pack *pack;
    const uint8_t *from; /* NULL: the pack's file */
    uint32_t slot;
    bool wants_check;
    _Atomic outcome outcome;
} item;

typedef struct placing {
    sp_session *session;
    uint32_t first, count; /* blocks of the session */
    size_t block_bytes;
    bool is_mapped;
    item *items;   /* [count] */
    uint32_t told; /* of which the device knows, from the first on */
    sp_status status;
    sp_error *error;
} placing;

static bool bring(const placing *all, const item *of, uint8_t *to) {
    if (all->is_mapped) {
        return true;
    }
    if (of->from) {
        spi_vm_copy(to, of->from, all->block_bytes);
        return true;
    }
    return !spi_pack_read(of->pack, of->slot, to, all->block_bytes);
}

/* One block: what was mapped has been touched for the next run by being checked. */
static void place_block(void *env, uint32_t index) {
    const placing *all = env;
    item *of = &all->items[index];
    uint8_t *to = spi_session_block(all->session, all->first + index);
    spi_pack_record record;
    outcome became = READ_BADLY;
    if (bring(all, of, to)) {
        became = READ_WELL;
    }
    if (became == READ_WELL && of->wants_check) {
        spi_hash hash = spi_hash_bytes(to, all->block_bytes, 0);
        bool is_good = !spi_pack_read_record(of->pack, of->slot, &record) && !memcmp(&hash, record.check, sizeof hash);
        became = is_good ? READ_AND_CHECKED : READ_BADLY;
    }
    atomic_store(&of->outcome, became);
}

/* The device learns of blocks up to `end`, and begins to take them over. */
static void tell_to(placing *all, uint32_t end) {
    uint64_t bytes = all->block_bytes, offset = all->session->layout.kv_offset + (all->first + all->told) * bytes;
    all->status = spi_session_host_wrote(all->session, offset, (end - all->told) * bytes, all->error);
    if (!all->status) {
        spi_session_ahead(all->session, all->first + all->told, end - all->told);
        all->told = end;
    }
}

static void tell(void *env) {
    placing *all = env;
    uint32_t end = all->told;
    outcome next = READ_WELL;
    while (end < all->count && (next = atomic_load(&all->items[end].outcome)) != NOT_YET && next != READ_BADLY) {
        end++;
    }
    bool is_end = end == all->count || next == READ_BADLY;
    if (!all->status && end > all->told && (is_end || (end - all->told) * all->block_bytes >= AHEAD_BYTES)) {
        tell_to(all, end);
    }
}

/* What became of the blocks, into the index and the statistics; how many are good, from the first on. */
static uint32_t settle(sp_store *store, const spi_attached *attached, const placing *all, int64_t ns) {
    uint32_t good = 0, checked = 0;
    for (; good < all->told; good++) {
        spi_entry *entry = spi_store_find(store, &attached->names[all->first + good]);
        checked += all->items[good].outcome == READ_AND_CHECKED;
        entry->is_verified = entry->is_verified || all->items[good].outcome == READ_AND_CHECKED;
    }
    if (good < all->count && all->items[good].outcome == READ_BADLY) {
        spi_store_drop_damaged(store, spi_store_find(store, &attached->names[all->first + good]));
    }
    if (checked) {
        spi_store_learn_read(store, false, checked * all->block_bytes, ns);
    }
    if (!all->is_mapped && good) {
        spi_store_learn_read(store, true, good * all->block_bytes, ns);
    }
    *(all->is_mapped ? &store->stats.mapped_blocks : &store->stats.copied_blocks) += good;
    return good;
}

/* Where the blocks are, as far as they are there; how many bytes of them have to be touched. */
static uint64_t list_items(sp_store *store, const spi_attached *attached, placing *all) {
    uint32_t touched = 0;
    for (uint32_t i = 0; i < all->count; i++) {
        const spi_entry *entry = spi_store_find(store, &attached->names[all->first + i]);
        if (!entry || entry->pack->file < 0) {
            all->count = i;
            break;
        }
        const uint8_t *view = all->is_mapped ? NULL : spi_pack_view(entry->pack);
        item *to = &all->items[i];
        to->pack = entry->pack;
        to->slot = entry->slot;
        to->from = view ? view + spi_pack_offset(entry->pack, entry->slot) : NULL;
        to->wants_check = !entry->is_verified && !store->unverified;
        touched += !all->is_mapped || to->wants_check;
    }
    return touched * all->block_bytes;
}

static bool can_map(const sp_session *session, const spi_entry *entry) {
    const spi_pack *pack = entry->pack;
    return spi_session_can_map(session) && pack->header.slot_bytes == pack->header.block_bytes &&
           spi_pack_offset(pack, entry->slot) % spi_vm_page_bytes() == 0;
}

sp_status spi_store_place(sp_store *store, spi_attached *attached, sp_session *session, uint32_t first, uint32_t count,
                          uint32_t *good, sp_error *error) {
    const spi_entry *entry = spi_store_find(store, &attached->names[first]);
    uint64_t bytes = spi_kv_block_bytes_of(session);
    placing all = {.session = session,
                   .first = first,
                   .count = count,
                   .block_bytes = (size_t)bytes,
                   .is_mapped = entry && can_map(session, entry),
                   .items = spi_alloc(count, sizeof *all.items),
                   .error = error};
    *good = 0;
    if (!all.items) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to place a session's blocks");
    }
    sp_status status = SP_OK;
    if (all.is_mapped) {
        status = spi_session_map(session, session->layout.kv_offset + first * bytes, count * bytes, entry->pack->file,
                                 spi_pack_offset(entry->pack, entry->slot), error);
    }
    if (!status) {
        uint64_t touched = list_items(store, attached, &all);
        int64_t begin_ns = spi_clock_ns();
        spi_crew_run_watched(all.count, spi_crew_size(touched), place_block, tell, &all);
        *good = settle(store, attached, &all, spi_clock_ns() - begin_ns);
        status = all.status;
    }
    spi_free(all.items);
    return status;
}
