/* actor/resident.c - actors in memory: the list in the order of their use, and who is put to sleep. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "actor/house.h"
#include "base/error.h"
#include "base/memory.h"
#include "os/clock.h"

spi_resident *spi_resident_find(sp_actors *actors, uint64_t actor) {
    for (spi_link_node *node = actors->residents.last; node; node = node->previous) {
        spi_resident *resident = SPI_LIST_ITEM(node, spi_resident, node);
        if (resident->record.id == actor) {
            return resident;
        }
    }
    return NULL;
}

sp_status spi_resident_create(sp_actors *actors, const spi_record *record, spi_resident **out, sp_error *error) {
    spi_resident *resident = spi_alloc(1, sizeof *resident);
    *out = resident;
    if (!resident) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to wake %s", record->name);
    }
    pthread_mutex_init(&resident->output_lock, NULL);
    resident->actors = actors;
    resident->record = *record;
    spi_list_append(&actors->residents, &resident->node);
    resident->used_ns = spi_clock_ns();
    return SP_OK;
}

void spi_resident_use(spi_resident *resident) {
    sp_actors *actors = resident->actors;
    uint64_t bytes = sp_region_size_bytes(sp_guest_region(resident->guest));
    actors->resident_bytes += bytes - resident->bytes;
    resident->bytes = bytes;
    resident->used_ns = spi_clock_ns();
    spi_list_append(&actors->residents, &resident->node);
}

void spi_resident_destroy(spi_resident *resident) {
    if (!resident) {
        return;
    }
    sp_actors *actors = resident->actors;
    actors->busy_count -= resident->is_busy;
    actors->resident_bytes -= resident->bytes;
    sp_tracker_destroy(resident->tracker);
    sp_guest_destroy(resident->guest);
    if (resident->module) {
        resident->module->users--;
    }
    spi_turn_free(&resident->turn);
    spi_record_free(&resident->record);
    spi_list_remove(&resident->node);
    pthread_mutex_destroy(&resident->output_lock);
    spi_free(resident);
}

/* ---- what guests print ---- */

void spi_resident_output(void *env, const void *bytes, size_t byte_count) {
    spi_resident *resident = env;
    pthread_mutex_lock(&resident->output_lock);
    size_t room = SPI_OUTPUT_BYTES_MAX - resident->output_bytes, count = byte_count < room ? byte_count : room;
    memcpy(resident->output + resident->output_bytes, bytes, count);
    resident->output_bytes += (uint32_t)count;
    pthread_mutex_unlock(&resident->output_lock);
}

size_t spi_resident_last_line(spi_resident *resident, char *line, size_t capacity) {
    pthread_mutex_lock(&resident->output_lock);
    size_t end = resident->output_bytes, start;
    while (end && strchr(" \r\n\t", resident->output[end - 1])) { /* and zero bytes */
        end--;
    }
    for (start = end; start && resident->output[start - 1] != '\n';) {
        start--;
    }
    int bytes = snprintf(line, capacity, "%.*s", (int)(end - start), resident->output + start);
    pthread_mutex_unlock(&resident->output_lock);
    return bytes > 0 ? (size_t)bytes : 0;
}

void spi_resident_tell_output(spi_resident *resident) {
    char text[SPI_OUTPUT_BYTES_MAX + 1];
    pthread_mutex_lock(&resident->output_lock);
    uint32_t bytes = resident->output_bytes;
    memcpy(text, resident->output, bytes);
    resident->output_bytes = 0;
    pthread_mutex_unlock(&resident->output_lock);
    if (bytes) {
        sp_actor_event event = {.kind = SP_ACTOR_EVENT_OUTPUT,
                                .actor = resident->record.name,
                                .message = resident->turn.mail.id,
                                .text = text,
                                .text_bytes = bytes};
        spi_actors_tell(resident->actors, &event);
    }
}

/* ---- sleep ---- */

static void put_to_sleep(spi_resident *resident) {
    sp_actors *actors = resident->actors;
    sp_error error = {0};
    char name[sizeof resident->record.name];
    memcpy(name, resident->record.name, sizeof name);
    if (!resident->is_removed && spi_fold_is_due(resident, true) && spi_fold(resident, &error)) {
        spi_actors_notice(actors, error.message); /* its deltas are safe: that it wakes more slowly is all */
    }
    spi_resident_destroy(resident);
    spi_actors_tell_text(actors, SP_ACTOR_EVENT_SLEPT, name, 0, "");
}

void spi_resident_trim(sp_actors *actors, uint32_t *next_ms) {
    int64_t now_ns = spi_clock_ns(), idle_ns = (int64_t)actors->idle_ms * 1000000;
    spi_link_node *next;
    for (spi_link_node *node = actors->residents.first; node; node = next) {
        spi_resident *resident = SPI_LIST_ITEM(node, spi_resident, node);
        next = node->next;
        if (resident->is_busy) {
            continue;
        }
        bool is_too_much =
            actors->residents.count > actors->resident_max || actors->resident_bytes > actors->resident_bytes_max;
        int64_t left_ns = resident->used_ns + idle_ns - now_ns;
        if (is_too_much || left_ns <= 0) {
            put_to_sleep(resident);
        } else {
            uint64_t left_ms = (uint64_t)left_ns / 1000000 + 1;
            *next_ms = left_ms < *next_ms ? (uint32_t)left_ms : *next_ms;
            break; /* the others were used later */
        }
    }
}

sp_status sp_actor_sleep(sp_actors *actors, const char *name, sp_error *error) {
    uint64_t id;
    sp_status status = spi_keeper_find_id(actors->keeper, name, &id, error);
    if (!status && !id) {
        return spi_fail(error, SP_NOT_FOUND, "there is no actor %.64s", name);
    }
    spi_resident *resident = status ? NULL : spi_resident_find(actors, id);
    if (resident && resident->is_busy) {
        return spi_fail(error, SP_BUSY, "%s is handling a message", name);
    }
    if (resident) {
        put_to_sleep(resident);
    }
    return status;
}
