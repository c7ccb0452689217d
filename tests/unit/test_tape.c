/* The check that lets backends trust a tape: what must not stand behind a gather. (Shapes and indices are refused by
 * name in the same place; the op tests run what passes.) */
#include "support/support.h"

#include <string.h>

#include "device/tape.h"

enum { WIDTH = 64, VOCAB = 8 };

static spi_op ops[4];
static const spi_buffer buffers[] = {{"x", WIDTH}, {"y", WIDTH}};
static const spi_tape tape = {.ops = ops,
                              .op_count = 2,
                              .buffers = buffers,
                              .buffer_count = 2,
                              .kv = {.layers = 1, .kv_heads = 1, .head_dim = WIDTH, .block_bytes = 65536},
                              .rows_max = 4,
                              .vocab = VOCAB};
static const spi_weights no_weights = {0};

static const spi_op gather = {.kind = SPI_OP_GATHER, .dst = 1, .src = 0};
static const spi_op rope = {.kind = SPI_OP_ROPE,
                            .dst = 1,
                            .weight = SPI_NONE,
                            .heads = 1,
                            .rope_dims = WIDTH,
                            .rope_base = 10000,
                            .rope_freq_scale = 1,
                            .scale = 1};

static void expect_refused(const spi_op *op, const char *name) {
    sp_error error = {0};
    ops[0] = gather;
    ops[1] = *op;
    assert_int_equal(spi_tape_check(&tape, &no_weights, &error), SP_INVALID);
    assert_non_null(strstr(error.message, name));
    assert_non_null(strstr(error.message, "behind a gather"));
}

static void nothing_that_needs_positions_stands_behind_a_gather(void **state) {
    const spi_op kv_store = {.kind = SPI_OP_KV_STORE, .src = 0, .src1 = 0};
    const spi_op attention = {.kind = SPI_OP_ATTENTION, .src = 0, .dst = 1, .heads = 1, .scale = 1};
    const spi_op *unfit[] = {&rope, &kv_store, &attention};
    const char *names[] = {"op 1 (rope)", "op 1 (kv_store)", "op 1 (attention)"};
    sp_error error = {0};
    (void)state;
    for (int i = 0; i < 3; i++) {
        expect_refused(unfit[i], names[i]);
        ops[0] = *unfit[i]; /* before it, each is fine */
        ops[1] = (spi_op){.kind = SPI_OP_GATE, .dst = 1, .src = 0, .src1 = 0};
        TEST_OK(spi_tape_check(&tape, &no_weights, &error), error);
    }
    /* What takes rows as they come may follow. */
    ops[0] = gather;
    ops[1] = (spi_op){.kind = SPI_OP_ADD, .dst = 1, .src = 0, .scale = 1};
    TEST_OK(spi_tape_check(&tape, &no_weights, &error), error);
    ops[1] = gather; /* of another buffer: a residual beside what is added to it */
    TEST_OK(spi_tape_check(&tape, &no_weights, &error), error);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_that_needs_positions_stands_behind_a_gather)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
