/* apps/actor.c - see actor.h. */
#include "apps/actor.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "os/file.h"

#define KEY_FILE_BYTES_MAX 1024

/* ---- the folder and its key ---- */

static int digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* 32 bytes as they are, or 64 hexadecimal digits and a line end. */
static bool parse_key(const char *text, size_t bytes, uint8_t key[SP_STORE_KEY_BYTES]) {
    if (bytes == SP_STORE_KEY_BYTES) {
        memcpy(key, text, bytes);
        return true;
    }
    bytes -= bytes && text[bytes - 1] == '\n';
    bytes -= bytes && text[bytes - 1] == '\r';
    if (bytes != 2 * SP_STORE_KEY_BYTES) {
        return false;
    }
    for (size_t i = 0; i < SP_STORE_KEY_BYTES; i++) {
        int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        key[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

sp_status spi_actor_read_key(const char *path, uint8_t bytes[SP_STORE_KEY_BYTES], const uint8_t **key,
                             sp_error *error) {
    const char *named = path ? path : getenv("SAMEPAGE_KEY_FILE");
    void *data = NULL;
    size_t count = 0;
    *key = NULL;
    if (!named || !*named) {
        return SP_OK;
    }
    sp_status status = spi_file_read(named, KEY_FILE_BYTES_MAX, &data, &count, error);
    if (status) {
        return spi_fail_within(error, "the key");
    }
    if (!parse_key(data, count, bytes)) {
        status = spi_fail(error, SP_INVALID, "%s is no key: 32 bytes, or 64 hexadecimal digits", named);
    }
    spi_free(data);
    *key = status ? NULL : bytes;
    return status;
}

sp_status spi_actor_open_file(const char *path, const char *key_path, sp_snapshot **snapshot, sp_error *error) {
    uint8_t bytes[SP_STORE_KEY_BYTES];
    const uint8_t *key;
    *snapshot = NULL;
    sp_status status = spi_actor_read_key(key_path, bytes, &key, error);
    return status ? status : sp_snapshot_open(path, key, snapshot, error);
}

sp_status spi_actor_find(const spi_actor_common *set, bool *is_there, sp_error *error) {
    return sp_actors_exist(set->folder, is_there, error);
}

static sp_status check_folder(const spi_actor_common *set, sp_error *error) {
    bool is_there;
    char path[4096];
    sp_status status = spi_actor_find(set, &is_there, error);
    if (status || is_there || set->may_make) {
        return status;
    }
    const char *folder = set->folder ? set->folder : sp_actors_folder(path, sizeof path, NULL) ? "" : path;
    return spi_fail(error, SP_NOT_FOUND, "there are no actors in %s: 'samepage actor create' makes one", folder);
}

sp_status spi_actor_open(spi_actor_common *set, const sp_actors_options *more, spi_port **port, sp_error *error) {
    spi_port_options options = {.must_hold = set->must_hold};
    *port = NULL;
    sp_status status = check_folder(set, error);
    if (status) {
        return status;
    }
    if (more) {
        options.actors = *more;
    }
    options.actors.folder = set->folder;
    options.actors.thread_count = set->common.threads;
    options.actors.isa = set->common.isa;
    status = spi_actor_read_key(set->key_path, set->key, &options.actors.key, error);
    return status ? status : spi_port_open(&options, port, error);
}

/* ---- asking ---- */

cJSON *spi_actor_request(const char *op, const char *name) {
    cJSON *request = cJSON_CreateObject();
    cJSON_AddStringToObject(request, "op", op);
    if (name) {
        cJSON_AddStringToObject(request, "name", name);
    }
    return request;
}

int spi_actor_complain_of_nothing(void) {
    return spi_complain("the process that holds the actors gave no answer: is it another version of this program?");
}

int spi_actor_ask(spi_actor_common *set, cJSON *request, const void *body, size_t body_bytes, spi_port_event event,
                  void *env) {
    sp_error error = {0};
    spi_port *port;
    sp_status status = spi_actor_open(set, NULL, &port, &error);
    if (!status) {
        status = spi_port_call(port, request, body, body_bytes, false, event, env, NULL, &error);
        spi_port_close(port);
    }
    cJSON_Delete(request);
    return status ? spi_complain_error(&error) : SPI_EXIT_OK;
}

char *spi_actor_absolute(const char *path) {
    char folder[PATH_MAX], whole[PATH_MAX + PATH_MAX];
    if (*path == '/' || !getcwd(folder, sizeof folder)) {
        return spi_copy_string(path, strlen(path));
    }
    int length = snprintf(whole, sizeof whole, "%s/%s", folder, path);
    return spi_copy_string(whole, (size_t)length);
}

static sp_status add_model(cJSON *list, const char *text, sp_error *error) {
    const spi_named_file named = spi_parse_named_file(text);
    char *own = spi_copy_string(named.name, named.name_bytes), *absolute = spi_actor_absolute(named.path);
    cJSON *item = cJSON_CreateObject();
    if (own && absolute) {
        cJSON_AddStringToObject(item, "name", own);
        cJSON_AddStringToObject(item, "path", absolute);
    }
    cJSON_AddItemToArray(list, item);
    sp_status status =
        own && absolute ? SP_OK : spi_fail(error, SP_NO_MEMORY, "not enough memory for the command line");
    spi_free(own);
    spi_free(absolute);
    return status;
}

sp_status spi_actor_add_models(cJSON *request, const spi_list *models, sp_error *error) {
    cJSON *list = cJSON_AddArrayToObject(request, "models");
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < models->count && !status; i++) {
        status = add_model(list, models->items[i], error);
    }
    return status;
}

/* ---- telling ---- */

static double number(const cJSON *head, const char *name) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(head, name);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static void tell_woken(const cJSON *head) {
    char bytes[32], whole[32];
    const char *actor = spi_head_text(head, "actor", "");
    double computed = number(head, "computed_tokens");
    spi_words_bytes((uint64_t)number(head, "bytes"), bytes, sizeof bytes);
    spi_words_us(number(head, "us"), whole, sizeof whole);
    if (spi_head_flag(head, "fresh")) {
        fprintf(stderr, "samepage: %s begins, %s\n", actor, whole);
        return;
    }
    fprintf(stderr,
            "samepage: %s woken in %s from %s (a snapshot and %.0f deltas): %.0f tokens mapped, %.0f copied, %.0f "
            "computed again%s\n",
            actor, whole, bytes, number(head, "deltas"), number(head, "mapped_tokens"), number(head, "copied_tokens"),
            computed, spi_head_flag(head, "logits_restored") ? ", logits restored" : "");
}

static void tell_done(const cJSON *head) {
    char bytes[32], capture[32], written[32];
    spi_words_bytes((uint64_t)number(head, "state_bytes"), bytes, sizeof bytes);
    spi_words_us(number(head, "capture_us"), capture, sizeof capture);
    spi_words_us(number(head, "write_us"), written, sizeof written);
    fprintf(stderr,
            "samepage: commit %.0f of %s: %s of state found in %s, written in %s; %.0f prompt tokens, %.0f generated\n",
            number(head, "commit"), spi_head_text(head, "actor", ""), bytes, capture, written,
            number(head, "prompt_tokens"), number(head, "generated_tokens"));
}

void spi_actor_tell(const spi_common *common, const cJSON *head, const void *body, size_t body_bytes) {
    const char *event = spi_head_text(head, "event", "");
    if (!strcmp(event, "notice")) {
        spi_complain("%.*s", (int)body_bytes, (const char *)body);
    } else if (!strcmp(event, "output")) {
        fwrite(body, 1, body_bytes, stderr);
    } else if (common->verbose && !strcmp(event, "woken")) {
        tell_woken(head);
    } else if (common->verbose && !strcmp(event, "done") && cJSON_HasObjectItem(head, "commit")) {
        tell_done(head);
    }
}
