/* actor/keeper_states.c - states of actors: chains of a snapshot and deltas, counted, because forks share them. */
#include <string.h>

#include "actor/keeper_inside.h"
#include "base/error.h"
#include "base/memory.h"

sp_status spi_keeper_put_state(spi_keeper *keeper, spi_state *state, const void *bytes, size_t byte_count,
                               sp_error *error) {
    const void *sealed = NULL;
    size_t sealed_bytes = 0, name_bytes = sizeof state->name;
    sp_status status = spi_seal_close(&keeper->seal, bytes, byte_count, &sealed, &sealed_bytes, error);
    if (!status && state->parent) { /* a delta holds what it builds on */
        status = spi_sql_run(keeper->sql, SPI_SQL_STATE_HOLD, error, "i", state->parent);
        status = status
                     ? status
                     : spi_sql_run(keeper->sql, SPI_SQL_STATE_ADD, error, "iiiib", state->parent, (uint64_t)state->kind,
                                   (uint64_t)state->depth, state->chain_bytes, (const void *)state->name, name_bytes);
    } else if (!status) {
        status = spi_sql_run(keeper->sql, SPI_SQL_STATE_ADD, error, "niiib", (uint64_t)state->kind, (uint64_t)0,
                             (uint64_t)0, (const void *)state->name, name_bytes);
    }
    state->id = status ? 0 : spi_sql_inserted(keeper->sql);
    if (!status) {
        status = spi_sql_run(keeper->sql, SPI_SQL_STATE_ADD_BODY, error, "ib", state->id, sealed, sealed_bytes);
    }
    spi_seal_free(bytes, sealed);
    return status;
}

/* The row is left at the state; reset it. */
static sp_status find(spi_keeper *keeper, spi_statement which, uint64_t id, spi_state *state, spi_row **row,
                      sp_error *error) {
    bool found;
    size_t bytes;
    *state = (spi_state){0};
    *row = spi_sql_use(keeper->sql, which, error, "i", id);
    sp_status status = *row ? spi_sql_step(keeper->sql, *row, &found, error) : SP_IO;
    if (!status && !found) {
        status = spi_fail(error, SP_BAD_FILE, "the database has no state %llu, which an actor is in",
                          (unsigned long long)id);
    }
    if (status) {
        return status;
    }
    *state = (spi_state){
        .id = id,
        .parent = spi_row_number(*row, 0),
        .kind = (spi_state_kind)spi_row_number(*row, 2),
        .depth = (uint32_t)spi_row_number(*row, 3),
        .chain_bytes = spi_row_number(*row, 4),
    };
    const void *name = spi_row_bytes(*row, 5, &bytes);
    if (bytes != sizeof state->name || state->kind > SPI_STATE_FILE ||
        (state->kind == SPI_STATE_DELTA) != (state->parent != 0)) {
        spi_sql_reset(*row);
        return spi_fail(error, SP_BAD_FILE, "state %llu is damaged in the database", (unsigned long long)id);
    }
    memcpy(state->name, name, bytes);
    return SP_OK;
}

sp_status spi_keeper_get_state(spi_keeper *keeper, uint64_t id, spi_state *state, sp_error *error) {
    spi_row *row;
    sp_status status = find(keeper, SPI_SQL_STATE_HEAD, id, state, &row, error);
    if (!status) {
        spi_sql_reset(row);
    }
    return status;
}

sp_status spi_keeper_get_bytes(spi_keeper *keeper, uint64_t id, spi_state *state, void **bytes, size_t *byte_count,
                               sp_error *error) {
    spi_row *row;
    *bytes = NULL;
    *byte_count = 0;
    sp_status status = find(keeper, SPI_SQL_STATE_GET, id, state, &row, error);
    if (status) {
        return status;
    }
    size_t count;
    const void *sealed = spi_row_bytes(row, 6, &count);
    status = spi_seal_open(&keeper->seal, sealed, count, bytes, byte_count, error);
    spi_sql_reset(row);
    return status;
}

/* Gives up one reference. A state that nobody holds goes, and with it its hold on the one before. */
static sp_status release(spi_keeper *keeper, uint64_t id, sp_error *error) {
    sp_status status = SP_OK;
    while (id && !status) {
        spi_state state;
        status = spi_keeper_get_state(keeper, id, &state, error);
        status = status ? status : spi_sql_run(keeper->sql, SPI_SQL_STATE_RELEASE, error, "i", id);
        status = status ? status : spi_sql_run(keeper->sql, SPI_SQL_STATE_DELETE, error, "i", id);
        id = !status && spi_sql_changes(keeper->sql) ? state.parent : 0;
    }
    return status;
}

sp_status spi_keeper_move(spi_keeper *keeper, uint64_t actor, uint64_t from, uint64_t to, uint32_t commits,
                          sp_error *error) {
    bool is_own;
    sp_status status = spi_keeper_enter(keeper, &is_own, false, error);
    if (status) {
        return status;
    }
    status = from ? spi_sql_run(keeper->sql, SPI_SQL_ACTOR_MOVE, error, "iiii", actor, from, to, (uint64_t)commits)
                  : spi_sql_run(keeper->sql, SPI_SQL_ACTOR_MOVE, error, "inii", actor, to, (uint64_t)commits);
    if (!status && spi_sql_changes(keeper->sql) != 1) {
        status = spi_fail(error, SP_BUSY, "the actor is in another state than it was woken from, or was removed");
    }
    status = status ? status : release(keeper, from, error);
    return spi_keeper_leave(keeper, is_own, status, error);
}

sp_status spi_keeper_remove(spi_keeper *keeper, const spi_record *record, sp_error *error) {
    bool is_own;
    sp_status status = spi_keeper_enter(keeper, &is_own, false, error);
    if (status) {
        return status;
    }
    status = spi_sql_run(keeper->sql, SPI_SQL_ACTOR_REMOVE, error, "i", record->id);
    status = status ? status : release(keeper, record->state, error);
    status = status ? status : spi_sql_run(keeper->sql, SPI_SQL_MODULE_SWEEP, error, "");
    return spi_keeper_leave(keeper, is_own, status, error);
}

sp_status spi_keeper_is_left(spi_keeper *keeper, uint64_t state, bool *is_left, sp_error *error) {
    uint64_t actors = 0;
    sp_status status = spi_sql_number(keeper->sql, SPI_SQL_STATE_ACTORS, &actors, error, "i", state);
    *is_left = !status && !actors;
    return status;
}

sp_status spi_keeper_wants_file(spi_keeper *keeper, const uint8_t name[SP_SNAPSHOT_ID_BYTES], bool *is_kept,
                                sp_error *error) {
    uint64_t kept = 0;
    size_t bytes = SP_SNAPSHOT_ID_BYTES;
    *is_kept = false;
    sp_status status = spi_sql_number(keeper->sql, SPI_SQL_STATE_IS_FILE, &kept, error, "b", (const void *)name, bytes);
    *is_kept = kept > 0;
    return status;
}
