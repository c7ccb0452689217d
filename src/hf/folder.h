/* hf/folder.h - what the files of this folder share: the opened files, and what is made of them.
 *
 * May include: what hf.h may.
 */
#ifndef SPI_HF_FOLDER_H
#define SPI_HF_FOLDER_H

#include "hf/json.h"
#include "os/file.h"
#include "safetensors/safetensors.h"
#include "source/compose.h"

/* What differs between families in the files of a folder; config.c has a row for each model_type. */
typedef struct spi_hf_family {
    const char *model_type, *architecture; /* config.json's, GGUF's */
    bool norm_plus_one;                    /* norms' weights are stored less one */
    bool post_norms;  /* post_attention_layernorm is what its name says; else it is the norm before the
                                              feed-forward part */
    bool gelu;        /* the activation is GELU's tanh form, and SiLU elsewhere */
    bool scalar;      /* attention scores are scaled by query_pre_attn_scalar */
    bool multipliers; /* Granite's factors */
    uint32_t head_dim, heads, kv_heads; /* where config.json says nothing; 0: it must, head_dim: hidden_size / heads */
    double rope_theta;                  /* the same; 0: 10000 */
    uint32_t context;                   /* the same of max_position_embeddings */
    double attention_cap, logit_cap;    /* the same; 0: none */
    uint32_t wide_layers;               /* so many layers: the scale is hidden_size / heads, not head_dim */
} spi_hf_family;

typedef struct spi_hf_shard {
    spi_safetensors file;
    spi_file_map map;
    char *name;
} spi_hf_shard;

/* Owned by the source that is made. */
typedef struct spi_hf {
    spi_compose compose;
    spi_hf_shard *shards;
    size_t shard_count;
    spi_file_map maps[5]; /* the JSON files and the template, as far as they are there */
    size_t map_count;
    void **copies; /* names, what was not aligned, and tensors that config.json describes: from spi_alloc_aligned */
    size_t copy_count, copy_capacity;
} spi_hf;

/* What is known while the folder is being read. */
typedef struct spi_hf_reader {
    const char *path;
    spi_hf *hf;
    spi_source *source;
    const spi_hf_family *family;
    spi_config config;   /* config.json, or the text_config in it */
    cJSON *whole_config; /* all of it */
    bool tied, untied;   /* tie_word_embeddings is true; is false */
    uint32_t vocab;      /* vocab_size */
    uint32_t layers, head_dim, rope_dims;
    double rope_theta;
    const cJSON *rope_scaling;
    uint32_t context, original_context;
    size_t tensor_capacity;
    sp_error *error;
} spi_hf_reader;

/* Maps a file of the folder and keeps it; *json is NULL where there is no such file and it is optional. */
sp_status spi_hf_json(spi_hf_reader *read, const char *name, bool optional, cJSON **json);
sp_status spi_hf_text(spi_hf_reader *read, const char *name, spi_string *text); /* optional; {NULL, 0}: not there */

/* Zeroed memory that lives as long as the source; NULL: none. */
void *spi_hf_keep(spi_hf_reader *read, size_t bytes);

/* config.c: finds the family and builds its values. */
sp_status spi_hf_read_config(spi_hf_reader *read);
/* rope.c: how positions become angles: values and tensors. */
sp_status spi_hf_read_rope(spi_hf_reader *read);
/* names.c */
#define SPI_HF_NAME_BYTES 128
/* The name of a module ("model.layers.3.mlp.up_proj") and what of it (".weight") as GGUF has them. False: unknown, and
 * then it stays as it is, to be refused by name. */
bool spi_hf_translate(const spi_hf_reader *read, const char *name, char out[SPI_HF_NAME_BYTES]);
/* Of a model that also sees, and not of what concerns text. */
bool spi_hf_is_foreign(const char *name);
/* A name without what stands in front of the text model's own names. */
const char *spi_hf_behind_prefix(const char *name);

/* shards.c: maps and parses the files. index: model.safetensors.index.json, or NULL: there is one file. */
sp_status spi_hf_open_shards(spi_hf_reader *read, const cJSON *index);

/* weights.c: opens the shards and fills the source's tensors, behind those that rope.c made. */
sp_status spi_hf_read_weights(spi_hf_reader *read);
sp_status spi_hf_add_vector(spi_hf_reader *read, const char *name, const float *values, uint32_t count);
/* tokens.c: tokenizer.json and what stands beside it. */
sp_status spi_hf_read_tokenizer(spi_hf_reader *read);

/* ARCHITECTURE.suffix, in a buffer of the caller's. */
#define SPI_HF_KEY_BYTES 96
const char *spi_hf_key(const spi_hf_reader *read, const char *suffix, char key[SPI_HF_KEY_BYTES]);

#endif
