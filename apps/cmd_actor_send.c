/* apps/cmd_actor_send.c - samepage actor send: a message in, the reply as it comes. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "apps/actor.h"
#include "apps/actor_commands.h"
#include "base/error.h"
#include "base/memory.h"

typedef struct sending {
    spi_actor_common set;
    const char *key;
    bool no_wait, is_line_open;
    char *reply; /* for --json */
    size_t reply_bytes, reply_capacity;
    uint64_t message;
    uint32_t undone;
    cJSON *figures; /* of the commit */
} sending;

/* A reply that was shown and then taken back: what follows begins anew. */
static void take_back(sending *s, const void *why, size_t why_bytes) {
    if (s->is_line_open && !s->set.common.json) {
        putchar('\n');
        fflush(stdout);
    }
    if (s->reply_bytes && !s->set.common.json) {
        spi_complain("the above was taken back");
    }
    if (why_bytes) {
        spi_complain("%.*s; trying again", (int)why_bytes, (const char *)why);
    }
    s->is_line_open = false;
    s->reply_bytes = 0;
}

static void show_piece(sending *s, const char *text, size_t bytes) {
    if (!spi_reserve((void **)&s->reply, &s->reply_capacity, s->reply_bytes + bytes + 1, 1)) {
        return;
    }
    memcpy(s->reply + s->reply_bytes, text, bytes);
    s->reply_bytes += bytes;
    if (!s->set.common.json && bytes) {
        fwrite(text, 1, bytes, stdout);
        fflush(stdout);
        s->is_line_open = text[bytes - 1] != '\n';
    }
}

static void on_event(void *env, const cJSON *head, const void *body, size_t body_bytes) {
    sending *s = env;
    const char *event = spi_head_text(head, "event", "");
    if (!strcmp(event, "sent")) {
        if (s->reply_bytes) {
            take_back(s, NULL, 0); /* another process holds the actors now, and has begun again */
        }
        s->message = spi_head_number(head, "message");
    } else if (!strcmp(event, "piece")) {
        show_piece(s, body, body_bytes);
    } else if (!strcmp(event, "undone")) {
        s->undone++;
        take_back(s, body, body_bytes);
    } else {
        if (!strcmp(event, "done")) {
            cJSON_Delete(s->figures);
            s->figures = cJSON_Duplicate(head, true);
        }
        if (s->is_line_open && s->set.common.verbose && !s->set.common.json) {
            putchar('\n');
            fflush(stdout);
            s->is_line_open = false;
        }
        spi_actor_tell(&s->set.common, head, body, body_bytes);
    }
}

/* A key of our own makes the request repeatable: it is sent again if the process that holds the actors ends. */
static void add_key(const sending *s, cJSON *request) {
    char key[64];
    uint64_t random[2] = {0};
    if (s->key) {
        cJSON_AddStringToObject(request, "key", s->key);
    } else if (!getentropy(random, sizeof random)) {
        snprintf(key, sizeof key, "cli-%016" PRIx64 "%016" PRIx64, random[0], random[1]);
        cJSON_AddStringToObject(request, "key", key);
    }
}

static int report_json(sending *s, sp_status status, const sp_error *error) {
    cJSON *json = cJSON_CreateObject(), *item;
    cJSON_AddNumberToObject(json, "message", (double)s->message);
    cJSON_AddBoolToObject(json, "handled", !status && !s->no_wait);
    if (!s->no_wait && !status) {
        spi_json_add_text(json, "reply", s->reply ? s->reply : "", s->reply_bytes);
    }
    cJSON_AddNumberToObject(json, "failures", s->undone + (status == SP_TRAPPED));
    cJSON_ArrayForEach(item, s->figures) {
        if (cJSON_IsNumber(item) && strcmp(item->string, "end") != 0 && strcmp(item->string, "message") != 0) {
            cJSON_AddNumberToObject(json, item->string, item->valuedouble);
        }
    }
    if (status) {
        spi_json_add_text(json, "error", error->message, strlen(error->message));
    }
    int result = spi_json_print(json);
    return status ? SPI_EXIT_FAILURE : result;
}

static int send(sending *s, const char *name, const char *text, size_t text_bytes) {
    sp_error error = {0};
    spi_port *port;
    cJSON *request = spi_actor_request("send", name);
    cJSON_AddBoolToObject(request, "wait", !s->no_wait);
    add_key(s, request);
    sp_status status = spi_actor_open(&s->set, NULL, &port, &error);
    if (!status) {
        status = spi_port_call(port, request, text, text_bytes, true, on_event, s, NULL, &error);
        if (!s->set.common.json && s->is_line_open) {
            putchar('\n');
        }
        spi_port_close(port);
    }
    cJSON_Delete(request);
    int result = SPI_EXIT_OK;
    if (s->set.common.json) {
        result = report_json(s, status, &error);
    } else if (status) {
        result = spi_complain_error(&error);
    } else if (s->no_wait) {
        printf("%" PRIu64 "\n", s->message);
    }
    spi_free(s->reply);
    cJSON_Delete(s->figures);
    return result;
}

static int run(const spi_command *command, int argc, char **argv) {
    sending s = {0};
    spi_operands operands;
    const spi_option options[] = {
        {"no-wait", 0, SPI_OPTION_FLAG, NULL, "print the message's number, and wait for nothing", &s.no_wait},
        {"once", 0, SPI_OPTION_TEXT, "KEY", "send nothing if a message with this key was sent before", &s.key},
        {"threads", 't', SPI_OPTION_COUNT, "N", "threads of the cpu device, if no other process holds the actors",
         &s.set.common.threads},
        {"isa", 0, SPI_OPTION_TEXT, "NAME", "its instruction set, likewise", &s.set.common.isa},
        SPI_OPTIONS_ACTOR(s.set),
        SPI_OPTION_JSON(s.set.common),
        SPI_OPTION_VERBOSE(s.set.common),
        SPI_OPTIONS_END,
    };
    int result =
        spi_options_parse_operands(command, options, argc, argv, &operands, 1, 2, "expected a name and a text");
    if (result >= 0) {
        return result;
    }
    if (operands.count == 2 && strcmp(operands.items[1], "-") != 0) {
        return send(&s, operands.items[0], operands.items[1], strlen(operands.items[1]));
    }
    size_t bytes;
    char *text;
    sp_error error = {0};
    spi_invite("the message");
    if (spi_read_input(2 * SP_ACTOR_TEXT_BYTES_MAX, &text, &bytes, &error)) {
        return spi_complain_error(&error);
    }
    bytes -= bytes && text[bytes - 1] == '\n'; /* the line end that a shell puts behind it */
    result = send(&s, operands.items[0], text, bytes);
    spi_free(text);
    return result;
}

const spi_command spi_actor_send = {
    .name = "actor send",
    .summary = "send a message and print the reply",
    .usage = "NAME [TEXT] [OPTIONS]",
    .text =
        "Puts TEXT, or standard input (without TEXT, or where it is -), into the actor's mailbox, where it is safe,\n"
        "and prints the reply as it is computed. When the command ends with 0, the reply and all that the actor\n"
        "remembers of it are on disk. If it is interrupted, or the process that handles the message ends, the\n"
        "message is not lost: it is handled when the actors are next held, and 'actor log' has the reply.",
    .examples = "actor send ada \"What colour is my boat?\"\n"
                "actor send ada --json < question.txt\n"
                "actor send ada \"/remind 3600 tea\" --no-wait",
    .run = run,
};
