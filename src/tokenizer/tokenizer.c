/* tokenizer/tokenizer.c - making a tokenizer from a file, and what callers ask of it. See the two tokenizer.h.
 *
 * May include: source, base.
 */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "tokenizer/internal.h"

static bool equals(spi_string string, const char *text) {
    return string.bytes == strlen(text) && memcmp(string.text, text, string.bytes) == 0;
}

/* Which family, and what is the default where the file does not say. */
static sp_status read_family(sp_tokenizer *tokenizer, const spi_source *source, sp_error *error) {
    spi_string model, pre;
    const spi_value *prefix = spi_source_find(source, "tokenizer.ggml.add_space_prefix");
    if (!spi_value_as_string(spi_source_find(source, "tokenizer.ggml.model"), &model)) {
        return spi_fail(error, SP_UNSUPPORTED, "the file has no tokenizer (tokenizer.ggml.model)");
    }
    tokenizer->bos = tokenizer->eos = tokenizer->unknown = -1;
    if (equals(model, "llama")) {
        tokenizer->add_bos = tokenizer->add_space_prefix = true;
        if (prefix && !spi_value_as_bool(prefix, &tokenizer->add_space_prefix)) {
            return spi_fail(error, SP_BAD_FILE, "tokenizer.ggml.add_space_prefix is no bool");
        }
        spi_string architecture;
        tokenizer->strips_right = spi_value_as_string(spi_source_find(source, "general.architecture"), &architecture) &&
                                  equals(architecture, "phi3");
        return SP_OK;
    }
    if (!equals(model, "gpt2")) {
        char shown[64];
        spi_string_printable(model, shown, sizeof shown);
        return spi_fail(error, SP_UNSUPPORTED,
                        "tokenizers of the family \"%s\" (tokenizer.ggml.model) are not supported, only gpt2 and llama",
                        shown);
    }
    const spi_value *named = spi_source_find(source, "tokenizer.ggml.pre");
    pre = (spi_string){.text = "default", .bytes = 7};
    if (named && !spi_value_as_string(named, &pre)) {
        return spi_fail(error, SP_BAD_FILE, "tokenizer.ggml.pre is no string");
    }
    tokenizer->is_byte_level = true;
    return spi_pre_create(pre.text, pre.bytes, &tokenizer->pre, &tokenizer->ignore_merges, &tokenizer->add_bos, error);
}

/* SentencePiece's own numbers, where the file gives none and they are there. */
static void default_ids(sp_tokenizer *tokenizer) {
    if (!tokenizer->is_byte_level) {
        tokenizer->unknown = 0;
        tokenizer->bos = tokenizer->vocab > 1 ? 1 : -1;
        tokenizer->eos = tokenizer->vocab > 2 ? 2 : -1;
    }
}

sp_status spi_tokenizer_create(const spi_source *source, sp_tokenizer **tokenizer, sp_error *error) {
    *tokenizer = NULL;
    sp_tokenizer *made = spi_alloc(1, sizeof *made);
    if (!made) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a tokenizer");
    }
    sp_status status = read_family(made, source, error);
    if (!status) {
        status = spi_vocab_read(made, source, error);
    }
    if (!status) {
        default_ids(made);
        status = spi_special_read(made, source, error);
    }
    if (!status) {
        status = made->is_byte_level ? spi_bpe_read(made, source, error) : spi_spm_read(made, source, error);
    }
    if (!status) {
        status = spi_special_index(made, error);
    }
    if (!status) {
        status = spi_vocab_make_pieces(made, error);
    }
    if (status) {
        spi_tokenizer_destroy(made);
        return status;
    }
    *tokenizer = made;
    return SP_OK;
}

void spi_tokenizer_destroy(sp_tokenizer *tokenizer) {
    if (!tokenizer) {
        return;
    }
    spi_free(tokenizer->texts);
    spi_free(tokenizer->text_offsets);
    spi_free(tokenizer->map);
    spi_free(tokenizer->pieces);
    spi_free(tokenizer->piece_offsets);
    spi_free(tokenizer->types);
    spi_free(tokenizer->ends);
    spi_free(tokenizer->scores);
    spi_free(tokenizer->merges);
    spi_free(tokenizer->specials);
    spi_pre_destroy(tokenizer->pre);
    spi_free(tokenizer);
}

static sp_status encode_text(spi_work *work, const char *text, size_t bytes, bool after_special) {
    if (bytes == 0) {
        return SP_OK;
    }
    return work->tokenizer->is_byte_level
               ? spi_bpe_encode(work, text, bytes)
               : spi_spm_encode(work, text, bytes, work->tokenizer->add_space_prefix && after_special);
}

/* Special tokens part the text first: the leftmost, and of those that begin there the longest. */
static sp_status encode_all(spi_work *work, const char *text, size_t bytes, bool parse_special) {
    const sp_tokenizer *tokenizer = work->tokenizer;
    size_t done = 0;
    bool after_special = true;
    for (size_t at = 0; at < bytes;) {
        size_t length = 0;
        int32_t id = spi_special_match(tokenizer, text + at, bytes - at, parse_special, &length);
        if (id < 0) {
            at++;
            continue;
        }
        sp_status status = encode_text(work, text + done, at - done, after_special);
        if (status) {
            return status;
        }
        spi_tokens_put(work->out, id);
        after_special = true;
        at += length;
        at += spi_special_strip(tokenizer, id, text + at, bytes - at);
        done = at;
    }
    return encode_text(work, text + done, bytes - done, after_special);
}

sp_status sp_tokenizer_encode(const sp_tokenizer *tokenizer, const char *text, size_t text_bytes, uint32_t flags,
                              int32_t *tokens, size_t capacity, size_t *count, sp_error *error) {
    spi_tokens out = {.ids = tokens, .capacity = capacity};
    spi_work work = {.tokenizer = tokenizer, .out = &out, .error = error};
    *count = 0;
    if (flags & ~(SP_ENCODE_SPECIAL | SP_ENCODE_PARSE_SPECIAL)) {
        return spi_fail(error, SP_INVALID, "encode has no flags 0x%" PRIx32, flags);
    }
    if (text_bytes > SPI_TEXT_BYTES_MAX) {
        return spi_fail(error, SP_LIMIT, "a text of %zu bytes is more than the %zu that are tokenized at once",
                        text_bytes, SPI_TEXT_BYTES_MAX);
    }
    if ((flags & SP_ENCODE_SPECIAL) && tokenizer->add_bos && tokenizer->bos >= 0) {
        spi_tokens_put(&out, tokenizer->bos);
    }
    sp_status status = encode_all(&work, text, text_bytes, flags & SP_ENCODE_PARSE_SPECIAL);
    if ((flags & SP_ENCODE_SPECIAL) && tokenizer->add_eos && tokenizer->eos >= 0) {
        spi_tokens_put(&out, tokenizer->eos);
    }
    spi_free(work.symbols);
    spi_free(work.heap);
    spi_free(work.text);
    spi_pre_done(work.match);
    if (status) {
        return status;
    }
    *count = out.count;
    if (out.count > capacity) {
        return spi_fail(error, SP_BUFFER_TOO_SMALL, "the text has %zu tokens, there is room for %zu", out.count,
                        capacity);
    }
    return SP_OK;
}

sp_status sp_tokenizer_decode(const sp_tokenizer *tokenizer, const int32_t *tokens, size_t count, uint32_t flags,
                              char *text, size_t capacity, size_t *bytes, sp_error *error) {
    size_t total = 0;
    *bytes = 0;
    if (flags & ~SP_DECODE_SPECIAL) {
        return spi_fail(error, SP_INVALID, "decode has no flags 0x%" PRIx32, flags);
    }
    for (size_t i = 0; i < count; i++) {
        int32_t id = tokens[i]; /* read once: it may lie in a guest's memory */
        if (id < 0 || (uint32_t)id >= tokenizer->vocab) {
            return spi_fail(error, SP_INVALID, "token %" PRId32 " at %zu is not in the vocabulary of %" PRIu32, id, i,
                            tokenizer->vocab);
        }
        uint8_t type = tokenizer->types[id];
        if (!(flags & SP_DECODE_SPECIAL) && (type == SPI_TOKEN_CONTROL || type == SPI_TOKEN_UNKNOWN)) {
            continue;
        }
        uint32_t offset = tokenizer->piece_offsets[id];
        size_t length = tokenizer->piece_offsets[id + 1] - offset;
        if (total <= capacity && length <= capacity - total && length) {
            memcpy(text + total, tokenizer->pieces + offset, length);
        }
        total += length;
    }
    *bytes = total;
    if (total > capacity) {
        return spi_fail(error, SP_BUFFER_TOO_SMALL, "the tokens have %zu bytes, there is room for %zu", total,
                        capacity);
    }
    return SP_OK;
}

uint32_t sp_tokenizer_vocab(const sp_tokenizer *tokenizer) {
    return tokenizer->vocab;
}

int32_t sp_tokenizer_bos(const sp_tokenizer *tokenizer) {
    return tokenizer->bos;
}

int32_t sp_tokenizer_eos(const sp_tokenizer *tokenizer) {
    return tokenizer->eos;
}

bool sp_tokenizer_is_end(const sp_tokenizer *tokenizer, int32_t token) {
    return token >= 0 && (uint32_t)token < tokenizer->vocab && tokenizer->ends[token];
}

int32_t sp_tokenizer_find(const sp_tokenizer *tokenizer, const char *text, size_t text_bytes) {
    int32_t id = spi_vocab_find(tokenizer, text, text_bytes);
    return id >= 0 && (uint32_t)id < tokenizer->vocab ? id : -1;
}
