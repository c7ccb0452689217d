/* device/vulkan/record.c - a tape and a plan as a command buffer, with barriers only where an op needs one before it. */
#include "device/vulkan/vulkan.h"

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

static sp_status record_ops(spi_vk_recorder *recorder) {
    const spi_tape *tape = recorder->program->tape;
    access since = {0}; /* the last barrier */
    for (uint32_t i = 0; i < tape->op_count; i++) {
        const spi_op *op = &tape->ops[i];
        if ((op->kind == SPI_OP_GATHER || op->kind == SPI_OP_HEAD) && !recorder->plan->out_count) {
            break; /* no outputs are wanted: what follows is theirs alone */
        }
        access here = find_access(op);
        if ((here.reads & since.writes) | (here.writes & (since.reads | since.writes))) {
            spi_vk_encode_barrier(recorder->vk, recorder->program->commands);
            since = (access){0};
        }
        since.reads |= here.reads;
        since.writes |= here.writes;
        sp_status status = spi_vk_op_record(recorder, i);
        if (status) {
            return status;
        }
    }
    return SP_OK;
}

sp_status spi_vk_record(spi_vk *vk, spi_program *program, sp_error *error) {
    program->recorded.row_count = 0;
    sp_status status = spi_vk_sets_reset(vk, &program->sets, error);
    status = status ? status : spi_vk_begin(vk, program->commands, error);
    if (status) {
        return status;
    }
    spi_vk_recorder recorder = {
        .vk = vk, .program = program, .plan = &program->plan, .rows = program->plan.row_count, .error = error};
    status = record_ops(&recorder);
    if (status) {
        spi_vk_abandon(vk, program->commands);
        return status;
    }
    spi_vk_encode_host_barrier(vk, program->commands);
    VkResult result = vk->call->EndCommandBuffer(program->commands);
    if (result) {
        return spi_vk_fail(error, result, "recording a run");
    }
    spi_vk_plan before = program->recorded;
    program->recorded = program->plan;
    program->plan = before;
    return SP_OK;
}

sp_status spi_vk_run(void *context, spi_program *program, const spi_run *run, sp_error *error) {
    spi_vk *vk = context;
    sp_status status = spi_vk_plan_run(vk, program, run, error);
    if (!status && !(program->recorded.row_count && spi_vk_plan_equal(&program->plan, &program->recorded))) {
        status = spi_vk_record(vk, program, error);
    }
    if (status) {
        return status;
    }
    for (uint32_t i = 0; i < program->rotations.count; i++) {
        const spi_rotation *rotation = &program->rotations.items[i];
        spi_rotation_fill(rotation, run, (float *)program->parameters.mapped + rotation->place);
    }
    status = spi_vk_submit_again(vk, program->commands, error);
    vk->runs += !status;
    return status;
}
