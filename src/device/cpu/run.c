/* device/cpu/run.c - executing a prepared tape: one job for all threads, whose phases are the program's.
 *
 * A phase of little work is one item, which the thread that ended the phase before does at once: meeting would take
 * longer. Of the others each thread has its share of every step, in parts that others can take over. Every value is
 * computed by one thread in an order that does not depend on how many threads there are, so results are the same bits
 * for any number of them. May include: device, region, dtype, os, base.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "device/cpu/cpu.h"

/* Elementwise work is shared out in pieces of so many columns: a multiple of every type's block. */
#define PIECE_COLUMNS 256u
/* Elements of a phase that one thread computes alone: a microsecond or two. */
#define LIGHT_ELEMENTS 8192u
/* Parts of a thread's share of an elementwise step. */
#define SHARE_PARTS 4u
/* Rows of activations that are turned into a form together, if there are enough for all threads: what they become lies
 * together, line by line. */
#define FORM_ROWS 8u
/* Of the next products' weights, what a thread asks for while it waits for others: so much in a turn, and in all. The
 * second-level cache has room for it, and memory works on meanwhile. */
#define AHEAD_TURN_BYTES 4096u
#define AHEAD_BYTES      ((size_t)128 << 10)
#define AHEAD_ROWS_MAX   64u /* of runs that wait for memory */

/* A part of a step's work. */
typedef struct step_share {
    spi_program *program;
    const spi_step *step;
    const spi_op *op;
    uint32_t rows, part, part_count, thread;
} step_share;

/* 0: nothing to do in this run. */
static uint32_t rows_of(const spi_program *program, const spi_step *step) {
    bool nothing = step->kind == SPI_STEP_PREPARE && (step->within || !spi_cpu_in_form(program, step));
    nothing |= step->joint && step->joint != step && spi_cpu_product_joins(program, step);
    return nothing ? 0 : spi_cpu_rows(program, step);
}

static uint32_t width(const step_share *share, uint32_t buffer) {
    return share->program->tape->buffers[buffer].width;
}

static float *row_of(const step_share *share, uint32_t buffer, uint32_t row) {
    return share->program->buffers[buffer] + (size_t)row * width(share, buffer);
}

static void items(const step_share *share, uint64_t count, uint64_t *first, uint64_t *end) {
    spi_pool_share(count, 1, share->part, share->part_count, first, end);
}

static void embed(const step_share *share, uint32_t row, uint32_t column, uint32_t count) {
    const spi_op *op = share->op;
    const spi_tensor *tensor = &share->program->store->tensors[op->weight];
    uint32_t token = (uint32_t)share->program->run->tokens[row];
    assert(token < tensor->rows);
    float *dst = row_of(share, op->dst, row) + column;
    spi_tensor_values(tensor, token, column, count, dst);
    if (op->scale != 1) {
        share->program->cpu->kernels->cap(dst, count, op->scale, 0);
    }
}

/* The step's piece of one row: columns [column, column + count) of dst. */
static void piece(const step_share *share, uint32_t row, uint32_t column, uint32_t count) {
    const spi_op *op = share->op;
    const spi_cpu_kernels *kernels = share->program->cpu->kernels;
    if (op->kind == SPI_OP_EMBED) {
        embed(share, row, column, count);
        return;
    }
    uint32_t from = op->kind == SPI_OP_GATHER ? share->program->gathered[row] : row;
    float *dst = row_of(share, op->dst, row) + column;
    const float *src = row_of(share, op->src, from) + column;
    if (op->kind == SPI_OP_GATE) {
        kernels->gate(dst, src, row_of(share, op->src1, row) + column, count, op->act);
    } else if (op->kind == SPI_OP_ADD) {
        kernels->add_scaled(dst, src, count, op->scale);
    } else {
        memcpy(dst, src, count * sizeof *dst);
    }
}

/* The share's patches, all of the buffer's columns cut into pieces; `work` does one. */
static void patches(const step_share *share, uint32_t buffer, uint32_t piece_columns,
                    void (*work)(const step_share *share, const spi_cpu_patch *of)) {
    uint32_t columns = width(share, buffer), pieces = (columns - 1) / piece_columns + 1;
    uint64_t unit = (uint64_t)share->rows * pieces / share->part_count, first, end;
    unit = unit < 1 ? 1 : unit > FORM_ROWS ? FORM_ROWS : unit;
    while (SPI_BF16_UNIT % unit) {
        unit--;
    }
    items(share, (share->rows + unit - 1) / unit * pieces, &first, &end);
    for (uint64_t i = first; i < end; i++) {
        uint32_t column = (uint32_t)(i % pieces) * piece_columns, row = (uint32_t)(i / pieces * unit);
        work(share, &(spi_cpu_patch){.row_first = row,
                                     .row_end = share->rows - row < unit ? share->rows : row + (uint32_t)unit,
                                     .first = column,
                                     .end = columns - column < piece_columns ? columns : column + piece_columns});
    }
}

static void prepare_patch(const step_share *share, const spi_cpu_patch *of) {
    spi_cpu_make_form(share->program, share->step, of);
}

static void pieces_patch(const step_share *share, const spi_cpu_patch *of) {
    for (uint32_t row = of->row_first; row < of->row_end; row++) {
        piece(share, row, of->first, of->end - of->first);
    }
    spi_cpu_make_forms(share->program, share->step, of);
}

/* A group, or, since forms take 32 columns together, the whole row. */
static uint32_t norm_columns(const step_share *share) {
    return spi_cpu_makes_forms(share->program, share->step) ? width(share, share->op->dst) : share->op->group;
}

/* What is read as forms alone is not written to the buffer, but to the thread's scratch. */
static void norm_patch(const step_share *share, const spi_cpu_patch *of) {
    spi_program *program = share->program;
    const spi_op *op = share->op;
    const float *weight = program->store->tensors[op->weight].data;
    spi_cpu_patch made = *of;
    float *to = row_of(share, op->dst, of->row_first) + of->first;
    size_t stride = width(share, op->dst), bytes = (of->row_end - of->row_first) * stride * sizeof *to;
    if (spi_cpu_only_forms(program, share->step) && bytes <= program->scratch_bytes) {
        to = (float *)(void *)(program->scratch + share->thread * program->scratch_bytes);
        made.values = to;
        made.stride = stride;
    }
    for (uint32_t row = of->row_first; row < of->row_end; row++, to += stride) {
        for (uint32_t column = of->first; column < of->end; column += op->group) {
            program->cpu->kernels->norm(to + (column - of->first), row_of(share, op->src, row) + column, weight,
                                        op->group, op->eps);
        }
    }
    spi_cpu_make_forms(program, share->step, &made);
}

static void rope(const step_share *share) {
    const spi_op *op = share->op;
    const spi_angles *angles = &share->program->angles[share->step->angles];
    uint32_t head_dim = width(share, op->dst) / op->heads;
    uint64_t first, end;
    items(share, (uint64_t)share->rows * op->heads, &first, &end);
    for (uint64_t i = first; i < end; i++) {
        uint32_t row = (uint32_t)(i / op->heads), head = (uint32_t)(i % op->heads);
        size_t at = (size_t)row * angles->pairs;
        share->program->cpu->kernels->rotate(row_of(share, op->dst, row) + (size_t)head * head_dim,
                                             angles->cosines + at, angles->sines + at, angles->pairs, op->rope_pairs);
    }
}

static void store_row(const spi_cpu_kernels *kernels, const spi_kv_shape *kv, uint8_t *blocks, uint64_t row,
                      uint64_t scales, const float *from) {
    if (spi_kv_is_q8(kv)) {
        spi_kv_encode_q8(from, kv->head_dim, (int8_t *)(blocks + row), (uint16_t *)(void *)(blocks + scales));
    } else {
        kernels->to_f16((uint16_t *)(void *)(blocks + row), from, kv->head_dim);
    }
}

static void kv_store(const step_share *share) {
    const spi_op *op = share->op;
    const spi_kv_shape *kv = &share->program->tape->kv;
    uint64_t first, end;
    items(share, (uint64_t)share->rows * kv->kv_heads, &first, &end);
    for (uint64_t i = first; i < end; i++) {
        uint32_t row = (uint32_t)(i / kv->kv_heads), head = (uint32_t)(i % kv->kv_heads);
        const spi_cpu_row *place = &share->program->rows[row];
        for (uint32_t which = 0; which < 2; which++) {
            store_row(share->program->cpu->kernels, kv, place->blocks,
                      spi_kv_row_offset(kv, op->layer, which, head, place->position),
                      spi_kv_scale_offset(kv, op->layer, which, head, place->position),
                      row_of(share, which ? op->src1 : op->src, row) + (size_t)head * kv->head_dim);
        }
    }
}

/* In double: at position 100,000 an angle in f32 is off by 0.004. */
static void fill_angles(const step_share *share) {
    const spi_program *program = share->program;
    uint64_t first, end;
    items(share, share->rows, &first, &end);
    for (uint32_t a = 0; a < program->angles_count; a++) {
        const spi_angles *angles = &program->angles[a];
        for (uint64_t row = first; row < end; row++) {
            for (uint32_t i = 0; i < angles->pairs; i++) {
                double angle = program->rows[row].position * angles->frequencies[i], scale = angles->op->scale;
                angles->cosines[row * angles->pairs + i] = (float)(scale * cos(angle));
                angles->sines[row * angles->pairs + i] = (float)(scale * sin(angle));
            }
        }
    }
}

static void execute(const step_share *share) {
    if (share->step->kind == SPI_STEP_ANGLES) {
        fill_angles(share);
        return;
    }
    if (share->step->kind == SPI_STEP_PREPARE) {
        patches(share, share->step->buffer, PIECE_COLUMNS, prepare_patch);
        return;
    }
    switch (share->op->kind) {
    case SPI_OP_EMBED:
    case SPI_OP_GATE:
    case SPI_OP_ADD:
    case SPI_OP_GATHER: patches(share, share->op->dst, PIECE_COLUMNS, pieces_patch); break;
    case SPI_OP_NORM: patches(share, share->op->dst, norm_columns(share), norm_patch); break;
    case SPI_OP_ROPE: rope(share); break;
    case SPI_OP_KV_STORE: kv_store(share); break;
    case SPI_OP_ATTENTION: break; /* by its own items */
    case SPI_OP_MATMUL:
    case SPI_OP_HEAD:
        spi_cpu_product_share(share->program, share->step, share->rows, share->part, share->part_count, share->thread);
        break;
    case SPI_OP_KIND_COUNT: break;
    }
}

/* ---- phases and items ---- */

static bool is_product(const spi_step *step) {
    return step->kind == SPI_STEP_OP && (step->op->kind == SPI_OP_MATMUL || step->op->kind == SPI_OP_HEAD);
}

static bool is_attention(const spi_step *step) {
    return step->kind == SPI_STEP_OP && step->op->kind == SPI_OP_ATTENTION;
}

/* Elements that an elementwise step writes, by the width that is nearest to its work. */
static uint64_t elements_of(const spi_program *program, const spi_step *step) {
    const spi_op *op = step->op;
    uint32_t buffer = step->kind == SPI_STEP_PREPARE ? step->buffer : op->dst == SPI_NONE ? op->src : op->dst;
    if (step->kind == SPI_STEP_ANGLES) {
        return (uint64_t)rows_of(program, step) * op->rope_dims * 16; /* a cosine and a sine in double */
    }
    return (uint64_t)rows_of(program, step) * program->tape->buffers[buffer].width;
}

static bool is_light(const spi_program *program, uint32_t phase) {
    uint64_t elements = 0;
    for (uint32_t i = program->phase_first[phase]; i < program->phase_first[phase + 1]; i++) {
        const spi_step *step = &program->steps[i];
        if (rows_of(program, step) && (is_product(step) || is_attention(step))) {
            return false;
        }
        elements += rows_of(program, step) ? elements_of(program, step) : 0;
    }
    return elements <= LIGHT_ELEMENTS;
}

/* The owner's items of a step that is not done by one thread alone. */
static uint32_t step_items(const spi_program *program, const spi_step *step, uint32_t owner, uint32_t owner_count) {
    if (!rows_of(program, step)) {
        return 0;
    }
    if (is_attention(step)) {
        return spi_cpu_attention_items(program, step, owner, owner_count);
    }
    return is_product(step) ? spi_cpu_product_parts(program, step, rows_of(program, step), owner_count) : SHARE_PARTS;
}

static uint32_t phase_items(void *env, uint32_t phase, uint32_t owner, uint32_t owner_count) {
    const spi_program *program = env;
    if (is_light(program, phase)) {
        return owner == 0;
    }
    uint32_t count = 0;
    for (uint32_t i = program->phase_first[phase]; i < program->phase_first[phase + 1]; i++) {
        count += step_items(program, &program->steps[i], owner, owner_count);
    }
    return count;
}

static void phase_work(void *env, uint32_t phase, uint32_t owner, uint32_t owner_count, uint32_t item,
                       uint32_t thread) {
    spi_program *program = env;
    bool light = is_light(program, phase);
    for (uint32_t i = program->phase_first[phase]; i < program->phase_first[phase + 1]; i++) {
        const spi_step *step = &program->steps[i];
        uint32_t count = light ? 1 : step_items(program, step, owner, owner_count);
        if (item < count) {
            step_share share = {.program = program,
                                .step = step,
                                .op = step->op,
                                .rows = rows_of(program, step),
                                .part = light ? 0 : owner * count + item,
                                .part_count = light ? 1 : owner_count * count,
                                .thread = thread};
            if (share.rows && !light && is_attention(step)) {
                spi_cpu_attention_item(program, step, owner, owner_count, item, thread);
            } else if (share.rows) {
                execute(&share);
            }
            if (!light) {
                return;
            }
        }
        item -= light ? 0 : count;
    }
}

/* Asks for a piece of the weights that the thread will read first in the next products; false: there are no more. */
static bool ask_ahead(void *env, uint32_t phase, uint32_t owner, uint32_t owner_count, uint32_t turn) {
    const spi_program *program = env;
    size_t at = (size_t)turn * AHEAD_TURN_BYTES;
    bool products = false;
    if (program->run->row_count > AHEAD_ROWS_MAX || at >= AHEAD_BYTES) {
        return false;
    }
    for (phase++; phase < program->phase_count && !products; phase++) {
        for (uint32_t i = program->phase_first[phase]; i < program->phase_first[phase + 1]; i++) {
            const spi_step *step = &program->steps[i];
            if (!is_product(step) || !rows_of(program, step)) {
                continue;
            }
            const uint8_t *weights;
            size_t bytes = spi_cpu_product_weights(program, step->op, owner, owner_count, &weights);
            for (size_t line = at; line < bytes && line < at + AHEAD_TURN_BYTES; line += SPI_CPU_CACHE_LINE_BYTES) {
                __builtin_prefetch(weights + line, 0, 2);
            }
            if (at < bytes) {
                return true;
            }
            at -= (bytes + AHEAD_TURN_BYTES - 1) / AHEAD_TURN_BYTES * AHEAD_TURN_BYTES;
            products = true;
        }
    }
    return false;
}

/* Several tokens of a session that all want logits are most likely proposals to be verified (session/lookup.c): what is
 * picked from them must be what single tokens would give. */
#define VERIFIED_ROWS_MAX 64u
static bool verifies(const spi_run *run) {
    for (uint32_t s = 0; s < run->segment_count; s++) {
        const spi_segment *segment = &run->segments[s];
        if (segment->row_count > 1 && segment->row_count <= VERIFIED_ROWS_MAX &&
            segment->out_count == segment->row_count) {
            return true;
        }
    }
    return false;
}

/* Where each row and each output of the run belongs. */
static void place_rows(spi_program *program, const spi_run *run) {
    for (uint32_t s = 0; s < run->segment_count; s++) {
        const spi_segment *segment = &run->segments[s];
        uint8_t *base = sp_region_base(segment->link->region);
        for (uint32_t i = 0; i < segment->row_count; i++) {
            program->rows[segment->row_first + i] = (spi_cpu_row){
                .blocks = base + segment->kv_offset, .segment = s, .position = segment->position_first + i};
        }
        for (uint32_t i = 0; i < segment->out_count; i++) {
            program->gathered[segment->out_first + i] =
                segment->row_first + segment->row_count - segment->out_count + i;
            program->logits[segment->out_first + i] =
                (float *)(void *)(base + segment->logits_offset) + (size_t)i * program->tape->vocab;
        }
    }
}

sp_status spi_cpu_run(void *context, spi_program *program, const spi_run *run, sp_error *error) {
    (void)error;
    spi_cpu *cpu = context;
    assert(run->row_count && run->row_count <= program->tape->rows_max && run->out_count <= run->row_count);
    program->run = run;
    program->alone = verifies(run);
    place_rows(program, run);
    spi_cpu_attention_plan(program);
    spi_pool_run(cpu->pool, &(spi_pool_job){.env = program,
                                            .phase_count = program->phase_count,
                                            .items = phase_items,
                                            .work = phase_work,
                                            .wait = ask_ahead});
    program->run = NULL;
    cpu->runs++;
    return SP_OK;
}
