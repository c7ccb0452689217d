/* apps/guests/selftest.c - the guest behind the restoring of `samepage doctor --full`: a short conversation that is
 * saved and goes on elsewhere. Exports:
 *   begin() -> i32   opens the model, a session and a greedy sampler; 0 or a negative status
 *   tell() -> i32    appends 24 tokens, always the same; the session's length or a negative status
 *   next() -> i32    chooses a token and appends it; the token or a negative status
 */
#include <stdint.h>

#include "samepage.h"

#define TOKENS  24
#define CONTEXT 128

__attribute__((export_name("begin"))) int32_t begin(void);
__attribute__((export_name("tell"))) int32_t tell(void);
__attribute__((export_name("next"))) int32_t next(void);

static sp_handle model, session, sampler;

int32_t begin(void) {
    const sp_sampler_options options = {0};
    model = sp_model_open("");
    session = model < 0 ? model : sp_session_create(model, CONTEXT, 1);
    sampler = session < 0 ? session : sp_sampler_create(&options);
    return sampler < 0 ? sampler : 0;
}

int32_t tell(void) {
    static sp_model_info info;
    int32_t tokens[TOKENS], status = sp_get_model_info(model, &info);
    uint32_t state = 24;
    for (int i = 0; i < TOKENS && status >= 0; i++) {
        state = state * 1664525u + 1013904223u;
        tokens[i] = (int32_t)((state >> 8) % info.vocab);
    }
    status = status < 0 ? status : sp_session_append(session, tokens, TOKENS, SP_LOGITS_LAST);
    return status < 0 ? status : sp_session_length(session);
}

int32_t next(void) {
    int32_t token = sp_session_sample(session, sampler);
    int32_t status = token < 0 ? token : sp_session_append(session, &token, 1, SP_LOGITS_LAST);
    return status < 0 ? status : token;
}
