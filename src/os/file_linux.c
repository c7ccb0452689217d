/* os/file_linux.c - what of file.h is Linux's own. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/file.h"

int spi_file_sync(int file) {
    return fsync(file);
}

static void own_link(int file, char link[32]) {
    snprintf(link, 32, "/proc/self/fd/%d", file);
}

int spi_file_open_nameless(const char *folder, int mode) {
    char link[32];
    int file = open(folder, O_WRONLY | O_TMPFILE | O_CLOEXEC, mode);
    own_link(file, link);
    if (file >= 0 && access(link, F_OK)) { /* it could not be given a name where /proc is not there */
        close(file);
        file = -1;
    }
    return file;
}

int spi_file_name(int file, const char *path) {
    char link[32];
    own_link(file, link);
    return linkat(AT_FDCWD, link, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
}

int64_t spi_file_changed_ns(const struct stat *info) {
    return (int64_t)info->st_mtim.tv_sec * 1000000000 + info->st_mtim.tv_nsec;
}

sp_status spi_folder_cache(char *path, size_t capacity) {
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length;
    if (base && base[0] == '/') {
        length = snprintf(path, capacity, "%s/samepage", base);
    } else if (home && home[0] == '/') {
        length = snprintf(path, capacity, "%s/.cache/samepage", home);
    } else {
        /* One folder a user: another user's files there are not trusted, see guest/cache.c. */
        length = snprintf(path, capacity, "/tmp/samepage-%lu", (unsigned long)getuid());
    }
    return length > 0 && (size_t)length < capacity ? SP_OK : SP_INVALID;
}
