/* actor/pages.c - see pages.h. */
#include "actor/pages.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <string.h>

#include "base/hash.h"

typedef struct page_file {
    sqlite3_file base;
    bool has_tails; /* it is a database; logs and temporary files have none */
} page_file;

static sqlite3_vfs *below;
static sqlite3_vfs vfs;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* The system's file lies right behind ours. */
static sqlite3_file *inner(sqlite3_file *file) {
    return (sqlite3_file *)((page_file *)file + 1);
}

static bool is_page(const page_file *file, int bytes, sqlite3_int64 offset) {
    return file->has_tails && bytes == SPI_PAGE_BYTES && offset % SPI_PAGE_BYTES == 0;
}

static uint64_t sum_of(const void *page, sqlite3_int64 offset) {
    return spi_hash_bytes(page, SPI_PAGE_BYTES - SPI_PAGE_TAIL_BYTES, (uint64_t)offset / SPI_PAGE_BYTES + 1).low;
}

static int read_file(sqlite3_file *file, void *bytes, int count, sqlite3_int64 offset) {
    int code = inner(file)->pMethods->xRead(inner(file), bytes, count, offset);
    if (code == SQLITE_OK && is_page((page_file *)file, count, offset)) {
        uint64_t stored, sum = sum_of(bytes, offset);
        memcpy(&stored, (char *)bytes + SPI_PAGE_BYTES - SPI_PAGE_TAIL_BYTES, sizeof stored);
        if (stored != sum) {
            sqlite3_log(SQLITE_IOERR_DATA, "page %lld is damaged", (long long)(offset / SPI_PAGE_BYTES) + 1);
            return SQLITE_IOERR_DATA;
        }
    }
    return code;
}

static int write_file(sqlite3_file *file, const void *bytes, int count, sqlite3_int64 offset) {
    char page[SPI_PAGE_BYTES];
    if (is_page((page_file *)file, count, offset)) {
        uint64_t sum = sum_of(bytes, offset);
        memcpy(page, bytes, SPI_PAGE_BYTES - SPI_PAGE_TAIL_BYTES);
        memcpy(page + SPI_PAGE_BYTES - SPI_PAGE_TAIL_BYTES, &sum, sizeof sum);
        bytes = page;
    }
    return inner(file)->pMethods->xWrite(inner(file), bytes, count, offset);
}

/* ---- handed through ---- */

static int close_file(sqlite3_file *file) {
    int code = inner(file)->pMethods->xClose(inner(file));
    file->pMethods = NULL;
    return code;
}

static int truncate_file(sqlite3_file *file, sqlite3_int64 bytes) {
    return inner(file)->pMethods->xTruncate(inner(file), bytes);
}

static int sync_file(sqlite3_file *file, int flags) {
    return inner(file)->pMethods->xSync(inner(file), flags);
}

static int file_size(sqlite3_file *file, sqlite3_int64 *bytes) {
    return inner(file)->pMethods->xFileSize(inner(file), bytes);
}

static int lock_file(sqlite3_file *file, int level) {
    return inner(file)->pMethods->xLock(inner(file), level);
}

static int unlock_file(sqlite3_file *file, int level) {
    return inner(file)->pMethods->xUnlock(inner(file), level);
}

static int check_lock(sqlite3_file *file, int *result) {
    return inner(file)->pMethods->xCheckReservedLock(inner(file), result);
}

static int control(sqlite3_file *file, int op, void *argument) {
    return inner(file)->pMethods->xFileControl(inner(file), op, argument);
}

static int sector_bytes(sqlite3_file *file) {
    return inner(file)->pMethods->xSectorSize(inner(file));
}

static int characteristics(sqlite3_file *file) {
    return inner(file)->pMethods->xDeviceCharacteristics(inner(file));
}

static int shm_map(sqlite3_file *file, int page, int bytes, int extend, void volatile **at) {
    return inner(file)->pMethods->xShmMap(inner(file), page, bytes, extend, at);
}

static int shm_lock(sqlite3_file *file, int offset, int count, int flags) {
    return inner(file)->pMethods->xShmLock(inner(file), offset, count, flags);
}

static void shm_barrier(sqlite3_file *file) {
    inner(file)->pMethods->xShmBarrier(inner(file));
}

static int shm_unmap(sqlite3_file *file, int remove) {
    return inner(file)->pMethods->xShmUnmap(inner(file), remove);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2, /* without xFetch: what is mapped would not be checked */
    .xClose = close_file,
    .xRead = read_file,
    .xWrite = write_file,
    .xTruncate = truncate_file,
    .xSync = sync_file,
    .xFileSize = file_size,
    .xLock = lock_file,
    .xUnlock = unlock_file,
    .xCheckReservedLock = check_lock,
    .xFileControl = control,
    .xSectorSize = sector_bytes,
    .xDeviceCharacteristics = characteristics,
    .xShmMap = shm_map,
    .xShmLock = shm_lock,
    .xShmBarrier = shm_barrier,
    .xShmUnmap = shm_unmap,
};

static int open_file(sqlite3_vfs *own, sqlite3_filename name, sqlite3_file *file, int flags, int *out_flags) {
    (void)own;
    page_file *made = (page_file *)file;
    made->has_tails = (flags & SQLITE_OPEN_MAIN_DB) != 0;
    int code = below->xOpen(below, name, inner(file), flags, out_flags);
    file->pMethods = code == SQLITE_OK ? &methods : NULL;
    return code;
}

static void make(void) {
    below = sqlite3_vfs_find(NULL);
    if (below) {
        vfs = *below; /* everything but opening is about names, time and random numbers, and stays as it is */
        vfs.pNext = NULL;
        vfs.zName = SPI_PAGES_VFS;
        vfs.szOsFile = (int)sizeof(page_file) + below->szOsFile;
        vfs.xOpen = open_file;
        (void)sqlite3_vfs_register(&vfs, 0);
    }
}

int spi_pages_register(void) {
    pthread_once(&once, make);
    return below == NULL;
}
