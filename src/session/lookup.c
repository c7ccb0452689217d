/* session/lookup.c - prompt lookup: tokens that followed the same words before are proposed, and one pass over the
 * weights verifies them (speculative decoding, arXiv:2211.17192, with the session's own text in place of a second
 * model).
 *
 * A pick is made from a row's logits exactly as it would be had the tokens come one by one, and a proposal only counts
 * if it is what was picked, so the result is the same for every sampler. That holds to the bit, because a device
 * computes a row to the same bits whatever other rows are in a run; where one does not, a pick may differ where two
 * tokens are as good as equal. May include: session, model, device, base.
 */
#include "session/session.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "model/model.h"

/* Of two places the one is taken behind which more of the latest tokens stand, up to so many; fewer than the least say
 * too little. */
#define MATCH_MAX   5u
#define MATCH_LEAST 2u

/* The session's tokens, then the one that is not appended yet, then what is proposed. */
static int32_t at(const sp_session *session, int32_t token, const int32_t *draft, uint32_t place) {
    uint32_t count = session->token_count;
    return place < count ? session->tokens[place] : place == count ? token : draft[place - count - 1];
}

static uint32_t match_length(const sp_session *session, int32_t token, uint32_t end) {
    uint32_t length = 0, count = session->token_count + 1;
    while (length < MATCH_MAX && length < end &&
           at(session, token, NULL, end - 1 - length) == at(session, token, NULL, count - 1 - length)) {
        length++;
    }
    return length;
}

uint32_t sp_session_lookup(const sp_session *session, int32_t token, uint32_t draft_max, int32_t *draft) {
    uint32_t count = session->token_count + 1, best = MATCH_LEAST - 1, from = 0;
    for (uint32_t end = count - 1; end && best < MATCH_MAX; end--) {
        uint32_t length = match_length(session, token, end);
        if (length > best) {
            best = length;
            from = end;
        }
    }
    uint32_t room = session->context_max > count ? session->context_max - count : 0;
    uint32_t most = !from ? 0 : draft_max < room ? draft_max : room, proposed = 0;
    while (proposed < most) {
        int32_t next = at(session, token, draft, from + proposed); /* what repeats goes on into what is proposed */
        if (spi_model_is_end(session->model, next)) {
            break; /* behind it nothing would be picked, were the tokens to come one by one */
        }
        draft[proposed++] = next;
    }
    return proposed;
}

/* Picks behind each appended token for as long as it is what was proposed. */
static uint32_t pick(const sp_session *session, sp_sampler *sampler, const int32_t *draft, uint32_t draft_count,
                     int32_t *tokens) {
    uint32_t count = 0;
    do {
        tokens[count] = sp_sampler_pick(sampler, sp_session_logits(session, count), session->vocab);
        sp_sampler_accept(sampler, tokens[count]);
        count++;
    } while (count <= draft_count && tokens[count - 1] == draft[count - 1]);
    return count;
}

sp_status sp_session_append_lookup(sp_session *session, sp_sampler *sampler, int32_t token, uint32_t draft_max,
                                   sp_lookup *lookup, sp_error *error) {
    uint32_t rows = session->logits_rows_max;
    lookup->count = lookup->proposed = lookup->accepted = 0;
    if (draft_max >= rows || draft_max > SP_LOOKUP_MAX) {
        return spi_fail(error, SP_LIMIT,
                        "%u tokens cannot be proposed at a time: the session has %u rows of logits, which is one more "
                        "than can be, and %u are the most",
                        draft_max, rows, SP_LOOKUP_MAX);
    }
    int32_t appended[SP_LOOKUP_MAX + 1] = {token};
    uint32_t before = session->token_count;
    uint32_t proposed = sp_session_lookup(session, token, draft_max, appended + 1);
    sp_status status = sp_session_append(session, appended, proposed + 1, SP_LOGITS_ALL, error);
    if (status) {
        return status;
    }
    lookup->count = pick(session, sampler, appended + 1, proposed, lookup->tokens);
    lookup->proposed = proposed;
    lookup->accepted = lookup->count - 1;
    status = sp_session_truncate(session, before + lookup->count, error);
    session->logits_rows = lookup->count; /* the last row is that of the last token that stays */
    return status;
}
