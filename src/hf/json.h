/* hf/json.h - asking a JSON object for values of a certain kind, and knowing afterwards what nobody asked for.
 *
 * May include: source, base; cJSON.
 */
#ifndef SPI_HF_JSON_H
#define SPI_HF_JSON_H

#include <cJSON.h>

#include "source/source.h"

typedef struct spi_config {
    const cJSON *object;
    const char *file; /* for messages: "config.json" */
    bool *read;       /* [entries]: was asked for */
    sp_error *error;
} spi_config;

sp_status spi_config_open(spi_config *config, const cJSON *object, const char *file, sp_error *error);
void spi_config_close(spi_config *config);

/* NULL: not there, or null. Of several entries with one name the last counts, as for Python. */
const cJSON *spi_config_find(const spi_config *config, const char *key);

/* A whole number in [1, max]; fallback 0: it must be there. */
sp_status spi_config_count(const spi_config *config, const char *key, uint32_t fallback, uint32_t max, uint32_t *out);
/* A finite number; fallback NAN: it must be there. */
sp_status spi_config_number(const spi_config *config, const char *key, double fallback, double *out);
sp_status spi_config_flag(const spi_config *config, const char *key, bool fallback, bool *out);
/* fallback NULL: it must be there. The text is the JSON's. */
sp_status spi_config_text(const spi_config *config, const char *key, const char *fallback, const char **out);

/* SP_UNSUPPORTED for the first entry that nobody asked for, unless it says nothing (null, false, 0, "", [], {}) or is
 * among `harmless`, which ends with NULL; a name that ends with '*' there stands for all that begin with it. */
sp_status spi_config_finish(const spi_config *config, const char *const *harmless);

/* The numbers of a JSON value as they are. */
bool spi_json_whole(const cJSON *item, uint64_t *out); /* 0 .. 2^53 */
static inline spi_string spi_json_string(const char *text) {
    size_t bytes = 0;
    while (text[bytes]) {
        bytes++;
    }
    return (spi_string){text, bytes};
}

#endif
