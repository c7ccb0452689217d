/* hf/vocabulary.h - the large parts of tokenizer.json (model.vocab, model.merges, added_tokens), read where they lie.
 *
 * Their texts stay in the file, escapes and all, and are decoded when they are composed.
 *
 * May include: what folder.h may.
 */
#ifndef SPI_HF_VOCABULARY_H
#define SPI_HF_VOCABULARY_H

#include "hf/folder.h"

/* tokenizer.ggml.token_type */
enum { SPI_HF_NORMAL = 1, SPI_HF_CONTROL = 3, SPI_HF_USER = 4, SPI_HF_UNUSED = 5, SPI_HF_BYTE = 6 };

typedef struct spi_hf_vocabulary {
    spi_hf_reader *read;
    spi_string vocab, merges, added; /* the three values in the file; no text: not there */
    spi_string *texts;               /* [read->vocab], of the file, not decoded; no text: no token */
    int32_t *types;                  /* the same */
    uint8_t *strips;                 /* the same: 1 white space before, 2 behind */
    uint32_t count;                  /* one more than the highest id */
    bool has_strips;
    char *decoded; /* room for one text */
    size_t decoded_capacity;
} spi_hf_vocabulary;

/* Finds the three parts of tokenizer.json and parses all the rest into a tree, which is the caller's. */
sp_status spi_hf_vocabulary_open(spi_hf_vocabulary *v, spi_hf_reader *read, spi_string file, cJSON **rest);
void spi_hf_vocabulary_close(spi_hf_vocabulary *v);

/* `prepends`: what is looked for in raw text would have to be prepended to. */
sp_status spi_hf_vocabulary_read(spi_hf_vocabulary *v, bool byte_fallback, bool prepends);
/* Composes tokens, types and strips; merges. */
sp_status spi_hf_vocabulary_put(spi_hf_vocabulary *v);
sp_status spi_hf_vocabulary_put_merges(spi_hf_vocabulary *v);
/* -1: no token has this text. */
int32_t spi_hf_vocabulary_find(const spi_hf_vocabulary *v, const char *text);

#endif
