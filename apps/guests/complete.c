/* apps/guests/complete.c - the guest behind `samepage complete`: one prompt, one continuation. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "samepage_chat.h"

#define PROMPT_BYTES_MAX (1u << 20)
#define TOKEN_COUNT_MAX  128 /* unless -n says otherwise */

typedef struct complete {
    options o;
    engine e;
    char *prompt;
    uint32_t prompt_bytes;
    char *text; /* the answer, for --json */
    uint32_t text_bytes, text_capacity;
    char *held; /* what may be the beginning of a --stop */
    uint32_t held_bytes;
} complete;

static complete c;
static char work[64u << 10];

/* All of standard input, without the line end that a shell puts behind it. */
static void read_prompt(void) {
    if (c.o.prompt) {
        c.prompt_bytes = (uint32_t)strlen(c.o.prompt);
        c.prompt = allocate(&c.o, c.prompt_bytes + 1, 1);
        memcpy(c.prompt, c.o.prompt, c.prompt_bytes);
        return;
    }
    uint32_t capacity = 0;
    size_t got;
    do {
        if (c.prompt_bytes == capacity) {
            capacity = capacity ? capacity * 2 : 64u << 10;
            if (capacity > PROMPT_BYTES_MAX || !(c.prompt = realloc(c.prompt, capacity))) {
                fail_text(&c.o, "the prompt is longer than 1 MiB");
            }
        }
        got = fread(c.prompt + c.prompt_bytes, 1, capacity - c.prompt_bytes, stdin);
        c.prompt_bytes += (uint32_t)got;
    } while (got);
    if (ferror(stdin)) {
        fail_text(&c.o, "cannot read standard input");
    }
    c.prompt_bytes -= c.prompt_bytes && c.prompt[c.prompt_bytes - 1] == '\n';
}

/* Text without a format: the beginning-of-text token as the model wants it, and no end. */
static int32_t tokenize_text(int32_t **tokens) {
    uint32_t flags = SP_ENCODE_SPECIAL | (c.o.raw ? SP_ENCODE_PARSE_SPECIAL : 0);
    int32_t count = sp_import_tokenize(c.e.model, c.prompt, c.prompt_bytes, flags, NULL, 0);
    if (count < 0) {
        return count;
    }
    *tokens = allocate(&c.o, (uint32_t)count, sizeof **tokens);
    count = sp_tokenize(c.e.model, c.prompt, c.prompt_bytes, flags, *tokens, (uint32_t)count);
    int32_t bos = sp_token_bos(c.e.model), eos = sp_token_eos(c.e.model);
    if (count >= 2 && bos >= 0 && (*tokens)[0] == bos && (*tokens)[1] == bos) {
        memmove(*tokens, *tokens + 1, (size_t)--count * sizeof **tokens); /* the prompt had brought its own */
    }
    count -= count > 1 && eos >= 0 && !c.o.raw && (*tokens)[count - 1] == eos;
    return count;
}

static int32_t tokenize_chat(int32_t **tokens) {
    sp_chat chat;
    int32_t status = sp_chat_open(&chat, c.e.model, work, sizeof work);
    if (status < 0) {
        return status;
    }
    /* A token is at least a byte of text or one of a few marks, so these are enough. */
    uint32_t text_capacity = c.prompt_bytes + (c.o.system ? (uint32_t)strlen(c.o.system) : 0) + 2048;
    sp_chat_text text = {.text = allocate(&c.o, text_capacity, 1), .capacity = text_capacity};
    *tokens = allocate(&c.o, text_capacity * 2, sizeof **tokens);
    sp_chat_user(&chat, c.o.system, c.prompt, c.prompt_bytes, &text);
    return sp_chat_tokenize(&chat, c.e.model, &text, *tokens, text_capacity * 2);
}

static void emit(const char *text, uint32_t bytes) {
    if (!c.o.json) {
        show(&c.o, text, bytes);
        return;
    }
    while (bytes > c.text_capacity - c.text_bytes) {
        c.text_capacity = c.text_capacity ? c.text_capacity * 2 : 4096;
        if (!(c.text = realloc(c.text, c.text_capacity))) {
            fail_text(&c.o, "no memory left in the guest for the answer");
        }
    }
    memcpy(c.text + c.text_bytes, text, bytes);
    c.text_bytes += bytes;
}

/* ---- stops ---- */

/* Where the first of them begins in what is held, or all of it. */
static uint32_t find_stop(void) {
    for (uint32_t at = 0; at < c.held_bytes; at++) {
        for (uint32_t i = 0; i < c.o.stop_count; i++) {
            uint32_t length = (uint32_t)strlen(c.o.stops[i]);
            if (length <= c.held_bytes - at && !memcmp(c.held + at, c.o.stops[i], length)) {
                return at;
            }
        }
    }
    return c.held_bytes;
}

/* Where the longest end of what is held begins that one of them begins with, or all of it. */
static uint32_t find_beginning(void) {
    for (uint32_t at = 0; at < c.held_bytes; at++) {
        for (uint32_t i = 0; i < c.o.stop_count; i++) {
            if (!strncmp(c.o.stops[i], c.held + at, c.held_bytes - at)) {
                return at;
            }
        }
    }
    return c.held_bytes;
}

static void emit_held(uint32_t bytes) {
    emit(c.held, bytes);
    memmove(c.held, c.held + bytes, c.held_bytes - bytes);
    c.held_bytes -= bytes;
}

/* Of a text that a --stop ends, the stop itself is not shown; it may come in several pieces. */
static void on_output(void *env, const char *text, uint32_t bytes) {
    generation *g = env;
    if (!c.o.stop_count) {
        emit(text, bytes);
        return;
    }
    if (g->stopped) {
        return;
    }
    memcpy(c.held + c.held_bytes, text, bytes); /* less than a stop was held, and a piece is a token's */
    c.held_bytes += bytes;
    uint32_t stop = find_stop();
    g->stopped = stop < c.held_bytes;
    emit_held(g->stopped ? stop : find_beginning());
    c.held_bytes = g->stopped ? 0 : c.held_bytes;
}

static void allocate_held(void) {
    uint32_t longest = 0;
    for (uint32_t i = 0; i < c.o.stop_count; i++) {
        uint32_t length = (uint32_t)strlen(c.o.stops[i]);
        longest = length > longest ? length : longest;
    }
    c.held = allocate(&c.o, longest + PIECE_BYTES_MAX, 1);
}

/* ---- JSON ---- */

/* Length of the valid UTF-8 sequence at text, or 0. */
static uint32_t sequence(const char *text, uint32_t bytes) {
    const unsigned char *u = (const unsigned char *)text;
    uint32_t length = sp_utf8_length(*text);
    if (!length || length > bytes) {
        return 0;
    }
    for (uint32_t i = 1; i < length; i++) {
        if ((u[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool overlong = (u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xf0 && u[1] < 0x90);
    bool surrogate = u[0] == 0xed && u[1] > 0x9f, beyond = u[0] == 0xf4 && u[1] > 0x8f;
    return overlong || surrogate || beyond ? 0 : length;
}

/* A JSON string; bytes that are not UTF-8 become U+FFFD. */
static void print_string(const char *text, uint32_t bytes) {
    putchar('"');
    for (uint32_t i = 0; i < bytes;) {
        unsigned char byte = (unsigned char)text[i];
        uint32_t length = sequence(text + i, bytes - i);
        if (byte == '"' || byte == '\\') {
            printf("\\%c", byte);
        } else if (byte == '\n') {
            fputs("\\n", stdout);
        } else if (byte < 0x20 || byte == 0x7f) {
            printf("\\u%04x", byte);
        } else if (!length) {
            fputs("\\ufffd", stdout);
        } else {
            fwrite(text + i, 1, length, stdout);
        }
        i += length ? length : 1;
    }
    putchar('"');
}

static void print_json(const generation *g, const figures *f, finish finish) {
    static const char *const names[] = {"end", "length", "context", "interrupted", "stop"};
    int64_t answer_ns = f->end_ns - f->first_ns;
    uint32_t steps = g->count ? g->count - 1 : 0;
    fputs("{\"text\":", stdout);
    print_string(c.text, c.text_bytes);
    fputs(",\"tokens\":[", stdout);
    for (uint32_t i = 0; i < g->count; i++) {
        printf("%s%d", i ? "," : "", g->tokens[i]);
    }
    printf("],\"prompt_tokens\":%u,\"generated_tokens\":%u,\"finish\":\"%s\"", f->prompt_tokens, g->count,
           names[finish]);
    if (c.o.lookup) {
        printf(",\"proposed_tokens\":%u,\"accepted_tokens\":%u", f->proposed, f->accepted);
    }
    printf(",\"first_token_ms\":%.3f,\"generate_ms\":%.3f,\"tokens_per_second\":%.3f}\n",
           (double)(f->first_ns - f->start_ns) / 1e6, (double)answer_ns / 1e6,
           answer_ns > 0 ? steps * 1e9 / (double)answer_ns : 0.0);
}

int main(int argc, char **argv) {
    c.o = (options){
        .program = argc ? argv[0] : "complete",
        .usage = "[-p TEXT] [-n TOKENS] [--chat [--system TEXT] | --raw] [--json] [--echo] [--ignore-eos]\n"
                 "                [--ctx TOKENS] [--temp F] [--top-k N] [--top-p F] [--min-p F] [--repeat-penalty F]\n"
                 "                [--seed N] [--stats] [--lookup N] [--stop TEXT]...\n"
                 "Without -p the prompt is standard input.",
        .sampling = {.seed = 1},
        .token_count_max = TOKEN_COUNT_MAX,
    };
    parse_options(&c.o, argc, argv,
                  "-p -n --chat --system --raw --json --echo --ignore-eos --ctx --temp --top-k --top-p --min-p "
                  "--repeat-penalty --seed --stats --lookup --stop");
    if (c.o.raw && c.o.chat) {
        fail_text(&c.o, "--raw and --chat exclude each other");
    }
    read_prompt();
    open_engine(&c.e, &c.o);
    int32_t *tokens = NULL;
    int32_t count = c.o.chat ? tokenize_chat(&tokens) : tokenize_text(&tokens);
    if (count < 0) {
        fail(&c.o, "the prompt cannot be tokenized");
    }
    if (!count) {
        fail_text(&c.o, "the prompt is empty: -p gives one");
    }
    generation g = {.token_count_max = c.o.token_count_max,
                    .tokens = allocate(&c.o, c.o.token_count_max, sizeof(int32_t)),
                    .ignore_eos = c.o.ignore_eos,
                    .lookup = c.o.lookup,
                    .write = on_output,
                    .write_env = &g};
    allocate_held();
    figures f;
    begin_figures(&f);
    finish finish = FINISH_INTERRUPTED;
    bool is_ready = append_prompt(&c.e, tokens, (uint32_t)count, &f);
    if (!is_ready && !c.e.interrupted) {
        fail(&c.o, "the prompt does not fit (--ctx gives more)");
    }
    if (c.o.echo) {
        emit(c.prompt, c.prompt_bytes);
    }
    if (is_ready) {
        finish = generate(&c.e, &g, &f);
        emit_held(c.held_bytes);
    }
    if (c.o.json) {
        print_json(&g, &f, finish);
    } else {
        putchar('\n');
    }
    show(&c.o, "", 0);
    if (finish == FINISH_CONTEXT) {
        fprintf(stderr, "%s: the text ends here: the context of %u tokens is full (--ctx gives more)\n", c.o.program,
                c.e.context_max);
    }
    if (c.o.stats) {
        print_figures(&f, c.o.program);
    } else if (c.o.lookup && !c.o.json) {
        fprintf(stderr, "%s: lookup    %u of %u proposed tokens accepted\n", c.o.program, f.accepted, f.proposed);
    }
    return EXIT_SUCCESS;
}
