/* model/hparams.c - reads and checks a model's numbers. Limits are generous and finite, so that products of them stay
 * far from overflow. */
#include "model/hparams.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

#define LAYERS_MAX    1024u
#define WIDTH_MAX     (1u << 20)
#define HEADS_MAX     1024u
#define HEAD_DIM_MAX  1024u
#define CONTEXT_MAX   (1u << 30)
#define KEY_BYTES_MAX 128

static const spi_family families[] = {
    {.architecture = "llama", .rope_pairs = SPI_ROPE_ADJACENT, .act = SPI_ACT_SILU},
};

typedef struct reader {
    const spi_gguf *gguf;
    const char *architecture;
    sp_error *error;
} reader;

static const spi_gguf_value *find(const reader *read, const char *suffix, char key[KEY_BYTES_MAX]) {
    snprintf(key, KEY_BYTES_MAX, "%s.%s", read->architecture, suffix);
    return spi_gguf_find(read->gguf, key);
}

/* A count in [1, max]; fallback 0 means that the key must be there. */
static sp_status read_count(const reader *read, const char *suffix, uint32_t fallback, uint32_t max, uint32_t *out) {
    char key[KEY_BYTES_MAX];
    const spi_gguf_value *value = find(read, suffix, key);
    uint64_t number = fallback;
    if (!value && !fallback) {
        return spi_fail(read->error, SP_BAD_FILE, "the key %s is missing", key);
    }
    if (value && value->type == SPI_GGUF_ARRAY) {
        return spi_fail(read->error, SP_UNSUPPORTED, "%s differs between layers, which is not supported", key);
    }
    if (value && !spi_gguf_as_u64(value, &number)) {
        return spi_fail(read->error, SP_BAD_FILE, "%s is not a whole number", key);
    }
    if (number < 1 || number > max) {
        return spi_fail(read->error, SP_BAD_FILE, "%s is %llu, not in 1..%u", key, (unsigned long long)number, max);
    }
    *out = (uint32_t)number;
    return SP_OK;
}

/* A positive finite number; fallback 0 means that the key must be there. */
static sp_status read_number(const reader *read, const char *suffix, double fallback, float *out) {
    char key[KEY_BYTES_MAX];
    const spi_gguf_value *value = find(read, suffix, key);
    double number = fallback;
    if (!value && fallback == 0) {
        return spi_fail(read->error, SP_BAD_FILE, "the key %s is missing", key);
    }
    if (value && (!spi_gguf_as_f64(value, &number) || !isfinite(number) || number <= 0 || number > 1e12)) {
        return spi_fail(read->error, SP_BAD_FILE, "%s is not a positive number", key);
    }
    *out = (float)number;
    return SP_OK;
}

static sp_status find_family(const spi_gguf *gguf, const spi_family **family, sp_error *error) {
    const spi_gguf_value *value = spi_gguf_find(gguf, "general.architecture");
    spi_gguf_string name;
    if (!value || !spi_gguf_as_string(value, &name)) {
        return spi_fail(error, SP_BAD_FILE, "general.architecture is missing: is this a language model?");
    }
    char known[256] = "";
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        const char *architecture = families[i].architecture;
        if (strlen(architecture) == name.bytes && !memcmp(architecture, name.text, name.bytes)) {
            *family = &families[i];
            return SP_OK;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", architecture);
    }
    char printable[64];
    spi_gguf_printable(name, printable, sizeof printable);
    return spi_fail(error, SP_UNSUPPORTED, "models of architecture %s are not supported yet (supported: %s)", printable,
                    known);
}

/* rope.scaling.type: "none" and "linear" (arXiv:2306.15595) here; Llama 3's way is a tensor, rope_freqs. As other
 * readers do, a factor without a type is a linear one. */
static sp_status read_rope_scaling(const reader *read, spi_hparams *hparams) {
    char key[KEY_BYTES_MAX];
    const spi_gguf_value *value = find(read, "rope.scaling.type", key);
    spi_gguf_string type = {.text = "linear", .bytes = 6};
    if (value && !spi_gguf_as_string(value, &type)) {
        return spi_fail(read->error, SP_BAD_FILE, "%s is not a string", key);
    }
    hparams->rope_freq_scale = 1;
    if (type.bytes == 4 && !memcmp(type.text, "none", 4)) {
        return SP_OK;
    }
    if (type.bytes != 6 || memcmp(type.text, "linear", 6) != 0) {
        char printable[32];
        spi_gguf_printable(type, printable, sizeof printable);
        return spi_fail(read->error, SP_UNSUPPORTED, "%s is %s, which is not supported yet", key, printable);
    }
    float factor;
    const char *suffix = find(read, "rope.scaling.factor", key) ? "rope.scaling.factor" : "rope.scale_linear";
    sp_status status = read_number(read, suffix, 1, &factor);
    if (!status) {
        hparams->rope_freq_scale = 1 / factor;
    }
    return status;
}

/* Features that change results and are not built: refused by name rather than computed wrongly. */
static sp_status refuse_unknown(const reader *read) {
    static const char *const features[] = {"expert_count",    "attention.sliding_window", "attention.clamp_kqv",
                                           "logit_scale",     "attn_logit_softcapping",   "final_logit_softcapping",
                                           "embedding_scale", "residual_scale",           "attention.scale"};
    for (size_t i = 0; i < sizeof features / sizeof features[0]; i++) {
        char key[KEY_BYTES_MAX];
        const spi_gguf_value *value = find(read, features[i], key);
        double number;
        if (value && (!spi_gguf_as_f64(value, &number) || number != 0)) {
            return spi_fail(read->error, SP_UNSUPPORTED, "the model uses %s, which is not supported yet", key);
        }
    }
    return SP_OK;
}

static sp_status read_shape(const reader *read, spi_hparams *hparams) {
    sp_status status = read_count(read, "block_count", 0, LAYERS_MAX, &hparams->layers);
    status = status ? status : read_count(read, "embedding_length", 0, WIDTH_MAX, &hparams->embedding);
    status = status ? status : read_count(read, "feed_forward_length", 0, WIDTH_MAX, &hparams->feed_forward);
    status = status ? status : read_count(read, "attention.head_count", 0, HEADS_MAX, &hparams->heads);
    status =
        status ? status : read_count(read, "attention.head_count_kv", hparams->heads, HEADS_MAX, &hparams->kv_heads);
    status = status ? status : read_count(read, "context_length", 0, CONTEXT_MAX, &hparams->context_max);
    if (status) {
        return status;
    }
    uint32_t even_share = hparams->embedding / hparams->heads;
    uint32_t value_dim;
    status = read_count(read, "attention.key_length", even_share, HEAD_DIM_MAX, &hparams->head_dim);
    status = status ? status : read_count(read, "attention.value_length", even_share, HEAD_DIM_MAX, &value_dim);
    status = status ? status
                    : read_count(read, "rope.dimension_count", hparams->head_dim, HEAD_DIM_MAX, &hparams->rope_dims);
    if (status) {
        return status;
    }
    if (hparams->heads % hparams->kv_heads) {
        return spi_fail(read->error, SP_BAD_FILE,
                        "%s.attention.head_count (%u) is not a multiple of head_count_kv (%u)", read->architecture,
                        hparams->heads, hparams->kv_heads);
    }
    if (value_dim != hparams->head_dim || hparams->head_dim % 2) {
        return spi_fail(read->error, SP_UNSUPPORTED,
                        "heads of %u and %u elements for keys and values are not supported", hparams->head_dim,
                        value_dim);
    }
    if (hparams->rope_dims % 2 || hparams->rope_dims > hparams->head_dim) {
        return spi_fail(read->error, SP_BAD_FILE, "%s.rope.dimension_count is %u, for heads of %u", read->architecture,
                        hparams->rope_dims, hparams->head_dim);
    }
    return SP_OK;
}

sp_status spi_hparams_read(const spi_gguf *gguf, spi_hparams *hparams, sp_error *error) {
    *hparams = (spi_hparams){0};
    sp_status status = find_family(gguf, &hparams->family, error);
    if (status) {
        return status;
    }
    reader read = {.gguf = gguf, .architecture = hparams->family->architecture, .error = error};
    status = refuse_unknown(&read);
    status = status ? status : read_shape(&read, hparams);
    status = status ? status : read_number(&read, "attention.layer_norm_rms_epsilon", 0, &hparams->norm_eps);
    status = status ? status : read_number(&read, "rope.freq_base", 10000, &hparams->rope_base);
    return status ? status : read_rope_scaling(&read, hparams);
}
