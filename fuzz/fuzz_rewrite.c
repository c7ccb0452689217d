/* fuzz/fuzz_rewrite.c - the pass over modules that exports all of their state. What it makes of a module must
 * read as one again. */
#include <stdlib.h>

#include "guest/rewrite.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    spi_rewrite rewrite;
    if (spi_rewrite_module(data, size, &rewrite, NULL) == SP_OK) {
        spi_rewrite again;
        /* What was made reads as a module, and is refused the second time for our own exports. */
        if (spi_rewrite_module(rewrite.wasm, rewrite.wasm_bytes, &again, NULL) == SP_BAD_FILE) {
            abort();
        }
        spi_rewrite_free(&again);
    }
    spi_rewrite_free(&rewrite);
    return 0;
}
