/* os/file.h - files: mapping one read-only, reading one whole, writing one so that it is there whole or not at all.
 *
 * May include: base.
 */
#ifndef SPI_OS_FILE_H
#define SPI_OS_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samepage/status.h"

typedef struct spi_file_map {
    const void *data; /* NULL for an empty file */
    size_t bytes;
} spi_file_map;

/* Maps a regular file read-only and private. A file that another program shortens meanwhile faults when read: callers
 * that map a model say so in their own contract. SP_NOT_FOUND, SP_IO; the message names the path. */
sp_status spi_file_map_open(const char *path, spi_file_map *map, sp_error *error);
void spi_file_map_close(spi_file_map *map);

/* The same with the file kept open, to be mapped again elsewhere; the caller closes it (spi_vm_close). */
sp_status spi_file_map_open_keep(const char *path, spi_file_map *map, int *file, sp_error *error);

/* Reads a whole file into memory from spi_alloc (with a zero byte behind it). Larger than bytes_max: SP_LIMIT. */
sp_status spi_file_read(const char *path, size_t bytes_max, void **data, size_t *bytes, sp_error *error);

/* Writes a new file in the same folder, syncs if asked, and puts it in its place: readers see the old file or the new.
 * Mode 0600. A link is replaced, not followed: what others may have laid into a folder of ours is not written to. */
sp_status spi_file_write(const char *path, const void *data, size_t bytes, bool sync, sp_error *error);

/* The same for what does not fit into memory: bytes are written in their order to a file without a name, and nothing is
 * seen before commit, nor left of a process that is killed; where the system or the file system has no such files they
 * go to a temporary name beside the path. A link stays, and what it leads to is written: people name these paths.
 * is_private: only the owner may read it; otherwise as the umask says. With sync the file and its folder are on disk
 * when commit returns, so that the new name survives a power cut. Both ways of ending free the writer; abort removes
 * what was written. What is there already and no regular file (a folder, /dev/null) is refused. Errors are SP_IO with
 * the path and the reason. */
typedef struct spi_file_writer spi_file_writer;
sp_status spi_file_writer_open(const char *path, bool is_private, spi_file_writer **writer, sp_error *error);
sp_status spi_file_writer_put(spi_file_writer *writer, const void *data, size_t bytes, sp_error *error);
sp_status spi_file_writer_commit(spi_file_writer *writer, bool sync, sp_error *error);
void spi_file_writer_abort(spi_file_writer *writer); /* NULL is allowed */

/* Whether both paths lead to one file, by whatever names; false if one of them leads nowhere. */
bool spi_file_same(const char *one, const char *other);

/* As the writer, for what is made part by part: next gives the next part and its length, which is 0 at the end. Mode
 * 0600; with sync the folder is synced, too, so that the new name survives a power cut. */
sp_status spi_file_write_parts(const char *path, size_t (*next)(void *env, const void **part), void *env, bool sync,
                               sp_error *error);

/* Test hook: asked before every write, sync, rename and read of files that must not be lost; a nonzero errno makes the
 * operation fail with it, and with a short write where it is a write and the hook says so by a negative one. NULL:
 * off. */
typedef enum spi_file_op { SPI_FILE_WRITE, SPI_FILE_SYNC, SPI_FILE_RENAME, SPI_FILE_OPEN, SPI_FILE_READ } spi_file_op;
void spi_file_set_fault(int (*fault)(spi_file_op op));
int spi_file_fault(spi_file_op op); /* what the hook says; 0 without one */

/* Whether the path leads to a folder. */
bool spi_folder_is(const char *path);

/* A file without a name in a folder, open to write, and a name for it; -1 and errno: there is none, or it cannot be
 * made. */
int spi_file_open_nameless(const char *folder, int mode);
int spi_file_name(int file, const char *path);
extern bool spi_file_uses_nameless; /* false: as where there are none, for tests */

/* Until what was written to the file is on the disk; as fsync. When a file was changed last. */
struct stat;
int spi_file_sync(int file);
int64_t spi_file_changed_ns(const struct stat *info);

/* Makes a folder and those above it, mode 0700 for new ones. */
sp_status spi_folder_create(const char *path, sp_error *error);

/* $XDG_CACHE_HOME/samepage, or ~/.cache/samepage (macOS: ~/Library/Caches/samepage), or a folder under the temporary
 * one if there is no home. */
sp_status spi_folder_cache(char *path, size_t capacity);

#endif
