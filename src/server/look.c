/* server/look.c - what can be asked about actors and their store of blocks. See calls.h. */
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "samepage/version.h"
#include "server/calls.h"

static cJSON *describe(const sp_actor_info *info) {
    cJSON *head = spi_call_head("actor", NULL);
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

sp_status spi_look_list(spi_call *call, const spi_request *request, sp_error *error) {
    (void)request;
    sp_actors *actors = call->server->actors;
    sp_status status;
    while (!(status = sp_actors_next(actors, call->listed, call->listed, error)) && *call->listed) {
        sp_actor_info info;
        if ((status = sp_actor_get_info(actors, call->listed, &info, error))) {
            break;
        }
        spi_call_tell(call, describe(&info), NULL, 0);
        if (call->told_bytes >= SPI_PIECE_BYTES) {
            call->go_on = spi_look_list;
            break;
        }
    }
    return status;
}

sp_status spi_look_show(spi_call *call, const spi_request *request, sp_error *error) {
    (void)request;
    sp_actors *actors = call->server->actors;
    sp_actor_info info;
    sp_actor_model model = {0};
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
    spi_call_tell(call, answer, NULL, 0);
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
    cJSON *head = spi_call_head("letter", NULL);
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
    spi_call_tell(call, head, body, bytes);
    spi_free(body);
    return SP_OK;
}

static sp_status tell_more_letters(spi_call *call, const spi_request *request, sp_error *error);

/* Tells the letters behind call->after: the last ones of them (0: all), as far as a piece goes. */
static sp_status tell_letters(spi_call *call, uint32_t last, sp_error *error) {
    for (;;) {
        sp_letter letter;
        bool found;
        sp_status status = sp_actor_log(call->server->actors, call->actor, call->after, last, &letter, &found, error);
        status = status || !found ? status : tell_letter(call, &letter, error);
        if (status || !found) {
            return status;
        }
        call->after = letter.id;
        last = 0;
        if (call->told_bytes >= SPI_PIECE_BYTES) {
            call->go_on = tell_more_letters;
            return SP_OK;
        }
    }
}

static sp_status tell_more_letters(spi_call *call, const spi_request *request, sp_error *error) {
    (void)request;
    return tell_letters(call, 0, error);
}

static sp_status tell_one_letter(spi_call *call, uint64_t id, sp_error *error) {
    sp_letter letter;
    bool found;
    sp_status status = sp_actor_log(call->server->actors, call->actor, id - 1, 0, &letter, &found, error);
    if (!status && (!found || letter.id != id)) {
        return spi_fail(error, SP_NOT_FOUND, "%s has no message %llu", call->actor, (unsigned long long)id);
    }
    return status ? status : tell_letter(call, &letter, error);
}

sp_status spi_look_log(spi_call *call, const spi_request *request, sp_error *error) {
    uint64_t only = spi_head_number(request->head, "message");
    call->after = spi_head_number(request->head, "after");
    return only ? tell_one_letter(call, only, error) : tell_letters(call, spi_head_count(request->head, "last"), error);
}

sp_status spi_look_store(spi_call *call, const spi_request *request, sp_error *error) {
    sp_store *store = sp_actors_store(call->server->actors);
    const char *what = spi_head_text(request->head, "what", "stats");
    uint64_t count = 0;
    sp_status status = SP_OK;
    if (!store) {
        return spi_fail(error, SP_UNSUPPORTED, "these actors keep no store of blocks");
    }
    if (!strcmp(what, "gc")) {
        status = sp_store_gc(store, spi_head_number(request->head, "bytes_max"), &count, error);
    } else if (!strcmp(what, "verify")) {
        status = sp_store_verify(store, &count, error);
    }
    sp_store_stats stats;
    sp_store_get_stats(store, &stats);
    cJSON *answer = spi_call_head("store", NULL);
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
    spi_call_tell(call, answer, NULL, 0);
    return status;
}

/* The state as a snapshot's bytes. */
sp_status spi_look_snapshot(spi_call *call, const spi_request *request, sp_error *error) {
    (void)request;
    sp_snapshot *snapshot;
    size_t count;
    sp_status status = sp_actor_snapshot(call->server->actors, call->actor, &snapshot, error);
    if (!status && !snapshot) {
        return spi_fail(error, SP_NOT_FOUND, "%s has not handled a message yet: it has no state", call->actor);
    }
    if (!status) {
        const void *bytes = sp_snapshot_bytes(snapshot, &count);
        if (count > SPI_FRAME_BODY_BYTES_MAX) {
            status = spi_fail(error, SP_LIMIT, "the state of %s is too large to be shown: export it", call->actor);
        } else {
            spi_call_tell(call, spi_call_head("snapshot", NULL), bytes, count);
        }
        sp_snapshot_close(snapshot);
    }
    return status;
}

sp_status spi_look_hello(spi_call *call, const spi_request *request, sp_error *error) {
    (void)request;
    (void)error;
    cJSON *answer = spi_call_head("hello", NULL);
    cJSON_AddNumberToObject(answer, "protocol", 1);
    cJSON_AddNumberToObject(answer, "pid", (double)getpid());
    cJSON_AddStringToObject(answer, "version", sp_version());
    spi_call_tell(call, answer, NULL, 0);
    return SP_OK;
}
