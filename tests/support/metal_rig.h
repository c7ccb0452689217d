/* tests/support/metal_rig.h - tests' way to the stand-in for Apple's libraries (tests/emulation). */
#ifndef SPI_TESTS_METAL_RIG_H
#define SPI_TESTS_METAL_RIG_H

#include "device/metal/metal.h"
#include "emulation/emulation.h"

/* The stand-in's functions, all NULL where the real libraries are used. */
typedef struct metal_rig {
    emu_settings *(*settings)(void);
    void (*reset)(void);
    const char *(*violation)(void);
    long (*live)(void);
    const emu_counts *(*counts)(void);
} metal_rig;
extern metal_rig metal;

int metal_find(void **state); /* as a group's setup: 0 if the stand-in is there, and it stays loaded */
void metal_reset(void);       /* settings, counts and the broken rule as at the start */
void metal_check(void);       /* asserts that no rule was broken and nothing is alive */

#endif
