/* tests/unit/test_cpu_store.c - weights of the CPU device: packing from a mapped file whose pages are given back,
 * progress, matrices that are only looked up, and no memory at any point of loading and preparing. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "device/backends.h"
#include "ops/ops_cases.h"
#include "os/file.h"
#include "support/support.h"

#define ROWS 70u
#define COLS 8192u

typedef struct fixture {
    void *context;
    spi_tensor tensor;
    spi_op ops[2];
    spi_buffer buffers[2];
    spi_tape tape;
} fixture;

static const spi_backend *const cpu = &spi_backend_cpu;

/* EMBED into x, then a product of x with the same matrix: a tied head in small. */
static void set_up(fixture *on, const void *data) {
    sp_error error = {0};
    sp_device_options options = {.thread_count = 2};
    memset(on, 0, sizeof *on);
    TEST_OK(cpu->open(0, &options, &on->context, &error), error);
    on->tensor = (spi_tensor){.name = "w", .type = SP_Q8_0, .rows = ROWS, .cols = COLS, .data = data};
    on->tensor.bytes = (uint64_t)ROWS * (COLS / 32) * 34;
    on->buffers[0] = (spi_buffer){"x", COLS};
    on->buffers[1] = (spi_buffer){"y", ROWS};
    spi_op plain = {.src = SPI_NONE, .src1 = SPI_NONE, .bias = SPI_NONE, .scale = 1};
    on->ops[0] = on->ops[1] = plain;
    on->ops[0].kind = SPI_OP_EMBED;
    on->ops[1].kind = SPI_OP_MATMUL;
    on->ops[1].src = 0;
    on->ops[1].dst = 1;
    on->tape = (spi_tape){.ops = on->ops,
                          .op_count = 2,
                          .buffers = on->buffers,
                          .buffer_count = 2,
                          .kv = {.layers = 1, .kv_heads = 1, .head_dim = 8, .block_bytes = 65536},
                          .rows_max = 3,
                          .vocab = ROWS};
}

static void fill(uint8_t *bytes, size_t count) {
    test_random random = test_random_seed(test_seed());
    for (size_t at = 0; at < count; at += 34) {
        bytes[at] = 0;
        bytes[at + 1] = 0x20; /* f16 0x2000 = 2^-7 */
        for (size_t i = 2; i < 34; i++) {
            bytes[at + i] = (uint8_t)test_random_next(&random);
        }
    }
}

typedef struct told {
    uint64_t done, total;
    uint32_t calls;
} told;

static void hear(void *env, uint64_t done_bytes, uint64_t total_bytes) {
    told *heard = env;
    assert_true(done_bytes > heard->done && done_bytes <= total_bytes);
    *heard = (told){done_bytes, total_bytes, heard->calls + 1};
}

/* Whether loading packs or copies. */
static bool expected_calls = true;
#if defined(__linux__)
#define COPIES_FLOATS true
#else
#define COPIES_FLOATS false
#endif

/* Loads, runs one token and gives its products; the link is never touched by these two ops. */
static void run_once(fixture *on, bool droppable, float out[ROWS]) {
    sp_error error = {0};
    told heard = {0};
    spi_weights weights = {.tensors = &on->tensor, .count = 1, .droppable = droppable};
    spi_store *store;
    spi_program *program;
    TEST_OK(cpu->load(on->context, &weights, hear, &heard, &store, &error), error);
    TEST_OK(cpu->prepare(on->context, store, &on->tape, &program, &error), error);
    sp_device_info info;
    cpu->info(on->context, &info);
    if (strcmp(info.isa, "reference") != 0) {
        assert_int_equal(heard.calls > 0, expected_calls);
        assert_int_equal(heard.done, expected_calls ? on->tensor.bytes : 0);
    }
    int32_t token = 33;
    sp_region_options options = {.reserve_bytes = 4 << 20, .size_bytes = 65536};
    sp_region *region;
    TEST_OK(sp_region_create(&options, &region, &error), error);
    spi_link *link;
    TEST_OK(cpu->link(on->context, region, &link, &error), error);
    spi_segment segment = {.link = link, .row_count = 1};
    spi_run run = {.tokens = &token, .row_count = 1, .segments = &segment, .segment_count = 1};
    TEST_OK(cpu->run(on->context, program, &run, &error), error);
    TEST_OK(cpu->read_buffer(on->context, program, 1, 1, out, &error), error);
    cpu->unlink(on->context, link);
    sp_region_destroy(region);
    cpu->discard(on->context, program);
    cpu->unload(on->context, store);
}

static void test_mapped_and_dropped(void **state) {
    (void)state;
    fixture on;
    set_up(&on, NULL);
    size_t count = (size_t)on.tensor.bytes;
    uint8_t *bytes = spi_alloc(count, 1);
    assert_non_null(bytes);
    fill(bytes, count);
    char path[256];
    snprintf(path, sizeof path, "%s", test_build_path("test_cpu_store.bin"));
    sp_error error = {0};
    TEST_OK(spi_file_write(path, bytes, count, false, &error), error);
    spi_file_map map;
    TEST_OK(spi_file_map_open(path, &map, &error), error);

    float in_memory[ROWS], mapped[ROWS];
    on.tensor.data = bytes;
    run_once(&on, false, in_memory);
    on.tensor.data = map.data;
    run_once(&on, true, mapped);
    assert_memory_equal(in_memory, mapped, sizeof mapped);
    assert_memory_equal(map.data, bytes, count); /* given back, and read again from the file */

    spi_file_map_close(&map);
    unlink(path);
    spi_free(bytes);
    cpu->close(on.context);
}

/* On x86 floats are turned round, for AMX into tiles. */
#if defined(__x86_64__)
#define TURNS_FLOATS true
#else
#define TURNS_FLOATS false
#endif

/* Rows of floats are turned round, or copied; of rows that would be copied, what is a copy in memory already is used
 * there. Such a copy is never given back. */
static void test_floats(void **state) {
    (void)state;
    fixture on;
    set_up(&on, NULL);
    on.tensor.type = SP_BF16;
    on.tensor.bytes = (uint64_t)ROWS * COLS * 2;
    size_t count = (size_t)on.tensor.bytes;
    uint8_t *bytes = spi_alloc(count, 1);
    assert_non_null(bytes);
    test_random random = test_random_seed(test_seed());
    for (size_t i = 0; i < count; i += 2) {
        bytes[i] = (uint8_t)test_random_next(&random);
        bytes[i + 1] = 0x3c | (test_random_next(&random) & 0x80); /* around 2^-7 */
    }
    char path[256];
    snprintf(path, sizeof path, "%s", test_build_path("test_cpu_store_floats.bin"));
    sp_error error = {0};
    TEST_OK(spi_file_write(path, bytes, count, false, &error), error);
    spi_file_map map;
    TEST_OK(spi_file_map_open(path, &map, &error), error);
    float mapped[ROWS], copied[ROWS];
    on.tensor.data = map.data;
    expected_calls = COPIES_FLOATS || TURNS_FLOATS;
    run_once(&on, true, mapped);
    assert_memory_equal(map.data, bytes, count);
    uint8_t *again = spi_alloc(count, 1);
    assert_non_null(again);
    memcpy(again, bytes, count);
    on.tensor.data = again;
    on.tensor.copied = true;
    expected_calls = TURNS_FLOATS;
    run_once(&on, true, copied);
    assert_memory_equal(mapped, copied, sizeof mapped);
    assert_memory_equal(again, bytes, count);
    expected_calls = true;
    spi_file_map_close(&map);
    unlink(path);
    spi_free(again);
    spi_free(bytes);
    cpu->close(on.context);
}

static void test_lookup_only(void **state) {
    (void)state;
    fixture on;
    set_up(&on, NULL);
    uint8_t *bytes = spi_alloc((size_t)on.tensor.bytes, 1);
    assert_non_null(bytes);
    on.tensor.data = bytes;
    on.tensor.rows_only = true;
    sp_error error = {0};
    told heard = {0};
    spi_weights weights = {.tensors = &on.tensor, .count = 1};
    spi_store *store;
    spi_program *program;
    TEST_OK(cpu->load(on.context, &weights, hear, &heard, &store, &error), error);
    assert_int_equal(heard.calls, 0);
    assert_int_equal(cpu->prepare(on.context, store, &on.tape, &program, &error), SP_INVALID);
    assert_null(program);
    assert_non_null(strstr(error.message, "matmul"));
    on.tape.op_count = 1;
    TEST_OK(cpu->prepare(on.context, store, &on.tape, &program, &error), error);
    cpu->discard(on.context, program);
    cpu->unload(on.context, store);
    spi_free(bytes);
    cpu->close(on.context);
}

static void test_no_memory(void **state) {
    (void)state;
    fixture on;
    set_up(&on, NULL);
    uint8_t *bytes = spi_alloc((size_t)on.tensor.bytes, 1);
    assert_non_null(bytes);
    on.tensor.data = bytes;
    spi_weights weights = {.tensors = &on.tensor, .count = 1};
    uint32_t refused = 0;
    for (long allocation = 0;; allocation++) {
        sp_error error = {0};
        spi_store *store;
        spi_program *program = NULL;
        spi_memory_fail_after(allocation);
        sp_status status = cpu->load(on.context, &weights, NULL, NULL, &store, &error);
        if (!status) {
            status = cpu->prepare(on.context, store, &on.tape, &program, &error);
        }
        spi_memory_fail_after(-1);
        if (program) {
            cpu->discard(on.context, program);
        }
        cpu->unload(on.context, store);
        if (!status) {
            break;
        }
        assert_int_equal(status, SP_NO_MEMORY);
        assert_true(error.message[0]);
        refused++;
    }
    assert_true(refused > 10);
    spi_free(bytes);
    cpu->close(on.context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mapped_and_dropped),
        cmocka_unit_test(test_floats),
        cmocka_unit_test(test_lookup_only),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
