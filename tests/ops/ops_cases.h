/* tests/ops/ops_cases.h - one table of op cases for every backend: tests compare them with double, bench times them.
 *
 * A case is one op with its shapes, and a seed from which all bytes come. ops_open builds weights, a tape, regions and
 * segments for it on a device; ops_run runs it; ops_compare evaluates the op again from its definition in
 * device/tape.h, in double, on weights that it decodes by itself, and holds every value that the op wrote against an
 * error bound (ops_expect.c derives each). What the op must not touch is compared as well.
 *
 * Nothing here knows cmocka, so that bench programs can link it.
 */
#ifndef SPI_TESTS_OPS_CASES_H
#define SPI_TESTS_OPS_CASES_H

#include "device/backend.h"

#define OPS_SEGMENTS_MAX 6
#define OPS_REGIONS_MAX  3
#define OPS_BUFFERS_MAX  3
#define OPS_TENSORS_MAX  2

typedef struct ops_random {
    uint64_t state;
} ops_random;
uint64_t ops_next(ops_random *random);
uint32_t ops_below(ops_random *random, uint32_t limit);
uint32_t ops_between(ops_random *random, uint32_t low, uint32_t high); /* both may come up */
double ops_uniform(ops_random *random);                                /* [-1, 1) */

typedef struct ops_case {
    spi_op_kind kind;
    uint64_t seed;
    sp_dtype type;       /* of the weight: EMBED, MATMUL, HEAD */
    sp_dtype scale_type; /* of an affine weight */
    uint32_t scale_group;
    uint32_t rows, cols; /* of the weight; NORM, GATE, ADD, GATHER: cols is the width */
    bool bias, accumulate, in_place;
    sp_kv_type kv_type; /* KV_STORE, ATTENTION */
    uint32_t heads, kv_heads, head_dim, layers, layer, window, group;
    uint32_t rope_dims;
    spi_rope_pairs rope_pairs;
    float rope_base;
    bool factors;
    spi_act act;
    float scale, softcap;
    uint32_t segment_count, region_count;
    struct {
        uint32_t region, row_count, position_first, out_count;
    } segments[OPS_SEGMENTS_MAX];
    bool
        grid; /* inputs are multiples of max / 127 in each 32 columns, so that rounding them to 8 bits changes nothing */
    uint32_t spare_rows; /* rows_max is so much larger than the run */
} ops_case;

/* Case `index` of an op and (where it has one) a weight type: shapes are drawn from all that the contract allows. Keys
 * and values are Q8_0 where that is the type, else F16. */
ops_case ops_generate(spi_op_kind kind, sp_dtype type, uint32_t index, uint64_t seed);
bool ops_has_type(spi_op_kind kind); /* EMBED, MATMUL, HEAD */
bool ops_has_kv(spi_op_kind kind);   /* KV_STORE, ATTENTION */
void ops_describe(const ops_case *test, char *text, size_t capacity);

typedef struct ops_device {
    sp_device *device;
    bool bf16;            /* products of several tokens may be made of activations and weights rounded to bf16 */
    bool exact_acts;      /* products of quantised types take activations as they are, not rounded to 8 bits */
    bool matrix_units;    /* products of several rows, of all types but F32, take both factors in 16 bits */
    uint32_t columns_max; /* of matrices; cases with more are left out; 0: none is */
    uint32_t q8_columns;  /* heads with Q8_0 are a multiple of it; 0: 32 */
    bool slow;            /* one case in five is enough, usually */
    bool mapped_weights; /* weights lie as in a mapped file: in whole pages, beginning where no alignment is promised */
} ops_device;

/* A case as it stands on a device. */
typedef struct ops_bench {
    ops_case test;
    const ops_device *on;
    spi_tensor tensors[OPS_TENSORS_MAX];
    uint32_t tensor_count;
    void *mapping; /* mapped_weights: holds the tensors' bytes */
    size_t mapping_bytes;
    spi_op ops[2];
    spi_buffer buffers[OPS_BUFFERS_MAX];
    spi_tape tape;
    spi_store *store;
    spi_program *program;
    sp_region *regions[OPS_REGIONS_MAX];
    uint8_t *before[OPS_REGIONS_MAX]; /* what the regions held before the run */
    size_t region_bytes;
    spi_segment segments[OPS_SEGMENTS_MAX];
    int32_t *tokens;
    spi_run run;
    float *inputs[OPS_BUFFERS_MAX]; /* [rows_max][width]: what the buffers held before the run */
} ops_bench;

sp_status ops_open(const ops_device *on, const ops_case *test, ops_bench *bench, sp_error *error);
sp_status ops_reset(ops_bench *bench, sp_error *error); /* buffers and regions as before the first run */
sp_status ops_run(ops_bench *bench, sp_error *error);
void ops_close(ops_bench *bench);

typedef struct ops_result {
    uint64_t values;  /* compared */
    uint64_t wrong;   /* outside of their bound, or touched though they must not be */
    double worst;     /* largest error over bound */
    double error_max; /* largest error, relative to the largest expected value */
    uint64_t hash;    /* of all values, to compare runs with each other bit for bit */
    char first_wrong[160];
} ops_result;

/* After ops_run. Without `evaluate` only the hash is filled: evaluating is the slow part. */
sp_status ops_compare(ops_bench *bench, bool evaluate, ops_result *result);

/* The bytes of a weight: small scales, any quants. What lies beside the codes of an affine one was allocated.
 * ops_weights.c */
void ops_fill_weight(spi_tensor *tensor, ops_random *random);

/* The value of an element of a weight in double, decoded from the format's definition. ops_weights.c */
double ops_weight(const spi_tensor *tensor, uint32_t row, uint32_t col);
/* How large what is rounded on the way to it may be, beside the value itself: the product of an affine type's code. */
double ops_weight_rounded(const spi_tensor *tensor, uint32_t row, uint32_t col);
double ops_from_half(uint16_t half);

#endif
