/* tests/ops/ops_run.c - putting a case on a device: weights, regions, segments, a tape of one op, and running it. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ops/ops_cases.h"

#define FILE_PAGE_BYTES ((size_t)16384)
#define FILE_HEAD_BYTES 36 /* no multiple of 8 */

#define KV_GAP_BYTES 64 /* sessions start where blocks do not: any multiple of 64 is allowed */

static bool add_tensor(ops_bench *bench, sp_dtype type, uint32_t rows, uint32_t cols, ops_random *random) {
    spi_tensor *tensor = &bench->tensors[bench->tensor_count];
    *tensor = (spi_tensor){.name = bench->tensor_count ? "second" : "first", .type = type, .rows = rows, .cols = cols};
    tensor->bytes = (uint64_t)rows * (cols / sp_dtype_block_elements(type)) * sp_dtype_block_bytes(type);
    tensor->data = aligned_alloc(64, (size_t)(tensor->bytes + 63) / 64 * 64);
    if (!tensor->data) {
        return false;
    }
    bench->tensor_count++;
    if (spi_affine_bits(type)) {
        const ops_case *test = &bench->test;
        size_t plane = (size_t)rows * (cols / test->scale_group) * sp_dtype_block_bytes(test->scale_type);
        void *scales = malloc(plane), *biases = malloc(plane);
        tensor->affine =
            (spi_affine){.scales = scales, .biases = biases, .type = test->scale_type, .group = test->scale_group};
        if (!scales || !biases) {
            return false;
        }
    }
    ops_fill_weight(tensor, random);
    return true;
}

/* Mostly small numbers, some outliers as in real hidden states, some stretches of zeros. */
static float activation(ops_random *random) {
    uint32_t kind = ops_below(random, 64);
    double value = ops_uniform(random);
    return (float)(kind == 0 ? value * 20 : kind == 1 ? 0 : value);
}

static float grid_activation(ops_random *random, size_t index) {
    int steps = index % 32 == 5 ? 127 : (int)ops_below(random, 255) - 127;
    return (float)steps * 0x1p-5f;
}

static bool add_buffer(ops_bench *bench, const char *name, uint32_t width, ops_random *random) {
    uint32_t index = bench->tape.buffer_count++;
    size_t count = (size_t)bench->tape.rows_max * width;
    bench->buffers[index] = (spi_buffer){name, width};
    bench->inputs[index] = malloc(count * sizeof(float));
    if (!bench->inputs[index]) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        bench->inputs[index][i] = bench->test.grid ? grid_activation(random, i) : activation(random);
    }
    for (size_t i = 0; width % 32 == 0 && i + 32 <= count; i += 32 * 7) {
        memset(bench->inputs[index] + i, 0, 32 * sizeof(float));
    }
    return true;
}

static bool build_matrix(ops_bench *bench, spi_op *op, ops_random *random) {
    const ops_case *test = &bench->test;
    op->weight = 0;
    if (!add_tensor(bench, test->type, test->rows, test->cols, random)) {
        return false;
    }
    if (test->bias && test->kind != SPI_OP_EMBED) {
        op->bias = 1;
        return add_tensor(bench, SP_F32, 1, test->rows, random);
    }
    return true;
}

/* Buffers and tensors that the op names; src is 0, dst is 0 or 1, and src1 is the last. */
static bool build_op(ops_bench *bench, spi_op *op, ops_random *random) {
    const ops_case *test = &bench->test;
    uint32_t q = test->heads * test->head_dim, kv = test->kv_heads * test->head_dim;
    switch (test->kind) {
    case SPI_OP_EMBED:
        op->dst = 0;
        op->src = SPI_NONE;
        return build_matrix(bench, op, random) && add_buffer(bench, "x", test->cols, random);
    case SPI_OP_NORM:
        op->weight = 0;
        op->dst = test->in_place ? 0 : 1;
        return add_tensor(bench, SP_F32, 1, test->group, random) && add_buffer(bench, "x", test->cols, random) &&
               add_buffer(bench, "y", test->cols, random);
    case SPI_OP_MATMUL:
        return build_matrix(bench, op, random) && add_buffer(bench, "x", test->cols, random) &&
               add_buffer(bench, "y", test->rows, random);
    case SPI_OP_ROPE:
        op->dst = 0;
        op->src = SPI_NONE;
        op->weight = test->factors ? 0 : SPI_NONE;
        if (test->factors) {
            if (!add_tensor(bench, SP_F32, 1, test->rope_dims / 2, random)) {
                return false;
            }
            float *factors = (float *)(uintptr_t)bench->tensors[0].data;
            for (uint32_t i = 0; i < test->rope_dims / 2; i++) {
                factors[i] = 4.5f + 3.5f * factors[i];
            }
        }
        return add_buffer(bench, "q", q, random);
    case SPI_OP_KV_STORE:
        op->dst = SPI_NONE;
        op->src1 = 1;
        return add_buffer(bench, "k", kv, random) && add_buffer(bench, "v", kv, random);
    case SPI_OP_ATTENTION: return add_buffer(bench, "q", q, random) && add_buffer(bench, "a", q, random);
    case SPI_OP_GATE:
        op->dst = test->in_place ? 0 : 1;
        op->src1 = 2;
        return add_buffer(bench, "g", test->cols, random) && add_buffer(bench, "y", test->cols, random) &&
               add_buffer(bench, "u", test->cols, random);
    case SPI_OP_ADD:
    case SPI_OP_GATHER: return add_buffer(bench, "x", test->cols, random) && add_buffer(bench, "y", test->cols, random);
    case SPI_OP_HEAD:
        op->src = 1;
        op->dst = SPI_NONE;
        return build_matrix(bench, op, random) && add_buffer(bench, "x", test->cols, random) &&
               add_buffer(bench, "y", test->cols, random);
    case SPI_OP_KIND_COUNT: break;
    }
    return false;
}

static bool build_tape(ops_bench *bench, uint32_t rows, ops_random *random) {
    const ops_case *test = &bench->test;
    spi_op op = {.kind = test->kind,
                 .dst = 1,
                 .src = 0,
                 .src1 = SPI_NONE,
                 .weight = SPI_NONE,
                 .bias = SPI_NONE,
                 .accumulate = test->accumulate,
                 .layer = test->layer,
                 .heads = test->heads,
                 .group = test->group,
                 .window = test->window,
                 .act = test->act,
                 .rope_dims = test->rope_dims,
                 .rope_pairs = test->rope_pairs,
                 .rope_base = test->rope_base,
                 .rope_freq_scale = 0.5f,
                 .eps = 1e-5f,
                 .scale = test->scale,
                 .softcap = test->kind == SPI_OP_ATTENTION || test->kind == SPI_OP_HEAD ? test->softcap : 0};
    bench->tape = (spi_tape){
        .ops = bench->ops,
        .buffers = bench->buffers,
        .kv = {.type = test->kv_type, .layers = test->layers, .kv_heads = test->kv_heads, .head_dim = test->head_dim},
        .rows_max = rows + test->spare_rows,
        .vocab = ops_has_type(test->kind) ? test->rows : 16};
    bench->tape.kv.block_bytes = spi_kv_block_bytes(test->kv_type, test->layers, test->kv_heads, test->head_dim);
    if (test->kind == SPI_OP_HEAD) {
        bench->ops[bench->tape.op_count++] = (spi_op){.kind = SPI_OP_GATHER,
                                                      .src = 0,
                                                      .dst = 1,
                                                      .src1 = SPI_NONE,
                                                      .weight = SPI_NONE,
                                                      .bias = SPI_NONE,
                                                      .scale = 1};
    }
    bool good = build_op(bench, &op, random);
    bench->ops[bench->tape.op_count++] = op;
    return good;
}

/* Lays the sessions out in their regions, one behind the other: blocks, logits, a gap. */
static void place_segments(ops_bench *bench, uint64_t used[OPS_REGIONS_MAX]) {
    const ops_case *test = &bench->test;
    uint32_t row = 0, out = 0;
    for (uint32_t i = 0; i < test->segment_count; i++) {
        uint32_t region = test->segments[i].region, rows = test->segments[i].row_count;
        uint32_t tokens = test->segments[i].position_first + rows, outs = test->segments[i].out_count;
        uint64_t blocks = (tokens + SPI_BLOCK_TOKENS - 1) / SPI_BLOCK_TOKENS;
        spi_segment *segment = &bench->segments[i];
        *segment = (spi_segment){.row_first = row,
                                 .row_count = rows,
                                 .position_first = test->segments[i].position_first,
                                 .out_first = out,
                                 .out_count = outs};
        segment->kv_offset = used[region] + KV_GAP_BYTES;
        segment->logits_offset = segment->kv_offset + blocks * bench->tape.kv.block_bytes;
        used[region] = segment->logits_offset + ((uint64_t)outs * bench->tape.vocab * 4 + 63) / 64 * 64;
        row += rows;
        out += outs;
    }
    bench->run = (spi_run){.tokens = bench->tokens,
                           .row_count = row,
                           .segments = bench->segments,
                           .segment_count = test->segment_count,
                           .out_count = out};
}

/* f16 values of random sign and fraction between 1/4 and 4 everywhere, so that KV blocks hold numbers, four at a
 * time. */
static void fill_region(uint8_t *bytes, size_t count, ops_random *random) {
    for (size_t i = 0; i < count; i += 8) {
        uint64_t bits = ops_next(random);
        uint64_t four = (bits & 0x8fff8fff8fff8fffu) + 0x3400340034003400u;
        memcpy(bytes + i, &four, count - i < 8 ? count - i : 8);
    }
}

/* Scales of Q8_0 are such that its values are about as large. */
static void fill_scales(const ops_bench *bench, uint8_t *bytes, const spi_segment *segment, ops_random *random) {
    const spi_kv_shape *kv = &bench->tape.kv;
    uint32_t end = segment->position_first + segment->row_count;
    for (uint32_t position = 0; position < (end + SPI_BLOCK_TOKENS - 1) / SPI_BLOCK_TOKENS * SPI_BLOCK_TOKENS;
         position++) {
        for (uint32_t i = 0; i < kv->layers * 2 * kv->kv_heads; i++) {
            uint64_t at =
                spi_kv_scale_offset(kv, i / 2 / kv->kv_heads, i / kv->kv_heads % 2, i % kv->kv_heads, position);
            for (uint32_t k = 0; k < kv->head_dim / SPI_KV_SCALE_COLUMNS; k++) {
                uint16_t scale = (uint16_t)(0x1800 + (ops_next(random) & 0x87ff));
                memcpy(bytes + segment->kv_offset + at + 2 * (size_t)k, &scale, sizeof scale);
            }
        }
    }
}

/* Behind each session's last position stand NaNs: nothing may depend on them. */
static void poison_tail(const ops_bench *bench, uint8_t *bytes, const spi_segment *segment) {
    const spi_kv_shape *kv = &bench->tape.kv;
    uint32_t end = segment->position_first + segment->row_count;
    for (uint32_t position = end; position % SPI_BLOCK_TOKENS; position++) {
        for (uint32_t i = 0; i < kv->layers * 2 * kv->kv_heads; i++) {
            uint64_t at = spi_kv_row_offset(kv, i / 2 / kv->kv_heads, i / kv->kv_heads % 2, i % kv->kv_heads, position);
            memset(bytes + segment->kv_offset + at, 0xff, (size_t)spi_kv_number_bytes(kv));
            at = spi_kv_scale_offset(kv, i / 2 / kv->kv_heads, i / kv->kv_heads % 2, i % kv->kv_heads, position);
            memset(bytes + segment->kv_offset + at, 0xff, (size_t)spi_kv_scale_bytes(kv));
        }
    }
}

static sp_status build_regions(ops_bench *bench, ops_random *random, sp_error *error) {
    uint64_t used[OPS_REGIONS_MAX] = {0}, most = 0;
    place_segments(bench, used);
    for (uint32_t i = 0; i < bench->test.region_count; i++) {
        most = most > used[i] ? most : used[i];
    }
    bench->region_bytes = (size_t)most + KV_GAP_BYTES;
    for (uint32_t i = 0; i < bench->test.region_count; i++) {
        /* No more than is needed: an emulator of processors keeps a record of every page that is reserved. */
        size_t reserve_bytes = (bench->region_bytes / SP_REGION_ALIGN_BYTES + 1) * SP_REGION_ALIGN_BYTES;
        sp_region_options options = {.reserve_bytes = reserve_bytes, .size_bytes = bench->region_bytes};
        sp_status status = sp_region_create(&options, &bench->regions[i], error);
        if (!status) {
            status = sp_device_link(bench->on->device, bench->regions[i], error);
        }
        bench->before[i] = status ? NULL : malloc(bench->region_bytes);
        if (!bench->before[i]) {
            sp_region_destroy(bench->regions[i]);
            bench->regions[i] = NULL;
            return status ? status : SP_NO_MEMORY;
        }
        fill_region(bench->before[i], bench->region_bytes, random);
    }
    for (uint32_t i = 0; i < bench->test.segment_count; i++) {
        uint32_t region = bench->test.segments[i].region;
        bench->segments[i].link = spi_device_find_link(bench->on->device, bench->regions[region]);
        if (bench->test.kind == SPI_OP_ATTENTION && spi_kv_is_q8(&bench->tape.kv)) {
            fill_scales(bench, bench->before[region], &bench->segments[i], random);
        }
        if (bench->test.kind == SPI_OP_ATTENTION) {
            poison_tail(bench, bench->before[region], &bench->segments[i]);
        }
    }
    return SP_OK;
}

sp_status ops_reset(ops_bench *bench, sp_error *error) {
    void *context;
    const spi_backend *backend = spi_device_backend(bench->on->device, &context);
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < bench->test.region_count && !status; i++) {
        memcpy(sp_region_base(bench->regions[i]), bench->before[i], bench->region_bytes);
        status = spi_device_host_wrote(bench->on->device, bench->regions[i], 0, bench->region_bytes, error);
    }
    for (uint32_t i = 0; i < bench->tape.buffer_count && !status; i++) {
        status = backend->write_buffer(context, bench->program, i, bench->tape.rows_max, bench->inputs[i], error);
    }
    return status;
}

sp_status ops_run(ops_bench *bench, sp_error *error) {
    void *context;
    const spi_backend *backend = spi_device_backend(bench->on->device, &context);
    return backend->run(context, bench->program, &bench->run, error);
}

/* Bytes beside a tensor's own: each of an affine type's planes. */
static size_t plane_bytes(const spi_tensor *tensor) {
    const spi_affine *affine = &tensor->affine;
    return affine->group ? (size_t)tensor->rows * (tensor->cols / affine->group) * sp_dtype_block_bytes(affine->type)
                         : 0;
}

/* Moves bytes to the next place that is aligned to 4 and to no more. */
static const void *move(uint8_t *base, size_t *at, const void *from, size_t bytes) {
    uint8_t *to = base + *at;
    if (from) {
        memcpy(to, from, bytes);
        free((void *)(uintptr_t)from);
        *at = (*at + bytes + FILE_HEAD_BYTES + 3) / 4 * 4;
    }
    return from ? to : NULL;
}

/* Moves the tensors into pages that look like a mapped file, one behind the other from an odd place on, and adds
 * tensors before and behind them, so that the pages are theirs alone. `all` has room for two more. */
static bool map_weights(ops_bench *bench, spi_weights *weights, spi_tensor *all) {
    size_t used = FILE_HEAD_BYTES;
    for (uint32_t i = 0; i < bench->tensor_count; i++) {
        const spi_tensor *tensor = &bench->tensors[i];
        used += (size_t)tensor->bytes + 2 * plane_bytes(tensor) + 3 * (FILE_HEAD_BYTES + 3);
    }
    bench->mapping_bytes = (used / FILE_PAGE_BYTES + 3) * FILE_PAGE_BYTES;
    bench->mapping = mmap(NULL, bench->mapping_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bench->mapping == MAP_FAILED) {
        bench->mapping = NULL;
        return false;
    }
    uint8_t *base = bench->mapping;
    base += (FILE_PAGE_BYTES - (uintptr_t)base % FILE_PAGE_BYTES) % FILE_PAGE_BYTES;
    size_t at = FILE_HEAD_BYTES, pages = (used / FILE_PAGE_BYTES + 1) * FILE_PAGE_BYTES;
    for (uint32_t i = 0; i < bench->tensor_count; i++) {
        spi_tensor *tensor = &bench->tensors[i];
        tensor->data = move(base, &at, tensor->data, (size_t)tensor->bytes);
        tensor->affine.scales = move(base, &at, tensor->affine.scales, plane_bytes(tensor));
        tensor->affine.biases = move(base, &at, tensor->affine.biases, plane_bytes(tensor));
        all[i] = *tensor;
    }
    uint32_t count = bench->tensor_count;
    all[count++] = (spi_tensor){
        .name = "head", .type = SP_F32, .rows = 1, .cols = FILE_HEAD_BYTES / 4, .data = base, .bytes = FILE_HEAD_BYTES};
    if (pages > at) {
        all[count++] = (spi_tensor){.name = "tail",
                                    .type = SP_F32,
                                    .rows = 1,
                                    .cols = (uint32_t)(pages - at) / 4,
                                    .data = base + at,
                                    .bytes = pages - at};
    }
    *weights = (spi_weights){all, count, true};
    return true;
}

sp_status ops_open(const ops_device *on, const ops_case *test, ops_bench *bench, sp_error *error) {
    memset(bench, 0, sizeof *bench);
    bench->test = *test;
    bench->on = on;
    uint32_t rows = 0;
    for (uint32_t i = 0; i < test->segment_count; i++) {
        rows += test->segments[i].row_count;
    }
    ops_random random = {test->seed ^ 0x5eed};
    bench->tokens = malloc(rows * sizeof *bench->tokens);
    sp_status status = bench->tokens && build_tape(bench, rows, &random) ? SP_OK : SP_NO_MEMORY;
    for (uint32_t i = 0; i < rows && !status; i++) {
        bench->tokens[i] = (int32_t)ops_below(&random, bench->tape.vocab);
    }
    if (!status) {
        status = build_regions(bench, &random, error);
    }
    void *context;
    const spi_backend *backend = spi_device_backend(on->device, &context);
    spi_weights weights = {.tensors = bench->tensors, .count = bench->tensor_count};
    spi_tensor all[OPS_TENSORS_MAX + 2];
    if (!status && on->mapped_weights && !map_weights(bench, &weights, all)) {
        status = SP_NO_MEMORY;
    }
    if (!status) {
        status = backend->load(context, &weights, NULL, NULL, &bench->store, error);
    }
    if (!status && on->mapped_weights) {
        sp_device_counters counters;
        sp_device_get_counters(on->device, &counters);
        for (uint32_t i = 0; i < bench->tensor_count; i++) {
            counters.weights_in_place_bytes -= bench->tensors[i].bytes + 2 * plane_bytes(&bench->tensors[i]);
        }
        status = counters.weights_in_place_bytes >> 63 ? SP_UNSUPPORTED : SP_OK; /* some were copied */
    }
    if (!status) {
        status = backend->prepare(context, bench->store, &bench->tape, &bench->program, error);
    }
    if (!status) {
        status = ops_reset(bench, error);
    }
    if (status) {
        ops_close(bench);
    }
    return status;
}

void ops_close(ops_bench *bench) {
    void *context;
    const spi_backend *backend = spi_device_backend(bench->on->device, &context);
    if (bench->program) {
        backend->discard(context, bench->program);
    }
    if (bench->store) {
        backend->unload(context, bench->store);
    }
    for (uint32_t i = 0; i < OPS_REGIONS_MAX; i++) {
        if (bench->regions[i]) {
            sp_device_unlink(bench->on->device, bench->regions[i]);
            sp_region_destroy(bench->regions[i]);
        }
        free(bench->before[i]);
    }
    for (uint32_t i = 0; i < OPS_BUFFERS_MAX; i++) {
        free(bench->inputs[i]);
    }
    for (uint32_t i = 0; i < bench->tensor_count && !bench->mapping; i++) {
        free((void *)(uintptr_t)bench->tensors[i].data);
        free((void *)(uintptr_t)bench->tensors[i].affine.scales);
        free((void *)(uintptr_t)bench->tensors[i].affine.biases);
    }
    if (bench->mapping) {
        munmap(bench->mapping, bench->mapping_bytes);
    }
    free(bench->tokens);
    memset(bench, 0, sizeof *bench);
}
