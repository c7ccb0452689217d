/* bench/bench_cuda.c - the measurements of bench_card.h on a CUDA card, and some of its own.
 *
 *     bench_cuda [bench_card.h's options] [--ahead N] [--restore N,...] [--mirror 0] [--op-by-op 1] [--in-place 1] [--apart 1]
 *                [--profile 1] [--flight KIB] [--flight-most KIB] [--stage KIB] [--split N]
 */
#include <stdio.h>
#include <string.h>

#include "bench_card.h"
#include "device/cuda/wide.h"
#include "os/clock.h"

static struct {
    const char *restores;
    uint32_t ahead; /* tokens that the card goes on by itself */
    spi_cu_choices choices;
    bool profile, mirror;
} chosen = {.restores = "", .mirror = true};

static const bench_option own[] = {{"--restore", .text = &chosen.restores},
                                   {"--mirror", .flag = &chosen.mirror},
                                   {"--ahead", .number = &chosen.ahead},
                                   {"--op-by-op", .flag = &chosen.choices.op_by_op},
                                   {"--apart", .flag = &chosen.choices.apart},
                                   {"--in-place", .flag = &chosen.choices.in_place},
                                   {"--profile", .flag = &chosen.profile},
                                   {"--flight", .number = &chosen.choices.flight_bytes, .unit = 1024},
                                   {"--flight-most", .number = &chosen.choices.flight_most_bytes, .unit = 1024},
                                   {"--stage", .number = &chosen.choices.stage_bytes, .unit = 1024},
                                   {"--split", .number = &chosen.choices.split_blocks},
                                   {0}};

static void apply(bench_options *options) {
    chosen.choices.unmirrored = !chosen.mirror;
    if (*chosen.restores) {
        options->context_max = 32768 + 512;
    }
}

static int open_device(sp_device **device, sp_error *error) {
    spi_cu_test_choices(&chosen.choices);
    if (sp_device_open("cuda", NULL, device, error)) {
        return 1;
    }
    sp_device_info info;
    sp_device_get_info(*device, &info);
    printf("%s\n", info.description);
    return 0;
}

static int read_bandwidth(sp_device *device, double *gb_s, sp_error *error) {
    void *context;
    spi_device_backend(device, &context);
    return spi_cu_read_bandwidth(context, gb_s, error) != SP_OK;
}

/* How far the blocks are apart at the end of a phase in the middle. */
static void spread(const long long *times, uint32_t count, uint32_t phase) {
    static double ends[1024];
    count = count < 1024 ? count : 1024;
    for (uint32_t i = 0; i < count; i++) {
        ends[i] = (double)(times[2 * i + 1] - times[0]);
    }
    bench_median(ends, count);
    printf("  phase %u ends in the blocks after %.0f (first), %.0f, %.0f (half), %.0f, %.0f ns (last)\n", phase,
           ends[0], ends[count / 4], ends[count / 2], ends[count * 3 / 4], ends[count - 1]);
}

/* Where the first block's time goes in the layers of a token: the input of a phase, its products or attention, and the
 * barrier behind it. */
static int profile(bench_run *run, uint32_t context) {
    void *device;
    spi_device_backend(run->model.device, &device);
    spi_cu *cu = device;
    bench_model *model = &run->model;
    sp_error *error = run->error;
    spi_cu_decode *token = model->program->decode;
    spi_cu_pinned_memory memory;
    if (!chosen.profile) {
        return 0;
    }
    if (!token) {
        printf("  op by op: no phases to look into\n");
        return 0;
    }
    if (spi_cu_pinned_create(cu, (3u * token->phases.count + 5 + 2u * token->block_count) * sizeof(long long), "clocks",
                             &memory, error)) {
        return 1;
    }
    memset(memory.address, 0, memory.bytes);
    token->token.clocks = memory.address;
    token->token.marked = token->phases.count / 2;
    while (token->phases.items[token->token.marked].output != SPI_CU_OUTPUT_GATE) {
        token->token.marked++;
    }
    double seconds = bench_model_run(model, 1, context, true, error);
    bool failed = seconds < 0;
    token->token.clocks = NULL;
    const long long *clocks = memory.address;
    if (!clocks[0] && !failed) {
        printf("  the kernels have no marks: build with -DSAMEPAGE_CUDA_MARKS=ON\n");
        spi_cu_pinned_destroy(cu, &memory);
        return 0;
    }
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

/* Tokens that the card picks and goes on with by itself, so many in a run. */
static int decode_ahead(bench_run *of) {
    const bench_model *model = &of->model;
    const char *list = of->options->contexts;
    uint32_t context;
    void *cu;
    const spi_backend *backend = spi_device_backend(model->device, &cu);
    while (chosen.ahead && bench_next_number(&list, &context)) {
        static double seconds[BENCH_REPEATS_MAX];
        static int32_t tokens[256];
        int32_t token = 7;
        uint32_t made = 1;
        spi_segment segment = {.link = spi_device_find_link(model->device, model->region),
                               .logits_offset = bench_model_logits_offset(model),
                               .row_count = 1,
                               .position_first = context,
                               .out_count = 1};
        for (uint32_t i = 0; i < 8 + of->options->repeats / 4; i++) {
            spi_picks picks = {.tokens = tokens, .count_max = chosen.ahead < 256 ? chosen.ahead : 256};
            spi_run run = {.tokens = &token,
                           .row_count = 1,
                           .segments = &segment,
                           .segment_count = 1,
                           .out_count = 1,
                           .picks = &picks};
            int64_t start_ns = spi_clock_ns();
            if (backend->run(cu, model->program, &run, of->error)) {
                return 1;
            }
            made = picks.count ? picks.count : 1;
            seconds[i < 8 ? 0 : i - 8] = (double)(spi_clock_ns() - start_ns) / 1e9 / made;
        }
        double middle = bench_median(seconds, of->options->repeats / 4),
               rate = (double)model->matrix_bytes / middle / 1e9;
        printf("%-7s decode at %5u, %u at once: %7.1f us (best %7.1f) = %6.0f tok/s, %5.0f GB/s, %.3f of reading\n",
               of->type, context, made, middle * 1e6, seconds[0] * 1e6, 1 / middle, rate, rate / of->read_gb_s);
        fflush(stdout);
    }
    return 0;
}

/* A conversation whose blocks the host has, as after a restore, against computing it again: the card's side of it. Both
 * end with the logits of the last token. */
static int restore(bench_run *run) {
    bench_model *model = &run->model;
    const char *list = chosen.restores;
    uint32_t length;
    while (bench_next_number(&list, &length)) {
        double computed[3], handed[3], linked[3];
        for (int i = 0; i < 3; i++) {
            computed[i] = bench_prefill(run, length);
            sp_device_unlink(model->device, model->region);
            int64_t start_ns = spi_clock_ns();
            if (computed[i] < 0 || sp_device_link(model->device, model->region, run->error)) {
                return 1;
            }
            linked[i] = (double)(spi_clock_ns() - start_ns) / 1e9;
            uint64_t blocks = (length + SPI_BLOCK_TOKENS - 1) / SPI_BLOCK_TOKENS;
            start_ns = spi_clock_ns();
            if (spi_device_host_wrote(model->device, model->region, 0, blocks * model->tape.kv.block_bytes,
                                      run->error) ||
                bench_model_run(model, 1, length - 1, true, run->error) < 0) {
                return 1;
            }
            handed[i] = (double)(spi_clock_ns() - start_ns) / 1e9;
        }
        printf(
            "%-7s %5u tokens: computed in %8.2f ms, handed over in %8.2f ms, a token included; the region of %.0f MiB "
            "linked in %.2f ms\n",
            run->type, length, bench_median(computed, 3) * 1e3, bench_median(handed, 3) * 1e3,
            (double)sp_region_size_bytes(model->region) / 1048576, bench_median(linked, 3) * 1e3);
        fflush(stdout);
    }
    return 0;
}

/* When each launch of such a run was where, in us from the run's first mark: its start, the end of the launch before
 * it, its first step, its last and its end, each in the first block and the last; of some layers and what is behind the
 * last. */
static int profile_run(bench_run *run, const spi_run *work) {
    static spi_cu_clocks clocks;
    void *device;
    spi_device_backend(run->model.device, &device);
    spi_cu *cu = device;
    spi_program *program = run->model.program;
    spi_cu_pinned_memory copy;
    if (!chosen.profile || !program->wide) {
        return 0;
    }
    if (spi_cu_buffer_create(cu, sizeof clocks.times, "clocks", &clocks.memory, run->error) ||
        spi_cu_pinned_create(cu, sizeof clocks.times, "clocks", &copy, run->error)) {
        return 1;
    }
    for (uint32_t i = 0; i < SPI_CU_CLOCKS_MAX * SPI_CU_MARKS; i++) {
        ((unsigned long long *)copy.address)[2 * i] = ~0ull, ((unsigned long long *)copy.address)[2 * i + 1] = 0;
    }
    cu->call->MemcpyHtoDAsync(clocks.memory.address, copy.address, sizeof clocks.times, cu->stream);
    program->wide->clocks = &clocks;
    clocks.count = 0;
    int failed = spi_cu_run(cu, program, work, run->error) != SP_OK;
    program->wide->clocks = NULL;
    cu->call->MemcpyDtoHAsync(copy.address, clocks.memory.address, sizeof clocks.times, cu->stream);
    failed = failed || spi_cu_wait(cu, "clocks", run->error);
    memcpy(clocks.times, copy.address, sizeof clocks.times);
    for (uint32_t i = 0; i < clocks.count && !failed; i++) {
        if (i >= 15 && i + 6 < clocks.count) {
            continue;
        }
        printf("  %-10s", clocks.names[i]);
        for (uint32_t k = 0; k < SPI_CU_MARKS; k++) {
            printf(" %8.2f-%8.2f", (double)(int64_t)(clocks.times[i][k][0] - clocks.times[0][0][0]) / 1e3,
                   (double)(int64_t)(clocks.times[i][k][1] - clocks.times[0][0][0]) / 1e3);
        }
        printf("\n");
    }
    spi_cu_pinned_destroy(cu, &copy);
    spi_cu_buffer_destroy(cu, &clocks.memory);
    return failed;
}

static int rest(bench_run *run) {
    return decode_ahead(run) || restore(run);
}

int main(int count, char **words) {
    static const bench_card card = {.name = "bench_cuda",
                                    .usage = "[--ahead N] [--restore N,...] [--mirror 0] [--op-by-op 1] [--in-place 1] "
                                             "[--apart 1] [--profile 1]\n       [--flight KIB] [--flight-most KIB] "
                                             "[--stage KIB] [--split N]",
                                    .picks = true,
                                    .own = own,
                                    .chosen = apply,
                                    .open = open_device,
                                    .read = read_bandwidth,
                                    .decoded = profile,
                                    .batched = profile_run,
                                    .rest = rest};
    return bench_card_main(&card, count, words);
}
