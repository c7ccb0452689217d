/* actor/folder.c - see folder.h. */
#include "actor/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "os/file.h"

#define NAME_DIGITS 32
#define SUFFIX      ".snap"

static sp_status join(char *path, size_t capacity, const char *folder, const char *name, sp_error *error) {
    int length = snprintf(path, capacity, "%s/%s", folder, name);
    return length >= 0 && (size_t)length < capacity
               ? SP_OK
               : spi_fail(error, SP_LIMIT, "the folder's path is too long: %s", folder);
}

/* Who holds it, for the message. */
static long read_pid(int lock) {
    char text[32] = {0};
    ssize_t got = pread(lock, text, sizeof text - 1, 0);
    return got > 0 ? strtol(text, NULL, 10) : 0;
}

static sp_status write_pid(int lock, const char *path, sp_error *error) {
    char text[32];
    int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(lock, 0) || pwrite(lock, text, (size_t)length, 0) != length) {
        return spi_fail(error, SP_IO, "cannot write %s: %s", path, strerror(errno));
    }
    return SP_OK;
}

/* That a new folder is there survives a power cut as what is in it does. */
static sp_status sync_new(const char *folder, sp_error *error) {
    char above[4096];
    sp_status status = join(above, sizeof above, folder, "..", error);
    const char *const both[] = {folder, above};
    for (int i = 0; i < 2 && !status; i++) {
        int file = open(both[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (file < 0 || fsync(file)) {
            status = spi_fail(error, SP_IO, "cannot sync %s: %s", both[i], strerror(errno));
        }
        if (file >= 0) {
            close(file);
        }
    }
    return status;
}

bool spi_folder_was_held(const char *folder) {
    static const char *const files[] = {"lock", "actors.db"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[4096];
        struct stat found;
        if (join(path, sizeof path, folder, files[i], NULL) || !lstat(path, &found) ||
            (errno != ENOENT && errno != ENOTDIR)) {
            return true;
        }
    }
    return false;
}

sp_status spi_folder_hold(const char *folder, int *lock, sp_error *error) {
    char path[4096], states[4096];
    struct stat found;
    *lock = -1;
    sp_status status = join(path, sizeof path, folder, "lock", error);
    status = status ? status : join(states, sizeof states, folder, "states", error);
    status = status ? status : spi_folder_create(folder, error);
    status = status ? status : spi_folder_create(states, error);
    if (status) {
        return status;
    }
    if (stat(folder, &found) || found.st_uid != geteuid()) {
        return spi_fail(error, SP_INVALID, "the folder %s is somebody else's", folder);
    }
    bool is_new = access(path, F_OK) != 0;
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0) {
        return spi_fail(error, SP_IO, "cannot open %s: %s", path, strerror(errno));
    }
    if (flock(file, LOCK_EX | LOCK_NB)) {
        status = errno == EWOULDBLOCK
                     ? spi_fail(error, SP_BUSY, "process %ld holds the actors in %s", read_pid(file), folder)
                     : spi_fail(error, SP_IO, "cannot lock %s: %s", path, strerror(errno));
    }
    status = status ? status : write_pid(file, path, error);
    status = status || !is_new ? status : sync_new(folder, error);
    if (status) {
        close(file);
        return status;
    }
    *lock = file;
    return SP_OK;
}

void spi_folder_let_go(int lock) {
    if (lock >= 0) {
        close(lock);
    }
}

sp_status spi_folder_state_path(const char *folder, const uint8_t name[16], char *path, size_t capacity,
                                sp_error *error) {
    char file[8 + NAME_DIGITS + sizeof SUFFIX] = "states/";
    for (int i = 0; i < 16; i++) {
        snprintf(file + 7 + 2 * i, 3, "%02x", name[i]);
    }
    memcpy(file + 7 + NAME_DIGITS, SUFFIX, sizeof SUFFIX);
    return join(path, capacity, folder, file, error);
}

static bool parse_name(const char *file, uint8_t name[16]) {
    if (strlen(file) != NAME_DIGITS + strlen(SUFFIX) || strcmp(file + NAME_DIGITS, SUFFIX) != 0 ||
        strspn(file, "0123456789abcdef") != NAME_DIGITS) {
        return false;
    }
    for (int i = 0; i < 16; i++) {
        char digits[3] = {file[2 * i], file[2 * i + 1], 0};
        name[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return true;
}

sp_status spi_folder_sweep(const char *folder, int (*is_wanted)(void *env, const uint8_t name[16]), void *env,
                           sp_error *error) {
    char path[4096];
    sp_status status = join(path, sizeof path, folder, "states", error);
    DIR *all = status ? NULL : opendir(path);
    if (!all) {
        return status ? status : spi_fail(error, SP_IO, "cannot read %s: %s", path, strerror(errno));
    }
    for (struct dirent *item; (item = readdir(all));) {
        uint8_t name[16];
        if (item->d_name[0] == '.' && (!item->d_name[1] || !strcmp(item->d_name, ".."))) {
            continue;
        }
        if (!parse_name(item->d_name, name) || !is_wanted(env, name)) {
            unlinkat(dirfd(all), item->d_name, 0);
        }
    }
    closedir(all);
    return SP_OK;
}
