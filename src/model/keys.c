/* model/keys.c - see keys.h. */
#include "model/keys.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

/* Keys that change no result, whatever they say: they repeat what other places say, or tell where a file came from. */
static const char *const harmless[] = {
    "vocab_size",         /* the height of the embedding */
    "tensor_data_layout", /* how the file was converted */
    "rope.scaling.finetuned",
    "mm.tokens_per_image",          /* of Gemma 3, whose other part reads images */
    "attention.layer_norm_epsilon", /* of norms that subtract the mean, which none of our families has */
};

sp_status spi_keys_open(spi_keys *keys, const spi_source *source, const char *architecture, sp_error *error) {
    *keys = (spi_keys){.source = source, .architecture = architecture, .error = error};
    keys->read = spi_alloc(spi_source_value_count(source), sizeof *keys->read);
    return keys->read ? SP_OK : spi_fail(error, SP_NO_MEMORY, "no memory to read a model's keys");
}

void spi_keys_close(spi_keys *keys) {
    spi_free(keys->read);
}

const spi_value *spi_keys_find(const spi_keys *keys, const char *suffix, char key[SPI_KEY_BYTES_MAX]) {
    snprintf(key, SPI_KEY_BYTES_MAX, "%s.%s", keys->architecture, suffix);
    const spi_value *value = spi_source_find(keys->source, key);
    if (value) {
        keys->read[value - spi_source_value_at(keys->source, 0)] = true;
    }
    return value;
}

sp_status spi_keys_count(const spi_keys *keys, const char *suffix, uint32_t fallback, uint32_t max, uint32_t *out) {
    char key[SPI_KEY_BYTES_MAX];
    const spi_value *value = spi_keys_find(keys, suffix, key);
    uint64_t number = fallback;
    if (!value && !fallback) {
        return spi_fail(keys->error, SP_BAD_FILE, "the key %s is missing", key);
    }
    if (value && value->type == SPI_VALUE_ARRAY) {
        return spi_fail(keys->error, SP_UNSUPPORTED, "%s differs between layers, which is not supported", key);
    }
    if (value && !spi_value_as_u64(value, &number)) {
        return spi_fail(keys->error, SP_BAD_FILE, "%s is not a whole number", key);
    }
    if (number < 1 || number > max) {
        return spi_fail(keys->error, SP_BAD_FILE, "%s is %llu, not in 1..%u", key, (unsigned long long)number, max);
    }
    *out = (uint32_t)number;
    return SP_OK;
}

sp_status spi_keys_number(const spi_keys *keys, const char *suffix, double fallback, float *out) {
    char key[SPI_KEY_BYTES_MAX];
    const spi_value *value = spi_keys_find(keys, suffix, key);
    double number = fallback;
    if (!value && fallback == 0) {
        return spi_fail(keys->error, SP_BAD_FILE, "the key %s is missing", key);
    }
    if (value && (!spi_value_as_f64(value, &number) || !isfinite(number) || number < 1e-12 || number > 1e12)) {
        return spi_fail(keys->error, SP_BAD_FILE, "%s is not a positive number", key);
    }
    *out = (float)number;
    return SP_OK;
}

static bool says_nothing(const spi_value *value) {
    double number;
    uint64_t whole;
    bool flag;
    spi_string text;
    return (spi_value_as_f64(value, &number) && number == 0) || (spi_value_as_u64(value, &whole) && !whole) ||
           (spi_value_as_bool(value, &flag) && !flag) || (spi_value_as_string(value, &text) && !text.bytes);
}

static bool is_harmless(const char *suffix, size_t bytes) {
    for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++) {
        if (strlen(harmless[i]) == bytes && !memcmp(harmless[i], suffix, bytes)) {
            return true;
        }
    }
    return false;
}

sp_status spi_keys_finish(const spi_keys *keys) {
    size_t prefix = strlen(keys->architecture);
    for (uint64_t i = 0; i < spi_source_value_count(keys->source); i++) {
        const spi_value *value = spi_source_value_at(keys->source, i);
        spi_string key = value->key;
        bool own = key.bytes > prefix && key.text[prefix] == '.' && !memcmp(key.text, keys->architecture, prefix);
        if (own && !keys->read[i] && !is_harmless(key.text + prefix + 1, key.bytes - prefix - 1) &&
            !says_nothing(value)) {
            char printable[SPI_KEY_BYTES_MAX];
            spi_string_printable(key, printable, sizeof printable);
            return spi_fail(keys->error, SP_UNSUPPORTED, "the model uses %s, which is not supported for %s", printable,
                            keys->architecture);
        }
    }
    return SP_OK;
}
