/* actor/house.h - the inside of sp_actors: what the files above the keeper share.
 *
 *     actors.c    opening, closing, a step         supplies.c  devices, models and modules, opened once
 *     resident.c  actors in memory, and sleep      wake.c      from a state to a guest
 *     turn.c      one message: start to end        post.c      what a guest asks meanwhile
 *     commit.c    making a turn durable            fold.c      deltas into a snapshot
 *     manage.c    create, send, fork, remove       carry.c     export and import
 *     look.c      information
 *
 * May include: snapshot, guest, os, base.
 */
#ifndef SPI_ACTOR_HOUSE_H
#define SPI_ACTOR_HOUSE_H

#include "actor/keeper.h"
#include "guest/list.h"
#include "os/thread.h"
#include "samepage/actor.h"

#define SPI_OUTPUT_BYTES_MAX 4096u
extern uint32_t spi_queue_max; /* messages that wait for one actor, whoever sends them; fewer in tests */

/* ---- a message that is being handled ---- */

typedef struct spi_sent {
    uint64_t to, id;
    char *text;
    size_t text_bytes;
} spi_sent;

typedef struct spi_alarm {
    char *note;
    size_t note_bytes;
    uint64_t due_ms; /* 0: forget */
} spi_alarm;

typedef struct spi_turn {
    spi_mail mail;
    sp_guest_message message;
    char *reply;
    size_t reply_bytes, reply_capacity;
    spi_sent *sent;
    size_t sent_count, sent_capacity;
    spi_alarm *alarms;
    size_t alarm_count, alarm_capacity;
    int64_t begun_ns;
    sp_guest_counters before;
    sp_snapshot *captured; /* while it is committed */
    spi_state state;       /* the same */
    sp_actor_commit figures;
} spi_turn;

/* ---- an actor in memory ---- */

typedef struct spi_resident {
    spi_link_node node; /* in residents: the one that was used longest ago first */
    struct sp_actors *actors;
    spi_record record;
    spi_state state; /* id 0: none yet */
    struct spi_module *module;
    sp_guest *guest;
    sp_tracker *tracker; /* NULL before the first commit */
    bool is_busy, is_removed;
    int64_t used_ns;
    uint64_t bytes;
    spi_turn turn;

    pthread_mutex_t output_lock; /* the guest's streams are written from another thread */
    char output[SPI_OUTPUT_BYTES_MAX + 1];
    uint32_t output_bytes;
} spi_resident;

/* ---- what actors share ---- */

typedef struct spi_module {
    uint64_t id;
    sp_module *module;
    char *name;
    void *wasm;
    size_t wasm_bytes;
    uint32_t users;
} spi_module;

typedef struct spi_device {
    char *name; /* as it was asked for */
    sp_device *device;
} spi_device;

typedef struct spi_model {
    char *path;
    sp_device *device;
    sp_model *model;
    uint64_t used; /* the step in which an actor in memory last had it */
} spi_model;

typedef struct spi_held {
    uint64_t actor;
    char reason[256];
} spi_held;

struct sp_actors {
    char *folder;
    int lock;
    uint8_t key[SP_STORE_KEY_BYTES];
    bool has_key, without_sync;
    uint32_t resident_max, idle_ms, thread_count;
    uint64_t resident_bytes_max;
    char *isa;
    uint64_t spare_bytes_max;
    sp_actor_listener listener;
    void *listener_env;
    spi_keeper *keeper;
    sp_store *store;
    sp_engine *engine;

    spi_list residents;
    uint32_t busy_count;
    uint64_t resident_bytes;
    uint64_t *ready; /* actors that may have mail, in turn: [ready_first .. ready_count) */
    size_t ready_first, ready_count, ready_capacity;
    spi_held *held;
    size_t held_count, held_capacity;
    uint64_t next_due_ms; /* of a timer, as of the latest look; UINT64_MAX: none */

    spi_module **modules;
    size_t module_count, module_capacity;
    spi_device *devices;
    size_t device_count, device_capacity;
    spi_model *models;
    size_t model_count, model_capacity;
    uint64_t step_count;
    char *look_name, *look_path; /* what sp_actor_get_model gave */
};

/* actors.c */
uint64_t spi_actors_now_ms(void);
void spi_actors_tell(sp_actors *actors, const sp_actor_event *event);
void spi_actors_tell_text(sp_actors *actors, sp_actor_event_kind kind, const char *actor, uint64_t message,
                          const char *text);
void spi_actors_notice(void *actors, const char *text); /* a sp_notice */
sp_status spi_actors_make_ready(sp_actors *actors, uint64_t actor);
void spi_actors_hold(sp_actors *actors, uint64_t actor, const char *name, uint64_t message, const sp_error *why);
void spi_actors_unhold(sp_actors *actors, uint64_t actor);
const spi_held *spi_actors_find_held(const sp_actors *actors, uint64_t actor); /* NULL */

/* supplies.c */
sp_status spi_supplies_module(sp_actors *actors, uint64_t id, spi_module **module, sp_error *error);
/* The same for one whose bytes are at hand; put into the keeper. */
sp_status spi_supplies_add_module(sp_actors *actors, const char *name, const void *wasm, size_t wasm_bytes,
                                  spi_module **module, sp_error *error);
/* After a transaction that put it there was undone: its id means nothing any more. */
void spi_supplies_forget_module(sp_actors *actors, const void *wasm, size_t wasm_bytes);
sp_status spi_supplies_device(sp_actors *actors, const char *name, sp_device **device, sp_error *error);
sp_status spi_supplies_model(sp_actors *actors, const char *path, sp_device *device, sp_model **model, sp_error *error);
/* Closes the models that no actor in memory has, but for the SPI_MODELS_IDLE_MAX that one had last: which there are is
 * up to whoever makes actors. */
void spi_supplies_trim(sp_actors *actors);
void spi_supplies_close(sp_actors *actors);
#define SPI_MODELS_IDLE_MAX 4u

/* resident.c */
spi_resident *spi_resident_find(sp_actors *actors, uint64_t actor); /* NULL: it sleeps */
sp_status spi_resident_create(sp_actors *actors, const spi_record *record, spi_resident **resident,
                              sp_error *error);    /* takes the record over, without a guest */
void spi_resident_destroy(spi_resident *resident); /* what it has not committed is gone */
void spi_resident_use(spi_resident *resident);     /* it was used now */
void spi_resident_output(void *resident, const void *bytes, size_t byte_count); /* a sp_guest_output */
void spi_resident_tell_output(spi_resident *resident);
/* The last line of what it printed and was not told of yet: who fails mostly says why. 0: there is none. */
size_t spi_resident_last_line(spi_resident *resident, char *line, size_t capacity);
/* Puts the longest unused ones to sleep, as long as there are too many or ones that were idle for too long. */
void spi_resident_trim(sp_actors *actors, uint32_t *next_ms);

/* wake.c */
sp_status spi_wake(sp_actors *actors, uint64_t actor, spi_resident **resident, sp_error *error);
/* A record's last state as one snapshot. deltas and bytes (may be NULL): what it was made of. */
sp_status spi_wake_snapshot(sp_actors *actors, const spi_record *record, sp_snapshot **snapshot, uint32_t *deltas,
                            uint64_t *bytes, sp_error *error);
/* The same as a guest, for an actor that is not kept yet. */
sp_status spi_wake_from(spi_resident *resident, const sp_snapshot *snapshot, sp_restore_report *report,
                        sp_error *error);

/* post.c */
extern const sp_guest_mail spi_post;

/* turn.c */
void spi_turn_free(spi_turn *turn);
/* Begins the next message of an actor, if there is one and it may. */
void spi_turn_begin_next(sp_actors *actors, uint64_t actor);
/* Tells an actor that its message was set aside. */
sp_status spi_turn_tell_sender(sp_actors *actors, const spi_mail *mail, const char *name, const char *reason,
                               sp_error *error);
/* Ends every turn whose guest is through. */
void spi_turn_harvest(sp_actors *actors);

/* commit.c. Makes the turns of all these durable together, by one sync; where that fails, each by itself. settled is
 * called for each with what came of it: on failure nothing of that turn has happened, and the guest must go. */
void spi_commit(sp_actors *actors, spi_resident **residents, uint32_t count,
                void (*settled)(spi_resident *resident, sp_status status, const sp_error *error));

/* fold.c */
bool spi_fold_is_due(const spi_resident *resident, bool goes_to_sleep);
sp_status spi_fold(spi_resident *resident, sp_error *error);
/* Writes a snapshot as a file of the folder, and fills in the state that says so. */
sp_status spi_fold_write_file(sp_actors *actors, const sp_snapshot *snapshot, spi_state *state, sp_error *error);
#define SPI_ROW_BYTES_MAX ((uint64_t)8 << 20) /* larger snapshots are files and not rows from the start */
/* The snapshot that a chain of states begins with; id 0: there is no state. */
sp_status spi_fold_find_file(sp_actors *actors, uint64_t state_id, spi_state *base, sp_error *error);
void spi_fold_drop_file(sp_actors *actors, const spi_state *base); /* removes its file if nobody needs it any more */
sp_status spi_fold_sweep(sp_actors *actors, sp_error *error);      /* removes files of states that nobody needs */

/* manage.c */
sp_status spi_manage_check_name(const char *name, sp_error *error);
/* A record of what is wanted, with defaults filled in and paths made absolute; its models are opened to see that they
 * can be. */
sp_status spi_manage_make_record(sp_actors *actors, const char *name, const sp_actor_spec *spec, spi_record *record,
                                 sp_error *error);

#endif
