/* bench/bench_vulkan.c - tokens of the Llama 3.2 1B shape with random weights on a Vulkan device, beside what the device
 * reads of its own memory in the same run.
 *
 *     bench_vulkan [--device N] [--type Q8_0,...] [--context N,...] [--prefill N,...] [--sequences N,...] [--repeats N]
 *                  [--profile ROWS,...] [--ranges N] [--no-bytes 1] [--no-matrices 1]
 *                  [--matrices-from ROWS]
 *
 * Decoding: the time of a run of one row, seen by the host, from the call to the logits in the guest's memory. Fraction:
 * bytes of all matrices over that time, of the device's read bandwidth. Medians. The profile is of runs of so many rows:
 * microseconds between barriers, for the ops of a layer in the middle, and how much all layers took.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_shape.h"
#include "device/vulkan/vulkan.h"
#include "os/clock.h"

#define REPEATS_MAX   1000u
#define SEQUENCES_MAX 64u

typedef struct bench_options {
    const char *types, *contexts, *prefills, *sequences, *device, *profiles;
    uint32_t repeats;
    spi_vk_limits limits;
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
                               .profiles = "",
                               .device = "0",
                               .repeats = 101};
    for (int i = 1; i + 1 < count; i += 2) {
        const char *word = words[i], *value = words[i + 1];
        uint32_t number = (uint32_t)strtoul(value, NULL, 10);
        if (!strcmp(word, "--type")) {
            options->types = value;
        } else if (!strcmp(word, "--device")) {
            options->device = value;
        } else if (!strcmp(word, "--context")) {
            options->contexts = value;
        } else if (!strcmp(word, "--prefill")) {
            options->prefills = value;
        } else if (!strcmp(word, "--sequences")) {
            options->sequences = value;
        } else if (!strcmp(word, "--repeats")) {
            options->repeats = number && number < REPEATS_MAX ? number : REPEATS_MAX;
        } else if (!strcmp(word, "--profile")) {
            options->profiles = value;
        } else if (!strcmp(word, "--no-bytes")) {
            options->limits.no_bytes = number;
        } else if (!strcmp(word, "--no-matrices")) {
            options->limits.no_cooperative = number;
        } else if (!strcmp(word, "--matrices-from")) {
            options->limits.matrix_rows_min = number;
        } else if (!strcmp(word, "--ranges")) {
            options->limits.ranges = number;
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

/* Where a run's time goes: between barriers of a layer in the middle, each named by the first op behind it. */
static int profile(spi_vk *vk, bench_model *model, uint32_t rows, sp_error *error) {
    static double us[SPI_VK_STAMPS], least[SPI_VK_STAMPS];
    if (spi_vk_profile_start(vk, error)) {
        return 1;
    }
    for (uint32_t i = 0; i < 20; i++) {
        if (bench_model_run(model, rows, 512, true, error) < 0 || spi_vk_profile_read(vk, us, error)) {
            return 1;
        }
        for (uint32_t k = 1; k < vk->profile.count; k++) {
            double taken = us[k] - us[k - 1];
            least[k] = i && least[k] < taken ? least[k] : taken;
        }
    }
    uint32_t layer_ops = (model->op_count - 4) / model->shape.layers, middle = model->shape.layers / 2;
    double all = 0;
    printf("  %u rows, op: us", rows);
    for (uint32_t k = 1; k < vk->profile.count; k++) {
        uint32_t op = vk->profile.ops[k - 1];
        all += least[k];
        if ((op > middle * layer_ops && op <= (middle + 1) * layer_ops) || op + 4 > model->op_count) {
            printf("  %u %s %.1f", op, spi_op_name(model->ops[op].kind), least[k]);
        }
    }
    printf("; in all %.1f, %u barriers\n", all, vk->profile.count - 1);
    spi_vk_profile_stop(vk);
    return 0;
}

/* A card that was idle takes its time to raise its clocks: a second of it is not measured. */
static int warm_up(bench_model *model, sp_error *error) {
    for (int64_t end_ns = spi_clock_ns() + 1000000000; spi_clock_ns() < end_ns;) {
        if (bench_model_run(model, 1, 0, true, error) < 0) {
            return 1;
        }
    }
    return 0;
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
        fflush(stdout);
    }
    return 0;
}

static int prefill(bench_model *model, const bench_options *options, const char *type, sp_error *error) {
    const char *list = options->prefills;
    uint32_t rows;
    while (next_number(&list, &rows)) {
        double seconds[9];
        for (uint32_t i = 0; i < 11; i++) {
            double taken = 0;
            for (uint32_t at = 0; at < rows; at += 512) {
                uint32_t step = rows - at < 512 ? rows - at : 512;
                double part = bench_model_run(model, step, at, at + step == rows, error);
                if (part < 0) {
                    return 1;
                }
                taken += part;
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
        double seconds[60];
        for (uint32_t i = 0; i < 80; i++) {
            for (uint32_t k = 0; k < count; k++) {
                segments[k].position_first = i;
            }
            spi_run run = {
                .tokens = tokens, .row_count = count, .segments = segments, .segment_count = count, .out_count = count};
            int64_t start_ns = spi_clock_ns();
            if (backend->run(context, model->program, &run, error)) {
                return 1;
            }
            seconds[i < 20 ? 0 : i - 20] = (double)(spi_clock_ns() - start_ns) / 1e9;
        }
        double middle = median(seconds, 60);
        printf("%-7s %2u sequences: %8.1f us = %8.0f tok/s in all\n", type, count, middle * 1e6, count / middle);
        fflush(stdout);
        sp_device_unlink(model->device, region);
        sp_region_destroy(region);
    }
    return 0;
}

/* The device's own memory, read again and again by one kernel: GB/s of the best of some tries. */
static int read_bandwidth(spi_vk *vk, double *gb_s, sp_error *error) {
    const uint64_t bytes = vk->info.is_software ? 64u << 20 : 1u << 30;
    const uint32_t passes = vk->info.is_software ? 1 : 8;
    spi_vk_buffer buffer, sum = {0};
    spi_vk_sets sets = {0};
    sp_status status = spi_vk_buffer_create(vk, bytes, SPI_VK_LOCAL, "a buffer to read", &buffer, error);
    status = status ? status : spi_vk_buffer_create(vk, 256, SPI_VK_LOCAL, "a sum", &sum, error);
    status = status ? status : spi_vk_zero(vk, &buffer, 1, error);
    *gb_s = 0;
    for (uint32_t i = 0; i < 5 && !status; i++) {
        spi_vk_dispatch dispatch = {.shader = SPI_VK_read,
                                    .groups_x = 132 * 16,
                                    .groups_y = 1,
                                    .push = {(uint32_t)(bytes / 16)},
                                    .bindings = {[2] = spi_vk_bind(&buffer), [6] = spi_vk_bind(&sum)}};
        double seconds[2];
        for (uint32_t k = 0; k < 2 && !status; k++) { /* passes and twice as many: the difference has no submission */
            status = spi_vk_sets_reset(vk, &sets, error);
            status = status ? status : spi_vk_begin(vk, vk->once, error);
            for (uint32_t pass = 0; pass < passes * (k + 1) && !status; pass++) {
                spi_vk_encode_barrier(vk, vk->once);
                status = spi_vk_encode(vk, vk->once, &sets, &dispatch, error);
            }
            int64_t start_ns = spi_clock_ns();
            status = status ? status : spi_vk_submit(vk, vk->once, error);
            seconds[k] = (double)(spi_clock_ns() - start_ns) / 1e9;
        }
        double rate = status ? 0 : (double)bytes * passes / (seconds[1] - seconds[0]) / 1e9;
        *gb_s = rate > *gb_s ? rate : *gb_s;
    }
    spi_vk_sets_destroy(vk, &sets);
    spi_vk_buffer_destroy(vk, &buffer);
    spi_vk_buffer_destroy(vk, &sum);
    return status != SP_OK;
}

static int bench_type(sp_device *device, const bench_options *options, sp_dtype type, sp_error *error) {
    bench_shape shape = bench_llama_1b;
    bench_model model;
    shape.type = type;
    void *context;
    spi_device_backend(device, &context);
    double read;
    if (read_bandwidth(context, &read, error)) {
        return 1;
    }
    printf("%-7s the device reads %.0f GB/s\n", sp_dtype_name(type), read);
    int failed = bench_model_open(device, &shape, 512, 16384 + 512, &model, error) != SP_OK;
    failed = failed || warm_up(&model, error);
    failed = failed || decode(&model, options, sp_dtype_name(type), read, error);
    failed = failed || prefill(&model, options, sp_dtype_name(type), error);
    failed = failed || batch(&model, options, sp_dtype_name(type), error);
    const char *list = options->profiles;
    uint32_t rows;
    while (!failed && next_number(&list, &rows)) {
        failed = profile(context, &model, rows, error);
    }
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
        fprintf(stderr, "usage: bench_vulkan [--device N] [--type Q8_0,...] [--context N,...] [--prefill N,...] "
                        "[--sequences N,...] [--repeats N] [--profile ROWS,...] [--ranges N] [--no-bytes 1] "
                        "[--no-matrices 1] [--matrices-from ROWS]\n");
        return 2;
    }
    sp_error error = {0};
    sp_device *device;
    char name[32];
    snprintf(name, sizeof name, "vulkan:%s", options.device);
    spi_vk_test_limits(&options.limits);
    if (sp_device_open(name, NULL, &device, &error)) {
        fprintf(stderr, "bench_vulkan: %s\n", error.message);
        return 1;
    }
    sp_device_info info;
    sp_device_get_info(device, &info);
    void *context;
    spi_device_backend(device, &context);
    const spi_vk *vk = context;
    printf("%s: %s kernels, subgroups of %u, %s, %s\n", info.description,
           vk->limits.kernels == SPI_VK_KERNELS_FAST ? "fast" : "plain", vk->adapter.subgroup,
           vk->limits.bytes ? "integer dot products" : "no integer dot products",
           vk->limits.cooperative ? "cooperative matrices" : "no cooperative matrices");
    for (uint32_t i = 0; i < vk->memory.memoryTypeCount; i++) {
        printf("%s%x of heap %u", i ? ", " : "memory types: ", vk->memory.memoryTypes[i].propertyFlags,
               vk->memory.memoryTypes[i].heapIndex);
    }
    printf("\n");
    int failed = 0;
    for (size_t i = 0; i < sizeof types / sizeof types[0] && !failed; i++) {
        if (wants(options.types, sp_dtype_name(types[i]))) {
            failed = bench_type(device, &options, types[i], &error);
        }
    }
    if (failed) {
        fprintf(stderr, "bench_vulkan: %s\n", error.message);
        return 1;
    }
    sp_device_close(device);
    return 0;
}
