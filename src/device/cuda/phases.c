/* device/cuda/phases.c - finding in a tape what the kernels that do more than an op can do: its phases.
 *
 * The tape is followed op by op, with a note for each buffer of what stands in it: numbers, or a norm that is only
 * computed when a product reads it. A tape with anything that does not fit is left to the kernels of single ops. With
 * one row, GATHER copies a buffer: the copy is another name for the same numbers.
 */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/cuda/cuda.h"

#define MAJOR_MIN 9 /* bulk copies, products of four warps */

typedef enum note_kind { NOTE_NUMBERS, NOTE_NORM } note_kind;

typedef struct note {
    note_kind kind;
    uint32_t same;   /* the buffer whose memory it is: itself, but behind GATHER */
    uint32_t source; /* NOTE_NORM: of this one */
    uint32_t weight; /* NOTE_NORM, and a norm over heads; else SPI_NONE */
    uint32_t turn;   /* an index of rotations, or SPI_NONE */
    float eps;
} note;

typedef struct matcher {
    const spi_program *program;
    const spi_tape *tape;
    spi_cu_phases *phases;
    bool many; /* rows: GATHER is a phase */
    note *notes;
    uint32_t index; /* of the op */
    bool no_memory;
} matcher;

static const spi_op *next(const matcher *m, uint32_t ahead) {
    return m->index + ahead < m->tape->op_count ? &m->tape->ops[m->index + ahead] : NULL;
}

static spi_cu_pointer at(const matcher *m, uint32_t buffer) {
    return m->program->scratch.address + m->program->buffer_bytes[m->notes[buffer].same];
}

static spi_cu_pointer vector(const matcher *m, uint32_t tensor) {
    return tensor == SPI_NONE ? 0 : m->program->store->matrices[tensor].data;
}

/* NULL: no memory. */
static spi_cu_phase *add_phase(matcher *m, spi_cu_phase_kind kind) {
    spi_cu_phases *phases = m->phases;
    size_t capacity = phases->capacity;
    if (!SPI_RESERVE(phases->items, phases->count, capacity)) {
        m->no_memory = true;
        return NULL;
    }
    phases->capacity = (uint32_t)capacity;
    spi_cu_phase *phase = &phases->items[phases->count++];
    memset(phase, 0, sizeof *phase);
    phase->kind = kind;
    return phase;
}

/* The buffer's numbers change: norms of it that were not computed are lost. */
static void changed(matcher *m, uint32_t buffer) {
    for (uint32_t i = 0; i < m->tape->buffer_count; i++) {
        note *other = &m->notes[i];
        if (other->kind == NOTE_NORM && other->source != SPI_NONE &&
            m->notes[other->source].same == m->notes[buffer].same) {
            other->source = SPI_NONE;
        }
    }
    m->notes[buffer].kind = NOTE_NUMBERS;
    m->notes[buffer].weight = m->notes[buffer].turn = SPI_NONE;
}

/* The buffer gets new numbers, in memory of its own. */
static void written(matcher *m, uint32_t buffer) {
    m->notes[buffer].same = buffer;
    changed(m, buffer);
}

/* Rows are padded to whole groups, but the input vector is read four columns at a time. */
static bool has_kernel(const spi_cu_matrix *matrix) {
    /* The kernel has no affine types: args.h. */
    return matrix->type != SP_F32 && !spi_affine_bits((sp_dtype)matrix->type) && matrix->cols % 4 == 0;
}

/* How a product finds its input; false if the note is none that it can use. */
static bool set_input(const matcher *m, spi_cu_phase *phase, uint32_t src) {
    const note *what = &m->notes[src];
    if (what->kind == NOTE_NUMBERS && what->weight == SPI_NONE && what->turn == SPI_NONE) {
        phase->input = SPI_CU_INPUT_PLAIN;
        phase->src = at(m, src);
        return true;
    }
    if (what->kind == NOTE_NORM && what->source != SPI_NONE) {
        phase->input = SPI_CU_INPUT_NORM;
        phase->src = at(m, what->source);
        phase->norm_weight = vector(m, what->weight);
        phase->eps = what->eps;
        phase->normed = 1;
        return true;
    }
    return false;
}

static void shape(spi_cu_phase *phase, const spi_cu_matrix *matrix) {
    phase->type = matrix->type;
    phase->cols = matrix->cols;
    phase->groups = matrix->groups;
    phase->stride = matrix->stride;
    memcpy(phase->plane_bytes, matrix->plane_bytes, sizeof phase->plane_bytes);
    phase->unit_rows = 1;
    phase->scale = 1;
}

static void add_part(const matcher *m, spi_cu_phase *phase, const spi_op *op) {
    const spi_cu_matrix *matrix = &m->program->store->matrices[op->weight];
    phase->parts[phase->part_count++] = (spi_cu_part){.data = matrix->data,
                                                      .bias = vector(m, op->bias),
                                                      .dst = op->dst == SPI_NONE ? 0 : at(m, op->dst),
                                                      .rows = matrix->rows,
                                                      .dst_stride = spi_cu_stride(matrix->rows)};
    phase->unit_count += matrix->rows;
}

static bool same_type(const matcher *m, const spi_op *a, const spi_op *b) {
    const spi_cu_matrix *matrices = m->program->store->matrices;
    return matrices[a->weight].type == matrices[b->weight].type;
}

/* gate(product, product): one phase whose units are a row of each. */
static bool match_gate(matcher *m) {
    const spi_op *first = next(m, 0), *second = next(m, 1), *gate = next(m, 2);
    if (!second || !gate || second->kind != SPI_OP_MATMUL || gate->kind != SPI_OP_GATE || first->accumulate ||
        second->accumulate || first->src != second->src || !same_type(m, first, second)) {
        return false;
    }
    bool straight = gate->src == first->dst && gate->src1 == second->dst;
    bool crossed = gate->src == second->dst && gate->src1 == first->dst;
    if ((!straight && !crossed) || first->dst == second->dst) {
        return false;
    }
    spi_cu_phase *phase = add_phase(m, SPI_CU_PHASE_PRODUCT);
    if (!phase) {
        return false;
    }
    shape(phase, &m->program->store->matrices[first->weight]);
    if (!set_input(m, phase, first->src)) {
        return false;
    }
    written(m, first->dst);
    written(m, second->dst);
    written(m, gate->dst);
    add_part(m, phase, straight ? first : second);
    add_part(m, phase, straight ? second : first);
    phase->parts[0].dst = at(m, gate->dst);
    phase->output = SPI_CU_OUTPUT_GATE;
    phase->silu = gate->act == SPI_ACT_SILU;
    phase->unit_rows = 2;
    phase->unit_count /= 2;
    m->index += 3;
    return true;
}

/* Products of the same input, those of one type in a phase. */
static bool match_products(matcher *m) {
    const spi_op *first = next(m, 0), *op = first, *last = NULL;
    spi_cu_phase *phase = NULL;
    for (; op && op->kind == SPI_OP_MATMUL && op->src == first->src && !op->accumulate; last = op, op = next(m, 0)) {
        const spi_cu_matrix *matrix = &m->program->store->matrices[op->weight];
        if (!has_kernel(matrix) || (last && spi_cu_is_quantised(matrix->type) != spi_cu_is_quantised(phase->type))) {
            return false;
        }
        if (!last || !same_type(m, last, op) || phase->part_count == SPI_CU_PARTS_MAX) {
            phase = add_phase(m, SPI_CU_PHASE_PRODUCT);
            if (!phase || !set_input(m, phase, op->src)) {
                return false;
            }
            shape(phase, matrix);
            phase->input = last ? SPI_CU_INPUT_SAME : phase->input;
            phase->output = SPI_CU_OUTPUT_STORE;
        }
        written(m, op->dst);
        add_part(m, phase, op);
        m->index++;
    }
    return last != NULL;
}

static bool match_matmul(matcher *m) {
    const spi_op *op = next(m, 0);
    const spi_cu_matrix *matrix = &m->program->store->matrices[op->weight];
    if (!has_kernel(matrix)) {
        return false;
    }
    if (!op->accumulate) {
        const spi_op *second = next(m, 1), *gate = next(m, 2);
        bool gated = second && gate && second->kind == SPI_OP_MATMUL && gate->kind == SPI_OP_GATE;
        return gated ? match_gate(m) : match_products(m);
    }
    spi_cu_phase *phase = add_phase(m, SPI_CU_PHASE_PRODUCT);
    if (!phase || !set_input(m, phase, op->src) || m->notes[op->dst].kind != NOTE_NUMBERS) {
        return false;
    }
    shape(phase, matrix);
    add_part(m, phase, op);
    phase->output = SPI_CU_OUTPUT_ADD;
    changed(m, op->dst);
    m->index++;
    return true;
}

static bool match_head(matcher *m) {
    const spi_op *op = next(m, 0);
    const spi_cu_matrix *matrix = &m->program->store->matrices[op->weight];
    spi_cu_phase *phase = has_kernel(matrix) ? add_phase(m, SPI_CU_PHASE_PRODUCT) : NULL;
    if (!phase || !set_input(m, phase, op->src)) {
        return false;
    }
    shape(phase, matrix);
    add_part(m, phase, op);
    phase->output = SPI_CU_OUTPUT_LOGITS;
    phase->scale = op->scale;
    phase->softcap = op->softcap;
    m->index++;
    return m->index == m->tape->op_count;
}

/* The buffer's next reader is a product: where a row is one head, that tells the norm of a row from that of heads. */
static bool is_for_product(const matcher *m, uint32_t buffer) {
    for (uint32_t ahead = 1; next(m, ahead); ahead++) {
        const spi_op *op = next(m, ahead);
        if (op->src == buffer || op->src1 == buffer || op->dst == buffer) {
            return op->kind == SPI_OP_MATMUL || op->kind == SPI_OP_HEAD;
        }
    }
    return false;
}

/* Over a whole row: computed when it is read. Over heads: by attention. */
static bool match_norm(matcher *m) {
    const spi_op *op = next(m, 0);
    note *from = &m->notes[op->src];
    if (from->kind != NOTE_NUMBERS || from->weight != SPI_NONE || from->turn != SPI_NONE) {
        return false;
    }
    uint32_t source = from->same; /* of a copy, the original */
    bool whole = op->group == m->tape->buffers[op->dst].width;
    if (op->dst == source && whole && is_for_product(m, op->dst)) { /* the numbers stay as they are */
        *from = (note){.kind = NOTE_NORM,
                       .same = source,
                       .source = source,
                       .weight = op->weight,
                       .turn = SPI_NONE,
                       .eps = op->eps};
        m->index++;
        return true;
    }
    if (op->dst == source) {
        from->weight = op->weight;
        from->eps = op->eps;
        m->index++;
        return op->group == m->tape->kv.head_dim;
    }
    written(m, op->dst);
    m->notes[op->dst] = (note){
        .kind = NOTE_NORM, .same = op->dst, .source = source, .weight = op->weight, .turn = SPI_NONE, .eps = op->eps};
    m->index++;
    return whole;
}

static bool match_rope(matcher *m) {
    const spi_op *op = next(m, 0);
    note *on = &m->notes[op->dst];
    if (on->kind != NOTE_NUMBERS || on->turn != SPI_NONE ||
        m->tape->buffers[op->dst].width != op->heads * m->tape->kv.head_dim) {
        return false;
    }
    on->turn = m->index;
    m->index++;
    return true;
}

/* The phase's index of a rotation. */
static bool set_turn(matcher *m, spi_cu_phase *phase, uint32_t op_index) {
    spi_cu_phases *phases = m->phases;
    if (op_index == SPI_NONE) {
        return true;
    }
    uint32_t rotation = m->program->rotations.of_op[op_index], i = 0;
    while (i < phases->turn_count && phases->turn_rotations[i] != rotation) {
        i++;
    }
    if (i == SPI_CU_TURNS_MAX || m->program->rotations.items[rotation].pairs > SPI_CU_PAIRS_MAX) {
        return false;
    }
    phases->turn_rotations[i] = rotation;
    phases->turn_count = i == phases->turn_count ? i + 1 : phases->turn_count;
    phase->turn = i;
    phase->pairs = m->program->rotations.items[rotation].pairs;
    phase->halves = m->tape->ops[op_index].rope_pairs == SPI_ROPE_HALVES;
    return true;
}

static bool same_rotation(const matcher *m, uint32_t a, uint32_t b) {
    if (a == SPI_NONE || b == SPI_NONE) {
        return a == b;
    }
    return m->program->rotations.of_op[a] == m->program->rotations.of_op[b] &&
           m->tape->ops[a].rope_pairs == m->tape->ops[b].rope_pairs;
}

/* KV_STORE and ATTENTION, with the norms and rotations of heads noted before. */
static bool match_attention(matcher *m) {
    const spi_op *store = next(m, 0), *op = next(m, 1);
    const spi_kv_shape *kv = &m->tape->kv;
    if (!op || op->kind != SPI_OP_ATTENTION || op->layer != store->layer) {
        return false;
    }
    const note *q = &m->notes[op->src], *k = &m->notes[store->src], *v = &m->notes[store->src1];
    if (q->kind != NOTE_NUMBERS || k->kind != NOTE_NUMBERS || v->kind != NOTE_NUMBERS || v->weight != SPI_NONE ||
        v->turn != SPI_NONE || !same_rotation(m, q->turn, k->turn)) {
        return false;
    }
    spi_cu_phase *phase = add_phase(m, SPI_CU_PHASE_ATTENTION);
    if (!phase || !set_turn(m, phase, q->turn)) {
        return false;
    }
    phase->src = at(m, op->src);
    phase->k = at(m, store->src);
    phase->v = at(m, store->src1);
    phase->q_norm = vector(m, q->weight);
    phase->k_norm = vector(m, k->weight);
    phase->eps = q->eps;
    phase->k_eps = k->eps;
    phase->heads = op->heads;
    phase->window = op->window;
    phase->scale = op->scale;
    phase->softcap = op->softcap;
    phase->layer_bytes = (uint64_t)op->layer * 2 * kv->kv_heads * spi_kv_head_bytes(kv);
    m->phases->heads_max = op->heads > m->phases->heads_max ? op->heads : m->phases->heads_max;
    written(m, op->dst);
    phase->out = at(m, op->dst);
    m->index += 2;
    return true;
}

static bool match_gather(matcher *m) {
    const spi_op *op = next(m, 0);
    if (!m->phases->hidden_count) {
        m->phases->hidden_count = m->phases->count;
    }
    if (m->many) {
        const note *what = &m->notes[op->src];
        spi_cu_phase *phase = add_phase(m, SPI_CU_PHASE_GATHER);
        if (!phase || what->kind != NOTE_NUMBERS || what->weight != SPI_NONE || what->turn != SPI_NONE) {
            return false;
        }
        phase->src = at(m, op->src);
        written(m, op->dst);
        phase->out = at(m, op->dst);
        phase->cols = m->tape->buffers[op->dst].width;
    } else {
        m->notes[op->dst] = m->notes[op->src];
    }
    m->index++;
    return true;
}

static bool match_embed(matcher *m) {
    const spi_op *op = next(m, 0);
    if (!op || op->kind != SPI_OP_EMBED || spi_affine_bits((sp_dtype)m->program->store->matrices[op->weight].type)) {
        return false;
    }
    m->phases->embedding = m->program->store->matrices[op->weight];
    m->phases->embedding_scale = op->scale;
    m->phases->x = at(m, op->dst);
    m->index++;
    return true;
}

static bool match_op(matcher *m) {
    switch (next(m, 0)->kind) {
    case SPI_OP_NORM: return match_norm(m);
    case SPI_OP_MATMUL: return match_matmul(m);
    case SPI_OP_ROPE: return match_rope(m);
    case SPI_OP_KV_STORE: return match_attention(m);
    case SPI_OP_GATHER: return match_gather(m);
    case SPI_OP_HEAD: return match_head(m);
    case SPI_OP_EMBED:
    case SPI_OP_ATTENTION:
    case SPI_OP_GATE:
    case SPI_OP_ADD:
    case SPI_OP_KIND_COUNT: break;
    }
    return false;
}

/* True: the whole tape is made of phases. */
static bool match(matcher *m) {
    for (uint32_t i = 0; i < m->tape->buffer_count; i++) {
        m->notes[i] = (note){.same = i, .source = SPI_NONE, .weight = SPI_NONE, .turn = SPI_NONE};
    }
    if (!match_embed(m)) {
        return false;
    }
    bool good = true;
    while (good && m->index < m->tape->op_count) {
        good = match_op(m);
    }
    return good && m->phases->count && m->phases->items[m->phases->count - 1].output == SPI_CU_OUTPUT_LOGITS;
}

sp_status spi_cu_phases_find(const spi_cu *cu, const spi_program *program, bool many, spi_cu_phases *phases,
                             bool *found, sp_error *error) {
    uint32_t dim = program->tape->kv.head_dim;
    memset(phases, 0, sizeof *phases);
    *found = false;
    if (cu->card.major < MAJOR_MIN || cu->choices.op_by_op || (dim != 64 && dim != 128 && dim != 256)) {
        return SP_OK;
    }
    matcher m = {.program = program, .tape = program->tape, .phases = phases, .many = many};
    m.notes = spi_alloc(program->tape->buffer_count, sizeof *m.notes);
    *found = m.notes && match(&m);
    bool no_memory = !m.notes || m.no_memory;
    spi_free(m.notes);
    return no_memory ? spi_fail(error, SP_NO_MEMORY, "cuda: no memory to prepare a tape") : SP_OK;
}

void spi_cu_phases_free(spi_cu_phases *phases) {
    spi_free(phases->items);
    memset(phases, 0, sizeof *phases);
}
