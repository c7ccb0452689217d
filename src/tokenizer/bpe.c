/* tokenizer/bpe.c - byte-level BPE, GGUF's "gpt2": merges in the order of the file, within words.
 *
 * Symbols are ids. A word's bytes become one symbol each; of all neighbours that the file can merge, the pair that
 * comes first in the file is merged, the leftmost of equals, until none is left. A heap keeps that at n log n for a
 * word of n bytes. A merge whose result is no token can still be a step on the way to one; what is left of it at the
 * end is written as single bytes.
 *
 * May include: source, base.
 */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "tokenizer/internal.h"

#define MERGES_MAX 16777216u
#define PROBES_MAX 1024u /* see vocab.c */

static uint32_t slot_of(const sp_tokenizer *tokenizer, uint32_t left, uint32_t right) {
    uint64_t key = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u; /* 2^64 / golden ratio */
    return (uint32_t)((key ^ key >> 29) >> 16) & tokenizer->merge_mask;
}

static const spi_merge *find_merge(const sp_tokenizer *tokenizer, int32_t left, int32_t right) {
    if (left < 0 || right < 0) {
        return NULL;
    }
    uint32_t slot = slot_of(tokenizer, (uint32_t)left, (uint32_t)right);
    for (uint32_t probes = 0; probes <= PROBES_MAX && tokenizer->merges[slot].order; probes++) {
        const spi_merge *merge = &tokenizer->merges[slot];
        if (merge->left == (uint32_t)left && merge->right == (uint32_t)right) {
            return merge;
        }
        slot = (slot + 1) & tokenizer->merge_mask;
    }
    return NULL;
}

static sp_status put_merge(sp_tokenizer *tokenizer, const spi_merge *merge, sp_error *error) {
    if (find_merge(tokenizer, (int32_t)merge->left, (int32_t)merge->right)) {
        return SP_OK; /* of two that are the same the first counts */
    }
    uint32_t slot = slot_of(tokenizer, merge->left, merge->right);
    for (uint32_t probes = 0; tokenizer->merges[slot].order; probes++) {
        if (probes == PROBES_MAX) {
            return spi_fail(error, SP_BAD_FILE, "tokenizer.ggml.merges: too many merges have the same hash");
        }
        slot = (slot + 1) & tokenizer->merge_mask;
    }
    tokenizer->merges[slot] = *merge;
    return SP_OK;
}

/* ---- reading the merges: half a million of them look up three strings and a slot each, all far apart in memory. So
 * they are read in blocks, and what a block will touch is asked for before the first of it is looked at. ---- */

#define BLOCK       32u
#define BLOCK_BYTES 4096u /* of texts; a longer merge is a block by itself */

typedef struct joined_merge {
    const char *text; /* left, and right behind it */
    size_t left, right;
} joined_merge;

typedef struct merge_reader {
    sp_tokenizer *tokenizer;
    spi_value_iterator all;
    bool pairs;
    joined_merge block[BLOCK];
    uint32_t count, index; /* in the block; of its first merge in the file */
    char *texts;
    size_t used, capacity;
    sp_error *error;
} merge_reader;

/* "left right": the first space that is not the first byte parts them; or, in pairs, two strings. */
static sp_status join_merge(merge_reader *read, spi_string text, const spi_string *second) {
    const char *space = text.bytes > 1 ? memchr(text.text + 1, ' ', text.bytes - 1) : NULL;
    bool parted = second ? text.bytes && second->bytes : space && space != text.text + text.bytes - 1;
    if (!parted) {
        char shown[64];
        spi_string_printable(text, shown, sizeof shown);
        return spi_fail(read->error, SP_BAD_FILE,
                        "tokenizer.ggml.merges: \"%s\" at index %" PRIu32 " is no two strings", shown,
                        read->index + read->count);
    }
    size_t left = second ? text.bytes : (size_t)(space - text.text),
           right = second ? second->bytes : text.bytes - left - 1;
    char *joined = read->texts + read->used;
    memcpy(joined, text.text, left);
    memcpy(joined + left, second ? second->text : space + 1, right);
    read->used += left + right;
    read->block[read->count++] = (joined_merge){joined, left, right};
    return SP_OK;
}

/* Fills the block with merges whose texts fit; one always does. */
static sp_status join_block(merge_reader *read) {
    spi_string text, second = {0};
    sp_status status = SP_OK;
    read->index += read->count;
    read->count = 0;
    read->used = 0;
    while (!status && read->count < BLOCK) {
        spi_value_iterator next = read->all;
        if (!spi_value_next(&next, &text) || (read->pairs && !spi_value_next(&next, &second)) ||
            text.bytes + second.bytes > read->capacity - read->used) {
            break;
        }
        read->all = next;
        status = join_merge(read, text, read->pairs ? &second : NULL);
    }
    return status;
}

static sp_status read_block(merge_reader *read) {
    sp_tokenizer *tokenizer = read->tokenizer;
    spi_merge merges[BLOCK];
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < read->count; i++) {
        const joined_merge *joined = &read->block[i];
        spi_vocab_expect(tokenizer, joined->text, joined->left);
        spi_vocab_expect(tokenizer, joined->text + joined->left, joined->right);
        spi_vocab_expect(tokenizer, joined->text, joined->left + joined->right);
    }
    for (uint32_t i = 0; i < read->count && !status; i++) {
        const joined_merge *joined = &read->block[i];
        spi_merge *merge = &merges[i];
        merge->order = read->index + i + 1;
        status = spi_vocab_intern(tokenizer, joined->text, joined->left, &merge->left, read->error);
        if (!status) {
            status =
                spi_vocab_intern(tokenizer, joined->text + joined->left, joined->right, &merge->right, read->error);
        }
        if (!status) {
            status =
                spi_vocab_intern(tokenizer, joined->text, joined->left + joined->right, &merge->result, read->error);
            __builtin_prefetch(&tokenizer->merges[slot_of(tokenizer, merge->left, merge->right)], 1);
        }
    }
    for (uint32_t i = 0; i < read->count && !status; i++) {
        status = put_merge(tokenizer, &merges[i], read->error);
    }
    return status;
}

static sp_status read_merges(sp_tokenizer *tokenizer, spi_value_iterator all, bool pairs, sp_error *error) {
    uint32_t slots = 64;
    uint64_t merges = pairs ? all.left / 2 : all.left;
    size_t longest = 0;
    spi_string text;
    for (spi_value_iterator i = all; spi_value_next(&i, &text);) {
        longest = text.bytes > longest ? text.bytes : longest;
    }
    while (slots / 2 < merges) {
        slots *= 2;
    }
    merge_reader read = {.tokenizer = tokenizer, .all = all, .pairs = pairs, .error = error};
    read.capacity = longest <= BLOCK_BYTES / 2 ? BLOCK_BYTES : 2 * longest;
    read.texts = spi_alloc(read.capacity, 1);
    tokenizer->merge_mask = slots - 1;
    tokenizer->merges = spi_alloc(slots, sizeof *tokenizer->merges);
    sp_status status = SP_OK;
    if (!read.texts || !tokenizer->merges) {
        status = spi_fail(error, SP_NO_MEMORY, "no memory for %" PRIu64 " merges", merges);
    }
    do {
        status = status ? status : join_block(&read);
        status = status ? status : read_block(&read);
    } while (!status && read.count);
    spi_free(read.texts);
    return status;
}

sp_status spi_bpe_read(sp_tokenizer *tokenizer, const spi_source *source, sp_error *error) {
    spi_value_iterator all;
    const spi_value *pairs = spi_source_find(source, "tokenizer.merge_pairs");
    if (!spi_value_strings(pairs ? pairs : spi_source_find(source, "tokenizer.ggml.merges"), &all)) {
        return spi_fail(error, SP_BAD_FILE, "tokenizer.ggml.merges is missing or no array of strings");
    }
    if (all.left > MERGES_MAX) {
        return spi_fail(error, SP_BAD_FILE, "tokenizer.ggml.merges has %" PRIu64 " merges, at most %u are allowed",
                        all.left, MERGES_MAX);
    }
    sp_status status = read_merges(tokenizer, all, pairs != NULL, error);
    for (unsigned byte = 0; byte < 256; byte++) {
        char spelled[2];
        size_t bytes = spi_byte_spell((unsigned char)byte, spelled);
        tokenizer->byte_ids[byte] = status ? -1 : spi_vocab_find(tokenizer, spelled, bytes);
    }
    return status;
}

static bool sooner(const spi_candidate *a, const spi_candidate *b) {
    return a->order != b->order ? a->order < b->order : a->left < b->left;
}

static sp_status consider(spi_work *work, int32_t left) {
    int32_t right = left >= 0 ? work->symbols[left].next : -1;
    if (right < 0) {
        return SP_OK;
    }
    int32_t left_id = work->symbols[left].id, right_id = work->symbols[right].id;
    const spi_merge *merge = find_merge(work->tokenizer, left_id, right_id);
    if (!merge) {
        return SP_OK;
    }
    spi_candidate candidate = {.order = merge->order, .left = (uint32_t)left, .left_id = left_id, .right_id = right_id};
    return spi_heap_push(work, candidate, sooner);
}

/* True if the whole word is one token that text may become. */
static bool take_whole(spi_work *work, const char *word, size_t bytes) {
    const sp_tokenizer *tokenizer = work->tokenizer;
    if (bytes > tokenizer->text_bytes_max || !spi_reserve((void **)&work->text, &work->text_capacity, 2 * bytes, 1)) {
        return false;
    }
    size_t count = 0;
    for (size_t i = 0; i < bytes; i++) {
        count += spi_byte_spell((unsigned char)word[i], work->text + count);
    }
    int32_t id = spi_vocab_find(tokenizer, work->text, count);
    if (id < 0 || (uint32_t)id >= tokenizer->vocab || tokenizer->types[id] == SPI_TOKEN_CONTROL) {
        return false;
    }
    spi_tokens_put(work->out, id);
    return true;
}

static void put_symbol(spi_work *work, const char *word, int32_t symbol, size_t to) {
    const sp_tokenizer *tokenizer = work->tokenizer;
    int32_t id = work->symbols[symbol].id;
    if (id >= 0 && (uint32_t)id < tokenizer->vocab) {
        spi_tokens_put(work->out, id);
        return;
    }
    for (size_t i = work->symbols[symbol].offset; i < to; i++) {
        int32_t byte = tokenizer->byte_ids[(unsigned char)word[i]];
        if (byte >= 0 && (uint32_t)byte < tokenizer->vocab) {
            spi_tokens_put(work->out, byte);
        } /* else the vocabulary cannot say this byte, and the original leaves it out too */
    }
}

sp_status spi_bpe_merge(spi_work *work, size_t count) {
    const sp_tokenizer *tokenizer = work->tokenizer;
    spi_symbol *symbols = work->symbols;
    work->heap_count = 0;
    sp_status status = SP_OK;
    for (size_t i = 0; i + 1 < count && !status; i++) {
        status = consider(work, (int32_t)i);
    }
    while (work->heap_count && !status) {
        spi_candidate best = spi_heap_pop(work, sooner);
        spi_symbol *left = &symbols[best.left];
        if (left->id != best.left_id || left->next < 0 || symbols[left->next].id != best.right_id) {
            continue;
        }
        const spi_merge *merge = find_merge(tokenizer, best.left_id, best.right_id);
        spi_symbol *right = &symbols[left->next];
        left->id = (int32_t)merge->result;
        left->next = right->next;
        right->id = -2; /* no candidate names it */
        if (left->next >= 0) {
            symbols[left->next].prev = (int32_t)best.left;
        }
        status = consider(work, left->prev);
        if (!status) {
            status = consider(work, (int32_t)best.left);
        }
    }
    return status;
}

static sp_status encode_word(spi_work *work, const char *word, size_t bytes) {
    const sp_tokenizer *tokenizer = work->tokenizer;
    if (tokenizer->ignore_merges && take_whole(work, word, bytes)) {
        return SP_OK;
    }
    if (!spi_reserve((void **)&work->symbols, &work->symbol_capacity, bytes, sizeof *work->symbols)) {
        return spi_fail(work->error, SP_NO_MEMORY, "no memory to tokenize a word of %zu bytes", bytes);
    }
    spi_symbol *symbols = work->symbols;
    int32_t count = 0;
    for (size_t i = 0; i < bytes; i++) {
        int32_t id = tokenizer->byte_ids[(unsigned char)word[i]];
        if (id < 0 && tokenizer->is_declared) {
            continue; /* what the vocabulary cannot say is left out first, and its neighbours may merge */
        }
        symbols[count] = (spi_symbol){.id = id, .prev = count - 1, .next = -1, .offset = (uint32_t)i};
        if (count) {
            symbols[count - 1].next = count;
        }
        count++;
    }
    sp_status status = spi_bpe_merge(work, (size_t)count);
    for (int32_t at = count ? 0 : -1; at >= 0 && !status; at = symbols[at].next) {
        int32_t next = symbols[at].next;
        put_symbol(work, word, at, next >= 0 ? symbols[next].offset : bytes);
    }
    return status;
}

sp_status spi_bpe_encode(spi_work *work, const char *text, size_t bytes) {
    return spi_pre_split(work->tokenizer->pre, text, bytes, work, encode_word);
}
