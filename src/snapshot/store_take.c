/* snapshot/store_take.c - blocks on their way from a session into a store.
 *
 * A block is hashed or encrypted and written by the thread that waits for it. The system lets one thread at a time
 * write to a file, at 1.5 to 3 GB/s where pages are new, and a card computes a prompt's blocks in a third of that time:
 * so the blocks of a long run go into several packs, a stripe each, by as many threads. May include: what store.h may.
 */
#include <sodium/crypto_aead_xchacha20poly1305.h>
#include <sodium/randombytes.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "model/model.h"
#include "os/clock.h"
#include "os/crew.h"
#include "snapshot/store.h"

#define STRIPE_BLOCKS_MIN 2u /* fewer are written before another thread has begun */

static const spi_digest no_parent;

typedef struct stripe {
    uint32_t first, count, done; /* blocks of the session; done: written, from the first on */
    sp_status status;
    sp_error error;
} stripe;

typedef struct taking {
    const sp_store *store;
    const spi_attached *attached;
    const sp_session *session;
    spi_pack_header like;
    uint32_t count;
    stripe stripes[SPI_STRIPES_MAX];
    spi_pack *packs[SPI_STRIPES_MAX]; /* of each stripe another */
} taking;

static spi_pack_header header_for(const sp_store *store, const sp_session *session) {
    sp_fingerprint fingerprint;
    spi_pack_header like = {.block_bytes = spi_kv_block_bytes_of(session),
                            .kv_format = spi_kv_format_of(session),
                            .flags = store->has_key ? SPI_PACK_SEALED : 0};
    sp_model_get_fingerprint(session->model, &fingerprint);
    memcpy(like.weights, fingerprint.weights, sizeof like.weights);
    return like;
}

static const spi_digest *parent_of(const taking *all, uint32_t block) {
    return block ? &all->attached->names[block - 1] : &no_parent;
}

/* ---- writing: without the index, which is nobody's but the lock's holder's ---- */

static sp_status seal(const sp_store *store, const uint8_t *bytes, size_t count, spi_pack_record *record,
                      uint8_t **sealed, sp_error *error) {
    *sealed = spi_alloc(count, 1);
    if (!*sealed) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to encrypt a block");
    }
    randombytes_buf(record->nonce, sizeof record->nonce);
    crypto_aead_xchacha20poly1305_ietf_encrypt_detached(*sealed, record->check, NULL, bytes, count, record->name.bytes,
                                                        SPI_DIGEST_BYTES, NULL, record->nonce, store->key);
    return SP_OK;
}

static sp_status write_block(const taking *all, spi_pack *pack, uint32_t block, sp_error *error) {
    spi_pack_record record = {.name = all->attached->names[block], .parent = *parent_of(all, block)};
    const uint8_t *bytes = spi_session_block(all->session, block);
    size_t count = (size_t)all->like.block_bytes;
    uint8_t *sealed = NULL;
    sp_status status = SP_OK;
    if (all->store->has_key) {
        status = seal(all->store, bytes, count, &record, &sealed, error);
    } else {
        spi_hash hash = spi_hash_bytes(bytes, count, 0);
        memcpy(record.check, &hash, sizeof hash);
    }
    status = status ? status : spi_pack_append(pack, &record, sealed ? sealed : bytes, count, error);
    spi_free(sealed);
    return status;
}

static void write_stripe(void *env, uint32_t index) {
    taking *all = env;
    stripe *own = &all->stripes[index];
    while (own->done < own->count && !own->status) {
        own->status = write_block(all, all->packs[index], own->first + own->done, &own->error);
        own->done += !own->status;
    }
}

/* ---- what goes where ---- */

static uint32_t room_in(const spi_pack *pack) {
    return pack->header.capacity - pack->count;
}

/* Stripes for blocks first .. first + count. The first goes on where the chain before it ends; a pack that has too
 * little room, or too few packs, leave blocks for the next time. */
static sp_status plan(taking *all, sp_store *store, uint32_t first, uint32_t count, uint32_t stripes_max,
                      sp_error *error) {
    uint32_t wanted = count / STRIPE_BLOCKS_MIN < stripes_max ? count / STRIPE_BLOCKS_MIN : stripes_max;
    wanted = wanted ? wanted : 1;
    uint32_t share = (count + wanted - 1) / wanted, end = first + count;
    bool is_whole = true;
    sp_status status = spi_store_pack_for(store, &all->like, parent_of(all, first), &all->packs[0], error);
    for (all->count = 0; !status && is_whole && first < end; all->count++) {
        uint32_t i = all->count;
        if (i && !(all->packs[i] = spi_store_spare_pack(store, &all->like, all->packs, i))) {
            break;
        }
        uint32_t room = room_in(all->packs[i]), part = share < end - first ? share : end - first;
        is_whole = part <= room;
        all->stripes[i] = (stripe){.first = first, .count = is_whole ? part : room};
        first += all->stripes[i].count;
    }
    return status;
}

/* What was written becomes known; *taken is how many blocks there are without a gap. */
static sp_status note_written(const taking *all, sp_store *store, uint32_t *taken, sp_error *error) {
    sp_status status = SP_OK;
    *taken = 0;
    for (uint32_t i = 0; i < all->count; i++) {
        const stripe *own = &all->stripes[i];
        spi_pack *pack = all->packs[i];
        for (uint32_t k = 0; k < own->done; k++) {
            uint32_t slot = pack->count - own->done + k;
            if (!spi_store_insert(store, &all->attached->names[own->first + k], pack, slot, true) && !status) {
                status = spi_fail(error, SP_NO_MEMORY, "no memory for the index of a store");
            }
            *taken += !status;
        }
        pack->used_ns = spi_clock_ns();
        store->stats.taken_blocks += own->done;
        if (own->status && !status) {
            *error = own->error;
            status = own->status;
        }
    }
    return status;
}

static sp_status take_run(sp_store *store, const spi_attached *attached, const sp_session *session, uint32_t first,
                          uint32_t count, uint32_t stripes_max, uint32_t *taken, sp_error *error) {
    taking all = {.store = store, .attached = attached, .session = session, .like = header_for(store, session)};
    *taken = 0;
    sp_status status = plan(&all, store, first, count, stripes_max, error);
    if (status) {
        return status;
    }
    spi_crew_run(all.count, all.count, write_stripe, &all);
    return note_written(&all, store, taken, error);
}

sp_status spi_store_take_blocks(sp_store *store, spi_attached *attached, const sp_session *session,
                                uint32_t stripes_max, uint32_t *held, sp_error *error) {
    uint32_t full = session->token_count / SPI_BLOCK_TOKENS;
    sp_status status = SP_OK;
    *held = 0;
    if (session->is_foreign) {
        return SP_OK;
    }
    if (!spi_store_want_names(attached, session, full)) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for the names of a session's blocks");
    }
    spi_store_lock(store);
    while (*held < full && !status) {
        spi_entry *known = spi_store_find(store, &attached->names[*held]);
        uint32_t count = 1;
        if (known) {
            known->pack->used_ns = spi_clock_ns();
        } else {
            while (*held + count < full && !spi_store_find(store, &attached->names[*held + count])) {
                count++;
            }
            status = take_run(store, attached, session, *held, count, stripes_max, &count, error);
        }
        *held += count;
    }
    if (status) {
        spi_store_note(store, "blocks are not kept: %s", error->status ? error->message : "the store is full");
    }
    (void)spi_store_evict(store, store->bytes_max);
    spi_store_unlock(store);
    return status;
}
