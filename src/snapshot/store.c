/* snapshot/store.c - a store's life, and its index of blocks by name. */
#include "snapshot/store.h"

#include <sodium/crypto_generichash_blake2b.h>
#include <sodium/utils.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "os/file.h"

#define FOLDER_BYTES_DEFAULT ((uint64_t)16 << 30)
#define MEMORY_BYTES_DEFAULT ((uint64_t)1 << 30)
#define FORMAT_TEXT          "samepage blocks 1\n"

/* ---- the index ---- */

static size_t place_of(const sp_store *store, const spi_digest *name) {
    uint64_t word;
    memcpy(&word, name->bytes, sizeof word);
    return (size_t)word & (store->entry_capacity - 1);
}

static bool is_never_used(const spi_entry *entry) {
    static const spi_digest zeros;
    return !entry->pack && spi_digest_equal(&entry->name, &zeros);
}

spi_entry *spi_store_find(sp_store *store, const spi_digest *name) {
    if (!store->entry_capacity) {
        return NULL;
    }
    for (size_t i = place_of(store, name);; i = (i + 1) & (store->entry_capacity - 1)) {
        spi_entry *entry = &store->entries[i];
        if (is_never_used(entry)) {
            return NULL;
        }
        if (entry->pack && spi_digest_equal(&entry->name, name)) {
            return entry;
        }
    }
}

static void put(sp_store *store, spi_entry item) {
    size_t i = place_of(store, &item.name);
    while (store->entries[i].pack) {
        i = (i + 1) & (store->entry_capacity - 1);
    }
    store->entry_used += is_never_used(&store->entries[i]);
    store->entries[i] = item;
    store->entry_count++;
}

/* At most half full, so that a search ends soon; removed ones are left out of the new table. */
static bool make_room(sp_store *store) {
    if (store->entry_used * 2 + 2 <= store->entry_capacity) {
        return true;
    }
    size_t old_capacity = store->entry_capacity;
    size_t capacity = 64;
    while (capacity < store->entry_count * 4) {
        capacity *= 2;
    }
    spi_entry *old = store->entries, *entries = spi_alloc(capacity, sizeof *entries);
    if (!entries) {
        return false;
    }
    store->entries = entries;
    store->entry_capacity = capacity;
    store->entry_count = store->entry_used = 0;
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i].pack) {
            put(store, old[i]);
        }
    }
    spi_free(old);
    return true;
}

bool spi_store_insert(sp_store *store, const spi_digest *name, spi_pack *pack, uint32_t slot, bool is_verified) {
    spi_entry *known = spi_store_find(store, name);
    spi_entry item = {.name = *name, .pack = pack, .slot = slot, .is_verified = is_verified};
    if (known) {
        return true;
    }
    if (!make_room(store)) {
        return false;
    }
    put(store, item);
    return true;
}

void spi_store_forget_pack(sp_store *store, const spi_pack *pack) {
    for (size_t i = 0; i < store->entry_capacity; i++) {
        if (store->entries[i].pack == pack) {
            store->entries[i].pack = NULL;
            store->entry_count--;
        }
    }
}

/* ---- notices ---- */

void spi_store_note(sp_store *store, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(store->told, sizeof store->told, format, arguments);
    va_end(arguments);
}

void spi_store_lock(sp_store *store) {
    pthread_mutex_lock(&store->lock);
}

void spi_store_unlock(sp_store *store) {
    char told[sizeof store->told];
    memcpy(told, store->told, sizeof told);
    store->told[0] = 0;
    pthread_mutex_unlock(&store->lock);
    if (told[0] && store->notice) {
        store->notice(store->notice_env, told);
    }
}

void spi_store_get_notice(const sp_store *store, sp_notice *notice, void **env) {
    *notice = store->notice;
    *env = store->notice_env;
}

/* ---- opening ---- */

/* The file "format" says what the folder is, and with which key: the hash of its text under the key. */
static sp_status check_folder(sp_store *store, sp_error *error) {
    char path[4200], text[256];
    uint8_t proof[32];
    void *data = NULL;
    size_t bytes = 0;
    sp_error unread = {0}; /* of a file that need not be there */
    snprintf(path, sizeof path, "%s/tails", store->folder);
    sp_status status = spi_folder_create(path, error);
    if (status) {
        return status;
    }
    int length = snprintf(text, sizeof text, FORMAT_TEXT "%s", store->has_key ? "key " : "plain\n");
    if (store->has_key) {
        crypto_generichash_blake2b(proof, sizeof proof, (const uint8_t *)FORMAT_TEXT, sizeof FORMAT_TEXT - 1,
                                   store->key, sizeof store->key);
        for (size_t i = 0; i < sizeof proof; i++) {
            length += snprintf(text + length, sizeof text - (size_t)length, "%02x", proof[i]);
        }
        length += snprintf(text + length, sizeof text - (size_t)length, "\n");
    }
    snprintf(path, sizeof path, "%s/format", store->folder);
    status = spi_file_read(path, 4096, &data, &bytes, &unread);
    if (status == SP_NOT_FOUND) {
        return spi_file_write(path, text, (size_t)length, true, error); /* half of it would be another format */
    }
    if (status) {
        return spi_fail(error, status, "%s", unread.message);
    }
    if (bytes < sizeof FORMAT_TEXT - 1 || memcmp(data, FORMAT_TEXT, sizeof FORMAT_TEXT - 1) != 0) {
        status = spi_fail(error, SP_UNSUPPORTED, "%s holds blocks in a format that this samepage does not know",
                          store->folder);
    } else if (bytes != (size_t)length || memcmp(data, text, bytes) != 0) {
        status = spi_fail(error, SP_INVALID,
                          store->has_key ? "the blocks in %s are not encrypted with this key"
                                         : "the blocks in %s are encrypted: give the key",
                          store->folder);
    }
    spi_free(data);
    return status;
}

static void set_keys(sp_store *store, const uint8_t *key) {
    store->has_key = key != NULL;
    if (key) {
        /* Names are under a key of their own, so that nobody can try whether a text that he guesses was seen. */
        memcpy(store->key, key, sizeof store->key);
        crypto_generichash_blake2b(store->name_key, sizeof store->name_key, (const uint8_t *)"names", 5, key,
                                   SP_STORE_KEY_BYTES);
    }
}

sp_status sp_store_open(const sp_store_options *options, sp_store **out, sp_error *error) {
    *out = NULL;
    sp_store *store = spi_alloc(1, sizeof *store);
    if (!store) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a store");
    }
    pthread_mutex_init(&store->lock, NULL);
    store->bytes_max =
        options->bytes_max ? options->bytes_max : (options->folder ? FOLDER_BYTES_DEFAULT : MEMORY_BYTES_DEFAULT);
    store->unverified = options->unverified;
    store->notice = options->notice;
    store->notice_env = options->notice_env;
    spi_store_set_cache(store);
    set_keys(store, options->folder ? options->key : NULL);
    sp_status status = SP_OK;
    if (options->folder) {
        if (strlen(options->folder) > 4000) {
            status = spi_fail(error, SP_INVALID, "the path of a store's folder is longer than 4000 bytes");
        } else if (!(store->folder = spi_copy_string(options->folder, strlen(options->folder)))) {
            status = spi_fail(error, SP_NO_MEMORY, "no memory for a store");
        }
        status = status ? status : check_folder(store, error);
        status = status ? status : spi_store_scan(store, true, error);
        spi_store_trim_tails(store, UINT64_MAX);
    }
    if (status) {
        sp_store_close(store);
        return status;
    }
    *out = store;
    return SP_OK;
}

void sp_store_close(sp_store *store) {
    if (!store) {
        return;
    }
    while (store->packs) {
        spi_store_drop_pack(store, store->packs, false);
    }
    sodium_memzero(store->key, sizeof store->key);
    sodium_memzero(store->name_key, sizeof store->name_key);
    pthread_mutex_destroy(&store->lock);
    spi_free(store->entries);
    spi_free(store->scratch);
    spi_free(store->folder);
    spi_free(store);
}

void sp_store_get_stats(sp_store *store, sp_store_stats *stats) {
    spi_store_lock(store);
    *stats = store->stats;
    stats->blocks = stats->bytes = stats->packs = stats->pinned_packs = 0;
    for (const spi_pack *pack = store->packs; pack; pack = pack->next) {
        stats->packs++;
        stats->pinned_packs += pack->is_pinned;
        stats->blocks += pack->count;
        stats->bytes += pack->count * pack->header.slot_bytes;
    }
    stats->bytes_max = store->bytes_max;
    stats->tail_bytes = store->tail_bytes;
    spi_store_unlock(store);
}
