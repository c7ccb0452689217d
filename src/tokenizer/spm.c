/* tokenizer/spm.c - SentencePiece-style BPE, GGUF's "llama": merges by score, over the whole text.
 *
 * Spaces become U+2581. Symbols are ranges of the text, at first one character each; of all neighbours whose
 * concatenation is a token, the one with the highest score is merged, the leftmost of equals. A character that is in no
 * token is written as byte tokens "<0xE2>", or as the unknown token where the vocabulary has none of these.
 * (github.com/google/sentencepiece, src/bpe_model.cc; control, unknown and byte tokens are never made of text.)
 *
 * A character is as long as its first byte says, whatever follows: invalid UTF-8 ends as its bytes, as in llama.cpp.
 *
 * May include: source, base.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "tokenizer/internal.h"

sp_status spi_spm_read(sp_tokenizer *tokenizer, const spi_source *source, sp_error *error) {
    const spi_value *scores = spi_source_find(source, "tokenizer.ggml.scores");
    tokenizer->scores = spi_alloc(tokenizer->vocab, sizeof *tokenizer->scores);
    if (!tokenizer->scores) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a vocabulary of %" PRIu32 " tokens", tokenizer->vocab);
    }
    if (scores && (scores->type != SPI_VALUE_ARRAY || scores->count != tokenizer->vocab)) {
        return spi_fail(error, SP_BAD_FILE, "tokenizer.ggml.scores has %" PRIu64 " elements for %" PRIu32 " tokens",
                        scores->count, tokenizer->vocab);
    }
    for (uint32_t id = 0; scores && id < tokenizer->vocab; id++) {
        double score;
        if (!spi_value_array_f64(scores, id, &score) || isnan(score)) {
            return spi_fail(error, SP_BAD_FILE, "tokenizer.ggml.scores: number %" PRIu32 " is none", id);
        }
        tokenizer->scores[id] = (float)score;
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        static const char digits[] = "0123456789ABCDEF";
        char text[6] = {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'}, plain = (char)byte;
        int32_t id = spi_vocab_find(tokenizer, text, 6);
        tokenizer->byte_ids[byte] = id >= 0 ? id : spi_vocab_find(tokenizer, &plain, 1);
    }
    return SP_OK;
}

/* A token that text may become. */
static int32_t find_token(const sp_tokenizer *tokenizer, const char *text, size_t bytes) {
    int32_t id = bytes <= tokenizer->text_bytes_max ? spi_vocab_find(tokenizer, text, bytes) : -1;
    if (id < 0) {
        return -1;
    }
    uint8_t type = tokenizer->types[id];
    return type == SPI_TOKEN_CONTROL || type == SPI_TOKEN_UNKNOWN || type == SPI_TOKEN_BYTE ? -1 : id;
}

static bool sooner(const spi_candidate *a, const spi_candidate *b) {
    return a->score != b->score ? a->score > b->score : a->left < b->left;
}

static sp_status consider(spi_work *work, int32_t left) {
    int32_t right = left >= 0 ? work->symbols[left].next : -1;
    if (right < 0) {
        return SP_OK;
    }
    const spi_symbol *one = &work->symbols[left];
    uint32_t bytes = one->bytes + work->symbols[right].bytes;
    int32_t id = find_token(work->tokenizer, work->text + one->offset, bytes);
    if (id < 0) {
        return SP_OK;
    }
    spi_candidate candidate = {.score = work->tokenizer->scores[id], .left = (uint32_t)left, .bytes = bytes};
    return spi_heap_push(work, candidate, sooner);
}

sp_status spi_spm_escape(spi_work *work, const char *text, size_t bytes, bool space_prefix, size_t *count) {
    size_t spaces = space_prefix, at = 0;
    for (size_t i = 0; i < bytes; i++) {
        spaces += text[i] == ' ';
    }
    if (!spi_reserve((void **)&work->text, &work->text_capacity, bytes + 3 * spaces, 1)) {
        return spi_fail(work->error, SP_NO_MEMORY, "no memory to tokenize %zu bytes", bytes);
    }
    if (space_prefix) {
        memcpy(work->text, "\xe2\x96\x81", 3);
        at = 3;
    }
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == ' ') {
            memcpy(work->text + at, "\xe2\x96\x81", 3);
            at += 3;
        } else {
            work->text[at++] = text[i];
        }
    }
    *count = at;
    return SP_OK;
}

static sp_status make_symbols(spi_work *work, size_t bytes, size_t *count) {
    *count = 0;
    for (size_t at = 0; at < bytes;) {
        unsigned first = (unsigned char)work->text[at];
        size_t length = first < 0xc0 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
        length = length < bytes - at ? length : bytes - at;
        if (!SPI_RESERVE(work->symbols, *count, work->symbol_capacity)) {
            return spi_fail(work->error, SP_NO_MEMORY, "no memory to tokenize %zu bytes", bytes);
        }
        work->symbols[*count] = (spi_symbol){.prev = (int32_t)*count - 1,
                                             .next = at + length < bytes ? (int32_t)*count + 1 : -1,
                                             .offset = (uint32_t)at,
                                             .bytes = (uint32_t)length};
        (*count)++;
        at += length;
    }
    return SP_OK;
}

/* Neighbouring unknown characters are one unknown token, as in SentencePiece; *was_unknown goes from one on. */
static void put_symbol(spi_work *work, const spi_symbol *symbol, bool *was_unknown) {
    const sp_tokenizer *tokenizer = work->tokenizer;
    const char *text = work->text + symbol->offset;
    int32_t id = find_token(tokenizer, text, symbol->bytes);
    bool unknown = false;
    if (id >= 0) {
        spi_tokens_put(work->out, id);
    } else {
        for (uint32_t i = 0; i < symbol->bytes; i++) {
            int32_t byte = tokenizer->byte_ids[(unsigned char)text[i]];
            if (byte >= 0) {
                spi_tokens_put(work->out, byte);
            } else if (tokenizer->unknown >= 0 && !*was_unknown && !unknown) {
                spi_tokens_put(work->out, tokenizer->unknown);
            }
            unknown = byte < 0;
        }
    }
    *was_unknown = unknown;
}

sp_status spi_spm_encode(spi_work *work, const char *text, size_t bytes, bool space_prefix) {
    size_t escaped_bytes = 0, count = 0;
    sp_status status = spi_spm_escape(work, text, bytes, space_prefix, &escaped_bytes);
    if (!status) {
        status = make_symbols(work, escaped_bytes, &count);
    }
    work->heap_count = 0;
    for (size_t i = 0; i + 1 < count && !status; i++) {
        status = consider(work, (int32_t)i);
    }
    spi_symbol *symbols = work->symbols;
    while (work->heap_count && !status) {
        spi_candidate best = spi_heap_pop(work, sooner);
        spi_symbol *left = &symbols[best.left];
        if (left->bytes == 0 || left->next < 0 || left->bytes + symbols[left->next].bytes != best.bytes) {
            continue;
        }
        spi_symbol *right = &symbols[left->next];
        left->bytes = best.bytes;
        right->bytes = 0;
        left->next = right->next;
        if (left->next >= 0) {
            symbols[left->next].prev = (int32_t)best.left;
        }
        status = consider(work, left->prev);
        if (!status) {
            status = consider(work, (int32_t)best.left);
        }
    }
    bool was_unknown = false;
    for (int32_t at = count ? 0 : -1; at >= 0 && !status; at = symbols[at].next) {
        put_symbol(work, &symbols[at], &was_unknown);
    }
    return status;
}
