/* apps/doctor.c - see doctor.h.
 *
 * Everything is done once before it is measured: a driver's pipelines, a pool's stacks and first touches of code cost
 * memory once for a process, and would hide what a link costs.
 */
#include "apps/doctor.h"

#include <stdio.h>
#include <string.h>

#include "apps/runner.h"
#include "base/error.h"
#include "os/clock.h"
#include "os/vm.h"
#include "samepage/dtype.h"

/* c = a * b with c as most of the region, so that the device touches nearly all of it: 15.75 of 16 MiB. */
enum { REGION_SIDE = 2016, REGION_DEPTH = 16, RUNS = 9, ROUNDS = 3 };

static const sp_matmul region_matmul = {
    .m = REGION_SIDE,
    .n = REGION_SIDE,
    .k = REGION_DEPTH,
    .type = SP_F32,
    .a_offset = 0,
    .b_offset = sizeof(float) * REGION_SIDE * REGION_DEPTH,
    .c_offset = sizeof(float) * REGION_SIDE * REGION_DEPTH * 2,
};

/* The exact figure: statm's is kept per thread and lags behind by some pages. */
static int64_t resident_bytes(void) {
    FILE *rollup = fopen("/proc/self/smaps_rollup", "r");
    char line[256];
    long long kibibytes = -1;
    while (rollup && kibibytes < 0 && fgets(line, sizeof line, rollup)) {
        if (sscanf(line, "Rss: %lld kB", &kibibytes) != 1) {
            kibibytes = -1;
        }
    }
    if (rollup) {
        fclose(rollup);
    }
    return kibibytes >= 0 ? kibibytes * 1024 : (int64_t)spi_vm_resident_bytes();
}

static double us_since(int64_t begun_ns) {
    return (double)(spi_clock_ns() - begun_ns) * 1e-3;
}

/* ---- the guest's product ---- */

/* The guest's address and its memory's base are the host's pointer: both have to see the same bytes there. */
static sp_status compare_bytes(spi_runner *runner, spi_diagnosis *told, sp_error *error) {
    int64_t address = 0, expected = 0;
    sp_status status = spi_runner_call(runner, "product", &address, error);
    status = status ? status : spi_runner_call(runner, "product_hash", &expected, error);
    const sp_region *region = sp_guest_region(runner->guest);
    size_t bytes = sizeof(float) * SPI_DOCTOR_SIDE * SPI_DOCTOR_SIDE, at = (uint32_t)address;
    if (status || at > sp_region_size_bytes(region) || bytes > sp_region_size_bytes(region) - at) {
        return status;
    }
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < bytes; i++) {
        hash = (hash ^ sp_region_base(region)[at + i]) * 16777619u;
    }
    told->same_bytes = hash == (uint32_t)expected;
    return SP_OK;
}

static sp_status run_guest(sp_device *device, spi_diagnosis *told, sp_error *error) {
    sp_guest_options options = {.device = device};
    spi_runner runner = {0};
    double times_us[RUNS];
    sp_status status = spi_runner_open_embedded(&runner, "doctor", &options, error);
    for (int i = -1; i < RUNS && !status; i++) {
        int64_t wrong = 0, ns = 0;
        status = spi_runner_call(&runner, "run_matmul", &wrong, error);
        status = status ? status : spi_runner_call(&runner, "matmul_ns", &ns, error);
        if (!status && (int32_t)wrong < 0) {
            status = spi_fail(error, (sp_status)(int32_t)wrong, "the guest's matmul failed: %s",
                              sp_status_text((sp_status)(int32_t)wrong));
        }
        told->wrong = (uint32_t)wrong > told->wrong ? (uint32_t)wrong : told->wrong;
        if (i >= 0) {
            times_us[i] = (double)ns * 1e-3;
        }
    }
    if (!status) {
        told->matmul_us = spi_median(times_us, RUNS);
        status = compare_bytes(&runner, told, error);
    }
    spi_runner_close(&runner);
    return status;
}

/* ---- memory ---- */

/* Small whole numbers, exact in every order of summation, and pages that are all there. */
static void fill(sp_region *region) {
    float *a = (float *)sp_region_base(region);
    memset(a, 0xff, SPI_DOCTOR_REGION_BYTES);
    for (uint32_t i = 0; i < 2u * REGION_SIDE * REGION_DEPTH; i++) {
        a[i] = (float)(int)((i * 2654435761u) >> 29) - 4;
    }
}

static uint32_t count_wrong(const sp_region *region) {
    const float *a = (const float *)sp_region_base(region), *b = a + REGION_SIDE * REGION_DEPTH,
                *c = b + REGION_SIDE * REGION_DEPTH;
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < REGION_SIDE; i++) {
        float sum = 0;
        for (uint32_t k = 0; k < REGION_DEPTH; k++) {
            sum += a[i * REGION_DEPTH + k] * b[k * REGION_SIDE + i];
        }
        wrong += !(c[(size_t)i * REGION_SIDE + i] == sum);
    }
    return wrong;
}

static sp_status create_region(sp_region **region, sp_error *error) {
    sp_region_options options = {.reserve_bytes = SPI_DOCTOR_REGION_BYTES, .size_bytes = SPI_DOCTOR_REGION_BYTES};
    return sp_region_create(&options, region, error);
}

static sp_status in_place(sp_device *device, sp_region *region, spi_diagnosis *told, sp_error *error) {
    int64_t before_bytes = resident_bytes(), begun_ns = spi_clock_ns();
    sp_status status = sp_device_link(device, region, error);
    told->link_us = us_since(begun_ns);
    if (status) {
        return status;
    }
    begun_ns = spi_clock_ns();
    status = sp_device_matmul(device, region, &region_matmul, error);
    told->shared_us = us_since(begun_ns);
    told->link_rss_bytes = resident_bytes() - before_bytes;
    told->region_wrong = count_wrong(region);
    sp_device_unlink(device, region);
    return status;
}

/* What a program does whose device has memory of its own: the same bytes twice, and moved to and fro. */
static sp_status by_copying(sp_device *device, sp_region *region, spi_diagnosis *told, sp_error *error) {
    int64_t before_bytes = resident_bytes();
    size_t in_bytes = region_matmul.c_offset, out_bytes = sizeof(float) * REGION_SIDE * REGION_SIDE;
    sp_region *copy;
    sp_status status = create_region(&copy, error);
    if (status) {
        return status;
    }
    memset(sp_region_base(copy), 0, SPI_DOCTOR_REGION_BYTES);
    if (!(status = sp_device_link(device, copy, error))) {
        int64_t begun_ns = spi_clock_ns();
        memcpy(sp_region_base(copy), sp_region_base(region), in_bytes);
        status = sp_device_matmul(device, copy, &region_matmul, error);
        memcpy(sp_region_base(region) + in_bytes, sp_region_base(copy) + in_bytes, out_bytes);
        told->copied_us = us_since(begun_ns);
        told->copy_rss_bytes = resident_bytes() - before_bytes;
        sp_device_unlink(device, copy);
    }
    sp_region_destroy(copy);
    return status;
}

static sp_status measure_round(sp_device *device, spi_diagnosis *told, sp_error *error) {
    sp_region *region;
    sp_status status = create_region(&region, error);
    if (status) {
        return status;
    }
    fill(region);
    status = in_place(device, region, told, error);
    status = status ? status : by_copying(device, region, told, error);
    sp_region_destroy(region);
    return status;
}

/* Times are medians; of growth and errors the worst round counts. */
static sp_status measure_memory(sp_device *device, spi_diagnosis *told, sp_error *error) {
    double link_us[ROUNDS], shared_us[ROUNDS], copied_us[ROUNDS];
    int64_t grown_bytes = INT64_MIN;
    uint32_t wrong = 0;
    for (int round = -1; round < ROUNDS; round++) {
        sp_status status = measure_round(device, told, error);
        if (status) {
            return status;
        }
        wrong = told->region_wrong > wrong ? told->region_wrong : wrong;
        if (round >= 0) {
            grown_bytes = told->link_rss_bytes > grown_bytes ? told->link_rss_bytes : grown_bytes;
            link_us[round] = told->link_us;
            shared_us[round] = told->shared_us;
            copied_us[round] = told->copied_us;
        }
    }
    told->region_wrong = wrong;
    told->link_rss_bytes = grown_bytes;
    told->link_us = spi_median(link_us, ROUNDS);
    told->shared_us = spi_median(shared_us, ROUNDS);
    told->copied_us = spi_median(copied_us, ROUNDS);
    return SP_OK;
}

void spi_diagnose(const spi_common *common, const char *name, spi_diagnosis *told) {
    sp_device_options options = {.thread_count = common->threads, .isa = common->isa};
    sp_device *device;
    sp_device_counters counters;
    sp_status status = sp_device_open(name, &options, &device, &told->error);
    if (status) {
        return;
    }
    told->is_opened = true;
    sp_device_get_info(device, &told->device);
    status = run_guest(device, told, &told->error);
    if (!status) {
        measure_memory(device, told, &told->error);
    }
    sp_device_get_counters(device, &counters);
    told->copied_bytes = counters.copied_bytes;
    sp_device_close(device);
}
