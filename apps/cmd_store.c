/* apps/cmd_store.c - samepage store: the KV blocks that actors share. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "apps/actor.h"
#include "apps/commands.h"
#include "apps/subcommands.h"

typedef struct looking {
    spi_actor_common set;
    const char *what;
    cJSON *json;
    uint64_t count;
    bool has_answer;
} looking;

static void print_stats(const cJSON *head) {
    char bytes[32], most[32];
    spi_words_bytes(spi_head_number(head, "bytes"), bytes, sizeof bytes);
    spi_words_bytes(spi_head_number(head, "bytes_max"), most, sizeof most);
    printf("blocks        %" PRIu64 " in %" PRIu64 " files, %s of at most %s\n", spi_head_number(head, "blocks"),
           spi_head_number(head, "packs"), bytes, most);
    printf("pinned        %" PRIu64 " files\n", spi_head_number(head, "pinned_packs"));
    printf("since open    %" PRIu64 " found, %" PRIu64 " not found, %" PRIu64 " mapped, %" PRIu64 " copied\n",
           spi_head_number(head, "hits"), spi_head_number(head, "misses"), spi_head_number(head, "mapped_blocks"),
           spi_head_number(head, "copied_blocks"));
    printf("              %" PRIu64 " taken in, %" PRIu64 " evicted, %" PRIu64 " damaged\n",
           spi_head_number(head, "taken_blocks"), spi_head_number(head, "evicted_blocks"),
           spi_head_number(head, "damaged_blocks"));
}

static void on_event(void *env, const cJSON *head, const void *body, size_t body_bytes) {
    looking *l = env;
    if (strcmp(spi_head_text(head, "event", ""), "store") != 0) {
        spi_actor_tell(&l->set.common, head, body, body_bytes);
        return;
    }
    l->has_answer = true;
    l->count = spi_head_number(head, "count");
    if (l->set.common.json) {
        l->json = cJSON_Duplicate(head, true);
        cJSON_DeleteItemFromObjectCaseSensitive(l->json, "event");
    } else if (!strcmp(l->what, "gc")) {
        printf("%" PRIu64 " blocks removed\n", l->count);
    } else if (!strcmp(l->what, "verify")) {
        printf("%" PRIu64 " blocks are damaged\n", l->count);
    } else {
        print_stats(head);
    }
}

static int ask(looking *l, uint64_t bytes_max) {
    cJSON *request = spi_actor_request("store", NULL);
    cJSON_AddStringToObject(request, "what", l->what);
    if (bytes_max != UINT64_MAX) { /* in a request 0 is the store's own limit; into one byte nothing fits */
        cJSON_AddNumberToObject(request, "bytes_max", bytes_max ? (double)bytes_max : 1);
    }
    int result = spi_actor_ask(&l->set, request, NULL, 0, on_event, l);
    if (!result && !l->has_answer) {
        result = spi_actor_complain_of_nothing();
    }
    if (l->json && !result) {
        result = spi_json_print(l->json);
    } else {
        cJSON_Delete(l->json);
    }
    return result;
}

static int run_any(const spi_command *command, const char *what, int argc, char **argv) {
    looking l = {.what = what};
    uint64_t bytes_max = UINT64_MAX;
    const spi_option gc_options[] = {
        {"max", 0, SPI_OPTION_SIZE, "SIZE", "bytes of blocks to keep (default: the store's own limit)", &bytes_max},
        SPI_OPTIONS_ACTOR(l.set),
        SPI_OPTION_JSON(l.set.common),
        SPI_OPTIONS_END,
    };
    const spi_option *options = strcmp(what, "gc") ? gc_options + 1 : gc_options;
    int result = spi_options_parse_all(command, options, argc, argv, NULL, "");
    if (result >= 0) {
        return result;
    }
    result = ask(&l, bytes_max);
    return !result && !strcmp(what, "verify") && l.count ? SPI_EXIT_FAILURE : result;
}

static int run_stats(const spi_command *command, int argc, char **argv) {
    return run_any(command, "stats", argc, argv);
}

static int run_gc(const spi_command *command, int argc, char **argv) {
    return run_any(command, "gc", argc, argv);
}

static int run_verify(const spi_command *command, int argc, char **argv) {
    return run_any(command, "verify", argc, argv);
}

static const spi_command stats = {
    .name = "store stats",
    .summary = "show what the store holds",
    .usage = "[OPTIONS]",
    .text = "Blocks, bytes and files; and what was found and given since whoever holds the actors opened them.",
    .examples = "store stats --json",
    .run = run_stats,
};

static const spi_command gc = {
    .name = "store gc",
    .summary = "remove blocks that were not used for long",
    .usage = "[OPTIONS]",
    .text =
        "Removes the blocks that were used longest ago until no more than SIZE are left, and what crashed processes\n"
        "left behind half made. Nothing is lost by it but time: a block that is missing is computed again.",
    .examples = "store gc --max 1G",
    .run = run_gc,
};

static const spi_command verify = {
    .name = "store verify",
    .summary = "check every block",
    .usage = "[OPTIONS]",
    .text = "Reads every block and compares it with its checksum. Damaged ones are removed, and the exit code is 1.",
    .examples = "store verify",
    .run = run_verify,
};

static int run(const spi_command *command, int argc, char **argv) {
    static const spi_command *const list[] = {&stats, &gc, &verify, NULL};
    return spi_run_subcommand(command, list, argc, argv);
}

const spi_command spi_command_store = {
    .name = "store",
    .summary = "the KV blocks that actors share: stats, gc, verify",
    .usage = "COMMAND [OPTIONS]",
    .text = "What a model has computed for a prefix of 64 tokens is kept under a name, and found again by every actor\n"
            "with the same model and prefix.",
    .examples = "store stats\nstore gc --max 1G",
    .run = run,
};
