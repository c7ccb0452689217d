/* actor/keeper_mail.c - mailboxes, the log, and timers. */
#include <stdio.h>
#include <string.h>

#include "actor/keeper_inside.h"
#include "base/error.h"
#include "base/memory.h"

#define STATUS_DONE 1
#define STATUS_DEAD 2
#define KIND_TIMER  3

void spi_mail_free(spi_mail *mail) {
    spi_free(mail->text);
    *mail = (spi_mail){0};
}

uint64_t spi_keeper_next_id(spi_keeper *keeper) {
    return ++keeper->last_id;
}

sp_status spi_keeper_post(spi_keeper *keeper, uint64_t actor, const spi_mail *mail, const char *key, uint64_t *existing,
                          sp_error *error) {
    bool is_own;
    const void *sealed = NULL;
    size_t sealed_bytes = 0;
    *existing = 0;
    sp_status status = spi_keeper_enter(keeper, &is_own, false, error);
    if (status) {
        return status;
    }
    if (key) {
        status = spi_sql_number(keeper->sql, SPI_SQL_MESSAGE_BY_KEY, existing, error, "it", actor, key);
    }
    if (!status && !*existing) {
        status = spi_seal_close(&keeper->seal, mail->text, mail->text_bytes, &sealed, &sealed_bytes, error);
        status = status ? status
                        : spi_sql_run(keeper->sql, SPI_SQL_MESSAGE_ADD, error, "iiiititib", mail->id, actor,
                                      (uint64_t)mail->kind, mail->sender, mail->sender_name, mail->reply_to, key,
                                      mail->sent_ms, sealed, sealed_bytes);
        spi_seal_free(mail->text, sealed);
    }
    return spi_keeper_leave(keeper, is_own, status, error);
}

sp_status spi_keeper_next_mail(spi_keeper *keeper, uint64_t actor, spi_mail *mail, bool *found, sp_error *error) {
    size_t bytes;
    void *text = NULL;
    *mail = (spi_mail){0};
    *found = false;
    spi_row *row = spi_sql_use(keeper->sql, SPI_SQL_MESSAGE_NEXT, error, "i", actor);
    sp_status status = row ? spi_sql_step(keeper->sql, row, found, error) : SP_IO;
    if (status || !*found) {
        return status;
    }
    *mail = (spi_mail){
        .id = spi_row_number(row, 0),
        .kind = (uint32_t)spi_row_number(row, 1),
        .sender = spi_row_number(row, 2),
        .reply_to = spi_row_number(row, 4),
        .sent_ms = spi_row_number(row, 5),
        .begun = (uint32_t)spi_row_number(row, 7),
        .failures = (uint32_t)spi_row_number(row, 8),
    };
    snprintf(mail->sender_name, sizeof mail->sender_name, "%s", spi_row_text(row, 3));
    const void *sealed = spi_row_bytes(row, 6, &bytes);
    status = spi_seal_open(&keeper->seal, sealed, bytes, &text, &mail->text_bytes, error);
    mail->text = text;
    spi_sql_reset(row);
    return status;
}

sp_status spi_keeper_begin_mail(spi_keeper *keeper, uint64_t id, sp_error *error) {
    bool is_own;
    sp_status status = spi_keeper_enter(keeper, &is_own, true, error);
    if (status) {
        return status;
    }
    status = spi_sql_run(keeper->sql, SPI_SQL_MESSAGE_BEGIN, error, "i", id);
    return spi_keeper_leave(keeper, is_own, status, error);
}

sp_status spi_keeper_end_mail(spi_keeper *keeper, uint64_t id, bool is_dead, uint64_t now_ms, const char *reply,
                              size_t reply_bytes, const char *reason, sp_error *error) {
    const void *sealed, *sealed_reason;
    size_t sealed_bytes, reason_bytes = reason ? strlen(reason) : 0;
    sp_status status = spi_seal_close(&keeper->seal, reply, reply_bytes, &sealed, &sealed_bytes, error);
    if (status) {
        return status;
    }
    status = spi_seal_close(&keeper->seal, reason, reason_bytes, &sealed_reason, &reason_bytes, error);
    status = status ? status
                    : spi_sql_run(keeper->sql, SPI_SQL_MESSAGE_END, error, "iiibb", id,
                                  (uint64_t)(is_dead ? STATUS_DEAD : STATUS_DONE), now_ms, sealed, sealed_bytes,
                                  sealed_reason, reason_bytes);
    spi_seal_free(reply, sealed);
    spi_seal_free(reason, sealed_reason);
    return status;
}

sp_status spi_keeper_fail_mail(spi_keeper *keeper, uint64_t id, const char *reason, sp_error *error) {
    const void *sealed;
    size_t bytes;
    sp_status status = spi_seal_close(&keeper->seal, reason, strlen(reason), &sealed, &bytes, error);
    status = status ? status : spi_sql_run(keeper->sql, SPI_SQL_MESSAGE_FAIL, error, "ib", id, sealed, bytes);
    spi_seal_free(reason, sealed);
    return status;
}

sp_status spi_keeper_prune(spi_keeper *keeper, uint64_t actor, uint64_t kept, sp_error *error) {
    return spi_sql_run(keeper->sql, SPI_SQL_MESSAGE_PRUNE, error, "ii", actor, kept);
}

sp_status spi_keeper_waiting(spi_keeper *keeper, sp_status (*call)(void *env, uint64_t actor), void *env,
                             sp_error *error) {
    bool found;
    spi_row *row = spi_sql_use(keeper->sql, SPI_SQL_MESSAGE_WAITING, error, "");
    sp_status status = row ? SP_OK : SP_IO;
    while (!status && !(status = spi_sql_step(keeper->sql, row, &found, error)) && found) {
        status = call(env, spi_row_number(row, 0));
        if (status) {
            spi_fail(error, status, "no memory for the list of actors that have mail");
        }
    }
    spi_sql_reset(row);
    return status;
}

sp_status spi_keeper_count(spi_keeper *keeper, uint64_t actor, spi_count which, uint64_t *count, sp_error *error) {
    static const spi_statement statements[] = {
        [SPI_COUNT_QUEUED] = SPI_SQL_MESSAGE_QUEUED,
        [SPI_COUNT_DEAD] = SPI_SQL_MESSAGE_DEAD,
        [SPI_COUNT_TIMERS] = SPI_SQL_TIMER_COUNT,
        [SPI_COUNT_LAST_MS] = SPI_SQL_MESSAGE_LAST_MS,
    };
    *count = 0;
    return spi_sql_number(keeper->sql, statements[which], count, error, "i", actor);
}

/* ---- the log ---- */

static sp_status open_column(spi_keeper *keeper, spi_row *row, int column, char **text, uint32_t *text_bytes,
                             sp_error *error) {
    size_t bytes;
    void *plain = NULL;
    bool is_null = spi_row_is_null(row, column);
    const void *sealed = spi_row_bytes(row, column, &bytes);
    spi_free(*text);
    *text = NULL;
    sp_status status = is_null ? SP_OK : spi_seal_open(&keeper->seal, sealed, bytes, &plain, &bytes, error);
    if (!status && !(*text = is_null ? spi_copy_string("", 0) : plain)) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a message");
    }
    *text_bytes = is_null ? 0 : (uint32_t)bytes;
    return status;
}

static sp_status read_letter(spi_keeper *keeper, spi_row *row, sp_letter *letter, sp_error *error) {
    uint32_t reason_bytes;
    *letter = (sp_letter){
        .id = spi_row_number(row, 0),
        .kind = (uint32_t)spi_row_number(row, 1),
        .reply_to = spi_row_number(row, 4),
        .sent_ms = spi_row_number(row, 5),
        .status = (sp_letter_status)spi_row_number(row, 7),
        .handled_ms = spi_row_number(row, 8),
        .failures = (uint32_t)spi_row_number(row, 9),
    };
    snprintf(letter->sender, sizeof letter->sender, "%s", spi_row_text(row, 3));
    sp_status status = open_column(keeper, row, 6, &keeper->log_text, &letter->text_bytes, error);
    status = status ? status : open_column(keeper, row, 10, &keeper->log_reply, &letter->reply_bytes, error);
    status = status ? status : open_column(keeper, row, 11, &keeper->log_reason, &reason_bytes, error);
    letter->text = keeper->log_text;
    letter->reply = keeper->log_reply;
    letter->reason = keeper->log_reason;
    return status;
}

sp_status spi_keeper_log(spi_keeper *keeper, uint64_t actor, uint64_t after, uint32_t from_end, sp_letter *letter,
                         bool *found, sp_error *error) {
    uint64_t id = 0;
    sp_status status = SP_OK;
    *found = false;
    if (from_end) {
        status = spi_sql_number(keeper->sql, SPI_SQL_MESSAGE_FROM_END, &id, error, "ii", actor, (uint64_t)from_end - 1);
    }
    if (!status && !id) { /* fewer than that, too: the first */
        status = spi_sql_number(keeper->sql, SPI_SQL_MESSAGE_AFTER, &id, error, "ii", actor, from_end ? 0 : after);
    }
    if (status || !id) {
        return status;
    }
    spi_row *row = spi_sql_use(keeper->sql, SPI_SQL_MESSAGE_GET, error, "i", id);
    status = row ? spi_sql_step(keeper->sql, row, found, error) : SP_IO;
    if (!status && *found) {
        status = read_letter(keeper, row, letter, error);
    }
    spi_sql_reset(row);
    return status;
}

/* ---- timers ---- */

sp_status spi_keeper_set_timer(spi_keeper *keeper, uint64_t actor, const char *note, size_t note_bytes, uint64_t due_ms,
                               sp_error *error) {
    return due_ms ? spi_sql_run(keeper->sql, SPI_SQL_TIMER_SET, error, "ibi", actor, (const void *)note, note_bytes,
                                due_ms)
                  : spi_sql_run(keeper->sql, SPI_SQL_TIMER_FORGET, error, "ib", actor, (const void *)note, note_bytes);
}

/* The timer becomes a message: both in one transaction, so that neither is lost or doubled. */
static sp_status fire(spi_keeper *keeper, spi_row *row, uint64_t now_ms, uint64_t *actor, sp_error *error) {
    size_t bytes;
    uint64_t existing;
    const void *note = spi_row_bytes(row, 1, &bytes);
    *actor = spi_row_number(row, 0);
    spi_mail mail = {.id = spi_keeper_next_id(keeper),
                     .kind = KIND_TIMER,
                     .sent_ms = now_ms,
                     .text = spi_copy_string(note, bytes),
                     .text_bytes = bytes};
    spi_sql_reset(row);
    if (!mail.text) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a timer's message");
    }
    sp_status status = spi_keeper_set_timer(keeper, *actor, mail.text, bytes, 0, error);
    status = status ? status : spi_keeper_post(keeper, *actor, &mail, NULL, &existing, error);
    spi_mail_free(&mail);
    return status;
}

sp_status spi_keeper_fire(spi_keeper *keeper, uint64_t now_ms, uint64_t *actor, bool *found, sp_error *error) {
    bool is_own;
    *found = false;
    sp_status status = spi_keeper_enter(keeper, &is_own, true, error);
    if (status) {
        return status;
    }
    spi_row *row = spi_sql_use(keeper->sql, SPI_SQL_TIMER_DUE, error, "i", now_ms);
    status = row ? spi_sql_step(keeper->sql, row, found, error) : SP_IO;
    if (!status && *found) {
        status = fire(keeper, row, now_ms, actor, error);
    }
    return spi_keeper_leave(keeper, is_own, status, error);
}

sp_status spi_keeper_next_due(spi_keeper *keeper, uint64_t *due_ms, sp_error *error) {
    *due_ms = UINT64_MAX;
    return spi_sql_number(keeper->sql, SPI_SQL_TIMER_NEXT, due_ms, error, "");
}

sp_status spi_keeper_get_timer(spi_keeper *keeper, uint64_t actor, uint32_t index, char **note, size_t *note_bytes,
                               uint64_t *due_ms, bool *found, sp_error *error) {
    *note = NULL;
    spi_row *row = spi_sql_use(keeper->sql, SPI_SQL_TIMER_LIST, error, "ii", actor, (uint64_t)index);
    sp_status status = row ? spi_sql_step(keeper->sql, row, found, error) : SP_IO;
    if (status || !*found) {
        return status;
    }
    const void *bytes = spi_row_bytes(row, 0, note_bytes);
    *due_ms = spi_row_number(row, 1);
    *note = spi_copy_string(bytes, *note_bytes);
    spi_sql_reset(row);
    return *note ? SP_OK : spi_fail(error, SP_NO_MEMORY, "no memory for a timer");
}
