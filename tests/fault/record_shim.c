/* tests/fault/record_shim.c - writes down everything that a process does to files below RECORD_FOLDER, in its order,
 * into RECORD_FILE; for LD_PRELOAD. What a process writes to its output and begins with "ack N" is written down as
 * well. A sync is written down when it has returned. SQLite's shared memory is left out: it is made anew after a
 * crash. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fault/record.h"

#define NEXT(name) (*(*(__typeof__(name) **)&(void *){dlsym(RTLD_NEXT, #name)}))

static const char *folder;
static FILE *out;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("RECORD_FILE");
    folder = getenv("RECORD_FOLDER");
    out = path && folder ? fopen(path, "we") : NULL;
}

static bool is_below(const char *path) {
    size_t length = folder ? strlen(folder) : 0, whole = strlen(path);
    bool is_shared = whole > 4 && !strcmp(path + whole - 4, "-shm");
    return out && !strncmp(path, folder, length) && (path[length] == '/' || !path[length]) && !is_shared;
}

/* The file's path, if it is one of those. */
static bool path_of(int file, char *path, size_t capacity) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = out ? readlink(link, path, capacity - 1) : -1;
    path[length < 0 ? 0 : length] = 0;
    return length > 0 && is_below(path);
}

static uint64_t node_of(int file) {
    struct stat info;
    return fstat(file, &info) ? 0 : (uint64_t)info.st_ino;
}

static void put(record_kind kind, const char *path, uint64_t node, uint64_t offset, const void *data, size_t bytes) {
    int kept = errno;
    record item = {.kind = kind, .path_bytes = path ? (uint32_t)strlen(path) : 0, .node = node, .offset = offset};
    item.data_bytes = bytes;
    pthread_mutex_lock(&lock);
    fwrite(&item, sizeof item, 1, out);
    fwrite(path ? path : "", 1, item.path_bytes, out);
    fwrite(data ? data : "", 1, bytes, out);
    fflush(out);
    pthread_mutex_unlock(&lock);
    errno = kept;
}

static void note_write(int file, const void *data, ssize_t bytes, off_t offset) {
    char path[4096];
    if (bytes > 0 && path_of(file, path, sizeof path)) {
        put(RECORD_WRITE, NULL, node_of(file), (uint64_t)offset, data, (size_t)bytes);
    }
}

/* ---- names ---- */

/* What a file without a name is called here. */
static void nameless_path(const char *folder_path, const struct stat *info, char *path, size_t capacity) {
    snprintf(path, capacity, "%s/" RECORD_NAMELESS "%llu", folder_path, (unsigned long long)info->st_ino);
}

static void note_open(const char *path, int flags, int file, bool was_there) {
    struct stat info;
    if (file < 0 || !is_below(path) || fstat(file, &info) || !S_ISREG(info.st_mode)) {
        return;
    }
    if ((flags & O_TMPFILE) == O_TMPFILE) {
        char own[8192];
        nameless_path(path, &info, own, sizeof own);
        put(RECORD_MAKE, own, (uint64_t)info.st_ino, 0, NULL, 0);
    } else if (!was_there) {
        put(RECORD_MAKE, path, (uint64_t)info.st_ino, 0, NULL, 0);
    } else if (flags & O_TRUNC) {
        put(RECORD_SIZE, NULL, (uint64_t)info.st_ino, 0, NULL, 0);
    }
}

static bool takes_mode(int flags) {
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE;
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        int mode = takes_mode(flags) ? va_arg(more, int) : 0;                                                          \
        va_end(more);                                                                                                  \
        bool was_there = !access(path, F_OK);                                                                          \
        int file = NEXT(name)(path, flags, mode);                                                                      \
        note_open(path, flags, file, was_there);                                                                       \
        return file;                                                                                                   \
    }
OPEN(open)
OPEN(open64)

int mkdir(const char *path, mode_t mode) {
    int result = NEXT(mkdir)(path, mode);
    if (!result && is_below(path)) {
        put(RECORD_FOLDER, path, 0, 0, NULL, 0);
    }
    return result;
}

int rename(const char *from, const char *to) {
    int result = NEXT(rename)(from, to);
    if (!result && is_below(from) && is_below(to)) {
        put(RECORD_RENAME, from, 0, 0, to, strlen(to));
    }
    return result;
}

/* Of a file without a name: its first one. */
int linkat(int at, const char *from, int to_at, const char *to, int flags) {
    char own[8192], above[4096];
    struct stat info;
    int result = NEXT(linkat)(at, from, to_at, to, flags);
    const char *slash = strrchr(to, '/');
    if (!result && is_below(to) && slash && !stat(to, &info)) {
        snprintf(above, sizeof above, "%.*s", (int)(slash - to), to);
        nameless_path(above, &info, own, sizeof own);
        put(RECORD_RENAME, own, 0, 0, to, strlen(to));
    }
    return result;
}

int unlink(const char *path) {
    int result = NEXT(unlink)(path);
    if (!result && is_below(path)) {
        put(RECORD_REMOVE, path, 0, 0, NULL, 0);
    }
    return result;
}

int unlinkat(int at, const char *name, int flags) {
    char path[8192];
    bool is_ours = path_of(at, path, 4096);
    int result = NEXT(unlinkat)(at, name, flags);
    if (!result && is_ours) {
        snprintf(path + strlen(path), 4096, "/%s", name);
        put(RECORD_REMOVE, path, 0, 0, NULL, 0);
    }
    return result;
}

/* ---- bytes ---- */

ssize_t write(int file, const void *bytes, size_t n) {
    off_t offset = lseek(file, 0, SEEK_CUR);
    ssize_t done = NEXT(write)(file, bytes, n);
    if (file == 1 && out && n > 4 && !memcmp(bytes, "ack ", 4)) {
        put(RECORD_TOLD, NULL, 0, strtoul((const char *)bytes + 4, NULL, 10), NULL, 0);
    } else {
        note_write(file, bytes, done, offset);
    }
    return done;
}

ssize_t pwrite(int file, const void *bytes, size_t n, off_t offset) {
    ssize_t done = NEXT(pwrite)(file, bytes, n, offset);
    note_write(file, bytes, done, offset);
    return done;
}

ssize_t pwrite64(int file, const void *bytes, size_t n, off64_t offset) {
    ssize_t done = NEXT(pwrite64)(file, bytes, n, offset);
    note_write(file, bytes, done, offset);
    return done;
}

static void note_size(int file, int result, off_t bytes) {
    char path[4096];
    if (!result && path_of(file, path, sizeof path)) {
        put(RECORD_SIZE, NULL, node_of(file), (uint64_t)bytes, NULL, 0);
    }
}

int ftruncate(int file, off_t bytes) {
    int result = NEXT(ftruncate)(file, bytes);
    note_size(file, result, bytes);
    return result;
}

int ftruncate64(int file, off64_t bytes) {
    int result = NEXT(ftruncate64)(file, bytes);
    note_size(file, result, bytes);
    return result;
}

static void note_sync(int file, int result) {
    char path[4096];
    struct stat info;
    bool is_ours = path_of(file, path, sizeof path);
    /* The folder above has the name of ours. */
    bool is_above = !is_ours && out && *path && !strncmp(path, folder, strlen(path)) && folder[strlen(path)] == '/';
    if (!result && (is_ours || is_above) && !fstat(file, &info)) {
        put(RECORD_SYNC, S_ISDIR(info.st_mode) ? path : NULL, (uint64_t)info.st_ino, 0, NULL, 0);
    }
}

int fsync(int file) {
    int result = NEXT(fsync)(file);
    note_sync(file, result);
    return result;
}

int fdatasync(int file) {
    int result = NEXT(fdatasync)(file);
    note_sync(file, result);
    return result;
}
