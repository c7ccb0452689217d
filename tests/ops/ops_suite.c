/* tests/ops/ops_suite.c - see ops_suite.h. */
#include "ops/ops_suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "support/support.h"

#define CASES_PER_OP   24u
#define CASES_PER_TYPE 16u

sp_device *ops_open_card(const char *backend, uint32_t index) {
    char name[32];
    snprintf(name, sizeof name, "%s:%u", backend, index);
    sp_error error = {0};
    sp_device *device = NULL;
    sp_status status = sp_device_open(name, NULL, &device, &error);
    if (status == SP_NO_DEVICE || status == SP_UNSUPPORTED) {
        if (!index) {
            print_message("no usable %s device: %s\n", backend, error.message);
        }
        return NULL;
    }
    TEST_OK(status, error);
    return device;
}

static void run_case(const char *label, const ops_device *on, const ops_case *test, bool evaluate, ops_result *result) {
    sp_error error = {0};
    ops_bench bench;
    TEST_OK(ops_open(on, test, &bench, &error), error);
    TEST_OK(ops_run(&bench, &error), error);
    TEST_OK(ops_compare(&bench, evaluate, result), error);
    ops_close(&bench);
    if (result->wrong) {
        char text[512];
        ops_describe(test, text, sizeof text);
        print_error("%s: %s\n%llu wrong, the first: %s\n", label, text, (unsigned long long)result->wrong,
                    result->first_wrong);
        fail();
    }
}

static void run_cases(const char *label, const ops_device *devices, uint32_t device_count, spi_op_kind kind,
                      sp_dtype type, uint32_t count) {
    double worst = 0, error_max = 0;
    unsigned long long values = 0;
    for (uint32_t i = 0; i < count; i += test_stride(devices[0].slow ? TEST_STRIDE_SLOW : 1)) {
        ops_case test = ops_generate(kind, type, i, test_seed());
        if (devices[0].columns_max && test.cols > devices[0].columns_max) {
            continue;
        }
        if (test.kv_type == SP_KV_Q8_0 && devices[0].q8_columns) {
            uint32_t columns = devices[0].q8_columns;
            test.head_dim = (test.head_dim + columns - 1) / columns * columns;
        }
        ops_result first;
        run_case(label, &devices[0], &test, true, &first);
        worst = fmax(worst, first.worst);
        error_max = fmax(error_max, first.error_max);
        values += first.values;
        for (uint32_t d = 1; d < device_count; d++) {
            ops_result other;
            run_case(label, &devices[d], &test, false, &other);
            if (other.hash != first.hash) {
                char text[512];
                ops_describe(&test, text, sizeof text);
                print_error("%s: %s\ndevice %u gives other bits than device 0\n", label, text, d);
                fail();
            }
        }
    }
    assert_true(values > 0);
    print_message("%-14s %-9s %-7s %9llu values, largest error %.1e of the largest value, %.2f of its bound\n", label,
                  spi_op_name(kind), ops_has_type(kind) || ops_has_kv(kind) ? sp_dtype_name(type) : "", values,
                  error_max, worst);
    bool halved = kind == SPI_OP_ATTENTION && devices[0].matrix_units; /* its bound says how much that is */
    if (type == SP_F32 && !halved) {
        assert_true(error_max <= 1e-4);
    }
}

void ops_suite(const char *label, const ops_device *devices, uint32_t device_count) {
    static const sp_dtype types[] = {
#define X(name, value, text, elements, bytes) name,
        SP_DTYPE_LIST(X) SP_AFFINE_LIST(X)
#undef X
    };
    print_message("seed %llu\n", (unsigned long long)test_seed());
    void *context;
    bool has_q8_kv = spi_device_backend(devices[0].device, &context)->has_q8_kv;
    for (int kind = 0; kind < SPI_OP_KIND_COUNT; kind++) {
        bool typed = ops_has_type((spi_op_kind)kind);
        for (uint32_t t = 0; t < (typed ? sizeof types / sizeof types[0] : 1); t++) {
            run_cases(label, devices, device_count, (spi_op_kind)kind, types[t], typed ? CASES_PER_TYPE : CASES_PER_OP);
        }
        if (ops_has_kv((spi_op_kind)kind) && has_q8_kv) {
            run_cases(label, devices, device_count, (spi_op_kind)kind, SP_Q8_0, CASES_PER_OP);
        }
    }
}

typedef struct product {
    uint32_t m, n, k;
    int32_t type;
} product;

static double element(const uint8_t *base, int32_t type, size_t index) {
    float value;
    uint16_t half;
    if (type == SP_F16) {
        memcpy(&half, base + index * 2, 2);
        return ops_from_half(half);
    }
    memcpy(&value, base + index * 4, 4);
    return (double)value;
}

static void store(uint8_t *base, int32_t type, size_t index, float value) {
    uint16_t half = spi_f32_to_f16(value);
    if (type == SP_F16) {
        memcpy(base + index * 2, &half, 2);
    } else {
        memcpy(base + index * 4, &value, 4);
    }
}

static uint64_t round_up(uint64_t bytes) {
    return (bytes + 15) / 16 * 16;
}

/* The bound is that of a sum of k products in f32: see ops_expect.c. */
static double check_product(const product *test, const uint8_t *base, const sp_matmul *args) {
    double worst = 0;
    for (size_t i = 0; i < test->m; i++) {
        for (size_t j = 0; j < test->n; j++) {
            double sum = 0, magnitude = 0;
            for (size_t k = 0; k < test->k; k++) {
                double term = element(base + args->a_offset, test->type, i * test->k + k) *
                              element(base + args->b_offset, test->type, k * test->n + j);
                sum += term;
                magnitude += fabs(term);
            }
            double actual = element(base + args->c_offset, SP_F32, i * test->n + j);
            double bound = (4 * sqrt(test->k) + 8) * 0x1p-24 * magnitude;
            if (!(fabs(actual - sum) <= bound)) {
                print_error("%ux%ux%u: c[%zu][%zu] is %g, not %g within %g\n", test->m, test->n, test->k, i, j, actual,
                            sum, bound);
                fail();
            }
            worst = fmax(worst, bound > 0 ? fabs(actual - sum) / bound : 0);
        }
    }
    return worst;
}

static double run_product(sp_device *device, const product *test, ops_random *random) {
    uint32_t element_bytes = test->type == SP_F16 ? 2 : 4;
    sp_matmul args = {.m = test->m, .n = test->n, .k = test->k, .type = test->type, .a_offset = 32};
    args.c_offset = args.a_offset + round_up((uint64_t)test->m * test->k * element_bytes) + 16;
    uint64_t c_bytes = (uint64_t)test->m * test->n * 4;
    args.b_offset = args.c_offset + round_up(c_bytes) + 16;
    uint64_t size = args.b_offset + round_up((uint64_t)test->k * test->n * element_bytes) + 16;
    sp_error error = {0};
    sp_region_options options = {.reserve_bytes = (size_t)64 << 20, .size_bytes = (size_t)size};
    sp_region *region;
    TEST_OK(sp_region_create(&options, &region, &error), error);
    TEST_OK(sp_device_link(device, region, &error), error);
    uint8_t *base = sp_region_base(region);
    memset(base, 0xa5, (size_t)size);
    for (size_t i = 0; i < (size_t)test->m * test->k; i++) {
        store(base + args.a_offset, test->type, i, (float)ops_uniform(random));
    }
    for (size_t i = 0; i < (size_t)test->k * test->n; i++) {
        store(base + args.b_offset, test->type, i, (float)ops_uniform(random));
    }
    uint8_t *copy = malloc((size_t)size);
    assert_non_null(copy);
    memcpy(copy, base, (size_t)size);
    TEST_OK(sp_device_matmul(device, region, &args, &error), error);
    double worst = check_product(test, base, &args);
    memcpy(copy + args.c_offset, base + args.c_offset, (size_t)c_bytes);
    assert_memory_equal(copy, base, (size_t)size);
    free(copy);
    sp_device_unlink(device, region);
    sp_region_destroy(region);
    return worst;
}

void ops_suite_matmul(const char *label, sp_device *device) {
    static const uint32_t sizes[] = {1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 47, 64, 65, 100};
    ops_random random = {test_seed()};
    double worst = 0;
    for (uint32_t i = 0; i < 40; i++) {
        product test = {.type = i % 2 ? SP_F16 : SP_F32};
        test.m = sizes[ops_below(&random, 14)];
        test.n = sizes[ops_below(&random, 14)] * (i == 7 || i == 8 ? 5 : 1);
        test.k = sizes[ops_below(&random, 14)] * (i > 34 ? 9 : 1);
        worst = fmax(worst, run_product(device, &test, &random));
    }
    print_message("%-14s guests' matmul, largest error %.2f of its bound\n", label, worst);
}
