/* tokenizer/char.c - BPE over characters with ranked merges, as tokenizer.json has SentencePiece's models.
 *
 * Spaces become U+2581 where the file says so. Symbols are tokens of one character each; a character that is none
 * becomes its bytes "<0xE2>", if all of them are tokens, else the unknown token, of which neighbours may be one. Then
 * the pair that comes first in the list of merges is merged, the leftmost of equals, until none is left
 * (github.com/huggingface/tokenizers, tokenizers/src/models/bpe/model.rs). May include: base.
 */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "tokenizer/internal.h"

static const char escaped[] = "\xe2\x96\x81";

void spi_char_read(sp_tokenizer *tokenizer) {
    for (unsigned byte = 0; byte < 256; byte++) {
        static const char digits[] = "0123456789ABCDEF";
        char text[6] = {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'};
        int32_t id = spi_vocab_find(tokenizer, text, 6);
        tokenizer->byte_ids[byte] = id >= 0 && (uint32_t)id < tokenizer->vocab ? id : -1;
    }
}

static sp_status add_symbol(spi_work *work, size_t *count, int32_t id) {
    if (!SPI_RESERVE(work->symbols, *count, work->symbol_capacity)) {
        return spi_fail(work->error, SP_NO_MEMORY, "no memory to tokenize a text");
    }
    if (*count) {
        work->symbols[*count - 1].next = (int32_t)*count;
    }
    work->symbols[*count] = (spi_symbol){.id = id, .prev = (int32_t)*count - 1, .next = -1};
    ++*count;
    return SP_OK;
}

static bool bytes_are_tokens(const sp_tokenizer *tokenizer, const char *text, size_t bytes) {
    bool are = tokenizer->byte_fallback;
    for (size_t i = 0; i < bytes; i++) {
        are &= tokenizer->byte_ids[(unsigned char)text[i]] >= 0;
    }
    return are;
}

/* One character, or a byte of an invalid sequence. *was_unknown goes from one to the next. */
static sp_status add_character(spi_work *work, const char *text, size_t bytes, size_t *count, bool *was_unknown) {
    const sp_tokenizer *tokenizer = work->tokenizer;
    int32_t id = spi_vocab_find(tokenizer, text, bytes);
    bool fused = *was_unknown && tokenizer->fuses_unknown;
    *was_unknown = false;
    if (id >= 0 && (uint32_t)id < tokenizer->vocab) {
        return add_symbol(work, count, id);
    }
    sp_status status = SP_OK;
    if (bytes_are_tokens(tokenizer, text, bytes)) {
        for (size_t i = 0; i < bytes && !status; i++) {
            status = add_symbol(work, count, tokenizer->byte_ids[(unsigned char)text[i]]);
        }
        return status;
    }
    *was_unknown = tokenizer->unknown >= 0;
    return *was_unknown && !fused ? add_symbol(work, count, tokenizer->unknown) : SP_OK;
}

static bool take_whole(spi_work *work, const char *word, size_t bytes) {
    const sp_tokenizer *tokenizer = work->tokenizer;
    int32_t id = bytes <= tokenizer->text_bytes_max ? spi_vocab_find(tokenizer, word, bytes) : -1;
    if (id < 0 || (uint32_t)id >= tokenizer->vocab || tokenizer->types[id] == SPI_TOKEN_CONTROL) {
        return false;
    }
    spi_tokens_put(work->out, id);
    return true;
}

static sp_status encode_word(spi_work *work, const char *word, size_t bytes) {
    size_t count = 0;
    bool was_unknown = false;
    sp_status status = SP_OK;
    if (work->tokenizer->ignore_merges && take_whole(work, word, bytes)) {
        return SP_OK;
    }
    for (size_t at = 0; at < bytes && !status;) {
        size_t length = spi_utf8_length(word + at, bytes - at);
        length = length ? length : 1;
        status = add_character(work, word + at, length, &count, &was_unknown);
        at += length;
    }
    status = status ? status : spi_bpe_merge(work, count);
    for (int32_t at = count ? 0 : -1; at >= 0 && !status; at = work->symbols[at].next) {
        int32_t id = work->symbols[at].id;
        if ((uint32_t)id < work->tokenizer->vocab) { /* a file's merges make tokens only, or it was not made for this */
            spi_tokens_put(work->out, id);
        }
    }
    return status;
}

/* Each U+2581 begins a word. */
static size_t word_bytes(const char *text, size_t bytes) {
    for (size_t at = 1; at + 3 <= bytes; at++) {
        if (!memcmp(text + at, escaped, 3)) {
            return at;
        }
    }
    return bytes;
}

sp_status spi_char_encode(spi_work *work, const char *text, size_t bytes, bool space_prefix) {
    const sp_tokenizer *tokenizer = work->tokenizer;
    size_t count = bytes;
    sp_status status = SP_OK;
    bool there = text[0] == ' ' || (bytes >= 3 && !memcmp(text, escaped, 3));
    if (tokenizer->escapes_spaces) {
        status = spi_spm_escape(work, text, bytes, space_prefix && !(there && tokenizer->prefix_unless_there), &count);
        text = work->text;
    }
    if (!tokenizer->splits_words) {
        return status ? status : encode_word(work, text, count);
    }
    for (size_t at = 0, length; at < count && !status; at += length) {
        length = word_bytes(text + at, count - at);
        status = encode_word(work, text + at, length);
    }
    return status;
}
