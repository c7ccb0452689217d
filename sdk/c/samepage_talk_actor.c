/* samepage_talk_actor.c - see samepage_talk.h: messages to an actor, answers as its replies. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "samepage_actor.h"
#include "samepage_talk.h"

static char words[64 << 10];
static bool is_open;

void sp_talk_say(const char *text, uint32_t bytes) {
    if (sp_actor_reply(text, bytes) < 0) {
        char why[SP_ERROR_TEXT_BYTES];
        sp_talk_fail(sp_error_text(why, sizeof why));
    }
}

_Noreturn void sp_talk_fail(const char *text) {
    fprintf(stderr, "%s\n", text);
    __builtin_trap();
}

int32_t sp_actor_receive(void) {
    sp_actor_message message;
    int32_t status = sp_actor_get_message(&message);
    if (status < 0 || message.bytes > sizeof words) { /* half of it would be another message */
        return status < 0 ? status : SP_LIMIT;
    }
    if (!is_open) {
        free(malloc(1)); /* the allocator claims what memory there is before sessions are put behind it */
        sp_talk_open();
        is_open = true;
    }
    int32_t bytes = sp_actor_read(0, words, sizeof words);
    if (bytes < 0) {
        return bytes;
    }
    sp_talk_turn(words, (uint32_t)bytes);
    return 0;
}
