/* actor/keeper.h - what is durable about actors: who they are, what state they are in, their mail and timers.
 *
 * The line between two halves of this layer. Above it (actors.c, turn.c, wake.c, ...): guests, devices, whose turn it
 * is. Below it: where it is kept; nothing above knows that this is SQLite (keeper_*.c). What the functions ask for is
 * what a replicated keeper can give, too: a commit is a compare-and-set of an actor's state that either happens with
 * all its effects or not at all, states are immutable bytes with a name, and numbers of messages come from one counter.
 *
 * States form chains: a snapshot, and deltas on top of it. They are counted, because a fork shares its chain.
 *
 * Owns: the database. May include: snapshot, guest, os, base.
 */
#ifndef SPI_ACTOR_KEEPER_H
#define SPI_ACTOR_KEEPER_H

#include "samepage/actor.h"

typedef struct spi_keeper spi_keeper;

#define SPI_MODELS_MAX 16

/* Who an actor is. */
typedef struct spi_record {
    uint64_t id, module, state; /* state 0: it has not handled a message yet */
    uint64_t commits, created_ms, memory_bytes_max;
    char name[SP_ACTOR_NAME_BYTES_MAX + 1];
    char origin[SP_ACTOR_NAME_BYTES_MAX + 16];
    char *device;
    char *environment; /* strings, one behind the other, each with its zero byte */
    size_t environment_bytes;
    uint32_t deadline_ms, failures_max;
    sp_kv_type kv_type;
    bool recompute;
    struct {
        char *name, *path;
    } models[SPI_MODELS_MAX];
    uint32_t model_count;
} spi_record;
void spi_record_free(spi_record *record);

typedef enum spi_state_kind { SPI_STATE_FULL, SPI_STATE_DELTA, SPI_STATE_FILE } spi_state_kind;

/* A state without its bytes. */
typedef struct spi_state {
    uint64_t id, parent; /* parent 0: none */
    spi_state_kind kind;
    uint32_t depth;       /* deltas up to the snapshot that it builds on; 0: it is one */
    uint64_t chain_bytes; /* of those deltas */
    uint8_t name[SP_SNAPSHOT_ID_BYTES];
} spi_state;

/* A message, with copies of its own. */
typedef struct spi_mail {
    uint64_t id, sender, reply_to, sent_ms;
    uint32_t kind, begun, failures;
    char sender_name[SP_ACTOR_NAME_BYTES_MAX + 1];
    char *text; /* zero-terminated as well */
    size_t text_bytes;
} spi_mail;
void spi_mail_free(spi_mail *mail);

/* ---- life ---- */

/* The folder must be held. key may be NULL. */
sp_status spi_keeper_open(const char *folder, const uint8_t *key, bool without_sync, spi_keeper **keeper,
                          sp_error *error);
void spi_keeper_close(spi_keeper *keeper);

/* Everything between becomes durable together, by one sync; lazy: without waiting for the disk. What needs no such
 * bracket has one of its own. An end that fails has undone everything. */
sp_status spi_keeper_begin(spi_keeper *keeper, bool lazy, sp_error *error);
sp_status spi_keeper_end(spi_keeper *keeper, sp_error *error);
void spi_keeper_undo(spi_keeper *keeper);

/* ---- actors ---- */

sp_status spi_keeper_put_module(spi_keeper *keeper, const uint8_t hash[SP_MODULE_HASH_BYTES], const char *name,
                                const void *wasm, size_t wasm_bytes, uint64_t *id, sp_error *error);
sp_status spi_keeper_get_module(spi_keeper *keeper, uint64_t id, char **name, void **wasm, size_t *wasm_bytes,
                                sp_error *error); /* copies, checked against the hash */

/* Adds a record and sets its id; its state is held. SP_BUSY: the name is taken. */
sp_status spi_keeper_add(spi_keeper *keeper, spi_record *record, sp_error *error);
/* SP_NOT_FOUND. */
sp_status spi_keeper_find(spi_keeper *keeper, const char *name, spi_record *record, sp_error *error);
sp_status spi_keeper_get(spi_keeper *keeper, uint64_t id, spi_record *record, sp_error *error);
sp_status spi_keeper_find_id(spi_keeper *keeper, const char *name, uint64_t *id, sp_error *error); /* 0: none */
sp_status spi_keeper_next_name(spi_keeper *keeper, const char *after, char name[SP_ACTOR_NAME_BYTES_MAX + 1],
                               sp_error *error);
sp_status spi_keeper_remove(spi_keeper *keeper, const spi_record *record, sp_error *error);
sp_status spi_keeper_forget_recompute(spi_keeper *keeper, uint64_t actor, sp_error *error);

/* ---- states ---- */

/* Adds a state; who puts an actor into it takes over its one reference. */
sp_status spi_keeper_put_state(spi_keeper *keeper, spi_state *state, const void *bytes, size_t byte_count,
                               sp_error *error);
sp_status spi_keeper_get_state(spi_keeper *keeper, uint64_t id, spi_state *state, sp_error *error);
/* The bytes of a FULL or DELTA one, from spi_alloc. */
sp_status spi_keeper_get_bytes(spi_keeper *keeper, uint64_t id, spi_state *state, void **bytes, size_t *byte_count,
                               sp_error *error);
/* Puts an actor from one state into another; SP_BUSY if it is not in that one any more. commits: 1 for a commit, 0 for
 * the same state in another form. The old one is released. */
sp_status spi_keeper_move(spi_keeper *keeper, uint64_t actor, uint64_t from, uint64_t to, uint32_t commits,
                          sp_error *error);
/* Whether no actor is in this state. */
sp_status spi_keeper_is_left(spi_keeper *keeper, uint64_t state, bool *is_left, sp_error *error);
/* Whether some state is kept as a file of this name. */
sp_status spi_keeper_wants_file(spi_keeper *keeper, const uint8_t name[SP_SNAPSHOT_ID_BYTES], bool *is_kept,
                                sp_error *error);

/* ---- mail ---- */

uint64_t spi_keeper_next_id(spi_keeper *keeper); /* gives out a message's number */

/* Adds a message with the id that it has. key may be NULL; SP_OK with the earlier one's id in *existing (else 0). */
sp_status spi_keeper_post(spi_keeper *keeper, uint64_t actor, const spi_mail *mail, const char *key, uint64_t *existing,
                          sp_error *error);
sp_status spi_keeper_next_mail(spi_keeper *keeper, uint64_t actor, spi_mail *mail, bool *found, sp_error *error);
sp_status spi_keeper_begin_mail(spi_keeper *keeper, uint64_t id, sp_error *error);
/* Handled, or dead with the reason. */
sp_status spi_keeper_end_mail(spi_keeper *keeper, uint64_t id, bool is_dead, uint64_t now_ms, const char *reply,
                              size_t reply_bytes, const char *reason, sp_error *error);
sp_status spi_keeper_fail_mail(spi_keeper *keeper, uint64_t id, const char *reason, sp_error *error);
sp_status spi_keeper_prune(spi_keeper *keeper, uint64_t actor, uint64_t kept, sp_error *error);
/* Calls with every actor that has mail, in the order of their mail, perhaps several times. */
sp_status spi_keeper_waiting(spi_keeper *keeper, sp_status (*call)(void *env, uint64_t actor), void *env,
                             sp_error *error);

typedef enum spi_count { SPI_COUNT_QUEUED, SPI_COUNT_DEAD, SPI_COUNT_TIMERS, SPI_COUNT_LAST_MS } spi_count;
sp_status spi_keeper_count(spi_keeper *keeper, uint64_t actor, spi_count which, uint64_t *count, sp_error *error);

/* For the log: a letter whose texts are the keeper's, good until the next call of this. */
sp_status spi_keeper_log(spi_keeper *keeper, uint64_t actor, uint64_t after, uint32_t from_end, sp_letter *letter,
                         bool *found, sp_error *error);

/* ---- timers ---- */

sp_status spi_keeper_set_timer(spi_keeper *keeper, uint64_t actor, const char *note, size_t note_bytes, uint64_t due_ms,
                               sp_error *error); /* 0: forget */
/* Turns the earliest timer that is due into a message of its actor, if there is one. */
sp_status spi_keeper_fire(spi_keeper *keeper, uint64_t now_ms, uint64_t *actor, bool *found, sp_error *error);
sp_status spi_keeper_next_due(spi_keeper *keeper, uint64_t *due_ms, sp_error *error); /* UINT64_MAX: none */
/* The timer at this place in order, with a copy of its note (from spi_alloc). */
sp_status spi_keeper_get_timer(spi_keeper *keeper, uint64_t actor, uint32_t index, char **note, size_t *note_bytes,
                               uint64_t *due_ms, bool *found, sp_error *error);

#endif
