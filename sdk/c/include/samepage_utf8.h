/* samepage_utf8.h - showing text while it is made: holds back the beginning of a UTF-8 sequence until its end has come.
 *
 * A token may end inside of a character. Push each piece; what comes out consists of whole characters. Bytes that can
 * never become a character are let through, so that nothing is held back for ever and nothing is lost.
 */
#ifndef SAMEPAGE_UTF8_H
#define SAMEPAGE_UTF8_H

#include <stdint.h>
#include <string.h>

typedef struct sp_utf8 {
    char held[4];
    uint32_t held_bytes; /* 0 .. 3 */
} sp_utf8;

/* Length of the sequence that this byte begins, or 0 if it begins none. */
static inline uint32_t sp_utf8_length(char first) {
    unsigned char c = (unsigned char)first;
    return c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
}

/* How many of the last bytes begin a sequence that is not whole yet: 0 .. 3. */
static inline uint32_t sp_utf8_tail(const char *text, uint32_t bytes) {
    for (uint32_t back = 1; back <= 3 && back <= bytes; back++) {
        char c = text[bytes - back];
        if (((unsigned char)c & 0xc0) != 0x80) {
            return sp_utf8_length(c) > back ? back : 0;
        }
    }
    return 0;
}

/* Writes what can be shown to out, which has room for bytes + 3, and returns its length. */
static inline uint32_t sp_utf8_push(sp_utf8 *utf8, const char *piece, uint32_t bytes, char *out) {
    memcpy(out, utf8->held, utf8->held_bytes);
    memmove(out + utf8->held_bytes, piece, bytes);
    uint32_t total = utf8->held_bytes + bytes;
    utf8->held_bytes = sp_utf8_tail(out, total);
    memcpy(utf8->held, out + total - utf8->held_bytes, utf8->held_bytes);
    return total - utf8->held_bytes;
}

/* At the end: what was held back, as it is. out has room for 3 bytes. */
static inline uint32_t sp_utf8_finish(sp_utf8 *utf8, char *out) {
    uint32_t bytes = utf8->held_bytes;
    memcpy(out, utf8->held, bytes);
    utf8->held_bytes = 0;
    return bytes;
}

#endif
