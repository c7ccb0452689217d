/* os/file.h - files: mapping one read-only, reading one whole, writing one so that it is there whole or not at all.
 *
 * May include: base.
 */
#ifndef SPI_OS_FILE_H
#define SPI_OS_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "samepage/status.h"

typedef struct spi_file_map {
    const void *data; /* NULL for an empty file */
    size_t bytes;
} spi_file_map;

/* Maps a regular file read-only and private. A file that another program shortens meanwhile faults when read: callers
 * that map a model say so in their own contract. SP_NOT_FOUND, SP_IO; the message names the path. */
sp_status spi_file_map_open(const char *path, spi_file_map *map, sp_error *error);
void spi_file_map_close(spi_file_map *map);

/* Reads a whole file into memory from spi_alloc (with a zero byte behind it). Larger than bytes_max: SP_LIMIT. */
sp_status spi_file_read(const char *path, size_t bytes_max, void **data, size_t *bytes, sp_error *error);

/* Writes to a temporary name in the same folder, syncs if asked, and renames: readers see the old file or the new. */
sp_status spi_file_write(const char *path, const void *data, size_t bytes, bool sync, sp_error *error);

/* Makes a folder and those above it, mode 0700 for new ones. */
sp_status spi_folder_create(const char *path, sp_error *error);

/* $XDG_CACHE_HOME/samepage, or ~/.cache/samepage, or a folder under the temporary one if there is no home. */
sp_status spi_folder_cache(char *path, size_t capacity);

#endif
