/* bench/bench_vulkan.c - the measurements of bench_card.h on a Vulkan device.
 *
 *     bench_vulkan [bench_card.h's options] [--device N] [--profile ROWS,...] [--ranges N] [--no-bytes 1]
 *                  [--no-relay 1] [--no-matrices 1] [--matrices-from ROWS]
 *
 * The profile is of runs of so many rows: microseconds between barriers, for the ops of a layer in the middle, and how
 * much all layers took. Such runs have all barriers, as with --no-relay.
 */
#include <stdio.h>

#include "bench_card.h"
#include "device/vulkan/vulkan.h"
#include "os/clock.h"

static struct {
    const char *device, *profiles;
    spi_vk_limits limits;
} chosen = {.device = "0", .profiles = ""};

static const bench_option own[] = {{"--device", .text = &chosen.device},
                                   {"--profile", .text = &chosen.profiles},
                                   {"--no-bytes", .flag = &chosen.limits.no_bytes},
                                   {"--no-matrices", .flag = &chosen.limits.no_cooperative},
                                   {"--no-relay", .flag = &chosen.limits.no_relay},
                                   {"--matrices-from", .number = &chosen.limits.matrix_rows_min},
                                   {"--ranges", .number = &chosen.limits.ranges},
                                   {0}};

static int open_device(sp_device **device, sp_error *error) {
    char name[32];
    snprintf(name, sizeof name, "vulkan:%s", chosen.device);
    spi_vk_test_limits(&chosen.limits);
    if (sp_device_open(name, NULL, device, error)) {
        return 1;
    }
    sp_device_info info;
    sp_device_get_info(*device, &info);
    void *context;
    spi_device_backend(*device, &context);
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
    return 0;
}

/* The device's own memory, read again and again by one kernel: GB/s of the best of some tries. */
static int read_bandwidth(sp_device *device, double *gb_s, sp_error *error) {
    void *context;
    spi_device_backend(device, &context);
    spi_vk *vk = context;
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

static int profiles(bench_run *run) {
    const char *list = chosen.profiles;
    uint32_t rows;
    int failed = 0;
    void *context;
    spi_device_backend(run->model.device, &context);
    while (!failed && bench_next_number(&list, &rows)) {
        failed = profile(context, &run->model, rows, run->error);
    }
    return failed;
}

int main(int count, char **words) {
    static const bench_card card = {.name = "bench_vulkan",
                                    .usage =
                                        "[--device N] [--profile ROWS,...] [--ranges N] [--no-bytes 1] [--no-relay 1] "
                                        "[--no-matrices 1] [--matrices-from ROWS]",
                                    .own = own,
                                    .open = open_device,
                                    .read = read_bandwidth,
                                    .rest = profiles};
    return bench_card_main(&card, count, words);
}
