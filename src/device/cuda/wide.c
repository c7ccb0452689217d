/* device/cuda/wide.c - a run of several rows by kernels that do more than an op (kernels/wide.cuh, flash.cu).
 *
 * They go through the tape's phases as decode.c's kernel does, one launch or two each. Between them numbers that only
 * products read are kept as 16-bit ones: what norms and attention leave in packed[0], what gates leave in packed[1].
 */
#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/cuda/cuda.h"

#define THREADS        256u
#define HEADS_A_BLOCK  (THREADS / 32)
#define QUERIES_A_SPAN 128u /* kernels/flash.cu */
#define STEPS_MIN      4u   /* of a block that shares a tile's columns */
#define CLUSTER_MAX    8u
#define LOG2_E         1.4426950408889634f

typedef struct tile_shape {
    uint32_t rows, stages, blocks; /* blocks: that a multiprocessor has room for */
} tile_shape;

static const tile_shape tiles[SPI_CU_WIDE_TILE_COUNT] = {
    {16, 6, 2}, {64, 4, 2}, {256, 4, 1}}; /* as in kernels/wide.cu */
#define TILE_COUNT SPI_CU_WIDE_TILE_COUNT

static uint32_t tile_bytes(const tile_shape *tile) {
    return tile->stages * (SPI_CU_WIDE_OUTS + tile->rows) * 128;
}

static spi_cu_kernel tile_kernel(uint32_t type, size_t tile) {
    static const uint32_t types[] = {SP_F16, SP_BF16,
#define TYPE(name) name,
                                     SPI_CU_QUANTISED(TYPE)
#undef TYPE
    };
    uint32_t i = 0;
    while (types[i] != type) {
        i++;
    }
    return (spi_cu_kernel)(SPI_CU_wide16_SP_F16 + i * TILE_COUNT + tile);
}

/* Weights that are multiplied as bf16 numbers; the others as f16 ones. */
static bool is_brain(uint32_t type) {
    return type == SP_BF16 || type == SP_MXFP4;
}

static bool reads(const spi_cu_phase *phase, spi_cu_pointer address) {
    switch ((spi_cu_phase_kind)phase->kind) {
    case SPI_CU_PHASE_ATTENTION: return phase->src == address || phase->k == address || phase->v == address;
    case SPI_CU_PHASE_GATHER: return phase->src == address;
    case SPI_CU_PHASE_PRODUCT: break;
    }
    for (uint32_t i = 0; i < phase->part_count && phase->output == SPI_CU_OUTPUT_ADD; i++) {
        if (phase->parts[i].dst == address) {
            return true;
        }
    }
    return phase->src == address;
}

/* The product that reads what phase `index` leaves at `address` as 16-bit numbers. NULL: others read it as well, or there
 * is none. */
static const spi_cu_phase *reader_of(const spi_cu_phases *phases, uint32_t index, spi_cu_pointer address) {
    const spi_cu_phase *reader = NULL;
    for (uint32_t i = index + 1; i < phases->count; i++) {
        const spi_cu_phase *phase = &phases->items[i];
        bool writes = phase->kind == SPI_CU_PHASE_ATTENTION && phase->out == address;
        for (uint32_t k = 0; k < phase->part_count && phase->output != SPI_CU_OUTPUT_ADD; k++) {
            writes = writes || phase->parts[k].dst == address;
        }
        if (!reads(phase, address)) {
            if (writes) {
                break;
            }
            continue;
        }
        if (phase->kind == SPI_CU_PHASE_GATHER && !reader) {
            address = phase->out;
            continue;
        }
        bool plain = phase->kind == SPI_CU_PHASE_PRODUCT && phase->input == SPI_CU_INPUT_PLAIN && !reader &&
                     phase->output != SPI_CU_OUTPUT_GATE;
        if (!plain) {
            return NULL;
        }
        reader = phase;
    }
    return reader;
}

/* True: everything that is left as 16-bit numbers is read as such, and attention is of one shape. */
static bool can_pack(const spi_cu_phases *phases, uint32_t kv_heads) {
    if (phases->heads_max / kv_heads > QUERIES_A_SPAN) {
        return false;
    }
    for (uint32_t i = 0; i < phases->count; i++) {
        const spi_cu_phase *phase = &phases->items[i];
        bool packs = phase->kind == SPI_CU_PHASE_ATTENTION || phase->output == SPI_CU_OUTPUT_GATE;
        spi_cu_pointer address = phase->kind == SPI_CU_PHASE_ATTENTION ? phase->out : phase->parts[0].dst;
        if (phase->kind != SPI_CU_PHASE_GATHER && packs && !reader_of(phases, i, address)) {
            return false;
        }
        if (phase->kind == SPI_CU_PHASE_ATTENTION && phase->heads != phases->heads_max) {
            return false;
        }
    }
    return true;
}

static sp_status allow_shared(spi_cu *cu, spi_cu_kernel kernel, uint32_t bytes, sp_error *error) {
    spi_cu_result result = cu->call->FuncSetAttribute(cu->kernels[kernel], SPI_CU_FUNCTION_SHARED_BYTES, (int)bytes);
    return spi_cu_check(cu, result, "preparing for prompts", error);
}

static spi_cu_kernel flash_kernel(uint32_t head_dim) {
    return head_dim == 64 ? SPI_CU_flash64 : head_dim == 128 ? SPI_CU_flash128 : SPI_CU_flash256;
}

static uint32_t flash_bytes(uint32_t head_dim) {
    return 2 * 2 * SPI_BLOCK_TOKENS * head_dim * 2;
}

static sp_status allow_kernels(spi_cu *cu, const spi_program *program, const spi_cu_phases *phases, sp_error *error) {
    uint32_t head_dim = program->tape->kv.head_dim;
    sp_status status = allow_shared(cu, flash_kernel(head_dim), flash_bytes(head_dim), error);
    for (uint32_t i = 0; i < phases->count && !status; i++) {
        const spi_cu_phase *phase = &phases->items[i];
        for (size_t tile = 0; tile < TILE_COUNT && phase->kind == SPI_CU_PHASE_PRODUCT && !status; tile++) {
            status = allow_shared(cu, tile_kernel(phase->type, tile), tile_bytes(&tiles[tile]), error);
        }
    }
    return status;
}

static bool is_plain(uint32_t type) {
    return !spi_cu_is_quantised(type);
}

/* Rows of so many 16-bit numbers, of which boxes are fetched. */
static sp_status map_rows(spi_cu *cu, spi_cu_pointer address, uint32_t columns, uint64_t rows, uint32_t box_rows,
                          spi_cu_stored_map *stored, sp_error *error) {
    spi_cu_map map = {{0}};
    const unsigned long long dims[] = {columns, rows}, strides[] = {columns * 2ull};
    const unsigned box[] = {SPI_CU_WIDE_STEP, box_rows}, steps[] = {1, 1};
    spi_cu_result result =
        cu->call->TensorMapEncodeTiled(&map, SPI_CU_MAP_16_BITS, 2, (void *)(uintptr_t)address, dims, strides, box,
                                       steps, 0, SPI_CU_MAP_SWIZZLE_128, SPI_CU_MAP_PROMOTE_128, 0);
    memcpy(stored, &map, sizeof map);
    return spi_cu_check(cu, result, "preparing for prompts", error);
}

static sp_status make_maps(spi_cu *cu, const spi_program *program, spi_cu_wide_plan *plan, sp_error *error) {
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < plan->phases.count && !status; i++) {
        const spi_cu_phase *phase = &plan->phases.items[i];
        spi_cu_wide_maps *maps = &plan->maps[i];
        if (phase->kind != SPI_CU_PHASE_PRODUCT) {
            continue;
        }
        for (uint32_t k = 0; k < 2 * TILE_COUNT && !status; k++) {
            status =
                map_rows(cu, plan->packed[k / TILE_COUNT].address, spi_cu_stride(phase->cols), program->tape->rows_max,
                         tiles[k % TILE_COUNT].rows, &maps->x[k / TILE_COUNT][k % TILE_COUNT], error);
        }
        for (uint32_t k = 0; k < phase->part_count && is_plain(phase->type) && !status; k++) {
            status = map_rows(cu, phase->parts[k].data, phase->stride / 2, phase->parts[k].rows, SPI_CU_WIDE_BOX,
                              &maps->weights[k], error);
        }
    }
    return status;
}

sp_status spi_cu_wide_create(spi_cu *cu, const spi_program *program, spi_cu_wide_plan **out, sp_error *error) {
    *out = NULL;
    if (cu->card.major != 9 || cu->card.minor != 0) {
        return SP_OK;
    }
    spi_cu_wide_plan *plan = spi_alloc(1, sizeof *plan);
    if (!plan) {
        return spi_fail(error, SP_NO_MEMORY, "cuda: no memory to prepare a tape");
    }
    bool found = false;
    uint64_t heads_bytes = 0;
    sp_status status = spi_cu_phases_find(cu, program, true, &plan->phases, &found, error);
    found = found && can_pack(&plan->phases, program->tape->kv.kv_heads);
    if (found && !status) {
        heads_bytes = (uint64_t)program->tape->rows_max * plan->phases.heads_max * program->tape->kv.head_dim * 2;
        status = allow_kernels(cu, program, &plan->phases, error);
        status = status ? status : spi_cu_buffer_create(cu, heads_bytes, "a model's scratch", &plan->queries, error);
        status = status ? status
                        : spi_cu_buffer_create(cu, program->packed.bytes, "a model's scratch", &plan->packed[1], error);
    }
    plan->packed[0] = program->packed;
    if (found && !status) {
        plan->maps = spi_alloc(plan->phases.count, sizeof *plan->maps);
        status = plan->maps ? make_maps(cu, program, plan, error)
                            : spi_fail(error, SP_NO_MEMORY, "cuda: no memory to prepare a tape");
    }
    if (status || !found) {
        spi_cu_wide_destroy(cu, plan);
        return status;
    }
    *out = plan;
    return SP_OK;
}

void spi_cu_wide_destroy(spi_cu *cu, spi_cu_wide_plan *plan) {
    if (plan) {
        spi_cu_phases_free(&plan->phases);
        spi_free(plan->maps);
        spi_cu_buffer_destroy(cu, &plan->queries);
        spi_cu_buffer_destroy(cu, &plan->packed[1]);
        spi_free(plan);
    }
}

/* One session's rows next to each other, as many as a block attends for. */
uint32_t spi_cu_wide_spans(const spi_program *program, const spi_run *run, spi_cu_span *spans) {
    const spi_cu_phases *phases = &program->wide->phases;
    uint32_t group = phases->heads_max / program->tape->kv.kv_heads, most = QUERIES_A_SPAN / group, count = 0;
    for (uint32_t s = 0; s < run->segment_count; s++) {
        const spi_segment *segment = &run->segments[s];
        for (uint32_t i = 0; i < segment->row_count; i += most) {
            uint32_t left = segment->row_count - i;
            spans[count++] = (spi_cu_span){.first = segment->row_first + i, .count = left < most ? left : most};
        }
    }
    return count;
}

/* A run on its way through the phases. */
typedef struct pass {
    spi_cu *cu;
    const spi_program *program;
    const spi_cu_wide_plan *plan;
    uint32_t rows, span_count;
    spi_cu_pointer label[2]; /* the address of the f32 numbers that packed[i] stands for, or 0 */
    bool packed_brain;       /* packed[0]'s 16-bit numbers are bf16 */
    sp_error *error;
} pass;

static sp_status norm_or_pack(pass *p, const spi_cu_phase *phase) {
    spi_cu_pointer to = p->plan->packed[0].address, from = phase->src, weight = phase->norm_weight;
    uint32_t columns = phase->cols, stride = spi_cu_stride(columns), brain = is_brain(phase->type);
    float eps = phase->eps;
    p->label[0] = 0;
    p->packed_brain = brain;
    if (phase->normed) {
        void *arguments[] = {&to, &from, &weight, &columns, &stride, &eps, &brain};
        return spi_cu_launch(p->cu, SPI_CU_norm_pack, p->rows, 1, THREADS, arguments, p->error);
    }
    uint32_t count = p->rows * stride / 4;
    void *arguments[] = {&to, &from, &count, &brain};
    return spi_cu_launch(p->cu, SPI_CU_pack_acts, spi_cu_ceil(count, THREADS), 1, THREADS, arguments, p->error);
}

/* The packed buffer that has the phase's input; computed if none has. */
static sp_status input_of(pass *p, const spi_cu_phase *phase, uint32_t *packed) {
    *packed = 0;
    for (uint32_t i = 0; i < 2; i++) {
        if (phase->input == SPI_CU_INPUT_PLAIN && p->label[i] == phase->src) {
            *packed = i;
            return SP_OK;
        }
    }
    if (phase->input == SPI_CU_INPUT_SAME && p->packed_brain == is_brain(phase->type)) {
        return SP_OK;
    }
    return norm_or_pack(p, phase);
}

/* Blocks that share a tile's columns: so many that the card has work everywhere. */
static uint32_t cluster_of(const spi_cu *cu, const tile_shape *tile, uint32_t blocks, uint32_t columns) {
    uint32_t room = (uint32_t)cu->card.multiprocessors * tile->blocks, steps = spi_cu_ceil(columns, SPI_CU_WIDE_STEP),
             size = 1;
    while (size < CLUSTER_MAX && blocks * size * 2 <= room && steps >= STEPS_MIN * size * 2) {
        size *= 2;
    }
    return size;
}

/* Parts [first, first + count) of a phase. */
static sp_status multiply_parts(pass *p, uint32_t index, uint32_t packed, uint32_t first, uint32_t count) {
    const spi_cu_phase *phase = &p->plan->phases.items[index];
    const spi_cu_wide_maps *maps = &p->plan->maps[index];
    bool gated = phase->output == SPI_CU_OUTPUT_GATE;
    spi_cu_wide args = {.part_count = count,
                        .output = phase->output,
                        .cols = phase->cols,
                        .stride = phase->stride,
                        .row_count = p->rows,
                        .outs = p->program->fetched.address + p->program->outs_byte,
                        .scale = phase->scale,
                        .softcap = phase->softcap,
                        .silu = phase->silu};
    memcpy(args.plane_bytes, phase->plane_bytes, sizeof args.plane_bytes);
    for (uint32_t i = 0; i < count; i++) {
        const spi_cu_part *part = &phase->parts[first + i];
        memcpy(&args.weights[i], &maps->weights[first + i], sizeof args.weights[i]);
        args.parts[i] = (spi_cu_wide_part){.data = part->data,
                                           .bias = part->bias,
                                           .dst = part->dst,
                                           .rows = part->rows,
                                           .dst_stride = part->dst_stride};
        args.unit_count += gated && i ? 0 : part->rows;
    }
    if (gated) {
        const spi_cu_phase *reader = reader_of(&p->plan->phases, index, phase->parts[0].dst);
        args.parts[0].dst = p->plan->packed[1].address;
        args.brain_out = reader && is_brain(reader->type);
        p->label[1] = phase->parts[0].dst;
    }
    size_t tile = 0;
    while (tile + 1 < TILE_COUNT && p->rows > (tile ? 2 : 1) * tiles[tile].rows) {
        tile++;
    }
    memcpy(&args.x, &maps->x[packed][tile], sizeof args.x);
    uint32_t x = spi_cu_ceil(p->rows, tiles[tile].rows),
             y = spi_cu_ceil(args.unit_count, gated ? SPI_CU_WIDE_OUTS / 2 : SPI_CU_WIDE_OUTS);
    void *arguments[] = {&args};
    return spi_cu_launch_cluster(p->cu, tile_kernel(phase->type, tile), x, y,
                                 cluster_of(p->cu, &tiles[tile], x * y, phase->cols), SPI_CU_WIDE_THREADS,
                                 tile_bytes(&tiles[tile]), arguments, p->error);
}

/* The card fetches boxes of plain weights that may not lie over the edge of a part. */
static bool has_whole_boxes(const spi_cu_phase *phase) {
    bool whole = true;
    for (uint32_t i = 0; i + 1 < phase->part_count; i++) {
        whole = whole && phase->parts[i].rows % SPI_CU_WIDE_BOX == 0;
    }
    return whole || !is_plain(phase->type) || phase->output == SPI_CU_OUTPUT_GATE;
}

static sp_status product(pass *p, uint32_t index) {
    const spi_cu_phase *phase = &p->plan->phases.items[index];
    uint32_t packed, each = has_whole_boxes(phase) ? phase->part_count : 1;
    sp_status status = input_of(p, phase, &packed);
    for (uint32_t i = 0; i < phase->part_count && !status; i += each) {
        status = multiply_parts(p, index, packed, i, each);
    }
    return status;
}

static sp_status place_heads(pass *p, const spi_cu_phase *phase, const spi_cu_kv *kv) {
    const spi_program *program = p->program;
    uint32_t rotation = p->plan->phases.turn_rotations[phase->turn];
    spi_cu_heads heads = {.q = phase->src,
                          .k = phase->k,
                          .v = phase->v,
                          .q_norm = phase->q_norm,
                          .k_norm = phase->k_norm,
                          .packed = p->plan->queries.address,
                          .rows = program->fetched.address,
                          .kv = *kv,
                          .q_stride = spi_cu_stride(phase->heads * kv->head_dim),
                          .k_stride = spi_cu_stride(kv->kv_heads * kv->head_dim),
                          .heads = phase->heads,
                          .pairs = phase->pairs,
                          .halves = phase->halves,
                          .eps = phase->eps,
                          .k_eps = phase->k_eps,
                          .scale = phase->softcap != 0 ? phase->scale : phase->scale * LOG2_E};
    if (phase->pairs) {
        heads.table = program->fetched.address + program->rotations.items[rotation].place;
    }
    void *arguments[] = {&heads};
    return spi_cu_launch(p->cu, SPI_CU_place_heads, spi_cu_ceil(phase->heads + 2 * kv->kv_heads, HEADS_A_BLOCK),
                         p->rows, THREADS, arguments, p->error);
}

static sp_status attend(pass *p, uint32_t index) {
    const spi_cu_phase *phase = &p->plan->phases.items[index];
    const spi_program *program = p->program;
    const spi_kv_shape *shape = &program->tape->kv;
    spi_cu_kv kv = {.block_bytes = shape->block_bytes,
                    .layer_bytes = phase->layer_bytes,
                    .kv_heads = shape->kv_heads,
                    .head_dim = shape->head_dim};
    sp_status status = place_heads(p, phase, &kv);
    const spi_cu_phase *reader = reader_of(&p->plan->phases, index, phase->out);
    spi_cu_flash flash = {.q = p->plan->queries.address,
                          .out = p->plan->packed[0].address,
                          .rows = program->fetched.address,
                          .spans = program->fetched.address + program->spans_byte,
                          .kv = kv,
                          .heads = phase->heads,
                          .window = phase->window,
                          .out_stride = spi_cu_stride(phase->heads * kv.head_dim),
                          .brain_out = reader && is_brain(reader->type),
                          .softcap = phase->softcap};
    p->label[0] = phase->out;
    p->packed_brain = flash.brain_out;
    void *arguments[] = {&flash};
    return status ? status
                  : spi_cu_launch_cluster(p->cu, flash_kernel(kv.head_dim), p->span_count, kv.kv_heads, 1, THREADS,
                                          flash_bytes(kv.head_dim), arguments, p->error);
}

/* Of f32 rows, or of the packed ones of attention, which are moved to packed[1]. */
static sp_status gather(pass *p, const spi_cu_phase *phase, uint32_t out_count) {
    bool is_packed = p->label[0] == phase->src;
    spi_cu_pointer outs = p->program->fetched.address + p->program->outs_byte;
    spi_cu_pointer from = is_packed ? p->plan->packed[0].address : phase->src;
    spi_cu_pointer to = is_packed ? p->plan->packed[1].address : phase->out;
    uint32_t stride = spi_cu_stride(phase->cols) / (is_packed ? 2 : 1), columns = stride;
    if (is_packed) {
        p->label[0] = 0;
        p->label[1] = phase->out;
    }
    void *arguments[] = {&to, &from, &outs, &columns, &stride};
    return spi_cu_launch(p->cu, SPI_CU_gather, spi_cu_ceil(columns, THREADS), out_count, THREADS, arguments, p->error);
}

sp_status spi_cu_wide_run(spi_cu *cu, const spi_program *program, const spi_run *run, uint32_t span_count,
                          sp_error *error) {
    pass all = {.cu = cu,
                .program = program,
                .plan = program->wide,
                .rows = run->row_count,
                .span_count = span_count,
                .error = error};
    const spi_cu_phases *phases = &program->wide->phases;
    uint32_t count = run->out_count ? phases->count : phases->hidden_count;
    assert(program->tape->ops[0].kind == SPI_OP_EMBED);
    sp_status status = spi_cu_op(cu, program, 0, run->row_count, error);
    for (uint32_t i = 0; i < count && !status; i++) {
        switch ((spi_cu_phase_kind)phases->items[i].kind) {
        case SPI_CU_PHASE_PRODUCT: status = product(&all, i); break;
        case SPI_CU_PHASE_ATTENTION: status = attend(&all, i); break;
        case SPI_CU_PHASE_GATHER:
            status = gather(&all, &phases->items[i], run->out_count);
            all.rows = i + 1 < count && phases->items[i + 1].kind == SPI_CU_PHASE_GATHER ? all.rows : run->out_count;
            break;
        }
    }
    return status;
}
