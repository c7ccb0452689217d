/* fuzz/fuzz_frame.c - any bytes as what comes over the actors' socket: frames are read until one is none, and what was
 * read is written and read again to the same. */
#include <stdlib.h>
#include <string.h>

#include "server/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_and_read(const spi_frame *frame) {
    spi_buffer out = {0};
    spi_frame again;
    bool found;
    if (spi_frame_write(&out, frame->head, frame->body, frame->body_bytes, NULL) ||
        spi_frame_read(&out, &again, &found, NULL) || !found || again.body_bytes != frame->body_bytes ||
        (again.body_bytes && memcmp(again.body, frame->body, again.body_bytes) != 0)) {
        abort();
    }
    cJSON_Delete(again.head);
    spi_buffer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    spi_buffer in = {0};
    bool found = true;
    for (size_t at = 0; at < size; at += 7) { /* in pieces, as a socket gives them */
        if (spi_buffer_add(&in, data + at, size - at < 7 ? size - at : 7)) {
            abort();
        }
    }
    while (found) {
        spi_frame frame;
        if (spi_frame_read(&in, &frame, &found, NULL)) {
            break;
        }
        if (found) {
            (void)spi_head_text(frame.head, "op", "");
            (void)spi_head_number(frame.head, "message");
            (void)spi_head_flag(frame.head, "wait");
            write_and_read(&frame);
            cJSON_Delete(frame.head);
            spi_buffer_take(&in, frame.bytes);
        }
    }
    spi_buffer_free(&in);
    return 0;
}
