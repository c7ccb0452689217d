/* apps/guests/common.h - what the embedded guests share: options, opening a model, generating, figures.
 *
 * These are ordinary guests: they include the SDK and nothing else of samepage.
 */
#ifndef GUESTS_COMMON_H
#define GUESTS_COMMON_H

#include <stdbool.h>
#include <stdint.h>

#include "samepage.h"
#include "samepage_utf8.h"

#define EXIT_USAGE 2
#define STOPS_MAX  16

typedef struct options {
    const char *program, *usage;
    const char *system, *prompt; /* NULL: not given */
    sp_sampler_options sampling;
    uint32_t token_count_max; /* -n */
    uint32_t context_max;     /* --ctx; 0: the default */
    uint32_t lookup;          /* --lookup: tokens proposed at a time; 0: none */
    const char *stops[STOPS_MAX];
    uint32_t stop_count;
    bool show_prompt; /* --prompt */
    bool stats, script;
    bool raw, chat, json, echo, ignore_eos;
} options;

/* Fills options from argv or ends the program with the usage. allowed lists the options, separated by blanks. */
void parse_options(options *o, int argc, char **argv, const char *allowed);

/* Prints "PROGRAM: what: why" and ends the program; why is the host's message. */
_Noreturn void fail(const options *o, const char *what);
_Noreturn void fail_text(const options *o, const char *text);

/* Writes at once; what cannot be written ends the program. */
void show(const options *o, const char *text, uint32_t bytes);

/* Memory for the life of the program. */
void *allocate(const options *o, uint32_t count, uint32_t size);

typedef struct engine {
    const options *o;
    sp_handle model, session, sampler;
    uint32_t context_max, vocab;
    bool counts_prompt; /* the sampler looks at the prompt, too */
    bool interrupted;   /* append_prompt was: the session holds a part of what was to be appended */
} engine;

void open_engine(engine *e, const options *o);

/* Figures of one generation. */
typedef struct figures {
    uint32_t prompt_tokens, generated_tokens;
    uint32_t proposed, accepted;        /* by prompt lookup */
    int64_t start_ns, first_ns, end_ns; /* first: when the first token was known; start_ns if none was */
    sp_counters before, after;          /* of the boundary */
} figures;

/* Sums over the turns of a conversation. */
typedef struct totals {
    uint32_t turns, prompt_tokens, generated_tokens, steps, proposed, accepted;
    int64_t prompt_ns, step_ns;
    uint64_t host_ns, host_calls;
} totals;

void begin_figures(figures *f);
void add_figures(totals *t, const figures *f);
void print_totals(const totals *t, const char *program);
void print_figures(const figures *f, const char *program);

typedef enum finish { FINISH_END, FINISH_LENGTH, FINISH_CONTEXT, FINISH_INTERRUPTED, FINISH_STOP } finish;

/* Gets whole characters as they come, a token's at most and what was held back of one before. */
#define PIECE_BYTES_MAX 2048
typedef void (*output)(void *env, const char *text, uint32_t bytes);

/* Samples from the session's logits and appends until something ends it. tokens gets at most token_count_max ids, all
 * of them sampled; behind what it held before the session has all of them, but for the last one if pending is true. */
typedef struct generation {
    uint32_t token_count_max;
    int32_t *tokens;
    uint32_t count;
    bool pending;
    bool ignore_eos;
    bool stopped;    /* by who writes: this was all that is wanted */
    uint32_t lookup; /* tokens proposed at a time */
    output write;
    void *write_env;
} generation;
finish generate(engine *e, generation *g, figures *f);

/* Appends a prompt and tells the sampler of it. Ends the program if it cannot, except for want of context and for an
 * interrupt, which e->interrupted tells apart: false. */
bool append_prompt(engine *e, const int32_t *tokens, uint32_t count, figures *f);

#endif
