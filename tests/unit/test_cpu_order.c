/* tests/unit/test_cpu_order.c - products with weights of floats, at every level that runs here: a token's sums are the
 * same bits whatever number of tokens is beside it, and alone where the level says so. */
#include <string.h>

#include "base/memory.h"
#include "device/cpu/kernels.h"
#include "support/support.h"

#define ROWS       37u   /* no multiple of what any kernel takes at once */
#define COLS       1100u /* several slices, and a part of one */
#define TOKENS     13u
#define OUT_STRIDE 64u

typedef struct bench {
    const spi_cpu_kernels *kernels;
    const spi_cpu_type *type;
    spi_tensor tensor;
    void *packed;
    float acts[TOKENS * COLS];
    void *scratch;
} bench;

/* Tokens first .. first + count in one product. */
static void multiply(bench *on, uint32_t first, uint32_t count, float *out) {
    spi_cpu_product args = {.weights = on->packed ? on->packed : on->tensor.data,
                            .tensor = &on->tensor,
                            .rows = ROWS,
                            .cols = COLS,
                            .row_count = ROWS,
                            .acts = on->acts + (size_t)first * COLS,
                            .act_stride = COLS,
                            .token_count = count,
                            .out = out + (size_t)first * OUT_STRIDE,
                            .out_stride = OUT_STRIDE,
                            .scratch = on->scratch};
    on->type->product(&args);
}

static void compare(bench *on, uint32_t size, const float *want) {
    _Alignas(64) float got[TOKENS * OUT_STRIDE];
    for (uint32_t first = 0; first + size <= TOKENS; first += size) {
        multiply(on, first, size, got);
        for (uint32_t t = first; t < first + size; t++) {
            if (memcmp(got + t * OUT_STRIDE, want + t * OUT_STRIDE, ROWS * sizeof *got) != 0) {
                fail_msg("%s, %s: token %u of %u is another beside %u", on->kernels->name,
                         sp_dtype_name(on->tensor.type), t, TOKENS, size - 1);
            }
        }
    }
}

static void check_type(bench *on, sp_dtype type) {
    static const uint32_t sizes[] = {2, 3, 4, 5, 7, 12};
    const size_t bytes = type == SP_F32 ? 4 : 2, count = (size_t)ROWS * COLS;
    uint8_t *weights = spi_alloc(count, bytes);
    assert_non_null(weights);
    test_random random = test_random_seed(test_seed());
    for (size_t i = 0; i < count; i++) { /* of any sign, around 1 / 4 */
        uint32_t bits = (uint32_t)test_random_next(&random);
        uint16_t top = (uint16_t)((bits & 0x8000u) | (type == SP_F16 ? 0x3400u : 0x3e80u) | (bits & 0x7fu));
        memcpy(weights + i * bytes + (bytes - 2), &top, sizeof top);
    }
    on->tensor =
        (spi_tensor){.name = "w", .type = type, .rows = ROWS, .cols = COLS, .data = weights, .bytes = count * bytes};
    on->type = spi_cpu_find_type(on->kernels, type);
    on->packed = NULL;
    if (on->type->packed_bytes) {
        on->packed = spi_alloc_aligned(on->type->packed_bytes(&on->tensor), 64);
        assert_non_null(on->packed);
        on->type->pack(on->packed, &on->tensor, 0, (ROWS - 1) / on->type->group_rows + 1);
    }
    _Alignas(64) float want[TOKENS * OUT_STRIDE];
    multiply(on, 0, TOKENS, want);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        compare(on, sizes[i], want);
    }
    if (on->type->one_order) {
        compare(on, 1, want);
    }
    spi_free_aligned(on->packed);
    spi_free(weights);
}

static void test_floats(void **state) {
    (void)state;
    static const char *const levels[] = {"amx",  "avx512bf16", "avx512", "avx2",     "bf16",
                                         "i8mm", "dotprod",    "neon",   "reference"};
    bench *on = spi_alloc(1, sizeof *on);
    assert_non_null(on);
    test_random random = test_random_seed(test_seed() + 1);
    for (size_t i = 0; i < TOKENS * COLS; i++) {
        on->acts[i] = test_random_float(&random);
    }
    uint32_t seen = 0;
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        sp_error error = {0};
        if (spi_cpu_pick_kernels(levels[i], &on->kernels, &error)) {
            continue;
        }
        on->scratch = spi_alloc_aligned(on->kernels->product_scratch_bytes + 64, 64);
        assert_non_null(on->scratch);
        check_type(on, SP_F32);
        check_type(on, SP_F16);
        check_type(on, SP_BF16);
        spi_free_aligned(on->scratch);
        seen++;
    }
    assert_true(seen > 0);
    spi_free(on);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_floats)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
