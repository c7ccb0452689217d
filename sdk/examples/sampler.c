/* sampler.c - a guest that picks its own tokens.
 *
 *     clang --target=wasm32-wasi -O2 -Isdk/c/include -o sampler.wasm sdk/examples/sampler.c
 *     samepage run sampler.wasm --model model.gguf -- "Once upon a time" 8
 *
 * The logits of the latest token are an array of floats in this program's own memory. sp_session_logits gives the
 * address, once; after each append there are new numbers in it. So a sampler needs nothing of the host: here it is
 * top-k, in a dozen lines. The second argument is k; 1 is greedy.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "samepage.h"

#define K_MAX      64
#define TOKENS_MAX 64

static int32_t must(int32_t result) {
    if (result < 0) {
        char text[SP_ERROR_TEXT_BYTES];
        fprintf(stderr, "sampler: %s\n", sp_error_text(text, sizeof text));
        exit(1);
    }
    return result;
}

/* In [0, 1): xorshift, always from the same seed, so that a run can be repeated. */
static float chance(void) {
    static uint64_t state = 0x9e3779b97f4a7c15u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (float)(state >> 40) / (float)(1 << 24);
}

/* Keeps the k largest logits in order, largest first, and draws among them by softmax. */
static int32_t pick(const float *logits, uint32_t vocab, int k) {
    int32_t best[K_MAX];
    int kept = 0;
    for (uint32_t token = 0; token < vocab; token++) {
        if (kept == k && !(logits[token] > logits[best[k - 1]])) {
            continue;
        }
        int at = kept < k ? kept++ : k - 1;
        for (; at > 0 && logits[token] > logits[best[at - 1]]; at--) {
            best[at] = best[at - 1];
        }
        best[at] = (int32_t)token;
    }
    float weights[K_MAX], sum = 0;
    for (int i = 0; i < kept; i++) {
        sum += weights[i] = expf(logits[best[i]] - logits[best[0]]);
    }
    float left = chance() * sum;
    int chosen = 0;
    while (chosen + 1 < kept && left >= weights[chosen]) {
        left -= weights[chosen++];
    }
    return best[chosen];
}

int main(int argc, char **argv) {
    const char *prompt = argc > 1 ? argv[1] : "Once upon a time";
    int k = argc > 2 ? atoi(argv[2]) : 1;
    if (k < 1 || k > K_MAX) {
        fprintf(stderr, "sampler: k is 1 .. %d\n", K_MAX);
        return 2;
    }

    sp_model_info info;
    sp_handle model = must(sp_model_open(""));
    must(sp_get_model_info(model, &info));
    sp_handle session = must(sp_session_create(model, 1024, 1));

    int32_t tokens[512];
    int32_t count = must(sp_tokenize(model, prompt, (uint32_t)strlen(prompt), SP_ENCODE_SPECIAL, tokens, 512));
    must(sp_session_append(session, tokens, (uint32_t)count, SP_LOGITS_LAST));
    const float *logits = sp_session_logits(session, 0);
    if (!logits) {
        fprintf(stderr, "sampler: the prompt is empty\n");
        return 2;
    }

    for (int i = 0; i < TOKENS_MAX; i++) {
        int32_t token = pick(logits, info.vocab, k);
        if (sp_token_is_end(model, token)) {
            break;
        }
        char text[256];
        fwrite(text, 1, (size_t)must(sp_detokenize(model, &token, 1, 0, text, sizeof text)), stdout);
        fflush(stdout);
        must(sp_session_append(session, &token, 1, SP_LOGITS_LAST));
    }
    putchar('\n');
    return 0;
}
