/* device/vulkan/program.c - a tape made ready: scratch buffers, parameters, kernels compiled; and looking into scratch. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/vulkan/vulkan.h"

#define HEAD_DIM_MAX 256u /* of attention's kernel: its accumulators are registers */

static sp_status check_limits(const spi_vk *vk, const spi_tape *tape, sp_error *error) {
    uint64_t range = vk->limits.window_bytes_max - vk->limits.offset_align_bytes;
    if (tape->rows_max > vk->limits.groups_y_max) {
        return spi_fail(error, SP_UNSUPPORTED, "vulkan: runs of %u rows: this device takes %u", tape->rows_max,
                        vk->limits.groups_y_max);
    }
    if (tape->kv.head_dim > HEAD_DIM_MAX) {
        return spi_fail(error, SP_UNSUPPORTED, "vulkan: attention has kernels for heads of up to %u columns, not %u",
                        HEAD_DIM_MAX, tape->kv.head_dim);
    }
    if (tape->kv.block_bytes > range || (uint64_t)tape->vocab * sizeof(float) > range) {
        return spi_fail(error, SP_UNSUPPORTED,
                        "vulkan: a KV block of %llu bytes or a row of %u logits is more than "
                        "the %llu bytes that this device reaches at once",
                        (unsigned long long)tape->kv.block_bytes, tape->vocab, (unsigned long long)range);
    }
    return SP_OK;
}

static sp_status create_scratch(spi_vk *vk, uint64_t bytes, const char *what, spi_vk_place place, spi_vk_buffer *buffer,
                                sp_error *error) {
    if (bytes > vk->limits.range_bytes_max) {
        return spi_fail(error, SP_UNSUPPORTED,
                        "vulkan: %s takes %llu bytes, more than this device reaches at once: make runs shorter", what,
                        (unsigned long long)bytes);
    }
    return spi_vk_buffer_create(vk, bytes, place, what, buffer, error);
}

static sp_status create_buffers(spi_vk *vk, spi_program *program, sp_error *error) {
    const spi_tape *tape = program->tape;
    uint64_t heads = 1;
    program->buffers = spi_alloc(tape->buffer_count, sizeof *program->buffers);
    program->out_offsets = spi_alloc(tape->rows_max, sizeof *program->out_offsets);
    program->out_links = spi_alloc(tape->rows_max, sizeof *program->out_links);
    sp_status status = program->buffers && program->out_offsets && program->out_links
                           ? SP_OK
                           : spi_fail(error, SP_NO_MEMORY, "vulkan: no memory to prepare a tape");
    for (uint32_t i = 0; i < tape->buffer_count && !status; i++) {
        uint64_t bytes = (uint64_t)tape->rows_max * spi_vk_stride(tape->buffers[i].width) * sizeof(float);
        status = create_scratch(vk, bytes, tape->buffers[i].name, SPI_VK_LOCAL, &program->buffers[i], error);
        status = status ? status : spi_vk_zero(vk, &program->buffers[i], 1, error);
    }
    for (uint32_t i = 0; i < tape->op_count; i++) {
        if (tape->ops[i].kind == SPI_OP_ATTENTION && tape->ops[i].heads > heads) {
            heads = tape->ops[i].heads;
        }
    }
    /* For each row and head: maximum, sum, output. */
    uint64_t state_bytes = tape->rows_max * heads * (tape->kv.head_dim + 2u) * sizeof(float);
    return status ? status : create_scratch(vk, state_bytes, "attention", SPI_VK_LOCAL, &program->state, error);
}

static sp_status create_parameters(spi_vk *vk, spi_program *program, sp_error *error) {
    uint64_t words = (uint64_t)program->tape->rows_max * (SPI_VK_ROW_WORDS + SPI_VK_OUT_WORDS);
    if (words > UINT32_MAX) {
        return spi_fail(error, SP_UNSUPPORTED, "vulkan: runs of %u rows are too long", program->tape->rows_max);
    }
    program->rows_word = 0;
    program->outs_word = program->tape->rows_max * SPI_VK_ROW_WORDS;
    sp_status status = spi_rotations_create(program->tape, program->store->sources, &program->rotations, error);
    for (uint32_t i = 0; i < program->rotations.count; i++) {
        program->rotations.items[i].place = words;
        words += (uint64_t)program->tape->rows_max * program->rotations.items[i].pairs * 2;
    }
    if (!status && words > UINT32_MAX) {
        return spi_fail(error, SP_UNSUPPORTED, "vulkan: runs of %u rows are more than its parameters can hold",
                        program->tape->rows_max);
    }
    return status ? status
                  : create_scratch(vk, words * sizeof(uint32_t), "parameters", SPI_VK_STAGING, &program->parameters,
                                   error);
}

/* Kernels are compiled now, so that no run has to wait for a compiler. */
static sp_status create_pipelines(spi_vk *vk, const spi_program *program, sp_error *error) {
    static const uint32_t rows[] = {1, 4, 8};
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < program->tape->op_count; i++) {
        for (size_t k = 0; k < sizeof rows / sizeof rows[0] && !status; k++) {
            if (!k || program->tape->rows_max > rows[k - 1]) {
                status = spi_vk_pipeline_need(vk, spi_vk_op_shader(program, &program->tape->ops[i], rows[k]), error);
            }
        }
    }
    return status;
}

static sp_status create_commands(spi_vk *vk, spi_program *program, sp_error *error) {
    VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                        .commandPool = vk->commands,
                                        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                        .commandBufferCount = 1};
    VkResult result = vk->call->AllocateCommandBuffers(vk->device, &info, &program->commands);
    if (result) {
        program->commands = VK_NULL_HANDLE;
        return spi_vk_fail(error, result, "creating a command buffer");
    }
    return SP_OK;
}

sp_status spi_vk_prepare(void *context, spi_store *store, const spi_tape *tape, spi_program **out, sp_error *error) {
    spi_vk *vk = context;
    *out = NULL;
    sp_status status = spi_tape_check(tape, &store->weights, error);
    status = status ? status : check_limits(vk, tape, error);
    if (status) {
        return status;
    }
    spi_program *program = spi_alloc(1, sizeof *program);
    if (!program) {
        return spi_fail(error, SP_NO_MEMORY, "vulkan: no memory to prepare a tape");
    }
    program->store = store;
    program->tape = tape;
    status = create_buffers(vk, program, error);
    status = status ? status : create_parameters(vk, program, error);
    status = status ? status : create_pipelines(vk, program, error);
    status = status ? status : create_commands(vk, program, error);
    if (status) {
        spi_vk_discard(vk, program);
        return status;
    }
    *out = program;
    return SP_OK;
}

static void free_plan(spi_vk_plan *plan) {
    spi_free(plan->kv);
    spi_free(plan->outs);
}

void spi_vk_discard(void *context, spi_program *program) {
    spi_vk *vk = context;
    for (uint32_t i = 0; program->buffers && i < program->tape->buffer_count; i++) {
        spi_vk_buffer_destroy(vk, &program->buffers[i]);
    }
    spi_vk_buffer_destroy(vk, &program->parameters);
    spi_vk_buffer_destroy(vk, &program->state);
    if (program->commands) {
        vk->call->FreeCommandBuffers(vk->device, vk->commands, 1, &program->commands);
    }
    spi_vk_sets_destroy(vk, &program->sets);
    spi_rotations_destroy(&program->rotations);
    free_plan(&program->plan);
    free_plan(&program->recorded);
    spi_free(program->out_offsets);
    spi_free(program->out_links);
    spi_free(program->buffers);
    spi_free(program);
}

/* The buffer as the host can reach it: itself, or a copy to be destroyed. */
static sp_status open_staging(spi_vk *vk, const spi_vk_buffer *buffer, spi_vk_buffer *staging, sp_error *error) {
    memset(staging, 0, sizeof *staging);
    return buffer->mapped ? SP_OK : spi_vk_buffer_create(vk, buffer->bytes, SPI_VK_STAGING, "a window", staging, error);
}

sp_status spi_vk_write_buffer(void *context, spi_program *program, uint32_t index, uint32_t rows, const float *data,
                              sp_error *error) {
    spi_vk *vk = context;
    const spi_vk_buffer *buffer = &program->buffers[index];
    uint32_t width = program->tape->buffers[index].width, stride = spi_vk_stride(width);
    spi_vk_buffer staging;
    sp_status status = open_staging(vk, buffer, &staging, error);
    if (status) {
        return status;
    }
    float *to = buffer->mapped ? buffer->mapped : staging.mapped;
    for (uint32_t i = 0; i < rows; i++) {
        memcpy(to + (size_t)i * stride, data + (size_t)i * width, width * sizeof(float));
        memset(to + (size_t)i * stride + width, 0, (stride - width) * sizeof(float));
    }
    if (!buffer->mapped) {
        VkBufferCopy copy = {0, 0, (uint64_t)rows * stride * sizeof(float)};
        status = spi_vk_copy(vk, staging.handle, buffer->handle, &copy, 1, error);
    }
    spi_vk_buffer_destroy(vk, &staging);
    return status;
}

sp_status spi_vk_read_buffer(void *context, spi_program *program, uint32_t index, uint32_t rows, float *data,
                             sp_error *error) {
    spi_vk *vk = context;
    const spi_vk_buffer *buffer = &program->buffers[index];
    uint32_t width = program->tape->buffers[index].width, stride = spi_vk_stride(width);
    spi_vk_buffer staging;
    sp_status status = open_staging(vk, buffer, &staging, error);
    if (!status && !buffer->mapped) {
        VkBufferCopy copy = {0, 0, (uint64_t)rows * stride * sizeof(float)};
        status = spi_vk_copy(vk, buffer->handle, staging.handle, &copy, 1, error);
    }
    const float *from = buffer->mapped ? buffer->mapped : staging.mapped;
    for (uint32_t i = 0; i < rows && !status; i++) {
        memcpy(data + (size_t)i * width, from + (size_t)i * stride, width * sizeof(float));
    }
    spi_vk_buffer_destroy(vk, &staging);
    return status;
}
