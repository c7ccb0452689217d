/* tests/emulation/lanes.h - the contract between kernels that were translated to C++ (translate.py, shim.h) and what
 * runs them on the CPU (lanes.c): every thread of a threadgroup is a fiber that gives way where Metal's threads wait
 * for each other. */
#ifndef SPI_TESTS_EMULATION_LANES_H
#define SPI_TESTS_EMULATION_LANES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EMU_BUFFERS    31
#define EMU_CONSTANTS  4
#define EMU_SIMD_WIDTH 32u
#define EMU_SLOT_BYTES 32u /* the largest value that lanes exchange */

/* What one thread can see of where it is. */
typedef struct emu_lane {
    uint32_t in_group[3], group[3], in_grid[3], group_size[3], groups[3];
    uint32_t index, lane, simd, simds;
} emu_lane;

typedef struct emu_bound {
    uint8_t *base;
    uint64_t bytes; /* from base to the end of the buffer */
} emu_bound;

typedef struct emu_constant {
    bool is_set;
    uint32_t value;
} emu_constant;

extern emu_lane *emu_current;
extern emu_bound emu_bounds[EMU_BUFFERS];

/* A kernel as translate.py describes it. */
typedef struct emu_kernel {
    const char *name;
    uint64_t text_hash; /* of the text that it was made of: emu_hash */
    void (*entry)(void);
    bool waits;                         /* it has barriers or SIMD operations: its threads need fibers */
    uint32_t buffers;                   /* bit n: argument buffer(n) */
    uint32_t inline_bytes[EMU_BUFFERS]; /* the least length of an argument in constant space */
    uint32_t alignment[EMU_BUFFERS];    /* of the elements of an argument in device space */
    uint32_t constants;                 /* bit n: function constant n */
    emu_constant *constant_values;      /* [EMU_CONSTANTS] */
    void *threadgroup;                  /* its threadgroup memory */
    uint32_t threadgroup_bytes;
} emu_kernel;

extern const emu_kernel *const emu_kernels[];
extern const uint32_t emu_kernel_count;

uint64_t emu_hash(const char *text);

/* Called by kernels: a barrier of the threadgroup, and an exchange between the lanes of a SIMD group: 32 slots of
 * EMU_SLOT_BYTES, of which the bits of *there are filled. line is that of the source: lanes that wait at different
 * lines do not meet. */
void emu_barrier(int line);
const uint8_t *emu_exchange(int line, const void *value, size_t bytes, uint32_t *there);

/* An access outside of a buffer: noted, the kernel goes on with memory of ours. */
void *emu_outside(int buffer, uint64_t index);

/* The order in which threads go on between two points where they wait. */
typedef enum emu_order { EMU_FORWARD, EMU_REVERSE, EMU_SHUFFLED, EMU_ORDER_COUNT } emu_order;

/* What a dispatch did that a device would not forgive; empty: nothing. */
typedef struct emu_report {
    char text[200];
} emu_report;

/* Runs all threadgroups of a kernel; its constants and emu_bounds are set. */
void emu_run(const emu_kernel *kernel, const uint32_t groups[3], const uint32_t group_size[3], emu_order order,
             emu_report *report);

#ifdef __cplusplus
}
#endif
#endif
