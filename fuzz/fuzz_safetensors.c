/* fuzz/fuzz_safetensors.c - any bytes as a safetensors file: parsed, and the ends of every tensor read. */
#include "safetensors/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned char sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    spi_safetensors file;
    sp_error error;
    if (spi_safetensors_parse(data, size, "fuzz", &file, &error)) {
        return 0;
    }
    for (uint64_t i = 0; i < file.count; i++) {
        const spi_safetensor *tensor = &file.tensors[i];
        char name[32];
        spi_string_printable(tensor->name, name, sizeof name);
        if (tensor->bytes) {
            sink = tensor->data[0] ^ tensor->data[tensor->bytes - 1];
        }
    }
    spi_safetensors_free(&file);
    return 0;
}
