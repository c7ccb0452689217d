/* snapshot/build.c - an image of a snapshot, out of its sections. */
#include "snapshot/snapshot.h"

#include <string.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/memory.h"
#include "os/vm.h"

#define MAPPABLE_BYTES_MIN ((size_t)64 << 10)
#define PLAIN_BYTES_MAX    ((size_t)1 << 20)
#define GATHER_COUNT       512

static void add(spi_builder *builder, spi_built_section section) {
    if (builder->no_memory || !SPI_RESERVE(builder->sections, builder->count, builder->capacity)) {
        builder->no_memory = true;
        return;
    }
    builder->sections[builder->count++] = section;
}

void spi_build_add(spi_builder *builder, spi_section_kind kind, uint32_t index, const void *from, uint64_t bytes) {
    add(builder, (spi_built_section){.section = {.kind = kind, .index = index, .bytes = bytes}, .from = from});
}

void spi_build_parts(spi_builder *builder, spi_section_kind kind, uint32_t index, spi_parts parts, const void *env,
                     uint64_t bytes) {
    add(builder,
        (spi_built_section){.section = {.kind = kind, .index = index, .bytes = bytes}, .parts = parts, .env = env});
}

sp_status spi_image_create(size_t bytes, bool mappable, uint8_t **data, int *file, sp_error *error) {
    *file = -1;
    *data = NULL;
    if (mappable && spi_vm_file_create(bytes, file) == SP_OK) {
        void *mapped = spi_vm_map_shared(*file, bytes);
        if (mapped) {
            *data = mapped;
            return SP_OK;
        }
        spi_vm_close(*file);
        *file = -1;
    }
    *data = spi_alloc(bytes, 1);
    return *data ? SP_OK : spi_fail(error, SP_NO_MEMORY, "no memory for a snapshot of %zu bytes", bytes);
}

void spi_image_free(const uint8_t *data, size_t bytes, int file) {
    if (file >= 0) {
        spi_vm_unmap((void *)(uintptr_t)data, bytes);
        spi_vm_close(file);
    } else {
        spi_free((void *)(uintptr_t)data);
    }
}

static uint64_t round_up(uint64_t bytes, uint64_t step) {
    return (bytes + step - 1) / step * step;
}

static size_t lay_out(spi_builder *builder) {
    uint64_t at = sizeof(spi_snapshot_header) + builder->count * sizeof(spi_snapshot_section);
    bool was_mapped = false;
    for (size_t i = 0; i < builder->count; i++) {
        spi_snapshot_section *section = &builder->sections[i].section;
        bool is_mapped = SPI_SECTION_IS_MAPPED(section->kind);
        at = round_up(at, is_mapped || was_mapped ? builder->align : SPI_SECTION_SMALL_ALIGN);
        section->offset = at;
        at += section->bytes;
        was_mapped = is_mapped;
    }
    return (size_t)at;
}

/* The id is of the contents and of what they build on. */
static void make_id(const spi_builder *builder, const uint8_t *parent, uint8_t id[SP_SNAPSHOT_ID_BYTES]) {
    spi_hash state = {0};
    for (size_t i = 0; i < builder->count; i++) {
        const spi_snapshot_section *section = &builder->sections[i].section;
        if (SPI_SECTION_IS_STATE(section->kind)) {
            uint64_t words[7] = {state.low,      state.high,        section->kind,     section->index,
                                 section->bytes, section->hash.low, section->hash.high};
            state = spi_hash_bytes(words, sizeof words, 0);
        }
    }
    uint64_t words[4] = {state.low, state.high};
    if (parent) {
        memcpy(&words[2], parent, SP_SNAPSHOT_ID_BYTES);
    }
    state = spi_hash_bytes(words, sizeof words, 1);
    memcpy(id, &state, SP_SNAPSHOT_ID_BYTES);
}

/* An image that is being made: in a file of memory, which is written to without touching its pages, or in plain
 * memory. */
typedef struct image {
    uint8_t *data;
    size_t bytes;
    int file;
} image;

static bool put(const image *to, uint64_t offset, const void *from, uint64_t bytes) {
    if (to->file < 0) {
        memcpy(to->data + offset, from, bytes);
        return true;
    }
    return spi_vm_file_write(to->file, from, (size_t)bytes, offset) == SP_OK;
}

static const uint8_t zeros[16384];

/* Parts on their way into the image, many in one call of the system. */
typedef struct gather {
    const image *to;
    spi_hasher *hasher; /* NULL: nobody will look at the checksum */
    uint64_t at;
    struct iovec parts[GATHER_COUNT];
    uint32_t count;
    bool is_full; /* there is no memory */
} gather;

static void flush(gather *all) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < all->count; i++) {
        if (all->to->file < 0) {
            memcpy(all->to->data + all->at + bytes, all->parts[i].iov_base, all->parts[i].iov_len);
        }
        bytes += all->parts[i].iov_len;
    }
    if (all->to->file >= 0 && spi_vm_file_gather(all->to->file, all->parts, all->count, bytes, all->at)) {
        all->is_full = true;
    }
    all->at += bytes;
    all->count = 0;
}

/* Zeros that take a page or more are left out of a file of memory, where what nobody wrote is zero. */
static bool skip_zeros(gather *all, uint64_t bytes) {
    if (all->to->file < 0 || bytes < SPI_SECTION_PAGE_ALIGN) {
        return false;
    }
    for (uint64_t left = bytes; all->hasher && left; left -= left < sizeof zeros ? left : sizeof zeros) {
        spi_hash_add(all->hasher, zeros, left < sizeof zeros ? (size_t)left : sizeof zeros);
    }
    flush(all);
    all->at += bytes;
    return true;
}

static void add_part(gather *all, const void *from, uint64_t bytes) {
    if (all->hasher) {
        /* Hashed where it comes from: to read what was just written would touch every page once more. */
        spi_hash_add(all->hasher, from, (size_t)bytes);
    }
    all->parts[all->count++] = (struct iovec){(void *)(uintptr_t)from, (size_t)bytes};
    if (all->count == GATHER_COUNT) {
        flush(all);
    }
}

static bool fill_parts(const spi_built_section *item, const image *to, bool hashed, spi_hash *hash) {
    spi_hasher hasher;
    gather all = {.to = to, .hasher = hashed ? &hasher : NULL, .at = item->section.offset};
    uint64_t done = 0;
    spi_hash_begin(&hasher);
    for (uint32_t i = 0; done < item->section.bytes && !all.is_full; i++) {
        spi_part part = item->parts(item->env, i);
        uint64_t left = !part.from && skip_zeros(&all, part.bytes) ? 0 : part.bytes;
        while (left) {
            uint64_t take = !part.from && left > sizeof zeros ? sizeof zeros : left;
            add_part(&all, part.from ? part.from : zeros, take);
            left -= take;
        }
        done += part.bytes;
    }
    flush(&all);
    *hash = hashed ? spi_hash_end(&hasher) : (spi_hash){0};
    return !all.is_full;
}

static bool fill(spi_builder *builder, const image *to) {
    bool room = true;
    for (size_t i = 0; i < builder->count && room; i++) {
        spi_built_section *item = &builder->sections[i];
        spi_snapshot_section *section = &item->section;
        if (item->parts) {
            room = fill_parts(item, to, !builder->unhashed, &section->hash);
        } else {
            room = !section->bytes || put(to, section->offset, item->from, section->bytes);
            section->hash = builder->unhashed ? (spi_hash){0} : spi_hash_bytes(item->from, section->bytes, 0);
        }
    }
    return room;
}

static bool put_header(const spi_builder *builder, const uint8_t *parent, const uint8_t *id, const image *to) {
    struct {
        spi_snapshot_header header;
        spi_snapshot_section table[];
    } *head = spi_alloc(1, sizeof *head + builder->count * sizeof(spi_snapshot_section));
    if (!head) {
        return false;
    }
    head->header = (spi_snapshot_header){.version = SPI_SNAPSHOT_VERSION,
                                         .header_bytes = sizeof head->header,
                                         .file_bytes = to->bytes,
                                         .section_count = (uint32_t)builder->count,
                                         .flags = parent ? SPI_SNAPSHOT_DELTA : 0};
    memcpy(head->header.magic, SPI_SNAPSHOT_MAGIC, sizeof head->header.magic);
    if (parent) {
        memcpy(head->header.parent, parent, sizeof head->header.parent);
    }
    if (id) {
        memcpy(head->header.id, id, sizeof head->header.id);
    } else {
        make_id(builder, parent, head->header.id);
    }
    for (size_t i = 0; i < builder->count; i++) {
        head->table[i] = builder->sections[i].section;
    }
    size_t table_bytes = builder->count * sizeof(spi_snapshot_section);
    head->header.hash = spi_snapshot_header_hash(&head->header, head->table, table_bytes);
    bool room = put(to, 0, head, sizeof *head + table_bytes);
    spi_free(head);
    return room;
}

sp_status spi_build_finish(spi_builder *builder, const uint8_t *parent, const uint8_t *id, sp_snapshot **snapshot,
                           sp_error *error) {
    image to = {.file = -1};
    *snapshot = NULL;
    builder->align = parent ? SPI_SECTION_SMALL_ALIGN : SPI_SECTION_PAGE_ALIGN;
    sp_status status = builder->no_memory ? spi_fail(error, SP_NO_MEMORY, "no memory for a snapshot") : SP_OK;
    to.bytes = status ? 0 : lay_out(builder);
    size_t least = builder->is_plain ? PLAIN_BYTES_MAX : MAPPABLE_BYTES_MIN;
    bool mappable = !parent && to.bytes >= least;
    status = status ? status : spi_image_create(to.bytes, mappable, &to.data, &to.file, error);
    if (!status && (!fill(builder, &to) || !put_header(builder, parent, id, &to))) {
        spi_image_free(to.data, to.bytes, to.file);
        status = spi_fail(error, SP_NO_MEMORY, "no memory for a snapshot of %zu bytes", to.bytes);
    }
    spi_free(builder->sections);
    *builder = (spi_builder){0};
    status = status ? status : spi_snapshot_take(to.data, to.bytes, to.file, "the snapshot", false, snapshot, error);
    if (!status) {
        (*snapshot)->is_own = true;
    }
    return status;
}

void spi_build_drop(spi_builder *builder) {
    spi_free(builder->sections);
    *builder = (spi_builder){0};
}

static bool is_section(const spi_built_section *item, const uint8_t *bytes) {
    uint64_t done = 0;
    if (!item->parts) {
        return !item->section.bytes || memcmp(item->from, bytes, item->section.bytes) == 0;
    }
    for (uint32_t i = 0; done < item->section.bytes; i++) {
        spi_part part = item->parts(item->env, i);
        /* What has no bytes of its own is zeros in both. */
        if (part.from && memcmp(part.from, bytes + done, part.bytes) != 0) {
            return false;
        }
        done += part.bytes;
    }
    return true;
}

bool spi_build_is(const spi_builder *builder, const sp_snapshot *snapshot) {
    bool is_same = !builder->no_memory && builder->count == snapshot->section_count;
    for (size_t i = 0; i < builder->count && is_same; i++) {
        const spi_built_section *item = &builder->sections[i];
        const spi_snapshot_section *section = &snapshot->sections[i];
        is_same = section->kind == item->section.kind && section->index == item->section.index &&
                  section->bytes == item->section.bytes && is_section(item, snapshot->data + section->offset);
    }
    return is_same;
}
