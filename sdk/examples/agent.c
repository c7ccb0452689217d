/* agent.c - an actor that talks with a model and remembers.
 *
 *     samepage actor create ada -m model.gguf            (this is the agent that is built in; one of your own:)
 *
 *     clang --target=wasm32-wasi -mexec-model=reactor -O2 -Isdk/c/include -o agent.wasm \
 *         sdk/examples/agent.c sdk/c/samepage_chat.c
 *     samepage actor create ada agent.wasm -m model.gguf
 *
 *     samepage actor send ada "My name is Ada."
 *
 * What was said stays in its session and in its memory, which are kept: there is no code here that saves anything. A
 * message that begins with a slash is a command:
 *
 *     /tell NAME TEXT        sends TEXT to the actor NAME; what it replies is told with the next answer
 *     /remind SECONDS TEXT   wakes up then, and tells TEXT with the next answer
 *     /forget                begins a new conversation
 *
 * Its variables: SYSTEM (a system's message), TEMPERATURE (default 0: the likeliest token), SEED, TOKENS (the longest
 * answer), CONTEXT (tokens that its session holds).
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "samepage_actor.h"
#include "samepage_chat.h"
#include "samepage_utf8.h"

#define WORDS_BYTES   (16u << 10)
#define HISTORY_BYTES (64u << 10)
#define TURNS_MAX     128
#define NEWS_BYTES    4096u
#define SECONDS_MAX   1e10 /* three hundred years */

typedef struct turn {
    uint32_t start, words_bytes, answer_bytes; /* in history, the answer behind the words */
} turn;

static sp_handle model, session, sampler;
static sp_chat format;
static bool is_open;
static uint32_t answer_tokens_max;
static char words[WORDS_BYTES], work[4 * WORDS_BYTES];
static int32_t tokens[8 * WORDS_BYTES];
static char history[HISTORY_BYTES];
static turn turns[TURNS_MAX];
static uint32_t turn_count, history_bytes;
static char news[NEWS_BYTES]; /* what came in meanwhile */
static uint32_t news_bytes;

static int32_t must(int32_t result) {
    if (result < 0) {
        char text[SP_ERROR_TEXT_BYTES];
        fprintf(stderr, "%s\n", sp_error_text(text, sizeof text));
        __builtin_trap(); /* the message is undone and tried again */
    }
    return result;
}

static _Noreturn void refuse(const char *name, const char *text) {
    fprintf(stderr, "the variable %s is '%s', which is no such number\n", name, text);
    __builtin_trap();
}

static uint64_t number(const char *name, uint64_t usual, uint64_t most) {
    const char *text = getenv(name);
    char *end = NULL;
    errno = 0;
    unsigned long long value = text ? strtoull(text, &end, 10) : usual;
    if (text && (end == text || *end || errno || *text == '-' || value > most)) {
        refuse(name, text);
    }
    return value;
}

static float temperature(void) {
    const char *text = getenv("TEMPERATURE");
    char *end = NULL;
    float value = text ? strtof(text, &end) : 0;
    if (text && (end == text || *end || !(value >= 0))) {
        refuse("TEMPERATURE", text);
    }
    return value;
}

static void open_all(void) {
    free(malloc(1)); /* the allocator claims what memory there is before sessions are put behind it */
    sp_sampler_options options = {
        .temperature = temperature(), .top_k = 40, .top_p = 0.95f, .seed = number("SEED", 1, UINT64_MAX)};
    model = must(sp_model_open(""));
    session = must(sp_session_create(model, (uint32_t)number("CONTEXT", 0, UINT32_MAX), 1));
    sampler = must(sp_sampler_create(&options));
    must(sp_chat_open(&format, model, work, sizeof work));
    answer_tokens_max = (uint32_t)number("TOKENS", 512, UINT32_MAX);
    is_open = true;
}

/* ---- what was said ---- */

static void forget_oldest(uint32_t count) {
    uint32_t bytes = count < turn_count ? turns[count].start : history_bytes;
    memmove(history, history + bytes, history_bytes - bytes);
    memmove(turns, turns + count, (turn_count - count) * sizeof *turns);
    history_bytes -= bytes;
    turn_count -= count;
    for (uint32_t i = 0; i < turn_count; i++) {
        turns[i].start -= bytes;
    }
}

static void remember_words(uint32_t bytes) {
    while (turn_count == TURNS_MAX || bytes > HISTORY_BYTES - history_bytes) {
        forget_oldest(1); /* a message is far shorter than the history, so this ends */
    }
    memcpy(history + history_bytes, words, bytes);
    turns[turn_count++] = (turn){history_bytes, bytes, 0};
    history_bytes += bytes;
}

static void remember_answer(const char *text, uint32_t bytes) {
    uint32_t kept = bytes < HISTORY_BYTES - history_bytes ? bytes : HISTORY_BYTES - history_bytes;
    memcpy(history + history_bytes, text, kept);
    history_bytes += kept;
    turns[turn_count - 1].answer_bytes += kept;
}

/* ---- one turn ---- */

/* Tokens of turn i, at tokens[used]. Returns the new count. */
static uint32_t tokenize_turn(uint32_t i, uint32_t used) {
    const turn *t = &turns[i];
    sp_chat_text text = {.text = work, .capacity = sizeof work};
    const char *system = getenv("SYSTEM");
    sp_chat_user(&format, system, history + t->start, t->words_bytes, &text);
    if (t->answer_bytes) {
        sp_chat_answer(&format, history + t->start + t->words_bytes, t->answer_bytes, &text);
    }
    return used + (uint32_t)must(
                      sp_chat_tokenize(&format, model, &text, tokens + used, sizeof tokens / sizeof *tokens - used));
}

/* The context is full: the older half of the conversation is dropped, and the rest is computed anew. */
static void rebuild(void) {
    if (turn_count < 2) {
        fprintf(stderr, "this message does not fit into the context\n");
        __builtin_trap();
    }
    forget_oldest((turn_count + 1) / 2);
    uint32_t count = 0;
    format.turn_count = 0;
    for (uint32_t i = 0; i < turn_count; i++) {
        count = tokenize_turn(i, count);
    }
    must(sp_session_truncate(session, 0));
    int32_t status = sp_session_append(session, tokens, count, SP_LOGITS_LAST);
    if (status == SP_CONTEXT_FULL) {
        rebuild();
    } else {
        must(status);
    }
}

static void append(uint32_t count) {
    int32_t status = sp_session_append(session, tokens, count, SP_LOGITS_LAST);
    if (status == SP_CONTEXT_FULL) {
        rebuild();
    } else {
        must(status);
    }
}

static void say(const char *text, uint32_t bytes) {
    must(sp_actor_reply(text, bytes));
}

/* An answer often begins with a blank that belongs to the format. */
static void show(const char *text, uint32_t bytes, bool *begun) {
    while (!*begun && bytes && (*text == ' ' || *text == '\n')) {
        text++;
        bytes--;
    }
    *begun |= bytes > 0;
    if (bytes) {
        say(text, bytes);
    }
}

static int32_t complain(const char *text) {
    return sp_actor_reply_text(text);
}

/* Appends the words that were read. False: the context has no room for them, even alone, and all is as it was. */
static bool ask(uint32_t bytes) {
    sp_session_info info;
    const sp_chat before = format;
    must(sp_get_session_info(session, &info));
    remember_words(bytes);
    uint32_t count = tokenize_turn(turn_count - 1, 0);
    if (count >= info.context_max) {
        format = before;
        history_bytes = turns[--turn_count].start;
        return false;
    }
    append(count);
    return true;
}

static int32_t answer(uint32_t bytes) {
    char piece[256], shown[sizeof piece + 3];
    sp_utf8 utf8 = {0};
    bool begun = false;
    if (!ask(bytes)) {
        return complain("(this message is too long for my context, so I leave it out)");
    }
    for (uint32_t i = 0; i < answer_tokens_max; i++) {
        int32_t token = must(sp_session_sample(session, sampler));
        if (sp_token_is_end(model, token)) {
            break;
        }
        int32_t length = must(sp_detokenize(model, &token, 1, 0, piece, sizeof piece));
        remember_answer(piece, (uint32_t)length);
        show(shown, sp_utf8_push(&utf8, piece, (uint32_t)length, shown), &begun);
        *tokens = token;
        append(1);
    }
    show(shown, sp_utf8_finish(&utf8, shown), &begun);
    return 0;
}

/* ---- other messages ---- */

static void add_news(const char *before, const char *name, const char *text, uint32_t bytes) {
    int length = snprintf(news + news_bytes, NEWS_BYTES - news_bytes, "[%s%s: %.*s]\n", before, name, (int)bytes, text);
    news_bytes = length < 0 || (uint32_t)length >= NEWS_BYTES - news_bytes ? news_bytes : news_bytes + (uint32_t)length;
}

static void tell_news(void) {
    if (news_bytes) {
        say(news, news_bytes);
        news_bytes = 0;
    }
}

static int32_t command(char *text) {
    char *first = strtok(text, " "), *second = strtok(NULL, " "), *rest = strtok(NULL, "");
    if (!strcmp(first, "/forget")) {
        must(sp_session_truncate(session, 0));
        forget_oldest(turn_count);
        format.turn_count = 0;
        return complain("(forgotten)");
    }
    if (!strcmp(first, "/tell") && rest) {
        int64_t id = sp_actor_send(second, rest, (uint32_t)strlen(rest));
        char why[SP_ERROR_TEXT_BYTES];
        return complain(id < 0 ? sp_error_text(why, sizeof why) : "(sent)");
    }
    if (!strcmp(first, "/remind") && rest) {
        char *end, why[SP_ERROR_TEXT_BYTES];
        double seconds = strtod(second, &end);
        if (end == second || *end || !(seconds >= 0 && seconds <= SECONDS_MAX)) {
            return complain("(that is no number of seconds)");
        }
        int32_t status = sp_actor_sleep_until(sp_actor_time_ms() + (int64_t)(seconds * 1000), rest);
        return complain(status < 0 ? sp_error_text(why, sizeof why) : "(I shall)");
    }
    return complain("(commands are /tell NAME TEXT, /remind SECONDS TEXT and /forget)");
}

int32_t sp_actor_receive(void) {
    sp_actor_message message;
    char name[SP_ACTOR_NAME_BYTES];
    if (!is_open) {
        open_all();
    }
    must(sp_actor_get_message(&message));
    uint32_t bytes = (uint32_t)must(sp_actor_read(0, words, WORDS_BYTES - 1));
    words[bytes] = 0;
    switch (message.kind) {
    case SP_ACTOR_REPLY: add_news("", sp_actor_sender(name), words, bytes); return 0;
    case SP_ACTOR_FAILED: add_news("not delivered to ", sp_actor_sender(name), words, bytes); return 0;
    case SP_ACTOR_TIMER: add_news("reminder", "", words, bytes); return 0;
    case SP_ACTOR_ACTOR: break;
    default: tell_news();
    }
    if (*words == '/') {
        return command(words);
    }
    return message.bytes > bytes ? complain("(this message is longer than I can read, so I leave it out)")
                                 : answer(bytes);
}
