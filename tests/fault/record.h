/* tests/fault/record.h - what record_shim.c writes down of a process, and disk.c makes power cuts of. */
#ifndef SPI_TESTS_FAULT_RECORD_H
#define SPI_TESTS_FAULT_RECORD_H

#include <stdint.h>

#define RECORD_NAMELESS "#" /* begins the name that a file without one has in a record */

typedef enum record_kind {
    RECORD_MAKE = 1, /* path: a new file */
    RECORD_FOLDER,   /* path: a new folder */
    RECORD_RENAME,   /* path, then data: the new path */
    RECORD_REMOVE,   /* path */
    RECORD_WRITE,    /* node, offset, data */
    RECORD_SIZE,     /* node, offset: the new size */
    RECORD_SYNC,     /* node; path: of a folder */
    RECORD_TOLD      /* offset: what the process has acknowledged */
} record_kind;

/* Path and data follow. */
typedef struct record {
    uint32_t kind, path_bytes;
    uint64_t node; /* a number of the file, whatever its name */
    uint64_t offset, data_bytes;
} record;

#endif
