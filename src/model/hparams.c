/* model/hparams.c - reads and checks a model's numbers. Limits are generous and finite, so that products of them stay
 * far from overflow. May include: source, device/tape.h, base. */
#include "model/hparams.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "model/keys.h"

#define WIDTH_MAX   (1u << 20)
#define HEADS_MAX   1024u
#define CONTEXT_MAX (1u << 30)

static sp_status read_shape(const spi_keys *keys, spi_hparams *hparams) {
    sp_status status = spi_keys_count(keys, "block_count", 0, SPI_LAYERS_MAX, &hparams->layers);
    status = status ? status : spi_keys_count(keys, "embedding_length", 0, WIDTH_MAX, &hparams->embedding);
    status = status ? status : spi_keys_count(keys, "feed_forward_length", 0, WIDTH_MAX, &hparams->feed_forward);
    status = status ? status : spi_keys_count(keys, "attention.head_count", 0, HEADS_MAX, &hparams->heads);
    status = status ? status
                    : spi_keys_count(keys, "attention.head_count_kv", hparams->heads, HEADS_MAX, &hparams->kv_heads);
    status = status ? status : spi_keys_count(keys, "context_length", 0, CONTEXT_MAX, &hparams->context_max);
    if (status) {
        return status;
    }
    uint32_t even_share = hparams->embedding / hparams->heads;
    uint32_t value_dim;
    status = spi_keys_count(keys, "attention.key_length", even_share, SPI_HEAD_DIM_MAX, &hparams->head_dim);
    status = status ? status : spi_keys_count(keys, "attention.value_length", even_share, SPI_HEAD_DIM_MAX, &value_dim);
    status =
        status ? status
               : spi_keys_count(keys, "rope.dimension_count", hparams->head_dim, SPI_HEAD_DIM_MAX, &hparams->rope_dims);
    if (status) {
        return status;
    }
    if (hparams->heads % hparams->kv_heads) {
        return spi_fail(keys->error, SP_BAD_FILE,
                        "%s.attention.head_count (%u) is not a multiple of head_count_kv (%u)", keys->architecture,
                        hparams->heads, hparams->kv_heads);
    }
    if (value_dim != hparams->head_dim || hparams->head_dim % 2) {
        return spi_fail(keys->error, SP_UNSUPPORTED,
                        "heads of %u and %u elements for keys and values are not supported", hparams->head_dim,
                        value_dim);
    }
    if (hparams->rope_dims % 2 || hparams->rope_dims > hparams->head_dim) {
        return spi_fail(keys->error, SP_BAD_FILE, "%s.rope.dimension_count is %u, for heads of %u", keys->architecture,
                        hparams->rope_dims, hparams->head_dim);
    }
    return SP_OK;
}

/* Where a file gives no attention factor of its own, it is that of the paper: 0.1 ln(factor) + 1. */
static sp_status read_yarn(const spi_keys *keys, float factor, spi_rope *rope) {
    float extrapolation, magnitude;
    double standard = factor > 1 ? 0.1 * log((double)factor) + 1 : 1;
    sp_status status = spi_keys_number(keys, "rope.scaling.yarn_beta_fast", 32, &rope->yarn_fast);
    status = status ? status : spi_keys_number(keys, "rope.scaling.yarn_beta_slow", 1, &rope->yarn_slow);
    status = status ? status : spi_keys_number(keys, "rope.scaling.yarn_attn_factor", standard, &magnitude);
    status = status ? status : spi_keys_number(keys, "rope.scaling.yarn_ext_factor", 1, &extrapolation);
    if (!status && (extrapolation != 1 || rope->yarn_fast <= rope->yarn_slow)) {
        return spi_fail(keys->error, SP_UNSUPPORTED,
                        "%s.rope.scaling.yarn_ext_factor %g with yarn_beta_fast %g and slow %g is not supported",
                        keys->architecture, (double)extrapolation, (double)rope->yarn_fast, (double)rope->yarn_slow);
    }
    if (!status) {
        rope->yarn = true;
        rope->scale *= magnitude;
        rope->freq_scale = 1 / factor;
    }
    return status;
}

/* rope.scaling.type: "none", "linear" (arXiv:2306.15595), "yarn"; "longrope" and Llama 3's way are tensors. As other
 * readers do, a factor without a type is a linear one. */
static sp_status read_rope(const spi_keys *keys, spi_hparams *hparams) {
    static const char *const types[] = {"none", "linear", "yarn", "longrope"};
    char key[SPI_KEY_BYTES_MAX];
    spi_rope *rope = &hparams->rope;
    float factor = 1;
    sp_status status = spi_keys_number(keys, "rope.freq_base", 10000, &rope->base);
    status = status ? status : spi_keys_number(keys, "rope.scaling.attn_factor", 1, &rope->scale);
    status = status ? status
                    : spi_keys_count(keys, "rope.scaling.original_context_length", hparams->context_max, CONTEXT_MAX,
                                     &hparams->original_context);
    if (status) {
        return status;
    }
    const spi_value *value = spi_keys_find(keys, "rope.scaling.type", key);
    spi_string name = {.text = "linear", .bytes = 6};
    if (value && !spi_value_as_string(value, &name)) {
        return spi_fail(keys->error, SP_BAD_FILE, "%s is not a string", key);
    }
    size_t type = 0;
    while (type < 4 && (strlen(types[type]) != name.bytes || memcmp(types[type], name.text, name.bytes) != 0)) {
        type++;
    }
    if (type == 4) {
        char printable[32];
        spi_string_printable(name, printable, sizeof printable);
        return spi_fail(keys->error, SP_UNSUPPORTED, "%s is %s, which is not supported yet", key, printable);
    }
    rope->freq_scale = 1;
    hparams->long_rope = type == 3 || spi_source_find_tensor(keys->source, "rope_factors_long.weight");
    if (type != 3) { /* a factor beside LongRoPE's lists is left unread, and so refused */
        char unused[SPI_KEY_BYTES_MAX];
        bool named = spi_keys_find(keys, "rope.scaling.factor", unused);
        status = spi_keys_number(keys, named ? "rope.scaling.factor" : "rope.scale_linear", 1, &factor);
    }
    if (!status && type == 1) {
        rope->freq_scale = 1 / factor;
    } else if (!status && type == 2) {
        status = read_yarn(keys, factor, rope);
    }
    return status;
}

/* Which layers look back only so far, and how these rotate. The key of the pattern is a number as in the families'
 * table, but that 1 is no window at all, or a flag for each layer. */
static sp_status read_windows(const spi_keys *keys, spi_hparams *hparams) {
    const spi_family *family = hparams->family;
    char key[SPI_KEY_BYTES_MAX];
    uint64_t window = family->window_default, period = family->window_period;
    hparams->local_rope = hparams->rope;
    if (!family->windows) {
        return SP_OK;
    }
    const spi_value *value = spi_keys_find(keys, "attention.sliding_window", key);
    if (value && (!spi_value_as_u64(value, &window) || window > CONTEXT_MAX)) {
        return spi_fail(keys->error, SP_BAD_FILE, "%s is no number of tokens", key);
    }
    value = spi_keys_find(keys, "attention.sliding_window_pattern", key);
    bool flags = value && value->type == SPI_VALUE_ARRAY && value->element_type == SPI_VALUE_BOOL;
    if (value && (flags ? value->count != hparams->layers : !spi_value_as_u64(value, &period))) {
        return spi_fail(keys->error, SP_BAD_FILE, "%s is neither a number nor a flag for each of %u layers", key,
                        hparams->layers);
    }
    for (uint32_t layer = 0; layer < hparams->layers && window; layer++) {
        bool local = flags ? ((const unsigned char *)value->data)[layer] : !period || layer % period != period - 1;
        hparams->local[layer / 64] |= (uint64_t)local << layer % 64;
    }
    hparams->window = (uint32_t)window;
    if (family->local_rope_plain) {
        float base = family->local_rope_base != 0 ? family->local_rope_base : hparams->rope.base;
        hparams->local_rope = (spi_rope){.base = base, .freq_scale = 1, .scale = 1};
    }
    return spi_keys_number(keys, "rope.freq_base_swa", (double)hparams->local_rope.base, &hparams->local_rope.base);
}

/* Factors and caps; those that a family does not take are left unread, and so refused. */
static sp_status read_scales(const spi_keys *keys, spi_hparams *hparams) {
    const spi_family *family = hparams->family;
    bool wide = hparams->layers == family->wide_scale_layers;
    uint32_t scaled_by = wide ? hparams->embedding / hparams->heads : hparams->head_dim;
    double attention = 1 / sqrt((double)scaled_by);
    float divisor = 1;
    hparams->embedding_scale = family->embedding_sqrt ? sqrtf((float)hparams->embedding) : 1;
    hparams->attention_scale = (float)attention;
    hparams->residual_scale = 1;
    sp_status status = SP_OK;
    if (family->scales) {
        status = spi_keys_number(keys, "embedding_scale", 1, &hparams->embedding_scale);
        status = status ? status : spi_keys_number(keys, "residual_scale", 1, &hparams->residual_scale);
        status = status ? status : spi_keys_number(keys, "attention.scale", attention, &hparams->attention_scale);
        status = status ? status : spi_keys_number(keys, "logit_scale", 1, &divisor);
    }
    hparams->logit_scale = 1 / divisor;
    char key[SPI_KEY_BYTES_MAX];
    if (!status && family->attention_cap && spi_keys_find(keys, "attn_logit_softcapping", key)) {
        status = spi_keys_number(keys, "attn_logit_softcapping", 0, &hparams->attention_cap);
    }
    if (!status && family->logit_cap && spi_keys_find(keys, "final_logit_softcapping", key)) {
        status = spi_keys_number(keys, "final_logit_softcapping", 0, &hparams->logit_cap);
    }
    return status;
}

/* Keys that hold something other than what this program does, though their being there means nothing. */
static sp_status refuse_modes(const spi_keys *keys, const spi_hparams *hparams) {
    char key[SPI_KEY_BYTES_MAX];
    bool flag;
    if (spi_value_as_bool(spi_keys_find(keys, "attention.causal", key), &flag) && !flag) {
        return spi_fail(keys->error, SP_UNSUPPORTED, "%s is false: this model reads in both directions", key);
    }
    if (hparams->family->scales && spi_value_as_bool(spi_keys_find(keys, "rope.scaling.finetuned", key), &flag) &&
        !flag) {
        return spi_fail(keys->error, SP_UNSUPPORTED, "%s is false: this model has no rotary positions", key);
    }
    return SP_OK;
}

sp_status spi_hparams_read(const spi_source *source, spi_hparams *hparams, sp_error *error) {
    *hparams = (spi_hparams){0};
    sp_status status = spi_family_find(source, &hparams->family, error);
    if (status) {
        return status;
    }
    hparams->rope_pairs = source->rope_pairs == SPI_SOURCE_ROPE_HALVES     ? SPI_ROPE_HALVES
                          : source->rope_pairs == SPI_SOURCE_ROPE_ADJACENT ? SPI_ROPE_ADJACENT
                                                                           : hparams->family->rope_pairs;
    spi_keys keys;
    status = spi_keys_open(&keys, source, hparams->family->architecture, error);
    status = status ? status : read_shape(&keys, hparams);
    status = status ? status : spi_keys_number(&keys, "attention.layer_norm_rms_epsilon", 0, &hparams->norm_eps);
    status = status ? status : read_rope(&keys, hparams);
    status = status ? status : read_windows(&keys, hparams);
    status = status ? status : read_scales(&keys, hparams);
    status = status ? status : refuse_modes(&keys, hparams);
    status = status ? status : spi_keys_finish(&keys);
    spi_keys_close(&keys);
    return status;
}
