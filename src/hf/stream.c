/* hf/stream.c - see stream.h. */
#include "hf/stream.h"

#include <string.h>
#include <utf8proc.h>

#define DEPTH_MAX    200u /* of brackets in each other: more than anybody writes, and little of the stack */
#define WHOLE_DIGITS 18   /* fit into 64 bits */

spi_stream spi_stream_of(spi_string json) {
    spi_stream stream = {.at = json.text, .end = json.bytes ? json.text + json.bytes : json.text};
    if (json.bytes >= 3 && !memcmp(json.text, "\xef\xbb\xbf", 3)) {
        stream.at += 3;
    }
    return stream;
}

static bool spoil(spi_stream *stream) {
    stream->bad = true;
    return false;
}

char spi_stream_peek(spi_stream *stream) {
    const char *at = stream->at;
    while (at < stream->end && (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r')) {
        at++;
    }
    stream->at = at;
    return at < stream->end && !stream->bad ? *at : 0;
}

static bool take(spi_stream *stream, char byte) {
    bool is = spi_stream_peek(stream) == byte;
    if (is) { /* of nothing there is no pointer to move */
        stream->at++;
    }
    return is;
}

bool spi_stream_open(spi_stream *stream, char bracket) {
    stream->fresh = take(stream, bracket);
    return stream->fresh;
}

bool spi_stream_next(spi_stream *stream, char closing) {
    bool fresh = stream->fresh;
    stream->fresh = false;
    if (take(stream, closing)) {
        return false;
    }
    return !stream->bad && (fresh || take(stream, ',') || spoil(stream));
}

bool spi_stream_member(spi_stream *stream, spi_string *key) {
    return spi_stream_next(stream, '}') && ((spi_stream_string(stream, key) && take(stream, ':')) || spoil(stream));
}

/* ---- strings ---- */

static bool hex4(const char *at, const char *end, unsigned *out) {
    unsigned value = 0;
    if (end - at < 4) {
        return false;
    }
    for (int i = 0; i < 4; i++) {
        unsigned char digit = (unsigned char)at[i], letter = digit | 0x20;
        bool is_letter = letter >= 'a' && letter <= 'f';
        if (!is_letter && (digit < '0' || digit > '9')) {
            return false;
        }
        value = value << 4 | (is_letter ? letter - 'a' + 10u : digit - '0' + 0u);
    }
    *out = value;
    return true;
}

/* The character that an escape at `at` (its backslash) stands for. Returns the escape's length; 0: it is none. */
static size_t escape(const char *at, const char *end, unsigned *character) {
    static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    unsigned low;
    if (end - at < 2) {
        return 0;
    }
    const char *name = at[1] ? strchr(names, at[1]) : NULL;
    if (name) {
        *character = (unsigned char)meant[name - names];
        return 2;
    }
    if (at[1] != 'u' || !hex4(at + 2, end, character)) {
        return 0;
    }
    if (*character < 0xd800 || *character > 0xdfff) {
        return 6;
    }
    /* Half of a pair, of which the other must follow: RFC 8259, 7 */
    if (*character > 0xdbff || end - at < 12 || at[6] != '\\' || at[7] != 'u' || !hex4(at + 8, end, &low) ||
        low < 0xdc00 || low > 0xdfff) {
        return 0;
    }
    *character = 0x10000 + ((*character & 0x3ff) << 10 | (low & 0x3ff));
    return 12;
}

bool spi_stream_string(spi_stream *stream, spi_string *raw) {
    unsigned character;
    if (!take(stream, '"')) {
        return false;
    }
    const char *at = stream->at, *end = stream->end;
    while (at < end && *at != '"') {
        size_t bytes = *at == '\\' ? escape(at, end, &character) : 1;
        if (!bytes) {
            stream->at = at;
            return spoil(stream);
        }
        at += bytes;
    }
    *raw = (spi_string){stream->at, (size_t)(at - stream->at)};
    stream->at = at;
    if (at == end) {
        return spoil(stream);
    }
    stream->at++;
    return true;
}

/* Decodes what begins at *at, which is moved behind it: a byte, or an escape. */
static size_t decode_one(const char **at, const char *end, char out[4]) {
    unsigned character = '?';
    if (**at != '\\') {
        out[0] = *(*at)++;
        return 1;
    }
    size_t bytes = escape(*at, end, &character);
    *at += bytes ? bytes : 1;
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)character,
                                        (utf8proc_uint8_t *)out); /* less than its escape */
}

size_t spi_stream_decode(spi_string raw, char *out) {
    const char *at = raw.text, *end = raw.text + raw.bytes;
    size_t count = 0;
    char part[4];
    while (at < end) {
        size_t bytes = decode_one(&at, end, part);
        memcpy(out + count, part, bytes);
        count += bytes;
    }
    return count;
}

bool spi_stream_equal(spi_string raw, const char *text) {
    const char *at = raw.text, *end = raw.text + raw.bytes;
    size_t left = strlen(text);
    char part[4];
    while (at < end) {
        size_t bytes = decode_one(&at, end, part);
        if (bytes > left || memcmp(part, text, bytes) != 0) {
            return false;
        }
        text += bytes;
        left -= bytes;
    }
    return left == 0;
}

/* ---- numbers and words ---- */

static const char *digits(const char *at, const char *end) {
    while (at < end && *at >= '0' && *at <= '9') {
        at++;
    }
    return at;
}

/* The end of the number that `at` begins; NULL: it begins none. */
static const char *number_end(const char *at, const char *end) {
    const char *part = at + (at < end && *at == '-'), *behind = digits(part, end);
    if (behind > part && behind < end && *behind == '.') {
        part = behind + 1;
        behind = digits(part, end);
    }
    if (behind > part && behind < end && (*behind == 'e' || *behind == 'E')) {
        part = behind + 1;
        part += part < end && (*part == '+' || *part == '-');
        behind = digits(part, end);
    }
    return behind == part ? NULL : behind;
}

static bool number(spi_stream *stream) {
    char first = spi_stream_peek(stream);
    const char *end = number_end(stream->at, stream->end);
    if (first != '-' && (first < '0' || first > '9')) {
        return false;
    }
    stream->at = end ? end : stream->at;
    return end || spoil(stream);
}

bool spi_stream_whole(spi_stream *stream, uint64_t *out) {
    uint64_t value = 0;
    spi_stream_peek(stream);
    const char *at = stream->at, *end = digits(at, stream->end);
    if (stream->bad || end == at || end - at > WHOLE_DIGITS || number_end(at, stream->end) != end) {
        return false;
    }
    for (; at < end; at++) {
        value = value * 10 + (uint64_t)(*at - '0');
    }
    stream->at = end;
    *out = value;
    return true;
}

static bool word(spi_stream *stream, const char *text) {
    size_t bytes = strlen(text);
    bool is = (size_t)(stream->end - stream->at) >= bytes && !memcmp(stream->at, text, bytes);
    stream->at += is ? bytes : 0;
    return is;
}

bool spi_stream_flag(spi_stream *stream, bool *flag) {
    char first = spi_stream_peek(stream);
    if (first != 't' && first != 'f') {
        return false;
    }
    *flag = first == 't';
    return word(stream, *flag ? "true" : "false") || spoil(stream);
}

static void skip(spi_stream *stream, unsigned depth) {
    char first = spi_stream_peek(stream);
    spi_string string;
    bool flag;
    if ((first == '{' || first == '[') && depth < DEPTH_MAX) {
        spi_stream_open(stream, first);
        while (first == '{' ? spi_stream_member(stream, &string) : spi_stream_next(stream, ']')) {
            skip(stream, depth + 1);
        }
    } else if (first == 'n'
                   ? !word(stream, "null")
                   : !spi_stream_string(stream, &string) && !spi_stream_flag(stream, &flag) && !number(stream)) {
        spoil(stream);
    }
}

void spi_stream_skip(spi_stream *stream) {
    skip(stream, 0);
}
