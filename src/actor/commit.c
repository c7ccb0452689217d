/* actor/commit.c - making turns durable: what changed in the guest, and everything that came of the message, in one
 * transaction with one sync. */
#include <stdio.h>
#include <string.h>

#include "actor/house.h"
#include "base/error.h"
#include "base/memory.h"
#include "os/clock.h"

#define KIND_ACTOR  1u
#define KIND_REPLY  2u
#define LOG_KEPT    1000u
#define PRUNE_EVERY 64u

/* What changed since the last commit, or all of the guest at its first. */
static sp_status capture(spi_resident *resident, sp_error *error) {
    spi_turn *turn = &resident->turn;
    sp_guest_counters after;
    sp_snapshot_info info;
    sp_error untaken = {0};
    int64_t begun_ns = spi_clock_ns();
    sp_store *store = resident->actors->store;
    /* Blocks and what is behind them follow in the store. */
    sp_capture_options options = {.store = store, .without_module = true, .without_cache = store != NULL};
    sp_guest_get_counters(resident->guest, &after);
    turn->figures.handle_ns = (uint64_t)(begun_ns - turn->begun_ns);
    turn->figures.spent = (sp_guest_counters){
        .host_calls = after.host_calls - turn->before.host_calls,
        .host_ns = after.host_ns - turn->before.host_ns,
        .compute_ns = after.compute_ns - turn->before.compute_ns,
        .prompt_tokens = after.prompt_tokens - turn->before.prompt_tokens,
        .prompt_ns = after.prompt_ns - turn->before.prompt_ns,
        .generated_tokens = after.generated_tokens - turn->before.generated_tokens,
        .generated_ns = after.generated_ns - turn->before.generated_ns,
        .slices = after.slices - turn->before.slices,
        .run_ns = after.run_ns - turn->before.run_ns,
    };
    sp_status status = resident->tracker ? sp_tracker_delta(resident->tracker, &options, &turn->captured, error)
                                         : sp_guest_capture(resident->guest, &options, &turn->captured, error);
    if (status) {
        return spi_fail_within(error, "the state of %s cannot be kept", resident->record.name);
    }
    if (store && sp_store_take_tails(store, resident->guest, &untaken)) {
        spi_actors_notice(resident->actors, untaken.message);
    }
    sp_snapshot_get_info(turn->captured, &info);
    turn->state = (spi_state){.kind = SPI_STATE_FULL};
    if (resident->tracker) {
        turn->state = (spi_state){.parent = resident->state.id,
                                  .kind = SPI_STATE_DELTA,
                                  .depth = resident->state.depth + 1,
                                  .chain_bytes = resident->state.chain_bytes + info.byte_count};
    }
    memcpy(turn->state.name, info.id, sizeof turn->state.name);
    turn->figures.state_bytes = info.byte_count;
    turn->figures.capture_ns = (uint64_t)(spi_clock_ns() - begun_ns);
    if (turn->state.kind == SPI_STATE_FULL && info.byte_count > SPI_ROW_BYTES_MAX) {
        status = spi_fold_write_file(resident->actors, turn->captured, &turn->state, error);
    }
    return status;
}

/* ---- effects ---- */

static sp_status post(spi_resident *resident, uint64_t to, uint64_t id, uint32_t kind, uint64_t reply_to,
                      const char *text, size_t text_bytes, sp_error *error) {
    uint64_t existing;
    spi_mail letter = {.id = id,
                       .kind = kind,
                       .sender = resident->record.id,
                       .reply_to = reply_to,
                       .sent_ms = spi_actors_now_ms(),
                       .text = (char *)(uintptr_t)text,
                       .text_bytes = text_bytes};
    memcpy(letter.sender_name, resident->record.name, sizeof letter.sender_name);
    return spi_keeper_post(resident->actors->keeper, to, &letter, NULL, &existing, error);
}

/* What it sent, and its reply if an actor asked. Who was removed meanwhile gets nothing. */
static sp_status post_all(spi_resident *resident, sp_error *error) {
    spi_keeper *keeper = resident->actors->keeper;
    spi_turn *turn = &resident->turn;
    spi_record to;
    sp_status status = SP_OK;
    for (size_t i = 0; i < turn->sent_count && !status; i++) {
        const spi_sent *sent = &turn->sent[i];
        if (!spi_keeper_get(keeper, sent->to, &to, NULL)) {
            spi_record_free(&to);
            status = post(resident, sent->to, sent->id, KIND_ACTOR, 0, sent->text, sent->text_bytes, error);
        }
    }
    if (!status && turn->mail.kind == KIND_ACTOR && turn->reply_bytes &&
        !spi_keeper_get(keeper, turn->mail.sender, &to, NULL)) {
        spi_record_free(&to);
        status = post(resident, turn->mail.sender, spi_keeper_next_id(keeper), KIND_REPLY, turn->mail.id, turn->reply,
                      turn->reply_bytes, error);
    }
    return status;
}

static sp_status set_alarms(spi_resident *resident, sp_error *error) {
    spi_turn *turn = &resident->turn;
    sp_status status = SP_OK;
    for (size_t i = 0; i < turn->alarm_count && !status; i++) {
        const spi_alarm *alarm = &turn->alarms[i];
        status = spi_keeper_set_timer(resident->actors->keeper, resident->record.id, alarm->note, alarm->note_bytes,
                                      alarm->due_ms, error);
    }
    return status;
}

static sp_status write_turn(spi_resident *resident, sp_error *error) {
    spi_keeper *keeper = resident->actors->keeper;
    spi_turn *turn = &resident->turn;
    const spi_record *record = &resident->record;
    size_t count;
    const void *bytes = sp_snapshot_bytes(turn->captured, &count);
    count = turn->state.kind == SPI_STATE_FILE ? 0 : count;
    sp_status status = spi_keeper_put_state(keeper, &turn->state, bytes, count, error);
    status = status ? status : spi_keeper_move(keeper, record->id, resident->state.id, turn->state.id, 1, error);
    status = status ? status
                    : spi_keeper_end_mail(keeper, turn->mail.id, false, spi_actors_now_ms(), turn->reply,
                                          turn->reply_bytes, NULL, error);
    status = status ? status : post_all(resident, error);
    status = status ? status : set_alarms(resident, error);
    if (!status && record->recompute) {
        status = spi_keeper_forget_recompute(keeper, record->id, error);
    }
    if (!status && record->commits % PRUNE_EVERY == PRUNE_EVERY - 1) {
        status = spi_keeper_prune(keeper, record->id, LOG_KEPT, error);
    }
    return status;
}

/* ---- after it ---- */

/* It is safe: the next delta builds on this. */
static sp_status accept(spi_resident *resident, sp_error *error) {
    spi_turn *turn = &resident->turn;
    sp_actors *actors = resident->actors;
    sp_status status = SP_OK;
    if (resident->tracker) {
        sp_tracker_accept(resident->tracker);
    } else {
        status = sp_tracker_create(resident->guest, turn->captured, NULL, &resident->tracker, error);
    }
    if (actors->store) { /* a fork may be in the state that this actor has left */
        bool is_left = false;
        (void)spi_keeper_is_left(actors->keeper, resident->state.id, &is_left, NULL);
        sp_store_settle_tails(actors->store, resident->guest, !is_left);
    }
    resident->state = turn->state;
    resident->record.state = turn->state.id;
    resident->record.recompute = false;
    turn->figures.number = ++resident->record.commits;
    for (size_t i = 0; i < turn->sent_count; i++) {
        spi_actors_unhold(actors, turn->sent[i].to);
        (void)spi_actors_make_ready(actors, turn->sent[i].to);
    }
    if (turn->mail.kind == KIND_ACTOR) {
        (void)spi_actors_make_ready(actors, turn->mail.sender);
    }
    if (turn->alarm_count) {
        (void)spi_keeper_next_due(actors->keeper, &actors->next_due_ms, NULL);
    }
    return status;
}

static sp_status write_all(sp_actors *actors, spi_resident **residents, uint32_t count, sp_error *error) {
    int64_t begun_ns = spi_clock_ns();
    sp_status status = spi_keeper_begin(actors->keeper, false, error);
    if (status) {
        return status;
    }
    for (uint32_t i = 0; i < count && !status; i++) {
        status = write_turn(residents[i], error);
    }
    if (status) {
        spi_keeper_undo(actors->keeper);
        return status;
    }
    status = spi_keeper_end(actors->keeper, error);
    for (uint32_t i = 0; i < count; i++) {
        residents[i]->turn.figures.write_ns = (uint64_t)(spi_clock_ns() - begun_ns);
    }
    return status;
}

typedef void (*settled_call)(spi_resident *resident, sp_status status, const sp_error *error);

/* Without a tracker the next commit writes all of the guest: slower, and as safe. */
static void settle_written(spi_resident *resident, settled_call settled) {
    sp_error error = {0};
    if (accept(resident, &error)) {
        spi_actors_notice(resident->actors, error.message);
    }
    settled(resident, SP_OK, NULL);
}

void spi_commit(sp_actors *actors, spi_resident **residents, uint32_t count, settled_call settled) {
    uint32_t captured = 0;
    sp_error error = {0};
    for (uint32_t i = 0; i < count; i++) {
        sp_status status = capture(residents[i], &error);
        if (status) {
            settled(residents[i], status, &error);
        } else {
            residents[captured++] = residents[i];
        }
    }
    if (!captured) {
        return;
    }
    if (!write_all(actors, residents, captured, &error)) {
        for (uint32_t i = 0; i < captured; i++) {
            settle_written(residents[i], settled);
        }
        return;
    }
    for (uint32_t i = 0; i < captured; i++) { /* one may be at fault for all: each by itself */
        sp_status status = captured > 1 ? write_all(actors, &residents[i], 1, &error) : error.status;
        if (status) {
            settled(residents[i], status, &error);
        } else {
            settle_written(residents[i], settled);
        }
    }
}
