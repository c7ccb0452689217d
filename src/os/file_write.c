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
    char *path, *temporary;
};

static sp_status fail_writing(const spi_file_writer *writer, sp_error *error) {
    return spi_fail(error, SP_IO, "cannot write %s: %s", writer->path, strerror(errno));
}

static void free_writer(spi_file_writer *writer) {
    spi_free(writer->path);
    spi_free(writer->temporary);
    spi_free(writer);
}

/* A name beside the path that nothing has. */
static int open_temporary(const char *path, char *temporary, size_t capacity, int mode) {
    static atomic_uint counter;
    int file;
    if (fails(SPI_FILE_OPEN)) {
        return -1;
    }
    do {
        unsigned number = atomic_fetch_add(&counter, 1);
        snprintf(temporary, capacity, "%s.%ld-%u.part", path, (long)getpid(), number);
        file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    } while (file < 0 && errno == EEXIST);
    return file;
}

/* A folder, or a device or pipe, which the rename would put a file in place of. */
static bool is_no_file(const char *path) {
    struct stat found;
    return !stat(path, &found) && !S_ISREG(found.st_mode);
}

sp_status spi_file_writer_open(const char *path, bool is_private, spi_file_writer **out, sp_error *error) {
    size_t length = strlen(path), capacity = length + 48;
    *out = NULL;
    if (is_no_file(path)) {
        return spi_fail(error, SP_IO, "cannot write %s: it is not a regular file: give another name", path);
    }
    spi_file_writer *writer = spi_alloc(1, sizeof *writer);
    if (!writer || !(writer->path = spi_copy_string(path, length)) || !(writer->temporary = spi_alloc(capacity, 1))) {
        if (writer) {
            free_writer(writer);
        }
        return spi_fail(error, SP_NO_MEMORY, "no memory to write %s", path);
    }
    writer->file = open_temporary(path, writer->temporary, capacity, is_private ? 0600 : 0666);
    if (writer->file < 0) {
        sp_status status = fail_writing(writer, error);
        free_writer(writer);
        return status;
    }
    *out = writer;
    return SP_OK;
}

sp_status spi_file_writer_put(spi_file_writer *writer, const void *data, size_t bytes, sp_error *error) {
    return write_all(writer->file, data, bytes) ? fail_writing(writer, error) : SP_OK;
}

/* The new name of a file is safe when its folder is. */
static sp_status sync_folder_of(const char *path) {
    char folder[4096];
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 1;
    if (length >= sizeof folder) {
        errno = ENAMETOOLONG;
        return SP_IO;
    }
    memcpy(folder, slash ? path : ".", length);
    folder[length] = 0;
    int file = fails(SPI_FILE_OPEN) ? -1 : open(length ? folder : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0) {
        return SP_IO;
    }
    sp_status status = fails(SPI_FILE_SYNC) || spi_file_sync(file) ? SP_IO : SP_OK;
    close(file);
    return status;
}

sp_status spi_file_writer_commit(spi_file_writer *writer, bool sync, sp_error *error) {
    sp_status status = SP_OK;
    if (sync && (fails(SPI_FILE_SYNC) || spi_file_sync(writer->file))) {
        status = fail_writing(writer, error);
    }
    if (close(writer->file) && !status) {
        status = fail_writing(writer, error);
    }
    if (!status && (fails(SPI_FILE_RENAME) || rename(writer->temporary, writer->path))) {
        status = fail_writing(writer, error);
    }
    if (status) {
        unlink(writer->temporary);
    } else if (sync && sync_folder_of(writer->path)) {
        status = fail_writing(writer, error);
    }
    free_writer(writer);
    return status;
}

void spi_file_writer_abort(spi_file_writer *writer) {
    if (writer) {
        close(writer->file);
        unlink(writer->temporary);
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

sp_status spi_file_write(const char *path, const void *data, size_t bytes, bool sync, sp_error *error) {
    single all = {data, bytes};
    return spi_file_write_parts(path, next_single, &all, sync, error);
}

sp_status spi_file_write_parts(const char *path, size_t (*next)(void *env, const void **part), void *env, bool sync,
                               sp_error *error) {
    spi_file_writer *writer;
    sp_status status = spi_file_writer_open(path, true, &writer, error);
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
