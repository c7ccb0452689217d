/* sampler/sampler.c - a sampler: its options, its random state and the window of the latest tokens. See
 * samepage/sampler.h.
 *
 * Logits may lie in memory that a guest writes to meanwhile: each is read exactly once, into a copy, and no index comes
 * from them. The copy (8 bytes for each of top_k, else of all tokens) is kept from the first pick that needs one; where
 * there is no memory for it that pick is greedy. Where every logit is -infinity the choice is id 0.
 *
 * May include: base.
 */
#include "samepage/sampler.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "sampler/chain.h"
#include "sampler/draw.h"
#include "sampler/random.h"
#include "sampler/state.h"

#define PENALTY_LAST_DEFAULT 64
#define PENALTY_LAST_MAX     4096

_Static_assert(sizeof(sp_sampler_options) == 48, "part of the guests' interface");

struct sp_sampler {
    sp_sampler_options options;
    spi_random random;
    bool has_penalties;
    int32_t *window; /* [penalty_last] the latest tokens; a ring */
    uint32_t window_count, window_next;
    spi_seen *seen; /* [seen_count] what is in the window, by token; room for penalty_last */
    uint32_t seen_count;
    spi_choice *choices;
    size_t choice_capacity;
};

static sp_status check_float(const char *name, float value, float least, float most, sp_error *error) {
    if (!(value >= least && value <= most)) { /* false for NaN too */
        return spi_fail(error, SP_INVALID, "the sampler's %s is %g, not within %g..%g", name, (double)value,
                        (double)least, (double)most);
    }
    return SP_OK;
}

static sp_status check_options(const sp_sampler_options *options, sp_error *error) {
    const struct {
        const char *name;
        float value, least, most;
    } floats[] = {
        {"temperature", options->temperature, 0, 1e6f},
        {"top_p", options->top_p, 0, 1},
        {"min_p", options->min_p, 0, 1},
        {"repeat_penalty", options->repeat_penalty, 0, 1e6f},
        {"frequency_penalty", options->frequency_penalty, -1e6f, 1e6f},
        {"presence_penalty", options->presence_penalty, -1e6f, 1e6f},
    };
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) {
        sp_status status = check_float(floats[i].name, floats[i].value, floats[i].least, floats[i].most, error);
        if (status) {
            return status;
        }
    }
    if (options->top_k < 0) {
        return spi_fail(error, SP_INVALID, "the sampler's top_k is %" PRId32 ", less than 0", options->top_k);
    }
    if (options->penalty_last < 0 || options->penalty_last > PENALTY_LAST_MAX) {
        return spi_fail(error, SP_INVALID, "the sampler's penalty_last is %" PRId32 ", not within 0..%d",
                        options->penalty_last, PENALTY_LAST_MAX);
    }
    if (options->reserved) {
        return spi_fail(error, SP_INVALID, "the sampler's reserved field is not 0");
    }
    return SP_OK;
}

sp_status sp_sampler_create(const sp_sampler_options *options, sp_sampler **sampler, sp_error *error) {
    sp_sampler_options chosen = {0};
    if (options) {
        chosen = *options; /* checked and used from here: the caller's may be a guest's */
    }
    *sampler = NULL;
    sp_status status = check_options(&chosen, error);
    if (status) {
        return status;
    }
    if (chosen.penalty_last == 0) {
        chosen.penalty_last = PENALTY_LAST_DEFAULT;
    }
    sp_sampler *made = spi_alloc(1, sizeof *made);
    if (!made) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a sampler");
    }
    made->options = chosen;
    made->random = spi_random_seed(chosen.seed);
    made->has_penalties = (chosen.repeat_penalty != 0 && chosen.repeat_penalty != 1) || chosen.frequency_penalty != 0 ||
                          chosen.presence_penalty != 0;
    if (made->has_penalties) {
        made->window = spi_alloc((size_t)chosen.penalty_last, sizeof *made->window);
        made->seen = spi_alloc((size_t)chosen.penalty_last, sizeof *made->seen);
        if (!made->window || !made->seen) {
            sp_sampler_destroy(made);
            return spi_fail(error, SP_NO_MEMORY, "no memory for a sampler");
        }
    }
    *sampler = made;
    return SP_OK;
}

void sp_sampler_destroy(sp_sampler *sampler) {
    if (!sampler) {
        return;
    }
    spi_free(sampler->window);
    spi_free(sampler->seen);
    spi_free(sampler->choices);
    spi_free(sampler);
}

bool spi_sampler_is_greedy(const sp_sampler *sampler) {
    return sampler->options.temperature == 0 && !sampler->has_penalties;
}

bool spi_sampler_draw(const sp_sampler *sampler, uint32_t position, spi_draw *draw) {
    const sp_sampler_options *options = &sampler->options;
    float inverse = options->temperature > 0 ? 1 / options->temperature : 0;
    *draw = (spi_draw){.key = spi_draw_key(options->seed, position),
                       .inverse = inverse > FLT_MAX ? FLT_MAX : inverse,
                       .least = options->min_p >= FLT_MIN ? spi_draw_log(options->min_p) : -INFINITY};
    return !sampler->has_penalties &&
           (options->temperature == 0 || (!options->top_k && (options->top_p == 0 || options->top_p == 1)));
}

/* Where the token is in seen, or belongs. */
static uint32_t find_seen(const sp_sampler *sampler, int32_t token) {
    uint32_t low = 0, high = sampler->seen_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (sampler->seen[middle].token < token) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void forget(sp_sampler *sampler, int32_t token) {
    uint32_t at = find_seen(sampler, token);
    if (--sampler->seen[at].count == 0) {
        sampler->seen_count--;
        memmove(&sampler->seen[at], &sampler->seen[at + 1], (sampler->seen_count - at) * sizeof *sampler->seen);
    }
}

void sp_sampler_accept(sp_sampler *sampler, int32_t token) {
    uint32_t window_size = (uint32_t)sampler->options.penalty_last;
    if (!sampler->has_penalties) {
        return;
    }
    if (sampler->window_count == window_size) {
        forget(sampler, sampler->window[sampler->window_next]);
    } else {
        sampler->window_count++;
    }
    sampler->window[sampler->window_next] = token;
    sampler->window_next = (sampler->window_next + 1) % window_size;
    uint32_t at = find_seen(sampler, token);
    if (at == sampler->seen_count || sampler->seen[at].token != token) {
        memmove(&sampler->seen[at + 1], &sampler->seen[at], (sampler->seen_count - at) * sizeof *sampler->seen);
        sampler->seen[at] = (spi_seen){.token = token};
        sampler->seen_count++;
    }
    sampler->seen[at].count++;
}

/* Reads logits in order, each once, cleans and penalises them. */
typedef struct spi_scan {
    const sp_sampler *sampler;
    const float *logits;
    uint32_t next;   /* in seen */
    int32_t penalty; /* the token at next */
} spi_scan;

static spi_scan scan_begin(const sp_sampler *sampler, const float *logits) {
    spi_scan scan = {.sampler = sampler, .logits = logits, .penalty = INT32_MAX};
    while (scan.next < sampler->seen_count && sampler->seen[scan.next].token < 0) {
        scan.next++;
    }
    if (scan.next < sampler->seen_count) {
        scan.penalty = sampler->seen[scan.next].token;
    }
    return scan;
}

static float scan_penalize(spi_scan *scan, float logit) {
    const sp_sampler *sampler = scan->sampler;
    logit = spi_chain_penalize(&sampler->options, logit, sampler->seen[scan->next].count);
    scan->next++;
    scan->penalty = scan->next < sampler->seen_count ? sampler->seen[scan->next].token : INT32_MAX;
    return logit;
}

static inline float scan_take(spi_scan *scan, uint32_t id) {
    float logit;
    __atomic_load(&scan->logits[id], &logit, __ATOMIC_RELAXED);
    logit = spi_chain_clean(logit);
    return (int32_t)id == scan->penalty ? scan_penalize(scan, logit) : logit;
}

enum { CHUNK = 512, LANES = 32 };

/* The largest of a chunk's numbers, as they are: what is no number is larger than nothing, and counts for nothing. Each
 * lane has a maximum of its own, so that they are compared many at a time. */
static float largest_of(const float chunk[CHUNK]) {
    float lanes[LANES], largest = -INFINITY;
    for (int i = 0; i < LANES; i++) {
        lanes[i] = -INFINITY;
    }
    for (int i = 0; i < CHUNK; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            lanes[k] = chunk[i + k] > lanes[k] ? chunk[i + k] : lanes[k];
        }
    }
    for (int i = 0; i < LANES; i++) {
        largest = lanes[i] > largest ? lanes[i] : largest;
    }
    return largest;
}

/* The same as below where there are no penalties, some twenty times as fast: going through a vocabulary of 128,256 one
 * by one is more than all the rest between a session's restore and its first token. */
static int32_t pick_largest(const float *logits, uint32_t vocab) {
    float chunk[CHUNK], largest = -INFINITY;
    uint32_t best = 0;
    for (uint32_t first = 0; first < vocab; first += CHUNK) {
        uint32_t count = vocab - first < CHUNK ? vocab - first : CHUNK;
        memcpy(chunk, logits + first, count * sizeof *chunk);
        for (uint32_t i = count; i < CHUNK; i++) {
            chunk[i] = -INFINITY;
        }
        atomic_signal_fence(memory_order_seq_cst); /* the copy is what is looked at from here on */
        float most = spi_chain_clean(largest_of(chunk));
        if (most > largest) {
            uint32_t i = 0;
            while (spi_chain_clean(chunk[i]) != most) {
                i++;
            }
            largest = most;
            best = first + i;
        }
    }
    return (int32_t)best;
}

static int32_t pick_greedy(const sp_sampler *sampler, const float *logits, uint32_t vocab) {
    if (!sampler->seen_count) {
        return pick_largest(logits, vocab);
    }
    spi_scan scan = scan_begin(sampler, logits);
    float largest = -INFINITY;
    uint32_t best = 0;
    for (uint32_t id = 0; id < vocab; id++) {
        float logit = scan_take(&scan, id);
        if (logit > largest) {
            largest = logit;
            best = id;
        }
    }
    return (int32_t)best;
}

/* Draws from choices[0..count) by weight; the first is the likeliest. Weights are summed in BLOCKS parts, so that only
 * the part that the draw falls into is computed twice. */
static int32_t draw(sp_sampler *sampler, const spi_choice *choices, size_t count) {
    enum { BLOCKS = 64 };
    float largest = choices[0].logit, temperature = sampler->options.temperature;
    size_t length = (count + BLOCKS - 1) / BLOCKS, block = 0;
    double sums[BLOCKS] = {0}, total = 0, sum = 0;
    for (size_t i = 0; i < count; i++) {
        sums[i / length] += spi_chain_weight(choices[i].logit, largest, temperature);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        total += sums[i];
    }
    double wanted = spi_random_unit(&sampler->random) * total;
    while (block < BLOCKS && sum + sums[block] <= wanted) {
        sum += sums[block++];
    }
    for (size_t i = block * length; i < count && i < (block + 1) * length; i++) {
        sum += spi_chain_weight(choices[i].logit, largest, temperature);
        if (sum > wanted) {
            return choices[i].id;
        }
    }
    return choices[0].id; /* all weigh nothing (every logit is -infinity), or the last bit of a sum was rounded */
}

int32_t sp_sampler_pick(sp_sampler *sampler, const float *logits, uint32_t vocab) {
    assert(vocab > 0 && vocab <= INT32_MAX);
    size_t top_k = (size_t)sampler->options.top_k, count = 0;
    bool some = top_k > 0 && top_k < vocab;
    if (sampler->options.temperature == 0 || !spi_reserve((void **)&sampler->choices, &sampler->choice_capacity,
                                                          some ? top_k : vocab, sizeof *sampler->choices)) {
        return pick_greedy(sampler, logits, vocab);
    }
    spi_scan scan = scan_begin(sampler, logits);
    for (uint32_t id = 0; id < vocab; id++) {
        spi_choice choice = {.logit = scan_take(&scan, id), .id = (int32_t)id};
        if (some) {
            spi_chain_offer(sampler->choices, &count, top_k, choice);
        } else {
            sampler->choices[count++] = choice;
        }
    }
    return draw(sampler, sampler->choices, spi_chain_keep(&sampler->options, sampler->choices, count, some));
}

void spi_sampler_save(const sp_sampler *sampler, spi_sampler_state *state) {
    *state = (spi_sampler_state){.options = sampler->options, .window_count = sampler->window_count};
    memcpy(state->random, sampler->random.state, sizeof state->random);
}

void spi_sampler_save_window(const sp_sampler *sampler, int32_t *window) {
    uint32_t size = (uint32_t)sampler->options.penalty_last, count = sampler->window_count;
    uint32_t first = count == size ? sampler->window_next : 0;
    for (uint32_t i = 0; i < count; i++) {
        window[i] = sampler->window[(first + i) % size];
    }
}

sp_status spi_sampler_restore(const spi_sampler_state *state, const int32_t *window, sp_sampler **sampler,
                              sp_error *error) {
    sp_status status = sp_sampler_create(&state->options, sampler, error);
    if (status) {
        return status;
    }
    sp_sampler *made = *sampler;
    uint32_t most = made->has_penalties ? (uint32_t)made->options.penalty_last : 0;
    if (state->window_count > most) {
        sp_sampler_destroy(made);
        *sampler = NULL;
        return spi_fail(error, SP_INVALID, "a sampler's window of %u tokens is larger than %u", state->window_count,
                        most);
    }
    for (uint32_t i = 0; i < state->window_count; i++) {
        sp_sampler_accept(made, window[i]);
    }
    memcpy(made->random.state, state->random, sizeof state->random);
    return SP_OK;
}
