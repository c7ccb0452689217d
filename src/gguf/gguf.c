/* gguf/gguf.c - opening a file, and finding things in it. See gguf.h. May include: base, os. */
#include "gguf/gguf.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "gguf/reader.h"
#include "os/file.h"

static sp_status read_header(spi_gguf *gguf, spi_reader *reader) {
    const unsigned char *magic = NULL;
    sp_status status = spi_read_bytes(reader, 4, "the magic", &magic);
    if (status) {
        return status;
    }
    if (memcmp(magic, "GGUF", 4)) {
        return spi_fail(reader->error, SP_BAD_FILE, "%s: not a GGUF file: it begins with %02x %02x %02x %02x",
                        reader->name, magic[0], magic[1], magic[2], magic[3]);
    }
    status = spi_read_u32(reader, "the version", &gguf->version);
    if (status) {
        return status;
    }
    if (gguf->version != 2 && gguf->version != 3) {
        bool swapped = gguf->version == 0x02000000u || gguf->version == 0x03000000u;
        return spi_fail(reader->error, SP_UNSUPPORTED,
                        "%s: GGUF version %" PRIu32
                        " at byte 4%s is not supported, only 2 and 3 are; convert the model anew",
                        reader->name, gguf->version, swapped ? " (a big-endian file)" : "");
    }
    status = spi_read_u64(reader, "the tensor count", &gguf->tensor_count);
    return status ? status : spi_read_u64(reader, "the metadata count", &gguf->value_count);
}

sp_status spi_gguf_parse(const void *bytes, size_t size, const char *name, spi_gguf **gguf, sp_error *error) {
    spi_reader reader = {.bytes = bytes, .size = size, .name = name, .error = error};
    *gguf = NULL;
    spi_gguf *made = spi_alloc(1, sizeof *made);
    if (!made) {
        return spi_fail(error, SP_NO_MEMORY, "%s: no memory to open it", name);
    }
    made->bytes = bytes;
    made->size = size;
    sp_status status = read_header(made, &reader);
    if (!status) {
        status = spi_gguf_read_values(made, &reader);
    }
    if (!status) {
        status = spi_gguf_read_tensors(made, &reader);
    }
    if (status) {
        spi_gguf_close(made);
        return status;
    }
    *gguf = made;
    return SP_OK;
}

sp_status spi_gguf_open(const char *path, spi_gguf **gguf, sp_error *error) {
    *gguf = NULL;
    spi_file_map *map = spi_alloc(1, sizeof *map);
    if (!map) {
        return spi_fail(error, SP_NO_MEMORY, "%s: no memory to open it", path);
    }
    sp_status status = spi_file_map_open(path, map, error);
    if (!status) {
        status = spi_gguf_parse(map->data, map->bytes, path, gguf, error);
    }
    if (status) {
        spi_file_map_close(map);
        spi_free(map);
        return status;
    }
    (*gguf)->mapping = map;
    return SP_OK;
}

void spi_gguf_close(spi_gguf *gguf) {
    if (!gguf) {
        return;
    }
    spi_free(gguf->values);
    spi_free(gguf->values_sorted);
    spi_free(gguf->tensors);
    spi_free(gguf->tensors_sorted);
    if (gguf->mapping) {
        spi_file_map_close(gguf->mapping);
        spi_free(gguf->mapping);
    }
    spi_free(gguf);
}

uint32_t spi_gguf_version(const spi_gguf *gguf) {
    return gguf->version;
}

const void *spi_gguf_bytes(const spi_gguf *gguf, size_t *bytes) {
    *bytes = gguf->size;
    return gguf->bytes;
}

size_t spi_gguf_file_bytes(const spi_gguf *gguf) {
    return gguf->size;
}

uint64_t spi_gguf_value_count(const spi_gguf *gguf) {
    return gguf->value_count;
}

const spi_gguf_value *spi_gguf_value_at(const spi_gguf *gguf, uint64_t index) {
    return index < gguf->value_count ? &gguf->values[index] : NULL;
}

uint64_t spi_gguf_tensor_count(const spi_gguf *gguf) {
    return gguf->tensor_count;
}

const spi_gguf_tensor *spi_gguf_tensor_at(const spi_gguf *gguf, uint64_t index) {
    return index < gguf->tensor_count ? &gguf->tensors[index] : NULL;
}

const spi_gguf_value *spi_gguf_find(const spi_gguf *gguf, const char *key) {
    spi_gguf_string wanted = {.text = key, .bytes = strlen(key)};
    uint64_t low = 0, high = gguf->value_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        int order = spi_gguf_compare(gguf->values_sorted[middle]->key, wanted);
        if (order == 0) {
            return gguf->values_sorted[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

const spi_gguf_tensor *spi_gguf_find_tensor(const spi_gguf *gguf, const char *name) {
    spi_gguf_string wanted = {.text = name, .bytes = strlen(name)};
    uint64_t low = 0, high = gguf->tensor_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        int order = spi_gguf_compare(gguf->tensors_sorted[middle]->name, wanted);
        if (order == 0) {
            return gguf->tensors_sorted[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}
