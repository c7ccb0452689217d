/* model/fingerprint.c - who a model is.
 *
 * XXH3-128 tells files apart that nobody made to be mistaken for each other; a model is its owner's own file. The quick
 * form reads all of the header (names, shapes, offsets, metadata, vocabulary) and SAMPLES pages of every tensor: two
 * conversions, quantisations or fine-tunes of a model differ in nearly every page, so that what it can miss is a file
 * that was changed by hand or by a failing disk in a few places between the samples. The full form finds those.
 */
#include "model/fingerprint.h"

#include <string.h>

#include "base/hash.h"

#define SAMPLES      16u
#define SAMPLE_BYTES 4096u

/* A chain of hashes: each is seeded by the one before it. */
static void mix(spi_hash *state, const void *bytes, size_t count) {
    spi_hash next = spi_hash_bytes(bytes, count, state->low ^ (uint64_t)count);
    uint64_t pair[4] = {state->low, state->high, next.low, next.high};
    *state = spi_hash_bytes(pair, sizeof pair, 0);
}

static void mix_samples(spi_hash *state, const uint8_t *data, uint64_t bytes) {
    if (!data) {
        return;
    }
    if (bytes <= (uint64_t)SAMPLES * SAMPLE_BYTES) {
        mix(state, data, bytes);
        return;
    }
    uint64_t room = bytes - SAMPLE_BYTES;
    for (uint64_t i = 0; i < SAMPLES; i++) {
        mix(state, data + room * i / (SAMPLES - 1), SAMPLE_BYTES);
    }
}

static void mix_tensor(spi_hash *state, const spi_source_tensor *tensor) {
    mix_samples(state, tensor->data, tensor->bytes);
    if (spi_affine_bits((sp_dtype)tensor->type)) {
        const spi_affine *affine = &tensor->affine;
        uint64_t numbers = tensor->dimensions[1] * (tensor->dimensions[0] / affine->group);
        mix_samples(state, affine->scales, numbers * sp_dtype_block_bytes(affine->type));
        mix_samples(state, affine->biases, numbers * sp_dtype_block_bytes(affine->type));
    }
}

/* What all quantisations of a model have in common. Merges and scores are left out: they decide how text becomes
 * tokens, not what a token means. */
static spi_hash family(const spi_source *source, const sp_model_info *info) {
    spi_hash state = {0};
    uint32_t shape[] = {info->layers,   info->embedding, info->feed_forward, info->heads,
                        info->kv_heads, info->head_dim,  info->vocab};
    mix(&state, info->architecture, strlen(info->architecture));
    mix(&state, info->name, strlen(info->name));
    mix(&state, shape, sizeof shape);
    spi_value_iterator tokens;
    spi_string token;
    const spi_value *list = spi_source_find(source, "tokenizer.ggml.tokens");
    if (list && spi_value_strings(list, &tokens)) {
        while (spi_value_next(&tokens, &token)) {
            mix(&state, token.text, token.bytes);
        }
    }
    return state;
}

static void put(spi_hash hash, uint8_t out[16]) {
    memcpy(out, &hash.low, 8);
    memcpy(out + 8, &hash.high, 8);
}

void spi_fingerprint_quick(const spi_source *source, const sp_model_info *info, sp_fingerprint *fingerprint) {
    uint64_t facts[2] = {spi_source_bytes(source), spi_source_tensor_count(source)};
    spi_hash state = {0};
    mix(&state, facts, sizeof facts);
    for (size_t i = 0; i < source->file_count; i++) {
        mix(&state, source->files[i].bytes, source->files[i].header_bytes);
    }
    for (uint64_t i = 0; i < spi_source_tensor_count(source); i++) {
        mix_tensor(&state, spi_source_tensor_at(source, i));
    }
    put(state, fingerprint->weights);
    put(family(source, info), fingerprint->family);
}

void spi_fingerprint_full(const spi_source *source, uint8_t fingerprint[16]) {
    spi_hash state = spi_hash_bytes(source->files[0].bytes, source->files[0].size, 0);
    for (size_t i = 1; i < source->file_count; i++) {
        mix(&state, source->files[i].bytes, source->files[i].size);
    }
    put(state, fingerprint);
}
