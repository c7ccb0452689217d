/* hf/rope.c - how positions become angles: rope_theta, rope_scaling and rope_parameters to GGUF's keys and tensors.
 *
 * The ways of scaling are those of github.com/huggingface/transformers, src/transformers/modeling_rope_utils.py. Where
 * GGUF keeps a list of factors as a tensor (Llama 3's, LongRoPE's), one is made.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "hf/folder.h"

#define DIMS_MAX    1024u
#define CONTEXT_MAX (1u << 30)

typedef struct scaling {
    spi_hf_reader *read;
    spi_config config;
} scaling;

static void build_f64(spi_hf_reader *read, const char *suffix, double value) {
    char key[SPI_HF_KEY_BYTES];
    spi_compose_f64(&read->hf->compose, spi_hf_key(read, suffix, key), value);
}

static void build_u32(spi_hf_reader *read, const char *suffix, uint32_t value) {
    char key[SPI_HF_KEY_BYTES];
    spi_compose_u32(&read->hf->compose, spi_hf_key(read, suffix, key), value);
}

static void build_type(spi_hf_reader *read, const char *type) {
    char key[SPI_HF_KEY_BYTES];
    spi_compose_string(&read->hf->compose, spi_hf_key(read, "rope.scaling.type", key), spi_json_string(type));
}

static sp_status read_factor(const scaling *by, double *factor) {
    sp_status status = spi_config_number(&by->config, "factor", (double)NAN, factor);
    if (!status && !(*factor > 0 && *factor < 1e6)) {
        return spi_fail(by->read->error, SP_BAD_FILE, "%s: factor is no positive number", by->config.file);
    }
    return status;
}

static sp_status read_linear(const scaling *by) {
    double factor;
    sp_status status = read_factor(by, &factor);
    if (!status) {
        build_type(by->read, "linear");
        build_f64(by->read, "rope.scaling.factor", factor);
    }
    return status;
}

/* Frequencies whose wave is longer than the original context over low_freq_factor are divided by the factor, those
 * shorter than that over high_freq_factor stay, and between them goes a ramp. */
static sp_status read_llama3(const scaling *by) {
    spi_hf_reader *read = by->read;
    double factor, low, high;
    uint32_t original;
    sp_status status = read_factor(by, &factor);
    status = status ? status : spi_config_number(&by->config, "low_freq_factor", 1, &low);
    status = status ? status : spi_config_number(&by->config, "high_freq_factor", 4, &high);
    status = status ? status
                    : spi_config_count(&by->config, "original_max_position_embeddings", 8192, CONTEXT_MAX, &original);
    if (status) {
        return status;
    }
    if (!(low > 0 && high > low)) {
        return spi_fail(read->error, SP_BAD_FILE, "%s: low_freq_factor %g and high_freq_factor %g are no range",
                        by->config.file, low, high);
    }
    float factors[DIMS_MAX / 2];
    for (uint32_t i = 0; i < read->rope_dims / 2; i++) {
        double wave = 2 * 3.14159265358979323846 * pow(read->rope_theta, 2.0 * i / read->rope_dims);
        double smooth = (original / wave - low) / (high - low);
        factors[i] = wave < original / high  ? 1
                     : wave > original / low ? (float)factor
                                             : (float)(1 / ((1 - smooth) / factor + smooth));
    }
    return spi_hf_add_vector(read, "rope_freqs.weight", factors, read->rope_dims / 2);
}

static sp_status read_yarn(const scaling *by) {
    spi_hf_reader *read = by->read;
    double factor, fast, slow, attention, standard;
    uint32_t original;
    sp_status status = read_factor(by, &factor);
    status = status ? status : spi_config_number(&by->config, "beta_fast", 32, &fast);
    status = status ? status : spi_config_number(&by->config, "beta_slow", 1, &slow);
    status = status ? status
                    : spi_config_count(&by->config, "original_max_position_embeddings", read->context, CONTEXT_MAX,
                                       &original);
    if (status) {
        return status;
    }
    standard = factor > 1 ? 0.1 * log(factor) + 1 : 1;
    status = spi_config_number(&by->config, "attention_factor", standard, &attention);
    build_type(read, "yarn");
    build_f64(read, "rope.scaling.factor", factor);
    build_f64(read, "rope.scaling.yarn_beta_fast", fast);
    build_f64(read, "rope.scaling.yarn_beta_slow", slow);
    build_f64(read, "rope.scaling.yarn_attn_factor", attention);
    read->original_context = original;
    if (original * factor > read->context && original * factor < CONTEXT_MAX) {
        read->context = (uint32_t)(original * factor);
    }
    return status;
}

static sp_status read_factors(const scaling *by, const char *key, const char *tensor) {
    spi_hf_reader *read = by->read;
    const cJSON *list = spi_config_find(&by->config, key), *item;
    float factors[DIMS_MAX / 2];
    uint32_t count = 0;
    cJSON_ArrayForEach(item, list) {
        if (count == DIMS_MAX / 2 || !cJSON_IsNumber(item) || !(item->valuedouble > 0) || item->valuedouble > 1e6) {
            return spi_fail(read->error, SP_BAD_FILE, "%s: %s holds something that is no positive number",
                            by->config.file, key);
        }
        factors[count++] = (float)item->valuedouble;
    }
    if (count != read->rope_dims / 2) {
        return spi_fail(read->error, SP_BAD_FILE, "%s: %s has %u numbers, not %u", by->config.file, key, count,
                        read->rope_dims / 2);
    }
    return spi_hf_add_vector(read, tensor, factors, count);
}

/* LongRoPE (arXiv:2402.13753): a list of factors for contexts up to the original one and another for longer ones. */
static sp_status read_long(const scaling *by) {
    spi_hf_reader *read = by->read;
    uint32_t original;
    const spi_config *place =
        spi_config_find(&read->config, "original_max_position_embeddings") ? &read->config : &by->config;
    sp_status status =
        spi_config_count(place, "original_max_position_embeddings", read->context, CONTEXT_MAX, &original);
    if (status) {
        return status;
    }
    double ratio = (double)read->context / original, attention, factor;
    spi_config_number(&by->config, "factor", ratio, &factor);
    double standard = factor > 1 && original > 1 ? sqrt(1 + log(factor) / log(original)) : 1;
    status = spi_config_number(&by->config, "attention_factor", standard, &attention);
    status = status ? status : read_factors(by, "short_factor", "rope_factors_short.weight");
    status = status ? status : read_factors(by, "long_factor", "rope_factors_long.weight");
    build_type(read, "longrope");
    build_f64(read, "rope.scaling.attn_factor", status ? 1 : attention);
    read->original_context = original;
    return status;
}

static sp_status read_scaling(const scaling *by) {
    const char *type, *older;
    static const char *const none[] = {NULL};
    sp_status status = spi_config_text(&by->config, "type", "default", &older);
    status = status ? status : spi_config_text(&by->config, "rope_type", older, &type);
    spi_config_find(&by->config, "rope_theta"); /* taken before */
    spi_config_find(&by->config, "partial_rotary_factor");
    if (status) {
        return status;
    }
    if (!strcmp(type, "linear")) {
        status = read_linear(by);
    } else if (!strcmp(type, "llama3")) {
        status = read_llama3(by);
    } else if (!strcmp(type, "yarn")) {
        status = read_yarn(by);
    } else if (!strcmp(type, "longrope") || !strcmp(type, "su")) {
        status = read_long(by);
    } else if (strcmp(type, "default") != 0) {
        char shown[32];
        spi_string_printable(spi_json_string(type), shown, sizeof shown);
        return spi_fail(by->read->error, SP_UNSUPPORTED, "%s: rope_type is %s, which is not supported", by->config.file,
                        shown);
    }
    return status ? status : spi_config_finish(&by->config, none);
}

/* Where layers with a window have parameters of their own, they are plain. */
static sp_status read_local(spi_hf_reader *read, const cJSON *parameters) {
    const cJSON *theta = cJSON_GetObjectItemCaseSensitive(parameters, "rope_theta");
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(parameters, "rope_type");
    if (!cJSON_IsNumber(theta) || (cJSON_IsString(type) && strcmp(type->valuestring, "default") != 0)) {
        return spi_fail(read->error, SP_UNSUPPORTED,
                        "config.json: rope_parameters.sliding_attention has no rope_theta, or a rope_type of its own");
    }
    if (!spi_config_find(&read->config, "rope_local_base_freq")) {
        build_f64(read, "rope.freq_base_swa", theta->valuedouble);
    }
    return SP_OK;
}

sp_status spi_hf_read_rope(spi_hf_reader *read) {
    const cJSON *old = spi_config_find(&read->config, "rope_scaling");
    const cJSON *parameters = spi_config_find(&read->config, "rope_parameters");
    const cJSON *full = cJSON_GetObjectItemCaseSensitive(parameters, "full_attention");
    const cJSON *local = cJSON_GetObjectItemCaseSensitive(parameters, "sliding_attention");
    parameters = full ? full : parameters;
    const char *file = parameters ? "config.json: rope_parameters" : "config.json: rope_scaling";
    double theta = read->family->rope_theta != 0 ? read->family->rope_theta : 10000;
    const cJSON *inside = cJSON_GetObjectItemCaseSensitive(parameters, "rope_theta");
    theta = cJSON_IsNumber(inside) ? inside->valuedouble : theta;
    sp_status status = spi_config_number(&read->config, "rope_theta", theta, &read->rope_theta);
    if (!status && !(read->rope_theta > 0 && read->rope_theta < 1e12)) {
        status = spi_fail(read->error, SP_BAD_FILE, "config.json: rope_theta is no positive number");
    }
    if (!status && (read->rope_dims % 2 || !read->rope_dims || read->rope_dims > DIMS_MAX)) {
        status = spi_fail(read->error, SP_BAD_FILE, "config.json: heads rotate %u elements, which is no even number",
                          read->rope_dims);
    }
    status = status || !local ? status : read_local(read, local);
    if (status) {
        return status;
    }
    build_f64(read, "rope.freq_base", read->rope_theta);
    read->original_context = read->context;
    const cJSON *object = parameters ? parameters : old;
    scaling by = {.read = read};
    status = object ? spi_config_open(&by.config, object, file, read->error) : SP_OK;
    if (object && !status) {
        status = read_scaling(&by);
    }
    spi_config_close(&by.config);
    spi_config_find(&read->config, "original_max_position_embeddings"); /* says nothing without LongRoPE */
    build_u32(read, "context_length", read->context);
    if (read->original_context != read->context) {
        build_u32(read, "rope.scaling.original_context_length", read->original_context);
    }
    return status;
}
