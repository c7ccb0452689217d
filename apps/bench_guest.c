/* apps/bench_guest.c - the same loop through the embedded guest "bench", and what the way through it costs. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "apps/bench.h"
#include "apps/runner.h"
#include "apps/signals.h"
#include "base/error.h"
#include "base/memory.h"

/* What the guest printed; it is our own, and still only so much is taken from it. */
typedef struct text {
    char *bytes;
    size_t count, capacity;
} text;

static void keep(void *env, const void *bytes, size_t byte_count) {
    text *kept = env;
    size_t room = kept->capacity - 1 - kept->count, taken = byte_count < room ? byte_count : room;
    memcpy(kept->bytes + kept->count, bytes, taken);
    kept->count += taken;
}

typedef struct line {
    uint64_t prompt_ns, generated_ns, host_calls, host_ns, token_ns, run_ns;
} line;

/* Runs the guest and reads its line of each repetition. */
static sp_status run_guest(const spi_opened *opened, const spi_bench_test *test, uint32_t repetitions, line *lines,
                           sp_error *error) {
    char prompt[16], generated[16], count[16];
    const char *arguments[] = {"samepage", "-p", prompt, "-n", generated, "-r", count};
    text kept = {.capacity = (size_t)(repetitions + 1) * 256};
    sp_guest_model model = {.name = "model", .model = opened->model};
    sp_guest_options options = {.arguments = arguments,
                                .argument_count = sizeof arguments / sizeof *arguments,
                                .out = keep,
                                .output_env = &kept,
                                .device = opened->device,
                                .kv_type = opened->kv_type,
                                .models = &model,
                                .model_count = 1};
    spi_runner runner = {0};
    snprintf(prompt, sizeof prompt, "%" PRIu32, test->prompt);
    snprintf(generated, sizeof generated, "%" PRIu32, test->generated);
    snprintf(count, sizeof count, "%" PRIu32, repetitions);
    if (!(kept.bytes = spi_alloc(kept.capacity, 1))) {
        return spi_fail(error, SP_NO_MEMORY, "not enough memory for the results");
    }
    int64_t ignored;
    sp_status status = spi_runner_open_embedded(&runner, "bench", &options, error);
    status = status ? status : spi_runner_call(&runner, "_start", &ignored, error);
    if (!status && sp_guest_exit_code(runner.guest)) {
        status = spi_fail(error, SP_INTERNAL, "the guest bench could not go on: its message is above");
    }
    const char *at = kept.bytes;
    for (uint32_t i = 0; i < repetitions && !status; i++) {
        int used = 0;
        sscanf(at,
               "prompt_tokens=%*u prompt_ns=%" SCNu64 " generated_tokens=%*u generated_ns=%" SCNu64
               " host_calls=%" SCNu64 " host_ns=%" SCNu64 " token_ns=%" SCNu64 " run_ns=%" SCNu64 " %n",
               &lines[i].prompt_ns, &lines[i].generated_ns, &lines[i].host_calls, &lines[i].host_ns, &lines[i].token_ns,
               &lines[i].run_ns, &used);
        if (!used) {
            status = spi_fail(error, SP_INTERNAL, "the guest bench printed '%.60s', which is no result", at);
        }
        at += used;
    }
    spi_runner_close(&runner);
    spi_free(kept.bytes);
    return status;
}

sp_status spi_bench_guest(const spi_opened *opened, const spi_bench_test *test, uint32_t repetitions, double *seconds,
                          sp_error *error) {
    line *lines = spi_alloc(repetitions + 1, sizeof *lines);
    sp_status status = lines ? run_guest(opened, test, repetitions + 1, lines, error)
                             : spi_fail(error, SP_NO_MEMORY, "not enough memory for the results");
    for (uint32_t i = 0; i < repetitions && !status; i++) {
        seconds[i] = (double)(test->generated ? lines[i + 1].generated_ns : lines[i + 1].prompt_ns) * 1e-9;
    }
    spi_free(lines);
    return status;
}

/* One turn of each. */
static sp_status take_turns(const spi_opened *opened, uint32_t generated, spi_bench_boundary *turn, sp_error *error) {
    spi_bench_test test = {.generated = generated, .sequences = 1};
    line lines[2] = {0};
    sp_status status = run_guest(opened, &test, 2, lines, error);
    status = status ? status : spi_bench_native_token(opened, generated, &turn->native, error);
    turn->guest.us = (double)lines[1].token_ns * 1e-3;
    turn->guest.outside_us = ((double)lines[1].generated_ns - (double)lines[1].run_ns) * 1e-3 / generated;
    turn->us = turn->guest.outside_us - turn->native.outside_us;
    turn->host_calls = (double)lines[1].host_calls / generated;
    return status;
}

sp_status spi_bench_measure_boundary(const spi_opened *opened, uint32_t generated, uint32_t repetitions,
                                     spi_bench_boundary *boundary, sp_error *error) {
    enum { GUEST, GUEST_OUTSIDE, NATIVE, NATIVE_OUTSIDE, COST, FIGURES };
    double *values[FIGURES], *all = spi_alloc((size_t)repetitions * FIGURES, sizeof *all);
    if (!all) {
        return spi_fail(error, SP_NO_MEMORY, "not enough memory for the results");
    }
    for (int i = 0; i < FIGURES; i++) {
        values[i] = all + (size_t)i * repetitions;
    }
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < repetitions && !status; i++) {
        status = take_turns(opened, generated, boundary, error);
        values[GUEST][i] = boundary->guest.us;
        values[GUEST_OUTSIDE][i] = boundary->guest.outside_us;
        values[NATIVE][i] = boundary->native.us;
        values[NATIVE_OUTSIDE][i] = boundary->native.outside_us;
        values[COST][i] = boundary->us;
    }
    if (!status) {
        boundary->error_us = spi_deviation(values[COST], repetitions) / sqrt(repetitions);
        boundary->guest.us = spi_median(values[GUEST], repetitions);
        boundary->guest.outside_us = spi_median(values[GUEST_OUTSIDE], repetitions);
        boundary->native.us = spi_median(values[NATIVE], repetitions);
        boundary->native.outside_us = spi_median(values[NATIVE_OUTSIDE], repetitions);
        boundary->us = spi_median(values[COST], repetitions);
    }
    spi_free(all);
    return status;
}
