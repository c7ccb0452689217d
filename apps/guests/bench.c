/* apps/guests/bench.c - the guest behind `samepage bench`: how fast a prompt is read and how fast tokens come, measured
 * where a guest feels it. Prints one line of key=value pairs for each repetition; token_ns is the median of the single
 * tokens, which what else the machine does hardly moves; run_ns is what the device took of generated_ns.
 *
 * Arguments: -p N (tokens of the prompt, in one append), -n N (tokens one at a time, picked greedily), -r N (how
 * often). The tokens of the prompt are (i * 7919 + 1) modulo the vocabulary, so that a loop without a guest can do the
 * same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

typedef struct counts {
    uint32_t prompt, generated, repetitions;
} counts;

static counts parse(const options *o, int argc, char **argv) {
    counts c = {512, 128, 1};
    for (int i = 1; i < argc; i += 2) {
        uint32_t *value = !strcmp(argv[i], "-p")   ? &c.prompt
                          : !strcmp(argv[i], "-n") ? &c.generated
                          : !strcmp(argv[i], "-r") ? &c.repetitions
                                                   : NULL;
        char *end = NULL;
        unsigned long number = i + 1 < argc ? strtoul(argv[i + 1], &end, 10) : 0;
        if (!value || !end || *end || end == argv[i + 1] || number > 1u << 20) {
            fprintf(stderr, "usage: %s %s\n", o->program, o->usage);
            exit(EXIT_USAGE);
        }
        *value = (uint32_t)number;
    }
    return c;
}

static void check(const options *o, int32_t status, const char *what) {
    if (status < 0) {
        fail(o, what);
    }
}

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void repeat(const engine *e, const counts *c, const int32_t *tokens, int64_t *token_ns) {
    uint32_t prompt = c->prompt ? c->prompt : 1; /* something must be there to go on from */
    sp_counters before, after;
    check(e->o, sp_session_truncate(e->session, 0), "the session cannot be emptied");
    int64_t start_ns = sp_clock_ns();
    check(e->o, sp_session_append(e->session, tokens, prompt, SP_LOGITS_LAST), "the prompt cannot be computed");
    int64_t prompt_ns = sp_clock_ns() - start_ns;
    sp_get_counters(&before);
    start_ns = sp_clock_ns();
    int64_t last_ns = start_ns, now_ns = start_ns;
    int32_t token = sp_session_sample(e->session, e->sampler);
    check(e->o, token, "no token can be sampled");
    for (uint32_t i = 0; i < c->generated; i++) {
        token = sp_session_decode(e->session, e->sampler, token);
        check(e->o, token, "the token cannot be computed");
        now_ns = sp_clock_ns();
        token_ns[i] = now_ns - last_ns;
        last_ns = now_ns;
    }
    sp_get_counters(&after);
    qsort(token_ns, c->generated, sizeof *token_ns, compare);
    printf("prompt_tokens=%u prompt_ns=%lld generated_tokens=%u generated_ns=%lld host_calls=%llu host_ns=%llu "
           "token_ns=%lld run_ns=%llu\n",
           c->prompt, c->prompt ? (long long)prompt_ns : 0, c->generated, (long long)(now_ns - start_ns),
           (unsigned long long)(after.host_calls - before.host_calls),
           (unsigned long long)(after.host_ns - before.host_ns),
           c->generated ? (long long)token_ns[c->generated / 2] : 0,
           (unsigned long long)(after.run_ns - before.run_ns));
    fflush(stdout);
}

int main(int argc, char **argv) {
    options o = {.program = argc ? argv[0] : "bench", .usage = "[-p TOKENS] [-n TOKENS] [-r REPETITIONS]"};
    counts c = parse(&o, argc, argv);
    engine e;
    o.context_max = c.prompt + c.generated + 1;
    open_engine(&e, &o);
    int32_t *tokens = allocate(&o, c.prompt + 1, sizeof *tokens);
    for (uint32_t i = 0; i <= c.prompt; i++) {
        tokens[i] = (int32_t)(((uint64_t)i * 7919 + 1) % e.vocab);
    }
    int64_t *token_ns = allocate(&o, c.generated, sizeof *token_ns);
    for (uint32_t i = 0; i < c.repetitions; i++) {
        repeat(&e, &c, tokens, token_ns);
    }
    return EXIT_SUCCESS;
}
