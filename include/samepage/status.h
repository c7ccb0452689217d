/* samepage/status.h - how every function says what went wrong.
 *
 * Three kinds of failure never mix. A programmer's error (a NULL that the contract forbids, a live link at destroy) is
 * an assertion. The environment or an input that is not as it should be is an sp_status, with a sentence in sp_error.
 * A guest's own fault ends that guest and nothing else. The library never exits, aborts for an input, or prints.
 */
#ifndef SAMEPAGE_STATUS_H
#define SAMEPAGE_STATUS_H

#include "samepage/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The one list of codes: the enum, the names and the guests' header all come from it. Values are a part of the guests'
 * binary interface and never change; new ones go to the end. */
#define SP_STATUS_LIST(X)                                                                                              \
    X(SP_OK, 0, "ok")                                                                                                  \
    X(SP_INVALID, -1, "an argument is not valid")                                                                      \
    X(SP_NO_MEMORY, -2, "not enough memory")                                                                           \
    X(SP_NO_ADDRESS_SPACE, -3, "not enough address space")                                                             \
    X(SP_NOT_FOUND, -4, "not found")                                                                                   \
    X(SP_IO, -5, "input or output failed")                                                                             \
    X(SP_BAD_FILE, -6, "the file is damaged or not of this format")                                                    \
    X(SP_UNSUPPORTED, -7, "not supported")                                                                             \
    X(SP_NO_DEVICE, -8, "no such device")                                                                              \
    X(SP_DEVICE_LOST, -9, "the device failed")                                                                         \
    X(SP_LINK_REFUSED, -10, "the device cannot use this memory")                                                       \
    X(SP_CONTEXT_FULL, -11, "the context is full")                                                                     \
    X(SP_BAD_HANDLE, -12, "no such handle")                                                                            \
    X(SP_BAD_POINTER, -13, "a pointer or length lies outside of memory")                                               \
    X(SP_LIMIT, -14, "a limit was reached")                                                                            \
    X(SP_CANCELLED, -15, "cancelled")                                                                                  \
    X(SP_TIMEOUT, -16, "time ran out")                                                                                 \
    X(SP_TRAPPED, -17, "the guest trapped")                                                                            \
    X(SP_BUSY, -18, "in use")                                                                                          \
    X(SP_BUFFER_TOO_SMALL, -19, "the buffer is too small")                                                             \
    X(SP_INTERNAL, -20, "an error of samepage itself")

typedef enum sp_status {
#define X(name, value, text) name = value,
    SP_STATUS_LIST(X)
#undef X
} sp_status;

#define SP_ERROR_MESSAGE_BYTES 512

/* Filled by a failing function where the caller passes one (NULL is always allowed): one line, no newline at the end,
 * which says what was wrong, where, and what to do. Untouched on success. Owned by the caller. */
typedef struct sp_error {
    sp_status status;
    char message[SP_ERROR_MESSAGE_BYTES];
} sp_error;

/* A short constant English text; "unknown status" for a value that is none. */
SP_EXPORT const char *sp_status_text(sp_status status);

#ifdef __cplusplus
}
#endif
#endif
