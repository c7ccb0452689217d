/* hf/stream.h - JSON (RFC 8259) taken from its bytes one value after the other, without a tree.
 *
 * For what is large in a model's files: half a million strings as nodes of a tree cost many times what reading them
 * does. Nothing is allocated and nothing is copied: a string is the bytes between its quotes, escapes and all, until
 * somebody wants it decoded. Every function is safe on any bytes. The first that meets something else than JSON sets
 * `bad` and leaves `at` there; from then on all of them find nothing, so a caller may ask once, at the end.
 *
 * May include: source, base.
 */
#ifndef SPI_HF_STREAM_H
#define SPI_HF_STREAM_H

#include "source/source.h"

typedef struct spi_stream {
    const char *at, *end;
    bool fresh; /* behind an opening bracket: no comma is due */
    bool bad;
} spi_stream;

spi_stream spi_stream_of(spi_string json);

/* The byte that the next value begins with; 0: none. */
char spi_stream_peek(spi_stream *stream);

/* Enters the array ('[') or object ('{') that comes next; false, and nothing happens, if it is something else. */
bool spi_stream_open(spi_stream *stream, char bracket);
/* Whether another element or member follows; false: the bracket was closed, and is behind. */
bool spi_stream_next(spi_stream *stream, char closing);
/* The same in an object, with the member's key: its value comes next. */
bool spi_stream_member(spi_stream *stream, spi_string *key);

/* These take the value that comes next; false, and nothing is taken, if it is of another kind. A whole number is one
 * without sign, point or exponent, of at most 18 digits. */
bool spi_stream_string(spi_stream *stream, spi_string *raw);
bool spi_stream_whole(spi_stream *stream, uint64_t *number);
bool spi_stream_flag(spi_stream *stream, bool *flag);
/* Of any kind, and checked to its end. */
void spi_stream_skip(spi_stream *stream);

/* What a string says. `out` has room for raw.bytes; returns the length. Only for strings that came out of a stream. */
size_t spi_stream_decode(spi_string raw, char *out);
bool spi_stream_equal(spi_string raw, const char *text);

#endif
