/* actor/sql.c - see sql.h. */
#include "actor/sql.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actor/pages.h"
#include "actor/schema.h"
#include "base/error.h"
#include "base/memory.h"

#define BUSY_MS          5000
#define BYTES_MAX        (1 << 30)
#define CACHE_KIB        (8 << 10)
#define MESSAGE_ID_FIRST 1

int spi_sql_log_pages_max = 4000; /* 16 MiB */

struct spi_sql {
    sqlite3 *db;
    char *path;
    bool without_sync, is_lazy;
    sqlite3_stmt *statements[SPI_SQL_COUNT];
};

static const char *const texts[] = {
#define STATEMENT(name, text) text,
#include "actor/statements.def"
#undef STATEMENT
};

static sp_status status_of(int code) {
    if (code == SQLITE_IOERR_DATA) {
        return SP_BAD_FILE;
    }
    switch (code & 0xff) {
    case SQLITE_NOMEM: return SP_NO_MEMORY;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return SP_BUSY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return SP_BAD_FILE;
    case SQLITE_CONSTRAINT: return SP_INVALID;
    case SQLITE_TOOBIG: return SP_LIMIT;
    case SQLITE_MISUSE:
    case SQLITE_ERROR: return SP_INTERNAL;
    default: return SP_IO;
    }
}

/* What the system said, where it was the system. */
static int system_reason(spi_sql *sql, int code) {
    bool is_system = (code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN;
    return is_system && code != SQLITE_IOERR_DATA ? sqlite3_system_errno(sql->db) : 0;
}

static sp_status fail(spi_sql *sql, sp_error *error) {
    int code = sqlite3_extended_errcode(sql->db), reason = system_reason(sql, code);
    bool is_damaged = (code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB || code == SQLITE_IOERR_DATA;
    bool is_full = (code & 0xff) == SQLITE_FULL || reason == ENOSPC || reason == EDQUOT;
    const char *hint = is_full      ? ": make room on the disk"
                       : is_damaged ? ": bring it back from a copy, or export what can be read"
                                    : "";
    const char *what = sqlite3_errmsg(sql->db), *kind = reason ? strerror(reason) : sqlite3_errstr(code);
    return strcmp(what, kind) != 0 ? spi_fail(error, status_of(code), "%s: %s (%s)%s", sql->path, what, kind, hint)
                                   : spi_fail(error, status_of(code), "%s: %s%s", sql->path, what, hint);
}

/* ---- opening ---- */

static sp_status execute(spi_sql *sql, const char *text, sp_error *error) {
    return sqlite3_exec(sql->db, text, NULL, NULL, NULL) == SQLITE_OK ? SP_OK : fail(sql, error);
}

static sp_status pragma_number(spi_sql *sql, const char *text, int *value, sp_error *error) {
    sqlite3_stmt *row;
    if (sqlite3_prepare_v2(sql->db, text, -1, &row, NULL) != SQLITE_OK) {
        return fail(sql, error);
    }
    int code = sqlite3_step(row);
    *value = code == SQLITE_ROW ? sqlite3_column_int(row, 0) : 0;
    sp_status status = code == SQLITE_ROW || code == SQLITE_DONE ? SP_OK : fail(sql, error);
    sqlite3_finalize(row);
    return status;
}

static sp_status migrate(spi_sql *sql, sp_error *error) {
    int version, application, tables;
    sp_status status = pragma_number(sql, "PRAGMA user_version", &version, error);
    status = status ? status : pragma_number(sql, "PRAGMA application_id", &application, error);
    status = status ? status : pragma_number(sql, "SELECT count(*) FROM sqlite_schema", &tables, error);
    if (status) {
        return status;
    }
    if (application != SPI_SCHEMA_APPLICATION_ID && (application || version || tables)) {
        return spi_fail(error, SP_BAD_FILE, "%s is a database of something else: give another folder", sql->path);
    }
    if (version > SPI_SCHEMA_VERSION || version < 0) {
        return spi_fail(error, SP_UNSUPPORTED,
                        "%s has version %d, and this program knows versions up to %d: use a newer samepage", sql->path,
                        version, SPI_SCHEMA_VERSION);
    }
    if (version == SPI_SCHEMA_VERSION) {
        return SP_OK;
    }
    char end[96];
    snprintf(end, sizeof end, "PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", SPI_SCHEMA_APPLICATION_ID,
             SPI_SCHEMA_VERSION);
    status = execute(sql, "BEGIN EXCLUSIVE", error);
    for (int step = version; step < SPI_SCHEMA_VERSION && !status; step++) {
        status = execute(sql, spi_schema_steps[step], error);
    }
    status = status ? status : execute(sql, end, error);
    if (status) {
        spi_sql_rollback(sql);
    }
    return status;
}

static sp_status configure(spi_sql *sql, sp_error *error) {
    char text[640];
    snprintf(text, sizeof text,
             "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = %s; PRAGMA foreign_keys = ON; "
             "PRAGMA trusted_schema = OFF; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;" /* macOS */
             "PRAGMA cell_size_check = ON; PRAGMA wal_autocheckpoint = %d; PRAGMA journal_size_limit = 33554432;"
             "PRAGMA cache_size = -%d; PRAGMA temp_store = MEMORY; PRAGMA secure_delete = ON",
             sql->without_sync ? "OFF" : "FULL", spi_sql_log_pages_max, CACHE_KIB);
    int tail_bytes = SPI_PAGE_TAIL_BYTES;
    (void)sqlite3_file_control(sql->db, "main", SQLITE_FCNTL_RESERVE_BYTES, &tail_bytes);
    sqlite3_busy_timeout(sql->db, BUSY_MS);
    sqlite3_extended_result_codes(sql->db, 1);
    sqlite3_limit(sql->db, SQLITE_LIMIT_LENGTH, BYTES_MAX);
    return execute(sql, text, error);
}

/* SQLite would make the file with the mode that the umask leaves, and its log with that of the file. */
static sp_status create_file(const char *path, sp_error *error) {
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0 || fchmod(file, 0600)) {
        sp_status status = spi_fail(error, SP_IO, "cannot open %s: %s", path, strerror(errno));
        if (file >= 0) {
            close(file);
        }
        return status;
    }
    close(file);
    return SP_OK;
}

sp_status spi_sql_open(const char *path, bool without_sync, spi_sql **out, sp_error *error) {
    *out = NULL;
    spi_sql *sql = spi_alloc(1, sizeof *sql);
    if (!sql || !(sql->path = spi_copy_string(path, strlen(path)))) {
        spi_free(sql);
        return spi_fail(error, SP_NO_MEMORY, "no memory to open %s", path);
    }
    sql->without_sync = without_sync;
    sp_status status =
        spi_pages_register() ? spi_fail(error, SP_INTERNAL, "SQLite cannot open files here") : create_file(path, error);
    if (!status &&
        sqlite3_open_v2(path, &sql->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, SPI_PAGES_VFS) != SQLITE_OK) {
        status = sql->db ? fail(sql, error) : spi_fail(error, SP_NO_MEMORY, "no memory to open %s", path);
    }
    status = status ? status : configure(sql, error);
    status = status ? status : migrate(sql, error);
    if (status) {
        spi_sql_close(sql);
        return status;
    }
    *out = sql;
    return SP_OK;
}

void spi_sql_close(spi_sql *sql) {
    if (!sql) {
        return;
    }
    for (int i = 0; i < SPI_SQL_COUNT; i++) {
        sqlite3_finalize(sql->statements[i]);
    }
    sqlite3_close(sql->db);
    spi_free(sql->path);
    spi_free(sql);
}

/* ---- statements ---- */

static bool bind(sqlite3_stmt *row, const char *letters, va_list arguments) {
    int code = SQLITE_OK;
    for (int i = 1; *letters && code == SQLITE_OK; letters++, i++) {
        if (*letters == 'i') {
            code = sqlite3_bind_int64(row, i, (sqlite3_int64)va_arg(arguments, uint64_t));
        } else if (*letters == 't') {
            code = sqlite3_bind_text(row, i, va_arg(arguments, const char *), -1, SQLITE_STATIC);
        } else if (*letters == 'b') {
            const void *bytes = va_arg(arguments, const void *);
            size_t count = va_arg(arguments, size_t);
            code = count ? sqlite3_bind_blob64(row, i, bytes, count, SQLITE_STATIC) : sqlite3_bind_zeroblob(row, i, 0);
        } else {
            code = sqlite3_bind_null(row, i);
        }
    }
    return code == SQLITE_OK;
}

static spi_row *use(spi_sql *sql, spi_statement which, sp_error *error, const char *letters, va_list arguments) {
    sqlite3_stmt **slot = &sql->statements[which];
    if (!*slot && sqlite3_prepare_v3(sql->db, texts[which], -1, SQLITE_PREPARE_PERSISTENT, slot, NULL) != SQLITE_OK) {
        fail(sql, error);
        return NULL;
    }
    sqlite3_reset(*slot);
    sqlite3_clear_bindings(*slot);
    if (!bind(*slot, letters, arguments)) {
        fail(sql, error);
        return NULL;
    }
    return *slot;
}

spi_row *spi_sql_use(spi_sql *sql, spi_statement which, sp_error *error, const char *letters, ...) {
    va_list arguments;
    va_start(arguments, letters);
    spi_row *row = use(sql, which, error, letters, arguments);
    va_end(arguments);
    return row;
}

sp_status spi_sql_step(spi_sql *sql, spi_row *row, bool *has_row, sp_error *error) {
    int code = sqlite3_step(row);
    *has_row = code == SQLITE_ROW;
    if (code == SQLITE_ROW) {
        return SP_OK;
    }
    sp_status status = code == SQLITE_DONE ? SP_OK : fail(sql, error);
    sqlite3_reset(row);
    return status;
}

void spi_sql_reset(spi_row *row) {
    if (row) {
        sqlite3_reset(row);
    }
}

static sp_status run(spi_sql *sql, spi_row *row, uint64_t *value, sp_error *error) {
    bool has_row;
    if (!row) {
        return status_of(sqlite3_extended_errcode(sql->db));
    }
    sp_status status = spi_sql_step(sql, row, &has_row, error);
    if (!status && has_row) {
        if (value && !spi_row_is_null(row, 0)) {
            *value = spi_row_number(row, 0);
        }
        sqlite3_reset(row);
    }
    return status;
}

sp_status spi_sql_run(spi_sql *sql, spi_statement which, sp_error *error, const char *letters, ...) {
    va_list arguments;
    va_start(arguments, letters);
    spi_row *row = use(sql, which, error, letters, arguments);
    va_end(arguments);
    return run(sql, row, NULL, error);
}

sp_status spi_sql_number(spi_sql *sql, spi_statement which, uint64_t *value, sp_error *error, const char *letters,
                         ...) {
    va_list arguments;
    va_start(arguments, letters);
    spi_row *row = use(sql, which, error, letters, arguments);
    va_end(arguments);
    return run(sql, row, value, error);
}

uint64_t spi_sql_inserted(spi_sql *sql) {
    return (uint64_t)sqlite3_last_insert_rowid(sql->db);
}

uint64_t spi_sql_changes(spi_sql *sql) {
    return (uint64_t)sqlite3_changes64(sql->db);
}

uint64_t spi_sql_changes_all(spi_sql *sql) {
    return (uint64_t)sqlite3_total_changes64(sql->db);
}

/* ---- transactions ---- */

sp_status spi_sql_begin(spi_sql *sql, bool lazy, sp_error *error) {
    if (!sql->without_sync && lazy != sql->is_lazy) {
        sp_status status = spi_sql_run(sql, lazy ? SPI_SQL_SYNC_LAZY : SPI_SQL_SYNC_FULL, error, "");
        if (status) {
            return status;
        }
        sql->is_lazy = lazy;
    }
    return spi_sql_run(sql, SPI_SQL_BEGIN, error, "");
}

sp_status spi_sql_commit(spi_sql *sql, sp_error *error) {
    sp_status status = spi_sql_run(sql, SPI_SQL_COMMIT, error, "");
    if (status) {
        spi_sql_rollback(sql);
    }
    return status;
}

void spi_sql_rollback(spi_sql *sql) {
    for (int i = 0; i < SPI_SQL_COUNT; i++) {
        spi_sql_reset(sql->statements[i]);
    }
    if (!sqlite3_get_autocommit(sql->db)) {
        sqlite3_exec(sql->db, "ROLLBACK", NULL, NULL, NULL);
    }
}

/* ---- columns ---- */

uint64_t spi_row_number(spi_row *row, int column) {
    return (uint64_t)sqlite3_column_int64(row, column);
}

const char *spi_row_text(spi_row *row, int column) {
    const unsigned char *text = sqlite3_column_text(row, column);
    return text ? (const char *)text : "";
}

const void *spi_row_bytes(spi_row *row, int column, size_t *bytes) {
    const void *data = sqlite3_column_blob(row, column);
    *bytes = data ? (size_t)sqlite3_column_bytes(row, column) : 0;
    return data;
}

bool spi_row_is_null(spi_row *row, int column) {
    return sqlite3_column_type(row, column) == SQLITE_NULL;
}
