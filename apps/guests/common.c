/* apps/guests/common.c - see common.h. */
#include "common.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void fail_text(const options *o, const char *text) {
    fprintf(stderr, "%s: %s\n", o->program, text);
    exit(EXIT_FAILURE);
}

_Noreturn void fail(const options *o, const char *what) {
    char text[SP_ERROR_TEXT_BYTES];
    fprintf(stderr, "%s: %s: %s\n", o->program, what, sp_error_text(text, sizeof text));
    exit(EXIT_FAILURE);
}

void show(const options *o, const char *text, uint32_t bytes) {
    if (fwrite(text, 1, bytes, stdout) != bytes || fflush(stdout) || ferror(stdout)) {
        fail_text(o, "cannot write to standard output");
    }
}

void *allocate(const options *o, uint32_t count, uint32_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) {
        fail_text(o, "no memory left in the guest: a smaller --ctx needs less");
    }
    return memory;
}

/* ---- options ---- */

static _Noreturn void usage(const options *o, const char *wrong, const char *what) {
    fprintf(stderr, "%s: %s%s\nusage: %s %s\n", o->program, wrong, what, o->program, o->usage);
    exit(EXIT_USAGE);
}

static float number(const options *o, const char *name, const char *text) {
    char *end;
    float value = strtof(text, &end);
    if (end == text || *end) {
        usage(o, "not a number after ", name);
    }
    return value;
}

static uint64_t whole(const options *o, const char *name, const char *text, uint64_t max) {
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (end == text || *end || errno || *text == '-' || value > max) {
        usage(o, "not a whole number, or too large, after ", name);
    }
    return value;
}

static bool parse_sampling(options *o, const char *name, const char *value) {
    sp_sampler_options *s = &o->sampling;
    if (!strcmp(name, "--temp")) {
        s->temperature = number(o, name, value);
    } else if (!strcmp(name, "--top-k")) {
        s->top_k = (int32_t)whole(o, name, value, INT32_MAX);
    } else if (!strcmp(name, "--top-p")) {
        s->top_p = number(o, name, value);
    } else if (!strcmp(name, "--min-p")) {
        s->min_p = number(o, name, value);
    } else if (!strcmp(name, "--repeat-penalty")) {
        s->repeat_penalty = number(o, name, value);
    } else if (!strcmp(name, "--seed")) {
        s->seed = whole(o, name, value, UINT64_MAX);
    } else {
        return false;
    }
    return true;
}

static bool parse_flag(options *o, const char *name) {
    static const struct {
        const char *name;
        size_t offset;
    } flags[] = {
        {"--prompt", offsetof(options, show_prompt)}, {"--stats", offsetof(options, stats)},
        {"--script", offsetof(options, script)},      {"--raw", offsetof(options, raw)},
        {"--chat", offsetof(options, chat)},          {"--json", offsetof(options, json)},
        {"--echo", offsetof(options, echo)},          {"--ignore-eos", offsetof(options, ignore_eos)},
    };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        if (!strcmp(name, flags[i].name)) {
            *(bool *)((char *)o + flags[i].offset) = true;
            return true;
        }
    }
    return false;
}

static void parse_value(options *o, const char *name, const char *value) {
    if (!value) {
        usage(o, "no value after ", name);
    }
    if (!strcmp(name, "--system")) {
        o->system = value;
    } else if (!strcmp(name, "-p")) {
        o->prompt = value;
    } else if (!strcmp(name, "--stop")) {
        if (!*value || o->stop_count == STOPS_MAX) {
            usage(o, *value ? "too many texts after " : "nothing after ", name);
        }
        o->stops[o->stop_count++] = value;
    } else if (!strcmp(name, "-n")) {
        o->token_count_max = (uint32_t)whole(o, name, value, 1u << 20);
    } else if (!strcmp(name, "--ctx")) {
        o->context_max = (uint32_t)whole(o, name, value, 1u << 20);
    } else if (!strcmp(name, "--lookup")) {
        o->lookup = (uint32_t)whole(o, name, value, SP_LOOKUP_MAX);
    } else if (!parse_sampling(o, name, value)) {
        usage(o, "no such option: ", name);
    }
}

/* True if name is one of the words of list. */
static bool listed(const char *list, const char *name) {
    size_t length = strlen(name);
    for (const char *at = list; length && (at = strstr(at, name)); at += length) {
        if ((at == list || at[-1] == ' ') && (at[length] == ' ' || !at[length])) {
            return true;
        }
    }
    return false;
}

void parse_options(options *o, int argc, char **argv, const char *allowed) {
    for (int i = 1; i < argc; i++) {
        if (!listed(allowed, argv[i])) {
            usage(o, "no such option: ", argv[i]);
        }
        if (!parse_flag(o, argv[i])) {
            parse_value(o, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
            i++;
        }
    }
}

/* ---- the model ---- */

void open_engine(engine *e, const options *o) {
    sp_model_info info;
    sp_session_info session;
    memset(e, 0, sizeof *e);
    e->o = o;
    e->model = sp_model_open("");
    if (e->model < 0 || sp_get_model_info(e->model, &info) < 0) {
        fail(o, "the model cannot be opened");
    }
    e->session = sp_session_create(e->model, o->context_max, 1 + o->lookup);
    if (e->session < 0 || sp_get_session_info(e->session, &session) < 0) {
        fail(o, "the session cannot be created");
    }
    e->sampler = sp_sampler_create(&o->sampling);
    if (e->sampler < 0) {
        fail(o, "the sampler cannot be created");
    }
    e->vocab = info.vocab;
    e->context_max = session.context_max;
    e->counts_prompt = o->sampling.repeat_penalty != 0 && o->sampling.repeat_penalty != 1;
}

/* ---- generating ---- */

void begin_figures(figures *f) {
    memset(f, 0, sizeof *f);
    sp_get_counters(&f->before);
    f->after = f->before;
    f->start_ns = f->first_ns = f->end_ns = sp_clock_ns();
}

bool append_prompt(engine *e, const int32_t *tokens, uint32_t count, figures *f) {
    int32_t status = sp_session_append(e->session, tokens, count, SP_LOGITS_LAST);
    e->interrupted = status == SP_CANCELLED;
    if (status == SP_CONTEXT_FULL || e->interrupted) {
        sp_interrupted(); /* this was the answer to it, if there was one */
        return false;
    }
    if (status < 0) {
        fail(e->o, "the prompt cannot be computed");
    }
    for (uint32_t i = 0; e->counts_prompt && i < count; i++) {
        sp_sampler_accept(e->sampler, tokens[i]);
    }
    f->prompt_tokens += count;
    return true;
}

/* Detokenises one token and passes on what is whole. */
static void write_token(engine *e, generation *g, sp_utf8 *utf8, int32_t token) {
    static char piece[PIECE_BYTES_MAX - 3], shown[PIECE_BYTES_MAX];
    int32_t bytes = sp_detokenize(e->model, &token, 1, g->ignore_eos ? SP_DECODE_SPECIAL : 0, piece, sizeof piece);
    if (bytes > 0) {
        uint32_t whole_bytes = sp_utf8_push(utf8, piece, (uint32_t)bytes, shown);
        if (whole_bytes) {
            g->write(g->write_env, shown, whole_bytes);
        }
    }
}

/* Takes a picked token into the answer; true: that was the last. */
static bool take_token(engine *e, generation *g, sp_utf8 *utf8, int32_t token, finish *why) {
    *why = FINISH_END;
    if (!g->ignore_eos && sp_token_is_end(e->model, token) > 0) {
        return true;
    }
    *why = FINISH_LENGTH;
    g->tokens[g->count++] = token;
    g->pending = true;
    write_token(e, g, utf8, token);
    if (g->stopped) {
        *why = FINISH_STOP;
    }
    return g->stopped || g->count == g->token_count_max;
}

/* True if the append went well; *why otherwise. */
static bool appended(engine *e, int32_t status, finish *why) {
    if (status == SP_CANCELLED) {
        sp_interrupted(); /* heard */
    } else if (status < 0 && status != SP_CONTEXT_FULL) {
        fail(e->o, "the token cannot be computed");
    }
    *why = status == SP_CANCELLED ? FINISH_INTERRUPTED : FINISH_CONTEXT;
    return status >= 0;
}

/* What was appended beyond what was taken is forgotten: an answer can end among several tokens of one append. */
static void settle(engine *e, generation *g, uint32_t before) {
    uint32_t length = (uint32_t)sp_session_length(e->session), taken = before + g->count;
    if (length > taken && sp_session_truncate(e->session, taken) < 0) {
        fail(e->o, "the session cannot be shortened");
    }
    g->pending = length < taken;
}

/* With prompt lookup: several tokens may come of one append, never more than are left to be taken. */
static finish generate_with_lookup(engine *e, generation *g, figures *f, sp_utf8 *utf8, int32_t token) {
    sp_lookup lookup = {.tokens = {token}, .count = 1};
    finish why = FINISH_LENGTH;
    for (;;) {
        for (uint32_t i = 0; i < lookup.count; i++) {
            if (take_token(e, g, utf8, lookup.tokens[i], &why)) {
                return why;
            }
        }
        if (sp_interrupted()) {
            return FINISH_INTERRUPTED;
        }
        uint32_t left = g->token_count_max - g->count, most = left <= g->lookup ? left - 1 : g->lookup;
        int32_t last = lookup.tokens[lookup.count - 1];
        if (!appended(e, sp_session_append_lookup(e->session, e->sampler, last, most, &lookup), &why)) {
            return why;
        }
        f->proposed += lookup.proposed;
        f->accepted += lookup.accepted;
    }
}

static finish generate_tokens(engine *e, generation *g, figures *f, sp_utf8 *utf8) {
    finish why = FINISH_LENGTH;
    if (sp_interrupted()) {
        return FINISH_INTERRUPTED;
    }
    int32_t token = sp_session_sample(e->session, e->sampler);
    if (token < 0) {
        fail(e->o, "no token can be sampled");
    }
    if (!g->token_count_max) {
        return FINISH_LENGTH;
    }
    f->first_ns = f->first_ns == f->start_ns ? sp_clock_ns() : f->first_ns;
    if (g->lookup) {
        uint32_t before = (uint32_t)sp_session_length(e->session);
        why = generate_with_lookup(e, g, f, utf8, token);
        settle(e, g, before);
        return why;
    }
    while (!take_token(e, g, utf8, token, &why)) {
        token = sp_session_decode(e->session, e->sampler, token);
        if (!appended(e, token, &why)) {
            return why;
        }
        g->pending = false;
        if (sp_interrupted()) {
            return FINISH_INTERRUPTED;
        }
    }
    return why;
}

finish generate(engine *e, generation *g, figures *f) {
    char rest[3];
    sp_utf8 utf8 = {0};
    g->count = 0;
    g->pending = g->stopped = false;
    finish finish = generate_tokens(e, g, f, &utf8);
    uint32_t rest_bytes = sp_utf8_finish(&utf8, rest);
    if (rest_bytes) {
        g->write(g->write_env, rest, rest_bytes);
    }
    f->end_ns = sp_clock_ns();
    f->generated_tokens += g->count;
    sp_get_counters(&f->after);
    return finish;
}

static double rate(uint32_t count, int64_t ns) {
    return ns > 0 ? count * 1e9 / (double)ns : 0;
}

void add_figures(totals *t, const figures *f) {
    t->turns++;
    t->prompt_tokens += f->prompt_tokens;
    t->generated_tokens += f->generated_tokens;
    t->proposed += f->proposed;
    t->accepted += f->accepted;
    t->steps += f->generated_tokens ? f->generated_tokens - 1 : 0;
    t->prompt_ns += f->first_ns - f->start_ns;
    t->step_ns += f->end_ns - f->first_ns;
    t->host_ns += f->after.host_ns - f->before.host_ns;
    t->host_calls += f->after.host_calls - f->before.host_calls;
}

void print_totals(const totals *t, const char *program) {
    uint32_t tokens = t->generated_tokens ? t->generated_tokens : 1, turns = t->turns ? t->turns : 1;
    fprintf(stderr, "%s: prompts   %u tokens in %u turns, %.1f tokens/s\n", program, t->prompt_tokens, t->turns,
            rate(t->prompt_tokens, t->prompt_ns));
    fprintf(stderr, "%s: answers   %u tokens, %.1f tokens/s, the first after %.1f ms\n", program, t->generated_tokens,
            rate(t->steps, t->step_ns), (double)t->prompt_ns / 1e6 / turns);
    if (t->proposed) {
        fprintf(stderr, "%s: lookup    %u of %u proposed tokens accepted\n", program, t->accepted, t->proposed);
    }
    fprintf(stderr, "%s: imports   %.1f calls a token, %.1f us with what they do (sampling, text)\n", program,
            (double)t->host_calls / tokens, (double)t->host_ns / 1e3 / tokens);
}

void print_figures(const figures *f, const char *program) {
    totals one = {0};
    add_figures(&one, f);
    print_totals(&one, program);
}
