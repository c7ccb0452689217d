/* Rows of several sessions in one run against the same op by op, on whatever CUDA card there is: next tokens of up to
 * 64 sessions and prompts of a few tokens among them, behind contexts of random keys and values of every length around
 * the edges of blocks and of what a warp takes. Logits and the guest's new rows are compared. */
#include "support/cuda_rig.h"

#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "bench_shape.h"

/* Scale and minimum of these types' blocks are rounded to 11 bits each, and what is left of scale * code - minimum is
 * often a part of the two only. */
#define MINIMUM_ERROR 8e-3

#define SESSIONS_MAX  64u
#define BLOCKS        5u
#define LONG_SESSIONS 3u /* of which a session's context is shared out among blocks of the grid */
#define LONG_BLOCKS   36u
#define ROWS_MAX      512u

static bool is_short;
static const char *only; /* a type; or NULL, for all */

/* A device with a model, and sessions side by side in one region: blocks, and logits behind them. */
typedef struct party {
    bench_model model;
    sp_region *region;
    uint32_t sessions, blocks; /* of each session */
    uint64_t session_bytes;
} party;

static uint64_t logits_offset(const party *p, uint32_t session) {
    return session * p->session_bytes + p->blocks * p->model.tape.kv.block_bytes;
}

static const float *logits(const party *p, uint32_t session) {
    return (const float *)(const void *)(sp_region_base(p->region) + logits_offset(p, session));
}

/* Of a head's rows in Q8_0 the codes are any bytes, and scales make numbers of up to 1 of them. */
static bool is_code(const spi_kv_shape *kv, uint64_t byte) {
    uint64_t in_block = byte % kv->block_bytes;
    return spi_kv_is_q8(kv) && in_block % spi_kv_head_bytes(kv) < SPI_BLOCK_TOKENS * spi_kv_number_bytes(kv);
}

static void fill_blocks(party *p) {
    const spi_kv_shape *kv = &p->model.tape.kv;
    uint64_t seed = 7;
    for (uint32_t s = 0; s < p->sessions; s++) {
        uint16_t *halves = (uint16_t *)(void *)(sp_region_base(p->region) + s * p->session_bytes);
        for (uint64_t i = 0; i < p->blocks * kv->block_bytes / 2; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            float x = (float)((double)(seed >> 11) * 0x1p-53 - 0.5) * 2;
            halves[i] = is_code(kv, 2 * i) ? (uint16_t)(seed >> 48) : spi_f32_to_f16(spi_kv_is_q8(kv) ? x / 128 : x);
        }
    }
}

static void open_party(sp_device *device, const bench_shape *shape, bool is_long, party *p) {
    sp_error error = {0};
    p->sessions = is_long ? LONG_SESSIONS : SESSIONS_MAX;
    p->blocks = is_long ? LONG_BLOCKS : BLOCKS;
    TEST_OK(bench_model_open(device, shape, ROWS_MAX, 64, &p->model, &error), error);
    uint64_t logits_bytes = (shape->vocab * sizeof(float) + 63) / 64 * 64;
    p->session_bytes = p->blocks * p->model.tape.kv.block_bytes + logits_bytes;
    sp_region_options wanted = {.size_bytes = (size_t)(p->sessions * p->session_bytes)};
    TEST_OK(sp_region_create(&wanted, &p->region, &error), error);
    TEST_OK(sp_device_link(device, p->region, &error), error);
    fill_blocks(p);
    TEST_OK(spi_device_host_wrote(device, p->region, 0, p->sessions * p->session_bytes, &error), error);
}

static void close_party(party *p) {
    sp_device_unlink(p->model.device, p->region);
    sp_region_destroy(p->region);
    bench_model_close(&p->model);
}

/* The device's pick of a session is the first of its largest logits. */
static void check_pick(const party *p, uint32_t session, int32_t picked) {
    const float *logits =
        (const float *)(const void *)((uint8_t *)sp_region_base(p->region) + logits_offset(p, session));
    uint32_t likeliest = 0;
    for (uint32_t i = 1; i < p->model.shape.vocab; i++) {
        likeliest = logits[i] > logits[likeliest] ? i : likeliest;
    }
    assert_int_equal(picked, likeliest);
}

/* Session i has rows[i] new rows at position first[i], and wants the logits of the last; the device picks, too, where
 * it does. */
static void run(party *p, uint32_t sessions, const uint32_t *first, const uint32_t *rows) {
    static spi_segment segments[SESSIONS_MAX];
    static int32_t tokens[ROWS_MAX], picked[SESSIONS_MAX];
    sp_error error = {0};
    void *context;
    const spi_backend *backend = spi_device_backend(p->model.device, &context);
    spi_picks picks = {.tokens = picked, .count_max = sessions};
    spi_run all = {.tokens = tokens,
                   .segments = segments,
                   .segment_count = sessions,
                   .out_count = sessions,
                   .picks = sessions > 1 ? &picks : NULL};
    for (uint32_t i = 0; i < sessions; i++) {
        segments[i] = (spi_segment){.link = spi_device_find_link(p->model.device, p->region),
                                    .kv_offset = i * p->session_bytes,
                                    .logits_offset = logits_offset(p, i),
                                    .row_first = all.row_count,
                                    .row_count = rows[i],
                                    .position_first = first[i],
                                    .out_first = i,
                                    .out_count = 1};
        all.row_count += rows[i];
    }
    for (uint32_t i = 0; i < all.row_count; i++) {
        tokens[i] = (int32_t)(i * 7919u % p->model.shape.vocab);
    }
    TEST_OK(backend->run(context, p->model.program, &all, &error), error);
    for (uint32_t i = 0; i < picks.count; i++) {
        check_pick(p, i, picked[i]);
    }
}

/* Of a session's row in the guest's blocks, how far they are apart. */
static double compare_row(const party *a, const party *b, uint32_t session, uint32_t position) {
    const spi_kv_shape *kv = &a->model.tape.kv;
    double difference = 0, size = 0;
    const uint8_t *first = sp_region_base(a->region) + session * a->session_bytes,
                  *second = sp_region_base(b->region) + session * b->session_bytes;
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

static void compare(party *fast, party *plain, uint32_t sessions, const uint32_t *first, const uint32_t *rows,
                    double *worst) {
    uint32_t vocab = fast->model.shape.vocab;
    run(fast, sessions, first, rows);
    run(plain, sessions, first, rows);
    for (uint32_t i = 0; i < sessions; i++) {
        double apart = test_rms(logits(fast, i), logits(plain, i), vocab) / test_rms(logits(plain, i), NULL, vocab);
        for (uint32_t k = 0; k < rows[i]; k++) {
            double row = compare_row(plain, fast, i, first[i] + k);
            apart = row > apart || isnan(row) ? row : apart;
        }
        *worst = apart > *worst || isnan(apart) ? apart : *worst;
    }
}

/* Next tokens of one to three sessions whose contexts are shared out among two to eight blocks of the grid. */
static double compare_long(sp_device *device, sp_device *reference, const bench_shape *shape) {
    static const uint32_t contexts[] = {511, 512, 530, 1023, 1100, 2047, 2200};
    party fast, plain;
    open_party(device, shape, true, &fast);
    open_party(reference, shape, true, &plain);
    double worst = 0;
    for (size_t c = 0; c < sizeof contexts / sizeof contexts[0]; c++) {
        const uint32_t first[LONG_SESSIONS] = {contexts[c], (uint32_t)c * 97, contexts[c] / 2}, rows[] = {2, 1, 3};
        for (uint32_t sessions = 1; sessions <= LONG_SESSIONS; sessions++) {
            compare(&fast, &plain, sessions, first, rows, &worst);
        }
    }
    close_party(&fast);
    close_party(&plain);
    return worst;
}

static void compare_shape(sp_device *device, sp_device *reference, const bench_shape *shape) {
    static const uint32_t counts[] = {2, 5, 16, 17, 32, 33, 64};
    party fast, plain;
    open_party(device, shape, false, &fast);
    open_party(reference, shape, false, &plain);
    assert_null(plain.model.program->wide);
    uint32_t first[SESSIONS_MAX], rows[SESSIONS_MAX];
    double tokens = 0, prompts = 0;
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        for (uint32_t i = 0; i < counts[c]; i++) {
            first[i] = (i * 37 + (uint32_t)c) % 250, rows[i] = 1;
        }
        compare(&fast, &plain, counts[c], first, rows, &tokens);
    }
    for (uint32_t length = 2; length < 70; length += length < 8 ? 1 : 11) { /* one session's, and some beside others */
        first[0] = length % 3 * 40, rows[0] = length;
        compare(&fast, &plain, 1, first, rows, &prompts);
        for (uint32_t i = 0; i < 4; i++) {
            first[i] = i * 50 + length % 7, rows[i] = i % 2 ? 1 : 1 + length / 2;
        }
        compare(&fast, &plain, 4, first, rows, &prompts);
    }
    close_party(&fast);
    close_party(&plain);
    bool is_long = shape->type == SP_BF16 || shape->type == SP_Q4_0; /* attention is the same for all */
    double far = is_long ? compare_long(device, reference, shape) : 0;
    print_message("%-6s width %u heads %u/%u of %u in %s, inner %u: next tokens differ by %.1e, prompts by %.1e\n",
                  sp_dtype_name(shape->type), shape->width, shape->heads, shape->kv_heads, shape->head_dim,
                  sp_kv_type_name(shape->kv_type), shape->inner, tokens, prompts);
    if (is_long) {
        print_message("       next tokens behind up to 2,200 others by %.1e\n", far);
    }
    double bound = HALF_ERROR;
    if (shape->type == SP_BF16 || shape->type == SP_MXFP4) {
        bound = BRAIN_ERROR;
    } else if (shape->type == SP_Q2_K || shape->type == SP_Q4_K || shape->type == SP_Q5_K) {
        bound = MINIMUM_ERROR;
    }
    if (shape->kv_type == SP_KV_Q8_0) {
        bound = step_error(bound);
    }
    assert_true(tokens <= bound);
    assert_true(prompts <= bound);
    assert_true(far <= bound);
}

static void test_sessions(void **state) {
    (void)state;
    static const sp_dtype types[] = {SP_BF16, SP_Q4_0, SP_Q8_0, SP_Q4_K, SP_Q6_K,   SP_F16,    SP_Q4_1, SP_Q5_0,
                                     SP_Q5_1, SP_Q2_K, SP_Q3_K, SP_Q5_K, SP_IQ4_NL, SP_IQ4_XS, SP_MXFP4};
    static const bench_shape shapes[] = {
        {.layers = 2, .width = 2048, .heads = 32, .kv_heads = 8, .head_dim = 64, .inner = 8192, .vocab = 5000},
        {.layers = 2, .width = 256, .heads = 4, .kv_heads = 2, .head_dim = 64, .inner = 768, .vocab = 1003},
        {.layers = 2, .width = 256, .heads = 4, .kv_heads = 2, .head_dim = 64, .inner = 704, .vocab = 1003},
        {.layers = 3, .width = 1024, .heads = 8, .kv_heads = 8, .head_dim = 128, .inner = 2816, .vocab = 512},
        {.layers = 2, .width = 960, .heads = 15, .kv_heads = 5, .head_dim = 64, .inner = 2560, .vocab = 3000},
        {.layers = 2, .width = 512, .heads = 8, .kv_heads = 1, .head_dim = 256, .inner = 1024, .vocab = 777},
        {.layers = 1, .width = 1280, .heads = 20, .kv_heads = 1, .head_dim = 64, .inner = 1024, .vocab = 777},
        {.layers = 1, .width = 512, .heads = 5, .kv_heads = 5, .head_dim = 256, .inner = 1024, .vocab = 777},
    };
    const spi_cu_choices plain = {.op_by_op = true};
    sp_device *reference = test_cuda_open(&plain), *device = reference ? test_cuda_open(NULL) : NULL;
    if (!device) {
        skip();
    }
    size_t compared = 0;
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        for (size_t i = is_short; i < (is_short ? 2 : sizeof shapes / sizeof shapes[0]); i++) {
            bench_shape shape = shapes[i];
            shape.type = types[t];
            if (!bench_shape_fits(&shape) || (only && strcmp(only, sp_dtype_name(types[t])))) {
                continue;
            }
            compare_shape(device, reference, &shape);
            compared++;
            if (t < 2) { /* what keys and values are in is nothing to the weights */
                shape.kv_type = SP_KV_Q8_0;
                compare_shape(device, reference, &shape);
            }
        }
    }
    assert_true(compared); /* there is such a type */
    sp_device_close(device);
    sp_device_close(reference);
}

/* "short" leaves all shapes but one out: under compute-sanitizer the others take minutes. Any other word is a type. */
int main(int count, char **words) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sessions)};
    is_short = count > 1 && !strcmp(words[1], "short");
    only = count > 1 && !is_short ? words[1] : NULL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
