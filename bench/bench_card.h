/* bench/bench_card.h - what bench_cuda and bench_vulkan have in common: tokens of the Llama 3.2 1B shape with random
 * weights, beside what the device reads of its own memory in the same run.
 *
 * Decoding: the time of a run of one row, seen by the host, from the call to the logits in the guest's memory.
 * Fraction: bytes of all matrices over that time, of the device's read bandwidth. Medians.
 */
#ifndef SPI_BENCH_CARD_H
#define SPI_BENCH_CARD_H

#include "bench_shape.h"

#define BENCH_REPEATS_MAX 1000u

/* The options of both programs. Lists are numbers or names with commas between them. */
typedef struct bench_options {
    const char *types, *contexts, *prefills, *sequences;
    uint32_t repeats, rows; /* rows: of a run at most; what models have on the device, where nothing is said */
    uint32_t context_max;   /* of the session; a program may raise it */
    sp_kv_type kv_type;
} bench_options;

/* An option by name: where its value goes. Numbers are multiplied by `unit`, if that is not 0. */
typedef struct bench_option {
    const char *name;
    const char **text; /* one of these */
    uint32_t *number;
    bool *flag;
    uint32_t unit;
} bench_option;

/* A weight type on its way. */
typedef struct bench_run {
    bench_model model;
    const bench_options *options;
    const char *type;
    double read_gb_s;
    sp_error *error;
} bench_run;

/* What differs. Functions return nonzero and fill error if something failed. */
typedef struct bench_card {
    const char *name, *usage; /* of its own options */
    bool picks;               /* the device can pick tokens by itself: sequences are measured with and without */

    const bench_option *own; /* its own options, the last one without a name */
    /* After the options were read; NULL: nothing. */
    void (*chosen)(bench_options *options);
    /* Opens the device and prints a line about it. */
    int (*open)(sp_device **device, sp_error *error);
    int (*read)(sp_device *device, double *gb_s, sp_error *error);
    int (*decoded)(bench_run *run, uint32_t context); /* behind each context; NULL: nothing */
    int (*batched)(bench_run *run,
                   const spi_run *work); /* behind each way of each number of sequences; NULL: nothing */
    int (*rest)(bench_run *run);         /* behind all */
} bench_card;

int bench_card_main(const bench_card *card, int count, char **words);

double bench_median(double *values, uint32_t count); /* sorts them */
bool bench_next_number(const char **list, uint32_t *number);
/* Prefill of so many tokens in runs as long as they may be; seconds. Negative: failed. */
double bench_prefill(bench_run *run, uint32_t rows);

#endif
