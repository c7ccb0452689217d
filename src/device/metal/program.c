/* device/metal/program.c - a tape made ready: scratch buffers, parameters, kernels compiled; and looking into
 * scratch. */
#include "base/error.h"
#include "base/memory.h"
#include "device/metal/metal.h"

#define HEAD_DIM_MAX 256u /* of attention's kernel: its accumulators are registers */

static sp_status check_limits(const spi_mt *mt, const spi_tape *tape, sp_error *error) {
    uint64_t held = mt->limits.buffer_bytes_max / 2; /* of any memory, wherever it begins: map.c */
    if (tape->kv.head_dim > HEAD_DIM_MAX) {
        return spi_fail(error, SP_UNSUPPORTED, "metal: attention has kernels for heads of up to %u columns, not %u",
                        HEAD_DIM_MAX, tape->kv.head_dim);
    }
    if (tape->kv.block_bytes > held || (uint64_t)tape->vocab * sizeof(float) > held) {
        return spi_fail(error, SP_UNSUPPORTED,
                        "metal: a KV block of %llu bytes or a row of %u logits is more than the %llu bytes that this "
                        "device reaches at once",
                        (unsigned long long)tape->kv.block_bytes, tape->vocab, (unsigned long long)held);
    }
    return SP_OK;
}

static sp_status create_buffers(spi_mt *mt, spi_program *program, sp_error *error) {
    const spi_tape *tape = program->tape;
    program->buffers = spi_alloc(tape->buffer_count, sizeof *program->buffers);
    program->out_places = spi_alloc(tape->rows_max, sizeof *program->out_places);
    sp_status status = program->buffers && program->out_places
                           ? SP_OK
                           : spi_fail(error, SP_NO_MEMORY, "metal: no memory to prepare a tape");
    for (uint32_t i = 0; i < tape->buffer_count && !status; i++) {
        uint64_t bytes = (uint64_t)tape->rows_max * spi_shader_stride(tape->buffers[i].width) * sizeof(float);
        status = spi_mt_buffer_create(mt, bytes, tape->buffers[i].name, &program->buffers[i], error);
    }
    /* For each row and head: maximum, sum, output. */
    uint64_t heads = spi_shader_heads_max(tape);
    uint64_t state_bytes = tape->rows_max * heads * (tape->kv.head_dim + 2u) * sizeof(float);
    return status ? status : spi_mt_buffer_create(mt, state_bytes, "attention", &program->state, error);
}

static sp_status create_parameters(spi_mt *mt, spi_program *program, sp_error *error) {
    uint64_t words = (uint64_t)program->tape->rows_max * (SPI_SHADER_ROW_WORDS + SPI_SHADER_OUT_WORDS);
    if (words > UINT32_MAX) {
        return spi_fail(error, SP_UNSUPPORTED, "metal: runs of %u rows are too long", program->tape->rows_max);
    }
    program->rows_word = 0;
    program->outs_word = program->tape->rows_max * SPI_SHADER_ROW_WORDS;
    sp_status status = spi_rotations_create(program->tape, program->store->sources, &program->rotations, error);
    spi_shader_place_tables(&program->rotations, program->tape->rows_max, &words);
    if (!status && words > UINT32_MAX) {
        return spi_fail(error, SP_UNSUPPORTED, "metal: runs of %u rows are more than its parameters can hold",
                        program->tape->rows_max);
    }
    return status ? status
                  : spi_mt_buffer_create(mt, words * sizeof(uint32_t), "parameters", &program->parameters, error);
}

/* Kernels are compiled now, so that no run has to wait for a compiler. */
static sp_status create_pipelines(spi_mt *mt, const spi_program *program, sp_error *error) {
    static const uint32_t rows[] = {1, 2, 9}; /* a run of each length that has kernels of its own: ops.c */
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < program->tape->op_count; i++) {
        const spi_op *op = &program->tape->ops[i];
        for (size_t k = 0; k < sizeof rows / sizeof rows[0] && !status; k++) {
            if (rows[k] <= program->tape->rows_max) {
                status = spi_mt_pipeline_need(mt, spi_mt_op_kernel(program, op, rows[k]), spi_mt_op_type(program, op),
                                              error);
            }
        }
    }
    return status;
}

sp_status spi_mt_prepare(void *context, spi_store *store, const spi_tape *tape, spi_program **out, sp_error *error) {
    spi_mt *mt = context;
    *out = NULL;
    sp_status status = spi_tape_check(tape, &store->weights, error);
    status = status ? status : check_limits(mt, tape, error);
    if (status) {
        return status;
    }
    spi_program *program = spi_alloc(1, sizeof *program);
    if (!program) {
        return spi_fail(error, SP_NO_MEMORY, "metal: no memory to prepare a tape");
    }
    program->store = store;
    program->tape = tape;
    status = create_buffers(mt, program, error);
    status = status ? status : create_parameters(mt, program, error);
    status = status ? status : create_pipelines(mt, program, error);
    if (status) {
        spi_mt_discard(mt, program);
        return status;
    }
    *out = program;
    return SP_OK;
}

void spi_mt_discard(void *context, spi_program *program) {
    spi_mt *mt = context;
    for (uint32_t i = 0; program->buffers && i < program->tape->buffer_count; i++) {
        spi_mt_buffer_destroy(mt, &program->buffers[i]);
    }
    spi_mt_buffer_destroy(mt, &program->parameters);
    spi_mt_buffer_destroy(mt, &program->state);
    spi_rotations_destroy(&program->rotations);
    spi_free(program->plan.kv);
    spi_free(program->plan.outs);
    spi_free(program->out_places);
    spi_free(program->buffers);
    spi_free(program);
}

sp_status spi_mt_write_buffer(void *context, spi_program *program, uint32_t index, uint32_t rows, const float *data,
                              sp_error *error) {
    (void)context;
    (void)error;
    spi_shader_pad_rows(data, rows, program->tape->buffers[index].width, program->buffers[index].contents);
    return SP_OK;
}

sp_status spi_mt_read_buffer(void *context, spi_program *program, uint32_t index, uint32_t rows, float *data,
                             sp_error *error) {
    (void)context;
    (void)error;
    spi_shader_unpad_rows(program->buffers[index].contents, rows, program->tape->buffers[index].width, data);
    return SP_OK;
}
