/* apps/guests/chat.c - the guest behind `samepage chat`: a conversation over standard input and output.
 *
 * Each turn appends only what is new, so the session keeps the keys and values of everything said before. When the
 * context is full, the oldest turns are dropped and the rest is built again from its words.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "samepage_chat.h"

#ifndef HISTORY_BYTES /* smaller in a test; two lines always fit into a half of it */
#define LINE_BYTES    (64u << 10)
#define HISTORY_BYTES (1u << 20)
#endif
#define TEXT_BYTES      (256u << 10)
#define TURN_COUNT_MAX  512
#define TOKEN_COUNT_MAX 512 /* unless -n says otherwise */

typedef struct turn {
    uint32_t user_start, user_bytes;
    uint32_t answer_start, answer_bytes;
} turn;

typedef struct chat {
    options o;
    engine e;
    sp_chat format;
    sp_chat_text text;
    int32_t *tokens; /* [token_capacity]: what is to be appended, or all of a rebuilt conversation */
    uint32_t token_capacity;
    int32_t *present; /* [context_max]: what the session has, while rebuilding */
    int32_t *answer_tokens;
    int32_t pending; /* sampled but not appended, or -1 */
    turn turns[TURN_COUNT_MAX];
    uint32_t turn_count;
    char history[HISTORY_BYTES];
    uint32_t history_bytes;
    bool answer_begun; /* something was shown of this answer */
    bool broken;       /* an interrupt left a part of a turn in the session */
    figures last;      /* answer */
    totals all;
} chat;

static chat c;
static char line[LINE_BYTES], work[TEXT_BYTES];

/* ---- what was said ---- */

static void forget_oldest(uint32_t count) {
    uint32_t bytes = count < c.turn_count ? c.turns[count].user_start : c.history_bytes;
    memmove(c.history, c.history + bytes, c.history_bytes - bytes);
    memmove(c.turns, c.turns + count, (c.turn_count - count) * sizeof *c.turns);
    c.history_bytes -= bytes;
    c.turn_count -= count;
    for (uint32_t i = 0; i < c.turn_count; i++) {
        c.turns[i].user_start -= bytes;
        c.turns[i].answer_start -= bytes;
    }
}

static void remember_user(const char *words, uint32_t bytes) {
    while (c.turn_count == TURN_COUNT_MAX || c.history_bytes + bytes > HISTORY_BYTES / 2) {
        forget_oldest(1); /* lines are far shorter than half of the history, so this ends */
    }
    memcpy(c.history + c.history_bytes, words, bytes);
    c.turns[c.turn_count++] = (turn){c.history_bytes, bytes, c.history_bytes + bytes, 0};
    c.history_bytes += bytes;
}

/* Shows a piece of the answer and keeps it. An answer often begins with a blank that belongs to the format. */
static void on_output(void *env, const char *text, uint32_t bytes) {
    turn *last = &c.turns[c.turn_count - 1];
    (void)env;
    uint32_t kept = bytes < HISTORY_BYTES - c.history_bytes ? bytes : HISTORY_BYTES - c.history_bytes;
    memcpy(c.history + c.history_bytes, text, kept);
    c.history_bytes += kept;
    last->answer_bytes += kept;
    while (!c.answer_begun && bytes && (*text == ' ' || *text == '\n')) {
        text++;
        bytes--;
    }
    c.answer_begun |= bytes > 0;
    show(&c.o, text, bytes);
}

/* ---- rebuilding ---- */

/* Formats and tokenises the turns from `first` on; the last answer stays open. Returns a count or a status. */
static int32_t tokenize_turns(uint32_t first) {
    uint32_t used = 0;
    c.format.turn_count = 0;
    for (uint32_t i = first; i < c.turn_count; i++) {
        const turn *t = &c.turns[i];
        sp_chat_reset(&c.text);
        sp_chat_user(&c.format, c.o.system, c.history + t->user_start, t->user_bytes, &c.text);
        if (t->answer_bytes) {
            sp_chat_answer(&c.format, c.history + t->answer_start, t->answer_bytes, &c.text);
        }
        int32_t count = sp_chat_tokenize(&c.format, c.e.model, &c.text, c.tokens + used, c.token_capacity - used);
        if (count < 0) {
            return count;
        }
        used += (uint32_t)count;
    }
    return (int32_t)used;
}

/* Makes the session hold exactly these tokens, keeping what it has of them. */
static bool set_tokens(uint32_t count) {
    int32_t length = sp_session_tokens(c.e.session, c.present, c.e.context_max);
    uint32_t same = 0;
    while (same < count && (int32_t)same < length && c.tokens[same] == c.present[same]) {
        same++;
    }
    same -= same == count && same; /* at least one is computed, for its logits */
    if (sp_session_truncate(c.e.session, same) < 0) {
        fail(&c.o, "the session cannot be shortened");
    }
    return append_prompt(&c.e, c.tokens + same, count - same, &c.last);
}

/* Drops the oldest turns until the rest takes half of the context at most, or until only the last one is left. */
static bool rebuild(void) {
    uint32_t first = 0;
    int32_t count;
    while ((count = tokenize_turns(first)) < 0 || (uint32_t)count > c.e.context_max / 2) {
        if (first + 1 >= c.turn_count) {
            break;
        }
        first++;
    }
    if (count < 0 || (uint32_t)count >= c.e.context_max) {
        return false;
    }
    c.pending = -1;
    if (first) {
        fprintf(stderr, "%s: the context of %u tokens is full: the oldest %u of %u turns are dropped\n", c.o.program,
                c.e.context_max, first, c.turn_count);
    }
    forget_oldest(first);
    c.broken = !set_tokens((uint32_t)count);
    return !c.broken;
}

/* ---- one turn ---- */

/* The last turn has not happened. */
static void unask(const sp_chat *before) {
    c.format = *before;
    c.history_bytes = c.turns[--c.turn_count].user_start;
}

/* Appends the user's words. False if they alone are too many, or on an interrupt; then all is as if they had not been
 * said. */
static bool ask(const char *words, uint32_t bytes) {
    sp_chat before = c.format;
    c.e.interrupted = false;
    remember_user(words, bytes);
    sp_chat_reset(&c.text);
    sp_chat_user(&c.format, c.o.system, words, bytes, &c.text);
    uint32_t used = 0;
    if (c.pending >= 0) {
        c.tokens[used++] = c.pending;
    }
    int32_t count = sp_chat_tokenize(&c.format, c.e.model, &c.text, c.tokens + used, c.token_capacity - used);
    if (count < 0 && count != SP_BUFFER_TOO_SMALL) {
        fail(&c.o, "the message cannot be tokenized");
    }
    if (c.broken || count < 0 || (uint32_t)sp_session_length(c.e.session) + used + (uint32_t)count >= c.e.context_max) {
        if (!rebuild()) {
            unask(&before);
            if (c.e.interrupted) {
                return false;
            }
            fprintf(stderr, "%s: this message alone does not fit into a context of %u tokens: --ctx gives more\n",
                    c.o.program, c.e.context_max);
            return false;
        }
        return true;
    }
    c.pending = -1;
    c.broken = !append_prompt(&c.e, c.tokens, used + (uint32_t)count, &c.last);
    if (c.broken) {
        unask(&before);
    }
    return !c.broken;
}

static void forget_all(void) {
    forget_oldest(c.turn_count);
    c.format.turn_count = 0;
    c.pending = -1;
    c.broken = false;
    sp_session_truncate(c.e.session, 0);
}

static void show_interrupt(void) {
    printf("%s[interrupted]\n", c.answer_begun ? "\n" : "");
    fflush(stdout);
}

static void answer(const char *words, uint32_t bytes) {
    generation g = {.tokens = c.answer_tokens, .lookup = c.o.lookup, .write = on_output};
    uint32_t left = c.o.token_count_max;
    finish finish = FINISH_CONTEXT;
    begin_figures(&c.last);
    c.answer_begun = false;
    if (!ask(words, bytes)) {
        if (c.e.interrupted) {
            show_interrupt();
        }
        return;
    }
    while (left && finish == FINISH_CONTEXT) {
        g.token_count_max = left;
        finish = generate(&c.e, &g, &c.last);
        left -= g.count;
        c.pending = g.pending ? g.tokens[g.count - 1] : -1;
        if (finish == FINISH_CONTEXT && (c.turn_count < 2 || !rebuild())) {
            if (c.e.interrupted) {
                finish = FINISH_INTERRUPTED;
                break;
            }
            fprintf(stderr, "%s%s: the answer ends here: the context of %u tokens is full\n",
                    c.answer_begun ? "\n" : "", c.o.program, c.e.context_max);
            forget_all();
            return;
        }
    }
    if (finish == FINISH_INTERRUPTED) {
        show_interrupt();
    } else {
        putchar('\n');
        fflush(stdout);
    }
    add_figures(&c.all, &c.last);
}

/* ---- commands ---- */

/* True if the line was a command; *quits if it ends the conversation. */
static bool command(const char *words, bool *quits) {
    if (!strcmp(words, "/quit") || !strcmp(words, "/exit")) {
        *quits = true;
    } else if (!strcmp(words, "/clear")) {
        forget_all();
        fprintf(stderr, "%s: cleared\n", c.o.program);
    } else if (!strcmp(words, "/stats")) {
        fprintf(stderr, "%s: %u turns, %d of %u tokens, format %s\n", c.o.program, c.turn_count,
                sp_session_length(c.e.session), c.e.context_max, c.format.format->name);
        print_figures(&c.last, c.o.program);
    } else if (!strcmp(words, "/help")) {
        fprintf(stderr, "/clear  begins anew\n/stats  shows figures of the last answer\n/quit   ends\n");
    } else {
        return false;
    }
    return true;
}

/* Reads a line without its end. False at the end of input. */
static bool read_line(void) {
    if (c.o.show_prompt) {
        fputs("> ", stdout);
        fflush(stdout);
    }
    if (!fgets(line, sizeof line, stdin)) {
        if (ferror(stdin)) {
            fail_text(&c.o, "cannot read standard input");
        }
        return false;
    }
    size_t length = strlen(line);
    if (length == sizeof line - 1 && line[length - 1] != '\n') {
        fprintf(stderr, "%s: a line is cut after %u bytes\n", c.o.program, LINE_BYTES - 1);
        for (int rest = getchar(); rest != EOF && rest != '\n';) {
            rest = getchar();
        }
    }
    while (length && (line[length - 1] == '\n' || line[length - 1] == '\r')) {
        line[--length] = 0;
    }
    return true;
}

int main(int argc, char **argv) {
    c.o = (options){
        .program = argc ? argv[0] : "chat",
        .usage = "[--system TEXT] [-n TOKENS] [--ctx TOKENS] [--temp F] [--top-k N] [--top-p F] [--min-p F]\n"
                 "            [--repeat-penalty F] [--seed N] [--stats] [--lookup N] [--prompt] [--script]",
        .sampling = {.temperature = 0.7f, .top_k = 40, .top_p = 0.95f, .seed = 1},
        .token_count_max = TOKEN_COUNT_MAX,
    };
    parse_options(&c.o, argc, argv,
                  "--system -n --ctx --temp --top-k --top-p --min-p --repeat-penalty --seed --stats --lookup --prompt "
                  "--script");
    open_engine(&c.e, &c.o);
    if (sp_chat_open(&c.format, c.e.model, work, sizeof work) < 0) {
        fail(&c.o, "the chat template cannot be read");
    }
    c.text = (sp_chat_text){.text = work, .capacity = sizeof work};
    c.token_capacity = c.e.context_max * 2 + 16;
    c.tokens = allocate(&c.o, c.token_capacity, sizeof *c.tokens);
    c.present = allocate(&c.o, c.e.context_max, sizeof *c.present);
    c.answer_tokens = allocate(&c.o, c.o.token_count_max, sizeof *c.answer_tokens);
    c.pending = -1;
    bool quits = false;
    while (!quits && read_line()) {
        if (c.o.script) {
            printf("> %s\n", line);
            fflush(stdout);
        }
        if (*line && !(*line == '/' && command(line, &quits))) {
            answer(line, (uint32_t)strlen(line));
        }
    }
    if (c.o.stats && c.all.turns) {
        print_totals(&c.all, c.o.program);
    }
    return EXIT_SUCCESS;
}
