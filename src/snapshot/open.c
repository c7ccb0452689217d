/* snapshot/open.c - reading a snapshot: everything is checked before anything is used. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "snapshot/series.h"
#include "snapshot/snapshot.h"

#define EXTRA_BYTES_MAX ((uint64_t)16 << 20)

static const char *const kind_names[SPI_SECTION_KIND_END] = {
    [SPI_SECTION_STATE] = "state",   [SPI_SECTION_PAGE_INDEX] = "page index",   [SPI_SECTION_PAGES] = "pages",
    [SPI_SECTION_TOKENS] = "tokens", [SPI_SECTION_BLOCK_NAMES] = "block names", [SPI_SECTION_BLOCKS] = "blocks",
    [SPI_SECTION_TAIL] = "tail",     [SPI_SECTION_LOGITS] = "logits",           [SPI_SECTION_MODULE] = "module",
    [SPI_SECTION_EXTRA] = "extra",
};

const char *spi_section_name(uint32_t kind) {
    return kind < SPI_SECTION_KIND_END && kind_names[kind] ? kind_names[kind] : "unknown";
}

static uint64_t alignment(uint32_t kind, bool is_delta) {
    return SPI_SECTION_IS_MAPPED(kind) && !is_delta ? SPI_SECTION_PAGE_ALIGN : SPI_SECTION_SMALL_ALIGN;
}

spi_hash spi_snapshot_header_hash(const spi_snapshot_header *header, const void *table, size_t table_bytes) {
    spi_hash first = spi_hash_bytes(header, offsetof(spi_snapshot_header, hash), 0);
    spi_hash second = spi_hash_bytes(table, table_bytes, first.high);
    return (spi_hash){.low = first.low ^ second.low, .high = second.high};
}

static sp_status check_header(const sp_snapshot *snapshot, const char *name, sp_error *error) {
    spi_snapshot_header header;
    if (snapshot->bytes < sizeof header) {
        return spi_fail(error, SP_BAD_FILE, "%s has %zu bytes, less than a snapshot's header", name, snapshot->bytes);
    }
    memcpy(&header, snapshot->data, sizeof header);
    if (memcmp(header.magic, SPI_SNAPSHOT_MAGIC, sizeof header.magic) != 0) {
        return spi_fail(error, SP_BAD_FILE, "%s is not a snapshot", name);
    }
    if (!header.version || header.version > SPI_SNAPSHOT_VERSION) {
        return spi_fail(error, SP_UNSUPPORTED, "%s is of format version %u, and this samepage reads up to %u", name,
                        header.version, SPI_SNAPSHOT_VERSION);
    }
    uint64_t table = (uint64_t)header.section_count * sizeof(spi_snapshot_section);
    if (header.header_bytes != sizeof header || header.section_count > SPI_SECTION_COUNT_MAX ||
        table > snapshot->bytes - sizeof header) {
        return spi_fail(error, SP_BAD_FILE, "%s: the header is damaged, or the file is cut", name);
    }
    spi_hash hash = spi_snapshot_header_hash(&header, snapshot->data + sizeof header, (size_t)table);
    if (hash.low != header.hash.low || hash.high != header.hash.high) {
        return spi_fail(error, SP_BAD_FILE, "%s: the header or the table of sections is damaged", name);
    }
    if (header.file_bytes != snapshot->bytes) {
        return spi_fail(error, SP_BAD_FILE, "%s has %zu bytes, and its header says %llu: it is cut or was added to",
                        name, snapshot->bytes, (unsigned long long)header.file_bytes);
    }
    for (size_t i = 0; i < sizeof header.reserved / sizeof header.reserved[0]; i++) {
        if (header.reserved[i]) {
            return spi_fail(error, SP_BAD_FILE, "%s: a reserved field of the header is not 0", name);
        }
    }
    return header.flags & ~SPI_SNAPSHOT_DELTA
               ? spi_fail(error, SP_UNSUPPORTED, "%s has flags that this samepage does not know", name)
               : SP_OK;
}

/* Sections come in the order of the table, one behind the other, and what is between them is zero. */
static sp_status check_section(const sp_snapshot *snapshot, const char *name, uint32_t index, uint64_t end, bool verify,
                               sp_error *error) {
    const spi_snapshot_section *section = &snapshot->sections[index];
    bool is_delta = snapshot->header->flags & SPI_SNAPSHOT_DELTA;
    const char *kind = spi_section_name(section->kind);
    if (!section->kind || section->kind >= SPI_SECTION_KIND_END || section->reserved) {
        return spi_fail(error, SP_UNSUPPORTED, "%s: section %u is of a kind that this samepage does not know", name,
                        index);
    }
    if (section->offset < end || section->offset % alignment(section->kind, is_delta) ||
        section->offset - end >= SPI_SECTION_PAGE_ALIGN || section->offset > snapshot->bytes ||
        section->bytes > snapshot->bytes - section->offset) {
        return spi_fail(error, SP_BAD_FILE, "%s: section %u (%s) does not lie where one can", name, index, kind);
    }
    for (uint64_t at = end; at < section->offset; at++) {
        if (snapshot->data[at]) {
            return spi_fail(error, SP_BAD_FILE, "%s: there is something before section %u (%s)", name, index, kind);
        }
    }
    if (verify) {
        spi_hash hash = spi_hash_bytes(snapshot->data + section->offset, section->bytes, 0);
        if (hash.low != section->hash.low || hash.high != section->hash.high) {
            return spi_fail(error, SP_BAD_FILE, "%s: section %u (%s) is damaged: its checksum is another", name, index,
                            kind);
        }
    }
    return SP_OK;
}

static sp_status check_sections(const sp_snapshot *snapshot, const char *name, bool verify, sp_error *error) {
    uint64_t end = sizeof(spi_snapshot_header) + (uint64_t)snapshot->section_count * sizeof(spi_snapshot_section);
    uint64_t last = 0;
    for (uint32_t i = 0; i < snapshot->section_count; i++) {
        const spi_snapshot_section *section = &snapshot->sections[i];
        sp_status status = check_section(snapshot, name, i, end, verify, error);
        if (status) {
            return status;
        }
        uint64_t order = (uint64_t)section->kind << 32 | section->index;
        if (order <= last) {
            return spi_fail(error, SP_BAD_FILE, "%s: section %u (%s) is twice there or out of order", name, i,
                            spi_section_name(section->kind));
        }
        last = order;
        end = section->offset + section->bytes;
    }
    return end == snapshot->bytes
               ? SP_OK
               : spi_fail(error, SP_BAD_FILE, "%s: there is something behind the last section", name);
}

const spi_snapshot_section *spi_snapshot_find(const sp_snapshot *snapshot, spi_section_kind kind, uint32_t index) {
    uint64_t wanted = (uint64_t)kind << 32 | index;
    uint32_t low = 0, high = snapshot->section_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const spi_snapshot_section *section = &snapshot->sections[middle];
        uint64_t order = (uint64_t)section->kind << 32 | section->index;
        if (order == wanted) {
            return section;
        }
        *(order < wanted ? &low : &high) = order < wanted ? middle + 1 : middle;
    }
    return NULL;
}

/* Runs are whole pages of the guest's memory, ascending and apart, and their bytes are all there. */
static sp_status read_pages(sp_snapshot *snapshot, const char *name, sp_error *error) {
    const spi_snapshot_section *index = spi_snapshot_find(snapshot, SPI_SECTION_PAGE_INDEX, 0);
    const spi_snapshot_section *pages = spi_snapshot_find(snapshot, SPI_SECTION_PAGES, 0);
    if (!index || !pages || index->bytes % sizeof(spi_page_run) || index->bytes / sizeof(spi_page_run) > UINT32_MAX) {
        return spi_fail(error, SP_BAD_FILE, "%s: there are no pages or no index of them", name);
    }
    snapshot->runs = (const spi_page_run *)(const void *)(snapshot->data + index->offset);
    snapshot->run_count = (uint32_t)(index->bytes / sizeof(spi_page_run));
    snapshot->pages = snapshot->data + pages->offset;
    snapshot->pages_offset = pages->offset;
    snapshot->pages_bytes = pages->bytes;
    uint64_t end = 0, total = 0, size = snapshot->state.memory_bytes;
    for (uint32_t i = 0; i < snapshot->run_count; i++) {
        const spi_page_run *run = &snapshot->runs[i];
        if (!run->bytes || run->offset % SPI_SECTION_PAGE_ALIGN || run->bytes % SPI_SECTION_PAGE_ALIGN ||
            run->offset < end || run->offset > size || run->bytes > size - run->offset) {
            return spi_fail(error, SP_BAD_FILE, "%s: run %u of pages does not lie in the memory", name, i);
        }
        end = run->offset + run->bytes;
        total += run->bytes;
    }
    return total == pages->bytes
               ? SP_OK
               : spi_fail(error, SP_BAD_FILE, "%s: the pages are not as many as their index says", name);
}

static sp_status read_all(sp_snapshot *snapshot, const char *name, bool verify, sp_error *error) {
    sp_status status = check_header(snapshot, name, error);
    if (status) {
        return status;
    }
    snapshot->header = (const spi_snapshot_header *)(const void *)snapshot->data;
    snapshot->section_count = snapshot->header->section_count;
    snapshot->sections = (const spi_snapshot_section *)(const void *)(snapshot->data + sizeof(spi_snapshot_header));
    status = check_sections(snapshot, name, verify, error);
    const spi_snapshot_section *state = status ? NULL : spi_snapshot_find(snapshot, SPI_SECTION_STATE, 0);
    const spi_snapshot_section *extra = status ? NULL : spi_snapshot_find(snapshot, SPI_SECTION_EXTRA, 0);
    if (!status && (!state || (extra && extra->bytes > EXTRA_BYTES_MAX))) {
        return spi_fail(error, SP_BAD_FILE, "%s: there is no state, or too much extra", name);
    }
    if (!status) {
        status = spi_state_read(snapshot, snapshot->data + state->offset, (size_t)state->bytes, error);
        if (status == SP_BAD_FILE) {
            spi_fail_within(error, "%s", name);
        }
    }
    return status ? status : read_pages(snapshot, name, error);
}

sp_status spi_snapshot_take(const uint8_t *data, size_t bytes, int file, const char *name, bool verify,
                            sp_snapshot **out, sp_error *error) {
    sp_error local = {0};
    *out = NULL;
    sp_snapshot *snapshot = spi_alloc(1, sizeof *snapshot);
    if (!snapshot) {
        spi_image_free(data, bytes, file);
        return spi_fail(error, SP_NO_MEMORY, "no memory for a snapshot");
    }
    snapshot->data = data;
    snapshot->bytes = bytes;
    snapshot->file = file;
    sp_status status = read_all(snapshot, name, verify, error ? error : &local);
    if (status) {
        sp_snapshot_close(snapshot);
        return status;
    }
    *out = snapshot;
    return SP_OK;
}

sp_status spi_snapshot_open_taken(void *bytes, size_t byte_count, const char *name, sp_snapshot **snapshot,
                                  sp_error *error) {
    return spi_snapshot_take(bytes, byte_count, -1, name, true, snapshot, error);
}

void sp_snapshot_close(sp_snapshot *snapshot) {
    if (!snapshot) {
        return;
    }
    spi_free(snapshot->state.globals);
    spi_free(snapshot->state.tables);
    spi_free(snapshot->state.models);
    spi_free(snapshot->state.slots);
    spi_free((void *)(uintptr_t)snapshot->state.arguments);
    spi_free((void *)(uintptr_t)snapshot->state.environment);
    spi_free(snapshot->models);
    spi_free(snapshot->sessions);
    spi_image_free(snapshot->data, snapshot->bytes, snapshot->file);
    spi_free(snapshot);
}

const void *sp_snapshot_bytes(const sp_snapshot *snapshot, size_t *byte_count) {
    *byte_count = snapshot->bytes;
    return snapshot->data;
}
