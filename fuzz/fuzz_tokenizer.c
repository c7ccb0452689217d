/* fuzz/fuzz_tokenizer.c - any bytes as text, with the golden vocabularies: encoding never fails, and for the byte-level
 * family what comes back is what went in. The first byte chooses the vocabulary and the flags. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf/gguf.h"
#include "tokenizer/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const files[] = {"tokenizer-llama3.gguf", "tokenizer-gpt2.gguf", "tokenizer-qwen2.gguf",
                                    "tokenizer-spm.gguf"};

static const sp_tokenizer *open_one(unsigned index) {
    static sp_tokenizer *opened[4];
    if (!opened[index]) {
        char path[1024];
        spi_source *gguf;
        snprintf(path, sizeof path, "%s/tests/golden/%s", SPI_FUZZ_SOURCE, files[index]);
        if (spi_gguf_open(path, &gguf, NULL) || spi_tokenizer_create(gguf, &opened[index], NULL)) {
            abort();
        }
        spi_source_close(gguf);
    }
    return opened[index];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    unsigned index = data[0] & 3u;
    uint32_t flags = data[0] >> 2 & 3u;
    const sp_tokenizer *tokenizer = open_one(index);
    size_t count = 0, again = 0, bytes = 0, room = (size - 1) * 4 + 16;
    int32_t *tokens = malloc(room * sizeof *tokens);
    char *text = malloc(room * 64);
    if (!tokens || !text) {
        abort();
    }
    if (sp_tokenizer_encode(tokenizer, (const char *)data + 1, size - 1, flags, tokens, room, &count, NULL) ||
        sp_tokenizer_decode(tokenizer, tokens, count, SP_DECODE_SPECIAL, text, room * 64, &bytes, NULL)) {
        abort();
    }
    sp_tokenizer_encode(tokenizer, (const char *)data + 1, size - 1, flags, NULL, 0, &again, NULL);
    if (again != count) {
        abort();
    }
    bool is_byte_level = index < 3 && !(flags & SP_ENCODE_SPECIAL);
    if (is_byte_level && (bytes != size - 1 || memcmp(text, data + 1, bytes))) {
        abort();
    }
    free(tokens);
    free(text);
    return 0;
}
