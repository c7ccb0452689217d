/* tokenizer/vocab.c - the list of tokens: their texts, types and pieces, and the map from text to id.
 *
 * May include: source, base.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"
#include "tokenizer/internal.h"

/* A file could choose texts whose hashes collide, so that each lookup walks all of them: such a file is refused. Chance
 * makes no run of this length in a table that is half empty. */
#define PROBES_MAX 1024u

static uint32_t slot_of(const sp_tokenizer *tokenizer, const char *text, size_t bytes) {
    return (uint32_t)spi_hash64(text, bytes) & tokenizer->map_mask;
}

void spi_vocab_expect(const sp_tokenizer *tokenizer, const char *text, size_t bytes) {
    __builtin_prefetch(&tokenizer->map[slot_of(tokenizer, text, bytes)]);
}

int32_t spi_vocab_find(const sp_tokenizer *tokenizer, const char *text, size_t bytes) {
    uint32_t slot = slot_of(tokenizer, text, bytes);
    for (uint32_t probes = 0; probes <= PROBES_MAX && tokenizer->map[slot]; probes++) {
        uint32_t id = tokenizer->map[slot] - 1;
        spi_string other = spi_vocab_text(tokenizer, id);
        if (other.bytes == bytes && (bytes == 0 || memcmp(other.text, text, bytes) == 0)) {
            return (int32_t)id;
        }
        slot = (slot + 1) & tokenizer->map_mask;
    }
    return -1;
}

/* Puts an id whose text is not there yet. */
static sp_status map_put(sp_tokenizer *tokenizer, uint32_t id, sp_error *error) {
    spi_string text = spi_vocab_text(tokenizer, id);
    uint32_t slot = slot_of(tokenizer, text.text, text.bytes);
    for (uint32_t probes = 0; tokenizer->map[slot]; probes++) {
        if (probes == PROBES_MAX) {
            return spi_fail(error, SP_BAD_FILE, "tokenizer.ggml.tokens: too many tokens have the same hash");
        }
        slot = (slot + 1) & tokenizer->map_mask;
    }
    tokenizer->map[slot] = id + 1;
    return SP_OK;
}

/* Makes a map for as many texts as there are, and at most `more`. */
static sp_status map_build(sp_tokenizer *tokenizer, uint32_t more, sp_error *error) {
    uint32_t slots = 64;
    while (slots / 2 < tokenizer->text_count + more) {
        slots *= 2;
    }
    spi_free(tokenizer->map);
    tokenizer->map_mask = slots - 1;
    tokenizer->map = spi_alloc(slots, sizeof *tokenizer->map);
    if (!tokenizer->map) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a vocabulary of %" PRIu32 " tokens", tokenizer->vocab);
    }
    for (uint32_t id = 0; id < tokenizer->text_count; id++) {
        spi_string text = spi_vocab_text(tokenizer, id);
        if (text.bytes == 0) {
            continue; /* a hole in the vocabulary: no text becomes it */
        }
        int32_t other = spi_vocab_find(tokenizer, text.text, text.bytes);
        if (other >= 0) {
            char name[64];
            spi_string_printable(text, name, sizeof name);
            return spi_fail(error, SP_BAD_FILE,
                            "tokenizer.ggml.tokens: tokens %" PRId32 " and %" PRIu32 " are both \"%s\"", other, id,
                            name);
        }
        sp_status status = map_put(tokenizer, id, error);
        if (status) {
            return status;
        }
    }
    return SP_OK;
}

sp_status spi_vocab_intern(sp_tokenizer *tokenizer, const char *text, size_t bytes, uint32_t *id, sp_error *error) {
    int32_t known = spi_vocab_find(tokenizer, text, bytes);
    if (known >= 0) {
        *id = (uint32_t)known;
        return SP_OK;
    }
    size_t used = tokenizer->text_offsets[tokenizer->text_count], offsets = (size_t)tokenizer->text_capacity + 1;
    if (bytes > UINT32_MAX - used || tokenizer->text_count >= 2 * SPI_VOCAB_MAX) {
        return spi_fail(error, SP_BAD_FILE,
                        "tokenizer.ggml.merges: the strings that they make are too many or too long");
    }
    if (!spi_reserve((void **)&tokenizer->texts, &tokenizer->texts_capacity, used + bytes, 1) ||
        !spi_reserve((void **)&tokenizer->text_offsets, &offsets, (size_t)tokenizer->text_count + 2,
                     sizeof *tokenizer->text_offsets)) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for the merges of a vocabulary");
    }
    tokenizer->text_capacity = (uint32_t)(offsets - 1);
    memcpy(tokenizer->texts + used, text, bytes);
    *id = tokenizer->text_count++;
    tokenizer->text_offsets[tokenizer->text_count] = (uint32_t)(used + bytes);
    if (tokenizer->text_count > tokenizer->map_mask / 2) {
        return map_build(tokenizer, tokenizer->text_count, error);
    }
    return map_put(tokenizer, *id, error);
}

static sp_status read_texts(sp_tokenizer *tokenizer, spi_value_iterator all, sp_error *error) {
    uint64_t total = 0;
    spi_string text;
    for (spi_value_iterator i = all; spi_value_next(&i, &text);) {
        total += text.bytes;
    }
    if (total > UINT32_MAX / 2) {
        return spi_fail(error, SP_BAD_FILE, "tokenizer.ggml.tokens: %" PRIu64 " bytes of text are too many", total);
    }
    tokenizer->text_count = tokenizer->text_capacity = tokenizer->vocab;
    tokenizer->texts_capacity = (size_t)total;
    tokenizer->texts = spi_alloc((size_t)total, 1);
    tokenizer->text_offsets = spi_alloc((size_t)tokenizer->vocab + 1, sizeof *tokenizer->text_offsets);
    if (!tokenizer->texts || !tokenizer->text_offsets) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a vocabulary of %" PRIu32 " tokens", tokenizer->vocab);
    }
    uint32_t offset = 0, id = 0;
    for (spi_value_iterator i = all; spi_value_next(&i, &text); id++) {
        memcpy(tokenizer->texts + offset, text.text, text.bytes);
        offset += (uint32_t)text.bytes;
        tokenizer->text_offsets[id + 1] = offset;
        if (text.bytes > tokenizer->text_bytes_max) {
            tokenizer->text_bytes_max = (uint32_t)text.bytes;
        }
    }
    return SP_OK;
}

static sp_status read_types(sp_tokenizer *tokenizer, const spi_source *source, sp_error *error) {
    const spi_value *types = spi_source_find(source, "tokenizer.ggml.token_type");
    tokenizer->types = spi_alloc(tokenizer->vocab, 1);
    tokenizer->ends = spi_alloc(tokenizer->vocab, 1);
    if (!tokenizer->types || !tokenizer->ends) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a vocabulary of %" PRIu32 " tokens", tokenizer->vocab);
    }
    memset(tokenizer->types, SPI_TOKEN_NORMAL, tokenizer->vocab);
    if (!types) {
        return SP_OK;
    }
    if (types->type != SPI_VALUE_ARRAY || types->count != tokenizer->vocab) {
        return spi_fail(error, SP_BAD_FILE, "tokenizer.ggml.token_type has %" PRIu64 " elements for %" PRIu32 " tokens",
                        types->count, tokenizer->vocab);
    }
    for (uint32_t id = 0; id < tokenizer->vocab; id++) {
        int64_t type;
        if (!spi_value_array_i64(types, id, &type)) {
            return spi_fail(error, SP_BAD_FILE, "tokenizer.ggml.token_type is no array of integers");
        }
        tokenizer->types[id] = (uint8_t)(type >= 0 && type <= SPI_TOKEN_BYTE ? type : SPI_TOKEN_UNDEFINED);
    }
    return SP_OK;
}

sp_status spi_vocab_read(sp_tokenizer *tokenizer, const spi_source *source, sp_error *error) {
    spi_value_iterator all;
    if (!spi_value_strings(spi_source_find(source, "tokenizer.ggml.tokens"), &all)) {
        return spi_fail(error, SP_BAD_FILE, "tokenizer.ggml.tokens is missing or no array of strings");
    }
    if (all.left == 0 || all.left > SPI_VOCAB_MAX) {
        return spi_fail(error, SP_BAD_FILE, "tokenizer.ggml.tokens has %" PRIu64 " tokens, not 1..%u", all.left,
                        SPI_VOCAB_MAX);
    }
    tokenizer->vocab = (uint32_t)all.left;
    sp_status status = read_texts(tokenizer, all, error);
    if (!status) {
        status = read_types(tokenizer, source, error);
    }
    return status ? status : map_build(tokenizer, 0, error);
}

/* "<0x0A>" */
static bool parse_byte(spi_string text, char *byte) {
    unsigned value;
    char copy[7] = {0};
    if (text.bytes != 6 || memcmp(text.text, "<0x", 3) || text.text[5] != '>') {
        return false;
    }
    memcpy(copy, text.text + 3, 2);
    if (strspn(copy, "0123456789abcdefABCDEF") != 2 || sscanf(copy, "%x", &value) != 1) {
        return false;
    }
    *byte = (char)value;
    return true;
}

/* Replaces U+2581 by a space; returns the length. */
static size_t unescape(spi_string text, char *out) {
    size_t count = 0;
    for (size_t at = 0; at < text.bytes;) {
        if (text.bytes - at >= 3 && memcmp(text.text + at, "\xe2\x96\x81", 3) == 0) {
            out[count++] = ' ';
            at += 3;
        } else {
            out[count++] = text.text[at++];
        }
    }
    return count;
}

/* The bytes of one token; never more than its text has. */
static size_t piece_of(const sp_tokenizer *tokenizer, uint32_t id, char *out) {
    spi_string text = spi_vocab_text(tokenizer, id);
    size_t bytes = text.bytes;
    switch (tokenizer->types[id]) {
    case SPI_TOKEN_BYTE:
        if (parse_byte(text, out)) {
            return 1;
        }
        break;
    case SPI_TOKEN_CONTROL:
    case SPI_TOKEN_UNKNOWN:
    case SPI_TOKEN_USER: break; /* these are written as they are */
    default:
        if (!tokenizer->is_byte_level) {
            return unescape(text, out);
        }
        if (spi_byte_unspell(text.text, text.bytes, out, &bytes)) {
            return bytes;
        }
    }
    memcpy(out, text.text, text.bytes);
    return text.bytes;
}

sp_status spi_vocab_make_pieces(sp_tokenizer *tokenizer, sp_error *error) {
    size_t bytes = 0;
    tokenizer->pieces = spi_alloc(tokenizer->text_offsets[tokenizer->vocab], 1);
    tokenizer->piece_offsets = spi_alloc((size_t)tokenizer->vocab + 1, sizeof *tokenizer->piece_offsets);
    if (!tokenizer->pieces || !tokenizer->piece_offsets) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a vocabulary of %" PRIu32 " tokens", tokenizer->vocab);
    }
    for (uint32_t id = 0; id < tokenizer->vocab; id++) {
        bytes += piece_of(tokenizer, id, tokenizer->pieces + bytes);
        tokenizer->piece_offsets[id + 1] = (uint32_t)bytes;
    }
    return SP_OK;
}
