/* hf/config.c - config.json to GGUF's keys.
 *
 * Names are those of github.com/huggingface/transformers, src/transformers/models/NAME/configuration_NAME.py, and, for
 * what it adds, of github.com/ml-explore/mlx-lm, mlx_lm/models/NAME.py. Each key is asked for once; what nobody asked
 * for is refused unless it is known to change no result.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "hf/folder.h"

#define WIDTH_MAX   (1u << 20)
#define HEADS_MAX   1024u
#define LAYERS_MAX  1024u
#define CONTEXT_MAX (1u << 30)

static const spi_hf_family families[] = {
    {.model_type = "llama", .architecture = "llama"},
    {.model_type = "mistral", .architecture = "llama"},
    {.model_type = "qwen2", .architecture = "qwen2"},
    {.model_type = "qwen3", .architecture = "qwen3"},
    {.model_type = "gemma", .architecture = "gemma", .norm_plus_one = true, .gelu = true, .head_dim = 256},
    {.model_type = "gemma2",
     .architecture = "gemma2",
     .norm_plus_one = true,
     .post_norms = true,
     .gelu = true,
     .scalar = true,
     .head_dim = 256,
     .attention_cap = 50,
     .logit_cap = 30,
     .wide_layers = 46},
    {.model_type = "gemma3_text",
     .architecture = "gemma3",
     .norm_plus_one = true,
     .post_norms = true,
     .gelu = true,
     .scalar = true,
     .head_dim = 256,
     .heads = 8,
     .kv_heads = 4,
     .rope_theta = 1e6,
     .context = 131072,
     .wide_layers = 62},
    {.model_type = "phi3", .architecture = "phi3"},
    {.model_type = "olmo2", .architecture = "olmo2", .post_norms = true},
    {.model_type = "olmo3", .architecture = "olmo2", .post_norms = true},
    {.model_type = "granite", .architecture = "granite", .multipliers = true},
};

/* Entries that change no result, whatever they say: how a model is trained, stored, sampled from or shown. */
static const char *const harmless[] = {"architectures",
                                       "auto_map",
                                       "torch_dtype",
                                       "dtype",
                                       "transformers_version",
                                       "mlx_*",
                                       "unsloth_*",
                                       "_*",
                                       "name_or_path",
                                       "use_cache",
                                       "cache_implementation",
                                       "initializer_range",
                                       "bos_token_id",
                                       "eos_token_id",
                                       "pad_token_id",
                                       "unk_token_id",
                                       "sep_token_id",
                                       "decoder_start_token_id",
                                       "attention_dropout",
                                       "attn_pdrop",
                                       "embd_pdrop",
                                       "resid_pdrop",
                                       "hidden_dropout",
                                       "dropout",
                                       "pretraining_tp",
                                       "tokenizer_class",
                                       "attention_bias", /* a bias is used where there is one */
                                       "mlp_bias",
                                       "output_*",
                                       "return_dict*",
                                       "chunk_size_feed_forward",
                                       "problem_type",
                                       "id2label",
                                       "label2id",
                                       "task_specific_params",
                                       "max_length",
                                       "min_length",
                                       "num_beams*",
                                       "num_return_sequences",
                                       "top_k",
                                       "top_p",
                                       "temperature",
                                       "typical_p",
                                       "repetition_penalty",
                                       "length_penalty",
                                       "diversity_penalty",
                                       "encoder_no_repeat_ngram_size",
                                       "tf_legacy_loss",
                                       "use_bfloat16",
                                       "torchscript",
                                       "model_name",
                                       "quantization_config", /* read with the weights */
                                       "quantization",
                                       NULL};

static sp_status find_family(spi_hf_reader *read) {
    const char *model_type;
    sp_status status = spi_config_text(&read->config, "model_type", NULL, &model_type);
    if (status) {
        return status;
    }
    char known[256] = "";
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        if (!strcmp(families[i].model_type, model_type)) {
            read->family = &families[i];
            return SP_OK;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", families[i].model_type);
    }
    char shown[64];
    spi_string_printable(spi_json_string(model_type), shown, sizeof shown);
    return spi_fail(read->error, SP_UNSUPPORTED,
                    "config.json: models with model_type %s are not supported yet (supported: %s, gemma3)", shown,
                    known);
}

/* Gemma 3 with eyes: the part that reads and writes text is a model of its own in it. */
static sp_status open_config(spi_hf_reader *read) {
    const cJSON *object = read->whole_config, *text = cJSON_GetObjectItemCaseSensitive(object, "text_config");
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(object, "model_type");
    if (cJSON_IsObject(text) && cJSON_IsString(type) && !strcmp(type->valuestring, "gemma3")) {
        sp_status status = spi_config_open(&read->config, text, "config.json: text_config", read->error);
        if (!status && spi_config_find(&read->config, "model_type")) {
            return find_family(read);
        }
        for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
            read->family = strcmp(families[i].model_type, "gemma3_text") ? read->family : &families[i];
        }
        return status;
    }
    sp_status status = spi_config_open(&read->config, object, "config.json", read->error);
    return status ? status : find_family(read);
}

static void build_u32(spi_hf_reader *read, const char *suffix, uint32_t value) {
    char key[SPI_HF_KEY_BYTES];
    spi_compose_u32(&read->hf->compose, spi_hf_key(read, suffix, key), value);
}

static void build_f64(spi_hf_reader *read, const char *suffix, double value) {
    char key[SPI_HF_KEY_BYTES];
    spi_compose_f64(&read->hf->compose, spi_hf_key(read, suffix, key), value);
}

static sp_status read_shape(spi_hf_reader *read) {
    const spi_config *config = &read->config;
    const spi_hf_family *family = read->family;
    uint32_t width, inner, heads, kv_heads;
    double eps, partial;
    sp_status status = spi_config_count(config, "num_hidden_layers", 0, LAYERS_MAX, &read->layers);
    status = status ? status : spi_config_count(config, "hidden_size", 0, WIDTH_MAX, &width);
    status = status ? status : spi_config_count(config, "intermediate_size", 0, WIDTH_MAX, &inner);
    status = status ? status : spi_config_count(config, "num_attention_heads", family->heads, HEADS_MAX, &heads);
    uint32_t kv_fallback = family->kv_heads ? family->kv_heads : status ? 1 : heads;
    status = status ? status : spi_config_count(config, "num_key_value_heads", kv_fallback, HEADS_MAX, &kv_heads);
    status = status ? status
                    : spi_config_count(config, "max_position_embeddings", family->context, CONTEXT_MAX, &read->context);
    status = status ? status : spi_config_count(config, "vocab_size", 0, 1u << 24, &read->vocab);
    status = status ? status : spi_config_number(config, "rms_norm_eps", 1e-6, &eps);
    status = status ? status : spi_config_number(config, "partial_rotary_factor", 1, &partial);
    if (status) {
        return status;
    }
    uint32_t share = family->head_dim ? family->head_dim : width / heads;
    status = spi_config_count(config, "head_dim", share ? share : 1, HEADS_MAX, &read->head_dim);
    if (!status && !(partial > 0 && partial <= 1)) {
        status = spi_fail(read->error, SP_BAD_FILE, "config.json: partial_rotary_factor is not in 0..1");
    }
    if (status) {
        return status;
    }
    read->rope_dims = (uint32_t)(read->head_dim * partial);
    build_u32(read, "block_count", read->layers);
    build_u32(read, "embedding_length", width);
    build_u32(read, "feed_forward_length", inner);
    build_u32(read, "attention.head_count", heads);
    build_u32(read, "attention.head_count_kv", kv_heads);
    build_u32(read, "attention.key_length", read->head_dim);
    build_u32(read, "attention.value_length", read->head_dim);
    build_u32(read, "rope.dimension_count", read->rope_dims);
    build_u32(read, "vocab_size", read->vocab);
    build_f64(read, "attention.layer_norm_rms_epsilon", eps);
    double scalar, by = read->layers == family->wide_layers ? (double)(width / heads) : read->head_dim;
    if (family->scalar) {
        status = spi_config_number(config, "query_pre_attn_scalar", by, &scalar);
        if (!status && scalar != by) {
            status = spi_fail(read->error, SP_UNSUPPORTED,
                              "config.json: query_pre_attn_scalar is %g, and only %g is supported here", scalar, by);
        }
    }
    return status;
}

static sp_status read_activation(spi_hf_reader *read) {
    static const char *const keys[] = {"hidden_act", "hidden_activation"};
    for (size_t i = 0; i < 2; i++) {
        const char *name;
        sp_status status = spi_config_text(&read->config, keys[i], "", &name);
        if (status) {
            return status;
        }
        /* Old files of Gemma say gelu and mean its tanh form. */
        bool good = read->family->gelu ? !strncmp(name, "gelu", 4) : !strcmp(name, "silu") || !strcmp(name, "swish");
        if (name[0] && !good) {
            char shown[32];
            spi_string_printable(spi_json_string(name), shown, sizeof shown);
            return spi_fail(read->error, SP_UNSUPPORTED, "config.json: %s is %s, which is not supported for %s",
                            keys[i], shown, read->family->model_type);
        }
    }
    return SP_OK;
}

static sp_status read_scales(spi_hf_reader *read) {
    static const struct {
        const char *key, *suffix;
    } factors[] = {{"embedding_multiplier", "embedding_scale"},
                   {"residual_multiplier", "residual_scale"},
                   {"attention_multiplier", "attention.scale"},
                   {"logits_scaling", "logit_scale"}};
    double number;
    sp_status status = SP_OK;
    for (size_t i = 0; read->family->multipliers && i < 4 && !status; i++) {
        status = spi_config_number(&read->config, factors[i].key, (double)NAN, &number);
        if (!status) {
            build_f64(read, factors[i].suffix, number);
        }
    }
    if (!status && read->family->attention_cap != 0) {
        status = spi_config_number(&read->config, "attn_logit_softcapping", read->family->attention_cap, &number);
        build_f64(read, "attn_logit_softcapping", status ? 0 : number);
    }
    if (!status && (read->family->logit_cap != 0 || spi_config_find(&read->config, "final_logit_softcapping"))) {
        status = spi_config_number(&read->config, "final_logit_softcapping", read->family->logit_cap, &number);
        if (!status && number != 0) {
            build_f64(read, "final_logit_softcapping", number);
        }
    }
    return status;
}

/* "full_attention" or "sliding_attention" for each layer. */
static sp_status read_layer_types(spi_hf_reader *read, const cJSON *types, bool *any) {
    uint8_t local[LAYERS_MAX] = {0};
    uint32_t count = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, types) {
        const char *name = cJSON_IsString(item) ? item->valuestring : "";
        bool is_local = !strcmp(name, "sliding_attention");
        if (count == read->layers || (!is_local && strcmp(name, "full_attention") != 0)) {
            return spi_fail(
                read->error, count == read->layers ? SP_BAD_FILE : SP_UNSUPPORTED,
                "config.json: layer_types holds more than %u entries, or other ones than full_attention and "
                "sliding_attention",
                read->layers);
        }
        *any |= is_local;
        local[count++] = is_local;
    }
    if (count != read->layers) {
        return spi_fail(read->error, SP_BAD_FILE, "config.json: layer_types has %u entries for %u layers", count,
                        read->layers);
    }
    char key[SPI_HF_KEY_BYTES];
    if (*any) {
        spi_compose_numbers(&read->hf->compose, spi_hf_key(read, "attention.sliding_window_pattern", key),
                            SPI_VALUE_BOOL, local, count);
    }
    return SP_OK;
}

/* Which layers look back only so far. Qwen's files name a window that they do not use. */
static sp_status read_windows(spi_hf_reader *read) {
    const spi_config *config = &read->config;
    const cJSON *window = spi_config_find(config, "sliding_window"), *types = spi_config_find(config, "layer_types");
    bool use, any = false;
    uint32_t from_layer, period = 0, tokens = 0;
    sp_status status = spi_config_flag(config, "use_sliding_window", window != NULL, &use);
    status = status ? status : spi_config_count(config, "max_window_layers", read->layers + 1, 1u << 20, &from_layer);
    if (!status && types) {
        status = cJSON_IsArray(types) ? read_layer_types(read, types, &any)
                                      : spi_fail(read->error, SP_BAD_FILE, "config.json: layer_types is no array");
    }
    static const char *const names[] = {"sliding_window_pattern", "_sliding_window_pattern"};
    for (size_t i = 0; i < 2 && !status; i++) {
        if (spi_config_find(config, names[i])) {
            status = spi_config_count(config, names[i], 0, LAYERS_MAX, &period);
        }
    }
    if (!status && window) {
        status = spi_config_count(config, "sliding_window", 0, CONTEXT_MAX, &tokens);
    }
    if (status) {
        return status;
    }
    bool qwen = !strncmp(read->family->model_type, "qwen", 4);
    if (qwen && use && from_layer < read->layers && (!types || any)) {
        return spi_fail(read->error, SP_UNSUPPORTED, "config.json: use_sliding_window is not supported for %s",
                        read->family->model_type);
    }
    if (!qwen && use && window && (!types || any)) {
        build_u32(read, "attention.sliding_window", tokens);
    } else if (!qwen && types && !any) {
        build_u32(read, "attention.sliding_window", 0); /* all layers see everything */
    }
    if (!types && period) {
        build_u32(read, "attention.sliding_window_pattern", period);
    }
    double local_base;
    if (spi_config_find(config, "rope_local_base_freq")) {
        status = spi_config_number(config, "rope_local_base_freq", (double)NAN, &local_base);
        build_f64(read, "rope.freq_base_swa", status ? 1 : local_base);
    }
    return status;
}

sp_status spi_hf_read_config(spi_hf_reader *read) {
    sp_status status = open_config(read);
    if (status) {
        return status;
    }
    spi_compose_string(&read->hf->compose, "general.architecture", spi_json_string(read->family->architecture));
    bool traditional;
    status = read_shape(read);
    status = status ? status : spi_config_flag(&read->config, "rope_traditional", false, &traditional);
    status = status ? status : spi_config_flag(&read->config, "tie_word_embeddings", false, &read->tied);
    if (status) {
        return status;
    }
    read->untied = !read->tied && spi_config_find(&read->config, "tie_word_embeddings");
    read->source->rope_pairs = traditional ? SPI_SOURCE_ROPE_ADJACENT : SPI_SOURCE_ROPE_HALVES;
    status = read_activation(read);
    status = status ? status : read_scales(read);
    status = status ? status : read_windows(read);
    status = status ? status : spi_hf_read_rope(read);
    return status ? status : spi_config_finish(&read->config, harmless);
}
