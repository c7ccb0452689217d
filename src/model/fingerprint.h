/* model/fingerprint.h - who a model is: see sp_model_get_fingerprint. May include: source, base. */
#ifndef SPI_MODEL_FINGERPRINT_H
#define SPI_MODEL_FINGERPRINT_H

#include "samepage/model.h"
#include "source/source.h"

void spi_fingerprint_quick(const spi_source *source, const sp_model_info *info, sp_fingerprint *fingerprint);
void spi_fingerprint_full(const spi_source *source, uint8_t fingerprint[16]);

#endif
