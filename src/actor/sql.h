/* actor/sql.h - a thin layer over SQLite: one connection, its prepared statements, errors as ours.
 *
 * All statements that exist are rows of statements.def; they are prepared when first used and kept. Owns: the
 * connection. May include: os, base.
 */
#ifndef SPI_ACTOR_SQL_H
#define SPI_ACTOR_SQL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samepage/status.h"

typedef struct spi_sql spi_sql;
typedef struct sqlite3_stmt spi_row;

typedef enum spi_statement {
#define STATEMENT(name, text) SPI_SQL_##name,
#include "actor/statements.def"
#undef STATEMENT
    SPI_SQL_COUNT,
} spi_statement;

extern int spi_sql_log_pages_max; /* the log is folded into the file when it has so many; smaller in tests */

/* Opens or makes the file, mode 0600, and brings it to this program's version of the schema. without_sync: commits do
 * not wait for the disk (for measuring). SP_IO, SP_BAD_FILE (it is no such database, or is damaged), SP_UNSUPPORTED (of
 * a newer version). */
sp_status spi_sql_open(const char *path, bool without_sync, spi_sql **sql, sp_error *error);
void spi_sql_close(spi_sql *sql);

/* A transaction. What is lazy survives the end of the process, but perhaps not a power cut. Rolling back cannot
 * fail. */
sp_status spi_sql_begin(spi_sql *sql, bool lazy, sp_error *error);
sp_status spi_sql_commit(spi_sql *sql, sp_error *error);
void spi_sql_rollback(spi_sql *sql);

/* A statement, reset, with arguments bound by letters: i uint64_t, t const char *, b const void * and size_t, n nothing
 * (NULL). Texts and bytes must stay as they are until the statement is reset. NULL on failure. */
spi_row *spi_sql_use(spi_sql *sql, spi_statement which, sp_error *error, const char *letters, ...);

/* The next row: SP_OK and *has_row. After the last one or a failure the statement is reset. */
sp_status spi_sql_step(spi_sql *sql, spi_row *row, bool *has_row, sp_error *error);
void spi_sql_reset(spi_row *row); /* NULL is allowed */

/* Uses and steps a statement that gives no rows. SP_INVALID: a constraint. */
sp_status spi_sql_run(spi_sql *sql, spi_statement which, sp_error *error, const char *letters, ...);

/* Uses a statement and reads the first column of its first row as a number; *value is untouched if there is none. */
sp_status spi_sql_number(spi_sql *sql, spi_statement which, uint64_t *value, sp_error *error, const char *letters, ...);

uint64_t spi_sql_inserted(spi_sql *sql);    /* the latest row's id */
uint64_t spi_sql_changes(spi_sql *sql);     /* rows that the latest statement changed */
uint64_t spi_sql_changes_all(spi_sql *sql); /* and all statements so far */

/* Columns of the present row; texts and bytes are good until the next step. A NULL is 0, "" or 0 bytes. */
uint64_t spi_row_number(spi_row *row, int column);
const char *spi_row_text(spi_row *row, int column);
const void *spi_row_bytes(spi_row *row, int column, size_t *bytes);
bool spi_row_is_null(spi_row *row, int column);

#endif
