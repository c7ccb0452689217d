/* snapshot/store_pack.c - a store's packs: found in its folder, made, evicted. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/vm.h"
#include "snapshot/store.h"

#define PACK_BYTES     ((uint64_t)64 << 20)
#define OWN_PACKS_MAX  64u  /* that are added to at a time */
#define OPEN_FILES_MAX 200u /* descriptors are scarce; what is mapped needs none */
#define SCAN_NS        20000000
#define GROWTH_SCAN_NS 1000000000
#define TOUCH_NS       60000000000
#define LEFTOVER_AGE_S 600

void spi_store_pin_path(const sp_store *store, const spi_pack *pack, char *path, size_t capacity) {
    spi_pack_path(store->folder, pack->name, ".pin", path, capacity);
}

/* ---- descriptors and uses ---- */

static void close_oldest(sp_store *store) {
    spi_pack *oldest = NULL;
    for (spi_pack *pack = store->packs; pack; pack = pack->next) {
        bool can = pack->file >= 0 && pack->name[0] && !pack->is_own;
        oldest = can && (!oldest || pack->used_ns < oldest->used_ns) ? pack : oldest;
    }
    if (oldest) {
        spi_vm_close(oldest->file);
        oldest->file = -1;
        store->open_files--;
    }
}

sp_status spi_store_use(sp_store *store, spi_pack *pack) {
    pack->used_ns = spi_clock_ns();
    if (pack->file < 0) {
        sp_status status = spi_pack_want_file(pack, store->folder, NULL);
        if (status) {
            return status;
        }
        store->open_files++;
    }
    if (pack->name[0] && pack->used_ns - pack->touched_ns > TOUCH_NS) {
        /* Other processes evict by this; one that may not write the file leaves it. */
        const struct timespec now[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
        (void)futimens(pack->file, now);
        pack->touched_ns = pack->used_ns;
    }
    while (store->open_files > OPEN_FILES_MAX) {
        uint32_t before = store->open_files;
        close_oldest(store);
        if (store->open_files == before) {
            break;
        }
    }
    return SP_OK;
}

static void add_pack(sp_store *store, spi_pack *pack) {
    pack->next = store->packs;
    store->packs = pack;
    store->pack_count++;
    store->open_files += pack->file >= 0;
    pack->used_ns = spi_clock_ns();
}

/* Blocks that were decrypted into memory are still there, encrypted, in the folder. */
static void find_sealed(sp_store *store) {
    spi_pack_record record;
    for (spi_pack *pack = store->packs; pack; pack = pack->next) {
        for (uint32_t slot = 0; pack->name[0] && slot < pack->count && !spi_store_use(store, pack); slot++) {
            if (!spi_pack_read_record(pack, slot, &record)) {
                (void)spi_store_insert(store, &record.name, pack, slot, false);
            }
        }
    }
}

void spi_store_drop_pack(sp_store *store, spi_pack *pack, bool remove) {
    spi_pack **place = &store->packs;
    while (*place != pack) {
        place = &(*place)->next;
    }
    *place = pack->next;
    store->pack_count--;
    store->open_files -= pack->file >= 0;
    spi_store_forget_pack(store, pack);
    if (remove && !pack->name[0] && store->has_key) {
        find_sealed(store);
    }
    if (remove && pack->name[0]) {
        char path[4200];
        spi_pack_path(store->folder, pack->name, ".kv", path, sizeof path);
        unlink(path);
        spi_store_pin_path(store, pack, path, sizeof path);
        unlink(path);
    }
    spi_pack_close(pack);
}

/* ---- scanning ---- */

static bool read_records(sp_store *store, spi_pack *pack) {
    spi_pack_record record;
    while (spi_pack_next_record(pack, &record)) {
        if (!spi_store_insert(store, &record.name, pack, pack->count - 1, false)) {
            return false;
        }
    }
    return true;
}

static spi_pack *find_pack(const sp_store *store, const char *name) {
    spi_pack *pack = store->packs;
    while (pack && strcmp(pack->name, name) != 0) {
        pack = pack->next;
    }
    return pack;
}

/* A file whose maker died before it was renamed, or that has no block and nobody who will add one. */
static void sweep(const sp_store *store, const char *file_name) {
    char path[4200];
    struct stat info;
    snprintf(path, sizeof path, "%s/%s", store->folder, file_name);
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0) {
        return;
    }
    if (!flock(file, LOCK_EX | LOCK_NB) && !fstat(file, &info) && time(NULL) - info.st_mtime > LEFTOVER_AGE_S) {
        unlink(path);
    }
    close(file);
}

static sp_status scan_file(sp_store *store, const char *file_name, sp_error *error) {
    size_t length = strlen(file_name);
    char name[40], path[4200];
    if (length == 36 && strcmp(file_name + 32, ".new") == 0) {
        sweep(store, file_name);
    }
    if (length != 35 || strcmp(file_name + 32, ".kv") != 0) {
        return SP_OK;
    }
    memcpy(name, file_name, 32);
    name[32] = 0;
    spi_pack *pack = find_pack(store, name);
    if (!pack) {
        sp_status status = spi_pack_open(store->folder, name, &pack, NULL);
        if (status == SP_NO_MEMORY) {
            return spi_fail(error, status, "no memory for the packs of a store");
        }
        if (status) {
            store->stats.damaged_blocks += status == SP_BAD_FILE;
            return SP_OK; /* gone meanwhile, or damaged: a hole in a cache */
        }
        add_pack(store, pack);
        bool is_sealed = pack->header.flags & SPI_PACK_SEALED;
        if (is_sealed != store->has_key) {
            spi_store_drop_pack(store, pack, false);
            return SP_OK;
        }
        spi_store_pin_path(store, pack, path, sizeof path);
        pack->is_pinned = access(path, F_OK) == 0;
        pack->used_ns = 0;
    } else if (pack->is_own || pack->count == pack->header.capacity) {
        return SP_OK;
    } else if (spi_pack_want_file(pack, store->folder, NULL)) {
        return SP_OK;
    }
    if (!read_records(store, pack)) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for the index of a store");
    }
    if (!pack->count) {
        sweep(store, file_name);
    }
    return SP_OK;
}

/* Packs whose files others have removed. */
static void drop_gone(sp_store *store) {
    char path[4200];
    spi_pack *next;
    for (spi_pack *pack = store->packs; pack; pack = next) {
        next = pack->next;
        spi_pack_path(store->folder, pack->name, ".kv", path, sizeof path);
        if (pack->name[0] && access(path, F_OK) && errno == ENOENT) {
            spi_store_drop_pack(store, pack, false);
        }
    }
}

sp_status spi_store_scan(sp_store *store, bool always, sp_error *error) {
    struct stat info;
    int64_t now_ns = spi_clock_ns();
    if (!store->folder || (!always && now_ns - store->scanned_ns < SCAN_NS)) {
        return SP_OK;
    }
    if (stat(store->folder, &info)) {
        return spi_fail(error, SP_IO, "cannot look into %s: %s", store->folder, strerror(errno));
    }
    int64_t folder_ns = spi_file_changed_ns(&info);
    if (!always && folder_ns == store->folder_ns && now_ns - store->scanned_ns < GROWTH_SCAN_NS) {
        return SP_OK;
    }
    store->scanned_ns = now_ns;
    store->folder_ns = folder_ns;
    DIR *folder = opendir(store->folder);
    if (!folder) {
        return spi_fail(error, SP_IO, "cannot look into %s: %s", store->folder, strerror(errno));
    }
    sp_status status = SP_OK;
    for (const struct dirent *item; !status && (item = readdir(folder));) {
        status = scan_file(store, item->d_name, error);
        if (store->open_files > OPEN_FILES_MAX) {
            close_oldest(store);
        }
    }
    closedir(folder);
    drop_gone(store);
    return status;
}

/* ---- making ---- */

static bool fits(const spi_pack *pack, const spi_pack_header *like) {
    return pack->is_own && pack->file >= 0 && pack->count < pack->header.capacity &&
           pack->header.block_bytes == like->block_bytes && pack->header.kv_format == like->kv_format &&
           pack->header.flags == like->flags && memcmp(pack->header.weights, like->weights, sizeof like->weights) == 0;
}

static bool is_among(spi_pack *const *packs, uint32_t count, const spi_pack *pack) {
    for (uint32_t i = 0; i < count; i++) {
        if (packs[i] == pack) {
            return true;
        }
    }
    return false;
}

/* A pack that is none of the others: a new one, or one that others add to as well where there are many. */
static sp_status want_pack(sp_store *store, const spi_pack_header *like, spi_pack *const *others, uint32_t count,
                           spi_pack **out, sp_error *error) {
    bool in_memory = !store->folder || !(like->flags & SPI_PACK_SEALED) == store->has_key;
    uint32_t own = 0;
    spi_pack *shared = NULL;
    for (spi_pack *pack = store->packs; pack; pack = pack->next) {
        own += pack->is_own && pack->count < pack->header.capacity;
        bool can = fits(pack, like) && !pack->name[0] == in_memory && !is_among(others, count, pack);
        shared = can && spi_pack_is_named(pack) ? pack : shared;
    }
    if (shared && own >= OWN_PACKS_MAX) {
        *out = shared;
        return SP_OK;
    }
    spi_pack_header header = *like;
    uint64_t capacity = PACK_BYTES / like->block_bytes;
    header.capacity = capacity < 8 ? 8 : capacity > 256 ? 256 : (uint32_t)capacity;
    sp_status status = spi_pack_create(in_memory ? NULL : store->folder, &header, out, error);
    if (!status) {
        add_pack(store, *out);
        (*out)->touched_ns = (*out)->used_ns;
    }
    return status;
}

/* A chain goes on where its last block lies, so that the blocks of a conversation are one mapping. */
sp_status spi_store_pack_for(sp_store *store, const spi_pack_header *like, const spi_digest *parent, spi_pack **out,
                             sp_error *error) {
    const spi_entry *before = spi_store_find(store, parent);
    *out = NULL;
    if (before && fits(before->pack, like) && before->slot + 1 == before->pack->count &&
        spi_pack_is_named(before->pack)) {
        *out = before->pack;
        return SP_OK;
    }
    return want_pack(store, like, NULL, 0, out, error);
}

spi_pack *spi_store_spare_pack(sp_store *store, const spi_pack_header *like, spi_pack *const *others, uint32_t count) {
    spi_pack *pack;
    return want_pack(store, like, others, count, &pack, NULL) ? NULL : pack;
}

/* ---- evicting ---- */

static uint64_t held_bytes(const sp_store *store) {
    uint64_t bytes = 0;
    for (const spi_pack *pack = store->packs; pack; pack = pack->next) {
        bytes += pack->count * pack->header.slot_bytes;
    }
    return bytes;
}

/* When a pack was used last, by this process or, as far as its file tells, by another. */
static int64_t last_use(const sp_store *store, const spi_pack *pack, int64_t now_ns) {
    char path[4200];
    struct stat info;
    if (!pack->name[0]) {
        return pack->used_ns;
    }
    spi_pack_path(store->folder, pack->name, ".kv", path, sizeof path);
    if (stat(path, &info)) {
        return pack->used_ns;
    }
    int64_t age_ns = (int64_t)(time(NULL) - info.st_atime) * 1000000000;
    int64_t by_file = now_ns - (age_ns > 0 ? age_ns : 0);
    return by_file > pack->used_ns ? by_file : pack->used_ns;
}

uint64_t spi_store_evict(sp_store *store, uint64_t bytes_max) {
    uint64_t evicted = 0, held = held_bytes(store);
    int64_t now_ns = spi_clock_ns();
    while (held > bytes_max) {
        spi_pack *oldest = NULL;
        int64_t oldest_ns = INT64_MAX;
        for (spi_pack *pack = store->packs; pack; pack = pack->next) {
            int64_t used_ns = pack->is_pinned || !pack->count ? INT64_MAX : last_use(store, pack, now_ns);
            oldest = used_ns < oldest_ns ? pack : oldest;
            oldest_ns = used_ns < oldest_ns ? used_ns : oldest_ns;
        }
        if (!oldest) {
            break;
        }
        held -= oldest->count * oldest->header.slot_bytes;
        evicted += oldest->count;
        spi_store_drop_pack(store, oldest, true);
    }
    store->stats.evicted_blocks += evicted;
    return evicted;
}
