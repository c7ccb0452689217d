/* apps/guests/embedded.h - the modules that are built into the program: "chat", "complete", "bench", "doctor",
 * "selftest", "agent". */
#ifndef APPS_GUESTS_EMBEDDED_H
#define APPS_GUESTS_EMBEDDED_H

typedef struct embedded_guest {
    const char *name;
    const unsigned char *start, *end; /* the bytes of the .wasm file */
} embedded_guest;

extern const embedded_guest embedded_guests[];
extern const unsigned embedded_guest_count;

#endif
