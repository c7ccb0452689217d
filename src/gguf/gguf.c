/* gguf/gguf.c - opening a file, and finding things in it. See gguf.h. May include: base, os. */
#include "gguf/gguf.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "gguf/reader.h"
#include "os/file.h"

static sp_status read_header(spi_source *source, spi_reader *reader) {
    const unsigned char *magic = NULL;
    if (!reader->size) {
        return spi_fail(reader->error, SP_BAD_FILE, "%s: the file is empty", reader->name);
    }
    sp_status status = spi_read_bytes(reader, 4, "the magic", &magic);
    if (status) {
        return status;
    }
    if (memcmp(magic, "GGUF", 4)) {
        return spi_fail(reader->error, SP_BAD_FILE, "%s: not a GGUF file: it begins with %02x %02x %02x %02x",
                        reader->name, magic[0], magic[1], magic[2], magic[3]);
    }
    status = spi_read_u32(reader, "the version", &source->version);
    if (status) {
        return status;
    }
    if (source->version != 2 && source->version != 3) {
        bool swapped = source->version == 0x02000000u || source->version == 0x03000000u;
        return spi_fail(reader->error, SP_UNSUPPORTED,
                        "%s: GGUF version %" PRIu32
                        " at byte 4%s is not supported, only 2 and 3 are; convert the model anew",
                        reader->name, source->version, swapped ? " (a big-endian file)" : "");
    }
    status = spi_read_u64(reader, "the tensor count", &source->tensor_count);
    return status ? status : spi_read_u64(reader, "the metadata count", &source->value_count);
}

sp_status spi_gguf_parse(const void *bytes, size_t size, const char *name, spi_source **source, sp_error *error) {
    spi_reader reader = {.bytes = bytes, .size = size, .name = name, .error = error};
    *source = NULL;
    spi_source *made = spi_alloc(1, sizeof *made);
    if (!made) {
        return spi_fail(error, SP_NO_MEMORY, "%s: no memory to open it", name);
    }
    made->files = spi_alloc(1, sizeof *made->files);
    if (!made->files) {
        spi_source_close(made);
        return spi_fail(error, SP_NO_MEMORY, "%s: no memory to open it", name);
    }
    made->file_count = 1;
    made->files[0] = (spi_source_file){.bytes = bytes, .size = size, .header_bytes = size};
    sp_status status = read_header(made, &reader);
    if (!status) {
        status = spi_gguf_read_values(made, &reader);
    }
    if (!status) {
        status = spi_gguf_read_tensors(made, &reader);
    }
    for (uint64_t i = 0; i < made->tensor_count && !status; i++) {
        const uint8_t *data = made->tensors[i].data;
        size_t before = data ? (size_t)(data - made->files[0].bytes) : size;
        made->files[0].header_bytes = before < made->files[0].header_bytes ? before : made->files[0].header_bytes;
    }
    if (status) {
        spi_source_close(made);
        return status;
    }
    *source = made;
    return SP_OK;
}

static void release(void *map) {
    spi_file_map_close(map);
    spi_free(map);
}

sp_status spi_gguf_open(const char *path, spi_source **source, sp_error *error) {
    *source = NULL;
    spi_file_map *map = spi_alloc(1, sizeof *map);
    if (!map) {
        return spi_fail(error, SP_NO_MEMORY, "%s: no memory to open it", path);
    }
    sp_status status = spi_file_map_open(path, map, error);
    if (!status) {
        status = spi_gguf_parse(map->data, map->bytes, path, source, error);
    }
    if (status) {
        release(map);
        return status;
    }
    (*source)->owned = map;
    (*source)->release = release;
    return SP_OK;
}

bool spi_gguf_has_type(uint32_t type) {
    switch (type) {
#define X(name, value, text, elements, bytes) case value:
        SP_DTYPE_LIST(X)
#undef X
        return true;
    default: return false;
    }
}
