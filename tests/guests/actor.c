/* tests/guests/actor.c - an actor that does what it is told, for tests. The first word of a message is what to do:
 *
 *   count            adds one to a number in its memory and replies it
 *   echo TEXT        replies TEXT
 *   send NAME TEXT   sends TEXT to NAME and replies the message's number
 *   timer MS NOTE    sets a timer that many milliseconds from now; "timer 0 NOTE" forgets it
 *   heard            replies what came from actors and timers so far, and forgets it
 *   fill BYTES       writes over that many bytes of its memory with numbers that follow from those before
 *   grow MIB         takes that much more memory and writes to all of it; replies a sum over what it took before
 *   sum              replies a hash of all that it keeps
 *   think N TEXT     has a model go on from TEXT for N tokens, in one session that it keeps, and replies their ids
 *   turn N BYTES TEXT  does as think and fill do, in one turn
 *   big BYTES        replies that many bytes
 *   trap, loop, exit, fail
 *                    counts, replies, sends itself a message, sets a timer, and then does not end well
 *   flaky N          fails until its message has been tried N times
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "samepage_actor.h"

#define KEPT_BYTES (1u << 20)

static char words[4096], heard[4096];
static uint64_t count;
static uint32_t heard_bytes;
static uint8_t *kept;
static uint32_t generator = 1;
static sp_handle session, sampler, model;

static int32_t say_number(int64_t value) {
    char text[32];
    return sp_actor_reply(text, (uint32_t)snprintf(text, sizeof text, "%lld", (long long)value));
}

static void hear(const char *name, const char *text) {
    int length = snprintf(heard + heard_bytes, sizeof heard - heard_bytes, "%s:%s;", name, text);
    heard_bytes += length > 0 && (uint32_t)length < sizeof heard - heard_bytes ? (uint32_t)length : 0;
}

static int32_t tell_heard(void) {
    int32_t status = sp_actor_reply(heard, heard_bytes);
    heard_bytes = 0;
    return status;
}

static int32_t fill(uint32_t bytes) {
    for (uint32_t i = 0; kept && i < bytes && i < KEPT_BYTES; i++) {
        generator = generator * 1664525u + 1013904223u;
        kept[i] = (uint8_t)(generator >> 24);
    }
    return say_number(generator);
}

static int32_t grow(uint32_t mib) {
    static uint32_t *grown, grown_count;
    uint64_t total = 0;
    for (uint32_t i = 0; i < grown_count; i++) {
        total += grown[i];
    }
    grown_count = mib << 18;
    grown = malloc((size_t)grown_count * sizeof *grown);
    for (uint32_t i = 0; grown && i < grown_count; i++) {
        grown[i] = i * 2654435761u;
    }
    return grown ? say_number((int64_t)total) : SP_NO_MEMORY;
}

static int32_t sum(void) {
    uint64_t hash = 14695981039346656037u;
    for (uint32_t i = 0; kept && i < KEPT_BYTES; i++) {
        hash = (hash ^ kept[i]) * 1099511628211u;
    }
    hash = (hash ^ count) * 1099511628211u;
    return say_number((int64_t)(hash ^ generator));
}

static int32_t think(uint32_t wanted, const char *text) {
    static int32_t tokens[1024];
    if (!session) {
        model = sp_model_open("");
        session = sp_session_create(model, 1024, 1);
        sampler = sp_sampler_create(&(sp_sampler_options){.temperature = 0.8f, .seed = 7});
    }
    int32_t got = sp_tokenize(model, text, (uint32_t)strlen(text), SP_ENCODE_SPECIAL, tokens, 1024);
    int32_t status = got < 0 ? got : sp_session_append(session, tokens, (uint32_t)got, SP_LOGITS_LAST);
    for (uint32_t i = 0; i < wanted && status >= 0; i++) {
        int32_t token = sp_session_sample(session, sampler);
        status = token < 0 ? token : sp_session_append(session, &token, 1, SP_LOGITS_LAST);
        if (status >= 0) {
            say_number(token);
            status = sp_actor_reply(" ", 1);
        }
    }
    return status;
}

static int32_t big(uint32_t bytes) {
    int32_t status = 0;
    memset(words, 'x', sizeof words);
    for (uint32_t at = 0; at < bytes && status >= 0; at += sizeof words) {
        status = sp_actor_reply(words, bytes - at < sizeof words ? bytes - at : sizeof words);
    }
    return status;
}

static int32_t end_badly(const char *how) {
    char name[SP_ACTOR_NAME_BYTES];
    count++;
    fill(70000);
    sp_actor_send(sp_actor_self(name), "count", 5);
    sp_actor_sleep_until(sp_actor_time_ms(), "never");
    if (!strcmp(how, "trap")) {
        __builtin_trap();
    }
    while (!strcmp(how, "loop")) {
        __asm__ volatile("");
    }
    if (!strcmp(how, "exit")) {
        exit(3);
    }
    return SP_INVALID;
}

static int32_t obey(char *text) {
    char *verb = strtok(text, " "), *first = strtok(NULL, " "), *rest = strtok(NULL, "");
    uint32_t number = first ? (uint32_t)strtoul(first, NULL, 10) : 0;
    if (!verb) {
        return SP_INVALID;
    }
    if (!strcmp(verb, "count")) {
        return say_number((int64_t)++count);
    }
    if (!strcmp(verb, "echo")) {
        sp_actor_reply_text(first ? first : "");
        return rest ? (sp_actor_reply(" ", 1), sp_actor_reply_text(rest)) : 0;
    }
    if (!strcmp(verb, "send") && rest) {
        int64_t id = sp_actor_send(first, rest, (uint32_t)strlen(rest));
        return say_number(id);
    }
    if (!strcmp(verb, "timer") && rest) {
        return sp_actor_sleep_until(number ? sp_actor_time_ms() + number : 0, rest);
    }
    if (!strcmp(verb, "heard")) {
        return tell_heard();
    }
    if (!strcmp(verb, "fill")) {
        return fill(number);
    }
    if (!strcmp(verb, "grow")) {
        return grow(number);
    }
    if (!strcmp(verb, "sum")) {
        return sum();
    }
    if (!strcmp(verb, "think")) {
        return think(number, rest ? rest : "");
    }
    if (!strcmp(verb, "turn") && rest) {
        char *more = NULL;
        fill((uint32_t)strtoul(rest, &more, 10));
        return think(number, more);
    }
    if (!strcmp(verb, "big")) {
        return big(number);
    }
    if (!strcmp(verb, "flaky")) {
        sp_actor_message message;
        sp_actor_get_message(&message);
        count++;
        return message.attempt < number ? SP_INVALID : say_number((int64_t)count);
    }
    return end_badly(verb);
}

int32_t sp_actor_receive(void) {
    sp_actor_message message;
    char name[SP_ACTOR_NAME_BYTES];
    kept = kept ? kept : calloc(1, KEPT_BYTES);
    int32_t status = sp_actor_get_message(&message), bytes = sp_actor_read(0, words, sizeof words - 1);
    if (status < 0 || bytes < 0) {
        return status < 0 ? status : bytes;
    }
    words[bytes] = 0;
    if (message.kind == SP_ACTOR_TIMER || message.kind == SP_ACTOR_REPLY || message.kind == SP_ACTOR_FAILED) {
        hear(message.kind == SP_ACTOR_TIMER ? "timer" : sp_actor_sender(name), words);
        return 0;
    }
    return obey(words);
}
