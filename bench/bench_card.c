/* bench/bench_card.c - see bench_card.h. */
#include "bench_card.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "os/clock.h"

#define SEQUENCES_MAX 64u
#define USAGE                                                                                                          \
    "[--type Q8_0,...] [--context N,...] [--prefill N,...] [--sequences N,...] [--repeats N] [--rows N] "              \
    "[--kv-type f16|q8_0]"

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, uint32_t count) {
    qsort(values, count, sizeof *values, compare);
    return values[count / 2];
}

bool bench_next_number(const char **list, uint32_t *number) {
    char *end;
    *number = (uint32_t)strtoul(*list, &end, 10);
    bool found = end != *list;
    *list = *end == ',' ? end + 1 : end;
    return found;
}

static bool take(const bench_option *own, const char *word, const char *value) {
    uint32_t number = (uint32_t)strtoul(value, NULL, 10);
    while (own->name && strcmp(own->name, word)) {
        own++;
    }
    if (own->text) {
        *own->text = value;
    } else if (own->number) {
        *own->number = number * (own->unit ? own->unit : 1);
    } else if (own->flag) {
        *own->flag = number;
    }
    return own->name;
}

static bool parse(const bench_card *card, int count, char **words, bench_options *options) {
    *options = (bench_options){.types = "BF16,Q8_0,Q4_0",
                               .contexts = "0,512",
                               .prefills = "",
                               .sequences = "",
                               .repeats = 101,
                               .context_max = 16384 + 512};
    const char *kv_type = "f16";
    const bench_option common[] = {{"--type", .text = &options->types},
                                   {"--context", .text = &options->contexts},
                                   {"--prefill", .text = &options->prefills},
                                   {"--sequences", .text = &options->sequences},
                                   {"--repeats", .number = &options->repeats},
                                   {"--rows", .number = &options->rows},
                                   {"--kv-type", .text = &kv_type},
                                   {0}};
    for (int i = 1; i + 1 < count; i += 2) {
        if (!take(common, words[i], words[i + 1]) && !take(card->own, words[i], words[i + 1])) {
            return false;
        }
    }
    bool limited = options->repeats && options->repeats < BENCH_REPEATS_MAX;
    options->repeats = limited ? options->repeats : BENCH_REPEATS_MAX;
    if (card->chosen) {
        card->chosen(options);
    }
    bool q8 = !strcmp(kv_type, "q8_0");
    options->kv_type = q8 ? SP_KV_Q8_0 : SP_KV_F16;
    return count % 2 && (q8 || !strcmp(kv_type, "f16"));
}

/* A card that was idle takes its time to raise its clocks: a second of it is not measured. */
static int warm_up(bench_run *run) {
    for (int64_t end_ns = spi_clock_ns() + 1000000000; spi_clock_ns() < end_ns;) {
        if (bench_model_run(&run->model, 1, 0, true, run->error) < 0) {
            return 1;
        }
    }
    return 0;
}

static int decode(const bench_card *card, bench_run *run) {
    const char *list = run->options->contexts;
    uint32_t context, repeats = run->options->repeats;
    while (bench_next_number(&list, &context)) {
        static double seconds[BENCH_REPEATS_MAX];
        for (uint32_t i = 0; i < 20 + repeats; i++) {
            double taken = bench_model_run(&run->model, 1, context + i % 32, true, run->error);
            if (taken < 0) {
                return 1;
            }
            seconds[i < 20 ? 0 : i - 20] = taken;
        }
        double middle = bench_median(seconds, repeats), rate = (double)run->model.matrix_bytes / middle / 1e9;
        printf("%-7s decode at %5u: %7.1f us (best %7.1f) = %6.0f tok/s, %5.0f GB/s, %.3f of reading\n", run->type,
               context, middle * 1e6, seconds[0] * 1e6, 1 / middle, rate, rate / run->read_gb_s);
        if (card->decoded && card->decoded(run, context)) {
            return 1;
        }
        fflush(stdout);
    }
    return 0;
}

double bench_prefill(bench_run *run, uint32_t rows) {
    double taken = 0;
    for (uint32_t at = 0; at < rows; at += run->options->rows) {
        uint32_t step = rows - at < run->options->rows ? rows - at : run->options->rows;
        double part = bench_model_run(&run->model, step, at, at + step == rows, run->error);
        if (part < 0) {
            return part;
        }
        taken += part;
    }
    return taken;
}

static int prefill(bench_run *run) {
    const char *list = run->options->prefills;
    uint32_t rows;
    while (bench_next_number(&list, &rows)) {
        double seconds[9];
        for (uint32_t i = 0; i < 11; i++) {
            double taken = bench_prefill(run, rows);
            if (taken < 0) {
                return 1;
            }
            seconds[i < 2 ? 0 : i - 2] = taken;
        }
        double middle = bench_median(seconds, 9);
        printf("%-7s prefill %5u: %8.1f us = %8.0f tok/s, %6.1f TFLOP/s\n", run->type, rows, middle * 1e6,
               rows / middle, run->model.matrix_flop * rows / middle / 1e12);
        fflush(stdout);
    }
    return 0;
}

/* ---- one token each of sessions that lie side by side in one region ---- */

typedef struct batch {
    spi_segment segments[SEQUENCES_MAX];
    int32_t tokens[SEQUENCES_MAX];
    sp_region *region;
    uint32_t count;
} batch;

static int open_batch(const bench_run *run, batch *b) {
    const bench_model *model = &run->model;
    uint64_t blocks = 4, logits_bytes = (uint64_t)model->shape.vocab * sizeof(float);
    uint64_t session_bytes = blocks * model->tape.kv.block_bytes + (logits_bytes + 63) / 64 * 64;
    sp_region_options wanted = {.size_bytes = (size_t)(b->count * session_bytes)};
    if (sp_region_create(&wanted, &b->region, run->error) || sp_device_link(model->device, b->region, run->error)) {
        return 1;
    }
    for (uint32_t i = 0; i < b->count; i++) {
        b->segments[i] = (spi_segment){.link = spi_device_find_link(model->device, b->region),
                                       .kv_offset = i * session_bytes,
                                       .logits_offset = i * session_bytes + blocks * model->tape.kv.block_bytes,
                                       .row_first = i,
                                       .row_count = 1,
                                       .out_first = i,
                                       .out_count = 1};
        b->tokens[i] = (int32_t)(i * 7919u % model->shape.vocab);
    }
    return 0;
}

/* Ways but the first: the device picks each sequence's token, the likeliest or one that is drawn, and no logits
 * come. */
static int measure_batch(const bench_card *card, bench_run *run, batch *b, int way) {
    static const char *const ways[] = {"all logits ", "picks alone", "draws alone"};
    spi_pick each[SEQUENCES_MAX];
    double seconds[60];
    void *context;
    const spi_backend *backend = spi_device_backend(run->model.device, &context);
    for (uint32_t i = 0; i < b->count; i++) {
        each[i] = (spi_pick){.draw = {.key = i, .inverse = way == 2 ? 1 : 0, .least = -10}, .alone = true};
    }
    int32_t picked[SEQUENCES_MAX];
    spi_picks picks = {.each = each, .tokens = picked, .count_max = b->count};
    const spi_run work = {.tokens = b->tokens,
                          .row_count = b->count,
                          .segments = b->segments,
                          .segment_count = b->count,
                          .out_count = b->count,
                          .picks = way ? &picks : NULL};
    for (uint32_t i = 0; i < 80; i++) {
        for (uint32_t k = 0; k < b->count; k++) {
            b->segments[k].position_first = i;
        }
        int64_t start_ns = spi_clock_ns();
        if (backend->run(context, run->model.program, &work, run->error)) {
            return 1;
        }
        seconds[i < 20 ? 0 : i - 20] = (double)(spi_clock_ns() - start_ns) / 1e9;
    }
    double middle = bench_median(seconds, 60);
    printf("%-7s %2u sequences, %s: %8.1f us = %8.0f tok/s in all\n", run->type, b->count, ways[way], middle * 1e6,
           b->count / middle);
    fflush(stdout);
    return card->batched ? card->batched(run, &work) : 0;
}

static int batches(const bench_card *card, bench_run *run) {
    static batch b;
    const char *list = run->options->sequences;
    while (bench_next_number(&list, &b.count) && b.count && b.count <= SEQUENCES_MAX) {
        int failed = open_batch(run, &b);
        for (int way = 0; way < (card->picks ? 3 : 1) && !failed; way++) {
            failed = measure_batch(card, run, &b, way);
        }
        if (failed) {
            return 1;
        }
        sp_device_unlink(run->model.device, b.region);
        sp_region_destroy(b.region);
    }
    return 0;
}

/* ---- all of it ---- */

static int bench_type(const bench_card *card, sp_device *device, const bench_options *options, sp_dtype type,
                      sp_error *error) {
    bench_shape shape = bench_llama_1b;
    bench_run run = {.options = options, .type = sp_dtype_name(type), .error = error};
    shape.type = type;
    shape.kv_type = options->kv_type;
    if (card->read(device, &run.read_gb_s, error)) {
        return 1;
    }
    printf("%-7s the device reads %.0f GB/s\n", run.type, run.read_gb_s);
    int failed = bench_model_open(device, &shape, options->rows, options->context_max, &run.model, error) != SP_OK;
    failed = failed || warm_up(&run);
    failed = failed || decode(card, &run);
    failed = failed || prefill(&run);
    failed = failed || batches(card, &run);
    failed = failed || card->rest(&run);
    bench_model_close(&run.model);
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

int bench_card_main(const bench_card *card, int count, char **words) {
    static const sp_dtype types[] = {
#define X(name, value, text, elements, bytes) name,
        SP_DTYPE_LIST(X)
#undef X
    };
    bench_options options;
    if (!parse(card, count, words, &options)) {
        fprintf(stderr, "usage: %s " USAGE "\n       %s\n", card->name, card->usage);
        return 2;
    }
    sp_error error = {0};
    sp_device *device;
    int failed = card->open(&device, &error);
    options.rows = options.rows || failed ? options.rows : spi_model_rows_max(device);
    for (size_t i = 0; i < sizeof types / sizeof types[0] && !failed; i++) {
        if (wants(options.types, sp_dtype_name(types[i]))) {
            failed = bench_type(card, device, &options, types[i], &error);
        }
    }
    if (failed) {
        fprintf(stderr, "%s: %s\n", card->name, error.message);
        return 1;
    }
    sp_device_close(device);
    return 0;
}
