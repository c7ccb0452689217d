/* server/requests.c - what can be asked, and how it is answered. See server.h. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "guest/list.h"
#include "samepage/version.h"
#include "server/server.h"

#define MODELS_MAX      16
#define ENVIRONMENT_MAX 256

struct spi_server {
    sp_actors *actors;
    spi_list calls; /* that wait for a message to be handled */
};

struct spi_call {
    spi_link_node node;
    spi_server *server;
    spi_answer answer; /* NULL: cancelled */
    void *env;
    char actor[SP_ACTOR_NAME_BYTES_MAX + 1];
    uint64_t message; /* 0: no particular one */
    bool is_verbose;
};

/* ---- answering ---- */

static void answer_event(spi_call *call, cJSON *head, const void *body, size_t body_bytes) {
    if (call->answer && head) {
        call->answer(call->env, head, body, body_bytes, false);
    }
    cJSON_Delete(head);
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
    if (call->answer) {
        call->answer(call->env, head, NULL, 0, true);
    }
    cJSON_Delete(head);
    spi_free(call);
}

void spi_call_cancel(spi_call *call) {
    if (call) {
        spi_list_remove(&call->node);
        spi_free(call);
    }
}

static cJSON *event_head(const char *name, const sp_actor_event *event) {
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
    cJSON *head = event_head(names[event->kind], event);
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
        answer_event(call, head, event->text, event->text_bytes);
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
        .deadline_ms = (uint32_t)spi_head_number(head, "deadline_ms"),
        .failures_max = (uint32_t)spi_head_number(head, "failures_max"),
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

static sp_status op_create(spi_call *call, const cJSON *head, const void *body, size_t body_bytes, sp_error *error) {
    wishes w;
    sp_status status = read_wishes(head, &w, error);
    w.spec.wasm = body;
    w.spec.wasm_bytes = body_bytes;
    return status ? status : sp_actor_create(call->server->actors, call->actor, &w.spec, error);
}

static sp_status op_import(spi_call *call, const cJSON *head, const void *body, size_t body_bytes, sp_error *error) {
    wishes w;
    (void)body;
    (void)body_bytes;
    sp_status status = read_wishes(head, &w, error);
    return status ? status
                  : sp_actor_import(call->server->actors, call->actor, spi_head_text(head, "path", ""), &w.spec, error);
}

static sp_status op_fork(spi_call *call, const cJSON *head, const void *body, size_t body_bytes, sp_error *error) {
    (void)body;
    (void)body_bytes;
    return sp_actor_fork(call->server->actors, call->actor, spi_head_text(head, "to", ""), error);
}

static sp_status op_export(spi_call *call, const cJSON *head, const void *body, size_t body_bytes, sp_error *error) {
    (void)body;
    (void)body_bytes;
    return sp_actor_export(call->server->actors, call->actor, spi_head_text(head, "path", ""), error);
}

static sp_status op_remove(spi_call *call, const cJSON *head, const void *body, size_t body_bytes, sp_error *error) {
    (void)head;
    (void)body;
    (void)body_bytes;
    return sp_actor_remove(call->server->actors, call->actor, error);
}

static sp_status op_sleep(spi_call *call, const cJSON *head, const void *body, size_t body_bytes, sp_error *error) {
    (void)head;
    (void)body;
    (void)body_bytes;
    return sp_actor_sleep(call->server->actors, call->actor, error);
}

static sp_status op_fold(spi_call *call, const cJSON *head, const void *body, size_t body_bytes, sp_error *error) {
    (void)head;
    (void)body;
    (void)body_bytes;
    return sp_actor_fold(call->server->actors, call->actor, error);
}

/* ---- looking ---- */

static cJSON *describe(const sp_actor_info *info) {
    cJSON *head = event_head("actor", NULL);
    cJSON_AddStringToObject(head, "name", info->name);
    cJSON_AddStringToObject(head, "module", info->module);
    cJSON_AddStringToObject(head, "device", info->device);
    cJSON_AddStringToObject(head, "kv_type", sp_kv_type_name(info->kv_type));
    cJSON_AddStringToObject(head, "origin", info->origin);
    cJSON_AddStringToObject(head, "held", info->held);
    cJSON_AddBoolToObject(head, "resident", info->is_resident);
    cJSON_AddBoolToObject(head, "busy", info->is_busy);
    cJSON_AddNumberToObject(head, "commits", (double)info->commits);
    cJSON_AddNumberToObject(head, "queued", (double)info->queued);
    cJSON_AddNumberToObject(head, "dead", (double)info->dead);
    cJSON_AddNumberToObject(head, "timers", (double)info->timers);
    cJSON_AddNumberToObject(head, "deltas", (double)info->deltas);
    cJSON_AddNumberToObject(head, "delta_bytes", (double)info->delta_bytes);
    cJSON_AddNumberToObject(head, "created_ms", (double)info->created_ms);
    cJSON_AddNumberToObject(head, "active_ms", (double)info->active_ms);
    cJSON_AddNumberToObject(head, "memory_max", (double)info->memory_bytes_max);
    cJSON_AddNumberToObject(head, "deadline_ms", info->deadline_ms);
    cJSON_AddNumberToObject(head, "failures_max", info->failures_max);
    return head;
}

static sp_status op_list(spi_call *call, const cJSON *head, const void *body, size_t body_bytes, sp_error *error) {
    sp_actors *actors = call->server->actors;
    char name[SP_ACTOR_NAME_BYTES_MAX + 1] = "";
    sp_status status;
    (void)head;
    (void)body;
    (void)body_bytes;
    while (!(status = sp_actors_next(actors, name, name, error)) && *name) {
        sp_actor_info info;
        if ((status = sp_actor_get_info(actors, name, &info, error))) {
            break;
        }
        answer_event(call, describe(&info), NULL, 0);
    }
    return status;
}

static sp_status op_show(spi_call *call, const cJSON *head, const void *body, size_t body_bytes, sp_error *error) {
    sp_actors *actors = call->server->actors;
    sp_actor_info info;
    sp_actor_model model = {0};
    (void)head;
    (void)body;
    (void)body_bytes;
    sp_status status = sp_actor_get_info(actors, call->actor, &info, error);
    if (status) {
        return status;
    }
    cJSON *answer = describe(&info), *models = cJSON_AddArrayToObject(answer, "models");
    for (uint32_t i = 0; !(status = sp_actor_get_model(actors, call->actor, i, &model, error)) && model.name; i++) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", model.name);
        cJSON_AddStringToObject(item, "path", model.path);
        cJSON_AddItemToArray(models, item);
    }
    answer_event(call, answer, NULL, 0);
    return status;
}

/* A letter: facts in the head; the body is the text, the reply and the reason, one behind the other. */
static sp_status tell_letter(spi_call *call, const sp_letter *letter, sp_error *error) {
    size_t reason_bytes = strlen(letter->reason),
           bytes = (size_t)letter->text_bytes + letter->reply_bytes + reason_bytes;
    char *body = spi_alloc(bytes + 1, 1);
    if (!body) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a message");
    }
    memcpy(body, letter->text, letter->text_bytes);
    memcpy(body + letter->text_bytes, letter->reply, letter->reply_bytes);
    memcpy(body + letter->text_bytes + letter->reply_bytes, letter->reason, reason_bytes);
    cJSON *head = event_head("letter", NULL);
    cJSON_AddNumberToObject(head, "message", (double)letter->id);
    cJSON_AddNumberToObject(head, "reply_to", (double)letter->reply_to);
    cJSON_AddNumberToObject(head, "kind", letter->kind);
    cJSON_AddNumberToObject(head, "status", letter->status);
    cJSON_AddStringToObject(head, "sender", letter->sender);
    cJSON_AddNumberToObject(head, "sent_ms", (double)letter->sent_ms);
    cJSON_AddNumberToObject(head, "handled_ms", (double)letter->handled_ms);
    cJSON_AddNumberToObject(head, "failures", letter->failures);
    cJSON_AddNumberToObject(head, "text_bytes", letter->text_bytes);
    cJSON_AddNumberToObject(head, "reply_bytes", letter->reply_bytes);
    answer_event(call, head, body, bytes);
    spi_free(body);
    return SP_OK;
}

static sp_status op_log(spi_call *call, const cJSON *head, const void *body, size_t body_bytes, sp_error *error) {
    uint64_t after = spi_head_number(head, "after"), only = spi_head_number(head, "message");
    uint32_t last = (uint32_t)spi_head_number(head, "last");
    bool found = true;
    (void)body;
    (void)body_bytes;
    after = only ? only - 1 : after;
    for (;;) {
        sp_letter letter;
        sp_status status =
            sp_actor_log(call->server->actors, call->actor, after, only ? 0 : last, &letter, &found, error);
        if (status || !found) {
            return status;
        }
        if (only && letter.id != only) {
            return spi_fail(error, SP_NOT_FOUND, "%s has no message %llu", call->actor, (unsigned long long)only);
        }
        status = tell_letter(call, &letter, error);
        if (status || only) {
            return status;
        }
        after = letter.id;
        last = 0;
    }
}

static sp_status op_stats(spi_call *call, const cJSON *head, const void *body, size_t body_bytes, sp_error *error) {
    sp_store *store = sp_actors_store(call->server->actors);
    const char *what = spi_head_text(head, "what", "stats");
    uint64_t count = 0;
    sp_status status = SP_OK;
    (void)body;
    (void)body_bytes;
    if (!store) {
        return spi_fail(error, SP_UNSUPPORTED, "these actors keep no store of blocks");
    }
    if (!strcmp(what, "gc")) {
        status = sp_store_gc(store, spi_head_number(head, "bytes_max"), &count, error);
    } else if (!strcmp(what, "verify")) {
        status = sp_store_verify(store, &count, error);
    }
    sp_store_stats stats;
    sp_store_get_stats(store, &stats);
    cJSON *answer = event_head("store", NULL);
    cJSON_AddNumberToObject(answer, "count", (double)count);
    cJSON_AddNumberToObject(answer, "blocks", (double)stats.blocks);
    cJSON_AddNumberToObject(answer, "bytes", (double)stats.bytes);
    cJSON_AddNumberToObject(answer, "bytes_max", (double)stats.bytes_max);
    cJSON_AddNumberToObject(answer, "packs", (double)stats.packs);
    cJSON_AddNumberToObject(answer, "pinned_packs", (double)stats.pinned_packs);
    cJSON_AddNumberToObject(answer, "hits", (double)stats.hits);
    cJSON_AddNumberToObject(answer, "misses", (double)stats.misses);
    cJSON_AddNumberToObject(answer, "mapped_blocks", (double)stats.mapped_blocks);
    cJSON_AddNumberToObject(answer, "copied_blocks", (double)stats.copied_blocks);
    cJSON_AddNumberToObject(answer, "taken_blocks", (double)stats.taken_blocks);
    cJSON_AddNumberToObject(answer, "evicted_blocks", (double)stats.evicted_blocks);
    cJSON_AddNumberToObject(answer, "damaged_blocks", (double)stats.damaged_blocks);
    cJSON_AddNumberToObject(answer, "tail_bytes", (double)stats.tail_bytes);
    cJSON_AddNumberToObject(answer, "damaged_tails", (double)stats.damaged_tails);
    answer_event(call, answer, NULL, 0);
    return status;
}

/* The state as a snapshot's bytes. */
static sp_status op_snapshot(spi_call *call, const cJSON *head, const void *body, size_t body_bytes, sp_error *error) {
    sp_snapshot *snapshot;
    size_t count;
    (void)head;
    (void)body;
    (void)body_bytes;
    sp_status status = sp_actor_snapshot(call->server->actors, call->actor, &snapshot, error);
    if (!status && !snapshot) {
        return spi_fail(error, SP_NOT_FOUND, "%s has not handled a message yet: it has no state", call->actor);
    }
    if (!status) {
        const void *bytes = sp_snapshot_bytes(snapshot, &count);
        if (count > SPI_FRAME_BODY_BYTES_MAX) {
            status = spi_fail(error, SP_LIMIT, "the state of %s is too large to be shown: export it", call->actor);
        } else {
            answer_event(call, event_head("snapshot", NULL), bytes, count);
        }
        sp_snapshot_close(snapshot);
    }
    return status;
}

static sp_status op_hello(spi_call *call, const cJSON *head, const void *body, size_t body_bytes, sp_error *error) {
    (void)head;
    (void)body;
    (void)body_bytes;
    (void)error;
    cJSON *answer = event_head("hello", NULL);
    cJSON_AddNumberToObject(answer, "protocol", 1);
    cJSON_AddNumberToObject(answer, "pid", (double)getpid());
    cJSON_AddStringToObject(answer, "version", sp_version());
    answer_event(call, answer, NULL, 0);
    return SP_OK;
}

/* ---- sending ---- */

/* The message may be one that was sent before, with the same key, and handled long ago. True if the call is over. */
static bool answer_from_log(spi_call *call) {
    sp_letter letter;
    bool found;
    if (sp_actor_log(call->server->actors, call->actor, call->message - 1, 0, &letter, &found, NULL) || !found ||
        letter.id != call->message || letter.status == SP_LETTER_QUEUED) {
        return false;
    }
    if (letter.status == SP_LETTER_DEAD) {
        answer_end(call, event_head("dead", NULL), SP_TRAPPED, letter.reason);
        return true;
    }
    answer_event(call, event_head("piece", NULL), letter.reply, letter.reply_bytes);
    answer_end(call, event_head("done", NULL), SP_OK, NULL);
    return true;
}

static void op_send(spi_call *call, const cJSON *head, const void *body, size_t body_bytes) {
    sp_error error = {0};
    sp_status status = body_bytes > UINT32_MAX
                           ? SP_LIMIT
                           : sp_actor_send(call->server->actors, call->actor, body, (uint32_t)body_bytes,
                                           spi_head_text(head, "key", NULL), &call->message, &error);
    if (status) {
        answer_end(call, NULL, status, error.message);
        return;
    }
    cJSON *sent = event_head("sent", NULL);
    cJSON_AddNumberToObject(sent, "message", (double)call->message);
    answer_event(call, sent, NULL, 0);
    if (!spi_head_flag(head, "wait")) {
        answer_end(call, NULL, SP_OK, NULL);
    } else if (!answer_from_log(call)) {
        spi_list_append(&call->server->calls, &call->node);
    }
}

/* Waits for a message that was sent before. */
static void op_wait(spi_call *call, const cJSON *head) {
    sp_letter letter;
    bool found = false;
    sp_error error = {0};
    call->message = spi_head_number(head, "message");
    sp_status status = sp_actor_log(call->server->actors, call->actor, call->message ? call->message - 1 : 0, 0,
                                    &letter, &found, &error);
    if (status) {
        answer_end(call, NULL, status, error.message);
    } else if (!call->message || !found || letter.id != call->message) {
        answer_end(call, NULL, SP_NOT_FOUND, "there is no such message");
    } else if (!answer_from_log(call)) {
        spi_list_append(&call->server->calls, &call->node);
    }
}

typedef sp_status (*operation)(spi_call *call, const cJSON *head, const void *body, size_t body_bytes, sp_error *error);

static const struct {
    const char *name;
    operation run;
} operations[] = {
    {"hello", op_hello},       {"create", op_create}, {"fork", op_fork},   {"export", op_export},
    {"import", op_import},     {"remove", op_remove}, {"sleep", op_sleep}, {"fold", op_fold},
    {"list", op_list},         {"show", op_show},     {"log", op_log},     {"store", op_stats},
    {"snapshot", op_snapshot},
};

static operation find_operation(const char *name) {
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        if (!strcmp(operations[i].name, name)) {
            return operations[i].run;
        }
    }
    return NULL;
}

static void run(spi_call *call, const char *op, const cJSON *head, const void *body, size_t body_bytes) {
    sp_error error = {0};
    operation found = find_operation(op);
    if (!strcmp(op, "send")) {
        op_send(call, head, body, body_bytes);
    } else if (!strcmp(op, "wait")) {
        op_wait(call, head);
    } else if (!found) {
        answer_end(call, NULL, SP_UNSUPPORTED, "there is no such request: is the other program older?");
    } else {
        spi_list_append(&call->server->calls, &call->node); /* to hear what is noticed meanwhile */
        sp_status status = found(call, head, body, body_bytes, &error);
        answer_end(call, NULL, status, error.message);
    }
}

void spi_server_request(spi_server *server, const cJSON *head, const void *body, size_t body_bytes, spi_answer answer,
                        void *env, spi_call **out) {
    const char *name = spi_head_text(head, "name", "");
    uint32_t waiting = server->calls.count;
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
        answer_end(call, NULL, SP_NOT_FOUND, "no actor has so long a name");
        return;
    }
    run(call, spi_head_text(head, "op", ""), head, body, body_bytes);
    if (server->calls.count > waiting) {
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
