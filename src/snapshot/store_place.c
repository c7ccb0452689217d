/* snapshot/store_place.c - blocks of a store into a session: mapped or copied, and checked in their first use in a
 * process.
 *
 * Copying and checking are shared out to threads: a card that takes no pages of files waits for hundreds of megabytes,
 * and its own prefill is faster than one processor's copying. May include: what store.h may.
 */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "os/clock.h"
#include "os/crew.h"
#include "os/vm.h"
#include "snapshot/capture.h"
#include "snapshot/store.h"

typedef enum outcome { READ_WELL, READ_AND_CHECKED, READ_BADLY } outcome;

typedef struct placing {
    const spi_pack *pack;
    uint32_t first_slot;
    uint8_t *to; /* the first block's place */
    size_t block_bytes;
    bool is_mapped;
    const bool *wants_check; /* [count] */
    outcome *outcomes;       /* [count] */
} placing;

/* One block: what was mapped has been touched for the next run by being checked. */
static void place_block(void *env, uint32_t index) {
    const placing *all = env;
    uint8_t *to = all->to + index * all->block_bytes;
    uint32_t slot = all->first_slot + index;
    spi_pack_record record;
    all->outcomes[index] = READ_BADLY;
    if (!all->is_mapped && spi_pack_read(all->pack, slot, to, all->block_bytes)) {
        return;
    }
    if (!all->wants_check[index]) {
        all->outcomes[index] = READ_WELL;
        return;
    }
    spi_hash hash = spi_hash_bytes(to, all->block_bytes, 0);
    if (!spi_pack_read_record(all->pack, slot, &record) && memcmp(&hash, record.check, sizeof hash) == 0) {
        all->outcomes[index] = READ_AND_CHECKED;
    }
}

/* What became of the blocks, into the index and the statistics; how many are good, from the first on. */
static uint32_t settle(sp_store *store, const spi_attached *attached, const placing *all, uint32_t first,
                       uint32_t count, int64_t ns) {
    uint32_t good = 0, checked = 0;
    for (; good < count; good++) {
        spi_entry *entry = spi_store_find(store, &attached->names[first + good]);
        if (all->outcomes[good] == READ_BADLY) {
            spi_store_drop_damaged(store, entry);
            break;
        }
        checked += all->outcomes[good] == READ_AND_CHECKED;
        entry->is_verified = entry->is_verified || all->outcomes[good] == READ_AND_CHECKED;
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

static sp_status place_all(sp_store *store, spi_attached *attached, placing *all, uint32_t first, uint32_t count,
                           bool *wants_check, uint32_t *good, sp_error *error) {
    all->outcomes = spi_alloc(count, sizeof *all->outcomes);
    if (!wants_check || !all->outcomes) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to place a session's blocks");
    }
    uint32_t touched = all->is_mapped ? 0 : count;
    for (uint32_t i = 0; i < count; i++) {
        const spi_entry *entry = spi_store_find(store, &attached->names[first + i]);
        wants_check[i] = !entry->is_verified && !store->unverified;
        touched += all->is_mapped && wants_check[i];
    }
    all->wants_check = wants_check;
    int64_t begin_ns = spi_clock_ns();
    spi_crew_run(count, spi_crew_size(touched * all->block_bytes), place_block, all);
    *good = settle(store, attached, all, first, count, spi_clock_ns() - begin_ns);
    return SP_OK;
}

sp_status spi_store_place(sp_store *store, spi_attached *attached, sp_session *session, uint32_t first, uint32_t count,
                          uint32_t *good, sp_error *error) {
    const spi_entry *entry = spi_store_find(store, &attached->names[first]);
    const spi_pack *pack = entry->pack;
    uint64_t bytes = pack->header.block_bytes;
    placing all = {.pack = pack,
                   .first_slot = entry->slot,
                   .to = spi_session_block(session, first),
                   .block_bytes = (size_t)bytes,
                   .is_mapped = spi_session_can_map(session) && pack->header.slot_bytes == bytes &&
                                spi_pack_offset(pack, entry->slot) % spi_vm_page_bytes() == 0};
    *good = 0;
    sp_status status = SP_OK;
    if (all.is_mapped) {
        status = spi_session_map(session, session->layout.kv_offset + first * bytes, count * bytes, pack->file,
                                 spi_pack_offset(pack, entry->slot), error);
    }
    if (!status) {
        bool *wants_check = spi_alloc(count, sizeof *wants_check);
        status = place_all(store, attached, &all, first, count, wants_check, good, error);
        spi_free(wants_check);
        spi_free(all.outcomes);
    }
    return status;
}
