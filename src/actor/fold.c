/* actor/fold.c - when the deltas of an actor have become many, they are folded into one snapshot, a file in the folder.
 *
 * The file is written and synced first and named by the state in it; then a transaction puts the actor into it. A crash
 * in between leaves a file that nobody needs, which the next opening removes. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "actor/folder.h"
#include "actor/house.h"
#include "base/error.h"
#include "base/memory.h"

#define DEPTH_MAX       64u
#define DEPTH_MAX_SLEEP 8u
#define CHAIN_BYTES_MAX ((uint64_t)16 << 20)

bool spi_fold_is_due(const spi_resident *resident, bool goes_to_sleep) {
    if (resident->is_busy || !resident->tracker || !resident->state.depth) {
        return false;
    }
    return resident->state.depth >= (goes_to_sleep ? DEPTH_MAX_SLEEP : DEPTH_MAX) ||
           resident->state.chain_bytes >= CHAIN_BYTES_MAX;
}

sp_status spi_fold_find_file(sp_actors *actors, uint64_t state_id, spi_state *base, sp_error *error) {
    sp_status status = SP_OK;
    *base = (spi_state){0};
    while (state_id && !status) {
        status = spi_keeper_get_state(actors->keeper, state_id, base, error);
        state_id = status ? 0 : base->parent;
    }
    return status;
}

void spi_fold_drop_file(sp_actors *actors, const spi_state *base) {
    char path[4096];
    bool is_kept;
    if (base->kind == SPI_STATE_FILE && !spi_keeper_wants_file(actors->keeper, base->name, &is_kept, NULL) &&
        !is_kept && !spi_folder_state_path(actors->folder, base->name, path, sizeof path, NULL)) {
        (void)unlink(path);
    }
}

sp_status spi_fold_write_file(sp_actors *actors, const sp_snapshot *snapshot, spi_state *state, sp_error *error) {
    char path[4096];
    sp_snapshot_info info;
    sp_snapshot_get_info(snapshot, &info);
    *state = (spi_state){.kind = SPI_STATE_FILE};
    memcpy(state->name, info.id, sizeof state->name);
    sp_write_options options = {.sync = !actors->without_sync, .key = actors->has_key ? actors->key : NULL};
    sp_status status = spi_folder_state_path(actors->folder, state->name, path, sizeof path, error);
    return status ? status : sp_snapshot_write(snapshot, path, &options, error);
}

sp_status spi_fold(spi_resident *resident, sp_error *error) {
    sp_actors *actors = resident->actors;
    sp_snapshot *snapshot = NULL;
    sp_tracker *tracker = NULL;
    spi_state state = {0}, base;
    sp_capture_options options = {.store = actors->store, .without_module = true};
    sp_status status = spi_fold_find_file(actors, resident->state.id, &base, error);
    status = status ? status : sp_guest_capture(resident->guest, &options, &snapshot, error);
    status = status ? status : spi_fold_write_file(actors, snapshot, &state, error);
    status = status ? status : spi_keeper_begin(actors->keeper, false, error);
    if (!status) {
        status = spi_keeper_put_state(actors->keeper, &state, "", 0, error);
        status = status ? status
                        : spi_keeper_move(actors->keeper, resident->record.id, resident->state.id, state.id, 0, error);
        if (status) {
            spi_keeper_undo(actors->keeper);
        } else {
            status = spi_keeper_end(actors->keeper, error);
        }
    }
    if (!status) {
        resident->state = state;
        resident->record.state = state.id;
        sp_tracker_destroy(resident->tracker);
        resident->tracker = NULL;
        status = sp_tracker_create(resident->guest, snapshot, NULL, &tracker, error);
        resident->tracker = tracker;
        spi_fold_drop_file(actors, &base);
    } /* else the file stays: a commit whose sync failed may turn out to have happened; the next opening knows, and sweeps */
    sp_snapshot_close(snapshot);
    return status;
}

static int is_wanted(void *env, const uint8_t name[SP_SNAPSHOT_ID_BYTES]) {
    sp_actors *actors = env;
    bool is_kept;
    return spi_keeper_wants_file(actors->keeper, name, &is_kept, NULL) || is_kept;
}

sp_status spi_fold_sweep(sp_actors *actors, sp_error *error) {
    return spi_folder_sweep(actors->folder, is_wanted, actors, error);
}

sp_status sp_actor_fold(sp_actors *actors, const char *name, sp_error *error) {
    uint64_t id;
    spi_resident *resident;
    sp_status status = spi_keeper_find_id(actors->keeper, name, &id, error);
    if (!status && !id) {
        return spi_fail(error, SP_NOT_FOUND, "there is no actor %.64s", name);
    }
    status = status ? status : spi_wake(actors, id, &resident, error);
    if (!status && resident->is_busy) {
        return spi_fail(error, SP_BUSY, "%s is handling a message", name);
    }
    return status || !resident->tracker || !resident->state.depth ? status : spi_fold(resident, error);
}
