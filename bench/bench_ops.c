/* bench/bench_ops.c - how fast a device computes each op, and whole tokens of the Llama 3.2 1B shape with random
 * weights.
 *
 *     bench_ops [--device NAME] [--isa ISA] [--threads N] [--type Q8_0,...] [--only ops|model|contexts] [--rows N] [--json]
 *
 * GB/s counts weights and KV read; for the model it stands beside the read bandwidth measured between its tokens, in
 * the same run: only that fraction compares with other machines and hours. Single ops run from the caches where they
 * fit.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench_shape.h"
#include "device/bandwidth.h"
#include "ops/ops_cases.h"
#include "os/clock.h"

typedef struct bench_options {
    const char *device, *isa, *types, *only;
    uint32_t threads, rows, repeats, context;
    bool json;
} bench_options;

static const sp_dtype all_types[] = {
#define X(name, value, text, elements, bytes) name,
    SP_DTYPE_LIST(X)
#undef X
};

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, uint32_t count) {
    qsort(values, count, sizeof *values, compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

#define REPEATS_MAX 64

/* Seconds of all threads: on a machine that is busy with other things too, work over CPU time tells more than work over
 * the clock. */
static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool first_line = true;

static void report_op(const bench_options *options, const char *name, const char *type, uint32_t rows, double seconds,
                      double flop, double bytes) {
    if (options->json) {
        printf("%s{\"op\": \"%s\", \"type\": \"%s\", \"rows\": %u, \"us\": %.2f, \"gflops\": %.2f, \"gb_per_s\": %.2f}",
               first_line ? "" : ",\n  ", name, type, rows, seconds * 1e6, flop / seconds / 1e9, bytes / seconds / 1e9);
        first_line = false;
        return;
    }
    printf("%-16s %-5s rows %4u  %10.1f us  %8.1f GFLOP/s  %7.2f GB/s\n", name, type, rows, seconds * 1e6,
           flop / seconds / 1e9, bytes / seconds / 1e9);
    fflush(stdout);
}

/* Median of some repetitions; short ops are run often enough to be seen. */
static double time_op(const ops_device *on, const ops_case *test, sp_error *error) {
    ops_bench bench;
    if (ops_open(on, test, &bench, error) || ops_run(&bench, error)) {
        return -1;
    }
    double seconds[9];
    for (uint32_t i = 0; i < 9; i++) {
        int64_t start_ns = spi_clock_ns(), now_ns = start_ns;
        uint32_t runs = 0;
        while (runs < 3 || now_ns - start_ns < 5000000) {
            if (ops_run(&bench, error)) {
                return -1;
            }
            runs++;
            now_ns = spi_clock_ns();
        }
        seconds[i] = (double)(now_ns - start_ns) / 1e9 / runs;
    }
    ops_close(&bench);
    return median(seconds, 9);
}

static ops_case plain_case(spi_op_kind kind, uint32_t rows, uint32_t position) {
    ops_case test = {.kind = kind, .seed = 1, .type = SP_F32, .rows = 64, .cols = 2048, .scale = 1};
    test.heads = 32;
    test.kv_heads = 8;
    test.head_dim = 64;
    test.layers = 1;
    test.group = 2048;
    test.rope_dims = 64;
    test.rope_base = 500000;
    test.segment_count = 1;
    test.region_count = 1;
    test.segments[0].row_count = rows;
    test.segments[0].position_first = position;
    test.segments[0].out_count = 1;
    return test;
}

static bool wants_type(const bench_options *options, sp_dtype type) {
    const char *name = sp_dtype_name(type), *at = options->types;
    size_t length = strlen(name);
    while (at && *at && (strncmp(at, name, length) || (at[length] && at[length] != ','))) {
        at = strchr(at, ',') ? strchr(at, ',') + 1 : "";
    }
    return !at || *at;
}

static int bench_products(const ops_device *on, const bench_options *options, sp_error *error) {
    static const uint32_t rows[] = {1, 2, 4, 8, 16, 128, 512};
    for (uint32_t t = 0; t < sizeof all_types / sizeof all_types[0]; t++) {
        for (uint32_t i = 0; i < sizeof rows / sizeof rows[0] && wants_type(options, all_types[t]); i++) {
            ops_case test = plain_case(SPI_OP_MATMUL, rows[i], 0);
            test.type = all_types[t];
            test.rows = 8192;
            double seconds = time_op(on, &test, error), count = (double)test.rows * test.cols;
            if (seconds < 0) {
                return 1;
            }
            double bytes = count / sp_dtype_block_elements(test.type) * sp_dtype_block_bytes(test.type);
            report_op(options, "matmul", sp_dtype_name(test.type), rows[i], seconds, 2 * count * rows[i], bytes);
        }
    }
    return 0;
}

static int bench_others(const ops_device *on, const bench_options *options, sp_error *error) {
    static const spi_op_kind kinds[] = {SPI_OP_NORM, SPI_OP_ROPE, SPI_OP_KV_STORE, SPI_OP_GATE, SPI_OP_ATTENTION};
    for (uint32_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        for (uint32_t rows = 1; rows <= 128; rows *= 128) {
            uint32_t position = kinds[k] == SPI_OP_ATTENTION ? 2048 - rows : 0;
            ops_case test = plain_case(kinds[k], rows, position);
            test.scale = 0.125f;
            double seconds = time_op(on, &test, error), flop = 0, bytes = 0;
            if (seconds < 0) {
                return 1;
            }
            if (position) {
                flop = 4.0 * rows * (2048 - rows / 2.0) * test.heads * test.head_dim;
                bytes = 2048.0 * 2 * test.kv_heads * test.head_dim * 2;
            }
            report_op(options, spi_op_name(kinds[k]), "", rows, seconds, flop, bytes);
        }
    }
    return 0;
}

/* Attention to contexts that are larger than the caches. */
typedef struct context_case {
    uint32_t sessions, rows, position;
    const char *name;
} context_case;

static ops_case context_op(const context_case *of, sp_kv_type type) {
    ops_case test = plain_case(SPI_OP_ATTENTION, of->rows, of->position);
    test.scale = 0.125f;
    test.layers = 4;
    test.kv_type = type;
    test.segment_count = of->sessions;
    for (uint32_t i = 1; i < test.segment_count; i++) {
        test.segments[i] = test.segments[0];
    }
    return test;
}

/* Runs something else for some 200 us: in a token attention comes behind other work, and threads that are awake. */
static int wake_threads(ops_bench *other, sp_error *error) {
    int failed = 0;
    for (uint32_t i = 0; i < 4 && !failed; i++) {
        failed = ops_run(other, error) != SP_OK;
    }
    return failed;
}

/* Both types of keys and values and reads of plain memory by turns: what each costs beyond the bytes of K and V, and
 * what Q8_0's fewer bytes gain. */
static int bench_context(const ops_device *on, const bench_options *options, spi_bandwidth *bandwidth, ops_bench *other,
                         const context_case *of, uint32_t types, sp_error *error) {
    enum { TURNS = 9 };
    ops_bench bench[2] = {0};
    double seconds[2][TURNS], over[2][TURNS], gain[TURNS], bytes[2], context = of->position + of->rows, rows = of->rows;
    int failed = 0;
    for (uint32_t k = 0; k < types && !failed; k++) {
        ops_case test = context_op(of, k ? SP_KV_Q8_0 : SP_KV_F16);
        failed = ops_open(on, &test, &bench[k], error) || ops_run(&bench[k], error);
        bytes[k] = failed ? 0
                          : of->sessions * context * 2 * test.kv_heads * (double)spi_kv_head_bytes(&bench[k].tape.kv) /
                                SPI_BLOCK_TOKENS;
    }
    for (uint32_t i = 0; i < TURNS && !failed; i++) {
        for (uint32_t k = 0; k < types && !failed; k++) {
            double read = spi_bandwidth_measure(bandwidth);
            failed = wake_threads(other, error);
            int64_t start_ns = spi_clock_ns();
            failed = failed || ops_run(&bench[k], error);
            seconds[k][i] = (double)(spi_clock_ns() - start_ns) / 1e9;
            read = (read + spi_bandwidth_measure(bandwidth)) / 2;
            over[k][i] = seconds[k][i] * read * 1e9 / bytes[k];
        }
        gain[i] = seconds[0][i] / seconds[types - 1][i];
    }
    double flop = 4 * of->sessions * rows * (context - rows / 2) * bench[0].test.heads * bench[0].test.head_dim;
    for (uint32_t k = 0; k < types && !failed; k++) {
        report_op(options, of->name, k ? "Q8_0" : "F16", of->rows, median(seconds[k], TURNS), flop, bytes[k]);
        printf(options->json ? ",\n  {\"op\": \"attention over bytes\", \"ratio\": %.3f}"
                             : "             %.3f times what reading the bytes takes\n",
               median(over[k], TURNS));
    }
    if (types > 1 && !failed) {
        printf(options->json ? ",\n  {\"op\": \"F16 over Q8_0\", \"ratio\": %.3f}"
                             : "             F16 takes %.3f times as long as Q8_0\n",
               median(gain, TURNS));
    }
    for (uint32_t k = 0; k < types; k++) {
        ops_close(&bench[k]);
    }
    return failed;
}

/* Decoding at 32k tokens and at 8k, four sessions at 8k, and a chunk of a prompt behind 8k. */
static int bench_contexts(const ops_device *on, const bench_options *options, sp_error *error) {
    static const context_case tests[] = {{1, 1, 32767, "decode at 32k"},
                                         {1, 1, 8191, "decode at 8k"},
                                         {4, 1, 8191, "4 x decode at 8k"},
                                         {1, 512, 8192, "512 behind 8k"}};
    void *context;
    uint32_t types = spi_device_backend(on->device, &context)->has_q8_kv ? 2 : 1;
    spi_bandwidth *bandwidth;
    ops_case short_case = context_op(&(context_case){1, 1, 2047, ""}, SP_KV_F16);
    ops_bench other = {0};
    if (spi_bandwidth_create(options->threads, &bandwidth, error)) {
        return 1;
    }
    int failed = ops_open(on, &short_case, &other, error);
    for (uint32_t t = 0; t < sizeof tests / sizeof tests[0] && !failed; t++) {
        failed = bench_context(on, options, bandwidth, &other, &tests[t], types, error);
    }
    ops_close(&other);
    spi_bandwidth_destroy(bandwidth);
    return failed;
}

/* Tokens and reads of plain memory by turns, so that both see the same machine. */
static int bench_type(sp_device *device, spi_bandwidth *bandwidth, const bench_options *options, sp_dtype type,
                      sp_error *error) {
    bench_shape shape = bench_llama_1b;
    bench_model model;
    shape.type = type;
    int64_t start_ns = spi_clock_ns();
    if (bench_model_open(device, &shape, options->rows, options->context + options->rows + 8, &model, error)) {
        return 1;
    }
    double load_s = (double)(spi_clock_ns() - start_ns) / 1e9;
    double decode[REPEATS_MAX], read[REPEATS_MAX], fraction[REPEATS_MAX], prefill[3];
    double busy[REPEATS_MAX], prefill_busy_s = cpu_seconds();
    for (uint32_t i = 0; i < 3; i++) {
        prefill[i] = bench_model_run(&model, options->rows, 0, true, error);
        if (prefill[i] < 0) {
            return 1;
        }
    }
    prefill_busy_s = (cpu_seconds() - prefill_busy_s) / 3;
    bench_model_run(&model, 1, options->context, true, error);
    for (uint32_t i = 0; i < options->repeats; i++) {
        double start_s = cpu_seconds(), before = spi_bandwidth_measure(bandwidth), read_s = cpu_seconds() - start_s;
        start_s = cpu_seconds();
        decode[i] = bench_model_run(&model, 1, options->context, true, error);
        double decode_s = cpu_seconds() - start_s;
        start_s = cpu_seconds();
        read[i] = (before + spi_bandwidth_measure(bandwidth)) / 2;
        read_s = (read_s + cpu_seconds() - start_s) / 2;
        busy[i] = (double)model.matrix_bytes / decode_s / ((double)SPI_BANDWIDTH_BYTES / read_s);
        fraction[i] = (double)model.matrix_bytes / 1e9 / decode[i] / read[i];
    }
    double token_s = median(decode, options->repeats), fastest_s = decode[0], gb = (double)model.matrix_bytes / 1e9;
    double prefill_s = median(prefill, 3);
    const char *format =
        options->json
            ? "%s{\"model\": \"llama-1b\", \"type\": \"%s\", \"decode_tok_per_s\": %.2f, "
              "\"decode_best_tok_per_s\": %.2f, \"gb_per_s\": %.2f, \"read_gb_per_s\": %.2f, "
              "\"fraction\": %.3f, \"fraction_of_cpu_time\": %.3f, \"prefill_rows\": %u, \"prefill_tok_per_s\": %.1f, "
              "\"prefill_gflops\": "
              "%.1f, \"prefill_gflop_per_cpu_s\": %.1f, \"load_s\": %.2f}"
            : "%smodel 1B %-5s decode %6.2f tok/s (best %.2f)  %6.2f GB/s of %6.2f read: %.3f (by CPU time %.3f)  "
              "prefill %u: %7.1f tok/s  %7.1f GFLOP/s (%.1f a CPU second)  made and loaded in %.1f s\n";
    printf(format, options->json && !first_line ? ",\n  " : "", sp_dtype_name(type), 1 / token_s, 1 / fastest_s,
           gb / token_s, median(read, options->repeats), median(fraction, options->repeats),
           median(busy, options->repeats), options->rows, options->rows / prefill_s,
           model.matrix_flop * options->rows / prefill_s / 1e9,
           model.matrix_flop * options->rows / prefill_busy_s / 1e9, load_s);
    first_line = false;
    fflush(stdout);
    bench_model_close(&model);
    return 0;
}

static int bench_models(sp_device *device, const bench_options *options, sp_error *error) {
    sp_device_info info;
    sp_device_get_info(device, &info);
    spi_bandwidth *bandwidth;
    if (spi_bandwidth_create(info.thread_count ? info.thread_count : options->threads, &bandwidth, error)) {
        return 1;
    }
    int failed = 0;
    for (uint32_t t = 0; t < sizeof all_types / sizeof all_types[0] && !failed; t++) {
        if (options->types ? wants_type(options, all_types[t]) : all_types[t] != SP_F32) {
            failed = bench_type(device, bandwidth, options, all_types[t], error);
        }
    }
    spi_bandwidth_destroy(bandwidth);
    return failed;
}

static bool parse(int count, char **words, bench_options *options) {
    *options = (bench_options){.device = "cpu", .rows = 128, .repeats = 15};
    for (int i = 1; i < count; i++) {
        const char *word = words[i], *value = i + 1 < count ? words[i + 1] : NULL;
        if (!strcmp(word, "--json")) {
            options->json = true;
            continue;
        }
        if (!value) {
            return false;
        }
        i++;
        uint32_t number = (uint32_t)strtoul(value, NULL, 10);
        if (!strcmp(word, "--device")) {
            options->device = value;
        } else if (!strcmp(word, "--isa")) {
            options->isa = value;
        } else if (!strcmp(word, "--type")) {
            options->types = value;
        } else if (!strcmp(word, "--only")) {
            options->only = value;
        } else if (!strcmp(word, "--threads")) {
            options->threads = number;
        } else if (!strcmp(word, "--rows")) {
            options->rows = number ? number : 1;
        } else if (!strcmp(word, "--context")) {
            options->context = number;
        } else if (!strcmp(word, "--repeats")) {
            options->repeats = number && number < REPEATS_MAX ? number : REPEATS_MAX;
        } else {
            return false;
        }
    }
    return true;
}

int main(int count, char **words) {
    bench_options options;
    if (!parse(count, words, &options)) {
        fprintf(stderr, "usage: bench_ops [--device NAME] [--isa ISA] [--threads N] [--type Q8_0,...] "
                        "[--only ops|model|contexts] [--rows N] [--context N] [--repeats N] [--json]\n");
        return 2;
    }
    sp_error error = {0};
    sp_device_options wanted = {.thread_count = options.threads, .isa = options.isa};
    ops_device on = {0};
    if (sp_device_open(options.device, &wanted, &on.device, &error)) {
        fprintf(stderr, "bench_ops: %s\n", error.message);
        return 1;
    }
    sp_device_info info;
    sp_device_get_info(on.device, &info);
    double read = spi_cpu_read_bandwidth(options.threads);
    printf(options.json ? "{\"device\": \"%s\", \"description\": \"%s\", \"isa\": \"%s\", \"threads\": %u, "
                          "\"read_gb_per_s\": %.2f, \"results\": [\n  "
                        : "%s (%s), %s, %u threads; best read bandwidth %.2f GB/s\n",
           info.name, info.description, info.isa, info.thread_count, read);
    int failed = 0;
    if (!options.only || !strcmp(options.only, "ops")) {
        failed = bench_products(&on, &options, &error) || bench_others(&on, &options, &error);
    }
    if (!failed && options.only && !strcmp(options.only, "contexts")) {
        failed = bench_contexts(&on, &options, &error);
    }
    if (!failed && (!options.only || !strcmp(options.only, "model"))) {
        failed = bench_models(on.device, &options, &error);
    }
    if (options.json) {
        printf("]}\n");
    }
    if (failed) {
        fprintf(stderr, "bench_ops: %s\n", error.message);
        return 1;
    }
    sp_device_close(on.device);
    return 0;
}
