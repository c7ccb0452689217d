/* apps/bench.h - what samepage bench measures, and how: through a guest, without one, and many sequences at once.
 *
 * May include: everything to the left of apps.
 */
#ifndef SPI_APPS_BENCH_H
#define SPI_APPS_BENCH_H

#include "apps/common.h"

/* What is measured: prompt tokens in one append, or generated ones one at a time; sequences > 1 means that many
 * sessions side by side in every pass. */
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

/* The native loop by its parts, after a repetition to warm up: a token's median time, and what of its mean time is not
 * the device's. */
typedef struct spi_bench_token {
    double us, outside_us;
} spi_bench_token;
sp_status spi_bench_native_token(const spi_opened *opened, uint32_t generated, spi_bench_token *token, sp_error *error);

/* What the way through a guest costs for one generated token. The loops take turns, so that what else the machine does
 * falls on both alike, and figures are medians over the turns. The cost is told from what is not the device's time: the
 * device's own varies by far more than that. */
typedef struct spi_bench_boundary {
    spi_bench_token guest, native;
    double us;         /* guest.outside_us - native.outside_us, turn by turn */
    double error_us;   /* standard error of its mean */
    double host_calls; /* a token */
} spi_bench_boundary;
sp_status spi_bench_measure_boundary(const spi_opened *opened, uint32_t generated, uint32_t repetitions,
                                     spi_bench_boundary *boundary, sp_error *error);

#endif
