/* actor/manage.c - making, forking and removing actors, and sending to them from outside. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actor/house.h"
#include "actor/manifest.h"
#include "base/error.h"
#include "base/memory.h"
#include "device/backend.h"

#define DEADLINE_MS_DEFAULT  300000u
#define FAILURES_MAX_DEFAULT 3u
#define KEY_BYTES_MAX        255u

uint32_t spi_queue_max = SPI_MANIFEST_MAIL_MAX;

sp_status spi_manage_check_name(const char *name, sp_error *error) {
    static const char first[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    static const char all[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.-_";
    size_t length = strlen(name);
    if (!length || length > SP_ACTOR_NAME_BYTES_MAX || !strchr(first, *name) || strspn(name, all) != length) {
        return spi_fail(error, SP_INVALID,
                        "'%.80s' is no name for an actor: 1 to %d letters, digits, '.', '-' and '_', a letter or digit "
                        "first",
                        name, SP_ACTOR_NAME_BYTES_MAX);
    }
    return SP_OK;
}

/* ---- records ---- */

static sp_status copy_environment(const sp_actor_spec *spec, spi_record *record, sp_error *error) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < spec->environment_count; i++) {
        bytes += strlen(spec->environment[i]) + 1;
    }
    record->environment = spi_alloc(bytes, 1);
    if (!record->environment) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for an actor");
    }
    for (uint32_t i = 0; i < spec->environment_count; i++) {
        size_t length = strlen(spec->environment[i]) + 1;
        memcpy(record->environment + record->environment_bytes, spec->environment[i], length);
        record->environment_bytes += length;
    }
    return SP_OK;
}

static sp_status copy_model(const sp_actor_model *from, spi_record *record, sp_error *error) {
    char path[PATH_MAX];
    sp_model *model;
    if (record->model_count == SPI_MODELS_MAX) {
        return spi_fail(error, SP_LIMIT, "an actor has at most %d models", SPI_MODELS_MAX);
    }
    for (uint32_t i = 0; i < record->model_count; i++) {
        if (!strcmp(record->models[i].name, from->name)) {
            return spi_fail(error, SP_INVALID, "two models are called %.80s: give one another name (NAME=FILE)",
                            from->name);
        }
    }
    sp_status status = sp_model_open(from->path, &model, error);
    if (status) {
        return status;
    }
    sp_model_close(model);
    if (!realpath(from->path, path)) {
        return spi_fail(error, SP_NOT_FOUND, "cannot open %s: %s", from->path, strerror(errno));
    }
    uint32_t i = record->model_count++;
    record->models[i].name = spi_copy_string(from->name, strlen(from->name));
    record->models[i].path = spi_copy_string(path, strlen(path));
    return record->models[i].name && record->models[i].path ? SP_OK
                                                            : spi_fail(error, SP_NO_MEMORY, "no memory for an actor");
}

sp_status spi_manage_make_record(sp_actors *actors, const char *name, const sp_actor_spec *spec, spi_record *record,
                                 sp_error *error) {
    const char *device_name = spec->device ? spec->device : "auto";
    sp_device *device;
    *record = (spi_record){
        .created_ms = spi_actors_now_ms(),
        .memory_bytes_max = spec->memory_bytes_max,
        .deadline_ms = spec->deadline_ms ? spec->deadline_ms : DEADLINE_MS_DEFAULT,
        .failures_max = spec->failures_max ? spec->failures_max : FAILURES_MAX_DEFAULT,
        .kv_type = spec->kv_type,
        .recompute = spec->recompute,
    };
    sp_status status = spi_manage_check_name(name, error);
    if (status) {
        return status;
    }
    memcpy(record->name, name, strlen(name));
    status = spi_supplies_device(actors, device_name, &device, error);
    if (!status && !(record->device = spi_copy_string(device_name, strlen(device_name)))) {
        status = spi_fail(error, SP_NO_MEMORY, "no memory for an actor");
    }
    status = status ? status : copy_environment(spec, record, error);
    for (uint32_t i = 0; i < spec->model_count && !status; i++) {
        status = copy_model(&spec->models[i], record, error);
    }
    if (!status && !device && record->model_count) {
        status = spi_fail(error, SP_NO_DEVICE, "a model needs a device to run on: leave the device none out");
    }
    status = status || !device ? status : spi_device_check_kv(device, spec->kv_type, error);
    if (status) {
        spi_record_free(record);
    }
    return status;
}

/* ---- create ---- */

/* The module exports what an actor must, and can be given what is wanted: asked of an instance that runs nothing. */
static sp_status check_module(spi_module *module, const sp_actor_spec *spec, sp_error *error) {
    sp_guest *guest;
    sp_guest_options options = {.memory_bytes_max = spec->memory_bytes_max,
                                .environment = spec->environment,
                                .environment_count = spec->environment_count};
    sp_status status = sp_guest_create(module->module, &options, &guest, error);
    if (status) {
        return status;
    }
    status = sp_guest_start(guest, "actor_receive", NULL, 0, error);
    sp_guest_destroy(guest);
    return status ? spi_fail_within(error, "%s is no actor (docs/actors.md)", module->name) : SP_OK;
}

sp_status sp_actor_create(sp_actors *actors, const char *name, const sp_actor_spec *spec, sp_error *error) {
    spi_record record;
    spi_module *module;
    uint64_t existing = 0;
    sp_status status = spi_manage_make_record(actors, name, spec, &record, error);
    if (status) {
        return status;
    }
    status = spi_keeper_find_id(actors->keeper, name, &existing, error);
    if (!status && existing) {
        status = spi_fail(error, SP_BUSY, "there is an actor %s already: take another name, or remove it first", name);
    }
    status = status ? status : spi_keeper_begin(actors->keeper, false, error);
    if (!status) {
        status = spi_supplies_add_module(actors, spec->module_name ? spec->module_name : name, spec->wasm,
                                         spec->wasm_bytes, &module, error);
        status = status ? status : check_module(module, spec, error);
        record.module = status ? 0 : module->id;
        status = status ? status : spi_keeper_add(actors->keeper, &record, error);
        if (status) {
            spi_keeper_undo(actors->keeper);
        } else {
            status = spi_keeper_end(actors->keeper, error);
        }
        if (status) { /* the row that it is in may not be there, and its number another module's next */
            spi_supplies_forget_module(actors, spec->wasm, spec->wasm_bytes);
        }
    }
    spi_record_free(&record);
    return status;
}

/* ---- send ---- */

sp_status sp_actor_send(sp_actors *actors, const char *name, const char *text, uint32_t text_bytes, const char *key,
                        uint64_t *id, sp_error *error) {
    uint64_t actor = 0, queued = 0, existing = 0;
    *id = 0;
    if (text_bytes > SP_ACTOR_TEXT_BYTES_MAX || (key && strlen(key) > KEY_BYTES_MAX)) {
        return spi_fail(error, SP_LIMIT, "a message has at most %u bytes, and a key %u", SP_ACTOR_TEXT_BYTES_MAX,
                        KEY_BYTES_MAX);
    }
    sp_status status = spi_keeper_find_id(actors->keeper, name, &actor, error);
    if (!status && !actor) {
        return spi_fail(error, SP_NOT_FOUND,
                        "there is no actor %.64s: 'samepage actor list' shows those that there are", name);
    }
    status = status ? status : spi_keeper_count(actors->keeper, actor, SPI_COUNT_QUEUED, &queued, error);
    if (!status && queued >= spi_queue_max) {
        return spi_fail(error, SP_LIMIT, "%u messages wait for %s already: send later", spi_queue_max, name);
    }
    spi_mail mail = {.id = spi_keeper_next_id(actors->keeper),
                     .sent_ms = spi_actors_now_ms(),
                     .text = (char *)(uintptr_t)text,
                     .text_bytes = text_bytes};
    if (!status && (status = spi_actors_make_ready(actors, actor))) { /* sooner than needed does no harm */
        return spi_fail(error, status, "no memory for a message to %s", name);
    }
    status = status ? status : spi_keeper_post(actors->keeper, actor, &mail, key, &existing, error);
    if (!status) {
        *id = existing ? existing : mail.id;
        spi_actors_unhold(actors, actor);
    }
    return status;
}

/* ---- fork, remove ---- */

sp_status sp_actor_fork(sp_actors *actors, const char *name, const char *fork, sp_error *error) {
    spi_record record;
    sp_status status = spi_manage_check_name(fork, error);
    status = status ? status : spi_keeper_find(actors->keeper, name, &record, error);
    if (status) {
        return status;
    }
    record.id = record.commits = 0;
    record.created_ms = spi_actors_now_ms();
    memset(record.name, 0, sizeof record.name);
    memcpy(record.name, fork, strlen(fork));
    snprintf(record.origin, sizeof record.origin, "fork of %s", name);
    status = spi_keeper_add(actors->keeper, &record, error);
    spi_record_free(&record);
    return status;
}

/* Every actor whose message still waits hears that nobody will read it. */
static sp_status return_mail(sp_actors *actors, const spi_record *record, sp_error *error) {
    static const char reason[] = "the actor was removed";
    bool found = true;
    sp_status status = SP_OK;
    while (found && !status) {
        spi_mail mail;
        status = spi_keeper_next_mail(actors->keeper, record->id, &mail, &found, error);
        if (!status && found) {
            status = spi_keeper_end_mail(actors->keeper, mail.id, true, spi_actors_now_ms(), "", 0, reason, error);
            if (!status && mail.sender != record->id) {
                status = spi_turn_tell_sender(actors, &mail, record->name, reason, error);
            }
        }
        spi_mail_free(&mail);
    }
    return status;
}

sp_status sp_actor_remove(sp_actors *actors, const char *name, sp_error *error) {
    spi_record record;
    spi_state base = {0};
    sp_status status = spi_keeper_find(actors->keeper, name, &record, error);
    if (status) {
        return status;
    }
    status = spi_fold_find_file(actors, record.state, &base, error);
    if (status == SP_BAD_FILE) {
        status = SP_OK; /* what is damaged can still be removed */
    }
    status = status ? status : spi_keeper_begin(actors->keeper, false, error);
    if (!status) {
        status = return_mail(actors, &record, error);
        status = status ? status : spi_keeper_remove(actors->keeper, &record, error);
        if (status) {
            spi_keeper_undo(actors->keeper);
        } else {
            status = spi_keeper_end(actors->keeper, error);
        }
    }
    if (!status) {
        spi_resident *resident = spi_resident_find(actors, record.id);
        if (resident) {
            resident->is_removed = true;
            spi_resident_destroy(resident);
        }
        spi_actors_unhold(actors, record.id);
        spi_fold_drop_file(actors, &base);
        spi_actors_tell_text(actors, SP_ACTOR_EVENT_HELD, name, 0, "the actor was removed");
        (void)spi_keeper_next_due(actors->keeper, &actors->next_due_ms, NULL);
    }
    spi_record_free(&record);
    return status;
}
