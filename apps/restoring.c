/* apps/restoring.c - what `samepage doctor --full` measures with a model: 24 tokens computed, saved and restored. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "apps/doctor.h"
#include "apps/runner.h"
#include "base/error.h"
#include "os/clock.h"
#include "samepage/snapshot.h"

enum { ROUNDS = 5, FOLLOWING = 8 };

typedef struct bench {
    spi_opened opened;
    sp_guest_model models[1];
    sp_guest_options options;
    spi_runner runner;
    char folder[512], path[560];
    double computed_us[ROUNDS], saved_us[ROUNDS], restored_us[ROUNDS], resumed_us[ROUNDS];
} bench;

static double us_since(int64_t begun_ns) {
    return (double)(spi_clock_ns() - begun_ns) * 1e-3;
}

/* A call whose result is a status where it is negative. */
static sp_status call(spi_runner *runner, const char *function, int64_t *result, sp_error *error) {
    sp_status status = spi_runner_call(runner, function, result, error);
    if (!status && (int32_t)*result < 0) {
        status = spi_fail(error, (sp_status)(int32_t)*result, "the guest's %s failed: %s", function,
                          sp_status_text((sp_status)(int32_t)*result));
    }
    return status;
}

/* A new guest up to the first token that follows. */
static sp_status compute(bench *self, int64_t *token, sp_error *error) {
    int64_t ignored;
    sp_status status = sp_guest_create(self->runner.module, &self->options, &self->runner.guest, error);
    status = status ? status : call(&self->runner, "begin", &ignored, error);
    status = status ? status : call(&self->runner, "tell", &ignored, error);
    return status ? status : call(&self->runner, "next", token, error);
}

static sp_status save(bench *self, sp_error *error) {
    sp_snapshot *snapshot = NULL;
    sp_status status = sp_guest_capture(self->runner.guest, NULL, &snapshot, error);
    status = status ? status : sp_snapshot_write(snapshot, self->path, NULL, error);
    sp_snapshot_close(snapshot);
    return status;
}

static sp_status restore(bench *self, sp_guest **guest, sp_error *error) {
    sp_snapshot *snapshot = NULL;
    sp_status status = sp_snapshot_open(self->path, NULL, &snapshot, error);
    status = status ? status : sp_guest_restore(snapshot, self->runner.module, &self->options, NULL, guest, error);
    sp_snapshot_close(snapshot);
    return status;
}

/* The tokens that follow, of the guest that was saved and of the one that was restored; first is the latter's first. */
static sp_status compare(bench *self, sp_guest *restored, int64_t first, spi_restoring *told, sp_error *error) {
    int64_t expected[FOLLOWING], got = first;
    sp_status status = SP_OK;
    for (int i = 0; i < FOLLOWING && !status; i++) {
        status = call(&self->runner, "next", &expected[i], error);
    }
    sp_guest *saved = self->runner.guest;
    self->runner.guest = restored;
    told->same = 0;
    told->compared = FOLLOWING;
    for (int i = 0; i < FOLLOWING && !status; i++) {
        status = i ? call(&self->runner, "next", &got, error) : SP_OK;
        told->same += !status && got == expected[i];
    }
    self->runner.guest = saved;
    return status;
}

static sp_status measure_round(bench *self, int round, spi_restoring *told, sp_error *error) {
    int64_t token = 0, begun_ns = spi_clock_ns();
    sp_guest *restored = NULL;
    sp_status status = compute(self, &token, error);
    double computed_us = us_since(begun_ns);
    begun_ns = spi_clock_ns();
    status = status ? status : save(self, error);
    double saved_us = us_since(begun_ns);
    begun_ns = spi_clock_ns();
    status = status ? status : restore(self, &restored, error);
    double restored_us = us_since(begun_ns);
    if (!status) {
        sp_guest *saved = self->runner.guest;
        self->runner.guest = restored;
        status = call(&self->runner, "next", &token, error);
        self->runner.guest = saved;
    }
    double resumed_us = us_since(begun_ns);
    status = status ? status : compare(self, restored, token, told, error);
    if (round >= 0) { /* the one before it warmed up */
        self->computed_us[round] = computed_us;
        self->saved_us[round] = saved_us;
        self->restored_us[round] = restored_us;
        self->resumed_us[round] = resumed_us;
    }
    sp_guest_destroy(restored);
    sp_guest_destroy(self->runner.guest);
    self->runner.guest = NULL;
    return status;
}

static sp_status measure(bench *self, spi_restoring *told, sp_error *error) {
    sp_status status = spi_runner_open_embedded(&self->runner, "selftest", &self->options, error);
    sp_guest_destroy(self->runner.guest);
    self->runner.guest = NULL;
    sp_device_info device;
    sp_device_get_info(self->opened.device, &device);
    uint32_t rounds = device.is_software ? 1 : ROUNDS; /* its times say nothing */
    for (int round = device.is_software ? 0 : -1; round < (int)rounds && !status; round++) {
        status = measure_round(self, round, told, error);
    }
    struct stat info;
    if (!status && !stat(self->path, &info)) {
        sp_device_counters counters;
        sp_device_get_counters(self->opened.device, &counters);
        told->in_place_bytes = counters.weights_in_place_bytes;
        told->own_bytes = counters.weights_own_bytes;
        told->file_bytes = (uint64_t)info.st_size;
        told->computed_us = spi_median(self->computed_us, rounds);
        told->saved_us = spi_median(self->saved_us, rounds);
        told->restored_us = spi_median(self->restored_us, rounds);
        told->resumed_us = spi_median(self->resumed_us, rounds);
    }
    spi_runner_close(&self->runner);
    return status;
}

void spi_measure_restoring(const spi_common *common, const char *name, spi_restoring *told) {
    bench self = {0};
    spi_common with = *common;
    const char *parent = getenv("TMPDIR");
    with.device = name;
    *told = (spi_restoring){0};
    snprintf(self.folder, sizeof self.folder, "%.480s/samepage-doctor-XXXXXX", parent && *parent ? parent : "/tmp");
    if (!mkdtemp(self.folder)) {
        spi_fail(&told->error, SP_IO, "there is no place for a file below %s", parent && *parent ? parent : "/tmp");
        return;
    }
    snprintf(self.path, sizeof self.path, "%s/a.snap", self.folder);
    if (!spi_open_both(&with, &self.opened, &told->error)) {
        self.models[0] = (sp_guest_model){.name = "m", .model = self.opened.model};
        self.options = (sp_guest_options){.device = self.opened.device, .models = self.models, .model_count = 1};
        measure(&self, told, &told->error);
    }
    spi_close_both(&self.opened);
    unlink(self.path);
    rmdir(self.folder);
}
