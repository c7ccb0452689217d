/* tests/unit/test_metal_rules.c - the stand-in for libobjc and Metal, held against the rules that it keeps: every one
 * is broken once, and it has to say so. What passes here is what the backend's other tests rest on. */
#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "support/metal_rig.h"

#define PAGE SPI_MT_PAGE_BYTES

static spi_mt_runtime objc;
static spi_mt_id device, queue;
static void *pool;

static int begin(void **state) {
    (void)state;
    sp_error error = {0};
    metal_reset();
    TEST_OK(spi_mt_runtime_open(&objc, &error), error);
    pool = objc.push_pool();
    device = objc.create_device();
    queue = spi_mt_new_queue(&objc, device);
    return device && queue ? 0 : 1;
}

static int end(void **state) {
    (void)state;
    spi_mt_release(&objc, queue);
    spi_mt_release(&objc, device);
    objc.pop_pool(pool);
    spi_mt_runtime_close(&objc);
    return 0;
}

/* That nothing was broken up to here, or just this. */
static void expect_broken(const char *part) {
    const char *broken = metal.violation();
    if (!part) {
        assert_null(broken);
    } else if (!broken || !strstr(broken, part)) {
        fail_msg("\"%s\" does not say \"%s\"", broken ? broken : "no rule was broken", part);
    }
}

static uint8_t *pages(size_t count) {
    uint8_t *memory = mmap(NULL, (count + 1) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    return (uint8_t *)(((uintptr_t)memory + PAGE - 1) / PAGE * PAGE); /* given back when the test's process ends */
}

static spi_mt_id make_pipeline(spi_mt_kernel kernel) {
    spi_mt_id why = NULL, options = spi_mt_new_of_class(&objc, "MTLCompileOptions");
    uint32_t type = SP_F32;
    spi_mt_set_fast_math(&objc, options, false);
    spi_mt_set_language(&objc, options, SPI_MT_LANGUAGE_2_3);
    spi_mt_id library =
        spi_mt_new_library(&objc, device, spi_mt_text(&objc, spi_mt_sources[kernel].text), options, &why);
    spi_mt_id constants = spi_mt_new_of_class(&objc, "MTLFunctionConstantValues");
    spi_mt_set_constant(&objc, constants, &type, SPI_MT_DATA_UINT, 0);
    spi_mt_id function = spi_mt_new_function(&objc, library, spi_mt_text(&objc, "main0"), constants, &why);
    spi_mt_id descriptor = spi_mt_new_of_class(&objc, "MTLComputePipelineDescriptor");
    spi_mt_set_function(&objc, descriptor, function);
    spi_mt_id pipeline = spi_mt_new_pipeline(&objc, device, descriptor, 0, NULL, &why);
    assert_non_null(pipeline);
    spi_mt_release(&objc, descriptor);
    spi_mt_release(&objc, function);
    spi_mt_release(&objc, constants);
    spi_mt_release(&objc, library);
    spi_mt_release(&objc, options);
    return pipeline;
}

static spi_mt_id begin_commands(spi_mt_id *encoder) {
    spi_mt_id commands = spi_mt_command_buffer(&objc, queue);
    *encoder = spi_mt_compute_encoder(&objc, commands, SPI_MT_DISPATCH_CONCURRENT);
    return commands;
}

static void finish(spi_mt_id commands, spi_mt_id encoder) {
    spi_mt_end_encoding(&objc, encoder);
    spi_mt_commit(&objc, commands);
    spi_mt_wait_completed(&objc, commands);
}

/* add.comp: dst[i] += scale * src[i] for 64 columns. */
static void encode_add(spi_mt_id encoder, spi_mt_id pipeline, spi_mt_id src, spi_mt_id dst, uint64_t threads) {
    uint32_t push[3] = {64, 64, spi_mt_float_word(1)};
    spi_mt_set_pipeline(&objc, encoder, pipeline);
    spi_mt_set_bytes(&objc, encoder, push, sizeof push, 0);
    if (src) {
        spi_mt_set_buffer(&objc, encoder, src, 0, 4);
    }
    spi_mt_set_buffer(&objc, encoder, dst, 0, 6);
    spi_mt_dispatch_groups(&objc, encoder, (spi_mt_size){1, 1, 1}, (spi_mt_size){threads, 1, 1});
}

static void a_dispatch_as_it_should_be(void **state) {
    (void)state;
    spi_mt_id pipeline = make_pipeline(SPI_MT_KERNEL_add), encoder;
    spi_mt_id src = spi_mt_new_buffer(&objc, device, 256, 0), dst = spi_mt_new_buffer(&objc, device, 256, 0);
    float *from = spi_mt_contents(&objc, src), *to = spi_mt_contents(&objc, dst);
    for (int i = 0; i < 64; i++) {
        from[i] = (float)i;
        to[i] = 1;
    }
    spi_mt_id commands = begin_commands(&encoder);
    encode_add(encoder, pipeline, src, dst, 64);
    spi_mt_end_encoding(&objc, encoder);
    spi_mt_commit(&objc, commands);
    assert_true(to[63] == 1); /* it runs when somebody waits */
    spi_mt_wait_completed(&objc, commands);
    assert_true(to[63] == 64);
    assert_int_equal(spi_mt_status(&objc, commands), SPI_MT_STATUS_COMPLETED);
    spi_mt_release(&objc, src);
    spi_mt_release(&objc, dst);
    spi_mt_release(&objc, pipeline);
    expect_broken(NULL);
}

static void memory_in_whole_pages(void **state) {
    (void)state;
    uint8_t *memory = pages(4);
    spi_mt_id good = spi_mt_new_buffer_over(&objc, device, memory, 2 * PAGE, 0, NULL);
    assert_ptr_equal(spi_mt_contents(&objc, good), memory);
    expect_broken(NULL);
    assert_null(spi_mt_new_buffer_over(&objc, device, memory + 4096, PAGE, 0, NULL));
    expect_broken("not whole pages");
    metal_reset();
    assert_null(spi_mt_new_buffer_over(&objc, device, memory, PAGE + 4096, 0, NULL));
    expect_broken("not whole pages");
    metal_reset();
    assert_int_equal(mprotect(memory + 2 * PAGE, PAGE, PROT_NONE), 0);
    assert_null(spi_mt_new_buffer_over(&objc, device, memory, 4 * PAGE, 0, NULL));
    expect_broken("cannot be read");
    metal_reset();
    metal.settings()->buffer_length_max = PAGE;
    assert_null(spi_mt_new_buffer_over(&objc, device, memory, 2 * PAGE, 0, NULL));
    expect_broken("too long");
    spi_mt_release(&objc, good);
}

static void encoders_end(void **state) {
    (void)state;
    spi_mt_id encoder, commands = begin_commands(&encoder);
    spi_mt_commit(&objc, commands);
    expect_broken("commit without endEncoding");
    metal_reset();
    spi_mt_end_encoding(&objc, encoder);
    spi_mt_end_encoding(&objc, encoder);
    expect_broken("after endEncoding");
    metal_reset();
    spi_mt_commit(&objc, commands);
    spi_mt_commit(&objc, commands);
    expect_broken("was committed");
    spi_mt_wait_completed(&objc, commands);
    metal_reset();
    void *inner = objc.push_pool();
    begin_commands(&encoder);
    objc.pop_pool(inner);
    expect_broken("released without endEncoding");
    metal_reset();
    commands = begin_commands(&encoder);
    spi_mt_id second = spi_mt_compute_encoder(&objc, commands, SPI_MT_DISPATCH_CONCURRENT);
    expect_broken("a second encoder");
    spi_mt_end_encoding(&objc, encoder);
    spi_mt_end_encoding(&objc, second);
    metal_reset();
    spi_mt_wait_completed(&objc, commands);
    expect_broken("before commit");
}

static void arguments_are_bound(void **state) {
    (void)state;
    spi_mt_id pipeline = make_pipeline(SPI_MT_KERNEL_add), encoder;
    spi_mt_id buffer = spi_mt_new_buffer(&objc, device, 256, 0);
    spi_mt_id commands = begin_commands(&encoder);
    encode_add(encoder, pipeline, NULL, buffer, 64);
    expect_broken("nothing is bound at buffer(4)");
    metal_reset();
    spi_mt_set_buffer(&objc, encoder, buffer, 2, 4);
    expect_broken("offset 2");
    metal_reset();
    spi_mt_set_buffer(&objc, encoder, buffer, 256, 4);
    expect_broken("offset 256");
    metal_reset();
    spi_mt_set_buffer(&objc, encoder, buffer, 0, 31);
    expect_broken("index 31");
    metal_reset();
    spi_mt_set_buffer(&objc, encoder, buffer, 0, 4);
    spi_mt_set_bytes(&objc, encoder, "four", 4, 0);
    spi_mt_dispatch_groups(&objc, encoder, (spi_mt_size){1, 1, 1}, (spi_mt_size){64, 1, 1});
    expect_broken("4 bytes at buffer(0), 12 are read");
    metal_reset();
    encode_add(encoder, pipeline, buffer, buffer, 2048);
    expect_broken("2048 threads");
    metal_reset();
    finish(commands, encoder);
    commands = begin_commands(&encoder);
    spi_mt_dispatch_groups(&objc, encoder, (spi_mt_size){1, 1, 1}, (spi_mt_size){64, 1, 1});
    expect_broken("without a pipeline");
    metal_reset();
    finish(commands, encoder);
    spi_mt_release(&objc, buffer);
    spi_mt_release(&objc, pipeline);
    expect_broken(NULL);
}

/* Elements of 16 bytes begin at multiples of 16. */
static void offsets_fit_elements(void **state) {
    (void)state;
    spi_mt_id pipeline = make_pipeline(SPI_MT_KERNEL_file_matmul_1), encoder;
    spi_mt_id buffer = spi_mt_new_buffer(&objc, device, 4096, 0), commands = begin_commands(&encoder);
    uint32_t push[SPI_MT_PUSH_WORDS] = {0};
    spi_mt_set_pipeline(&objc, encoder, pipeline);
    spi_mt_set_bytes(&objc, encoder, push, sizeof push, 0);
    for (uint64_t i = 1; i <= 6; i++) {
        spi_mt_set_buffer(&objc, encoder, buffer, i == 4 ? 8 : 16, i); /* 4: x, in fours */
    }
    spi_mt_dispatch_groups(&objc, encoder, (spi_mt_size){1, 1, 1}, (spi_mt_size){64, 1, 1});
    expect_broken("offset 8 at buffer(4), whose elements are aligned to 16");
    finish(commands, encoder);
    spi_mt_release(&objc, buffer);
    spi_mt_release(&objc, pipeline);
}

/* The kernel writes 64 elements of a buffer that has 32. */
static void kernels_stay_inside(void **state) {
    (void)state;
    spi_mt_id pipeline = make_pipeline(SPI_MT_KERNEL_add), encoder;
    spi_mt_id src = spi_mt_new_buffer(&objc, device, 256, 0), dst = spi_mt_new_buffer(&objc, device, 128, 0);
    memset(spi_mt_contents(&objc, src), 0, 256);
    memset(spi_mt_contents(&objc, dst), 0, 128);
    spi_mt_id commands = begin_commands(&encoder);
    encode_add(encoder, pipeline, src, dst, 64);
    finish(commands, encoder);
    expect_broken("element 32 of buffer 6 is outside of its 128 bytes");
    assert_int_equal(spi_mt_status(&objc, commands), SPI_MT_STATUS_ERROR);
    assert_int_equal(spi_mt_code(&objc, spi_mt_error(&objc, commands)), 3); /* a page fault */
    spi_mt_release(&objc, src);
    spi_mt_release(&objc, dst);
    spi_mt_release(&objc, pipeline);
}

static void references_are_counted(void **state) {
    (void)state;
    long live = metal.live();
    spi_mt_id buffer = spi_mt_new_buffer(&objc, device, 16, 0);
    assert_int_equal(metal.live(), live + 1); /* a leak is seen so */
    spi_mt_release(&objc, buffer);
    assert_int_equal(metal.live(), live);
    expect_broken(NULL);
    spi_mt_contents(&objc, buffer);
    expect_broken("that was freed");
    metal_reset();
    spi_mt_release(&objc, buffer);
    expect_broken("that was freed"); /* an over-release, as it is met first */
    metal_reset();
    buffer = spi_mt_text(&objc, "the pool's");
    void *inner = objc.push_pool();
    spi_mt_text(&objc, "the inner pool's");
    objc.pop_pool(inner);
    expect_broken(NULL);
    objc.pop_pool((void *)17);
    expect_broken("another order");
}

/* What a run uses has to live until it is done. */
static void a_run_keeps_nothing(void **state) {
    (void)state;
    spi_mt_id pipeline = make_pipeline(SPI_MT_KERNEL_add), encoder;
    spi_mt_id buffer = spi_mt_new_buffer(&objc, device, 256, 0), commands = begin_commands(&encoder);
    encode_add(encoder, pipeline, buffer, buffer, 64);
    spi_mt_release(&objc, buffer);
    finish(commands, encoder);
    expect_broken("no live MTLBuffer");
    spi_mt_release(&objc, pipeline);
}

static void messages_are_known(void **state) {
    (void)state;
    spi_mt_commit(&objc, device);
    expect_broken("MTLDevice does not know commit");
    metal_reset();
    spi_mt_commit(&objc, NULL); /* nothing happens */
    expect_broken(NULL);
    assert_true(spi_mt_knows(&objc, device, SPI_MT_new_residency_set));
    metal.settings()->old_system = true;
    assert_false(spi_mt_knows(&objc, device, SPI_MT_new_residency_set));
    assert_false(spi_mt_knows(&objc, device, SPI_MT_commit));
}

static void only_what_was_translated_compiles(void **state) {
    (void)state;
    spi_mt_id why = NULL, options = spi_mt_new_of_class(&objc, "MTLCompileOptions");
    spi_mt_set_language(&objc, options, SPI_MT_LANGUAGE_2_3);
    assert_null(spi_mt_new_library(&objc, device, spi_mt_text(&objc, "kernel void main0() {}"), options, &why));
    char text[200];
    spi_mt_error_text(&objc, why, text, sizeof text);
    assert_string_equal(text, "program_source:1:1: error: nobody has translated this text");
    expect_broken(NULL);
    spi_mt_set_fast_math(&objc, options, true);
    spi_mt_id text_of = spi_mt_text(&objc, spi_mt_sources[0].text);
    spi_mt_release(&objc, spi_mt_new_library(&objc, device, text_of, options, &why));
    expect_broken("fast math");
    spi_mt_release(&objc, options);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_dispatch_as_it_should_be, begin, end),
        cmocka_unit_test_setup_teardown(memory_in_whole_pages, begin, end),
        cmocka_unit_test_setup_teardown(encoders_end, begin, end),
        cmocka_unit_test_setup_teardown(arguments_are_bound, begin, end),
        cmocka_unit_test_setup_teardown(offsets_fit_elements, begin, end),
        cmocka_unit_test_setup_teardown(kernels_stay_inside, begin, end),
        cmocka_unit_test_setup_teardown(references_are_counted, begin, end),
        cmocka_unit_test_setup_teardown(a_run_keeps_nothing, begin, end),
        cmocka_unit_test_setup_teardown(messages_are_known, begin, end),
        cmocka_unit_test_setup_teardown(only_what_was_translated_compiles, begin, end),
    };
    return cmocka_run_group_tests(tests, metal_find, NULL);
}
