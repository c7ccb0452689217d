/* base/error.h - filling sp_error. May include: nothing of the project but status.h. */
#ifndef SPI_BASE_ERROR_H
#define SPI_BASE_ERROR_H

#include "samepage/status.h"

/* Writes the status and a message into error (NULL allowed) and returns status, so that a failing branch is
 * `return spi_fail(error, SP_BAD_FILE, "...")` or `status = spi_fail(...); goto fail;`. */
__attribute__((format(printf, 3, 4))) sp_status spi_fail(sp_error *error, sp_status status, const char *format, ...);

/* Puts "what: " before the message that is there, when a caller knows more of where it happened. Returns the status. */
__attribute__((format(printf, 2, 3))) sp_status spi_fail_within(sp_error *error, const char *format, ...);

#endif
