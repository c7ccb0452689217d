/* device/cuda/wide_run.c - a run of several rows on its way through a tape's phases, a launch or two each.
 *
 * Between them numbers that only products read are kept as 16-bit ones, in two buffers: a phase that reads one of them
 * writes the other. What stands in them is noted while the launches are made.
 */
#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "device/cuda/wide.h"

#define THREADS       SPI_CU_WIDE_HEADS_THREADS
#define HEADS_A_BLOCK (THREADS / 32)
#define FEW_ROWS      64u /* up to so many, attention is by few.cu */
#define START_ROWS    8u  /* so many new rows of a session are its prompt's */
#define STEPS_MIN     4u  /* of a block that shares a tile's columns; of quantised weights a slab */
#define FLIGHT        2u  /* steps or slabs of weights on their way while a block waits: 32 to 70 KiB */
#define FLIGHT_ADDED  3u  /* with 16 rows, of plain weights whose sums are added: see flight_of() */
#define LONG_CONTEXT  512u
#define SHARE_KEYS    256u /* of a context, that are worth a block in a cluster */
#define LOG2_E        1.4426950408889634f

/* What a packed buffer holds. */
typedef struct contents {
    spi_cu_pointer source; /* the address of the f32 numbers that it stands for; 0: nothing */
    spi_cu_pointer norm;   /* the weight of the norm that they are multiplied by, or 0 */
    uint32_t form;
    spi_cu_squares squares; /* with a norm: the rows' records */
} contents;

typedef struct pass {
    spi_cu *cu;
    const spi_program *program;
    const spi_cu_wide_plan *plan;
    uint32_t rows, span_count;
    bool is_few, logits_stay;
    uint32_t context; /* the longest of a session in the run */
    uint32_t longest; /* of a session's new rows */
    contents packed[2];
    spi_cu_pointer known; /* the f32 rows whose squares were noted last, or 0 */
    spi_cu_squares squares;
    uint32_t squares_index; /* of the array that they are in */
    spi_cu_address best;    /* where the likeliest token of each tile of logits goes; 0: nobody wants them */
    sp_error *error;
} pass;

static bool is_few(const spi_program *program, const spi_run *run) {
    uint32_t group = program->wide->phases.heads_max / program->tape->kv.kv_heads;
    return run->row_count <= FEW_ROWS && group <= SPI_CU_FEW_QUERIES;
}

/* One session's rows next to each other, as many as a block attends for. */
uint32_t spi_cu_wide_spans(const spi_program *program, const spi_run *run, spi_cu_span *spans) {
    const spi_cu_phases *phases = &program->wide->phases;
    const spi_cu_row *rows = program->parameters.address; /* as run.c has placed them */
    uint32_t group = phases->heads_max / program->tape->kv.kv_heads, count = 0;
    uint32_t most = (is_few(program, run) ? SPI_CU_FEW_QUERIES : SPI_CU_FLASH_QUERIES) / group;
    for (uint32_t s = 0; s < run->segment_count; s++) {
        const spi_segment *segment = &run->segments[s];
        for (uint32_t i = 0; i < segment->row_count; i += most) {
            uint32_t left = segment->row_count - i;
            spans[count++] = (spi_cu_span){.first = segment->row_first + i,
                                           .count = left < most ? left : most,
                                           .run_first = segment->row_first,
                                           .position = segment->position_first + i,
                                           .kv = rows[segment->row_first].kv,
                                           .host = rows[segment->row_first].host};
        }
    }
    return count;
}

/* The f32 numbers at this address change. */
static void changed(pass *p, spi_cu_pointer address) {
    for (uint32_t i = 0; i < 2; i++) {
        p->packed[i].source = p->packed[i].source == address ? 0 : p->packed[i].source;
    }
    p->known = p->known == address ? 0 : p->known;
}

/* The array of records that is not in use gets those of the rows at this address, in so many pieces. */
static spi_cu_squares note_squares(pass *p, spi_cu_pointer address, uint32_t columns, uint32_t pieces) {
    const spi_cu_wide_plan *plan = p->plan;
    p->squares_index ^= 1;
    uint64_t bytes = (uint64_t)p->program->tape->rows_max * plan->squares_pitch * sizeof(float);
    p->known = address;
    p->squares = (spi_cu_squares){.records = plan->squares.address + p->squares_index * bytes,
                                  .pitch = plan->squares_pitch,
                                  .pieces = pieces,
                                  .inverse_cols = 1 / (float)columns};
    return p->squares;
}

/* Where the next launch's clocks go, if they are wanted. */
static spi_cu_address clocks_of(pass *p, const char *name) {
    spi_cu_clocks *clocks = p->plan->clocks;
    if (!clocks || clocks->count == SPI_CU_CLOCKS_MAX) {
        return 0;
    }
    clocks->names[clocks->count] = name;
    return clocks->memory.address + clocks->count++ * sizeof clocks->times[0];
}

static sp_status norm_or_pack(pass *p, const spi_cu_phase *phase, uint32_t to) {
    spi_cu_pack pack = {.to = p->plan->packed[to].address,
                        .from = phase->src,
                        .weight = phase->normed ? phase->norm_weight : 0,
                        .columns = phase->cols,
                        .stride = spi_cu_stride(phase->cols),
                        .form = spi_cu_wide_form(phase->type),
                        .eps = phase->eps};
    if (phase->normed) {
        pack.squares = note_squares(p, phase->src, phase->cols, 1);
    }
    p->packed[to] = (contents){.source = phase->src, .norm = pack.weight, .form = pack.form, .squares = pack.squares};
    void *arguments[] = {&pack};
    return spi_cu_launch(p->cu, SPI_CU_norm_pack, p->rows, 1, THREADS, arguments, p->error);
}

/* The packed buffer that has the phase's input; computed if none has. */
static sp_status input_of(pass *p, const spi_cu_phase *phase, uint32_t *packed) {
    for (uint32_t i = 0; i < 2; i++) {
        const contents *has = &p->packed[i];
        if (has->source == phase->src && has->norm == (phase->normed ? phase->norm_weight : 0) &&
            has->form == spi_cu_wide_form(phase->type)) {
            *packed = i;
            return SP_OK;
        }
    }
    *packed = 0;
    return norm_or_pack(p, phase, 0);
}

static size_t tile_of(uint32_t rows) {
    size_t tile = 0;
    while (tile + 1 < SPI_CU_WIDE_TILE_COUNT && rows > (tile == 2 ? 2 : 1) * spi_cu_wide_tile_rows[tile]) {
        tile++;
    }
    return tile;
}

/* Blocks that share a tile's columns: so many that each multiprocessor has one. */
static uint32_t cluster_of(const spi_cu *cu, uint32_t type, uint32_t blocks, uint32_t columns) {
    bool packed = spi_cu_is_quantised(type);
    uint32_t shares = spi_cu_ceil(columns, packed ? SPI_CU_WIDE_SLAB : SPI_CU_WIDE_STEP * STEPS_MIN), size = 1;
    while (size < SPI_CU_WIDE_CLUSTER_MAX && blocks * size * 2 <= (uint32_t)cu->card.multiprocessors &&
           size * 2 <= shares) {
        size *= 2;
    }
    return size;
}

/* What a block may ask for while it waits. A step more is worth its while where what runs meanwhile reads little behind
 * it, attention, or reads its own weights anyway, gate and up; not for these, whose input is what the output adds. */
static uint32_t flight_of(const spi_cu_phase *phase, size_t tile) {
    bool added = phase->output == SPI_CU_OUTPUT_ADD && !spi_cu_is_quantised(phase->type);
    return added && spi_cu_wide_tile_rows[tile] == 16 ? FLIGHT_ADDED : FLIGHT;
}

/* The phase that reads the norm of what this one has added to, if it is the next. */
static const spi_cu_phase *next_norm(const pass *p, uint32_t index) {
    const spi_cu_phase *phase = &p->plan->phases.items[index], *next = phase + 1;
    bool follows = index + 1 < p->plan->phases.count && phase->output == SPI_CU_OUTPUT_ADD &&
                   next->kind == SPI_CU_PHASE_PRODUCT && next->normed && next->src == phase->parts[0].dst;
    return follows && p->known == next->src && phase->parts[0].rows % 4 == 0 ? next : NULL;
}

/* What an addition or a gate leaves in the other packed buffer. */
static void add_packed(pass *p, uint32_t index, uint32_t packed, spi_cu_wide *args) {
    const spi_cu_phase *phase = &p->plan->phases.items[index], *next = next_norm(p, index);
    contents *to = &p->packed[packed ^ 1];
    if (phase->output == SPI_CU_OUTPUT_GATE) {
        const spi_cu_phase *reader = spi_cu_wide_reader(&p->plan->phases, index, phase->parts[0].dst);
        args->form_out = reader ? spi_cu_wide_form(reader->type) : 0;
        args->parts[0].dst = p->plan->packed[packed ^ 1].address;
        changed(p, phase->parts[0].dst);
        *to = (contents){.source = phase->parts[0].dst, .form = args->form_out};
        return;
    }
    if (next) {
        args->known = p->squares;
        args->known.eps = next->eps;
    }
    for (uint32_t i = 0; i < phase->part_count; i++) {
        changed(p, phase->parts[i].dst);
    }
    if (next) {
        args->next = note_squares(p, next->src, next->cols, spi_cu_ceil(next->cols, SPI_CU_WIDE_OUTS));
        args->next_packed = p->plan->packed[packed ^ 1].address;
        args->next_weight = next->norm_weight;
        args->next_stride = spi_cu_stride(next->cols);
        args->form_out = spi_cu_wide_form(next->type);
        *to = (contents){.source = next->src, .norm = next->norm_weight, .form = args->form_out, .squares = args->next};
    }
}

static void set_parts(const pass *p, const spi_cu_phase *phase, const spi_cu_wide_maps *maps, uint32_t first,
                      spi_cu_wide *args) {
    bool gated = phase->output == SPI_CU_OUTPUT_GATE;
    for (uint32_t i = 0; i < args->part_count; i++) {
        const spi_cu_part *part = &phase->parts[first + i];
        memcpy(args->weights[i], maps->weights[first + i], sizeof args->weights[i]);
        args->parts[i] = (spi_cu_wide_part){.data = part->data,
                                            .bias = part->bias,
                                            .dst = part->dst,
                                            .rows = part->rows,
                                            .dst_stride = part->dst_stride};
        args->unit_count += gated && i ? 0 : part->rows;
    }
    args->outs = p->program->fetched.address + p->program->outs_byte;
}

static const char *const output_names[] = {[SPI_CU_OUTPUT_STORE] = "store",
                                           [SPI_CU_OUTPUT_ADD] = "add",
                                           [SPI_CU_OUTPUT_GATE] = "gate",
                                           [SPI_CU_OUTPUT_LOGITS] = "logits"};

/* Parts [first, first + count) of a phase, whose input is in the packed buffer. */
static sp_status multiply_parts(pass *p, uint32_t index, uint32_t packed, uint32_t first, uint32_t count) {
    const spi_cu_phase *phase = &p->plan->phases.items[index];
    const spi_cu_wide_maps *maps = &p->plan->maps[index];
    spi_cu_wide args = {.part_count = count,
                        .output = phase->output,
                        .cols = phase->cols,
                        .row_count = p->rows,
                        .scale = phase->scale,
                        .softcap = phase->softcap,
                        .silu = phase->silu};
    size_t tile = tile_of(p->rows);
    memcpy(&args.x, &maps->x[packed][tile], sizeof args.x);
    set_parts(p, phase, maps, first, &args);
    if (spi_cu_is_quantised(phase->type)) {
        spi_cu_slab slab = spi_cu_wide_slab(phase->type);
        args.plane_count = slab.plane_count;
        memcpy(args.plane_pitch, slab.pitch, sizeof slab.pitch);
        memcpy(args.plane_step, slab.step, sizeof slab.step);
    }
    if (phase->normed) {
        args.norm = p->packed[packed].squares;
        args.norm.eps = phase->eps;
    }
    if (first + count == phase->part_count) { /* of several launches the last, so that the others find their input */
        add_packed(p, index, packed, &args);
    }
    uint32_t x = spi_cu_ceil(p->rows, spi_cu_wide_tile_rows[tile]),
             y = spi_cu_ceil(args.unit_count,
                             phase->output == SPI_CU_OUTPUT_GATE ? SPI_CU_WIDE_OUTS / 2 : SPI_CU_WIDE_OUTS);
    uint32_t split = cluster_of(p->cu, phase->type, x * y, phase->cols);
    /* A cluster's blocks have to find room together; the head's tiles are many, and one's sums are finished while
     * another's weights come, unless the bus is what logits wait for. */
    bool beside = split > 1 || (phase->output == SPI_CU_OUTPUT_LOGITS && p->logits_stay);
    spi_cu_wide_room room = spi_cu_wide_room_for(phase->type, tile, phase->cols, split, beside);
    args.slots = room.slots;
    args.row_slots = room.row_slots;
    args.received_at = room.received_at;
    args.flight = flight_of(phase, tile);
    args.best = phase->output == SPI_CU_OUTPUT_LOGITS ? p->best : 0;
    args.clocks = clocks_of(p, output_names[phase->output]);
    void *arguments[] = {&args};
    return spi_cu_launch_cluster(p->cu, spi_cu_wide_kernel(phase->type, tile), x, y, split,
                                 SPI_CU_WIDE_THREADS(spi_cu_wide_tile_rows[tile]), room.bytes, arguments, p->error);
}

/* The card fetches boxes that may not lie over the edge of a part. */
static bool has_whole_boxes(const spi_cu_phase *phase) {
    bool whole = true;
    for (uint32_t i = 0; i + 1 < phase->part_count; i++) {
        whole = whole && phase->parts[i].rows % SPI_CU_WIDE_BOX == 0;
    }
    return whole || phase->output == SPI_CU_OUTPUT_GATE;
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

static spi_cu_kv kv_of(const spi_program *program, const spi_cu_phase *phase) {
    const spi_kv_shape *shape = &program->tape->kv;
    return (spi_cu_kv){.block_bytes = shape->block_bytes,
                       .layer_bytes = phase->layer_bytes,
                       .kv_heads = shape->kv_heads,
                       .head_dim = shape->head_dim};
}

static spi_cu_heads heads_of(const pass *p, const spi_cu_phase *phase, const spi_cu_kv *kv) {
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
    return heads;
}

static spi_cu_flash flash_of(const pass *p, uint32_t index, const spi_cu_kv *kv) {
    const spi_cu_phase *phase = &p->plan->phases.items[index];
    const spi_cu_phase *reader = spi_cu_wide_reader(&p->plan->phases, index, phase->out);
    return (spi_cu_flash){.q = p->plan->queries.address,
                          .out = p->plan->packed[0].address,
                          .rows = p->program->fetched.address,
                          .spans = p->program->fetched.address + p->program->spans_byte,
                          .kv = *kv,
                          .heads = phase->heads,
                          .window = phase->window,
                          .out_stride = spi_cu_stride(phase->heads * kv->head_dim),
                          .form_out = reader ? spi_cu_wide_form(reader->type) : 0,
                          .softcap = phase->softcap};
}

/* Blocks that share the contexts of a session and head: so many that each multiprocessor has one, and a warp some
 * keys. */
static uint32_t context_shares(const pass *p, uint32_t kv_heads) {
    uint32_t blocks = p->span_count * kv_heads, shares = 1;
    while (shares < SPI_CU_FEW_SHARES_MAX && blocks * shares * 2 <= (uint32_t)p->cu->card.multiprocessors &&
           p->context >= shares * 2 * SHARE_KEYS) {
        shares *= 2;
    }
    return shares;
}

static sp_status attend_few(pass *p, spi_cu_few *all, const spi_cu_heads_kernels *kernels) {
    const spi_cu_kv *kv = &all->flash.kv;
    /* Large blocks would wait for others to end: a multiprocessor has few at a time, beside those of the product
     * before. */
    bool many = p->span_count * kv->kv_heads > 2 * (uint32_t)p->cu->card.multiprocessors;
    uint32_t warps = many ? 4 : 8;
    /* Long contexts of few sessions want more on its way; else there is room for the next kernel's weights. */
    all->flash.stages = many || kv->head_dim > 64 || p->context < LONG_CONTEXT ? 1 : 2;
    all->clocks = clocks_of(p, "attention");
    void *arguments[] = {all};
    spi_cu_kernel kernel = many ? kernels->many : p->longest < START_ROWS ? kernels->few : kernels->start;
    return spi_cu_launch_cluster(p->cu, kernel, p->span_count, kv->kv_heads, context_shares(p, kv->kv_heads),
                                 warps * 32, SPI_CU_FEW_BYTES(kv->head_dim, all->flash.stages, warps), arguments,
                                 p->error);
}

static sp_status attend(pass *p, uint32_t index) {
    const spi_cu_phase *phase = &p->plan->phases.items[index];
    spi_cu_kv kv = kv_of(p->program, phase);
    spi_cu_few all = {.heads = heads_of(p, phase, &kv), .flash = flash_of(p, index, &kv)};
    spi_cu_heads_kernels kernels = spi_cu_wide_heads_kernels(&p->program->tape->kv);
    changed(p, phase->out);
    p->packed[0] = (contents){.source = phase->out, .form = all.flash.form_out};
    if (p->is_few) {
        return attend_few(p, &all, &kernels);
    }
    void *arguments[] = {&all.heads}, *flash_arguments[] = {&all.flash};
    sp_status status = spi_cu_launch(p->cu, kernels.place, spi_cu_ceil(phase->heads + 2 * kv.kv_heads, HEADS_A_BLOCK),
                                     p->rows, THREADS, arguments, p->error);
    return status ? status
                  : spi_cu_launch_cluster(p->cu, kernels.flash, p->span_count, kv.kv_heads, 1, THREADS,
                                          kernels.flash_bytes, flash_arguments, p->error);
}

/* Of f32 rows, or of packed ones, which are moved to the other buffer. */
static sp_status gather(pass *p, const spi_cu_phase *phase, uint32_t out_count) {
    uint32_t from_index = 0;
    while (from_index < 2 && (p->packed[from_index].source != phase->src || p->packed[from_index].norm)) {
        from_index++;
    }
    bool is_packed = from_index < 2;
    spi_cu_pointer outs = p->program->fetched.address + p->program->outs_byte;
    spi_cu_pointer from = is_packed ? p->plan->packed[from_index].address : phase->src;
    spi_cu_pointer to = is_packed ? p->plan->packed[from_index ^ 1].address : phase->out;
    uint32_t stride = spi_cu_stride(phase->cols) / (is_packed ? 2 : 1), columns = stride;
    changed(p, phase->out);
    if (is_packed) {
        p->packed[from_index ^ 1] = (contents){.source = phase->out, .form = p->packed[from_index].form};
        p->packed[from_index].source = 0;
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
                .is_few = is_few(program, run),
                .logits_stay = spi_cu_logits_stay(run),
                .best = spi_cu_picks(run) ? program->wide->best.address : 0,
                .error = error};
    for (uint32_t i = 0; i < run->segment_count; i++) {
        const spi_segment *segment = &run->segments[i];
        uint32_t context = segment->position_first + segment->row_count;
        all.context = context > all.context ? context : all.context;
        all.longest = segment->row_count > all.longest ? segment->row_count : all.longest;
    }
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
