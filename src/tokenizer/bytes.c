/* tokenizer/bytes.c - GPT-2's spelling of bytes as printable characters, and UTF-8.
 *
 * GPT-2 (github.com/openai/gpt-2, src/encoder.py, bytes_to_unicode) writes vocabularies with a printable character for
 * each byte: "!".."~", U+00A1..U+00AC and U+00AE..U+00FF stand for themselves, the 68 others are U+0100 and on.
 * May include: base.
 */
#include "tokenizer/internal.h"

size_t spi_byte_spell(unsigned char byte, char out[2]) {
    unsigned code = byte;
    if (byte <= 0x20) {
        code = 256u + byte;
    } else if (byte >= 0x7f && byte <= 0xa0) {
        code = 256u + 33u + (byte - 0x7fu);
    } else if (byte == 0xad) {
        code = 256u + 67u;
    }
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    out[0] = (char)(0xc0u | code >> 6);
    out[1] = (char)(0x80u | (code & 0x3fu));
    return 2;
}

static int unspell(unsigned code) {
    if (code >= 256 && code <= 256 + 32) {
        return (int)code - 256;
    }
    if (code >= 256 + 33 && code <= 256 + 66) {
        return (int)code - 256 - 33 + 0x7f;
    }
    if (code == 256 + 67) {
        return 0xad;
    }
    bool printable = (code >= 0x21 && code <= 0x7e) || (code >= 0xa1 && code <= 0xff && code != 0xad);
    return printable ? (int)code : -1;
}

bool spi_byte_unspell(const char *text, size_t bytes, char *out, size_t *out_bytes) {
    size_t count = 0;
    for (size_t at = 0; at < bytes;) {
        size_t length = spi_utf8_length(text + at, bytes - at);
        unsigned first = (unsigned char)text[at];
        if (length < 1 || length > 2) {
            return false;
        }
        unsigned code = length == 1 ? first : (first & 0x1fu) << 6 | ((unsigned char)text[at + 1] & 0x3fu);
        int byte = unspell(code);
        if (byte < 0) {
            return false;
        }
        out[count++] = (char)byte;
        at += length;
    }
    *out_bytes = count;
    return true;
}

static bool follows(const char *text, size_t at) {
    return ((unsigned char)text[at] & 0xc0u) == 0x80;
}

/* RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
size_t spi_utf8_length(const char *text, size_t left) {
    if (left == 0) {
        return 0;
    }
    unsigned first = (unsigned char)text[0];
    if (first < 0x80) {
        return 1;
    }
    if (first < 0xc2 || first > 0xf4) {
        return 0;
    }
    size_t length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (left < length) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if (!follows(text, i)) {
            return 0;
        }
    }
    unsigned second = (unsigned char)text[1];
    bool bad = (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
               (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f);
    return bad ? 0 : length;
}
