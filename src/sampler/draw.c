/* sampler/draw.c - see draw.h. Logits may lie in memory that a guest writes to meanwhile: no index comes from them. */
#include "sampler/draw.h"

#include <math.h>

#include "sampler/chain.h"

static float take(const float *logits, uint32_t id) {
    float logit;
    __atomic_load(&logits[id], &logit, __ATOMIC_RELAXED);
    return spi_chain_clean(logit);
}

int32_t spi_draw_pick(const spi_draw *draw, const float *logits, uint32_t vocab) {
    float largest = -INFINITY, best_score = -INFINITY;
    uint32_t best = 0;
    for (uint32_t id = 0; id < vocab; id++) {
        float logit = take(logits, id);
        if (logit > largest) {
            largest = logit;
            best = id;
        }
    }
    if (draw->inverse == 0 || largest == -INFINITY) {
        return (int32_t)best;
    }
    for (uint32_t id = 0; id < vocab; id++) {
        float logit = take(logits, id);
        if (spi_draw_may(draw, logit, largest)) {
            float score = spi_draw_score(draw, id, logit, largest);
            if (score > best_score) {
                best_score = score;
                best = id;
            }
        }
    }
    return (int32_t)best;
}
