/* apps/common.h - what most commands begin and end with: a device and a model opened, results printed.
 *
 * May include: everything to the left of apps.
 */
#ifndef SPI_APPS_COMMON_H
#define SPI_APPS_COMMON_H

#include <cjson/cJSON.h>

#include "apps/options.h"
#include "samepage/device.h"
#include "samepage/model.h"
#include "samepage/session.h"

/* Prints the error's one line and returns SPI_EXIT_FAILURE. */
int spi_complain_error(const sp_error *error);

typedef struct spi_opened {
    sp_device *device;
    sp_model *model;
    sp_kv_type kv_type; /* of sessions, as the command line has it */
    double load_seconds;
} spi_opened;

/* Opens the device (NULL means auto). */
sp_status spi_open_device(const spi_common *common, sp_device **device, sp_error *error);

/* On stderr, that a device failed meanwhile and was opened anew. */
void spi_tell_revived(const sp_device *device, const spi_common *common);

/* Opens a model and loads it on the device, with a progress line where stderr is a terminal. */
sp_status spi_open_model(const spi_common *common, const char *path, sp_device *device, sp_model **model,
                         sp_error *error);

/* Both, for the commands that compute with one model; common->model must be set. opened is to be closed either way. */
sp_status spi_open_both(const spi_common *common, spi_opened *opened, sp_error *error);
void spi_close_both(spi_opened *opened);

/* A tokenizer or the reason why there is none. */
sp_status spi_open_tokenizer(const sp_model *model, const sp_tokenizer **tokenizer, sp_error *error);

/* Tokens of a text, to be freed with spi_free. */
sp_status spi_encode(const sp_tokenizer *tokenizer, const char *text, size_t text_bytes, uint32_t flags,
                     int32_t **tokens, size_t *count, sp_error *error);

/* Bytes of one token with special tokens as their names, zero-terminated, to be freed with spi_free. */
sp_status spi_piece(const sp_tokenizer *tokenizer, int32_t token, char **text, size_t *bytes, sp_error *error);

/* Tells who sits at a terminal that something is waited for: what is to be typed, and how that ends. */
void spi_invite(const char *what);

/* All of standard input, to be freed with spi_free; *text is NULL on failure. SP_LIMIT: there is more than
 * bytes_max. */
sp_status spi_read_input(size_t bytes_max, char **text, size_t *bytes, sp_error *error);

/* Guests do not hear that a file which the caller closed cannot be written to, or read from: their system interface
 * takes that for success. So it is looked at before they begin. */
sp_status spi_check_standard_files(bool reads, sp_error *error);

/* "llama 1.2B Q8_0": what people call a model. */
void spi_model_words(const sp_model_info *info, char *text, size_t capacity);

/* "1.22 GiB", "1.24 B", and "45.6 KiB" below. */
void spi_words_bytes(uint64_t bytes, char *text, size_t capacity);
void spi_words_count(uint64_t count, char *text, size_t capacity);
void spi_words_us(double us, char *text, size_t capacity); /* "27.6 us", "1.50 ms" */

double spi_median(double *values, uint32_t count); /* sorts them */
double spi_deviation(const double *values, uint32_t count);

/* Adds a string that may hold any bytes: what is not UTF-8, and a zero byte, becomes U+FFFD. */
void spi_json_add_text(cJSON *object, const char *name, const char *text, size_t bytes);

/* Prints the value with a newline and deletes it. Returns what to exit with. */
int spi_json_print(cJSON *value);

#endif
