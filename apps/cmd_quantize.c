/* apps/cmd_quantize.c - samepage quantize: a model file in another weight type. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "apps/commands.h"
#include "apps/common.h"
#include "os/clock.h"
#include "samepage/quantise.h"

/* A line a tenth of a second is as much as anybody reads. */
#define PROGRESS_EVERY_NS 100000000

/* The signal that wants an end, or 0. */
static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal) {
    interrupted = signal;
}

static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
enum { END_COUNT = sizeof ends / sizeof *ends };

typedef struct report {
    spi_common common;
    bool pure, requantise, dry_run, is_shown;
    int64_t begun_ns, shown_ns;
    cJSON *tensors; /* NULL unless JSON is wanted */
} report;

static void clear_line(const report *of) {
    if (of->is_shown) {
        fputs("\r\033[K", stderr);
    }
}

static void on_tensor(void *env, const char *name, sp_dtype from, sp_dtype to, uint64_t elements) {
    report *of = env;
    if (of->tensors) {
        cJSON *tensor = cJSON_CreateObject();
        spi_json_add_text(tensor, "name", name, strlen(name));
        cJSON_AddStringToObject(tensor, "from", sp_dtype_name(from));
        cJSON_AddStringToObject(tensor, "to", sp_dtype_name(to));
        cJSON_AddNumberToObject(tensor, "elements", (double)elements);
        cJSON_AddItemToArray(of->tensors, tensor);
    } else if (of->common.verbose || of->dry_run) {
        char count[32];
        clear_line(of);
        spi_words_count(elements, count, sizeof count);
        printf("%-40s %-6s %-6s %s\n", name, sp_dtype_name(from), from == to ? "kept" : sp_dtype_name(to), count);
    }
}

static bool on_progress(void *env, uint64_t done_bytes, uint64_t total_bytes) {
    report *of = env;
    int64_t now_ns = spi_clock_ns();
    if (of->is_shown && (now_ns - of->shown_ns > PROGRESS_EVERY_NS || done_bytes == total_bytes)) {
        double part = total_bytes ? (double)done_bytes / (double)total_bytes : 1;
        double seconds = (double)(now_ns - of->begun_ns) * 1e-9;
        of->shown_ns = now_ns;
        fprintf(stderr, "\r\033[Kquantizing %3.0f %%, %.0f s left", part * 100,
                part > 0 ? seconds / part - seconds : 0);
        fflush(stderr);
    }
    return !interrupted;
}

static int summary(const report *of, const char *out, const char *type, const sp_quantise_result *result) {
    double seconds = (double)(spi_clock_ns() - of->begun_ns) * 1e-9;
    double bits = result->element_count ? (double)result->out_bytes * 8 / (double)result->element_count : 0;
    if (of->tensors) {
        cJSON *json = cJSON_CreateObject();
        spi_json_add_text(json, "file", out ? out : "", out ? strlen(out) : 0);
        cJSON_AddStringToObject(json, "type", type);
        cJSON_AddNumberToObject(json, "tensors_converted", (double)result->converted_count);
        cJSON_AddNumberToObject(json, "in_bytes", (double)result->in_bytes);
        cJSON_AddNumberToObject(json, "out_bytes", (double)result->out_bytes);
        cJSON_AddNumberToObject(json, "bits_per_weight", bits);
        cJSON_AddNumberToObject(json, "seconds", seconds);
        cJSON_AddItemToObject(json, "tensors", of->tensors);
        return spi_json_print(json);
    }
    char in_words[32], out_words[32];
    spi_words_bytes(result->in_bytes, in_words, sizeof in_words);
    spi_words_bytes(result->out_bytes, out_words, sizeof out_words);
    if (!of->common.quiet) {
        printf("%" PRIu64 " of %" PRIu64 " tensors converted: %s to %s, %.2f bits a weight, %.1f s%s\n",
               result->converted_count, result->tensor_count, in_words, out_words, bits, seconds,
               of->dry_run ? "; nothing was written" : "");
    }
    return SPI_EXIT_OK;
}

static int quantize(report *of, const char *in, const char *out, const char *type) {
    sp_error error = {0};
    sp_quantise_result result = {0};
    sp_quantise_options options = {.type = type,
                                   .pure = of->pure,
                                   .requantise = of->requantise,
                                   .dry_run = of->dry_run,
                                   .thread_count = of->common.threads,
                                   .tensor = on_tensor,
                                   .progress = on_progress,
                                   .env = of};
    struct sigaction action = {.sa_handler = on_interrupt}, before[END_COUNT];
    for (int i = 0; i < END_COUNT; i++) {
        sigaction(ends[i], NULL, &before[i]);
        if (before[i].sa_handler != SIG_IGN) { /* nohup */
            sigaction(ends[i], &action, NULL);
        }
    }
    of->is_shown = !of->common.quiet && !of->dry_run && isatty(STDERR_FILENO);
    of->begun_ns = of->shown_ns = spi_clock_ns();
    sp_status status = sp_quantise_file(in, out, &options, &result, &error);
    clear_line(of);
    for (int i = 0; i < END_COUNT; i++) {
        sigaction(ends[i], &before[i], NULL);
    }
    if (status) {
        cJSON_Delete(of->tensors);
        int code = spi_complain_error(&error);
        return status == SP_CANCELLED ? 128 + interrupted : code; /* as shells say it */
    }
    return summary(of, out, type, &result);
}

static int run(const spi_command *command, int argc, char **argv) {
    report of = {0};
    spi_operands operands;
    const spi_option options[] = {
        {"pure", 0, SPI_OPTION_FLAG, NULL, "every matrix in the type itself, no mix", &of.pure},
        {"requantize", 0, SPI_OPTION_FLAG, NULL, "take matrices that are quantised already: costs quality",
         &of.requantise},
        {"dry-run", 0, SPI_OPTION_FLAG, NULL, "list what would become of each tensor; OUT may be missing", &of.dry_run},
        {"threads", 't', SPI_OPTION_COUNT, "N", "threads to compute with", &of.common.threads},
        SPI_OPTION_JSON(of.common),
        SPI_OPTION_VERBOSE(of.common),
        SPI_OPTION_QUIET(of.common),
        SPI_OPTIONS_END,
    };
    int result = spi_options_parse(command, options, argc, argv, &operands);
    if (result >= 0) {
        return result;
    }
    bool has_out = operands.count == 3;
    if (operands.rest_count || (!has_out && !(of.dry_run && operands.count == 2))) {
        return spi_usage_error(command, "expected 'quantize IN OUT TYPE'");
    }
    of.tensors = of.common.json ? cJSON_CreateArray() : NULL;
    return quantize(&of, operands.items[0], has_out ? operands.items[1] : NULL, operands.items[operands.count - 1]);
}

const spi_command spi_command_quantize = {
    .name = "quantize",
    .summary = "write a model file anew in another weight type",
    .usage = "IN OUT TYPE [OPTIONS]",
    .text = "TYPE is one of F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q5_1, Q5_0, Q4_K_M, Q4_K_S, IQ4_NL, IQ4_XS,\n"
            "Q4_1, Q4_0, Q3_K_L, Q3_K_M, Q3_K_S and Q2_K; Q3_K, Q4_K and Q5_K are their mixes called M. What a mix\n"
            "gives to which tensor is as in llama.cpp, and so is every bit (no importance matrix): norms and other\n"
            "vectors stay as they are, and the output matrix has at least Q6_K. --dry-run shows it.\n\n"
            "IN should be F32, F16 or BF16. OUT appears when it is whole; what was there is replaced. Memory does not\n"
            "grow with the model.",
    .examples = "quantize model-f16.gguf model-q4_k_m.gguf Q4_K_M\n"
                "quantize model-f16.gguf Q4_K_M --dry-run",
    .run = run,
};
