/* os/file_linux.c - what of file.h is Linux's own. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/file.h"

int spi_file_sync(int file) {
    return fsync(file);
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
