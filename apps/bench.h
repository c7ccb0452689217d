/* apps/bench.h - what samepage bench measures, and how: through a guest, without one, and many sequences at once.
 *
 * May include: everything to the left of apps.
 */
#ifndef SPI_APPS_BENCH_H
#define SPI_APPS_BENCH_H

#include "apps/common.h"

/* What is measured: prompt tokens in one append, or generated ones one at a time; sequences > 1 means that many sessions
 * side by side in every pass. */
typedef struct spi_bench_test {
    uint32_t prompt, generated, sequences;
} spi_bench_test;

/* Both do one repetition more than they tell of, first, which warms up caches, pages and pipelines. seconds is
 * [repetitions]. The guest's loop and the native one do the same: apps/guests/bench.c. */
sp_status spi_bench_native(const spi_opened *opened, const spi_bench_test *test, uint32_t repetitions, double *seconds,
                           sp_error *error);
sp_status spi_bench_guest(const spi_opened *opened, const spi_bench_test *test, uint32_t repetitions, double *seconds,
                          sp_error *error);

/* Many sessions, without a guest. */
sp_status spi_bench_batch(const spi_opened *opened, const spi_bench_test *test, uint32_t repetitions, double *seconds,
                          sp_error *error);

/* The median time of one token of that many, after a repetition to warm up. */
sp_status spi_bench_native_token(const spi_opened *opened, uint32_t generated, double *seconds, sp_error *error);

/* What the way through a guest costs for one generated token. The two loops take turns, so that what else the machine
 * does falls on both alike; a turn's figure is the median of its tokens, and those below are medians of the turns'. */
typedef struct spi_bench_boundary {
    double guest_us, native_us, difference_us; /* a token; difference: median of guest minus native */
    double spread_us;                          /* standard error of the turns' mean difference */
    double crossing_us;                        /* neither in the device nor in imports: the guest and its fiber */
    double host_calls;                         /* a token */
    double host_us; /* a token, in imports (what they do is in it: sampling), computing excluded */
} spi_bench_boundary;
sp_status spi_bench_measure_boundary(const spi_opened *opened, uint32_t generated, uint32_t repetitions,
                                     spi_bench_boundary *boundary, sp_error *error);

#endif
