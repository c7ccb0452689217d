/* tokenizer/internal.h - what the files of this folder share: the vocabulary, its tables and the encoders' work space.
 *
 * Texts are tokens as the file spells them ("Ġhello", "▁hello", "<0x0A>"), pieces are the bytes that they stand for.
 * May include: source, os, base.
 */
#ifndef SPI_TOKENIZER_INTERNAL_H
#define SPI_TOKENIZER_INTERNAL_H

#include "tokenizer/tokenizer.h"

/* More than any model has; keeps ids and offsets in 32 bits. */
#define SPI_VOCAB_MAX      16777216u
#define SPI_TEXT_BYTES_MAX ((size_t)256 << 20) /* of one call to encode */

/* tokenizer.ggml.token_type, docs/gguf.md */
typedef enum spi_token_type {
    SPI_TOKEN_UNDEFINED = 0,
    SPI_TOKEN_NORMAL,
    SPI_TOKEN_UNKNOWN,
    SPI_TOKEN_CONTROL,
    SPI_TOKEN_USER,
    SPI_TOKEN_UNUSED,
    SPI_TOKEN_BYTE
} spi_token_type;

/* What two neighbours become, byte-level BPE: an open-addressed table. */
typedef struct spi_merge {
    uint32_t left, right;
    uint32_t order; /* 1 + the merge's place in the file: lower is sooner; 0: an empty slot */
    uint32_t result;
} spi_merge;

typedef struct spi_pre spi_pre; /* compiled pre-tokeniser: pre.c */

/* Where U+2581 is put before a text: nowhere, before each piece between special tokens, before the first. */
typedef enum spi_space_prefix { SPI_PREFIX_NONE, SPI_PREFIX_ALWAYS, SPI_PREFIX_FIRST } spi_space_prefix;

/* Keys of ours, for what tokenizer.json says and GGUF has no keys for (src/hf/tokens.c writes them):
 *   tokenizer.ggml.model       "characters": BPE by ranked merges over characters, for which see char.c
 *   tokenizer.expressions      strings: a text is cut by them, in place of tokenizer.ggml.pre
 *   tokenizer.merge_pairs      strings, two for each merge, in place of tokenizer.ggml.merges
 *   tokenizer.ignore_merges, .composes (NFC), .escapes_spaces, .splits_words, .byte_fallback, .fuses_unknown: bools
 *   tokenizer.space_prefix     "always", "always-unless-there", "first-unless-there"
 *   tokenizer.token_strips     a number for each token: 1, it takes the white space before it; 2, behind it
 *   tokenizer.end_token_ids    more tokens that end a generation */
struct sp_tokenizer {
    bool is_byte_level;      /* "gpt2"; else "llama" */
    bool is_character_level; /* "characters" */
    bool is_declared;        /* tokenizer.json said it all: nothing is to be guessed from names */
    bool composes, escapes_spaces, splits_words, byte_fallback, fuses_unknown;
    bool prefix_unless_there;
    spi_space_prefix space_prefix;
    bool add_bos, add_eos;
    bool ignore_merges; /* gpt2: a word that is a token is taken whole */
    bool strips_right;  /* special tokens take the white space behind them: spi_special_strip */
    int32_t bos, eos, unknown;

    uint32_t vocab;
    uint32_t text_count;        /* vocab, and behind it strings that only merges make and that are no tokens */
    uint32_t text_capacity;     /* of text_offsets, less one */
    char *texts;                /* one after the other */
    size_t texts_capacity;      /* bytes */
    uint32_t *text_offsets;     /* [text_count + 1] into texts */
    uint32_t text_bytes_max;    /* of the longest token */
    uint32_t *map;              /* [map_mask + 1]: 1 + id by hash of text; 0: empty */
    uint32_t map_mask;          /* at least twice as many slots as texts */
    char *pieces;               /* one after the other */
    uint32_t *piece_offsets;    /* [vocab + 1] into pieces */
    uint8_t *types;             /* [vocab] spi_token_type */
    uint8_t *ends;              /* [vocab] generation ends after it */
    uint8_t *strips;            /* [vocab] of white space: 1 before it, 2 behind it; or NULL */
    float *scores;              /* [vocab] llama */
    int32_t byte_ids[256];      /* the token or merge string of one byte; -1: none */
    spi_merge *merges;          /* [merge_mask + 1] gpt2, characters */
    uint32_t merge_mask;        /* at least twice as many slots as merges */
    spi_pre *pre;               /* gpt2 */
    int32_t *specials;          /* [special_count] ids that are looked for in raw text, in order of their texts */
    uint32_t special_count;     /* */
    uint32_t special_from[257]; /* where those with each first byte begin in specials */
};

/* Growing output of encode: counts on when the caller's array is full. */
typedef struct spi_tokens {
    int32_t *ids;
    size_t capacity, count;
} spi_tokens;

/* Work space of one call to encode; reused from word to word. */
typedef struct spi_symbol {
    int32_t id;         /* gpt2 */
    int32_t prev, next; /* -1: none */
    uint32_t bytes;     /* llama: 0 once merged into the one before */
    uint32_t offset;    /* gpt2: in the word; llama: in the text */
} spi_symbol;

typedef struct spi_candidate { /* two neighbours that may be merged */
    uint32_t order;            /* gpt2: lower is sooner */
    float score;               /* llama: higher is sooner */
    uint32_t left;             /* symbol; of equals the leftmost is sooner */
    int32_t left_id, right_id; /* gpt2: stale if the symbols are others now */
    uint32_t bytes;            /* llama: stale if the two have another length now */
} spi_candidate;

typedef struct spi_work {
    const sp_tokenizer *tokenizer;
    spi_tokens *out;
    sp_error *error;
    spi_symbol *symbols;
    size_t symbol_capacity;
    spi_candidate *heap;
    size_t heap_count, heap_capacity;
    char *text; /* gpt2: a word as the vocabulary spells it; llama: the text with its spaces replaced */
    size_t text_capacity;
    char *composed; /* the text in NFC */
    size_t composed_capacity;
    int32_t *points; /* for it */
    size_t point_capacity;
    void *match; /* pre.c's */
} spi_work;

static inline void spi_tokens_put(spi_tokens *out, int32_t id) {
    if (out->count < out->capacity) {
        out->ids[out->count] = id;
    }
    out->count++;
}

/* ---- vocab.c: texts and how they are found ---- */
sp_status spi_vocab_read(sp_tokenizer *tokenizer, const spi_source *source, sp_error *error);
int32_t spi_vocab_find(const sp_tokenizer *tokenizer, const char *text, size_t bytes); /* of all texts; -1: none */
/* Says that this text will be looked for soon: where it would be is asked for from memory. */
void spi_vocab_expect(const sp_tokenizer *tokenizer, const char *text, size_t bytes);
/* Finds or adds a string that only merges make. The map must have room: spi_vocab_reserve. */
sp_status spi_vocab_intern(sp_tokenizer *tokenizer, const char *text, size_t bytes, uint32_t *id, sp_error *error);
static inline spi_string spi_vocab_text(const sp_tokenizer *tokenizer, uint32_t id) {
    uint32_t offset = tokenizer->text_offsets[id];
    return (spi_string){tokenizer->texts + offset, tokenizer->text_offsets[id + 1] - offset};
}
sp_status spi_vocab_make_pieces(sp_tokenizer *tokenizer, sp_error *error);

/* ---- bytes.c: GPT-2's spelling of bytes as printable characters, and UTF-8 ---- */
size_t spi_byte_spell(unsigned char byte, char out[2]);                              /* 1 or 2 bytes */
bool spi_byte_unspell(const char *text, size_t bytes, char *out, size_t *out_bytes); /* false: other characters */
size_t spi_utf8_length(const char *text, size_t left); /* of the valid sequence at text; 0: there is none */

/* ---- special.c ---- */
sp_status spi_special_read(sp_tokenizer *tokenizer, const spi_source *source, sp_error *error);
sp_status spi_special_index(sp_tokenizer *tokenizer, sp_error *error);
/* The longest special token that begins exactly here; -1: none. */
int32_t spi_special_match(const sp_tokenizer *tokenizer, const char *text, size_t left, bool parse_special,
                          size_t *bytes);
/* How many bytes of white space behind a special token are a part of it; and of those before it. */
size_t spi_special_strip(const sp_tokenizer *tokenizer, int32_t id, const char *text, size_t left);
size_t spi_special_strip_left(const sp_tokenizer *tokenizer, int32_t id, const char *text, size_t bytes);

/* ---- pre.c ---- */
sp_status spi_pre_create(const char *name, size_t name_bytes, spi_pre **pre, bool *ignore_merges, bool *add_bos,
                         sp_error *error);
/* Of expressions from a file, which are hostile: what does not compile is SP_UNSUPPORTED. */
sp_status spi_pre_create_of(spi_value_iterator expressions, spi_pre **pre, sp_error *error);
void spi_pre_destroy(spi_pre *pre);
/* Calls word for each part of the text, in order; all bytes are in one of them. Stops at a failure. */
sp_status spi_pre_split(const spi_pre *pre, const char *text, size_t bytes, spi_work *work,
                        sp_status (*word)(spi_work *work, const char *text, size_t bytes));
void spi_pre_done(void *match);

/* ---- heap.c: the work space's queue of candidates ---- */
typedef bool (*spi_sooner)(const spi_candidate *a, const spi_candidate *b);
sp_status spi_heap_push(spi_work *work, spi_candidate candidate, spi_sooner sooner);
spi_candidate spi_heap_pop(spi_work *work, spi_sooner sooner);

/* ---- normal.c: NFC (Unicode Standard Annex #15) of what is valid UTF-8; invalid bytes stay. *out is the text itself,
 * or work->composed. ---- */
sp_status spi_compose_text(spi_work *work, const char *text, size_t bytes, const char **out, size_t *out_bytes);

/* ---- the families ---- */
sp_status spi_bpe_read(sp_tokenizer *tokenizer, const spi_source *source, sp_error *error);
sp_status spi_bpe_encode(spi_work *work, const char *text, size_t bytes);
/* Merges symbols [0, count), whose ids, prev and next are set, until no merge fits; those that are left are linked. */
sp_status spi_bpe_merge(spi_work *work, size_t count);
void spi_char_read(sp_tokenizer *tokenizer);
sp_status spi_char_encode(spi_work *work, const char *text, size_t bytes, bool space_prefix);
sp_status spi_spm_read(sp_tokenizer *tokenizer, const spi_source *source, sp_error *error);
sp_status spi_spm_encode(spi_work *work, const char *text, size_t bytes, bool space_prefix);
/* Puts the text with its spaces replaced by U+2581, and with one before it, into work->text; *count is its length. */
sp_status spi_spm_escape(spi_work *work, const char *text, size_t bytes, bool space_prefix, size_t *count);

#endif
