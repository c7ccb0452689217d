/* actor/actors.c - a folder of actors: opening, closing, what is told, and a step. See house.h. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "actor/folder.h"
#include "actor/house.h"
#include "base/error.h"
#include "base/memory.h"
#include "os/clock.h"

#define RESIDENT_MAX_DEFAULT   64u
#define RESIDENT_BYTES_DEFAULT ((uint64_t)2 << 30)
#define IDLE_MS_DEFAULT        60000u
#define BUSY_MAX               64u /* messages that are handled at once */
#define NEXT_MS_MAX            60000u
#define TIMERS_A_STEP          256

uint64_t spi_actors_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec < 0 ? 0 : (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- telling ---- */

void spi_actors_tell(sp_actors *actors, const sp_actor_event *event) {
    if (actors->listener) {
        actors->listener(actors->listener_env, event);
    }
}

void spi_actors_tell_text(sp_actors *actors, sp_actor_event_kind kind, const char *actor, uint64_t message,
                          const char *text) {
    sp_actor_event event = {
        .kind = kind, .actor = actor, .message = message, .text = text, .text_bytes = (uint32_t)strlen(text)};
    spi_actors_tell(actors, &event);
}

void spi_actors_notice(void *actors, const char *text) {
    spi_actors_tell_text(actors, SP_ACTOR_EVENT_NOTICE, "", 0, text);
}

/* ---- whose mail waits, and who cannot go on ---- */

sp_status spi_actors_make_ready(sp_actors *actors, uint64_t actor) {
    if (actors->ready_first > 1024 && actors->ready_first > actors->ready_count / 2) {
        actors->ready_count -= actors->ready_first;
        memmove(actors->ready, actors->ready + actors->ready_first, actors->ready_count * sizeof *actors->ready);
        actors->ready_first = 0;
    }
    if (!SPI_RESERVE(actors->ready, actors->ready_count, actors->ready_capacity)) {
        return SP_NO_MEMORY; /* it stays in the database: the next message or opening finds it */
    }
    actors->ready[actors->ready_count++] = actor;
    return SP_OK;
}

const spi_held *spi_actors_find_held(const sp_actors *actors, uint64_t actor) {
    for (size_t i = 0; i < actors->held_count; i++) {
        if (actors->held[i].actor == actor) {
            return &actors->held[i];
        }
    }
    return NULL;
}

void spi_actors_unhold(sp_actors *actors, uint64_t actor) {
    for (size_t i = 0; i < actors->held_count; i++) {
        if (actors->held[i].actor == actor) {
            actors->held[i] = actors->held[--actors->held_count];
            return;
        }
    }
}

void spi_actors_hold(sp_actors *actors, uint64_t actor, const char *name, uint64_t message, const sp_error *why) {
    const char *text = why->message[0] ? why->message : sp_status_text(why->status);
    spi_actors_unhold(actors, actor);
    if (SPI_RESERVE(actors->held, actors->held_count, actors->held_capacity)) {
        spi_held *held = &actors->held[actors->held_count++];
        held->actor = actor;
        snprintf(held->reason, sizeof held->reason, "%.*s", (int)sizeof held->reason - 1, text);
    }
    spi_actors_tell_text(actors, SP_ACTOR_EVENT_HELD, name, message, text);
}

/* ---- opening ---- */

sp_status sp_actors_folder(char *path, size_t capacity, sp_error *error) {
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    int length;
    if (data && *data == '/') {
        length = snprintf(path, capacity, "%s/samepage", data);
    } else if (home && *home == '/') {
        length = snprintf(path, capacity, "%s/.local/share/samepage", home);
    } else {
        return spi_fail(error, SP_NOT_FOUND, "there is no home for a data folder: give one (--data FOLDER)");
    }
    return length >= 0 && (size_t)length < capacity ? SP_OK
                                                    : spi_fail(error, SP_LIMIT, "the data folder's path is too long");
}

static sp_status choose_folder(const char *folder, char *path, size_t capacity, sp_error *error) {
    if (!folder) {
        return sp_actors_folder(path, capacity, error);
    }
    int length = snprintf(path, capacity, "%s", folder);
    return length >= 0 && (size_t)length < capacity ? SP_OK
                                                    : spi_fail(error, SP_LIMIT, "the data folder's path is too long");
}

sp_status sp_actors_exist(const char *folder, bool *exist, sp_error *error) {
    char path[4096];
    struct stat found;
    *exist = false;
    sp_status status = choose_folder(folder, path, sizeof path, error);
    if (!status && !stat(path, &found) && !S_ISDIR(found.st_mode)) {
        status = spi_fail(error, SP_INVALID, "%s is no folder: actors are kept in one (--data FOLDER)", path);
    }
    *exist = !status && spi_folder_was_held(path);
    return status;
}

static sp_status copy_options(sp_actors *actors, const sp_actors_options *options, sp_error *error) {
    char path[4096];
    sp_status status = choose_folder(options->folder, path, sizeof path, error);
    if (status) {
        return status;
    }
    actors->folder = spi_copy_string(path, strlen(path));
    actors->isa = options->isa ? spi_copy_string(options->isa, strlen(options->isa)) : NULL;
    if (!actors->folder || (options->isa && !actors->isa)) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to open %s", path);
    }
    if (options->key) {
        memcpy(actors->key, options->key, sizeof actors->key);
        actors->has_key = true;
    }
    actors->without_sync = options->without_sync;
    actors->thread_count = options->thread_count;
    actors->spare_bytes_max = options->spare_bytes_max;
    actors->resident_max = options->resident_max ? options->resident_max : RESIDENT_MAX_DEFAULT;
    actors->resident_bytes_max = options->resident_bytes_max ? options->resident_bytes_max : RESIDENT_BYTES_DEFAULT;
    actors->idle_ms = options->idle_ms ? options->idle_ms : IDLE_MS_DEFAULT;
    actors->listener = options->listener;
    actors->listener_env = options->listener_env;
    return SP_OK;
}

static sp_status open_store(sp_actors *actors, const sp_actors_options *options, sp_error *error) {
    char path[4096];
    if (options->without_store) {
        return SP_OK;
    }
    if (snprintf(path, sizeof path, "%s/blocks", actors->folder) >= (int)sizeof path) {
        return spi_fail(error, SP_LIMIT, "the data folder's path is too long");
    }
    sp_store_options store = {
        .folder = path,
        .bytes_max = options->store_bytes_max,
        .key = actors->has_key ? actors->key : NULL,
        .notice = spi_actors_notice,
        .notice_env = actors,
    };
    return sp_store_open(&store, &actors->store, error);
}

static sp_status add_waiting(void *env, uint64_t actor) {
    sp_actors *actors = env;
    bool is_again = actors->ready_count && actors->ready[actors->ready_count - 1] == actor;
    return is_again ? SP_OK : spi_actors_make_ready(actors, actor);
}

sp_status sp_actors_open(const sp_actors_options *options, sp_actors **out, sp_error *error) {
    static const sp_actors_options defaults;
    *out = NULL;
    options = options ? options : &defaults;
    sp_actors *actors = spi_alloc(1, sizeof *actors);
    if (!actors) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for actors");
    }
    actors->lock = -1;
    sp_status status = copy_options(actors, options, error);
    status = status ? status : spi_folder_hold(actors->folder, &actors->lock, error);
    status =
        status ? status : spi_keeper_open(actors->folder, options->key, options->without_sync, &actors->keeper, error);
    status = status ? status : open_store(actors, options, error);
    status = status ? status : sp_engine_create(options->engine, &actors->engine, error);
    status = status ? status : spi_fold_sweep(actors, error);
    status = status ? status : spi_keeper_waiting(actors->keeper, add_waiting, actors, error);
    status = status ? status : spi_keeper_next_due(actors->keeper, &actors->next_due_ms, error);
    if (status) {
        sp_actors_close(actors);
        return status;
    }
    *out = actors;
    return SP_OK;
}

void sp_actors_close(sp_actors *actors) {
    if (!actors) {
        return;
    }
    for (spi_link_node *node; (node = actors->residents.first);) {
        spi_resident_destroy(SPI_LIST_ITEM(node, spi_resident, node));
    }
    spi_supplies_close(actors);
    sp_engine_destroy(actors->engine);
    sp_store_close(actors->store);
    spi_keeper_close(actors->keeper);
    spi_folder_let_go(actors->lock);
    memset(actors->key, 0, sizeof actors->key);
    spi_free(actors->ready);
    spi_free(actors->held);
    spi_free(actors->look_name);
    spi_free(actors->look_path);
    spi_free(actors->isa);
    spi_free(actors->folder);
    spi_free(actors);
}

sp_store *sp_actors_store(sp_actors *actors) {
    return actors->store;
}

/* ---- a step ---- */

static void fire_timers(sp_actors *actors) {
    uint64_t now_ms = spi_actors_now_ms(), actor = 0;
    sp_error error = {0};
    bool found = true;
    for (int i = 0; i < TIMERS_A_STEP && found && actors->next_due_ms <= now_ms; i++) {
        if (spi_keeper_fire(actors->keeper, now_ms, &actor, &found, &error)) {
            spi_actors_notice(actors, error.message);
            actors->next_due_ms = now_ms + 1000; /* it is still there: later */
            return;
        }
        if (found) {
            spi_actors_unhold(actors, actor);
            (void)spi_actors_make_ready(actors, actor);
        } else {
            (void)spi_keeper_next_due(actors->keeper, &actors->next_due_ms, NULL);
        }
    }
}

static void begin_turns(sp_actors *actors) {
    while (actors->ready_first < actors->ready_count && actors->busy_count < BUSY_MAX &&
           actors->busy_count < actors->resident_max) {
        spi_turn_begin_next(actors, actors->ready[actors->ready_first++]);
    }
}

static void run_guests(sp_actors *actors, uint32_t ms_max) {
    const sp_guest *only = NULL;
    for (spi_link_node *node = actors->residents.first; node && actors->busy_count == 1; node = node->next) {
        spi_resident *resident = SPI_LIST_ITEM(node, spi_resident, node);
        only = resident->is_busy ? resident->guest : only;
    }
    (void)sp_engine_run(actors->engine, only, ms_max);
}

sp_status sp_actors_step(sp_actors *actors, uint32_t ms_max, uint32_t *next_ms) {
    uint64_t now_ms = spi_actors_now_ms();
    *next_ms = NEXT_MS_MAX;
    fire_timers(actors);
    begin_turns(actors);
    if (actors->busy_count) {
        run_guests(actors, ms_max);
        spi_turn_harvest(actors);
    }
    spi_resident_trim(actors, next_ms);
    spi_supplies_trim(actors);
    if (actors->next_due_ms != UINT64_MAX) {
        uint64_t left = actors->next_due_ms > now_ms ? actors->next_due_ms - now_ms : 0;
        *next_ms = left < *next_ms ? (uint32_t)left : *next_ms;
    }
    return actors->busy_count || actors->ready_first < actors->ready_count ? SP_OK : SP_TIMEOUT;
}
