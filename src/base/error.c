/* base/error.c - filling sp_error, and the texts of sp_status. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *sp_status_text(sp_status status) {
    switch (status) {
#define X(name, value, text)                                                                                           \
    case name: return text;
        SP_STATUS_LIST(X)
#undef X
    }
    return "unknown status";
}

sp_status spi_fail(sp_error *error, sp_status status, const char *format, ...) {
    if (!error) {
        return status;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
    error->status = status;
    return status;
}

sp_status spi_fail_within(sp_error *error, const char *format, ...) {
    if (!error) {
        return SP_INTERNAL;
    }
    char inner[sizeof error->message];
    memcpy(inner, error->message, sizeof inner);
    va_list args;
    va_start(args, format);
    int length = vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
    if (length >= 0 && (size_t)length + 2 < sizeof error->message) {
        size_t room = sizeof error->message - (size_t)length;
        int written = snprintf(error->message + length, room, ": %.*s", (int)room - 3, inner);
        (void)written;
    }
    return error->status;
}
