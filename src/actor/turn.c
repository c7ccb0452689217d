/* actor/turn.c - one message: from the mailbox to a commit, or back to the state before it. */
#include <stdio.h>
#include <string.h>

#include "actor/house.h"
#include "base/error.h"
#include "base/memory.h"
#include "device/backend.h"
#include "os/clock.h"

#define RECEIVE     "actor_receive"
#define BEGUN_MAX   20u /* times that the whole process may end while one message is handled */
#define KIND_ACTOR  1u
#define KIND_FAILED 4u
#define HARVEST_MAX 64u

void spi_turn_free(spi_turn *turn) {
    spi_mail_free(&turn->mail);
    spi_free(turn->reply);
    for (size_t i = 0; i < turn->sent_count; i++) {
        spi_free(turn->sent[i].text);
    }
    for (size_t i = 0; i < turn->alarm_count; i++) {
        spi_free(turn->alarms[i].note);
    }
    spi_free(turn->sent);
    spi_free(turn->alarms);
    sp_snapshot_close(turn->captured);
    *turn = (spi_turn){0};
}

/* ---- failing ---- */

/* An actor hears of it when its message is set aside. */
sp_status spi_turn_tell_sender(sp_actors *actors, const spi_mail *mail, const char *name, const char *reason,
                               sp_error *error) {
    spi_record sender;
    uint64_t existing;
    if (mail->kind != KIND_ACTOR || spi_keeper_get(actors->keeper, mail->sender, &sender, NULL)) {
        return SP_OK;
    }
    spi_record_free(&sender);
    spi_mail letter = {.id = spi_keeper_next_id(actors->keeper),
                       .kind = KIND_FAILED,
                       .reply_to = mail->id,
                       .sent_ms = spi_actors_now_ms(),
                       .text = (char *)(uintptr_t)reason,
                       .text_bytes = strlen(reason)};
    snprintf(letter.sender_name, sizeof letter.sender_name, "%s", name);
    sp_status status = spi_keeper_post(actors->keeper, mail->sender, &letter, NULL, &existing, error);
    if (!status) {
        (void)spi_actors_make_ready(actors, mail->sender);
    }
    return status;
}

/* Counts a failure of the guest's own, and sets the message aside after the last. */
static sp_status write_failure(sp_actors *actors, const spi_mail *mail, const char *name, const char *reason,
                               bool is_dead, sp_error *error) {
    spi_keeper *keeper = actors->keeper;
    sp_status status = spi_keeper_begin(keeper, false, error);
    if (status) {
        return status;
    }
    status = spi_keeper_fail_mail(keeper, mail->id, reason, error);
    if (is_dead) {
        status =
            status ? status : spi_keeper_end_mail(keeper, mail->id, true, spi_actors_now_ms(), "", 0, reason, error);
        status = status ? status : spi_turn_tell_sender(actors, mail, name, reason, error);
    }
    if (status) {
        spi_keeper_undo(keeper);
        return status;
    }
    return spi_keeper_end(keeper, error);
}

/* kept: the reason with what whoever listens has heard already. */
static void fail_message(sp_actors *actors, uint64_t actor, const char *name, const spi_mail *mail,
                         uint32_t failures_max, const char *reason, const char *kept) {
    sp_error error = {0};
    bool is_dead = mail->failures + 1 >= failures_max;
    if (write_failure(actors, mail, name, kept, is_dead, &error)) {
        spi_actors_hold(actors, actor, name, mail->id, &error);
        return;
    }
    spi_actors_tell_text(actors, is_dead ? SP_ACTOR_EVENT_DEAD : SP_ACTOR_EVENT_UNDONE, name, mail->id, reason);
    (void)spi_actors_make_ready(actors, actor);
}

/* The guest goes, and with it all that it did; its last commit is where it wakes. */
static void undo(spi_resident *resident, const char *reason) {
    sp_actors *actors = resident->actors;
    spi_mail mail = resident->turn.mail;
    uint64_t actor = resident->record.id;
    uint32_t failures_max = resident->record.failures_max;
    char name[sizeof resident->record.name], said[SP_ERROR_MESSAGE_BYTES], printed[320];
    char kept[sizeof said + sizeof printed + 32];
    memcpy(name, resident->record.name, sizeof name);
    bool has_printed = spi_resident_last_line(resident, printed, sizeof printed);
    snprintf(said, sizeof said, "%s", reason);
    snprintf(kept, sizeof kept, "%s%s%s", said, has_printed ? "; it had printed: " : "", printed);
    spi_resident_tell_output(resident);
    resident->turn.mail.text = NULL;
    spi_resident_destroy(resident);
    fail_message(actors, actor, name, &mail, failures_max, said, kept);
    spi_mail_free(&mail);
}

/* What failed is no guest: the card that it computes on is gone, and could not be opened again. The message stays where
 * it is, and counts nothing; it is looked at again when something else comes for the actor. */
static bool is_device_lost(const spi_resident *resident) {
    sp_device *device;
    sp_error ignored = {0};
    return !spi_supplies_device(resident->actors, resident->record.device, &device, &ignored) && device &&
           spi_device_is_lost(device);
}

static void keep_message(spi_resident *resident, const char *reason) {
    sp_actors *actors = resident->actors;
    uint64_t actor = resident->record.id, message = resident->turn.mail.id;
    char name[sizeof resident->record.name];
    sp_error why = {0};
    memcpy(name, resident->record.name, sizeof name);
    spi_fail(&why, SP_DEVICE_LOST, "%s", reason);
    spi_resident_tell_output(resident);
    spi_resident_destroy(resident);
    spi_actors_hold(actors, actor, name, message, &why);
}

/* ---- beginning ---- */

static sp_status start(spi_resident *resident, spi_mail *mail, sp_error *error) {
    spi_turn *turn = &resident->turn;
    *turn = (spi_turn){.mail = *mail, .begun_ns = spi_clock_ns()};
    *mail = (spi_mail){0};
    turn->message = (sp_guest_message){
        .id = turn->mail.id,
        .reply_to = turn->mail.reply_to,
        .time_ms = turn->mail.sent_ms,
        .kind = turn->mail.kind,
        .attempt = turn->mail.failures + 1,
        .text = turn->mail.text,
        .sender = turn->mail.sender_name,
        .text_bytes = (uint32_t)turn->mail.text_bytes,
    };
    resident->is_busy = true;
    resident->actors->busy_count++;
    sp_guest_get_counters(resident->guest, &turn->before);
    spi_resident_use(resident);
    return sp_guest_start(resident->guest, RECEIVE, NULL, 0, error);
}

static void begin(sp_actors *actors, uint64_t actor, spi_mail *mail) {
    sp_error error = {0};
    spi_resident *resident;
    spi_record record;
    uint64_t id = mail->id;
    sp_status status = spi_wake(actors, actor, &resident, &error);
    if (!status) {
        status = spi_keeper_begin_mail(actors->keeper, id, &error);
    }
    if (status) {
        bool is_there = !spi_keeper_get(actors->keeper, actor, &record, NULL);
        spi_actors_hold(actors, actor, is_there ? record.name : "", id, &error);
        spi_record_free(&record);
        return;
    }
    if (start(resident, mail, &error)) {
        undo(resident, error.message);
    }
}

void spi_turn_begin_next(sp_actors *actors, uint64_t actor) {
    spi_resident *resident = spi_resident_find(actors, actor);
    spi_mail mail;
    sp_error error = {0};
    bool found;
    if ((resident && resident->is_busy) || spi_actors_find_held(actors, actor)) {
        return; /* it is looked at again when that is over */
    }
    sp_status status = spi_keeper_next_mail(actors->keeper, actor, &mail, &found, &error);
    if (status) {
        spi_actors_hold(actors, actor, resident ? resident->record.name : "", 0, &error);
        return;
    }
    if (found && mail.begun >= BEGUN_MAX) {
        spi_record record;
        char reason[160];
        snprintf(reason, sizeof reason, "the program ended %u times while this message was handled", mail.begun);
        if (!spi_keeper_get(actors->keeper, actor, &record, NULL)) {
            fail_message(actors, actor, record.name, &mail, 0, reason, reason);
            spi_record_free(&record);
        }
    } else if (found) {
        begin(actors, actor, &mail);
    }
    spi_mail_free(&mail);
}

/* ---- ending ---- */

static void settle(spi_resident *resident, sp_status status, const sp_error *error) {
    sp_actors *actors = resident->actors;
    spi_turn *turn = &resident->turn;
    uint64_t actor = resident->record.id, message = turn->mail.id;
    char name[sizeof resident->record.name];
    memcpy(name, resident->record.name, sizeof name);
    spi_resident_tell_output(resident);
    if (status) {
        spi_resident_destroy(resident);
        spi_actors_hold(actors, actor, name, message, error);
        return;
    }
    sp_actor_commit figures = turn->figures;
    resident->is_busy = false;
    actors->busy_count--;
    spi_turn_free(turn);
    spi_resident_use(resident);
    (void)spi_actors_make_ready(actors, actor);
    sp_actor_event event = {
        .kind = SP_ACTOR_EVENT_DONE, .actor = name, .message = message, .text = "", .commit = &figures};
    spi_actors_tell(actors, &event);
}

/* True if the guest has handled the message; else why not. */
static bool has_handled(const spi_resident *resident, char *reason, size_t capacity) {
    const sp_guest *guest = resident->guest;
    int64_t result = sp_guest_result(guest);
    switch (sp_guest_get_state(guest)) {
    case SP_GUEST_IDLE:
        if (result < 0) {
            snprintf(reason, capacity, "%s said that it failed: %lld (%s)", RECEIVE, (long long)result,
                     result >= INT32_MIN ? sp_status_text((sp_status)result) : "unknown status");
        }
        return result >= 0;
    case SP_GUEST_EXITED:
        snprintf(reason, capacity, "it called exit(%d), and an actor's handler must return", sp_guest_exit_code(guest));
        return false;
    default: snprintf(reason, capacity, "%s", sp_guest_error(guest)->message); return false;
    }
}

void spi_turn_harvest(sp_actors *actors) {
    spi_resident *done[HARVEST_MAX];
    uint32_t count = 0;
    spi_link_node *next;
    for (spi_link_node *node = actors->residents.first; node && count < HARVEST_MAX; node = next) {
        spi_resident *resident = SPI_LIST_ITEM(node, spi_resident, node);
        char reason[SP_ERROR_MESSAGE_BYTES];
        next = node->next;
        if (!resident->is_busy || sp_guest_get_state(resident->guest) == SP_GUEST_RUNNING) {
            continue;
        }
        if (has_handled(resident, reason, sizeof reason)) {
            done[count++] = resident;
        } else if (is_device_lost(resident)) {
            keep_message(resident, reason);
        } else {
            undo(resident, reason);
        }
    }
    if (count) {
        spi_commit(actors, done, count, settle);
    }
}
