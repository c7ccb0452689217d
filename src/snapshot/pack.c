/* snapshot/pack.c - files of blocks: see pack.h. */
#include "snapshot/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium/randombytes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/vm.h"

#define RECORD_MAGIC    0x6b706c42u
#define BLOCK_BYTES_MAX ((uint64_t)1 << 32)

void spi_pack_path(const char *folder, const char *name, const char *suffix, char *path, size_t capacity) {
    snprintf(path, capacity, "%s/%s%s", folder, name, suffix);
}

spi_hash spi_pack_record_hash(const spi_pack_record *record) {
    return spi_hash_bytes(record, offsetof(spi_pack_record, hash), RECORD_MAGIC);
}

static spi_hash header_hash(const spi_pack_header *header) {
    return spi_hash_bytes(header, offsetof(spi_pack_header, hash), 0);
}

uint64_t spi_pack_offset(const spi_pack *pack, uint32_t slot) {
    return pack->header.data_offset + slot * pack->header.slot_bytes;
}

static uint64_t record_offset(uint32_t slot) {
    return SPI_PACK_PAGE + (uint64_t)slot * sizeof(spi_pack_record);
}

static uint64_t round_up(uint64_t bytes) {
    return (bytes + SPI_PACK_PAGE - 1) / SPI_PACK_PAGE * SPI_PACK_PAGE;
}

static size_t whole_bytes(const spi_pack *pack) {
    return (size_t)(pack->header.data_offset + pack->header.capacity * pack->header.slot_bytes);
}

static bool write_at(int file, const void *bytes, size_t count, uint64_t offset) {
    const uint8_t *from = bytes;
    for (size_t done = 0; done < count;) {
        int fault = spi_file_fault(SPI_FILE_WRITE);
        size_t take = fault < 0 && count - done > 1 ? (count - done) / 2 : count - done;
        ssize_t put = fault > 0 ? -1 : pwrite(file, from + done, take, (off_t)(offset + done));
        if (put < 0 && !fault && errno == EINTR) {
            continue;
        }
        if (put <= 0 || fault) {
            errno = fault ? (fault < 0 ? -fault : fault) : errno;
            return false;
        }
        done += (size_t)put;
    }
    return true;
}

static bool read_at(int file, void *bytes, size_t count, uint64_t offset) {
    uint8_t *to = bytes;
    for (size_t done = 0; done < count;) {
        int fault = spi_file_fault(SPI_FILE_READ);
        ssize_t got = fault ? -1 : pread(file, to + done, count - done, (off_t)(offset + done));
        if (got < 0 && !fault && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            errno = fault ? (fault < 0 ? -fault : fault) : errno;
            return false;
        }
        done += (size_t)got;
    }
    return true;
}

static sp_status make_file(const char *folder, spi_pack *pack, sp_error *error) {
    uint8_t random[16];
    char temporary[4200], path[4200];
    randombytes_buf(random, sizeof random);
    for (int i = 0; i < 16; i++) {
        snprintf(pack->name + (ptrdiff_t)i * 2, 3, "%02x", random[i]);
    }
    spi_pack_path(folder, pack->name, ".new", temporary, sizeof temporary);
    spi_pack_path(folder, pack->name, ".kv", path, sizeof path);
    pack->file = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool is_made = pack->file >= 0 && !flock(pack->file, LOCK_EX | LOCK_NB) &&
                   write_at(pack->file, &pack->header, sizeof pack->header, 0) && !rename(temporary, path);
    if (is_made) {
        return SP_OK;
    }
    spi_fail(error, SP_IO, "cannot make a file of blocks in %s: %s", folder, strerror(errno));
    if (pack->file >= 0) {
        unlink(temporary);
    }
    return SP_IO;
}

sp_status spi_pack_create(const char *folder, const spi_pack_header *like, spi_pack **out, sp_error *error) {
    *out = NULL;
    spi_pack *pack = spi_alloc(1, sizeof *pack);
    if (!pack) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a file of blocks");
    }
    pack->header = *like;
    pack->file = -1;
    pack->is_own = true;
    memcpy(pack->header.magic, SPI_PACK_MAGIC, sizeof pack->header.magic);
    pack->header.version = SPI_PACK_VERSION;
    pack->header.record_bytes = sizeof(spi_pack_record);
    pack->header.slot_bytes = round_up(pack->header.block_bytes);
    pack->header.data_offset = round_up(record_offset(pack->header.capacity));
    pack->header.hash = header_hash(&pack->header);
    sp_status status;
    if (folder) {
        status = make_file(folder, pack, error);
    } else {
        /* Sparse: what is not written takes no memory. */
        status = spi_vm_file_create(whole_bytes(pack), &pack->file);
        if (status) {
            spi_fail(error, status, "no file of memory for blocks");
        }
    }
    if (status) {
        spi_pack_close(pack);
        return status;
    }
    *out = pack;
    return SP_OK;
}

static bool is_header(const spi_pack_header *header) {
    spi_hash hash = header_hash(header);
    return memcmp(header->magic, SPI_PACK_MAGIC, sizeof header->magic) == 0 && hash.low == header->hash.low &&
           hash.high == header->hash.high && header->version == SPI_PACK_VERSION &&
           header->record_bytes == sizeof(spi_pack_record) && header->capacity &&
           header->capacity <= SPI_PACK_CAPACITY_MAX && header->block_bytes && header->block_bytes <= BLOCK_BYTES_MAX &&
           header->slot_bytes == round_up(header->block_bytes) &&
           header->data_offset == round_up(record_offset(header->capacity)) && !(header->flags & ~SPI_PACK_SEALED);
}

sp_status spi_pack_open(const char *folder, const char *name, spi_pack **out, sp_error *error) {
    *out = NULL;
    spi_pack *pack = spi_alloc(1, sizeof *pack);
    if (!pack) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a file of blocks");
    }
    pack->file = -1;
    snprintf(pack->name, sizeof pack->name, "%s", name);
    sp_status status = spi_pack_want_file(pack, folder, error);
    if (!status && (!read_at(pack->file, &pack->header, sizeof pack->header, 0) || !is_header(&pack->header))) {
        status = spi_fail(error, SP_BAD_FILE, "%s/%s.kv is no file of blocks, or its header is damaged", folder, name);
    }
    if (status) {
        spi_pack_close(pack);
        return status;
    }
    *out = pack;
    return SP_OK;
}

const uint8_t *spi_pack_view(spi_pack *pack) {
    if (!pack->view && !pack->name[0]) {
        pack->view = spi_vm_map_shared(pack->file, whole_bytes(pack));
    }
    return pack->view;
}

void spi_pack_close(spi_pack *pack) {
    if (pack) {
        spi_vm_unmap((void *)(uintptr_t)pack->view, pack->view ? whole_bytes(pack) : 0);
        spi_vm_close(pack->file);
        spi_free(pack);
    }
}

sp_status spi_pack_want_file(spi_pack *pack, const char *folder, sp_error *error) {
    char path[4200];
    struct stat info;
    if (pack->file >= 0) {
        return SP_OK;
    }
    spi_pack_path(folder, pack->name, ".kv", path, sizeof path);
    pack->file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (pack->file < 0) {
        return spi_fail(error, errno == ENOENT ? SP_NOT_FOUND : SP_IO, "cannot open %s: %s", path, strerror(errno));
    }
    if (!fstat(pack->file, &info)) {
        pack->changed_ns = spi_file_changed_ns(&info);
    }
    return SP_OK;
}

sp_status spi_pack_read_record(const spi_pack *pack, uint32_t slot, spi_pack_record *record) {
    if (slot >= pack->header.capacity || !read_at(pack->file, record, sizeof *record, record_offset(slot))) {
        return SP_IO;
    }
    spi_hash hash = spi_pack_record_hash(record);
    bool is_good = record->magic == RECORD_MAGIC && hash.low == record->hash.low && hash.high == record->hash.high;
    return is_good ? SP_OK : SP_BAD_FILE;
}

bool spi_pack_next_record(spi_pack *pack, spi_pack_record *record) {
    if (spi_pack_read_record(pack, pack->count, record)) {
        return false;
    }
    pack->count++;
    return true;
}

sp_status spi_pack_append(spi_pack *pack, const spi_pack_record *record, const void *bytes, size_t byte_count,
                          sp_error *error) {
    spi_pack_record whole = *record;
    whole.magic = RECORD_MAGIC;
    whole.hash = spi_pack_record_hash(&whole);
    if (!write_at(pack->file, bytes, byte_count, spi_pack_offset(pack, pack->count)) ||
        !write_at(pack->file, &whole, sizeof whole, record_offset(pack->count))) {
        /* A slot that has no whole record is written over by the next block. */
        return spi_fail(error, SP_IO, "cannot write a block: %s", strerror(errno));
    }
    pack->count++;
    pack->is_unsynced = true;
    return SP_OK;
}

sp_status spi_pack_read(const spi_pack *pack, uint32_t slot, void *bytes, size_t byte_count) {
    return read_at(pack->file, bytes, byte_count, spi_pack_offset(pack, slot)) ? SP_OK : SP_IO;
}

uint32_t spi_pack_slots_there(const spi_pack *pack) {
    struct stat info;
    if (pack->file < 0 || fstat(pack->file, &info) || (uint64_t)info.st_size <= pack->header.data_offset) {
        return 0;
    }
    uint64_t bytes = (uint64_t)info.st_size - pack->header.data_offset, block = pack->header.block_bytes;
    uint64_t slots = bytes / pack->header.slot_bytes;
    slots += bytes % pack->header.slot_bytes >= block; /* the last one may lack its padding */
    return slots < pack->header.capacity ? (uint32_t)slots : pack->header.capacity;
}

bool spi_pack_is_named(const spi_pack *pack) {
    struct stat info;
    return !pack->name[0] || (pack->file >= 0 && !fstat(pack->file, &info) && info.st_nlink > 0);
}
