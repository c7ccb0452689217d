/* samepage_talk.h - one conversation, two lives: a program at a terminal, or an actor.
 *
 * You define sp_talk_open and sp_talk_turn. With samepage_talk_program.c linked they are a program that reads lines
 * from standard input; with samepage_talk_actor.c, as a reactor, an actor that is sent messages. Neither knows which it
 * is.
 */
#ifndef SAMEPAGE_TALK_H
#define SAMEPAGE_TALK_H

#include <stdint.h>

/* Yours: called once, before the first turn. */
void sp_talk_open(void);

/* Yours: answers a line or message, by way of sp_talk_say. Longer ones than 64 KiB are refused, and do not come
 * here. */
void sp_talk_turn(const char *words, uint32_t bytes);

/* Shows a piece of the answer. */
void sp_talk_say(const char *text, uint32_t bytes);

/* Ends the program; undoes the turn of an actor. */
_Noreturn void sp_talk_fail(const char *text);

#endif
