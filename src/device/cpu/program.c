/* device/cpu/program.c - a tape made ready: scratch buffers, and ops sorted into phases, one behind the other.
 *
 * A step goes into the first phase behind all that it reads, and behind all that reads or writes what it writes. So the
 * three products of q, k and v share a phase, and so do the rotations of q and k: threads meet only where there is a
 * dependency. May include: device, os, base.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/cpu/cpu.h"
#include "os/vm.h"

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

/* With so many items of attention for each thread, none is long enough to be shared. */
#define SHARED_UNITS 16u

/* What steps read and write: a buffer, a buffer in another form, all KV blocks, all logits. */
typedef struct resource {
    uint32_t written, read; /* 1 + the last phase that did; 0: none yet */
    uint32_t writer;        /* 1 + the last step that wrote it */
} resource;

typedef struct builder {
    spi_program *program;
    resource *resources; /* [form][buffer_count], then KV and logits */
    uint32_t *prepared;  /* [form][buffer_count]: 1 + the step that put what the buffer holds now into the form */
    uint32_t *producers; /* [steps]: of a PREPARE that is done within another step, 1 + that step */
    bool outputs;
} builder;

/* Zeroed, in huge pages if it is large: a step that takes a part of each of many rows would look up a page for each of
 * them. To be given to spi_free_aligned. */
static void *alloc_room(size_t bytes) {
    if (bytes < HUGE_PAGE_BYTES) {
        return spi_alloc_aligned(bytes, SPI_CPU_CACHE_LINE_BYTES);
    }
    void *room = spi_alloc_aligned(bytes, HUGE_PAGE_BYTES);
    if (room) {
        spi_vm_advise_huge(room, bytes);
    }
    return room;
}

static resource *kv_resource(const builder *build) {
    return &build->resources[SPI_FORM_COUNT * build->program->tape->buffer_count];
}

static void after_write(uint32_t *phase, const resource *of) {
    *phase = *phase > of->written ? *phase : of->written;
}

static void after_any(uint32_t *phase, const resource *of) {
    after_write(phase, of);
    *phase = *phase > of->read ? *phase : of->read;
}

/* Adds a step that reads and writes the given resources (NULL: none). */
static spi_step *place(builder *build, spi_step_kind kind, const spi_op *op, resource *const reads[],
                       uint32_t read_count, resource *write) {
    spi_program *program = build->program;
    spi_step *step = &program->steps[program->step_count++];
    /* Angles are filled beside phase 0. */
    uint32_t phase = kind == SPI_STEP_OP && op->kind == SPI_OP_ROPE ? 1 : 0;
    for (uint32_t i = 0; i < read_count; i++) {
        after_write(&phase, reads[i]);
    }
    after_any(&phase, write);
    for (uint32_t i = 0; i < read_count; i++) {
        reads[i]->read = reads[i]->read > phase + 1 ? reads[i]->read : phase + 1;
    }
    write->written = phase + 1;
    write->writer = program->step_count;
    step->kind = kind;
    step->op = op;
    step->phase = phase;
    step->outputs = build->outputs;
    program->phase_count = program->phase_count > phase + 1 ? program->phase_count : phase + 1;
    return step;
}

/* Bytes of a buffer in a form other than f32, for all rows of a run. */
static size_t form_bytes(const spi_program *program, spi_cpu_form form, uint32_t columns) {
    size_t rows = program->tape->rows_max;
    if (form == SPI_FORM_I8) {
        return rows * (columns / SPI_I8_COLUMNS) * SPI_I8_TOKEN_BYTES;
    }
    rows = (rows + SPI_BF16_UNIT - 1) / SPI_BF16_UNIT * SPI_BF16_UNIT;
    return rows * spi_bf16_stride(columns) * sizeof(uint16_t);
}

static resource *form_resource(const builder *build, spi_cpu_form form, uint32_t buffer) {
    return &build->resources[form * build->program->tape->buffer_count + buffer];
}

/* Whether a step writes its rows by whole blocks of columns, and has each from one thread. */
static bool makes_patches(const spi_program *program, const spi_step *step) {
    const spi_kv_shape *kv = &program->tape->kv;
    if (step->kind == SPI_STEP_OP && step->op->kind == SPI_OP_ATTENTION) {
        return step->op->heads / kv->kv_heads * kv->head_dim % SPI_BF16_UNIT == 0;
    }
    return step->kind == SPI_STEP_OP && (step->op->kind == SPI_OP_NORM || step->op->kind == SPI_OP_GATE);
}

/* 1 + the step that can put the buffer into the form while it computes it: if nobody uses the form's room meanwhile. 0:
 * none can. */
static uint32_t find_producer(const builder *build, spi_cpu_form form, uint32_t buffer) {
    uint32_t producer = build->resources[buffer].writer;
    if (!producer) {
        return 0;
    }
    const spi_step *step = &build->program->steps[producer - 1];
    const resource *room = form_resource(build, form, buffer);
    bool free = room->read <= step->phase && room->written <= step->phase;
    return makes_patches(build->program, step) && free && step->outputs == build->outputs ? producer : 0;
}

/* The op's src in a form, for runs of rows_min <= rows < rows_end. False: no memory. */
static bool place_form(builder *build, const spi_op *op, spi_cpu_form form, uint32_t rows_min, uint32_t rows_end) {
    spi_program *program = build->program;
    uint32_t buffer = op->src, *prepared = &build->prepared[form * program->tape->buffer_count + buffer];
    if (*prepared) {
        spi_step *step = &program->steps[*prepared - 1];
        step->rows_min = step->rows_min < rows_min ? step->rows_min : rows_min;
        step->rows_end = step->rows_end > rows_end ? step->rows_end : rows_end;
        return true;
    }
    *prepared = program->step_count + 1;
    build->producers[program->step_count] = find_producer(build, form, buffer);
    resource *reads[] = {&build->resources[buffer]};
    spi_step *step = place(build, SPI_STEP_PREPARE, op, reads, 1, form_resource(build, form, buffer));
    step->buffer = buffer;
    step->form = form;
    step->rows_min = rows_min;
    step->rows_end = rows_end;
    uint8_t **acts = &program->acts[form][buffer];
    if (!*acts) {
        size_t bytes = form_bytes(program, form, program->tape->buffers[buffer].width);
        *acts = alloc_room(bytes);
    }
    return *acts != NULL;
}

static bool same_angles(const spi_op *a, const spi_op *b) {
    return a->rope_dims == b->rope_dims && a->rope_base == b->rope_base && a->rope_freq_scale == b->rope_freq_scale &&
           a->scale == b->scale && a->weight == b->weight;
}

/* Finds or makes the table of angles of a ROPE op; false: no memory. */
static bool find_angles(spi_program *program, const spi_op *op, uint32_t *index) {
    for (*index = 0; *index < program->angles_count; (*index)++) {
        if (same_angles(program->angles[*index].op, op)) {
            return true;
        }
    }
    spi_angles *angles = &program->angles[program->angles_count++];
    size_t count = (size_t)program->tape->rows_max * (op->rope_dims / 2);
    angles->op = op;
    angles->pairs = op->rope_dims / 2;
    angles->frequencies = spi_alloc(angles->pairs, sizeof *angles->frequencies);
    angles->cosines = spi_alloc(count, sizeof *angles->cosines);
    angles->sines = spi_alloc(count, sizeof *angles->sines);
    if (!angles->frequencies || !angles->cosines || !angles->sines) {
        return false;
    }
    const float *factors = op->weight == SPI_NONE ? NULL : program->store->tensors[op->weight].data;
    for (uint32_t i = 0; i < angles->pairs; i++) {
        double frequency = op->rope_freq_scale * pow(op->rope_base, -2.0 * i / op->rope_dims);
        angles->frequencies[i] = factors ? frequency / factors[i] : frequency;
    }
    return true;
}

static void raise_scratch(spi_program *program, size_t bytes) {
    bytes = (bytes + SPI_CPU_CACHE_LINE_BYTES - 1) / SPI_CPU_CACHE_LINE_BYTES * SPI_CPU_CACHE_LINE_BYTES;
    program->scratch_bytes = program->scratch_bytes > bytes ? program->scratch_bytes : bytes;
}

static bool place_product(builder *build, const spi_op *op) {
    spi_program *program = build->program;
    const spi_cpu_type *type = program->store->matrices[op->weight].type;
    uint32_t read_count = 0, few_end = type->product_many ? type->many_tokens : UINT32_MAX;
    resource *reads[SPI_FORM_COUNT];
    reads[read_count++] = form_resource(build, type->form, op->src);
    if (type->form != SPI_FORM_F32 && !place_form(build, op, type->form, 0, few_end)) {
        return false;
    }
    if (type->product_many) {
        reads[read_count++] = form_resource(build, SPI_FORM_BF16, op->src);
        if (!place_form(build, op, SPI_FORM_BF16, type->many_tokens, UINT32_MAX)) {
            return false;
        }
    }
    resource *write = op->kind == SPI_OP_HEAD ? kv_resource(build) + 1 : &build->resources[op->dst];
    spi_step *step = place(build, SPI_STEP_OP, op, reads, read_count, write);
    step->buffer = op->src;
    step->outputs |= op->kind == SPI_OP_HEAD;
    raise_scratch(program, spi_cpu_product_scratch_bytes(program, op));
    return true;
}

static void place_attention(builder *build, const spi_op *op) {
    resource *reads[] = {&build->resources[op->src], kv_resource(build)};
    place(build, SPI_STEP_OP, op, reads, 2, &build->resources[op->dst]);
}

/* All attention steps take the same groups of rows: so few that they and the most heads of a group make one item. */
static void plan_attention(spi_program *program) {
    const spi_kv_shape *kv = &program->tape->kv;
    const spi_cpu_kernels *kernels = program->cpu->kernels;
    uint32_t most = 1;
    for (uint32_t i = 0; i < program->tape->op_count; i++) {
        const spi_op *op = &program->tape->ops[i];
        if (op->kind == SPI_OP_ATTENTION) {
            most = op->heads / kv->kv_heads > most ? op->heads / kv->kv_heads : most;
        }
    }
    program->group_rows = kernels->attention_rows / most ? kernels->attention_rows / most : 1;
    raise_scratch(program, kernels->attention_scratch_bytes(program->group_rows, most, 1, kv->head_dim));
    raise_scratch(program, kernels->attention_scratch_bytes(1, most, kv->kv_heads, kv->head_dim));
}

/* A step of its own, beside phase 0, if any op asks for angles. */
static void place_angles(spi_program *program) {
    if (program->angles_count) {
        program->steps[program->step_count++] = (spi_step){.kind = SPI_STEP_ANGLES, .op = program->angles[0].op};
    }
}

/* False: no memory. */
static bool place_op(builder *build, const spi_op *op) {
    resource *resources = build->resources;
    resource *dst = op->dst == SPI_NONE ? NULL : &resources[op->dst];
    resource *reads[2] = {op->src == SPI_NONE ? NULL : &resources[op->src],
                          op->src1 == SPI_NONE ? NULL : &resources[op->src1]};
    bool good = true;
    switch (op->kind) {
    case SPI_OP_MATMUL:
    case SPI_OP_HEAD: good = place_product(build, op); break;
    case SPI_OP_EMBED: place(build, SPI_STEP_OP, op, NULL, 0, dst); break;
    case SPI_OP_ROPE:
        good = find_angles(build->program, op, &place(build, SPI_STEP_OP, op, NULL, 0, dst)->angles);
        break;
    case SPI_OP_KV_STORE: place(build, SPI_STEP_OP, op, reads, 2, kv_resource(build)); break;
    case SPI_OP_ATTENTION: place_attention(build, op); break;
    case SPI_OP_GATE: place(build, SPI_STEP_OP, op, reads, 2, dst); break;
    case SPI_OP_NORM:
    case SPI_OP_ADD: place(build, SPI_STEP_OP, op, reads, 1, dst); break;
    case SPI_OP_GATHER:
        build->outputs = true;
        place(build, SPI_STEP_OP, op, reads, 1, dst);
        break;
    case SPI_OP_KIND_COUNT: assert(false); break;
    }
    if (dst && op->kind != SPI_OP_HEAD && op->kind != SPI_OP_KV_STORE) {
        for (uint32_t form = 0; form < SPI_FORM_COUNT; form++) {
            build->prepared[form * build->program->tape->buffer_count + op->dst] = 0;
        }
    }
    return good;
}

/* Tells steps which forms are made within them; `moved` says where each step is now. */
static void join_steps(const builder *build, const uint32_t *moved) {
    spi_step *steps = build->program->steps;
    for (uint32_t i = 0; i < build->program->step_count; i++) {
        if (build->producers[i]) {
            spi_step *step = &steps[moved[i]];
            step->within = true;
            steps[moved[build->producers[i] - 1]].prepares[step->form] = step;
        }
    }
}

/* Behind the last product of a token comes the first one of the next. */
static void chain_products(spi_program *program) {
    const spi_step *next = NULL;
    for (uint32_t i = 2 * program->step_count; i-- > 0;) {
        spi_step *step = &program->steps[i % program->step_count];
        if (step->kind == SPI_STEP_OP && (step->op->kind == SPI_OP_MATMUL || step->op->kind == SPI_OP_HEAD)) {
            step->next = next;
            next = step;
        }
    }
}

/* Puts the steps into the order of their phases, keeping the tape's order inside of each. */
static bool sort_steps(const builder *build) {
    spi_program *program = build->program;
    spi_step *sorted = spi_alloc(program->step_count, sizeof *sorted);
    uint32_t *moved = spi_alloc(program->step_count, sizeof *moved);
    program->phase_first = spi_alloc((size_t)program->phase_count + 1, sizeof *program->phase_first);
    if (!sorted || !moved || !program->phase_first) {
        spi_free(sorted);
        spi_free(moved);
        return false;
    }
    uint32_t count = 0;
    for (uint32_t phase = 0; phase < program->phase_count; phase++) {
        for (uint32_t i = 0; i < program->step_count; i++) {
            if (program->steps[i].phase == phase) {
                moved[i] = count;
                sorted[count++] = program->steps[i];
            }
        }
        program->phase_first[phase + 1] = count;
    }
    spi_free(program->steps);
    program->steps = sorted;
    join_steps(build, moved);
    chain_products(program);
    spi_cpu_join(program);
    spi_free(moved);
    return true;
}

static size_t steps_max(const spi_tape *tape) {
    return SPI_FORM_COUNT * (size_t)tape->op_count + 1;
}

static bool build_steps(spi_program *program) {
    const spi_tape *tape = program->tape;
    builder build = {.program = program};
    build.resources = spi_alloc(SPI_FORM_COUNT * (size_t)tape->buffer_count + 2, sizeof *build.resources);
    build.prepared = spi_alloc(SPI_FORM_COUNT * (size_t)tape->buffer_count, sizeof *build.prepared);
    build.producers = spi_alloc(steps_max(tape), sizeof *build.producers);
    bool good = build.resources && build.prepared && build.producers;
    for (uint32_t i = 0; i < tape->op_count && good; i++) {
        good = place_op(&build, &tape->ops[i]);
    }
    if (good) {
        place_angles(program);
        plan_attention(program);
        good = sort_steps(&build);
    }
    spi_free(build.resources);
    spi_free(build.prepared);
    spi_free(build.producers);
    return good;
}

static bool allocate(spi_program *program) {
    const spi_tape *tape = program->tape;
    program->steps = spi_alloc(steps_max(tape), sizeof *program->steps);
    program->buffers = spi_alloc(tape->buffer_count, sizeof *program->buffers);
    bool acts = true;
    for (uint32_t form = 0; form < SPI_FORM_COUNT; form++) {
        program->acts[form] = spi_alloc(tape->buffer_count, sizeof *program->acts[form]);
        acts = acts && program->acts[form];
    }
    program->angles = spi_alloc(tape->op_count, sizeof *program->angles);
    program->rows = spi_alloc(tape->rows_max, sizeof *program->rows);
    program->gathered = spi_alloc(tape->rows_max, sizeof *program->gathered);
    program->logits = spi_alloc(tape->rows_max, sizeof *program->logits);
    program->groups = spi_alloc(tape->rows_max, sizeof *program->groups);
    program->shared.units_max = SHARED_UNITS * spi_pool_thread_count(program->cpu->pool);
    program->shared.done = spi_alloc(program->shared.units_max, sizeof *program->shared.done);
    bool good = program->steps && program->buffers && acts && program->angles && program->rows && program->gathered &&
                program->logits && program->groups && program->shared.done;
    for (uint32_t i = 0; i < tape->buffer_count && good; i++) {
        size_t bytes = (size_t)tape->rows_max * tape->buffers[i].width * sizeof(float);
        program->buffers[i] = alloc_room(bytes);
        good = program->buffers[i] != NULL;
    }
    return good;
}

void spi_cpu_discard(void *context, spi_program *program) {
    (void)context;
    if (!program) {
        return;
    }
    for (uint32_t i = 0; i < program->tape->buffer_count; i++) {
        if (program->buffers) {
            spi_free_aligned(program->buffers[i]);
        }
        for (uint32_t form = 0; form < SPI_FORM_COUNT; form++) {
            if (program->acts[form]) {
                spi_free_aligned(program->acts[form][i]);
            }
        }
    }
    for (uint32_t i = 0; i < program->angles_count; i++) {
        spi_free(program->angles[i].frequencies);
        spi_free(program->angles[i].cosines);
        spi_free(program->angles[i].sines);
    }
    spi_free(program->steps);
    spi_free(program->buffers);
    for (uint32_t form = 0; form < SPI_FORM_COUNT; form++) {
        spi_free(program->acts[form]);
    }
    spi_free(program->angles);
    spi_free(program->rows);
    spi_free(program->gathered);
    spi_free(program->logits);
    spi_free(program->groups);
    spi_free(program->phase_first);
    spi_free_aligned(program->shared.records);
    spi_free(program->shared.done);
    spi_free_aligned(program->scratch);
    spi_free(program);
}

/* A product over a matrix that was left unpacked because only EMBED was to read it is the model's error. */
static sp_status check_products(const spi_store *store, const spi_tape *tape, sp_error *error) {
    for (uint32_t i = 0; i < tape->op_count; i++) {
        const spi_op *op = &tape->ops[i];
        bool product = op->kind == SPI_OP_MATMUL || op->kind == SPI_OP_HEAD;
        if (product && store->tensors[op->weight].rows_only) {
            return spi_fail(error, SP_INVALID, "tape op %u (%s) multiplies by %s, which was loaded for lookup only", i,
                            spi_op_name(op->kind), store->tensors[op->weight].name);
        }
    }
    return SP_OK;
}

sp_status spi_cpu_prepare(void *context, spi_store *store, const spi_tape *tape, spi_program **out, sp_error *error) {
    *out = NULL;
    const spi_weights weights = {.tensors = store->tensors, .count = store->count};
    sp_status status = spi_tape_check(tape, &weights, error);
    if (!status) {
        status = check_products(store, tape, error);
    }
    if (status) {
        return status;
    }
    spi_program *program = spi_alloc(1, sizeof *program);
    if (!program) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to prepare a tape");
    }
    program->cpu = context;
    program->store = store;
    program->tape = tape;
    bool good = allocate(program) && build_steps(program);
    if (good) {
        size_t bytes = program->scratch_bytes * spi_pool_thread_count(program->cpu->pool);
        program->scratch = alloc_room(bytes);
        good = program->scratch != NULL;
    }
    if (!good) {
        spi_cpu_discard(context, program);
        return spi_fail(error, SP_NO_MEMORY, "no memory for the buffers of %u rows: run fewer rows at once",
                        tape->rows_max);
    }
    *out = program;
    return SP_OK;
}

static size_t buffer_bytes(const spi_program *program, uint32_t buffer, uint32_t rows) {
    assert(buffer < program->tape->buffer_count && rows <= program->tape->rows_max);
    return (size_t)rows * program->tape->buffers[buffer].width * sizeof(float);
}

sp_status spi_cpu_write_buffer(void *context, spi_program *program, uint32_t buffer, uint32_t rows, const float *data,
                               sp_error *error) {
    (void)context;
    (void)error;
    memcpy(program->buffers[buffer], data, buffer_bytes(program, buffer, rows));
    return SP_OK;
}

sp_status spi_cpu_read_buffer(void *context, spi_program *program, uint32_t buffer, uint32_t rows, float *data,
                              sp_error *error) {
    (void)context;
    (void)error;
    memcpy(data, program->buffers[buffer], buffer_bytes(program, buffer, rows));
    return SP_OK;
}
