/* snapshot/store_session.c - what attached sessions find in a store and give to it. */
#include <sodium/crypto_aead_xchacha20poly1305.h>
#include <sodium/crypto_generichash_blake2b.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "model/model.h"
#include "os/clock.h"
#include "os/vm.h"
#include "snapshot/capture.h"
#include "snapshot/store.h"

static const spi_digest no_parent;

void spi_store_name(const sp_store *store, const sp_session *session, const spi_digest *parent, uint32_t block,
                    uint32_t token_count, spi_digest *name) {
    sp_fingerprint fingerprint;
    /* Keys turned by LongRoPE's other list are other keys. */
    uint64_t format = spi_kv_format_of(session) + (spi_model_is_long(session->model, session->context_max) ? 1 : 0);
    crypto_generichash_blake2b_state state;
    sp_model_get_fingerprint(session->model, &fingerprint);
    crypto_generichash_blake2b_init(&state, store->has_key ? store->name_key : NULL,
                                    store->has_key ? sizeof store->name_key : 0, sizeof name->bytes);
    crypto_generichash_blake2b_update(&state, fingerprint.weights, sizeof fingerprint.weights);
    crypto_generichash_blake2b_update(&state, (const uint8_t *)&format, sizeof format);
    crypto_generichash_blake2b_update(&state, parent->bytes, sizeof parent->bytes);
    crypto_generichash_blake2b_update(&state, (const uint8_t *)(session->tokens + (size_t)block * SPI_BLOCK_TOKENS),
                                      token_count * sizeof(int32_t));
    crypto_generichash_blake2b_final(&state, name->bytes, sizeof name->bytes);
}

/* Names of blocks 0 .. count, of tokens that are there or about to be. */
bool spi_store_want_names(spi_attached *attached, const sp_session *session, uint32_t count) {
    while (attached->count < count) {
        size_t capacity = attached->capacity;
        if (!spi_reserve((void **)&attached->names, &capacity, (size_t)attached->count + 1, sizeof *attached->names)) {
            return false;
        }
        attached->capacity = (uint32_t)capacity;
        const spi_digest *parent = attached->count ? &attached->names[attached->count - 1] : &no_parent;
        spi_store_name(attached->store, session, parent, attached->count, SPI_BLOCK_TOKENS,
                       &attached->names[attached->count]);
        attached->count++;
    }
    return true;
}

const spi_digest *spi_store_names(const sp_session *session, uint32_t *count) {
    const spi_attached *attached = session->cache_data;
    *count = attached->count;
    return attached->names;
}

/* ---- reading ---- */

void spi_store_drop_damaged(sp_store *store, spi_entry *entry) {
    spi_store_note(store, "a block is damaged or cannot be read (slot %u of pack %.32s): it is computed again",
                   entry->slot, entry->pack->name[0] ? entry->pack->name : "in memory");
    entry->pack = NULL;
    store->entry_count--;
    store->stats.damaged_blocks++;
}

sp_status spi_store_read(sp_store *store, spi_entry *entry, uint8_t *to, sp_error *error) {
    spi_pack *pack = entry->pack;
    size_t bytes = (size_t)pack->header.block_bytes;
    spi_pack_record record;
    sp_status status = spi_store_use(store, pack);
    int64_t begin_ns = spi_clock_ns();
    status = status ? status : spi_pack_read_record(pack, entry->slot, &record);
    status = status ? status : spi_pack_read(pack, entry->slot, to, bytes);
    if (!status && pack->header.flags & SPI_PACK_SEALED) {
        if (crypto_aead_xchacha20poly1305_ietf_decrypt_detached(to, NULL, to, bytes, record.check, record.name.bytes,
                                                                SPI_DIGEST_BYTES, record.nonce, store->key)) {
            status = SP_BAD_FILE;
        }
    } else if (!status) {
        spi_hash hash = spi_hash_bytes(to, bytes, 0);
        status = memcmp(&hash, record.check, sizeof hash) == 0 && spi_digest_equal(&record.name, &entry->name)
                     ? SP_OK
                     : SP_BAD_FILE;
    }
    if (!status && !entry->is_verified) {
        spi_store_learn_read(store, false, bytes, spi_clock_ns() - begin_ns);
        entry->is_verified = true;
    }
    return status ? spi_fail(error, status, "a block is damaged or cannot be read") : SP_OK;
}

/* Puts a block that is there, decrypted, into a pack in memory, from where it can be mapped. */
static sp_status decrypt_entry(sp_store *store, spi_entry *entry) {
    size_t bytes = (size_t)entry->pack->header.block_bytes;
    uint8_t *plain = spi_alloc(bytes, 1);
    sp_status status = plain ? spi_store_read(store, entry, plain, NULL) : SP_NO_MEMORY;
    spi_pack_record record = {0};
    spi_pack *pack = NULL;
    if (!status) {
        status = spi_pack_read_record(entry->pack, entry->slot, &record);
    }
    if (!status) {
        spi_hash hash = spi_hash_bytes(plain, bytes, 0);
        spi_pack_header like = entry->pack->header;
        like.flags = 0;
        memcpy(record.check, &hash, sizeof hash);
        memset(record.nonce, 0, sizeof record.nonce);
        status = spi_store_pack_for(store, &like, &record.parent, &pack, NULL);
    }
    if (!status) {
        status = spi_pack_append(pack, &record, plain, bytes, NULL);
    }
    if (!status) {
        entry->pack = pack;
        entry->slot = pack->count - 1;
        entry->is_verified = true;
    }
    spi_free(plain);
    return status;
}

/* ---- finding ---- */

/* How many blocks from `first` on are there, checked, in one run of slots. */
static uint32_t find_run(sp_store *store, spi_attached *attached, uint32_t first, uint32_t end, spi_entry **entry,
                         uint32_t *unread) {
    uint32_t count = 0;
    *unread = 0;
    *entry = NULL;
    while (first + count < end) {
        spi_entry *next = spi_store_find(store, &attached->names[first + count]);
        if (!next || (*entry && (next->pack != (*entry)->pack || next->slot != (*entry)->slot + count))) {
            break;
        }
        *entry = count ? *entry : next;
        *unread += !next->is_verified && !store->unverified;
        count++;
    }
    return count;
}

/* Opens a run's pack, or decrypts its blocks; how many of them lie one behind the other then. */
static uint32_t ready_run(sp_store *store, spi_attached *attached, uint32_t first, uint32_t count) {
    const spi_pack *pack = NULL;
    uint32_t slot = 0, there = 0;
    for (uint32_t i = 0; i < count; i++) {
        spi_entry *next = spi_store_find(store, &attached->names[first + i]);
        sp_status status = SP_NOT_FOUND;
        if (next && next->pack->header.flags & SPI_PACK_SEALED) {
            status = decrypt_entry(store, next);
        } else if (next) {
            status = spi_store_use(store, next->pack);
        }
        next = spi_store_find(store, &attached->names[first + i]); /* decrypting moves things */
        if (!status && next && (!i || next->pack != pack)) {
            there = spi_pack_slots_there(next->pack);
        }
        if (!status && next && next->slot >= there) {
            status = SP_BAD_FILE;
        }
        if (status || !next) {
            if (status != SP_NO_MEMORY && next) {
                spi_store_drop_damaged(store, next);
            }
            return i;
        }
        if (i && (next->pack != pack || next->slot != slot + i)) {
            return i; /* decrypted to somewhere else: the next run */
        }
        pack = next->pack;
        slot = i ? slot : next->slot;
    }
    return count;
}

static sp_status find_blocks(sp_store *store, spi_attached *attached, sp_session *session, uint32_t end,
                             uint32_t *found, sp_error *error) {
    uint32_t first = session->token_count / SPI_BLOCK_TOKENS, at = first;
    sp_status status = SP_OK;
    bool scanned = false, can_map = spi_session_can_map(session);
    while (at < end && !status) {
        spi_entry *entry;
        uint32_t unread, run = find_run(store, attached, at, end, &entry, &unread);
        if (!run && !scanned) {
            scanned = true;
            (void)spi_store_scan(store, false, NULL);
            continue;
        }
        if (!run || spi_store_should_compute(store, session, run, unread)) {
            break;
        }
        run = ready_run(store, attached, at, run);
        uint32_t good = run;
        if (run && can_map) {
            status = spi_store_place(store, attached, session, at, run, &good, error);
        }
        at += good;
        if (!good) {
            break;
        }
    }
    if (!can_map && at > first) { /* wherever they lie, all at once: threads copy them */
        uint32_t good;
        status = spi_store_place(store, attached, session, first, at - first, &good, error);
        at = first + good;
    }
    store->stats.hits += at - first;
    store->stats.misses += end - at;
    *found = at > first ? at * SPI_BLOCK_TOKENS : session->token_count;
    /* A block that cannot be mapped or read leaves those before it, and costs time only; a device that cannot link its
     * memory any more is another matter. */
    return status == SP_DEVICE_LOST || status == SP_LINK_REFUSED ? status : SP_OK;
}

static sp_status cache_find(void *env, sp_session *session, uint32_t token_count, uint32_t *found, sp_error *error) {
    sp_store *store = env;
    spi_attached *attached = session->cache_data;
    uint32_t end = token_count / SPI_BLOCK_TOKENS, first = session->token_count / SPI_BLOCK_TOKENS;
    *found = session->token_count;
    attached->count = attached->count < first ? attached->count : first;
    if (end <= first || session->is_foreign || !spi_store_want_names(attached, session, end)) {
        return SP_OK;
    }
    spi_store_lock(store);
    sp_status status = find_blocks(store, attached, session, end, found, error);
    spi_store_unlock(store);
    return status;
}

/* ---- telling ---- */

/* A device that maps files gets a conversation as one mapping; others copy it anyway, and outrun one thread that
 * writes. */
static uint32_t stripes_for(const sp_session *session) {
    return spi_session_can_map(session) ? 1 : SPI_STRIPES_MAX;
}

static void cache_grown(void *env, sp_session *session, uint32_t from, uint32_t computed_count, int64_t ns) {
    sp_store *store = env;
    spi_attached *attached = session->cache_data;
    uint32_t kept = from / SPI_BLOCK_TOKENS, held;
    sp_error ignored = {0};
    attached->count = attached->count < kept ? attached->count : kept; /* what was truncated has other names now */
    if (computed_count >= 16) {
        spi_store_lock(store);
        spi_store_learn_compute(store, session, computed_count, ns);
        spi_store_unlock(store);
    }
    if (session->token_count / SPI_BLOCK_TOKENS > kept) {
        (void)spi_store_take_blocks(store, attached, session, stripes_for(session), &held,
                                    &ignored); /* a cache that cannot take is still one */
    }
}

/* ---- attaching ---- */

static sp_status cache_join(void *env, sp_session *session, sp_error *error) {
    return sp_store_attach(env, session, error);
}

static void cache_gone(void *env, sp_session *session) {
    spi_attached *attached = session->cache_data;
    (void)env;
    spi_free(attached->names);
    spi_free(attached);
    session->cache_data = NULL;
}

void spi_store_set_cache(sp_store *store) {
    store->cache = (spi_session_cache){
        .join = cache_join,
        .find = cache_find,
        .find_tail = spi_store_find_tail,
        .grown = cache_grown,
        .gone = cache_gone,
        .env = store,
    };
}

sp_status sp_store_attach(sp_store *store, sp_session *session, sp_error *error) {
    if (session->cache) {
        return session->cache == &store->cache
                   ? SP_OK
                   : spi_fail(error, SP_INVALID, "the session is attached to another store");
    }
    spi_attached *attached = spi_alloc(1, sizeof *attached);
    if (!attached) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to attach a session to a store");
    }
    attached->store = store;
    session->cache = &store->cache;
    session->cache_data = attached;
    return SP_OK;
}

sp_status sp_store_attach_guest(sp_store *store, sp_guest *guest, sp_error *error) {
    return spi_guest_set_cache(guest, &store->cache, error);
}

sp_status sp_store_take(sp_store *store, sp_session *session, uint32_t *block_count, sp_error *error) {
    sp_error local = {0};
    *block_count = 0;
    error = error ? error : &local;
    sp_status status = sp_store_attach(store, session, error);
    return status
               ? status
               : spi_store_take_blocks(store, session->cache_data, session, stripes_for(session), block_count, error);
}

/* A store that cannot take all of a session's blocks has them inside of the snapshot. */
sp_status spi_capture_take_blocks(spi_capture *capture, sp_error *error) {
    sp_store *store = capture->options->store;
    for (uint32_t i = 0; store && i < capture->session_count; i++) {
        spi_saved_session *saved = &capture->sessions[i];
        sp_session *session = capture->state.slots[saved->slot].session;
        uint32_t held = 0, known;
        sp_status status = sp_store_attach(store, session, error);
        if (status) {
            return status;
        }
        if (!capture->options->without_cache && !sp_store_take(store, session, &held, NULL) &&
            held == session->token_count / SPI_BLOCK_TOKENS && held) {
            saved->names = spi_store_names(session, &known);
            saved->block_count = held;
        }
    }
    return SP_OK;
}
