/* apps/runner.c - see runner.h. */
#include "apps/runner.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "apps/guests/embedded.h"
#include "apps/signals.h"
#include "base/error.h"
#include "base/memory.h"
#include "os/clock.h"

static sp_status open_engine(spi_runner *runner, sp_error *error) {
    *runner = (spi_runner){0};
    return sp_engine_create(NULL, &runner->engine, error);
}

static sp_status open_guest(spi_runner *runner, const sp_guest_options *options, int64_t begun_ns, sp_error *error) {
    runner->open_seconds = (double)(spi_clock_ns() - begun_ns) * 1e-9;
    return sp_guest_create(runner->module, options, &runner->guest, error);
}

sp_status spi_runner_open_embedded(spi_runner *runner, const char *name, const sp_guest_options *options,
                                   sp_error *error) {
    int64_t begun_ns = spi_clock_ns();
    const embedded_guest *found = NULL;
    for (unsigned i = 0; i < embedded_guest_count; i++) {
        if (!strcmp(embedded_guests[i].name, name)) {
            found = &embedded_guests[i];
        }
    }
    sp_status status = open_engine(runner, error);
    if (status) {
        return status;
    }
    if (!found) {
        return spi_fail(error, SP_INTERNAL, "no guest '%s' is built into this program", name);
    }
    status = sp_module_open_bytes(runner->engine, name, found->start, (size_t)(found->end - found->start),
                                  &runner->module, error);
    return status ? status : open_guest(runner, options, begun_ns, error);
}

sp_status spi_runner_open_file(spi_runner *runner, const char *path, const sp_guest_options *options, sp_error *error) {
    int64_t begun_ns = spi_clock_ns();
    sp_status status = open_engine(runner, error);
    if (!status) {
        status = sp_module_open(runner->engine, path, &runner->module, error);
    }
    return status ? status : open_guest(runner, options, begun_ns, error);
}

void spi_runner_close(spi_runner *runner) {
    sp_guest_destroy(runner->guest);
    sp_module_close(runner->module);
    sp_engine_destroy(runner->engine);
    *runner = (spi_runner){0};
}

sp_status spi_runner_call(spi_runner *runner, const char *function, int64_t *result, sp_error *error) {
    sp_status status = sp_guest_start(runner->guest, function, NULL, 0, error);
    if (status) {
        return status;
    }
    sp_engine_run(runner->engine, runner->guest, -1);
    if (sp_guest_get_state(runner->guest) == SP_GUEST_FAILED) {
        *error = *sp_guest_error(runner->guest);
        return error->status;
    }
    *result = sp_guest_result(runner->guest);
    return SP_OK;
}

static int exit_code_of(const sp_error *failure) {
    switch (failure->status) {
    case SP_TIMEOUT: return SPI_EXIT_DEADLINE;
    case SP_CANCELLED: return SPI_EXIT_SIGINT;
    default: return SPI_EXIT_TRAP;
    }
}

int spi_runner_main(spi_runner *runner, bool is_prompt) {
    sp_error error = {0};
    if (sp_guest_start(runner->guest, "_start", NULL, 0, &error)) {
        bool is_actor = error.status == SP_NOT_FOUND && strstr(error.message, "actor_receive");
        return is_actor ? spi_complain("%s: 'samepage actor create NAME FILE' makes an actor of it", error.message)
                        : spi_complain_error(&error);
    }
    spi_signals_catch(runner->guest, is_prompt);
    sp_engine_run(runner->engine, runner->guest, -1);
    spi_signals_release();
    if (sp_guest_get_state(runner->guest) == SP_GUEST_FAILED) {
        const sp_error *failure = sp_guest_error(runner->guest);
        if (failure->status != SP_CANCELLED || !spi_signals_seen()) {
            spi_complain_error(failure);
        }
        return exit_code_of(failure);
    }
    return sp_guest_exit_code(runner->guest);
}

void spi_runner_report(const spi_runner *runner) {
    sp_guest_counters counters;
    bool is_cached = sp_module_get_origin(runner->module) == SP_MODULE_CACHED;
    sp_guest_get_counters(runner->guest, &counters);
    fprintf(stderr, "samepage: module %s, ready in %.1f ms\n", is_cached ? "from the cache" : "compiled",
            runner->open_seconds * 1e3);
    fprintf(stderr, "samepage: %" PRIu64 " host calls in %.3f ms, computing %.3f ms, preempted %" PRIu64 " times\n",
            counters.host_calls, (double)counters.host_ns * 1e-6, (double)counters.compute_ns * 1e-6, counters.slices);
    if (counters.prompt_tokens + counters.generated_tokens) {
        fprintf(stderr, "samepage: %" PRIu64 " prompt tokens in %.3f ms, %" PRIu64 " single tokens in %.3f ms\n",
                counters.prompt_tokens, (double)counters.prompt_ns * 1e-6, counters.generated_tokens,
                (double)counters.generated_ns * 1e-6);
    }
}

void spi_arguments_add(spi_arguments *arguments, const char *item) {
    const char **items = spi_resize(arguments->items, arguments->count, arguments->count + 1u, sizeof *items);
    if (!items) {
        arguments->failed = true;
        return;
    }
    items[arguments->count++] = item;
    arguments->items = items;
}

void spi_arguments_add_pair(spi_arguments *arguments, const char *name, const char *value) {
    if (value) {
        spi_arguments_add(arguments, name);
        spi_arguments_add(arguments, value);
    }
}

void spi_arguments_free(spi_arguments *arguments) {
    spi_free(arguments->items);
    *arguments = (spi_arguments){0};
}
