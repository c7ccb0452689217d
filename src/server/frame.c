/* server/frame.c - see frame.h. */
#include "server/frame.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"

#define LENGTHS_BYTES 8u

sp_status spi_buffer_add(spi_buffer *buffer, const void *bytes, size_t count) {
    if (buffer->start && buffer->start == buffer->end) {
        buffer->start = buffer->end = 0;
    }
    if (buffer->start && buffer->capacity - buffer->end < count) {
        memmove(buffer->bytes, buffer->bytes + buffer->start, buffer->end - buffer->start);
        buffer->end -= buffer->start;
        buffer->start = 0;
    }
    if (!spi_reserve((void **)&buffer->bytes, &buffer->capacity, buffer->end + count, 1)) {
        return SP_NO_MEMORY;
    }
    if (count) {
        memcpy(buffer->bytes + buffer->end, bytes, count);
    }
    buffer->end += count;
    return SP_OK;
}

void spi_buffer_take(spi_buffer *buffer, size_t count) {
    buffer->start += count;
}

void spi_buffer_free(spi_buffer *buffer) {
    spi_free(buffer->bytes);
    *buffer = (spi_buffer){0};
}

static uint32_t get_u32(const uint8_t *bytes) {
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void put_u32(uint8_t *bytes, size_t value) {
    for (int i = 0; i < 4; i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
}

sp_status spi_frame_read(const spi_buffer *buffer, spi_frame *frame, bool *found, sp_error *error) {
    size_t there = buffer->end - buffer->start;
    const uint8_t *bytes = buffer->bytes ? buffer->bytes + buffer->start : NULL;
    *frame = (spi_frame){0};
    *found = false;
    if (there < LENGTHS_BYTES) {
        return SP_OK;
    }
    size_t head_bytes = get_u32(bytes), body_bytes = get_u32(bytes + 4);
    if (!head_bytes || head_bytes > SPI_FRAME_HEAD_BYTES_MAX || body_bytes > SPI_FRAME_BODY_BYTES_MAX) {
        return spi_fail(error, SP_BAD_FILE, "a frame of %zu and %zu bytes: the other side speaks another protocol",
                        head_bytes, body_bytes);
    }
    if (there - LENGTHS_BYTES < head_bytes + body_bytes) {
        return SP_OK;
    }
    cJSON *head = cJSON_ParseWithLength((const char *)bytes + LENGTHS_BYTES, head_bytes);
    if (!cJSON_IsObject(head)) {
        cJSON_Delete(head);
        return spi_fail(error, SP_BAD_FILE, "a frame's head is no JSON object");
    }
    *frame = (spi_frame){.head = head,
                         .body = bytes + LENGTHS_BYTES + head_bytes,
                         .body_bytes = body_bytes,
                         .bytes = LENGTHS_BYTES + head_bytes + body_bytes};
    *found = true;
    return SP_OK;
}

sp_status spi_frame_write(spi_buffer *buffer, const cJSON *head, const void *body, size_t body_bytes, sp_error *error) {
    uint8_t lengths[LENGTHS_BYTES];
    char *text = cJSON_PrintUnformatted(head);
    size_t head_bytes = text ? strlen(text) : 0, end = buffer->end - buffer->start;
    sp_status status = text ? SP_OK : SP_NO_MEMORY;
    if (!status && (head_bytes > SPI_FRAME_HEAD_BYTES_MAX || body_bytes > SPI_FRAME_BODY_BYTES_MAX)) {
        cJSON_free(text);
        return spi_fail(error, SP_LIMIT, "%zu bytes are too many for one request", body_bytes);
    }
    put_u32(lengths, head_bytes);
    put_u32(lengths + 4, body_bytes);
    status = status ? status : spi_buffer_add(buffer, lengths, sizeof lengths);
    status = status ? status : spi_buffer_add(buffer, text, head_bytes);
    status = status ? status : spi_buffer_add(buffer, body, body_bytes);
    cJSON_free(text);
    if (status) {
        buffer->end = buffer->start + end; /* no half frame */
        return spi_fail(error, status, "no memory for a frame of %zu bytes", body_bytes);
    }
    return SP_OK;
}

const char *spi_head_text(const cJSON *head, const char *name, const char *missing) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(head, name);
    return cJSON_IsString(item) ? item->valuestring : missing;
}

uint64_t spi_head_number(const cJSON *head, const char *name) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(head, name);
    double value = cJSON_IsNumber(item) ? item->valuedouble : 0;
    return value >= 0 && value <= 0x1p53 ? (uint64_t)value : 0;
}

uint32_t spi_head_count(const cJSON *head, const char *name) {
    uint64_t number = spi_head_number(head, name);
    return number < UINT32_MAX ? (uint32_t)number : UINT32_MAX;
}

bool spi_head_flag(const cJSON *head, const char *name) {
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(head, name));
}
