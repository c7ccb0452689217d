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

static sp_status read_flag(const spi_source *source, const char *key, bool *flag, sp_error *error) {
    const spi_value *value = spi_source_find(source, key);
    return value && !spi_value_as_bool(value, flag) ? spi_fail(error, SP_BAD_FILE, "%s is no bool", key) : SP_OK;
}

/* What tokenizer.json says by itself: internal.h. */
static sp_status read_declared(sp_tokenizer *tokenizer, const spi_source *source, sp_error *error) {
    spi_string prefix = {0};
    sp_status status = read_flag(source, "tokenizer.ignore_merges", &tokenizer->ignore_merges, error);
    status = status ? status : read_flag(source, "tokenizer.composes", &tokenizer->composes, error);
    status = status ? status : read_flag(source, "tokenizer.escapes_spaces", &tokenizer->escapes_spaces, error);
    status = status ? status : read_flag(source, "tokenizer.splits_words", &tokenizer->splits_words, error);
    status = status ? status : read_flag(source, "tokenizer.byte_fallback", &tokenizer->byte_fallback, error);
    status = status ? status : read_flag(source, "tokenizer.fuses_unknown", &tokenizer->fuses_unknown, error);
    if (spi_value_as_string(spi_source_find(source, "tokenizer.space_prefix"), &prefix)) {
        tokenizer->space_prefix = equals(prefix, "first-unless-there") ? SPI_PREFIX_FIRST : SPI_PREFIX_ALWAYS;
        tokenizer->prefix_unless_there = !equals(prefix, "always");
    }
    tokenizer->is_declared = true;
    return status;
}

static sp_status read_sentencepiece(sp_tokenizer *tokenizer, const spi_source *source, sp_error *error) {
    bool prefix = true;
    spi_string architecture;
    sp_status status = read_flag(source, "tokenizer.ggml.add_space_prefix", &prefix, error);
    tokenizer->add_bos = true;
    tokenizer->space_prefix = prefix ? SPI_PREFIX_ALWAYS : SPI_PREFIX_NONE;
    tokenizer->strips_right = spi_value_as_string(spi_source_find(source, "general.architecture"), &architecture) &&
                              equals(architecture, "phi3");
    return status;
}

static sp_status read_byte_level(sp_tokenizer *tokenizer, const spi_source *source, sp_error *error) {
    spi_value_iterator expressions;
    const spi_value *named = spi_source_find(source, "tokenizer.ggml.pre");
    spi_string pre = {.text = "default", .bytes = 7};
    tokenizer->is_byte_level = true;
    if (spi_value_strings(spi_source_find(source, "tokenizer.expressions"), &expressions)) {
        sp_status status = read_declared(tokenizer, source, error);
        return status ? status : spi_pre_create_of(expressions, &tokenizer->pre, error);
    }
    if (named && !spi_value_as_string(named, &pre)) {
        return spi_fail(error, SP_BAD_FILE, "tokenizer.ggml.pre is no string");
    }
    return spi_pre_create(pre.text, pre.bytes, &tokenizer->pre, &tokenizer->ignore_merges, &tokenizer->add_bos, error);
}

/* Which family, and what is the default where the file does not say. */
static sp_status read_family(sp_tokenizer *tokenizer, const spi_source *source, sp_error *error) {
    spi_string model;
    if (!spi_value_as_string(spi_source_find(source, "tokenizer.ggml.model"), &model)) {
        return spi_fail(error, SP_UNSUPPORTED, "the file has no tokenizer (tokenizer.ggml.model)");
    }
    tokenizer->bos = tokenizer->eos = tokenizer->unknown = -1;
    if (equals(model, "llama")) {
        return read_sentencepiece(tokenizer, source, error);
    }
    if (equals(model, "characters")) {
        tokenizer->is_character_level = true;
        return read_declared(tokenizer, source, error);
    }
    if (equals(model, "gpt2")) {
        return read_byte_level(tokenizer, source, error);
    }
    char shown[64];
    spi_string_printable(model, shown, sizeof shown);
    return spi_fail(error, SP_UNSUPPORTED,
                    "tokenizers of the family \"%s\" (tokenizer.ggml.model) are not supported, only gpt2 and llama",
                    shown);
}

/* SentencePiece's own numbers, where the file gives none and they are there. */
static void default_ids(sp_tokenizer *tokenizer) {
    if (!tokenizer->is_byte_level && !tokenizer->is_declared) {
        tokenizer->unknown = 0;
        tokenizer->bos = tokenizer->vocab > 1 ? 1 : -1;
        tokenizer->eos = tokenizer->vocab > 2 ? 2 : -1;
    }
}

sp_status spi_tokenizer_create(const spi_source *source, sp_tokenizer **tokenizer, sp_error *error) {
    *tokenizer = NULL;
    if (source->tokenizer_error.status) {
        return spi_fail(error, source->tokenizer_error.status, "%s", source->tokenizer_error.message);
    }
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
        bool merges = made->is_byte_level || made->is_character_level;
        status = merges ? spi_bpe_read(made, source, error) : spi_spm_read(made, source, error);
    }
    if (!status && made->is_character_level) {
        spi_char_read(made);
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
    spi_free(tokenizer->strips);
    spi_free(tokenizer->scores);
    spi_free(tokenizer->merges);
    spi_free(tokenizer->specials);
    spi_pre_destroy(tokenizer->pre);
    spi_free(tokenizer);
}

/* Text between special tokens; is_first: with nothing before it. */
static sp_status encode_text(spi_work *work, const char *text, size_t bytes, bool is_first) {
    const sp_tokenizer *tokenizer = work->tokenizer;
    sp_status status = SP_OK;
    if (bytes == 0) {
        return SP_OK;
    }
    if (tokenizer->composes) {
        status = spi_compose_text(work, text, bytes, &text, &bytes);
    }
    if (status || tokenizer->is_byte_level) {
        return status ? status : spi_bpe_encode(work, text, bytes);
    }
    bool prefix =
        tokenizer->space_prefix == SPI_PREFIX_ALWAYS || (tokenizer->space_prefix == SPI_PREFIX_FIRST && is_first);
    return tokenizer->is_character_level ? spi_char_encode(work, text, bytes, prefix)
                                         : spi_spm_encode(work, text, bytes, prefix);
}

/* Special tokens part the text first: the leftmost, and of those that begin there the longest. */
static sp_status encode_all(spi_work *work, const char *text, size_t bytes, bool parse_special) {
    const sp_tokenizer *tokenizer = work->tokenizer;
    size_t done = 0;
    for (size_t at = 0; at < bytes;) {
        size_t length = 0;
        int32_t id = spi_special_match(tokenizer, text + at, bytes - at, parse_special, &length);
        if (id < 0) {
            at++;
            continue;
        }
        size_t before = at - done - spi_special_strip_left(tokenizer, id, text + done, at - done);
        sp_status status = encode_text(work, text + done, before, done == 0);
        if (status) {
            return status;
        }
        spi_tokens_put(work->out, id);
        at += length;
        at += spi_special_strip(tokenizer, id, text + at, bytes - at);
        done = at;
    }
    return encode_text(work, text + done, bytes - done, done == 0);
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
    spi_free(work.composed);
    spi_free(work.points);
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
