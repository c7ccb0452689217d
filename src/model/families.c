/* model/families.c - the families of models, a row each; everything else about them is in pass.c, once.
 *
 * llama    arXiv:2302.13971, arXiv:2407.21783; Mistral (arXiv:2310.06825), SmolLM and many more are stored as it
 * qwen2    arXiv:2407.10671
 * qwen3    arXiv:2505.09388
 * gemma    arXiv:2403.08295
 * gemma2   arXiv:2408.00118
 * gemma3   arXiv:2503.19786
 * phi3     arXiv:2404.14219; Phi-3.5, Phi-4
 * olmo2    arXiv:2501.00656; OLMo 3 too, which adds windows
 * granite  github.com/ibm-granite/granite-3.0-language-models
 *
 * May include: source, base.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "model/hparams.h"

static const spi_family families[] = {
    {.architecture = "llama", .rope_pairs = SPI_ROPE_ADJACENT, .act = SPI_ACT_SILU, .windows = true},
    {.architecture = "qwen2", .rope_pairs = SPI_ROPE_HALVES, .act = SPI_ACT_SILU},
    {.architecture = "qwen3", .rope_pairs = SPI_ROPE_HALVES, .act = SPI_ACT_SILU, .qk_norm = SPI_QK_NORM_HEAD},
    {.architecture = "gemma", .rope_pairs = SPI_ROPE_HALVES, .act = SPI_ACT_GELU_TANH, .embedding_sqrt = true},
    {.architecture = "gemma2",
     .rope_pairs = SPI_ROPE_HALVES,
     .act = SPI_ACT_GELU_TANH,
     .post_norms = true,
     .embedding_sqrt = true,
     .attention_cap = true,
     .logit_cap = true,
     .windows = true,
     .window_default = 4096,
     .window_period = 2,
     .wide_scale_layers = 46},
    {.architecture = "gemma3",
     .rope_pairs = SPI_ROPE_HALVES,
     .act = SPI_ACT_GELU_TANH,
     .post_norms = true,
     .qk_norm = SPI_QK_NORM_HEAD,
     .embedding_sqrt = true,
     .logit_cap = true,
     .windows = true,
     .window_period = 6,
     .local_rope_plain = true,
     .local_rope_base = 10000,
     .wide_scale_layers = 62},
    {.architecture = "phi3", .rope_pairs = SPI_ROPE_HALVES, .act = SPI_ACT_SILU, .gate_in_up = true, .windows = true},
    {.architecture = "olmo2",
     .rope_pairs = SPI_ROPE_HALVES,
     .act = SPI_ACT_SILU,
     .post_norms = true,
     .no_pre_norms = true,
     .qk_norm = SPI_QK_NORM_ROW,
     .windows = true,
     .window_period = 4,
     .local_rope_plain = true},
    {.architecture = "granite", .rope_pairs = SPI_ROPE_ADJACENT, .act = SPI_ACT_SILU, .scales = true},
};

sp_status spi_family_find(const spi_source *source, const spi_family **family, sp_error *error) {
    const spi_value *value = spi_source_find(source, "general.architecture");
    spi_string name;
    if (!value || !spi_value_as_string(value, &name)) {
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
    spi_string_printable(name, printable, sizeof printable);
    return spi_fail(error, SP_UNSUPPORTED, "models of architecture %s are not supported yet (supported: %s)", printable,
                    known);
}
