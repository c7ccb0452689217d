/* tokenizer/special.c - tokens with a meaning of their own: beginning, end, and those that are found in raw text.
 *
 * May include: source, base.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "tokenizer/internal.h"

/* Tokens after which generation ends, by what the usual chat formats call them. */
static const char *const end_texts[] = {
    "<|eot_id|>",            /* Llama 3 */
    "<|eom_id|>",            /* Llama 3, before a tool's answer */
    "<|end_of_text|>",       /* Llama 3, Granite */
    "<|im_end|>",            /* ChatML: Qwen, SmolLM, ... */
    "<|endoftext|>",         /* GPT-2 and after */
    "<end_of_turn>",         /* Gemma */
    "<eos>",                 /* Gemma */
    "<|end|>",               /* Phi */
    "<|return|>",            /* o200k_harmony */
    "<|call|>",              /* o200k_harmony */
    "<|calls|>",             /* Solar */
    "<|flush|>",             /* Solar */
    "<EOT>",                 /* CodeLlama */
    "_<EOT>",                /* */
    "[EOT]",                 /* Kimi */
    "[EOS]",                 /* Kimi */
    "<end_of_utterance>",    /* SmolVLM */
    "<｜end▁of▁sentence｜>", /* DeepSeek */
    "<|fim_pad|>",           /* Qwen: what ends an infill */
    "<fim_pad>",             /* Granite */
    "<fim-pad>",             /* */
    "<|repo_name|>",         /* Qwen */
    "<|fim_repo|>",          /* */
    "<fim-repo>",            /* */
    "<reponame>",            /* Granite */
    "<|file_sep|>",          /* Qwen */
};

/* Keys of ids after which generation ends as well. */
static const char *const end_keys[] = {
    "tokenizer.ggml.eos_token_id",     "tokenizer.ggml.eot_token_id",     "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.fim_pad_token_id", "tokenizer.ggml.fim_rep_token_id", "tokenizer.ggml.fim_sep_token_id",
};

/* *id stays as it is where there is no such key; -1, also as 2^32 - 1, is none. */
static sp_status read_id(const sp_tokenizer *tokenizer, const spi_source *source, const char *key, int32_t *id,
                         sp_error *error) {
    const spi_value *value = spi_source_find(source, key);
    int64_t number;
    if (!value) {
        return SP_OK;
    }
    if (!spi_value_as_i64(value, &number)) {
        return spi_fail(error, SP_BAD_FILE, "%s is no integer", key);
    }
    if (number == -1 || number == UINT32_MAX) {
        *id = -1;
        return SP_OK;
    }
    if (number < 0 || number >= tokenizer->vocab) {
        return spi_fail(error, SP_BAD_FILE, "%s is %" PRId64 ", but there are %" PRIu32 " tokens", key, number,
                        tokenizer->vocab);
    }
    *id = (int32_t)number;
    return SP_OK;
}

static sp_status read_flag(const spi_source *source, const char *key, bool *flag, sp_error *error) {
    const spi_value *value = spi_source_find(source, key);
    if (value && !spi_value_as_bool(value, flag)) {
        return spi_fail(error, SP_BAD_FILE, "%s is no bool", key);
    }
    return SP_OK;
}

static int32_t find_token(const sp_tokenizer *tokenizer, const char *text) {
    int32_t id = spi_vocab_find(tokenizer, text, strlen(text));
    return id >= 0 && (uint32_t)id < tokenizer->vocab ? id : -1;
}

/* "</s>" is SentencePiece's end, and HTML too: Gemma and Qwen have a plain token for the latter. */
static void mark_plain_end(sp_tokenizer *tokenizer) {
    int32_t id = find_token(tokenizer, "</s>");
    if (id >= 0 && tokenizer->types[id] != SPI_TOKEN_NORMAL) {
        tokenizer->ends[id] = 1;
        tokenizer->types[id] = SPI_TOKEN_CONTROL;
    }
}

static void mark_ends(sp_tokenizer *tokenizer) {
    mark_plain_end(tokenizer);
    for (size_t i = 0; i < sizeof end_texts / sizeof end_texts[0]; i++) {
        int32_t id = find_token(tokenizer, end_texts[i]);
        /* Where a file tells special tokens from others, others are text, whatever they are called. */
        if (id >= 0 && (!tokenizer->is_declared || tokenizer->types[id] == SPI_TOKEN_CONTROL)) {
            /* Some files call these normal: then text could hold them without being asked to. */
            tokenizer->ends[id] = 1;
            tokenizer->types[id] = SPI_TOKEN_CONTROL;
        }
    }
    /* Where an answer has several messages, "<|end|>" ends one of them and the model goes on. */
    int32_t end = find_token(tokenizer, "<|end|>");
    bool harmony = find_token(tokenizer, "<|return|>") >= 0 && find_token(tokenizer, "<|call|>") >= 0;
    bool solar = find_token(tokenizer, "<|calls|>") >= 0 && find_token(tokenizer, "<|flush|>") >= 0;
    if (end >= 0 && (harmony || solar)) {
        tokenizer->ends[end] = 0;
    }
}

static sp_status read_strips(sp_tokenizer *tokenizer, const spi_value *value, sp_error *error) {
    int64_t number;
    if (!value) {
        return SP_OK;
    }
    tokenizer->strips = spi_alloc(tokenizer->vocab, 1);
    if (!tokenizer->strips) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a vocabulary of %" PRIu32 " tokens", tokenizer->vocab);
    }
    for (uint32_t id = 0; id < tokenizer->vocab && spi_value_array_i64(value, id, &number); id++) {
        tokenizer->strips[id] = (uint8_t)(number & 3);
    }
    return SP_OK;
}

sp_status spi_special_read(sp_tokenizer *tokenizer, const spi_source *source, sp_error *error) {
    static const char bos_key[] = "tokenizer.ggml.bos_token_id", eos_key[] = "tokenizer.ggml.eos_token_id";
    static const char bos_flag[] = "tokenizer.ggml.add_bos_token", eos_flag[] = "tokenizer.ggml.add_eos_token";
    mark_ends(tokenizer);
    sp_status status = read_id(tokenizer, source, bos_key, &tokenizer->bos, error);
    if (!status) {
        status = read_id(tokenizer, source, eos_key, &tokenizer->eos, error);
    }
    if (!status) {
        status = read_id(tokenizer, source, "tokenizer.ggml.unknown_token_id", &tokenizer->unknown, error);
    }
    for (size_t i = 0; i < sizeof end_keys / sizeof end_keys[0] && !status; i++) {
        int32_t id = -1;
        status = read_id(tokenizer, source, end_keys[i], &id, error);
        if (id >= 0) {
            tokenizer->ends[id] = 1;
        }
    }
    if (tokenizer->eos >= 0) {
        tokenizer->ends[tokenizer->eos] = 1;
    }
    const spi_value *more = spi_source_find(source, "tokenizer.end_token_ids");
    int64_t number;
    for (uint64_t i = 0; more && spi_value_array_i64(more, i, &number); i++) {
        if (number >= 0 && number < tokenizer->vocab) {
            tokenizer->ends[number] = 1;
        }
    }
    status = status ? status : read_strips(tokenizer, spi_source_find(source, "tokenizer.token_strips"), error);
    if (!status) {
        status = read_flag(source, bos_flag, &tokenizer->add_bos, error);
    }
    if (!status) {
        status = read_flag(source, eos_flag, &tokenizer->add_eos, error);
    }
    if (status) {
        return status;
    }
    if (tokenizer->add_bos && tokenizer->bos < 0 && spi_source_find(source, bos_flag)) {
        return spi_fail(error, SP_BAD_FILE, "%s is true, but %s is missing", bos_flag, bos_key);
    }
    if (tokenizer->add_eos && tokenizer->eos < 0) {
        return spi_fail(error, SP_BAD_FILE, "%s is true, but %s is missing", eos_flag, eos_key);
    }
    return SP_OK;
}

static bool is_special(const sp_tokenizer *tokenizer, uint32_t id) {
    uint8_t type = tokenizer->types[id];
    return (type == SPI_TOKEN_CONTROL || type == SPI_TOKEN_USER || type == SPI_TOKEN_UNKNOWN) &&
           spi_vocab_text(tokenizer, id).bytes > 0;
}

typedef struct spi_named {
    spi_string text;
    int32_t id;
} spi_named;

static int by_text(const void *a, const void *b) {
    const spi_named *left = a, *right = b;
    size_t common = left->text.bytes < right->text.bytes ? left->text.bytes : right->text.bytes;
    int order = memcmp(left->text.text, right->text.text, common);
    return order ? order : (left->text.bytes > right->text.bytes) - (left->text.bytes < right->text.bytes);
}

sp_status spi_special_index(sp_tokenizer *tokenizer, sp_error *error) {
    uint32_t count = 0;
    for (uint32_t id = 0; id < tokenizer->vocab; id++) {
        count += is_special(tokenizer, id);
    }
    spi_named *named = spi_alloc(count, sizeof *named);
    tokenizer->specials = spi_alloc(count, sizeof *tokenizer->specials);
    if (!named || !tokenizer->specials) {
        spi_free(named);
        return spi_fail(error, SP_NO_MEMORY, "no memory for %" PRIu32 " special tokens", count);
    }
    for (uint32_t id = 0; id < tokenizer->vocab; id++) {
        if (is_special(tokenizer, id)) {
            named[tokenizer->special_count++] = (spi_named){spi_vocab_text(tokenizer, id), (int32_t)id};
        }
    }
    qsort(named, count, sizeof *named, by_text);
    for (uint32_t i = 0; i < count; i++) {
        tokenizer->specials[i] = named[i].id;
        tokenizer->special_from[(unsigned char)named[i].text.text[0] + 1] = i + 1;
    }
    for (unsigned byte = 1; byte <= 256; byte++) {
        if (tokenizer->special_from[byte] < tokenizer->special_from[byte - 1]) {
            tokenizer->special_from[byte] = tokenizer->special_from[byte - 1];
        }
    }
    spi_free(named);
    return SP_OK;
}

/* The first of specials[low..high) whose byte at depth is `byte` or more; all are longer than depth. */
static uint32_t bound(const sp_tokenizer *tokenizer, uint32_t low, uint32_t high, size_t depth, unsigned byte) {
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        spi_string text = spi_vocab_text(tokenizer, (uint32_t)tokenizer->specials[middle]);
        if ((unsigned char)text.text[depth] < byte) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

int32_t spi_special_match(const sp_tokenizer *tokenizer, const char *text, size_t left, bool parse_special,
                          size_t *bytes) {
    unsigned first = (unsigned char)text[0];
    uint32_t low = tokenizer->special_from[first], high = tokenizer->special_from[first + 1];
    int32_t found = -1;
    /* specials[low..high) begin with the `depth` bytes at text; the one that has no more comes first. */
    for (size_t depth = 1; low < high; depth++) {
        int32_t id = tokenizer->specials[low];
        if (spi_vocab_text(tokenizer, (uint32_t)id).bytes == depth) {
            if (parse_special || tokenizer->types[id] == SPI_TOKEN_USER) {
                found = id;
                *bytes = depth;
            }
            low++;
        }
        if (depth == left) {
            break;
        }
        unsigned next = (unsigned char)text[depth];
        low = bound(tokenizer, low, high, depth, next);
        high = bound(tokenizer, low, high, depth, next + 1);
    }
    return found;
}

/* The length of the white space (Unicode's White_Space) that text begins with, one character of it; 0: none. */
static size_t white(const char *text, size_t left) {
    static const char *const wide[] = {"\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\xa8",
                                       "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"};
    if (left && (text[0] == ' ' || (text[0] >= '\t' && text[0] <= '\r'))) {
        return 1;
    }
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++) {
        size_t bytes = strlen(wide[i]);
        if (left >= bytes && !memcmp(text, wide[i], bytes)) {
            return bytes;
        }
    }
    bool general = left >= 3 && !memcmp(text, "\xe2\x80", 2) && (unsigned char)text[2] <= 0x8a; /* U+2000 .. U+200A */
    return general ? 3 : 0;
}

size_t spi_special_strip_left(const sp_tokenizer *tokenizer, int32_t id, const char *text, size_t bytes) {
    size_t end = bytes;
    if (!tokenizer->strips || !(tokenizer->strips[id] & 1)) {
        return 0;
    }
    for (bool again = true; again;) {
        again = false;
        for (size_t length = 1; length <= 3 && length <= end && !again; length++) {
            if (white(text + end - length, length) == length) {
                end -= length;
                again = true;
            }
        }
    }
    return bytes - end;
}

/* Phi-3's tokenizer.json says of which tokens (its "rstrip"), and GGUF has no place for it. */
size_t spi_special_strip(const sp_tokenizer *tokenizer, int32_t id, const char *text, size_t left) {
    static const char *const others[] = {"<unk>", "<s>", "<|endoftext|>"};
    size_t count = 0, length;
    if (tokenizer->strips ? !(tokenizer->strips[id] & 2) : !tokenizer->strips_right) {
        return 0;
    }
    spi_string name = spi_vocab_text(tokenizer, (uint32_t)id);
    for (size_t i = 0; !tokenizer->strips && i < sizeof others / sizeof others[0]; i++) {
        if (strlen(others[i]) == name.bytes && !memcmp(others[i], name.text, name.bytes)) {
            return 0;
        }
    }
    while ((length = white(text + count, left - count))) {
        count += length;
    }
    return count;
}
