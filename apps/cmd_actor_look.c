/* apps/cmd_actor_look.c - samepage actor list, show and log. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "apps/actor.h"
#include "apps/actor_commands.h"
#include "base/memory.h"

typedef struct looking {
    spi_actor_common set;
    cJSON *list; /* --json: all that came */
    bool has_any;
} looking;

static void words_time(uint64_t ms, char *text, size_t capacity) {
    time_t seconds = (time_t)(ms / 1000);
    struct tm parts;
    if (!ms || !localtime_r(&seconds, &parts) || !strftime(text, capacity, "%Y-%m-%d %H:%M:%S", &parts)) {
        snprintf(text, capacity, "-");
    }
}

/* Adds an answer to the list without the name of its event. */
static cJSON *keep(looking *l, const cJSON *head) {
    cJSON *copy = cJSON_Duplicate(head, true);
    cJSON_DeleteItemFromObjectCaseSensitive(copy, "event");
    cJSON_AddItemToArray(l->list, copy);
    return copy;
}

static const char *state_of(const cJSON *head) {
    return *spi_head_text(head, "held", "")    ? "held"
           : spi_head_flag(head, "busy")       ? "busy"
           : spi_head_flag(head, "resident")   ? "awake"
           : spi_head_number(head, "queued")   ? "waiting"
           : !spi_head_number(head, "commits") ? "new"
                                               : "asleep";
}

/* ---- list ---- */

static void on_list(void *env, const cJSON *head, const void *body, size_t body_bytes) {
    looking *l = env;
    char active[32];
    (void)body;
    (void)body_bytes;
    if (strcmp(spi_head_text(head, "event", ""), "actor") != 0) {
        return;
    }
    if (l->list) {
        keep(l, head);
        return;
    }
    if (!l->has_any) {
        printf("%-20s %-8s %-8s %8s %7s %6s %7s  %s\n", "name", "state", "device", "commits", "queued", "dead",
               "timers", "last active");
        l->has_any = true;
    }
    words_time(spi_head_number(head, "active_ms"), active, sizeof active);
    printf("%-20s %-8s %-8s %8" PRIu64 " %7" PRIu64 " %6" PRIu64 " %7" PRIu64 "  %s\n", spi_head_text(head, "name", ""),
           state_of(head), spi_head_text(head, "device", ""), spi_head_number(head, "commits"),
           spi_head_number(head, "queued"), spi_head_number(head, "dead"), spi_head_number(head, "timers"), active);
}

static int run_list(const spi_command *command, int argc, char **argv) {
    looking l = {0};
    const spi_option options[] = {SPI_OPTIONS_ACTOR(l.set), SPI_OPTION_JSON(l.set.common), SPI_OPTIONS_END};
    int result = spi_options_parse_all(command, options, argc, argv, NULL, "");
    if (result >= 0) {
        return result;
    }
    cJSON *json = l.set.common.json ? cJSON_CreateObject() : NULL;
    l.list = json ? cJSON_AddArrayToObject(json, "actors") : NULL;
    bool is_there;
    sp_error error = {0};
    if (spi_actor_find(&l.set, &is_there, &error)) {
        result = spi_complain_error(&error);
    } else { /* where there is no folder there are no actors, and looking makes none */
        result = is_there ? spi_actor_ask(&l.set, spi_actor_request("list", NULL), NULL, 0, on_list, &l) : SPI_EXIT_OK;
    }
    if (json && !result) {
        return spi_json_print(json);
    }
    cJSON_Delete(json);
    return result;
}

const spi_command spi_actor_list = {
    .name = "actor list",
    .summary = "list the actors",
    .usage = "[OPTIONS]",
    .text =
        "One line for each: whether it sleeps, how many messages it has handled (commits), how many wait, how many\n"
        "were set aside because handling them failed (dead), and its timers.",
    .examples = "actor list\nactor list --json",
    .run = run_list,
};

/* ---- show ---- */

static void print_actor(const cJSON *head) {
    char created[32], active[32], bytes[32];
    const cJSON *model;
    words_time(spi_head_number(head, "created_ms"), created, sizeof created);
    words_time(spi_head_number(head, "active_ms"), active, sizeof active);
    spi_words_bytes(spi_head_number(head, "delta_bytes"), bytes, sizeof bytes);
    printf("name          %s\n", spi_head_text(head, "name", ""));
    printf("state         %s\n", state_of(head));
    if (*spi_head_text(head, "held", "")) {
        printf("held          %s\n", spi_head_text(head, "held", ""));
    }
    if (*spi_head_text(head, "origin", "")) {
        printf("origin        %s\n", spi_head_text(head, "origin", ""));
    }
    printf("guest         %s\n", spi_head_text(head, "module", ""));
    printf("device        %s, keys and values in %s\n", spi_head_text(head, "device", ""),
           spi_head_text(head, "kv_type", ""));
    cJSON_ArrayForEach(model, cJSON_GetObjectItemCaseSensitive(head, "models")) {
        printf("model         %s=%s\n", spi_head_text(model, "name", ""), spi_head_text(model, "path", ""));
    }
    printf("created       %s\n", created);
    printf("last active   %s\n", active);
    printf("commits       %" PRIu64 ", %" PRIu64 " since the last snapshot (%s)\n", spi_head_number(head, "commits"),
           spi_head_number(head, "deltas"), bytes);
    printf("messages      %" PRIu64 " wait, %" PRIu64 " are dead\n", spi_head_number(head, "queued"),
           spi_head_number(head, "dead"));
    printf("timers        %" PRIu64 "\n", spi_head_number(head, "timers"));
    printf("limits        %" PRIu64 " ms a message, dead after %" PRIu64 " failures\n",
           spi_head_number(head, "deadline_ms"), spi_head_number(head, "failures_max"));
}

static void on_show(void *env, const cJSON *head, const void *body, size_t body_bytes) {
    looking *l = env;
    (void)body;
    (void)body_bytes;
    if (!strcmp(spi_head_text(head, "event", ""), "actor")) {
        l->has_any = true;
        if (l->list) {
            keep(l, head);
        } else {
            print_actor(head);
        }
    }
}

static int run_show(const spi_command *command, int argc, char **argv) {
    looking l = {0};
    spi_operands operands;
    const spi_option options[] = {SPI_OPTIONS_ACTOR(l.set), SPI_OPTION_JSON(l.set.common), SPI_OPTIONS_END};
    int result = spi_options_parse_operands(command, options, argc, argv, &operands, 1, 1, "name the actor");
    if (result >= 0) {
        return result;
    }
    l.list = l.set.common.json ? cJSON_CreateArray() : NULL;
    result = spi_actor_ask(&l.set, spi_actor_request("show", operands.items[0]), NULL, 0, on_show, &l);
    if (!result && !l.has_any) {
        result = spi_actor_complain_of_nothing();
    }
    if (l.list && !result) {
        result = spi_json_print(cJSON_DetachItemFromArray(l.list, 0));
    }
    cJSON_Delete(l.list);
    return result;
}

const spi_command spi_actor_show = {
    .name = "actor show",
    .summary = "show one actor",
    .usage = "NAME [OPTIONS]",
    .text =
        "Everything that is known of it but its state: 'samepage snapshot inspect --actor NAME' looks inside of that.",
    .examples = "actor show ada",
    .run = run_show,
};

/* ---- log ---- */

static void print_text(const char *before, const char *text, size_t bytes) {
    printf("%s", before);
    for (size_t i = 0; i < bytes; i++) {
        putchar(text[i] == '\n' || (unsigned char)text[i] >= ' ' ? text[i] : ' ');
    }
    putchar('\n');
}

static const char *const kinds[] = {"outside", "actor", "reply", "timer", "failed"};
static const char *const statuses[] = {"queued", "done", "dead"};

static void print_letter(const cJSON *head, const char *text, size_t text_bytes, size_t reply_bytes,
                         size_t reason_bytes) {
    char sent[32];
    uint64_t kind = spi_head_number(head, "kind"), status = spi_head_number(head, "status");
    const char *sender = spi_head_text(head, "sender", "");
    words_time(spi_head_number(head, "sent_ms"), sent, sizeof sent);
    printf("%" PRIu64 "  %s  %s%s%s  %s", spi_head_number(head, "message"), sent, kinds[kind < 5 ? kind : 0],
           *sender ? " " : "", sender, statuses[status < 3 ? status : 0]);
    if (spi_head_number(head, "failures")) {
        printf(", %" PRIu64 " failures", spi_head_number(head, "failures"));
    }
    putchar('\n');
    print_text("  > ", text, text_bytes);
    if (reply_bytes) {
        print_text("  < ", text + text_bytes, reply_bytes);
    }
    if (reason_bytes) {
        print_text("  ! ", text + text_bytes + reply_bytes, reason_bytes);
    }
}

static void on_letter(void *env, const cJSON *head, const void *body, size_t body_bytes) {
    looking *l = env;
    uint64_t text_bytes = spi_head_number(head, "text_bytes"), reply_bytes = spi_head_number(head, "reply_bytes");
    if (strcmp(spi_head_text(head, "event", ""), "letter") != 0 || text_bytes + reply_bytes > body_bytes) {
        return;
    }
    size_t reason_bytes = body_bytes - text_bytes - reply_bytes;
    const char *text = body;
    if (!l->list) {
        print_letter(head, text, text_bytes, reply_bytes, reason_bytes);
        return;
    }
    cJSON *item = keep(l, head);
    uint64_t kind = spi_head_number(head, "kind"), status = spi_head_number(head, "status");
    cJSON_DeleteItemFromObjectCaseSensitive(item, "text_bytes");
    cJSON_DeleteItemFromObjectCaseSensitive(item, "reply_bytes");
    cJSON_ReplaceItemInObjectCaseSensitive(item, "kind", cJSON_CreateString(kinds[kind < 5 ? kind : 0]));
    cJSON_ReplaceItemInObjectCaseSensitive(item, "status", cJSON_CreateString(statuses[status < 3 ? status : 0]));
    spi_json_add_text(item, "text", text, text_bytes);
    spi_json_add_text(item, "reply", text + text_bytes, reply_bytes);
    spi_json_add_text(item, "reason", text + text_bytes + reply_bytes, reason_bytes);
}

static int run_log(const spi_command *command, int argc, char **argv) {
    looking l = {0};
    uint32_t last = 20;
    uint64_t message = 0;
    spi_operands operands;
    const spi_option options[] = {
        {"last", 'n', SPI_OPTION_COUNT, "N", "the latest N messages (default: 20; 0: all)", &last},
        {"message", 0, SPI_OPTION_LONG, "NUMBER", "only this one", &message},
        SPI_OPTIONS_ACTOR(l.set),
        SPI_OPTION_JSON(l.set.common),
        SPI_OPTIONS_END,
    };
    int result = spi_options_parse_operands(command, options, argc, argv, &operands, 1, 1, "name the actor");
    if (result >= 0) {
        return result;
    }
    cJSON *json = l.set.common.json ? cJSON_CreateObject() : NULL,
          *request = spi_actor_request("log", operands.items[0]);
    l.list = json ? cJSON_AddArrayToObject(json, "messages") : NULL;
    cJSON_AddNumberToObject(request, "last", last);
    cJSON_AddNumberToObject(request, "message", (double)message);
    result = spi_actor_ask(&l.set, request, NULL, 0, on_letter, &l);
    if (json && !result) {
        return spi_json_print(json);
    }
    cJSON_Delete(json);
    return result;
}

const spi_command spi_actor_log = {
    .name = "actor log",
    .summary = "show messages and replies",
    .usage = "NAME [OPTIONS]",
    .text =
        "What was sent to the actor (>), what it replied (<), and why handling failed (!). The log keeps the latest\n"
        "1,000 messages that were handled, and all that were not.",
    .examples = "actor log ada\nactor log ada --message 42 --json",
    .run = run_log,
};
