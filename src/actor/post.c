/* actor/post.c - what a guest asks of its keeper while it handles a message. Effects are collected in the turn, and
 * happen with the commit; only pieces of the reply are shown before. */
#include <string.h>

#include "actor/house.h"
#include "base/error.h"
#include "base/memory.h"

#define SENT_MAX       1024u
#define SENT_BYTES_MAX ((size_t)64 << 20)
#define ALARMS_MAX     64u
#define NOTE_BYTES_MAX 255u

static const char *self(void *env) {
    return ((spi_resident *)env)->record.name;
}

static const sp_guest_message *current(void *env) {
    spi_resident *resident = env;
    return resident->is_busy ? &resident->turn.message : NULL;
}

static int64_t time_ms(void *env) {
    (void)env;
    return (int64_t)spi_actors_now_ms();
}

static sp_status reply(void *env, const char *text, uint32_t text_bytes, sp_error *error) {
    spi_resident *resident = env;
    spi_turn *turn = &resident->turn;
    if (text_bytes > SP_ACTOR_TEXT_BYTES_MAX - turn->reply_bytes) {
        return spi_fail(error, SP_LIMIT, "actor_reply: a reply of more than %u bytes", SP_ACTOR_TEXT_BYTES_MAX);
    }
    if (!spi_reserve((void **)&turn->reply, &turn->reply_capacity, turn->reply_bytes + text_bytes + 1, 1)) {
        return spi_fail(error, SP_NO_MEMORY, "actor_reply: the host has no memory for %u bytes", text_bytes);
    }
    if (text_bytes) {
        memcpy(turn->reply + turn->reply_bytes, text, text_bytes);
        turn->reply_bytes += text_bytes;
        sp_actor_event event = {.kind = SP_ACTOR_EVENT_PIECE,
                                .actor = resident->record.name,
                                .message = turn->mail.id,
                                .text = text,
                                .text_bytes = text_bytes};
        spi_actors_tell(resident->actors, &event);
    }
    return SP_OK;
}

/* An actor whose every message sends more than one would fill the disk. */
static sp_status check_queue(const spi_resident *resident, uint64_t to, const char *name, sp_error *error) {
    const spi_turn *turn = &resident->turn;
    uint64_t queued = 0;
    sp_status status = spi_keeper_count(resident->actors->keeper, to, SPI_COUNT_QUEUED, &queued, error);
    for (size_t i = 0; i < turn->sent_count; i++) {
        queued += turn->sent[i].to == to;
    }
    if (!status && queued >= spi_queue_max) {
        return spi_fail(error, SP_LIMIT, "actor_send: %u messages wait for %s already", spi_queue_max, name);
    }
    return status;
}

static sp_status send(void *env, const char *name, const char *text, uint32_t text_bytes, uint64_t *id,
                      sp_error *error) {
    spi_resident *resident = env;
    spi_keeper *keeper = resident->actors->keeper;
    spi_turn *turn = &resident->turn;
    uint64_t to = 0;
    size_t bytes = text_bytes;
    for (size_t i = 0; i < turn->sent_count; i++) {
        bytes += turn->sent[i].text_bytes;
    }
    if (text_bytes > SP_ACTOR_TEXT_BYTES_MAX || turn->sent_count == SENT_MAX || bytes > SENT_BYTES_MAX) {
        return spi_fail(error, SP_LIMIT, "actor_send: a message has at most %u bytes, and one turn sends at most %u",
                        SP_ACTOR_TEXT_BYTES_MAX, SENT_MAX);
    }
    sp_status status = spi_keeper_find_id(keeper, name, &to, error);
    if (status || !to) {
        return status ? status : spi_fail(error, SP_NOT_FOUND, "actor_send: there is no actor %s", name);
    }
    status = check_queue(resident, to, name, error);
    if (status) {
        return status;
    }
    char *copy = spi_copy_string(text, text_bytes);
    if (!copy || !SPI_RESERVE(turn->sent, turn->sent_count, turn->sent_capacity)) {
        spi_free(copy);
        return spi_fail(error, SP_NO_MEMORY, "actor_send: the host has no memory for %u bytes", text_bytes);
    }
    *id = spi_keeper_next_id(keeper);
    turn->sent[turn->sent_count++] = (spi_sent){.to = to, .id = *id, .text = copy, .text_bytes = text_bytes};
    return SP_OK;
}

static sp_status sleep_until(void *env, int64_t due_ms, const char *note, uint32_t note_bytes, sp_error *error) {
    spi_turn *turn = &((spi_resident *)env)->turn;
    if (due_ms < 0 || note_bytes > NOTE_BYTES_MAX) {
        return spi_fail(error, SP_INVALID, "actor_sleep_until: a time is not negative, and a note has at most %u bytes",
                        NOTE_BYTES_MAX);
    }
    if (turn->alarm_count == ALARMS_MAX) {
        return spi_fail(error, SP_LIMIT, "actor_sleep_until: one turn sets at most %u timers", ALARMS_MAX);
    }
    char *copy = spi_copy_string(note, note_bytes);
    if (!copy || !SPI_RESERVE(turn->alarms, turn->alarm_count, turn->alarm_capacity)) {
        spi_free(copy);
        return spi_fail(error, SP_NO_MEMORY, "actor_sleep_until: the host has no memory for a timer");
    }
    turn->alarms[turn->alarm_count++] = (spi_alarm){.note = copy, .note_bytes = note_bytes, .due_ms = (uint64_t)due_ms};
    return SP_OK;
}

const sp_guest_mail spi_post = {
    .self = self,
    .current = current,
    .reply = reply,
    .send = send,
    .sleep_until = sleep_until,
    .time_ms = time_ms,
};
