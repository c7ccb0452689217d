/* actor/mark.h - how many commits were acknowledged, kept beside the database.
 *
 * After a crash SQLite takes its log's first frame that does not match for the end of a write that was not synced, and
 * cannot tell a bit that flipped there later from that: commits that somebody was told of would be gone without a word.
 * So the database counts its commits, and after each that was synced the number is written into a file of its own,
 * without a sync. Since it follows the sync it never says more than the disk holds; a database that has fewer has lost
 * some. After a power cut the file may be some seconds old, and then proves as much less.
 *
 * Owns: the file. May include: os, base.
 */
#ifndef SPI_ACTOR_MARK_H
#define SPI_ACTOR_MARK_H

#include <stdint.h>

#include "samepage/status.h"

#define SPI_MARK_NAME "acknowledged"

/* Opens or makes the file in the folder, mode 0600. *count: what it says; 0 if it is new or damaged itself. SP_IO. */
sp_status spi_mark_open(const char *folder, int *file, uint64_t *count, sp_error *error);
void spi_mark_write(int file, uint64_t count); /* what cannot be written proves less, and that is all */
void spi_mark_close(int file);

#endif
