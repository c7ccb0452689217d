/* tests/emulation/lanes.c - runs a kernel's threadgroups one after the other, their threads as fibers on this thread.
 *
 * To find what a GPU hides or shows one time in a thousand: threadgroup memory holds NaNs at the start of each group;
 * between two points of waiting threads run forwards, backwards or shuffled; and it is an error if lanes of a SIMD
 * group wait at different operations, threads of a group at different barriers, or a barrier is waited at when some
 * threads are done. What is not shown: real memory order, and Apple's compiler. */
#include "emulation/lanes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define THREADS_MAX 1024u
#define STACK_BYTES ((size_t)256 << 10)
#define SIMDS_MAX   (THREADS_MAX / EMU_SIMD_WIDTH)

emu_lane *emu_current;
emu_bound emu_bounds[EMU_BUFFERS];

typedef enum state { READY, IN_SIMD, AT_BARRIER, DONE } state;

typedef struct fiber {
    emu_lane lane;
    void *stack_pointer;
    state is;
    int line; /* where it waits */
    const void *value;
    size_t value_bytes;
    uint32_t there; /* lanes of the exchange that it was in */
} fiber;

static fiber fibers[THREADS_MAX], *running;
static uint8_t *stacks;
static void *scheduler;
static void (*entry)(void);
static _Alignas(16) uint8_t slots[SIMDS_MAX][EMU_SIMD_WIDTH][EMU_SLOT_BYTES];
static emu_report *report;
static const char *kernel_name;
static uint32_t random_state = 12345;

uint64_t emu_hash(const char *text) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *text; text++) {
        hash = (hash ^ (uint8_t)*text) * 0x100000001b3u;
    }
    return hash;
}

#define NOTE(...)                                                                                                      \
    do {                                                                                                               \
        if (!report->text[0]) {                                                                                        \
            snprintf(report->text, sizeof report->text, __VA_ARGS__);                                                  \
        }                                                                                                              \
    } while (0)

void *emu_outside(int buffer, uint64_t index) {
    static _Alignas(16) uint8_t elsewhere[64];
    NOTE("kernel %s: element %llu of buffer %d is outside of its %llu bytes", kernel_name, (unsigned long long)index,
         buffer, (unsigned long long)emu_bounds[buffer].bytes);
    return memset(elsewhere, 0xff, sizeof elsewhere);
}

/* emu_switch(save, load): keeps the registers that a call keeps and the stack pointer, and takes those of the other. */
void emu_switch(void **save, void *load);
#if defined(__x86_64__)
#define SAVED_WORDS 6
__asm__(".text\n.globl emu_switch\n.hidden emu_switch\n.type emu_switch,@function\nemu_switch:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");
#elif defined(__aarch64__)
#define SAVED_WORDS 20
#define LINK_WORD   11
__asm__(".text\n.globl emu_switch\n.hidden emu_switch\n.type emu_switch,%function\nemu_switch:\n"
        "sub sp,sp,#160\nstp x19,x20,[sp]\nstp x21,x22,[sp,#16]\nstp x23,x24,[sp,#32]\nstp x25,x26,[sp,#48]\n"
        "stp x27,x28,[sp,#64]\nstp x29,x30,[sp,#80]\nstp d8,d9,[sp,#96]\nstp d10,d11,[sp,#112]\nstp d12,d13,[sp,#128]\n"
        "stp d14,d15,[sp,#144]\nmov x2,sp\nstr x2,[x0]\nmov sp,x1\n"
        "ldp x19,x20,[sp]\nldp x21,x22,[sp,#16]\nldp x23,x24,[sp,#32]\nldp x25,x26,[sp,#48]\n"
        "ldp x27,x28,[sp,#64]\nldp x29,x30,[sp,#80]\nldp d8,d9,[sp,#96]\nldp d10,d11,[sp,#112]\nldp d12,d13,[sp,#128]\n"
        "ldp d14,d15,[sp,#144]\nadd sp,sp,#160\nret\n");
#else
#error "the switch between fibers is written for x86-64 and Arm64"
#endif

static void give_way(void) {
    emu_switch(&running->stack_pointer, scheduler);
}

static void begin(void) {
    entry();
    running->is = DONE;
    give_way();
    abort(); /* nobody goes on with what is done */
}

static void start(fiber *self, uint32_t index) {
    void **top = (void **)(stacks + (index + 1) * STACK_BYTES) - SAVED_WORDS - 2;
    memset(top, 0, (SAVED_WORDS + 2) * sizeof *top);
    void (*first)(void) = begin;
#if defined(__x86_64__)
    memcpy(&top[SAVED_WORDS], &first, sizeof first);
#else
    memcpy(&top[LINK_WORD], &first, sizeof first);
#endif
    self->stack_pointer = top;
    self->is = READY;
}

static void go(fiber *self) {
    running = self;
    emu_current = &self->lane;
    emu_switch(&scheduler, self->stack_pointer);
}

void emu_barrier(int line) {
    running->is = AT_BARRIER;
    running->line = line;
    give_way();
}

const uint8_t *emu_exchange(int line, const void *value, size_t bytes, uint32_t *there) {
    fiber *self = running;
    self->is = IN_SIMD;
    self->line = line;
    self->value = value;
    self->value_bytes = bytes;
    give_way();
    *there = self->there;
    return &slots[self->lane.simd][0][0];
}

/* All lanes of the SIMD group wait or are done. Lets those go on that wait at the first line: false if none waits. */
static bool release_simd(fiber *first, uint32_t count) {
    int line = -1;
    uint32_t there = 0, elsewhere = 0;
    for (uint32_t i = 0; i < count; i++) {
        line = first[i].is == IN_SIMD && (line < 0 || first[i].line < line) ? first[i].line : line;
    }
    if (line < 0) {
        return false;
    }
    uint32_t simd = first->lane.simd;
    memset(slots[simd], 0xff, sizeof slots[simd]); /* NaN of a lane that is not there */
    for (uint32_t i = 0; i < count; i++) {
        if (first[i].is == IN_SIMD && first[i].line == line) {
            there |= 1u << i;
            memcpy(slots[simd][i], first[i].value, first[i].value_bytes);
        } else {
            elsewhere += first[i].is != DONE;
        }
    }
    if (elsewhere) {
        NOTE("kernel %s: lanes of a SIMD group part at line %d", kernel_name, line);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (there >> i & 1) {
            first[i].there = there;
            first[i].is = READY;
        }
    }
    return true;
}

static uint32_t next_random(uint32_t limit) {
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % limit;
}

/* Runs the lanes of a SIMD group until all of them are at a barrier or done. */
static void run_simd(fiber *first, uint32_t count, emu_order order) {
    do {
        uint32_t turn = order == EMU_SHUFFLED ? next_random(count) : 0;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t at = order == EMU_REVERSE ? count - 1 - i : (i + turn) % count;
            if (first[at].is == READY) {
                go(&first[at]);
            }
        }
    } while (release_simd(first, count));
}

/* All threads are at a barrier or done. False: all are done. */
static bool release_barrier(uint32_t threads) {
    uint32_t waiting = 0;
    int line = 0;
    for (uint32_t i = 0; i < threads; i++) {
        if (fibers[i].is == AT_BARRIER) {
            if (waiting++ && fibers[i].line != line) {
                NOTE("kernel %s: threads wait at the barriers of lines %d and %d", kernel_name, line, fibers[i].line);
            }
            line = fibers[i].line;
        }
    }
    if (waiting && waiting < threads) {
        NOTE("kernel %s: %u of %u threads are done before the barrier of line %d", kernel_name, threads - waiting,
             threads, line);
    }
    for (uint32_t i = 0; i < threads; i++) {
        fibers[i].is = fibers[i].is == AT_BARRIER ? READY : fibers[i].is;
    }
    return waiting > 0;
}

static void place(emu_lane *lane, uint32_t index, const uint32_t group[3], const uint32_t groups[3],
                  const uint32_t size[3]) {
    uint32_t threads = size[0] * size[1] * size[2];
    uint32_t in_group[3] = {index % size[0], index / size[0] % size[1], index / (size[0] * size[1])};
    for (int k = 0; k < 3; k++) {
        lane->in_group[k] = in_group[k];
        lane->group[k] = group[k];
        lane->in_grid[k] = group[k] * size[k] + in_group[k];
        lane->group_size[k] = size[k];
        lane->groups[k] = groups[k];
    }
    lane->index = index;
    lane->lane = index % EMU_SIMD_WIDTH;
    lane->simd = index / EMU_SIMD_WIDTH;
    lane->simds = (threads + EMU_SIMD_WIDTH - 1) / EMU_SIMD_WIDTH;
}

static void run_group(const emu_kernel *kernel, const uint32_t group[3], const uint32_t groups[3],
                      const uint32_t size[3], emu_order order) {
    uint32_t threads = size[0] * size[1] * size[2], simds = (threads + EMU_SIMD_WIDTH - 1) / EMU_SIMD_WIDTH;
    memset(kernel->threadgroup, 0xff, kernel->threadgroup_bytes);
    for (uint32_t i = 0; i < threads; i++) {
        place(&fibers[i].lane, i, group, groups, size);
        if (kernel->waits) {
            start(&fibers[i], i);
        }
    }
    if (!kernel->waits) {
        uint32_t turn = order == EMU_SHUFFLED ? next_random(threads) : 0;
        for (uint32_t i = 0; i < threads; i++) {
            emu_current = &fibers[order == EMU_REVERSE ? threads - 1 - i : (i + turn) % threads].lane;
            kernel->entry();
        }
        return;
    }
    do {
        for (uint32_t i = 0; i < simds; i++) {
            uint32_t simd = order == EMU_REVERSE ? simds - 1 - i : i, first = simd * EMU_SIMD_WIDTH;
            uint32_t count = threads - first < EMU_SIMD_WIDTH ? threads - first : EMU_SIMD_WIDTH;
            run_simd(&fibers[first], count, order);
        }
    } while (release_barrier(threads));
}

void emu_run(const emu_kernel *kernel, const uint32_t groups[3], const uint32_t size[3], emu_order order,
             emu_report *to) {
    report = to;
    report->text[0] = 0;
    kernel_name = kernel->name;
    entry = kernel->entry;
    if (!stacks) {
        stacks = mmap(NULL, THREADS_MAX * STACK_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stacks == MAP_FAILED) {
            abort();
        }
    }
    uint64_t count = (uint64_t)groups[0] * groups[1] * groups[2];
    for (uint64_t i = 0; i < count; i++) {
        uint64_t at = order == EMU_REVERSE ? count - 1 - i : i;
        uint32_t group[3] = {(uint32_t)(at % groups[0]), (uint32_t)(at / groups[0] % groups[1]),
                             (uint32_t)(at / groups[0] / groups[1])};
        run_group(kernel, group, groups, size, order);
    }
}
