/* What kernels compute must not depend on what earlier ones left in shared memory, be they another process's: on
 * whatever CUDA card there is, two models are given the same rows, and before each of one's all shared memory of the
 * card is filled, with numbers or with what is none. Logits, keys and values are the same, to the bit. */
#include "support/cuda_rig.h"

#include <string.h>

#include "bench_shape.h"

#define CONTEXT 1300u
#define TOKENS  100u

/* Fills what shared memory a block has: words whose halves are f16 numbers of 32 to 511, positive or not, or, with seed
 * 0, no numbers, neither as f16 nor as f32. */
static const char filler[] = ".version 7.0\n"
                             ".target sm_80\n"
                             ".address_size 64\n"
                             ".extern .shared .align 16 .b8 room[];\n"
                             ".visible .entry fill(.param .u32 seed_given, .param .u32 words_given) {\n"
                             "    .reg .pred none, more;\n"
                             "    .reg .b32 i, words, seed, x, at;\n"
                             "    ld.param.u32 seed, [seed_given];\n"
                             "    ld.param.u32 words, [words_given];\n"
                             "    setp.eq.u32 none, seed, 0;\n"
                             "    mov.u32 i, %tid.x;\n"
                             "next:\n"
                             "    setp.lt.u32 more, i, words;\n"
                             "    @!more bra end;\n"
                             "    mad.lo.u32 x, i, 2654435761, seed;\n"
                             "    mad.lo.u32 x, x, x, seed;\n"
                             "    and.b32 x, x, 0x8fff8fff;\n"
                             "    or.b32 x, x, 0x50005000;\n"
                             "    @none mov.b32 x, 0x7fff7fff;\n"
                             "    mov.u32 at, room;\n"
                             "    mad.lo.u32 at, i, 4, at;\n"
                             "    st.volatile.shared.b32 [at], x;\n"
                             "    add.u32 i, i, 1024;\n"
                             "    bra next;\n"
                             "end:\n"
                             "    ret;\n"
                             "}\n";

typedef struct rig {
    sp_device *device;
    spi_cu *cu;
    spi_cu_module module;
    spi_cu_function fill;
} rig;

/* False: there is no card. */
static bool open_rig(const spi_cu_choices *choices, rig *r) {
    void *context;
    r->device = test_cuda_open(choices);
    if (!r->device) {
        return false;
    }
    spi_device_backend(r->device, &context);
    r->cu = context;
    const spi_cu_driver *call = r->cu->call;
    assert_int_equal(call->CtxSetCurrent(r->cu->context), 0);
    assert_int_equal(call->ModuleLoadData(&r->module, filler), 0);
    assert_int_equal(call->ModuleGetFunction(&r->fill, r->module, "fill"), 0);
    assert_int_equal(call->FuncSetAttribute(r->fill, SPI_CU_FUNCTION_SHARED_BYTES, r->cu->card.shared_bytes), 0);
    return true;
}

static void close_rig(rig *r) {
    r->cu->call->ModuleUnload(r->module);
    sp_device_close(r->device);
}

/* Every multiprocessor has room for one of the blocks at a time. */
static void fill_shared(rig *r, uint32_t seed) {
    uint32_t words = (uint32_t)r->cu->card.shared_bytes / 4;
    void *arguments[] = {&seed, &words};
    assert_int_equal(r->cu->call->LaunchKernel(r->fill, (unsigned)r->cu->card.multiprocessors, 1, 1, 1024, 1, 1,
                                               (unsigned)r->cu->card.shared_bytes, r->cu->stream, arguments, NULL),
                     0);
}

static void check_same(const bench_model *one, const bench_model *other, uint32_t position, uint32_t rows) {
    const uint8_t *a = sp_region_base(one->region), *b = sp_region_base(other->region);
    uint64_t logits = bench_model_logits_offset(one), end = position + rows;
    uint64_t blocks = (end + SPI_BLOCK_TOKENS - 1) / SPI_BLOCK_TOKENS * one->tape.kv.block_bytes;
    if (memcmp(a + logits, b + logits, one->shape.vocab * sizeof(float)) || memcmp(a, b, blocks)) {
        fail_msg("%s, keys and values in %s, %u heads for %u: %u rows behind %u differ", sp_dtype_name(one->shape.type),
                 sp_kv_type_name(one->shape.kv_type), one->shape.heads, one->shape.kv_heads, rows, position);
    }
}

static void run_both(rig *r, bench_model *clean, bench_model *filled, uint32_t rows, uint32_t position) {
    sp_error error = {0};
    assert_true(bench_model_run(clean, rows, position, true, &error) >= 0);
    fill_shared(r, position % 4 == 3 ? 0 : 2 * position + 1);
    assert_true(bench_model_run(filled, rows, position, true, &error) >= 0);
    check_same(filled, clean, position, rows);
}

/* Runs of few and of many rows, and tokens one by one: with few positions, and with so many that warps take several
 * tiles of them. */
static void compare(rig *r, const bench_shape *shape) {
    static const uint32_t rows[] = {3, 20, 100, 1, 1, 1, 500, 400};
    sp_error error = {0};
    bench_model clean, filled;
    TEST_OK(bench_model_open(r->device, shape, 512, CONTEXT, &clean, &error), error);
    TEST_OK(bench_model_open(r->device, shape, 512, CONTEXT, &filled, &error), error);
    uint32_t position = 0;
    for (uint32_t i = 0; i < sizeof rows / sizeof *rows; position += rows[i++]) {
        run_both(r, &clean, &filled, rows[i], position);
    }
    for (uint32_t i = 0; i < TOKENS; i++) {
        run_both(r, &clean, &filled, 1, position++);
    }
    bench_model_close(&clean);
    bench_model_close(&filled);
}

static void compare_all(const spi_cu_choices *choices) {
    static const sp_dtype types[] = {SP_BF16, SP_Q4_0, SP_Q8_0, SP_Q4_K};
    static const bench_shape shapes[] = {
        {.layers = 3, .width = 256, .heads = 4, .kv_heads = 2, .head_dim = 64, .inner = 768, .vocab = 1003},
        {.layers = 2, .width = 256, .heads = 4, .kv_heads = 1, .head_dim = 64, .inner = 768, .vocab = 1003},
        {.layers = 2, .width = 1024, .heads = 8, .kv_heads = 8, .head_dim = 128, .inner = 2816, .vocab = 512},
        {.layers = 2, .width = 960, .heads = 15, .kv_heads = 5, .head_dim = 64, .inner = 2560, .vocab = 3000},
        {.layers = 2, .width = 512, .heads = 12, .kv_heads = 1, .head_dim = 64, .inner = 1024, .vocab = 777},
        {.layers = 2, .width = 512, .heads = 8, .kv_heads = 1, .head_dim = 256, .inner = 1024, .vocab = 777},
    };
    rig r;
    if (!open_rig(choices, &r)) {
        skip();
    }
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            bench_shape shape = shapes[i];
            shape.type = types[t];
            if (bench_shape_fits(&shape)) {
                compare(&r, &shape);
                shape.kv_type = SP_KV_Q8_0;
                compare(&r, &shape);
            }
        }
    }
    close_rig(&r);
}

static void test_a_token_in_one_launch(void **state) {
    (void)state;
    compare_all(NULL);
}

static void test_op_by_op(void **state) {
    (void)state;
    const spi_cu_choices choices = {.op_by_op = true};
    compare_all(&choices);
}

int main(int count, char **words) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_token_in_one_launch), cmocka_unit_test(test_op_by_op)};
    cmocka_set_test_filter(count > 1 ? words[1] : NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
