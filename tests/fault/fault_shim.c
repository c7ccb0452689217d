/* tests/fault/fault_shim.c - a system that lies, for LD_PRELOAD. SHIM is "KIND:N": the N-th call of its kind on a file
 * below SHIM_FOLDER (from 0 on) goes wrong, and for kinds that end in "+" all later ones, too:
 *
 *   short   a write writes half of what it should
 *   enospc  a write, or making a file, fails for want of space
 *   eio     a write fails
 *   read    a read fails with EIO
 *   sync    fsync or fdatasync fails with EIO and syncs nothing
 *   clock   the wall clock jumps by days, back and forth, from the N-th look at it on
 *
 * With SHIM_COUNT the number of calls of each kind is written to that file at the end: a line each. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static char kind[16];
static const char *folder;
static long at = -1;
static bool goes_on;
static const char *const kinds[] = {"short", "enospc", "eio", "read", "sync", "clock"};
#define KINDS (sizeof kinds / sizeof *kinds)
static atomic_long counts[KINDS];

__attribute__((constructor)) static void begin(void) {
    const char *text = getenv("SHIM"), *colon = text ? strchr(text, ':') : NULL;
    folder = getenv("SHIM_FOLDER");
    if (colon && folder && (size_t)(colon - text) < sizeof kind) {
        memcpy(kind, text, (size_t)(colon - text));
        size_t length = strlen(kind);
        goes_on = length && kind[length - 1] == '+';
        kind[length - goes_on] = 0;
        at = strtol(colon + 1, NULL, 10);
    }
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("SHIM_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) {
        for (size_t i = 0; i < KINDS; i++) {
            fprintf(file, "%s %ld\n", kinds[i], atomic_load(&counts[i]));
        }
        fclose(file);
    }
}

static bool is_inside(int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = folder ? readlink(link, path, sizeof path - 1) : -1;
    path[length < 0 ? 0 : length] = 0;
    return length > 0 && !strncmp(path, folder, strlen(folder));
}

/* True if this call is the one. */
static bool is_due(const char *of, int file) {
    size_t i = 0;
    while (strcmp(kinds[i], of) != 0) {
        i++;
    }
    if (file >= 0 && !is_inside(file)) {
        return false;
    }
    long now = atomic_fetch_add(&counts[i], 1);
    return !strcmp(kind, of) && at >= 0 && (goes_on ? now >= at : now == at);
}

/* As POSIX has it for dlsym: through a pointer to the pointer. */
#define NEXT(name) (*(*(__typeof__(name) **)&(void *){dlsym(RTLD_NEXT, #name)}))

/* How much of a write happens; negative: it fails. */
static ssize_t allowed(int file, size_t bytes) {
    if (is_due("short", file)) {
        return (ssize_t)(bytes / 2 ? bytes / 2 : bytes);
    }
    if (is_due("enospc", file)) {
        errno = ENOSPC;
        return -1;
    }
    if (is_due("eio", file)) {
        errno = EIO;
        return -1;
    }
    return (ssize_t)bytes;
}

ssize_t write(int file, const void *bytes, size_t n) {
    ssize_t most = allowed(file, n);
    return most < 0 ? most : NEXT(write)(file, bytes, (size_t)most);
}

ssize_t pwrite(int file, const void *bytes, size_t n, off_t offset) {
    ssize_t most = allowed(file, n);
    return most < 0 ? most : NEXT(pwrite)(file, bytes, (size_t)most, offset);
}

ssize_t pwrite64(int file, const void *bytes, size_t n, off64_t offset) {
    ssize_t most = allowed(file, n);
    return most < 0 ? most : NEXT(pwrite64)(file, bytes, (size_t)most, offset);
}

ssize_t read(int file, void *bytes, size_t n) {
    return is_due("read", file) ? (errno = EIO, -1) : NEXT(read)(file, bytes, n);
}

ssize_t pread(int file, void *bytes, size_t n, off_t offset) {
    return is_due("read", file) ? (errno = EIO, -1) : NEXT(pread)(file, bytes, n, offset);
}

ssize_t pread64(int file, void *bytes, size_t n, off64_t offset) {
    return is_due("read", file) ? (errno = EIO, -1) : NEXT(pread64)(file, bytes, n, offset);
}

int fsync(int file) {
    return is_due("sync", file) ? (errno = EIO, -1) : NEXT(fsync)(file);
}

int fdatasync(int file) {
    return is_due("sync", file) ? (errno = EIO, -1) : NEXT(fdatasync)(file);
}

int ftruncate64(int file, off64_t bytes) {
    return is_due("enospc", file) ? (errno = ENOSPC, -1) : NEXT(ftruncate64)(file, bytes);
}

int posix_fallocate64(int file, off64_t offset, off64_t bytes) {
    return is_due("enospc", file) ? ENOSPC : NEXT(posix_fallocate64)(file, offset, bytes);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = NEXT(clock_gettime)(clock, now);
    if (clock == CLOCK_REALTIME && is_due("clock", -1)) {
        static const long days[] = {3, -40, 400, 0, -1, 10000, -3000};
        now->tv_sec += days[atomic_load(&counts[KINDS - 1]) % 7] * 86400;
    }
    return result;
}
