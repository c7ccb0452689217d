/* apps/cmd_actor.c - samepage actor: the group of commands; create, fork and rm. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "apps/actor.h"
#include "apps/actor_commands.h"
#include "apps/commands.h"
#include "apps/guests/embedded.h"
#include "apps/subcommands.h"
#include "base/error.h"
#include "base/memory.h"
#include "os/file.h"

#define WASM_BYTES_MAX ((size_t)64 << 20)

/* ---- create ---- */

typedef struct creation {
    spi_actor_common set;
    spi_list models, environment;
    uint64_t memory_bytes_max;
    uint32_t deadline_ms, failures_max;
} creation;

/* The guest's bytes: a file, or the agent that is built in. *read is to be freed. */
static sp_status find_wasm(const char *path, const void **wasm, size_t *bytes, void **read, sp_error *error) {
    *read = NULL;
    if (path) {
        sp_status status = spi_file_read(path, WASM_BYTES_MAX, read, bytes, error);
        *wasm = *read;
        return status;
    }
    for (unsigned i = 0; i < embedded_guest_count; i++) {
        if (!strcmp(embedded_guests[i].name, "agent")) {
            *wasm = embedded_guests[i].start;
            *bytes = (size_t)(embedded_guests[i].end - embedded_guests[i].start);
            return SP_OK;
        }
    }
    return spi_fail(error, SP_INTERNAL, "no agent is built into this program");
}

static int create(creation *c, const char *name, const char *path) {
    sp_error error = {0};
    const void *wasm = NULL;
    void *read;
    size_t bytes = 0;
    const char *slash = path ? strrchr(path, '/') : NULL;
    sp_status status = find_wasm(path, &wasm, &bytes, &read, &error);
    cJSON *request = spi_actor_request("create", name);
    status = status ? status : spi_actor_add_models(request, &c->models, &error);
    cJSON_AddStringToObject(request, "module", path ? (slash ? slash + 1 : path) : "agent");
    if (c->set.common.device) {
        cJSON_AddStringToObject(request, "device", c->set.common.device);
    }
    if (c->set.common.kv_type) {
        cJSON_AddStringToObject(request, "kv_type", sp_kv_type_name(c->set.common.kv_type));
    }
    cJSON *environment = cJSON_AddArrayToObject(request, "environment");
    for (uint32_t i = 0; i < c->environment.count; i++) {
        cJSON_AddItemToArray(environment, cJSON_CreateString(c->environment.items[i]));
    }
    cJSON_AddNumberToObject(request, "memory_max", (double)c->memory_bytes_max);
    cJSON_AddNumberToObject(request, "deadline_ms", c->deadline_ms);
    cJSON_AddNumberToObject(request, "failures_max", c->failures_max);
    int result;
    if (status) {
        cJSON_Delete(request);
        result = spi_complain_error(&error);
    } else {
        c->set.may_make = true;
        result = spi_actor_ask(&c->set, request, wasm, bytes, NULL, NULL);
    }
    spi_free(read);
    return result;
}

static int run_create(const spi_command *command, int argc, char **argv) {
    creation c = {0};
    spi_operands operands;
    const spi_option options[] = {
        {"model", 'm', SPI_OPTION_LIST, "[NAME=]FILE", "a model that it may open, the first one as \"\", too",
         &c.models},
        SPI_OPTIONS_DEVICE(c.set.common),
        SPI_OPTION_KV(c.set.common),
        {"env", 0, SPI_OPTION_LIST, "KEY=VALUE", "a variable of its environment, else empty", &c.environment},
        {"memory-max", 0, SPI_OPTION_SIZE, "SIZE", "memory that it may grow to: 512M (default: 4G)",
         &c.memory_bytes_max},
        {"deadline-ms", 0, SPI_OPTION_COUNT, "N", "time that a message may take (default: 300000)", &c.deadline_ms},
        {"failures-max", 0, SPI_OPTION_COUNT, "N", "failures after which a message is dead (default: 3)",
         &c.failures_max},
        SPI_OPTIONS_ACTOR(c.set),
        SPI_OPTIONS_END,
    };
    int result = spi_options_parse_operands(command, options, argc, argv, &operands, 1, 2,
                                            "expected a name, and a .wasm file or nothing");
    if (result < 0 && operands.count == 1 && !c.models.count) {
        result = spi_usage_error(command, "the agent that is built in talks with a model: give -m FILE");
    }
    if (result < 0) {
        result = create(&c, operands.items[0], operands.count > 1 ? operands.items[1] : NULL);
    }
    spi_list_free(&c.models);
    spi_list_free(&c.environment);
    return result;
}

const spi_command spi_actor_create = {
    .name = "actor create",
    .summary = "make an actor of a guest",
    .usage = "NAME [GUEST.wasm] [OPTIONS]",
    .text = "Makes an actor that sleeps until it is sent a message. The guest exports actor_receive (docs/actors.md);\n"
            "without a file it is an agent that is built in: it talks with the model and remembers. Its variables are\n"
            "SYSTEM, TEMPERATURE, SEED, TOKENS and CONTEXT. DEVICE may be none for guests without a model.",
    .examples = "actor create ada -m model.gguf\n"
                "actor create ada -m model.gguf --env SYSTEM=\"Answer in one sentence.\"\n"
                "actor create ada agent.wasm -m model.gguf -d vulkan --memory-max 256M",
    .run = run_create,
};

/* ---- fork, rm ---- */

static int run_fork(const spi_command *command, int argc, char **argv) {
    spi_actor_common set = {0};
    spi_operands operands;
    const spi_option options[] = {SPI_OPTIONS_ACTOR(set), SPI_OPTIONS_END};
    int result = spi_options_parse_operands(command, options, argc, argv, &operands, 2, 2,
                                            "expected the name of an actor and one for its fork");
    if (result >= 0) {
        return result;
    }
    cJSON *request = spi_actor_request("fork", operands.items[0]);
    cJSON_AddStringToObject(request, "to", operands.items[1]);
    return spi_actor_ask(&set, request, NULL, 0, NULL, NULL);
}

const spi_command spi_actor_fork = {
    .name = "actor fork",
    .summary = "make a second actor that goes on from where one is",
    .usage = "NAME FORK [OPTIONS]",
    .text = "The fork has all that the actor had at its last commit, and both go on by themselves. Nothing is copied:\n"
            "it takes the same time at any size. Unread messages and timers stay with the first.",
    .examples = "actor fork ada bob",
    .run = run_fork,
};

static int run_rm(const spi_command *command, int argc, char **argv) {
    spi_actor_common set = {0};
    spi_operands operands;
    const spi_option options[] = {SPI_OPTIONS_ACTOR(set), SPI_OPTIONS_END};
    int result = spi_options_parse_operands(command, options, argc, argv, &operands, 1, INT_MAX, "name the actor");
    if (result >= 0) {
        return result;
    }
    result = SPI_EXIT_OK;
    for (int i = 0; i < operands.count; i++) {
        int one = spi_actor_ask(&set, spi_actor_request("remove", operands.items[i]), NULL, 0, NULL, NULL);
        result = one ? one : result;
    }
    return result;
}

const spi_command spi_actor_rm = {
    .name = "actor rm",
    .summary = "remove actors with all that they have",
    .usage = "NAME... [OPTIONS]",
    .text =
        "Removes actors, their mail and their timers. Blocks that nobody uses any more go from the store with time.",
    .examples = "actor rm bob eve",
    .run = run_rm,
};

/* ---- the group ---- */

static int run(const spi_command *command, int argc, char **argv) {
    static const spi_command *const list[] = {
        &spi_actor_create,
        &spi_actor_send,
        &spi_actor_fork,
        &spi_actor_export,
        &spi_actor_import,
        &spi_actor_list,
        &spi_actor_show,
        &spi_actor_log,
        &spi_actor_rm,
        &spi_actor_serve,
        NULL,
    };
    return spi_run_subcommand(command, list, argc, argv);
}

const spi_command spi_command_actor = {
    .name = "actor",
    .summary = "durable agents: create, send, fork, export, ...",
    .usage = "COMMAND [OPTIONS]",
    .text = "An actor is a guest with a name and a mailbox whose memory and conversation are kept: a message that was\n"
            "sent is handled exactly once, whatever happens to the process or the machine in between. docs/actors.md\n"
            "says what is guaranteed and how. One process at a time holds the folder with the actors; the others ask\n"
            "it over a socket in the folder. If none does, each command holds it for as long as it takes.",
    .examples = "actor create ada -m model.gguf\n"
                "actor send ada \"My name is Ada and my boat is green.\"\n"
                "actor fork ada bob\n"
                "actor export ada ada.snap\n"
                "actor import eve ada.snap -d vulkan",
    .run = run,
};
