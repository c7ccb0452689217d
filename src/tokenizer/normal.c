/* tokenizer/normal.c - Unicode's composed form NFC (Unicode Standard Annex #15), by utf8proc.
 *
 * Bytes that are part of no valid sequence stay as they are, and what stands between them is normalised by itself.
 * May include: base.
 */
#include <string.h>
#include <utf8proc.h>

#include "base/error.h"
#include "base/memory.h"
#include "tokenizer/internal.h"

#define OPTIONS (UTF8PROC_STABLE | UTF8PROC_COMPOSE)

static bool is_ascii(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if ((unsigned char)text[i] >= 0x80) {
            return false;
        }
    }
    return true;
}

static sp_status no_memory(const spi_work *work, size_t bytes) {
    return spi_fail(work->error, SP_NO_MEMORY, "no memory to tokenize %zu bytes", bytes);
}

/* Valid UTF-8, behind the `count` bytes that there are. A code point takes at most four bytes. */
static sp_status compose_run(spi_work *work, const char *text, size_t bytes, size_t *count) {
    const utf8proc_uint8_t *from = (const utf8proc_uint8_t *)text;
    utf8proc_ssize_t points = utf8proc_decompose(from, (utf8proc_ssize_t)bytes, NULL, 0, OPTIONS);
    if (points < 0) {
        return spi_fail(work->error, SP_LIMIT, "the text cannot be normalised: %s", utf8proc_errmsg(points));
    }
    /* One more, since utf8proc ends what it writes with a zero byte. */
    if (!spi_reserve((void **)&work->points, &work->point_capacity, (size_t)points + 1, sizeof *work->points)) {
        return no_memory(work, bytes);
    }
    utf8proc_decompose(from, (utf8proc_ssize_t)bytes, work->points, points, OPTIONS);
    utf8proc_ssize_t length = utf8proc_reencode(work->points, points, OPTIONS);
    if (length < 0 || !spi_reserve((void **)&work->composed, &work->composed_capacity, *count + (size_t)length, 1)) {
        return no_memory(work, bytes);
    }
    memcpy(work->composed + *count, work->points, (size_t)length);
    *count += (size_t)length;
    return SP_OK;
}

sp_status spi_compose_text(spi_work *work, const char *text, size_t bytes, const char **out, size_t *out_bytes) {
    *out = text;
    *out_bytes = bytes;
    if (is_ascii(text, bytes)) {
        return SP_OK;
    }
    size_t count = 0;
    sp_status status = SP_OK;
    for (size_t at = 0; at < bytes && !status;) {
        size_t end = at, length;
        while (end < bytes && (length = spi_utf8_length(text + end, bytes - end))) {
            end += length;
        }
        if (end > at) {
            status = compose_run(work, text + at, end - at, &count);
        } else if (spi_reserve((void **)&work->composed, &work->composed_capacity, count + 1, 1)) {
            work->composed[count++] = text[end++];
        } else {
            status = no_memory(work, bytes);
        }
        at = end;
    }
    *out = work->composed;
    *out_bytes = count;
    return status;
}
