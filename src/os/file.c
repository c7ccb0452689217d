/* os/file.c - files and folders on POSIX systems, but for writing: file_write.c. What systems differ in is in
 * file_linux.c and file_macos.c. See file.h. */
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"

/* Opens a regular file to read and gives its length. Not blocking: opening a pipe would wait for who writes into it. */
static sp_status open_regular(const char *path, int *file, size_t *bytes, sp_error *error) {
    struct stat stat;
    *file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*file < 0) {
        return spi_fail(error, errno == ENOENT || errno == ENOTDIR ? SP_NOT_FOUND : SP_IO, "cannot open %s: %s", path,
                        strerror(errno));
    }
    if (fstat(*file, &stat) || !S_ISREG(stat.st_mode)) {
        close(*file);
        *file = -1;
        return spi_fail(error, SP_IO, "%s is not a regular file", path);
    }
    *bytes = (size_t)stat.st_size;
    return SP_OK;
}

sp_status spi_file_map_open(const char *path, spi_file_map *map, sp_error *error) {
    int file;
    sp_status status = spi_file_map_open_keep(path, map, &file, error);
    if (!status) {
        close(file);
    }
    return status;
}

sp_status spi_file_map_open_keep(const char *path, spi_file_map *map, int *file_out, sp_error *error) {
    int file;
    *map = (spi_file_map){0};
    *file_out = -1;
    size_t bytes = 0;
    sp_status status = open_regular(path, &file, &bytes, error);
    if (status) {
        return status;
    }
    void *data = NULL;
    if (bytes) {
        data = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, file, 0);
        if (data == MAP_FAILED) {
            status =
                spi_fail(error, SP_NO_ADDRESS_SPACE, "cannot map %s (%zu bytes): %s", path, bytes, strerror(errno));
        }
    }
    if (status) {
        close(file);
    } else {
        *map = (spi_file_map){.data = data, .bytes = bytes};
        *file_out = file;
    }
    return status;
}

void spi_file_map_close(spi_file_map *map) {
    if (map->data) {
        munmap((void *)(uintptr_t)map->data, map->bytes);
    }
    *map = (spi_file_map){0};
}

static sp_status read_all(int file, char *data, size_t bytes) {
    size_t done = 0;
    while (done < bytes) {
        errno = 0; /* nothing is told by it where the file ends too soon */
        ssize_t got = read(file, data + done, bytes - done);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return SP_IO;
        }
        done += (size_t)got;
    }
    return SP_OK;
}

sp_status spi_file_read(const char *path, size_t bytes_max, void **data, size_t *bytes, sp_error *error) {
    int file;
    *data = NULL;
    sp_status status = open_regular(path, &file, bytes, error);
    if (status) {
        return status;
    }
    if (*bytes > bytes_max) {
        status = spi_fail(error, SP_LIMIT, "%s has %zu bytes, more than the %zu allowed", path, *bytes, bytes_max);
        goto done;
    }
    *data = spi_alloc(*bytes + 1, 1);
    if (!*data) {
        status = spi_fail(error, SP_NO_MEMORY, "no memory to read %s (%zu bytes)", path, *bytes);
        goto done;
    }
    status = read_all(file, *data, *bytes);
    if (status) {
        spi_free(*data);
        *data = NULL;
        spi_fail(error, status, "cannot read %s: %s", path, errno ? strerror(errno) : "it became shorter meanwhile");
    }
done:
    close(file);
    return status;
}

bool spi_file_same(const char *one, const char *other) {
    struct stat first, second;
    return !stat(one, &first) && !stat(other, &second) && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

bool spi_folder_is(const char *path) {
    struct stat found;
    return !stat(path, &found) && S_ISDIR(found.st_mode);
}

sp_status spi_folder_create(const char *path, sp_error *error) {
    char part[4096];
    size_t length = strlen(path);
    if (length >= sizeof part) {
        return spi_fail(error, SP_INVALID, "the path of a folder is longer than %zu bytes", sizeof part - 1);
    }
    memcpy(part, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (part[i] != '/' && part[i] != 0) {
            continue;
        }
        char kept = part[i];
        part[i] = 0;
        struct stat stat_now;
        int problem = mkdir(part, 0700) ? errno : 0;
        if (problem && (stat(part, &stat_now) || !S_ISDIR(stat_now.st_mode))) {
            return spi_fail(error, SP_IO, "cannot make the folder %s: %s", part,
                            problem == EEXIST ? "there is something else of that name" : strerror(problem));
        }
        part[i] = kept;
    }
    return SP_OK;
}
