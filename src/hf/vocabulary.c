/* hf/vocabulary.c - see vocabulary.h. */
#include "hf/vocabulary.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "hf/stream.h"

#define REST_BYTES_MAX ((size_t)16 << 20) /* becomes a tree of some 30 times the size, at worst */

static sp_status bad(const spi_hf_vocabulary *v, const char *what) {
    return spi_fail(v->read->error, SP_BAD_FILE, "tokenizer.json: %s", what);
}

static sp_status no_memory(const spi_hf_vocabulary *v) {
    return spi_fail(v->read->error, SP_NO_MEMORY, "no memory for a vocabulary of %u tokens", v->read->vocab);
}

/* ---- parting the file ---- */

typedef struct parts {
    spi_stream stream;
    const char *copied; /* what lies before is in the rest, or is one of the parts */
    char *rest;
    size_t rest_bytes;
} parts;

static void copy_rest(parts *p, const char *end) {
    memcpy(p->rest + p->rest_bytes, p->copied, (size_t)(end - p->copied));
    p->rest_bytes += (size_t)(end - p->copied);
    p->copied = end;
}

/* Takes the value out that comes next; of several with one name the first counts, as for the tree. */
static void take_out(parts *p, spi_string *part) {
    spi_stream_peek(&p->stream);
    const char *begin = p->stream.at;
    spi_stream_skip(&p->stream);
    if (p->stream.at - begin > 4) { /* not shorter than what stands for it */
        copy_rest(p, begin);
        memcpy(p->rest + p->rest_bytes, "null", 4);
        p->rest_bytes += 4;
        p->copied = p->stream.at;
    }
    if (!part->text) {
        *part = (spi_string){begin, (size_t)(p->stream.at - begin)};
    }
}

static void part_model(spi_hf_vocabulary *v, parts *p) {
    spi_string key;
    if (!spi_stream_open(&p->stream, '{')) {
        spi_stream_skip(&p->stream);
        return;
    }
    while (spi_stream_member(&p->stream, &key)) {
        if (spi_stream_equal(key, "vocab")) {
            take_out(p, &v->vocab);
        } else if (spi_stream_equal(key, "merges")) {
            take_out(p, &v->merges);
        } else {
            spi_stream_skip(&p->stream);
        }
    }
}

static void part_all(spi_hf_vocabulary *v, parts *p) {
    spi_string key;
    bool had_model = false;
    if (!spi_stream_open(&p->stream, '{')) {
        spi_stream_skip(&p->stream);
        return;
    }
    while (spi_stream_member(&p->stream, &key)) {
        if (spi_stream_equal(key, "added_tokens")) {
            take_out(p, &v->added);
        } else if (!had_model && spi_stream_equal(key, "model")) {
            had_model = true;
            part_model(v, p);
        } else {
            spi_stream_skip(&p->stream);
        }
    }
}

static sp_status parse_rest(spi_hf_vocabulary *v, spi_string file, const parts *p, cJSON **rest) {
    if (p->stream.bad) {
        return spi_fail(v->read->error, SP_BAD_FILE, "tokenizer.json is no JSON: see byte %zu",
                        (size_t)(p->stream.at - file.text));
    }
    if (p->rest_bytes > REST_BYTES_MAX) {
        return spi_fail(v->read->error, SP_BAD_FILE, "tokenizer.json: %zu bytes beside the vocabulary are too many",
                        p->rest_bytes);
    }
    *rest = cJSON_ParseWithLength(p->rest, p->rest_bytes);
    return *rest ? SP_OK : no_memory(v); /* it is JSON */
}

sp_status spi_hf_vocabulary_open(spi_hf_vocabulary *v, spi_hf_reader *read, spi_string file, cJSON **rest) {
    *v = (spi_hf_vocabulary){.read = read};
    *rest = NULL;
    v->texts = spi_alloc(read->vocab, sizeof *v->texts);
    v->types = spi_alloc(read->vocab, sizeof *v->types);
    v->strips = spi_alloc(read->vocab, sizeof *v->strips);
    parts p = {.stream = spi_stream_of(file), .copied = file.text, .rest = spi_alloc(file.bytes, 1)};
    sp_status status = v->texts && v->types && v->strips && p.rest ? SP_OK : no_memory(v);
    if (!status) {
        part_all(v, &p);
        copy_rest(&p, p.stream.at);
        status = parse_rest(v, file, &p, rest);
    }
    spi_free(p.rest);
    if (status) {
        spi_hf_vocabulary_close(v);
    }
    return status;
}

void spi_hf_vocabulary_close(spi_hf_vocabulary *v) {
    spi_free(v->texts);
    spi_free(v->types);
    spi_free(v->strips);
    spi_free(v->decoded);
    *v = (spi_hf_vocabulary){0};
}

/* ---- texts ---- */

/* The text is good until the next one is asked for; no memory: no text. */
static spi_string decode(spi_hf_vocabulary *v, spi_string raw) {
    if (!raw.bytes || !memchr(raw.text, '\\', raw.bytes)) {
        return raw;
    }
    if (!spi_reserve((void **)&v->decoded, &v->decoded_capacity, raw.bytes, 1)) {
        return (spi_string){0};
    }
    return (spi_string){v->decoded, spi_stream_decode(raw, v->decoded)};
}

static sp_status add(spi_hf_vocabulary *v, spi_string raw) {
    spi_string text = decode(v, raw);
    if (!text.text && raw.text) {
        return no_memory(v);
    }
    spi_compose_add(&v->read->hf->compose, text);
    return SP_OK;
}

/* The beginning of a text, for a message. */
static const char *show(spi_string raw, char shown[64]) {
    char text[64];
    spi_string part = {raw.text, raw.bytes < sizeof text ? raw.bytes : sizeof text};
    spi_string_printable((spi_string){text, spi_stream_decode(part, text)}, shown, 64);
    return shown;
}

int32_t spi_hf_vocabulary_find(const spi_hf_vocabulary *v, const char *text) {
    for (uint32_t id = 0; id < v->count; id++) {
        if (v->texts[id].text && spi_stream_equal(v->texts[id], text)) {
            return (int32_t)id;
        }
    }
    return -1;
}

/* ---- model.vocab: {"text": id} ---- */

static bool is_byte(spi_string text) {
    static const char digits[] = "0123456789ABCDEF";
    return text.bytes == 6 && !memcmp(text.text, "<0x", 3) && text.text[5] == '>' && memchr(digits, text.text[3], 16) &&
           memchr(digits, text.text[4], 16);
}

static sp_status read_vocab(spi_hf_vocabulary *v, bool byte_fallback) {
    spi_stream stream = spi_stream_of(v->vocab);
    spi_string text;
    uint64_t id;
    char shown[64];
    if (!spi_stream_open(&stream, '{')) {
        return bad(v, "model.vocab is missing or no object");
    }
    while (spi_stream_member(&stream, &text)) {
        if (!spi_stream_whole(&stream, &id) || id >= v->read->vocab) {
            return spi_fail(v->read->error, SP_BAD_FILE,
                            "tokenizer.json: model.vocab: the id of \"%s\" is no number below %u", show(text, shown),
                            v->read->vocab);
        }
        if (v->texts[id].text) {
            return spi_fail(v->read->error, SP_BAD_FILE,
                            "tokenizer.json: model.vocab: \"%s\" has the id of another token, %u", show(text, shown),
                            (unsigned)id);
        }
        v->texts[id] = text;
        v->types[id] = byte_fallback && is_byte(text) ? SPI_HF_BYTE : SPI_HF_NORMAL;
        v->count = id >= v->count ? (uint32_t)id + 1 : v->count;
    }
    return SP_OK;
}

/* ---- added_tokens: tokens that are looked for in raw text ---- */

typedef struct added_token {
    spi_string content;
    uint64_t id;
    bool has_id, single_word, lstrip, rstrip, normalized, special;
} added_token;

/* Values of another kind than they should be are as good as none. */
static void read_added_member(spi_stream *stream, spi_string key, added_token *token) {
    const struct {
        const char *key;
        bool *flag;
    } flags[] = {{"single_word", &token->single_word},
                 {"lstrip", &token->lstrip},
                 {"rstrip", &token->rstrip},
                 {"normalized", &token->normalized},
                 {"special", &token->special}};
    bool taken = false;
    if (spi_stream_equal(key, "content")) {
        taken = spi_stream_string(stream, &token->content);
    } else if (spi_stream_equal(key, "id")) {
        taken = token->has_id = spi_stream_whole(stream, &token->id);
    } else {
        for (size_t i = 0; i < sizeof flags / sizeof flags[0] && !taken; i++) {
            taken = spi_stream_equal(key, flags[i].key) && spi_stream_flag(stream, flags[i].flag);
        }
    }
    if (!taken) {
        spi_stream_skip(stream);
    }
}

static sp_status unsupported(const spi_hf_vocabulary *v, const char *what, spi_string name) {
    char shown[64];
    return spi_fail(v->read->error, SP_UNSUPPORTED, "tokenizer.json: %s of the added token %s is not supported", what,
                    show(name, shown));
}

/* Those that the model has no row for cannot be said. */
static sp_status take_added(spi_hf_vocabulary *v, const added_token *token, bool prepends) {
    uint64_t id = token->id;
    if (!token->content.bytes || !token->has_id) {
        return bad(v, "added_tokens holds an entry without content or id");
    }
    if (id >= v->read->vocab) {
        return SP_OK;
    }
    if (token->single_word) {
        return unsupported(v, "single_word", token->content);
    }
    if (token->normalized && (prepends || memchr(token->content.text, ' ', token->content.bytes))) {
        return unsupported(v, "normalized", token->content);
    }
    v->texts[id] = token->content;
    v->types[id] = token->special ? SPI_HF_CONTROL : SPI_HF_USER;
    v->strips[id] = (uint8_t)(token->lstrip | token->rstrip << 1);
    v->has_strips |= v->strips[id] != 0;
    v->count = id >= v->count ? (uint32_t)id + 1 : v->count;
    return SP_OK;
}

static sp_status read_added(spi_hf_vocabulary *v, bool prepends) {
    spi_stream stream = spi_stream_of(v->added);
    spi_string key;
    sp_status status = SP_OK;
    if (spi_stream_peek(&stream) == 'n' || !v->added.text) {
        return SP_OK;
    }
    if (!spi_stream_open(&stream, '[')) {
        return bad(v, "added_tokens is no array");
    }
    while (!status && spi_stream_next(&stream, ']')) {
        added_token token = {0};
        if (!spi_stream_open(&stream, '{')) {
            return bad(v, "added_tokens holds an entry without content or id");
        }
        while (spi_stream_member(&stream, &key)) {
            read_added_member(&stream, key, &token);
        }
        status = take_added(v, &token, prepends);
    }
    return status;
}

sp_status spi_hf_vocabulary_read(spi_hf_vocabulary *v, bool byte_fallback, bool prepends) {
    for (uint32_t id = 0; id < v->read->vocab; id++) {
        v->types[id] = SPI_HF_UNUSED;
    }
    sp_status status = read_vocab(v, byte_fallback);
    return status ? status : read_added(v, prepends);
}

/* ---- as GGUF has them ---- */

sp_status spi_hf_vocabulary_put(spi_hf_vocabulary *v) {
    spi_compose *to = &v->read->hf->compose;
    sp_status status = SP_OK;
    spi_compose_strings(to, "tokenizer.ggml.tokens");
    for (uint32_t id = 0; id < v->count && !status; id++) {
        status = add(v, v->texts[id]);
    }
    spi_compose_numbers(to, "tokenizer.ggml.token_type", SPI_VALUE_I32, v->types, v->count);
    if (v->has_strips) {
        spi_compose_numbers(to, "tokenizer.token_strips", SPI_VALUE_U8, v->strips, v->count);
    }
    return status;
}

static bool read_merge(spi_stream *stream, bool pairs, spi_string *left, spi_string *right) {
    if (!pairs) {
        return spi_stream_string(stream, left);
    }
    return spi_stream_open(stream, '[') && spi_stream_next(stream, ']') && spi_stream_string(stream, left) &&
           spi_stream_next(stream, ']') && spi_stream_string(stream, right) && !spi_stream_next(stream, ']');
}

/* "left right", or ["left", "right"]. */
sp_status spi_hf_vocabulary_put_merges(spi_hf_vocabulary *v) {
    spi_stream stream = spi_stream_of(v->merges), first = stream;
    spi_string left, right = {0};
    if (!spi_stream_open(&stream, '[')) {
        return bad(v, "model.merges is missing or no array");
    }
    spi_stream_open(&first, '[');
    bool pairs = spi_stream_peek(&first) == '[';
    spi_compose_strings(&v->read->hf->compose, pairs ? "tokenizer.merge_pairs" : "tokenizer.ggml.merges");
    sp_status status = SP_OK;
    while (!status && spi_stream_next(&stream, ']')) {
        if (!read_merge(&stream, pairs, &left, &right)) {
            return bad(v, "model.merges holds something that is no pair of strings");
        }
        status = add(v, left);
        status = !status && pairs ? add(v, right) : status;
    }
    return status;
}
