/* tests/ops/ops_generate.c - drawing cases: each shape is one that a model could have, or an awkward one. */
#include <stdio.h>

#include "ops/ops_cases.h"

uint64_t ops_next(ops_random *random) {
    random->state += 0x9e3779b97f4a7c15u; /* splitmix64 (Steele, Lea and Flood 2014) */
    uint64_t z = random->state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint32_t ops_below(ops_random *random, uint32_t limit) {
    return (uint32_t)((ops_next(random) >> 32) * limit >> 32);
}

uint32_t ops_between(ops_random *random, uint32_t low, uint32_t high) {
    return low + ops_below(random, high - low + 1);
}

double ops_uniform(ops_random *random) {
    return (double)(ops_next(random) >> 11) * 0x1p-52 - 1;
}

bool ops_has_type(spi_op_kind kind) {
    return kind == SPI_OP_EMBED || kind == SPI_OP_MATMUL || kind == SPI_OP_HEAD;
}

static bool coin(ops_random *random) {
    return ops_below(random, 2);
}

static uint32_t pick(ops_random *random, const uint32_t *values, uint32_t count) {
    return values[ops_below(random, count)];
}
#define PICK(random, ...)                                                                                              \
    pick(random, (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

/* Decoding alone, prefilling alone, and everything between; positions on, before and behind the edges of blocks. */
static void draw_segments(ops_case *test, ops_random *random) {
    bool decode = ops_below(random, 3) == 0, wide = ops_below(random, 8) == 0;
    test->segment_count = PICK(random, 1, 1, 2, 3, 6);
    test->region_count = ops_between(random, 1, test->segment_count < 3 ? test->segment_count : 3);
    for (uint32_t i = 0; i < test->segment_count; i++) {
        uint32_t rows = decode ? 1 : PICK(random, 1, 1, 2, 3, 4, 5, 7, 8, 9, 13, 17, 33, 64, 70);
        test->segments[i].region = ops_below(random, test->region_count);
        test->segments[i].row_count = wide && i == 0 ? 130 : rows;
        test->segments[i].position_first =
            PICK(random, 0, 0, 1, 30, 62, 63, 64, 65, 127, 128, 190, 300, 511, 512, 517, 1100);
        uint32_t kind = ops_below(random, 4);
        test->segments[i].out_count = kind == 0   ? 0
                                      : kind == 1 ? test->segments[i].row_count
                                      : kind == 2 ? ops_between(random, 0, test->segments[i].row_count)
                                                  : 1;
    }
    test->spare_rows = ops_below(random, 4);
}

static void draw_weight(ops_case *test, ops_random *random) {
    uint32_t block = sp_dtype_block_elements(test->type);
    static const uint32_t cols[] = {1, 2, 3, 4, 5, 7, 8, 11, 16, 17, 32, 33, 64};
    test->cols = block == 256 ? block * PICK(random, 1, 1, 2, 3, 4, 5, 7)
                              : block * cols[ops_below(random, sizeof cols / sizeof cols[0])];
    if (spi_affine_bits(test->type)) {
        static const sp_dtype floats[] = {SP_F32, SP_F16, SP_BF16};
        test->scale_type = floats[ops_below(random, 3)];
        test->scale_group = PICK(random, 32, 64, 64, 128);
        test->cols = (test->cols + test->scale_group - 1) / test->scale_group * test->scale_group;
    }
    if (block == 1) {
        test->cols *= PICK(random, 1, 2, 8, 16, 24);
    }
    test->rows = PICK(random, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 63, 64, 65, 100, 129);
}

static void draw_heads(ops_case *test, ops_random *random) {
    test->kv_heads = PICK(random, 1, 1, 2, 3, 4);
    test->heads = test->kv_heads * PICK(random, 1, 2, 3, 4, 5, 8);
    test->head_dim = PICK(random, 2, 6, 8, 16, 24, 40, 64, 64, 80, 96, 128);
    if (ops_below(random, 8) == 0) { /* the widest that models have; few of them, so that blocks stay small */
        test->head_dim = 256;
        test->kv_heads = 1;
        test->heads = PICK(random, 1, 2, 4);
    }
    test->layers = ops_between(random, 1, 3);
    test->layer = ops_below(random, test->layers);
    test->window = ops_below(random, 3) == 0 ? PICK(random, 1, 2, 5, 63, 64, 65, 100, 128, 200) : 0;
    test->softcap = ops_below(random, 3) == 0 ? 20 : 0;
    test->rope_dims = coin(random) ? test->head_dim : 2 * ops_between(random, 1, test->head_dim / 2);
    test->rope_pairs = coin(random) ? SPI_ROPE_ADJACENT : SPI_ROPE_HALVES;
    test->rope_base = coin(random) ? 10000 : 500000;
    test->factors = coin(random);
}

/* Once for each type: activations of more bytes than a product keeps in a cache, so that columns come in slices. */
#define LARGE_INDEX 5u
static void make_large(ops_case *test) {
    test->rows = 70;
    test->cols = 4352;
    test->segment_count = test->region_count = 1;
    test->segments[0].region = 0;
    test->segments[0].row_count = test->segments[0].out_count = 100;
    test->segments[0].position_first = 0;
}

/* Once for each type of keys and values: tokens of two sessions with long contexts, and more KV heads than are taken
 * together, so that the last ones are fewer. */
#define HEADS_INDEX 7u
static void make_heads(ops_case *test) {
    test->kv_heads = 11;
    test->heads = 22;
    test->head_dim = 64;
    test->window = 0;
    test->segment_count = test->region_count = 2;
    for (uint32_t i = 0; i < 2; i++) {
        test->segments[i].region = i;
        test->segments[i].row_count = test->segments[i].out_count = 1;
        test->segments[i].position_first = i ? 4200 : 1100;
    }
}

bool ops_has_kv(spi_op_kind kind) {
    return kind == SPI_OP_KV_STORE || kind == SPI_OP_ATTENTION;
}

ops_case ops_generate(spi_op_kind kind, sp_dtype type, uint32_t index, uint64_t seed) {
    ops_case test = {.kind = kind, .type = type, .scale = 1};
    test.seed = seed + index * 1000003u + (uint64_t)kind * 10007u + (uint64_t)type * 101u;
    ops_random random = {test.seed};
    draw_segments(&test, &random);
    draw_heads(&test, &random);
    if (kind == SPI_OP_ATTENTION && index == HEADS_INDEX) {
        make_heads(&test);
    }
    if (ops_has_kv(kind) && type == SP_Q8_0) {
        test.kv_type = SP_KV_Q8_0;
        test.head_dim = (test.head_dim + SPI_KV_SCALE_COLUMNS - 1) / SPI_KV_SCALE_COLUMNS * SPI_KV_SCALE_COLUMNS;
    }
    draw_weight(&test, &random);
    if (kind == SPI_OP_MATMUL && index == LARGE_INDEX) {
        make_large(&test);
    }
    test.bias = coin(&random);
    test.accumulate = coin(&random);
    test.in_place = coin(&random);
    test.grid = ops_has_type(kind) && test.cols % 32 == 0 && coin(&random);
    test.act = coin(&random) ? SPI_ACT_SILU : SPI_ACT_GELU_TANH;
    if (!ops_has_type(kind)) {
        test.cols = PICK(&random, 1, 2, 7, 8, 31, 64, 96, 257, 512, 1000);
    }
    test.group = ops_below(&random, 2) ? test.cols : test.cols / (test.cols % 4 ? 1 : 4);
    if (kind == SPI_OP_ATTENTION) {
        test.scale = coin(&random) ? 0.125f : 0.0884f;
    } else if (coin(&random)) {
        test.scale = 0.75f;
    }
    return test;
}

void ops_describe(const ops_case *test, char *text, size_t capacity) {
    uint32_t rows = 0, outs = 0;
    for (uint32_t i = 0; i < test->segment_count; i++) {
        rows += test->segments[i].row_count;
        outs += test->segments[i].out_count;
    }
    snprintf(
        text, capacity,
        "%s %s %s/%u weight [%u][%u] grid %d bias %d acc %d in place %d group %u heads %u/%u dim %u layer %u/%u window "
        "%u rope "
        "%u %s base %g factors %d act %d scale %g cap %g segments %u regions %u rows %u outs %u first at %u seed "
        "%llu",
        spi_op_name(test->kind), ops_has_type(test->kind) || ops_has_kv(test->kind) ? sp_dtype_name(test->type) : "",
        test->scale_group ? sp_dtype_name(test->scale_type) : "", test->scale_group, test->rows, test->cols, test->grid,
        test->bias, test->accumulate, test->in_place, test->group, test->heads, test->kv_heads, test->head_dim,
        test->layer, test->layers, test->window, test->rope_dims,
        test->rope_pairs == SPI_ROPE_HALVES ? "halves" : "adjacent", (double)test->rope_base, test->factors, test->act,
        (double)test->scale, (double)test->softcap, test->segment_count, test->region_count, rows, outs,
        test->segments[0].position_first, (unsigned long long)test->seed);
}
