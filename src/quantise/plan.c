/* quantise/plan.c - see plan.h. The rules are those of llama.cpp's quantiser for dense models (llama_tensor_get_type of
 * github.com/ggml-org/llama.cpp, src/llama-quant.cpp, as of version 0.5.0 of its library), learned from there, so that
 * files are what users expect by the name of the mix. */
#include "quantise/plan.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"

static const spi_mix mixes[] = {
    {"F32", SPI_FILE_F32, SP_F32},          {"F16", SPI_FILE_F16, SP_F16},
    {"BF16", SPI_FILE_BF16, SP_BF16},       {"Q8_0", SPI_FILE_Q8_0, SP_Q8_0},
    {"Q6_K", SPI_FILE_Q6_K, SP_Q6_K},       {"Q5_K_M", SPI_FILE_Q5_K_M, SP_Q5_K},
    {"Q5_K_S", SPI_FILE_Q5_K_S, SP_Q5_K},   {"Q5_1", SPI_FILE_Q5_1, SP_Q5_1},
    {"Q5_0", SPI_FILE_Q5_0, SP_Q5_0},       {"Q4_K_M", SPI_FILE_Q4_K_M, SP_Q4_K},
    {"Q4_K_S", SPI_FILE_Q4_K_S, SP_Q4_K},   {"IQ4_NL", SPI_FILE_IQ4_NL, SP_IQ4_NL},
    {"IQ4_XS", SPI_FILE_IQ4_XS, SP_IQ4_XS}, {"Q4_1", SPI_FILE_Q4_1, SP_Q4_1},
    {"Q4_0", SPI_FILE_Q4_0, SP_Q4_0},       {"Q3_K_L", SPI_FILE_Q3_K_L, SP_Q3_K},
    {"Q3_K_M", SPI_FILE_Q3_K_M, SP_Q3_K},   {"Q3_K_S", SPI_FILE_Q3_K_S, SP_Q3_K},
    {"Q2_K", SPI_FILE_Q2_K, SP_Q2_K},
};
#define MIX_COUNT (sizeof mixes / sizeof mixes[0])

static const char *const aliases[][2] = {{"Q3_K", "Q3_K_M"}, {"Q4_K", "Q4_K_M"}, {"Q5_K", "Q5_K_M"}};

const spi_mix *spi_mix_at(uint32_t index) {
    return index < MIX_COUNT ? &mixes[index] : NULL;
}

static const spi_mix *find_mix(const char *name) {
    for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++) {
        name = strcasecmp(name, aliases[i][0]) ? name : aliases[i][1];
    }
    for (size_t i = 0; i < MIX_COUNT; i++) {
        if (!strcasecmp(name, mixes[i].name)) {
            return &mixes[i];
        }
    }
    return NULL;
}

/* ARCHITECTURE.key as a number; an array's first element (some models differ by layer). 0 where there is none. */
static uint64_t number_of(const spi_source *gguf, const char *architecture, const char *key) {
    char name[128];
    uint64_t number = 0;
    int64_t first;
    snprintf(name, sizeof name, "%s.%s", architecture, key);
    const spi_value *value = spi_source_find(gguf, name);
    if (value && value->type == SPI_VALUE_ARRAY && value->count && spi_value_array_i64(value, 0, &first)) {
        return first > 0 ? (uint64_t)first : 0;
    }
    return value && spi_value_as_u64(value, &number) ? number : 0;
}

static void name_of(const spi_source_tensor *tensor, char name[80]) {
    size_t bytes = tensor->name.bytes < 79 ? tensor->name.bytes : 79; /* the reader allows 64 */
    memcpy(name, tensor->name.text, bytes);
    name[bytes] = 0;
}

static bool holds_values(const char *name) {
    return strstr(name, "attn_v.weight") || strstr(name, "attn_qkv.weight") || strstr(name, "attn_kv_b.weight");
}

static uint32_t least_u32(uint64_t number) {
    return number < UINT32_MAX ? (uint32_t)number : UINT32_MAX;
}

sp_status spi_plan_make(const spi_source *gguf, const char *type, bool pure, spi_plan *plan, sp_error *error) {
    char architecture[64] = "";
    spi_string text;
    const spi_value *value = spi_source_find(gguf, "general.architecture");
    *plan = (spi_plan){.mix = find_mix(type), .pure = pure, .tied = !spi_source_find_tensor(gguf, "output.weight")};
    if (!plan->mix) {
        return spi_fail(error, SP_UNSUPPORTED,
                        "there is no quantised type \"%.40s\": use Q8_0, Q6_K, Q4_K or Q4_0, "
                        "or another of those that the help lists",
                        type);
    }
    if (!value || !spi_value_as_string(value, &text)) {
        return spi_fail(error, SP_BAD_FILE, "general.architecture is missing");
    }
    spi_string_printable(text, architecture, sizeof architecture);
    uint64_t parts = 0;
    if ((value = spi_source_find(gguf, "split.count")) && spi_value_as_u64(value, &parts) && parts > 1) {
        return spi_fail(error, SP_UNSUPPORTED, "the model is split into %llu files: merge them first",
                        (unsigned long long)parts);
    }
    if (!pure && number_of(gguf, architecture, "expert_count") > 1) {
        return spi_fail(error, SP_UNSUPPORTED,
                        "the model has experts, for which no mix of types is made: ask for one type alone (pure)");
    }
    uint64_t heads = number_of(gguf, architecture, "attention.head_count");
    uint64_t kv_heads = number_of(gguf, architecture, "attention.head_count_kv");
    plan->layers = least_u32(number_of(gguf, architecture, "block_count"));
    plan->heads_per_value = kv_heads ? least_u32(heads / kv_heads) : 1;
    plan->shares_values = plan->layers == 80 && plan->heads_per_value > 1 &&
                          (!strcmp(architecture, "llama") || !strcmp(architecture, "qwen2"));
    for (uint64_t i = 0; i < spi_source_tensor_count(gguf); i++) {
        char name[80];
        name_of(spi_source_tensor_at(gguf, i), name);
        plan->values_count += holds_values(name);
    }
    return SP_OK;
}

/* Matrices named WEIGHT, but for those that are small or that a few wrong bits spoil. */
static bool is_converted(const char *name, const spi_source_tensor *tensor) {
    static const char *const kept[] = {"_norm.weight",          "ffn_gate_inp.weight", "altup",       "laurel",
                                       "per_layer_model_proj",  "position_embd",       "token_types", "ssm_conv1d",
                                       "shortconv.conv.weight", "attn_rel_b.weight",   "time_mix_"};
    size_t length = strlen(name);
    if (tensor->dimensions[1] * tensor->dimensions[2] * tensor->dimensions[3] == 1 || length < 6 ||
        strcmp(name + length - 6, "weight")) {
        return false;
    }
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        if (strstr(name, kept[i])) {
            return false;
        }
    }
    return true;
}

/* The first and the last eighth of the layers, and each third between. */
static bool has_more_bits(uint32_t layer, uint32_t layers) {
    return layer < layers / 8 || layer >= 7 * (uint64_t)layers / 8 || (layer - layers / 8) % 3 == 2;
}

static sp_dtype type_of_values(const spi_plan *plan, uint32_t layer) {
    sp_dtype type = plan->mix->base;
    bool shared = plan->heads_per_value >= 4;
    switch (plan->mix->file_type) {
    case SPI_FILE_Q2_K: type = shared ? SP_Q4_K : SP_Q3_K; break;
    case SPI_FILE_Q3_K_M: type = layer < 2 ? SP_Q5_K : SP_Q4_K; break;
    case SPI_FILE_Q3_K_L: type = SP_Q5_K; break;
    case SPI_FILE_IQ4_NL:
    case SPI_FILE_IQ4_XS: type = shared ? SP_Q5_K : type; break;
    case SPI_FILE_Q4_K_M:
    case SPI_FILE_Q5_K_M: type = has_more_bits(layer, plan->values_count) ? SP_Q6_K : type; break;
    case SPI_FILE_Q4_K_S: type = layer < 4 ? SP_Q5_K : type; break;
    default: break;
    }
    return plan->shares_values && (type == SP_Q3_K || type == SP_Q4_K) ? SP_Q5_K : type;
}

static sp_dtype type_of_down(const spi_plan *plan, uint32_t layer) {
    sp_dtype type = plan->mix->base;
    switch (plan->mix->file_type) {
    case SPI_FILE_Q2_K: return SP_Q3_K;
    case SPI_FILE_Q3_K_M: return layer < plan->layers / 16 ? SP_Q5_K : SP_Q4_K;
    case SPI_FILE_Q3_K_L: return SP_Q5_K;
    case SPI_FILE_Q4_K_M:
    case SPI_FILE_Q5_K_M: return has_more_bits(layer, plan->layers) ? SP_Q6_K : type;
    case SPI_FILE_Q4_K_S:
    case SPI_FILE_IQ4_NL:
    case SPI_FILE_IQ4_XS: return layer < plan->layers / 8 ? SP_Q5_K : type;
    default: return type;
    }
}

static sp_dtype type_of_output(const spi_plan *plan) {
    switch (plan->mix->file_type) {
    case SPI_FILE_Q2_K: return SP_Q3_K;
    case SPI_FILE_Q3_K_M: return SP_Q4_K;
    case SPI_FILE_Q3_K_L: return SP_Q5_K;
    default: return plan->mix->base;
    }
}

static sp_dtype type_by_rules(const spi_plan *plan, const char *name, uint64_t cols) {
    sp_dtype type = plan->mix->base;
    unsigned layer = 0;
    sscanf(name, "blk.%9u.", &layer);
    if (!strcmp(name, "output.weight") || (plan->tied && !strcmp(name, "token_embd.weight"))) {
        return type == SP_Q8_0 || cols % sp_dtype_block_elements(type) ? SP_Q8_0 : SP_Q6_K;
    }
    if (holds_values(name)) {
        return type_of_values(plan, layer);
    }
    if (strstr(name, "attn_output.weight")) {
        return type_of_output(plan);
    }
    return strstr(name, "ffn_down") ? type_of_down(plan, layer) : type;
}

/* What rows take that are no whole blocks of the type. */
static sp_dtype type_that_fits(sp_dtype type, uint64_t cols) {
    static const sp_dtype smaller[][2] = {{SP_Q2_K, SP_Q4_0}, {SP_Q3_K, SP_Q4_0}, {SP_Q4_K, SP_Q5_0},
                                          {SP_Q5_K, SP_Q5_1}, {SP_Q6_K, SP_Q8_0}, {SP_IQ4_XS, SP_IQ4_NL}};
    if (cols % sp_dtype_block_elements(type) == 0) {
        return type;
    }
    for (size_t i = 0; i < sizeof smaller / sizeof smaller[0]; i++) {
        if (smaller[i][0] == type) {
            type = smaller[i][1];
            break;
        }
    }
    return cols % sp_dtype_block_elements(type) == 0 ? type : SP_F16;
}

uint32_t spi_plan_type(const spi_plan *plan, const spi_source_tensor *tensor) {
    char name[80];
    name_of(tensor, name);
    if (!is_converted(name, tensor)) {
        return tensor->type;
    }
    sp_dtype type = plan->mix->base;
    if (sp_dtype_block_elements(type) == 1) {
        return type;
    }
    type = plan->pure ? type : type_by_rules(plan, name, tensor->dimensions[0]);
    return type_that_fits(type, tensor->dimensions[0]);
}
