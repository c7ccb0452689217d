/* server/requests.c - what can be asked, and how it is answered; look.c has what only looks. See server.h. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "server/calls.h"

#define MODELS_MAX      16
#define ENVIRONMENT_MAX 256
#define HEAD_BYTES      512 /* of an answer, about */

/* ---- answering ---- */

void spi_call_tell(spi_call *call, cJSON *head, const void *body, size_t body_bytes) {
    if (head) {
        call->answer(call->env, head, body, body_bytes, false);
    }
    cJSON_Delete(head);
    call->told_bytes += HEAD_BYTES + body_bytes;
}

/* Ends the call and frees it; head (may be NULL) gets the status added. */
static void answer_end(spi_call *call, cJSON *head, sp_status status, const char *message) {
    head = head ? head : cJSON_CreateObject();
    if (head) {
        cJSON_AddNumberToObject(head, "end", status);
        if (status) {
            cJSON_AddStringToObject(head, "error", message && *message ? message : sp_status_text(status));
        }
    }
    spi_list_remove(&call->node);
    call->answer(call->env, head, NULL, 0, true);
    cJSON_Delete(head);
    spi_free(call);
}

void spi_call_cancel(spi_call *call) {
    if (call) {
        spi_list_remove(&call->node);
        spi_free(call);
    }
}

cJSON *spi_call_head(const char *name, const sp_actor_event *event) {
    cJSON *head = cJSON_CreateObject();
    cJSON_AddStringToObject(head, "event", name);
    if (event && *event->actor) {
        cJSON_AddStringToObject(head, "actor", event->actor);
    }
    if (event && event->message) {
        cJSON_AddNumberToObject(head, "message", (double)event->message);
    }
    return head;
}

static void add_woken(cJSON *head, const sp_actor_woken *woken) {
    const sp_restore_report *r = &woken->restore;
    cJSON_AddBoolToObject(head, "fresh", woken->is_fresh);
    cJSON_AddNumberToObject(head, "deltas", woken->deltas);
    cJSON_AddNumberToObject(head, "bytes", (double)woken->bytes);
    cJSON_AddNumberToObject(head, "us", (double)woken->ns / 1e3);
    cJSON_AddNumberToObject(head, "sessions", r->sessions);
    cJSON_AddNumberToObject(head, "mapped_tokens", r->mapped_tokens);
    cJSON_AddNumberToObject(head, "copied_tokens", r->copied_tokens);
    cJSON_AddNumberToObject(head, "computed_tokens", r->computed_tokens);
    cJSON_AddBoolToObject(head, "logits_restored", r->logits_are_restored);
    cJSON_AddNumberToObject(head, "guest_us", (double)r->guest_ns / 1e3);
    cJSON_AddNumberToObject(head, "blocks_us", (double)r->blocks_ns / 1e3);
    cJSON_AddNumberToObject(head, "compute_us", (double)r->compute_ns / 1e3);
}

static void add_commit(cJSON *head, const sp_actor_commit *commit) {
    cJSON_AddNumberToObject(head, "commit", (double)commit->number);
    cJSON_AddNumberToObject(head, "state_bytes", (double)commit->state_bytes);
    cJSON_AddNumberToObject(head, "handle_us", (double)commit->handle_ns / 1e3);
    cJSON_AddNumberToObject(head, "capture_us", (double)commit->capture_ns / 1e3);
    cJSON_AddNumberToObject(head, "write_us", (double)commit->write_ns / 1e3);
    cJSON_AddNumberToObject(head, "prompt_tokens", (double)commit->spent.prompt_tokens);
    cJSON_AddNumberToObject(head, "prompt_us", (double)commit->spent.prompt_ns / 1e3);
    cJSON_AddNumberToObject(head, "generated_tokens", (double)commit->spent.generated_tokens);
    cJSON_AddNumberToObject(head, "generated_us", (double)commit->spent.generated_ns / 1e3);
}

/* ---- what happens to actors, for those who wait ---- */

static void hear(spi_call *call, const sp_actor_event *event) {
    static const char *const names[] = {
        [SP_ACTOR_EVENT_WOKEN] = "woken",   [SP_ACTOR_EVENT_PIECE] = "piece",   [SP_ACTOR_EVENT_OUTPUT] = "output",
        [SP_ACTOR_EVENT_UNDONE] = "undone", [SP_ACTOR_EVENT_DEAD] = "dead",     [SP_ACTOR_EVENT_DONE] = "done",
        [SP_ACTOR_EVENT_HELD] = "held",     [SP_ACTOR_EVENT_NOTICE] = "notice", [SP_ACTOR_EVENT_SLEPT] = "slept",
    };
    bool is_mine = call->message && event->message == call->message;
    bool is_of_actor = *event->actor && !strcmp(event->actor, call->actor);
    bool is_held = event->kind == SP_ACTOR_EVENT_HELD && (is_of_actor || !*event->actor); /* of all, if of none */
    cJSON *head = spi_call_head(names[event->kind], event);
    switch (event->kind) {
    case SP_ACTOR_EVENT_DONE:
        if (is_mine) {
            add_commit(head, event->commit);
            answer_end(call, head, SP_OK, NULL);
            return;
        }
        break;
    case SP_ACTOR_EVENT_DEAD:
    case SP_ACTOR_EVENT_HELD:
        if (is_mine || (call->message && is_held)) {
            answer_end(call, head, event->kind == SP_ACTOR_EVENT_DEAD ? SP_TRAPPED : SP_IO, event->text);
            return;
        }
        break;
    case SP_ACTOR_EVENT_WOKEN:
        add_woken(head, event->woken);
        is_mine = is_of_actor;
        break;
    case SP_ACTOR_EVENT_SLEPT: is_mine = false; break;
    case SP_ACTOR_EVENT_NOTICE: is_mine = true; break;
    default: break;
    }
    if (is_mine) {
        spi_call_tell(call, head, event->text, event->text_bytes);
    } else {
        cJSON_Delete(head);
    }
}

static void listen_to_all(void *env, const sp_actor_event *event) {
    spi_server *server = env;
    spi_link_node *next;
    for (spi_link_node *node = server->calls.first; node; node = next) {
        next = node->next;
        hear(SPI_LIST_ITEM(node, spi_call, node), event);
    }
}

/* ---- requests ---- */

/* What a create or import wishes. Arrays are good while the request is. */
typedef struct wishes {
    sp_actor_spec spec;
    sp_actor_model models[MODELS_MAX];
    const char *environment[ENVIRONMENT_MAX];
} wishes;

/* Absent: as it is usual, or was. */
static sp_status read_kv_type(const cJSON *head, sp_kv_type *type, sp_error *error) {
    const char *text = spi_head_text(head, "kv_type", NULL);
    *type = SP_KV_DEFAULT;
    if (!text) {
        return SP_OK;
    }
    for (*type = SP_KV_F16; sp_kv_type_name(*type); ++*type) {
        if (!strcmp(text, sp_kv_type_name(*type))) {
            return SP_OK;
        }
    }
    return spi_fail(error, SP_INVALID, "keys and values are kept in f16 or q8_0, not in %.40s", text);
}

static sp_status read_wishes(const cJSON *head, wishes *w, sp_error *error) {
    const cJSON *item;
    *w = (wishes){0};
    w->spec = (sp_actor_spec){
        .module_name = spi_head_text(head, "module", NULL),
        .models = w->models,
        .device = spi_head_text(head, "device", NULL),
        .environment = w->environment,
        .memory_bytes_max = spi_head_number(head, "memory_max"),
        .deadline_ms = spi_head_count(head, "deadline_ms"),
        .failures_max = spi_head_count(head, "failures_max"),
        .recompute = spi_head_flag(head, "recompute"),
    };
    sp_status status = read_kv_type(head, &w->spec.kv_type, error);
    if (status) {
        return status;
    }
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(head, "models")) {
        const char *name = spi_head_text(item, "name", NULL), *path = spi_head_text(item, "path", NULL);
        if (w->spec.model_count == MODELS_MAX || !name || !path) {
            return spi_fail(error, SP_INVALID, "at most %d models, each with a name and a path", MODELS_MAX);
        }
        w->models[w->spec.model_count++] = (sp_actor_model){.name = name, .path = path};
    }
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(head, "environment")) {
        if (w->spec.environment_count == ENVIRONMENT_MAX || !cJSON_IsString(item)) {
            return spi_fail(error, SP_INVALID, "at most %d variables, each a text", ENVIRONMENT_MAX);
        }
        w->environment[w->spec.environment_count++] = item->valuestring;
    }
    return SP_OK;
}

static sp_status op_create(spi_call *call, const spi_request *request, sp_error *error) {
    wishes w;
    sp_status status = read_wishes(request->head, &w, error);
    w.spec.wasm = request->body;
    w.spec.wasm_bytes = request->body_bytes;
    return status ? status : sp_actor_create(call->server->actors, call->actor, &w.spec, error);
}

static sp_status op_import(spi_call *call, const spi_request *request, sp_error *error) {
    wishes w;
    sp_status status = read_wishes(request->head, &w, error);
    return status ? status
                  : sp_actor_import(call->server->actors, call->actor, spi_head_text(request->head, "path", ""),
                                    &w.spec, error);
}

static sp_status op_fork(spi_call *call, const spi_request *request, sp_error *error) {
    return sp_actor_fork(call->server->actors, call->actor, spi_head_text(request->head, "to", ""), error);
}

static sp_status op_export(spi_call *call, const spi_request *request, sp_error *error) {
    return sp_actor_export(call->server->actors, call->actor, spi_head_text(request->head, "path", ""), error);
}

static sp_status op_remove(spi_call *call, const spi_request *request, sp_error *error) {
    (void)request;
    return sp_actor_remove(call->server->actors, call->actor, error);
}

static sp_status op_sleep(spi_call *call, const spi_request *request, sp_error *error) {
    (void)request;
    return sp_actor_sleep(call->server->actors, call->actor, error);
}

static sp_status op_fold(spi_call *call, const spi_request *request, sp_error *error) {
    (void)request;
    return sp_actor_fold(call->server->actors, call->actor, error);
}

/* ---- sending ---- */

/* The message may be one that was sent before, with the same key, and handled long ago. False: the call is over. */
static bool wait_for_message(spi_call *call) {
    sp_letter letter;
    bool found;
    if (sp_actor_log(call->server->actors, call->actor, call->message - 1, 0, &letter, &found, NULL) || !found ||
        letter.id != call->message || letter.status == SP_LETTER_QUEUED) {
        spi_list_append(&call->server->calls, &call->node);
        return true;
    }
    if (letter.status == SP_LETTER_DEAD) {
        answer_end(call, spi_call_head("dead", NULL), SP_TRAPPED, letter.reason);
        return false;
    }
    spi_call_tell(call, spi_call_head("piece", NULL), letter.reply, letter.reply_bytes);
    answer_end(call, spi_call_head("done", NULL), SP_OK, NULL);
    return false;
}

/* True if the call waits, as `run` says. */
static bool op_send(spi_call *call, const spi_request *request) {
    sp_error error = {0};
    sp_status status =
        request->body_bytes > UINT32_MAX
            ? SP_LIMIT
            : sp_actor_send(call->server->actors, call->actor, request->body, (uint32_t)request->body_bytes,
                            spi_head_text(request->head, "key", NULL), &call->message, &error);
    if (status) {
        answer_end(call, NULL, status, error.message);
        return false;
    }
    cJSON *sent = spi_call_head("sent", NULL);
    cJSON_AddNumberToObject(sent, "message", (double)call->message);
    spi_call_tell(call, sent, NULL, 0);
    if (spi_head_flag(request->head, "wait")) {
        return wait_for_message(call);
    }
    answer_end(call, NULL, SP_OK, NULL);
    return false;
}

/* Waits for a message that was sent before. */
static bool op_wait(spi_call *call, const spi_request *request) {
    sp_letter letter;
    bool found = false;
    sp_error error = {0};
    call->message = spi_head_number(request->head, "message");
    sp_status status = sp_actor_log(call->server->actors, call->actor, call->message ? call->message - 1 : 0, 0,
                                    &letter, &found, &error);
    bool is_there = !status && call->message && found && letter.id == call->message;
    if (!is_there) {
        answer_end(call, NULL, status ? status : SP_NOT_FOUND, status ? error.message : "there is no such message");
    }
    return is_there && wait_for_message(call);
}

static const struct {
    const char *name;
    spi_operation run;
} operations[] = {
    {"hello", spi_look_hello},       {"create", op_create},   {"fork", op_fork},     {"export", op_export},
    {"import", op_import},           {"remove", op_remove},   {"sleep", op_sleep},   {"fold", op_fold},
    {"list", spi_look_list},         {"show", spi_look_show}, {"log", spi_look_log}, {"store", spi_look_store},
    {"snapshot", spi_look_snapshot},
};

static spi_operation find_operation(const char *name) {
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        if (!strcmp(operations[i].name, name)) {
            return operations[i].run;
        }
    }
    return NULL;
}

/* After a piece of what is told. False: it was the last one, and the call is over and gone. */
static bool is_going_on(spi_call *call, sp_status status, const sp_error *error) {
    if (!status && call->go_on) {
        return true;
    }
    answer_end(call, NULL, status, error->message);
    return false;
}

/* True if the call waits for what happens later, or has more to tell; else it is over and gone. */
static bool run(spi_call *call, const spi_request *request) {
    const char *op = spi_head_text(request->head, "op", "");
    sp_error error = {0};
    if (!strcmp(op, "send")) {
        return op_send(call, request);
    }
    if (!strcmp(op, "wait")) {
        return op_wait(call, request);
    }
    spi_operation found = find_operation(op);
    if (!found) {
        answer_end(call, NULL, SP_UNSUPPORTED, "there is no such request: is the other program older?");
        return false;
    }
    spi_list_append(&call->server->calls, &call->node); /* to hear what is noticed meanwhile */
    sp_status status = found(call, request, &error);
    return is_going_on(call, status, &error);
}

bool spi_call_has_more(const spi_call *call) {
    return call->go_on;
}

void spi_call_go_on(spi_call *call) {
    spi_operation go_on = call->go_on;
    sp_error error = {0};
    call->go_on = NULL;
    call->told_bytes = 0;
    sp_status status = go_on(call, NULL, &error);
    (void)is_going_on(call, status, &error);
}

void spi_server_request(spi_server *server, const cJSON *head, const void *body, size_t body_bytes, spi_answer answer,
                        void *env, spi_call **out) {
    const char *name = spi_head_text(head, "name", "");
    const spi_request request = {.head = head, .body = body, .body_bytes = body_bytes};
    *out = NULL;
    spi_call *call = spi_alloc(1, sizeof *call);
    cJSON *failed = call ? NULL : cJSON_CreateObject();
    if (!call) {
        cJSON_AddNumberToObject(failed, "end", SP_NO_MEMORY);
        answer(env, failed, NULL, 0, true);
        cJSON_Delete(failed);
        return;
    }
    *call = (spi_call){.server = server, .answer = answer, .env = env};
    snprintf(call->actor, sizeof call->actor, "%s", name);
    if (strlen(name) > SP_ACTOR_NAME_BYTES_MAX) {
        answer_end(call, NULL, SP_NOT_FOUND, "an actor's name has at most 64 characters");
    } else if (run(call, &request)) {
        *out = call;
    }
}

/* ---- life ---- */

sp_status spi_server_create(const sp_actors_options *options, spi_server **out, sp_error *error) {
    sp_actors_options own = *options;
    *out = NULL;
    spi_server *server = spi_alloc(1, sizeof *server);
    if (!server) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a server");
    }
    own.listener = listen_to_all;
    own.listener_env = server;
    sp_status status = sp_actors_open(&own, &server->actors, error);
    if (status) {
        spi_free(server);
        return status;
    }
    *out = server;
    return SP_OK;
}

void spi_server_destroy(spi_server *server) {
    if (!server) {
        return;
    }
    while (server->calls.first) {
        spi_call_cancel(SPI_LIST_ITEM(server->calls.first, spi_call, node));
    }
    sp_actors_close(server->actors);
    spi_free(server);
}

sp_actors *spi_server_actors(spi_server *server) {
    return server->actors;
}
