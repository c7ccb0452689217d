/* Tables of cosines and sines against the C library's in double, at far positions and over the edges of digits; a
 * position's numbers beside any others; ops that turn alike share a table; factors and scales; every allocation that
 * fails. */
#include "support/support.h"

#include <math.h>

#include "base/memory.h"
#include "device/rotation.h"

#define ROWS  1500u
#define PAIRS 32u

static void make_ops(spi_op ops[4]) {
    for (int i = 0; i < 4; i++) {
        ops[i] = (spi_op){.kind = i ? SPI_OP_ROPE : SPI_OP_EMBED,
                          .weight = SPI_NONE,
                          .rope_dims = 2 * PAIRS,
                          .rope_base = 500000,
                          .rope_freq_scale = 0.5f,
                          .scale = 1.25f};
    }
    ops[3].rope_base = 10000; /* op 2 turns as op 1 does */
}

static void check_table(const float *table, const spi_op *op, uint32_t row, uint32_t position) {
    for (uint32_t i = 0; i < PAIRS; i++) {
        double angle = position * (double)op->rope_freq_scale * pow((double)op->rope_base, -2.0 * i / (2.0 * PAIRS));
        const float *pair = table + ((size_t)row * PAIRS + i) * 2;
        assert_true(fabs((double)pair[0] - (double)op->scale * cos(angle)) < 2e-7);
        assert_true(fabs((double)pair[1] - (double)op->scale * sin(angle)) < 2e-7);
    }
}

static void create(const spi_op *ops, const spi_tensor *tensors, spi_rotations *rotations) {
    const spi_tape tape = {.ops = ops, .op_count = 4};
    sp_error error = {0};
    TEST_OK(spi_rotations_create(&tape, tensors, rotations, &error), error);
}

static void test_tables(void **state) {
    (void)state;
    static float table[ROWS * PAIRS * 2];
    spi_op ops[4];
    make_ops(ops);
    spi_rotations rotations;
    create(ops, NULL, &rotations);
    assert_int_equal(rotations.count, 2);
    assert_int_equal(rotations.of_op[1], rotations.of_op[2]);
    assert_int_not_equal(rotations.of_op[1], rotations.of_op[3]);
    const spi_segment segments[] = {{.row_first = 0, .row_count = 1000, .position_first = 100000},
                                    {.row_first = 1000, .row_count = 1, .position_first = 7},
                                    {.row_first = 1001, .row_count = 399, .position_first = 0},
                                    {.row_first = 1400, .row_count = ROWS - 1400, .position_first = 64 * 64 * 64 - 50}};
    const spi_run run = {.row_count = ROWS, .segments = segments, .segment_count = 4};
    for (int i = 1; i < 4; i += 2) {
        spi_rotation_fill(&rotations.items[rotations.of_op[i]], &run, table);
        for (size_t s = 0; s < run.segment_count; s++) {
            for (uint32_t k = 0; k < segments[s].row_count; k++) {
                check_table(table, &ops[i], segments[s].row_first + k, segments[s].position_first + k);
            }
        }
    }
    spi_rotations_destroy(&rotations);
}

static void test_factors(void **state) {
    (void)state;
    float table[PAIRS * 2], all[PAIRS];
    for (uint32_t i = 0; i < PAIRS; i++) {
        all[i] = (float)(1 + i % 5);
    }
    spi_op ops[4];
    make_ops(ops);
    ops[3].weight = 0;
    const spi_tensor tensor = {.name = "factors", .type = SP_F32, .rows = 1, .cols = PAIRS, .data = all};
    spi_rotations rotations;
    create(ops, &tensor, &rotations);
    const spi_segment segment = {.row_count = 1, .position_first = 321};
    const spi_run run = {.row_count = 1, .segments = &segment, .segment_count = 1};
    spi_rotation_fill(&rotations.items[rotations.of_op[3]], &run, table);
    for (uint32_t i = 0; i < PAIRS; i++) {
        double angle = 321 * 0.5 * pow(10000, -2.0 * i / (2.0 * PAIRS)) / (double)all[i];
        assert_true(fabs((double)table[2 * i] - 1.25 * cos(angle)) < 2e-7);
        assert_true(fabs((double)table[2 * i + 1] - 1.25 * sin(angle)) < 2e-7);
    }
    spi_rotations_destroy(&rotations);
}

static void test_rows_alone(void **state) {
    (void)state;
    static float all[ROWS * PAIRS * 2], alone[PAIRS * 2];
    spi_op ops[4];
    make_ops(ops);
    spi_rotations rotations;
    create(ops, NULL, &rotations);
    const spi_segment many = {.row_count = ROWS, .position_first = 64 * 64 * 64 - 700};
    const spi_run run = {.row_count = ROWS, .segments = &many, .segment_count = 1};
    spi_rotation_fill(&rotations.items[0], &run, all);
    for (uint32_t row = 0; row < ROWS; row++) {
        const spi_segment segment = {.row_count = 1, .position_first = many.position_first + row};
        const spi_run one = {.row_count = 1, .segments = &segment, .segment_count = 1};
        spi_rotation_fill(&rotations.items[0], &one, alone);
        assert_memory_equal(alone, all + (size_t)row * PAIRS * 2, sizeof alone);
    }
    spi_rotations_destroy(&rotations);
}

static void test_every_allocation_fails(void **state) {
    (void)state;
    spi_op ops[4];
    make_ops(ops);
    const spi_tape tape = {.ops = ops, .op_count = 4};
    sp_status status;
    long n = 0;
    do {
        spi_rotations rotations;
        sp_error error = {0};
        spi_memory_fail_after(n++);
        status = spi_rotations_create(&tape, NULL, &rotations, &error);
        spi_memory_fail_after(-1);
        assert_true(!status || status == SP_NO_MEMORY);
        spi_rotations_destroy(&rotations);
    } while (status);
    assert_int_equal(n, 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tables), cmocka_unit_test(test_factors),
                                       cmocka_unit_test(test_rows_alone),
                                       cmocka_unit_test(test_every_allocation_fails)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
