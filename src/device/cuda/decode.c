/* device/cuda/decode.c - finding the phases of a token in a tape, and running them (kernels/decode.cu).
 *
 * The tape is followed op by op, with a note for each buffer of what stands in it: numbers, a norm that is only computed
 * when a product reads it, or attention's unfinished runs. A tape with anything that does not fit is left to the kernels
 * of single ops. With one row, GATHER copies a buffer: the copy is another name for the same numbers.
 */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/cuda/cuda.h"

#define MAJOR_MIN           9     /* bulk copies */
#define SHARED_STATIC_BYTES 8192u /* of the kernel itself, and the system's own */
#define FLOAT_STAGE_BYTES   16384u
#define QUANT_STAGE_BYTES   9216u
#define FLIGHT_BYTES        32768u /* of a multiprocessor's weights on their way at once: more delays all other loads */
#define STAGES_MAX          32u
#define GROUPS              (SPI_CU_DECODE_WARPS / 4)

typedef enum note_kind { NOTE_NUMBERS, NOTE_NORM, NOTE_ATTENDED } note_kind;

typedef struct note {
    note_kind kind;
    uint32_t same;   /* the buffer whose memory it is: itself, but behind GATHER */
    uint32_t source; /* NOTE_NORM: of this one */
    uint32_t weight; /* NOTE_NORM, and a norm over heads; else SPI_NONE */
    uint32_t turn;   /* an index of rotations, or SPI_NONE */
    float eps;
} note;

typedef struct matcher {
    spi_cu *cu;
    const spi_program *program;
    const spi_tape *tape;
    spi_cu_decode *decode;
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
    spi_cu_decode *decode = m->decode;
    size_t capacity = decode->phase_capacity;
    if (!SPI_RESERVE(decode->phases, decode->phase_count, capacity)) {
        m->no_memory = true;
        return NULL;
    }
    decode->phase_capacity = (uint32_t)capacity;
    spi_cu_phase *phase = &decode->phases[decode->phase_count++];
    memset(phase, 0, sizeof *phase);
    phase->kind = kind;
    phase->barrier = 1;
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

/* The kernel multiplies the other types, too, but was not held against the kernels of single ops with them on a card
 * yet: until then they are left to those. */
static bool has_kernel(const spi_cu_matrix *matrix) {
    bool compared =
        matrix->type == SP_BF16 || matrix->type == SP_F16 || matrix->type == SP_Q8_0 || matrix->type == SP_Q4_0;
    return compared && matrix->cols % 4 == 0;
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
    phase->input = SPI_CU_INPUT_ATTENDED;
    return what->kind == NOTE_ATTENDED;
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
                                                      .rows = matrix->rows};
    phase->unit_count += matrix->rows;
}

static bool same_type(const matcher *m, const spi_op *a, const spi_op *b) {
    const spi_cu_matrix *matrices = m->program->store->matrices;
    return matrices[a->weight].type == matrices[b->weight].type;
}

static bool quantised(uint32_t type) {
    return sp_dtype_block_elements((sp_dtype)type) > 1;
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
        if (!has_kernel(matrix) || (last && quantised(matrix->type) != quantised(phase->type))) {
            return false;
        }
        if (!last || !same_type(m, last, op) || phase->part_count == SPI_CU_PARTS_MAX) {
            if (last) {
                phase->barrier = 0;
            }
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
    phase->barrier = 0;
    m->index++;
    return m->index == m->tape->op_count;
}

/* Over a whole row: computed when it is read. Over heads: by attention. */
static bool match_norm(matcher *m) {
    const spi_op *op = next(m, 0);
    note *from = &m->notes[op->src];
    if (from->kind != NOTE_NUMBERS || from->weight != SPI_NONE || from->turn != SPI_NONE) {
        return false;
    }
    uint32_t source = from->same; /* of a copy, the original */
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
    return op->group == m->tape->buffers[op->dst].width;
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
    spi_cu_decode *decode = m->decode;
    if (op_index == SPI_NONE) {
        return true;
    }
    uint32_t rotation = m->program->op_rotations[op_index], i = 0;
    while (i < decode->turn_count && decode->turn_rotations[i] != rotation) {
        i++;
    }
    if (i == SPI_CU_TURNS_MAX || m->program->rotations[rotation].pairs > SPI_CU_PAIRS_MAX) {
        return false;
    }
    decode->turn_rotations[i] = rotation;
    decode->turn_count = i == decode->turn_count ? i + 1 : decode->turn_count;
    phase->turn = i;
    phase->pairs = m->program->rotations[rotation].pairs;
    phase->halves = m->tape->ops[op_index].rope_pairs == SPI_ROPE_HALVES;
    return true;
}

static bool same_rotation(const matcher *m, uint32_t a, uint32_t b) {
    if (a == SPI_NONE || b == SPI_NONE) {
        return a == b;
    }
    return m->program->op_rotations[a] == m->program->op_rotations[b] &&
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
    phase->layer_bytes = (uint64_t)op->layer * 2 * kv->kv_heads * SPI_BLOCK_TOKENS * kv->head_dim * 2;
    m->decode->heads_max = op->heads > m->decode->heads_max ? op->heads : m->decode->heads_max;
    written(m, op->dst);
    m->notes[op->dst].kind = NOTE_ATTENDED;
    m->index += 2;
    return true;
}

static bool match_gather(matcher *m) {
    const spi_op *op = next(m, 0);
    if (!m->decode->hidden_count) {
        m->decode->hidden_count = m->decode->phase_count;
    }
    m->notes[op->dst] = m->notes[op->src];
    m->index++;
    return true;
}

static bool match_embed(matcher *m) {
    const spi_op *op = next(m, 0);
    /* The kernel has no affine types: args.h. */
    if (!op || op->kind != SPI_OP_EMBED || spi_affine_bits((sp_dtype)m->program->store->matrices[op->weight].type)) {
        return false;
    }
    m->decode->token.embedding = m->program->store->matrices[op->weight];
    m->decode->token.embedding_scale = op->scale;
    m->decode->token.x = (float *)(uintptr_t)at(m, op->dst);
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
    return good && m->decode->phase_count &&
           m->decode->phases[m->decode->phase_count - 1].output == SPI_CU_OUTPUT_LOGITS;
}

static uint32_t most(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* Bytes of shared memory for a phase's vector, or for attention's queries and sums. */
static uint32_t vector_bytes(const spi_cu_phase *phase, const spi_kv_shape *kv) {
    if (phase->kind == SPI_CU_PHASE_ATTENTION) {
        uint32_t group = phase->heads / kv->kv_heads;
        return ((group + 2) * kv->head_dim + SPI_CU_DECODE_WARPS * (kv->head_dim + 4)) * 4;
    }
    uint32_t cols = phase->groups * 32;
    return quantised(phase->type) ? 2 * (cols / 32 + 4) * 16 + cols / 32 * 12 : 2 * (cols / 8 + 4) * 16;
}

/* The ring's shape, and how the phases use it. False: a row does not fit. */
static bool shape_ring(const matcher *m) {
    spi_cu_decode *decode = m->decode;
    spi_cu_token *token = &decode->token;
    uint32_t stage = 0, unit = 0, vector = 0;
    bool fits = true;
    for (uint32_t i = 0; i < decode->phase_count; i++) {
        const spi_cu_phase *phase = &decode->phases[i];
        vector = most(vector, vector_bytes(phase, &m->tape->kv));
        if (phase->kind == SPI_CU_PHASE_PRODUCT) {
            unit = most(unit, phase->unit_rows * phase->stride);
            stage = most(stage, quantised(phase->type) ? QUANT_STAGE_BYTES : FLOAT_STAGE_BYTES);
        }
    }
    stage = (most(stage, unit) + 127) / 128 * 128;
    token->vector_bytes = (vector + 127) / 128 * 128;
    uint32_t room = (uint32_t)m->cu->card.shared_bytes - SHARED_STATIC_BYTES;
    uint32_t count = token->vector_bytes < room ? (room - token->vector_bytes) / stage : 0;
    token->stage_bytes = stage;
    token->stage_count = least(count, STAGES_MAX) / GROUPS * GROUPS;
    uint32_t ahead = m->cu->choices.stages_ahead ? m->cu->choices.stages_ahead : most(2, FLIGHT_BYTES / stage);
    token->stages_ahead = least(ahead, token->stage_count);
    for (uint32_t i = 0; i < decode->phase_count; i++) {
        spi_cu_phase *phase = &decode->phases[i];
        if (phase->kind == SPI_CU_PHASE_PRODUCT) {
            uint32_t chunk = phase->type == SP_Q8_0 ? 16 : quantised(phase->type) ? 32 : 8;
            uint32_t chunks = phase->groups * 32 / chunk;
            fits = fits && phase->unit_count <= UINT32_MAX / ((uint32_t)m->cu->card.multiprocessors + 1);
            phase->column_split = chunks >= 128 ? 4 : chunks >= 64 ? 2 : 1;
            phase->tile_units =
                least(stage / (phase->unit_rows * phase->stride), SPI_CU_TILE_ROWS_MAX / phase->unit_rows);
        }
    }
    return token->stage_count >= GROUPS && fits;
}

static uint64_t round_up(uint64_t bytes) {
    return (bytes + 255) / 256 * 256;
}

/* Phases, attention's runs and the barrier, on the card. */
static sp_status upload(matcher *m, sp_error *error) {
    spi_cu *cu = m->cu;
    spi_cu_decode *decode = m->decode;
    const spi_kv_shape *kv = &m->tape->kv;
    uint64_t phase_bytes = decode->phase_count * sizeof *decode->phases;
    uint64_t attended = (uint64_t)SPI_CU_SPLITS_MAX * decode->heads_max * (kv->head_dim + 4) * sizeof(float);
    uint64_t attended_at = round_up(phase_bytes), barrier_at = attended_at + round_up(attended);
    sp_status status = spi_cu_buffer_create(cu, barrier_at + 256, "decoding", &decode->memory, error);
    status = status ? status : spi_cu_buffer_zero(cu, &decode->memory, error);
    if (status) {
        return status;
    }
    spi_cu_pointer base = decode->memory.address;
    spi_cu_result result = cu->call->MemcpyHtoDAsync(base, decode->phases, phase_bytes, cu->stream);
    status = spi_cu_check(cu, result, "preparing to decode", error);
    decode->token.phases = (const spi_cu_phase *)(uintptr_t)base;
    decode->token.attended = (float *)(uintptr_t)(base + attended_at);
    decode->token.barrier = (uint32_t *)(uintptr_t)(base + barrier_at);
    decode->token.kv = (spi_cu_kv){.block_bytes = kv->block_bytes, .kv_heads = kv->kv_heads, .head_dim = kv->head_dim};
    decode->token.dim_shift = (uint32_t)__builtin_ctz(kv->head_dim);
    decode->block_count = (uint32_t)cu->card.multiprocessors;
    return status ? status : spi_cu_wait(cu, "preparing to decode", error);
}

static bool is_possible(const spi_cu *cu, const spi_tape *tape) {
    uint32_t dim = tape->kv.head_dim;
    return cu->card.major >= MAJOR_MIN && cu->card.cooperative && !cu->choices.op_by_op &&
           (dim == 64 || dim == 128 || dim == 256) && tape->kv.kv_heads <= (uint32_t)cu->card.multiprocessors;
}

static uint32_t shared_bytes(const spi_cu_token *token) {
    return token->vector_bytes + token->stage_bytes * token->stage_count;
}

sp_status spi_cu_decode_create(spi_cu *cu, const spi_program *program, spi_cu_decode **out, sp_error *error) {
    *out = NULL;
    if (!is_possible(cu, program->tape)) {
        return SP_OK;
    }
    matcher m = {.cu = cu, .program = program, .tape = program->tape};
    m.notes = spi_alloc(program->tape->buffer_count, sizeof *m.notes);
    m.decode = spi_alloc(1, sizeof *m.decode);
    sp_status status = m.notes && m.decode ? SP_OK : spi_fail(error, SP_NO_MEMORY, "cuda: no memory to prepare a tape");
    bool good = !status && match(&m) && shape_ring(&m);
    if (m.no_memory) {
        status = spi_fail(error, SP_NO_MEMORY, "cuda: no memory to prepare a tape");
    }
    if (good && !status) {
        spi_cu_result result = cu->call->FuncSetAttribute(cu->kernels[SPI_CU_decode], SPI_CU_FUNCTION_SHARED_BYTES,
                                                          cu->card.shared_bytes - (int)SHARED_STATIC_BYTES);
        status = spi_cu_check(cu, result, "preparing to decode", error);
        status = status ? status : upload(&m, error);
    }
    spi_free(m.notes);
    if (status || !good) {
        spi_cu_decode_destroy(cu, m.decode);
        return status;
    }
    *out = m.decode;
    return SP_OK;
}

void spi_cu_decode_destroy(spi_cu *cu, spi_cu_decode *decode) {
    if (decode) {
        spi_cu_buffer_destroy(cu, &decode->memory);
        spi_free(decode->phases);
        spi_free(decode);
    }
}

/* Shares the context's blocks out, so that each KV head's runs are computed by as many multiprocessors as there are. */
static void split(const spi_cu *cu, const spi_cu_decode *decode, spi_cu_token *token) {
    uint32_t blocks = token->position / SPI_BLOCK_TOKENS + 1;
    uint32_t runs = least(decode->block_count / token->kv.kv_heads, SPI_CU_SPLITS_MAX);
    uint32_t each = spi_cu_ceil(blocks, runs);
    token->split_blocks = most(each, cu->choices.split_blocks);
    token->splits = spi_cu_ceil(blocks, token->split_blocks);
}

sp_status spi_cu_decode_run(spi_cu *cu, const spi_program *program, const spi_run *run, sp_error *error) {
    spi_cu_decode *decode = program->decode;
    const spi_segment *segment = run->segments;
    const spi_cu_link *link = (const spi_cu_link *)segment->link;
    spi_cu_pointer base = (uintptr_t)sp_region_base(link->base.region);
    spi_cu_token token = decode->token;
    token.token = (uint32_t)run->tokens[0];
    token.position = segment->position_first;
    token.blocks = link->mirror + segment->kv_offset;
    token.host_blocks = link->mirror_bytes ? base + segment->kv_offset : 0;
    token.logits = base + segment->logits_offset;
    token.phase_count = run->out_count ? decode->phase_count : decode->hidden_count;
    token.barrier_start = decode->barrier_start;
    split(cu, decode, &token);
    spi_cu_rotations_fill(program, run);
    for (uint32_t i = 0; i < decode->turn_count; i++) {
        const spi_cu_rotation *rotation = &program->rotations[decode->turn_rotations[i]];
        memcpy(token.turns[i], (const uint8_t *)program->parameters.address + rotation->first_byte,
               rotation->pairs * 2 * sizeof(float));
    }
    for (uint32_t i = 0; i < token.phase_count; i++) {
        decode->barrier_start += decode->phases[i].barrier ? decode->block_count : 0;
    }
    void *arguments[] = {&token};
    return spi_cu_launch_together(cu, SPI_CU_decode, decode->block_count, SPI_CU_DECODE_WARPS * 32 + 32,
                                  shared_bytes(&token), arguments, error);
}
