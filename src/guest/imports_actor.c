/* guest/imports_actor.c - the imports of actors. What is behind them belongs to whoever keeps the actor and is reached
 * through sp_guest_mail; limits on numbers and sizes are that one's, too. */
#include <string.h>

#include "base/error.h"
#include "guest/imports.h"
#include "guest/imports_abi.h"

#define NAME_BYTES_MAX 64u

static const sp_guest_mail *mail_of(sp_guest *guest, const char *import, void **env) {
    const sp_guest_mail *mail = spi_guest_mail(guest, env);
    if (!mail) {
        spi_fail(spi_host_error(guest), SP_UNSUPPORTED,
                 "%s: this guest is no actor: 'samepage actor create' makes one of it", import);
    }
    return mail;
}

/* The message that is being handled, or NULL with the status in *status. */
static const sp_guest_message *message_of(sp_guest *guest, const char *import, sp_status *status) {
    void *env;
    const sp_guest_mail *mail = mail_of(guest, import, &env);
    const sp_guest_message *message = mail ? mail->current(env) : NULL;
    *status = mail ? SP_OK : SP_UNSUPPORTED;
    if (mail && !message) {
        *status = spi_fail(spi_host_error(guest), SP_INVALID, "%s: no message is being handled", import);
    }
    return message;
}

int32_t spi_host_actor_self(sp_guest *guest, spi_output text) {
    void *env;
    const sp_guest_mail *mail = mail_of(guest, "actor_self", &env);
    if (!mail) {
        return SP_UNSUPPORTED;
    }
    const char *name = mail->self(env);
    return spi_output_text(text, name, strlen(name));
}

int32_t spi_host_actor_message(sp_guest *guest, spi_output message) {
    sp_status status;
    const sp_guest_message *of = message_of(guest, "actor_message", &status);
    if (!of) {
        return status;
    }
    spi_abi_actor_message abi = {
        .id = of->id,
        .time_ms = of->time_ms,
        .reply_to = of->reply_to,
        .kind = of->kind,
        .bytes = of->text_bytes,
        .sender_bytes = (uint32_t)strlen(of->sender),
        .attempt = of->attempt,
    };
    spi_output_struct(message, &abi, sizeof abi);
    return SP_OK;
}

int32_t spi_host_actor_read(sp_guest *guest, uint32_t offset, spi_output text) {
    sp_status status;
    const sp_guest_message *of = message_of(guest, "actor_read", &status);
    if (!of) {
        return status;
    }
    if (offset > of->text_bytes) {
        return spi_fail(spi_host_error(guest), SP_INVALID, "actor_read: %u lies behind the %u bytes of the message",
                        offset, of->text_bytes);
    }
    uint32_t left = of->text_bytes - offset, count = left < text.count ? left : text.count;
    if (count) {
        memcpy(text.bytes, of->text + offset, count);
    }
    return (int32_t)count;
}

int32_t spi_host_actor_sender(sp_guest *guest, spi_output text) {
    sp_status status;
    const sp_guest_message *of = message_of(guest, "actor_sender", &status);
    return of ? spi_output_text(text, of->sender, strlen(of->sender)) : (int32_t)status;
}

int32_t spi_host_actor_reply(sp_guest *guest, spi_input text) {
    sp_status status;
    void *env;
    if (!message_of(guest, "actor_reply", &status)) {
        return status;
    }
    return spi_guest_mail(guest, &env)->reply(env, text.bytes, text.count, spi_host_error(guest));
}

int64_t spi_host_actor_send(sp_guest *guest, spi_input name, spi_input text) {
    sp_error *error = spi_host_error(guest);
    char to[SPI_NAME_BYTES];
    sp_status status;
    void *env;
    uint64_t id = 0;
    if (!message_of(guest, "actor_send", &status) ||
        (status = spi_input_name(guest, "actor_send", name, to)) != SP_OK) {
        return status;
    }
    if (strlen(to) > NAME_BYTES_MAX) {
        return spi_fail(error, SP_NOT_FOUND, "actor_send: no actor has a name of more than %u bytes", NAME_BYTES_MAX);
    }
    status = spi_guest_mail(guest, &env)->send(env, to, text.bytes, text.count, &id, error);
    return status ? (int64_t)status : (int64_t)id;
}

int32_t spi_host_actor_sleep_until(sp_guest *guest, int64_t time_ms, spi_input note) {
    sp_status status;
    void *env;
    if (!message_of(guest, "actor_sleep_until", &status)) {
        return status;
    }
    return spi_guest_mail(guest, &env)->sleep_until(env, time_ms, note.bytes, note.count, spi_host_error(guest));
}

int64_t spi_host_actor_time_ms(sp_guest *guest) {
    void *env;
    const sp_guest_mail *mail = mail_of(guest, "actor_time_ms", &env);
    return mail ? mail->time_ms(env) : (int64_t)SP_UNSUPPORTED;
}
