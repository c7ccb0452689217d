/* actor/carry.c - an actor into one file, and out of one. The file is a snapshot with everything inside, whose extra
 * bytes are the manifest. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actor/house.h"
#include "actor/manifest.h"
#include "base/error.h"
#include "base/memory.h"
#include "os/clock.h"

/* ---- out ---- */

/* What no file carries need not be in memory: spi_manifest_write refuses it. */
static sp_status collect_mail(sp_actors *actors, spi_manifest *manifest, sp_error *error) {
    uint64_t after = 0, id = manifest->record.id;
    size_t bytes = 0;
    bool found = true;
    sp_status status = SP_OK;
    while (!status && found && bytes <= SPI_MANIFEST_BYTES_MAX && manifest->mail_count <= SPI_MANIFEST_MAIL_MAX) {
        sp_letter letter;
        status = spi_keeper_log(actors->keeper, id, after, 0, &letter, &found, error);
        after = letter.id;
        if (status || !found || letter.status != SP_LETTER_QUEUED) {
            continue;
        }
        if (!SPI_RESERVE(manifest->mail, manifest->mail_count, manifest->mail_capacity)) {
            return spi_fail(error, SP_NO_MEMORY, "no memory for an actor's mail");
        }
        spi_mail *mail = &manifest->mail[manifest->mail_count];
        *mail = (spi_mail){.reply_to = letter.reply_to,
                           .sent_ms = letter.sent_ms,
                           .kind = letter.kind,
                           .failures = letter.failures,
                           .text = spi_copy_string(letter.text, letter.text_bytes),
                           .text_bytes = letter.text_bytes};
        memcpy(mail->sender_name, letter.sender, sizeof mail->sender_name);
        manifest->mail_count += mail->text != NULL;
        bytes += letter.text_bytes;
        status = mail->text ? SP_OK : spi_fail(error, SP_NO_MEMORY, "no memory for an actor's mail");
    }
    return status;
}

static sp_status collect_timers(sp_actors *actors, spi_manifest *manifest, sp_error *error) {
    bool found = true;
    sp_status status = SP_OK;
    for (uint32_t i = 0; !status && found && i <= SPI_MANIFEST_TIMERS_MAX; i++) {
        if (!SPI_RESERVE(manifest->timers, manifest->timer_count, manifest->timer_capacity)) {
            return spi_fail(error, SP_NO_MEMORY, "no memory for an actor's timers");
        }
        spi_manifest_timer *timer = &manifest->timers[manifest->timer_count];
        status = spi_keeper_get_timer(actors->keeper, manifest->record.id, i, &timer->note, &timer->note_bytes,
                                      &timer->due_ms, &found, error);
        manifest->timer_count += !status && found;
    }
    return status;
}

static sp_status write_file(sp_actors *actors, sp_guest *guest, const spi_manifest *manifest, const char *path,
                            sp_error *error) {
    void *extra;
    size_t extra_bytes;
    sp_snapshot *snapshot = NULL;
    sp_status status = spi_manifest_write(manifest, &extra, &extra_bytes, error);
    if (status) {
        return status;
    }
    sp_capture_options options = {.store = actors->store, .inside = true, .extra = extra, .extra_bytes = extra_bytes};
    sp_write_options write = {.sync = !actors->without_sync, .key = actors->has_key ? actors->key : NULL};
    status = sp_guest_capture(guest, &options, &snapshot, error);
    status = status ? status : sp_snapshot_write(snapshot, path, &write, error);
    sp_snapshot_close(snapshot);
    spi_free(extra);
    return status;
}

sp_status sp_actor_export(sp_actors *actors, const char *name, const char *path, sp_error *error) {
    spi_manifest manifest = {0};
    spi_resident *resident = NULL;
    sp_status status = spi_keeper_find(actors->keeper, name, &manifest.record, error);
    status = status ? status : spi_wake(actors, manifest.record.id, &resident, error);
    if (!status && resident->is_busy) {
        status = spi_fail(error, SP_BUSY, "%s is handling a message: export it afterwards", name);
    }
    status = status ? status : collect_mail(actors, &manifest, error);
    status = status ? status : collect_timers(actors, &manifest, error);
    status = status ? status : write_file(actors, resident->guest, &manifest, path, error);
    spi_manifest_free(&manifest);
    return status;
}

/* ---- in ---- */

/* The file's wishes, with what the command changes of them. Models are taken by name from the changes, where they are
 * there, else from the paths of the file. */
static sp_status make_record(sp_actors *actors, const char *name, const spi_manifest *manifest,
                             const sp_actor_spec *changes, spi_record *record, sp_error *error) {
    static const sp_actor_spec none;
    const spi_record *from = &manifest->record;
    sp_actor_model models[SPI_MODELS_MAX];
    changes = changes ? changes : &none;
    for (uint32_t i = 0; i < from->model_count; i++) {
        models[i] = (sp_actor_model){.name = from->models[i].name, .path = from->models[i].path};
        for (uint32_t k = 0; k < changes->model_count; k++) {
            if (!strcmp(changes->models[k].name, from->models[i].name) ||
                (from->model_count == 1 && changes->model_count == 1)) {
                models[i].path = changes->models[k].path;
            }
        }
    }
    sp_actor_spec spec = {
        .models = models,
        .model_count = from->model_count,
        .device = changes->device ? changes->device : from->device,
        .memory_bytes_max = from->memory_bytes_max,
        .deadline_ms = changes->deadline_ms ? changes->deadline_ms : from->deadline_ms,
        .failures_max = changes->failures_max ? changes->failures_max : from->failures_max,
        .kv_type = changes->kv_type ? changes->kv_type : from->kv_type,
        .recompute = changes->recompute,
    };
    sp_status status = spi_manage_make_record(actors, name, &spec, record, error);
    if (status) {
        return status;
    }
    snprintf(record->origin, sizeof record->origin, "import");
    spi_free(record->environment);
    record->environment = spi_copy_string(from->environment, from->environment_bytes);
    record->environment_bytes = from->environment_bytes;
    if (!record->environment) {
        spi_record_free(record);
        return spi_fail(error, SP_NO_MEMORY, "no memory for an actor");
    }
    return SP_OK;
}

/* Wakes it once, and captures it as this folder keeps states: by reference to its store. */
static sp_status try_state(spi_resident *resident, const sp_snapshot *snapshot, sp_snapshot **kept, sp_error *error) {
    sp_capture_options options = {.store = resident->actors->store, .without_module = true};
    sp_actor_woken woken = {0};
    sp_snapshot_info info;
    int64_t begun_ns = spi_clock_ns();
    sp_status status = spi_wake_from(resident, snapshot, &woken.restore, error);
    status = status ? status : sp_guest_capture(resident->guest, &options, kept, error);
    if (!status) {
        sp_snapshot_get_info(snapshot, &info);
        woken.bytes = info.byte_count;
        woken.ns = (uint64_t)(spi_clock_ns() - begun_ns);
        sp_actor_event event = {
            .kind = SP_ACTOR_EVENT_WOKEN, .actor = resident->record.name, .text = "", .woken = &woken};
        spi_actors_tell(resident->actors, &event);
    }
    return status;
}

static sp_status add_mail(sp_actors *actors, const spi_manifest *manifest, uint64_t actor, sp_error *error) {
    sp_status status = SP_OK;
    uint64_t existing;
    for (size_t i = 0; i < manifest->mail_count && !status; i++) {
        spi_mail mail = manifest->mail[i];
        mail.id = spi_keeper_next_id(actors->keeper);
        mail.kind = mail.kind == 1 ? 0 : mail.kind; /* who sent it is somewhere else: there is nobody to reply to */
        status = spi_keeper_post(actors->keeper, actor, &mail, NULL, &existing, error);
    }
    for (size_t i = 0; i < manifest->timer_count && !status; i++) {
        const spi_manifest_timer *timer = &manifest->timers[i];
        status = spi_keeper_set_timer(actors->keeper, actor, timer->note, timer->note_bytes, timer->due_ms, error);
    }
    return status;
}

/* Everything in one transaction; the record's id is set by it. */
static sp_status write_actor(sp_actors *actors, spi_record *record, const spi_manifest *manifest,
                             const sp_snapshot *kept, sp_error *error) {
    size_t count;
    sp_snapshot_info info;
    spi_state state = {.kind = SPI_STATE_FULL};
    const void *bytes = sp_snapshot_bytes(kept, &count);
    sp_snapshot_get_info(kept, &info);
    memcpy(state.name, info.id, sizeof state.name);
    sp_status status = SP_OK;
    if (info.byte_count > SPI_ROW_BYTES_MAX) { /* a file that stays behind if this fails is swept at the next opening */
        status = spi_fold_write_file(actors, kept, &state, error);
        count = 0;
    }
    status = status ? status : spi_keeper_put_state(actors->keeper, &state, bytes, count, error);
    status = status ? status : spi_keeper_add(actors->keeper, record, error);
    status = status ? status : spi_keeper_move(actors->keeper, record->id, 0, state.id, 0, error);
    return status ? status : add_mail(actors, manifest, record->id, error);
}

/* The resident is there to see that the state can be woken; who sends to it wakes it anew. */
static sp_status import(sp_actors *actors, spi_record *record, const spi_manifest *manifest,
                        const sp_snapshot *snapshot, spi_module *module, sp_error *error) {
    spi_resident *resident;
    spi_record trial = *record;
    sp_snapshot *kept = NULL;
    sp_status status = spi_resident_create(actors, &trial, &resident, error);
    if (status) {
        return status;
    }
    resident->module = module;
    module->users++;
    status = try_state(resident, snapshot, &kept, error);
    record->recompute = false; /* the state that is kept is of the model that it has now */
    status = status ? status : write_actor(actors, record, manifest, kept, error);
    sp_snapshot_close(kept);
    resident->record = (spi_record){0}; /* the caller's */
    spi_resident_destroy(resident);
    return status;
}

sp_status sp_actor_import(sp_actors *actors, const char *name, const char *path, const sp_actor_spec *changes,
                          sp_error *error) {
    sp_snapshot *snapshot = NULL;
    spi_manifest manifest = {0};
    spi_record record = {0};
    spi_module *module;
    sp_snapshot_info info = {0};
    size_t wasm_bytes = 0, extra_bytes = 0;
    sp_status status = sp_snapshot_open(path, actors->has_key ? actors->key : NULL, &snapshot, error);
    if (!status) {
        const void *extra = sp_snapshot_extra(snapshot, &extra_bytes);
        sp_snapshot_get_info(snapshot, &info);
        status = spi_manifest_read(extra, extra_bytes, &manifest, error);
    }
    const void *wasm = status ? NULL : sp_snapshot_module(snapshot, &wasm_bytes);
    if (!status && !wasm) {
        status = spi_fail(error, SP_BAD_FILE, "the file has no module in it: 'samepage actor export' writes one");
    }
    status = status ? status : make_record(actors, name, &manifest, changes, &record, error);
    status = status ? status : spi_keeper_begin(actors->keeper, false, error);
    if (!status) {
        status = spi_supplies_add_module(actors, info.module_name, wasm, wasm_bytes, &module, error);
        record.module = status ? 0 : module->id;
        status = status ? status : import(actors, &record, &manifest, snapshot, module, error);
        if (status) {
            spi_keeper_undo(actors->keeper);
        } else {
            status = spi_keeper_end(actors->keeper, error);
        }
        if (status) { /* as in sp_actor_create */
            spi_supplies_forget_module(actors, wasm, wasm_bytes);
        }
    }
    if (!status) {
        (void)spi_actors_make_ready(actors, record.id);
        (void)spi_keeper_next_due(actors->keeper, &actors->next_due_ms, NULL);
    } else if (snapshot) {
        spi_fail_within(error, "%s", path);
    }
    spi_record_free(&record);
    spi_manifest_free(&manifest);
    sp_snapshot_close(snapshot);
    return status;
}
