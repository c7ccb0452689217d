/* model/hparams.h - the numbers that describe a model, read and checked once.
 *
 * Keys: github.com/ggml-org/ggml, docs/gguf.md. May include: source, device/tape.h, base.
 */
#ifndef SPI_MODEL_HPARAMS_H
#define SPI_MODEL_HPARAMS_H

#include "device/tape.h"
#include "source/source.h"

#define SPI_LAYERS_MAX   1024u
#define SPI_HEAD_DIM_MAX 1024u

/* What q and k are normalised over before they are rotated. */
typedef enum spi_qk_norm { SPI_QK_NORM_NONE, SPI_QK_NORM_HEAD, SPI_QK_NORM_ROW } spi_qk_norm;

/* What differs between families of models, one row each in families.c: a new family should be a row, and a field here
 * where it has something of its own. What a file says by a key or by having a tensor (biases, an output matrix, q, k
 * and v in one) is no field: every family takes it. */
typedef struct spi_family {
    const char *architecture;  /* general.architecture */
    spi_rope_pairs rope_pairs; /* how its converter stores q and k */
    spi_act act;
    bool post_norms;   /* the output of attention and of the feed-forward part is normalised before it is added */
    bool no_pre_norms; /* their input is not */
    spi_qk_norm qk_norm;
    bool gate_in_up;     /* ffn_up holds the gate's rows and behind them its own */
    bool embedding_sqrt; /* the embedding is scaled by the square root of its width */
    bool scales;         /* takes embedding_scale, residual_scale, attention.scale and logit_scale, a divisor */
    bool attention_cap, logit_cap; /* takes attn_logit_softcapping, final_logit_softcapping */
    bool windows;                  /* takes attention.sliding_window */
    uint32_t window_default;       /* where the file has no such key; 0: none */
    uint32_t window_period;        /* of so many layers the last one sees everything; 0: every layer has a window */
    bool local_rope_plain;         /* layers with a window rotate without what the model does to reach further */
    float local_rope_base;         /* their base if the file gives none; 0: that of the others */
    uint32_t wide_scale_layers;    /* the model with so many layers scales scores by sqrt(embedding / heads) */
} spi_family;

/* How positions are turned into angles. YARN is arXiv:2309.00071: frequencies slower than yarn_slow turns in the
 * original context are divided by the factor, those faster than yarn_fast stay, in between a ramp. */
typedef struct spi_rope {
    float base, freq_scale, scale; /* device/tape.h */
    bool yarn;
    float yarn_fast, yarn_slow;
} spi_rope;

typedef struct spi_hparams {
    const spi_family *family;
    uint32_t layers, embedding, feed_forward, heads, kv_heads, head_dim, vocab, context_max;
    uint32_t original_context; /* where a model's context was stretched: what it was before */
    uint32_t rope_dims;
    spi_rope_pairs rope_pairs;
    spi_rope rope, local_rope; /* of layers that see everything, of layers with a window */
    bool long_rope;            /* LongRoPE (arXiv:2402.13753): two lists of factors, for short and for long contexts */
    uint32_t window;           /* of the layers in `local`; 0: there are none */
    uint64_t local[SPI_LAYERS_MAX / 64];
    float norm_eps;
    float embedding_scale, residual_scale, attention_scale, logit_scale; /* factors */
    float attention_cap, logit_cap;                                      /* 0: none */
} spi_hparams;

static inline bool spi_hparams_is_local(const spi_hparams *hparams, uint32_t layer) {
    return hparams->local[layer / 64] >> layer % 64 & 1;
}

/* families.c: SP_UNSUPPORTED names the architecture and those that there are. */
sp_status spi_family_find(const spi_source *source, const spi_family **family, sp_error *error);

/* vocab is left 0: it is the height of the embedding. SP_BAD_FILE names the key; SP_UNSUPPORTED the architecture or the
 * feature that is not there yet. */
sp_status spi_hparams_read(const spi_source *source, spi_hparams *hparams, sp_error *error);

#endif
