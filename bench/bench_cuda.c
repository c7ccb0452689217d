/* bench/bench_cuda.c - tokens of the Llama 3.2 1B shape with random weights on a CUDA card, beside what the card reads of
 * its own memory in the same run.
 *
 *     bench_cuda [--type Q8_0,...] [--context N,...] [--prefill N,...] [--sequences N,...] [--restore N,...] [--mirror 0] [--repeats N] [--rows N]
 *                [--op-by-op 1] [--in-place 1] [--apart 1] [--profile 1] [--flight KIB] [--stage KIB] [--split N]
 *
 * Decoding: the time of a run of one row, seen by the host, from the call to the logits in the guest's memory. Fraction:
 * bytes of all matrices over that time, of the card's read bandwidth. Medians.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_shape.h"
#include "device/cuda/cuda.h"
#include "os/clock.h"

#define REPEATS_MAX   1000u
#define SEQUENCES_MAX 64u

typedef struct bench_options {
    const char *types, *contexts, *prefills, *sequences, *restores;
    uint32_t repeats, rows; /* rows: of a run at most */
    uint32_t ahead;         /* tokens that the card goes on by itself */
    spi_cu_choices choices;
    bool profile;
} bench_options;

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, uint32_t count) {
    qsort(values, count, sizeof *values, compare);
    return values[count / 2];
}

static bool parse(int count, char **words, bench_options *options) {
    *options = (bench_options){.types = "BF16,Q8_0,Q4_0",
                               .contexts = "0,512",
                               .prefills = "",
                               .sequences = "",
                               .restores = "",
                               .repeats = 101,
                               .rows = 512};
    for (int i = 1; i + 1 < count; i += 2) {
        const char *word = words[i], *value = words[i + 1];
        uint32_t number = (uint32_t)strtoul(value, NULL, 10);
        if (!strcmp(word, "--type")) {
            options->types = value;
        } else if (!strcmp(word, "--context")) {
            options->contexts = value;
        } else if (!strcmp(word, "--prefill")) {
            options->prefills = value;
        } else if (!strcmp(word, "--sequences")) {
            options->sequences = value;
        } else if (!strcmp(word, "--restore")) {
            options->restores = value;
        } else if (!strcmp(word, "--mirror")) {
            options->choices.unmirrored = !number;
        } else if (!strcmp(word, "--repeats")) {
            options->repeats = number && number < REPEATS_MAX ? number : REPEATS_MAX;
        } else if (!strcmp(word, "--rows")) {
            options->rows = number;
        } else if (!strcmp(word, "--ahead")) {
            options->ahead = number;
        } else if (!strcmp(word, "--op-by-op")) {
            options->choices.op_by_op = number;
        } else if (!strcmp(word, "--apart")) {
            options->choices.apart = number;
        } else if (!strcmp(word, "--in-place")) {
            options->choices.in_place = number;
        } else if (!strcmp(word, "--profile")) {
            options->profile = number;
        } else if (!strcmp(word, "--flight")) {
            options->choices.flight_bytes = number * 1024;
        } else if (!strcmp(word, "--flight-most")) {
            options->choices.flight_most_bytes = number * 1024;
        } else if (!strcmp(word, "--stage")) {
            options->choices.stage_bytes = number * 1024;
        } else if (!strcmp(word, "--split")) {
            options->choices.split_blocks = number;
        } else {
            return false;
        }
    }
    return count % 2;
}

/* The next number of a list; false at its end. */
static bool next_number(const char **list, uint32_t *number) {
    char *end;
    *number = (uint32_t)strtoul(*list, &end, 10);
    bool found = end != *list;
    *list = *end == ',' ? end + 1 : end;
    return found;
}

/* How far the blocks are apart at the end of a phase in the middle. */
static void spread(const long long *times, uint32_t count, uint32_t phase) {
    static double ends[1024];
    for (uint32_t i = 0; i < count && i < 1024; i++) {
        ends[i] = (double)(times[2 * i + 1] - times[0]);
    }
    qsort(ends, count, sizeof *ends, compare);
    printf("  phase %u ends in the blocks after %.0f (first), %.0f, %.0f (half), %.0f, %.0f ns (last)\n", phase,
           ends[0], ends[count / 4], ends[count / 2], ends[count * 3 / 4], ends[count - 1]);
}

/* Where the first block's time goes in the layers of a token: the input of a phase, its products or attention, and the
 * barrier behind it. */
static int profile(spi_cu *cu, bench_model *model, uint32_t context, sp_error *error) {
    spi_cu_decode *token = model->program->decode;
    spi_cu_pinned_memory memory;
    if (!token) {
        printf("  op by op: no phases to look into\n");
        return 0;
    }
    if (spi_cu_pinned_create(cu, (3u * token->phases.count + 5 + 2u * token->block_count) * sizeof(long long), "clocks",
                             &memory, error)) {
        return 1;
    }
    token->token.clocks = memory.address;
    token->token.marked = token->phases.count / 2;
    while (token->phases.items[token->token.marked].output != SPI_CU_OUTPUT_GATE) {
        token->token.marked++;
    }
    double seconds = bench_model_run(model, 1, context, true, error);
    bool failed = seconds < 0;
    token->token.clocks = NULL;
    const long long *clocks = memory.address;
    uint32_t layers = model->shape.layers, each = (token->phases.count - 1) / layers;
    for (uint32_t p = 0; p < each; p++) {
        double parts[3] = {0};
        for (uint32_t layer = 1; layer < layers; layer++) {
            const long long *at = clocks + 3 * (layer * each + p);
            bool attends = token->phases.items[p].kind == SPI_CU_PHASE_ATTENTION;
            parts[0] += attends ? 0 : (double)(at[1] - at[0]);
            parts[1] += (double)(at[2] - (attends ? at[0] : at[1]));
            parts[2] += (double)(at[3] - at[2]);
        }
        printf("  phase %u: input %6.0f, work %6.0f, barrier %6.0f clocks\n", p, parts[0] / (layers - 1),
               parts[1] / (layers - 1), parts[2] / (layers - 1));
    }
    const long long *last = clocks + 3 * (token->phases.count - 1);
    printf("  all %lld, head %lld clocks\n", last[2] - clocks[0], last[2] - last[0]);
    const long long *others = last + 4 + 2 * token->block_count;
    printf("  %lld clocks waited for room in the ring, %lld for weights; %.1f us in the kernel of %.1f\n", others[0],
           others[1], (double)(others[3] - others[2]) / 1e3, seconds * 1e6);
    spread(last + 4, token->block_count, token->token.marked % each);
    spi_cu_pinned_destroy(cu, &memory);
    return failed;
}

static int decode(bench_model *model, const bench_options *options, const char *type, double read, sp_error *error) {
    const char *list = options->contexts;
    uint32_t context;
    while (next_number(&list, &context)) {
        static double seconds[REPEATS_MAX];
        for (uint32_t i = 0; i < 20 + options->repeats; i++) {
            double taken = bench_model_run(model, 1, context + i % 32, true, error);
            if (taken < 0) {
                return 1;
            }
            seconds[i < 20 ? 0 : i - 20] = taken;
        }
        double middle = median(seconds, options->repeats), rate = (double)model->matrix_bytes / middle / 1e9;
        printf("%-7s decode at %5u: %7.1f us (best %7.1f) = %6.0f tok/s, %5.0f GB/s, %.3f of reading\n", type, context,
               middle * 1e6, seconds[0] * 1e6, 1 / middle, rate, rate / read);
        void *cu;
        spi_device_backend(model->device, &cu);
        if (options->profile && profile(cu, model, context, error)) {
            return 1;
        }
        fflush(stdout);
    }
    return 0;
}

/* Tokens that the card picks and goes on with by itself, so many in a run. */
static int decode_ahead(bench_model *model, const bench_options *options, const char *type, double read,
                        sp_error *error) {
    const char *list = options->contexts;
    uint32_t context;
    void *cu;
    const spi_backend *backend = spi_device_backend(model->device, &cu);
    while (options->ahead && next_number(&list, &context)) {
        static double seconds[REPEATS_MAX];
        static int32_t tokens[256];
        int32_t token = 7;
        uint32_t made = 1;
        spi_segment segment = {.link = spi_device_find_link(model->device, model->region),
                               .logits_offset = bench_model_logits_offset(model),
                               .row_count = 1,
                               .position_first = context,
                               .out_count = 1};
        for (uint32_t i = 0; i < 8 + options->repeats / 4; i++) {
            spi_picks picks = {.tokens = tokens, .count_max = options->ahead < 256 ? options->ahead : 256};
            spi_run run = {.tokens = &token,
                           .row_count = 1,
                           .segments = &segment,
                           .segment_count = 1,
                           .out_count = 1,
                           .picks = &picks};
            int64_t start_ns = spi_clock_ns();
            if (backend->run(cu, model->program, &run, error)) {
                return 1;
            }
            made = picks.count ? picks.count : 1;
            seconds[i < 8 ? 0 : i - 8] = (double)(spi_clock_ns() - start_ns) / 1e9 / made;
        }
        double middle = median(seconds, options->repeats / 4), rate = (double)model->matrix_bytes / middle / 1e9;
        printf("%-7s decode at %5u, %u at once: %7.1f us (best %7.1f) = %6.0f tok/s, %5.0f GB/s, %.3f of reading\n",
               type, context, made, middle * 1e6, seconds[0] * 1e6, 1 / middle, rate, rate / read);
        fflush(stdout);
    }
    return 0;
}

/* Prefill of so many tokens in runs as long as they may be; seconds. Negative: failed. */
static double prefill_once(bench_model *model, const bench_options *options, uint32_t rows, sp_error *error) {
    double taken = 0;
    for (uint32_t at = 0; at < rows; at += options->rows) {
        uint32_t step = rows - at < options->rows ? rows - at : options->rows;
        double part = bench_model_run(model, step, at, at + step == rows, error);
        if (part < 0) {
            return part;
        }
        taken += part;
    }
    return taken;
}

static int prefill(bench_model *model, const bench_options *options, const char *type, sp_error *error) {
    const char *list = options->prefills;
    uint32_t rows;
    while (next_number(&list, &rows)) {
        double seconds[9];
        for (uint32_t i = 0; i < 11; i++) {
            double taken = prefill_once(model, options, rows, error);
            if (taken < 0) {
                return 1;
            }
            seconds[i < 2 ? 0 : i - 2] = taken;
        }
        double middle = median(seconds, 9);
        printf("%-7s prefill %5u: %8.1f us = %8.0f tok/s, %6.1f TFLOP/s\n", type, rows, middle * 1e6, rows / middle,
               model->matrix_flop * rows / middle / 1e12);
        fflush(stdout);
    }
    return 0;
}

/* A conversation whose blocks the host has, as after a restore, against computing it again: the card's side of it. Both
 * end with the logits of the last token. */
static int restore(bench_model *model, const bench_options *options, const char *type, sp_error *error) {
    const char *list = options->restores;
    uint32_t length;
    while (next_number(&list, &length)) {
        double computed[3], handed[3], linked[3];
        for (int i = 0; i < 3; i++) {
            computed[i] = prefill_once(model, options, length, error);
            sp_device_unlink(model->device, model->region);
            int64_t start_ns = spi_clock_ns();
            if (computed[i] < 0 || sp_device_link(model->device, model->region, error)) {
                return 1;
            }
            linked[i] = (double)(spi_clock_ns() - start_ns) / 1e9;
            uint64_t blocks = (length + SPI_BLOCK_TOKENS - 1) / SPI_BLOCK_TOKENS;
            start_ns = spi_clock_ns();
            if (spi_device_host_wrote(model->device, model->region, 0, blocks * model->tape.kv.block_bytes, error) ||
                bench_model_run(model, 1, length - 1, true, error) < 0) {
                return 1;
            }
            handed[i] = (double)(spi_clock_ns() - start_ns) / 1e9;
        }
        printf(
            "%-7s %5u tokens: computed in %8.2f ms, handed over in %8.2f ms, a token included; the region of %.0f MiB "
            "linked in %.2f ms\n",
            type, length, median(computed, 3) * 1e3, median(handed, 3) * 1e3,
            (double)sp_region_size_bytes(model->region) / 1048576, median(linked, 3) * 1e3);
        fflush(stdout);
    }
    return 0;
}

/* One token each of sessions that lie side by side in one region. */
static int batch(bench_model *model, const bench_options *options, const char *type, sp_error *error) {
    const char *list = options->sequences;
    uint32_t count;
    void *context;
    const spi_backend *backend = spi_device_backend(model->device, &context);
    while (next_number(&list, &count) && count <= SEQUENCES_MAX) {
        static spi_segment segments[SEQUENCES_MAX];
        static int32_t tokens[SEQUENCES_MAX];
        sp_region *region;
        uint64_t blocks = 4, logits_bytes = (uint64_t)model->shape.vocab * sizeof(float);
        uint64_t session_bytes = blocks * model->tape.kv.block_bytes + (logits_bytes + 63) / 64 * 64;
        sp_region_options wanted = {.size_bytes = (size_t)(count * session_bytes)};
        if (sp_region_create(&wanted, &region, error) || sp_device_link(model->device, region, error)) {
            return 1;
        }
        for (uint32_t i = 0; i < count; i++) {
            segments[i] = (spi_segment){.link = spi_device_find_link(model->device, region),
                                        .kv_offset = i * session_bytes,
                                        .logits_offset = i * session_bytes + blocks * model->tape.kv.block_bytes,
                                        .row_first = i,
                                        .row_count = 1,
                                        .out_first = i,
                                        .out_count = 1};
            tokens[i] = (int32_t)(i * 7919u % model->shape.vocab);
        }
        for (int alone = 0; alone < 2; alone++) {
            double seconds[60];
            for (uint32_t i = 0; i < 80; i++) {
                for (uint32_t k = 0; k < count; k++) {
                    segments[k].position_first = i;
                }
                int32_t picked[SEQUENCES_MAX];
                spi_picks picks = {.tokens = picked, .count_max = count, .alone = true};
                spi_run run = {.tokens = tokens,
                               .row_count = count,
                               .segments = segments,
                               .segment_count = count,
                               .out_count = count,
                               .picks = alone ? &picks : NULL};
                int64_t start_ns = spi_clock_ns();
                if (backend->run(context, model->program, &run, error)) {
                    return 1;
                }
                seconds[i < 20 ? 0 : i - 20] = (double)(spi_clock_ns() - start_ns) / 1e9;
            }
            double middle = median(seconds, 60);
            printf("%-7s %2u sequences, %s: %8.1f us = %8.0f tok/s in all\n", type, count,
                   alone ? "picks alone" : "all logits ", middle * 1e6, count / middle);
            fflush(stdout);
        }
        sp_device_unlink(model->device, region);
        sp_region_destroy(region);
    }
    return 0;
}

static int bench_type(sp_device *device, const bench_options *options, sp_dtype type, sp_error *error) {
    bench_shape shape = bench_llama_1b;
    bench_model model;
    shape.type = type;
    void *context;
    spi_device_backend(device, &context);
    double read;
    if (spi_cu_read_bandwidth(context, &read, error)) {
        return 1;
    }
    printf("%-7s the card reads %.0f GB/s\n", sp_dtype_name(type), read);
    int failed = bench_model_open(device, &shape, options->rows, options->restores[0] ? 32768 + 512 : 16384 + 512,
                                  &model, error) != SP_OK;
    failed = failed || decode(&model, options, sp_dtype_name(type), read, error);
    failed = failed || decode_ahead(&model, options, sp_dtype_name(type), read, error);
    failed = failed || prefill(&model, options, sp_dtype_name(type), error);
    failed = failed || batch(&model, options, sp_dtype_name(type), error);
    failed = failed || restore(&model, options, sp_dtype_name(type), error);
    bench_model_close(&model);
    return failed;
}

/* Whole names only: Q4_0 is no Q4_0_4. */
static bool wants(const char *types, const char *name) {
    size_t length = strlen(name);
    for (const char *at = types; (at = strstr(at, name)); at += length) {
        if ((at == types || at[-1] == ',') && (at[length] == ',' || !at[length])) {
            return true;
        }
    }
    return false;
}

int main(int count, char **words) {
    static const sp_dtype types[] = {
#define X(name, value, text, elements, bytes) name,
        SP_DTYPE_LIST(X)
#undef X
    };
    bench_options options;
    if (!parse(count, words, &options)) {
        fprintf(stderr, "usage: bench_cuda [--type Q8_0,...] [--context N,...] [--prefill N,...] [--sequences N,...] "
                        "[--restore N,...] [--mirror 0] "
                        "[--repeats N] [--rows N] [--op-by-op 1] [--in-place 1] [--apart 1] [--profile 1] [--flight "
                        "KIB] [--stage KIB] [--split N]\n");
        return 2;
    }
    sp_error error = {0};
    sp_device *device;
    spi_cu_test_choices(&options.choices);
    if (sp_device_open("cuda", NULL, &device, &error)) {
        fprintf(stderr, "bench_cuda: %s\n", error.message);
        return 1;
    }
    sp_device_info info;
    sp_device_get_info(device, &info);
    printf("%s\n", info.description);
    int failed = 0;
    for (size_t i = 0; i < sizeof types / sizeof types[0] && !failed; i++) {
        if (wants(options.types, sp_dtype_name(types[i]))) {
            failed = bench_type(device, &options, types[i], &error);
        }
    }
    if (failed) {
        fprintf(stderr, "bench_cuda: %s\n", error.message);
        return 1;
    }
    sp_device_close(device);
    return 0;
}
