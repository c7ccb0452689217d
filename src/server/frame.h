/* server/frame.h - the protocol's unit: a JSON object and bytes that go with it.
 *
 *     u32 head_bytes | u32 body_bytes | head (JSON) | body      little-endian
 *
 * A head has at most 1 MiB, a body at most 64 MiB. What comes in is hostile: lengths are looked at before memory is
 * made for them, and only as much is made as has come. May include: base.
 */
#ifndef SPI_SERVER_FRAME_H
#define SPI_SERVER_FRAME_H

#include <cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samepage/status.h"

#define SPI_FRAME_HEAD_BYTES_MAX ((size_t)1 << 20)
#define SPI_FRAME_BODY_BYTES_MAX ((size_t)64 << 20)
#define SPI_FRAME_BYTES_MAX      (8 + SPI_FRAME_HEAD_BYTES_MAX + SPI_FRAME_BODY_BYTES_MAX)

/* Bytes that have come and are not yet taken, or that wait to be sent. */
typedef struct spi_buffer {
    uint8_t *bytes;
    size_t start, end, capacity;
} spi_buffer;

/* SP_NO_MEMORY. */
sp_status spi_buffer_add(spi_buffer *buffer, const void *bytes, size_t count);
void spi_buffer_take(spi_buffer *buffer, size_t count); /* from the front */
void spi_buffer_free(spi_buffer *buffer);

typedef struct spi_frame {
    cJSON *head;      /* an object */
    const void *body; /* in the buffer, good until it changes */
    size_t body_bytes;
    size_t bytes; /* of the whole frame: to be taken when it was dealt with */
} spi_frame;

/* The first frame of a buffer, if it is there whole: *found. SP_BAD_FILE: what is there can be no frame, and nothing
 * that follows can be understood. The head is the caller's to delete. */
sp_status spi_frame_read(const spi_buffer *buffer, spi_frame *frame, bool *found, sp_error *error);

/* Appends a frame. SP_NO_MEMORY, SP_LIMIT. */
sp_status spi_frame_write(spi_buffer *buffer, const cJSON *head, const void *body, size_t body_bytes, sp_error *error);

/* Fields of a head. A text that is not there is `missing`; numbers are whole and from 0 to 2^53. */
const char *spi_head_text(const cJSON *head, const char *name, const char *missing);
uint64_t spi_head_number(const cJSON *head, const char *name);
uint32_t spi_head_count(const cJSON *head, const char *name); /* what is more is the most that there is */
bool spi_head_flag(const cJSON *head, const char *name);

#endif
