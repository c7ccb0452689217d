/* gguf/reader.c - the cursor: every read is checked here and nowhere else. May include: base. */
#include "gguf/reader.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"

sp_status spi_read_bytes(spi_reader *reader, uint64_t count, const char *what, const unsigned char **bytes) {
    size_t left = reader->size - reader->at;
    if (count > left) {
        return spi_fail(reader->error, SP_BAD_FILE,
                        "%s: the file ends within %s at byte %zu: %" PRIu64 " bytes needed, %zu left", reader->name,
                        what, reader->at, count, left);
    }
    *bytes = reader->bytes + reader->at;
    reader->at += (size_t)count;
    return SP_OK;
}

sp_status spi_read_u32(spi_reader *reader, const char *what, uint32_t *value) {
    const unsigned char *bytes = NULL;
    sp_status status = spi_read_bytes(reader, 4, what, &bytes);
    *value = status ? 0 : spi_load_u32(bytes);
    return status;
}

sp_status spi_read_u64(spi_reader *reader, const char *what, uint64_t *value) {
    const unsigned char *bytes = NULL;
    sp_status status = spi_read_bytes(reader, 8, what, &bytes);
    *value = status ? 0 : spi_load_u64(bytes);
    return status;
}

sp_status spi_read_string(spi_reader *reader, const char *what, uint64_t bytes_max, spi_string *string) {
    uint64_t length = 0;
    size_t at = reader->at;
    const unsigned char *bytes = NULL;
    *string = (spi_string){0};
    sp_status status = spi_read_u64(reader, what, &length);
    if (status) {
        return status;
    }
    if (length > bytes_max) {
        return spi_fail(reader->error, SP_BAD_FILE,
                        "%s: %s at byte %zu has a length of %" PRIu64 " bytes, at most %" PRIu64 " are allowed",
                        reader->name, what, at, length, bytes_max);
    }
    status = spi_read_bytes(reader, length, what, &bytes);
    if (!status) {
        *string = (spi_string){.text = (const char *)bytes, .bytes = (size_t)length};
    }
    return status;
}
