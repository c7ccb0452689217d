/* sampler/state.h - all of a sampler as plain data, for snapshots. May include: base. */
#ifndef SPI_SAMPLER_STATE_H
#define SPI_SAMPLER_STATE_H

#include <stdbool.h>

#include "samepage/sampler.h"

typedef struct spi_sampler_state {
    sp_sampler_options options;
    uint64_t random[4];
    uint32_t window_count; /* tokens that penalties see: at most options.penalty_last, 0 without penalties */
} spi_sampler_state;

/* Picks are the likeliest token of the logits as they are. */
bool spi_sampler_is_greedy(const sp_sampler *sampler);

/* window: [window_count], the oldest first. */
void spi_sampler_save(const sp_sampler *sampler, spi_sampler_state *state);
void spi_sampler_save_window(const sp_sampler *sampler, int32_t *window);

/* Nothing in state is trusted: SP_INVALID names what is out of range. SP_NO_MEMORY. */
sp_status spi_sampler_restore(const spi_sampler_state *state, const int32_t *window, sp_sampler **sampler,
                              sp_error *error);

#endif
