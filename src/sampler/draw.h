/* sampler/draw.h - picks that take nothing from a sampler's state: by noise of its seed and the token's position, so
 * that whoever computes the logits can make them, a device among others. May include: base. */
#ifndef SPI_SAMPLER_DRAW_H
#define SPI_SAMPLER_DRAW_H

#include <stdbool.h>

#include "base/draw.h"
#include "samepage/sampler.h"

/* How the token at `position` is drawn. False: it cannot be, because of penalties, top_k or top_p. */
bool spi_sampler_draw(const sp_sampler *sampler, uint32_t position, spi_draw *draw);

/* As sp_sampler_pick in what it asks of logits and promises of the result. */
int32_t spi_draw_pick(const spi_draw *draw, const float *logits, uint32_t vocab);

#endif
