/* actor/mark.c - see mark.h. */
#include "actor/mark.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/hash.h"

#define MAGIC "\211SPC\r\n\032\n"

typedef struct mark {
    char magic[8];
    uint64_t count;
    spi_hash hash; /* of all before it */
} mark;
_Static_assert(sizeof(mark) == 32, "no holes, and less than a sector, so that it is written whole");

static mark mark_of(uint64_t count) {
    mark made = {.count = count};
    memcpy(made.magic, MAGIC, sizeof made.magic);
    made.hash = spi_hash_bytes(&made, offsetof(mark, hash), 0);
    return made;
}

sp_status spi_mark_open(const char *folder, int *file, uint64_t *count, sp_error *error) {
    char path[4200];
    mark found;
    *count = 0;
    snprintf(path, sizeof path, "%s/" SPI_MARK_NAME, folder);
    *file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*file < 0 || fchmod(*file, 0600)) {
        sp_status status = spi_fail(error, SP_IO, "cannot open %s: %s", path, strerror(errno));
        spi_mark_close(*file);
        *file = -1;
        return status;
    }
    if (pread(*file, &found, sizeof found, 0) == (ssize_t)sizeof found) {
        mark wanted = mark_of(found.count);
        *count = memcmp(&found, &wanted, sizeof found) == 0 ? found.count : 0;
    }
    return SP_OK;
}

void spi_mark_write(int file, uint64_t count) {
    mark now = mark_of(count);
    (void)!pwrite(file, &now, sizeof now, 0);
}

void spi_mark_close(int file) {
    if (file >= 0) {
        close(file);
    }
}
