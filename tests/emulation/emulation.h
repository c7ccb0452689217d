/* tests/emulation/emulation.h - what tests may ask of the stand-in for libobjc and Metal
 * (libsamepage_metal_emulation.so).
 *
 * The backend opens it as it would open Apple's libraries, and it behaves as these are documented, but for being strict
 * where they forgive: the first broken rule is kept in words. Tests find these functions with dlsym. It is test
 * equipment: nothing of it is installed.
 */
#ifndef SPI_TESTS_EMULATION_EMULATION_H
#define SPI_TESTS_EMULATION_EMULATION_H

#include <stdbool.h>
#include <stdint.h>

#include "emulation/lanes.h"

/* The device that is described from now on, and what goes wrong with it. */
typedef struct emu_settings {
    emu_order order; /* of threads, and of dispatches between two barriers, on a device that is made from now on */
    bool no_device, no_unified; /* there is none; its memory is its own */
    int64_t family;             /* MTLGPUFamilyApple7 and so on */
    bool old_system;            /* macOS 14: no residency sets */
    uint64_t buffer_length_max;
    uint64_t simd_width;            /* 32 */
    uint64_t threadgroup_bytes_max; /* 32768 */
    long fail_after;                /* the creation of an object after so many more fails, once; negative: none */
    int64_t fail_run;               /* the next command buffer ends with this MTLCommandBufferError; 0: none */
    bool fail_compiler;             /* texts do not compile */
    long slow_waits;                /* so many waits for an event end before the device is done */
} emu_settings;

emu_settings *emu_get_settings(void);
void emu_reset(void); /* settings and counts as at the start; what lives stays alive */

/* The first rule that was broken since the last reset, or NULL. */
const char *emu_violation(void);

/* Objects that nobody has released. */
long emu_live(void);

typedef struct emu_counts {
    long messages, dispatches, barriers, command_buffers, failures, archive_hits, buffers_over, residents;
} emu_counts;
const emu_counts *emu_get_counts(void);

#endif
