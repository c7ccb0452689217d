/* apps/cmd_bench.c - samepage bench: how fast, and how much of what the memory allows. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "apps/bench.h"
#include "apps/commands.h"
#include "base/error.h"
#include "base/memory.h"
#include "device/bandwidth.h"

enum { ROWS_MAX = 64, TOKENS_MAX = 1 << 20, SEQUENCES_MAX = 1024, REPETITIONS_MAX = 10000 };

typedef struct settings {
    spi_common common;
    const char *prompts, *generated, *sequences;
    uint32_t repetitions;
    bool native, boundary;
} settings;

typedef struct row {
    spi_bench_test test;
    char name[32]; /* "tg128@4" */
    bool is_native;
    double tokens_per_s, deviation;
    double read_gb_per_s; /* of the machine, just before; 0: not known, or of no use for this device */
    double fraction;      /* of it; 0: does not say anything here */
} row;

typedef struct results {
    row rows[ROWS_MAX];
    uint32_t count;
    spi_bench_boundary boundary;
} results;

/* ---- measuring ---- */

/* A list of numbers, 0 left out. */
static int add_rows(const spi_command *command, const char *name, const char *list, uint32_t most, uint32_t *numbers,
                    uint32_t *count) {
    uint32_t given = 0;
    int32_t *ids = spi_parse_ids(list, &given);
    int result = ids && given <= ROWS_MAX / 4 ? -1 : 0;
    *count = 0;
    for (uint32_t i = 0; i < given && result < 0; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] > most) {
            result = 0;
        } else if (ids[i]) {
            numbers[(*count)++] = (uint32_t)ids[i];
        }
    }
    spi_free(ids);
    return result < 0
               ? -1
               : spi_usage_error(command, "%s takes numbers up to %u like 128 or 32,512, not '%s'", name, most, list);
}

static void add_test(results *all, spi_bench_test test, bool is_native) {
    row *added = &all->rows[all->count++];
    added->test = test;
    added->is_native = is_native || test.sequences > 1;
    int used = snprintf(added->name, sizeof added->name, "%s%" PRIu32, test.prompt ? "pp" : "tg",
                        test.prompt ? test.prompt : test.generated);
    if (test.sequences > 1) {
        snprintf(added->name + used, sizeof added->name - (size_t)used, "@%" PRIu32, test.sequences);
    }
}

static int plan(const spi_command *command, const settings *set, results *all) {
    uint32_t prompts[ROWS_MAX], generated[ROWS_MAX], sequences[ROWS_MAX], p, g, s = 0;
    int result = add_rows(command, "-p", set->prompts, TOKENS_MAX, prompts, &p);
    result = result < 0 ? add_rows(command, "-n", set->generated, TOKENS_MAX, generated, &g) : result;
    if (result < 0 && set->sequences) {
        result = add_rows(command, "-b", set->sequences, SEQUENCES_MAX, sequences, &s);
    }
    if (result >= 0) {
        return result;
    }
    if (p + g + g * s > ROWS_MAX) {
        return spi_usage_error(command, "that is %" PRIu32 " tests: at most %d at a time", p + g + g * s, ROWS_MAX);
    }
    for (uint32_t i = 0; i < p; i++) {
        add_test(all, (spi_bench_test){.prompt = prompts[i], .sequences = 1}, set->native);
    }
    for (uint32_t i = 0; i < g; i++) {
        add_test(all, (spi_bench_test){.generated = generated[i], .sequences = 1}, set->native);
        for (uint32_t k = 0; k < s; k++) {
            if (sequences[k] == 1) {
                continue; /* that row is there already */
            }
            add_test(all, (spi_bench_test){.generated = generated[i], .sequences = sequences[k]}, true);
        }
    }
    if (!all->count || !set->repetitions || set->repetitions > REPETITIONS_MAX || (set->boundary && !g)) {
        return spi_usage_error(command, !all->count           ? "-p 0 and -n 0 leave nothing to do"
                                        : !set->repetitions   ? "-r 0 leaves nothing to do"
                                        : set->boundary && !g ? "--boundary is measured on generated tokens: -n is 0"
                                                              : "-r is too large");
    }
    return -1;
}

/* Decode reads every weight once for a pass over all sequences, so that the weights' bytes are what bounds it. */
static sp_status measure(const settings *set, const spi_opened *opened, row *measured, sp_error *error) {
    const spi_bench_test *test = &measured->test;
    double *seconds = spi_alloc(set->repetitions, sizeof *seconds);
    double tokens = (double)(test->prompt ? test->prompt : test->generated) * test->sequences;
    sp_model_info info;
    if (!seconds) {
        return spi_fail(error, SP_NO_MEMORY, "not enough memory for the results");
    }
    sp_model_get_info(opened->model, &info);
    sp_status status = test->sequences > 1   ? spi_bench_batch(opened, test, set->repetitions, seconds, error)
                       : measured->is_native ? spi_bench_native(opened, test, set->repetitions, seconds, error)
                                             : spi_bench_guest(opened, test, set->repetitions, seconds, error);
    for (uint32_t i = 0; i < set->repetitions && !status; i++) {
        seconds[i] = seconds[i] > 0 ? tokens / seconds[i] : 0;
    }
    if (!status) {
        measured->deviation = spi_deviation(seconds, set->repetitions);
        measured->tokens_per_s = spi_median(seconds, set->repetitions);
        if (test->generated && measured->read_gb_per_s > 0) {
            double passes_per_s = measured->tokens_per_s / test->sequences;
            measured->fraction = passes_per_s * (double)info.weight_bytes * 1e-9 / measured->read_gb_per_s;
        }
    }
    spi_free(seconds);
    return status;
}

/* ---- the table ---- */

static void print_head(void) {
    printf("| %-26s | %10s | %10s | %-10s | %7s | %13s | %20s |\n", "model", "size", "params", "backend", "threads",
           "test", "t/s");
    puts("| -------------------------- | ---------: | ---------: | ---------- | ------: | ------------: | "
         "-------------------: |");
    fflush(stdout);
}

static void print_row(const spi_opened *opened, const row *shown) {
    sp_device_info device;
    sp_model_info info;
    char words[96], size[32], count[32], threads[16], speed[48];
    sp_device_get_info(opened->device, &device);
    sp_model_get_info(opened->model, &info);
    spi_model_words(&info, words, sizeof words);
    spi_words_bytes(info.file_bytes, size, sizeof size);
    spi_words_count(info.parameter_count, count, sizeof count);
    snprintf(threads, sizeof threads, device.thread_count ? "%" PRIu32 : "-", device.thread_count);
    snprintf(speed, sizeof speed, "%.2f ± %.2f", shown->tokens_per_s, shown->deviation);
    printf("| %-26s | %10s | %10s | %-10s | %7s | %13s | %21s |\n", words, size, count, device.name, threads,
           shown->name, speed); /* 21: the sign is one character and two bytes */
    fflush(stdout);
}

static void say(const settings *set, const char *what) {
    if (set->common.verbose) {
        fprintf(stderr, "samepage: %s\n", what);
    }
}

/* Rows are shown as they come: the next one may take minutes. */
static sp_status measure_all(const settings *set, const spi_opened *opened, results *all, sp_error *error) {
    sp_device_info device;
    sp_status status = SP_OK;
    sp_device_get_info(opened->device, &device);
    if (!set->common.json) {
        print_head();
    }
    for (uint32_t i = 0; i < all->count && !status; i++) {
        say(set, all->rows[i].name);
        if (!device.memory_bytes) { /* else the weights are not in the host's memory */
            all->rows[i].read_gb_per_s = spi_cpu_read_bandwidth(device.thread_count);
        }
        status = measure(set, opened, &all->rows[i], error);
        if (!status && !set->common.json) {
            print_row(opened, &all->rows[i]);
        }
    }
    for (uint32_t i = 0; i < all->count && set->boundary && !status; i++) {
        const spi_bench_test *test = &all->rows[i].test;
        if (test->generated && test->sequences == 1) {
            say(set, "boundary");
            return spi_bench_measure_boundary(opened, test->generated, set->repetitions, &all->boundary, error);
        }
    }
    return status;
}

/* ---- what follows the table ---- */

static void print_sums(const settings *set, const results *all) {
    printf("\nmedian of %" PRIu32 ", %s\n", set->repetitions,
           set->native ? "without a guest" : "through the embedded guest (rows with @ without one)");
    for (uint32_t i = 0; i < all->count; i++) {
        const row *shown = &all->rows[i];
        if (shown->fraction > 0) {
            printf("%s reads %.1f GB/s of weights, %.0f%% of the %.1f GB/s that memory gave just before%s\n",
                   shown->name, shown->fraction * shown->read_gb_per_s, shown->fraction * 100, shown->read_gb_per_s,
                   shown->fraction > 1 ? ": the model fits into caches" : "");
        }
    }
}

static void print_boundary(const spi_bench_boundary *b) {
    printf(
        "boundary: %.2f ± %.2f us a token, %.3f%% of a token's %.1f us (%.2f us outside of the device with the guest,\n"
        "  %.2f us without it; %.1f host calls; whole tokens take %.1f us with the guest, %.1f us without)\n",
        b->us, b->error_us, b->us / b->native.us * 100, b->native.us, b->guest.outside_us, b->native.outside_us,
        b->host_calls, b->guest.us, b->native.us);
}

static void add_number_or_null(cJSON *object, const char *name, double number) {
    if (number > 0) {
        cJSON_AddNumberToObject(object, name, number);
    } else {
        cJSON_AddNullToObject(object, name);
    }
}

static int print_json(const settings *set, const spi_opened *opened, const results *all) {
    sp_device_info device;
    sp_model_info info;
    char words[96];
    sp_device_get_info(opened->device, &device);
    sp_model_get_info(opened->model, &info);
    spi_model_words(&info, words, sizeof words);
    cJSON *json = cJSON_CreateObject(), *rows = cJSON_AddArrayToObject(json, "rows");
    for (uint32_t i = 0; i < all->count; i++) {
        const row *shown = &all->rows[i];
        cJSON *object = cJSON_CreateObject();
        cJSON_AddStringToObject(object, "device", device.name);
        cJSON_AddStringToObject(object, "device_description", device.description);
        cJSON_AddStringToObject(object, "isa", device.isa);
        cJSON_AddStringToObject(object, "model_type", words);
        cJSON_AddNumberToObject(object, "model_bytes", (double)info.file_bytes);
        cJSON_AddNumberToObject(object, "weight_bytes", (double)info.weight_bytes);
        cJSON_AddNumberToObject(object, "parameters", (double)info.parameter_count);
        cJSON_AddStringToObject(object, "test", shown->name);
        cJSON_AddNumberToObject(object, "threads", device.thread_count);
        cJSON_AddStringToObject(object, "through", shown->is_native ? "native" : "guest");
        cJSON_AddNumberToObject(object, "sequences", shown->test.sequences);
        cJSON_AddNumberToObject(object, "repetitions", set->repetitions);
        cJSON_AddNumberToObject(object, "tokens_per_s", shown->tokens_per_s);
        cJSON_AddNumberToObject(object, "tokens_per_s_deviation", shown->deviation);
        add_number_or_null(object, "read_gb_per_s", shown->read_gb_per_s);
        add_number_or_null(object, "fraction_of_bandwidth", shown->fraction);
        cJSON_AddItemToArray(rows, object);
    }
    if (set->boundary) {
        const spi_bench_boundary *b = &all->boundary;
        cJSON *object = cJSON_AddObjectToObject(json, "boundary");
        cJSON_AddNumberToObject(object, "us_per_token", b->us);
        cJSON_AddNumberToObject(object, "us_per_token_error", b->error_us);
        cJSON_AddNumberToObject(object, "percent", b->us / b->native.us * 100);
        cJSON_AddNumberToObject(object, "guest_us_per_token", b->guest.us);
        cJSON_AddNumberToObject(object, "guest_outside_us_per_token", b->guest.outside_us);
        cJSON_AddNumberToObject(object, "native_us_per_token", b->native.us);
        cJSON_AddNumberToObject(object, "native_outside_us_per_token", b->native.outside_us);
        cJSON_AddNumberToObject(object, "host_calls_per_token", b->host_calls);
    }
    return spi_json_print(json);
}

/* ---- the command ---- */

static int bench(const settings *set, results *all) {
    sp_error error = {0};
    spi_opened opened;
    int result;
    sp_status status = spi_open_both(&set->common, &opened, &error);
    status = status ? status : measure_all(set, &opened, all, &error);
    if (status) {
        result = spi_complain_error(&error);
    } else if (set->common.json) {
        result = print_json(set, &opened, all);
    } else {
        print_sums(set, all);
        if (set->boundary) {
            print_boundary(&all->boundary);
        }
        result = SPI_EXIT_OK;
    }
    spi_close_both(&opened);
    return result;
}

static int run(const spi_command *command, int argc, char **argv) {
    settings set = {.prompts = "512", .generated = "128", .repetitions = 5};
    results all = {0};
    const spi_option options[] = {
        SPI_OPTION_MODEL(set.common),
        {"prompt", 'p', SPI_OPTION_TEXT, "N", "prompt tokens, or a list: 32,512; 0: none", &set.prompts},
        {"tokens", 'n', SPI_OPTION_TEXT, "N", "generated tokens, or a list; 0: none", &set.generated},
        {"batch", 'b', SPI_OPTION_TEXT, "N", "also N sequences side by side, or a list", &set.sequences},
        {"repetitions", 'r', SPI_OPTION_COUNT, "N", "how often (default 5); medians are shown", &set.repetitions},
        {"native", 0, SPI_OPTION_FLAG, NULL, "the same loop in C, without a guest", &set.native},
        {"boundary", 0, SPI_OPTION_FLAG, NULL, "measure what the guest costs: both loops in turns", &set.boundary},
        SPI_OPTIONS_COMPUTE(set.common),
        SPI_OPTIONS_END,
    };
    int result = spi_options_parse_all(command, options, argc, argv, &set.common, "; the model goes behind -m");
    if (result >= 0) {
        return result;
    }
    result = plan(command, &set, &all);
    return result >= 0 ? result : bench(&set, &all);
}

const spi_command spi_command_bench = {
    .name = "bench",
    .summary = "measure tokens per second",
    .usage = "-m FILE [-p N] [-n N] [-b SEQUENCES] [-r N] [--native] [--boundary] [OPTIONS]",
    .text =
        "Prints rows as llama-bench does: pp512 is a prompt of 512 tokens in one append, tg128 is 128 tokens one at\n"
        "a time, each from an empty context; tg128@4 is 4 sequences side by side, and counts the tokens of all.\n"
        "The loop is a WebAssembly guest, as in chat. --native runs the same loop in C; --boundary runs both in\n"
        "turns and prints what the guest costs for each token. Decode reads all weights once for each pass, so the\n"
        "memory's read bandwidth bounds it; it is measured in the same run, and the share reached is printed.",
    .examples = "bench -m model.gguf\n"
                "bench -m model.gguf -p 0 -n 128 -b 1,4,16 -t 8\n"
                "bench -m model.gguf -p 0 -n 64 -r 20 --boundary --json",
    .run = run,
};
