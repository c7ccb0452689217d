/* dtype/names.c - see names.h. The names are those of ggml_type (github.com/ggml-org/ggml, docs/gguf.md). */
#include "dtype/names.h"

#include <stddef.h>

#include "samepage/dtype.h"

#define X(name, value, text, elements, bytes) " " text
const char spi_dtype_supported[] = SP_DTYPE_LIST(X);
#undef X

/* Those that samepage/dtype.h does not have. */
static const char *const others[] = {
    [9] = "Q8_1",   [15] = "Q8_K",  [16] = "IQ2_XXS", [17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S",
    [21] = "IQ3_S", [22] = "IQ2_S", [24] = "I8",      [25] = "I16",    [26] = "I32",     [27] = "I64",
    [28] = "F64",   [29] = "IQ1_M", [34] = "TQ1_0",   [35] = "TQ2_0",  [40] = "NVFP4",
};

const char *spi_dtype_text(uint32_t type) {
    const char *name = sp_dtype_name((sp_dtype)type);
    if (!name && type < sizeof others / sizeof others[0]) {
        name = others[type];
    }
    return name ? name : "unknown";
}
