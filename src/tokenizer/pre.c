/* tokenizer/pre.c - pre-tokenisers of byte-level BPE: a name, and the regular expressions that cut a text into words.
 *
 * The names are those of GGUF's tokenizer.ggml.pre. The expressions are the original ones, as each model's published
 * tokenizer.json has them (for names whose original is no list of expressions: as llama.cpp states them). They are
 * applied one after the other, each to what the ones before it left: a match is a part, and so is what lies between two
 * matches. An expression sees its part alone, so that a look-ahead ends where the part does.
 *
 * PCRE2 needs valid UTF-8. In other texts each byte that is part of no valid sequence (RFC 3629) is shown to it as
 * U+FFFD, which is where llama.cpp cuts too; the words are of the original bytes, so that nothing is lost.
 *
 * May include: base. Owns: compiled expressions, shared by all threads; what a match needs is made for each call.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "tokenizer/internal.h"

#define EXPRESSIONS_MAX 6

/* PCRE2's own \s takes U+180E as a space, Unicode's White_Space (which the originals use) does not. */
#define WS  "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define S_  "[" WS "]"
#define NS_ "[^" WS "]"

#define CONTRACTIONS "'s|'t|'re|'ve|'m|'ll|'d"
#define SPACES       S_ "+(?!" NS_ ")|" S_ "+"
#define GPT2         CONTRACTIONS "| ?\\p{L}+| ?\\p{N}+| ?[^" WS "\\p{L}\\p{N}]+|" SPACES
#define WORD         "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define OTHER        " ?[^" WS "\\p{L}\\p{N}]+[\\r\\n]*|" S_ "*[\\r\\n]+|" SPACES
#define LLAMA3       "(?i:" CONTRACTIONS ")|" WORD "|\\p{N}{1,3}|" OTHER
#define QWEN2        "(?i:" CONTRACTIONS ")|" WORD "|\\p{N}|" OTHER
#define UPPER        "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER        "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(suffix)                                                                                                  \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" suffix "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" suffix
#define CASED_OTHER  " ?[^" WS "\\p{L}\\p{N}]+[\\r\\n/]*|" S_ "*[\\r\\n]+|" SPACES
#define GPT4O        CASED("(?i:" CONTRACTIONS ")?") "|\\p{N}{1,3}|" CASED_OTHER
#define TEKKEN       CASED("") "|\\p{N}|" CASED_OTHER
#define CJK          "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+"
#define DEEPSEEK_CJK "[\\x{4e00}-\\x{9fa5}\\x{0800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"
#define BLOOM        " ?[^(" WS "|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{0964}\\x{06d4}\\x{060c})]+"
#define DEEPSEEK3                                                                                                      \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"               \
    " ?[\\p{P}\\p{S}]+[\\r\\n]*|" S_ "*[\\r\\n]+|" SPACES

/* Cased letters of the alphabets that the first DeepSeek models list: Latin, Greek, Cyrillic, Armenian, ... */
#define DEEPSEEK_LETTERS                                                                                               \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}\\x{295}-\\x{2af}"   \
    "\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}"     \
    "\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}"       \
    "\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}"                  \
    "\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}"                  \
    "\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}"          \
    "\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}"         \
    "\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}"          \
    "\\x{2124}\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}"                    \
    "\\x{2145}-\\x{2149}\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}"          \
    "\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}"                   \
    "\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}"                  \
    "\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}"          \
    "\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"
/* The last range is "-" to "~" in its own block, as the original has it. */
#define DEEPSEEK_MARKS "!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}"

typedef struct spi_recipe {
    const char *names; /* each between two spaces */
    bool ignore_merges, add_bos;
    const char *expressions[EXPRESSIONS_MAX]; /* up to the first NULL */
} spi_recipe;

static const spi_recipe recipes[] = {
    {" llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano ", true, true, {LLAMA3}},
    {" dbrx smaug-bpe glm4 chatglm-bpe ", false, false, {LLAMA3}},
    {" qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2 ", false, false, {QWEN2}},
    {" gpt-2 phi-2 mpt olmo jais trillion granite-docling jina-es jina-de jina-v2-es jina-v2-de jina-v1-en jina-v2-code"
     " roberta-bpe gigachat a.x-4.0 mellum modern-bert exaone4 ",
     false,
     false,
     {GPT2}},
    {" smollm starcoder refact command-r codeshell exaone minerva-7b mellum2 ", false, false, {"\\p{N}", GPT2}},
    {" gpt-4o llama4 kanana2 minimax-m2 talkie ", false, false, {GPT4O}},
    {" tiny_aya cohere2moe ", false, false, {"\\d{1,3}(?=(?:\\d{3})*\\b)", GPT4O}},
    {" tekken ", true, true, {TEKKEN}},
    {" deepseek-llm ",
     false,
     false,
     {"[\\r\\n]", S_ "?[" DEEPSEEK_LETTERS "]+", S_ "?[" DEEPSEEK_MARKS "]+", "(?<!" S_ ")" S_ "+$", DEEPSEEK_CJK,
      "\\p{N}+"}},
    {" deepseek-coder ", false, false, {"[\\r\\n]", S_ "?\\p{L}+", S_ "?\\p{P}+", DEEPSEEK_CJK, "\\p{N}"}},
    {" deepseek-v3 hunyuan-dense joyai-llm ", false, false, {"\\p{N}{1,3}", CJK, DEEPSEEK3}},
    {" falcon ", false, false, {"[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"}},
    {" bloom poro-chat gpt3-finnish ", false, false, {BLOOM}},
    {" viking ", false, false, {BLOOM, "\\p{N}"}},
    {" qwen35 ",
     false,
     false,
     {"(?i:" CONTRACTIONS ")|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^" WS "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" S_
      "*[\\r\\n]+|" SPACES}},
    {" bailingmoe bailingmoe2 llada-moe ",
     false,
     false,
     {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^" WS "\\p{L}\\p{N}]++[\\r\\n]*|" S_
      "*[\\r\\n]|" SPACES}},
    {" seed-coder ",
     false,
     false,
     {"(?i:" CONTRACTIONS ")|" WORD "|\\p{N}| ?[^" WS "\\p{L}\\p{N}\\r\\n]+|" S_ "*[\\r\\n]+|" SPACES}},
    {" minicpm5 ", true, false, {"\\p{N}{1,3}", "(?i:" CONTRACTIONS ")|" WORD "|\\p{N}+|" OTHER}},
    {" ufakzeka ", false, false, {WORD "|\\p{N}|" OTHER}},
    /* What llama.cpp takes where a file names none. */
    {" default ", false, false, {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
};

struct spi_pre {
    pcre2_code *codes[EXPRESSIONS_MAX];
    unsigned count;
    bool foreign; /* from a file: a text may cost such an expression only so much */
};

static const spi_recipe *find_recipe(const char *name, size_t name_bytes) {
    char word[64];
    if (name_bytes == 0 || name_bytes > sizeof word - 3 || memchr(name, ' ', name_bytes) ||
        memchr(name, 0, name_bytes)) {
        return NULL;
    }
    snprintf(word, sizeof word, " %.*s ", (int)name_bytes, name);
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++) {
        if (strstr(recipes[i].names, word)) {
            return &recipes[i];
        }
    }
    return NULL;
}

static void *pcre_alloc(size_t bytes, void *env) {
    (void)env;
    return spi_alloc(bytes, 1);
}

static void pcre_free(void *memory, void *env) {
    (void)env;
    spi_free(memory);
}

/* foreign: it comes from a file. */
static sp_status compile(const char *expression, size_t bytes, bool foreign, pcre2_compile_context *context,
                         pcre2_code **code, sp_error *error) {
    int number = 0;
    size_t at = 0;
    uint32_t options =
        PCRE2_UTF | PCRE2_UCP | (foreign ? PCRE2_NEVER_BACKSLASH_C | PCRE2_MULTILINE : PCRE2_DOLLAR_ENDONLY);
    *code = pcre2_compile((PCRE2_SPTR)expression, bytes, options, &number, &at, context);
    if (!*code && number != PCRE2_ERROR_HEAP_FAILED) {
        return spi_fail(error, foreign ? SP_UNSUPPORTED : SP_INTERNAL,
                        "a pre-tokeniser's expression does not compile at %zu: PCRE2 error %d", at, number);
    }
    if (!*code) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for the pre-tokeniser");
    }
    /* Where there is no compiler for this processor or no memory that may be run, the interpreter does it. */
    pcre2_jit_compile(*code, PCRE2_JIT_COMPLETE);
    return SP_OK;
}

/* Names white space as Unicode has it; expressions of at most this length. */
#define FOREIGN_BYTES_MAX 8192u
/* What one match may cost, in steps of PCRE2: words of any length take a few for each character. */
#define FOREIGN_STEPS_MAX 1000000u
static size_t name_white_space(spi_string from, char *out, size_t capacity) {
    size_t count = 0;
    bool in_class = false;
    for (size_t i = 0; i < from.bytes; i++) {
        char next = from.text[i], follows = i + 1 < from.bytes ? from.text[i + 1] : 0;
        const char *put = NULL;
        if (next == '\\' && (follows == 's' || (follows == 'S' && !in_class))) {
            put = in_class ? WS : follows == 's' ? S_ : NS_;
        } else if (!in_class && next == '[') {
            in_class = true;
        } else if (in_class && next == ']') {
            in_class = false;
        }
        size_t bytes = put ? strlen(put) : next == '\\' && follows ? 2 : 1;
        if (bytes > capacity - count) {
            return 0;
        }
        memcpy(out + count, put ? put : from.text + i, bytes);
        count += bytes;
        i += next == '\\' && follows;
    }
    return count;
}

sp_status spi_pre_create_of(spi_value_iterator expressions, spi_pre **pre, sp_error *error) {
    *pre = NULL;
    spi_string from;
    spi_pre *made = spi_alloc(1, sizeof *made);
    char *named = spi_alloc(FOREIGN_BYTES_MAX, 1);
    pcre2_general_context *general = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    pcre2_compile_context *context = general ? pcre2_compile_context_create(general) : NULL;
    sp_status status = SP_OK;
    if (!made || !named || !context) {
        status = spi_fail(error, SP_NO_MEMORY, "no memory for the pre-tokeniser");
    }
    while (!status && spi_value_next(&expressions, &from)) {
        size_t bytes = name_white_space(from, named, FOREIGN_BYTES_MAX);
        if (!bytes || made->count == EXPRESSIONS_MAX) {
            status = spi_fail(error, SP_UNSUPPORTED,
                              "a pre-tokeniser's expression is empty or too long, or there are "
                              "more than %d",
                              EXPRESSIONS_MAX);
        } else {
            status = compile(named, bytes, true, context, &made->codes[made->count], error);
            made->count += !status;
        }
    }
    pcre2_compile_context_free(context);
    pcre2_general_context_free(general);
    spi_free(named);
    if (status) {
        spi_pre_destroy(made);
        return status;
    }
    made->foreign = true;
    *pre = made;
    return SP_OK;
}

sp_status spi_pre_create(const char *name, size_t name_bytes, spi_pre **pre, bool *ignore_merges, bool *add_bos,
                         sp_error *error) {
    const spi_recipe *recipe = find_recipe(name, name_bytes);
    *pre = NULL;
    if (!recipe) {
        char shown[64];
        spi_string_printable((spi_string){name, name_bytes}, shown, sizeof shown);
        return spi_fail(error, SP_UNSUPPORTED, "the pre-tokeniser \"%s\" (tokenizer.ggml.pre) is not supported", shown);
    }
    sp_status status = SP_OK;
    spi_pre *made = spi_alloc(1, sizeof *made);
    pcre2_general_context *general = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    pcre2_compile_context *context = general ? pcre2_compile_context_create(general) : NULL;
    if (!made || !context) {
        status = spi_fail(error, SP_NO_MEMORY, "no memory for the pre-tokeniser");
    }
    for (unsigned i = 0; i < EXPRESSIONS_MAX && !status && recipe->expressions[i]; i++) {
        const char *expression = recipe->expressions[i];
        status = compile(expression, strlen(expression), false, context, &made->codes[made->count], error);
        made->count += !status;
    }
    pcre2_compile_context_free(context);
    pcre2_general_context_free(general);
    if (status) {
        spi_pre_destroy(made);
        return status;
    }
    *ignore_merges = recipe->ignore_merges;
    *add_bos = recipe->add_bos;
    *pre = made;
    return SP_OK;
}

void spi_pre_destroy(spi_pre *pre) {
    if (!pre) {
        return;
    }
    for (unsigned i = 0; i < pre->count; i++) {
        pcre2_code_free(pre->codes[i]);
    }
    spi_free(pre);
}

/* What a call to split needs: PCRE2's results, and for invalid UTF-8 a copy of the text that shows it as U+FFFD. */
typedef struct spi_split {
    const spi_pre *pre;
    spi_work *work;
    sp_status (*word)(spi_work *work, const char *text, size_t bytes);
    pcre2_match_data *match;
    pcre2_match_context *limits; /* NULL: PCRE2's own */
    const char *original;        /* where the next word begins; NULL: the text is valid and words are its parts */
    const char *original_end;
} spi_split;

/* A word is whole: tells where its original bytes are. */
static sp_status emit(spi_split *split, const char *part, size_t bytes) {
    if (!split->original) {
        return split->word(split->work, part, bytes);
    }
    const char *from = split->original;
    for (size_t seen = 0; seen < bytes;) {
        size_t length = spi_utf8_length(split->original, (size_t)(split->original_end - split->original));
        split->original += length ? length : 1;
        seen += length ? length : 3;
    }
    return split->word(split->work, from, (size_t)(split->original - from));
}

static sp_status cut(spi_split *split, unsigned index, const char *part, size_t bytes);

static sp_status pass_on(spi_split *split, unsigned index, const char *part, size_t bytes) {
    if (bytes == 0) {
        return SP_OK;
    }
    return index + 1 < split->pre->count ? cut(split, index + 1, part, bytes) : emit(split, part, bytes);
}

/* Cuts a part by one expression; depth is at most EXPRESSIONS_MAX. */
static sp_status cut(spi_split *split, unsigned index, const char *part, size_t bytes) {
    const pcre2_code *code = split->pre->codes[index];
    size_t done = 0, from = 0;
    sp_status status = SP_OK;
    while (from < bytes && !status) {
        int found = pcre2_match(code, (PCRE2_SPTR)part, bytes, from, PCRE2_NO_UTF_CHECK, split->match, split->limits);
        if (found < 0 && found != PCRE2_ERROR_NOMATCH) {
            /* The compiled code has a small stack of its own; the interpreter uses the heap. */
            found = pcre2_match(code, (PCRE2_SPTR)part, bytes, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, split->match,
                                split->limits);
        }
        if (found == PCRE2_ERROR_NOMATCH) {
            break;
        }
        if (found < 0) {
            return found == PCRE2_ERROR_NOMEMORY
                       ? spi_fail(split->work->error, SP_NO_MEMORY, "no memory to cut the text into words")
                       : spi_fail(split->work->error, SP_LIMIT, "the text cannot be cut into words: PCRE2 error %d",
                                  found);
        }
        const size_t *range = pcre2_get_ovector_pointer(split->match);
        size_t start = range[0], end = range[1];
        if (end <= start) { /* no expression of ours matches nothing; never loop for ever if one did */
            from = start + 1;
            while (from < bytes && ((unsigned char)part[from] & 0xc0u) == 0x80) {
                from++;
            }
            continue;
        }
        status = pass_on(split, index, part + done, start - done);
        if (!status) {
            status = pass_on(split, index, part + start, end - start);
        }
        done = from = end;
    }
    return status ? status : pass_on(split, index, part + done, bytes - done);
}

/* A copy with U+FFFD for each invalid byte; *shown stays NULL if there is none. */
static sp_status show_valid(const char *text, size_t bytes, char **shown, size_t *shown_bytes, sp_error *error) {
    size_t invalid = 0, count = 0;
    *shown = NULL;
    for (size_t at = 0; at < bytes;) {
        size_t length = spi_utf8_length(text + at, bytes - at);
        invalid += length == 0;
        at += length ? length : 1;
    }
    if (invalid == 0) {
        return SP_OK;
    }
    *shown = spi_alloc(bytes + 2 * invalid, 1);
    if (!*shown) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to tokenize %zu bytes", bytes);
    }
    for (size_t at = 0; at < bytes;) {
        size_t length = spi_utf8_length(text + at, bytes - at);
        memcpy(*shown + count, length ? text + at : "\xef\xbf\xbd", length ? length : 3);
        count += length ? length : 3;
        at += length ? length : 1;
    }
    *shown_bytes = count;
    return SP_OK;
}

sp_status spi_pre_split(const spi_pre *pre, const char *text, size_t bytes, spi_work *work,
                        sp_status (*word)(spi_work *work, const char *text, size_t bytes)) {
    spi_split split = {.pre = pre, .work = work, .word = word};
    char *shown;
    size_t shown_bytes = 0;
    if (!pre->count) {
        return word(work, text, bytes);
    }
    if (!work->match) {
        pcre2_general_context *general = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
        work->match = general ? pcre2_match_data_create(1, general) : NULL;
        pcre2_general_context_free(general);
        if (!work->match) {
            return spi_fail(work->error, SP_NO_MEMORY, "no memory to tokenize");
        }
    }
    split.match = work->match;
    if (pre->foreign && !(split.limits = pcre2_match_context_create(NULL))) {
        return spi_fail(work->error, SP_NO_MEMORY, "no memory to tokenize");
    }
    if (pre->foreign) {
        pcre2_set_match_limit(split.limits, FOREIGN_STEPS_MAX);
    }
    sp_status status = show_valid(text, bytes, &shown, &shown_bytes, work->error);
    if (status) {
        pcre2_match_context_free(split.limits);
        return status;
    }
    if (shown) {
        split.original = text;
        split.original_end = text + bytes;
        status = cut(&split, 0, shown, shown_bytes);
    } else {
        status = cut(&split, 0, text, bytes);
    }
    spi_free(shown);
    pcre2_match_context_free(split.limits);
    return status;
}

void spi_pre_done(void *match) {
    pcre2_match_data_free(match);
}
