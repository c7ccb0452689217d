/* device/cuda/program.c - a tape made ready: scratch buffers and parameters; and looking into scratch. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/cuda/cuda.h"

#define HEAD_DIM_MAX 256u /* of attention's kernels */
#define GRID_Y_MAX   65535u

static sp_status check_limits(const spi_tape *tape, sp_error *error) {
    if (tape->rows_max > GRID_Y_MAX) {
        return spi_fail(error, SP_UNSUPPORTED, "cuda: runs of %u rows: a card takes %u", tape->rows_max, GRID_Y_MAX);
    }
    if (tape->kv.head_dim > HEAD_DIM_MAX) {
        return spi_fail(error, SP_UNSUPPORTED, "cuda: attention has kernels for heads of up to %u columns, not %u",
                        HEAD_DIM_MAX, tape->kv.head_dim);
    }
    return SP_OK;
}

static sp_status create_buffers(spi_cu *cu, spi_program *program, sp_error *error) {
    const spi_tape *tape = program->tape;
    uint64_t bytes = 0;
    program->buffer_bytes = spi_alloc(tape->buffer_count, sizeof *program->buffer_bytes);
    if (!program->buffer_bytes) {
        return spi_fail(error, SP_NO_MEMORY, "cuda: no memory to prepare a tape");
    }
    for (uint32_t i = 0; i < tape->buffer_count; i++) {
        program->buffer_bytes[i] = bytes;
        bytes += (uint64_t)tape->rows_max * spi_cu_stride(tape->buffers[i].width) * sizeof(float);
    }
    uint64_t widest = 0;
    for (uint32_t i = 0; i < tape->buffer_count; i++) {
        widest = tape->buffers[i].width > widest ? tape->buffers[i].width : widest;
    }
    uint64_t packed_bytes = (uint64_t)tape->rows_max * spi_cu_stride((uint32_t)widest) * 2;
    sp_status status = spi_cu_buffer_create(cu, bytes ? bytes : 16, "a model's scratch", &program->scratch, error);
    status = status ? status
                    : spi_cu_buffer_create(cu, packed_bytes ? packed_bytes : 16, "a model's scratch", &program->packed,
                                           error);
    return status ? status : spi_cu_buffer_zero(cu, &program->scratch, error);
}

static sp_status create_parameters(spi_cu *cu, spi_program *program, sp_error *error) {
    uint64_t rows = ((uint64_t)program->tape->rows_max + 1) / 2 * 2; /* pieces begin at multiples of 16 bytes */
    program->outs_byte = rows * sizeof(spi_cu_row);
    program->spans_byte = program->outs_byte + rows * sizeof(spi_cu_out);
    program->parameter_bytes = program->spans_byte + rows * sizeof(spi_cu_span);
    sp_status status = spi_rotations_create(program->tape, program->store->sources, &program->rotations, error);
    for (uint32_t i = 0; i < program->rotations.count; i++) {
        spi_rotation *rotation = &program->rotations.items[i];
        rotation->place = program->parameter_bytes;
        program->parameter_bytes += (rows * rotation->pairs * 2 * sizeof(float) + 15) / 16 * 16;
    }
    program->parameter_bytes = (program->parameter_bytes + 15) / 16 * 16;
    status =
        status ? status
               : spi_cu_pinned_create(cu, program->parameter_bytes, "a run's parameters", &program->parameters, error);
    status = status ? status
                    : spi_cu_pinned_create(cu, SPI_CU_PICKS_BYTE + SPI_CU_PICKS_MAX * sizeof(int32_t),
                                           "a run's parameters", &program->done, error);
    return status ? status
                  : spi_cu_buffer_create(cu, program->parameter_bytes, "a run's parameters", &program->fetched, error);
}

void spi_cu_rotations_fill(const spi_program *program, const spi_run *run) {
    for (uint32_t i = 0; i < program->rotations.count; i++) {
        const spi_rotation *rotation = &program->rotations.items[i];
        uint8_t *table = (uint8_t *)program->parameters.address + rotation->place;
        spi_rotation_fill(rotation, run, (float *)(void *)table);
    }
}

sp_status spi_cu_prepare(void *context, spi_store *store, const spi_tape *tape, spi_program **out, sp_error *error) {
    spi_cu *cu = context;
    *out = NULL;
    sp_status status = spi_tape_check(tape, &store->weights, error);
    status = status ? status : check_limits(tape, error);
    status = status ? status : spi_cu_enter(cu, error);
    if (status) {
        return status;
    }
    spi_program *program = spi_alloc(1, sizeof *program);
    if (!program) {
        return spi_fail(error, SP_NO_MEMORY, "cuda: no memory to prepare a tape");
    }
    program->store = store;
    program->tape = tape;
    status = create_buffers(cu, program, error);
    status = status ? status : create_parameters(cu, program, error);
    status = status ? status : spi_cu_decode_create(cu, program, &program->decode, error);
    status = status ? status : spi_cu_wide_create(cu, program, &program->wide, error);
    if (status) {
        spi_cu_discard(cu, program);
        return status;
    }
    *out = program;
    return SP_OK;
}

void spi_cu_discard(void *context, spi_program *program) {
    spi_cu *cu = context;
    cu->call->CtxSetCurrent(cu->context);
    cu->call->StreamSynchronize(cu->stream);
    spi_cu_decode_destroy(cu, program->decode);
    spi_cu_wide_destroy(cu, program->wide);
    spi_cu_buffer_destroy(cu, &program->scratch);
    spi_cu_buffer_destroy(cu, &program->packed);
    spi_cu_buffer_destroy(cu, &program->fetched);
    spi_cu_buffer_destroy(cu, &program->logits);
    spi_cu_pinned_destroy(cu, &program->parameters);
    spi_cu_pinned_destroy(cu, &program->done);
    spi_rotations_destroy(&program->rotations);
    spi_free(program->buffer_bytes);
    spi_free(program);
}

/* Moves rows between a buffer and pinned memory, as they lie on the card. */
static sp_status move(spi_cu *cu, spi_program *program, uint32_t index, uint64_t bytes, void *pinned, bool in,
                      sp_error *error) {
    spi_cu_pointer at = program->scratch.address + program->buffer_bytes[index];
    spi_cu_result result = in ? cu->call->MemcpyHtoDAsync(at, pinned, bytes, cu->stream)
                              : cu->call->MemcpyDtoHAsync(pinned, at, bytes, cu->stream);
    sp_status status = spi_cu_check(cu, result, "copying a buffer", error);
    return status ? status : spi_cu_wait(cu, "copying a buffer", error);
}

sp_status spi_cu_write_buffer(void *context, spi_program *program, uint32_t index, uint32_t rows, const float *data,
                              sp_error *error) {
    spi_cu *cu = context;
    uint32_t width = program->tape->buffers[index].width, stride = spi_cu_stride(width);
    uint64_t bytes = (uint64_t)rows * stride * sizeof(float);
    spi_cu_pinned_memory pinned;
    sp_status status = spi_cu_enter(cu, error);
    status = status ? status : spi_cu_pinned_create(cu, bytes, "a window", &pinned, error);
    if (status) {
        return status;
    }
    float *to = pinned.address;
    for (uint32_t i = 0; i < rows; i++) {
        memcpy(to + (size_t)i * stride, data + (size_t)i * width, width * sizeof(float));
        memset(to + (size_t)i * stride + width, 0, (stride - width) * sizeof(float));
    }
    status = move(cu, program, index, bytes, pinned.address, true, error);
    spi_cu_pinned_destroy(cu, &pinned);
    return status;
}

sp_status spi_cu_read_buffer(void *context, spi_program *program, uint32_t index, uint32_t rows, float *data,
                             sp_error *error) {
    spi_cu *cu = context;
    uint32_t width = program->tape->buffers[index].width, stride = spi_cu_stride(width);
    uint64_t bytes = (uint64_t)rows * stride * sizeof(float);
    spi_cu_pinned_memory pinned;
    sp_status status = spi_cu_enter(cu, error);
    status = status ? status : spi_cu_pinned_create(cu, bytes, "a window", &pinned, error);
    if (status) {
        return status;
    }
    status = move(cu, program, index, bytes, pinned.address, false, error);
    const float *from = pinned.address;
    for (uint32_t i = 0; i < rows && !status; i++) {
        memcpy(data + (size_t)i * width, from + (size_t)i * stride, width * sizeof(float));
    }
    spi_cu_pinned_destroy(cu, &pinned);
    return status;
}
