/* samepage/actor.h - guests with a name and a mailbox, durable in a folder.
 *
 *     send ──> mailbox ──> guest's actor_receive ──> one commit: memory, sessions, replies, messages, timers
 *
 * An actor is a guest whose state is kept between messages. A message that sp_actor_send has taken survives the end of
 * the process and a power cut. Handling it and everything that came of it become durable in one transaction; whatever
 * ends the process in between, afterwards the message was handled once, or it is handled again from the state before
 * it. A guest that traps, exits, overruns its deadline or says that it failed is put back to its last commit, and after
 * a few failures the message is set aside as dead, with the reason.
 *
 * Actors that are not busy cost nothing but their place on disk: they are put to sleep by policy and woken by a
 * message.
 *
 * One process at a time holds a folder. How others reach it: src/server/, `samepage actor serve`. What lies in it, and
 * what is guaranteed: docs/actors.md.
 *
 * Threads: a sp_actors and everything of it is used by the thread that opened it.
 */
#ifndef SAMEPAGE_ACTOR_H
#define SAMEPAGE_ACTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samepage/guest.h"
#include "samepage/snapshot.h"
#include "samepage/status.h"
#include "samepage/store.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sp_actors sp_actors; /* a data folder that this process holds */

#define SP_ACTOR_NAME_BYTES_MAX 64         /* a letter or digit, then letters, digits, '.', '-', '_' */
#define SP_ACTOR_TEXT_BYTES_MAX (1u << 20) /* of a message, and of a reply */

/* ---- what happens, as it happens ---- */

typedef enum sp_actor_event_kind {
    SP_ACTOR_EVENT_WOKEN,  /* it was brought into memory: woken */
    SP_ACTOR_EVENT_PIECE,  /* text is the next piece of the reply to the message: not yet durable */
    SP_ACTOR_EVENT_OUTPUT, /* text is what the guest wrote to its standard output or error */
    SP_ACTOR_EVENT_UNDONE, /* handling failed, all pieces are void, and it will be tried again: text says why */
    SP_ACTOR_EVENT_DEAD,   /* the same for the last time: the message is set aside */
    SP_ACTOR_EVENT_DONE,   /* the message was handled, and all of it is durable: commit */
    SP_ACTOR_EVENT_HELD,   /* it cannot go on for a reason that is not its own (no disk space, no model): text says why;
                              its messages wait until the next one comes or the folder is opened again */
    SP_ACTOR_EVENT_NOTICE, /* text is something worth knowing: a block that was damaged and computed again */
    SP_ACTOR_EVENT_SLEPT,  /* it was put out of memory */
} sp_actor_event_kind;

typedef struct sp_actor_woken {
    bool is_fresh; /* its first message: nothing was restored */
    uint32_t deltas;
    uint64_t bytes; /* of snapshot and deltas */
    uint64_t ns;
    sp_restore_report restore;
} sp_actor_woken;

typedef struct sp_actor_commit {
    uint64_t number;         /* of the actor's commits, from 1 */
    uint64_t state_bytes;    /* of the delta or snapshot that was written */
    uint64_t capture_ns;     /* finding what changed */
    uint64_t write_ns;       /* the transaction, the disk's sync included */
    uint64_t handle_ns;      /* from the start of the guest's call to its end */
    sp_guest_counters spent; /* by the guest for this message */
} sp_actor_commit;

typedef struct sp_actor_event {
    sp_actor_event_kind kind;
    const char *actor; /* "" if it is about none */
    uint64_t message;  /* 0 if it is about none */
    const char *text;
    uint32_t text_bytes;
    const sp_actor_woken *woken;
    const sp_actor_commit *commit;
} sp_actor_event;

/* Called on the thread that calls the library, and must not call it. */
typedef void (*sp_actor_listener)(void *env, const sp_actor_event *event);

/* ---- a folder ---- */

typedef struct sp_actors_options {
    const char *folder;       /* NULL: the user's own, sp_actors_folder */
    const uint8_t *key;       /* [SP_STORE_KEY_BYTES] encrypts texts, states and blocks; NULL: not encrypted. Copied. */
    uint64_t store_bytes_max; /* of KV blocks on disk; 0: 16 GiB */
    uint32_t resident_max;    /* actors in memory at once; 0: 64 */
    uint64_t resident_bytes_max; /* of their guests' memory; 0: 2 GiB */
    uint32_t idle_ms;            /* after which one is put to sleep; 0: 60,000 */
    uint32_t thread_count;       /* of cpu devices; 0: as many as there are processors */
    const char *isa;             /* of cpu devices; NULL: the best */
    uint64_t spare_bytes_max;    /* as of sp_device_options: memory of guests that were put to sleep, on cards */
    bool without_sync;           /* commits do not wait for the disk: for measuring only, a power cut loses them */
    bool without_store;          /* no KV blocks on disk: states carry them */
    const sp_engine_options *engine;
    sp_actor_listener listener; /* may be NULL */
    void *listener_env;
} sp_actors_options;

/* $XDG_DATA_HOME/samepage or ~/.local/share/samepage. SP_NOT_FOUND: there is no home. */
SP_EXPORT sp_status sp_actors_folder(char *path, size_t capacity, sp_error *error);

/* Whether there were ever actors in a folder (NULL: the user's own), without making or taking hold of it. SP_NOT_FOUND:
 * there is no home. SP_INVALID: what is there is no folder. */
SP_EXPORT sp_status sp_actors_exist(const char *folder, bool *exist, sp_error *error);

/* Makes the folder, mode 0700, if it is not there, and takes hold of it. SP_BUSY: another process holds it, named by
 * its pid. SP_BAD_FILE, SP_UNSUPPORTED (made by a newer version), SP_IO. */
SP_EXPORT sp_status sp_actors_open(const sp_actors_options *options, sp_actors **actors, sp_error *error);

/* What is being handled is dropped, to be handled when the folder is opened again. NULL is allowed. */
SP_EXPORT void sp_actors_close(sp_actors *actors);

/* Does what there is to do, for about that long at most: timers that are due, messages, putting to sleep. Returns SP_OK
 * if there may be more to do at once, SP_TIMEOUT if not, with in *next_ms how long until the next timer or time to put
 * one to sleep (at most 60,000). */
SP_EXPORT sp_status sp_actors_step(sp_actors *actors, uint32_t ms_max, uint32_t *next_ms);

/* ---- actors ---- */

typedef struct sp_actor_model {
    const char *name, *path; /* the path is made absolute */
} sp_actor_model;

typedef struct sp_actor_spec {
    const void *wasm;
    size_t wasm_bytes;
    const char *module_name; /* for messages */
    const sp_actor_model *models;
    uint32_t model_count;
    const char *device;             /* as sp_device_open takes it; NULL: "auto" */
    const char *const *environment; /* "KEY=VALUE" [environment_count] */
    uint32_t environment_count;
    sp_kv_type kv_type;        /* of the sessions that it makes (sp_guest_options) */
    uint64_t memory_bytes_max; /* 0: 4 GiB */
    uint32_t deadline_ms;      /* for a message; 0: 300,000 */
    uint32_t failures_max;     /* after which a message is dead; 0: 3 */
    bool recompute;            /* sessions may go on with another model (sp_restore_options) */
} sp_actor_spec;

/* Checks that the module can be an actor, that its models can be opened and the device, and keeps it. Nothing of it
 * runs before its first message. SP_INVALID (the name), SP_BUSY (the name is taken), SP_UNSUPPORTED, SP_NOT_FOUND,
 * ... */
SP_EXPORT sp_status sp_actor_create(sp_actors *actors, const char *name, const sp_actor_spec *spec, sp_error *error);

/* Puts a message into a mailbox; it is durable when this returns. key (may be NULL, at most 255 bytes): sending with a
 * key that the mailbox has seen sends nothing and gives the earlier message's id, so that who does not know whether a
 * send came through sends again. SP_NOT_FOUND, SP_LIMIT (too long, or 100,000 messages wait). */
SP_EXPORT sp_status sp_actor_send(sp_actors *actors, const char *name, const char *text, uint32_t text_bytes,
                                  const char *key, uint64_t *id, sp_error *error);

/* A second actor that goes on from the first's last commit. Mail and timers stay with the first. Costs the same at any
 * size. */
SP_EXPORT sp_status sp_actor_fork(sp_actors *actors, const char *name, const char *fork, sp_error *error);

/* Writes all of an actor into one file: module, state with the KV blocks' bytes, unread mail, timers. */
SP_EXPORT sp_status sp_actor_export(sp_actors *actors, const char *name, const char *path, sp_error *error);

/* Makes an actor of such a file. changes may be NULL; of it are used, where they are set: models (by name; a file has
 * models' names and paths, not their bytes), device, kv_type (of sessions made from then on), deadline_ms,
 * failures_max, recompute. It is woken once to see that it can be. The file is hostile: SP_BAD_FILE, SP_UNSUPPORTED,
 * and what sp_actor_create and sp_guest_restore say; but its blocks join the folder's store, which strangers should not
 * share. */
SP_EXPORT sp_status sp_actor_import(sp_actors *actors, const char *name, const char *path, const sp_actor_spec *changes,
                                    sp_error *error);

/* Removes it with its mail. What others sent and waits for it is told to them as failed. */
SP_EXPORT sp_status sp_actor_remove(sp_actors *actors, const char *name, sp_error *error);

/* Puts it out of memory now; SP_BUSY: a message is being handled. */
SP_EXPORT sp_status sp_actor_sleep(sp_actors *actors, const char *name, sp_error *error);

/* Folds its commits since the last snapshot into a new one, as happens by itself when they become many. */
SP_EXPORT sp_status sp_actor_fold(sp_actors *actors, const char *name, sp_error *error);

/* ---- looking ---- */

typedef struct sp_actor_info {
    char name[SP_ACTOR_NAME_BYTES_MAX + 1];
    char module[96], device[32], origin[SP_ACTOR_NAME_BYTES_MAX + 16]; /* origin: "", "fork of NAME", "import" */
    bool is_resident, is_busy;
    uint64_t commits, queued, dead, timers;
    uint64_t deltas, delta_bytes;   /* since the last snapshot */
    uint64_t created_ms, active_ms; /* active: of the last message that was handled; 0: none */
    uint64_t memory_bytes_max;
    uint32_t deadline_ms, failures_max;
    sp_kv_type kv_type;
    char held[256]; /* why it is held; "" if it is not */
} sp_actor_info;
SP_EXPORT sp_status sp_actor_get_info(sp_actors *actors, const char *name, sp_actor_info *info, sp_error *error);

/* The name that comes after this one in order; "" for the first. *next is "" behind the last. */
SP_EXPORT sp_status sp_actors_next(sp_actors *actors, const char *name, char next[SP_ACTOR_NAME_BYTES_MAX + 1],
                                   sp_error *error);

/* A model of an actor; NULL in both behind the last. Good until the next call. */
SP_EXPORT sp_status sp_actor_get_model(sp_actors *actors, const char *name, uint32_t index, sp_actor_model *model,
                                       sp_error *error);

typedef enum sp_letter_status { SP_LETTER_QUEUED, SP_LETTER_DONE, SP_LETTER_DEAD } sp_letter_status;

typedef struct sp_letter {
    uint64_t id, reply_to;
    uint32_t kind; /* as sdk/c/include/samepage_actor.h has them */
    sp_letter_status status;
    char sender[SP_ACTOR_NAME_BYTES_MAX + 1];
    uint64_t sent_ms, handled_ms;
    uint32_t failures;
    const char *text, *reply, *reason; /* zero-terminated as well; reason: of the latest failure */
    uint32_t text_bytes, reply_bytes;
} sp_letter;

/* The first message with a larger id; *found is false behind the last. from_end > 0: instead, that many from the end.
 * What it points to is good until the next call of any function of the folder. */
SP_EXPORT sp_status sp_actor_log(sp_actors *actors, const char *name, uint64_t after, uint32_t from_end,
                                 sp_letter *letter, bool *found, sp_error *error);

/* The last committed state of an actor as a snapshot, for looking at it; NULL: it has none yet. */
SP_EXPORT sp_status sp_actor_snapshot(sp_actors *actors, const char *name, sp_snapshot **snapshot, sp_error *error);

SP_EXPORT sp_store *sp_actors_store(sp_actors *actors); /* borrowed; NULL without one */

#ifdef __cplusplus
}
#endif
#endif
