/* hf/tokens.c - tokenizer.json, tokenizer_config.json, generation_config.json and the chat template to GGUF's keys, and
 * to a few of ours for what GGUF has no keys for (src/tokenizer/internal.h lists them).
 *
 * Format: github.com/huggingface/tokenizers; what each part means is told where it is read. A part that is not known
 * makes the tokenizer unusable (SP_UNSUPPORTED, kept in the source), not the model: token ids can still be computed
 * with.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "hf/vocabulary.h"

#define EXPRESSIONS_MAX 6u /* as src/tokenizer/pre.c takes */
#define ENDS_MAX        64u

typedef struct tokens {
    spi_hf_reader *read;
    spi_compose *to;
    sp_error *error;
    const cJSON *root, *model; /* without what is in the vocabulary */
    spi_hf_vocabulary *vocabulary;
    bool byte_level, byte_fallback;
    bool prepends; /* by a normaliser */
    const cJSON *expressions[EXPRESSIONS_MAX];
    const char *own_expressions[EXPRESSIONS_MAX]; /* where an entry means one */
    uint32_t expression_count;
    int32_t bos;
} tokens;

static sp_status unsupported(const tokens *t, const char *what, const char *name) {
    char shown[64];
    spi_string_printable(spi_json_string(name), shown, sizeof shown);
    return spi_fail(t->error, SP_UNSUPPORTED, "tokenizer.json: %s %s is not supported", what, shown);
}

static sp_status bad(const tokens *t, const char *what) {
    return spi_fail(t->error, SP_BAD_FILE, "tokenizer.json: %s", what);
}

static const cJSON *get(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNull(item) ? NULL : item;
}

static const char *text_of(const cJSON *object, const char *key) {
    const cJSON *item = get(object, key);
    return cJSON_IsString(item) ? item->valuestring : "";
}

static bool flag_of(const cJSON *object, const char *key, bool fallback) {
    const cJSON *item = get(object, key);
    return cJSON_IsBool(item) ? cJSON_IsTrue(item) : fallback;
}

static sp_status take_model(tokens *t) {
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    t->model = get(t->root, "model");
    const char *type = text_of(t->model, "type");
    if (strcmp(type, "BPE") != 0) {
        return t->model ? unsupported(t, "model.type", type[0] ? type : "(none)") : bad(t, "model is missing");
    }
    for (size_t i = 0; i < 2; i++) {
        if (text_of(t->model, affixes[i])[0]) {
            return unsupported(t, "model", affixes[i]);
        }
    }
    t->byte_fallback = flag_of(t->model, "byte_fallback", false);
    return spi_hf_vocabulary_read(t->vocabulary, t->byte_fallback, t->prepends);
}

/* ---- normalisers: what is done to text before it is cut ---- */

static sp_status take_normalizer(tokens *t, const cJSON *entry, unsigned depth) {
    const char *type = text_of(entry, "type");
    const cJSON *item;
    if (!entry) {
        return SP_OK;
    }
    if (!strcmp(type, "Sequence") && depth < 4) {
        cJSON_ArrayForEach(item, get(entry, "normalizers")) {
            sp_status status = take_normalizer(t, item, depth + 1);
            if (status) {
                return status;
            }
        }
        return SP_OK;
    }
    if (!strcmp(type, "NFC")) {
        spi_compose_bool(t->to, "tokenizer.composes", true);
        return SP_OK;
    }
    if (!strcmp(type, "Prepend") && !strcmp(text_of(entry, "prepend"), "\xe2\x96\x81")) {
        spi_compose_string(t->to, "tokenizer.space_prefix", spi_json_string("always"));
        t->prepends = true;
        return SP_OK;
    }
    if (!strcmp(type, "Replace") && !strcmp(text_of(get(entry, "pattern"), "String"), " ") &&
        !strcmp(text_of(entry, "content"), "\xe2\x96\x81")) {
        spi_compose_bool(t->to, "tokenizer.escapes_spaces", true);
        return SP_OK;
    }
    return unsupported(t, "normalizer", type);
}

/* ---- pre-tokenisers: how text is cut into words ---- */

static sp_status add_expression(tokens *t, const cJSON *expression, const char *own) {
    if (t->expression_count == EXPRESSIONS_MAX) {
        return unsupported(t, "pre_tokenizer:", "more than six expressions");
    }
    t->expressions[t->expression_count] = expression;
    t->own_expressions[t->expression_count++] = own;
    return SP_OK;
}

static sp_status take_split(tokens *t, const cJSON *entry) {
    const cJSON *pattern = get(entry, "pattern"), *expression = get(pattern, "Regex");
    const char *behavior = text_of(entry, "behavior");
    if (cJSON_IsString(expression) && !strcmp(behavior, "Isolated") && !flag_of(entry, "invert", false)) {
        return add_expression(t, expression, NULL);
    }
    /* Gemma's: spaces are something else by then. */
    bool idle = !strcmp(text_of(pattern, "String"), " ");
    const cJSON *normalizer = get(t->root, "normalizer");
    if (idle && !strcmp(text_of(normalizer, "type"), "Replace")) {
        return SP_OK;
    }
    return unsupported(t, "pre_tokenizer Split with the behavior", behavior);
}

/* Spaces become U+2581, which also stands before the text, or only before its beginning. */
static sp_status take_metaspace(tokens *t, const cJSON *entry) {
    const char *scheme = text_of(entry, "prepend_scheme");
    bool older = flag_of(entry, "add_prefix_space", true);
    if (strcmp(text_of(entry, "replacement"), "\xe2\x96\x81") != 0) {
        return unsupported(t, "pre_tokenizer Metaspace with the replacement", text_of(entry, "replacement"));
    }
    scheme = scheme[0] ? scheme : older ? "always" : "never";
    spi_compose_bool(t->to, "tokenizer.escapes_spaces", true);
    if (strcmp(scheme, "never") != 0) {
        spi_compose_string(t->to, "tokenizer.space_prefix",
                           spi_json_string(!strcmp(scheme, "first") ? "first-unless-there" : "always-unless-there"));
    }
    spi_compose_bool(t->to, "tokenizer.splits_words", flag_of(entry, "split", true));
    return SP_OK;
}

static sp_status take_pre_tokenizer(tokens *t, const cJSON *entry, unsigned depth) {
    const char *type = text_of(entry, "type");
    const cJSON *item;
    sp_status status = SP_OK;
    if (!entry) {
        return SP_OK;
    }
    if (!strcmp(type, "Sequence") && depth < 4) {
        cJSON_ArrayForEach(item, get(entry, "pretokenizers")) {
            status = status ? status : take_pre_tokenizer(t, item, depth + 1);
        }
        return status;
    }
    if (!strcmp(type, "Split")) {
        return take_split(t, entry);
    }
    if (!strcmp(type, "Metaspace")) {
        return take_metaspace(t, entry);
    }
    if (!strcmp(type, "Digits")) {
        return add_expression(t, NULL, flag_of(entry, "individual_digits", false) ? "\\p{N}" : "\\p{N}+");
    }
    if (!strcmp(type, "ByteLevel")) {
        t->byte_level = true;
        if (flag_of(entry, "add_prefix_space", true)) {
            return unsupported(t, "pre_tokenizer ByteLevel with", "add_prefix_space");
        }
        /* GPT-2's own expression: github.com/openai/gpt-2, src/encoder.py */
        return flag_of(entry, "use_regex", true)
                   ? add_expression(
                         t, NULL, "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+")
                   : SP_OK;
    }
    return unsupported(t, "pre_tokenizer", type);
}

static void put_expressions(const tokens *t) {
    spi_compose_strings(t->to, "tokenizer.expressions");
    for (uint32_t i = 0; i < t->expression_count; i++) {
        const char *text = t->own_expressions[i] ? t->own_expressions[i] : t->expressions[i]->valuestring;
        spi_compose_add(t->to, spi_json_string(text));
    }
}

/* ---- what stands before and behind a text ---- */

static sp_status take_template(tokens *t, const cJSON *entry, int32_t *first, int32_t *last) {
    const cJSON *item;
    bool behind = false;
    cJSON_ArrayForEach(item, get(entry, "single")) {
        const cJSON *special = get(item, "SpecialToken");
        if (!special) {
            behind = true;
            continue;
        }
        const char *name = text_of(special, "id");
        const cJSON *ids = get(get(get(entry, "special_tokens"), name), "ids");
        uint64_t id;
        int32_t *to = behind ? last : first;
        if (cJSON_GetArraySize(ids) != 1 || !spi_json_whole(ids->child, &id) || id >= t->vocabulary->count ||
            *to >= 0) {
            return unsupported(t, "post_processor.single with", name);
        }
        *to = (int32_t)id;
    }
    return SP_OK;
}

static sp_status take_post_processor(tokens *t, const cJSON *entry, int32_t *first, int32_t *last, unsigned depth) {
    const char *type = text_of(entry, "type");
    const cJSON *item;
    sp_status status = SP_OK;
    if (!entry || !strcmp(type, "ByteLevel")) {
        return SP_OK;
    }
    if (!strcmp(type, "Sequence") && depth < 4) {
        cJSON_ArrayForEach(item, get(entry, "processors")) {
            status = status ? status : take_post_processor(t, item, first, last, depth + 1);
        }
        return status;
    }
    if (strcmp(type, "TemplateProcessing") != 0) {
        return unsupported(t, "post_processor", type);
    }
    return take_template(t, entry, first, last);
}

/* A token of tokenizer_config.json: its text, or an object that has it. -1: none. */
static int32_t named_token(const tokens *t, const cJSON *config, const char *key) {
    const cJSON *item = get(config, key);
    const char *text = cJSON_IsString(item) ? item->valuestring : text_of(item, "content");
    return text[0] ? spi_hf_vocabulary_find(t->vocabulary, text) : -1;
}

static void add_ends(const tokens *t, const cJSON *item, int32_t ends[ENDS_MAX], uint32_t *count) {
    const cJSON *one = cJSON_IsArray(item) ? item->child : item;
    for (; one && *count < ENDS_MAX; one = cJSON_IsArray(item) ? one->next : NULL) {
        uint64_t id;
        if (spi_json_whole(one, &id) && id < t->vocabulary->count) {
            ends[(*count)++] = (int32_t)id;
        }
    }
}

static sp_status put_ends(tokens *t, const cJSON *config, const cJSON *generation) {
    int32_t first = -1, last = -1, ends[ENDS_MAX];
    uint32_t count = 0;
    sp_status status = take_post_processor(t, get(t->root, "post_processor"), &first, &last, 0);
    if (status) {
        return status;
    }
    int32_t bos = first >= 0 ? first : named_token(t, config, "bos_token");
    bool add_bos =
        first >= 0 || (!get(t->root, "post_processor") && flag_of(config, "add_bos_token", false) && bos >= 0);
    add_ends(t, get(generation, "eos_token_id"), ends, &count);
    add_ends(t, get(t->read->whole_config, "eos_token_id"), ends, &count);
    int32_t eos = last >= 0 ? last : named_token(t, config, "eos_token");
    eos = eos < 0 && count ? ends[0] : eos;
    if (bos >= 0) {
        spi_compose_u32(t->to, "tokenizer.ggml.bos_token_id", (uint32_t)bos);
    }
    if (eos >= 0) {
        spi_compose_u32(t->to, "tokenizer.ggml.eos_token_id", (uint32_t)eos);
    }
    spi_compose_bool(t->to, "tokenizer.ggml.add_bos_token", add_bos);
    spi_compose_bool(t->to, "tokenizer.ggml.add_eos_token", last >= 0);
    spi_compose_numbers(t->to, "tokenizer.end_token_ids", SPI_VALUE_I32, ends, count);
    const char *unknown = text_of(t->model, "unk_token");
    if (unknown[0] && spi_hf_vocabulary_find(t->vocabulary, unknown) >= 0) {
        spi_compose_u32(t->to, "tokenizer.ggml.unknown_token_id",
                        (uint32_t)spi_hf_vocabulary_find(t->vocabulary, unknown));
    }
    return SP_OK;
}

/* ---- the chat template ---- */

static void put_template(const spi_hf_reader *read, const cJSON *item) {
    const cJSON *list = cJSON_IsArray(item) ? item : NULL, *entry;
    if (cJSON_IsString(item)) {
        spi_compose_string(&read->hf->compose, "tokenizer.chat_template", spi_json_string(item->valuestring));
    }
    cJSON_ArrayForEach(entry, list) {
        if (!strcmp(text_of(entry, "name"), "default") && cJSON_IsString(get(entry, "template"))) {
            put_template(read, get(entry, "template"));
            return;
        }
    }
}

static sp_status read_template(spi_hf_reader *read, const cJSON *config) {
    spi_string text;
    sp_status status = spi_hf_text(read, "chat_template.jinja", &text);
    if (status) {
        return status;
    }
    if (text.text) {
        spi_compose_string(&read->hf->compose, "tokenizer.chat_template", text);
    } else {
        put_template(read, get(config, "chat_template"));
    }
    return SP_OK;
}

/* ---- all of it ---- */

static sp_status put_all(tokens *t, const cJSON *config, const cJSON *generation) {
    const cJSON *normalizer = get(t->root, "normalizer");
    sp_status status = take_normalizer(t, normalizer, 0);
    status = status ? status : take_pre_tokenizer(t, get(t->root, "pre_tokenizer"), 0);
    status = status ? status : take_model(t);
    if (!status && !t->byte_level && t->expression_count) {
        status = unsupported(t, "pre_tokenizer", "Split without ByteLevel");
    }
    if (status) {
        return status;
    }
    spi_compose_string(t->to, "tokenizer.ggml.model", spi_json_string(t->byte_level ? "gpt2" : "characters"));
    if (t->byte_level) {
        put_expressions(t);
    }
    spi_compose_bool(t->to, "tokenizer.ignore_merges", flag_of(t->model, "ignore_merges", false));
    spi_compose_bool(t->to, "tokenizer.byte_fallback", t->byte_fallback);
    spi_compose_bool(t->to, "tokenizer.fuses_unknown", flag_of(t->model, "fuse_unk", false));
    status = spi_hf_vocabulary_put(t->vocabulary);
    status = status ? status : spi_hf_vocabulary_put_merges(t->vocabulary);
    return status ? status : put_ends(t, config, generation);
}

static sp_status put_tokenizer(spi_hf_reader *read, spi_string file, const cJSON *config, const cJSON *generation) {
    spi_hf_vocabulary vocabulary;
    cJSON *root;
    sp_status status = spi_hf_vocabulary_open(&vocabulary, read, file, &root);
    if (status) {
        return status;
    }
    tokens t = {.read = read, .to = &read->hf->compose, .error = read->error, .root = root, .vocabulary = &vocabulary};
    status = put_all(&t, config, generation);
    cJSON_Delete(root);
    spi_hf_vocabulary_close(&vocabulary);
    return status;
}

/* What cannot be used is told when it is asked for: what was composed until then is taken back. */
static sp_status keep_or_refuse(spi_hf_reader *read, sp_status status, size_t values) {
    if (status == SP_UNSUPPORTED) {
        read->hf->compose.value_count = values;
        read->source->tokenizer_error = *read->error;
        *read->error = (sp_error){0};
        return SP_OK;
    }
    return status;
}

sp_status spi_hf_read_tokenizer(spi_hf_reader *read) {
    cJSON *config = NULL, *generation = NULL;
    spi_string file;
    sp_status status = spi_hf_text(read, "tokenizer.json", &file);
    status = status ? status : spi_hf_json(read, "tokenizer_config.json", true, &config);
    status = status ? status : spi_hf_json(read, "generation_config.json", true, &generation);
    if (!status) {
        status = read_template(read, config);
    }
    if (!status && !file.text) {
        spi_fail(&read->source->tokenizer_error, SP_UNSUPPORTED,
                 "the folder has no tokenizer.json, and without it no text: it belongs beside config.json");
    } else if (!status) {
        size_t values = read->hf->compose.value_count;
        status = keep_or_refuse(read, put_tokenizer(read, file, config, generation), values);
    }
    cJSON_Delete(config);
    cJSON_Delete(generation);
    return status;
}
