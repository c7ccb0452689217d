/* apps/cmd_actor_carry.c - samepage actor export and import. */
#include <stdio.h>
#include <string.h>

#include "apps/actor.h"
#include "apps/actor_commands.h"
#include "base/error.h"
#include "base/memory.h"

static void on_event(void *env, const cJSON *head, const void *body, size_t body_bytes) {
    spi_actor_tell(env, head, body, body_bytes);
}

static int run_export(const spi_command *command, int argc, char **argv) {
    spi_actor_common set = {0};
    spi_operands operands;
    const spi_option options[] = {SPI_OPTIONS_ACTOR(set), SPI_OPTION_VERBOSE(set.common), SPI_OPTIONS_END};
    int result = spi_options_parse_operands(command, options, argc, argv, &operands, 2, 2,
                                            "expected the name of an actor and a file");
    if (result >= 0) {
        return result;
    }
    char *path = spi_actor_absolute(operands.items[1]);
    cJSON *request = spi_actor_request("export", operands.items[0]);
    cJSON_AddStringToObject(request, "path", path ? path : "");
    result = spi_actor_ask(&set, request, NULL, 0, on_event, &set.common);
    spi_free(path);
    return result;
}

const spi_command spi_actor_export = {
    .name = "actor export",
    .summary = "write all of an actor into one file",
    .usage = "NAME FILE [OPTIONS]",
    .text =
        "The file holds the guest, its memory, its sessions with the bytes of their KV blocks, unread messages and\n"
        "timers. It can be imported on another machine, with another kind of device. The model is not in it. The\n"
        "actor stays: remove it when it has moved. With a key the file is encrypted with it.",
    .examples = "actor export ada ada.snap",
    .run = run_export,
};

typedef struct importing {
    spi_actor_common set;
    spi_list models;
    uint32_t deadline_ms, failures_max;
    bool recompute;
} importing;

/* Where there is no folder yet, a file that cannot be read makes none: it would have no key, for one that needs it. */
static sp_status check_file(const importing *i, const char *file, sp_error *error) {
    sp_snapshot *snapshot = NULL;
    bool is_there;
    sp_status status = spi_actor_find(&i->set, &is_there, error);
    if (!status && !is_there) {
        status = spi_actor_open_file(file, i->set.key_path, &snapshot, error);
    }
    sp_snapshot_close(snapshot);
    return status;
}

static int import(importing *i, const char *name, const char *file) {
    sp_error error = {0};
    if (check_file(i, file, &error)) {
        return spi_complain_error(&error);
    }
    char *path = spi_actor_absolute(file);
    cJSON *request = spi_actor_request("import", name);
    cJSON_AddStringToObject(request, "path", path ? path : "");
    cJSON_AddNumberToObject(request, "deadline_ms", i->deadline_ms);
    cJSON_AddNumberToObject(request, "failures_max", i->failures_max);
    cJSON_AddBoolToObject(request, "recompute", i->recompute);
    if (i->set.common.device) {
        cJSON_AddStringToObject(request, "device", i->set.common.device);
    }
    if (i->set.common.kv_type) {
        cJSON_AddStringToObject(request, "kv_type", sp_kv_type_name(i->set.common.kv_type));
    }
    spi_free(path);
    if (spi_actor_add_models(request, &i->models, &error)) {
        cJSON_Delete(request);
        return spi_complain_error(&error);
    }
    i->set.may_make = true;
    return spi_actor_ask(&i->set, request, NULL, 0, on_event, &i->set.common);
}

static int run_import(const spi_command *command, int argc, char **argv) {
    importing i = {0};
    spi_operands operands;
    const spi_option options[] = {
        {"model", 'm', SPI_OPTION_LIST, "[NAME=]FILE", "where a model of it lies here", &i.models},
        SPI_OPTIONS_DEVICE(i.set.common),
        SPI_OPTION_KV(i.set.common),
        {"recompute", 0, SPI_OPTION_FLAG, NULL, "go on with another model: its sessions are computed again",
         &i.recompute},
        {"deadline-ms", 0, SPI_OPTION_COUNT, "N", "time that a message may take (default: as it was)", &i.deadline_ms},
        {"failures-max", 0, SPI_OPTION_COUNT, "N", "failures after which a message is dead (default: as it was)",
         &i.failures_max},
        SPI_OPTIONS_ACTOR(i.set),
        SPI_OPTION_VERBOSE(i.set.common),
        SPI_OPTIONS_END,
    };
    int result =
        spi_options_parse_operands(command, options, argc, argv, &operands, 2, 2, "expected a name and a file");
    result = result < 0 ? import(&i, operands.items[0], operands.items[1]) : result;
    spi_list_free(&i.models);
    return result;
}

const spi_command spi_actor_import = {
    .name = "actor import",
    .summary = "make an actor of an exported file",
    .usage = "NAME FILE [OPTIONS]",
    .text = "Checks all of the file and wakes the actor once, to see that it can be. Its model is looked for where it\n"
            "was, or where -m says. Another quantisation of the same model is accepted, with a notice, and its\n"
            "sessions are computed again; another model is refused unless --recompute says so. -v shows what was\n"
            "restored and what was computed.",
    .examples = "actor import eve ada.snap -d vulkan\nactor import eve ada.snap -m /models/model.gguf -v",
    .run = run_import,
};
