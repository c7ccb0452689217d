/* apps/runner.h - an engine with one guest in it: what chat, complete, bench, doctor and run have in common.
 *
 * May include: everything to the left of apps.
 */
#ifndef SPI_APPS_RUNNER_H
#define SPI_APPS_RUNNER_H

#include "apps/common.h"
#include "samepage/guest.h"

typedef struct spi_runner {
    sp_engine *engine;
    sp_module *module;
    sp_guest *guest;
    double open_seconds; /* engine and module: most of it is compiling, unless that was cached */
} spi_runner;

/* Opens one of the guests that are built in ("chat"), or a file. The runner is to be closed either way. */
sp_status spi_runner_open_embedded(spi_runner *runner, const char *name, const sp_guest_options *options,
                                   sp_error *error);
sp_status spi_runner_open_file(spi_runner *runner, const char *path, const sp_guest_options *options, sp_error *error);
void spi_runner_close(spi_runner *runner);

/* Calls an exported function to its end. On failure error has what the guest's own has. */
sp_status spi_runner_call(spi_runner *runner, const char *function, int64_t *result, sp_error *error);

/* Runs the guest as a program, with Ctrl-C handled, and returns what samepage shall exit with: the guest's exit code,
 * or after one line on stderr that says what happened, one of ours. */
int spi_runner_main(spi_runner *runner, bool is_prompt);

/* What happened, on stderr: for --verbose. */
void spi_runner_report(const spi_runner *runner);

/* A growing list of arguments for a guest. Strings are borrowed; a lack of memory is kept and told at the end. */
typedef struct spi_arguments {
    const char **items;
    uint32_t count;
    bool failed;
} spi_arguments;
void spi_arguments_add(spi_arguments *arguments, const char *item);
void spi_arguments_add_pair(spi_arguments *arguments, const char *name,
                            const char *value); /* nothing if value is NULL */
void spi_arguments_free(spi_arguments *arguments);

#endif
