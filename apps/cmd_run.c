/* apps/cmd_run.c - samepage run: somebody's guest, with models, a device, folders and limits. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "apps/commands.h"
#include "apps/common.h"
#include "apps/runner.h"
#include "base/error.h"
#include "base/memory.h"

typedef struct settings {
    spi_common common;
    spi_list models, folders, environment;
    uint64_t memory_bytes_max, fuel;
    uint32_t deadline_ms;
    const char *path;
    char **arguments;
    int argument_count;
} settings;

/* What is made for one run, and freed with it. */
typedef struct prepared {
    sp_device *device;
    sp_guest_model *models; /* names are copies */
    uint32_t model_count;
    sp_guest_folder *folders; /* paths are copies */
    uint32_t folder_count;
    spi_arguments arguments;
} prepared;

static bool is_taken(const prepared *made, const spi_named_file *named) {
    for (uint32_t i = 0; i < made->model_count; i++) {
        const char *name = made->models[i].name;
        if (strlen(name) == named->name_bytes && !memcmp(name, named->name, named->name_bytes)) {
            return true;
        }
    }
    return false;
}

static sp_status open_models(const settings *set, prepared *made, sp_error *error) {
    made->models = spi_alloc(set->models.count, sizeof *made->models);
    if (!made->models) {
        return spi_fail(error, SP_NO_MEMORY, "not enough memory for the command line");
    }
    for (uint32_t i = 0; i < set->models.count; i++) {
        const spi_named_file named = spi_parse_named_file(set->models.items[i]);
        if (is_taken(made, &named)) {
            return spi_fail(error, SP_INVALID, "two models are called %.*s: -m NAME=FILE gives one another name",
                            (int)named.name_bytes, named.name);
        }
        sp_guest_model *model = &made->models[made->model_count++];
        model->name = spi_copy_string(named.name, named.name_bytes);
        if (!model->name) {
            return spi_fail(error, SP_NO_MEMORY, "not enough memory for the command line");
        }
        if (!made->device) {
            return spi_fail(error, SP_NO_DEVICE, "a model needs a device to run on: leave -d none out");
        }
        sp_status status = spi_open_model(&set->common, named.path, made->device, &model->model, error);
        if (status) {
            return status;
        }
    }
    return SP_OK;
}

/* "HOST::GUEST" to read, "HOST::GUEST::rw" to write too, or "HOST" for the same path on both sides. */
static sp_status add_folder(const char *text, sp_guest_folder *folder, sp_error *error) {
    const char *first = strstr(text, "::"), *second = first ? strstr(first + 2, "::") : NULL;
    size_t host_bytes = first ? (size_t)(first - text) : strlen(text);
    const char *guest = first ? first + 2 : text;
    size_t guest_bytes = second ? (size_t)(second - guest) : strlen(guest);
    if (!host_bytes || !guest_bytes || (second && strcmp(second, "::ro") && strcmp(second, "::rw"))) {
        return spi_fail(error, SP_INVALID, "--dir takes HOST::GUEST or HOST::GUEST::rw, not '%s'", text);
    }
    folder->writable = second && !strcmp(second, "::rw");
    folder->host_path = spi_copy_string(text, host_bytes);
    folder->guest_path = spi_copy_string(guest, guest_bytes);
    if (!folder->host_path || !folder->guest_path) {
        return spi_fail(error, SP_NO_MEMORY, "not enough memory for the command line");
    }
    struct stat found;
    if (stat(folder->host_path, &found)) {
        return spi_fail(error, SP_NOT_FOUND, "--dir: cannot open '%s': %s", folder->host_path, strerror(errno));
    }
    return S_ISDIR(found.st_mode) ? SP_OK
                                  : spi_fail(error, SP_INVALID, "--dir: '%s' is not a folder", folder->host_path);
}

static sp_status add_folders(const settings *set, prepared *made, sp_error *error) {
    made->folders = spi_alloc(set->folders.count, sizeof *made->folders);
    if (!made->folders) {
        return spi_fail(error, SP_NO_MEMORY, "not enough memory for the command line");
    }
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < set->folders.count && !status; i++) {
        status = add_folder(set->folders.items[i], &made->folders[made->folder_count++], error);
    }
    return status;
}

static sp_status prepare(const settings *set, prepared *made, sp_error *error) {
    bool wants_device = !set->common.device || strcmp(set->common.device, "none") != 0;
    sp_status status = add_folders(set, made, error);
    if (!status && wants_device) {
        status = spi_open_device(&set->common, &made->device, error);
    }
    if (!status) {
        status = open_models(set, made, error);
    }
    const char *slash = strrchr(set->path, '/');
    spi_arguments_add(&made->arguments, slash ? slash + 1 : set->path);
    for (int i = 0; i < set->argument_count; i++) {
        spi_arguments_add(&made->arguments, set->arguments[i]);
    }
    if (!status && made->arguments.failed) {
        status = spi_fail(error, SP_NO_MEMORY, "not enough memory for the command line");
    }
    return status;
}

static void discard(prepared *made) {
    for (uint32_t i = 0; i < made->model_count; i++) {
        sp_model_close(made->models[i].model);
        spi_free((char *)made->models[i].name);
    }
    for (uint32_t i = 0; i < made->folder_count; i++) {
        spi_free((char *)made->folders[i].host_path);
        spi_free((char *)made->folders[i].guest_path);
    }
    spi_free(made->models);
    spi_free(made->folders);
    spi_arguments_free(&made->arguments);
    sp_device_close(made->device);
}

static int run_guest(const settings *set) {
    sp_error error = {0};
    prepared made = {0};
    spi_runner runner = {0};
    int result = SPI_EXIT_FAILURE;
    sp_status status = prepare(set, &made, &error);
    if (!status) {
        sp_guest_options options = {
            .arguments = made.arguments.items,
            .argument_count = made.arguments.count,
            .environment = set->environment.items,
            .environment_count = set->environment.count,
            .folders = made.folders,
            .folder_count = made.folder_count,
            .inherit_stdin = true,
            .device = made.device,
            .kv_type = set->common.kv_type,
            .models = made.models,
            .model_count = made.model_count,
            .memory_bytes_max = set->memory_bytes_max,
            .fuel = set->fuel,
            .deadline_ms = set->deadline_ms,
        };
        status = spi_runner_open_file(&runner, set->path, &options, &error);
    }
    result = status ? spi_complain_error(&error) : spi_runner_main(&runner, false);
    if (!status && set->common.verbose) {
        spi_runner_report(&runner);
    }
    spi_tell_revived(made.device, &set->common);
    spi_runner_close(&runner);
    discard(&made);
    return result;
}

static int check(const spi_command *command, settings *set, const spi_operands *operands) {
    if (!operands->count) {
        return spi_usage_error(command, "which guest? give a .wasm file");
    }
    if (operands->count > 1) {
        return spi_usage_error(command, "'%s': the guest's own arguments go behind --", operands->items[1]);
    }
    for (uint32_t i = 0; i < set->environment.count; i++) {
        const char *equals = strchr(set->environment.items[i], '=');
        if (!equals || equals == set->environment.items[i]) {
            return spi_usage_error(command, "--env takes KEY=VALUE, not '%s'", set->environment.items[i]);
        }
    }
    set->path = operands->items[0];
    set->arguments = operands->rest;
    set->argument_count = operands->rest_count;
    return -1;
}

static int run(const spi_command *command, int argc, char **argv) {
    settings set = {0};
    spi_operands operands;
    const spi_option options[] = {
        {"model", 'm', SPI_OPTION_LIST, "[NAME=]FILE", "a model that it may open, the first one as \"\", too",
         &set.models},
        SPI_OPTIONS_DEVICE(set.common),
        SPI_OPTION_KV(set.common),
        {"dir", 0, SPI_OPTION_LIST, "HOST::GUEST", "a folder to read; HOST::GUEST::rw: to write too", &set.folders},
        {"env", 0, SPI_OPTION_LIST, "KEY=VALUE", "a variable of its environment, else empty", &set.environment},
        {"memory-max", 0, SPI_OPTION_SIZE, "SIZE", "memory that it may grow to: 512M (default: 4G)",
         &set.memory_bytes_max},
        {"fuel", 0, SPI_OPTION_LONG, "N", "instructions that it may run, roughly", &set.fuel},
        {"deadline-ms", 0, SPI_OPTION_COUNT, "N", "time that it may take, computing included", &set.deadline_ms},
        SPI_OPTION_VERBOSE(set.common),
        SPI_OPTION_QUIET(set.common),
        SPI_OPTIONS_END,
    };
    int result = spi_options_parse(command, options, argc, argv, &operands);
    result = result >= 0 ? result : check(command, &set, &operands);
    if (result < 0) {
        result = run_guest(&set);
    }
    spi_list_free(&set.models);
    spi_list_free(&set.folders);
    spi_list_free(&set.environment);
    return result;
}

const spi_command spi_command_run = {
    .name = "run",
    .summary = "run a WebAssembly guest",
    .usage = "GUEST.wasm [OPTIONS] [-- ARGUMENTS]",
    .text =
        "Runs a WASI program that may import samepage's functions (docs/imports.md). It sees what is given here and\n"
        "nothing else: models by name, folders, variables, arguments. DEVICE may be none. --verbose says on stderr\n"
        "whether the module was compiled or came from the cache, and what was computed.\n\n"
        "Exit codes: the guest's own; 1 it could not be started; 2 the command line is wrong; 124 its deadline\n"
        "passed; 130 ended by Ctrl-C; 134 it trapped or used up its fuel. Ctrl-C asks the guest to stop; one that\n"
        "does not listen is ended.",
    .examples = "run hello.wasm -- a b c\n"
                "run agent.wasm -m model.gguf -m small=draft.gguf --dir ./data::/data --env LANG=C\n"
                "run untrusted.wasm -d cpu --memory-max 256M --fuel 1000000000 --deadline-ms 5000",
    .run = run,
};
