/* tests/fault/disk.h - a disk that loses power: from what a process did to its files, what may be left of them.
 *
 * The rules are POSIX's and no more. What was written to a file is safe when a sync of the file has returned after it,
 * and a name when one of its folder has. All else may be there or not, each by itself and in any order; a write may
 * have reached some of its sectors; a file may have grown without its bytes. A rename is there as a whole or not at
 * all.
 */
#ifndef SPI_TESTS_FAULT_DISK_H
#define SPI_TESTS_FAULT_DISK_H

#include <stdbool.h>

#include "fault/record.h"
#include "support/support.h"

typedef enum disk_loss {
    DISK_LOSES_ALL,   /* everything that was not synced */
    DISK_LOSES_SOME,  /* one write or name in two */
    DISK_LOSES_LATE,  /* nothing before some moment, everything after it, and one write is torn */
    DISK_LOSES_EARLY, /* the other way round: the last ones are there */
    DISK_LOSES_PARTS, /* one sector in two, of 512 bytes or 4 KiB */
    DISK_LOSES_BYTES, /* names and sizes are there, and no bytes */
    DISK_LOSS_COUNT
} disk_loss;

typedef struct disk disk;

/* Writes down all that is in the folder, as it is before the process runs. */
void disk_note_start(const char *folder, const char *start_path);

/* From that, which was safe, and from what the process did. */
disk *disk_open(const char *folder, const char *start_path, const char *record_path);
void disk_close(disk *disk);
uint32_t disk_moments(const disk *disk); /* power may go before each of them, and after the last */

/* Makes the folder what is left of it if power goes before this moment. Returns what was acknowledged by then; -1:
 * nothing. */
int disk_cut(const disk *disk, uint32_t moment, disk_loss loss, test_random *random);

#endif
