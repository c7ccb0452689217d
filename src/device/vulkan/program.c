/* device/vulkan/program.c - a tape made ready: scratch buffers, parameters, kernels compiled; and looking into
 * scratch. */
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
    if (spi_kv_is_q8(&tape->kv) && tape->kv.head_dim % SPI_VK_Q8_COLUMNS) {
        return spi_fail(error, SP_UNSUPPORTED,
                        "vulkan: q8_0 has kernels for heads of a multiple of %u columns, not for %u: ask for f16",
                        SPI_VK_Q8_COLUMNS, tape->kv.head_dim);
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

/* Both factors of products of many rows, and x of those of some ten. Tiles reach behind the last row. */
static sp_status create_factors(spi_vk *vk, spi_program *program, sp_error *error) {
    const spi_tape *tape = program->tape;
    uint64_t rows = spi_vk_panel_rows(program), bytes = 0;
    uint32_t widest = 1, gate = 0;
    uint32_t few = vk->limits.cooperative ? vk->limits.few_rows_min : UINT32_MAX, many = vk->limits.matrix_rows_min;
    if (!spi_vk_is_fast(vk) || tape->rows_max < (few < many ? few : many)) {
        return SP_OK;
    }
    for (uint32_t i = 0; i < tape->op_count; i++) {
        const spi_op *op = &tape->ops[i];
        if (op->kind == SPI_OP_MATMUL || op->kind == SPI_OP_HEAD) {
            const spi_tensor *weight = &program->store->sources[op->weight];
            bool gated = spi_vk_is_gated(program, i) && program->store->tensors[op->weight].packing.type != SPI_VK_F32;
            uint64_t own = spi_vk_expanded_bytes(vk, weight->rows, weight->cols, gated ? 2 : 1);
            gate = gated && weight->rows > gate ? weight->rows : gate;
            widest = weight->cols > widest ? weight->cols : widest;
            bytes = own > bytes ? own : bytes;
        }
    }
    sp_status status = create_scratch(vk, rows * spi_shader_stride(widest) * sizeof(uint16_t), "activations",
                                      SPI_VK_LOCAL, &program->halves, error);
    status = status ? status
                    : create_scratch(vk, 2 * tape->rows_max * sizeof(float), "activations", SPI_VK_LOCAL,
                                     &program->factors, error);
    if (gate && tape->rows_max >= many && !status) {
        status = create_scratch(vk, rows * spi_shader_stride(gate) * sizeof(uint16_t), "activations", SPI_VK_LOCAL,
                                &program->gated, error);
        status =
            status ? status
                   : create_scratch(vk, tape->op_count * sizeof(float), "bounds", SPI_VK_LOCAL, &program->tops, error);
    }
    for (uint32_t i = 0; i < 2 && bytes && !status; i++) {
        status = create_scratch(vk, bytes, "weights", SPI_VK_LOCAL, &program->expanded[i], error);
    }
    return status;
}

static sp_status create_buffers(spi_vk *vk, spi_program *program, sp_error *error) {
    const spi_tape *tape = program->tape;
    uint64_t heads = spi_shader_heads_max(tape);
    program->buffers = spi_alloc(tape->buffer_count, sizeof *program->buffers);
    program->out_places = spi_alloc(tape->rows_max, sizeof *program->out_places);
    program->turned = spi_alloc(tape->rows_max, sizeof *program->turned);
    sp_status status = program->buffers && program->out_places && program->turned
                           ? SP_OK
                           : spi_fail(error, SP_NO_MEMORY, "vulkan: no memory to prepare a tape");
    for (uint32_t i = 0; i < tape->buffer_count && !status; i++) {
        uint64_t bytes = (uint64_t)tape->rows_max * spi_shader_stride(tape->buffers[i].width) * sizeof(float);
        status = create_scratch(vk, bytes, tape->buffers[i].name, SPI_VK_LOCAL, &program->buffers[i], error);
        status = status ? status : spi_vk_zero(vk, &program->buffers[i], 1, error);
    }
    status = status ? status : create_factors(vk, program, error);
    /* For each row and head: maximum, sum, output. */
    uint64_t state_bytes = tape->rows_max * heads * (tape->kv.head_dim + 2u) * sizeof(float);
    /* As many ranges as a run of so many rows may have; a test may ask for more. */
    uint64_t ranges = vk->limits.ranges                    ? (uint64_t)vk->limits.ranges * tape->rows_max
                      : tape->rows_max > SPI_VK_RANGES_MAX ? tape->rows_max
                                                           : SPI_VK_RANGES_MAX;
    uint64_t parts_bytes = ranges * heads * (tape->kv.head_dim + 2u) * sizeof(float);
    uint64_t shares_bytes = program->halves.bytes ? spi_vk_shares_bytes(vk) : 0;
    parts_bytes = parts_bytes > shares_bytes ? parts_bytes : shares_bytes;
    status = status ? status : create_scratch(vk, state_bytes, "attention", SPI_VK_LOCAL, &program->state, error);
    status = status ? status : create_scratch(vk, parts_bytes, "attention", SPI_VK_LOCAL, &program->parts, error);
    status = status ? status
                    : create_scratch(vk, SPI_VK_RELAY_COUNTERS * sizeof(uint32_t), "counters", SPI_VK_LOCAL,
                                     &program->counters, error);
    status = status ? status : create_scratch(vk, sizeof(uint32_t), "a word", SPI_VK_STAGING, &program->late, error);
    if (!status) {
        *(uint32_t *)program->late.mapped = 0;
    }
    return status;
}

static sp_status create_parameters(spi_vk *vk, spi_program *program, sp_error *error) {
    uint64_t words =
        (uint64_t)program->tape->rows_max * (SPI_SHADER_ROW_WORDS + SPI_SHADER_OUT_WORDS + SPI_VK_TILE_WORDS);
    if (words > UINT32_MAX) {
        return spi_fail(error, SP_UNSUPPORTED, "vulkan: runs of %u rows are too long", program->tape->rows_max);
    }
    program->rows_word = 0;
    program->outs_word = program->tape->rows_max * SPI_SHADER_ROW_WORDS;
    program->tiles_word = program->tape->rows_max * (SPI_SHADER_ROW_WORDS + SPI_SHADER_OUT_WORDS);
    program->tile_rows = spi_vk_tile_rows(vk, program->tape);
    sp_status status = spi_rotations_create(program->tape, program->store->sources, &program->rotations, error);
    spi_shader_place_tables(&program->rotations, program->tape->rows_max, &words);
    if (!status && words > UINT32_MAX) {
        return spi_fail(error, SP_UNSUPPORTED, "vulkan: runs of %u rows are more than its parameters can hold",
                        program->tape->rows_max);
    }
    return status ? status
                  : create_scratch(vk, words * sizeof(uint32_t), "parameters", SPI_VK_PARAMETERS, &program->parameters,
                                   error);
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
    status = status ? status : spi_vk_bounds_find(vk, program, error);
    status = status ? status : spi_vk_record_dry(vk, program, error);
    if (status) {
        spi_vk_discard(vk, program);
        return status;
    }
    spi_vk_cache_save(vk);
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
    spi_vk_buffer_destroy(vk, &program->parts);
    spi_vk_buffer_destroy(vk, &program->counters);
    spi_vk_buffer_destroy(vk, &program->late);
    spi_vk_buffer_destroy(vk, &program->halves);
    spi_vk_buffer_destroy(vk, &program->factors);
    spi_vk_buffer_destroy(vk, &program->expanded[0]);
    spi_vk_buffer_destroy(vk, &program->expanded[1]);
    spi_vk_buffer_destroy(vk, &program->gated);
    spi_vk_buffer_destroy(vk, &program->tops);
    for (uint32_t i = 0; i < SPI_VK_RECORDINGS; i++) {
        spi_vk_recording *recording = &program->recordings[i];
        if (recording->commands) {
            vk->call->FreeCommandBuffers(vk->device, vk->commands, 1, &recording->commands);
        }
        spi_vk_sets_destroy(vk, &recording->sets);
        free_plan(&recording->plan);
    }
    spi_rotations_destroy(&program->rotations);
    free_plan(&program->plan);
    spi_free(program->out_places);
    spi_free(program->turned);
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
    uint32_t width = program->tape->buffers[index].width, stride = spi_shader_stride(width);
    spi_vk_buffer staging;
    sp_status status = open_staging(vk, buffer, &staging, error);
    if (status) {
        return status;
    }
    spi_shader_pad_rows(data, rows, width, buffer->mapped ? buffer->mapped : staging.mapped);
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
    uint32_t width = program->tape->buffers[index].width, stride = spi_shader_stride(width);
    spi_vk_buffer staging;
    sp_status status = open_staging(vk, buffer, &staging, error);
    if (!status && !buffer->mapped) {
        VkBufferCopy copy = {0, 0, (uint64_t)rows * stride * sizeof(float)};
        status = spi_vk_copy(vk, buffer->handle, staging.handle, &copy, 1, error);
    }
    if (!status) {
        spi_shader_unpad_rows(buffer->mapped ? buffer->mapped : staging.mapped, rows, width, data);
    }
    spi_vk_buffer_destroy(vk, &staging);
    return status;
}
