/* fuzz/fuzz_gguf.c - any bytes as a model file: opened, everything in it read, its tokenizer used, its pass recorded,
 * its tensors planned for quantising and their first blocks decoded. */
#include <stdlib.h>
#include <string.h>

#include "device/tape.h"
#include "dtype/dequant.h"
#include "gguf/gguf.h"
#include "gguf/writer.h"
#include "model/hparams.h"
#include "model/recorder.h"
#include "quantise/plan.h"
#include "tokenizer/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned char sink;

static void read_value(const spi_value *value) {
    uint64_t u;
    int64_t i;
    double d;
    bool b;
    spi_string s;
    spi_value_iterator iterator;
    char name[32];
    spi_string_printable(value->key, name, sizeof name);
    spi_value_as_u64(value, &u);
    spi_value_as_i64(value, &i);
    spi_value_as_f64(value, &d);
    spi_value_as_bool(value, &b);
    if (spi_value_as_string(value, &s) && s.bytes) {
        sink = (unsigned char)(s.text[0] ^ s.text[s.bytes - 1]);
    }
    if (spi_value_strings(value, &iterator)) {
        while (spi_value_next(&iterator, &s)) {
            sink = s.bytes ? (unsigned char)s.text[s.bytes - 1] : 0;
        }
    }
    if (value->count) {
        spi_value_array_i64(value, value->count - 1, &i);
        spi_value_array_f64(value, value->count - 1, &d);
    }
}

static void use_tokenizer(const spi_source *gguf) {
    static const char text[] = "ab abc <|end|> \xff\xc3\xa9 12\n";
    sp_tokenizer *tokenizer;
    int32_t tokens[128];
    char back[1024];
    size_t count, bytes;
    if (spi_tokenizer_create(gguf, &tokenizer, NULL)) {
        return;
    }
    if (sp_tokenizer_encode(tokenizer, text, sizeof text - 1, SP_ENCODE_SPECIAL | SP_ENCODE_PARSE_SPECIAL, tokens, 128,
                            &count, NULL) == SP_OK) {
        sp_tokenizer_decode(tokenizer, tokens, count, SP_DECODE_SPECIAL, back, sizeof back, &bytes, NULL);
    }
    spi_tokenizer_destroy(tokenizer);
}

/* What model.c does when it opens a file: numbers, weights by name, the tape; which must then be well formed. */
static void use_model(const spi_source *gguf) {
    spi_hparams hparams;
    spi_recorder recorder;
    sp_error error;
    if (spi_hparams_read(gguf, &hparams, &error) || spi_recorder_run(&recorder, gguf, &hparams, &error)) {
        return;
    }
    const spi_hparams *hp = &recorder.hparams;
    spi_weights weights = {.tensors = recorder.tensors, .count = (uint32_t)recorder.tensor_count};
    spi_tape tape = {.ops = recorder.ops,
                     .op_count = (uint32_t)recorder.op_count,
                     .buffers = recorder.buffers,
                     .buffer_count = (uint32_t)recorder.buffer_count,
                     .kv = {.layers = hp->layers,
                            .kv_heads = hp->kv_heads,
                            .head_dim = hp->head_dim,
                            .block_bytes = spi_kv_block_bytes(SP_KV_F16, hp->layers, hp->kv_heads, hp->head_dim)},
                     .rows_max = 512,
                     .vocab = hp->vocab};
    if (spi_tape_check(&tape, &weights, &error)) {
        abort();
    }
    for (uint32_t i = 0; i < weights.count; i++) {
        const unsigned char *bytes = weights.tensors[i].data;
        sink = (unsigned char)(bytes[0] ^ bytes[weights.tensors[i].bytes - 1]);
    }
    spi_recorder_free(&recorder);
}

static void plan_tensors(const spi_source *gguf) {
    spi_plan plan;
    for (uint32_t i = 0; spi_mix_at(i); i++) {
        if (spi_plan_make(gguf, spi_mix_at(i)->name, i % 2, &plan, NULL)) {
            continue;
        }
        for (uint64_t t = 0; t < spi_source_tensor_count(gguf) && t < 64; t++) {
            sink = (unsigned char)spi_plan_type(&plan, spi_source_tensor_at(gguf, t));
        }
    }
}

/* Rows are aligned as the file's data are, which lie anywhere here: a block is copied out. */
static void decode_first_block(const spi_source_tensor *tensor) {
    uint32_t elements = sp_dtype_block_elements((sp_dtype)tensor->type);
    _Alignas(8) unsigned char block[256];
    float values[256];
    memcpy(block, tensor->data, sp_dtype_block_bytes((sp_dtype)tensor->type));
    spi_dequantise((sp_dtype)tensor->type, block, 0, elements, values);
    sink = values[0] > values[elements - 1];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    spi_source *gguf;
    sp_error error;
    if (spi_gguf_parse(data, size, "fuzz", &gguf, &error)) {
        return 0;
    }
    for (uint64_t i = 0; i < spi_source_value_count(gguf); i++) {
        read_value(spi_source_value_at(gguf, i));
        sink = (unsigned char)spi_gguf_value_bytes(spi_source_value_at(gguf, i));
    }
    for (uint64_t i = 0; i < spi_source_tensor_count(gguf); i++) {
        const spi_source_tensor *tensor = spi_source_tensor_at(gguf, i);
        if (tensor->bytes) {
            const unsigned char *bytes = tensor->data;
            sink = (unsigned char)(bytes[0] ^ bytes[tensor->bytes - 1]);
            decode_first_block(tensor);
        }
    }
    use_tokenizer(gguf);
    use_model(gguf);
    plan_tensors(gguf);
    spi_source_close(gguf);
    return 0;
}
