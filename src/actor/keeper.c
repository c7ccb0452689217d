/* actor/keeper.c - a keeper's life, brackets, and who the actors are. See keeper.h. */
#include <stdio.h>
#include <string.h>

#include "actor/keeper_inside.h"
#include "actor/mark.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/memory.h"

#define KEY_CHECK "samepage actors"

void spi_record_free(spi_record *record) {
    spi_free(record->device);
    spi_free(record->environment);
    for (uint32_t i = 0; i < record->model_count; i++) {
        spi_free(record->models[i].name);
        spi_free(record->models[i].path);
    }
    *record = (spi_record){0};
}

/* ---- life ---- */

/* The first opening says whether texts are sealed; later ones must bring the same key, or none. */
static sp_status check_key(spi_keeper *keeper, sp_error *error) {
    sp_error inner = {0};
    bool found;
    void *plain = NULL;
    const void *sealed = NULL;
    size_t bytes = 0;
    spi_row *row = spi_sql_use(keeper->sql, SPI_SQL_META_GET, error, "t", "key_check");
    sp_status status = row ? spi_sql_step(keeper->sql, row, &found, error) : SP_IO;
    if (status) {
        return status;
    }
    if (found) {
        const void *value = spi_row_bytes(row, 0, &bytes);
        bool was_sealed = bytes != strlen(KEY_CHECK);
        if (was_sealed != keeper->seal.is_on) {
            status = spi_fail(error, SP_INVALID,
                              was_sealed ? "the folder is encrypted: give its key"
                                         : "the folder is not encrypted: give no key, or another folder");
        } else if (spi_seal_open(&keeper->seal, value, bytes, &plain, &bytes, &inner)) {
            status = spi_fail(error, inner.status == SP_BAD_FILE ? SP_INVALID : inner.status,
                              "the folder is encrypted with another key");
        }
        spi_free(plain);
        spi_sql_reset(row);
        return status;
    }
    status = spi_seal_close(&keeper->seal, KEY_CHECK, strlen(KEY_CHECK), &sealed, &bytes, error);
    status = status ? status : spi_sql_run(keeper->sql, SPI_SQL_META_SET, error, "tb", "key_check", sealed, bytes);
    spi_seal_free(KEY_CHECK, sealed);
    return status;
}

/* The database must have every commit that was acknowledged. What only measures has no mark of its own, because it does
 * not wait for the disk. */
static sp_status check_commits(spi_keeper *keeper, const char *folder, sp_error *error) {
    uint64_t marked, commits = 0;
    sp_status status = spi_mark_open(folder, &keeper->mark, &marked, error);
    status = status ? status : spi_sql_run(keeper->sql, SPI_SQL_COMMITS_BEGIN, error, "");
    status = status ? status : spi_sql_number(keeper->sql, SPI_SQL_COMMITS_GET, &commits, error, "");
    if (!status && commits < marked) {
        return spi_fail(
            error, SP_BAD_FILE,
            "%s/actors.db has %llu commits, and %llu were acknowledged: the last ones are damaged or lost, or "
            "it is an older copy. To go on with it as it is, remove %s/" SPI_MARK_NAME,
            folder, (unsigned long long)commits, (unsigned long long)marked, folder);
    }
    return status;
}

sp_status spi_keeper_open(const char *folder, const uint8_t *key, bool without_sync, spi_keeper **out,
                          sp_error *error) {
    char path[4096];
    *out = NULL;
    if (snprintf(path, sizeof path, "%s/actors.db", folder) >= (int)sizeof path) {
        return spi_fail(error, SP_LIMIT, "the folder's path is too long: %s", folder);
    }
    spi_keeper *keeper = spi_alloc(1, sizeof *keeper);
    if (!keeper) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to open %s", path);
    }
    keeper->mark = -1;
    keeper->without_sync = without_sync;
    sp_status status = spi_seal_init(&keeper->seal, key, error);
    status = status ? status : spi_sql_open(path, without_sync, &keeper->sql, error);
    status = status ? status : check_key(keeper, error);
    status = status ? status : check_commits(keeper, folder, error);
    status = status ? status : spi_sql_number(keeper->sql, SPI_SQL_MESSAGE_LAST_ID, &keeper->last_id, error, "");
    if (status) {
        spi_keeper_close(keeper);
        return status;
    }
    *out = keeper;
    return SP_OK;
}

void spi_keeper_close(spi_keeper *keeper) {
    if (!keeper) {
        return;
    }
    spi_sql_close(keeper->sql);
    spi_mark_close(keeper->mark);
    spi_seal_forget(&keeper->seal);
    spi_free(keeper->log_text);
    spi_free(keeper->log_reply);
    spi_free(keeper->log_reason);
    spi_free(keeper);
}

sp_status spi_keeper_begin(spi_keeper *keeper, bool lazy, sp_error *error) {
    sp_status status = spi_sql_begin(keeper->sql, lazy, error);
    keeper->is_open = !status;
    keeper->is_lazy = lazy;
    keeper->changed_before = spi_sql_changes_all(keeper->sql);
    return status;
}

sp_status spi_keeper_end(spi_keeper *keeper, sp_error *error) {
    uint64_t commits = 0;
    bool counts = !keeper->is_lazy && spi_sql_changes_all(keeper->sql) != keeper->changed_before;
    sp_status status = counts ? spi_sql_number(keeper->sql, SPI_SQL_COMMITS_COUNT, &commits, error, "") : SP_OK;
    if (status) {
        spi_keeper_undo(keeper);
        return status;
    }
    keeper->is_open = false;
    status = spi_sql_commit(keeper->sql, error);
    if (!status && commits && !keeper->without_sync) {
        spi_mark_write(keeper->mark, commits);
    }
    return status;
}

void spi_keeper_undo(spi_keeper *keeper) {
    keeper->is_open = false;
    spi_sql_rollback(keeper->sql);
}

sp_status spi_keeper_enter(spi_keeper *keeper, bool *is_own, bool lazy, sp_error *error) {
    *is_own = !keeper->is_open;
    return *is_own ? spi_keeper_begin(keeper, lazy, error) : SP_OK;
}

sp_status spi_keeper_leave(spi_keeper *keeper, bool is_own, sp_status status, sp_error *error) {
    if (is_own && status) {
        spi_keeper_undo(keeper);
    } else if (is_own) {
        status = spi_keeper_end(keeper, error);
    }
    return status;
}

/* ---- modules ---- */

sp_status spi_keeper_put_module(spi_keeper *keeper, const uint8_t hash[SP_MODULE_HASH_BYTES], const char *name,
                                const void *wasm, size_t wasm_bytes, uint64_t *id, sp_error *error) {
    size_t hash_bytes = SP_MODULE_HASH_BYTES;
    *id = 0;
    sp_status status = spi_sql_number(keeper->sql, SPI_SQL_MODULE_FIND, id, error, "b", hash, hash_bytes);
    if (status || *id) {
        return status;
    }
    status = spi_sql_run(keeper->sql, SPI_SQL_MODULE_ADD, error, "btb", hash, hash_bytes, name, wasm, wasm_bytes);
    *id = status ? 0 : spi_sql_inserted(keeper->sql);
    return status;
}

sp_status spi_keeper_get_module(spi_keeper *keeper, uint64_t id, char **name, void **wasm, size_t *wasm_bytes,
                                sp_error *error) {
    bool found;
    size_t hash_bytes, bytes;
    *name = NULL;
    *wasm = NULL;
    *wasm_bytes = 0;
    spi_row *row = spi_sql_use(keeper->sql, SPI_SQL_MODULE_GET, error, "i", id);
    sp_status status = row ? spi_sql_step(keeper->sql, row, &found, error) : SP_IO;
    if (status || !found) {
        return status ? status
                      : spi_fail(error, SP_BAD_FILE, "the database has no module %llu", (unsigned long long)id);
    }
    const void *stored = spi_row_bytes(row, 0, &hash_bytes), *data = spi_row_bytes(row, 2, &bytes);
    spi_digest digest = spi_digest_bytes(data, bytes);
    if (hash_bytes != sizeof digest.bytes || memcmp(stored, digest.bytes, hash_bytes) != 0) {
        status = spi_fail(error, SP_BAD_FILE, "the module %s is damaged in the database", spi_row_text(row, 1));
    } else {
        const char *text = spi_row_text(row, 1);
        *name = spi_copy_string(text, strlen(text));
        *wasm = spi_copy_string(data, bytes);
        *wasm_bytes = bytes;
        if (!*name || !*wasm) {
            spi_free(*name);
            spi_free(*wasm);
            *name = NULL;
            *wasm = NULL;
            status = spi_fail(error, SP_NO_MEMORY, "no memory for a module of %zu bytes", bytes);
        }
    }
    spi_sql_reset(row);
    return status;
}

/* ---- records ---- */

static sp_status add_models(spi_keeper *keeper, const spi_record *record, sp_error *error) {
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < record->model_count && !status; i++) {
        status = spi_sql_run(keeper->sql, SPI_SQL_MODEL_ADD, error, "iitt", record->id, (uint64_t)i,
                             record->models[i].name, record->models[i].path);
    }
    return status;
}

sp_status spi_keeper_add(spi_keeper *keeper, spi_record *record, sp_error *error) {
    bool is_own;
    uint64_t existing = 0;
    sp_status status = spi_keeper_enter(keeper, &is_own, false, error);
    if (status) {
        return status;
    }
    status = spi_keeper_find_id(keeper, record->name, &existing, error);
    if (!status && existing) {
        status = spi_fail(error, SP_BUSY, "there is an actor %s already: take another name, or remove it first",
                          record->name);
    }
    if (!status) {
        status = spi_sql_run(keeper->sql, SPI_SQL_ACTOR_ADD, error, "tiitbiiiiti", record->name, record->module,
                             record->created_ms, record->device, (const void *)record->environment,
                             record->environment_bytes, record->memory_bytes_max, (uint64_t)record->deadline_ms,
                             (uint64_t)record->failures_max, (uint64_t)record->recompute, record->origin,
                             (uint64_t)record->kv_type);
        record->id = spi_sql_inserted(keeper->sql);
    }
    status = status ? status : add_models(keeper, record, error);
    if (!status && record->state) {
        status = spi_sql_run(keeper->sql, SPI_SQL_STATE_HOLD, error, "i", record->state);
        status = status ? status
                        : spi_sql_run(keeper->sql, SPI_SQL_ACTOR_MOVE, error, "inii", record->id, record->state,
                                      (uint64_t)0);
    }
    return spi_keeper_leave(keeper, is_own, status, error);
}

static char *copy_text(spi_row *row, int column) {
    const char *text = spi_row_text(row, column);
    return spi_copy_string(text, strlen(text));
}

static sp_status read_models(spi_keeper *keeper, spi_record *record, sp_error *error) {
    bool found;
    spi_row *row = spi_sql_use(keeper->sql, SPI_SQL_MODEL_LIST, error, "i", record->id);
    sp_status status = row ? SP_OK : SP_IO;
    while (!status && !(status = spi_sql_step(keeper->sql, row, &found, error)) && found) {
        if (record->model_count == SPI_MODELS_MAX) {
            status = spi_fail(error, SP_BAD_FILE, "%s has more than %d models in the database", record->name,
                              SPI_MODELS_MAX);
            break;
        }
        uint32_t i = record->model_count++;
        record->models[i].name = copy_text(row, 0);
        record->models[i].path = copy_text(row, 1);
        if (!record->models[i].name || !record->models[i].path) {
            status = spi_fail(error, SP_NO_MEMORY, "no memory for an actor");
        }
    }
    if (status) {
        spi_sql_reset(row);
    }
    return status;
}

static sp_status read_row(spi_keeper *keeper, spi_row *row, spi_record *record, sp_error *error) {
    size_t bytes;
    *record = (spi_record){
        .id = spi_row_number(row, 0),
        .module = spi_row_number(row, 2),
        .state = spi_row_number(row, 3),
        .commits = spi_row_number(row, 4),
        .created_ms = spi_row_number(row, 5),
        .memory_bytes_max = spi_row_number(row, 8),
        .deadline_ms = (uint32_t)spi_row_number(row, 9),
        .failures_max = (uint32_t)spi_row_number(row, 10),
        .recompute = spi_row_number(row, 11) != 0,
        .kv_type = (sp_kv_type)spi_row_number(row, 13),
    };
    const void *environment = spi_row_bytes(row, 7, &bytes);
    record->device = copy_text(row, 6);
    record->environment = spi_copy_string(environment, bytes);
    record->environment_bytes = bytes;
    snprintf(record->name, sizeof record->name, "%s", spi_row_text(row, 1));
    snprintf(record->origin, sizeof record->origin, "%s", spi_row_text(row, 12));
    spi_sql_reset(row);
    sp_status status = record->device && record->environment ? read_models(keeper, record, error)
                                                             : spi_fail(error, SP_NO_MEMORY, "no memory for an actor");
    if (status) {
        spi_record_free(record);
    }
    return status;
}

sp_status spi_keeper_find(spi_keeper *keeper, const char *name, spi_record *record, sp_error *error) {
    bool found;
    *record = (spi_record){0};
    spi_row *row = spi_sql_use(keeper->sql, SPI_SQL_ACTOR_BY_NAME, error, "t", name);
    sp_status status = row ? spi_sql_step(keeper->sql, row, &found, error) : SP_IO;
    if (!status && !found) {
        return spi_fail(error, SP_NOT_FOUND,
                        "there is no actor %.64s: 'samepage actor list' shows those that there are", name);
    }
    return status ? status : read_row(keeper, row, record, error);
}

sp_status spi_keeper_get(spi_keeper *keeper, uint64_t id, spi_record *record, sp_error *error) {
    bool found;
    *record = (spi_record){0};
    spi_row *row = spi_sql_use(keeper->sql, SPI_SQL_ACTOR_BY_ID, error, "i", id);
    sp_status status = row ? spi_sql_step(keeper->sql, row, &found, error) : SP_IO;
    if (!status && !found) {
        return spi_fail(error, SP_NOT_FOUND, "the actor was removed");
    }
    return status ? status : read_row(keeper, row, record, error);
}

sp_status spi_keeper_find_id(spi_keeper *keeper, const char *name, uint64_t *id, sp_error *error) {
    *id = 0;
    return spi_sql_number(keeper->sql, SPI_SQL_ACTOR_BY_NAME, id, error, "t", name);
}

sp_status spi_keeper_next_name(spi_keeper *keeper, const char *after, char name[SP_ACTOR_NAME_BYTES_MAX + 1],
                               sp_error *error) {
    bool found = false;
    spi_row *row = spi_sql_use(keeper->sql, SPI_SQL_ACTOR_NEXT, error, "t", after);
    sp_status status = row ? spi_sql_step(keeper->sql, row, &found, error) : SP_IO;
    *name = 0; /* not sooner: it may be where `after` is */
    if (!status && found) {
        snprintf(name, SP_ACTOR_NAME_BYTES_MAX + 1, "%s", spi_row_text(row, 0));
        spi_sql_reset(row);
    }
    return status;
}

sp_status spi_keeper_forget_recompute(spi_keeper *keeper, uint64_t actor, sp_error *error) {
    return spi_sql_run(keeper->sql, SPI_SQL_ACTOR_RECOMPUTED, error, "i", actor);
}
