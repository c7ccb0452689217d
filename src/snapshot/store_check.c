/* snapshot/store_check.c - looking after a store: its limit, its checksums, its pins, and the disk. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "os/file.h"
#include "snapshot/store.h"

sp_status sp_store_gc(sp_store *store, uint64_t bytes_max, uint64_t *evicted_blocks, sp_error *error) {
    spi_store_lock(store);
    sp_status status = spi_store_scan(store, true, error);
    uint64_t most = bytes_max ? bytes_max : store->bytes_max;
    uint64_t evicted = status ? 0 : spi_store_evict(store, most);
    spi_store_trim_tails(store, most / SPI_TAIL_SHARE);
    spi_store_unlock(store);
    if (evicted_blocks) {
        *evicted_blocks = evicted;
    }
    return status;
}

/* One pack; the first damaged block's pack stays, its entry goes. */
static sp_status verify_pack(sp_store *store, spi_pack *pack, uint64_t *damaged, sp_error *error) {
    uint8_t *bytes = spi_alloc((size_t)pack->header.block_bytes, 1);
    if (!bytes) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to verify blocks");
    }
    for (uint32_t slot = 0; slot < pack->count; slot++) {
        spi_pack_record record = {0};
        spi_entry probe = {.pack = pack, .slot = slot};
        sp_status status = spi_store_use(store, pack);
        status = status ? status : spi_pack_read_record(pack, slot, &record);
        probe.name = record.name;
        status = status ? status : spi_store_read(store, &probe, bytes, NULL);
        if (status) {
            spi_entry *entry = spi_store_find(store, &probe.name);
            if (entry && entry->pack == pack && entry->slot == slot) {
                entry->pack = NULL;
                store->entry_count--;
            }
            spi_store_note(store, "slot %u of pack %.32s is damaged: its block is dropped", slot,
                           pack->name[0] ? pack->name : "in memory");
            store->stats.damaged_blocks++;
            ++*damaged;
        }
    }
    spi_free(bytes);
    return SP_OK;
}

sp_status sp_store_verify(sp_store *store, uint64_t *damaged_blocks, sp_error *error) {
    uint64_t damaged = 0;
    spi_store_lock(store);
    sp_status status = spi_store_scan(store, true, error);
    for (spi_pack *pack = store->packs; pack && !status; pack = pack->next) {
        status = verify_pack(store, pack, &damaged, error);
    }
    damaged += status ? 0 : spi_store_verify_tails(store);
    spi_store_unlock(store);
    if (damaged_blocks) {
        *damaged_blocks = damaged;
    }
    return status;
}

static sp_status sync_file(int file) {
    int fault = spi_file_fault(SPI_FILE_SYNC);
    if (fault) {
        errno = fault < 0 ? -fault : fault;
        return SP_IO;
    }
    return spi_file_sync(file) ? SP_IO : SP_OK;
}

sp_status sp_store_sync(sp_store *store, sp_error *error) {
    sp_status status = SP_OK;
    bool any = false;
    spi_store_lock(store);
    for (spi_pack *pack = store->packs; pack && !status; pack = pack->next) {
        if (pack->is_unsynced && pack->name[0] && pack->file >= 0) {
            status = sync_file(pack->file);
            pack->is_unsynced = status != SP_OK;
            any = true;
        }
    }
    if (any && !status) {
        int folder = open(store->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        status = folder < 0 ? SP_IO : sync_file(folder);
        if (folder >= 0) {
            close(folder);
        }
    }
    if (status) {
        spi_fail(error, status, "cannot sync the blocks in %s: %s", store->folder, strerror(errno));
    }
    spi_store_unlock(store);
    return status;
}

static sp_status set_pin(const sp_store *store, spi_pack *pack, bool on, sp_error *error) {
    char path[4200];
    pack->is_pinned = on;
    if (!pack->name[0]) {
        return SP_OK;
    }
    spi_store_pin_path(store, pack, path, sizeof path);
    if (on) {
        int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (file < 0) {
            return spi_fail(error, SP_IO, "cannot make %s: %s", path, strerror(errno));
        }
        close(file);
    } else if (unlink(path) && errno != ENOENT) {
        return spi_fail(error, SP_IO, "cannot remove %s: %s", path, strerror(errno));
    }
    return SP_OK;
}

sp_status sp_store_pin(sp_store *store, const sp_session *session, bool on, sp_error *error) {
    uint32_t count = 0;
    if (session->cache != &store->cache) {
        return spi_fail(error, SP_INVALID, "the session is not attached to this store");
    }
    const spi_digest *names = spi_store_names(session, &count);
    sp_status status = SP_OK;
    spi_store_lock(store);
    for (uint32_t i = 0; i < count && !status; i++) {
        const spi_entry *entry = spi_store_find(store, &names[i]);
        if (entry && entry->pack->is_pinned != on) {
            status = set_pin(store, entry->pack, on, error);
        }
    }
    spi_store_unlock(store);
    return status;
}
