/* actor/look.c - what can be asked about actors without changing anything. */
#include <stdio.h>
#include <string.h>

#include "actor/house.h"
#include "base/error.h"
#include "base/memory.h"

sp_status sp_actors_next(sp_actors *actors, const char *name, char next[SP_ACTOR_NAME_BYTES_MAX + 1], sp_error *error) {
    return spi_keeper_next_name(actors->keeper, name, next, error);
}

static sp_status fill_counts(sp_actors *actors, const spi_record *record, sp_actor_info *info, sp_error *error) {
    spi_keeper *keeper = actors->keeper;
    spi_state state;
    spi_module *module;
    sp_status status = spi_keeper_count(keeper, record->id, SPI_COUNT_QUEUED, &info->queued, error);
    status = status ? status : spi_keeper_count(keeper, record->id, SPI_COUNT_DEAD, &info->dead, error);
    status = status ? status : spi_keeper_count(keeper, record->id, SPI_COUNT_TIMERS, &info->timers, error);
    status = status ? status : spi_keeper_count(keeper, record->id, SPI_COUNT_LAST_MS, &info->active_ms, error);
    if (!status && record->state && !spi_keeper_get_state(keeper, record->state, &state, NULL)) {
        info->deltas = state.depth;
        info->delta_bytes = state.chain_bytes;
    }
    if (!status && !spi_supplies_module(actors, record->module, &module, NULL)) {
        snprintf(info->module, sizeof info->module, "%s", module->name);
    }
    return status;
}

sp_status sp_actor_get_info(sp_actors *actors, const char *name, sp_actor_info *info, sp_error *error) {
    spi_record record;
    *info = (sp_actor_info){0};
    sp_status status = spi_keeper_find(actors->keeper, name, &record, error);
    if (status) {
        return status;
    }
    const spi_resident *resident = spi_resident_find(actors, record.id);
    const spi_held *held = spi_actors_find_held(actors, record.id);
    memcpy(info->name, record.name, sizeof info->name);
    memcpy(info->origin, record.origin, sizeof info->origin);
    snprintf(info->device, sizeof info->device, "%s", record.device);
    info->is_resident = resident != NULL;
    info->is_busy = resident && resident->is_busy;
    info->commits = record.commits;
    info->created_ms = record.created_ms;
    info->memory_bytes_max = record.memory_bytes_max;
    info->deadline_ms = record.deadline_ms;
    info->failures_max = record.failures_max;
    info->kv_type = record.kv_type;
    if (held) {
        memcpy(info->held, held->reason, sizeof info->held);
    }
    status = fill_counts(actors, &record, info, error);
    spi_record_free(&record);
    return status;
}

sp_status sp_actor_get_model(sp_actors *actors, const char *name, uint32_t index, sp_actor_model *model,
                             sp_error *error) {
    spi_record record;
    *model = (sp_actor_model){0};
    sp_status status = spi_keeper_find(actors->keeper, name, &record, error);
    if (status) {
        return status;
    }
    if (index < record.model_count) {
        spi_free(actors->look_name);
        spi_free(actors->look_path);
        actors->look_name = record.models[index].name;
        actors->look_path = record.models[index].path;
        record.models[index].name = record.models[index].path = NULL;
        *model = (sp_actor_model){.name = actors->look_name, .path = actors->look_path};
    }
    spi_record_free(&record);
    return SP_OK;
}

sp_status sp_actor_log(sp_actors *actors, const char *name, uint64_t after, uint32_t from_end, sp_letter *letter,
                       bool *found, sp_error *error) {
    uint64_t id = 0;
    *letter = (sp_letter){0};
    *found = false;
    sp_status status = spi_keeper_find_id(actors->keeper, name, &id, error);
    if (!status && !id) {
        return spi_fail(error, SP_NOT_FOUND,
                        "there is no actor %.64s: 'samepage actor list' shows those that there are", name);
    }
    return status ? status : spi_keeper_log(actors->keeper, id, after, from_end, letter, found, error);
}

sp_status sp_actor_snapshot(sp_actors *actors, const char *name, sp_snapshot **snapshot, sp_error *error) {
    spi_record record;
    *snapshot = NULL;
    sp_status status = spi_keeper_find(actors->keeper, name, &record, error);
    if (!status && record.state) {
        status = spi_wake_snapshot(actors, &record, snapshot, NULL, NULL, error);
    }
    spi_record_free(&record);
    return status;
}
