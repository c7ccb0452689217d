/* apps/generation.h - the options that chat and complete share and hand on to their guests.
 *
 * May include: everything to the left of apps.
 */
#ifndef SPI_APPS_GENERATION_H
#define SPI_APPS_GENERATION_H

#include "apps/common.h"
#include "apps/runner.h"

/* Words as they were typed, checked; NULL: not given, and then the guest's default holds. */
typedef struct spi_generation {
    spi_common common;
    const char *system, *token_count, *context, *temperature, *top_k, *top_p, *min_p, *repeat_penalty, *seed, *lookup;
    bool stats;
} spi_generation;

/* With the guest's defaults, as literals. */
#define SPI_OPTIONS_GENERATION(set, n_, temp_, k_, p_)                                                                  \
    {"tokens", 'n', SPI_OPTION_COUNT_WORD, "N", "tokens to generate at most (default: " n_ ")", &(set).token_count},    \
        {"ctx",         'c', SPI_OPTION_COUNT_WORD, "N", "tokens of context (default: the model's, at most 8192)",      \
         &(set).context},                                                                                               \
        {"system", 0, SPI_OPTION_TEXT, "TEXT", "what the assistant is told first", &(set).system},                      \
        {"temp",                                                                                                        \
         0,                                                                                                             \
         SPI_OPTION_REAL_WORD,                                                                                          \
         "X",                                                                                                           \
         "temperature; 0 always takes the likeliest token (default: " temp_ ")",                                        \
         &(set).temperature},                                                                                           \
        {"top-k", 0, SPI_OPTION_COUNT_WORD, "N", "keep the N likeliest; 0: all (default: " k_ ")", &(set).top_k},       \
        {"top-p",     0, SPI_OPTION_PORTION_WORD, "X", "keep the likeliest up to a probability of X (default: " p_ ")", \
         &(set).top_p},                                                                                                 \
        {"min-p",     0, SPI_OPTION_PORTION_WORD, "X", "keep those X times as likely as the likeliest (default: 0)",    \
         &(set).min_p},                                                                                                 \
        {"repeat-penalty",     0, SPI_OPTION_REAL_WORD, "X", "above 1: fewer repetitions (default: 1)",                 \
         &(set).repeat_penalty},                                                                                        \
        {"seed", 0, SPI_OPTION_LONG_WORD, "N", "the same seed gives the same text (default: 1)", &(set).seed},          \
        {"lookup",     0, SPI_OPTION_LOOKUP_WORD, "N", "propose up to N tokens from what stands before, e.g. 8",        \
         &(set).lookup},                                                                                                \
    {                                                                                                                   \
        "stats", 0, SPI_OPTION_FLAG, NULL, "tokens/s, time to the first token, cost of the boundary", &(set).stats      \
    }

/* The guest's arguments for what was given, behind its name. */
void spi_generation_arguments(const spi_generation *set, spi_arguments *arguments);

/* Opens the model, runs the embedded guest `name` with the arguments, and returns what to exit with. reads: from
 * standard input; is_prompt: what people type there. */
int spi_generation_run(const spi_generation *set, const char *name, const spi_arguments *arguments, bool reads,
                       bool is_prompt);

#endif
