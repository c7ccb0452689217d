/* chat.c - a conversation in a page of C, at a terminal or as an actor (samepage_talk.h).
 *
 *     clang --target=wasm32-wasi -O2 -Isdk/c/include -o chat.wasm \
 *         sdk/examples/chat.c sdk/c/samepage_chat.c sdk/c/samepage_talk_program.c
 *     samepage run --model model.gguf chat.wasm
 *
 *     clang --target=wasm32-wasi -mexec-model=reactor -O2 -Isdk/c/include -o chat_actor.wasm \
 *         sdk/examples/chat.c sdk/c/samepage_chat.c sdk/c/samepage_talk_actor.c
 *     samepage actor create ada chat_actor.wasm --model model.gguf
 *
 * A session is a timeline of tokens. Each turn appends only what is new: the question, in the format that the model was
 * made for, and then one token of the answer after the other. What was said before stays in the session's KV blocks,
 * which lie in this program's own memory. An actor's memory is kept: that is all that it takes for it to remember.
 */
#include "samepage.h"
#include "samepage_chat.h"
#include "samepage_talk.h"
#include "samepage_utf8.h"

#define ANSWER_TOKENS_MAX 256

static char work[64 << 10];
static int32_t tokens[16 << 10];
static sp_handle model, session, sampler;
static sp_chat chat;

static int32_t must(int32_t result) {
    if (result < 0) {
        char text[SP_ERROR_TEXT_BYTES];
        sp_talk_fail(sp_error_text(text, sizeof text));
    }
    return result;
}

/* A token can end inside of a character, so text goes through sp_utf8_push before it is shown. */
static void show(sp_utf8 *utf8, int32_t token) {
    char piece[256], shown[sizeof piece + 3];
    int32_t bytes = must(sp_detokenize(model, &token, 1, 0, piece, sizeof piece));
    sp_talk_say(shown, sp_utf8_push(utf8, piece, (uint32_t)bytes, shown));
}

void sp_talk_open(void) {
    sp_sampler_options options = {.temperature = 0.7f, .top_k = 40, .top_p = 0.95f, .seed = 1};
    model = must(sp_model_open("")); /* the first of the models that we were given */
    session = must(sp_session_create(model, 4096, 1));
    sampler = must(sp_sampler_create(&options));
    must(sp_chat_open(&chat, model, work, sizeof work));
}

void sp_talk_turn(const char *words, uint32_t bytes) {
    sp_chat_text text = {.text = work, .capacity = sizeof work};
    sp_chat_user(&chat, "You are a helpful assistant.", words, bytes, &text);
    int32_t count = must(sp_chat_tokenize(&chat, model, &text, tokens, sizeof tokens / sizeof *tokens));
    must(sp_session_append(session, tokens, (uint32_t)count, SP_LOGITS_LAST));

    sp_utf8 utf8 = {0};
    int32_t token = must(sp_session_sample(session, sampler));
    for (int i = 0; i < ANSWER_TOKENS_MAX && !sp_token_is_end(model, token) && !sp_interrupted(); i++) {
        show(&utf8, token);
        token = must(sp_session_decode(session, sampler, token));
    }
}
