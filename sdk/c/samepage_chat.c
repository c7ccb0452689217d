/* samepage_chat.c - see samepage_chat.h.
 *
 * The formats are those that the models' own templates write (tokenizer_config.json of the public models; the golden
 * file of tests/unit/test_chat.c was rendered from them). Two liberties: a system message goes into the first turn even
 * where a template would move it to the last one, because what was said stays said; and an answer is closed when the
 * next turn begins, not when it ends. What a template says by itself if there is no system message is known where it is
 * one literal; Granite's since 3.1, which has a date in it, is left out.
 */
#include "samepage_chat.h"

#include <string.h>

enum {
    PLAIN,
    LLAMA_3,
    LLAMA_3_1,
    CHATML,
    GEMMA,
    PHI_3,
    PHI_4_MINI,
    ZEPHYR,
    OLMO_2,
    GRANITE,
    LLAMA_2,
    MISTRAL_0,
    MISTRAL_1,
    MISTRAL_3,
    MISTRAL_3_TEKKEN,
    MISTRAL_7,
    MISTRAL_7_TEKKEN
};

#define GRANITE_ROLE(role)   "<|start_of_role|>" role "<|end_of_role|>"
#define LLAMA_3_HEADER(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"

static const sp_chat_format formats[] = {
    [PLAIN] = {.name = "plain",
               .system_before = "",
               .system_after = "\n\n",
               .user_before = "User: ",
               .user_after = "\n",
               .answer_before = "Assistant:",
               .answer_lead = " ",
               .answer_after = "\n"},
    [LLAMA_3] = {.name = "llama-3",
                 .system_before = LLAMA_3_HEADER("system"),
                 .system_after = "<|eot_id|>",
                 .user_before = LLAMA_3_HEADER("user"),
                 .user_after = "<|eot_id|>",
                 .answer_before = LLAMA_3_HEADER("assistant"),
                 .answer_after = "<|eot_id|>",
                 .trims = true},
    [LLAMA_3_1] = {.name = "llama-3.1", /* the dates are those that the template writes unless it is told of others */
                   .system_before =
                       LLAMA_3_HEADER("system") "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n",
                   .system_after = "<|eot_id|>",
                   .user_before = LLAMA_3_HEADER("user"),
                   .user_after = "<|eot_id|>",
                   .answer_before = LLAMA_3_HEADER("assistant"),
                   .answer_after = "<|eot_id|>",
                   .system_always = true,
                   .trims = true},
    [CHATML] = {.name = "chatml",
                .system_before = "<|im_start|>system\n",
                .system_after = "<|im_end|>\n",
                .user_before = "<|im_start|>user\n",
                .user_after = "<|im_end|>\n",
                .answer_before = "<|im_start|>assistant\n",
                .answer_after = "<|im_end|>\n"},
    [GEMMA] = {.name = "gemma",
               .system_before = "",
               .system_after = "\n\n",
               .user_before = "<start_of_turn>user\n",
               .user_after = "<end_of_turn>\n",
               .answer_before = "<start_of_turn>model\n",
               .answer_after = "<end_of_turn>\n",
               .system_inside = true,
               .trims = true},
    [PHI_3] = {.name = "phi-3",
               .system_before = "<|system|>\n",
               .system_after = "<|end|>\n",
               .user_before = "<|user|>\n",
               .user_after = "<|end|>\n",
               .answer_before = "<|assistant|>\n",
               .answer_after = "<|end|>\n"},
    [PHI_4_MINI] = {.name = "phi-4-mini",
                    .system_before = "<|system|>",
                    .system_after = "<|end|>",
                    .user_before = "<|user|>",
                    .user_after = "<|end|>",
                    .answer_before = "<|assistant|>",
                    .answer_after = "<|end|>"},
    [ZEPHYR] = {.name = "zephyr",
                .system_before = "<|system|>\n",
                .system_after = "</s>\n",
                .user_before = "<|user|>\n",
                .user_after = "</s>\n",
                .answer_before = "<|assistant|>\n",
                .answer_after = "</s>\n"},
    [OLMO_2] = {.name = "olmo-2",
                .system_before = "<|system|>\n",
                .system_after = "\n",
                .user_before = "<|user|>\n",
                .user_after = "\n",
                .answer_before = "<|assistant|>\n",
                .answer_after = "<|endoftext|>\n"},
    [GRANITE] = {.name = "granite",
                 .system_before = GRANITE_ROLE("system"),
                 .system_after = "<|end_of_text|>\n",
                 .user_before = GRANITE_ROLE("user"),
                 .user_after = "<|end_of_text|>\n",
                 .answer_before = GRANITE_ROLE("assistant"),
                 .answer_after = "<|end_of_text|>\n"},
    [LLAMA_2] = {.name = "llama-2",
                 .system_before = "<<SYS>>\n",
                 .system_after = "\n<</SYS>>\n\n",
                 .user_before = "[INST] ",
                 .user_after = " [/INST]",
                 .answer_lead = " ",
                 .answer_after = " </s><s>",
                 .system_inside = true,
                 .trims = true},
    [MISTRAL_0] = {.name = "mistral",
                   .system_before = "",
                   .system_after = "\n\n",
                   .user_before = "[INST] ",
                   .user_after = " [/INST]",
                   .answer_after = "</s>",
                   .system_inside = true},
    [MISTRAL_1] = {.name = "mistral-v1",
                   .system_before = "",
                   .system_after = "\n\n",
                   .user_before = " [INST] ",
                   .user_after = " [/INST]",
                   .answer_lead = " ",
                   .answer_after = "</s>",
                   .system_inside = true},
    [MISTRAL_3] = {.name = "mistral-v3",
                   .system_before = "",
                   .system_after = "\n\n",
                   .user_before = "[INST] ",
                   .user_after = "[/INST]",
                   .answer_lead = " ",
                   .answer_after = "</s>",
                   .system_inside = true},
    [MISTRAL_3_TEKKEN] = {.name = "mistral-v3-tekken",
                          .system_before = "",
                          .system_after = "\n\n",
                          .user_before = "[INST]",
                          .user_after = "[/INST]",
                          .answer_after = "</s>",
                          .system_inside = true},
    [MISTRAL_7] = {.name = "mistral-v7",
                   .system_before = "[SYSTEM_PROMPT] ",
                   .system_after = "[/SYSTEM_PROMPT]",
                   .user_before = "[INST] ",
                   .user_after = "[/INST]",
                   .answer_lead = " ",
                   .answer_after = "</s>"},
    [MISTRAL_7_TEKKEN] = {.name = "mistral-v7-tekken",
                          .system_before = "[SYSTEM_PROMPT]",
                          .system_after = "[/SYSTEM_PROMPT]",
                          .user_before = "[INST]",
                          .user_after = "[/INST]",
                          .answer_after = "</s>"},
};

/* ---- finding the format ---- */

typedef struct span {
    const char *text;
    uint32_t length;
} span;

static const char *find(span where, const char *what) {
    uint32_t length = (uint32_t)strlen(what);
    for (uint32_t i = 0; i + length <= where.length; i++) {
        if (!memcmp(where.text + i, what, length)) {
            return where.text + i;
        }
    }
    return NULL;
}

static int detect_inst(span t) {
    if (find(t, "[SYSTEM_PROMPT]")) {
        return find(t, "[SYSTEM_PROMPT] ") || find(t, "[INST] ") ? MISTRAL_7 : MISTRAL_7_TEKKEN;
    }
    if (find(t, "<<SYS>>")) {
        return LLAMA_2;
    }
    if (find(t, " [INST]")) {
        return MISTRAL_1;
    }
    if (find(t, "\"[INST]\"") || find(t, "'[INST]'")) {
        return MISTRAL_3_TEKKEN;
    }
    return find(t, "[AVAILABLE_TOOLS]") ? MISTRAL_3 : MISTRAL_0;
}

static int detect(span t) {
    if (find(t, "<|start_header_id|>")) {
        return find(t, "Cutting Knowledge Date: December 2023") ? LLAMA_3_1 : LLAMA_3;
    }
    if (find(t, "<|im_start|>") && !find(t, "<|im_sep|>")) {
        return CHATML;
    }
    if (find(t, "<start_of_turn>")) {
        return GEMMA;
    }
    if (find(t, "<|start_of_role|>")) {
        return GRANITE;
    }
    if (find(t, "[INST]")) {
        return detect_inst(t);
    }
    if (find(t, "<|assistant|>")) {
        bool ends = find(t, "eos_token") != NULL, begins = find(t, "bos_token") != NULL;
        return find(t, "<|tool|>") ? PHI_4_MINI : find(t, "<|end|>") ? PHI_3 : !ends ? PLAIN : begins ? OLMO_2 : ZEPHYR;
    }
    return PLAIN;
}

/* Many ChatML templates write a system message of their own when there is none: it stands there as one literal, in
 * which the line's end is a real one or an escaped one. */
static void find_system_default(sp_chat *chat, span t) {
    static const char *const starts[] = {"<|im_start|>system\\n", "<|im_start|>system\n"};
    for (unsigned i = 0; i < 2; i++) {
        span rest = t;
        const char *at;
        while ((at = find(rest, starts[i]))) {
            at += strlen(starts[i]);
            rest = (span){at, (uint32_t)(t.text + t.length - at)};
            const char *end = find(rest, "<|im_end|>");
            uint32_t length = end ? (uint32_t)(end - at) : 0;
            if (!length || length >= sizeof chat->system_default || memchr(at, '\'', length) ||
                memchr(at, '"', length) || memchr(at, '{', length) || memchr(at, '\\', length)) {
                continue;
            }
            memcpy(chat->system_default, at, length);
            chat->system_default[length] = 0;
            return;
        }
    }
}

void sp_chat_init(sp_chat *chat, const char *template_text, uint32_t template_bytes) {
    span t = {template_text, template_bytes};
    memset(chat, 0, sizeof *chat);
    int which = detect(t);
    chat->format = &formats[which];
    chat->template_has_bos = find(t, "bos_token") != NULL;
    if (which == CHATML) {
        find_system_default(chat, t);
    }
}

int32_t sp_chat_open(sp_chat *chat, sp_handle model, char *work, uint32_t work_bytes) {
    int32_t length = sp_model_metadata(model, "tokenizer.chat_template", work, work_bytes);
    if (length < 0 && length != SP_NOT_FOUND) {
        return length;
    }
    sp_chat_init(chat, work, length < 0 ? 0 : (uint32_t)length);
    return SP_OK;
}

/* ---- writing ---- */

static void put(sp_chat_text *text, const char *bytes, uint32_t length) {
    if (length > text->capacity - text->length) {
        text->overflow = true;
        return;
    }
    memcpy(text->text + text->length, bytes, length);
    text->length += length;
}

static void put_mark(sp_chat_text *text, const char *mark) {
    if (mark) {
        put(text, mark, (uint32_t)strlen(mark));
    }
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void put_words(const sp_chat *chat, sp_chat_text *text, const char *words, uint32_t length) {
    while (chat->format->trims && length && is_space(words[length - 1])) {
        length--;
    }
    while (chat->format->trims && length && is_space(*words)) {
        words++;
        length--;
    }
    if (text->piece_count == SP_CHAT_PIECES_MAX) {
        text->overflow = true;
        return;
    }
    text->pieces[text->piece_count].start = text->length;
    put(text, words, length);
    text->pieces[text->piece_count++].end = text->length;
}

static void put_system(const sp_chat *chat, sp_chat_text *text, const char *system) {
    if (*system || chat->format->system_always) {
        put_mark(text, chat->format->system_before);
        put_words(chat, text, system, (uint32_t)strlen(system));
        put_mark(text, chat->format->system_after);
    }
}

void sp_chat_user(sp_chat *chat, const char *system, const char *user, uint32_t user_bytes, sp_chat_text *text) {
    const sp_chat_format *f = chat->format;
    bool first = chat->turn_count++ == 0;
    system = system ? system : chat->system_default;
    text->is_first |= first;
    if (!first) {
        put_mark(text, f->answer_after);
    }
    if (first && !f->system_inside) {
        put_system(chat, text, system);
    }
    put_mark(text, f->user_before);
    if (first && f->system_inside) {
        put_system(chat, text, system);
    }
    put_words(chat, text, user, user_bytes);
    put_mark(text, f->user_after);
    put_mark(text, f->answer_before);
}

void sp_chat_answer(sp_chat *chat, const char *answer, uint32_t answer_bytes, sp_chat_text *text) {
    const char *lead = chat->format->answer_lead;
    if (lead && answer_bytes && *answer != *lead) {
        put_mark(text, lead);
    }
    put_words(chat, text, answer, answer_bytes);
}

/* ---- tokens ---- */

/* True if the piece contains no name of a special token: then it is the same with and without parsing them, and the
 * whole text can go through the tokenizer at once, exactly as the model saw such texts in training. */
static int32_t is_harmless(sp_handle model, const char *piece, uint32_t bytes, int32_t *tokens, uint32_t capacity) {
    uint32_t half = capacity / 2;
    int32_t plain = sp_tokenize(model, piece, bytes, 0, tokens, half);
    if (plain < 0) {
        return plain;
    }
    int32_t parsed = sp_tokenize(model, piece, bytes, SP_ENCODE_PARSE_SPECIAL, tokens + half, half);
    if (parsed < 0) {
        return parsed;
    }
    return plain == parsed && !memcmp(tokens, tokens + half, (size_t)plain * sizeof *tokens);
}

/* Marks with special tokens, people's words without. */
static int32_t tokenize_pieces(sp_handle model, const sp_chat_text *text, int32_t *tokens, uint32_t capacity) {
    uint32_t at = 0, used = 0;
    for (uint32_t i = 0; i <= text->piece_count; i++) {
        uint32_t start = i < text->piece_count ? text->pieces[i].start : text->length;
        uint32_t end = i < text->piece_count ? text->pieces[i].end : text->length;
        int32_t count = start > at ? sp_tokenize(model, text->text + at, start - at, SP_ENCODE_PARSE_SPECIAL,
                                                 tokens + used, capacity - used)
                                   : 0;
        if (count < 0) {
            return count;
        }
        used += (uint32_t)count;
        count =
            end > start ? sp_tokenize(model, text->text + start, end - start, 0, tokens + used, capacity - used) : 0;
        if (count < 0) {
            return count;
        }
        used += (uint32_t)count;
        at = end;
    }
    return (int32_t)used;
}

/* The beginning-of-text token if the model's file or its template asks for it, else a negative number. */
static int32_t first_token(const sp_chat *chat, sp_handle model) {
    int32_t bos = sp_token_bos(model), wanted[4];
    if (bos < 0 || chat->template_has_bos) {
        return bos;
    }
    return sp_tokenize(model, "", 0, SP_ENCODE_SPECIAL, wanted, 4) > 0 && wanted[0] == bos ? bos : -1;
}

int32_t sp_chat_tokenize(const sp_chat *chat, sp_handle model, const sp_chat_text *text, int32_t *tokens,
                         uint32_t capacity) {
    if (text->overflow || capacity < 2) {
        return SP_BUFFER_TOO_SMALL;
    }
    int32_t harmless = 1;
    for (uint32_t i = 0; i < text->piece_count && harmless > 0; i++) {
        uint32_t start = text->pieces[i].start, end = text->pieces[i].end;
        harmless = is_harmless(model, text->text + start, end - start, tokens, capacity);
    }
    if (harmless < 0) {
        return harmless;
    }
    int32_t bos = text->is_first ? first_token(chat, model) : -1;
    uint32_t used = 0;
    if (bos >= 0) {
        tokens[used++] = bos;
    }
    int32_t count =
        harmless ? sp_tokenize(model, text->text, text->length, SP_ENCODE_PARSE_SPECIAL, tokens + used, capacity - used)
                 : tokenize_pieces(model, text, tokens + used, capacity - used);
    return count < 0 ? count : (int32_t)used + count;
}
