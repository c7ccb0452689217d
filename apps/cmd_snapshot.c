/* apps/cmd_snapshot.c - samepage snapshot: looking into exported actors and other snapshot files. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "apps/actor.h"
#include "apps/commands.h"
#include "apps/subcommands.h"
#include "base/error.h"
#include "base/memory.h"

typedef struct opening {
    spi_actor_common set;
    const char *actor;
    sp_snapshot *snapshot;
    sp_status status;
    sp_error error;
} opening;

static void on_snapshot(void *env, const cJSON *head, const void *body, size_t body_bytes) {
    opening *o = env;
    if (!strcmp(spi_head_text(head, "event", ""), "snapshot")) {
        o->status = sp_snapshot_open_bytes(body, body_bytes, o->actor, &o->snapshot, &o->error);
    }
}

/* A file, or the last state of an actor. Prints the error. */
static int open_any(opening *o, const char *path) {
    if (o->actor) {
        int result = spi_actor_ask(&o->set, spi_actor_request("snapshot", o->actor), NULL, 0, on_snapshot, o);
        if (result) {
            return result;
        }
        if (!o->status && !o->snapshot) {
            return spi_actor_complain_of_nothing();
        }
    } else {
        o->status = spi_actor_open_file(path, o->set.key_path, &o->snapshot, &o->error);
    }
    return o->status ? spi_complain_error(&o->error) : SPI_EXIT_OK;
}

static void words_hex(const uint8_t *bytes, size_t count, char *text) {
    for (size_t i = 0; i < count; i++) {
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    }
}

/* ---- inspect ---- */

static cJSON *info_json(const sp_snapshot *snapshot, const sp_snapshot_info *info) {
    char id[33], hash[65];
    sp_fingerprint fingerprint;
    sp_snapshot_session session;
    const char *model;
    cJSON *json = cJSON_CreateObject();
    words_hex(info->id, sizeof info->id, id);
    words_hex(info->module_hash, sizeof info->module_hash, hash);
    cJSON_AddNumberToObject(json, "version", info->version);
    cJSON_AddStringToObject(json, "id", id);
    cJSON_AddBoolToObject(json, "delta", info->is_delta);
    cJSON_AddStringToObject(json, "made_by", info->made_by);
    spi_json_add_text(json, "module", info->module_name, strlen(info->module_name));
    cJSON_AddStringToObject(json, "module_hash", hash);
    cJSON_AddBoolToObject(json, "has_module", info->has_module);
    cJSON_AddBoolToObject(json, "has_blocks", info->has_blocks);
    cJSON_AddNumberToObject(json, "bytes", (double)info->byte_count);
    cJSON_AddNumberToObject(json, "memory_bytes", (double)info->memory_bytes);
    cJSON_AddNumberToObject(json, "page_bytes", (double)info->page_bytes);
    cJSON_AddNumberToObject(json, "globals", info->globals);
    cJSON_AddNumberToObject(json, "tables", info->tables);
    cJSON_AddNumberToObject(json, "samplers", info->samplers);
    cJSON_AddNumberToObject(json, "extra_bytes", (double)info->extra_bytes);
    cJSON *models = cJSON_AddArrayToObject(json, "models"), *sessions = cJSON_AddArrayToObject(json, "sessions");
    for (uint32_t i = 0; (model = sp_snapshot_get_model(snapshot, i, &fingerprint)); i++) {
        cJSON *item = cJSON_CreateObject();
        words_hex(fingerprint.weights, sizeof fingerprint.weights, id);
        spi_json_add_text(item, "name", model, strlen(model));
        cJSON_AddStringToObject(item, "fingerprint", id);
        cJSON_AddItemToArray(models, item);
    }
    for (uint32_t i = 0; sp_snapshot_get_session(snapshot, i, &session); i++) {
        cJSON *item = cJSON_CreateObject();
        spi_json_add_text(item, "model", session.model, strlen(session.model));
        cJSON_AddNumberToObject(item, "tokens", session.token_count);
        cJSON_AddNumberToObject(item, "context_max", session.context_max);
        cJSON_AddStringToObject(item, "kv_type", sp_kv_type_name(session.kv_type));
        cJSON_AddNumberToObject(item, "blocks", session.block_count);
        cJSON_AddBoolToObject(item, "has_blocks", session.has_blocks);
        cJSON_AddBoolToObject(item, "has_logits", session.has_logits);
        cJSON_AddItemToArray(sessions, item);
    }
    return json;
}

static void print_info(const sp_snapshot *snapshot, const sp_snapshot_info *info) {
    char id[33], bytes[32], memory[32], pages[32];
    sp_fingerprint fingerprint;
    sp_snapshot_session session;
    const char *model;
    words_hex(info->id, sizeof info->id, id);
    spi_words_bytes(info->byte_count, bytes, sizeof bytes);
    spi_words_bytes(info->memory_bytes, memory, sizeof memory);
    spi_words_bytes(info->page_bytes, pages, sizeof pages);
    printf("format        version %u, made by %s\n", info->version, info->made_by);
    printf("kind          %s, %s\n", info->is_delta ? "delta" : "snapshot", bytes);
    printf("id            %s\n", id);
    printf("guest         %s%s\n", info->module_name, info->has_module ? ", inside" : "");
    printf("memory        %s, of which %s are inside\n", memory, pages);
    printf("state         %u globals, %u tables, %u samplers\n", info->globals, info->tables, info->samplers);
    for (uint32_t i = 0; (model = sp_snapshot_get_model(snapshot, i, &fingerprint)); i++) {
        words_hex(fingerprint.weights, sizeof fingerprint.weights, id);
        printf("model         %s, fingerprint %s\n", model, id);
    }
    for (uint32_t i = 0; sp_snapshot_get_session(snapshot, i, &session); i++) {
        printf("session       %u of %u tokens of %s, %u blocks of %s %s%s\n", session.token_count, session.context_max,
               session.model, session.block_count, sp_kv_type_name(session.kv_type),
               session.has_blocks ? "inside" : "by name", session.has_logits ? ", logits" : "");
    }
    if (info->extra_bytes) {
        printf("extra         %" PRIu64 " bytes\n", info->extra_bytes);
    }
}

static int run_inspect(const spi_command *command, int argc, char **argv) {
    opening o = {0};
    spi_operands operands;
    const spi_option options[] = {
        {"actor", 0, SPI_OPTION_TEXT, "NAME", "the last state of an actor, in the place of a file", &o.actor},
        SPI_OPTIONS_ACTOR(o.set),
        SPI_OPTION_JSON(o.set.common),
        SPI_OPTIONS_END,
    };
    int result = spi_options_parse(command, options, argc, argv, &operands);
    if (result >= 0) {
        return result;
    }
    if (operands.count != !o.actor || operands.rest_count) {
        return spi_usage_error(command, "expected a file, or --actor NAME");
    }
    result = open_any(&o, o.actor ? NULL : operands.items[0]);
    if (!result) {
        sp_snapshot_info info;
        sp_snapshot_get_info(o.snapshot, &info);
        if (o.set.common.json) {
            result = spi_json_print(info_json(o.snapshot, &info));
        } else {
            print_info(o.snapshot, &info);
        }
    }
    sp_snapshot_close(o.snapshot);
    return result;
}

static const spi_command inspect = {
    .name = "snapshot inspect",
    .summary = "show what is in a snapshot",
    .usage = "FILE|--actor NAME [OPTIONS]",
    .text = "Reads and checks a snapshot, and shows whose state it is: guest, memory, models and sessions.",
    .examples = "snapshot inspect ada.snap\nsnapshot inspect --actor ada --json",
    .run = run_inspect,
};

/* ---- verify ---- */

static int run_verify(const spi_command *command, int argc, char **argv) {
    spi_actor_common set = {0};
    spi_operands operands;
    const spi_option options[] = {SPI_OPTIONS_ACTOR(set), SPI_OPTIONS_END};
    int result = spi_options_parse_operands(command, options, argc, argv, &operands, 1, INT_MAX, "name the files");
    if (result >= 0) {
        return result;
    }
    result = SPI_EXIT_OK;
    for (int i = 0; i < operands.count; i++) {
        sp_error error = {0};
        sp_snapshot *snapshot;
        if (spi_actor_open_file(operands.items[i], set.key_path, &snapshot, &error)) {
            result = spi_complain_error(&error);
        } else {
            printf("%s: whole\n", operands.items[i]);
        }
        sp_snapshot_close(snapshot);
    }
    return result;
}

static const spi_command verify = {
    .name = "snapshot verify",
    .summary = "check that snapshot files are whole",
    .usage = "FILE... [OPTIONS]",
    .text =
        "Reads all of each file and compares every section with its checksum. Exit code 1 if one is damaged, with a\n"
        "line that says where.",
    .examples = "snapshot verify *.snap",
    .run = run_verify,
};

/* ---- diff ---- */

static void print_difference(void *env, const char *text) {
    (void)env;
    printf("%s\n", text);
}

static int run_diff(const spi_command *command, int argc, char **argv) {
    spi_actor_common set = {0};
    sp_error error = {0};
    sp_snapshot *a = NULL, *b = NULL;
    bool same = false;
    spi_operands operands;
    const spi_option options[] = {SPI_OPTIONS_ACTOR(set), SPI_OPTIONS_END};
    int result = spi_options_parse_operands(command, options, argc, argv, &operands, 2, 2, "name two files");
    if (result >= 0) {
        return result;
    }
    sp_status status = spi_actor_open_file(operands.items[0], set.key_path, &a, &error);
    status = status ? status : spi_actor_open_file(operands.items[1], set.key_path, &b, &error);
    status = status ? status : sp_snapshot_diff(a, b, print_difference, NULL, &same, &error);
    sp_snapshot_close(a);
    sp_snapshot_close(b);
    if (status) {
        (void)spi_complain_error(&error);
        return SPI_EXIT_USAGE; /* as diff(1): 1 is for what differs */
    }
    return same ? SPI_EXIT_OK : SPI_EXIT_FAILURE;
}

static const spi_command diff = {
    .name = "snapshot diff",
    .summary = "show how two snapshots differ",
    .usage = "FILE FILE [OPTIONS]",
    .text =
        "One line for each thing that differs. Exit codes as diff(1) has them: 0 nothing differs, 1 something does,\n"
        "2 trouble.",
    .examples = "snapshot diff before.snap after.snap",
    .run = run_diff,
};

static int run(const spi_command *command, int argc, char **argv) {
    static const spi_command *const list[] = {&inspect, &verify, &diff, NULL};
    return spi_run_subcommand(command, list, argc, argv);
}

const spi_command spi_command_snapshot = {
    .name = "snapshot",
    .summary = "look into saved states: inspect, verify, diff",
    .usage = "COMMAND [OPTIONS]",
    .text = "A snapshot is all of a guest at a point between two calls (docs/snapshot-format.md): what 'actor export'\n"
            "writes, and what actors are kept as.",
    .examples = "snapshot inspect ada.snap\nsnapshot diff ada.snap eve.snap",
    .run = run,
};
