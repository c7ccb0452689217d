/* actor/wake.c - from a state that is kept to a guest that can be called. */
#include <string.h>

#include "actor/folder.h"
#include "actor/house.h"
#include "base/error.h"
#include "base/memory.h"
#include "os/clock.h"
#include "snapshot/series.h"

#define CHAIN_MAX 4096u

/* ---- a chain as one snapshot ---- */

typedef struct chain {
    sp_snapshot *deltas[CHAIN_MAX]; /* the latest first */
    uint32_t count;
    sp_snapshot *base;
    uint64_t bytes;
} chain;

static sp_status open_state(sp_actors *actors, const spi_record *record, uint64_t id, spi_state *state,
                            sp_snapshot **snapshot, uint64_t *byte_count, sp_error *error) {
    char path[4096];
    void *bytes = NULL;
    size_t count = 0;
    *snapshot = NULL;
    sp_status status = spi_keeper_get_bytes(actors->keeper, id, state, &bytes, &count, error);
    if (!status && state->kind == SPI_STATE_FILE) {
        status = spi_folder_state_path(actors->folder, state->name, path, sizeof path, error);
        status = status ? status : sp_snapshot_open(path, actors->has_key ? actors->key : NULL, snapshot, error);
        sp_snapshot_info info = {0};
        if (!status) {
            sp_snapshot_get_info(*snapshot, &info);
            count = info.byte_count;
        }
    } else if (!status && state->kind == SPI_STATE_DELTA) { /* taken over: it is read once, and not mapped */
        status = spi_snapshot_open_taken(bytes, count, record->name, snapshot, error);
        bytes = NULL;
    } else if (!status) {
        status = sp_snapshot_open_bytes(bytes, count, record->name, snapshot, error);
    }
    spi_free(bytes);
    *byte_count += count;
    return status;
}

/* What a file or row says about itself must be what the database says of it: nobody put another in its place. */
static sp_status check_identity(const spi_record *record, const spi_state *state, const sp_snapshot *snapshot,
                                sp_error *error) {
    sp_snapshot_info info;
    sp_snapshot_get_info(snapshot, &info);
    bool is_delta = state->kind == SPI_STATE_DELTA;
    if (memcmp(info.id, state->name, sizeof info.id) != 0 || info.is_delta != is_delta) {
        return spi_fail(error, SP_BAD_FILE, "state %llu of %s is not the one that was committed",
                        (unsigned long long)state->id, record->name);
    }
    return SP_OK;
}

static sp_status collect(sp_actors *actors, const spi_record *record, chain *all, sp_error *error) {
    uint64_t id = record->state;
    sp_status status = SP_OK;
    while (!status && !all->base) {
        spi_state state;
        sp_snapshot *snapshot;
        status = open_state(actors, record, id, &state, &snapshot, &all->bytes, error);
        status = status ? status : check_identity(record, &state, snapshot, error);
        if (!status && state.kind == SPI_STATE_DELTA && all->count == CHAIN_MAX) {
            status = spi_fail(error, SP_BAD_FILE, "the states of %s form a chain that does not end", record->name);
        }
        if (status) {
            sp_snapshot_close(snapshot);
        } else if (state.kind == SPI_STATE_DELTA) {
            all->deltas[all->count++] = snapshot;
            id = state.parent;
        } else {
            all->base = snapshot;
        }
    }
    return status;
}

sp_status spi_wake_snapshot(sp_actors *actors, const spi_record *record, sp_snapshot **snapshot, uint32_t *deltas,
                            uint64_t *bytes, sp_error *error) {
    *snapshot = NULL;
    chain *all = spi_alloc(1, sizeof *all);
    if (!all) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to wake %s", record->name);
    }
    sp_status status = collect(actors, record, all, error);
    if (deltas) {
        *deltas = all->count;
    }
    if (bytes) {
        *bytes = all->bytes;
    }
    if (!status && all->count) {
        sp_snapshot *result = NULL;
        status = spi_snapshot_apply_all(all->base, all->deltas, all->count, &result, error);
        if (!status) {
            sp_snapshot_close(all->base);
            all->base = result;
        }
    }
    while (all->count) {
        sp_snapshot_close(all->deltas[--all->count]);
    }
    if (status) {
        sp_snapshot_close(all->base);
        spi_fail_within(error, "%s cannot wake", record->name);
    } else {
        *snapshot = all->base;
    }
    spi_free(all);
    return status;
}

/* ---- a guest ---- */

/* What the guest is given. The arrays are good while `given` is. */
typedef struct given {
    const char *arguments[1];
    const char **environment;
    sp_guest_model models[SPI_MODELS_MAX];
    sp_guest_options options;
} given;

static sp_status list_environment(const spi_record *record, given *g, sp_error *error) {
    uint32_t count = 0;
    size_t bytes = record->environment_bytes;
    if (bytes && record->environment[bytes - 1]) {
        return spi_fail(error, SP_BAD_FILE, "the environment of %s is damaged in the database", record->name);
    }
    for (size_t i = 0; i < bytes; i++) {
        count += record->environment[i] == 0;
    }
    g->environment = spi_alloc(count, sizeof *g->environment);
    if (!g->environment) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to wake %s", record->name);
    }
    const char *at = record->environment;
    for (uint32_t i = 0; i < count; i++, at += strlen(at) + 1) {
        g->environment[i] = at;
    }
    g->options.environment = g->environment;
    g->options.environment_count = count;
    return SP_OK;
}

static sp_status give(spi_resident *resident, given *g, sp_error *error) {
    sp_actors *actors = resident->actors;
    const spi_record *record = &resident->record;
    sp_device *device;
    *g = (given){.arguments = {resident->module->name}};
    sp_status status = spi_supplies_device(actors, record->device, &device, error);
    if (!status && !device && record->model_count) {
        status = spi_fail(error, SP_NO_DEVICE, "%s has a model and no device to run it on", record->name);
    }
    for (uint32_t i = 0; i < record->model_count && !status; i++) {
        g->models[i].name = record->models[i].name;
        status = spi_supplies_model(actors, record->models[i].path, device, &g->models[i].model, error);
    }
    g->options = (sp_guest_options){
        .arguments = g->arguments,
        .argument_count = 1,
        .out = spi_resident_output,
        .err = spi_resident_output,
        .output_env = resident,
        .device = device,
        .kv_type = record->kv_type,
        .models = g->models,
        .model_count = record->model_count,
        .mail = &spi_post,
        .mail_env = resident,
        .memory_bytes_max = record->memory_bytes_max,
        .deadline_ms = record->deadline_ms,
    };
    return status ? status : list_environment(record, g, error);
}

static sp_status make_fresh(spi_resident *resident, sp_error *error) {
    given g;
    sp_status status = give(resident, &g, error);
    status = status ? status : sp_guest_create(resident->module->module, &g.options, &resident->guest, error);
    if (!status && resident->actors->store) {
        status = sp_store_attach_guest(resident->actors->store, resident->guest, error);
    }
    spi_free(g.environment);
    return status;
}

sp_status spi_wake_from(spi_resident *resident, const sp_snapshot *snapshot, sp_restore_report *report,
                        sp_error *error) {
    sp_actors *actors = resident->actors;
    given g;
    sp_restore_options options = {
        .store = actors->store,
        .recompute = resident->record.recompute,
        .notice = spi_actors_notice,
        .notice_env = actors,
        .report = report,
    };
    sp_status status = give(resident, &g, error);
    status = status
                 ? status
                 : sp_guest_restore(snapshot, resident->module->module, &g.options, &options, &resident->guest, error);
    status = status ? status : sp_tracker_create(resident->guest, snapshot, NULL, &resident->tracker, error);
    spi_free(g.environment);
    return status;
}

static sp_status restore(spi_resident *resident, sp_actor_woken *woken, sp_error *error) {
    sp_snapshot *snapshot;
    sp_status status = spi_keeper_get_state(resident->actors->keeper, resident->record.state, &resident->state, error);
    status = status ? status
                    : spi_wake_snapshot(resident->actors, &resident->record, &snapshot, &woken->deltas, &woken->bytes,
                                        error);
    if (status) {
        return status;
    }
    status = spi_wake_from(resident, snapshot, &woken->restore, error);
    sp_snapshot_close(snapshot);
    return status;
}

/* Opens what it needs and others may share, so that the time to wake is its own. Failures are told by what comes
 * next. */
static void warm(sp_actors *actors, const spi_record *record) {
    sp_device *device;
    sp_model *model;
    spi_module *module;
    (void)spi_supplies_module(actors, record->module, &module, NULL);
    if (!spi_supplies_device(actors, record->device, &device, NULL) && device) {
        for (uint32_t i = 0; i < record->model_count; i++) {
            (void)spi_supplies_model(actors, record->models[i].path, device, &model, NULL);
        }
    }
}

sp_status spi_wake(sp_actors *actors, uint64_t actor, spi_resident **out, sp_error *error) {
    spi_record record;
    sp_actor_woken woken = {0};
    *out = spi_resident_find(actors, actor);
    if (*out) {
        return SP_OK;
    }
    sp_status status = spi_keeper_get(actors->keeper, actor, &record, error);
    if (status) {
        return status;
    }
    warm(actors, &record);
    int64_t begun_ns = spi_clock_ns();
    spi_resident *resident;
    status = spi_resident_create(actors, &record, &resident, error);
    if (status) {
        spi_record_free(&record);
        return status;
    }
    status = spi_supplies_module(actors, record.module, &resident->module, error);
    if (!status) {
        resident->module->users++;
        woken.is_fresh = !record.state;
        status = woken.is_fresh ? make_fresh(resident, error) : restore(resident, &woken, error);
    }
    if (status) {
        spi_resident_destroy(resident);
        return status;
    }
    spi_resident_use(resident);
    woken.ns = (uint64_t)(spi_clock_ns() - begun_ns);
    sp_actor_event event = {.kind = SP_ACTOR_EVENT_WOKEN, .actor = record.name, .text = "", .woken = &woken};
    spi_actors_tell(actors, &event);
    *out = resident;
    return SP_OK;
}
