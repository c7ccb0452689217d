/* device/metal/run.c - a run of a tape: planned, encoded with barriers only where an op needs one before it, and
 * done. */
#include "device/metal/metal.h"

/* What ops read and write, a bit each: scratch buffers (the rare 62nd shares a bit with the first), KV, logits. */
#define BUFFER_BITS 61u
#define KV_BIT      ((uint64_t)1 << 61)
#define LOGITS_BIT  ((uint64_t)1 << 62)
#define STATE_BIT   ((uint64_t)1 << 63)

typedef struct access {
    uint64_t reads, writes;
} access;

static uint64_t bit(uint32_t buffer) {
    return buffer == SPI_NONE ? 0 : (uint64_t)1 << buffer % BUFFER_BITS;
}

static access find_access(const spi_op *op) {
    access found = {.reads = bit(op->src), .writes = bit(op->dst)};
    switch (op->kind) {
    case SPI_OP_EMBED: found.reads = 0; break;
    case SPI_OP_ROPE:
    case SPI_OP_ADD: found.reads = bit(op->src) | bit(op->dst); break;
    case SPI_OP_MATMUL: found.reads |= op->accumulate ? bit(op->dst) : 0; break;
    case SPI_OP_KV_STORE: found = (access){bit(op->src) | bit(op->src1), KV_BIT}; break;
    case SPI_OP_ATTENTION:
        found.reads |= KV_BIT;
        found.writes |= STATE_BIT;
        break;
    case SPI_OP_GATE: found.reads |= bit(op->src1); break;
    case SPI_OP_HEAD: found.writes = LOGITS_BIT; break;
    default: break;
    }
    return found;
}

static sp_status encode_ops(spi_mt_recorder *recorder) {
    const spi_tape *tape = recorder->program->tape;
    access since = {0}; /* the last barrier */
    for (uint32_t i = 0; i < tape->op_count; i++) {
        const spi_op *op = &tape->ops[i];
        if ((op->kind == SPI_OP_GATHER || op->kind == SPI_OP_HEAD) && !recorder->program->plan.out_count) {
            break; /* no outputs are wanted: what follows is theirs alone */
        }
        access here = find_access(op);
        if ((here.reads & since.writes) | (here.writes & (since.reads | since.writes))) {
            spi_mt_encode_barrier(recorder->work);
            since = (access){0};
        }
        since.reads |= here.reads;
        since.writes |= here.writes;
        sp_status status = spi_mt_op_record(recorder, i);
        if (status) {
            return status;
        }
    }
    return SP_OK;
}

sp_status spi_mt_run(void *context, spi_program *program, const spi_run *run, sp_error *error) {
    spi_mt *mt = context;
    spi_mt_work work;
    sp_status status = spi_mt_plan_run(program, run, error);
    status = status ? status : spi_mt_begin(mt, &work, error);
    if (status) {
        return status;
    }
    for (uint32_t i = 0; i < program->rotations.count; i++) {
        const spi_rotation *rotation = &program->rotations.items[i];
        spi_rotation_fill(rotation, run, (float *)program->parameters.contents + rotation->place);
    }
    spi_mt_recorder recorder = {.work = &work, .program = program, .rows = run->row_count};
    status = encode_ops(&recorder);
    if (status) {
        spi_mt_abandon(&work);
        return status;
    }
    status = spi_mt_submit(&work);
    mt->runs += !status;
    return status;
}
