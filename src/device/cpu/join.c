/* device/cpu/join.c - what nobody reads in f32, and products whose rows are gated at once, by the thread that has just
 * computed them.
 *
 * Of many tokens what two products give for a gate is megabytes, which would go to the last cache and come back from
 * there: a third of the time that gating took was arithmetic. So where nobody else reads them, both products of the
 * same rows are one item of work, whose sums become the form that the next product takes (product.c). What is not
 * written in f32 then, nobody may look at: it has to be written again before it is read. May include: device.
 */
#include "device/cpu/cpu.h"

static bool reads(const spi_op *op, uint32_t buffer) {
    bool in_place = op->accumulate || op->kind == SPI_OP_ROPE || op->kind == SPI_OP_ADD;
    return op->src == buffer || op->src1 == buffer || (op->dst == buffer && in_place);
}

/* The last op before `end` that writes the buffer, if it is a product that sets it, and nobody reads it before `end`;
 * else NULL. */
static const spi_op *product_before(const spi_tape *tape, const spi_op *end, uint32_t buffer) {
    for (const spi_op *op = end; op-- > tape->ops;) {
        if (op->dst == buffer) {
            return op->kind == SPI_OP_MATMUL && !op->accumulate ? op : NULL;
        }
        if (reads(op, buffer)) {
            return NULL;
        }
    }
    return NULL;
}

/* Whether the buffer is written before it is read behind `op`. */
static bool dies(const spi_tape *tape, const spi_op *op, uint32_t buffer) {
    while (++op < tape->ops + tape->op_count && !reads(op, buffer)) {
        if (op->dst == buffer) {
            return true;
        }
    }
    return false;
}

/* From how many rows on all that is read of what the step gives are forms that it makes itself; UINT32_MAX: never. */
static uint32_t forms_from(const spi_program *program, const spi_step *step) {
    const spi_tape *tape = program->tape;
    uint32_t from = 0, buffer = step->op->dst;
    for (const spi_op *op = step->op + 1; op < tape->ops + tape->op_count; op++) {
        if (op->kind == SPI_OP_MATMUL && op->src == buffer && op->dst != buffer) {
            const spi_cpu_type *type = program->store->matrices[op->weight].type;
            bool many = type->product_many && step->prepares[SPI_FORM_BF16];
            bool few = type->form != SPI_FORM_F32 && step->prepares[type->form];
            if (!many || (type->form != SPI_FORM_F32 && !few)) {
                return UINT32_MAX;
            }
            from = from > type->many_tokens ? from : type->many_tokens;
        } else if (reads(op, buffer)) {
            return UINT32_MAX;
        } else if (op->dst == buffer) {
            return from;
        }
    }
    return UINT32_MAX;
}

static spi_step *step_of(const spi_program *program, const spi_op *op) {
    for (uint32_t i = 0; i < program->step_count; i++) {
        if (program->steps[i].kind == SPI_STEP_OP && program->steps[i].op == op) {
            return &program->steps[i];
        }
    }
    return NULL;
}

/* Whether earlier products are done with the form of the buffer when `phase` begins. */
static bool is_free(const spi_program *program, const spi_op *gate, uint32_t phase) {
    for (uint32_t i = 0; i < program->step_count; i++) {
        const spi_step *step = &program->steps[i];
        bool product = step->kind == SPI_STEP_OP && step->op->kind == SPI_OP_MATMUL;
        if (product && step->op < gate && step->op->src == gate->dst && step->phase >= phase) {
            return false;
        }
    }
    return true;
}

static bool alike(const spi_program *program, const spi_op *one, const spi_op *other) {
    const spi_tensor *a = &program->store->tensors[one->weight], *b = &program->store->tensors[other->weight];
    return one != other && one->src == other->src && a->rows == b->rows && a->type == b->type;
}

static void join_gate(const spi_program *program, spi_step *gate) {
    const spi_tape *tape = program->tape;
    const spi_op *op = gate->op, *one = product_before(tape, op, op->src), *other = product_before(tape, op, op->src1);
    if (!one || !other || !alike(program, one, other) || (op->dst != op->src && !dies(tape, op, op->src)) ||
        (op->dst != op->src1 && !dies(tape, op, op->src1))) {
        return;
    }
    spi_step *first = step_of(program, one < other ? one : other),
             *second = step_of(program, one < other ? other : one);
    if (first->phase != second->phase || first->outputs != gate->outputs || second->outputs != gate->outputs ||
        gate->forms_rows_min == UINT32_MAX || !is_free(program, op, second->phase)) {
        return;
    }
    second->gated = first;
    second->gate = gate;
    first->joint = second->joint = gate->joint = second;
}

void spi_cpu_join(spi_program *program) {
    for (uint32_t i = 0; i < program->step_count; i++) {
        spi_step *step = &program->steps[i];
        if (step->kind == SPI_STEP_OP && (step->op->kind == SPI_OP_GATE || step->op->kind == SPI_OP_NORM)) {
            step->forms_rows_min = forms_from(program, step);
        }
        if (step->kind == SPI_STEP_OP && step->op->kind == SPI_OP_GATE) {
            join_gate(program, step);
        }
    }
}
