/* os/file_write.c - writing files so that they are there whole or not at all. See file.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "os/file.h"

enum { FOLDER_BYTES = 4096, TEMPORARY_BYTES = 48 };

bool spi_file_uses_nameless = true;

static _Atomic(int (*)(spi_file_op op)) fault_hook;

void spi_file_set_fault(int (*fault)(spi_file_op op)) {
    atomic_store(&fault_hook, fault);
}

int spi_file_fault(spi_file_op op) {
    int (*fault)(spi_file_op op) = atomic_load_explicit(&fault_hook, memory_order_relaxed);
    return fault ? fault(op) : 0;
}

/* Sets errno if the hook wants a failure. */
static bool fails(spi_file_op op) {
    int fault = spi_file_fault(op);
    if (fault) {
        errno = fault < 0 ? -fault : fault;
    }
    return fault != 0;
}

static sp_status write_all(int file, const char *data, size_t bytes) {
    size_t done = 0;
    while (done < bytes) {
        int fault = spi_file_fault(SPI_FILE_WRITE);
        if (fault > 0) {
            errno = fault;
            return SP_IO;
        }
        size_t take = fault < 0 && bytes - done > 1 ? (bytes - done) / 2 : bytes - done;
        ssize_t put = write(file, data + done, take);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return SP_IO;
        }
        done += (size_t)put;
        if (fault < 0) {
            errno = -fault;
            return SP_IO;
        }
    }
    return SP_OK;
}

struct spi_file_writer {
    int file;
    char *path, *temporary; /* temporary: "" while the file has no name */
};

static sp_status fail_writing(const spi_file_writer *writer, sp_error *error) {
    return spi_fail(error, SP_IO, "cannot write %s: %s", writer->path, strerror(errno));
}

static void free_writer(spi_file_writer *writer) {
    spi_free(writer->path);
    spi_free(writer->temporary);
    spi_free(writer);
}

/* True: the folder that the path lies in. */
static bool folder_of(const char *path, char folder[FOLDER_BYTES]) {
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 1;
    if (length >= FOLDER_BYTES) {
        errno = ENAMETOOLONG;
        return false;
    }
    memcpy(folder, slash ? path : ".", length);
    snprintf(folder + length, FOLDER_BYTES - length, "%s", length ? "" : "/");
    return true;
}

/* A name beside the path that nothing has yet. */
static void next_temporary(spi_file_writer *writer) {
    static atomic_uint counter;
    unsigned number = atomic_fetch_add(&counter, 1);
    snprintf(writer->temporary, strlen(writer->path) + TEMPORARY_BYTES, "%s.%ld-%u.part", writer->path, (long)getpid(),
             number);
}

/* Without a name where that can be: nothing is left then of a process that is killed. */
static int open_temporary(spi_file_writer *writer, int mode) {
    char folder[FOLDER_BYTES];
    if (fails(SPI_FILE_OPEN) || !folder_of(writer->path, folder)) {
        return -1;
    }
    int file = spi_file_uses_nameless ? spi_file_open_nameless(folder, mode) : -1;
    while (file < 0) {
        next_temporary(writer);
        file = open(writer->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (file < 0 && errno != EEXIST) {
            break;
        }
    }
    return file;
}

/* The path itself if nothing is there, else a name beside it, to be renamed. 0, or errno. */
static int give_name(spi_file_writer *writer, bool *is_done) {
    int result = spi_file_name(writer->file, writer->path);
    *is_done = !result;
    while (result && errno == EEXIST) {
        next_temporary(writer);
        result = spi_file_name(writer->file, writer->temporary);
    }
    return result ? errno : 0;
}

/* 0, or errno. The file is closed either way: before its last name, where closing may tell of a failure (NFS). */
static int put_in_place(spi_file_writer *writer) {
    bool is_done = false;
    int reason = *writer->temporary ? 0 : give_name(writer, &is_done);
    if (close(writer->file) && !reason) {
        reason = errno;
    }
    if (!reason && !is_done && rename(writer->temporary, writer->path)) {
        reason = errno;
    }
    return reason;
}

static void drop_temporary(const spi_file_writer *writer) {
    if (*writer->temporary) {
        unlink(writer->temporary);
    }
}

/* A folder, or a device or pipe, which the rename would put a file in place of. */
static bool is_no_file(const char *path) {
    struct stat found;
    return !stat(path, &found) && !S_ISREG(found.st_mode);
}

/* What a link leads to. */
static sp_status path_behind_links(const char *path, char **copy, sp_error *error) {
    struct stat found;
    char *real = NULL;
    if (!lstat(path, &found) && S_ISLNK(found.st_mode) && !(real = realpath(path, NULL))) {
        return spi_fail(error, SP_IO, "cannot write %s: it is a link, and what it leads to: %s", path, strerror(errno));
    }
    const char *found_path = real ? real : path;
    *copy = spi_copy_string(found_path, strlen(found_path));
    free(real);
    return *copy ? SP_OK : spi_fail(error, SP_NO_MEMORY, "no memory to write %s", path);
}

static sp_status open_writer(const char *path, bool is_private, bool follows_links, spi_file_writer **out,
                             sp_error *error) {
    *out = NULL;
    if (is_no_file(path)) {
        return spi_fail(error, SP_IO, "cannot write %s: it is not a regular file: give another name", path);
    }
    spi_file_writer *writer = spi_alloc(1, sizeof *writer);
    if (!writer) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to write %s", path);
    }
    sp_status status = SP_OK;
    if (follows_links) {
        status = path_behind_links(path, &writer->path, error);
    } else if (!(writer->path = spi_copy_string(path, strlen(path)))) {
        status = spi_fail(error, SP_NO_MEMORY, "no memory to write %s", path);
    }
    if (!status && !(writer->temporary = spi_alloc(strlen(writer->path) + TEMPORARY_BYTES, 1))) {
        status = spi_fail(error, SP_NO_MEMORY, "no memory to write %s", path);
    }
    if (!status && (writer->file = open_temporary(writer, is_private ? 0600 : 0666)) < 0) {
        status = fail_writing(writer, error);
    }
    if (status) {
        free_writer(writer);
        return status;
    }
    *out = writer;
    return SP_OK;
}

sp_status spi_file_writer_open(const char *path, bool is_private, spi_file_writer **writer, sp_error *error) {
    return open_writer(path, is_private, true, writer, error);
}

sp_status spi_file_writer_put(spi_file_writer *writer, const void *data, size_t bytes, sp_error *error) {
    return write_all(writer->file, data, bytes) ? fail_writing(writer, error) : SP_OK;
}

/* The new name of a file is safe when its folder is. */
static sp_status sync_folder_of(const char *path) {
    char folder[FOLDER_BYTES];
    if (!folder_of(path, folder)) {
        return SP_IO;
    }
    int file = fails(SPI_FILE_OPEN) ? -1 : open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0) {
        return SP_IO;
    }
    sp_status status = fails(SPI_FILE_SYNC) || spi_file_sync(file) ? SP_IO : SP_OK;
    close(file);
    return status;
}

sp_status spi_file_writer_commit(spi_file_writer *writer, bool sync, sp_error *error) {
    if ((sync && (fails(SPI_FILE_SYNC) || spi_file_sync(writer->file))) || fails(SPI_FILE_RENAME)) {
        sp_status status = fail_writing(writer, error);
        spi_file_writer_abort(writer);
        return status;
    }
    sp_status status = SP_OK;
    if ((errno = put_in_place(writer))) {
        status = fail_writing(writer, error);
        drop_temporary(writer);
    } else if (sync && sync_folder_of(writer->path)) {
        status = fail_writing(writer, error);
    }
    free_writer(writer);
    return status;
}

void spi_file_writer_abort(spi_file_writer *writer) {
    if (writer) {
        close(writer->file);
        drop_temporary(writer);
        free_writer(writer);
    }
}

typedef struct single {
    const void *data;
    size_t bytes;
} single;

static size_t next_single(void *env, const void **part) {
    single *all = env;
    size_t bytes = all->bytes;
    *part = all->data;
    all->bytes = 0;
    return bytes;
}

static sp_status write_parts(const char *path, bool follows_links, size_t (*next)(void *env, const void **part),
                             void *env, bool sync, sp_error *error) {
    spi_file_writer *writer;
    sp_status status = open_writer(path, true, follows_links, &writer, error);
    const void *part;
    size_t bytes;
    while (!status && (bytes = next(env, &part)) > 0) {
        status = spi_file_writer_put(writer, part, bytes, error);
        if (status) {
            spi_file_writer_abort(writer);
        }
    }
    return status ? status : spi_file_writer_commit(writer, sync, error);
}

sp_status spi_file_write(const char *path, const void *data, size_t bytes, bool sync, sp_error *error) {
    single all = {data, bytes};
    return write_parts(path, false, next_single, &all, sync, error);
}

sp_status spi_file_write_parts(const char *path, size_t (*next)(void *env, const void **part), void *env, bool sync,
                               sp_error *error) {
    return write_parts(path, true, next, env, sync, error);
}
