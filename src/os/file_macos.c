/* os/file_macos.c - what of file.h is macOS's own. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/file.h"

/* fsync there leaves bytes in the drive's own cache. File systems that cannot do more have fsync. */
int spi_file_sync(int file) {
    return fcntl(file, F_FULLFSYNC) < 0 ? fsync(file) : 0;
}

/* There are none. */
int spi_file_open_nameless(const char *folder, int mode) {
    (void)folder;
    (void)mode;
    errno = ENOTSUP;
    return -1;
}

int spi_file_name(int file, const char *path) {
    (void)file;
    (void)path;
    errno = ENOTSUP;
    return -1;
}

int64_t spi_file_changed_ns(const struct stat *info) {
    return (int64_t)info->st_mtimespec.tv_sec * 1000000000 + info->st_mtimespec.tv_nsec;
}

sp_status spi_folder_cache(char *path, size_t capacity) {
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length;
    if (base && base[0] == '/') {
        length = snprintf(path, capacity, "%s/samepage", base);
    } else if (home && home[0] == '/') {
        length = snprintf(path, capacity, "%s/Library/Caches/samepage", home);
    } else {
        /* One folder a user: another user's files there are not trusted, see guest/cache.c. */
        length = snprintf(path, capacity, "/tmp/samepage-%lu", (unsigned long)getuid());
    }
    return length > 0 && (size_t)length < capacity ? SP_OK : SP_INVALID;
}
