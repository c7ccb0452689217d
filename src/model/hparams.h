/* model/hparams.h - the numbers that describe a model, read and checked once.
 *
 * Keys: github.com/ggml-org/ggml, docs/gguf.md. May include: gguf, device/tape.h, base.
 */
#ifndef SPI_MODEL_HPARAMS_H
#define SPI_MODEL_HPARAMS_H

#include "device/tape.h"
#include "gguf/gguf.h"

/* What differs between families of models, one row each in hparams.c: a new family should be a row, and a field here
 * where it has something of its own. */
typedef struct spi_family {
    const char *architecture;  /* general.architecture */
    spi_rope_pairs rope_pairs; /* how its converter stores q and k */
    spi_act act;
} spi_family;

typedef struct spi_hparams {
    const spi_family *family;
    uint32_t layers, embedding, feed_forward, heads, kv_heads, head_dim, vocab, context_max;
    uint32_t rope_dims;
    float rope_base, rope_freq_scale, norm_eps;
} spi_hparams;

/* vocab is left 0: it is the height of the embedding. SP_BAD_FILE names the key; SP_UNSUPPORTED the architecture or the
 * feature that is not there yet. */
sp_status spi_hparams_read(const spi_gguf *gguf, spi_hparams *hparams, sp_error *error);

#endif
