/* snapshot/build.c - an image of a snapshot, out of its sections. */
#include "snapshot/snapshot.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "os/vm.h"

#define MAPPABLE_BYTES_MIN ((size_t)64 << 10)

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

void spi_build_fill(spi_builder *builder, spi_section_kind kind, uint32_t index, spi_fill fill, void *env,
                    uint64_t bytes) {
    add(builder,
        (spi_built_section){.section = {.kind = kind, .index = index, .bytes = bytes}, .fill = fill, .env = env});
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

static bool is_mapped(uint32_t kind) {
    return kind == SPI_SECTION_PAGES || kind == SPI_SECTION_BLOCKS || kind == SPI_SECTION_LOGITS;
}

static size_t lay_out(spi_builder *builder) {
    uint64_t at = sizeof(spi_snapshot_header) + builder->count * sizeof(spi_snapshot_section);
    for (size_t i = 0; i < builder->count; i++) {
        spi_snapshot_section *section = &builder->sections[i].section;
        at = round_up(at, is_mapped(section->kind) ? builder->align : SPI_SECTION_SMALL_ALIGN);
        section->offset = at;
        at += section->bytes;
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

static void fill(spi_builder *builder, uint8_t *data) {
    for (size_t i = 0; i < builder->count; i++) {
        spi_built_section *item = &builder->sections[i];
        spi_snapshot_section *section = &item->section;
        uint8_t *to = data + section->offset;
        if (item->fill) {
            item->fill(item->env, to);
        } else if (section->bytes) {
            memcpy(to, item->from, section->bytes);
        }
        section->hash = spi_hash_bytes(to, section->bytes, 0);
    }
}

static void put_header(const spi_builder *builder, size_t bytes, const uint8_t *parent, const uint8_t *id,
                       uint8_t *data) {
    spi_snapshot_header header = {.version = SPI_SNAPSHOT_VERSION,
                                  .header_bytes = sizeof header,
                                  .file_bytes = bytes,
                                  .section_count = (uint32_t)builder->count,
                                  .flags = parent ? SPI_SNAPSHOT_DELTA : 0};
    memcpy(header.magic, SPI_SNAPSHOT_MAGIC, sizeof header.magic);
    if (parent) {
        memcpy(header.parent, parent, sizeof header.parent);
    }
    if (id) {
        memcpy(header.id, id, sizeof header.id);
    } else {
        make_id(builder, parent, header.id);
    }
    uint8_t *table = data + sizeof header;
    for (size_t i = 0; i < builder->count; i++) {
        memcpy(table + i * sizeof(spi_snapshot_section), &builder->sections[i].section, sizeof(spi_snapshot_section));
    }
    header.hash = spi_snapshot_header_hash(&header, table, builder->count * sizeof(spi_snapshot_section));
    memcpy(data, &header, sizeof header);
}

sp_status spi_build_finish(spi_builder *builder, const uint8_t *parent, const uint8_t *id, sp_snapshot **snapshot,
                           sp_error *error) {
    uint8_t *data = NULL;
    int file = -1;
    *snapshot = NULL;
    builder->align = parent ? SPI_SECTION_SMALL_ALIGN : SPI_SECTION_PAGE_ALIGN;
    sp_status status = builder->no_memory ? spi_fail(error, SP_NO_MEMORY, "no memory for a snapshot") : SP_OK;
    size_t bytes = status ? 0 : lay_out(builder);
    status = status ? status : spi_image_create(bytes, !parent && bytes >= MAPPABLE_BYTES_MIN, &data, &file, error);
    if (!status) {
        fill(builder, data);
        put_header(builder, bytes, parent, id, data);
    }
    spi_free(builder->sections);
    *builder = (spi_builder){0};
    status = status ? status : spi_snapshot_take(data, bytes, file, "the snapshot", false, snapshot, error);
    if (!status) {
        (*snapshot)->is_own = true;
    }
    return status;
}
