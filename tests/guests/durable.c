/* tests/guests/durable.c - a guest whose every kind of state matters to what it answers: what it allocates, globals,
 * function pointers, handles, a sampler with random state and penalties, its conversation. Run by the tests of
 * snapshots.
 *
 * begin(context, sampled)  opens the model, a session and a sampler (greedy, or sampled with penalties); 0 or a status
 * tell(seed, count)        appends count tokens that follow from seed; the number of tokens then, or a status
 * ask()                    appends a question whose answer, of 39 tokens, the demo model has no doubt about; as tell
 * next()                   chooses a token, appends it, and keeps it in a list; the token, or a status
 * pick()                   chooses a token, and no more: the token, or a status
 * sum()                    a hash of the list and of all else that it knows
 * touch(page, value)       writes to a page of a large array
 * peek(page)               and reads it
 */
#include <stdint.h>
#include <stdlib.h>

#include "samepage.h"

#define EXPORT(name) __attribute__((export_name(#name)))

EXPORT(begin) int32_t begin(int32_t context, int32_t sampled);
EXPORT(tell) int32_t tell(uint32_t seed, int32_t count);
EXPORT(ask) int32_t ask(void);
EXPORT(next) int32_t next(void);
EXPORT(pick) int32_t pick(void);
EXPORT(sum) int32_t sum(void);
EXPORT(touch) int32_t touch(uint32_t page, int32_t value);
EXPORT(peek) int32_t peek(uint32_t page);

typedef struct node {
    struct node *next;
    int32_t token;
} node;

typedef uint32_t (*mixer)(uint32_t hash, uint32_t word);

static uint32_t add(uint32_t hash, uint32_t word) {
    return (hash ^ word) * 16777619u;
}

static uint32_t turn(uint32_t hash, uint32_t word) {
    return ((hash << 5) | (hash >> 27)) + word * 2654435761u;
}

static mixer mixers[2] = {add, turn};
static sp_handle model, session, sampler;
static node *list;
static uint32_t calls;
static uint8_t pages[512][4096];

int32_t begin(int32_t context, int32_t sampled) {
    sp_sampler_options options = {0};
    if (sampled) {
        options = (sp_sampler_options){
            .temperature = 0.9f, .top_k = 40, .repeat_penalty = 1.3f, .penalty_last = 20, .seed = 7};
    }
    calls++;
    free(malloc(1)); /* the allocator looks at the memory's size once, before the host reserves any of it */
    model = sp_model_open("");
    session = model < 0 ? model : sp_session_create(model, (uint32_t)context, 1);
    sampler = session < 0 ? session : sp_sampler_create(&options);
    return sampler < 0 ? sampler : 0;
}

int32_t tell(uint32_t seed, int32_t count) {
    static sp_model_info info;
    int32_t *tokens = malloc((size_t)count * sizeof *tokens);
    calls++;
    int32_t status = sp_get_model_info(model, &info);
    for (int32_t i = 0; i < count && status >= 0; i++) {
        seed = seed * 1664525u + 1013904223u;
        tokens[i] = (int32_t)((seed >> 8) % info.vocab);
    }
    status = status < 0 ? status : sp_session_append(session, tokens, (uint32_t)count, SP_LOGITS_LAST);
    free(tokens);
    return status < 0 ? status : sp_session_length(session);
}

int32_t ask(void) {
    static const char question[] =
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nCount from 1 to 13.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n";
    int32_t tokens[64];
    calls++;
    int32_t count = sp_tokenize(model, question, sizeof question - 1, SP_ENCODE_PARSE_SPECIAL, tokens, 64);
    int32_t status = count < 0 ? count : sp_session_append(session, tokens, (uint32_t)count, SP_LOGITS_LAST);
    return status < 0 ? status : sp_session_length(session);
}

int32_t next(void) {
    int32_t token = sp_session_sample(session, sampler);
    node *item = malloc(sizeof *item);
    calls++;
    if (token < 0) {
        return token;
    }
    *item = (node){list, token};
    list = item;
    mixer kept = mixers[0]; /* the order of the functions is a part of the state */
    mixers[0] = mixers[1];
    mixers[1] = kept;
    int32_t status = sp_session_append(session, &token, 1, SP_LOGITS_LAST);
    return status < 0 ? status : token;
}

int32_t pick(void) {
    return sp_session_sample(session, sampler);
}

int32_t sum(void) {
    uint32_t hash = 2166136261u;
    uint32_t i = 0;
    for (const node *item = list; item; item = item->next) {
        hash = mixers[i++ % 2](hash, (uint32_t)item->token);
    }
    return (int32_t)mixers[0](hash, calls ^ (uint32_t)sp_session_length(session));
}

int32_t touch(uint32_t page, int32_t value) {
    pages[page % 512][page % 4096] = (uint8_t)value;
    return 0;
}

int32_t peek(uint32_t page) {
    return pages[page % 512][page % 4096];
}

int main(void) {
    return 0;
}
