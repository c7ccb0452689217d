/* model/fingerprint.h - who a model is: see sp_model_get_fingerprint. May include: gguf, base. */
#ifndef SPI_MODEL_FINGERPRINT_H
#define SPI_MODEL_FINGERPRINT_H

#include "gguf/gguf.h"
#include "samepage/model.h"

void spi_fingerprint_quick(const spi_gguf *gguf, const sp_model_info *info, sp_fingerprint *fingerprint);
void spi_fingerprint_full(const spi_gguf *gguf, uint8_t fingerprint[16]);

#endif
