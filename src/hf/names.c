/* hf/names.c - what the tensors of folders are called in GGUF's words. May include: what hf.h may. */
#include <stdio.h>
#include <string.h>

#include "hf/folder.h"

typedef struct renaming {
    const char *from, *to;
} renaming;

static const renaming outer[] = {
    {"embed_tokens", "token_embd"},
    {"norm", "output_norm"},
};

static const renaming inner[] = {
    {"input_layernorm", "attn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.qkv_proj", "attn_qkv"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.gate_up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
    {"pre_feedforward_layernorm", "ffn_norm"},
    {"post_feedforward_layernorm", "post_ffw_norm"},
};

static const char *look_up(const renaming *list, size_t count, const char *name, size_t bytes) {
    for (size_t i = 0; i < count; i++) {
        if (strlen(list[i].from) == bytes && !memcmp(list[i].from, name, bytes)) {
            return list[i].to;
        }
    }
    return NULL;
}

static bool begins(const char *name, const char *with) {
    return !strncmp(name, with, strlen(with));
}

bool spi_hf_is_foreign(const char *name) {
    static const char *const others[] = {"vision_tower.", "vision_model.", "multi_modal_projector.",
                                         "model.vision_tower.", "model.multi_modal_projector."};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (begins(name, others[i])) {
            return true;
        }
    }
    return false;
}

const char *spi_hf_behind_prefix(const char *name) {
    static const char *const prefixes[] = {"language_model.model.", "model.language_model.", "language_model.",
                                           "model."};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        if (begins(name, prefixes[i])) {
            return name + strlen(prefixes[i]);
        }
    }
    return name;
}

bool spi_hf_translate(const spi_hf_reader *read, const char *name, char out[SPI_HF_NAME_BYTES]) {
    const char *rest = spi_hf_behind_prefix(name), *dot = strrchr(rest, '.');
    const char *to = NULL;
    snprintf(out, SPI_HF_NAME_BYTES, "%s", name);
    if (!dot || (strcmp(dot, ".weight") != 0 && strcmp(dot, ".bias") != 0)) {
        return false;
    }
    if (!begins(rest, "layers.")) {
        bool head = dot - rest == 7 && !memcmp(rest, "lm_head", 7);
        to = head ? "output" : look_up(outer, sizeof outer / sizeof outer[0], rest, (size_t)(dot - rest));
        if (to) {
            snprintf(out, SPI_HF_NAME_BYTES, "%s%s", to, dot);
        }
        return to;
    }
    unsigned layer = 0;
    int bytes = 0;
    if (sscanf(rest + 7, "%5u.%n", &layer, &bytes) != 1 || !bytes || rest + 7 + bytes > dot || rest[7] < '0' ||
        rest[7] > '9') {
        return false;
    }
    const char *module = rest + 7 + bytes;
    size_t length = (size_t)(dot - module);
    if (length == strlen("post_attention_layernorm") && !memcmp(module, "post_attention_layernorm", length)) {
        to = read->family->post_norms ? "post_attention_norm" : "ffn_norm";
    } else {
        to = look_up(inner, sizeof inner / sizeof inner[0], module, length);
    }
    if (to) {
        snprintf(out, SPI_HF_NAME_BYTES, "blk.%u.%s%s", layer, to, dot);
    }
    return to;
}
