/* device/cuda/wide.c - runs of several rows by kernels that do more than an op (kernels/wide.cuh, flash.cu, few.cu):
 * what is made for them once. wide_run.c has a run's way through them.
 */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/cuda/wide.h"

/* Of shared memory, a multiprocessor's 228 KiB: half for a tile of few rows, with what the system takes of it, or most
 * of it for one that is to have all the weights on their way that there is room for. */
#define TILE_BYTES_HALF (112u << 10)
#define TILE_BYTES_FEW  (150u << 10)
#define TILE_BYTES_MANY (224u << 10)

/* As in kernels/wide.cu. */
const uint32_t spi_cu_wide_tile_rows[SPI_CU_WIDE_TILE_COUNT] = {
#define ROWS(rows, type) rows,
    SPI_CU_WIDE_TILES(ROWS, )
#undef ROWS
};
#define TILE_COUNT SPI_CU_WIDE_TILE_COUNT

spi_cu_kernel spi_cu_wide_kernel(uint32_t type, size_t tile) {
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

uint32_t spi_cu_wide_form(uint32_t type) {
    return (type == SP_BF16 || type == SP_MXFP4 ? SPI_CU_FORM_BRAIN : 0) |
           (spi_cu_is_quantised(type) ? SPI_CU_FORM_TURNED : 0);
}

/* How a type's slabs lie in shared memory, and how far they are apart in its planes. */
spi_cu_slab spi_cu_wide_slab(uint32_t type) {
    const spi_cu_format *format = spi_cu_format_of((sp_dtype)type);
    spi_cu_slab slab = {.plane_count = format->plane_count};
    for (uint32_t i = 0; i < format->plane_count; i++) {
        uint32_t bytes = SPI_CU_WIDE_SLAB / format->block_elements * format->planes[i].bytes;
        slab.step[i] = bytes / 2;
        /* Boxes begin at multiples of 16 bytes: what a slab has of a plane is somewhere in them. */
        slab.pitch[i] = bytes % 16 == 0 || 16 % bytes == 0 ? (bytes + 15) / 16 * 16 : (bytes + 14 + 15) / 16 * 16;
        slab.bytes += SPI_CU_WIDE_OUTS * slab.pitch[i];
    }
    return slab;
}

static uint32_t at_most(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* Places for a block with so many steps or slabs, in so many bytes, or for two at least. */
static void divide(spi_cu_wide_room *room, uint32_t type, uint32_t rows, uint32_t units, uint32_t bytes) {
    uint32_t step = rows * 128, each = spi_cu_wide_slab(type).bytes;
    if (spi_cu_is_quantised(type)) {
        room->row_slots = at_most(SPI_CU_WIDE_STAGES(rows), units * (SPI_CU_WIDE_SLAB / SPI_CU_WIDE_STEP));
        bytes -= room->row_slots * step;
    } else {
        each = SPI_CU_WIDE_OUTS * 128 + step;
    }
    uint32_t slots = bytes / each < 2 ? 2 : bytes / each;
    room->slots = at_most(at_most(slots, units), SPI_CU_WIDE_SLABS_MAX);
    room->bytes = room->slots * each;
    if (spi_cu_is_quantised(type)) {
        room->bytes += room->row_slots * step;
    } else {
        room->row_slots = room->slots;
    }
}

/* What is behind a block's last step is not asked for: a block of few columns leaves its room to those of the next
 * kernels. */
spi_cu_wide_room spi_cu_wide_room_for(uint32_t type, size_t tile, uint32_t columns, uint32_t split, bool beside) {
    uint32_t rows = spi_cu_wide_tile_rows[tile], sums = spi_cu_ceil(rows * (SPI_CU_WIDE_OUTS + 4) * 4, 128) * 128;
    uint32_t units = spi_cu_ceil(columns, spi_cu_is_quantised(type) ? SPI_CU_WIDE_SLAB : SPI_CU_WIDE_STEP);
    uint32_t received = rows < 256 && split > 1 ? rows * SPI_CU_WIDE_OUTS * 4 : 0;
    spi_cu_wide_room room;
    if (rows == 256) { /* kernels/wide.cuh counts on all its places */
        divide(&room, type, rows, SPI_CU_WIDE_STEPS_MAX, TILE_BYTES_MANY);
    } else {
        divide(&room, type, rows, spi_cu_ceil(units, split), (beside ? TILE_BYTES_HALF : TILE_BYTES_FEW) - received);
    }
    room.received_at = room.bytes > sums ? room.bytes : sums;
    room.bytes = room.received_at + received;
    return room;
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

const spi_cu_phase *spi_cu_wide_reader(const spi_cu_phases *phases, uint32_t index, spi_cu_pointer address) {
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
    if (phases->heads_max / kv_heads > SPI_CU_FLASH_QUERIES) {
        return false;
    }
    for (uint32_t i = 0; i < phases->count; i++) {
        const spi_cu_phase *phase = &phases->items[i];
        bool packs = phase->kind == SPI_CU_PHASE_ATTENTION || phase->output == SPI_CU_OUTPUT_GATE;
        spi_cu_pointer address = phase->kind == SPI_CU_PHASE_ATTENTION ? phase->out : phase->parts[0].dst;
        if (phase->kind != SPI_CU_PHASE_GATHER && packs && !spi_cu_wide_reader(phases, i, address)) {
            return false;
        }
        if (phase->kind == SPI_CU_PHASE_ATTENTION && phase->heads != phases->heads_max) {
            return false;
        }
    }
    return true;
}

spi_cu_heads_kernels spi_cu_wide_heads_kernels(const spi_kv_shape *kv) {
    static const spi_cu_kernel flash[][3] = {{SPI_CU_flash64, SPI_CU_flash128, SPI_CU_flash256},
                                             {SPI_CU_flash64_q8, SPI_CU_flash128_q8, SPI_CU_flash256_q8}},
                               few[][3] = {{SPI_CU_few64, SPI_CU_few128, SPI_CU_few256},
                                           {SPI_CU_few64_q8, SPI_CU_few128_q8, SPI_CU_few256_q8}},
                               many[][3] = {{SPI_CU_many64, SPI_CU_many128, SPI_CU_many256},
                                            {SPI_CU_many64_q8, SPI_CU_many128_q8, SPI_CU_many256_q8}},
                               start[][3] = {{SPI_CU_start64, SPI_CU_start128, SPI_CU_few256},
                                             {SPI_CU_start64_q8, SPI_CU_start128_q8, SPI_CU_few256_q8}};
    uint32_t dim = kv->head_dim, width = dim == 64 ? 0 : dim == 128 ? 1 : 2, type = spi_kv_is_q8(kv);
    return (spi_cu_heads_kernels){.place = type ? SPI_CU_place_heads_q8 : SPI_CU_place_heads,
                                  .flash = flash[type][width],
                                  .few = few[type][width],
                                  .many = many[type][width],
                                  .start = start[type][width],
                                  .flash_bytes = 2 * 2 * SPI_BLOCK_TOKENS * dim * 2};
}

/* A multiprocessor that is to run two kernels at the same time has to be divided for both in the same way: all of a
 * run's want as much shared memory as there is. */
static sp_status prefer_shared(spi_cu *cu, spi_cu_kernel kernel, sp_error *error) {
    spi_cu_result result = cu->call->FuncSetAttribute(cu->kernels[kernel], SPI_CU_FUNCTION_CARVEOUT, 100);
    return spi_cu_check(cu, result, "preparing for prompts", error);
}

static sp_status allow_shared(spi_cu *cu, spi_cu_kernel kernel, uint32_t bytes, sp_error *error) {
    spi_cu_result result = cu->call->FuncSetAttribute(cu->kernels[kernel], SPI_CU_FUNCTION_SHARED_BYTES, (int)bytes);
    sp_status status = spi_cu_check(cu, result, "preparing for prompts", error);
    return status ? status : prefer_shared(cu, kernel, error);
}

static sp_status allow_kernels(spi_cu *cu, const spi_program *program, const spi_cu_phases *phases, sp_error *error) {
    spi_cu_heads_kernels kernels = spi_cu_wide_heads_kernels(&program->tape->kv);
    uint32_t dim = program->tape->kv.head_dim, stages = dim > 64 ? 1 : 2; /* at most: wide_run.c */
    const spi_cu_kernel others[] = {SPI_CU_norm_pack, kernels.place, SPI_CU_gather, SPI_CU_pick, SPI_CU_pick_noted};
    sp_status status = prefer_shared(cu, spi_cu_embed_kernel(phases->embedding.type), error);
    for (size_t i = 0; i < sizeof others / sizeof others[0] && !status; i++) {
        status = prefer_shared(cu, others[i], error);
    }
    status = status ? status : allow_shared(cu, kernels.flash, kernels.flash_bytes, error);
    status = status ? status : allow_shared(cu, kernels.few, SPI_CU_FEW_BYTES(dim, stages, 8), error);
    status = status ? status : allow_shared(cu, kernels.many, SPI_CU_FEW_BYTES(dim, 1, 4), error);
    status = status ? status : allow_shared(cu, kernels.start, SPI_CU_FEW_BYTES(dim, stages, 8), error);
    for (uint32_t i = 0; i < phases->count && !status; i++) {
        const spi_cu_phase *phase = &phases->items[i];
        for (size_t tile = 0; tile < TILE_COUNT && phase->kind == SPI_CU_PHASE_PRODUCT && !status; tile++) {
            status = allow_shared(cu, spi_cu_wide_kernel(phase->type, tile), TILE_BYTES_MANY, error);
        }
    }
    return status;
}

/* A matrix of 16-bit numbers, rows so many bytes apart, of which boxes are fetched. */
typedef struct boxes {
    spi_cu_pointer address;
    uint32_t columns, stride_bytes, box_columns, box_rows;
    uint64_t rows;
    int swizzle, promotion; /* promotion: what the card reads ahead into its cache */
} boxes;

static sp_status map_boxes(spi_cu *cu, const boxes *from, spi_cu_stored_map *stored, sp_error *error) {
    spi_cu_map map = {{0}};
    const unsigned long long dims[] = {from->columns, from->rows}, strides[] = {from->stride_bytes};
    const unsigned box[] = {from->box_columns, from->box_rows}, steps[] = {1, 1};
    spi_cu_result result =
        cu->call->TensorMapEncodeTiled(&map, SPI_CU_MAP_16_BITS, 2, (void *)(uintptr_t)from->address, dims, strides,
                                       box, steps, 0, from->swizzle, from->promotion, 0);
    memcpy(stored, &map, sizeof map);
    return spi_cu_check(cu, result, "preparing for prompts", error);
}

static sp_status map_inputs(spi_cu *cu, const spi_program *program, const spi_cu_wide_plan *plan,
                            const spi_cu_phase *phase, spi_cu_wide_maps *maps, sp_error *error) {
    sp_status status = SP_OK;
    for (uint32_t k = 0; k < 2 * TILE_COUNT && !status; k++) {
        uint32_t columns = spi_cu_stride(phase->cols);
        const boxes x = {.address = plan->packed[k / TILE_COUNT].address,
                         .columns = columns,
                         .stride_bytes = columns * 2,
                         .box_columns = SPI_CU_WIDE_STEP,
                         .box_rows = spi_cu_wide_tile_rows[k % TILE_COUNT],
                         .rows = program->tape->rows_max,
                         .swizzle = SPI_CU_MAP_SWIZZLE_128,
                         .promotion = SPI_CU_MAP_PROMOTE_128};
        status = map_boxes(cu, &x, &maps->x[k / TILE_COUNT][k % TILE_COUNT], error);
    }
    return status;
}

/* A part's planes, or its rows as they are. */
static sp_status map_weights(spi_cu *cu, const spi_cu_phase *phase, const spi_cu_part *part, spi_cu_stored_map *maps,
                             sp_error *error) {
    boxes rows = {.address = part->data,
                  .columns = phase->stride / 2,
                  .stride_bytes = phase->stride,
                  .box_columns = SPI_CU_WIDE_STEP,
                  .box_rows = SPI_CU_WIDE_BOX,
                  .rows = part->rows,
                  .swizzle = SPI_CU_MAP_SWIZZLE_128,
                  .promotion = SPI_CU_MAP_PROMOTE_256};
    if (!spi_cu_is_quantised(phase->type)) {
        return map_boxes(cu, &rows, &maps[0], error);
    }
    spi_cu_slab slab = spi_cu_wide_slab(phase->type);
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < slab.plane_count && !status; i++) {
        uint32_t end = i + 1 < slab.plane_count ? phase->plane_bytes[i + 1] : phase->stride;
        rows.address = part->data + phase->plane_bytes[i];
        rows.columns = (end - phase->plane_bytes[i]) / 2;
        rows.box_columns = slab.pitch[i] / 2;
        rows.swizzle = 0;
        status = map_boxes(cu, &rows, &maps[i], error);
    }
    return status;
}

static sp_status make_maps(spi_cu *cu, const spi_program *program, spi_cu_wide_plan *plan, sp_error *error) {
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < plan->phases.count && !status; i++) {
        const spi_cu_phase *phase = &plan->phases.items[i];
        if (phase->kind == SPI_CU_PHASE_PRODUCT) {
            status = map_inputs(cu, program, plan, phase, &plan->maps[i], error);
        }
        for (uint32_t k = 0; k < phase->part_count && !status; k++) {
            status = map_weights(cu, phase, &phase->parts[k], plan->maps[i].weights[k], error);
        }
    }
    return status;
}

static sp_status create_buffers(spi_cu *cu, const spi_program *program, spi_cu_wide_plan *plan, sp_error *error) {
    uint64_t rows = program->tape->rows_max;
    uint64_t heads_bytes = rows * plan->phases.heads_max * program->tape->kv.head_dim * 2;
    plan->squares_pitch = 2; /* a pass that is nothing else leaves one sum */
    for (uint32_t i = 0; i < plan->phases.count; i++) {
        const spi_cu_phase *phase = &plan->phases.items[i];
        if (phase->kind == SPI_CU_PHASE_PRODUCT && phase->output == SPI_CU_OUTPUT_ADD) {
            uint32_t pitch = 1 + spi_cu_ceil(phase->parts[0].rows, SPI_CU_WIDE_OUTS);
            plan->squares_pitch = pitch > plan->squares_pitch ? pitch : plan->squares_pitch;
        }
    }
    uint64_t squares_bytes = 2 * rows * plan->squares_pitch * sizeof(float);
    sp_status status = spi_cu_buffer_create(cu, heads_bytes, "a model's scratch", &plan->queries, error);
    status =
        status ? status : spi_cu_buffer_create(cu, program->packed.bytes, "a model's scratch", &plan->packed[1], error);
    status = status ? status : spi_cu_buffer_create(cu, squares_bytes, "a model's scratch", &plan->squares, error);
    plan->packed[0] = program->packed;
    plan->maps = spi_alloc(plan->phases.count, sizeof *plan->maps);
    if (!status && !plan->maps) {
        return spi_fail(error, SP_NO_MEMORY, "cuda: no memory to prepare a tape");
    }
    return status;
}

/* For as many rows as the card picks tokens of. */
static sp_status create_best(spi_cu *cu, spi_cu_wide_plan *plan, sp_error *error) {
    for (uint32_t i = 0; i < plan->phases.count; i++) {
        const spi_cu_phase *phase = &plan->phases.items[i];
        if (phase->kind == SPI_CU_PHASE_PRODUCT && phase->output == SPI_CU_OUTPUT_LOGITS) {
            bool whole = phase->part_count == 1 && !phase->parts[0].bias;
            plan->best_tiles = whole ? spi_cu_ceil(phase->parts[0].rows, SPI_CU_WIDE_OUTS) : 0;
        }
    }
    uint64_t bytes = (uint64_t)SPI_CU_PICKS_MAX * plan->best_tiles * sizeof(spi_cu_best);
    return bytes ? spi_cu_buffer_create(cu, bytes, "a model's scratch", &plan->best, error) : SP_OK;
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
    sp_status status = spi_cu_phases_find(cu, program, true, &plan->phases, &found, error);
    found = found && can_pack(&plan->phases, program->tape->kv.kv_heads);
    if (found && !status) {
        status = allow_kernels(cu, program, &plan->phases, error);
        status = status ? status : create_buffers(cu, program, plan, error);
        status = status ? status : create_best(cu, plan, error);
        status = status ? status : make_maps(cu, program, plan, error);
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
        spi_cu_buffer_destroy(cu, &plan->squares);
        spi_cu_buffer_destroy(cu, &plan->best);
        spi_free(plan);
    }
}

const spi_cu_buffer *spi_cu_wide_noted(const spi_program *program, uint32_t *pieces) {
    *pieces = program->wide ? program->wide->best_tiles : 0;
    return *pieces ? &program->wide->best : NULL;
}
