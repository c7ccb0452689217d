/* fuzz/fuzz_dtype.c - any bytes as blocks of every weight type, and any finite numbers as what is to be encoded:
 * nothing is undefined on the way, and what was encoded decodes to finite numbers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dtype/dequant.h"
#include "dtype/quant.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const sp_dtype types[] = {
#define X(name, value, text, elements, bytes) name,
    SP_DTYPE_LIST(X)
#undef X
};
#define TYPE_COUNT (sizeof types / sizeof types[0])

static void decode(sp_dtype type, const uint8_t *data, size_t size) {
    _Alignas(8) uint8_t block[1024] = {0};
    float values[256];
    memcpy(block, data, size < sp_dtype_block_bytes(type) ? size : sp_dtype_block_bytes(type));
    spi_dequantise(type, block, 0, sp_dtype_block_elements(type), values);
}

static void encode(sp_dtype type, const uint8_t *data, size_t size) {
    float values[256] = {0};
    _Alignas(8) uint8_t blocks[1024];
    memcpy(values, data, size < sizeof values ? size : sizeof values);
    for (uint32_t i = 0; i < 256; i++) {
        values[i] = isfinite(values[i]) ? values[i] : 1;
    }
    if (!spi_quantise_has(type) || !spi_quantise(type, values, 256, blocks)) {
        return;
    }
    spi_dequantise(type, blocks, 0, 256, values);
    for (uint32_t i = 0; i < 256; i++) {
        if (!isfinite(values[i])) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) {
        return 0;
    }
    sp_dtype type = types[data[0] % TYPE_COUNT];
    decode(type, data + 1, size - 1);
    encode(type, data + 1, size - 1);
    return 0;
}
