/* A token in one launch, and rows on tensor cores, against the same op by op, on whatever CUDA card there is: random
 * models of several shapes and every type, at positions on, before and behind the edges of blocks and of the runs that
 * a context is split in. With and without logits, with KV mirrored and in place; the guest's blocks are compared as
 * well. */
#include "support/cuda_rig.h"

#include <stdlib.h>
#include <string.h>

#include "bench_shape.h"
#include "os/clock.h"
#include "samepage/sampler.h"
#include "sampler/draw.h"
#include "support/painted_stack.h"

/* Plain types differ by the order of sums only. Quantised ones round activations to 8 bits in one of the two: each
 * product is then off by about 0.4% of its own size, and so are the logits, for errors add up like the terms do. */
#define PLAIN_ERROR     2e-4
#define QUANTISED_ERROR 3e-2

#define CONTEXT 1400u

static bool is_short;

static const float *logits(const bench_model *model) {
    uint64_t blocks = (CONTEXT + SPI_BLOCK_TOKENS - 1) / SPI_BLOCK_TOKENS;
    return (const float *)(const void *)(sp_region_base(model->region) + blocks * model->tape.kv.block_bytes);
}

static double compare_blocks(const bench_model *a, const bench_model *b, uint32_t position) {
    const spi_kv_shape *kv = &a->tape.kv;
    double difference = 0, size = 0;
    const uint8_t *first = sp_region_base(a->region), *second = sp_region_base(b->region);
    for (uint32_t i = 0; i < kv->layers * 2 * kv->kv_heads; i++) {
        uint32_t layer = i / 2 / kv->kv_heads, which = i / kv->kv_heads % 2, head = i % kv->kv_heads;
        for (uint32_t c = 0; c < kv->head_dim; c++) {
            double x = (double)spi_kv_value(kv, first, layer, which, head, position, c);
            double y = (double)spi_kv_value(kv, second, layer, which, head, position, c);
            difference += (x - y) * (x - y);
            size += x * x;
        }
    }
    assert_true(size > 0);
    return sqrt(difference / size);
}

static void compare(const bench_shape *shape, const spi_cu_choices *choices, sp_device *reference) {
    static const uint32_t starts[] = {0, 60, 127, 320, 1023, 1270, 1390};
    sp_error error = {0};
    sp_device *device = test_cuda_open(choices);
    bench_model model, plain;
    TEST_OK(bench_model_open(device, shape, 512, CONTEXT, &model, &error), error);
    TEST_OK(bench_model_open(reference, shape, 512, CONTEXT, &plain, &error), error);
    sp_device_info info;
    sp_device_get_info(device, &info);
    bool is_hopper = strstr(info.description, "capability 9.0");
    assert_non_null(model.program->decode);
    assert_true(!model.program->wide == !is_hopper);
    assert_null(plain.program->decode);
    assert_null(plain.program->wide);
    double worst = 0, worst_blocks = 0, worst_rows = 0,
           bound = sp_dtype_block_elements(shape->type) > 1 ? QUANTISED_ERROR : PLAIN_ERROR,
           rows_bound = shape->type == SP_BF16 || shape->type == SP_MXFP4 ? BRAIN_ERROR : HALF_ERROR;
    if (shape->kv_type == SP_KV_Q8_0) {
        bound = step_error(bound), rows_bound = step_error(rows_bound);
    }
    uint32_t done = 0;
    for (size_t s = 0; s < sizeof starts / sizeof starts[0]; s++) {
        while (done < starts[s]) {
            uint32_t rows = starts[s] - done < 512 ? starts[s] - done : 512;
            assert_true(bench_model_run(&model, rows, done, true, &error) >= 0);
            assert_true(bench_model_run(&plain, rows, done, true, &error) >= 0);
            done += rows;
            double difference =
                test_rms(logits(&model), logits(&plain), shape->vocab) / test_rms(logits(&plain), NULL, shape->vocab);
            double of_blocks = compare_blocks(&plain, &model, done - 1);
            worst_rows = difference > worst_rows || isnan(difference) ? difference : worst_rows;
            worst_rows = of_blocks > worst_rows || isnan(of_blocks) ? of_blocks : worst_rows;
        }
        /* Prompts are computed in other ways in the two: both go on from the same blocks, which the host puts there. */
        uint64_t bytes = (done + SPI_BLOCK_TOKENS - 1) / SPI_BLOCK_TOKENS * plain.tape.kv.block_bytes;
        memcpy(sp_region_base(model.region), sp_region_base(plain.region), bytes);
        TEST_OK(spi_device_host_wrote(device, model.region, 0, bytes, &error), error);
        for (uint32_t i = 0; i < 6; i++, done++) {
            assert_true(bench_model_run(&model, 1, done, i != 2, &error) >= 0);
            assert_true(bench_model_run(&plain, 1, done, i != 2, &error) >= 0);
            double error_now =
                test_rms(logits(&model), logits(&plain), shape->vocab) / test_rms(logits(&plain), NULL, shape->vocab);
            worst = error_now > worst || isnan(error_now) ? error_now : worst;
            if (!(error_now <= bound)) {
                print_message("position %u: logits differ by %.1e: %g %g %g, not %g %g %g\n", done, error_now,
                              (double)logits(&model)[0], (double)logits(&model)[1], (double)logits(&model)[2],
                              (double)logits(&plain)[0], (double)logits(&plain)[1], (double)logits(&plain)[2]);
            }
            double blocks = compare_blocks(&model, &plain, done);
            worst_blocks = blocks > worst_blocks || isnan(blocks) ? blocks : worst_blocks;
        }
    }
    print_message(
        "%-5s width %u heads %u/%u of %u in %s, inner %u: logits differ by %.1e of their size, blocks by %.1e, rows "
        "by %.1e\n",
        sp_dtype_name(shape->type), shape->width, shape->heads, shape->kv_heads, shape->head_dim,
        sp_kv_type_name(shape->kv_type), shape->inner, worst, worst_blocks, worst_rows);
    assert_true(worst <= bound);
    assert_true(worst_blocks <= bound + 1e-3); /* and the rounding of f16 */
    assert_true(worst_rows <= rows_bound);
    bench_model_close(&model);
    bench_model_close(&plain);
    sp_device_close(device);
}

/* Of its own for keys and values in Q8_0; and one of those that share the kernel for any type. */
static bool has_q8_kernel(sp_dtype type) {
    return type == SP_BF16 || type == SP_F16 || type == SP_Q8_0 || type == SP_Q4_0 || type == SP_Q4_K ||
           type == SP_Q5_1;
}

static void test_agrees(void **state) {
    (void)state;
    static const sp_dtype types[] = {SP_BF16, SP_F16,  SP_Q8_0, SP_Q4_0, SP_Q4_1,   SP_Q5_0,   SP_Q5_1, SP_Q2_K,
                                     SP_Q3_K, SP_Q4_K, SP_Q5_K, SP_Q6_K, SP_IQ4_NL, SP_IQ4_XS, SP_MXFP4};
    static const bench_shape shapes[] = {
        {.layers = 2, .width = 256, .heads = 4, .kv_heads = 2, .head_dim = 64, .inner = 768, .vocab = 1003},
        {.layers = 2, .width = 256, .heads = 4, .kv_heads = 2, .head_dim = 64, .inner = 704, .vocab = 1003},
        {.layers = 3, .width = 1024, .heads = 8, .kv_heads = 8, .head_dim = 128, .inner = 2816, .vocab = 512},
        {.layers = 2, .width = 2048, .heads = 32, .kv_heads = 8, .head_dim = 64, .inner = 8192, .vocab = 5000},
        {.layers = 2, .width = 960, .heads = 15, .kv_heads = 5, .head_dim = 64, .inner = 2560, .vocab = 3000},
        {.layers = 2, .width = 512, .heads = 8, .kv_heads = 1, .head_dim = 256, .inner = 1024, .vocab = 777},
        {.layers = 2, .width = 512, .heads = 12, .kv_heads = 1, .head_dim = 64, .inner = 1024, .vocab = 777},
        {.layers = 2,
         .width = 512,
         .heads = 8,
         .kv_heads = 2,
         .head_dim = 128,
         .inner = 1024,
         .vocab = 777,
         .window = 200,
         .softcap = 2},
    };
    spi_cu_choices plain = {.op_by_op = true}, in_place = {.in_place = true};
    sp_device *reference = test_cuda_open(&plain);
    if (!reference) {
        skip();
    }
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        for (size_t i = 0; i < (is_short ? 1 : sizeof shapes / sizeof shapes[0]); i++) {
            bench_shape shape = shapes[i];
            shape.type = types[t];
            if (!bench_shape_fits(&shape)) {
                continue;
            }
            compare(&shape, NULL, reference);
            if (!i) {
                compare(&shape, &in_place, reference);
            }
            if (has_q8_kernel(shape.type)) {
                shape.kv_type = SP_KV_Q8_0;
                compare(&shape, NULL, reference);
            }
        }
    }
    sp_device_close(reference);
}

/* A token and what follows it, as often as the device goes on by itself in a run; returns how many were picked. */
static uint32_t run_picks(bench_model *model, int32_t token, uint32_t position, spi_picks *picks) {
    void *context;
    const spi_backend *backend = spi_device_backend(model->device, &context);
    uint64_t blocks = (CONTEXT + SPI_BLOCK_TOKENS - 1) / SPI_BLOCK_TOKENS;
    spi_segment segment = {.link = spi_device_find_link(model->device, model->region),
                           .logits_offset = blocks * model->tape.kv.block_bytes,
                           .row_count = 1,
                           .position_first = position,
                           .out_count = 1};
    spi_run run = {
        .tokens = &token, .row_count = 1, .segments = &segment, .segment_count = 1, .out_count = 1, .picks = picks};
    sp_error error = {0};
    TEST_OK(backend->run(context, model->program, &run, &error), error);
    return picks ? picks->count : 0;
}

#define PICKS 75u

/* Where two rows differ, and whether they still do a while later: what is written late is told from what is wrong. */
static void tell_difference(const bench_model *a, const bench_model *b, uint32_t position) {
    const spi_kv_shape *kv = &a->tape.kv;
    const uint8_t *first = sp_region_base(a->region), *second = sp_region_base(b->region);
    for (uint32_t i = 0; i < kv->layers * 2 * kv->kv_heads; i++) {
        uint32_t layer = i / 2 / kv->kv_heads, which = i / kv->kv_heads % 2, head = i % kv->kv_heads, count = 0;
        for (uint32_t c = 0; c < kv->head_dim; c++) {
            double x = (double)spi_kv_value(kv, first, layer, which, head, position, c);
            double y = (double)spi_kv_value(kv, second, layer, which, head, position, c);
            if (x != y && count++ == 0) {
                print_error("layer %u, %s of head %u: %g, not %g, in column %u", layer, which ? "value" : "key", head,
                            x, y, c);
            }
        }
        if (count) {
            print_error(" and %u more\n", count - 1);
        }
    }
    spi_sleep_ns(100000000);
    print_error("a tenth of a second later they differ by %.1e\n", compare_blocks(a, b, position));
}

/* The same rows of keys and values in both, those of the prompt and of PICKS tokens behind it. */
static void check_blocks(const bench_model *a, const bench_model *b, uint32_t start) {
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < start + PICKS; i++) {
        double difference = compare_blocks(a, b, i);
        if (difference != 0) {
            print_error("%s, width %u, %u tokens and %u more: row %u differs by %.1e\n", sp_dtype_name(a->shape.type),
                        a->shape.width, start, PICKS, i, difference);
            if (!wrong++) {
                tell_difference(a, b, i);
            }
        }
    }
    assert_int_equal(wrong, 0);
}

/* Tokens that the device picks and goes on with are those that the host would, and leave the same blocks and logits, to
 * the bit; also where a token ends it. */
static void compare_picks(sp_device *device, const bench_shape *shape, uint32_t start) {
    sp_error error = {0};
    bench_model alone, ahead;
    sp_sampler *greedy;
    int32_t expected[PICKS + 1] = {7}, got[PICKS];
    TEST_OK(sp_sampler_create(NULL, &greedy, &error), error);
    TEST_OK(bench_model_open(device, shape, 64, CONTEXT, &alone, &error), error);
    TEST_OK(bench_model_open(device, shape, 64, CONTEXT, &ahead, &error), error);
    for (uint32_t done = 0; done < start; done += 64) {
        uint32_t rows = start - done < 64 ? start - done : 64;
        assert_true(bench_model_run(&alone, rows, done, false, &error) >= 0);
        assert_true(bench_model_run(&ahead, rows, done, false, &error) >= 0);
    }
    for (uint32_t i = 0; i < PICKS; i++) {
        run_picks(&alone, expected[i], start + i, NULL);
        expected[i + 1] = sp_sampler_pick(greedy, logits(&alone), shape->vocab);
    }
    uint32_t count = 0;
    while (count < PICKS) {
        spi_picks picks = {.tokens = got + count, .count_max = PICKS - count};
        uint32_t made = run_picks(&ahead, count ? got[count - 1] : 7, start + count, &picks);
        assert_true(made > 1 || count + 1 == PICKS);
        count += made;
    }
    assert_memory_equal(got, expected + 1, sizeof got);
    assert_memory_equal(logits(&ahead), logits(&alone), shape->vocab * sizeof(float));
    check_blocks(&ahead, &alone, start);
    /* The pick behind the third token ends the run; that of a run of one token is the same. */
    const int32_t stops[] = {-5, expected[3]};
    spi_picks picks = {.tokens = got, .count_max = PICKS, .stops = stops, .stop_count = 2};
    uint32_t first = 0; /* it may have come before */
    while (expected[first + 1] != expected[3]) {
        first++;
    }
    assert_int_equal(run_picks(&ahead, 7, start, &picks), first + 1);
    assert_memory_equal(got, expected + 1, (first + 1) * sizeof *got);
    for (uint32_t i = 0; i <= first; i++) {
        run_picks(&alone, expected[i], start + i, NULL);
    }
    assert_memory_equal(logits(&ahead), logits(&alone), shape->vocab * sizeof(float));
    /* One at a time, behind a run of several. */
    picks = (spi_picks){.tokens = got, .count_max = 2};
    assert_int_equal(run_picks(&ahead, 7, start, &picks), 2);
    for (uint32_t i = 0; i <= first; i++) {
        picks = (spi_picks){.tokens = got, .count_max = 1};
        assert_int_equal(run_picks(&ahead, expected[i], start + i, &picks), 1);
        assert_int_equal(got[0], expected[i + 1]);
    }
    assert_memory_equal(logits(&ahead), logits(&alone), shape->vocab * sizeof(float));
    sp_sampler_destroy(greedy);
    bench_model_close(&alone);
    bench_model_close(&ahead);
}

#define SESSIONS 5u

/* One token each of sessions side by side: the card's picks are the host's, with logits and without. */
static void compare_batch_picks(sp_device *device, const bench_shape *shape) {
    sp_error error = {0};
    bench_model model;
    sp_sampler *greedy;
    sp_region *region;
    void *context;
    const spi_backend *backend = spi_device_backend(device, &context);
    TEST_OK(sp_sampler_create(NULL, &greedy, &error), error);
    TEST_OK(bench_model_open(device, shape, 64, CONTEXT, &model, &error), error);
    uint64_t row_bytes = shape->vocab * sizeof(float),
             session_bytes = model.tape.kv.block_bytes + (row_bytes + 63) / 64 * 64;
    sp_region_options wanted = {.size_bytes = (size_t)(SESSIONS * session_bytes)};
    TEST_OK(sp_region_create(&wanted, &region, &error), error);
    TEST_OK(sp_device_link(device, region, &error), error);
    int32_t tokens[SESSIONS], got[SESSIONS];
    spi_segment segments[SESSIONS];
    for (uint32_t i = 0; i < SESSIONS; i++) {
        tokens[i] = (int32_t)(3 + 11 * i);
        segments[i] = (spi_segment){.link = spi_device_find_link(device, region),
                                    .kv_offset = i * session_bytes,
                                    .logits_offset = i * session_bytes + model.tape.kv.block_bytes,
                                    .row_first = i,
                                    .row_count = 1,
                                    .out_first = i,
                                    .out_count = 1};
    }
    for (uint32_t step = 0; step < 8; step++) {
        spi_pick each[SESSIONS];
        for (uint32_t i = 0; i < SESSIONS; i++) { /* by noise, without, and both in one run */
            bool drawn = step >= 4 && (step < 6 || i % 2);
            each[i] = (spi_pick){.draw = {.key = spi_draw_key(i, step),
                                          .inverse = drawn ? 4 - (float)i / 2 : 0,
                                          .least = step % 3 ? -INFINITY : -0.5f},
                                 .alone = step % 2 && i != 3};
        }
        spi_picks picks = {.each = step ? each : NULL, .tokens = got, .count_max = SESSIONS};
        spi_run run = {.tokens = tokens,
                       .row_count = SESSIONS,
                       .segments = segments,
                       .segment_count = SESSIONS,
                       .out_count = SESSIONS,
                       .picks = &picks};
        for (int again = 0; again < 2; again++, run.picks = NULL) { /* the second time for the host's logits */
            TEST_OK(backend->run(context, model.program, &run, &error), error);
        }
        assert_int_equal(picks.count, SESSIONS);
        for (uint32_t i = 0; i < SESSIONS; i++) {
            const float *row = (const float *)(const void *)(sp_region_base(region) + segments[i].logits_offset);
            assert_int_equal(got[i], spi_draw_pick(&each[i].draw, row, shape->vocab));
            if (each[i].draw.inverse == 0) {
                assert_int_equal(got[i], sp_sampler_pick(greedy, row, shape->vocab));
            }
            tokens[i] = got[i];
            segments[i].position_first++;
        }
    }
    sp_device_unlink(device, region);
    sp_region_destroy(region);
    bench_model_close(&model);
    sp_sampler_destroy(greedy);
}

static void test_picks(void **state) {
    (void)state;
    static const sp_dtype types[] = {SP_BF16, SP_Q4_0, SP_Q8_0, SP_Q4_K};
    static const bench_shape shapes[] = {
        {.layers = 3, .width = 256, .heads = 4, .kv_heads = 2, .head_dim = 64, .inner = 768, .vocab = 1003},
        {.layers = 2, .width = 2048, .heads = 32, .kv_heads = 8, .head_dim = 64, .inner = 8192, .vocab = 5000},
        {.layers = 3, .width = 1024, .heads = 8, .kv_heads = 8, .head_dim = 128, .inner = 2816, .vocab = 512},
    };
    static const uint32_t starts[] = {50, 0, 1200};
    sp_device *device = test_cuda_open(NULL);
    if (!device) {
        skip();
    }
    for (size_t t = 0; t < (is_short ? 2 : sizeof types / sizeof types[0]); t++) {
        for (size_t i = 0; i < (is_short ? 1 : sizeof shapes / sizeof shapes[0]); i++) {
            bench_shape shape = shapes[i];
            shape.type = types[t];
            for (size_t s = 0; s < (is_short ? 1 : sizeof starts / sizeof starts[0]); s++) {
                compare_picks(device, &shape, starts[s]);
            }
            shape.kv_type = t % 2 ? SP_KV_Q8_0 : SP_KV_F16;
            compare_batch_picks(device, &shape);
        }
    }
    sp_device_close(device);
}

#define STACK_MOST ((size_t)256 << 10) /* device/backend.h: a guest's fiber has no more for sure */

/* Tokens into fresh blocks, with picks and without. */
static void decode_there(void *env) {
    bench_model *model = env;
    for (uint32_t i = 0; i < 200; i++) {
        int32_t got;
        spi_picks picks = {.tokens = &got, .count_max = 1};
        run_picks(model, (int32_t)i, i, i % 2 ? &picks : NULL);
    }
}

/* What tokens take of a stack, the driver's part included. */
static void measure_stack(const spi_cu_choices *choices, const char *how) {
    const bench_shape shape = {.layers = 2,
                               .width = 2048,
                               .heads = 32,
                               .kv_heads = 8,
                               .head_dim = 64,
                               .inner = 8192,
                               .vocab = 5000,
                               .type = SP_Q4_0};
    sp_error error = {0};
    bench_model model;
    sp_device *device = test_cuda_open(choices);
    if (!device) {
        skip();
    }
    TEST_OK(bench_model_open(device, &shape, 64, CONTEXT, &model, &error), error);
    size_t bytes = test_stack_of(decode_there, &model);
    print_message("a token %s takes %zu KiB of stack\n", how, bytes >> 10);
    assert_true(bytes <= STACK_MOST);
    bench_model_close(&model);
    sp_device_close(device);
}

static void test_stack(void **state) {
    (void)state;
    const spi_cu_choices op_by_op = {.op_by_op = true};
    measure_stack(NULL, "in one launch");
    measure_stack(&op_by_op, "op by op");
}

/* "short" leaves all shapes but one out: under compute-sanitizer the others take minutes. Another word is the name of
 * the one test to run. */
int main(int count, char **words) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_agrees), cmocka_unit_test(test_picks),
                                       cmocka_unit_test(test_stack)};
    is_short = count > 1 && !strcmp(words[1], "short");
    if (count > 1 && !is_short) {
        cmocka_set_test_filter(words[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
