/* snapshot/pack.h - a file of KV blocks that is only ever added to: docs/store-format.md in C.
 *
 *     header, one page | a record for each slot | slots, each at a page
 *
 * A block is written before its record, and a record has a checksum of its own: who reads records up to the first that
 * is not whole never sees half a block. Only its maker adds to a pack, and holds a lock on it for as long as it may.
 * What was mapped out of a pack stays valid when the file is removed: the system counts for us. A pack of a store
 * without a folder is an unnamed file of memory. May include: os, base.
 */
#ifndef SPI_SNAPSHOT_PACK_H
#define SPI_SNAPSHOT_PACK_H

#include "base/digest.h"
#include "base/hash.h"
#include "samepage/store.h"

#define SPI_PACK_MAGIC        "\211SPK\r\n\032\n"
#define SPI_PACK_VERSION      1u
#define SPI_PACK_PAGE         4096u
#define SPI_PACK_CAPACITY_MAX 4096u

#define SPI_PACK_SEALED 1u /* flags: blocks are encrypted */

typedef struct spi_pack_header {
    char magic[8];
    uint32_t version, flags;
    uint32_t capacity, record_bytes;
    uint64_t block_bytes, slot_bytes, data_offset;
    uint64_t kv_format;
    uint8_t weights[16]; /* the model's fingerprint */
    uint64_t reserved[4];
    spi_hash hash; /* of all before it */
} spi_pack_header;
_Static_assert(sizeof(spi_pack_header) == 120, "no holes");

typedef struct spi_pack_record {
    uint32_t magic, reserved;
    spi_digest name, parent; /* parent: zeros for the first of a chain */
    uint8_t check[16];       /* XXH3-128 of the block, or the tag of its encryption */
    uint8_t nonce[24];       /* of its encryption, else zeros */
    spi_hash hash;           /* of all before it */
} spi_pack_record;
_Static_assert(sizeof(spi_pack_record) == 128, "no holes");

typedef struct spi_pack {
    struct spi_pack *next;
    char name[40]; /* of the file, without ".kv"; empty: in memory */
    int file;      /* < 0: closed for now */
    bool is_own, is_pinned, is_unsynced;
    uint32_t count, pinned_slots;
    spi_pack_header header;
    int64_t used_ns, touched_ns; /* monotonic: the latest use, and when the file's time was set last */
    int64_t changed_ns;          /* the file's own time when its records were read */
    const uint8_t *view;         /* of one in memory, once it was asked for */
} spi_pack;

/* Makes a pack that is this process's. folder NULL: in memory. */
sp_status spi_pack_create(const char *folder, const spi_pack_header *like, spi_pack **pack, sp_error *error);

/* One that is there, by name. SP_BAD_FILE, SP_NOT_FOUND. */
sp_status spi_pack_open(const char *folder, const char *name, spi_pack **pack, sp_error *error);
void spi_pack_close(spi_pack *pack);

/* Opens the file again if it was closed to save descriptors. */
sp_status spi_pack_want_file(spi_pack *pack, const char *folder, sp_error *error);

/* The next record that is whole, if there is one. */
bool spi_pack_next_record(spi_pack *pack, spi_pack_record *record);

/* Adds a block whose slot is pack->count. */
sp_status spi_pack_append(spi_pack *pack, const spi_pack_record *record, const void *bytes, size_t byte_count,
                          sp_error *error);
sp_status spi_pack_read(const spi_pack *pack, uint32_t slot, void *bytes, size_t byte_count);
sp_status spi_pack_read_record(const spi_pack *pack, uint32_t slot, spi_pack_record *record);

/* All of a pack in memory, to be copied from without system calls; NULL: of a file, or there is no room. Good until the
 * pack is closed. */
const uint8_t *spi_pack_view(spi_pack *pack);

/* How many slots lie inside of the file as it is: a record may have survived a power cut and its block not. */
uint32_t spi_pack_slots_there(const spi_pack *pack);
uint64_t spi_pack_offset(const spi_pack *pack, uint32_t slot);

/* Whether its file still has a name: others may have evicted it. */
bool spi_pack_is_named(const spi_pack *pack);
void spi_pack_path(const char *folder, const char *name, const char *suffix, char *path, size_t capacity);
spi_hash spi_pack_record_hash(const spi_pack_record *record);

#endif
