/* tests/unit/test_metal_lanes.c - the fibers that run Metal's kernels (tests/emulation/lanes.c), over kernels that are
 * wrong in the ways that kernels are: each has to be found out, and a right one has to give the same in every order. */
#include "support/support.h"

#include <math.h>
#include <string.h>

#include "emulation/lanes.h"

#define THREADS 64u

static struct { float numbers[THREADS]; } shared;
static emu_constant constants[EMU_CONSTANTS];
static float in[THREADS], out[THREADS];

static float sum_of_simd(float value, int line) {
    uint32_t there;
    const uint8_t *slots = emu_exchange(line, &value, sizeof value, &there);
    float sum = 0;
    for (uint32_t i = 0; i < EMU_SIMD_WIDTH; i++) {
        float one;
        memcpy(&one, slots + i * EMU_SLOT_BYTES, sizeof one);
        sum += there >> i & 1 ? one : 0;
    }
    return sum;
}

/* out[i] is what the next thread put into shared memory. */
static void with_barrier(void) {
    uint32_t i = emu_current->index;
    shared.numbers[i] = in[i];
    emu_barrier(1);
    out[i] = shared.numbers[(i + 1) % THREADS];
}

static void without_barrier(void) {
    uint32_t i = emu_current->index;
    shared.numbers[i] = in[i];
    out[i] = shared.numbers[(i + 1) % THREADS];
}

static void reads_what_nobody_wrote(void) {
    out[emu_current->index] = shared.numbers[emu_current->index];
}

static void sums(void) {
    out[emu_current->index] = sum_of_simd(in[emu_current->index], 1);
}

static void lanes_part(void) {
    if (emu_current->lane < 7) {
        out[emu_current->index] = sum_of_simd(1, 1);
    } else {
        emu_barrier(2);
    }
}

static void two_barriers(void) {
    emu_barrier(emu_current->index < 32 ? 1 : 2);
}

static void some_leave(void) {
    if (emu_current->index >= 10) {
        emu_barrier(1);
    }
}

static void reaches_too_far(void) {
    *(float *)emu_outside(3, 17) = 1;
}

static emu_report run(void (*entry)(void), bool waits, emu_order order) {
    const emu_kernel kernel = {.name = "test",
                               .entry = entry,
                               .waits = waits,
                               .constant_values = constants,
                               .threadgroup = &shared,
                               .threadgroup_bytes = sizeof shared};
    emu_report report;
    for (uint32_t i = 0; i < THREADS; i++) {
        in[i] = (float)i;
        out[i] = -1;
    }
    emu_run(&kernel, (const uint32_t[]){1, 1, 1}, (const uint32_t[]){THREADS, 1, 1}, order, &report);
    return report;
}

static void right_ones_agree(void **state) {
    (void)state;
    for (int order = 0; order < EMU_ORDER_COUNT; order++) {
        assert_string_equal(run(with_barrier, true, (emu_order)order).text, "");
        for (uint32_t i = 0; i < THREADS; i++) {
            assert_true(out[i] == (float)((i + 1) % THREADS));
        }
        assert_string_equal(run(sums, true, (emu_order)order).text, "");
        assert_true(out[0] == 496 && out[31] == 496 && out[32] == 496 + 32 * 32);
    }
}

/* One order may be kind to it; another one is not. */
static void a_missing_barrier_shows(void **state) {
    (void)state;
    bool wrong[EMU_ORDER_COUNT] = {false};
    for (int order = 0; order < EMU_ORDER_COUNT; order++) {
        run(without_barrier, false, (emu_order)order);
        for (uint32_t i = 0; i < THREADS; i++) {
            wrong[order] = wrong[order] || !(out[i] == (float)((i + 1) % THREADS));
        }
    }
    assert_true(wrong[EMU_FORWARD] || wrong[EMU_REVERSE]);
}

static void shared_memory_is_poisoned(void **state) {
    (void)state;
    run(reads_what_nobody_wrote, false, EMU_FORWARD);
    assert_true(isnan(out[0]) && isnan(out[THREADS - 1]));
}

static void expect(void (*entry)(void), const char *part) {
    emu_report report = run(entry, true, EMU_FORWARD);
    if (!strstr(report.text, part)) {
        fail_msg("\"%s\" does not say \"%s\"", report.text, part);
    }
}

static void parting_threads_are_told(void **state) {
    (void)state;
    expect(lanes_part, "lanes of a SIMD group part at line 1");
    expect(two_barriers, "barriers of lines 1 and 2");
    expect(some_leave, "10 of 64 threads are done before the barrier of line 1");
    expect(reaches_too_far, "element 17 of buffer 3");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right_ones_agree),
        cmocka_unit_test(a_missing_barrier_shows),
        cmocka_unit_test(shared_memory_is_poisoned),
        cmocka_unit_test(parting_threads_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
