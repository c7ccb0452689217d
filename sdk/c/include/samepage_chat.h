/* samepage_chat.h - conversations in the format that a model was made for, without allocating.
 *
 * The format is found in the model's own chat template by the marks that it writes; the template is not executed. What
 * is formatted is only what is new, so that a session keeps the KV of everything before it:
 *
 *     sp_chat chat;
 *     sp_chat_open(&chat, model, work, sizeof work);
 *     sp_chat_text text = {.text = work, .capacity = sizeof work};
 *     sp_chat_user(&chat, "You are terse.", "Hello!", 6, &text);    first turn: with the system's message
 *     count = sp_chat_tokenize(&chat, model, &text, tokens, capacity);
 *     ... append, sample until sp_token_is_end ...
 *     sp_chat_user(&chat, NULL, "And then?", 9, &text);             next turn: closes the answer, adds the question
 *
 * What people write never becomes a special token: only the format's own marks are parsed as such.
 */
#ifndef SAMEPAGE_CHAT_H
#define SAMEPAGE_CHAT_H

#include <stdbool.h>
#include <stdint.h>

#include "samepage.h"

/* One format. Everything but the people's own words. */
typedef struct sp_chat_format {
    const char *name;
    const char *system_before, *system_after;
    const char *user_before, *user_after;
    const char *answer_before; /* the model goes on from here */
    const char *answer_lead;   /* what the model itself begins an answer with */
    const char *answer_after;  /* written before the next turn */
    bool system_inside;        /* the system's message is a part of the first user's */
    bool system_always;        /* there is one even if it is empty */
    bool trims;                /* white space around messages is removed */
} sp_chat_format;

typedef struct sp_chat {
    const sp_chat_format *format;
    char system_default[256]; /* what the template says if nobody gives a system message; "" for nothing */
    bool template_has_bos;
    uint32_t turn_count; /* of the user; set to 0 to begin a new conversation */
    bool is_answered;    /* the latest turn's answer must be closed before the next */
} sp_chat;

#define SP_CHAT_PIECES_MAX 16

/* Formatted text, and which pieces of it people wrote. */
typedef struct sp_chat_text {
    char *text; /* from the caller */
    uint32_t capacity, length;
    struct {
        uint32_t start, end;
    } pieces[SP_CHAT_PIECES_MAX]; /* written by people, in order */
    uint32_t piece_count;
    bool is_first; /* begins a conversation: the beginning-of-text token goes in front */
    bool overflow; /* it did not fit */
} sp_chat_text;

/* Finds the format in a template; an unknown or empty one is "plain". */
void sp_chat_init(sp_chat *chat, const char *template_text, uint32_t template_bytes);

/* The same with the model's own template. work is used meanwhile; 64 KiB are enough for the templates that there are.
 * SP_BUFFER_TOO_SMALL if not; a model without a template is SP_OK and "plain". */
int32_t sp_chat_open(sp_chat *chat, sp_handle model, char *work, uint32_t work_bytes);

/* Adds a turn of the user to text (which keeps what it has), up to where the answer begins. system counts in the first
 * turn only: NULL for the template's own, "" for none. */
void sp_chat_user(sp_chat *chat, const char *system, const char *user, uint32_t user_bytes, sp_chat_text *text);

/* Adds an answer as the model gave it: to rebuild a conversation from its words. */
void sp_chat_answer(sp_chat *chat, const char *answer, uint32_t answer_bytes, sp_chat_text *text);

/* Returns the number of tokens, or a status: SP_BUFFER_TOO_SMALL if the text or the tokens did not fit. capacity must
 * be at least twice the tokens of the longest piece that people wrote. */
int32_t sp_chat_tokenize(const sp_chat *chat, sp_handle model, const sp_chat_text *text, int32_t *tokens,
                         uint32_t capacity);

/* Empties a text for the next use. */
static inline void sp_chat_reset(sp_chat_text *text) {
    text->length = text->piece_count = 0;
    text->is_first = text->overflow = false;
}

#endif
