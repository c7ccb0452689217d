/* device/vulkan/record.c - a tape and a plan as a command buffer, with barriers only where a dispatch needs one before
 * it; and runs, which submit one that was recorded before if there is one.
 */
#include "device/vulkan/vulkan.h"

bool spi_vk_is_fast(const spi_vk *vk) {
    return vk->limits.kernels == SPI_VK_KERNELS_FAST;
}

void spi_vk_order(spi_vk_recorder *r, spi_vk_access next) {
    if ((next.reads & r->since.writes) | (next.writes & (r->since.reads | r->since.writes))) {
        spi_vk_relay_order(r);
        r->since = (spi_vk_access){0};
    }
    r->since.reads |= next.reads;
    r->since.writes |= next.writes;
}

static sp_status record_ops(spi_vk_recorder *recorder) {
    const spi_tape *tape = recorder->program->tape;
    for (uint32_t i = 0; i < tape->op_count;) {
        const spi_op *op = &tape->ops[i];
        if ((op->kind == SPI_OP_GATHER || op->kind == SPI_OP_HEAD) && !recorder->plan->out_count) {
            break; /* no outputs are wanted: what follows is theirs alone */
        }
        uint32_t taken = 0;
        recorder->op = i;
        bool stores = op->kind == SPI_OP_ROPE || op->kind == SPI_OP_KV_STORE; /* over what is still to be copied */
        sp_status status = stores ? spi_vk_copies_record(recorder) : SP_OK;
        status = status ? status : spi_vk_fused_record(recorder, i, &taken);
        if (!status && !taken) {
            spi_vk_order(recorder, spi_vk_op_access(op));
            status = spi_vk_op_record(recorder, i);
            taken = 1;
        }
        if (status) {
            return status;
        }
        i += taken;
    }
    return spi_vk_copies_record(recorder);
}

sp_status spi_vk_record_dry(spi_vk *vk, spi_program *program, sp_error *error) {
    /* One of each number of rows that kernels are made for. */
    static const uint32_t rows[] = {1, 2, 3, 4, 5, 8, 16, 32, 64, 512, 2048};
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < 2 * sizeof rows / sizeof rows[0] && !status; i++) {
        uint32_t count = rows[i / 2], before = i < 2 ? 0 : rows[i / 2 - 1], most = program->tape->rows_max;
        if (before >= most) {
            break;
        }
        count = count < most ? count : most;
        spi_vk_span whole = {.first = 0,
                             .count = count,
                             .block_end = UINT32_MAX,
                             .tile_count = 1,
                             .flags = SPI_SHADER_SPAN_FIRST | SPI_SHADER_SPAN_LAST};
        spi_vk_plan plan = {.row_count = count,
                            .out_count = count,
                            .decode = i % 2,
                            .ranges = 2,
                            .kv = &whole,
                            .outs = &whole,
                            .kv_count = 1,
                            .out_span_count = 1};
        spi_vk_relay relay = {0};
        spi_vk_recorder recorder = {
            .vk = vk, .program = program, .plan = &plan, .relay = &relay, .rows = count, .dry = true, .error = error};
        status = record_ops(&recorder);
    }
    return status;
}

static sp_status need_commands(spi_vk *vk, spi_vk_recording *recording, sp_error *error) {
    if (recording->commands) {
        return SP_OK;
    }
    VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                        .commandPool = vk->commands,
                                        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                        .commandBufferCount = 1};
    VkResult result = vk->call->AllocateCommandBuffers(vk->device, &info, &recording->commands);
    if (result) {
        recording->commands = VK_NULL_HANDLE;
        return spi_vk_fail(error, result, "creating a command buffer");
    }
    return SP_OK;
}

/* Records program->plan, which the recording then has. */
static sp_status record(spi_vk *vk, spi_program *program, spi_vk_recording *recording, sp_error *error) {
    recording->plan.row_count = 0;
    recording->took_ns = 0;
    sp_status status = need_commands(vk, recording, error);
    status = status ? status : spi_vk_sets_reset(vk, &recording->sets, error);
    status = status ? status : spi_vk_begin(vk, recording->commands, error);
    if (status) {
        return status;
    }
    spi_vk_relay relay = {.on = vk->limits.relay && program->plan.decode && !vk->profile.pool};
    spi_vk_recorder recorder = {.vk = vk,
                                .program = program,
                                .plan = &program->plan,
                                .relay = &relay,
                                .commands = recording->commands,
                                .sets = &recording->sets,
                                .rows = program->plan.row_count,
                                .error = error};
    if (relay.on) {
        spi_vk_encode_zero(vk, recording->commands, &program->counters);
    }
    spi_vk_profile_begin(vk, recording->commands);
    spi_vk_profile_stamp(vk, recording->commands, 0);
    status = record_ops(&recorder);
    if (status) {
        spi_vk_abandon(vk, recording->commands);
        return status;
    }
    spi_vk_encode_host_barrier(vk, recording->commands);
    spi_vk_profile_stamp(vk, recording->commands, program->tape->op_count);
    VkResult result = vk->call->EndCommandBuffer(recording->commands);
    if (result) {
        return spi_vk_fail(error, result, "recording a run");
    }
    spi_vk_plan before = recording->plan;
    recording->plan = program->plan;
    program->plan = before;
    return SP_OK;
}

/* The recording of this plan, or the one that was not used for the longest time. */
static spi_vk_recording *find(spi_program *program) {
    spi_vk_recording *oldest = &program->recordings[0];
    for (uint32_t i = 0; i < SPI_VK_RECORDINGS; i++) {
        spi_vk_recording *recording = &program->recordings[i];
        if (recording->plan.row_count && spi_vk_plan_equal(&program->plan, &recording->plan)) {
            return recording;
        }
        oldest = recording->used < oldest->used ? recording : oldest;
    }
    oldest->plan.row_count = 0;
    return oldest;
}

/* With barriers, since a kernel waited in vain: a run writes the same over what it wrote before. */
static sp_status run_again(spi_vk *vk, spi_program *program, spi_vk_recording *recording, sp_error *error) {
    *(uint32_t *)program->late.mapped = 0;
    vk->limits.relay = false;
    vk->generation++; /* no recording that waits is used any more */
    spi_vk_plan done = recording->plan;
    recording->plan = program->plan;
    program->plan = done;
    program->plan.generation = vk->generation;
    sp_status status = record(vk, program, recording, error);
    return status ? status : spi_vk_submit_again(vk, recording->commands, &recording->took_ns, error);
}

/* The run's rows of the tables of rotations, unless they are there from a run before: prompts begin at position 0 over
 * and over, and the rows of 2,048 of them take the host 0.1 ms. */
static void turn(spi_program *program, const spi_run *run) {
    for (uint32_t s = 0; s < run->segment_count; s++) {
        const spi_segment *segment = &run->segments[s];
        uint32_t *turned = program->turned + segment->row_first;
        bool there = true;
        for (uint32_t i = 0; i < segment->row_count; i++) {
            there = there && turned[i] == segment->position_first + i + 1;
            turned[i] = segment->position_first + i + 1;
        }
        for (uint32_t i = 0; i < program->rotations.count && !there; i++) {
            const spi_rotation *rotation = &program->rotations.items[i];
            spi_rotation_fill_segment(rotation, segment, (float *)program->parameters.mapped + rotation->place);
        }
    }
}

sp_status spi_vk_run(void *context, spi_program *program, const spi_run *run, sp_error *error) {
    spi_vk *vk = context;
    sp_status status = spi_vk_plan_run(vk, program, run, error);
    if (status) {
        return status;
    }
    spi_vk_recording *recording = find(program);
    recording->used = ++program->runs;
    status = recording->plan.row_count ? SP_OK : record(vk, program, recording, error);
    if (status) {
        return status;
    }
    turn(program, run);
    status = spi_vk_submit_again(vk, recording->commands, &recording->took_ns, error);
    if (!status && *(volatile uint32_t *)program->late.mapped) {
        status = run_again(vk, program, recording, error);
    }
    vk->runs += !status;
    return status;
}
