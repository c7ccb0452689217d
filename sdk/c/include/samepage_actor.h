/* samepage_actor.h - the guest's side of actors in C.
 *
 * An actor is a guest whose memory is kept between messages: its variables, its heap and its sessions are its state,
 * and there is nothing to save or load. It is built as a reactor (clang -mexec-model=reactor) and defines
 *
 *     int32_t sp_actor_receive(void) {
 *         char text[256];
 *         int32_t bytes = sp_actor_read(0, text, sizeof text);
 *         return sp_actor_reply(text, (uint32_t)bytes);
 *     }
 *
 * which is called for one message at a time. When it has returned 0, all that it changed, replied, sent and set is made
 * durable together; if it returns a status, traps or takes too long, none of it has happened, and the message is tried
 * again. So it needs no checks of its own against doing things twice, as long as what it does stays inside of samepage.
 */
#ifndef SAMEPAGE_ACTOR_H
#define SAMEPAGE_ACTOR_H

#include "samepage.h"

/* sp_actor_message.kind */
#define SP_ACTOR_OUTSIDE 0 /* from a person or a program */
#define SP_ACTOR_ACTOR   1 /* from another actor: a reply goes back to it */
#define SP_ACTOR_REPLY   2 /* what another actor replied to a message of this one */
#define SP_ACTOR_TIMER   3 /* sp_actor_sleep_until's note */
#define SP_ACTOR_FAILED  4 /* a message of this one could not be handled: the text says why */

#define SP_ACTOR_NAME_BYTES 65 /* of the longest name, with a zero byte */

/* Yours. */
#ifdef __wasm__
__attribute__((export_name("actor_receive")))
#endif
int32_t
sp_actor_receive(void);

/* This actor's name as a string. */
static inline const char *sp_actor_self(char name[SP_ACTOR_NAME_BYTES]) {
    int32_t length = sp_import_actor_self(name, SP_ACTOR_NAME_BYTES - 1);
    name[length < 0 || length >= SP_ACTOR_NAME_BYTES ? 0 : length] = 0;
    return name;
}

/* Facts about the message that is being handled. */
static inline int32_t sp_actor_get_message(sp_actor_message *message) {
    memset(message, 0, sizeof *message);
    return sp_import_actor_message(message, sizeof *message);
}

/* Copies text of the message; returns how many bytes. */
static inline int32_t sp_actor_read(uint32_t offset, char *text, uint32_t capacity) {
    return sp_import_actor_read(offset, text, capacity);
}

/* The sender's name as a string; "" if it is no actor. */
static inline const char *sp_actor_sender(char name[SP_ACTOR_NAME_BYTES]) {
    int32_t length = sp_import_actor_sender(name, SP_ACTOR_NAME_BYTES - 1);
    name[length < 0 || length >= SP_ACTOR_NAME_BYTES ? 0 : length] = 0;
    return name;
}

/* Adds a piece to the reply. */
static inline int32_t sp_actor_reply(const char *text, uint32_t bytes) {
    return sp_import_actor_reply(text, bytes);
}

static inline int32_t sp_actor_reply_text(const char *text) {
    return sp_import_actor_reply(text, (uint32_t)strlen(text));
}

/* The message's number, which the reply to it will name; negative: a status. */
static inline int64_t sp_actor_send(const char *name, const char *text, uint32_t bytes) {
    return sp_import_actor_send(name, (uint32_t)strlen(name), text, bytes);
}

/* Milliseconds since 1970 (UTC). 0 forgets the timer with this note. */
static inline int32_t sp_actor_sleep_until(int64_t time_ms, const char *note) {
    return sp_import_actor_sleep_until(time_ms, note, (uint32_t)strlen(note));
}

static inline int64_t sp_actor_time_ms(void) {
    return sp_import_actor_time_ms();
}

#endif
