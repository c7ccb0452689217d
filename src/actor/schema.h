/* actor/schema.h - the versions of the database of actors. Row n brings it from version n to n + 1; a row that was
 * released is never changed. docs/actors.md explains the tables. May include: nothing. */
#ifndef SPI_ACTOR_SCHEMA_H
#define SPI_ACTOR_SCHEMA_H

#define SPI_SCHEMA_APPLICATION_ID 0x53506163 /* "SPac", as file(1) may know it */

static const char *const spi_schema_steps[] = {
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE module(id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, name TEXT NOT NULL, wasm BLOB NOT NULL);"
    "CREATE TABLE state(id INTEGER PRIMARY KEY AUTOINCREMENT, parent INTEGER REFERENCES state(id),"
    " refs INTEGER NOT NULL, kind INTEGER NOT NULL, depth INTEGER NOT NULL, chain_bytes INTEGER NOT NULL,"
    " name BLOB NOT NULL, bytes BLOB);"
    "CREATE INDEX state_name ON state(name);"
    "CREATE TABLE actor(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,"
    " module INTEGER NOT NULL REFERENCES module(id), state INTEGER REFERENCES state(id),"
    " commits INTEGER NOT NULL DEFAULT 0, created_ms INTEGER NOT NULL, device TEXT NOT NULL,"
    " environment BLOB NOT NULL, memory_bytes_max INTEGER NOT NULL, deadline_ms INTEGER NOT NULL,"
    " failures_max INTEGER NOT NULL, recompute INTEGER NOT NULL, origin TEXT NOT NULL);"
    "CREATE INDEX actor_state ON actor(state);"
    "CREATE INDEX actor_module ON actor(module);"
    "CREATE TABLE actor_model(actor INTEGER NOT NULL REFERENCES actor(id) ON DELETE CASCADE,"
    " position INTEGER NOT NULL, name TEXT NOT NULL, path TEXT NOT NULL, PRIMARY KEY(actor, position)) WITHOUT ROWID;"
    "CREATE TABLE message(id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " actor INTEGER NOT NULL REFERENCES actor(id) ON DELETE CASCADE, kind INTEGER NOT NULL,"
    " sender INTEGER NOT NULL, sender_name TEXT NOT NULL, reply_to INTEGER NOT NULL, key TEXT,"
    " sent_ms INTEGER NOT NULL, body BLOB NOT NULL, status INTEGER NOT NULL DEFAULT 0,"
    " begun INTEGER NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0, handled_ms INTEGER, reply BLOB,"
    " reason TEXT);"
    "CREATE INDEX message_actor ON message(actor, id);"
    "CREATE INDEX message_queue ON message(actor, id) WHERE status = 0;"
    "CREATE INDEX message_dead ON message(actor) WHERE status = 2;"
    "CREATE UNIQUE INDEX message_key ON message(actor, key) WHERE key IS NOT NULL;"
    "CREATE TABLE timer(actor INTEGER NOT NULL REFERENCES actor(id) ON DELETE CASCADE, note BLOB NOT NULL,"
    " due_ms INTEGER NOT NULL, PRIMARY KEY(actor, note)) WITHOUT ROWID;"
    "CREATE INDEX timer_due ON timer(due_ms);",
    /* A count that changes is in another row than bytes that do not: SQLite writes a row anew as a whole. */
    "CREATE TABLE state_body(state INTEGER PRIMARY KEY REFERENCES state(id) ON DELETE CASCADE, bytes BLOB NOT NULL);"
    "INSERT INTO state_body(state, bytes) SELECT id, coalesce(bytes, x'') FROM state;"
    "ALTER TABLE state DROP COLUMN bytes;",
    /* 0: F16, as all had it. */
    "ALTER TABLE actor ADD COLUMN kv_type INTEGER NOT NULL DEFAULT 0;",
};

#define SPI_SCHEMA_VERSION ((int)(sizeof spi_schema_steps / sizeof *spi_schema_steps))

#endif
