/* sampler/chain.h - the steps between logits and a draw, on a copy of them. Private to this folder and its test.
 *
 * May include: base.
 */
#ifndef SPI_SAMPLER_CHAIN_H
#define SPI_SAMPLER_CHAIN_H

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samepage/sampler.h"

typedef struct spi_choice {
    float logit; /* no NaN and no +infinity: spi_chain_clean */
    int32_t id;
} spi_choice;

typedef struct spi_seen { /* how often a token is in the window */
    int32_t token;
    uint32_t count;
} spi_seen;

/* NaN becomes -infinity, and what is too large the largest finite number. */
static inline float spi_chain_clean(float logit) {
    logit = logit > FLT_MAX ? FLT_MAX : logit;
    return logit >= -FLT_MAX ? logit : -INFINITY; /* no comparison with NaN is true */
}

/* A clean logit after the penalties of a token that was seen this often. */
float spi_chain_penalize(const sp_sampler_options *options, float logit, uint32_t count);

/* Puts a choice among the likeliest `limit` of those that were offered; *count is how many there are. */
void spi_chain_offer(spi_choice *choices, size_t *count, size_t limit, spi_choice choice);

/* top_p and min_p, after top_k: reorders choices so that the ones to draw from come first, the likeliest of all first;
 * returns their number, at least 1 of count >= 1. offered says that choices are those of spi_chain_offer. */
size_t spi_chain_keep(const sp_sampler_options *options, spi_choice *choices, size_t count, bool offered);

/* exp((logit - largest) / temperature): in [0, 1] for a logit that is not above the largest. temperature > 0. */
double spi_chain_weight(float logit, float largest, float temperature);

/* exp for x <= 0, without the system's: that one's last digits differ from machine to machine. Within 2 ulp. */
double spi_chain_exp(double x);

#endif
