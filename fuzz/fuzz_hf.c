/* fuzz/fuzz_hf.c - any bytes as a model's folder: opened, its values read, its pass recorded, its tokenizer used, the
 * first and last elements of its weights decoded, its fingerprint taken.
 *
 * The input is config.json, tokenizer.json, tokenizer_config.json and model.safetensors, parted by a byte 0x1e, of
 * which the last one may hold more. Files are written to memory where the system has a folder for that. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device/tape.h"
#include "hf/hf.h"
#include "model/fingerprint.h"
#include "model/hparams.h"
#include "model/recorder.h"
#include "tokenizer/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned char sink;
static char folder[64];

static const char *const names[] = {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"};

static void clean(void) {
    char path[128];
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void write_file(const char *name, const uint8_t *bytes, size_t count) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (!file || (count && fwrite(bytes, count, 1, file) != 1) || fclose(file)) {
        abort();
    }
}

static void use_tokenizer(const spi_source *source) {
    static const char text[] = "ab abc <|end|> \xff\xc3\xa9 e\xcc\x81 12\n </s>";
    sp_tokenizer *tokenizer;
    int32_t tokens[256];
    char back[2048];
    size_t count, bytes;
    if (spi_tokenizer_create(source, &tokenizer, NULL)) {
        return;
    }
    if (sp_tokenizer_encode(tokenizer, text, sizeof text - 1, SP_ENCODE_SPECIAL | SP_ENCODE_PARSE_SPECIAL, tokens, 256,
                            &count, NULL) == SP_OK) {
        sp_tokenizer_decode(tokenizer, tokens, count, SP_DECODE_SPECIAL, back, sizeof back, &bytes, NULL);
    }
    spi_tokenizer_destroy(tokenizer);
}

static void use_model(const spi_source *source) {
    spi_hparams hparams;
    spi_recorder recorder;
    sp_error error;
    if (spi_hparams_read(source, &hparams, &error) || spi_recorder_run(&recorder, source, &hparams, &error)) {
        return;
    }
    for (size_t i = 0; i < recorder.tensor_count; i++) {
        const spi_tensor *tensor = &recorder.tensors[i];
        uint32_t block = sp_dtype_block_elements(tensor->type);
        float values[256];
        if (block <= 256 && tensor->cols % block == 0) {
            spi_tensor_values(tensor, 0, 0, block, values);
            spi_tensor_values(tensor, tensor->rows - 1, tensor->cols - block, block, values);
            sink = (unsigned char)(values[0] > 0);
        }
    }
    spi_recorder_free(&recorder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!folder[0]) {
        snprintf(folder, sizeof folder, "%s/samepage-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
        if (!mkdtemp(folder)) {
            abort();
        }
        atexit(clean);
    }
    for (size_t i = 0; i < 4; i++) {
        const uint8_t *end = i < 3 && size ? memchr(data, 0x1e, size) : NULL;
        size_t count = end ? (size_t)(end - data) : size;
        write_file(names[i], data, count);
        data += end ? count + 1 : count;
        size -= end ? count + 1 : count;
    }
    spi_source *source;
    sp_error error;
    if (spi_hf_open(folder, &source, &error)) {
        return 0;
    }
    sp_model_info info = {0};
    sp_fingerprint fingerprint;
    uint8_t full[16];
    spi_fingerprint_quick(source, &info, &fingerprint);
    spi_fingerprint_full(source, full);
    use_model(source);
    use_tokenizer(source);
    spi_source_close(source);
    return 0;
}
